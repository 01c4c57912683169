//! The INVITE server transaction, RFC 3261 §17.2.1 with the state Accepted of RFC 6026.
//!
//! ```text
//!                               |INVITE
//!                               |pass INV to TU
//!            INVITE             V
//!            send response+-----------+  1xx from TU
//!                +--------|           |--------+ send response
//!                +------->| Proceeding|<-------+
//!                         +-----------+
//!      300-699 from TU      |       |  2xx from TU
//!      send response        |       |  send response
//!                +----------+       +----------------+
//! INVITE         V                                   V   INVITE: -
//! Timer G +-----------+                       +-----------+
//! send    | Completed |---------------+       | Accepted  |  Timer 2xx: send response
//! response+-----------+  Timer H: -   |       +-----------+  first ACK: pass to TU
//!                |ACK: -              |              |Timer L fires
//!                V                    |              |without ACK: inform TU
//!         +-----------+               |              |
//!         | Confirmed |-- Timer I: -->V              V
//!         +-----------+           Terminated     Terminated
//! ```
//!
//! The 2xx is repeated here, not by the transaction user (RFC 3261 §13.3.1.4): at T1 doubling to
//! T2 on every transport until the ACK is there.
//!
//! Invariant: after a final response the transaction user has no say any more.

use crate::machine::{Class, Output, RespondError};
use crate::timing::{LIFE, Octets, Repeat, T2, T4};
use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

/// Answers one INVITE.
#[derive(Debug)]
pub(crate) struct InviteServer {
    reliable: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Proceeding {
        last: Option<Octets>,
    },
    Completed {
        response: Octets,
        timer_g: Option<Repeat>,
        timer_h: Instant,
    },
    Confirmed {
        timer_i: Instant,
    },
    /// `unheard`: the 2xx that nobody acknowledged yet.
    Accepted {
        unheard: Option<(Octets, Repeat)>,
        timer_l: Instant,
    },
    Terminated,
}

/// What the twin needs to go on. Of a transaction whose ACK came it needs to know that there was one: a copy of
/// the INVITE that the network held back would be a new call there, and ring again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Saved {
    Proceeding {
        last: Option<Octets>,
    },
    Completed {
        response: Octets,
        timer_h: Duration,
    },
    Accepted {
        response: Octets,
        timer_l: Duration,
    },
    /// Repetitions are ignored for so long.
    Acknowledged {
        left: Duration,
    },
}

impl Saved {
    /// The last response, if there was one.
    pub(crate) fn response(&self) -> Option<&Octets> {
        match self {
            Self::Proceeding { last } => last.as_ref(),
            Self::Completed { response, .. } | Self::Accepted { response, .. } => Some(response),
            Self::Acknowledged { .. } => None,
        }
    }
}

impl InviteServer {
    /// A new INVITE was received and is passed to the transaction user.
    pub(crate) fn new(reliable: bool) -> Self {
        Self { reliable, state: State::Proceeding { last: None } }
    }

