//! A server's store as a model: writes take time, a kill loses what was not written, a power cut
//! what was not synced, and a full disk takes nothing until it is empty again.
//!
//! ```text
//!   write ─> queue ─> batch in work ─> written (survives a kill) ─> synced (survives power loss)
//! ```
//!
//! As in the store, a batch is written as a whole before its sync begins: SQLite hands all frames of a
//! transaction to the system first. Who is killed while a sync takes long loses what waits behind it, not what it
//! is about.
//!
//! Invariant: what was reported stored after a write with `sync` is there after any crash, and what
//! the disk calls *known* is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tandem_journal::{Class, Cursor, Known, Record, Write};
use tandem_node::CDR_PREFIX;
use tandem_types::{Dice, Duration, Stamp};

use crate::judge::CALL_PREFIX;

/// A record as it lies on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Kept {
    /// How it is kept.
    pub(crate) class: Class,
    /// Who wrote it.
    pub(crate) stamp: Stamp,
    /// When, in microseconds of this machine's wall clock.
    pub(crate) written: i64,
    /// `None`: a tombstone.
    pub(crate) body: Option<Vec<u8>>,
}

/// A read that waits for the writes before it.
#[derive(Clone, Debug)]
pub(crate) enum Fetch {
    /// Log records.
    Lacking {
        /// What the reader's twin has.
        lacking: Known,
        /// Where to go on.
        after: Cursor,
        /// Names the read.
        read: u64,
    },
    /// Whether there is a log record of this key.
    One(Vec<u8>),
}

/// The answer to a read.
#[derive(Clone, Debug)]
pub(crate) enum Fetched {
    /// Log records, and where to go on.
    Lacking(u64, Vec<Record>, Option<Cursor>),
    /// Whether there is one.
    One(Vec<u8>, bool),
}

/// What a batch that was in work has come to.
#[derive(Debug)]
pub(crate) enum Done {
    /// Everything up to this ticket is stored. `recovered`: after it could not be for a while.
    Stored {
        /// The last ticket of the batch; `None` where it only read.
        ticket: Option<u64>,
        /// Whether writes failed before.
        recovered: bool,
        /// The read at its end, answered.
        fetched: Option<Fetched>,
    },
    /// The disk is full; `first`: it was not before.
    Full {
        /// Whether to tell.
        first: bool,
    },
}

/// What a crash means for the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// Something was not written, or not synced when it had to be. The memory of the other server
    /// may have it.
    pub(crate) lost: bool,
}

/// How long a batch takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Takes {
    /// Until it is written: then call [`Disk::wrote`]. `None`: that is the end of it.
    pub(crate) writing: Option<Duration>,
    /// Until it is through: then call [`Disk::finish`].
    pub(crate) all: Duration,
}

#[derive(Debug)]
enum Item {
    Write(Write, i64, bool, u64),
    Fetch(Fetch),
}

/// The disk of one machine, with its writer.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Hot and table records.
    records: BTreeMap<Vec<u8>, Kept>,
    /// Log records.
    logs: BTreeMap<Vec<u8>, Kept>,
    known: Known,
    /// How to take back what was written since the last sync.
    undo: Vec<(Vec<u8>, Class, Option<Kept>)>,
    undo_known: Option<Known>,
    /// Calls and closed calls that were safe on it at some time, by number.
    safe: BTreeSet<String>,
    queue: VecDeque<Item>,
    working: Vec<Item>,
    /// The last ticket of the batch in work, once that is written, and whether it is to be synced.
    written: Option<(Option<u64>, bool)>,
    /// Whether it takes no writes.
    pub(crate) full: bool,
    failing: bool,
    /// Whether each sync takes long now.
    pub(crate) slow: bool,
    /// How many days log records are kept.
    keep_days: Option<u32>,
    dice: Dice,
}

