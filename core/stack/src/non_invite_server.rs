//! The non-INVITE server transaction, RFC 3261 §17.2.2.
//!
//! ```text
//!                 |Request received
//!                 |pass to TU
//!                 V
//!           +-----------+
//!           |  Trying   |-------------+
//!           +-----------+             |
//!                 |1xx from TU        |200-699 from TU
//!                 |send response      |send response
//!                 V                   |
//!           +-----------+             |
//!   Request |           |  1xx        |
//!   send    | Proceeding|  send       |
//!   response|           |  response   |
//!           +-----------+             |
//!                 |200-699 from TU    |
//!                 |send response      |
//!                 V                   |
//!           +-----------+             |
//!   Request |           |             |
//!   send    | Completed |<------------+
//!   response|           |
//!           +-----------+
//!                 |Timer J fires
//!                 V
//!             Terminated
//! ```
//!
//! Invariant: once a response is sent, a repeated request gets that response, also from the twin.

use crate::machine::{Class, Output, RespondError};
use crate::timing::{LIFE, Octets, T1};
use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

/// Answers one request other than INVITE and ACK, and repeats the answer when the request repeats.
#[derive(Debug)]
pub(crate) struct NonInviteServer {
    reliable: bool,
    state: State,
}

/// Each state carries what only it needs: there is no response to repeat while trying.
#[derive(Debug)]
enum State {
    Trying,
    Proceeding { last: Octets },
    Completed { last: Octets, timer_j: Instant },
    Terminated,
}

/// What the twin needs to go on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Saved {
    Trying,
    Proceeding { last: Octets },
    Completed { last: Octets, timer_j: Duration },
}

impl Saved {
    /// The last response, if there was one.
    pub(crate) fn response(&self) -> Option<&Octets> {
        match self {
            Self::Trying => None,
            Self::Proceeding { last } | Self::Completed { last, .. } => Some(last),
        }
    }
}

impl NonInviteServer {
    /// A new request was received and is passed to the transaction user.
    pub(crate) fn new(reliable: bool) -> Self {
        Self { reliable, state: State::Trying }
    }

    /// The same request was received again.
    pub(crate) fn handle_retransmission(&self, out: &mut Vec<Output>) {
        match &self.state {
            State::Trying | State::Terminated => {}
            State::Proceeding { last } | State::Completed { last, .. } => {
                out.push(Output::Send { bytes: last.clone(), repeat: true });
            }
        }
    }

    /// Whether the transaction user may still answer.
    ///
    /// # Errors
    ///
    /// When a final response was sent before.
    pub(crate) fn may_respond(&self) -> Result<(), RespondError> {
        match self.state {
            State::Trying | State::Proceeding { .. } => Ok(()),
            State::Completed { .. } | State::Terminated => Err(RespondError::AlreadyCompleted),
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
            Class::Provisional => State::Proceeding { last: response },
            // Timer J is zero on reliable transports: nobody will repeat the request.
            Class::Success | Class::Failure if self.reliable => State::Terminated,
            Class::Success | Class::Failure => {
                State::Completed { last: response, timer_j: now + LIFE }
            }
        };
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let State::Completed { timer_j, .. } = self.state
            && timer_j <= now
        {
            self.state = State::Terminated;
        }
    }

