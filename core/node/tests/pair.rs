//! A pair of nodes and two phones: what survives when the active one dies, at which moment ever.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, BEN_AT_HOME, Bench, answer, in_dialog, ok, request};
use tandem_call::{Ending, Outcome};
use tandem_node::Input;
use tandem_sip::{HeaderName, Method};
use tandem_types::Duration;

#[test]
fn a_call_is_made_answered_and_ended_and_both_servers_have_its_record() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.wait(Duration::from_secs(5));
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    let cdr = bench.cdrs(0).pop().unwrap();
    assert_eq!((cdr.outcome, cdr.ending), (Some(Outcome::Answered), Some(Ending::Caller)));
    assert_eq!(cdr.talk_seconds(), 5);
    assert!(bench.silent(ANNA) && bench.silent(BEN));
}

#[test]
fn an_answered_call_is_hung_up_through_the_survivor() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.kill_active();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    assert!(bye.headers.cseq().unwrap().0 > 100, "CSeq leaps forward after a takeover");
    bench.send(BEN, answer(&bye, 200));
    assert_eq!(bench.cdrs(1).len(), 1);
}

#[test]
fn a_ringing_call_is_answered_through_the_survivor() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.kill_active();
    // The 180 is repeated by the survivor: it cannot know whether the dead one sent it.
    bench.sent.clear();
    bench.answer(&invite, &got);
    assert_eq!(bench.servers[1].node.status(bench.now).calls, 1);
}

#[test]
fn a_call_cancelled_at_the_survivor_stops_ringing() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.kill_active();
    bench.sent.clear();
    let mut cancel = invite.clone();
    cancel.method = Method::Cancel;
    cancel.body.clear();
    let (number, _) = invite.headers.cseq().unwrap();
    cancel.headers.set(HeaderName::CSeq, format!("{number} CANCEL"));
    bench.send(ANNA, cancel);
    bench.response(ANNA, 200);
    bench.response(ANNA, 487);
    let cancel = bench.request(BEN, &Method::Cancel);
    bench.send(BEN, answer(&cancel, 200));
    bench.send(BEN, answer(&got, 487));
    bench.request(BEN, &Method::Ack);
    let cdr = bench.cdrs(1).pop().unwrap();
    assert_eq!(cdr.outcome, Some(Outcome::Cancelled));
}

#[test]
fn phones_that_use_a_machines_own_address_are_answered_from_the_survivors() {
    let mut bench = Bench::new();
    bench.at_own = true;
    let (invite, got) = bench.ring();
    bench.kill_active();
    bench.left_from.clear();
    bench.at_own = false;
    // What the survivor repeats by itself, and what follows.
    bench.wait(Duration::from_millis(600));
    bench.send(ANNA, bench::cancel(&invite));
    bench.send(BEN, answer(&got, 487));
    bench.wait(Duration::from_secs(2));
    let ours = |(who, local): &(usize, String)| *who == 1 && !local.starts_with("10.0.0.1:");
    assert!(bench.left_from.len() > 4, "{:?}", bench.left_from);
    assert!(bench.left_from.iter().all(ours), "{:?}", bench.left_from);
}

#[test]
fn nothing_leaves_before_the_twin_has_it() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.link_frozen = true;
    bench.send(BEN, ok(&got));
    assert!(bench.silent(ANNA), "the twin has not acknowledged");
    bench.link_frozen = false;
    bench.run();
    bench.response(ANNA, 200);
}

#[test]
fn a_twin_that_does_not_answer_delays_a_call_by_20_ms_at_most() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.link_frozen = true;
    bench.send(BEN, ok(&got));
    bench.wait(Duration::from_millis(19));
    assert!(bench.silent(ANNA));
    bench.wait(Duration::from_millis(1));
    bench.response(ANNA, 200);
    assert!(bench.facts.iter().any(|fact| fact.contains("UNPROTECTED")), "{:?}", bench.facts);
    bench.link_frozen = false;
    bench.run();
    assert!(bench.facts.last().unwrap().contains("protected: the twin has everything"));
}

#[test]
fn a_bye_repeated_after_the_takeover_is_answered_200() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    let bye = in_dialog(&invite, Method::Bye, &to, &target, 3);
    bench.send(ANNA, bye.clone());
    bench.sent.clear(); // The 200 is lost, and the server with it.
    bench.kill_active();
    bench.sent.clear();
    bench.send(ANNA, bye);
    bench.response(ANNA, 200);
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(1).len(), 1);
}

#[test]
fn the_passive_server_says_503_to_everything() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    for method in [Method::Register, Method::Invite, Method::Options, Method::Bye] {
        let request = request(method, "sip:example.com", ANNA, "anna", "anna", "x");
        let bytes = tandem_sip::Message::from(request).to_bytes();
        bench.input(1, Input::Bytes { flow: bench::flow(ANNA), bytes });
        let response = bench.response(ANNA, 503);
        assert!(response.headers.contains(&HeaderName::RetryAfter));
    }
}

