//! What waits for the writer, bounded in bytes.
//!
//! When the disk stands still the queue fills. Then hot writes that nobody waits for are dropped,
//! oldest first, because the twin and our own memory have their content. Durable writes are never
//! dropped: beyond the limit new ones are refused. Every loss is counted as a *gap*, and across a
//! gap nothing is learned. What was refused of tables and logs nobody has in memory to write it anew:
//! from then on the file learns nothing at all, and the catch-up after its next opening brings it.

use core::fmt;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tandem_journal::{Cursor, Known, Write};
use tandem_types::Duration;

use crate::retention::Retention;
use crate::seal::Damaged;

/// Bytes that may wait for the disk, unless set otherwise.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes in one transaction at most.
pub const BATCH_WRITES_MAX: usize = 256;

/// Bytes in one transaction, after which no further write is added.
pub const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How long a write that nobody waits for may lie, so that others join its transaction.
pub const LINGER: Duration = Duration::from_millis(10);

/// What a change costs beyond its key and body.
const CHANGE_BYTES: usize = 96;

/// A write was not taken: the disk does not keep up and the queue is full of durable writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the journal cannot take more: the disk is full, broken or too slow")
    }
}

impl std::error::Error for Refused {}

/// Whether this refusal is the first since there was room.
pub(crate) struct IsFirst(pub(crate) bool);

/// One write that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) write: Write,
    /// Wall time of queueing, in microseconds.
    pub(crate) written: i64,
    pub(crate) sync: bool,
    pub(crate) ticket: u64,
    /// Gaps before this write.
    pub(crate) gaps: u64,
    bytes: usize,
}

impl Waiting {
    /// Whether it may be lost: the memory of both servers has it, and nobody waits for the disk.
    fn is_droppable(&self) -> bool {
        match &self.write {
            Write::Entry(entry) => !self.sync && !entry.is_durable(),
            Write::Records(_) | Write::Forget(_) | Write::Learn(_) => false,
        }
    }
}

/// Whether it holds what is kept for good.
fn is_durable(write: &Write) -> bool {
    match write {
        Write::Entry(entry) => entry.is_durable(),
        Write::Records(records) => records.iter().any(|record| record.class.is_durable()),
        Write::Forget(_) | Write::Learn(_) => false,
    }
}

/// A read that waits for the writes before it.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// Log records that `lacking` does not cover.
    Lacking { lacking: Known, after: Cursor, read: u64 },
    /// The record of one key.
    One(Vec<u8>),
}

#[derive(Debug)]
enum Item {
    Write(Waiting),
    Fetch(Fetch),
    Chore(Chore),
}

/// Something that the writer does between two batches, and nobody waits for.
#[derive(Debug)]
pub(crate) enum Chore {
    /// How long log records are kept, from now on.
    Retain(Retention),
    /// The next bite of what is older.
    Bite,
    /// These were found damaged.
    SetAside(Vec<Damaged>),
}

/// What the writer does next: one transaction, then one read.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) writes: Vec<Waiting>,
    pub(crate) fetch: Option<Fetch>,
    /// After it.
    pub(crate) chores: Vec<Chore>,
    /// Gaps so far: where a write's own number is the same, nothing was lost since it was queued.
    pub(crate) gaps: u64,
    /// Something durable was refused.
    pub(crate) lacks: bool,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Of what waits and of the batch in work.
    bytes: usize,
    droppable: usize,
    gaps: u64,
    /// Something durable was refused: it is not in the file, and nobody writes it anew.
    lacks: bool,
    /// Writes dropped since that was last asked.
    dropped: u64,
    /// Something of it is waited for: a write with sync, or a read.
    urgent: bool,
    /// A write was refused, and the queue is not half empty yet.
    refusing: bool,
    closed: bool,
}

