//! What an answer waits for where the disk takes long: decision 0015.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, Bench, in_dialog, ok, request};
use tandem_sip::{HeaderName, Method};
use tandem_types::Duration;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How often the log says that answers left before the disk had what they rest on, and that it has it now.
fn told(bench: &Bench) -> (usize, usize) {
    let count = |what: &str| bench.facts.iter().filter(|fact| fact.contains(what)).count();
    (count("THE DISK IS TOO SLOW"), count("the disk has what it was late with"))
}

/// A call rings, the server is alone, and from here on its disk stands still.
fn ringing_alone() -> (Bench, tandem_sip::Request, tandem_sip::Request) {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.switch_off(1);
    bench.disk_frozen = true;
    (bench, invite, got)
}

#[test]
fn alone_the_answer_to_a_call_waits_until_it_is_on_the_disk() {
    let (mut bench, _, got) = ringing_alone();
    bench.send(BEN, ok(&got));
    bench.wait(millis(200));
    assert!(bench.silent(ANNA), "{:?}", bench.all(ANNA));
    bench.thaw();
    bench.response(ANNA, 200);
    assert_eq!(told(&bench), (0, 0));
}

#[test]
fn alone_who_gives_up_is_told_so_when_the_record_is_on_the_disk_and_the_phone_stops_at_once() {
    let (mut bench, invite, _) = ringing_alone();
    bench.send(ANNA, bench::cancel(&invite));
    bench.wait(millis(200));
    assert_eq!(bench.all(BEN), "CANCEL");
    assert!(bench.silent(ANNA));
    bench.thaw();
    assert_eq!(bench.all(ANNA), "200 487");
}

#[test]
fn alone_a_login_waits_until_it_is_on_the_disk() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.switch_off(1);
    bench.disk_frozen = true;
    let mut register = request(Method::Register, "sip:example.com", ANNA, "anna", "anna", "r");
    register.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    bench.prove(ANNA, "anna", register);
    bench.wait(millis(100));
    assert!(bench.silent(ANNA));
    bench.thaw();
    bench.response(ANNA, 200);
}

#[test]
fn that_a_phone_rings_is_told_after_20_ms_whatever_the_disk_does() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.switch_off(1);
    bench.disk_frozen = true;
    bench.send(BEN, bench::answer(&got, 183));
    bench.wait(millis(19));
    assert!(bench.silent(ANNA));
    bench.wait(millis(1));
    bench.response(ANNA, 183);
}

#[test]
fn whether_anybody_serves_is_answered_at_once_whatever_the_disk_does() {
    let (mut bench, _, got) = ringing_alone();
    bench.send(BEN, ok(&got));
    let options = request(Method::Options, "sip:example.com", ANNA, "keeper", "anybody", "o");
    bench.send(ANNA, options);
    bench.response(ANNA, 200);
    assert!(bench.silent(ANNA), "the answer to the call waits for the disk");
    bench.thaw();
    bench.response(ANNA, 200);
}

#[test]
fn a_disk_that_hangs_holds_an_answer_for_a_quarter_of_a_second_and_that_is_told_once() {
    let (mut bench, invite, got) = ringing_alone();
    bench.send(BEN, ok(&got));
    bench.wait(millis(249));
    assert!(bench.silent(ANNA));
    assert_eq!(told(&bench), (0, 0));
    bench.wait(millis(1));
    let answer = bench.response(ANNA, 200);
    assert_eq!(told(&bench), (1, 0));
    // Nor can it keep anybody from hanging up.
    let (to, target) = bench::dialog_of(&answer);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.wait(millis(249));
    assert!(bench.silent(ANNA));
    bench.wait(millis(1));
    bench.response(ANNA, 200);
    assert_eq!(told(&bench), (1, 0));
    bench.thaw();
    assert_eq!(told(&bench), (1, 1));
}

#[test]
fn with_a_twin_an_answer_does_not_wait_for_the_disk_and_a_record_for_a_quarter_of_a_second() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.disk_frozen = true;
    let (to, target) = bench.answer(&invite, &got);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.wait(millis(249));
    assert!(bench.silent(ANNA));
    bench.wait(millis(1));
    bench.response(ANNA, 200);
    assert_eq!(bench.cdrs(1).len(), 1, "the twin has its record");
    assert_eq!(told(&bench), (1, 0));
}

#[test]
fn what_is_said_again_after_a_takeover_waits_for_the_disk_as_it_did_before() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    // The twin has it in memory; its disk has not.
    bench.send(BEN, bench::answer(&got, 486));
    bench.response(ANNA, 486);
    bench.disk_frozen = true;
    bench.kill_active();
    bench.wait(millis(200));
    assert!(bench.silent(ANNA), "{:?}", bench.all(ANNA));
    bench.thaw();
    bench.response(ANNA, 486);
}

#[test]
fn what_waits_for_the_disk_is_not_repeated_before_it_was_said() {
    let (mut bench, invite, got) = ringing_alone();
    bench.send(BEN, ok(&got));
    bench.wait(millis(100));
    // A copy of the INVITE came late.
    bench.send(ANNA, invite);
    bench.wait(millis(20));
    assert!(bench.silent(ANNA), "{:?}", bench.all(ANNA));
    bench.thaw();
    assert_eq!(bench.all(ANNA), "200");
}
