//! How a reign began: from the last sign of the server before to the first moment of serving.
//!
//! ```text
//! twin heard to serve ──> decided ──> epoch on disk ──> address claimed ──> server serves
//!                  unserved       saved            claimed             ready
//! ```

use serde::{Deserialize, Serialize};
use tandem_pair::{Change, Event as Case, State};
use tandem_types::{Duration, Epoch, Instant};

/// A reign has begun: its server serves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Begun {
    /// The reign.
    pub reign: Epoch,
    /// The case that led to it.
    pub case: Case,
    /// From the last sign that the twin served until this server was to serve; `None`: it was not
    /// heard to serve since this keeper was started.
    pub unserved: Option<Duration>,
    /// Then until the epoch was on disk.
    pub saved: Duration,
    /// Then until the virtual address was ours.
    pub claimed: Duration,
    /// Then until the server served.
    pub ready: Duration,
}

impl Begun {
    /// From the last sign of the twin's service, or from the decision, until this server served.
    pub fn total(&self) -> Duration {
        self.unserved.unwrap_or_default() + self.saved + self.claimed + self.ready
    }
}

/// A reign that is about to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    case: Case,
    unserved: Option<Duration>,
    /// When the step before the present one was done.
    step: Instant,
    /// The epoch is on disk: which it is, and how long that took.
    saved: Option<(Epoch, Duration)>,
    claimed: Option<Duration>,
}

impl Beginning {
    /// What a change of state makes of `before`.
    pub(crate) fn changed(before: Option<Self>, now: Instant, change: &Change) -> Option<Self> {
        match change.to {
            State::Claiming => Some(Self {
                case: change.evidence.case,
                unserved: change.evidence.twin_served,
                step: now,
                saved: None,
                claimed: None,
            }),
            State::Active => before.map(|begins| Self {
                step: now,
                saved: Some((change.reign, begins.step.elapsed_until(now))),
                ..begins
            }),
            State::Cold | State::Passive | State::Probing | State::Yielding | State::Stopped => {
                None
            }
        }
    }

    /// The virtual address is ours.
    pub(crate) fn claimed(self, now: Instant) -> Self {
        let claimed = self.claimed.unwrap_or_else(|| self.step.elapsed_until(now));
        Self { claimed: Some(claimed), step: now, ..self }
    }

    /// The server serves: what there is to tell, once everything before is done.
    pub(crate) fn serves(self, now: Instant) -> Option<Begun> {
        let ((reign, saved), claimed) = (self.saved?, self.claimed?);
        let ready = self.step.elapsed_until(now);
        Some(Begun { reign, case: self.case, unserved: self.unserved, saved, claimed, ready })
    }
}
