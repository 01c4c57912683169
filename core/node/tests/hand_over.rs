//! The planned switch: no message is lost, and none has to be repeated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, Bench, in_dialog, ok};
use tandem_node::{Input, Reply, Request};
use tandem_sip::Method;
use tandem_types::Duration;

/// The keeper of the active server says so; the twin's has not begun to reign.
fn order(bench: &mut Bench) {
    let (who, epoch) = (bench.active, bench.epoch);
    let until = bench.now + Duration::from_millis(80);
    bench.input(who, Input::HandOver { epoch, until });
}

#[test]
fn an_answer_that_waits_to_leave_is_said_by_the_twin() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.link_frozen = true;
    bench.send(BEN, ok(&got));
    assert!(bench.silent(ANNA), "the twin has not acknowledged");
    order(&mut bench);
    bench.link_frozen = false;
    bench.run();
    assert!(!bench.servers[0].node.status(bench.now).serving, "the twin has taken everything");
    assert!(bench.silent(ANNA), "nobody speaks between the two");
    bench.crown(1);
    bench.response(ANNA, 200);
    assert_eq!(bench.servers[1].node.status(bench.now).calls, 1);
}

#[test]
fn a_twin_that_has_just_become_late_takes_everything_all_the_same() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.link_frozen = true;
    bench.send(BEN, ok(&got));
    bench.wait(Duration::from_millis(25));
    assert!(!bench.servers[0].node.status(bench.now).in_sync);
    bench.sent.clear();
    order(&mut bench);
    assert!(bench.servers[0].node.status(bench.now).serving, "nothing is given up for that");
    bench.link_frozen = false;
    bench.run();
    assert!(!bench.servers[0].node.status(bench.now).serving, "the twin has taken everything");
    bench.crown(1);
    assert_eq!(bench.servers[1].node.status(bench.now).calls, 1);
    bench.send(ANNA, bench::request(Method::Options, "sip:example.com", ANNA, "anna", "x", "o"));
    bench.response(ANNA, 200);
}

#[test]
fn a_request_that_comes_during_the_switch_is_served_by_the_twin() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    order(&mut bench);
    // To the old one, whose mouth is closed.
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    assert!(bench.silent(ANNA) && bench.silent(BEN));
    bench.crown(1);
    bench.response(ANNA, 200);
    bench.request(BEN, &Method::Bye);
}

#[test]
fn what_still_comes_after_the_switch_is_passed_on_for_a_moment() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    order(&mut bench);
    bench.crown(1);
    // A phone that has not learned yet where the address is.
    bench.active = 0;
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    assert_eq!(bench.serves, [(0, true), (1, true)], "both hear for a moment");
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.serves.last(), Some(&(0, false)), "then the old one lets go");
}

fn add_carol() -> Request {
    Request::UserAdd {
        name: "carol".into(),
        display: String::new(),
        numbers: vec!["30".into()],
        password: None,
    }
}

#[test]
fn what_is_to_be_changed_between_the_two_is_done_by_the_twin() {
    for asked_at in 0..2 {
        let mut bench = Bench::new();
        bench.link_frozen = true;
        order(&mut bench);
        let by = String::from("root");
        bench.input(asked_at, Input::Admin { id: 9, request: add_carol(), by });
        bench.link_frozen = false;
        bench.run();
        assert!(!bench.servers[0].node.status(bench.now).serving, "the twin has taken everything");
        assert!(bench.replies.is_empty(), "asked at {asked_at}: {:?}", bench.replies);
        bench.crown(1);
        let done = bench.replies.pop();
        assert!(matches!(done, Some(Reply::Done { password: Some(_) })), "{asked_at}: {done:?}");
        assert!(bench.replies.is_empty(), "answered once");
        assert_eq!(bench.authors, ["root"], "done once");
    }
}

#[test]
fn a_change_that_is_being_made_at_the_switch_is_answered_by_whoever_makes_it() {
    let mut bench = Bench::new();
    bench.edits_frozen = true;
    bench.input(1, Input::Admin { id: 9, request: add_carol(), by: String::from("root") });
    order(&mut bench);
    assert!(!bench.servers[0].node.status(bench.now).serving, "the twin has taken everything");
    bench.crown(1);
    assert!(bench.replies.is_empty());
    let Some((0, id)) = bench.edits.pop() else { panic!("ordered there") };
    assert!(bench.edits.is_empty(), "and not again here");
    bench.input(0, Input::Edited { id, result: Ok(()) });
    assert!(matches!(bench.replies.pop(), Some(Reply::Done { password: Some(_) })));
}

#[test]
fn a_twin_that_does_not_take_it_in_time_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.ring();
    bench.link_frozen = true;
    order(&mut bench);
    assert!(bench.servers[0].node.status(bench.now).serving);
    bench.renew_hand_over();
    bench.wait(Duration::from_millis(101));
    assert!(!bench.servers[0].node.status(bench.now).serving);
    assert_eq!(bench.serves.last(), Some(&(0, false)));
}

#[test]
fn a_twin_that_goes_away_meanwhile_ends_it_at_once() {
    let mut bench = Bench::new();
    bench.ring();
    bench.link_frozen = true;
    order(&mut bench);
    bench.input(0, Input::LinkDown);
    assert!(!bench.servers[0].node.status(bench.now).serving);
}

#[test]
fn what_was_handed_over_long_ago_is_forgotten() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    order(&mut bench);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.wait(Duration::from_secs(3));
    bench.crown(1);
    // The phone has repeated it several times by now.
    assert!(bench.silent(ANNA) && bench.silent(BEN));
}

#[test]
fn nothing_that_was_said_is_said_again() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    order(&mut bench);
    bench.crown(1);
    assert!(bench.silent(ANNA) && bench.silent(BEN), "no second 180, no second INVITE");
    let (to, target) = bench.answer(&invite, &got);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    bench.request(BEN, &Method::Bye);
    order(&mut bench);
    bench.crown(0);
    assert!(bench.silent(ANNA), "no second 200");
}

#[test]
fn what_waited_to_leave_and_comes_after_the_next_reign_has_begun_is_not_said() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.link_frozen = true;
    bench.send(BEN, ok(&got));
    order(&mut bench);
    bench.wait(Duration::from_millis(101));
    assert!(!bench.servers[0].node.status(bench.now).serving, "not waited for");
    bench.crown(1);
    while bench.sent.values_mut().any(|sent| sent.pop_front().is_some()) {}
    // Here nobody has answered: the entry that the 200 rests on was refused.
    bench.link_frozen = false;
    bench.run();
    assert!(bench.silent(ANNA));
}

#[test]
fn what_was_handed_over_before_the_twin_went_on_itself_is_forgotten() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    order(&mut bench);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    // The switch comes to nothing: the old one goes on in a new reign, and dies.
    bench.crown(0);
    bench.wait(Duration::from_millis(200));
    bench.kill_active();
    assert_eq!(bench.servers[1].node.status(bench.now).calls, 1, "nobody hung up in that reign");
    assert!(bench.silent(BEN));
}

#[test]
fn a_reign_that_begins_while_the_mouth_is_closed_opens_it() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.link_frozen = true;
    order(&mut bench);
    // The word in between, that it is passive, was lost.
    bench.crown(0);
    bench.wait(Duration::from_millis(200));
    assert!(bench.servers[0].node.status(bench.now).serving);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.wait(Duration::from_millis(50));
    bench.response(ANNA, 200);
}
