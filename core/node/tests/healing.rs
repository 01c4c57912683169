//! Both served while the two were apart; contact is back. One stays active, in a later reign; the
//! other follows it, whichever epoch was the higher one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, Bench, answer, in_dialog, ok};
use tandem_node::Input;
use tandem_sip::{HeaderName, Message, Method, Request, Uri};
use tandem_types::{Duration, Epoch, Role, Seat};

impl Bench {
    /// The two are apart, and so are their clocks: what the master takes for a fresh proof is old for the standby.
    fn with_clocks_apart() -> Self {
        let mut bench = Self::new();
        bench.add_users();
        bench.input(1, Input::Wall(1_700_003_600_000_000));
        bench.part();
        bench
    }

    /// The link is cut and the standby becomes active too.
    fn part(&mut self) {
        for who in 0..2 {
            self.input(who, Input::LinkDown);
        }
        let first = self.active;
        self.crown(1 - first);
    }

    fn epoch_of(&self, who: usize) -> Epoch {
        self.servers[who].node.status(self.now).epoch
    }

    /// The keeper's words after healing, in either order: `winner` has a new reign.
    fn heal(&mut self, winner: usize, winner_first: bool) {
        let loser = 1 - winner;
        let demote = |bench: &mut Self| {
            let epoch = bench.epoch_of(loser);
            let until = bench.now;
            bench.input(loser, Input::Lease { role: Role::Passive, epoch, until });
        };
        if !winner_first {
            demote(self);
        }
        self.crown(winner);
        if winner_first {
            demote(self);
        }
        self.wait(Duration::from_millis(200));
    }
}

#[test]
fn the_loser_follows_the_later_reign_of_the_winner_whoever_it_is() {
    for winner in 0..2 {
        for winner_first in [true, false] {
            for link_first in [true, false] {
                let mut bench = Bench::new();
                let (invite, got) = bench.ring();
                let (to, target) = bench.answer(&invite, &got);
                bench.part();
                if link_first {
                    bench.meet();
                    bench.heal(winner, winner_first);
                } else {
                    bench.heal(winner, winner_first);
                    bench.meet();
                }
                let case = format!("winner {winner}, {winner_first}, {link_first}");
                let (winning, losing) = (winner, 1 - winner);
                let status = bench.servers[winning].node.status(bench.now);
                assert!(status.serving && status.in_sync, "{case}: {status:?}");
                let status = bench.servers[losing].node.status(bench.now);
                assert_eq!(status.role, Role::Passive, "{case}");
                assert!(status.in_sync, "{case}: {status:?}");
                assert_eq!(status.calls, 1, "{case}");
                assert_eq!(bench.hot_keys(0), bench.hot_keys(1), "{case}");
                // And the loser can take over.
                bench.kill_active();
                bench.sent.clear();
                bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
                bench.response(ANNA, 200);
            }
        }
    }
}

#[test]
fn a_call_that_ended_at_the_loser_is_over_at_the_winner_and_has_one_record() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    bench.part();
    // The phones reach the standby only, and hang up there.
    bench.sent.clear();
    bench.active = 1;
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    bench.meet();
    bench.heal(0, true);
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 0);
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(0).len(), 1);
    assert_eq!(bench.cdrs(0)[0].ending, Some(tandem_call::Ending::Caller));
}

#[test]
fn a_caller_who_was_refused_at_the_loser_hears_the_same_at_the_winner() {
    let mut bench = Bench::new();
    let (_, got) = bench.ring();
    bench.part();
    bench.sent.clear();
    bench.active = 0;
    bench.send(BEN, answer(&got, 486));
    bench.sent.clear(); // The 486 does not reach Anna.
    bench.meet();
    bench.heal(1, true);
    let mut heard = Vec::new();
    while let Some(message) = bench.sent.get_mut(ANNA).and_then(|sent| sent.pop_front()) {
        match message {
            Message::Response(response) => heard.push(response.status),
            Message::Request(request) => panic!("{}", request.method),
        }
    }
    heard.retain(|status| *status >= 200);
    assert_eq!(heard.first(), Some(&486));
    assert!(heard.iter().all(|status| *status == 486), "{heard:?}");
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(1)[0].sip_status, 486);
}

