//! Every state and timer of RFC 3261 figure 5, as transcripts.

use super::*;
use crate::machine::script::{self, Machine, octets};
use expect_test::{Expect, expect};
use tandem_types::Transport;

fn flow() -> Flow {
    let address = "192.0.2.1:5060".parse().unwrap();
    Flow { transport: Transport::Tcp, local: address, remote: address }
}

impl Machine for InviteClient {
    fn step(&mut self, now: Instant, verb: &str, word: &str, out: &mut Vec<Output>) -> String {
        let changed = match verb {
            "unsent" => {
                self.handle_transport_error(out);
                return String::new();
            }
            "cancel" => self.cancel(now, out),
            "acknowledge" => self.acknowledge(word.as_bytes(), flow(), &octets("ACK 2xx")),
            status => {
                let class = Class::of(status.parse().unwrap()).unwrap();
                self.handle_response(now, class, word.as_bytes(), |_| Some(octets("ACK")), out)
            }
        };
        if changed { String::new() } else { format!("{now} no change\n") }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.handle_timeout(now, out);
    }

    fn next(&self) -> Option<Instant> {
        self.next_timeout()
    }

    fn over(&self) -> bool {
        self.is_over()
    }

    fn kept(&self, now: Instant) -> (bool, bool) {
        (self.save(now).is_some(), self.is_kept())
    }

    fn twin(&mut self, now: Instant, age: Duration, out: &mut Vec<Output>) -> bool {
        let Some(saved) = self.save(now) else { return false };
        *self = Self::restore(now, self.reliable, saved, age, out);
        true
    }
}

#[track_caller]
fn check(reliable: bool, script: &str, want: Expect) {
    let mut first = Vec::new();
    let request = octets("INVITE");
    let mut machine = InviteClient::new(Instant::ZERO, reliable, request, &mut first);
    script::check(&mut machine, first, script, &want);
}

const UDP: bool = false;
const TCP: bool = true;

#[test]
fn an_invite_is_repeated_at_doubling_pauses_until_timer_b() {
    check(
        UDP,
        "wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.500s -> INVITE again
        1.500s -> INVITE again
        3.500s -> INVITE again
        7.500s -> INVITE again
        15.500s -> INVITE again
        31.500s -> INVITE again
        32.000s failed: Timeout
        32.000s terminated
    "#]],
    );
}

