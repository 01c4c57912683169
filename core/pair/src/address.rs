//! The virtual address of the pair: claimed, announced, released.
//!
//! ```text
//! None ──claim──> Claiming ──claimed──> Held ──release──────────────> None
//!                    │                    └──handed over──> Leaving ──┘
//!                    └──failed, too long──> (reported; the table decides)
//! ```
//!
//! Announcing is repeated: a switch or a phone that missed one gratuitous ARP keeps sending to the
//! wrong machine for minutes otherwise.

use tandem_types::{Duration, Instant};

/// When the address is announced, after it was claimed and after a rival has gone.
pub const REFRESH_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2_000),
];

/// Pause between announcements after those: so long at most phones stay with a machine that
/// announced the address and died while we were cut off from everybody.
const REFRESH_EVERY: Duration = Duration::from_secs(3);

/// The address, as far as we asked for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// Not ours.
    None,
    /// Asked for; the kernel has until then.
    Claiming { until: Instant },
    /// Ours. Announced at `next`; `round` announcements were made since `from`.
    Held { from: Instant, round: usize, next: Instant },
    /// The twin has it too, after a planned switch: what phones still send here is passed on to it.
    Leaving { until: Instant },
}

impl Address {
    /// The kernel has it for us.
    pub(crate) fn claimed(&mut self, now: Instant) {
        match self {
            Self::Claiming { .. } => *self = Self::Held { from: now, round: 0, next: now },
            Self::None | Self::Held { .. } | Self::Leaving { .. } => {}
        }
    }

    /// The twin has it: heard on for so long, then given up.
    pub(crate) fn leave(&mut self, until: Instant) {
        match self {
            Self::Held { .. } | Self::Claiming { .. } => *self = Self::Leaving { until },
            Self::None | Self::Leaving { .. } => {}
        }
    }

    /// Whether it was heard on for long enough.
    pub(crate) fn is_left(&self, now: Instant) -> bool {
        match self {
            Self::Leaving { until } => *until <= now,
            Self::None | Self::Claiming { .. } | Self::Held { .. } => false,
        }
    }

    /// Whether the kernel has it for us.
    pub(crate) fn is_held(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::None | Self::Claiming { .. } | Self::Leaving { .. } => false,
        }
    }

    /// Announces afresh, as after a claim.
    pub(crate) fn announce(&mut self, now: Instant) {
        match self {
            Self::Held { .. } => *self = Self::Held { from: now, round: 0, next: now },
            Self::None | Self::Claiming { .. } | Self::Leaving { .. } => {}
        }
    }

    /// Whether an announcement is due; it then counts as made.
    pub(crate) fn refresh_due(&mut self, now: Instant) -> bool {
        match self {
            Self::Held { from, round, next } if *next <= now => {
                *round += 1;
                *next = match REFRESH_AT.get(*round) {
                    Some(after) => *from + *after,
                    None => now + REFRESH_EVERY,
                };
                true
            }
            Self::None | Self::Claiming { .. } | Self::Held { .. } | Self::Leaving { .. } => false,
        }
    }

    /// Whether the kernel took too long.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        match self {
            Self::Claiming { until } => *until <= now,
            Self::None | Self::Held { .. } | Self::Leaving { .. } => false,
        }
    }

    /// When something is due next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Claiming { until } | Self::Leaving { until } => Some(*until),
            Self::Held { next, .. } => Some(*next),
        }
    }
}