#[test]
fn a_stray_call_of_a_machine_whose_clock_is_ahead_ends_no_earlier_than_it_began() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    bench.part();
    bench.active = 1;
    bench.input(1, Input::Wall(1_700_000_900_000_000));
    bench.ring_as(7);
    bench.meet();
    bench.heal(0, true);
    let cdr = bench.cdrs(0).pop().unwrap();
    assert_eq!(cdr.ending, Some(tandem_call::Ending::Failover));
    assert!(cdr.end >= Some(cdr.start) && cdr.end >= cdr.delivered, "{cdr:?}");
}

/// The two are apart, and Anna and Ben talk through the standby, which is to lose. Her INVITE, and the dialog.
fn talking_at_the_loser() -> (Bench, Request, (Vec<u8>, Uri)) {
    let mut bench = Bench::new();
    bench.add_users();
    bench.log_in(ANNA, "anna");
    bench.part();
    bench.active = 1;
    let (invite, got) = bench.ring_as(7);
    let dialog = bench.answer(&invite, &got);
    (bench, invite, dialog)
}

#[test]
fn a_call_that_only_the_loser_has_goes_on_and_leaves_nothing() {
    let (mut bench, invite, (to, target)) = talking_at_the_loser();
    bench.send(ANNA, in_dialog(&invite, Method::Info, &to, &target, 3));
    bench.meet();
    bench.heal(0, false);
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 1);
    bench.sent.clear();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 4));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    bench.wait(Duration::from_secs(100));
    for who in 0..2 {
        let keys = bench.hot_keys(who);
        assert!(keys.iter().all(|key| key.starts_with("aor/")), "{keys:?}");
    }
    assert_eq!(bench.servers[0].node.holdings(), tandem_node::Holdings::default());
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(0).len(), 1);
}

#[test]
fn a_call_that_only_the_loser_has_survives_the_death_of_a_winner_who_has_not_decided_on_it() {
    let (mut bench, invite, (to, target)) = talking_at_the_loser();
    // The winner's disk is slow to say whether the record of that call is closed there.
    bench.looks_frozen = true;
    bench.meet();
    bench.heal(0, false);
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 0);
    bench.switch_off(0);
    bench.looks_frozen = false;
    bench.switch_on(0, Duration::ZERO);
    bench.crown(0);
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.servers[0].node.status(bench.now).calls, 1);
    bench.sent.clear();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 4));
    bench.response(ANNA, 200);
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(0).len(), 1);
}

#[test]
fn what_a_store_could_not_look_up_is_asked_again_when_the_link_is_back() {
    let (mut bench, ..) = talking_at_the_loser();
    bench.looks_frozen = true;
    bench.meet();
    bench.heal(0, false);
    bench.looks_frozen = false;
    assert!(!bench.servers[0].node.status(bench.now).in_sync, "the twin would drop the call");
    for who in 0..2 {
        bench.input(who, Input::LinkDown);
    }
    bench.meet();
    let status = bench.servers[0].node.status(bench.now);
    assert_eq!((status.calls, status.in_sync), (1, true));
}

#[test]
fn a_later_reign_of_the_same_server_interrupts_nothing() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.link_frozen = true;
    bench.send(BEN, ok(&got));
    assert!(bench.silent(ANNA));
    bench.serves.clear();
    bench.crown(0);
    bench.link_frozen = false;
    bench.run();
    assert_eq!(bench.serves, Vec::<(usize, bool)>::new(), "the address is not given up");
    let answered = bench.response(ANNA, 200);
    let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
    let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 2));
    bench.request(BEN, &Method::Ack);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    let bye = bench.request(BEN, &Method::Bye);
    assert!(bye.headers.cseq().unwrap().0 < 100, "no leap: nothing was taken over");
    assert!(bench.servers[1].node.status(bench.now).in_sync);
    assert_eq!(bench.epoch_of(0), Epoch { number: 2, seat: Seat::Master });
}

#[test]
fn a_call_that_ended_at_the_winner_does_not_come_back_with_what_the_loser_had() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.part();
    // The standby hears Ben's phone ring on; the master hears Anna give up.
    let mut ringing = answer(&got, 183);
    ringing.headers.push(HeaderName::Contact, format!("<sip:ben@{BEN}>"));
    bench.active = 1;
    bench.send(BEN, ringing);
    bench.active = 0;
    bench.send(ANNA, bench::cancel(&invite));
    bench.send(BEN, answer(&got, 487));
    bench.wait(Duration::from_secs(1));
    bench.meet();
    bench.heal(0, true);
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(0)[0].outcome, Some(tandem_call::Outcome::Cancelled));
}

