//! What phones do that is rare, awkward or hostile, and what they are told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, BEN_AT_HOME, Bench, answer, cancel, in_dialog, ok, request};
use tandem_call::Outcome;
use tandem_node::Input;
use tandem_sip::{HeaderName, Method, Request, Response};
use tandem_types::Duration;

fn tagged(request: &Request, status: u16, tag: &[u8]) -> Response {
    let mut response = answer(request, status);
    let to = response.headers.to().unwrap();
    response.headers.set(HeaderName::To, to.with_tag(tag));
    response.headers.push(HeaderName::Contact, format!("<sip:ben@{BEN}>"));
    response
}

fn logged_in() -> Bench {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    bench
}

fn invite_to(uri: &str, contact: &str) -> Request {
    let mut invite = request(Method::Invite, uri, ANNA, "anna", "20", "c0");
    if !contact.is_empty() {
        invite.headers.push(HeaderName::Contact, contact);
    }
    invite
}

fn without_tag(mut tagged: Request) -> Request {
    let to = String::from_utf8_lossy(tagged.headers.get(&HeaderName::To).unwrap()).into_owned();
    let bare = to.split(";tag=").next().unwrap_or_default().to_owned();
    tagged.headers.set(HeaderName::To, bare);
    tagged
}

#[test]
fn a_device_that_is_cancelled_as_the_server_dies_is_cancelled_by_the_survivor() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.send(ANNA, cancel(&invite));
    // The CANCEL to Ben was lost, and the server with it.
    bench.sent.clear();
    bench.kill_active();
    bench.wait(Duration::from_secs(1));
    assert!(bench.all(BEN).contains("CANCEL"), "Ben rings on");
    bench.send(BEN, answer(&got, 487));
}

#[test]
fn the_cancel_of_a_reinvite_passes_to_the_other_side() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    let reinvite = in_dialog(&invite, Method::Invite, &to, &target, 3);
    bench.send(ANNA, reinvite.clone());
    bench.response(ANNA, 100);
    let passed = bench.request(BEN, &Method::Invite);
    bench.send(BEN, answer(&passed, 180));
    bench.response(ANNA, 180);
    bench.send(ANNA, cancel(&reinvite));
    bench.response(ANNA, 200);
    let cancelled = bench.request(BEN, &Method::Cancel);
    bench.send(BEN, answer(&cancelled, 200));
    bench.send(BEN, answer(&passed, 487));
    bench.request(BEN, &Method::Ack);
    bench.response(ANNA, 487);
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 1, "the call itself goes on");
}

#[test]
fn a_second_device_behind_one_contact_that_answers_too_is_hung_up() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.send(BEN, tagged(&got, 200, b"fork"));
    let ack = bench.request(BEN, &Method::Ack);
    assert_eq!(ack.headers.to().unwrap().tag(), Some(&b"fork"[..]));
    let bye = bench.request(BEN, &Method::Bye);
    assert_eq!(bye.headers.to().unwrap().tag(), Some(&b"fork"[..]));
    bench.send(BEN, answer(&bye, 200));
    // The call is still the one with the first.
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    assert_eq!(bye.headers.to().unwrap().tag(), Some(&b"tben"[..]));
}

#[test]
fn numbers_rise_where_devices_behind_one_contact_ring_in_turn() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let ringing = |tag| {
        let mut ringing = tagged(&got, 183, tag);
        ringing.headers.push(HeaderName::Require, "100rel");
        ringing.headers.push(HeaderName::RSeq, "1");
        ringing
    };
    bench.send(BEN, ringing(b"tben"));
    let progress = bench.response(ANNA, 183);
    let to = progress.headers.get(&HeaderName::To).unwrap().to_vec();
    let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
    let prack =
        in_dialog(&invite, Method::Prack, &to, &target, 3).with(HeaderName::RAck, "1 2 INVITE");
    bench.send(ANNA, prack);
    let prack = bench.request(BEN, &Method::Prack);
    let (number, _) = prack.headers.cseq().unwrap();
    bench.send(BEN, answer(&prack, 200));
    bench.send(BEN, ringing(b"other"));
    bench.send(BEN, ok(&got));
    bench.sent.clear();
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 2));
    bench.request(BEN, &Method::Ack);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 4));
    let bye = bench.request(BEN, &Method::Bye);
    assert!(bye.headers.cseq().unwrap().0 > number);
}

#[test]
fn an_answer_without_a_contact_is_acknowledged_where_the_device_is() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.send(BEN, answer(&got, 200));
    let answered = bench.response(ANNA, 200);
    let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
    let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 2));
    bench.request(BEN, &Method::Ack);
}

#[test]
fn a_first_answer_without_a_contact_is_acknowledged_too() {
    let mut bench = logged_in();
    let invite = bench.prove(ANNA, "anna", invite_to("sip:20@example.com", &anna()));
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    bench.send(BEN, answer(&got, 200));
    let answered = bench.response(ANNA, 200);
    let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
    let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 2));
    bench.request(BEN, &Method::Ack);
}

