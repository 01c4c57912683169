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
}

impl Replica {
    /// Takes an entry's changes.
    pub(crate) fn apply(&mut self, now: Instant, entry: &Entry) {
        for op in &entry.ops {
            match (op.class, &op.body) {
                (Class::Log, _) => {}
                (Class::Hot, None) => {
                    self.records.remove(&op.key);
                }
                (Class::Hot | Class::Table, body) => {
                    let kept = Kept {
                        class: op.class,
                        stamp: entry.stamp,
                        came: now,
                        age: Duration::ZERO,
                        body: body.clone(),
                    };
                    self.records.insert(op.key.clone(), kept);
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
        self.records.insert(record.key.clone(), kept);
        true
    }

    /// Removes our version of `record` where it is the later one. True where it was.
    pub(crate) fn remove_later(&mut self, record: &Record) -> bool {
        let later = self.records.get(&record.key).is_some_and(|ours| ours.stamp > record.stamp);
        later && self.records.remove(&record.key).is_some()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Kept> {
        self.records.get(key)
    }

    pub(crate) fn count(&self, prefix: &[u8]) -> usize {
        let from = self.records.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let same = from.take_while(|(key, _)| key.starts_with(prefix));
        same.filter(|(_, kept)| kept.body.is_some()).count()
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
            self.records.remove(key);
        }
        gone
    }
}
