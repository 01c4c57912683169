//! Phones on connections, which end with the server they ended at.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, BEN_ANEW, BEN_STREAM, Bench, answer, cancel, flow, in_dialog, request};
use tandem_node::Input;
use tandem_sip::{ContactValue, HeaderName, Method, Request, Uri};
use tandem_types::{Flow, Transport};

/// Ben logs in on this connection; his phone listens at [`BEN`].
fn log_in(bench: &mut Bench, connection: &str, number: u32) {
    let id = format!("r{number}");
    let register = request(Method::Register, "sip:example.com", connection, "ben", "ben", &id);
    let register = register.with(HeaderName::Contact, format!("<sip:ben@{BEN};transport=tcp>"));
    bench.prove(connection, "ben", register);
    bench.response(connection, 200);
}

/// Both are logged in, Ben on a connection.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    log_in(&mut bench, BEN_STREAM, 1);
    bench
}

fn dial(bench: &mut Bench) -> Request {
    let invite = request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", "c");
    let invite = invite.with(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    let invite = bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    invite
}

/// Ben's phone answers on its connection, and names the port of that in its Contact, as baresip
/// does. Anna's view of the dialog.
fn talk(bench: &mut Bench) -> (Request, Vec<u8>, Uri) {
    let invite = dial(bench);
    let got = bench.request(BEN_STREAM, &Method::Invite);
    let contact = format!("<sip:ben@{BEN_STREAM};transport=tcp>");
    bench.send(BEN_STREAM, answer(&got, 200).with(HeaderName::Contact, contact));
    let answered = bench.response(ANNA, 200);
    let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
    let ContactValue::Addr(target) = answered.headers.contacts().unwrap().remove(0) else {
        panic!("no address")
    };
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target.uri, 2));
    bench.request(BEN_STREAM, &Method::Ack);
    (invite, to, target.uri)
}

#[test]
fn after_a_takeover_a_bye_goes_where_the_phone_listens_by_its_login() {
    let mut bench = bench();
    let (invite, to, target) = talk(&mut bench);
    bench.kill_active();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    bench.request(BEN, &Method::Bye);
    assert!(bench.silent(BEN_STREAM));
}

#[test]
fn after_a_takeover_a_bye_goes_on_the_connection_of_a_new_login() {
    let mut bench = bench();
    let (invite, to, target) = talk(&mut bench);
    bench.kill_active();
    log_in(&mut bench, BEN_ANEW, 2);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    bench.request(BEN_ANEW, &Method::Bye);
    assert!(bench.silent(BEN_STREAM) && bench.silent(BEN));
}

#[test]
fn after_a_takeover_a_phone_that_rings_is_cancelled_where_it_listens() {
    let mut bench = bench();
    let invite = dial(&mut bench);
    let got = bench.request(BEN_STREAM, &Method::Invite);
    bench.send(BEN_STREAM, answer(&got, 180));
    bench.kill_active();
    bench.sent.clear();
    bench.send(ANNA, cancel(&invite));
    bench.request(BEN, &Method::Cancel);
    assert!(bench.silent(BEN_STREAM));
}

#[test]
fn an_invite_that_was_not_answered_yet_is_repeated_where_the_phone_listens() {
    let mut bench = bench();
    dial(&mut bench);
    let first = bench.request(BEN_STREAM, &Method::Invite);
    bench.kill_active();
    let again = bench.request(BEN, &Method::Invite);
    assert_eq!(again, first);
}

#[test]
fn a_call_to_a_phone_whose_connection_is_closed_goes_where_it_listens() {
    let mut bench = bench();
    let closed = Flow { transport: Transport::Tcp, ..flow(BEN_STREAM) };
    bench.input(0, Input::FlowClosed(closed));
    dial(&mut bench);
    bench.request(BEN, &Method::Invite);
    assert!(bench.silent(BEN_STREAM));
}
