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