#[test]
fn an_invite_on_a_reliable_transport_is_sent_once() {
    check(
        TCP,
        "wait 40",
        expect![[r#"
        0.000s -> INVITE
        32.000s failed: Timeout
        32.000s terminated
    "#]],
    );
}

#[test]
fn a_provisional_response_ends_the_repetitions_and_timer_b() {
    check(
        UDP,
        "wait 0.6; 100; 180; 180; wait 300; 486; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.500s -> INVITE again
        0.600s to the user
        0.600s no change
        0.600s to the user
        0.600s no change
        0.600s to the user
        300.600s -> ACK
        300.600s to the user
        332.600s terminated
    "#]],
    );
}

#[test]
fn a_refusal_is_acknowledged_and_so_is_each_repetition_until_timer_d() {
    check(
        UDP,
        "486; 486; 180; wait 31; 486; wait 1; 486",
        expect![[r#"
        0.000s -> INVITE
        0.000s -> ACK
        0.000s to the user
        0.000s no change
        0.000s -> ACK again
        0.000s no change
        31.000s no change
        31.000s -> ACK again
        32.000s terminated
        32.000s no change
    "#]],
    );
}

#[test]
fn a_refusal_on_a_reliable_transport_ends_it_at_once() {
    check(
        TCP,
        "180; 603; 603",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        0.000s -> ACK
        0.000s to the user
        0.000s terminated
        0.000s no change
    "#]],
    );
}

#[test]
fn an_answer_is_acknowledged_by_the_user_and_each_repetition_from_memory() {
    check(
        UDP,
        "180; 200 a; 200 a; acknowledge a; 200 a; wait 31; 200 a; wait 1; 200 a",
        expect![[r#"
            0.000s -> INVITE
            0.000s to the user
            0.000s to the user
            0.000s no change
            0.000s no change
            0.000s -> ACK 2xx again to tcp:192.0.2.1:5060
            31.000s no change
            31.000s -> ACK 2xx again to tcp:192.0.2.1:5060
            32.000s terminated
            32.000s no change
        "#]],
    );
}

#[test]
fn each_fork_is_answered_once() {
    check(
        TCP,
        "200 a; 200 b; acknowledge b; 200 a; 200 b; 180 c; 486 d; wait 32",
        expect![[r#"
            0.000s -> INVITE
            0.000s to the user
            0.000s to the user
            0.000s no change
            0.000s no change
            0.000s -> ACK 2xx again to tcp:192.0.2.1:5060
            0.000s no change
            0.000s no change
            32.000s terminated
        "#]],
    );
}

#[test]
fn an_ack_for_an_answer_that_did_not_come_is_not_kept() {
    check(
        UDP,
        "acknowledge a; 200 a; acknowledge b; 200 a; acknowledge a; 200 a",
        expect![[r#"
            0.000s -> INVITE
            0.000s no change
            0.000s to the user
            0.000s no change
            0.000s no change
            0.000s no change
            0.000s -> ACK 2xx again to tcp:192.0.2.1:5060
        "#]],
    );
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    check(
        UDP,
        "cancel; cancel; wait 1; 100; 180; cancel; 487",
        expect![[r#"
        0.000s -> INVITE
        0.000s no change
        0.500s -> INVITE again
        1.000s to the user
        1.000s cancel INVITE
        1.000s no change
        1.000s to the user
        1.000s no change
        1.000s -> ACK
        1.000s to the user
    "#]],
    );
}

#[test]
fn cancel_is_sent_at_once_after_a_provisional_response() {
    check(
        UDP,
        "180; cancel; cancel; 487; cancel",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        0.000s cancel INVITE
        0.000s no change
        0.000s -> ACK
        0.000s to the user
        0.000s no change
    "#]],
    );
}

#[test]
fn an_answer_overtakes_a_waiting_cancel() {
    check(
        UDP,
        "cancel; 200 a; cancel; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        0.000s no change
        32.000s terminated
    "#]],
    );
}

#[test]
fn a_cancelled_invite_that_nobody_answers_is_given_up() {
    check(
        UDP,
        "180; wait 100; cancel; wait 31; 180; wait 1",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        100.000s cancel INVITE
        131.000s no change
        131.000s to the user
        132.000s failed: Timeout
        132.000s terminated
    "#]],
    );
}

#[test]
fn what_cannot_be_sent_fails() {
    check(
        UDP,
        "unsent; unsent; 200 a; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.000s failed: Transport
        0.000s terminated
        0.000s no change
    "#]],
    );
}

#[test]
fn what_rings_does_not_fail_when_the_connection_does() {
    check(
        TCP,
        "180; unsent; 200 a; unsent",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        0.000s to the user
    "#]],
    );
}

#[test]
fn the_twin_sends_the_invite_again_for_the_time_left() {
    check(
        UDP,
        "wait 20; twin 4; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.500s -> INVITE again
        1.500s -> INVITE again
        3.500s -> INVITE again
        7.500s -> INVITE again
        15.500s -> INVITE again
        20.000s twin takes over
        20.000s -> INVITE again
        20.500s -> INVITE again
        21.500s -> INVITE again
        23.500s -> INVITE again
        27.500s -> INVITE again
        28.000s failed: Timeout
        28.000s terminated
    "#]],
    );
}

#[test]
fn the_twin_sends_the_invite_again_on_a_reliable_transport() {
    check(
        TCP,
        "twin; 180; 200 a",
        expect![[r#"
        0.000s -> INVITE
        0.000s twin takes over
        0.000s -> INVITE again
        0.000s to the user
        0.000s to the user
    "#]],
    );
}

#[test]
fn the_twin_remembers_a_waiting_cancel() {
    check(
        UDP,
        "cancel; twin; 100; 487",
        expect![[r#"
        0.000s -> INVITE
        0.000s twin takes over
        0.000s -> INVITE again
        0.000s to the user
        0.000s cancel INVITE
        0.000s -> ACK
        0.000s to the user
    "#]],
    );
}

#[test]
fn the_twin_goes_on_ringing_without_a_word() {
    check(
        UDP,
        "180; wait 60; twin 1; 180; cancel; wait 10; twin 2; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        60.000s twin takes over
        60.000s no change
        60.000s to the user
        60.000s cancel INVITE
        70.000s twin takes over
        90.000s failed: Timeout
        90.000s terminated
    "#]],
    );
}

#[test]
fn the_twin_acknowledges_repeated_answers() {
    check(
        UDP,
        "200 a; acknowledge a; wait 1; twin; 200 a; 200 b; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.000s to the user
        1.000s twin takes over
        1.000s no change
        1.000s -> ACK 2xx again to tcp:192.0.2.1:5060
        1.000s to the user
        32.000s terminated
    "#]],
    );
}

#[test]
fn the_twin_acknowledges_repeated_refusals() {
    check(
        UDP,
        "486; wait 1; twin 1; 486; wait 40",
        expect![[r#"
        0.000s -> INVITE
        0.000s -> ACK
        0.000s to the user
        1.000s twin takes over
        1.000s no change
        1.000s -> ACK again
        31.000s terminated
    "#]],
    );
}

#[test]
fn the_twin_reports_an_invite_whose_time_is_over() {
    check(
        UDP,
        "wait 1; twin 31; wait 0",
        expect![[r#"
        0.000s -> INVITE
        0.500s -> INVITE again
        1.000s twin takes over
        1.000s failed: Timeout
        1.000s terminated
    "#]],
    );
}

#[test]
fn forks_beyond_the_limit_are_ignored() {
    let mut out = Vec::new();
    let mut machine = InviteClient::new(Instant::ZERO, UDP, octets("INVITE"), &mut out);
    let mut answered = |tag: usize| {
        out.clear();
        let tag = tag.to_string();
        let (class, no_ack) = (Class::Success, |_: &[u8]| None);
        machine.handle_response(Instant::ZERO, class, tag.as_bytes(), no_ack, &mut out);
        out == [Output::Deliver]
    };
    assert!((0..MAX_FORKS).all(&mut answered));
    assert!(!answered(MAX_FORKS));
}
