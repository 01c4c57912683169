//! The writer thread: takes a batch, makes it one transaction, says so; keeps trying while the disk
//! will not take it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, SyncSender};

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};
use tandem_journal::{Class, Known, Record, Write};
use tandem_types::{Duration, Stamp};

use crate::beside::Beside;
use crate::file::{is_malformed, reign_of, seq_of, table_of};
use crate::queue::{Batch, Chore, Fetch, Queue};
use crate::retention::{self, Elsewhere, Retention};
use crate::seal::{Damaged, EndOf, Sealed, columns, end_of_row, take};
use crate::store::{Report, StoreEvent, WallClock};
use crate::tidy::casts_doubt;

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
    pub(crate) wall_clock: WallClock,
    pub(crate) end_of: EndOf,
    pub(crate) retention: Retention,
    pub(crate) elsewhere: Option<Elsewhere>,
    /// Reigns in which a record was found damaged since the file was opened: what is learned of them does
    /// not end the doubt before the file is opened again.
    pub(crate) doubted: BTreeSet<i64>,
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

    /// What nobody waits for. Where the disk fails, it is done another time.
    fn chore(&mut self, chore: Chore) {
        if self.beside.is_in_doubt() {
            return;
        }
        let done = match chore {
            Chore::Retain(retention) => self.retain(retention),
            Chore::Bite => self.bite(),
            Chore::SetAside(damaged) => self.set_aside(damaged),
        };
        if let Err(error) = done
            && casts_doubt(&error)
        {
            self.beside.doubt();
            self.suspect(&error);
        }
    }

    /// Where the file itself is wrong, whoever has it open must know: trying again makes it no better.
    fn suspect(&self, error: &rusqlite::Error) {
        let what = error.to_string();
        if is_malformed(error) && self.beside.suspect(&what) {
            (self.report)(StoreEvent::Suspect { what });
        }
    }

    fn retain(&mut self, retention: Retention) -> rusqlite::Result<()> {
        self.retention = retention;
        retention::write(&self.connection, retention)?;
        self.queue.push_chore(Chore::Bite);
        Ok(())
    }

    fn bite(&mut self) -> rusqlite::Result<()> {
        let now = self.wall_clock.now_micros();
        let Some(before) = self.retention.deleted_before(now) else { return Ok(()) };
        self.let_go_of_syncs()?;
        let transaction = self.connection.unchecked_transaction()?;
        let bitten = retention::bite(&transaction, before, self.elsewhere.as_ref())?;
        transaction.commit()?;
        if bitten.deleted > 0 {
            let _ = self.checkpoints.try_send(());
            (self.report)(StoreEvent::Deleted { records: bitten.deleted });
        }
        if !bitten.damaged.is_empty() {
            self.set_aside(bitten.damaged)?;
        }
        if bitten.more {
            self.queue.push_chore(Chore::Bite);
        }
        Ok(())
    }

    fn let_go_of_syncs(&mut self) -> rusqlite::Result<()> {
        if core::mem::take(&mut self.synchronous) {
            self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        }
        Ok(())
    }

    fn set_aside(&mut self, damaged: Vec<Damaged>) -> rusqlite::Result<()> {
        let now = i64::try_from(self.wall_clock.now_micros()).unwrap_or(i64::MAX);
        let transaction = self.connection.unchecked_transaction()?;
        let aside = set_aside(&transaction, &damaged, now)?;
        transaction.commit()?;
        self.doubted.extend(aside.reigns);
        if !aside.damaged.is_empty() {
            (self.report)(StoreEvent::Damaged { records: aside.damaged });
        }
        Ok(())
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
            self.suspect(&error);
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
        for chore in batch.chores {
            self.chore(chore);
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
        let now = self.wall_clock.now_micros();
        let before = self.retention.deleted_before(now);
        let plan = Plan::of(batch, self.healed, self.end_of, before);
        if self.breaks(Sabotage::LearnFirst) {
            plan.learn(&self.connection)?;
        }
        // Rolls back when dropped before the commit.
        let transaction = self.connection.unchecked_transaction()?;
        plan.apply(&transaction)?;
        plan.end_doubts(&transaction, &self.doubted)?;
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
    class: Class,
    key: &'a [u8],
    stamp: Stamp,
    written: i64,
    ends: Option<i64>,
    body: Option<&'a [u8]>,
}

/// A batch, without what is overwritten within it.
struct Plan<'a> {
    hot: BTreeMap<&'a [u8], Hot<'a>>,
    tables: Vec<Row<'a>>,
    logs: Vec<Row<'a>>,
    known: Known,
    /// Of it what was not learned by an entry.
    told: Known,
    healed: u64,
    end_of: EndOf,
    /// Log records that ended and were written before are not taken.
    before: Option<i64>,
}

