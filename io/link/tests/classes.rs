//! Frames of several classes between two links in one process.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tandem_link::{Class, Config, DownReason, Events, Link, LinkEvent, PairSecret, Unsent};
use tandem_types::{Dice, Seat};
use tokio::time::timeout;

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(60);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const MIB: usize = 1024 * 1024;

struct Side {
    link: Link,
    events: Events,
}

impl Side {
    fn start(seat: Seat, peer: SocketAddr) -> Self {
        let config = Config::new(seat, ANY, peer, PairSecret::from_bytes([1; 32]));
        let (link, events) = Link::start(config).unwrap();
        Self { link, events }
    }

    async fn next(&mut self) -> LinkEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("a link")
    }

    async fn up(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, LinkEvent::Up { .. }), "{event:?} instead of up");
    }

    async fn frame(&mut self) -> (Class, Vec<u8>) {
        let event = self.next().await;
        let LinkEvent::Frame(class, frame) = event else { panic!("{event:?} instead of a frame") };
        (class, frame)
    }
}

async fn pair() -> (Side, Side) {
    let mut master = Side::start(Seat::Master, ANY);
    let mut standby = Side::start(Seat::Standby, master.link.local_address());
    master.up().await;
    standby.up().await;
    (master, standby)
}

/// Bytes that cannot be compressed.
fn noise(dice: &mut Dice, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    dice.fill(&mut noise);
    noise
}