fn anna() -> String {
    format!("<sip:anna@{ANNA}>")
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_is_acknowledged_and_the_caller_is_told_after_its_ack() {
    for dies in [false, true] {
        let mut bench = Bench::new();
        let (invite, got) = bench.ring();
        bench.send(BEN, ok(&got));
        let answered = bench.response(ANNA, 200);
        let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
        let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
        let bye = Request::new(Method::Bye, format!("sip:10@{}", bench::VIRTUAL).parse().unwrap())
            .with(HeaderName::Via, format!("SIP/2.0/UDP {BEN};branch=z9hG4bKbye"))
            .with(HeaderName::From, ok(&got).headers.get(&HeaderName::To).unwrap())
            .with(HeaderName::To, got.headers.get(&HeaderName::From).unwrap())
            .with(HeaderName::CallId, got.headers.get(&HeaderName::CallId).unwrap())
            .with(HeaderName::CSeq, "1 BYE");
        bench.send(BEN, bye);
        let said = bench.all(BEN);
        assert!(said.contains("200") && said.contains("ACK"), "{said}");
        // RFC 3261 §15: no BYE to the caller before its ACK.
        assert_eq!(bench.all(ANNA), "");
        if dies {
            bench.kill_active();
            bench.sent.clear();
        }
        bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 2));
        let bye = bench.request(ANNA, &Method::Bye);
        bench.send(ANNA, answer(&bye, 200));
        bench.wait(Duration::from_secs(100));
        let who = bench.active;
        assert_eq!(bench.cdrs(who).len(), 1);
        assert!(bench.hot_keys(who).iter().all(|key| key.starts_with("aor/")));
    }
}

#[test]
fn a_contact_that_nobody_can_call_is_refused() {
    for contact in ["", "*", "<mailto:anna@example.com>", "<tel:+4923>", "<sip:a@b>, <sip:c@d>"] {
        let mut bench = logged_in();
        bench.prove(ANNA, "anna", invite_to("sip:20@example.com", contact));
        bench.response(ANNA, 400);
        assert!(bench.silent(BEN));
    }
}

#[test]
fn a_device_that_asks_for_a_proof_of_identity_is_not_passed_on_to_the_caller() {
    for status in [401, 407] {
        let mut bench = Bench::new();
        let (_, got) = bench.ring();
        bench.send(BEN, answer(&got, status));
        bench.response(ANNA, 480);
        assert_eq!(bench.cdrs(0)[0].outcome, Some(Outcome::Refused));
    }
}

#[test]
fn forwards_that_run_out_are_said_so_and_the_last_one_is_enough() {
    for (forwards, status) in [("0", 483), ("1", 100)] {
        let mut bench = logged_in();
        let mut invite = invite_to("sip:20@example.com", &anna());
        invite.headers.set(HeaderName::MaxForwards, forwards);
        if status == 483 {
            bench.send(ANNA, invite);
            bench.response(ANNA, 483);
        } else {
            bench.prove(ANNA, "anna", invite);
            bench.response(ANNA, 100);
            assert_eq!(bench.request(BEN, &Method::Invite).headers.max_forwards(), Ok(Some(0)));
        }
    }
}

#[test]
fn an_extension_that_does_not_work_through_us_is_refused_by_name() {
    let mut bench = logged_in();
    let mut invite = invite_to("sip:20@example.com", &anna());
    invite.headers.push(HeaderName::Require, "replaces, 100rel");
    bench.prove(ANNA, "anna", invite);
    let refused = bench.response(ANNA, 420);
    assert_eq!(refused.headers.get(&HeaderName::Unsupported), Some(&b"replaces"[..]));
}

#[test]
fn nobody_rings_his_own_phone() {
    let mut bench = logged_in();
    bench.prove(ANNA, "anna", invite_to("sip:10@example.com", &anna()));
    bench.response(ANNA, 486);
    assert!(bench.silent(ANNA));
}

#[test]
fn a_call_to_oneself_rings_the_other_phone() {
    let mut bench = logged_in();
    let mut register =
        request(Method::Register, "sip:example.com", BEN_AT_HOME, "anna", "anna", "r2");
    register.headers.push(HeaderName::Contact, format!("<sip:anna@{BEN_AT_HOME}>"));
    bench.prove(BEN_AT_HOME, "anna", register);
    bench.response(BEN_AT_HOME, 200);
    bench.prove(ANNA, "anna", invite_to("sip:10@example.com", &anna()));
    bench.response(ANNA, 100);
    bench.request(BEN_AT_HOME, &Method::Invite);
    assert!(bench.silent(ANNA));
}

