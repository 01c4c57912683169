//! The writer thread: takes a batch, makes it one transaction, says so; keeps trying while the disk
//! will not take it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, SyncSender};

use rusqlite::{CachedStatement, Connection, params};
use tandem_journal::{Class, Known, Record, Write};
use tandem_types::{Duration, Stamp};

use crate::beside::{Beside, casts_doubt};
use crate::file::{reign_of, seq_of};
use crate::queue::{Batch, Fetch, Queue};
use crate::store::{Report, StoreEvent};

/// Pause before a failed transaction is tried again the first time; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);

/// Longest pause between two tries.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Its connection comes before the others: it is closed before they are.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) queue: Arc<Queue>,
    pub(crate) report: Report,
    pub(crate) fetches: Sender<Fetch>,
    /// A full channel means that a checkpoint is due already.
    pub(crate) checkpoints: SyncSender<()>,
    pub(crate) beside: Arc<Beside>,
    pub(crate) synchronous: bool,
    /// Writes in the file that no sync has made durable yet.
    pub(crate) unsynced: u64,
    /// Gaps up to which the caller has said what is known.
    pub(crate) healed: u64,
    pub(crate) pages_max: Option<Arc<AtomicU32>>,
    /// A rule that is broken on purpose.
    pub(crate) sabotage: Option<Sabotage>,
}

/// Rules that a test breaks, to see that it is noticed. Nothing else can set one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "sabotage"), allow(unreachable_pub, reason = "not exported then"))]
pub enum Sabotage {
    /// Nothing is ever synced.
    NeverSync,
    /// What is known is written before what it stands for.
    LearnFirst,
    /// A write is reported before it is in the file.
    ReportFirst,
    /// After an error of the disk the writer goes on as if it had not been.
    BelieveOn,
}

/// A batch, until it is on disk.
pub(crate) struct Trying {
    batch: Batch,
    /// The last reason why not.
    reported: Option<String>,
    pause: Duration,
}

impl Trying {
    pub(crate) const fn new(batch: Batch) -> Self {
        Self { batch, reported: None, pause: RETRY_MIN }
    }
}

