use core::fmt;
use serde::{Deserialize, Serialize};

/// The place a server holds in the pair by configuration. It never changes at run time.
///
/// Do not confuse with the [`Role`], which does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seat {
    /// Leads after a cold start of both.
    Master,
    /// Follows the master after a cold start of both.
    Standby,
}

impl Seat {
    /// Both seats, for tables and tests.
    pub const ALL: [Self; 2] = [Self::Master, Self::Standby];

    /// The seat of the twin.
    pub const fn other(self) -> Self {
        match self {
            Self::Master => Self::Standby,
            Self::Standby => Self::Master,
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Standby => "standby",
        })
    }
}

/// What a server does at the moment.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves phones.
    Active,
    /// Holds its twin's state and refuses phones with 503.
    Passive,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Passive => "passive",
        })
    }
}

/// A reign: raised by one each time a server becomes active.
///
/// The seat is part of the value, so two servers that cannot hear each other never mint the same
/// epoch.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Epoch {
    /// Counts reigns. Zero: before the first.
    pub number: u32,
    /// Who reigned.
    pub seat: Seat,
}

impl Epoch {
    /// Before the first reign.
    pub const NEVER: Self = Self { number: 0, seat: Seat::Master };

    /// The epoch that `seat` mints next when `self` is the highest seen.
    pub const fn next(self, seat: Seat) -> Self {
        Self { number: self.number + 1, seat }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.seat {
            Seat::Master => 'M',
            Seat::Standby => 'S',
        };
        write!(f, "{}{letter}", self.number)
    }
}

/// Position of an entry in the journal of one reign, counted from 1.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// When a record was written: in which reign, and where in its journal. Total order over both
/// servers; the later stamp wins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Stamp {
    /// The reign.
    pub epoch: Epoch,
    /// Position in that reign's journal.
    pub seq: Seq,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}