#[test]
fn a_call_that_ended_at_the_winner_stays_ended_also_when_the_winner_was_restarted_since() {
    for answered in [true, false] {
        let mut bench = Bench::new();
        let (invite, got) = bench.ring();
        let dialog = answered.then(|| bench.answer(&invite, &got));
        bench.part();
        // The standby writes something of the call that the master never has.
        bench.active = 1;
        match &dialog {
            Some((to, target)) => {
                bench.send(ANNA, in_dialog(&invite, Method::Info, to, target, 3));
            }
            None => bench.send(BEN, answer(&got, 183)),
        }
        bench.wait(Duration::from_secs(1));
        bench.active = 0;
        match &dialog {
            Some((to, target)) => bench.send(ANNA, in_dialog(&invite, Method::Bye, to, target, 4)),
            None => bench.send(ANNA, bench::cancel(&invite)),
        }
        bench.wait(Duration::from_secs(40));
        assert_eq!(bench.cdrs(0).len(), 1);
        bench.switch_off(0);
        bench.switch_off(1);
        bench.switch_on(0, Duration::from_secs(5));
        bench.crown(0);
        bench.switch_on(1, Duration::from_secs(5));
        bench.wait(Duration::from_secs(300));
        assert_eq!(bench.servers[0].node.status(bench.now).calls, 0, "{answered}");
        assert_eq!(bench.cdrs(0), bench.cdrs(1));
        let ending = bench.cdrs(0)[0].ending;
        assert_eq!((bench.cdrs(0).len(), ending), (1, Some(tandem_call::Ending::Caller)));
    }
}

/// The server that is alone takes the INVITE and dies before it says a word; the caller repeats it to
/// the twin, which has nothing of it.
fn taken_twice(before_return: impl Fn(&mut Bench, &tandem_sip::Request)) -> Bench {
    let mut bench = Bench::new();
    bench.add_users();
    bench.switch_off(1);
    let invite = bench.prove(ANNA, "anna", bench::invite());
    bench.switch_off(0);
    bench.switch_on(1, Duration::ZERO);
    bench.crown(1);
    bench.sent.clear();
    bench.send(ANNA, invite);
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    before_return(&mut bench, &got);
    bench.switch_on(0, Duration::from_secs(5));
    bench
}

#[test]
fn an_invite_that_a_dying_server_took_and_the_twin_takes_again_is_one_call() {
    let mut bench = taken_twice(|bench, got| bench.send(BEN, answer(got, 486)));
    bench.response(ANNA, 486);
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!((bench.cdrs(1).len(), bench.cdrs(1)[0].sip_status), (1, 486));
    // It is still ringing when the dead server is back.
    let mut bench = taken_twice(|_, _| ());
    bench.wait(Duration::from_millis(600));
    let again = bench.request(BEN, &Method::Invite);
    bench.send(BEN, answer(&again, 486));
    bench.response(ANNA, 486);
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(1).len(), 1);
}

#[test]
fn an_invite_taken_by_a_server_that_gave_up_its_role_is_taken_by_whoever_serves_next() {
    // By the other one, or by the same one in its next reign; before or after it was closed.
    for (winner, next) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut bench = Bench::new();
        bench.add_users();
        bench.part();
        let loser = 1 - winner;
        bench.active = loser;
        let invite = bench.prove(ANNA, "anna", bench::invite());
        bench.meet();
        bench.heal(winner, true);
        if next != winner {
            bench.kill_active();
        }
        bench.sent.clear();
        bench.send(ANNA, invite);
        bench.response(ANNA, 100);
        let got = bench.request(BEN, &Method::Invite);
        bench.send(BEN, answer(&got, 486));
        bench.response(ANNA, 486);
        let cdrs = bench.cdrs(next);
        assert_eq!((cdrs.len(), cdrs[0].sip_status), (1, 486), "{winner} {next}");
    }
}

#[test]
fn an_invite_like_an_earlier_one_with_a_new_proof_is_another_call() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    for _ in 0..2 {
        bench.prove(ANNA, "anna", bench::invite());
        bench.response(ANNA, 404);
        bench.wait(Duration::from_secs(40));
        bench.sent.clear();
    }
    assert_eq!(bench.cdrs(0).len(), 2);
}