/// Sends frames of a MiB of a class that is not taken until the queue, the transport and the room of the
/// receiver are full; how many that were.
async fn stuff(from: &Side, class: Class, frame: &[u8]) -> usize {
    let sending = async {
        let mut taken = 0;
        loop {
            match from.link.send(class, frame.to_vec()) {
                Ok(()) => taken += 1,
                Err(refused) => {
                    assert_eq!(refused, Unsent::Full);
                    if taken >= STUFFED_MIB {
                        return taken;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    timeout(DEADLINE, sending).await.expect("room for as much as the limits say")
}

/// The queue and the room of the receiver, each with less than one frame to go.
const STUFFED_MIB: usize = 32 - 1 + 32 - 1;

#[tokio::test]
async fn frames_of_every_class_arrive_whole_and_in_order_both_ways() {
    let (mut master, mut standby) = pair().await;
    let mut dice = Dice::from_number(7);
    for number in 0..200_u32 {
        for class in Class::ALL {
            // Short, packed, noise that is not, and long enough for another thread.
            let mut frame = number.to_be_bytes().to_vec();
            frame.extend(match number % 4 {
                0 => Vec::new(),
                1 => vec![1; 5_000],
                2 => noise(&mut dice, 3_000),
                _ => vec![2; 40_000],
            });
            master.link.send(class, frame.clone()).unwrap();
            standby.link.send(class, frame).unwrap();
        }
    }
    for side in [&mut master, &mut standby] {
        let mut next = BTreeMap::from(Class::ALL.map(|class| (class, 0)));
        for _ in 0..600 {
            let (class, frame) = side.frame().await;
            let number = next.get_mut(&class).unwrap();
            let (head, body) = frame.split_at(4);
            assert_eq!(head, u32::to_be_bytes(*number), "{class}");
            match *number % 4 {
                0 => assert!(body.is_empty()),
                1 => assert!(body == [1; 5_000]),
                2 => assert_eq!(body.len(), 3_000),
                _ => assert!(body == [2; 40_000]),
            }
            *number += 1;
        }
        assert!(next.values().all(|count| *count == 200), "{next:?}");
    }
}

#[tokio::test]
async fn a_class_that_is_not_taken_holds_up_no_other() {
    for stuck in [Class::Bulk, Class::Ops] {
        let (mut master, mut standby) = pair().await;
        let free = if stuck == Class::Bulk { Class::Ops } else { Class::Bulk };
        master.events.hold(stuck, true);
        standby.events.hold(stuck, true);
        // In the way of both directions.
        let frame = noise(&mut Dice::from_number(1), MIB);
        let taken = [stuff(&master, stuck, &frame).await, stuff(&standby, stuck, &frame).await];
        for number in 0..500_u32 {
            for class in [Class::Hot, free] {
                let frame = number.to_be_bytes().to_vec();
                master.link.send(class, frame.clone()).unwrap();
                assert_eq!(standby.frame().await, (class, frame.clone()));
                standby.link.send(class, frame.clone()).unwrap();
                assert_eq!(master.frame().await, (class, frame));
            }
        }
        // While those went to and fro there was time for whatever could still move.
        for (side, taken) in [(&master, taken[0]), (&standby, taken[1])] {
            let more = (0..).take_while(|_| side.link.send(stuck, frame.clone()).is_ok()).count();
            let most = STUFFED_MIB + 4;
            assert!(taken + more <= most, "{taken} and {more} MiB of {stuck} were taken");
        }
        // Nothing of it is lost when it is taken at last.
        standby.events.hold(stuck, false);
        for _ in 0..taken[0] {
            assert!(standby.frame().await == (stuck, frame.clone()));
        }
    }
}

#[tokio::test]
async fn who_sends_much_sees_how_much_waits_and_is_refused_beyond_without_harm() {
    let (mut master, mut standby) = pair().await;
    standby.events.hold(Class::Bulk, true);
    let frame = noise(&mut Dice::from_number(2), MIB);
    assert_eq!(master.link.waiting(Class::Bulk), 0);
    let taken = stuff(&master, Class::Bulk, &frame).await;
    let limit = Class::Bulk.queued_bytes_max();
    assert!((limit - MIB - 4..=limit).contains(&master.link.waiting(Class::Bulk)));
    assert_eq!(master.link.waiting(Class::Hot) + master.link.waiting(Class::Ops), 0);
    standby.events.hold(Class::Bulk, false);
    for _ in 0..taken {
        assert!(standby.frame().await == (Class::Bulk, frame.clone()));
    }
    // A word back: by then all is written, and still the same link.
    standby.link.send(Class::Hot, b"done".to_vec()).unwrap();
    assert_eq!(master.frame().await, (Class::Hot, b"done".to_vec()));
    assert_eq!(master.link.waiting(Class::Bulk), 0);
    assert_eq!(master.link.send(Class::Bulk, frame), Ok(()));
}

#[tokio::test]
async fn hot_frames_beyond_the_limit_close_the_link_for_all_classes() {
    let (mut master, mut standby) = pair().await;
    standby.events.hold(Class::Bulk, true);
    master.link.send(Class::Bulk, b"held".to_vec()).unwrap();
    // Nobody takes what the standby gets, and no turn of the runtime comes in between.
    let frame = vec![0; MIB];
    while master.link.send(Class::Hot, frame.clone()).is_ok() {}
    let why = DownReason::Overflow;
    assert_eq!(master.next().await, LinkEvent::Down { generation: 1, why });
    for class in Class::ALL {
        assert_eq!(
            (master.link.send(class, Vec::new()), master.link.waiting(class)),
            (Err(Unsent::Down), 0)
        );
    }
    let event = standby.next().await;
    let LinkEvent::Down { why: DownReason::ClosedByPeer(_), .. } = event else {
        panic!("{event:?}")
    };
    // What was held went with it, and the next link begins with what is sent in it.
    standby.up().await;
    master.up().await;
    standby.events.hold(Class::Bulk, false);
    master.link.send(Class::Bulk, b"new".to_vec()).unwrap();
    assert_eq!(standby.frame().await, (Class::Bulk, b"new".to_vec()));
}

#[tokio::test]
async fn a_close_delivers_hot_frames_and_ops_and_does_not_wait_for_bulk() {
    let (master, mut standby) = pair().await;
    standby.events.hold(Class::Bulk, true);
    stuff(&master, Class::Bulk, &noise(&mut Dice::from_number(3), MIB)).await;
    let last = vec![5; 300_000];
    master.link.send(Class::Hot, b"hot".to_vec()).unwrap();
    master.link.send(Class::Ops, last.clone()).unwrap();
    let Side { link, mut events } = master;
    timeout(DEADLINE, link.close("maintenance")).await.unwrap();
    let why = DownReason::Closed("maintenance".into());
    assert_eq!(events.recv().await, Some(LinkEvent::Down { generation: 1, why }));
    assert_eq!(standby.frame().await, (Class::Hot, b"hot".to_vec()));
    assert!(standby.frame().await == (Class::Ops, last));
    let why = DownReason::ClosedByPeer("maintenance".into());
    assert_eq!(standby.next().await, LinkEvent::Down { generation: 1, why });
}

/// What one side has sent and got, to check that no frame is lost, twice, or in another generation.
#[derive(Default)]
struct Count {
    generation: u64,
    down: bool,
    sent: BTreeMap<Class, u64>,
    /// Whose generation the frames are of, and how many came.
    got: BTreeMap<Class, (u64, u64)>,
    seen: u64,
}

impl Count {
    fn send(&mut self, link: &Link, dice: &mut Dice) {
        let class = Class::ALL[dice.below(3) as usize];
        let number = self.sent.entry(class).or_default();
        let mut frame = [self.generation.to_be_bytes(), number.to_be_bytes()].concat();
        let long = [0, 100, 2_000, 30_000][dice.below(4) as usize];
        frame.resize(16 + long, *number as u8);
        if link.send(class, frame).is_ok() {
            *number += 1;
        }
    }

    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { generation } => {
                *self = Self { generation, seen: self.seen, ..Self::default() }
            }
            LinkEvent::Frame(class, frame) => {
                assert!(!self.down, "{class} between two generations");
                let number = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().unwrap());
                let generation: u64 = number(0);
                let (of, next) = self.got.entry(class).or_insert((generation, 0));
                assert_eq!((generation, number(8)), (*of, *next), "{class}");
                assert!(frame[16..].iter().all(|byte| *byte == *next as u8));
                *next += 1;
                self.seen += 1;
                // All classes are of one connection.
                assert!(self.got.values().all(|(of, _)| *of == generation), "{:?}", self.got);
            }
            LinkEvent::Down { generation, why } => {
                assert_eq!(generation, self.generation);
                self.down = true;
                assert!(
                    matches!(&why, DownReason::Closed(why) | DownReason::ClosedByPeer(why) if why == "cut"),
                    "{why}"
                );
            }
            LinkEvent::Foreign { why, .. } => panic!("{why}"),
        }
    }
}

#[tokio::test]
async fn cuts_at_any_moment_keep_every_frame_in_its_place_and_its_generation() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut dice = Dice::from_number(seed);
        let (mut master, mut standby) = pair().await;
        let mut counts = [
            Count { generation: 1, ..Count::default() },
            Count { generation: 1, ..Count::default() },
        ];
        while counts.iter().any(|count| count.generation < 12 || count.seen < 500) {
            for (side, count) in [&mut master, &mut standby].into_iter().zip(&mut counts) {
                for _ in 0..dice.below(20) {
                    count.send(&side.link, &mut dice);
                }
                if dice.chance(20) {
                    let class = Class::ALL[dice.below(3) as usize];
                    side.events.hold(class, dice.chance(30));
                }
                if count.sent.values().sum::<u64>() > 50 && dice.chance(2) {
                    side.link.reset("cut");
                }
                for _ in 0..dice.below(30) {
                    let Some(event) = side.events.try_recv() else { break };
                    count.take(event);
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
