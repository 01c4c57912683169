//! Nothing stays behind: after any kind of call, and the time in which a late message may come,
//! neither server holds anything of it, in memory or in the journal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, Bench, answer, cancel, in_dialog, ok, request};
use tandem_node::{Holdings, Input};
use tandem_sip::{HeaderName, Method, Request, Uri};
use tandem_types::Duration;

#[test]
fn a_call_costs_few_entries() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    let before = bench.servers[0].entries;
    let (invite, got) = bench.ring_as(0);
    bench.wait(Duration::from_secs(3));
    let (to, target) = bench.answer(&invite, &got);
    bench.wait(Duration::from_secs(60));
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    bench.wait(Duration::from_secs(60));
    let after = bench.servers[0].entries;
    let (entries, bytes) = (after.0 - before.0, after.1 - before.1);
    println!("a call: {entries} entries, {bytes} bytes");
    assert!(entries <= 9, "{entries} entries");
}

/// The ways a call can go.
const KINDS: usize = 13;

impl Bench {
    /// A call of one kind, as far as it goes by itself.
    fn call_of_kind(&mut self, kind: usize, number: u32) {
        self.renew();
        self.sent.clear();
        match kind {
            0 => self.talk(number, |_, _, _, _| {}),
            1 => self.cancelled(number),
            2 => self.refused(number, 603),
            3 => self.refused(number, 486),
            4 => self.unheard(number),
            5 => drop(self.ring_as(number)),
            6 => self.failed_flow(number),
            7 => self.talk(number, Self::hold),
            8 => self.talk(number, Self::hold_that_nobody_answers),
            9 => self.early_bye(number),
            10 => self.nowhere(number, "sip:99@example.com", 404),
            11 => self.nowhere(number, "sip:30@example.com", 480),
            _ => self.never_acknowledged(number),
        }
        self.sent.clear();
    }

    /// Ben's phone says 100, and 180 a moment later.
    fn ring_on_trying(&mut self, number: u32) -> (Request, Request) {
        let invite = self.begin(number, "sip:20@example.com");
        self.response(ANNA, 100);
        let got = self.request(BEN, &Method::Invite);
        self.send(BEN, answer(&got, 100));
        self.wait(Duration::from_millis(10));
        self.send(BEN, answer(&got, 180));
        self.response(ANNA, 180);
        (invite, got)
    }

    fn log_in_again(&mut self, number: u32) {
        self.renew();
        self.sent.clear();
        self.log_in_as(ANNA, "anna", number);
        self.log_in_as(BEN, "ben", number);
    }

    fn talk(&mut self, number: u32, meanwhile: fn(&mut Self, &Request, &[u8], &Uri)) {
        let (invite, got) = self.ring_as(number);
        let (to, target) = self.answer(&invite, &got);
        meanwhile(self, &invite, &to, &target);
        self.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 9));
        self.response(ANNA, 200);
        if number.is_multiple_of(2) {
            self.answer_next_bye();
        }
    }

    fn answer_next_bye(&mut self) {
        for message in self.sent.remove(BEN).unwrap_or_default() {
            if let tandem_sip::Message::Request(request) = message
                && request.method == Method::Bye
            {
                self.send(BEN, answer(&request, 200));
            }
        }
    }

    fn hold(&mut self, invite: &Request, to: &[u8], target: &Uri) {
        self.send(ANNA, in_dialog(invite, Method::Invite, to, target, 3));
        self.response(ANNA, 100);
        let hold = self.request(BEN, &Method::Invite);
        self.send(BEN, ok(&hold));
        self.response(ANNA, 200);
        self.send(ANNA, in_dialog(invite, Method::Ack, to, target, 3));
        self.request(BEN, &Method::Ack);
    }

    /// Ben's phone says that it is trying, and nothing ever after.
    fn hold_that_nobody_answers(&mut self, invite: &Request, to: &[u8], target: &Uri) {
        self.send(ANNA, in_dialog(invite, Method::Invite, to, target, 3));
        self.response(ANNA, 100);
        let hold = self.request(BEN, &Method::Invite);
        self.send(BEN, answer(&hold, 100));
    }

    fn cancelled(&mut self, number: u32) {
        let (invite, got) = self.ring_as(number);
        self.send(ANNA, cancel(&invite));
        assert_eq!(self.all(ANNA), "200 487");
        if number.is_multiple_of(2) {
            self.send(BEN, answer(&got, 487));
        }
    }

    fn refused(&mut self, number: u32, status: u16) {
        let (_, got) = self.ring_as(number);
        self.send(BEN, answer(&got, status));
        self.response(ANNA, status);
    }

    /// Ben's phone says nothing at all.
    fn unheard(&mut self, number: u32) {
        self.begin(number, "sip:20@example.com");
        self.response(ANNA, 100);
    }

    fn failed_flow(&mut self, number: u32) {
        self.unheard(number);
        let who = self.active;
        self.input(who, Input::FlowFailed(bench::flow(BEN)));
        // It is repeated first.
        self.wait(Duration::from_millis(600));
        self.sent.clear();
        self.input(who, Input::FlowFailed(bench::flow(BEN)));
        self.response(ANNA, 480);
    }

    fn early_bye(&mut self, number: u32) {
        let id = self.begin(number, "sip:20@example.com");
        self.response(ANNA, 100);
        let got = self.request(BEN, &Method::Invite);
        self.send(BEN, answer(&got, 180));
        let ringing = self.response(ANNA, 180);
        let to = ringing.headers.get(&HeaderName::To).unwrap().to_vec();
        let target = format!("sip:20@{}", bench::VIRTUAL).parse().unwrap();
        self.send(ANNA, in_dialog(&id, Method::Bye, &to, &target, 3));
        assert_eq!(self.all(ANNA), "200 480");
    }

    fn never_acknowledged(&mut self, number: u32) {
        let (_, got) = self.ring_as(number);
        self.send(BEN, ok(&got));
        self.response(ANNA, 200);
    }

    fn nowhere(&mut self, number: u32, uri: &str, status: u16) {
        self.begin(number, uri);
        self.response(ANNA, status);
    }

    fn begin(&mut self, number: u32, uri: &str) -> Request {
        let mut invite = request(Method::Invite, uri, ANNA, "anna", "20", &format!("c{number}"));
        invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
        self.prove(ANNA, "anna", invite)
    }

    /// Keys of hot records that no logged-in phone explains, on the disks of both servers.
    fn left_over(&self) -> Vec<String> {
        let keys = (0..2).flat_map(|who| self.hot_keys(who));
        keys.filter(|key| !key.starts_with("aor/")).collect()
    }
}