    /// The same INVITE was received again.
    pub(crate) fn handle_retransmission(&self, out: &mut Vec<Output>) {
        match &self.state {
            State::Proceeding { last: Some(response) } | State::Completed { response, .. } => {
                out.push(Output::Send { bytes: response.clone(), repeat: true });
            }
            State::Proceeding { last: None }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    /// Whether the transaction user may still answer, and a CANCEL still has an effect.
    ///
    /// # Errors
    ///
    /// When a final response was sent before.
    pub(crate) fn may_respond(&self) -> Result<(), RespondError> {
        match self.state {
            State::Proceeding { .. } => Ok(()),
            State::Completed { .. }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => Err(RespondError::AlreadyCompleted),
        }
    }

    /// The transaction user answers; only after [`Self::may_respond`].
    pub(crate) fn respond(
        &mut self,
        now: Instant,
        class: Class,
        response: Octets,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Send { bytes: response.clone(), repeat: false });
        self.state = match class {
            Class::Provisional => State::Proceeding { last: Some(response) },
            Class::Failure => self.completed(now, response, now + LIFE),
            Class::Success => Self::accepted(now, response, now + LIFE),
        };
    }

    fn completed(&self, now: Instant, response: Octets, timer_h: Instant) -> State {
        // Timer G is not set on reliable transports.
        let timer_g = (!self.reliable).then(|| Repeat::new(now, T2));
        State::Completed { response, timer_g, timer_h }
    }

    fn accepted(now: Instant, response: Octets, timer_l: Instant) -> State {
        State::Accepted { unheard: Some((response, Repeat::new(now, T2))), timer_l }
    }

    /// An ACK for this INVITE's final response was received. Says whether that is news.
    pub(crate) fn handle_ack(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        match &mut self.state {
            State::Completed { .. } => {
                // Timer I is zero on reliable transports: no ACK will be repeated.
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Confirmed { timer_i: now + T4 }
                };
                true
            }
            State::Accepted { unheard, .. } => {
                let news = unheard.take().is_some();
                if news {
                    out.push(Output::Deliver);
                }
                news
            }
            State::Proceeding { .. } | State::Confirmed { .. } | State::Terminated => false,
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Proceeding { .. } | State::Terminated => {}
            State::Completed { timer_h: end, .. } | State::Confirmed { timer_i: end }
                if *end <= now =>
            {
                self.state = State::Terminated;
            }
            State::Accepted { unheard, timer_l } if *timer_l <= now => {
                if unheard.is_some() {
                    out.push(Output::NoAck);
                }
                self.state = State::Terminated;
            }
            State::Completed { response, timer_g: Some(repeat), .. }
            | State::Accepted { unheard: Some((response, repeat)), .. } => {
                if repeat.fire(now) {
                    out.push(Output::Send { bytes: response.clone(), repeat: true });
                }
            }
            State::Completed { timer_g: None, .. }
            | State::Confirmed { .. }
            | State::Accepted { unheard: None, .. } => {}
        }
    }

