//! One transaction: changes of our own and ops of the other server, in any order.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, ffi, params};
use tandem_oplog::{Chain, Change, Column, Op, OpError, OpId, Origin, Row, Table, TableId, Value};

use super::capture::Capture;
use super::coming::Rows;
use super::sql::{key_bytes, write_row};
use super::{By, Heads, Tables};

/// Changes and ops that go to disk together. Rolled back where it is dropped before
/// [`Batch::commit`].
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) tables: &'a mut Tables,
    /// As it was: what a rollback returns to.
    before: Heads,
    touched: Touched,
    /// The same in the order in which they came: what a change that fails takes back.
    fresh: Vec<(TableId, Vec<Value>)>,
    open: bool,
}

/// Rows that were written: table and key.
pub type Touched = BTreeSet<(TableId, Vec<Value>)>;

/// Why a change was not made.
#[derive(Debug)]
pub enum ChangeError<E> {
    /// The caller's own reason.
    Refused(E),
    /// It cannot be replicated: a row deleted, a key changed, a value of no kind, too much at once.
    Unfit(String),
    /// The disk, or SQLite.
    Disk(rusqlite::Error),
}

impl<E: fmt::Display> fmt::Display for ChangeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => why.fmt(f),
            Self::Unfit(why) => f.write_str(why),
            Self::Disk(error) => write!(f, "the configuration cannot be written: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for ChangeError<E> {}

/// What became of an op of the other server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// It is new, and part of the batch.
    New,
    /// It was here already.
    Known,
}

/// Why an op was not taken.
#[derive(Debug)]
pub enum TakeError {
    /// It is none, or of a version that is not known.
    Unreadable(OpError),
    /// One before it is missing, of its origin or of another that its writer had seen.
    Gap(OpId),
    /// There is another of this name here.
    TwoPasts(OpId),
    /// The disk, or SQLite.
    Disk(rusqlite::Error),
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Gap(id) => write!(f, "a change came before {id}, on which it rests"),
            Self::TwoPasts(id) => write!(f, "there is another change {id} here"),
            Self::Disk(error) => write!(f, "the configuration cannot be written: {error}"),
        }
    }
}

impl std::error::Error for TakeError {}

impl From<rusqlite::Error> for TakeError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk(error)
    }
}

impl<'a> Batch<'a> {
    pub(super) fn begin(tables: &'a mut Tables) -> rusqlite::Result<Self> {
        // A pragma of the disk's own comes with the first statement: nothing is deferred.
        tables.connection.execute_batch("BEGIN IMMEDIATE")?;
        let before = tables.heads.clone();
        Ok(Self { tables, before, touched: Touched::new(), fresh: Vec::new(), open: true })
    }

    /// The connection, inside the transaction, to read.
    pub const fn reader(&self) -> &Connection {
        &self.tables.connection
    }

    /// The tables, as they are within this batch, to read.
    pub const fn tables(&self) -> &Tables {
        self.tables
    }

