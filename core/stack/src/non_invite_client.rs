//! The non-INVITE client transaction, RFC 3261 §17.1.2.
//!
//! ```text
//!                                   |Request from TU
//!                                   |send request
//!               Timer E             V
//!               send request  +-----------+
//!                   +---------|           |-------------------+
//!                   |         |  Trying   |  Timer F          |
//!                   +-------->|           |  or Transport Err.|
//!                             +-----------+  inform TU        |
//!                200-699 response |  |1xx                     |
//!                pass to TU       |  |pass to TU              |
//!                   +-------------+  V                        |
//!                   |  Timer E+-----------+  Timer F          |
//!                   |  send   |           |  or Transport Err.|
//!                   |  request| Proceeding|------------------>|
//!                   |         +-----------+  inform TU        |
//!                   |            |      ^ |1xx               |
//!                   |            |      +-+pass to TU        |
//!                   |            |200-699: pass to TU         |
//!                   |            V                            |
//!                   |         +-----------+                   |
//!                   +-------->| Completed |-- Timer K ------->|
//!                             +-----------+                   V
//!                                                         Terminated
//! ```
//!
//! Invariant: the transaction user hears exactly one final response or one failure.

use crate::machine::{Class, FailReason, Output};
use crate::timing::{LIFE, Octets, Repeat, T2, T4};
use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

/// Sends one request other than INVITE and ACK until it is answered.
#[derive(Debug)]
pub(crate) struct NonInviteClient {
    reliable: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Trying(Waiting),
    Proceeding(Waiting),
    Completed { timer_k: Instant },
    Terminated,
}

/// `timer_e`: unset on reliable transports.
#[derive(Debug)]
struct Waiting {
    request: Octets,
    timer_e: Option<Repeat>,
    timer_f: Instant,
}

/// What the twin needs to go on. It need not know answered requests: a repeated response that
/// matches nothing is ignored all the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Saved {
    request: Octets,
    timer_f: Duration,
    proceeding: bool,
}

impl Saved {
    /// The request.
    pub(crate) fn request(&self) -> &Octets {
        &self.request
    }
}

impl NonInviteClient {
    /// Sends `request`.
    pub(crate) fn new(
        now: Instant,
        reliable: bool,
        request: Octets,
        out: &mut Vec<Output>,
    ) -> Self {
        out.push(Output::Send { bytes: request.clone(), repeat: false });
        let timer_e = (!reliable).then(|| Repeat::new(now, T2));
        let waiting = Waiting { request, timer_e, timer_f: now + LIFE };
        Self { reliable, state: State::Trying(waiting) }
    }