impl Disk {
    /// Empty.
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            records: BTreeMap::new(),
            logs: BTreeMap::new(),
            known: Known::new(),
            undo: Vec::new(),
            undo_known: None,
            safe: BTreeSet::new(),
            queue: VecDeque::new(),
            working: Vec::new(),
            written: None,
            full: false,
            failing: false,
            slow: false,
            keep_days: None,
            dice,
        }
    }

    /// Queues a write; `wall` is the wall clock in microseconds.
    pub(crate) fn write(&mut self, write: Write, wall: i64, sync: bool, ticket: u64) {
        self.queue.push_back(Item::Write(write, wall, sync, ticket));
    }

    /// Queues a read.
    pub(crate) fn fetch(&mut self, fetch: Fetch) {
        self.queue.push_back(Item::Fetch(fetch));
    }

    /// Begins the next batch, if there is something to do and nothing in work.
    pub(crate) fn begin(&mut self) -> Option<Takes> {
        if self.is_working() || self.queue.is_empty() {
            return None;
        }
        while self.working.len() < BATCH_MAX
            && let Some(item) = self.queue.pop_front()
        {
            let last = matches!(item, Item::Fetch(_));
            self.working.push(item);
            if last {
                break;
            }
        }
        let sync = self.working.iter().any(|item| matches!(item, Item::Write(_, _, true, _)));
        let writing = 40 + self.dice.below(60);
        let mut micros = writing;
        if sync {
            micros += 200 + self.dice.below(1_800);
            if self.slow || self.dice.chance(1) {
                micros += 10_000 + self.dice.below(100_000);
            }
        }
        let writing = sync.then_some(Duration::from_micros(writing));
        Some(Takes { writing, all: Duration::from_micros(micros) })
    }

    /// The batch in work is written, where there is room; its sync begins.
    pub(crate) fn wrote(&mut self) {
        let writes = |item: &Item| matches!(item, Item::Write(..));
        if self.written.is_some() || (self.full && self.working.iter().any(writes)) {
            return;
        }
        let (mut last, mut synced) = (None, false);
        for item in core::mem::take(&mut self.working) {
            match item {
                Item::Write(write, written, sync, ticket) => {
                    self.apply(write, written);
                    synced |= sync;
                    last = Some(ticket);
                }
                Item::Fetch(_) => self.working.push(item),
            }
        }
        self.written = Some((last, synced));
    }

    /// The batch in work is through; `wall` is the wall clock.
    pub(crate) fn finish(&mut self, wall: i64) -> Option<Done> {
        if !self.is_working() {
            return None;
        }
        self.wrote();
        let Some((last, synced)) = self.written.take() else {
            let first = !core::mem::replace(&mut self.failing, true);
            return Some(Done::Full { first });
        };
        if synced {
            self.sync();
        }
        // One read at most, the last of the batch.
        let fetched = self.working.pop().and_then(|item| match item {
            Item::Fetch(fetch) => Some(self.read(&fetch, wall)),
            Item::Write(..) => None,
        });
        let recovered = last.is_some() && core::mem::take(&mut self.failing);
        Some(Done::Stored { ticket: last, recovered, fetched })
    }

    /// Log records are kept for so many days. Those that are older by a day more go, by their end and by when they
    /// were written, as in the store; so they do here at once.
    pub(crate) fn retain(&mut self, days: Option<u32>, wall: i64) {
        self.keep_days = days;
        let newest = self.logs.iter().map(|(key, kept)| end_of(key, kept)).max();
        let before = self.deleted_before(wall);
        if newest < before {
            return;
        }
        let is_old = |key: &[u8], kept: &Kept| Some(end_of(key, kept).max(kept.written)) < before;
        let old: Vec<Vec<u8>> = self
            .logs
            .iter()
            .filter(|(key, kept)| is_old(key, kept))
            .map(|(key, _)| key.clone())
            .collect();
        for key in old {
            if let Some(kept) = self.logs.remove(&key) {
                self.undo.push((key, Class::Log, Some(kept)));
            }
        }
    }

    fn deleted_before(&self, wall: i64) -> Option<i64> {
        self.keep_days.map(|days| wall - (i64::from(days) + 1) * DAY)
    }

    /// The process that writes is gone: what is not written is lost.
    pub(crate) fn kill(&mut self) -> Crash {
        let write = |item: &Item| matches!(item, Item::Write(..));
        let lost = self.queue.iter().chain(&self.working).any(write);
        self.queue.clear();
        self.working.clear();
        self.written = None;
        self.failing = false;
        Crash { lost }
    }

    /// Power is gone: also what was written and not synced is lost.
    pub(crate) fn power_off(&mut self) -> Crash {
        let mut crash = self.kill();
        crash.lost |= !self.undo.is_empty();
        while let Some((key, class, before)) = self.undo.pop() {
            let map = if class == Class::Log { &mut self.logs } else { &mut self.records };
            match before {
                Some(kept) => map.insert(key, kept),
                None => map.remove(&key),
            };
        }
        if let Some(known) = self.undo_known.take() {
            self.known = known;
        }
        crash
    }

    /// What a server reads when it starts.
    pub(crate) fn load(&self, wall: i64) -> (Vec<Record>, Known) {
        let records = self.records.iter().map(|(key, kept)| record(key, kept, wall)).collect();
        (records, self.known.clone())
    }

    /// What it says that it has.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    /// Hot and table records, by key.
    pub(crate) fn records(&self) -> &BTreeMap<Vec<u8>, Kept> {
        &self.records
    }

    /// Log records, by key.
    pub(crate) fn logs(&self) -> &BTreeMap<Vec<u8>, Kept> {
        &self.logs
    }

    /// Whether it refuses what it is given.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Whether everything handed in is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_working()
    }

    fn is_working(&self) -> bool {
        !self.working.is_empty() || self.written.is_some()
    }

    /// The numbers of all calls that were safe here at some time: what a sync had brought to the disk.
    pub(crate) fn safe_calls(&self) -> &BTreeSet<String> {
        &self.safe
    }

    fn sync(&mut self) {
        for (key, class, _) in self.undo.drain(..) {
            let (map, prefix) = match class {
                Class::Log => (&self.logs, CDR_PREFIX),
                Class::Hot | Class::Table => (&self.records, CALL_PREFIX),
            };
            if let Some(number) = key.strip_prefix(prefix)
                && map.get(&key).is_some_and(|kept| kept.body.is_some())
            {
                self.safe.insert(String::from_utf8_lossy(number).into_owned());
            }
        }
        self.undo_known = None;
    }

    fn read(&self, fetch: &Fetch, wall: i64) -> Fetched {
        match fetch {
            Fetch::One(key) => Fetched::One(key.clone(), self.logs.contains_key(key)),
            Fetch::Lacking { lacking, after, read } => {
                let (records, next) = self.read_lacking(lacking, after, wall);
                Fetched::Lacking(*read, records, next)
            }
        }
    }

    fn read_lacking(
        &self,
        lacking: &Known,
        after: &Cursor,
        wall: i64,
    ) -> (Vec<Record>, Option<Cursor>) {
        let after = after.0.as_ref();
        let mut all: Vec<(&Vec<u8>, &Kept)> = self
            .logs
            .iter()
            .filter(|(_, kept)| !lacking.covers(kept.stamp))
            .filter(|(key, kept)| {
                after.is_none_or(|(stamp, last)| (kept.stamp, *key) > (*stamp, last))
            })
            .collect();
        all.sort_by_key(|(key, kept)| (kept.stamp, *key));
        let more = all.len() > FETCH_MAX;
        all.truncate(FETCH_MAX);
        let next = all
            .last()
            .filter(|_| more)
            .map(|(key, kept)| Cursor(Some((kept.stamp, (*key).clone()))));
        let records = all.into_iter().map(|(key, kept)| record(key, kept, wall)).collect();
        (records, next)
    }

    fn apply(&mut self, write: Write, written: i64) {
        match write {
            Write::Entry(entry) => {
                for op in entry.ops {
                    let kept = Kept { class: op.class, stamp: entry.stamp, written, body: op.body };
                    match op.class {
                        Class::Hot if kept.body.is_none() => self.remove(op.key),
                        Class::Hot => self.put(op.key, kept),
                        Class::Table | Class::Log => self.merge(op.key, kept),
                    }
                }
                let mut known = Known::new();
                known.learn(entry.stamp);
                self.learn(&known);
            }
            Write::Records(records) => {
                let before = self.deleted_before(written);
                for record in records {
                    let age = i64::try_from(record.age.as_micros()).unwrap_or(i64::MAX);
                    let written = written.saturating_sub(age);
                    let Record { class, key, stamp, body, .. } = record;
                    let kept = Kept { class, stamp, written, body };
                    let is_old = Some(end_of(&key, &kept).max(written)) < before;
                    if class != Class::Log || !is_old {
                        self.merge(key, kept);
                    }
                }
            }
            Write::Forget(keys) => keys.into_iter().for_each(|key| self.remove(key)),
            Write::Learn(known) => self.learn(&known),
        }
    }

    fn learn(&mut self, known: &Known) {
        if self.undo_known.is_none() {
            self.undo_known = Some(self.known.clone());
        }
        self.known.merge(known);
    }

    fn merge(&mut self, key: Vec<u8>, kept: Kept) {
        let map = if kept.class == Class::Log { &self.logs } else { &self.records };
        if map.get(&key).is_none_or(|ours| ours.stamp <= kept.stamp) {
            self.put(key, kept);
        }
    }

    fn put(&mut self, key: Vec<u8>, kept: Kept) {
        let class = kept.class;
        let map = if class == Class::Log { &mut self.logs } else { &mut self.records };
        let before = map.insert(key.clone(), kept);
        self.undo.push((key, class, before));
    }

    fn remove(&mut self, key: Vec<u8>) {
        if let Some(before) = self.records.remove(&key) {
            self.undo.push((key, before.class, Some(before)));
        }
    }
}