    /// Runs SQL on the replicated tables; what it changes becomes one op. `None` where nothing did. Where
    /// it is refused the rest of the batch is as if it had not been asked.
    ///
    /// Rows are made by INSERT and changed by UPDATE; they are deleted by setting `deleted` to 1.
    ///
    /// # Errors
    ///
    /// The body's own, or what cannot be replicated.
    pub fn change<T, E: From<rusqlite::Error>>(
        &mut self,
        by: &By,
        body: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<(T, Option<OpId>), ChangeError<E>> {
        self.within(by, |batch| {
            let done = body(&batch.tables.connection).map_err(ChangeError::Refused);
            let changes = capture(batch.tables).take().map_err(ChangeError::Unfit);
            // Its own reason comes first: what was captured is a part of what failed.
            Ok((done?, changes?))
        })
    }

    /// Writes one column although it may hold that value already: this decides between the values of a
    /// conflict ([`Tables::undecided`]).
    ///
    /// # Errors
    ///
    /// There is no such row, or the value does not fit.
    pub fn decide(
        &mut self,
        by: &By,
        row: &super::Undecided,
        value: &Value,
    ) -> Result<Option<OpId>, ChangeError<rusqlite::Error>> {
        let table = self.tables.schema.named(row.table);
        let column = table.and_then(|table| table.named(row.column));
        let (Some(table), Some(column)) = (table, column) else {
            return Err(ChangeError::Unfit(format!("no column {}.{}", row.table, row.column)));
        };
        let done = self.within(by, |batch| {
            let place = (table.id, row.key.clone());
            let found = kept_row(&batch.tables.connection, table.id, &row.key);
            let kept = match found.map_err(ChangeError::Disk)? {
                Kept::Row(kept) => kept,
                Kept::Nothing => {
                    return Err(ChangeError::Unfit(format!("{} has no such row", row.table)));
                }
                Kept::Unreadable => {
                    let why = format!("what is kept of this row of {} cannot be read", row.table);
                    return Err(ChangeError::Unfit(why));
                }
            };
            let written = [(column, value.clone())];
            write_row(&batch.tables.connection, table, &row.key, &written, &kept)
                .map_err(ChangeError::Refused)?;
            let mut capture = capture(batch.tables);
            capture.mean(place, column.id, value.clone());
            Ok(((), capture.take().map_err(ChangeError::Unfit)?))
        })?;
        Ok(done.1)
    }

    /// Runs `body` in a savepoint, and makes an op of the changes it returns.
    pub(super) fn within<T, E: From<rusqlite::Error>>(
        &mut self,
        by: &By,
        body: impl FnOnce(&mut Self) -> Result<(T, Vec<Change>), ChangeError<E>>,
    ) -> Result<(T, Option<OpId>), ChangeError<E>> {
        self.alive().map_err(ChangeError::Disk)?;
        self.sql("SAVEPOINT one").map_err(ChangeError::Disk)?;
        let (heads, fresh) = (self.tables.heads.clone(), self.fresh.len());
        let result = body(self).and_then(|(done, changes)| {
            let id = if changes.is_empty() { None } else { Some(self.log_own(by, changes)?) };
            Ok((done, id))
        });
        if result.is_err() {
            self.tables.heads = heads;
            for place in self.fresh.drain(fresh..) {
                self.touched.remove(&place);
            }
            // What is captured of it is void.
            let _ = capture(self.tables).take();
            if self.alive().is_err() {
                return result;
            }
            self.sql("ROLLBACK TO one").map_err(ChangeError::Disk)?;
        }
        self.sql("RELEASE one").map_err(ChangeError::Disk)?;
        result
    }

    /// After an error of the disk SQLite may have rolled back the whole transaction. Then nothing more is
    /// written: a savepoint would begin another one, and its end would commit a part of the batch.
    pub(super) fn alive(&self) -> rusqlite::Result<()> {
        if self.tables.connection.is_autocommit() {
            let gone = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
            return Err(rusqlite::Error::SqliteFailure(gone, None));
        }
        Ok(())
    }

    fn log_own<E>(&mut self, by: &By, changes: Vec<Change>) -> Result<OpId, ChangeError<E>> {
        let me = self.tables.me;
        let heads = &mut self.tables.heads;
        let id = OpId { origin: me, number: heads.seen.up_to(me) + 1 };
        let mut seen = heads.seen.clone();
        seen.forget_after(OpId { number: 0, ..id });
        let op = Op {
            id,
            hlc: heads.clock.stamp(by.wall_millis),
            epoch: by.epoch,
            schema: self.tables.schema.version,
            author: by.author.clone(),
            seen,
            changes,
        };
        let bytes = op.encode().map_err(|error| ChangeError::Unfit(error.to_string()))?;
        let mut rows = Rows::default();
        self.take_changes(&op, &mut rows).map_err(ChangeError::Disk)?;
        self.keep_rows(rows).map_err(ChangeError::Disk)?;
        self.log(&op, &bytes, by.wall_millis).map_err(ChangeError::Disk)?;
        Ok(id)
    }

    /// Writes columns of a row into its table.
    pub(super) fn write_or_park(
        &self,
        table: &Table,
        key: &[Value],
        columns: &[(Column, Value)],
        row: &Row,
    ) -> rusqlite::Result<()> {
        let connection = &self.tables.connection;
        match write_row(connection, table, key, columns, row) {
            // What a newer server allows may be refused here; replication goes on.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let mut park = connection
                    .prepare_cached("REPLACE INTO parked (tab, key, why) VALUES (?, ?, ?)")?;
                park.execute(params![table.id, key_bytes(key), error.to_string()])?;
                // One column that is refused keeps back no other.
                let ones = if columns.len() > 1 { columns } else { &[] };
                let mut ones = ones.iter().map(core::slice::from_ref);
                ones.try_for_each(|one| self.write_or_park(table, key, one, row))
            }
            written => written,
        }
    }

    /// Puts a row in the place of what is kept of it, and into its table.
    pub(super) fn put(&mut self, id: TableId, key: &[Value], row: &Row) -> rusqlite::Result<()> {
        self.keep_row(id, key, row)?;
        let Some(table) = self.tables.schema.table(id) else { return Ok(()) };
        if key.len() != table.key.len() {
            return Ok(());
        }
        let columns: Vec<(Column, Value)> = table
            .changing()
            .filter_map(|column| Some((column, row.value(column.id)?.clone())))
            .collect();
        self.write_or_park(table, key, &columns, row)
    }