    /// When to call [`Self::handle_timeout`], if ever.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Proceeding { .. } | State::Terminated => None,
            State::Completed { timer_g: Some(repeat), timer_h: end, .. }
            | State::Accepted { unheard: Some((_, repeat)), timer_l: end } => {
                Some(repeat.next.min(*end))
            }
            State::Completed { timer_g: None, timer_h: end, .. }
            | State::Confirmed { timer_i: end }
            | State::Accepted { unheard: None, timer_l: end } => Some(*end),
        }
    }

    /// Whether the transaction has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    /// Whether the twin needs anything.
    pub(crate) fn is_kept(&self) -> bool {
        match self.state {
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { unheard: Some(_), .. } => true,
            // Nothing comes twice on a connection.
            State::Accepted { unheard: None, .. } | State::Confirmed { .. } => !self.reliable,
            State::Terminated => false,
        }
    }

    /// What the twin needs; `None` when it needs nothing.
    pub(crate) fn save(&self, now: Instant) -> Option<Saved> {
        Some(match &self.state {
            State::Proceeding { last } => Saved::Proceeding { last: last.clone() },
            State::Completed { response, timer_h, .. } => Saved::Completed {
                response: response.clone(),
                timer_h: timer_h.remaining_from(now),
            },
            State::Accepted { unheard: Some((response, _)), timer_l } => {
                Saved::Accepted { response: response.clone(), timer_l: timer_l.remaining_from(now) }
            }
            State::Accepted { unheard: None, timer_l: end } | State::Confirmed { timer_i: end }
                if !self.reliable =>
            {
                Saved::Acknowledged { left: end.remaining_from(now) }
            }
            State::Accepted { unheard: None, .. } | State::Confirmed { .. } | State::Terminated => {
                return None;
            }
        })
    }

    /// Goes on where the twin stopped `age` ago. Its answer may never have left: it is sent again.
    pub(crate) fn restore(
        now: Instant,
        reliable: bool,
        saved: Saved,
        age: Duration,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut machine = Self::new(reliable);
        let again = match saved {
            Saved::Proceeding { last } => {
                machine.state = State::Proceeding { last: last.clone() };
                last
            }
            Saved::Completed { response, timer_h } => {
                let end = now + timer_h.saturating_sub(age);
                machine.state = machine.completed(now, response.clone(), end);
                (end > now).then_some(response)
            }
            Saved::Accepted { response, timer_l } => {
                let end = now + timer_l.saturating_sub(age);
                machine.state = Self::accepted(now, response.clone(), end);
                (end > now).then_some(response)
            }
            Saved::Acknowledged { left } => {
                machine.state = State::Confirmed { timer_i: now + left.saturating_sub(age) };
                None
            }
        };
        out.extend(again.map(|bytes| Output::Send { bytes, repeat: true }));
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::script::{self, Machine, octets};
    use expect_test::{Expect, expect};

    impl Machine for InviteServer {
        fn step(&mut self, now: Instant, verb: &str, word: &str, out: &mut Vec<Output>) -> String {
            match verb {
                "again" => self.handle_retransmission(out),
                "respond" => match self.may_respond() {
                    Ok(()) => {
                        let class = Class::of(word.parse().unwrap()).unwrap();
                        self.respond(now, class, octets(word), out);
                    }
                    Err(error) => return format!("{now} {error:?}\n"),
                },
                "ack" => {
                    let news = self.handle_ack(now, out);
                    return if news { String::new() } else { format!("{now} nothing new\n") };
                }
                other => panic!("unknown step {other}"),
            }
            String::new()
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
        script::check(&mut InviteServer::new(reliable), Vec::new(), script, &want);
    }

    const UDP: bool = false;
    const TCP: bool = true;

    #[test]
    fn provisional_answers_are_repeated_when_the_invite_is() {
        check(
            UDP,
            "again; respond 100; again; respond 180; again; wait 200",
            expect![[r#"
            0.000s -> 100
            0.000s -> 100 again
            0.000s -> 180
            0.000s -> 180 again
        "#]],
        );
    }

    #[test]
    fn a_refusal_is_repeated_at_doubling_pauses_until_timer_h() {
        check(
            UDP,
            "respond 486; again; wait 40",
            expect![[r#"
            0.000s -> 486
            0.000s -> 486 again
            0.500s -> 486 again
            1.500s -> 486 again
            3.500s -> 486 again
            7.500s -> 486 again
            11.500s -> 486 again
            15.500s -> 486 again
            19.500s -> 486 again
            23.500s -> 486 again
            27.500s -> 486 again
            31.500s -> 486 again
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn a_refusal_on_a_reliable_transport_waits_for_its_ack_until_timer_h() {
        check(
            TCP,
            "respond 486; wait 40",
            expect![[r#"
            0.000s -> 486
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn after_the_ack_of_a_refusal_repetitions_are_ignored_until_timer_i() {
        check(
            UDP,
            "respond 486; wait 1; ack; ack; again; wait 4; again; wait 1",
            expect![[r#"
            0.000s -> 486
            0.500s -> 486 again
            1.000s nothing new
            6.000s terminated
        "#]],
        );
    }

    #[test]
    fn after_the_ack_of_a_refusal_a_reliable_transport_forgets_at_once() {
        check(
            TCP,
            "respond 486; ack; ack",
            expect![[r#"
            0.000s -> 486
            0.000s terminated
            0.000s nothing new
        "#]],
        );
    }

    #[test]
    fn an_answer_is_repeated_at_doubling_pauses_until_timer_l() {
        check(
            UDP,
            "respond 200; again; wait 40",
            expect![[r#"
            0.000s -> 200
            0.500s -> 200 again
            1.500s -> 200 again
            3.500s -> 200 again
            7.500s -> 200 again
            11.500s -> 200 again
            15.500s -> 200 again
            19.500s -> 200 again
            23.500s -> 200 again
            27.500s -> 200 again
            31.500s -> 200 again
            32.000s no ACK
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn an_answer_is_repeated_on_reliable_transports_too() {
        check(
            TCP,
            "respond 200; wait 4; ack; wait 40",
            expect![[r#"
            0.000s -> 200
            0.500s -> 200 again
            1.500s -> 200 again
            3.500s -> 200 again
            4.000s to the user
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn after_its_ack_an_answer_is_not_repeated() {
        check(
            UDP,
            "respond 180; respond 200; wait 0.2; ack; ack; again; wait 40",
            expect![[r#"
            0.000s -> 180
            0.000s -> 200
            0.200s to the user
            0.200s nothing new
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn an_ack_before_any_final_answer_means_nothing() {
        check(
            UDP,
            "ack; respond 180; ack; respond 200; ack",
            expect![[r#"
            0.000s nothing new
            0.000s -> 180
            0.000s nothing new
            0.000s -> 200
            0.000s to the user
        "#]],
        );
    }

    #[test]
    fn a_second_final_answer_is_refused() {
        check(
            UDP,
            "respond 200; respond 500; respond 180; ack; respond 486",
            expect![[r#"
            0.000s -> 200
            0.000s AlreadyCompleted
            0.000s AlreadyCompleted
            0.000s to the user
            0.000s AlreadyCompleted
        "#]],
        );
    }

    #[test]
    fn the_twin_sends_an_unacknowledged_answer_again_for_the_time_left() {
        check(
            UDP,
            "respond 200; wait 20; twin 4; wait 40",
            expect![[r#"
            0.000s -> 200
            0.500s -> 200 again
            1.500s -> 200 again
            3.500s -> 200 again
            7.500s -> 200 again
            11.500s -> 200 again
            15.500s -> 200 again
            19.500s -> 200 again
            20.000s twin takes over
            20.000s -> 200 again
            20.500s -> 200 again
            21.500s -> 200 again
            23.500s -> 200 again
            27.500s -> 200 again
            28.000s no ACK
            28.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_sends_a_refusal_again_for_the_time_left() {
        check(
            UDP,
            "respond 486; wait 20; twin 9; ack; wait 40",
            expect![[r#"
            0.000s -> 486
            0.500s -> 486 again
            1.500s -> 486 again
            3.500s -> 486 again
            7.500s -> 486 again
            11.500s -> 486 again
            15.500s -> 486 again
            19.500s -> 486 again
            20.000s twin takes over
            20.000s -> 486 again
            25.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_sends_a_refusal_again_on_reliable_transports() {
        check(
            TCP,
            "respond 486; twin; wait 40",
            expect![[r#"
            0.000s -> 486
            0.000s twin takes over
            0.000s -> 486 again
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_lets_the_phone_hear_that_it_still_rings() {
        check(
            UDP,
            "respond 180; wait 60; twin 1; again; respond 200; ack",
            expect![[r#"
            0.000s -> 180
            60.000s twin takes over
            60.000s -> 180 again
            60.000s -> 180 again
            60.000s -> 200
            60.000s to the user
        "#]],
        );
    }

    #[test]
    fn the_twin_ignores_a_late_copy_of_what_was_acknowledged_for_the_time_left() {
        check(
            UDP,
            "respond 200; ack; wait 10; twin 2; again; wait 40",
            expect![[r#"
            0.000s -> 200
            0.000s to the user
            10.000s twin takes over
            30.000s terminated
        "#]],
        );
        check(
            UDP,
            "respond 486; ack; twin 1; again; ack; wait 40",
            expect![[r#"
            0.000s -> 486
            0.000s twin takes over
            0.000s nothing new
            4.000s terminated
        "#]],
        );
        check(
            TCP,
            "respond 200; ack; twin",
            expect![[r#"
            0.000s -> 200
            0.000s to the user
            0.000s twin knows nothing
        "#]],
        );
    }

    #[test]
    fn the_twin_says_nothing_when_the_time_is_over() {
        check(
            UDP,
            "respond 200; twin 32; wait 0",
            expect![[r#"
            0.000s -> 200
            0.000s twin takes over
            0.000s no ACK
            0.000s terminated
        "#]],
        );
    }
}