/// When the call of a record ended; where it does not say so, when it was written.
fn end_of(key: &[u8], kept: &Kept) -> i64 {
    let end = kept.body.as_deref().and_then(|body| tandem_node::end_of_record(key, body));
    end.unwrap_or(kept.written)
}

/// In microseconds.
const DAY: i64 = 86_400_000_000;

fn record(key: &[u8], kept: &Kept, wall: i64) -> Record {
    let age = u64::try_from(wall.saturating_sub(kept.written)).unwrap_or(0);
    Record {
        class: kept.class,
        key: key.to_vec(),
        stamp: kept.stamp,
        age: Duration::from_micros(age),
        body: kept.body.clone(),
    }
}

/// Writes in one batch at most.
const BATCH_MAX: usize = 256;

/// Log records in one answer: few, so that catch-ups take several.
const FETCH_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_journal::{Entry, Op};
    use tandem_types::{Epoch, Seat, Seq};

    fn entry(seq: u64, class: Class, key: &str) -> Write {
        let stamp = Stamp { epoch: Epoch { number: 1, seat: Seat::Master }, seq: Seq(seq) };
        let op = Op { class, key: key.into(), body: Some(seq.to_be_bytes().to_vec()) };
        Write::Entry(Entry { stamp, ops: vec![op] })
    }

    fn run(disk: &mut Disk) -> Vec<Done> {
        let mut done = Vec::new();
        while disk.begin().is_some() {
            done.extend(disk.finish(0));
            if matches!(done.last(), Some(Done::Full { .. })) {
                break;
            }
        }
        done
    }

    #[test]
    fn a_kill_loses_what_waits_and_a_power_cut_what_is_not_synced() {
        let mut disk = Disk::new(Dice::from_number(1));
        disk.write(entry(1, Class::Table, "user/a"), 0, true, 1);
        run(&mut disk);
        disk.write(entry(2, Class::Hot, "call/a"), 0, false, 2);
        run(&mut disk);
        disk.write(entry(3, Class::Hot, "call/b"), 0, false, 3);
        assert!(disk.kill().lost);
        let (records, known) = disk.load(0);
        assert_eq!(records.len(), 2);
        assert_eq!(known.latest().map(|stamp| stamp.seq), Some(Seq(2)));
        assert!(disk.power_off().lost);
        let (records, known) = disk.load(0);
        assert_eq!(records.len(), 1);
        assert_eq!(known.latest().map(|stamp| stamp.seq), Some(Seq(1)));
    }

    #[test]
    fn a_call_is_safe_from_the_sync_on_and_is_remembered_as_such() {
        let mut disk = Disk::new(Dice::from_number(1));
        disk.write(entry(1, Class::Hot, "call/a"), 0, false, 1);
        disk.write(entry(2, Class::Table, "user/a"), 0, false, 2);
        run(&mut disk);
        assert!(disk.safe_calls().is_empty());
        disk.write(entry(3, Class::Log, "cdr/b"), 0, true, 3);
        run(&mut disk);
        disk.write(entry(4, Class::Hot, "call/c"), 0, false, 4);
        run(&mut disk);
        disk.power_off();
        assert_eq!(disk.safe_calls().iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_kill_during_a_sync_keeps_what_is_written_and_a_power_cut_does_not() {
        for (power_cut, kept) in [(false, 1), (true, 0)] {
            let mut disk = Disk::new(Dice::from_number(1));
            disk.write(entry(1, Class::Hot, "call/a"), 0, true, 1);
            assert!(disk.begin().is_some_and(|takes| takes.writing.is_some()));
            disk.write(entry(2, Class::Hot, "call/b"), 0, true, 2);
            disk.wrote();
            assert!(disk.begin().is_none(), "it still syncs");
            let crash = if power_cut { disk.power_off() } else { disk.kill() };
            assert!(crash.lost, "the second waits");
            assert_eq!(disk.load(0).0.len(), kept);
            assert!(disk.is_idle());
        }
    }

    #[test]
    fn a_kill_before_that_loses_it() {
        let mut disk = Disk::new(Dice::from_number(1));
        disk.write(entry(1, Class::Hot, "call/a"), 0, true, 1);
        assert!(disk.begin().is_some());
        assert!(disk.kill().lost);
        assert_eq!(disk.load(0).0.len(), 0);
    }

    #[test]
    fn a_full_disk_says_so_once_and_goes_on_where_it_stopped() {
        let mut disk = Disk::new(Dice::from_number(1));
        disk.full = true;
        disk.write(entry(1, Class::Hot, "call/a"), 0, true, 7);
        assert!(matches!(run(&mut disk)[..], [Done::Full { first: true }]));
        assert!(matches!(disk.finish(0), Some(Done::Full { first: false })));
        disk.full = false;
        let done = disk.finish(0);
        assert!(matches!(done, Some(Done::Stored { ticket: Some(7), recovered: true, .. })));
    }

    #[test]
    fn log_records_are_read_in_portions() {
        let mut disk = Disk::new(Dice::from_number(1));
        for seq in 1..=6 {
            disk.write(entry(seq, Class::Log, &format!("cdr/{}", 9 - seq)), 0, true, seq);
        }
        run(&mut disk);
        let mut after = Cursor(None);
        let mut seen = Vec::new();
        loop {
            disk.fetch(Fetch::Lacking { lacking: Known::new(), after, read: 1 });
            let Some(Done::Stored { fetched: Some(Fetched::Lacking(1, records, next)), .. }) =
                run(&mut disk).pop()
            else {
                panic!("the read was not answered");
            };
            seen.extend(records.iter().map(|record| record.stamp.seq.0));
            match next {
                Some(cursor) => after = cursor,
                None => break,
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }
}