#[test]
fn late_copies_of_an_invite_and_a_cancel_are_no_news_to_the_twin() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let cancel = bench::cancel(&invite);
    bench.send(ANNA, cancel.clone());
    let first = bench.response(ANNA, 200);
    let refused = bench.response(ANNA, 487);
    bench.send(BEN, answer(&got, 487));
    let mut ack = invite.clone();
    ack.method = Method::Ack;
    ack.body = Vec::new();
    ack.headers.set(HeaderName::CSeq, "2 ACK");
    ack.headers.set(HeaderName::To, refused.headers.get(&HeaderName::To).unwrap().to_vec());
    bench.send(ANNA, ack);
    bench.wait(Duration::from_secs(1));
    bench.kill_active();
    bench.sent.clear();
    bench.send(ANNA, invite);
    assert!(bench.silent(ANNA) && bench.silent(BEN));
    bench.send(ANNA, cancel);
    assert_eq!(bench.response(ANNA, 200), first);
    bench.wait(Duration::from_secs(40));
    assert_eq!(bench.cdrs(1).len(), 1);
    assert_eq!(bench.servers[1].node.holdings(), tandem_node::Holdings::default());
}

#[test]
fn a_server_whose_address_was_taken_away_closes_no_call_for_that() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    let mut invite = bench::request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", "c");
    invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
    bench.prove(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    // The INVITE is repeated, and nothing can be sent any more; then the keeper says why.
    bench.wait(Duration::from_millis(600));
    for _ in 0..2 {
        bench.input(0, Input::FlowFailed(bench::flow(BEN)));
    }
    bench.part();
    let (until, epoch) = (bench.now, bench.epoch_of(0));
    bench.input(0, Input::Lease { role: Role::Passive, epoch, until });
    assert_eq!(bench.cdrs(0), Vec::new());
    bench.sent.clear();
    bench.send(BEN, ok(&got));
    bench.response(ANNA, 200);
}

#[test]
fn a_call_that_was_answered_at_the_winner_and_hung_up_at_the_loser_has_a_record_of_its_answer() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.part();
    // The standby hears Ben answer; his BYE reaches the master, where the call still rings.
    bench.sent.clear();
    bench.answer(&invite, &got);
    bench.active = 0;
    let branch = format!("SIP/2.0/UDP {BEN};rport;branch=z9hG4bKleaves");
    let from = answer(&got, 180).headers.get(&HeaderName::To).unwrap().to_vec();
    let bye = tandem_sip::Request::new(Method::Bye, got.uri.clone())
        .with(HeaderName::Via, branch)
        .with(HeaderName::MaxForwards, "70")
        .with(HeaderName::From, from)
        .with(HeaderName::To, got.headers.get(&HeaderName::From).unwrap().to_vec())
        .with(HeaderName::CallId, got.headers.call_id().unwrap().to_vec())
        .with(HeaderName::CSeq, "1 BYE");
    bench.sent.clear();
    bench.send(BEN, bye);
    assert!(bench.all(BEN).contains("200"));
    assert_eq!(bench.cdrs(0)[0].connect, None, "the master knows no better");
    bench.sent.clear();
    bench.meet();
    bench.heal(1, true);
    assert!(bench.all(ANNA).contains("BYE"), "she is told that it is over");
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    let cdr = bench.cdrs(1).pop().unwrap();
    assert_eq!(bench.cdrs(1).len(), 1);
    assert!(cdr.connect.is_some() && cdr.connect <= cdr.end, "{cdr:?}");
    assert_eq!(cdr.outcome, Some(tandem_call::Outcome::Answered));
    assert_eq!(cdr.ending, Some(tandem_call::Ending::Callee));
}