    /// When to call [`Self::handle_timeout`], if ever.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Completed { timer_j, .. } => Some(timer_j),
            State::Trying | State::Proceeding { .. } | State::Terminated => None,
        }
    }

    /// Whether the transaction has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    /// Whether the twin needs anything.
    pub(crate) fn is_kept(&self) -> bool {
        !self.is_over()
    }

    /// What the twin needs; `None` when it needs nothing.
    pub(crate) fn save(&self, now: Instant) -> Option<Saved> {
        Some(match &self.state {
            State::Trying => Saved::Trying,
            State::Proceeding { last } => Saved::Proceeding { last: last.clone() },
            State::Completed { last, timer_j } => {
                Saved::Completed { last: last.clone(), timer_j: timer_j.remaining_from(now) }
            }
            State::Terminated => return None,
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
        let state = match saved {
            Saved::Trying => State::Trying,
            Saved::Proceeding { last } => State::Proceeding { last },
            Saved::Completed { last, timer_j } => {
                State::Completed { last, timer_j: now + timer_j.saturating_sub(age) }
            }
        };
        let machine = Self { reliable, state };
        // The answer may be lost with the twin, so it goes out again; an older one did arrive, or
        // is asked for again by a repeated request, which comes T1 after the first.
        if age < T1 && machine.next_timeout().is_none_or(|end| end > now) {
            machine.handle_retransmission(out);
        }
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::script::{self, Machine, octets};
    use expect_test::{Expect, expect};

    impl Machine for NonInviteServer {
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
                other => panic!("unknown step {other}"),
            }
            String::new()
        }

        fn timeout(&mut self, now: Instant, _: &mut Vec<Output>) {
            self.handle_timeout(now);
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
        script::check(&mut NonInviteServer::new(reliable), Vec::new(), script, &want);
    }

    const UDP: bool = false;
    const TCP: bool = true;

    #[test]
    fn a_lost_answer_is_repeated_until_timer_j() {
        check(
            UDP,
            "respond 200; again; wait 31; again; wait 1; again",
            expect![[r#"
            0.000s -> 200
            0.000s -> 200 again
            31.000s -> 200 again
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn a_request_repeated_before_any_answer_is_silent() {
        check(UDP, "again; again", expect![[""]]);
    }

    #[test]
    fn a_provisional_answer_is_repeated_until_the_final_one() {
        check(
            UDP,
            "respond 100; again; respond 183; again; respond 404; again; wait 40",
            expect![[r#"
            0.000s -> 100
            0.000s -> 100 again
            0.000s -> 183
            0.000s -> 183 again
            0.000s -> 404
            0.000s -> 404 again
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn a_reliable_transport_forgets_at_once() {
        check(
            TCP,
            "respond 100; again; respond 404; again",
            expect![[r#"
            0.000s -> 100
            0.000s -> 100 again
            0.000s -> 404
            0.000s terminated
        "#]],
        );
    }

    #[test]
    fn a_second_final_answer_is_refused() {
        check(
            UDP,
            "respond 200; respond 500; respond 100",
            expect![[r#"
            0.000s -> 200
            0.000s AlreadyCompleted
            0.000s AlreadyCompleted
        "#]],
        );
    }

    #[test]
    fn the_twin_sends_a_fresh_answer_again() {
        check(
            false,
            "respond 200; twin; again",
            expect![[r#"
            0.000s -> 200
            0.000s twin takes over
            0.000s -> 200 again
            0.000s -> 200 again
        "#]],
        );
    }

    #[test]
    fn the_twin_repeats_an_old_answer_when_it_is_asked_for_as_long_as_is_left() {
        check(
            UDP,
            "respond 200; wait 10; twin 2; again; wait 20; again; wait 1",
            expect![[r#"
            0.000s -> 200
            10.000s twin takes over
            10.000s -> 200 again
            30.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_waits_for_the_user_to_answer() {
        check(
            UDP,
            "twin; again; respond 200; again",
            expect![[r#"
            0.000s twin takes over
            0.000s -> 200
            0.000s -> 200 again
        "#]],
        );
    }

    #[test]
    fn the_twin_repeats_an_old_provisional_answer_when_it_is_asked_for() {
        check(
            UDP,
            "respond 180; wait 100; twin 5; again; respond 200",
            expect![[r#"
            0.000s -> 180
            100.000s twin takes over
            100.000s -> 180 again
            100.000s -> 200
        "#]],
        );
    }

    #[test]
    fn the_twin_says_nothing_when_the_time_is_over() {
        check(
            UDP,
            "respond 200; wait 10; twin 22; wait 0",
            expect![[r#"
            0.000s -> 200
            10.000s twin takes over
            10.000s terminated
        "#]],
        );
    }
}
