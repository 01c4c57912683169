//! How far the clocks of the two servers are apart.
//!
//! A question carries nothing but its number; the answer comes with the other clock's time. The question
//! was on its way for at most the whole round trip, so that clock showed it somewhere in between: the
//! difference is known to half a round trip.
//!
//! Clocks decide between writes that did not know of each other, say when a block ends, and how old a
//! change is. Nothing breaks where they differ, but people are surprised: so they hear of it.

use tandem_types::{Duration, Instant};

use crate::fact::Fact;

/// The clocks are compared this often.
pub const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// Further apart than this is told.
pub const APART_MILLIS: u64 = 2_000;

/// Further apart than this, nothing is written or forgotten because of what a clock says.
pub const FAR_MILLIS: u64 = 60_000;

/// An answer that took longer than this says too little.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// The difference, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    asked: Option<(u64, Instant)>,
    number: u64,
    /// The other clock is ahead by so much; negative: behind.
    ahead_millis: Option<i64>,
    told: bool,
}

impl Skew {
    /// The link is there or gone: what is known stays until it is known better.
    pub fn forget_question(&mut self) {
        self.asked = None;
    }

    /// A question goes out: its number.
    pub fn ask(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.asked = Some((self.number, now));
        self.number
    }

    /// The answer: what the other clock said, and what ours says now (milliseconds since 1970).
    pub fn answered(&mut self, now: Instant, number: u64, theirs: u64, ours: u64) -> Option<Fact> {
        let (_, asked) = self.asked.take_if(|(asked, _)| *asked == number)?;
        let trip = asked.elapsed_until(now);
        if trip > ROUND_TRIP_MAX {
            return None;
        }
        let half = i64::try_from(trip.as_micros() / 2_000).unwrap_or(0);
        let signed = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        let ahead = signed(theirs).saturating_add(half).saturating_sub(signed(ours));
        self.ahead_millis = Some(ahead);
        // Only what is certain is told.
        let apart = ahead.unsigned_abs().saturating_sub(half.unsigned_abs()) > APART_MILLIS;
        let together = ahead.unsigned_abs() + half.unsigned_abs() <= APART_MILLIS;
        match self.told {
            false if apart => {
                self.told = true;
                Some(Fact::ClocksApart { ahead_millis: ahead })
            }
            true if together => {
                self.told = false;
                Some(Fact::ClocksTogether)
            }
            false | true => None,
        }
    }

    /// By how much the other clock is ahead, in milliseconds; `None` before it was ever known.
    pub const fn ahead_millis(&self) -> Option<i64> {
        self.ahead_millis
    }

    /// Whether anything may be written or forgotten because a clock says so.
    pub fn may_write_automatically(&self) -> bool {
        self.ahead_millis.is_none_or(|ahead| ahead.unsigned_abs() <= FAR_MILLIS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// Asks at `from`, hears at `to`.
    fn round(skew: &mut Skew, from: u64, to: u64, theirs: u64, ours: u64) -> Option<Fact> {
        let number = skew.ask(at(from));
        skew.answered(at(to), number, theirs, ours)
    }

    #[test]
    fn what_is_certain_is_told_once_and_once_when_it_is_over() {
        let mut skew = Skew::default();
        assert!(skew.may_write_automatically());
        assert_eq!(round(&mut skew, 0, 10, 1_000_000, 1_000_005), None);
        assert_eq!(skew.ahead_millis(), Some(0));
        let limit = 1_000_000 + APART_MILLIS;
        assert_eq!(round(&mut skew, 0, 0, limit, 1_000_000), None, "at the limit");
        let apart = Fact::ClocksApart { ahead_millis: 2_001 };
        assert_eq!(round(&mut skew, 0, 0, limit + 1, 1_000_000), Some(apart));
        assert_eq!(round(&mut skew, 0, 0, limit + 9, 1_000_000), None, "told already");
        assert_eq!(round(&mut skew, 0, 0, 1_000_000, 1_000_000), Some(Fact::ClocksTogether));
        assert_eq!(round(&mut skew, 0, 0, 1_000_000, 1_000_000), None);
    }

    #[test]
    fn a_slow_answer_accuses_nobody() {
        let mut skew = Skew::default();
        // Three seconds each way look like this at worst.
        assert_eq!(round(&mut skew, 0, 6_000, 1_000_000, 1_006_000), None);
        assert_eq!(round(&mut skew, 0, 11_000, 9_000_000, 1_006_000), None);
        assert_eq!(skew.ahead_millis(), Some(-3_000), "one that took too long is not counted");
        assert_eq!(skew.answered(at(0), 99, 9_000_000, 0), None, "nobody asked that");
    }

    #[test]
    fn a_minute_apart_nothing_is_done_because_of_a_clock() {
        let mut skew = Skew::default();
        let _ = round(&mut skew, 0, 0, 1_000_000, 1_000_000 + FAR_MILLIS);
        assert!(skew.may_write_automatically());
        let _ = round(&mut skew, 0, 0, 1_000_000, 1_000_001 + FAR_MILLIS);
        assert!(!skew.may_write_automatically());
    }
}