/// Shared by whoever writes and the writer thread.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), bytes_max }
    }

    /// Queues a write; `written` is the wall time. A refusal says whether it is the first one.
    pub(crate) fn push(
        &self,
        write: Write,
        written: i64,
        sync: bool,
        ticket: u64,
    ) -> Result<(), IsFirst> {
        let bytes = bytes_of(&write);
        let mut state = self.lock();
        if state.bytes + bytes > self.bytes_max {
            // A quarter at once, so that a full queue is not searched again at every write.
            state.drop_until((self.bytes_max / 4 * 3).saturating_sub(bytes));
        }
        if state.bytes + bytes > self.bytes_max {
            // What is not said is not known; nothing is missing for it.
            state.gaps += u64::from(!matches!(write, Write::Learn(_)));
            state.lacks |= is_durable(&write);
            return Err(IsFirst(!core::mem::replace(&mut state.refusing, true)));
        }
        let gaps = state.gaps;
        let waiting = Waiting { write, written, sync, ticket, gaps, bytes };
        state.bytes += bytes;
        state.droppable += if waiting.is_droppable() { bytes } else { 0 };
        // Waking the writer costs a system call: only where it has something to do at once, or must
        // begin to count [`LINGER`].
        let wakes = sync || state.items.is_empty();
        state.urgent |= sync;
        state.items.push_back(Item::Write(waiting));
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Queues a read behind everything that was queued before.
    pub(crate) fn push_fetch(&self, fetch: Fetch) {
        let mut state = self.lock();
        state.urgent = true;
        state.items.push_back(Item::Fetch(fetch));
        drop(state);
        self.changed.notify_all();
    }

    /// Queues something that nobody waits for. A bite is not queued twice.
    pub(crate) fn push_chore(&self, chore: Chore) {
        let mut state = self.lock();
        let is_bite = |item: &Item| matches!(item, Item::Chore(Chore::Bite));
        if !matches!(chore, Chore::Bite) || !state.items.iter().any(is_bite) {
            state.items.push_back(Item::Chore(chore));
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for something to do; `None` when closed and empty.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Nobody waits for writes without sync: more of them become one transaction.
        let idle = |state: &mut State| {
            !state.urgent && !state.closed && state.items.len() < BATCH_WRITES_MAX
        };
        let lingered = self.changed.wait_timeout_while(state, LINGER, idle);
        let mut state = lingered.unwrap_or_else(PoisonError::into_inner).0;
        Some(state.take())
    }

    /// What there is to do now, without waiting.
    #[cfg(feature = "sabotage")]
    pub(crate) fn try_take(&self) -> Option<Batch> {
        let mut state = self.lock();
        (!state.items.is_empty()).then(|| state.take())
    }

    /// Writes that were taken from here may be lost: a gap. How many there are now.
    pub(crate) fn lost(&self, writes: u64) -> u64 {
        let mut state = self.lock();
        state.dropped += writes;
        state.gaps += 1;
        state.gaps
    }

    /// The batch is on disk: its bytes wait no longer.
    pub(crate) fn done(&self, batch: &Batch) {
        self.lock().bytes -= batch.bytes;
    }

    /// Whether writes were refused and there is not enough room yet.
    pub(crate) fn is_refusing(&self) -> bool {
        self.lock().refusing
    }

    /// Whether writes were refused and there is room again, said once.
    pub(crate) fn take_room(&self) -> bool {
        let mut state = self.lock();
        let has_room = state.refusing && state.bytes <= self.bytes_max / 2;
        state.refusing &= !has_room;
        has_room
    }

    /// Waits so long, or until closed. True where closed.
    pub(crate) fn pause(&self, wait: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, wait, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Writes dropped since this was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        core::mem::take(&mut self.lock().dropped)
    }

    /// Nothing more comes; the writer ends when it has written what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_until(&mut self, bytes: usize) {
        if self.droppable == 0 {
            return;
        }
        let before = self.items.len();
        let mut left = self.bytes;
        self.items.retain(|item| match item {
            Item::Write(waiting) if left > bytes && waiting.is_droppable() => {
                left -= waiting.bytes;
                false
            }
            Item::Write(_) | Item::Fetch(_) | Item::Chore(_) => true,
        });
        self.droppable -= self.bytes - left;
        self.bytes = left;
        let dropped = (before - self.items.len()) as u64;
        self.dropped += dropped;
        self.gaps += dropped.min(1);
    }

    fn take(&mut self) -> Batch {
        let mut batch = Batch { gaps: self.gaps, lacks: self.lacks, ..Batch::default() };
        while batch.writes.len() < BATCH_WRITES_MAX
            && batch.bytes < BATCH_BYTES
            && batch.fetch.is_none()
            && batch.chores.is_empty()
        {
            match self.items.pop_front() {
                Some(Item::Write(waiting)) => {
                    self.droppable -= if waiting.is_droppable() { waiting.bytes } else { 0 };
                    batch.bytes += waiting.bytes;
                    batch.writes.push(waiting);
                }
                Some(Item::Fetch(fetch)) => batch.fetch = Some(fetch),
                Some(Item::Chore(chore)) => batch.chores.push(chore),
                None => break,
            }
        }
        // What is left may or may not be waited for: then it is not let wait.
        self.urgent &= !self.items.is_empty();
        batch
    }
}

fn bytes_of(write: &Write) -> usize {
    let change =
        |key: &Vec<u8>, body: Option<&Vec<u8>>| CHANGE_BYTES + key.len() + body.map_or(0, Vec::len);
    let changes: usize = match write {
        Write::Entry(entry) => entry.ops.iter().map(|op| change(&op.key, op.body.as_ref())).sum(),
        Write::Records(records) => {
            records.iter().map(|record| change(&record.key, record.body.as_ref())).sum()
        }
        Write::Forget(keys) => keys.iter().map(|key| change(key, None)).sum(),
        Write::Learn(known) => known.iter().count() * CHANGE_BYTES,
    };
    CHANGE_BYTES + changes
}