impl<'a> Plan<'a> {
    fn of(batch: &'a Batch, healed: u64, end_of: EndOf, before: Option<i64>) -> Self {
        let mut plan = Self {
            hot: BTreeMap::new(),
            tables: Vec::new(),
            logs: Vec::new(),
            known: Known::new(),
            told: Known::new(),
            healed,
            end_of,
            before,
        };
        for waiting in &batch.writes {
            match &waiting.write {
                Write::Entry(entry) => {
                    for op in &entry.ops {
                        let body = op.body.as_deref();
                        let (stamp, written) = (entry.stamp, waiting.written);
                        let row = plan.row(op.class, &op.key, stamp, written, body);
                        plan.set(row);
                    }
                    if plan.healed == batch.gaps && !batch.lacks {
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
                    if waiting.gaps == batch.gaps && !batch.lacks {
                        plan.known.merge(known);
                        plan.told.merge(known);
                        plan.healed = batch.gaps;
                    }
                }
            }
        }
        plan
    }

    fn row(
        &self,
        class: Class,
        key: &'a [u8],
        stamp: Stamp,
        written: i64,
        body: Option<&'a [u8]>,
    ) -> Row<'a> {
        let ends = end_of_row(class, self.end_of, key, body, written);
        Row { class, key, stamp, written, ends, body }
    }

    fn push_log(&mut self, row: Row<'a>) {
        let is_old = |before| row.written < before && row.ends.is_some_and(|ends| ends < before);
        if !self.before.is_some_and(is_old) {
            self.logs.push(row);
        }
    }

    /// A change by the active server: later than anything of this key in the file.
    fn set(&mut self, row: Row<'a>) {
        match row.class {
            Class::Hot if row.body.is_none() => {
                self.hot.insert(row.key, Hot::Gone);
            }
            Class::Hot => {
                self.hot.insert(row.key, Hot::Set(row));
            }
            Class::Table => self.tables.push(row),
            Class::Log => self.push_log(row),
        }
    }