#[test]
fn users_added_on_either_server_are_on_both() {
    let mut bench = Bench::new();
    let request = tandem_node::Request::UserAdd {
        name: "carl".into(),
        display: "Carl".into(),
        numbers: vec!["30".into()],
        password: None,
    };
    bench.input(1, Input::Admin { id: 9, request, by: String::from("root") });
    let Some(tandem_node::Reply::Done { password: Some(password) }) = bench.replies.pop() else {
        panic!("{:?}", bench.replies);
    };
    assert_eq!(password.len(), 24);
    for who in 0..2 {
        bench.input(
            who,
            Input::Admin {
                id: 10,
                request: tandem_node::Request::UserList,
                by: String::from("root"),
            },
        );
        let Some(tandem_node::Reply::Users { users }) = bench.replies.pop() else { panic!() };
        assert_eq!(users[0].name, "carl");
    }
    bench.kill_active();
    assert_eq!(bench.servers[1].node.status(bench.now).users, 1);
}

#[test]
fn a_phone_that_is_logged_in_is_reached_through_the_survivor_without_a_new_login() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(BEN, "ben");
    bench.kill_active();
    let mut invite = request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", "c1");
    invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    bench.request(BEN, &Method::Invite);
}

#[test]
fn a_copy_of_a_login_that_comes_to_the_twin_hears_the_same_answer() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    let register = request(Method::Register, "sip:example.com", ANNA, "anna", "anna", "r");
    let contact = format!("<sip:anna@{ANNA}>");
    let register = bench.prove(ANNA, "anna", register.with(HeaderName::Contact, contact));
    let heard = bench.response(ANNA, 200);
    bench.kill_active();
    bench.send(ANNA, register);
    let again = bench.response(ANNA, 200);
    assert_eq!(again.headers.get(&HeaderName::To), heard.headers.get(&HeaderName::To));
}

#[test]
fn a_hold_passes_through_and_its_acknowledgement_too() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    let hold = in_dialog(&invite, Method::Invite, &to, &target, 3)
        .with_body("application/sdp", "v=0 hold");
    bench.send(ANNA, hold);
    bench.response(ANNA, 100);
    bench.kill_active();
    bench.sent.clear();
    bench.wait(Duration::from_millis(600)); // Ben's copy is repeated if he did not answer.
    let hold = bench.request(BEN, &Method::Invite);
    assert_eq!(hold.body, b"v=0 hold");
    bench.send(BEN, ok(&hold));
    let held = bench.response(ANNA, 200);
    assert_eq!(held.body, b"v=0 ben");
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 3));
    bench.request(BEN, &Method::Ack);
}

#[test]
fn after_both_were_away_a_call_goes_on_and_logins_are_there() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.switch_off(0);
    bench.switch_off(1);
    bench.switch_on(1, Duration::from_secs(60));
    bench.crown(1);
    let status = bench.servers[1].node.status(bench.now);
    assert_eq!((status.calls, status.bindings, status.users), (1, 2, 2));
    bench.sent.clear();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    bench.request(BEN, &Method::Bye);
    // The other one comes back, has the old call on its disk, and learns better.
    bench.switch_on(0, Duration::from_secs(61));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(0).len(), 1);
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 0);
    assert!(bench.servers[0].node.status(bench.now).in_sync);
}

#[test]
fn a_login_that_ran_out_while_both_were_away_is_gone() {
    let mut bench = Bench::new();
    bench.add_user("ben", "20");
    bench.log_in(BEN, "ben");
    bench.switch_off(0);
    bench.switch_off(1);
    bench.switch_on(0, Duration::from_secs(3_601));
    bench.crown(0);
    assert_eq!(bench.servers[0].node.status(bench.now).bindings, 0);
}

#[test]
fn a_call_that_only_the_returning_server_knew_is_taken_over() {
    let mut bench = Bench::new();
    bench.switch_off(1);
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    // The machine that served alone goes away, the other comes up alone and serves.
    bench.switch_off(0);
    bench.switch_on(1, Duration::ZERO);
    bench.crown(1);
    assert_eq!(bench.servers[1].node.status(bench.now).calls, 0);
    bench.switch_on(0, Duration::from_secs(5));
    let status = bench.servers[1].node.status(bench.now);
    assert_eq!((status.calls, status.users, status.bindings), (1, 2, 2));
    bench.sent.clear();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    bench.request(BEN, &Method::Bye);
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(1).len(), 1);
}

