//! What a stranger can make the stack keep and send.

use crate::bench::{Bench, Phone, ours, udp};
use expect_test::expect;
use tandem_stack::Config;
use tandem_types::Duration;

fn options(number: u32) -> String {
    let branch = format!(";rport;branch=z9hG4bK{number}");
    Phone { branch, call: format!("call{number}"), ..Phone::default() }.says("OPTIONS")
}

#[test]
fn one_source_holds_so_many_transactions_and_no_more() {
    let mut bench = Bench::with(Config { per_source: 2, ..Config::new("pbx.example") });
    bench.hear(&options(1)).hear(&options(2)).hear(&options(3));
    // Repetitions are not refused, other sources neither.
    bench.hear(&options(2));
    bench.flow = udp("192.0.2.10:5060");
    bench.hear(&options(4));
    bench.want(&expect![[r#"
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 503 Service Unavailable statelessly
        0.000s OPTIONS from udp:192.0.2.10:5060
    "#]]);
    let retry = bench.last_response().headers.retry_after().unwrap();
    assert_eq!(retry, Some(5));
    assert_eq!(bench.stack.counters().over_limit, 1);
}

#[test]
fn a_source_may_go_on_when_its_transactions_have_ended() {
    let mut bench = Bench::with(Config { per_source: 1, ..Config::new("pbx.example") });
    bench.hear(&options(1)).respond(200).hear(&options(2)).wait(Duration::from_secs(32));
    bench.hear(&options(2));
    bench.want(&expect![[r#"
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 503 Service Unavailable statelessly
        32.000s OPTIONS from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn one_ipv6_site_is_one_source() {
    let mut bench = Bench::with(Config { per_source: 1, ..Config::new("pbx.example") });
    for (number, remote) in [
        (1, "[2001:db8:1:1::1]:5060"),
        (2, "[2001:db8:1:1::2]:5060"),
        (3, "[2001:db8:1:2::1]:5060"),
    ] {
        bench.flow = udp(remote);
        bench.hear(&options(number));
    }
    bench.want(&expect![[r#"
        0.000s OPTIONS from udp:[2001:db8:1:1::1]:5060
        0.000s -> udp:[2001:db8:1:1::2]:5060 SIP/2.0 503 Service Unavailable statelessly
        0.000s OPTIONS from udp:[2001:db8:1:2::1]:5060
    "#]]);
}

#[test]
fn all_sources_together_hold_so_many_transactions_and_no_more() {
    let mut bench = Bench::with(Config { servers: 2, ..Config::new("pbx.example") });
    for number in 1..=3 {
        bench.flow = udp(&format!("192.0.2.{number}:5060"));
        bench.hear(&options(number));
    }
    bench.want(&expect![[r#"
        0.000s OPTIONS from udp:192.0.2.1:5060
        0.000s OPTIONS from udp:192.0.2.2:5060
        0.000s -> udp:192.0.2.3:5060 SIP/2.0 503 Service Unavailable statelessly
    "#]]);
}

#[test]
fn too_many_refusals_in_a_second_are_silent() {
    let config = Config { servers: 0, stateless_per_second: 2, ..Config::new("pbx.example") };
    let mut bench = Bench::with(config);
    bench.hear(&options(1)).hear(&options(2)).hear(&options(3));
    bench.wait(Duration::from_millis(999)).hear(&options(3));
    bench.wait(Duration::from_millis(1)).hear(&options(3));
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 503 Service Unavailable statelessly
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 503 Service Unavailable statelessly
        1.000s -> udp:192.0.2.9:5060 SIP/2.0 503 Service Unavailable statelessly
    "#]]);
    let counters = bench.stack.counters();
    assert_eq!((counters.over_limit, counters.stateless_answers, counters.dropped), (5, 3, 2));
}

#[test]
fn a_request_of_ours_beyond_the_limit_fails_at_once() {
    let mut bench = Bench::with(Config { clients: 1, ..Config::new("pbx.example") });
    bench.request(ours("OPTIONS", ""));
    bench.request(ours("OPTIONS", ""));
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 OPTIONS sip:carol@192.0.2.7 SIP/2.0
        0.000s failed: Transport
    "#]]);
}
