//! Log records that the disk does not have yet.
//!
//! Log records are not in memory: a catch-up reads them off the disk, after hot and table records, which takes as
//! long as the disk takes. Whoever takes over before that has the answer to a call (a transaction is hot) and would
//! give it, without the record which it promises. So what still waits for the disk is kept here until the disk has
//! it, and is sent before everything else. What the disk has comes back with the disk.

use std::collections::VecDeque;

use tandem_types::{Duration, Instant};

use crate::entry::{Class, Entry, Known, Record};
use crate::frame::{CHUNK_BYTES, CHUNK_RECORDS_MAX};

/// Bytes of log records that are kept for a disk which takes nothing: some thousands of calls. Beyond that the oldest
/// are left out.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The log records under way to the disk, oldest first.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    records: VecDeque<(u64, Instant, Record)>,
    bytes: usize,
}

impl Fresh {
    /// The disk is given this entry with this ticket.
    pub(super) fn note(&mut self, now: Instant, ticket: u64, entry: &Entry) {
        let stamp = entry.stamp;
        for op in entry.ops.iter().filter(|op| op.class == Class::Log) {
            let (class, key, body) = (op.class, op.key.clone(), op.body.clone());
            let record = Record { class, key, stamp, age: Duration::ZERO, body };
            self.bytes += size(&record);
            self.records.push_back((ticket, now, record));
        }
        while self.bytes > BYTES_MAX {
            self.forget_first();
        }
    }

    /// The disk has everything up to this ticket: a write with log records in it is synced.
    pub(super) fn stored(&mut self, ticket: u64) {
        while self.records.front().is_some_and(|(first, ..)| *first <= ticket) {
            self.forget_first();
        }
    }

    /// Those that `known` does not cover.
    pub(super) fn lacking(&self, now: Instant, known: &Known) -> VecDeque<Record> {
        let lacking = self.records.iter().filter(|(.., record)| !known.covers(record.stamp));
        let aged = |(_, since, record): &(u64, Instant, Record)| {
            let age = since.elapsed_until(now);
            Record { age, ..record.clone() }
        };
        lacking.map(aged).collect()
    }

    fn forget_first(&mut self) {
        if let Some((.., record)) = self.records.pop_front() {
            self.bytes -= size(&record);
        }
    }
}

/// Takes from `records` what fits into one frame.
pub(super) fn take_chunk(records: &mut VecDeque<Record>) -> Vec<Record> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while chunk.len() < CHUNK_RECORDS_MAX
        && bytes < CHUNK_BYTES
        && let Some(record) = records.pop_front()
    {
        bytes += size(&record);
        chunk.push(record);
    }
    chunk
}

fn size(record: &Record) -> usize {
    record.key.len() + record.body.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Op;
    use tandem_types::{Epoch, Seat, Seq, Stamp};

    const NOW: Instant = Instant::ZERO;

    fn entry(seq: u64, class: Class, bytes: usize) -> Entry {
        let stamp = Stamp { epoch: Epoch { number: 1, seat: Seat::Master }, seq: Seq(seq) };
        let op = Op { class, key: seq.to_be_bytes().to_vec(), body: Some(vec![0; bytes]) };
        Entry { stamp, ops: vec![op] }
    }

    fn seqs(fresh: &Fresh, known: &Known) -> Vec<u64> {
        fresh.lacking(NOW, known).iter().map(|record| record.stamp.seq.0).collect()
    }

    #[test]
    fn log_records_are_kept_until_the_disk_has_them() {
        let mut fresh = Fresh::default();
        for (seq, class) in [(1, Class::Log), (2, Class::Hot), (3, Class::Log), (4, Class::Log)] {
            fresh.note(NOW, 10 + seq, &entry(seq, class, 3));
        }
        assert_eq!(seqs(&fresh, &Known::new()), [1, 3, 4]);
        fresh.stored(12);
        assert_eq!(seqs(&fresh, &Known::new()), [3, 4]);
        let mut known = Known::new();
        known.learn(entry(3, Class::Log, 0).stamp);
        assert_eq!(seqs(&fresh, &known), [4]);
        let later = NOW + Duration::from_secs(2);
        assert_eq!(fresh.lacking(later, &known)[0].age, Duration::from_secs(2));
        fresh.stored(14);
        assert_eq!((seqs(&fresh, &Known::new()), fresh.bytes), (vec![], 0));
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_no_more_memory_than_that() {
        let mut fresh = Fresh::default();
        for seq in 1..=10 {
            fresh.note(NOW, seq, &entry(seq, Class::Log, BYTES_MAX / 4));
        }
        assert_eq!(seqs(&fresh, &Known::new()), [8, 9, 10]);
        assert!(fresh.bytes <= BYTES_MAX);
    }

    #[test]
    fn a_frame_holds_so_many() {
        let record = |bytes| {
            let Entry { stamp, ops } = entry(1, Class::Log, bytes);
            let [op] = <[Op; 1]>::try_from(ops).unwrap();
            Record { class: op.class, key: op.key, stamp, age: Duration::ZERO, body: op.body }
        };
        let mut large: VecDeque<Record> = (0..3).map(|_| record(CHUNK_BYTES)).collect();
        assert_eq!((take_chunk(&mut large).len(), large.len()), (1, 2));
        let mut many: VecDeque<Record> = (0..CHUNK_RECORDS_MAX + 1).map(|_| record(1)).collect();
        assert_eq!((take_chunk(&mut many).len(), many.len()), (CHUNK_RECORDS_MAX, 1));
    }
}
