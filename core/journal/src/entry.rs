//! What the journal carries: opaque records with a class, grouped into entries.

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Seq, Stamp};

/// How a record is kept. The journal knows nothing else about what is inside.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Class {
    /// Changes all the time and ends soon (a call, a transaction, a binding): in the memory of both
    /// servers, on disk without waiting for it. A deleted one leaves no trace.
    Hot,
    /// Kept for good and needed at hand (a user, a setting): in memory and synced to disk. A
    /// deleted one leaves a tombstone, so that the twin learns of the deletion after any absence.
    Table,
    /// Kept for good and only read on demand (a call detail record): synced to disk, not in memory.
    Log,
}

impl Class {
    /// Whether a record of this class must be synced to the local disk before anybody hears of it.
    pub const fn is_durable(self) -> bool {
        match self {
            Self::Hot => false,
            Self::Table | Self::Log => true,
        }
    }
}

/// One change of one record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Op {
    /// How the record is kept.
    pub class: Class,
    /// Names the record; unique over all classes.
    pub key: Vec<u8>,
    /// The new content, or `None` where the record is deleted.
    pub body: Option<Vec<u8>>,
}

/// Changes that belong together: either all of them are on a server or none.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Reign and position.
    pub stamp: Stamp,
    /// The changes, in order.
    pub ops: Vec<Op>,
}

impl Entry {
    /// Whether this entry must be synced to the local disk before anybody hears of it.
    pub fn is_durable(&self) -> bool {
        self.ops.iter().any(|op| op.class.is_durable())
    }
}

/// A record as it is kept and as it travels in a catch-up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// How it is kept.
    pub class: Class,
    /// Its name.
    pub key: Vec<u8>,
    /// The entry that wrote it. Of two versions the later stamp wins.
    pub stamp: Stamp,
    /// Time since it was written: times inside the body are remaining times as of then.
    pub age: Duration,
    /// Its content; `None` is a tombstone.
    pub body: Option<Vec<u8>>,
}

/// What a server has of each reign: every entry up to that position. Ordered by epoch.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Known(std::collections::BTreeMap<Epoch, Seq>);

impl Known {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self(std::collections::BTreeMap::new())
    }

    /// Everything up to `stamp` in its reign is known from now on.
    pub fn learn(&mut self, stamp: Stamp) {
        let seq = self.0.entry(stamp.epoch).or_default();
        *seq = (*seq).max(stamp.seq);
    }

    /// The entry with this stamp is not known any more, nor is what came after it in its reign.
    pub fn doubt(&mut self, stamp: Stamp) {
        if let Some(seq) = self.0.get_mut(&stamp.epoch) {
            *seq = (*seq).min(Seq(stamp.seq.0.saturating_sub(1)));
        }
    }

    /// Nothing of any reign but this one is known any more.
    pub fn doubt_all(&mut self, but: Option<Epoch>) {
        let others = self.0.iter_mut().filter(|(epoch, _)| Some(**epoch) != but);
        others.for_each(|(_, seq)| *seq = Seq::ZERO);
    }

    /// Everything `other` knows is known here from now on.
    pub fn merge(&mut self, other: &Self) {
        for (epoch, seq) in &other.0 {
            self.learn(Stamp { epoch: *epoch, seq: *seq });
        }
    }

    /// Whether the entry with this stamp is known.
    pub fn covers(&self, stamp: Stamp) -> bool {
        self.0.get(&stamp.epoch).is_some_and(|seq| *seq >= stamp.seq)
    }

    /// Whether the entry with this stamp follows on what is known of its reign.
    pub fn is_next(&self, stamp: Stamp) -> bool {
        self.0.get(&stamp.epoch).copied().unwrap_or_default().next() == stamp.seq
    }

    /// The highest reign of which anything is known.
    pub fn latest(&self) -> Option<Stamp> {
        self.0.last_key_value().map(|(epoch, seq)| Stamp { epoch: *epoch, seq: *seq })
    }

    /// Each reign and how far it is known, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Stamp> {
        self.0.iter().map(|(epoch, seq)| Stamp { epoch: *epoch, seq: *seq })
    }
}
