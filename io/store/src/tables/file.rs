//! The file: made, checked, brought up to date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{Action, PreUpdateCase};
use rusqlite::{Connection, OptionalExtension as _};
use tandem_oplog::{Chain, Clock, Hlc, OpId, Origin, Row, Schema, Seen};

use super::capture::Capture;
use super::sql::{key_of, write_row};
use super::{Heads, Tables};
use crate::file::{OpenError, check, keep_name};
use crate::tidy::{WAL_FRAMES, make_durable};

/// Marks the file as ours ("TANC").
const APPLICATION_ID: i32 = 0x5441_4e43;

/// Our own tables; a released line never changes. In front of those of [`Setup::migrations`].
const OWN: &str = "
    CREATE TABLE state (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    CREATE TABLE origin (
        origin INTEGER NOT NULL PRIMARY KEY, number INTEGER NOT NULL, chain BLOB NOT NULL) STRICT;
    CREATE TABLE op_log (
        position INTEGER PRIMARY KEY, origin INTEGER NOT NULL, number INTEGER NOT NULL,
        hlc INTEGER NOT NULL, chain BLOB NOT NULL, came INTEGER NOT NULL, body BLOB NOT NULL,
        UNIQUE (origin, number)) STRICT;
    CREATE TABLE row_version (
        tab INTEGER NOT NULL, key BLOB NOT NULL, undecided INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (tab, key)) STRICT, WITHOUT ROWID;
    CREATE INDEX row_undecided ON row_version (tab, key) WHERE undecided = 1;
    CREATE TABLE parked (
        tab INTEGER NOT NULL, key BLOB NOT NULL, why TEXT NOT NULL,
        PRIMARY KEY (tab, key)) STRICT, WITHOUT ROWID;
";

/// What came to our own tables since, beside the steps of [`Setup::migrations`], which are counted by the
/// file's version; a released one never changes.
const OWN_SINCE: [&str; 2] = [
    "
    CREATE TABLE passed (
        origin INTEGER NOT NULL, number INTEGER NOT NULL, chain BLOB NOT NULL,
        PRIMARY KEY (origin, number)) STRICT, WITHOUT ROWID;
    CREATE TABLE staged (
        number INTEGER PRIMARY KEY, items INTEGER NOT NULL, hash BLOB NOT NULL,
        body BLOB NOT NULL) STRICT;
",
    "
    CREATE TABLE damaged_row (
        tab INTEGER NOT NULL, key BLOB NOT NULL, body BLOB, shown BLOB, hlc INTEGER NOT NULL) STRICT;
",
];

/// How a file is made and read.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The replicated tables. Its version rises with its migrations.
    pub schema: &'static Schema,
    /// What makes these tables: SQL, append only; a released one never changes.
    pub migrations: &'static [&'static str],
    /// Our part of a stamp: differs between the two servers.
    pub node: u8,
    /// Who we are where the file is new: made by dice.
    pub origin: Origin,
}

impl Tables {
    /// Opens the file, made where it is missing.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it. Nothing was changed then.
    pub fn open(path: &Path, setup: &Setup) -> Result<Self, OpenError> {
        let opened = || {
            let connection = crate::file::connect(path)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "wal_autocheckpoint", WAL_FRAMES)?;
            // Who was killed between writing and syncing has left here what is not durable. It is made
            // so before anybody sees it, because the number of an op that was seen is never given again.
            make_durable(&connection)?;
            Ok(connection)
        };
        let mut connection = opened().map_err(|error| OpenError::of_sqlite(path, &error))?;
        check(path, &mut connection)?;
        keep_name(path)?;
        Self::on(connection, path, setup)
    }

    /// As [`Tables::open`], on a connection that is open: in memory, or on a file system of a test.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn on(mut connection: Connection, path: &Path, setup: &Setup) -> Result<Self, OpenError> {
        let sqlite = |error| OpenError::of_sqlite(path, &error);
        setup.schema.check().map_err(|fault| unusable(path, &fault.to_string()))?;
        migrate(&connection, path, setup)?;
        add_own(&connection, path)?;
        let me = state(&connection, "me").map_err(sqlite)?;
        let me = me.ok_or_else(|| broken(path, "it does not say who we are"))?;
        let me = Origin(me.cast_unsigned());
        let heads = heads(&connection, setup.node).map_err(sqlite)?;
        let heads = heads.map_err(|what| broken(path, &what))?;
        let capture = Capture::new(&connection, setup.schema).map_err(sqlite)?;
        let capture = capture.map_err(|what| unusable(path, &what))?;
        let capture = Arc::new(Mutex::new(capture));
        dress(&mut connection, &capture).map_err(sqlite)?;
        Ok(Self {
            connection,
            schema: setup.schema,
            me,
            heads,
            capture,
            met_unreadable: false,
            tidy: None,
            #[cfg(feature = "sabotage")]
            broken: None,
            #[cfg(feature = "sabotage")]
            reign: tandem_types::Epoch::NEVER,
        })
    }
}

