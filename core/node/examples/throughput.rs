//! How many calls and logins a pair of nodes does in a second of one core, both nodes and all
//! parsing by the phones included; nothing is sent or stored.
//!
//! `cargo run --release -p tandem-node --example throughput`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it stops where it fails")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures real time")]
#![allow(dead_code, reason = "the bench serves the tests too")]

#[path = "../tests/bench/mod.rs"]
mod bench;

use bench::{ANNA, BEN, Bench, answer, in_dialog};
use tandem_sip::Method;
use tandem_types::Duration;

const CALLS: u32 = 3_000;

fn main() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    let begin = std::time::Instant::now();
    for number in 0..CALLS {
        bench.log_in_as(ANNA, "anna", number);
        bench.wait(Duration::from_millis(10));
    }
    report("logins", begin);
    bench.log_in(BEN, "ben");
    let begin = std::time::Instant::now();
    for number in 0..CALLS {
        let (invite, got) = bench.ring_as(number);
        let (to, target) = bench.answer(&invite, &got);
        bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
        bench.response(ANNA, 200);
        let bye = bench.request(BEN, &Method::Bye);
        bench.send(BEN, answer(&bye, 200));
        bench.wait(Duration::from_millis(10));
    }
    report("calls", begin);
    assert_eq!(bench.cdrs(1).len(), usize::try_from(CALLS).unwrap());
}

fn report(what: &str, begin: std::time::Instant) {
    let seconds = begin.elapsed().as_secs_f64();
    println!("{what}: {:.0} a second ({CALLS} in {seconds:.2} s)", f64::from(CALLS) / seconds);
}
