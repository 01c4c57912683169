//! The records in memory: of class hot and table, by key. The same on both servers once in sync.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tandem_types::{Duration, Instant, Stamp};

use crate::entry::{Class, Entry, Record};
use crate::frame::{CHUNK_BYTES, CHUNK_RECORDS_MAX};

/// One record in memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Kept {
    pub(crate) class: Class,
    pub(crate) stamp: Stamp,
    /// When it came here, on this machine's clock.
    came: Instant,
    /// Its age at that time. (Apart, because it may be older than this machine's clock.)
    age: Duration,
    pub(crate) body: Option<Vec<u8>>,
}

impl Kept {
    /// Time since it was written.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(self.came.elapsed_until(now))
    }
}

/// Every hot and table record. Log records pass through to the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    records: BTreeMap<Vec<u8>, Kept>,
    /// How many there are of each kind, tombstones not counted.
    kinds: BTreeMap<Vec<u8>, usize>,
}

/// The kind of a record: its key up to the first slash, with it; all of the key where there is none.
fn kind_of(key: &[u8]) -> &[u8] {
    let end = key.iter().position(|byte| *byte == b'/').map_or(key.len(), |at| at + 1);
    &key[..end]
}

impl Replica {
    /// Takes an entry's changes.
    pub(crate) fn apply(&mut self, now: Instant, entry: &Entry) {
        for op in &entry.ops {
            match (op.class, &op.body) {
                (Class::Log, _) => {}
                (Class::Hot, None) => {
                    self.remove(&op.key);
                }
                (Class::Hot | Class::Table, body) => {
                    let kept = Kept {
                        class: op.class,
                        stamp: entry.stamp,
                        came: now,
                        age: Duration::ZERO,
                        body: body.clone(),
                    };
                    self.insert(op.key.clone(), kept);
                }
            }
        }
    }

    /// Takes a record of a catch-up where it is newer than ours. True where it was.
    pub(crate) fn merge(&mut self, now: Instant, record: &Record) -> bool {
        if record.class == Class::Log {
            return false;
        }
        if self.records.get(&record.key).is_some_and(|ours| ours.stamp >= record.stamp) {
            return false;
        }
        let kept = Kept {
            class: record.class,
            stamp: record.stamp,
            came: now,
            age: record.age,
            body: record.body.clone(),
        };
        self.insert(record.key.clone(), kept);
        true
    }

    /// Removes our version of `record` where it is the later one. True where it was.
    pub(crate) fn remove_later(&mut self, record: &Record) -> bool {
        let later = self.records.get(&record.key).is_some_and(|ours| ours.stamp > record.stamp);
        later && self.remove(&record.key)
    }

    /// The only place where records come.
    fn insert(&mut self, key: Vec<u8>, kept: Kept) {
        let is_there = kept.body.is_some();
        let was_there = match self.records.get_mut(&key) {
            Some(old) => core::mem::replace(old, kept).body.is_some(),
            None => {
                self.records.insert(key.clone(), kept);
                false
            }
        };
        match (was_there, is_there) {
            (false, true) => match self.kinds.get_mut(kind_of(&key)) {
                Some(count) => *count += 1,
                None => drop(self.kinds.insert(kind_of(&key).to_vec(), 1)),
            },
            (true, false) => self.count_down(&key),
            (true, true) | (false, false) => {}
        }
    }

    /// The only place where records go. True where there was one.
    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(old) = self.records.remove(key) else { return false };
        if old.body.is_some() {
            self.count_down(key);
        }
        true
    }

    fn count_down(&mut self, key: &[u8]) {
        if let Some(count) = self.kinds.get_mut(kind_of(key)) {
            *count -= 1;
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Kept> {
        self.records.get(key)
    }

    pub(crate) fn count(&self, kind: &[u8]) -> usize {
        self.kinds.get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Kept)> {
        self.records.iter()
    }

    /// The next records after `after` that `wanted` holds for, as many as fit into one frame, and
    /// where to go on; `None` when there are no more.
    pub(crate) fn chunk(
        &self,
        now: Instant,
        after: Option<&Vec<u8>>,
        wanted: impl Fn(&Kept) -> bool,
    ) -> (Vec<Record>, Option<Vec<u8>>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut records = Vec::new();
        let mut bytes = 0;
        for (key, kept) in self.records.range::<Vec<u8>, _>((from, Bound::Unbounded)) {
            if !wanted(kept) {
                continue;
            }
            if records.len() == CHUNK_RECORDS_MAX || bytes >= CHUNK_BYTES {
                let last = records.last().map(|record: &Record| record.key.clone());
                return (records, last);
            }
            bytes += key.len() + kept.body.as_ref().map_or(0, Vec::len);
            records.push(Record {
                class: kept.class,
                key: key.clone(),
                stamp: kept.stamp,
                age: kept.age(now),
                body: kept.body.clone(),
            });
        }
        (records, None)
    }

    /// Hot records that the active server no longer has: those whose keys it did not name. They
    /// are removed; their keys are returned, for the store.
    pub(crate) fn sweep(&mut self, named: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
        let gone: Vec<Vec<u8>> = self
            .records
            .iter()
            .filter(|(key, kept)| kept.class == Class::Hot && !named.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.remove(key);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Op;
    use tandem_types::{Dice, Epoch, Seat, Seq};

    #[test]
    fn what_is_counted_of_each_kind_is_what_is_there() {
        let mut dice = Dice::from_number(5);
        let mut replica = Replica::default();
        let keys = ["call/1", "call/2", "user/1", "user/2", "plain"];
        let mut most = 0;
        for seq in 1..=2_000 {
            let key = keys[usize::try_from(dice.below(5)).unwrap()].as_bytes().to_vec();
            let class = if key.starts_with(b"user/") { Class::Table } else { Class::Hot };
            let body = dice.chance(60).then(|| vec![1]);
            let stamp = Stamp { epoch: Epoch { number: 1, seat: Seat::Master }, seq: Seq(seq) };
            match dice.below(4) {
                0 => {
                    let age = Duration::ZERO;
                    replica.merge(Instant::ZERO, &Record { class, key, stamp, age, body });
                }
                1 if dice.chance(10) => drop(replica.sweep(&BTreeSet::new())),
                _ => {
                    let ops = vec![Op { class, key, body }];
                    replica.apply(Instant::ZERO, &Entry { stamp, ops });
                }
            }
            for kind in ["call/", "user/", "plain"] {
                let there = replica
                    .records
                    .iter()
                    .filter(|(key, kept)| kind_of(key) == kind.as_bytes() && kept.body.is_some());
                let there = there.count();
                assert_eq!(replica.count(kind.as_bytes()), there, "{kind} after {seq}");
                most = most.max(there);
            }
        }
        assert_eq!(most, 2);
    }
}