fn crowd() -> Bench {
    let mut bench = Bench::new();
    for (name, number) in [("anna", "10"), ("ben", "20"), ("carl", "30")] {
        bench.add_user(name, number);
    }
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    bench
}

/// Longer than anything of a call may last: it rings 180 s, is cancelled, waits 64*T1 twice.
const LONG: Duration = Duration::from_secs(300);

#[test]
fn after_calls_of_every_kind_nothing_is_left_on_either_server() {
    let mut bench = crowd();
    for number in 0..2_600 {
        if number % 300 == 299 {
            bench.log_in_again(number);
        }
        bench.call_of_kind(number as usize % KINDS, number);
        bench.wait(Duration::from_secs(u64::from(number % 7)));
    }
    bench.wait(LONG);
    assert_eq!(bench.left_over(), Vec::<String>::new());
    for who in 0..2 {
        assert_eq!(bench.servers[who].node.holdings(), Holdings::default());
    }
    assert_eq!(bench.cdrs(0).len(), 2_600);
    assert_eq!(bench.cdrs(0), bench.cdrs(1));
}

#[test]
fn after_a_takeover_in_the_midst_of_calls_of_every_kind_nothing_is_left() {
    let mut bench = crowd();
    for number in 0..130 {
        bench.call_of_kind(number as usize % KINDS, number);
    }
    bench.kill_active();
    bench.wait(LONG);
    let keys = bench.hot_keys(1);
    let left: Vec<_> = keys.into_iter().filter(|key| !key.starts_with("aor/")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(bench.cdrs(1).len(), 130);
    assert_eq!(bench.servers[1].node.holdings(), Holdings::default());
}

#[test]
fn phones_on_tcp_leave_nothing_either() {
    let mut bench = crowd();
    bench.on_tcp = true;
    bench.log_in(ANNA, "anna");
    for number in 0..26 {
        bench.call_of_kind(number as usize % KINDS, number);
        bench.wait(Duration::from_secs(3));
    }
    bench.wait(LONG);
    assert_eq!(bench.left_over(), Vec::<String>::new());
    assert_eq!(bench.servers[0].node.holdings(), Holdings::default());
}

#[test]
fn in_a_busy_hour_a_call_costs_fewer_entries() {
    const CALLS: u32 = 1_000;
    let mut bench = crowd();
    let before = bench.servers[0].entries;
    // A call every 50 ms; each rings for a second and is hung up a second later.
    let mut calls = Vec::new();
    for step in 0..CALLS + 40 {
        if step < CALLS {
            let (invite, got) = bench.ring_on_trying(step);
            calls.push((invite, got, None));
        }
        if let Some((invite, got, up)) =
            step.checked_sub(20).and_then(|it| calls.get_mut(it as usize))
        {
            *up = Some(bench.answer(invite, got));
        }
        if let Some((invite, _, Some((to, target)))) =
            step.checked_sub(40).and_then(|it| calls.get(it as usize))
        {
            bench.send(ANNA, in_dialog(invite, Method::Bye, to, target, 9));
            bench.response(ANNA, 200);
            bench.answer_next_bye();
        }
        bench.wait(Duration::from_millis(50));
    }
    bench.wait(LONG);
    let after = bench.servers[0].entries;
    let (entries, bytes) = (after.0 - before.0, after.1 - before.1);
    let calls = CALLS as usize;
    println!(
        "a call among many: {} tenths of an entry, {} bytes",
        entries * 10 / calls,
        bytes / calls
    );
    assert_eq!(bench.cdrs(1).len(), calls);
    assert!(entries < 8 * calls, "{entries} entries");
}

#[test]
fn after_a_takeover_calls_are_asked_after_one_by_one() {
    let mut bench = crowd();
    for number in 0..60 {
        let (invite, got) = bench.ring_as(number);
        bench.answer(&invite, &got);
    }
    bench.kill_active();
    bench.sent.clear();
    let mut asked = Vec::new();
    for _ in 0..600 {
        bench.wait(Duration::from_millis(100));
        let mut now = 0;
        for message in bench.sent.remove(BEN).unwrap_or_default() {
            if let tandem_sip::Message::Request(request) = message
                && request.method == Method::Options
            {
                now += 1;
                bench.send(BEN, answer(&request, 200));
            }
        }
        asked.push(now);
    }
    assert_eq!(asked.iter().sum::<i32>(), 60);
    assert!(asked.iter().all(|now| *now <= 10), "{asked:?}");
}
