//! The INVITE client transaction, RFC 3261 §17.1.1 with the state Accepted of RFC 6026.
//!
//! ```text
//!                                    |INVITE from TU
//!                  Timer A           V INVITE sent
//!                  send INVITE +-----------+  Timer B or Transport Err.
//!                       +------|           |---------------+ inform TU
//!                       +----->|  Calling  |               |
//!     300-699                  +-----------+  2xx          |
//!     send ACK, resp. to TU    |  |1xx    |   2xx to TU    |
//!          +-------------------+  V       +---------+      |
//!          |                +-----------+  2xx      |      |
//!          | 300-699        |           |  2xx to TU|      |
//!          |<---------------| Proceeding|---------->|      |
//!          | send ACK,      +-----------+           |      |
//!          | resp. to TU      | ^ 1xx: to TU        |      |
//!          V                  +-+                   V      |
//!    +-----------+                           +-----------+ |
//!    | Completed | 300-699: send ACK         | Accepted  | | 2xx, new To tag: to TU
//!    +-----------+                           +-----------+ | 2xx repeated: send its ACK
//!          | Timer D                   Timer M |           |
//!          +---------------> Terminated <------+-----------+
//! ```
//!
//! A CANCEL (RFC 3261 §9.1) waits for the first provisional response, and gives up on the INVITE
//! 64*T1 after it was sent. The ACK for a 2xx is made by the transaction user and kept here, one
//! for each To tag, to be sent again when that 2xx comes again (RFC 3261 §13.2.2.4).
//!
//! Invariant: the transaction user hears one failure, or one 300-699, or each fork's 2xx once.

use crate::machine::{Class, FailReason, Output};
use crate::timing::{LIFE, Octets, Repeat, TIMER_D};
use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Flow, Instant};

/// How many forks of one INVITE may answer 2xx; further ones are ignored.
pub const MAX_FORKS: usize = 8;

/// Sends one INVITE until it is answered.
#[derive(Debug)]
pub(crate) struct InviteClient {
    reliable: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// `timer_a`: unset on reliable transports. `cancel`: as soon as it may be sent.
    Calling {
        request: Octets,
        timer_a: Option<Repeat>,
        timer_b: Instant,
        cancel: bool,
    },
    /// `cancelled`: when to give up, once a CANCEL was sent.
    Proceeding {
        request: Octets,
        cancelled: Option<Instant>,
    },
    Completed {
        ack: Octets,
        timer_d: Instant,
    },
    Accepted {
        answers: Vec<Answer>,
        timer_m: Instant,
    },
    Terminated,
}

/// The 2xx of one fork.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Answer {
    to_tag: Octets,
    ack: Option<(Flow, Octets)>,
}

/// What the twin needs to go on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Saved {
    Calling { request: Octets, timer_b: Duration, cancel: bool },
    Proceeding { request: Octets, cancelled: Option<Duration> },
    Completed { ack: Octets, timer_d: Duration },
    Accepted { answers: Vec<Answer>, timer_m: Duration },
}

impl Saved {
    /// The message of ours that is sent again, if there is one.
    pub(crate) fn request(&self) -> Option<&Octets> {
        match self {
            Self::Calling { request, .. } | Self::Proceeding { request, .. } => Some(request),
            Self::Completed { ack, .. } => Some(ack),
            Self::Accepted { .. } => None,
        }
    }

    /// The ACKs for 2xx, and where they go.
    pub(crate) fn acks(&mut self) -> impl Iterator<Item = &mut (Flow, Octets)> {
        let answers = match self {
            Self::Accepted { answers, .. } => answers.as_mut_slice(),
            Self::Calling { .. } | Self::Proceeding { .. } | Self::Completed { .. } => &mut [],
        };
        answers.iter_mut().filter_map(|answer| answer.ack.as_mut())
    }
}

impl InviteClient {
    /// Sends the INVITE `request`.
    pub(crate) fn new(
        now: Instant,
        reliable: bool,
        request: Octets,
        out: &mut Vec<Output>,
    ) -> Self {
        out.push(Output::Send { bytes: request.clone(), repeat: false });
        let state = Self::calling(now, reliable, request, now + LIFE, false);
        Self { reliable, state }
    }

