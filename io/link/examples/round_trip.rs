//! How long a small frame takes to the peer and back over loopback, in microseconds.
//!
//! `cargo run -p tandem-link --example round_trip [rounds] [bytes]`
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tandem_link::{Config, Events, Link, LinkEvent, PairSecret};
use tandem_types::Seat;

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
            while let Some(event) = events.recv().await {
                if let LinkEvent::Frame(frame) = event {
                    link.send(frame).unwrap();
                }
            }
        });
    });
    let peer = ready.recv().unwrap();
    run(async move {
        let (link, mut events) =
            Link::start(Config::new(Seat::Standby, any, peer, secret)).unwrap();
        assert!(matches!(events.recv().await, Some(LinkEvent::Up { .. })));
        let mut micros = Vec::with_capacity(rounds);
        for round in 0..rounds + WARM_UP {
            let before = Instant::now();
            link.send(vec![7; bytes]).unwrap();
            assert_eq!(frame(&mut events).await.len(), bytes);
            if round >= WARM_UP {
                micros.push(before.elapsed().as_nanos() / 1_000);
            }
        }
        micros.sort_unstable();
        let at = |part: usize| micros[(micros.len() - 1) * part / 1_000];
        println!(
            "{rounds} round trips of {bytes} bytes: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
            at(500),
            at(990),
            at(999),
            at(1_000)
        );
    });
}

async fn frame(events: &mut Events) -> Vec<u8> {
    let event = events.recv().await;
    let Some(LinkEvent::Frame(frame)) = event else { panic!("{event:?} instead of a frame") };
    frame
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

const WARM_UP: usize = 500;
