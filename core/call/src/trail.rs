//! What happened in a call, in order: which devices were invited, rang, refused, answered, and which
//! server took the call over.
//!
//! The trail grows in the call's own record, which is on both servers at each step anyway, and is written
//! for good together with the call detail record. So it costs neither a message nor a sync of its own. When
//! the call began and how it ended stands in [`Cdr`](crate::Cdr) and not here.

use serde::{Deserialize, Serialize};
use tandem_types::Epoch;

use crate::names::LegId;

/// Events that are kept of one call. Further ones are counted and not kept; a call that rings at 32
/// devices, all of which ring and are cancelled, has 97.
pub const TRAIL_MAX: usize = 160;

/// What happened to one leg of a call, or to all of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEvent {
    /// A device was invited.
    Attempt {
        /// The device.
        leg: LegId,
    },
    /// It began to ring, or to play something to the caller.
    Ringing {
        /// The device.
        leg: LegId,
    },
    /// It answered.
    Answered {
        /// The device.
        leg: LegId,
    },
    /// It refused, could not be reached (503) or was silent (408).
    Refused {
        /// The device.
        leg: LegId,
        /// 300 to 699.
        status: u16,
    },
    /// The server stopped its ringing: another one answered, the caller gave up, or time did.
    Cancelled {
        /// The device.
        leg: LegId,
    },
    /// Another server went on with the call.
    TakenOver {
        /// In this reign.
        epoch: Epoch,
    },
}

/// One event and when it was.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Step {
    /// Microseconds since the call began. Never goes back within a call.
    pub after_us: u64,
    /// What happened.
    pub event: CallEvent,
}

/// The events of one call, oldest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Trail {
    /// At most [`TRAIL_MAX`].
    pub steps: Vec<Step>,
    /// Events that were not kept.
    pub left_out: u32,
}

impl Trail {
    /// One more. `start` and `wall` are microseconds since 1970 UTC; a clock that is behind the last event
    /// counts as that event's time.
    pub(crate) fn note(&mut self, start: i64, wall: i64, event: CallEvent) {
        if self.steps.len() >= TRAIL_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let latest = self.steps.last().map_or(0, |step| step.after_us);
        let after_us = u64::try_from(wall.saturating_sub(start)).unwrap_or(0).max(latest);
        self.steps.push(Step { after_us, event });
    }

    /// Whether this very event is there already.
    pub(crate) fn has(&self, event: CallEvent) -> bool {
        self.steps.iter().any(|step| step.event == event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_trail_do_not_go_back_when_the_clock_does() {
        let mut trail = Trail::default();
        let leg = LegId(1);
        trail.note(1_000, 900, CallEvent::Attempt { leg });
        trail.note(1_000, 1_700, CallEvent::Ringing { leg });
        trail.note(1_000, 1_200, CallEvent::Answered { leg });
        let times: Vec<u64> = trail.steps.iter().map(|step| step.after_us).collect();
        assert_eq!(times, [0, 700, 700]);
        assert!(trail.has(CallEvent::Ringing { leg }));
        assert!(!trail.has(CallEvent::Ringing { leg: LegId(2) }));
    }

    #[test]
    fn a_trail_keeps_so_many_events_and_counts_the_others() {
        let mut trail = Trail::default();
        for _ in 0..TRAIL_MAX + 3 {
            trail.note(0, 0, CallEvent::Cancelled { leg: LegId(1) });
        }
        assert_eq!((trail.steps.len(), trail.left_out), (TRAIL_MAX, 3));
    }
}
