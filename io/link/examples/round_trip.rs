//! How long a small hot frame takes to the peer and back over loopback, in microseconds: on a quiet link
//! and while bulk runs at full speed in both directions.
//!
//! `cargo run --release -p tandem-link --example round_trip [rounds] [bytes]`
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tandem_link::{Class, Config, Events, Link, LinkEvent, PairSecret, Unsent};
use tandem_types::{Dice, Seat};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().unwrap());
    let rounds: usize = arguments.next().unwrap_or(20_000);
    let bytes: usize = arguments.next().unwrap_or(200);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let secret = PairSecret::from_bytes([1; 32]);
    let (port, ready) = std::sync::mpsc::channel();

    // As in the field: each side is single-threaded.
    let master = Config::new(Seat::Master, any, any, secret.clone());
    std::thread::spawn(move || {
        run(async move {
            let (link, mut events) = Link::start(master).unwrap();
            port.send(link.local_address()).unwrap();
            let mut load = Load::new();
            while let Some(event) = events.recv().await {
                match event {
                    LinkEvent::Frame(Class::Hot, frame) => link.send(Class::Hot, frame).unwrap(),
                    LinkEvent::Frame(Class::Ops, kind) => load.kind = kind.first().copied(),
                    LinkEvent::Frame(Class::Bulk, _) => load.got += 1,
                    LinkEvent::Up { .. } | LinkEvent::Foreign { .. } => {}
                    LinkEvent::Down { .. } => return,
                }
                load.fill(&link);
            }
        });
    });
    let peer = ready.recv().unwrap();
    run(async move {
        let (link, mut events) =
            Link::start(Config::new(Seat::Standby, any, peer, secret)).unwrap();
        assert!(matches!(events.recv().await, Some(LinkEvent::Up { .. })));
        let mut load = Load::new();
        round_trips(WARM_UP, bytes, &link, &mut events, &mut load).await;
        for (name, kind) in [("quiet", 0), ("noise", NOISE), ("text", TEXT)] {
            load.kind = Some(kind);
            link.send(Class::Ops, vec![kind]).unwrap();
            load.fill(&link);
            round_trips(WARM_UP, bytes, &link, &mut events, &mut load).await;
            let (got, before) = (load.got, Instant::now());
            let mut micros = round_trips(rounds, bytes, &link, &mut events, &mut load).await;
            let rate = (load.got - got) as f64 / before.elapsed().as_secs_f64();
            micros.sort_unstable();
            let at = |part: usize| micros[(micros.len() - 1) * part / 1_000];
            println!(
                "{name}: {rounds} round trips of {bytes} bytes: p50 {} us, p99 {} us, p99.9 {} us, \
                 max {} us; bulk arrived at {rate:.0} MiB/s",
                at(500),
                at(990),
                at(999),
                at(1_000)
            );
        }
    });
}

/// Bulk in frames of a MiB, as much as goes.
struct Load {
    kind: Option<u8>,
    noise: Vec<u8>,
    text: Vec<u8>,
    /// How many arrived.
    got: usize,
}

impl Load {
    fn new() -> Self {
        let mut noise = vec![0; FRAME_BYTES];
        Dice::from_number(1).fill(&mut noise);
        let line = |number| format!("extension {number} of the house, {}\n", number % 7);
        let mut text: Vec<u8> = (0..40_000).flat_map(|number| line(number).into_bytes()).collect();
        text.truncate(FRAME_BYTES);
        Self { kind: None, noise, text, got: 0 }
    }

    fn fill(&self, link: &Link) {
        let frame = match self.kind {
            Some(NOISE) => &self.noise,
            Some(TEXT) => &self.text,
            Some(_) | None => return,
        };
        while link.waiting(Class::Bulk) < 4 * FRAME_BYTES {
            match link.send(Class::Bulk, frame.clone()) {
                Ok(()) => {}
                Err(Unsent::Down) => return,
                Err(refused) => panic!("{refused}"),
            }
        }
    }
}

async fn round_trips(
    rounds: usize,
    bytes: usize,
    link: &Link,
    events: &mut Events,
    load: &mut Load,
) -> Vec<u128> {
    let mut micros = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let before = Instant::now();
        link.send(Class::Hot, vec![7; bytes]).unwrap();
        loop {
            match events.recv().await {
                Some(LinkEvent::Frame(Class::Hot, frame)) => {
                    assert_eq!(frame.len(), bytes);
                    break;
                }
                Some(LinkEvent::Frame(Class::Bulk, _)) => {
                    load.got += 1;
                    load.fill(link);
                }
                event => panic!("{event:?} instead of a frame"),
            }
        }
        micros.push(before.elapsed().as_micros());
    }
    micros
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

const WARM_UP: usize = 500;
const FRAME_BYTES: usize = 1024 * 1024;
const NOISE: u8 = 1;
const TEXT: u8 = 2;