    pub(super) fn keep_row(
        &mut self,
        table: TableId,
        key: &[Value],
        row: &Row,
    ) -> rusqlite::Result<()> {
        let mut keep = self.tables.connection.prepare_cached(
            "REPLACE INTO row_version (tab, key, undecided, body) VALUES (?, ?, ?, ?)",
        )?;
        keep.execute(params![table, key_bytes(key), row.has_losers(), row.encode()])?;
        drop(keep);
        self.touch(table, key);
        Ok(())
    }

    /// A row is another now.
    pub(super) fn touch(&mut self, table: TableId, key: &[Value]) {
        let place = (table, key.to_vec());
        if self.touched.insert(place.clone()) {
            self.fresh.push(place);
        }
    }

    /// Within `body` nothing that is written is captured.
    pub(super) fn uncaptured<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        capture(self.tables).off = true;
        let done = body(self);
        capture(self.tables).off = false;
        done
    }

    /// Adds an op to the log.
    pub(super) fn log(&mut self, op: &Op, bytes: &[u8], came: u64) -> rusqlite::Result<()> {
        let heads = &mut self.tables.heads;
        heads.seen.learn(op.id);
        let chain = heads.chains.entry(op.id.origin).or_insert(Chain::START);
        *chain = chain.link(bytes);
        let (origin, number) = (op.id.origin.0.cast_signed(), number_of(op.id));
        let came = i64::try_from(came).unwrap_or(i64::MAX);
        heads.position += 1;
        let (position, hlc) = (heads.position, op.hlc.to_bits());
        let connection = &self.tables.connection;
        let mut log = connection.prepare_cached(
            "INSERT INTO op_log (position, origin, number, hlc, chain, came, body)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?;
        log.execute(params![position, origin, number, hlc, chain.0, came, bytes]).map(|_| ())
    }

    /// All of it is on disk when this returns: the rows that were written.
    ///
    /// # Errors
    ///
    /// The disk. Nothing has changed then.
    pub fn commit(mut self) -> rusqlite::Result<Touched> {
        self.alive()?;
        self.write_heads()?;
        self.sql("COMMIT")?;
        self.open = false;
        Ok(core::mem::take(&mut self.touched))
    }

    /// What is here of each origin now.
    fn write_heads(&self) -> rusqlite::Result<()> {
        let mut write = self
            .tables
            .connection
            .prepare_cached("REPLACE INTO origin (origin, number, chain) VALUES (?, ?, ?)")?;
        for (id, chain) in self.tables.heads() {
            let before = self.before.chains.get(&id.origin);
            if before != Some(&chain) || self.before.seen.up_to(id.origin) != id.number {
                write.execute(params![origin_of(id.origin), number_of(id), chain.0])?;
            }
        }
        Ok(())
    }

    fn sql(&self, statement: &str) -> rusqlite::Result<()> {
        self.tables.connection.prepare_cached(statement)?.execute([]).map(|_| ())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.open {
            self.tables.heads = self.before.clone();
            let mut capture = capture(self.tables);
            let _ = capture.take();
            capture.off = false;
            drop(capture);
            // An error may have rolled back already.
            if !self.tables.connection.is_autocommit() {
                let _ = self.sql("ROLLBACK");
            }
        }
    }
}

fn capture(tables: &Tables) -> MutexGuard<'_, Capture> {
    tables.capture.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the file has of a row.
pub(super) enum Kept {
    /// Nobody ever wrote one.
    Nothing,
    /// This.
    Row(Row),
    /// Bytes that are no row: damage.
    Unreadable,
}

impl Kept {
    pub(super) fn of(body: Option<&[u8]>) -> Self {
        let Some(body) = body else { return Self::Nothing };
        Row::decode(body).map_or(Self::Unreadable, Self::Row)
    }
}

pub(super) fn kept_row(
    connection: &Connection,
    table: u16,
    key: &[Value],
) -> rusqlite::Result<Kept> {
    Ok(Kept::of(kept_bytes(connection, table, key)?.as_deref()))
}

/// What the file has of a row, as it is encoded.
pub(super) fn kept_bytes(
    connection: &Connection,
    table: u16,
    key: &[Value],
) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut find =
        connection.prepare_cached("SELECT body FROM row_version WHERE tab = ? AND key = ?")?;
    find.query_row(params![table, key_bytes(key)], |row| row.get(0)).optional()
}

/// As a column. 2^63 ops would take 292,000 years at a million a second.
pub(super) fn number_of(id: OpId) -> i64 {
    i64::try_from(id.number).unwrap_or(i64::MAX)
}

/// As a column.
pub(super) const fn origin_of(origin: Origin) -> i64 {
    origin.0.cast_signed()
}