#[test]
fn a_caller_who_must_prove_himself_anew_to_the_twin_goes_on_with_the_same_call() {
    // The clocks are far apart: what the master takes for a fresh proof is old for the standby.
    let mut bench = Bench::with_clocks_apart();
    bench.active = 0;
    let invite = bench.prove(ANNA, "anna", bench::invite());
    // Nothing of what the master says arrives. Anna repeats her INVITE, which reaches the standby.
    bench.sent.clear();
    bench.active = 1;
    bench.send(ANNA, invite.clone());
    bench.prove_again(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    bench.send(BEN, answer(&got, 486));
    bench.response(ANNA, 486);
    bench.meet();
    bench.heal(0, true);
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!((bench.cdrs(0).len(), bench.cdrs(0)[0].sip_status), (1, 486));
}

#[test]
fn a_caller_whom_both_servers_ask_in_turn_for_a_newer_proof_begins_one_call() {
    let mut bench = Bench::with_clocks_apart();
    let invite = bench::invite();
    bench.active = 0;
    bench.send(ANNA, invite.clone());
    // Her proof reaches the standby, which asks for a newer one and takes the call. Nothing more of it arrives.
    bench.active = 1;
    let invite = bench.prove_again(ANNA, "anna", invite);
    let invite = bench.prove_again(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    bench.sent.clear();
    // She repeats it to the master, which asks for a newer proof too.
    bench.active = 0;
    bench.send(ANNA, invite.clone());
    bench.prove_again(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    bench.meet();
    bench.heal(1, true);
    bench.wait(Duration::from_secs(250));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    assert_eq!(bench.cdrs(0).len(), 1, "{:#?}", bench.cdrs(0));
}

#[test]
fn a_late_copy_of_an_invite_whose_caller_was_asked_for_a_newer_proof_is_no_news_to_his_call() {
    let mut bench = Bench::with_clocks_apart();
    let invite = bench::invite();
    bench.active = 0;
    bench.send(ANNA, invite.clone());
    // For the standby her proof is too old, and what it asks her for is none to the master.
    bench.active = 1;
    let late = bench.prove_again(ANNA, "anna", invite);
    bench.active = 0;
    let invite = bench.prove_again(ANNA, "anna", late.clone());
    bench.prove_again(ANNA, "anna", invite);
    bench.response(ANNA, 100);
    let got = bench.request(BEN, &Method::Invite);
    bench.send(ANNA, late);
    bench.response(ANNA, 407);
    assert!(bench.silent(BEN), "{}", bench.all(BEN));
    bench.send(BEN, answer(&got, 486));
    bench.response(ANNA, 486);
    assert_eq!((bench.cdrs(0).len(), bench.cdrs(0)[0].sip_status), (1, 486));
}

#[test]
fn a_caller_who_was_answered_by_a_server_that_is_gone_is_not_refused_again_and_again_by_its_twin() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.part();
    // The master alone hears Ben answer. The standby hears his phone refuse, and says so.
    bench.sent.clear();
    bench.active = 0;
    let (to, target) = bench.answer(&invite, &got);
    bench.active = 1;
    bench.sent.clear();
    bench.send(BEN, answer(&got, 486));
    bench.response(ANNA, 486);
    bench.send(ANNA, in_dialog(&invite, Method::Ack, &to, &target, 2));
    bench.wait(Duration::from_secs(40));
    assert!(bench.silent(ANNA), "{}", bench.all(ANNA));
}

#[test]
fn a_call_that_was_hung_up_at_a_loser_who_knew_nothing_of_it_is_asked_after_soon_and_ends() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    bench.part();
    bench.active = 0;
    let (invite, got) = bench.ring_as(1);
    let (to, target) = bench.answer(&invite, &got);
    // She hangs up and calls again, both at the standby.
    bench.active = 1;
    bench.sent.clear();
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 481);
    let (_, got) = bench.ring_as(2);
    bench.send(BEN, answer(&got, 486));
    bench.response(ANNA, 486);
    bench.meet();
    bench.heal(0, true);
    bench.sent.clear();
    for _ in 0..61 {
        if bench.silent(ANNA) {
            bench.wait(Duration::from_secs(1));
        }
    }
    let asked = bench.request(ANNA, &Method::Options);
    bench.send(ANNA, answer(&asked, 481));
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    let endings: Vec<_> = bench.cdrs(0).iter().map(|cdr| cdr.ending).collect();
    assert!(
        endings.contains(&Some(tandem_call::Ending::Lost)) && endings.len() == 2,
        "{endings:?}"
    );
}

#[test]
fn a_call_that_was_answered_at_the_winner_and_hung_up_by_its_caller_at_the_loser_says_so() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.part();
    bench.sent.clear();
    let (to, target) = bench.answer(&invite, &got);
    bench.active = 0;
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    bench.meet();
    bench.heal(1, true);
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
    let cdr = bench.cdrs(1).pop().unwrap();
    assert_eq!(bench.cdrs(1).len(), 1);
    assert_eq!(cdr.outcome, Some(tandem_call::Outcome::Answered));
    assert_eq!(cdr.ending, Some(tandem_call::Ending::Caller));
}
