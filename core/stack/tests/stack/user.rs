//! Requests of ours, as the network sees them.

use crate::bench::{Bench, ours, parse, udp};
use expect_test::{Expect, expect};
use tandem_sip::{HeaderName, Method};
use tandem_types::Duration;

#[track_caller]
fn check_bytes(bytes: &[u8], want: &Expect) {
    want.assert_eq(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"));
}

const ROUTES: &str = "Route: <sip:p1;lr>, <sip:p2;lr>\nRoute: <sip:p3;lr>\n";

#[test]
fn a_request_gets_via_and_max_forwards() {
    let mut bench = Bench::new();
    bench.request(ours("OPTIONS", ""));
    check_bytes(
        &bench.sent[0].bytes,
        &expect![[r#"
            OPTIONS sip:carol@192.0.2.7 SIP/2.0
            Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK584b91b5b0f4d125cc0d694a
            Max-Forwards: 70
            From: <sip:pbx@pbx.example>;tag=o
            To: <sip:carol@pbx.example>
            Call-ID: ours
            CSeq: 7 OPTIONS
            Content-Length: 0

        "#]],
    );
    bench.flow = udp("[2001:db8::7]:5060");
    bench.request(ours("OPTIONS", "Max-Forwards: 9\n"));
    check_bytes(
        &bench.sent[1].bytes,
        &expect![[r#"
        OPTIONS sip:carol@192.0.2.7 SIP/2.0
        Via: SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=z9hG4bK584b91b56d8fc15a3248c9da
        From: <sip:pbx@pbx.example>;tag=o
        To: <sip:carol@pbx.example>
        Call-ID: ours
        CSeq: 7 OPTIONS
        Max-Forwards: 9
        Content-Length: 0

    "#]],
    );
}

#[test]
fn the_ack_for_a_refusal_follows_its_invite() {
    let mut bench = Bench::new();
    bench.request(ours("INVITE", ROUTES));
    bench.answered(486, "c");
    check_bytes(
        &bench.sent[1].bytes,
        &expect![[r#"
        ACK sip:carol@192.0.2.7 SIP/2.0
        Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK584b91b5b0f4d125cc0d694a
        Route: <sip:p1;lr>, <sip:p2;lr>
        Route: <sip:p3;lr>
        Max-Forwards: 70
        From: <sip:pbx@pbx.example>;tag=o
        To: <sip:carol@pbx.example>;tag=c
        Call-ID: ours
        CSeq: 7 ACK
        Content-Length: 0

    "#]],
    );
}

#[test]
fn the_cancel_follows_its_invite() {
    let mut bench = Bench::new();
    let id = bench.request(ours("INVITE", ROUTES));
    bench.stack.cancel(bench.now, &id);
    let invite = bench.last_request();
    bench.note().answer(&invite, 180, "c");
    check_bytes(
        &bench.sent[1].bytes,
        &expect![[r#"
        CANCEL sip:carol@192.0.2.7 SIP/2.0
        Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK584b91b5b0f4d125cc0d694a
        Route: <sip:p1;lr>, <sip:p2;lr>
        Route: <sip:p3;lr>
        Max-Forwards: 70
        From: <sip:pbx@pbx.example>;tag=o
        To: <sip:carol@pbx.example>
        Call-ID: ours
        CSeq: 7 CANCEL
        Content-Length: 0

    "#]],
    );
    bench.answered(200, "c").answer(&invite, 487, "c").wait(Duration::from_secs(40));
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0
        0.000s 180 Ringing
        0.000s -> udp:192.0.2.9:5060 CANCEL sip:carol@192.0.2.7 SIP/2.0
        0.000s 487 Request Terminated
        0.000s -> udp:192.0.2.9:5060 ACK sip:carol@192.0.2.7 SIP/2.0
    "#]]);
}

#[test]
fn a_cancel_nobody_answers_is_not_reported() {
    let mut bench = Bench::new();
    let id = bench.request(ours("INVITE", ""));
    let invite = bench.last_request();
    bench.answer(&invite, 180, "c");
    bench.stack.cancel(bench.now, &id);
    bench.note().answer(&invite, 200, "c").seen.clear();
    bench.wait(Duration::from_secs(40));
    assert_eq!(bench.seen.matches("CANCEL").count(), 10);
    assert_eq!(bench.seen.matches("failed").count(), 0);
    assert_eq!(bench.stack.counters().failed, 1);
}

#[test]
fn the_ack_for_an_answer_has_its_own_branch_and_is_repeated() {
    let mut bench = Bench::new();
    let id = bench.request(ours("INVITE", ""));
    let invite = bench.last_request();
    bench.answer(&invite, 200, "c");
    let mut ack = ours("ACK", "");
    ack.headers.set(HeaderName::To, "<sip:carol@pbx.example>;tag=c");
    bench.stack.acknowledge(bench.now, &id, udp("192.0.2.8:5060"), ack);
    bench.note().answer(&invite, 200, "c").answer(&invite, 200, "d").answer(&invite, 200, "d");
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0
        0.000s 200 OK
        0.000s -> udp:192.0.2.8:5060 ACK sip:carol@192.0.2.7 SIP/2.0
        0.000s -> udp:192.0.2.8:5060 ACK sip:carol@192.0.2.7 SIP/2.0 again
        0.000s 200 OK
    "#]]);
    let branch = |at: usize| parse(&bench.sent[at].bytes).headers().via().unwrap().params;
    assert_ne!(branch(0), branch(1));
    assert_eq!(bench.sent[1].bytes, bench.sent[2].bytes);
}

#[test]
fn a_response_that_is_not_for_us_is_ignored() {
    let mut bench = Bench::new();
    bench.request(ours("OPTIONS", ""));
    let request = bench.last_request();
    bench.seen.clear();
    let mut stray = |change: &dyn Fn(&mut tandem_sip::Request)| {
        let mut other = request.clone();
        change(&mut other);
        bench.answer(&other, 200, "c");
    };
    stray(&|other| other.headers.push(HeaderName::Via, "SIP/2.0/UDP x;branch=z9hG4bKx"));
    stray(&|other| other.headers.set(HeaderName::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"));
    stray(&|other| other.headers.set(HeaderName::Via, "SIP/2.0/UDP 192.0.2.1"));
    stray(&|other| other.headers.set(HeaderName::CSeq, "7 INVITE"));
    stray(&|other| other.headers.set(HeaderName::CSeq, "7 CANCEL"));
    stray(&|other| {
        let via = String::from_utf8(other.headers.get(&HeaderName::Via).unwrap().to_vec()).unwrap();
        other.headers.set(HeaderName::Via, format!("{via}0"));
    });
    assert_eq!(bench.stack.counters().stray_responses, 6);
    bench.answer(&request, 200, "c").want(&expect![[r#"
        0.000s 200 OK
    "#]]);
}

#[test]
fn a_failed_flow_fails_what_waits_on_it_alone() {
    let mut bench = Bench::new();
    bench.request(ours("OPTIONS", ""));
    bench.flow = udp("192.0.2.8:5060");
    bench.request(ours("INVITE", ""));
    bench.request(ours("OPTIONS", ""));
    bench.stack.handle_flow_failed(bench.now, bench.flow);
    bench.note().want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 OPTIONS sip:carol@192.0.2.7 SIP/2.0
        0.000s -> udp:192.0.2.8:5060 INVITE sip:carol@192.0.2.7 SIP/2.0
        0.000s -> udp:192.0.2.8:5060 OPTIONS sip:carol@192.0.2.7 SIP/2.0
        0.000s failed: Transport
        0.000s failed: Transport
    "#]]);
    assert_eq!(bench.stack.transactions(), (1, 0));
    assert_eq!(bench.last_request().method, Method::Options);
}