#[test]
fn a_side_that_does_not_know_the_call_any_more_ends_it() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.send(ANNA, in_dialog(&invite, Method::Invite, &to, &target, 3));
    bench.response(ANNA, 100);
    let hold = bench.request(BEN, &Method::Invite);
    bench.send(BEN, answer(&hold, 481));
    // The BYE need not wait for the disk; the refusal does.
    assert_eq!(bench.all(ANNA), "BYE 481");
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 0);
}

#[test]
fn a_phone_that_asks_and_asks_in_a_call_is_told_to_wait() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    for number in 3..40 {
        bench.send(ANNA, in_dialog(&invite, Method::Info, &to, &target, number));
    }
    let passed = bench.sent.remove(BEN).unwrap();
    assert_eq!(passed.len(), 16);
    assert_eq!(bench.sent.get(ANNA).unwrap().len(), 37 - 16);
    let refused = bench.response(ANNA, 500);
    assert!(refused.headers.contains(&HeaderName::RetryAfter));
}

#[test]
fn a_user_has_so_many_calls_at_once_and_no_more() {
    let mut bench = logged_in();
    for number in 0..64 {
        bench.ring_as(number);
        bench.wait(Duration::from_millis(1));
    }
    let mut invite = request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", "more");
    invite.headers.push(HeaderName::Contact, anna());
    bench.sent.clear();
    bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 486);
    assert!(bench.silent(BEN));
}

#[test]
fn a_request_with_too_large_a_head_is_refused() {
    let mut bench = logged_in();
    let mut invite = invite_to("sip:20@example.com", &anna());
    for number in 0..100 {
        let route = format!("<sip:{number}.{}.example.com;lr>", "a".repeat(90));
        invite.headers.push(HeaderName::RecordRoute, route);
    }
    bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 513);
    assert!(bench.silent(BEN));
}

#[test]
fn a_tag_that_is_not_ours_is_unknown() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    let strange = [&to[..], b"x"].concat();
    bench.send(ANNA, in_dialog(&invite, Method::Info, &strange, &target, 3));
    bench.response(ANNA, 481);
    bench.send(ANNA, without_tag(in_dialog(&invite, Method::Bye, &to, &target, 4)));
    bench.response(ANNA, 481);
    assert!(bench.silent(BEN));
}

#[test]
fn an_invite_without_an_offer_gets_it_with_the_answer_and_the_ack_answers() {
    let mut bench = logged_in();
    let invite = bench.prove(ANNA, "anna", invite_to("sip:20@example.com", &anna()));
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    assert!(got.body.is_empty());
    bench.send(BEN, ok(&got));
    let answered = bench.response(ANNA, 200);
    assert_eq!(answered.body, b"v=0 ben");
    let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
    let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
    let ack = in_dialog(&invite, Method::Ack, &to, &target, 2);
    bench.send(ANNA, ack.with_body("application/sdp", "v=0 anna"));
    assert_eq!(bench.request(BEN, &Method::Ack).body, b"v=0 anna");
}

#[test]
fn two_offers_that_cross_are_both_told_to_try_again() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.send(ANNA, in_dialog(&invite, Method::Invite, &to, &target, 3));
    bench.response(ANNA, 100);
    let passed = bench.request(BEN, &Method::Invite);
    let crossing = Request::new(Method::Invite, target.clone())
        .with(HeaderName::Via, format!("SIP/2.0/UDP {BEN};branch=z9hG4bKcross"))
        .with(HeaderName::From, ok(&got).headers.get(&HeaderName::To).unwrap())
        .with(HeaderName::To, got.headers.get(&HeaderName::From).unwrap())
        .with(HeaderName::CallId, got.headers.get(&HeaderName::CallId).unwrap())
        .with(HeaderName::CSeq, "1 INVITE")
        .with(HeaderName::Contact, format!("<sip:ben@{BEN}>"));
    bench.send(BEN, crossing);
    assert_eq!(bench.all(BEN), "100 491");
    bench.send(BEN, answer(&passed, 491));
    bench.response(ANNA, 491);
}

#[test]
fn the_answer_to_an_administrator_is_given_also_where_the_role_is_lost() {
    let mut bench = Bench::new();
    bench.link_frozen = true;
    let request = tandem_node::Request::UserRemove { name: "nobody".into() };
    bench.servers[0]
        .node
        .handle(bench.now, Input::Admin { id: 5, request, by: String::from("root") });
    let epoch = bench.servers[0].node.status(bench.now).epoch;
    let until = bench.now;
    let role = tandem_types::Role::Passive;
    bench.input(0, Input::Lease { role, epoch, until });
    assert!(matches!(bench.replies.pop(), Some(tandem_node::Reply::Refused { .. })));
}

#[test]
fn a_bye_does_not_wait_for_the_disk_and_its_answer_does() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.disk_frozen = true;
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.request(BEN, &Method::Bye);
    assert!(bench.silent(ANNA), "the record of the call is not on disk");
    bench.thaw();
    bench.response(ANNA, 200);
}
