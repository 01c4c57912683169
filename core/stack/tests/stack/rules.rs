//! Requests of others: matching, where answers go, and what is answered without asking the user.

use crate::bench::{Bench, Phone, flow, ours, parse, udp};
use expect_test::{Expect, expect};
use tandem_sip::HeaderName;
use tandem_stack::Config;
use tandem_types::{Duration, Transport};

/// A request with this Via from this source: where the answer goes, and with which Via.
#[track_caller]
fn check_answer(transport: Transport, source: &str, via: &str, want: &Expect) {
    let mut bench = Bench::new();
    bench.flow = flow(transport, source);
    let phone = Phone { via: via.into(), ..Phone::default() };
    bench.hear(&phone.says("OPTIONS")).respond(200);
    let via =
        String::from_utf8(bench.last_response().headers.get(&HeaderName::Via).unwrap().into());
    want.assert_eq(&format!("{}\n{}", bench.sent[0].flow, via.unwrap()));
}

#[test]
fn a_telephone_that_asks_for_rport_is_answered_where_it_sent_from() {
    let via = "SIP/2.0/UDP 10.0.0.1:5062;rport";
    check_answer(
        Transport::Udp,
        "192.0.2.9:1024",
        via,
        &expect![[r#"
        udp:192.0.2.9:1024
        SIP/2.0/UDP 10.0.0.1:5062;rport=1024;branch=z9hG4bK1;received=192.0.2.9"#]],
    );
}

#[test]
fn a_telephone_without_rport_is_answered_at_the_port_it_listens_on() {
    check_answer(
        Transport::Udp,
        "192.0.2.9:1024",
        "SIP/2.0/UDP 192.0.2.9:5070",
        &expect![[r#"
        udp:192.0.2.9:5070
        SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK1"#]],
    );
    check_answer(
        Transport::Udp,
        "192.0.2.9:1024",
        "SIP/2.0/UDP 192.0.2.9",
        &expect![[r#"
        udp:192.0.2.9:5060
        SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1"#]],
    );
    check_answer(
        Transport::Udp,
        "192.0.2.9:1024",
        "SIP/2.0/UDP 192.0.2.9:0",
        &expect![[r#"
        udp:192.0.2.9:5060
        SIP/2.0/UDP 192.0.2.9:0;branch=z9hG4bK1"#]],
    );
    check_answer(
        Transport::Udp,
        "192.0.2.9:1024",
        "SIP/2.0/UDP phone.example:5070",
        &expect![[r#"
            udp:192.0.2.9:5070
            SIP/2.0/UDP phone.example:5070;branch=z9hG4bK1;received=192.0.2.9"#]],
    );
}

#[test]
fn a_telephone_behind_a_nat_is_answered_where_it_sent_from() {
    check_answer(
        Transport::Udp,
        "192.0.2.9:1024",
        "SIP/2.0/UDP 10.0.0.1:5060",
        &expect![[r#"
        udp:192.0.2.9:1024
        SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;received=192.0.2.9"#]],
    );
    check_answer(
        Transport::Udp,
        "[2001:db8::9]:1024",
        "SIP/2.0/UDP [fd00::1]:5060",
        &expect![[r#"
            udp:[2001:db8::9]:1024
            SIP/2.0/UDP [fd00::1]:5060;branch=z9hG4bK1;received=2001:db8::9"#]],
    );
}

#[test]
fn a_via_cannot_send_answers_to_somebody_else() {
    let spoofed = "SIP/2.0/UDP 198.51.100.1:53;received=198.51.100.1;rport=53;maddr=198.51.100.1";
    check_answer(
        Transport::Udp,
        "192.0.2.9:5060",
        spoofed,
        &expect![[r#"
        udp:192.0.2.9:5060
        SIP/2.0/UDP 198.51.100.1:53;received=192.0.2.9;rport=5060;maddr=198.51.100.1;branch=z9hG4bK1"#]],
    );
    let spoofed = "SIP/2.0/UDP 192.0.2.9;received=198.51.100.1";
    check_answer(
        Transport::Udp,
        "192.0.2.9:5060",
        spoofed,
        &expect![[r#"
        udp:192.0.2.9:5060
        SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1"#]],
    );
}

#[test]
fn on_a_connection_answers_go_back_on_it() {
    check_answer(
        Transport::Tcp,
        "192.0.2.9:40000",
        "SIP/2.0/TCP 192.0.2.9:5060",
        &expect![[r#"
        tcp:192.0.2.9:40000
        SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bK1"#]],
    );
}

#[test]
fn a_repeated_request_is_known_by_branch_sender_and_method() {
    let mut bench = Bench::new();
    let phone = Phone::default();
    bench.hear(&phone.says("OPTIONS")).respond(200).hear(&phone.says("OPTIONS"));
    let other = Phone { call: "call2".into(), ..phone.clone() };
    bench.hear(&other.says("INFO"));
    let via = "SIP/2.0/UDP 192.0.2.9:5061".into();
    bench.hear(&Phone { via, call: "call3".into(), ..phone.clone() }.says("OPTIONS"));
    // From elsewhere it is still the same; the answer goes to where the first came from.
    bench.flow = udp("198.51.100.1:5060");
    bench.hear(&phone.says("OPTIONS"));
    bench.want(&expect![[r#"
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK again
        0.000s INFO from udp:192.0.2.9:5060
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK again
    "#]]);
}

#[test]
fn a_telephone_of_rfc_2543_is_understood() {
    let mut bench = Bench::new();
    let phone = Phone { branch: ";branch=1".into(), ..Phone::default() };
    bench.hear(&phone.says("INVITE")).hear(&phone.says("INVITE")).respond(180);
    bench.hear(&phone.says("CANCEL")).respond(487);
    let to = bench.last_response().headers.to().unwrap();
    let to_tag = format!(";tag={}", std::str::from_utf8(to.tag().unwrap()).unwrap());
    bench.hear(&Phone { to_tag, ..phone.clone() }.says("ACK")).wait(Duration::from_secs(2));
    let next = Phone { cseq: 2, ..phone };
    bench.hear(&next.says("INVITE"));
    bench.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 180 Ringing
        0.000s cancelled
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 487 Request Terminated
        2.000s INVITE from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn a_cancel_is_answered_and_reported_once() {
    let mut bench = Bench::new();
    let phone = Phone::default();
    bench.hear(&phone.says("INVITE")).respond(100);
    bench.hear(&phone.says("CANCEL")).hear(&phone.says("CANCEL")).respond(487);
    bench.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 100 Trying
        0.000s cancelled
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK again
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 487 Request Terminated
    "#]]);
    let tags: Vec<_> =
        bench.sent.iter().map(|sent| parse(&sent.bytes).headers().to().unwrap().params).collect();
    assert!(tags[0].is_empty() && !tags[1].is_empty());
    assert!(tags[1..].iter().all(|params| *params == tags[1]));
}

#[test]
fn a_cancel_that_comes_too_late_has_no_effect() {
    let mut bench = Bench::new();
    bench
        .hear(&Phone::default().says("INVITE"))
        .respond(200)
        .hear(&Phone::default().says("CANCEL"));
    bench.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
    "#]]);
}

#[test]
fn a_cancel_for_nothing_is_answered_481() {
    let mut bench = Bench::new();
    bench.hear(&Phone::default().says("CANCEL")).hear(&Phone::default().says("OPTIONS"));
    bench.hear(&Phone::default().says("CANCEL"));
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 481 Call/Transaction Does Not Exist statelessly
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 481 Call/Transaction Does Not Exist statelessly
    "#]]);
}

#[test]
fn a_copy_that_took_another_way_is_a_merged_request() {
    let mut bench = Bench::new();
    let phone = Phone::default();
    let copy = Phone { branch: ";branch=z9hG4bK2".into(), ..phone.clone() };
    bench.hear(&phone.says("MESSAGE")).hear(&copy.says("MESSAGE")).hear(&copy.says("INFO"));
    // Within a dialog, and with the next number, it is another request.
    let to_tag = ";tag=b".into();
    bench.hear(&Phone { to_tag, ..copy.clone() }.says("MESSAGE"));
    let branch = ";branch=z9hG4bK3".into();
    bench.hear(&Phone { cseq: 2, branch, ..copy }.says("MESSAGE"));
    bench.want(&expect![[r#"
        0.000s MESSAGE from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 482 Merged Request statelessly
        0.000s INFO from udp:192.0.2.9:5060
        0.000s MESSAGE from udp:192.0.2.9:5060
        0.000s MESSAGE from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn a_copy_of_what_was_granted_is_merged_and_of_what_was_refused_is_tried_again() {
    let mut bench = Bench::new();
    let branch = |number: u32| format!(";branch=z9hG4bK{number}");
    let copy = |number| Phone { branch: branch(number), ..Phone::default() }.says("REGISTER");
    bench.hear(&copy(1)).respond(503).hear(&copy(2)).respond(200).hear(&copy(3));
    bench.want(&expect![[r#"
        0.000s REGISTER from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 503 Service Unavailable
        0.000s REGISTER from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 482 Merged Request statelessly
    "#]]);
}

#[test]
fn what_may_not_be_passed_on_is_answered_483() {
    let mut bench = Bench::new();
    let at_end = |number: u32| Phone {
        branch: format!(";branch=z9hG4bK{number}"),
        call: format!("call{number}"),
        more: "Max-Forwards: 0\n".into(),
        ..Phone::default()
    };
    bench.hear(&at_end(1).says("INVITE")).hear(&at_end(2).says("MESSAGE"));
    bench.hear(&at_end(3).says("OPTIONS")).hear(&at_end(4).says("REGISTER"));
    bench.hear(&Phone { to_tag: ";tag=b".into(), ..at_end(5) }.says("BYE"));
    bench.hear(&Phone { more: "Max-Forwards: 1\n".into(), ..at_end(6) }.says("INVITE"));
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 483 Too Many Hops statelessly
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 483 Too Many Hops statelessly
        0.000s OPTIONS from udp:192.0.2.9:5060
        0.000s REGISTER from udp:192.0.2.9:5060
        0.000s BYE from udp:192.0.2.9:5060
        0.000s INVITE from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn a_request_of_ours_that_comes_back_is_a_loop() {
    let mut bench = Bench::new();
    bench.request(ours("INVITE", ""));
    let returned = String::from_utf8(bench.sent[0].bytes.clone()).unwrap();
    let through_proxy =
        returned.replacen("Via:", "Via: SIP/2.0/UDP p.example;branch=z9hG4bKp\r\nVia:", 1);
    bench.hear(&returned).hear(&through_proxy);
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 482 Loop Detected statelessly
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 482 Loop Detected statelessly
    "#]]);
    // To another pair it is a request like any other.
    let mut other = Bench::with(Config::new("other.example"));
    other.hear(&through_proxy);
    other.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn what_is_not_understood_is_refused_or_ignored() {
    let mut bench = Bench::new();
    let phone = Phone::default();
    bench.hear(&phone.says("OPTIONS").replace("CSeq: 1", "CSeq: one"));
    bench.hear(&phone.says("OPTIONS").replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"));
    bench.hear(&phone.says("ACK").replace("CSeq: 1", "CSeq: one"));
    bench.hear(&phone.says("OPTIONS").replace("Via: ", "Vie: "));
    bench.hear("\r\n\r\n").hear("GET / HTTP/1.1\r\n\r\n").hear("\u{1}\u{2}");
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 400 CSeq malformed statelessly
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 505 version not supported statelessly
    "#]]);
    let counters = bench.stack.counters();
    assert_eq!((counters.received, counters.keep_alives, counters.malformed), (7, 1, 6));
    assert_eq!(bench.stack.transactions(), (0, 0));
}

#[test]
fn the_ack_for_an_answer_is_known_by_its_dialog() {
    let mut bench = Bench::new();
    let phone = Phone::default();
    bench.hear(&phone.says("INVITE")).respond(200).wait(Duration::from_secs(1));
    let to = bench.last_response().headers.to().unwrap();
    let to_tag = format!(";tag={}", std::str::from_utf8(to.tag().unwrap()).unwrap());
    let ack = Phone { branch: ";branch=z9hG4bK2".into(), to_tag, ..phone.clone() };
    bench.hear(&Phone { cseq: 2, ..ack.clone() }.says("ACK"));
    bench.hear(&Phone { to_tag: ";tag=x".into(), ..ack.clone() }.says("ACK"));
    bench.hear(&Phone { to_tag: String::new(), ..ack.clone() }.says("ACK"));
    bench.hear(&ack.says("ACK")).hear(&ack.says("ACK")).wait(Duration::from_secs(40));
    bench.hear(&ack.says("ACK"));
    bench.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        0.500s -> udp:192.0.2.9:5060 SIP/2.0 200 OK again
        1.000s ACK for nothing known
        1.000s ACK for nothing known
        1.000s ACK
        41.000s ACK for nothing known
    "#]]);
    assert_eq!(bench.stack.counters().stray_acks, 4);
    assert_eq!(bench.stack.transactions(), (0, 0));
    assert_eq!(bench.stack.next_timeout(), None);
}

#[test]
fn a_wrong_answer_of_the_user_is_refused() {
    let mut bench = Bench::new();
    bench.hear(&Phone::default().says("OPTIONS"));
    bench
        .respond(99)
        .respond(700)
        .respond(200)
        .respond(404)
        .wait(Duration::from_secs(32))
        .respond(200);
    bench.want(&expect![[r#"
        0.000s OPTIONS from udp:192.0.2.9:5060
        BadStatus
        BadStatus
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        AlreadyCompleted
        Unknown
    "#]]);
}