impl Writer {
    /// Until the queue is closed.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.queue.take() {
            let mut trying = Trying::new(batch);
            while let Err(pause) = self.attempt(&mut trying) {
                if self.queue.pause(pause) {
                    return;
                }
            }
            self.done(trying);
        }
    }

    /// Tries to bring it to disk. Where that fails, says after which pause to try again.
    pub(crate) fn attempt(&mut self, trying: &mut Trying) -> Result<(), Duration> {
        if self.breaks(Sabotage::ReportFirst) {
            self.stored(&trying.batch);
        }
        let result = self.reread(&mut trying.batch).and_then(|()| self.commit(&trying.batch));
        let Err(error) = result else {
            if trying.reported.is_some() && !self.queue.is_refusing() {
                (self.report)(StoreEvent::Recovered);
            }
            return Ok(());
        };
        if casts_doubt(&error) {
            self.beside.doubt();
        }
        let what = error.to_string();
        if trying.reported.as_ref() != Some(&what) {
            let ticket = trying.batch.writes.last().map_or(0, |write| write.ticket);
            (self.report)(StoreEvent::Failing { ticket, what: what.clone() });
            trying.reported = Some(what);
        }
        self.report_dropped();
        let pause = trying.pause;
        trying.pause = (pause * 2).min(RETRY_MAX);
        Err(pause)
    }

    /// It is on disk.
    pub(crate) fn done(&mut self, trying: Trying) {
        let batch = trying.batch;
        self.queue.done(&batch);
        self.report_dropped();
        if self.queue.take_room() {
            (self.report)(StoreEvent::Recovered);
        }
        self.stored(&batch);
        if let Some(fetch) = batch.fetch {
            // The fetch thread ends after this one: it is there.
            let _ = self.fetches.send(fetch);
        }
    }

    fn stored(&self, batch: &Batch) {
        if let Some(last) = batch.writes.last() {
            (self.report)(StoreEvent::Stored { ticket: last.ticket });
            let _ = self.checkpoints.try_send(());
        }
    }

    /// After an error of the disk nothing is believed that was not read again: a sync that failed is not
    /// made good by the next one that succeeds, because the system takes what it could not write for
    /// written. So the file is opened anew, which reads its log by its checksums, and all of that is
    /// written once more, to the file itself. What was in the log without a sync may be lost: that is a
    /// gap.
    fn reread(&mut self, batch: &mut Batch) -> rusqlite::Result<()> {
        if !self.beside.is_in_doubt() || self.breaks(Sabotage::BelieveOn) {
            return Ok(());
        }
        self.beside.open_anew(&mut self.connection)?;
        self.synchronous = false;
        if self.unsynced > 0 {
            batch.gaps = self.queue.lost(self.unsynced);
            self.unsynced = 0;
        }
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        if batch.writes.is_empty() {
            return Ok(());
        }
        let sync = batch.writes.iter().any(|write| write.sync);
        if sync != self.synchronous && !self.breaks(Sabotage::NeverSync) {
            let mode = if sync { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", mode)?;
            self.synchronous = sync;
        }
        if let Some(pages) = &self.pages_max {
            let pages = pages.load(Ordering::Relaxed);
            self.connection.pragma_update(None, "max_page_count", pages)?;
        }
        let plan = Plan::of(batch, self.healed);
        if self.breaks(Sabotage::LearnFirst) {
            plan.learn(&self.connection)?;
        }
        // Rolls back when dropped before the commit.
        let transaction = self.connection.unchecked_transaction()?;
        plan.apply(&transaction)?;
        transaction.commit()?;
        self.unsynced = if sync { 0 } else { self.unsynced + batch.writes.len() as u64 };
        self.healed = plan.healed;
        Ok(())
    }

    fn breaks(&self, rule: Sabotage) -> bool {
        self.sabotage == Some(rule)
    }

    fn report_dropped(&self) {
        let writes = self.queue.take_dropped();
        if writes > 0 {
            (self.report)(StoreEvent::Dropped { writes });
        }
    }
}

/// What becomes of one hot record: only the last change of a batch is written.
enum Hot<'a> {
    /// Whatever the file holds.
    Set(Row<'a>),
    /// Unless the file holds a later one.
    Merge(Row<'a>),
    Gone,
}

struct Row<'a> {
    key: &'a [u8],
    stamp: Stamp,
    written: i64,
    body: Option<&'a [u8]>,
}

/// A batch, without what is overwritten within it.
struct Plan<'a> {
    hot: BTreeMap<&'a [u8], Hot<'a>>,
    tables: Vec<Row<'a>>,
    logs: Vec<Row<'a>>,
    known: Known,
    healed: u64,
}

impl<'a> Plan<'a> {
    fn of(batch: &'a Batch, healed: u64) -> Self {
        let mut plan = Self {
            hot: BTreeMap::new(),
            tables: Vec::new(),
            logs: Vec::new(),
            known: Known::new(),
            healed,
        };
        for waiting in &batch.writes {
            match &waiting.write {
                Write::Entry(entry) => {
                    for op in &entry.ops {
                        let body = op.body.as_deref();
                        let (stamp, written) = (entry.stamp, waiting.written);
                        plan.set(op.class, Row { key: &op.key, stamp, written, body });
                    }
                    if plan.healed == batch.gaps {
                        plan.known.learn(entry.stamp);
                    }
                }
                Write::Records(records) => {
                    for record in records {
                        plan.merge(record, waiting.written);
                    }
                }
                Write::Forget(keys) => {
                    plan.hot.extend(keys.iter().map(|key| (key.as_slice(), Hot::Gone)));
                }
                Write::Learn(known) => {
                    if waiting.gaps == batch.gaps {
                        plan.known.merge(known);
                        plan.healed = batch.gaps;
                    }
                }
            }
        }
        plan
    }

