//! Blocks on new logins and new calls: what is there goes on, what is new is told to come back,
//! emergency calls pass, and both servers know.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, BEN_AT_HOME, Bench, answer, in_dialog, request};
use tandem_call::{Ending, Outcome};
use tandem_node::{
    BLOCK_REASON_MAX, BlockRow, Blockable, EmergencyRow, Input, REFUSED_PAUSE, Reply, Request,
};
use tandem_sip::{HeaderName, Method};
use tandem_types::Duration;

impl Bench {
    fn ask(&mut self, who: usize, request: Request) -> Reply {
        self.input(who, Input::Admin { id: 5, request, by: String::from("root") });
        self.replies.pop().expect("an answer")
    }

    #[track_caller]
    fn done(&mut self, who: usize, request: Request) {
        assert_eq!(self.ask(who, request), Reply::Done { password: None });
    }

    fn block(&mut self, what: Blockable, seconds: Option<u64>) {
        let reason = String::from("a \"new\" roof");
        let who = self.active;
        self.done(who, Request::Block { what, reason, seconds });
    }

    fn blocks(&mut self, who: usize) -> Vec<BlockRow> {
        let reply = self.ask(who, Request::BlockList { here: true });
        let Reply::Blocks { blocks } = reply else { panic!("{reply:?}") };
        blocks
    }

    /// Anna's proven INVITE.
    fn call(&mut self, number: &str, id: &str) -> tandem_sip::Request {
        let uri = format!("sip:{number}@example.com");
        let mut invite = request(Method::Invite, &uri, ANNA, "anna", number, id);
        invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
        self.prove(ANNA, "anna", invite)
    }

    fn has_fact(&self, what: &str) -> bool {
        self.facts.iter().any(|fact| fact.contains(what))
    }

    fn everybody(&mut self) {
        self.add_user("anna", "10");
        self.add_user("ben", "20");
        self.log_in(ANNA, "anna");
        self.log_in(BEN, "ben");
    }
}

fn register(phone: &str, user: &str, id: &str, expires: u32) -> tandem_sip::Request {
    let contact = format!("<sip:{user}@{phone}>;expires={expires}");
    request(Method::Register, "sip:example.com", phone, user, user, id)
        .with(HeaderName::Contact, contact)
}

#[test]
fn a_device_that_is_logged_in_renews_and_logs_out_and_a_new_one_is_told_to_come_back() {
    let mut bench = Bench::new();
    bench.everybody();
    bench.block(Blockable::Logins, None);
    bench.prove(ANNA, "anna", register(ANNA, "anna", "again", 600));
    bench.response(ANNA, 200);
    bench.prove(BEN_AT_HOME, "ben", register(BEN_AT_HOME, "ben", "home", 600));
    let refused = bench.response(BEN_AT_HOME, 503);
    let seconds = refused.headers.get(&HeaderName::RetryAfter).unwrap();
    assert!(matches!(seconds, b"1" | b"2"));
    let warning = refused.headers.get(&HeaderName::Warning).unwrap();
    let said = "399 Tandem \"new logins are blocked: a \\\"new\\\" roof\"";
    assert_eq!(String::from_utf8_lossy(warning), said);
    assert!(
        bench.has_fact("ben refused at udp:10.0.1.3:5070: new logins are blocked (a \"new\" roof)"),
        "{:?}",
        bench.facts
    );
    assert_eq!(bench.blocks(0)[0].refused, 1);
    bench.prove(BEN, "ben", register(BEN, "ben", "out", 0));
    bench.response(BEN, 200);
    bench.done(1, Request::Unblock { what: Blockable::Logins });
    bench.log_in_as(BEN_AT_HOME, "ben", 9);
    assert!(bench.has_fact("new logins are no longer blocked"));
}

#[test]
fn a_wrong_password_learns_nothing_of_a_block() {
    let mut bench = Bench::new();
    bench.everybody();
    bench.block(Blockable::Logins, None);
    bench.prove(BEN_AT_HOME, "anna", register(BEN_AT_HOME, "ben", "x", 600));
    bench.response(BEN_AT_HOME, 401);
    bench.send(BEN_AT_HOME, register(BEN_AT_HOME, "ben", "y", 600));
    bench.response(BEN_AT_HOME, 401);
}

#[test]
fn calls_that_are_up_go_on_and_a_new_one_is_refused_and_has_a_record() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.block(Blockable::Calls, None);
    let (to, target) = bench.answer(&invite, &got);
    bench.call("20", "new");
    let refused = bench.response(ANNA, 503);
    assert!(refused.headers.contains(&HeaderName::RetryAfter));
    assert_eq!(refused.headers.get(&HeaderName::Reason), Some(&b"Q.850;cause=41"[..]));
    assert!(bench.silent(BEN));
    let cdr = bench.cdrs(1).pop().unwrap();
    assert_eq!((cdr.outcome, cdr.ending), (Some(Outcome::Refused), Some(Ending::Server)));
    assert_eq!((cdr.sip_status, cdr.q850_cause), (503, 41));
    assert!(bench.has_fact("refused, new calls are blocked (a \"new\" roof)"));
    bench.send(ANNA, in_dialog(&invite, Method::Info, &to, &target, 3));
    let info = bench.request(BEN, &Method::Info);
    bench.send(BEN, answer(&info, 200));
    bench.response(ANNA, 200);
}

