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

/// What the twin needs to go on. It need not know transactions whose ACK came: what is left of
/// them is to ignore stray repetitions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Saved {
    Proceeding { last: Option<Octets> },
    Completed { response: Octets, timer_h: Duration },
    Accepted { response: Octets, timer_l: Duration },
}

impl Saved {
    /// The last response, if there was one.
    pub(crate) fn response(&self) -> Option<&Octets> {
        match self {
            Self::Proceeding { last } => last.as_ref(),
            Self::Completed { response, .. } | Self::Accepted { response, .. } => Some(response),
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
            State::Accepted { unheard: None, .. } | State::Confirmed { .. } | State::Terminated => {
                false
            }
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
        };
        out.extend(again.map(|bytes| Output::Send { bytes, repeat: true }));
        machine
    }
}
