use core::fmt;
use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A point on this machine's monotonic clock, in microseconds.
///
/// Not `std::time::Instant`: that one cannot be made up in a test, printed, or recorded.
/// Meaningful on one machine only, therefore not serialisable: what must survive a takeover is
/// stored as time remaining.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant {
    micros: u64,
}

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self { micros: 0 };

    /// The point `micros` microseconds after the start of the clock.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Microseconds since the start of the clock.
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// Time left from `now` until this point; zero when it has passed.
    pub fn remaining_from(self, now: Self) -> Duration {
        Duration::from_micros(self.micros.saturating_sub(now.micros))
    }

    /// Time that has passed from this point until `now`; zero when it lies ahead.
    pub fn elapsed_until(self, now: Self) -> Duration {
        now.remaining_from(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self { micros: self.micros.saturating_add(micros) }
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the start of the clock.
    fn sub(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self { micros: self.micros.saturating_sub(micros) }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.micros / 1_000_000, self.micros / 1_000 % 1_000)
    }
}