    /// A change by the active server: later than anything of this key in the file.
    fn set(&mut self, class: Class, row: Row<'a>) {
        match class {
            Class::Hot if row.body.is_none() => {
                self.hot.insert(row.key, Hot::Gone);
            }
            Class::Hot => {
                self.hot.insert(row.key, Hot::Set(row));
            }
            Class::Table => self.tables.push(row),
            Class::Log => self.logs.push(row),
        }
    }

    /// A record of a catch-up: counts where its stamp is the later one.
    fn merge(&mut self, record: &'a Record, written: i64) {
        let age = i64::try_from(record.age.as_micros()).unwrap_or(i64::MAX);
        let row = Row {
            key: &record.key,
            stamp: record.stamp,
            written: written.saturating_sub(age),
            body: record.body.as_deref(),
        };
        match record.class {
            Class::Hot => {
                let change = match self.hot.remove(row.key) {
                    Some(Hot::Set(before)) if before.stamp >= row.stamp => Hot::Set(before),
                    Some(Hot::Merge(before)) if before.stamp >= row.stamp => Hot::Merge(before),
                    Some(Hot::Set(_) | Hot::Gone) => Hot::Set(row),
                    Some(Hot::Merge(_)) | None => Hot::Merge(row),
                };
                self.hot.insert(&record.key, change);
            }
            Class::Table => self.tables.push(row),
            Class::Log => self.logs.push(row),
        }
    }

    fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut set = connection.prepare_cached(SET_HOT)?;
        let mut merge = connection.prepare_cached(MERGE_HOT)?;
        let mut delete = connection.prepare_cached(DELETE_HOT)?;
        for (key, change) in &self.hot {
            match change {
                Hot::Set(row) => put(&mut set, row)?,
                Hot::Merge(row) => put(&mut merge, row)?,
                Hot::Gone => delete.execute([key]).map(|_| ())?,
            }
        }
        let mut merge = connection.prepare_cached(MERGE_TABLE)?;
        self.tables.iter().try_for_each(|row| put(&mut merge, row))?;
        let mut merge = connection.prepare_cached(MERGE_LOG)?;
        self.logs.iter().try_for_each(|row| put(&mut merge, row))?;
        self.learn(connection)
    }

    fn learn(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut learn = connection.prepare_cached(LEARN)?;
        for stamp in self.known.iter() {
            learn.execute([reign_of(stamp.epoch), seq_of(stamp.seq)])?;
        }
        Ok(())
    }
}

fn put(statement: &mut CachedStatement<'_>, row: &Row<'_>) -> rusqlite::Result<()> {
    let (reign, seq) = (reign_of(row.stamp.epoch), seq_of(row.stamp.seq));
    statement.execute(params![row.key, reign, seq, row.written, row.body]).map(|_| ())
}

const SET_HOT: &str =
    "REPLACE INTO hot_record (key, reign, seq, written, body) VALUES (?, ?, ?, ?, ?)";

const DELETE_HOT: &str = "DELETE FROM hot_record WHERE key = ?";

const MERGE_HOT: &str = "INSERT INTO hot_record AS old (key, reign, seq, written, body)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reign = excluded.reign,
    seq = excluded.seq, written = excluded.written, body = excluded.body
    WHERE (excluded.reign, excluded.seq) > (old.reign, old.seq)";

const MERGE_TABLE: &str = "INSERT INTO table_record AS old (key, reign, seq, written, body)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reign = excluded.reign,
    seq = excluded.seq, written = excluded.written, body = excluded.body
    WHERE (excluded.reign, excluded.seq) >= (old.reign, old.seq)";

const MERGE_LOG: &str = "INSERT INTO log_record AS old (key, reign, seq, written, body)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reign = excluded.reign,
    seq = excluded.seq, written = excluded.written, body = excluded.body
    WHERE (excluded.reign, excluded.seq) >= (old.reign, old.seq)";

const LEARN: &str = "INSERT INTO known AS old (reign, seq) VALUES (?, ?)
    ON CONFLICT (reign) DO UPDATE SET seq = max(old.seq, excluded.seq)";