#[test]
fn emergency_calls_pass_both_blocks_whether_logged_in_or_not() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(BEN, "ben");
    let who = bench.active;
    let set = |to: &str| Request::EmergencySet { numbers: None, to: Some(to.into()) };
    let refused = bench.ask(who, set("dora"));
    assert!(matches!(refused, Reply::Refused { why } if why.contains("\"dora\"")));
    bench.done(1, set("ben"));
    bench.block(Blockable::Logins, None);
    bench.block(Blockable::Calls, None);
    bench.call("112", "help");
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    assert!(
        String::from_utf8_lossy(got.headers.get(&HeaderName::To).unwrap()).contains("sip:112@")
    );
    bench.kill_active();
    bench.sent.clear();
    bench.call("110", "help-again");
    bench.response(ANNA, 100);
    bench.request(BEN, &Method::Invite);
    let Reply::Emergency { numbers, to } = bench.ask(1, Request::EmergencyList) else { panic!() };
    let row = |number: &str| EmergencyRow { number: number.into(), rings: Some("ben".into()) };
    assert_eq!((numbers, to.as_deref()), (vec![row("110"), row("112")], Some("ben")));
}

#[test]
fn a_block_is_on_both_servers_and_outlives_both() {
    let mut bench = Bench::new();
    bench.everybody();
    bench.done(1, Request::Block { what: Blockable::Calls, reason: String::new(), seconds: None });
    let mut there = bench.blocks(1);
    bench.kill_active();
    bench.call("20", "a");
    bench.response(ANNA, 503);
    bench.switch_off(1);
    bench.switch_on(0, Duration::from_secs(60));
    bench.crown(0);
    bench.sent.clear();
    bench.call("20", "b");
    bench.response(ANNA, 503);
    bench.switch_on(1, Duration::from_secs(61));
    there[0].refused = 1;
    assert_eq!(bench.blocks(0), there);
    bench.done(0, Request::Unblock { what: Blockable::Calls });
    for who in 0..2 {
        assert_eq!(bench.blocks(who), []);
    }
    bench.call("20", "c");
    bench.response(ANNA, 100);
}

#[test]
fn how_many_a_block_refused_is_counted_by_both_and_survives_both() {
    let mut bench = Bench::new();
    bench.everybody();
    bench.block(Blockable::Calls, None);
    for (id, refused) in [("a", 1), ("b", 2)] {
        bench.call("20", id);
        bench.response(ANNA, 503);
        assert_eq!((bench.blocks(0)[0].refused, bench.blocks(1)[0].refused), (refused, 0));
    }
    bench.wait(REFUSED_PAUSE);
    assert_eq!((bench.blocks(0)[0].refused, bench.blocks(1)[0].refused), (2, 2));
    bench.kill_active();
    bench.sent.clear();
    bench.call("20", "c");
    bench.response(ANNA, 503);
    assert_eq!(bench.blocks(1)[0].refused, 3);
    bench.wait(REFUSED_PAUSE);
    bench.switch_off(1);
    bench.switch_on(1, Duration::from_secs(60));
    bench.crown(1);
    assert_eq!(bench.blocks(1)[0].refused, 3);
    bench.done(1, Request::Unblock { what: Blockable::Calls });
    assert!(
        bench
            .has_fact("new calls are no longer blocked: ended by an administrator; 3 were refused"),
        "{:?}",
        bench.facts
    );
    // The next one begins with nobody.
    bench.wait(Duration::from_secs(1));
    bench.block(Blockable::Calls, None);
    assert_eq!(bench.blocks(1)[0].refused, 0);
}

#[test]
fn a_block_ends_when_its_time_is_over_also_while_both_are_away() {
    let mut bench = Bench::new();
    bench.everybody();
    bench.block(Blockable::Calls, Some(120));
    bench.block(Blockable::Logins, Some(600));
    bench.wait(Duration::from_secs(60));
    let seconds: Vec<_> = bench.blocks(1).iter().map(|block| block.seconds_left).collect();
    assert_eq!(seconds, [Some(540), Some(60)]);
    bench.call("20", "a");
    bench.response(ANNA, 503);
    bench.wait(Duration::from_secs(60));
    assert!(bench.has_fact("new calls are no longer blocked: its time is over; 1 were refused"));
    bench.sent.clear();
    bench.call("20", "b");
    bench.response(ANNA, 100);
    for who in 0..2 {
        assert_eq!(bench.blocks(who).len(), 1);
        bench.switch_off(who);
    }
    bench.switch_on(1, Duration::from_secs(601));
    bench.crown(1);
    assert_eq!(bench.blocks(1), []);
    bench.sent.clear();
    bench.log_in_as(BEN_AT_HOME, "ben", 3);
}

#[test]
fn a_block_is_named_with_its_limits() {
    let mut bench = Bench::new();
    let block = |letters: usize, seconds| Request::Block {
        what: Blockable::Calls,
        reason: "x".repeat(letters),
        seconds,
    };
    bench.done(0, block(BLOCK_REASON_MAX, Some(30 * 86_400)));
    for (request, why) in [
        (block(BLOCK_REASON_MAX + 1, None), "reason: expected at most 120 letters, in one line"),
        (block(1, Some(0)), "for: expected 1 second to 30 days"),
        (block(1, Some(30 * 86_400 + 1)), "for: expected 1 second to 30 days"),
    ] {
        assert_eq!(bench.ask(0, request), Reply::Refused { why: why.into() });
    }
    let what = Blockable::Logins;
    let refused =
        bench.ask(0, Request::Block { what, reason: "a\r\nVia: x".into(), seconds: None });
    assert!(matches!(refused, Reply::Refused { .. }));
}