    fn calling(
        now: Instant,
        reliable: bool,
        request: Octets,
        timer_b: Instant,
        cancel: bool,
    ) -> State {
        // Timer A doubles without a limit but timer B.
        let timer_a = (!reliable).then(|| Repeat::new(now, LIFE));
        State::Calling { request, timer_a, timer_b, cancel }
    }

    /// A matching response was received. `make_ack` makes the ACK for a 300-699 from the request, if
    /// one is needed. Says whether the state changed.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        class: Class,
        to_tag: &[u8],
        make_ack: impl FnOnce(&[u8]) -> Option<Octets>,
        out: &mut Vec<Output>,
    ) -> bool {
        match class {
            Class::Provisional => self.handle_provisional(now, out),
            Class::Success => self.handle_success(now, to_tag, out),
            Class::Failure => self.handle_failure(now, make_ack, out),
        }
    }

    /// A 1xx was received. Says whether the state changed.
    fn handle_provisional(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        match &mut self.state {
            State::Calling { request, cancel, .. } => {
                out.push(Output::Deliver);
                let request = std::mem::take(request);
                let cancelled = cancel.then_some(now + LIFE);
                if cancelled.is_some() {
                    out.push(Output::Cancel { request: request.clone() });
                }
                self.state = State::Proceeding { request, cancelled };
                true
            }
            State::Proceeding { .. } => {
                out.push(Output::Deliver);
                false
            }
            State::Completed { .. } | State::Accepted { .. } | State::Terminated => false,
        }
    }

    /// A 2xx with this To tag was received. Says whether the state changed.
    fn handle_success(&mut self, now: Instant, to_tag: &[u8], out: &mut Vec<Output>) -> bool {
        let answer = || Answer { to_tag: Octets(to_tag.to_vec()), ack: None };
        match &mut self.state {
            State::Calling { .. } | State::Proceeding { .. } => {
                out.push(Output::Deliver);
                self.state = State::Accepted { answers: vec![answer()], timer_m: now + LIFE };
                true
            }
            State::Accepted { answers, .. } => {
                if let Some(known) = answers.iter().find(|known| known.to_tag.0 == to_tag) {
                    if let Some((flow, ack)) = known.ack.clone() {
                        out.push(Output::SendTo { flow, bytes: ack, repeat: true });
                    }
                    return false;
                }
                let room = answers.len() < MAX_FORKS;
                if room {
                    answers.push(answer());
                    out.push(Output::Deliver);
                }
                room
            }
            State::Completed { .. } | State::Terminated => false,
        }
    }

    /// A 300-699 was received. Says whether the state changed.
    fn handle_failure(
        &mut self,
        now: Instant,
        make_ack: impl FnOnce(&[u8]) -> Option<Octets>,
        out: &mut Vec<Output>,
    ) -> bool {
        match &self.state {
            State::Calling { request, .. } | State::Proceeding { request, .. } => {
                let ack = make_ack(&request.0);
                out.extend(ack.clone().map(|bytes| Output::Send { bytes, repeat: false }));
                out.push(Output::Deliver);
                // Timer D is zero on reliable transports: no response will be repeated.
                self.state = match ack.filter(|_| !self.reliable) {
                    Some(ack) => State::Completed { ack, timer_d: now + TIMER_D },
                    None => State::Terminated,
                };
                true
            }
            State::Completed { ack, .. } => {
                out.push(Output::Send { bytes: ack.clone(), repeat: true });
                false
            }
            State::Accepted { .. } | State::Terminated => false,
        }
    }

    /// The transaction user gives up waiting. Says whether the state changed.
    pub(crate) fn cancel(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        match &mut self.state {
            State::Calling { cancel, .. } => !std::mem::replace(cancel, true),
            State::Proceeding { request, cancelled: cancelled @ None } => {
                out.push(Output::Cancel { request: request.clone() });
                *cancelled = Some(now + LIFE);
                true
            }
            State::Proceeding { cancelled: Some(_), .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => false,
        }
    }

    /// The transaction user acknowledges the 2xx with this To tag. Says whether it is waited for:
    /// only then it is kept.
    pub(crate) fn acknowledge(&mut self, to_tag: &[u8], flow: Flow, ack: &Octets) -> bool {
        match &mut self.state {
            State::Accepted { answers, .. } => {
                let answer = answers.iter_mut().find(|answer| answer.to_tag.0 == to_tag);
                answer.map(|answer| answer.ack = Some((flow, ack.clone()))).is_some()
            }
            State::Calling { .. }
            | State::Proceeding { .. }
            | State::Completed { .. }
            | State::Terminated => false,
        }
    }

    /// The INVITE could not be sent.
    pub(crate) fn handle_transport_error(&mut self, out: &mut Vec<Output>) {
        match self.state {
            State::Calling { .. } => self.fail(FailReason::Transport, out),
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    fn fail(&mut self, reason: FailReason, out: &mut Vec<Output>) {
        self.state = State::Terminated;
        out.push(Output::Failed(reason));
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Calling { request, timer_a, timer_b, .. } => {
                if *timer_b <= now {
                    self.fail(FailReason::Timeout, out);
                } else if timer_a.as_mut().is_some_and(|repeat| repeat.fire(now)) {
                    out.push(Output::Send { bytes: request.clone(), repeat: true });
                }
            }
            State::Proceeding { cancelled: Some(end), .. } if *end <= now => {
                self.fail(FailReason::Timeout, out);
            }
            State::Completed { timer_d: end, .. } | State::Accepted { timer_m: end, .. }
                if *end <= now =>
            {
                self.state = State::Terminated;
            }
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    /// When to call [`Self::handle_timeout`], if ever.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Calling { timer_a, timer_b, .. } => {
                Some(timer_a.as_ref().map_or(*timer_b, |repeat| repeat.next.min(*timer_b)))
            }
            State::Proceeding { cancelled, .. } => *cancelled,
            State::Completed { timer_d: end, .. } | State::Accepted { timer_m: end, .. } => {
                Some(*end)
            }
            State::Terminated => None,
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
            State::Calling { request, timer_b, cancel, .. } => Saved::Calling {
                request: request.clone(),
                timer_b: timer_b.remaining_from(now),
                cancel: *cancel,
            },
            State::Proceeding { request, cancelled } => Saved::Proceeding {
                request: request.clone(),
                cancelled: cancelled.map(|end| end.remaining_from(now)),
            },
            State::Completed { ack, timer_d } => {
                Saved::Completed { ack: ack.clone(), timer_d: timer_d.remaining_from(now) }
            }
            State::Accepted { answers, timer_m } => {
                Saved::Accepted { answers: answers.clone(), timer_m: timer_m.remaining_from(now) }
            }
            State::Terminated => return None,
        })
    }

    /// Goes on where the twin stopped `age` ago. An INVITE that nobody answered yet may never have
    /// left: it is sent again. An ACK is not: the other side asks for it by repeating its response.
    pub(crate) fn restore(
        now: Instant,
        reliable: bool,
        saved: Saved,
        age: Duration,
        out: &mut Vec<Output>,
    ) -> Self {
        let left = |remaining: Duration| now + remaining.saturating_sub(age);
        let state = match saved {
            Saved::Calling { request, timer_b, cancel } => {
                if left(timer_b) > now {
                    out.push(Output::Send { bytes: request.clone(), repeat: true });
                }
                Self::calling(now, reliable, request, left(timer_b), cancel)
            }
            Saved::Proceeding { request, cancelled } => {
                State::Proceeding { request, cancelled: cancelled.map(left) }
            }
            Saved::Completed { ack, timer_d } => State::Completed { ack, timer_d: left(timer_d) },
            Saved::Accepted { answers, timer_m } => {
                State::Accepted { answers, timer_m: left(timer_m) }
            }
        };
        Self { reliable, state }
    }
}

#[cfg(test)]
mod tests;
