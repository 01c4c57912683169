//! What an administrator asks for at the passive server is answered by whoever serves, also where
//! the active one goes away amid it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::Bench;
use tandem_dialplan::{Account, Credentials, DisplayName, Edit, Number, User, UserName};
use tandem_node::{Input, Reply, Request};
use tandem_sip::digest::Ha1;
use tandem_types::{Duration, Role};

/// Shorter than a question waits.
const A_MOMENT: Duration = Duration::from_secs(4);

fn add(name: &str) -> Request {
    Request::UserAdd {
        name: name.into(),
        display: String::new(),
        numbers: vec!["30".into()],
        password: Some("correct horse battery".into()),
    }
}

fn account(name: &str) -> Account {
    let (md5, sha256) =
        Ha1::new(name.as_bytes(), b"example.com", b"correct horse battery").hashes();
    let user = User {
        name: UserName::parse(name).unwrap(),
        display: DisplayName::parse(name).unwrap(),
        numbers: vec![Number::parse("30").unwrap()],
        enabled: true,
    };
    Account { user, credentials: Credentials { md5, sha256 } }
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
        self.link_frozen = false;
    }

    fn users(&self, who: usize) -> usize {
        self.servers[who].node.status(self.now).users
    }
}

#[test]
fn a_request_the_dead_server_did_not_get_is_done_by_the_one_that_takes_over() {
    for link_is_known_to_be_down in [true, false] {
        let mut bench = Bench::new();
        bench.link_frozen = true;
        bench.ask(add("carl"));
        bench.ask(Request::UserList);
        assert!(bench.replies.is_empty());
        if link_is_known_to_be_down {
            bench.kill_active();
        } else {
            bench.servers[0].alive = false;
            bench.crown(1);
            assert!(bench.replies.is_empty(), "it may still answer");
            bench.wait(Duration::from_millis(150));
        }
        let users = bench.replies.pop();
        assert!(matches!(&users, Some(Reply::Users { users }) if users.len() == 1), "{users:?}");
        bench.done();
        assert_eq!(bench.authors, ["root"]);
        assert_eq!(bench.users(1), 1);
    }
}

#[test]
fn a_request_that_was_done_before_the_server_died_is_refused_by_the_next_with_the_reason() {
    let mut bench = Bench::new();
    bench.edits_frozen = true;
    bench.ask(add("carl"));
    // It is on both disks, and the answer is not on its way yet.
    let here =
        Edit::User { name: UserName::parse("carl").unwrap(), account: Some(account("carl")) };
    bench.input(1, Input::Changed(vec![here]));
    bench.kill_active();
    let why = bench.refused();
    assert!(why.contains("it may be done"), "{why}");
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
fn a_refusal_by_a_later_life_of_the_twin_says_that_it_may_be_done() {
    let mut bench = Bench::new();
    bench.edits_frozen = true;
    bench.ask(add("carl"));
    bench.edits_frozen = false;
    // It comes back with what its disk has, and with no memory of what it was asked.
    bench.switch_off(0);
    bench.switch_on(0, Duration::ZERO);
    assert!(bench.replies.is_empty(), "it does not serve yet");
    let here =
        Edit::User { name: UserName::parse("carl").unwrap(), account: Some(account("carl")) };
    bench.input(0, Input::Changed(vec![here]));
    bench.crown(0);
    let why = bench.refused();
    assert!(why.contains("it may be done"), "{why}");
}

#[test]
fn a_request_made_while_the_active_server_pauses_is_done_when_it_serves_again() {
    let mut bench = Bench::new();
    // The keeper is silent until the lease has run out.
    bench.wait(Duration::from_secs(1_001));
    assert!(!bench.servers[0].node.status(bench.now).serving);
    for who in 0..2 {
        let by = String::from("root");
        bench.input(who, Input::Admin { id: 5, request: Request::EmergencyList, by });
    }
    assert!(bench.replies.is_empty());
    bench.renew();
    bench.wait(Duration::from_millis(100));
    let replies = std::mem::take(&mut bench.replies);
    assert!(
        matches!(replies[..], [Reply::Emergency { .. }, Reply::Emergency { .. }]),
        "{replies:?}"
    );
}

#[test]
fn what_the_server_that_was_active_is_doing_is_not_done_again_by_one_that_took_over_from_it() {
    let mut bench = Bench::new();
    bench.edits_frozen = true;
    bench.ask(add("carl"));
    // By force: nothing was handed over.
    bench.crown(1);
    bench.wait(Duration::from_millis(50));
    let (until, epoch) = (bench.now, bench.epoch);
    bench.input(0, Input::Lease { role: Role::Passive, epoch, until });
    bench.wait(A_MOMENT);
    assert!(bench.replies.is_empty());
    bench.finish_edit();
    bench.done();
    assert!(bench.edits.is_empty(), "done once");
}

#[test]
fn a_server_that_stood_still_does_nothing_for_which_nobody_waits_any_more() {
    let mut bench = Bench::new();
    bench.switch_off(0);
    bench.ask(add("carl"));
    bench.now = bench.now + A_MOMENT + A_MOMENT;
    bench.crown(1);
    let why = bench.refused();
    assert!(why.contains("cannot reach the active one"), "{why}");
    assert_eq!(bench.users(1), 0);
}

#[test]
fn nothing_is_done_for_which_nobody_waits_any_more() {
    let mut bench = Bench::new();
    bench.edits_frozen = true;
    bench.ask(add("carl"));
    // A link that comes and goes gives it no more time.
    for _ in 0..4 {
        bench.wait(Duration::from_millis(1_200));
        bench.part();
        assert!(bench.replies.is_empty());
        bench.meet();
    }
    bench.wait(Duration::from_millis(300));
    let why = bench.refused();
    assert!(why.contains("whether it was done shows there"), "{why}");
    assert_eq!(bench.edits.len(), 1);
    bench.kill_active();
    assert!(bench.replies.is_empty());
    assert_eq!((bench.edits.len(), bench.users(1)), (1, 0));
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
    for first in 0..2 {
        let mut bench = Bench::new();
        let (until, epoch) = (bench.now, bench.epoch);
        bench.input(0, Input::Lease { role: Role::Passive, epoch, until });
        bench.ask(add("carl"));
        bench.wait(A_MOMENT);
        assert!(bench.replies.is_empty());
        bench.crown(first);
        bench.done();
    }
    let mut bench = Bench::new();
    let (until, epoch) = (bench.now, bench.epoch);
    bench.input(0, Input::Lease { role: Role::Passive, epoch, until });
    bench.ask(add("carl"));
    bench.wait(A_MOMENT);
    bench.ask(add("dora"));
    bench.wait(A_MOMENT);
    let why = bench.refused();
    assert!(why.contains("cannot reach the active one"), "{why}");
    assert!(bench.replies.is_empty(), "the younger one waits on");
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
