//! Two links in one process, over loopback.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tandem_link::{
    Class, Config, DownReason, Events, Link, LinkEvent, MAX_FRAME_BYTES, PairSecret, Unsent,
};
use tandem_types::Seat;
use tokio::time::timeout;

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(20);

struct Side {
    link: Link,
    events: Events,
}

impl Side {
    fn start(config: Config) -> Self {
        let (link, events) = Link::start(config).unwrap();
        Self { link, events }
    }

    async fn next(&mut self) -> LinkEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("a link")
    }

    async fn up(&mut self) -> u64 {
        let event = self.next().await;
        let LinkEvent::Up { generation } = event else { panic!("{event:?} instead of up") };
        generation
    }

    async fn frame(&mut self) -> Vec<u8> {
        let event = self.next().await;
        let LinkEvent::Frame(Class::Hot, frame) = event else {
            panic!("{event:?} instead of a frame")
        };
        frame
    }

    async fn down(&mut self) -> (u64, DownReason) {
        loop {
            match self.next().await {
                LinkEvent::Down { generation, why } => return (generation, why),
                LinkEvent::Frame(..) => {}
                LinkEvent::Up { .. } | LinkEvent::Foreign { .. } => panic!("not down"),
            }
        }
    }
}

fn secret(number: u8) -> PairSecret {
    PairSecret::from_bytes([number; 32])
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn master() -> Side {
    Side::start(Config::new(Seat::Master, ANY, ANY, secret(1)))
}

fn standby_of(master: &Side, secret: PairSecret) -> Side {
    Side::start(Config::new(Seat::Standby, ANY, master.link.local_address(), secret))
}

async fn pair() -> (Side, Side) {
    let mut master = master();
    let mut standby = standby_of(&master, secret(1));
    assert_eq!((master.up().await, standby.up().await), (1, 1));
    (master, standby)
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order_both_ways() {
    let (mut master, mut standby) = pair().await;
    for number in 0..1_000_u32 {
        master.link.send(Class::Hot, number.to_be_bytes().to_vec()).unwrap();
        standby.link.send(Class::Hot, vec![number as u8; number as usize]).unwrap();
    }
    for number in 0..1_000_u32 {
        assert_eq!(standby.frame().await, number.to_be_bytes());
        assert_eq!(master.frame().await, vec![number as u8; number as usize]);
    }
}

#[tokio::test]
async fn the_longest_frame_passes_and_a_longer_one_is_not_taken() {
    let (master, mut standby) = pair().await;
    assert_eq!(master.link.send(Class::Hot, vec![1; MAX_FRAME_BYTES + 1]), Err(Unsent::TooLong));
    master.link.send(Class::Hot, vec![2; MAX_FRAME_BYTES]).unwrap();
    assert_eq!(standby.frame().await.len(), MAX_FRAME_BYTES);
}

#[tokio::test]
async fn a_server_of_another_pair_is_refused_by_both_sides() {
    let mut master = master();
    let mut foreign = standby_of(&master, secret(2));
    let from = foreign.link.local_address();
    assert!(matches!(master.next().await, LinkEvent::Foreign { address, .. } if address == from));
    let to = master.link.local_address();
    assert!(matches!(foreign.next().await, LinkEvent::Foreign { address, .. } if address == to));
    // The true twin is let in all the same.
    let mut standby = standby_of(&master, secret(1));
    assert_eq!(standby.up().await, 1);
    while !matches!(master.next().await, LinkEvent::Up { .. }) {}
}

#[tokio::test]
async fn the_link_runs_over_ipv6_as_well() {
    let any: SocketAddr = "[::1]:0".parse().unwrap();
    let mut master = Side::start(Config::new(Seat::Master, any, any, secret(1)));
    let to = master.link.local_address();
    let mut standby = Side::start(Config::new(Seat::Standby, any, to, secret(1)));
    assert_eq!((master.up().await, standby.up().await), (1, 1));
    standby.link.send(Class::Hot, b"six".to_vec()).unwrap();
    assert_eq!(master.frame().await, b"six");
}

#[tokio::test]
async fn the_standby_may_be_there_first() {
    let port = std::net::UdpSocket::bind(ANY).unwrap().local_addr().unwrap();
    let mut standby = Side::start(Config::new(Seat::Standby, ANY, port, secret(1)));
    let mut master = Side::start(Config::new(Seat::Master, port, ANY, secret(1)));
    assert_eq!((master.up().await, standby.up().await), (1, 1));
}

#[tokio::test]
async fn a_side_that_closes_says_why_after_its_last_frame() {
    let (mut master, mut standby) = pair().await;
    master.link.send(Class::Hot, b"last".to_vec()).unwrap();
    timeout(DEADLINE, master.link.close("maintenance")).await.unwrap();
    assert_eq!(standby.frame().await, b"last");
    assert_eq!(standby.down().await, (1, DownReason::ClosedByPeer("maintenance".into())));
    assert_eq!(standby.link.send(Class::Hot, Vec::new()), Err(Unsent::Down));
    let why = DownReason::Closed("maintenance".into());
    assert_eq!(master.events.recv().await, Some(LinkEvent::Down { generation: 1, why }));
    assert_eq!(master.events.recv().await, None);
}

#[tokio::test]
async fn a_peer_that_comes_back_is_the_next_generation() {
    let (mut master, standby) = pair().await;
    let port = standby.link.local_address();
    drop(standby);
    assert!(matches!(master.down().await, (1, DownReason::ClosedByPeer(_))));
    let mut config = Config::new(Seat::Standby, port, master.link.local_address(), secret(1));
    config.local = ANY;
    let mut standby = Side::start(config);
    assert_eq!((master.up().await, standby.up().await), (2, 1));
    standby.link.send(Class::Hot, b"again".to_vec()).unwrap();
    assert_eq!(master.frame().await, b"again");
}

#[tokio::test]
async fn a_reset_brings_both_sides_to_a_fresh_generation() {
    let (mut master, mut standby) = pair().await;
    standby.link.send(Class::Hot, b"before".to_vec()).unwrap();
    assert_eq!(master.frame().await, b"before");
    master.link.reset("entry 7 twice");
    assert_eq!(master.down().await, (1, DownReason::Closed("entry 7 twice".into())));
    assert_eq!(standby.down().await, (1, DownReason::ClosedByPeer("entry 7 twice".into())));
    assert_eq!((master.up().await, standby.up().await), (2, 2));
}

#[tokio::test]
async fn a_newer_connection_of_the_peer_replaces_the_older() {
    let (mut master, mut older) = pair().await;
    let mut newer = standby_of(&master, secret(1));
    assert_eq!(newer.up().await, 1);
    assert_eq!(master.down().await, (1, DownReason::Replaced));
    assert_eq!(master.up().await, 2);
    assert!(matches!(older.down().await, (1, DownReason::ClosedByPeer(_))));
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_the_link_and_not_the_memory() {
    let (mut master, standby) = pair().await;
    let frame = vec![0; 1024 * 1024];
    let mut taken = 0;
    let refusal = timeout(DEADLINE, async {
        loop {
            match master.link.send(Class::Hot, frame.clone()) {
                Ok(()) => taken += 1,
                Err(refusal) => return refusal,
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(refusal.await, Ok(Unsent::Full));
    assert!((64..=160).contains(&taken), "{taken} MiB were taken");
    assert_eq!(master.down().await, (1, DownReason::Overflow));
    assert_eq!(master.link.waiting(Class::Hot), 0);
    drop(standby);
}

/// Runs a standby on a thread and a runtime of its own; ending the runtime sends nothing.
fn standby_apart(local: SocketAddr, peer: SocketAddr) -> impl FnOnce() -> SocketAddr {
    let (started, ready) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut side = Side::start(Config::new(Seat::Standby, local, peer, secret(1)));
            side.up().await;
            started.send(side.link.local_address()).unwrap();
            let _ = stopped.await;
            // As a SIGKILL would: no task runs again.
            std::mem::forget(side);
        });
        drop(runtime);
    });
    move || {
        let address = ready.recv().unwrap();
        drop(stop);
        thread.join().unwrap();
        address
    }
}

#[tokio::test]
async fn a_peer_killed_without_a_word_is_down_after_the_idle_time_out() {
    let mut config = Config::new(Seat::Master, ANY, ANY, secret(1));
    config.idle = Duration::from_millis(400);
    let mut master = Side::start(config);
    let kill = standby_apart(ANY, master.link.local_address());
    assert_eq!(master.up().await, 1);
    tokio::task::spawn_blocking(kill).await.unwrap();
    assert_eq!(master.down().await, (1, DownReason::Silent));
}

#[tokio::test]
async fn a_peer_killed_and_started_anew_is_known_at_once() {
    let mut config = Config::new(Seat::Master, ANY, ANY, secret(1));
    config.idle = Duration::from_secs(3600);
    let mut master = Side::start(config);
    let to = master.link.local_address();
    let kill = standby_apart(ANY, to);
    assert_eq!(master.up().await, 1);
    let from = tokio::task::spawn_blocking(kill).await.unwrap();
    let mut standby = Side::start(Config::new(Seat::Standby, from, to, secret(1)));
    // Either the reset or the new connection is first.
    let (generation, why) = master.down().await;
    assert!(matches!(why, DownReason::Restarted | DownReason::Replaced), "{why}");
    assert_eq!(generation, 1);
    assert_eq!((master.up().await, standby.up().await), (2, 1));
}
