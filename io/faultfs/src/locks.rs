//! Who has locked what: the file itself (five levels), and the slots of its shared memory.
//!
//! As in SQLite's own file system for Unix, but between the connections of one process only.

use std::collections::BTreeMap;

/// How much of a file a connection has locked, least first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Level {
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// Slots in the shared memory of a file.
const SLOTS: usize = 8;

/// How one slot is held.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    shared: u32,
    exclusive: Option<u64>,
}

/// The locks of one file. Connections go by number.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    levels: BTreeMap<u64, Level>,
    slots: [Slot; SLOTS],
}

impl Locks {
    /// Raises the lock of a connection; false where another one is in the way.
    pub(crate) fn raise(&mut self, who: u64, to: Level) -> bool {
        let most = self.others(who);
        let fits = match to {
            Level::None => true,
            Level::Shared => most < Level::Pending,
            Level::Reserved | Level::Pending => most < Level::Reserved,
            Level::Exclusive => most == Level::None,
        };
        if fits {
            let level = self.levels.entry(who).or_insert(Level::None);
            *level = (*level).max(to);
        }
        fits
    }

    pub(crate) fn lower(&mut self, who: u64, to: Level) {
        self.levels.insert(who, to);
    }

    pub(crate) fn is_reserved(&self, who: u64) -> bool {
        self.others(who) >= Level::Reserved
    }

    fn others(&self, who: u64) -> Level {
        let others = self.levels.iter().filter(|(id, _)| **id != who);
        others.map(|(_, level)| *level).max().unwrap_or(Level::None)
    }

    /// Locks slots for reading (many may) or for writing (one may); false where somebody is in the way.
    pub(crate) fn take(&mut self, who: u64, from: usize, count: usize, exclusive: bool) -> bool {
        let Some(slots) = self.slots.get_mut(from..from + count) else { return false };
        let fits = |slot: &Slot| {
            slot.exclusive.is_none_or(|holder| holder == who) && (!exclusive || slot.shared == 0)
        };
        if !slots.iter().all(fits) {
            return false;
        }
        for slot in slots {
            if exclusive {
                slot.exclusive = Some(who);
            } else {
                slot.shared += 1;
            }
        }
        true
    }

    /// Gives slots back.
    pub(crate) fn give(&mut self, who: u64, from: usize, count: usize, exclusive: bool) {
        for slot in self.slots.get_mut(from..from + count).into_iter().flatten() {
            if !exclusive {
                slot.shared = slot.shared.saturating_sub(1);
            } else if slot.exclusive == Some(who) {
                slot.exclusive = None;
            }
        }
    }

    /// A connection is closed.
    pub(crate) fn leave(&mut self, who: u64) {
        self.levels.remove(&who);
        for slot in &mut self.slots {
            if slot.exclusive == Some(who) {
                slot.exclusive = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_read_and_one_writes() {
        let mut locks = Locks::default();
        assert!(locks.raise(1, Level::Shared) && locks.raise(2, Level::Shared));
        assert!(locks.raise(1, Level::Reserved) && !locks.raise(2, Level::Reserved));
        assert!(locks.is_reserved(2) && !locks.is_reserved(1));
        assert!(!locks.raise(1, Level::Exclusive), "one reads still");
        locks.lower(2, Level::None);
        assert!(locks.raise(1, Level::Exclusive) && !locks.raise(2, Level::Shared));
        locks.leave(1);
        assert!(locks.raise(2, Level::Exclusive));
    }

    #[test]
    fn slots_are_shared_or_one_connections() {
        let mut locks = Locks::default();
        assert!(locks.take(1, 3, 1, false) && locks.take(2, 3, 1, false));
        assert!(!locks.take(3, 2, 3, true));
        locks.give(1, 3, 1, false);
        locks.give(2, 3, 1, false);
        assert!(locks.take(3, 2, 3, true) && !locks.take(1, 4, 1, false));
        assert!(locks.take(1, 5, 1, true));
        locks.leave(3);
        assert!(locks.take(1, 2, 3, true));
        assert!(!locks.take(1, 7, 2, true), "there are eight");
    }
}