    /// A record of a catch-up: counts where its stamp is the later one.
    fn merge(&mut self, record: &'a Record, written: i64) {
        let age = i64::try_from(record.age.as_micros()).unwrap_or(i64::MAX);
        let (written, body) = (written.saturating_sub(age), record.body.as_deref());
        let row = self.row(record.class, &record.key, record.stamp, written, body);
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
            Class::Log => self.push_log(row),
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

    /// What the caller says to know beyond a doubt it has fetched again.
    fn end_doubts(&self, connection: &Connection, doubted: &BTreeSet<i64>) -> rusqlite::Result<()> {
        let mut end =
            connection.prepare_cached("DELETE FROM doubt WHERE reign = ? AND seq <= ?")?;
        for stamp in self.told.iter() {
            let reign = reign_of(stamp.epoch);
            if !doubted.contains(&reign) {
                end.execute([reign, seq_of(stamp.seq)])?;
            }
        }
        Ok(())
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
    let Row { class, key, written, ends, body, .. } = *row;
    let sum = Sealed { class, key, reign, seq, written, ends, body }.sum();
    match class {
        Class::Hot | Class::Table => {
            statement.execute(params![key, reign, seq, written, body, sum]).map(|_| ())
        }
        Class::Log => {
            statement.execute(params![key, reign, seq, written, body, sum, ends]).map(|_| ())
        }
    }
}

/// What was set aside.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    pub(crate) damaged: Vec<Damaged>,
    pub(crate) reigns: Vec<i64>,
}

/// Takes damaged records out of the way, and notes from where on the file does not know all any more. In a
/// transaction of the caller's. One that was overwritten since is as it should be.
pub(crate) fn set_aside(
    connection: &Connection,
    damaged: &[Damaged],
    now_micros: i64,
) -> rusqlite::Result<Aside> {
    let mut aside = Aside::default();
    for one in damaged {
        let (class, table) = (format!("{:?}", one.class), table_of(one.class));
        let select = format!("SELECT {} FROM {table} WHERE rowid = ?", columns(one.class));
        let again = connection
            .prepare_cached(&select)?
            .query_row([one.row], |row| take(one.class, row))
            .optional()?;
        let Some(one) = again.and_then(|taken| taken.damaged) else { continue };
        let keep = format!(
            "INSERT INTO damaged_record SELECT ?1, key, reign, seq, written, body, sum, ?2 FROM {table}
             WHERE rowid = ?3"
        );
        connection.prepare_cached(&keep)?.execute(params![class, now_micros, one.row])?;
        let remove = format!("DELETE FROM {table} WHERE rowid = ?");
        connection.prepare_cached(&remove)?.execute([one.row])?;
        let (of, from) = match one.stamp {
            Some(stamp) => (Some(reign_of(stamp.epoch)), seq_of(stamp.seq)),
            // Whichever it was.
            None => (None, 0),
        };
        let mut doubt = connection.prepare_cached(DOUBT)?;
        let mut rows = doubt.query(params![of, from])?;
        while let Some(row) = rows.next()? {
            aside.reigns.push(row.get(0)?);
        }
        aside.damaged.push(one);
    }
    Ok(aside)
}

/// Of one reign, or of all.
const DOUBT: &str = "INSERT INTO doubt AS old (reign, seq)
    SELECT reign, ?2 FROM known WHERE ?1 IS NULL OR reign = ?1
    ON CONFLICT (reign) DO UPDATE SET seq = min(old.seq, excluded.seq) RETURNING reign";

const SET_HOT: &str =
    "REPLACE INTO hot_record (key, reign, seq, written, body, sum) VALUES (?, ?, ?, ?, ?, ?)";

const DELETE_HOT: &str = "DELETE FROM hot_record WHERE key = ?";

const MERGE_HOT: &str = "INSERT INTO hot_record AS old (key, reign, seq, written, body, sum)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reign = excluded.reign,
    seq = excluded.seq, written = excluded.written, body = excluded.body, sum = excluded.sum
    WHERE (excluded.reign, excluded.seq) > (old.reign, old.seq)";

const MERGE_TABLE: &str = "INSERT INTO table_record AS old (key, reign, seq, written, body, sum)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reign = excluded.reign,
    seq = excluded.seq, written = excluded.written, body = excluded.body, sum = excluded.sum
    WHERE (excluded.reign, excluded.seq) >= (old.reign, old.seq)";

const MERGE_LOG: &str = "INSERT INTO log_record AS old (key, reign, seq, written, body, sum, ends)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reign = excluded.reign,
    seq = excluded.seq, written = excluded.written, body = excluded.body, sum = excluded.sum,
    ends = excluded.ends
    WHERE (excluded.reign, excluded.seq) >= (old.reign, old.seq)";

const LEARN: &str = "INSERT INTO known AS old (reign, seq) VALUES (?, ?)
    ON CONFLICT (reign) DO UPDATE SET seq = max(old.seq, excluded.seq)";
