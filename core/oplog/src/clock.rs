//! The clock of ops: wall time where it rises, a counter where it does not (a hybrid logical clock;
//! Kulkarni et al., "Logical Physical Clocks", 2014).
//!
//! ```text
//!   42 bits: milliseconds since 1970 (until 2109) | 13 bits: counter | 8 bits: node
//! ```
//!
//! A stamp is later than every stamp that its writer had seen, whatever its wall clock says. So a
//! clock that is wrong decides between writes that did not know of each other, and nothing else.

use core::fmt;

use serde::{Deserialize, Serialize};

const NODE_BITS: u32 = 8;
const COUNTER_BITS: u32 = 13;
const MILLIS_BITS: u32 = 42;

/// The highest counter in one millisecond; the next stamp takes the next millisecond.
pub const HLC_COUNTER_MAX: u16 = (1 << COUNTER_BITS) - 1;

/// The last millisecond that a stamp can hold: in May 2109.
pub const HLC_MILLIS_MAX: u64 = (1 << MILLIS_BITS) - 1;

/// When a change was made, and before or after which others. Unique to its writer.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Hlc(u64);

impl Hlc {
    /// Before every change.
    pub const ZERO: Self = Self(0);

    /// Puts the parts together; each is cut to what there is room for.
    pub fn new(millis: u64, counter: u16, node: u8) -> Self {
        let millis = millis.min(HLC_MILLIS_MAX);
        let counter = u64::from(counter.min(HLC_COUNTER_MAX));
        Self((millis << (COUNTER_BITS + NODE_BITS)) | (counter << NODE_BITS) | u64::from(node))
    }

    /// Milliseconds since 1970, never less than its writer's wall clock said.
    pub const fn millis(self) -> u64 {
        self.0 >> (COUNTER_BITS + NODE_BITS)
    }

    /// Position among the changes of that millisecond.
    pub const fn counter(self) -> u16 {
        ((self.0 >> NODE_BITS) & ((1 << COUNTER_BITS) - 1)) as u16
    }

    /// The server that made it.
    pub const fn node(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    /// As a column of a database: 63 bits, sorts like the stamp.
    pub const fn to_bits(self) -> i64 {
        self.0.cast_signed()
    }

    /// From a column of a database; `None` for what is no stamp.
    pub fn from_bits(bits: i64) -> Option<Self> {
        u64::try_from(bits).ok().map(Self)
    }
}

impl From<Hlc> for u64 {
    fn from(hlc: Hlc) -> Self {
        hlc.0
    }
}

impl TryFrom<u64> for Hlc {
    type Error = &'static str;

    fn try_from(bits: u64) -> Result<Self, Self::Error> {
        if bits >> (MILLIS_BITS + COUNTER_BITS + NODE_BITS) == 0 {
            Ok(Self(bits))
        } else {
            Err("a stamp has 63 bits")
        }
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.millis(), self.counter(), self.node())
    }
}

/// Makes stamps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Clock {
    node: u8,
    last: Hlc,
}

impl Clock {
    /// Goes on after `last`, the latest stamp that this server has made or taken.
    pub const fn new(node: u8, last: Hlc) -> Self {
        Self { node, last }
    }

    /// A stamp later than all before; `wall_millis` is the wall time, milliseconds since 1970.
    pub fn stamp(&mut self, wall_millis: u64) -> Hlc {
        let last = self.last;
        let (millis, counter) = if wall_millis > last.millis() {
            (wall_millis, 0)
        } else if last.counter() < HLC_COUNTER_MAX {
            (last.millis(), last.counter() + 1)
        } else {
            (last.millis() + 1, 0)
        };
        self.last = Hlc::new(millis, counter, self.node);
        self.last
    }

    /// A stamp of somebody else was taken: the next one made here is later.
    pub fn saw(&mut self, stamp: Hlc) {
        self.last = self.last.max(stamp);
    }

    /// The latest stamp made or taken.
    pub const fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_out_as_they_went_in_and_sort_in_their_order() {
        let mut before = None;
        for millis in [0, 1, 1_790_000_000_000, HLC_MILLIS_MAX] {
            for counter in [0, 1, HLC_COUNTER_MAX] {
                for node in [0, 1, 255] {
                    let hlc = Hlc::new(millis, counter, node);
                    assert_eq!((hlc.millis(), hlc.counter(), hlc.node()), (millis, counter, node));
                    assert!(before < Some(hlc));
                    assert_eq!(Hlc::from_bits(hlc.to_bits()), Some(hlc));
                    assert_eq!(Hlc::try_from(u64::from(hlc)), Ok(hlc));
                    before = Some(hlc);
                }
            }
        }
        assert_eq!(Hlc::from_bits(-1), None);
        assert!(Hlc::try_from(u64::MAX).is_err());
    }

    #[test]
    fn stamps_rise_whatever_the_wall_clock_does() {
        let mut clock = Clock::new(1, Hlc::ZERO);
        let mut before = Hlc::ZERO;
        for wall in [5, 5, 5, 3, 0, 7, 6, 1_000, 2] {
            let stamp = clock.stamp(wall);
            assert!(stamp > before && stamp.millis() >= wall, "{stamp} at {wall}");
            before = stamp;
        }
        for _ in 0..20_000 {
            let stamp = clock.stamp(0);
            assert!(stamp > before, "{stamp} after {before}");
            before = stamp;
        }
        assert_eq!(before.millis(), 1_002, "a full counter takes the next millisecond");
    }

    #[test]
    fn what_was_seen_is_before_what_is_made() {
        let mut clock = Clock::new(0, Hlc::ZERO);
        let far = Hlc::new(9_000_000, 7, 1);
        clock.saw(far);
        assert!(clock.stamp(1_000) > far);
        clock.saw(Hlc::new(1, 0, 1));
        assert!(clock.last() > far, "an old one takes nothing back");
    }
}
