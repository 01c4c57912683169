//! What an administrator asks for at the passive server is answered by whoever serves, also where
//! the active one goes away amid it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::Bench;
use tandem_node::{Input, Reply, Request};
use tandem_types::{Duration, Role};

/// Shorter than a question waits.
const A_MOMENT: Duration = Duration::from_millis(1_500);

fn add(name: &str) -> Request {
    Request::UserAdd {
        name: name.into(),
        display: String::new(),
        numbers: vec!["30".into()],
        password: Some("correct horse battery".into()),
    }
}

impl Bench {
    /// Asks the passive server.
    fn ask(&mut self, request: Request) {
        let passive = 1 - self.active;
        self.input(passive, Input::Admin { id: 5, request, by: String::from("root") });
    }

    #[track_caller]
    fn refused(&mut self) -> String {
        match self.replies.pop() {
            Some(Reply::Refused { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn done(&mut self) {
        assert_eq!(self.replies.pop(), Some(Reply::Done { password: None }));
        assert!(self.replies.is_empty(), "answered once");
    }

    /// The one edit that was ordered is on the disk.
    #[track_caller]
    fn finish_edit(&mut self) {
        let (who, id) = self.edits.pop().unwrap();
        self.input(who, Input::Edited { id, result: Ok(()) });
    }

    /// The link is cut; what was on its way is lost.
    fn part(&mut self) {
        for who in 0..2 {
            self.servers[who].frames.clear();
            self.input(who, Input::LinkDown);
            self.servers[who].frames.clear();
        }
    }

    fn meet(&mut self) {
        self.link_frozen = false;
        let now = self.now;
        self.servers.iter_mut().for_each(|server| server.node.handle(now, Input::LinkUp));
        self.run();
    }

    fn users(&self, who: usize) -> usize {
        self.servers[who].node.status(self.now).users
    }
}

#[test]
fn a_request_the_dead_server_did_not_get_is_done_by_the_one_that_takes_over() {
    let mut bench = Bench::new();
    bench.link_frozen = true;
    bench.ask(add("carl"));
    bench.ask(Request::UserList);
    assert!(bench.replies.is_empty());
    bench.kill_active();
    let users = bench.replies.pop();
    assert!(matches!(&users, Some(Reply::Users { users }) if users.len() == 1), "{users:?}");
    bench.done();
    assert_eq!(bench.authors.last().map(String::as_str), Some("root"));
    assert_eq!(bench.users(1), 1);
}

#[test]
fn a_request_that_was_done_before_the_server_died_is_refused_by_the_next_with_the_reason() {
    let mut bench = Bench::new();
    bench.ask(add("carl"));
    bench.done();
    // The same again: the twin has it already, and this answer of the dead server is lost.
    bench.link_frozen = true;
    bench.ask(add("carl"));
    bench.kill_active();
    let why = bench.refused();
    assert!(why.contains("may have done it"), "{why}");
    assert_eq!(bench.users(1), 1);
}

#[test]
fn a_request_made_while_the_link_is_cut_is_done_after_the_takeover() {
    let mut bench = Bench::new();
    bench.switch_off(0);
    bench.ask(add("carl"));
    bench.wait(A_MOMENT);
    assert!(bench.replies.is_empty());
    bench.crown(1);
    bench.done();
}

#[test]
fn a_request_made_while_the_link_is_cut_is_sent_when_it_is_back() {
    let mut bench = Bench::new();
    bench.part();
    bench.ask(add("carl"));
    assert!(bench.replies.is_empty());
    bench.meet();
    bench.done();
    assert_eq!((bench.users(0), bench.users(1)), (1, 1));
    bench.wait(A_MOMENT + A_MOMENT);
    assert!(bench.replies.is_empty(), "answered once");
}

#[test]
fn a_request_that_is_lost_with_the_link_is_asked_again_and_done_once() {
    for lost in ["question", "answer", "nothing: it is being done"] {
        let mut bench = Bench::new();
        bench.edits_frozen = true;
        bench.link_frozen = lost == "question";
        bench.ask(Request::UserAdd {
            name: "carl".into(),
            display: String::new(),
            numbers: vec!["30".into()],
            password: None,
        });
        if lost == "answer" {
            bench.link_frozen = true;
            bench.finish_edit();
        }
        bench.part();
        assert!(bench.replies.is_empty());
        bench.meet();
        if lost != "answer" {
            bench.finish_edit();
        }
        let made = bench.replies.pop();
        assert!(matches!(made, Some(Reply::Done { password: Some(_) })), "{lost}: {made:?}");
        assert!(bench.replies.is_empty(), "{lost}: answered once");
        assert!(bench.edits.is_empty(), "{lost}: done once");
    }
}

#[test]
fn a_refusal_says_where_an_earlier_life_of_the_twin_may_have_done_it() {
    let mut bench = Bench::new();
    bench.edits_frozen = true;
    bench.ask(add("carl"));
    bench.part();
    // It comes back with what its disk has, and with no memory of what it was asked.
    bench.edits_frozen = false;
    let active = bench.active;
    bench.switch_off(active);
    bench.switch_on(active, Duration::ZERO);
    bench.crown(active);
    bench.add_user("carl", "30");
    bench.ask(add("carl"));
    bench.meet();
    let whys = [bench.refused(), bench.refused()];
    assert!(whys[1].contains("may have done it"), "{whys:?}");
    assert!(!whys[0].contains("may have done it"), "{whys:?}");
}

#[test]
fn where_nobody_comes_the_administrator_is_told_soon() {
    let mut bench = Bench::new();
    bench.link_frozen = true;
    bench.ask(add("carl"));
    bench.switch_off(0);
    bench.ask(add("dora"));
    bench.ask(Request::UserList);
    let users = bench.replies.pop();
    assert!(matches!(users, Some(Reply::Users { .. })), "what is known here waits for nobody");
    bench.wait(A_MOMENT);
    assert!(bench.replies.is_empty());
    bench.wait(A_MOMENT);
    let dora = bench.refused();
    assert!(dora.contains("cannot reach the active one"), "{dora}");
    let carl = bench.refused();
    assert!(carl.contains("whether it was done shows there"), "{carl}");
    // Not done later, when nobody waits for it any more.
    bench.crown(1);
    assert!(bench.replies.is_empty());
    assert_eq!(bench.users(1), 0);
}

#[test]
fn a_request_that_meets_two_passive_servers_is_done_by_the_first_that_takes_over() {
    let mut bench = Bench::new();
    let (until, epoch) = (bench.now, bench.epoch);
    bench.input(0, Input::Lease { role: Role::Passive, epoch, until });
    bench.ask(add("carl"));
    assert!(bench.replies.is_empty());
    bench.crown(1);
    bench.done();
    bench.input(1, Input::Lease { role: Role::Passive, epoch, until });
    bench.ask(add("dora"));
    bench.wait(A_MOMENT + A_MOMENT);
    let why = bench.refused();
    assert!(why.contains("cannot reach the active one"), "{why}");
}

#[test]
fn more_questions_than_can_wait_are_refused() {
    let mut bench = Bench::new();
    bench.switch_off(0);
    for number in 0..64 {
        bench.ask(add(&format!("user{number}")));
    }
    assert!(bench.replies.is_empty());
    bench.ask(add("onemore"));
    let why = bench.refused();
    assert!(why.contains("too many requests"), "{why}");
}