    /// A matching response was received. Says whether the state changed.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        class: Class,
        out: &mut Vec<Output>,
    ) -> bool {
        let was_trying = matches!(self.state, State::Trying(_));
        match std::mem::replace(&mut self.state, State::Terminated) {
            State::Trying(mut waiting) | State::Proceeding(mut waiting) => {
                out.push(Output::Deliver);
                self.state = match class {
                    Class::Provisional => {
                        if let Some(repeat) = &mut waiting.timer_e {
                            repeat.slow_down();
                        }
                        State::Proceeding(waiting)
                    }
                    // Timer K is zero on reliable transports: no response will be repeated.
                    Class::Success | Class::Failure if self.reliable => State::Terminated,
                    Class::Success | Class::Failure => State::Completed { timer_k: now + T4 },
                };
                was_trying || class != Class::Provisional
            }
            over @ (State::Completed { .. } | State::Terminated) => {
                self.state = over;
                false
            }
        }
    }

    /// The request could not be sent.
    pub(crate) fn handle_transport_error(&mut self, out: &mut Vec<Output>) {
        match self.state {
            State::Trying(_) | State::Proceeding(_) => self.fail(FailReason::Transport, out),
            State::Completed { .. } | State::Terminated => {}
        }
    }

    fn fail(&mut self, reason: FailReason, out: &mut Vec<Output>) {
        self.state = State::Terminated;
        out.push(Output::Failed(reason));
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Trying(waiting) | State::Proceeding(waiting) => {
                if waiting.timer_f <= now {
                    self.fail(FailReason::Timeout, out);
                } else if waiting.timer_e.as_mut().is_some_and(|repeat| repeat.fire(now)) {
                    out.push(Output::Send { bytes: waiting.request.clone(), repeat: true });
                }
            }
            State::Completed { timer_k } if *timer_k <= now => self.state = State::Terminated,
            State::Completed { .. } | State::Terminated => {}
        }
    }

    /// When to call [`Self::handle_timeout`], if ever.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Trying(waiting) | State::Proceeding(waiting) => {
                let end = waiting.timer_f;
                Some(waiting.timer_e.as_ref().map_or(end, |repeat| repeat.next.min(end)))
            }
            State::Completed { timer_k } => Some(*timer_k),
            State::Terminated => None,
        }
    }

    /// Whether the transaction has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    /// Whether the twin needs anything.
    pub(crate) fn is_kept(&self) -> bool {
        match self.state {
            State::Trying(_) | State::Proceeding(_) => true,
            State::Completed { .. } | State::Terminated => false,
        }
    }

    /// What the twin needs; `None` when it needs nothing.
    pub(crate) fn save(&self, now: Instant) -> Option<Saved> {
        let (waiting, proceeding) = match &self.state {
            State::Trying(waiting) => (waiting, false),
            State::Proceeding(waiting) => (waiting, true),
            State::Completed { .. } | State::Terminated => return None,
        };
        let timer_f = waiting.timer_f.remaining_from(now);
        Some(Saved { request: waiting.request.clone(), timer_f, proceeding })
    }

    /// Goes on where the twin stopped `age` ago. Its request may never have left: it is sent again.
    pub(crate) fn restore(
        now: Instant,
        reliable: bool,
        saved: Saved,
        age: Duration,
        out: &mut Vec<Output>,
    ) -> Self {
        let timer_f = now + saved.timer_f.saturating_sub(age);
        let mut timer_e = (!reliable).then(|| Repeat::new(now, T2));
        if timer_f > now {
            out.push(Output::Send { bytes: saved.request.clone(), repeat: true });
        }
        let state = if saved.proceeding {
            if let Some(repeat) = &mut timer_e {
                repeat.slow_down();
            }
            State::Proceeding(Waiting { request: saved.request, timer_e, timer_f })
        } else {
            State::Trying(Waiting { request: saved.request, timer_e, timer_f })
        };
        Self { reliable, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::script::{self, Machine, octets};
    use expect_test::{Expect, expect};

    impl Machine for NonInviteClient {
        fn step(&mut self, now: Instant, verb: &str, _: &str, out: &mut Vec<Output>) -> String {
            let changed = match verb {
                "unsent" => {
                    self.handle_transport_error(out);
                    return String::new();
                }
                status => {
                    let class = Class::of(status.parse().unwrap()).unwrap();
                    self.handle_response(now, class, out)
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
        let request = octets("BYE");
        let mut machine = NonInviteClient::new(Instant::ZERO, reliable, request, &mut first);
        script::check(&mut machine, first, script, &want);
    }

    const UDP: bool = false;
    const TCP: bool = true;

    #[test]
    fn a_request_is_repeated_at_doubling_pauses_until_timer_f() {
        check(
            UDP,
            "wait 40",
            expect![[r#"
            0.000s -> BYE
            0.500s -> BYE again
            1.500s -> BYE again
            3.500s -> BYE again
            7.500s -> BYE again
            11.500s -> BYE again
            15.500s -> BYE again
            19.500s -> BYE again
            23.500s -> BYE again
            27.500s -> BYE again
            31.500s -> BYE again
            32.000s failed: Timeout
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn a_request_on_a_reliable_transport_is_sent_once() {
        check(
            TCP,
            "wait 40",
            expect![[r#"
            0.000s -> BYE
            32.000s failed: Timeout
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn after_a_provisional_response_a_request_is_repeated_every_t2() {
        check(
            UDP,
            "wait 0.6; 100; 100; wait 10; 200",
            expect![[r#"
            0.000s -> BYE
            0.500s -> BYE again
            0.600s to the user
            0.600s no change
            0.600s to the user
            1.500s -> BYE again
            5.500s -> BYE again
            9.500s -> BYE again
            10.600s to the user
        "#]],
        );
    }

    #[test]
    fn a_provisional_response_does_not_stretch_timer_f() {
        check(
            TCP,
            "wait 20; 100; wait 13",
            expect![[r#"
            0.000s -> BYE
            20.000s to the user
            32.000s failed: Timeout
            32.000s terminated
        "#]],
        );
    }

    #[test]
    fn repeated_responses_are_ignored_until_timer_k() {
        check(
            UDP,
            "200; 200; 404; 100; wait 5; 200",
            expect![[r#"
            0.000s -> BYE
            0.000s to the user
            0.000s no change
            0.000s no change
            0.000s no change
            5.000s terminated
            5.000s no change
        "#]],
        );
    }

    #[test]
    fn a_reliable_transport_forgets_at_once() {
        check(
            TCP,
            "404; 404",
            expect![[r#"
            0.000s -> BYE
            0.000s to the user
            0.000s terminated
            0.000s no change
        "#]],
        );
    }

    #[test]
    fn what_cannot_be_sent_fails() {
        check(
            UDP,
            "unsent; unsent; 200; wait 40",
            expect![[r#"
            0.000s -> BYE
            0.000s failed: Transport
            0.000s terminated
            0.000s no change
        "#]],
        );
    }

    #[test]
    fn what_cannot_be_sent_fails_also_after_a_provisional_response() {
        check(
            TCP,
            "100; unsent",
            expect![[r#"
            0.000s -> BYE
            0.000s to the user
            0.000s failed: Transport
            0.000s terminated
        "#]],
        );
    }

    #[test]
    fn an_answered_request_cannot_fail() {
        check(
            UDP,
            "200; unsent; wait 5",
            expect![[r#"
            0.000s -> BYE
            0.000s to the user
            5.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_sends_the_request_again_for_the_time_left() {
        check(
            UDP,
            "wait 20; twin 4; wait 40",
            expect![[r#"
            0.000s -> BYE
            0.500s -> BYE again
            1.500s -> BYE again
            3.500s -> BYE again
            7.500s -> BYE again
            11.500s -> BYE again
            15.500s -> BYE again
            19.500s -> BYE again
            20.000s twin takes over
            20.000s -> BYE again
            20.500s -> BYE again
            21.500s -> BYE again
            23.500s -> BYE again
            27.500s -> BYE again
            28.000s failed: Timeout
            28.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_sends_the_request_again_on_a_reliable_transport() {
        check(
            TCP,
            "twin; 200",
            expect![[r#"
            0.000s -> BYE
            0.000s twin takes over
            0.000s -> BYE again
            0.000s to the user
            0.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_goes_on_every_t2_after_a_provisional_response() {
        check(
            UDP,
            "100; twin; wait 9; 200",
            expect![[r#"
            0.000s -> BYE
            0.000s to the user
            0.000s twin takes over
            0.000s -> BYE again
            0.500s -> BYE again
            4.500s -> BYE again
            8.500s -> BYE again
            9.000s to the user
        "#]],
        );
    }

    #[test]
    fn the_twin_need_not_know_what_was_answered() {
        check(
            UDP,
            "200; twin; wait 5",
            expect![[r#"
            0.000s -> BYE
            0.000s to the user
            0.000s twin knows nothing
            5.000s terminated
        "#]],
        );
    }

    #[test]
    fn the_twin_reports_a_request_whose_time_is_over() {
        check(
            UDP,
            "wait 1; twin 31; wait 0",
            expect![[r#"
            0.000s -> BYE
            0.500s -> BYE again
            1.000s twin takes over
            1.000s failed: Timeout
            1.000s terminated
        "#]],
        );
    }
}