/// What a connection that writes the tables has, beside what every one has.
pub(super) fn dress(
    connection: &mut Connection,
    capture: &Arc<Mutex<Capture>>,
) -> rusqlite::Result<()> {
    // Sorting is rare here, and needs no file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Otherwise SQLite plans some statements anew for every value that is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let hooked = Arc::clone(capture);
    let hook = move |_: Action, _: &str, table: &str, case: &PreUpdateCase| {
        hooked.lock().unwrap_or_else(PoisonError::into_inner).saw(table, case);
    };
    connection.preupdate_hook(Some(hook))
}

fn unusable(path: &Path, what: &str) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), what: what.to_owned() }
}

fn broken(path: &Path, what: &str) -> OpenError {
    OpenError::Broken { path: PathBuf::from(path), what: what.to_owned() }
}

pub(super) fn state(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT value FROM state WHERE name = ?")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn set_state(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("REPLACE INTO state (name, value) VALUES (?, ?)")?;
    statement.execute((name, value)).map(|_| ())
}

/// Ops up to this stamp may be gone from the log.
pub(super) fn note_gone(connection: &Connection, hlc: i64) -> rusqlite::Result<()> {
    if state(connection, GONE)? < Some(hlc) { set_state(connection, GONE, hlc) } else { Ok(()) }
}

/// The newest stamp of an op that is gone from the log.
pub(super) const GONE: &str = "gone";

/// Brings the file up to date, in one transaction.
fn migrate(connection: &Connection, path: &Path, setup: &Setup) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::of_sqlite(path, &error);
    let id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sqlite)?;
    let version: i32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    let tables: u32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite)?;
    if id != APPLICATION_ID && (tables > 0 || version != 0) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    // What is there of ours is counted as the first step.
    let steps: Vec<&str> = core::iter::once(OWN).chain(setup.migrations.iter().copied()).collect();
    let done = match usize::try_from(version) {
        Ok(done) if done <= steps.len() => done,
        Ok(_) | Err(_) => {
            return Err(OpenError::Newer { path: path.to_owned(), version, known: steps.len() });
        }
    };
    if done == steps.len() {
        return Ok(());
    }
    let bring = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(&steps[done..].concat())?;
        if done == 0 {
            set_state(&transaction, "me", setup.origin.0.cast_signed())?;
        } else {
            rebuild(&transaction, setup.schema)?;
        }
        let version = steps.len();
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}"
        ))?;
        transaction.commit()
    };
    bring().map_err(sqlite)
}

/// Whether something is left to be brought up to date.
pub(crate) fn is_older(connection: &Connection, setup: &Setup) -> rusqlite::Result<bool> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let own = state(connection, "own")?.unwrap_or(0);
    let is_below = |version: i64, all: usize| usize::try_from(version).is_ok_and(|it| it < all);
    Ok(is_below(version, setup.migrations.len() + 1) || is_below(own, OWN_SINCE.len()))
}

/// Brings our own tables up to date.
fn add_own(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::of_sqlite(path, &error);
    let version = state(connection, "own").map_err(sqlite)?.unwrap_or(0);
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(steps) = OWN_SINCE.get(done..) else {
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        return Err(OpenError::Newer { path: path.to_owned(), version, known: OWN_SINCE.len() });
    };
    if steps.is_empty() {
        return Ok(());
    }
    let add = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(&steps.concat())?;
        set_state(&transaction, "own", i64::try_from(OWN_SINCE.len()).unwrap_or(i64::MAX))?;
        transaction.commit()
    };
    add().map_err(sqlite)
}

/// Writes what newer servers sent before this one knew the table or the column.
fn rebuild(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    let mut rows = connection.prepare("SELECT tab, key, body FROM row_version")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (id, key, body): (u16, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (Some(table), Some(key), Some(row)) =
            (schema.table(id), key_of(&key), Row::decode(&body))
        else {
            continue;
        };
        let columns: Vec<_> = table
            .changing()
            .filter_map(|column| Some((column, row.value(column.id)?.clone())))
            .collect();
        write_row(connection, table, &key, &columns, &row)?;
    }
    connection.execute("DELETE FROM parked", []).map(|_| ())
}

/// What the log holds; the inner error is what no database of ours says.
pub(super) fn heads(connection: &Connection, node: u8) -> rusqlite::Result<Result<Heads, String>> {
    let latest: Option<i64> =
        connection.query_row("SELECT max(hlc) FROM op_log", [], |row| row.get(0))?;
    let position = last_position(connection)?;
    let kept = state(connection, "hlc")?;
    let Some(latest) = Hlc::from_bits(latest.max(kept).unwrap_or(0)) else {
        return Ok(Err("a stamp that is none".to_owned()));
    };
    let mut statement = connection.prepare("SELECT origin, number, chain FROM origin")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
    })?;
    let (mut seen, mut chains) = (Seen::new(), BTreeMap::new());
    for row in rows {
        let (origin, number, chain) = row?;
        let origin = Origin(origin.cast_unsigned());
        let (Ok(number), Ok(chain)) = (u64::try_from(number), <[u8; 16]>::try_from(chain)) else {
            return Ok(Err(format!("what is here of {origin} cannot be read")));
        };
        seen.learn(OpId { origin, number });
        chains.insert(origin, Chain(chain));
    }
    Ok(Ok(Heads { clock: Clock::new(node, latest), seen, chains, position }))
}

/// Of the last op in the log; 0 where there is none.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT max(position) FROM op_log";
    let last: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}
