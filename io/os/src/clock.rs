//! The two clocks: one that never jumps for deadlines, one for people.

use rustix::time::{ClockId, clock_gettime};
use tandem_types::Instant;

/// Now, on the clock that all processes of this machine share and that goes on while it sleeps
/// (`CLOCK_BOOTTIME`).
pub fn now() -> Instant {
    Instant::from_micros(micros(ClockId::Boottime))
}

/// Seconds since 1970 (UTC). May jump; zero before 1970.
pub fn wall_seconds() -> u64 {
    wall_micros() / 1_000_000
}

/// Microseconds since 1970 (UTC). May jump; zero before 1970.
pub fn wall_micros() -> u64 {
    micros(ClockId::Realtime)
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_the_calendar_is_of_this_century() {
        let (first, second) = (now(), now());
        assert!(first <= second && first > Instant::ZERO);
        assert!(wall_seconds() > 1_700_000_000);
    }
}