#[test]
fn two_phones_of_one_user_ring_and_the_one_that_answers_through_the_survivor_has_the_call() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    let mut register =
        request(Method::Register, "sip:example.com", BEN_AT_HOME, "ben", "ben", "r2");
    register.headers.push(HeaderName::Contact, format!("<sip:ben@{BEN_AT_HOME}>"));
    bench.prove(BEN_AT_HOME, "ben", register);
    bench.response(BEN_AT_HOME, 200);
    let mut invite = request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", "c1");
    invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    let invite = bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    let at_work = bench.request(BEN, &Method::Invite);
    let at_home = bench.request(BEN_AT_HOME, &Method::Invite);
    bench.send(BEN, answer(&at_work, 180));
    bench.send(BEN_AT_HOME, answer(&at_home, 180));
    bench.kill_active();
    bench.sent.clear();
    bench.answer(&invite, &at_work);
    let cancel = bench.request(BEN_AT_HOME, &Method::Cancel);
    bench.send(BEN_AT_HOME, answer(&cancel, 200));
    bench.send(BEN_AT_HOME, answer(&at_home, 487));
    bench.request(BEN_AT_HOME, &Method::Ack);
}

#[test]
fn a_phone_that_answers_after_it_was_cancelled_is_hung_up() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let mut cancel = invite.clone();
    cancel.method = Method::Cancel;
    let (number, _) = invite.headers.cseq().unwrap();
    cancel.headers.set(HeaderName::CSeq, format!("{number} CANCEL"));
    bench.send(ANNA, cancel);
    assert_eq!(bench.all(ANNA), "200 487");
    bench.kill_active();
    bench.sent.clear();
    bench.send(BEN, ok(&got));
    let said = bench.all(BEN);
    assert!(said.contains("ACK") && said.contains("BYE"), "{said}");
    assert_eq!(bench.cdrs(1).len(), 1);
}

#[test]
fn a_wrong_password_is_refused_and_said_in_the_form_that_fail2ban_reads() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    let mut register = request(Method::Register, "sip:example.com", ANNA, "anna", "anna", "r1");
    register.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    bench.send(ANNA, register.clone());
    let challenged = bench.response(ANNA, 401);
    let ask = challenged.headers.challenges(&HeaderName::WwwAuthenticate).next().unwrap();
    let (method, uri) = (Method::Register, b"sip:example.com");
    let proof = tandem_sip::digest::respond(&ask, &method, uri, b"anna", b"guess", b"c", 1);
    register.headers.push(HeaderName::Authorization, proof.to_bytes());
    register.headers.set(HeaderName::CSeq, "2 REGISTER");
    register.headers.set(HeaderName::Via, format!("SIP/2.0/UDP {ANNA};branch=z9hG4bKother"));
    bench.send(ANNA, register);
    bench.response(ANNA, 401);
    let line = bench.facts.last().unwrap();
    assert!(line.contains("SecurityEvent=\"InvalidPassword\""), "{line}");
    assert!(line.contains("RemoteAddress=\"IPV4/UDP/10.0.1.1/5070\""), "{line}");
    assert_eq!(bench.servers[0].node.status(bench.now).bindings, 0);
}

#[test]
fn a_server_without_a_lease_is_silent() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.wait(Duration::from_secs(1_001));
    bench.send(ANNA, request(Method::Options, "sip:example.com", ANNA, "anna", "anna", "o1"));
    assert!(bench.silent(ANNA));
    assert!(bench.facts.iter().any(|fact| fact.contains("lease ran out")));
}

#[test]
fn nobody_calls_without_a_proof_or_in_another_name() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    let mut invite = request(Method::Invite, "sip:20@example.com", ANNA, "ben", "20", "c1");
    invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    // Anna proves to be Anna, and says she is Ben.
    bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 407);
    assert!(bench.cdrs(0).is_empty());
}

#[test]
fn nothing_is_called_saved_while_the_disk_cannot_be_written() {
    let mut bench = Bench::new();
    let add = |name: &str| tandem_node::Request::UserAdd {
        name: name.into(),
        display: String::new(),
        numbers: vec![],
        password: None,
    };
    bench.switch_off(1);
    bench.edits_frozen = true;
    bench.input(0, Input::Admin { id: 1, request: add("carl"), by: String::from("root") });
    assert!(bench.replies.is_empty(), "not saved yet");
    let (_, id) = bench.edits.pop().unwrap();
    bench.input(0, Input::Edited { id, result: Err("the disk is full".to_owned()) });
    let name = tandem_dialplan::UserName::parse("carl").unwrap();
    bench.input(0, Input::Changed(vec![tandem_node::Edit::User { name, account: None }]));
    assert_eq!(bench.servers[0].node.status(bench.now).users, 0, "as if it had not been asked");
    bench.input(0, Input::Disk(false));
    bench.input(0, Input::Admin { id: 2, request: add("dora"), by: String::from("root") });
    let whys: Vec<String> = bench.replies.iter().map(|reply| format!("{reply:?}")).collect();
    assert!(whys[0].contains("the disk is full"), "{whys:?}");
    assert!(whys[1].contains("nothing is changed until it can"), "{whys:?}");
    bench.input(0, Input::Disk(true));
    bench.edits_frozen = false;
    bench.replies.clear();
    bench.input(0, Input::Admin { id: 3, request: add("dora"), by: String::from("root") });
    assert!(matches!(bench.replies[0], tandem_node::Reply::Done { .. }));
}
