//! Copies of the files, made while they are written; and what a copy needs before it is put in place.
//!
//! ```text
//!   the file ──one moment of it, a part at a time──> a copy that stands alone, synced, for its owner only
//!   a copy   ──prepare_journal, prepare_configuration──> a file that a server may begin with
//! ```
//!
//! A copy is read in one transaction: it is one moment of the file however long it takes, and a writer
//! that writes all the time does not make it begin anew. The writer never waits for it; the write-ahead
//! log grows meanwhile, because what the copy still reads cannot be brought into the file.

mod sums;

use core::fmt;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, params};
use tandem_journal::Class;
use tandem_oplog::Origin;
use tandem_types::{Duration, Epoch};

use crate::file::{OpenError, connect_reading, keep_name, stamp_of, table_of};
use crate::tables::{Setup, Tables};

pub use sums::{LogPart, Sums, log_part, sums};

/// Pages that are copied in one go: 1 MiB.
const PAGES: i32 = 256;

/// Pause before a file that is locked for a moment is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// After so many tries in a row a file is taken for locked for good: a minute.
const BUSY_MAX: u32 = 6_000;

/// Which of the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Replicated tables.
    Tables,
    /// The journal.
    Journal,
}

impl Kind {
    /// What marks a file as one of this kind.
    const fn application_id(self) -> i32 {
        match self {
            Self::Tables => 0x5441_4e43,
            Self::Journal => 0x5441_4e44,
        }
    }
}

/// Why there is no copy.
#[derive(Debug)]
pub enum CopyError {
    /// The file cannot be read, or is none of ours.
    From(OpenError),
    /// The copy cannot be written: the disk is full, or fails. Or the file failed in the middle.
    Broke {
        /// The file.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
        /// What SQLite or the system said.
        what: String,
    },
    /// The caller did not want to go on.
    Stopped,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(error) => error.fmt(f),
            Self::Broke { from, to, what } => {
                write!(f, "cannot copy {} to {}: {what}", from.display(), to.display())
            }
            Self::Stopped => f.write_str("stopped before it was done"),
        }
    }
}

impl std::error::Error for CopyError {}

/// Copies a file as it is at this moment, also while another process writes it. `go_on` is asked after
/// every part, with the bytes that are copied and those of the whole file; it may take its time.
///
/// # Errors
///
/// What is there of the copy then is of no use.
pub fn copy(
    kind: Kind,
    from: &Path,
    to: &Path,
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<(), CopyError> {
    let source = begin_reading(kind, from).map_err(CopyError::From)?;
    let broke = |what: String| CopyError::Broke { from: from.into(), to: to.into(), what };
    let sqlite = |error: rusqlite::Error| broke(error.to_string());
    let bytes: u64 = source
        .pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))
        .map_err(sqlite)?
        .unsigned_abs();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags).map_err(sqlite)?;
    // It is synced as a whole at the end; before that nobody believes it.
    target.pragma_update(None, "synchronous", "OFF").map_err(sqlite)?;
    // Nobody else has it. Without this there is a file of shared memory beside it at the end, and where there is
    // no room for that SQLite does not say so.
    target.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(sqlite)?;
    let backup = Backup::new(&source, &mut target).map_err(sqlite)?;
    match steps(&backup, bytes, go_on).map_err(sqlite)? {
        End::Done => drop(backup),
        End::Busy => return Err(broke(String::from("it is locked by somebody else"))),
        End::Stopped => return Err(CopyError::Stopped),
    }
    // It stands alone: one file, without a log beside it.
    target.pragma_update(None, "journal_mode", "DELETE").map_err(sqlite)?;
    target.close().map_err(|(_, error)| sqlite(error))?;
    let synced = File::open(to).and_then(|file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.sync_all()
    });
    synced.map_err(|error| broke(error.to_string()))
}

/// How the copying of pages ended.
enum End {
    Done,
    Busy,
    Stopped,
}

// SQLite's results of a step are not our enum, and have no end.
#[allow(clippy::wildcard_enum_match_arm)]
fn steps(
    backup: &Backup<'_, '_>,
    page_bytes: u64,
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> rusqlite::Result<End> {
    let mut busy = 0;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => return Ok(End::Done),
            StepResult::More => busy = 0,
            _ if busy < BUSY_MAX => {
                busy += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            _ => return Ok(End::Busy),
        }
        let progress = backup.progress();
        let pages = |count: i32| u64::from(count.unsigned_abs()) * page_bytes;
        let (all, left) = (pages(progress.pagecount), pages(progress.remaining));
        if !go_on(all.saturating_sub(left), all) {
            return Ok(End::Stopped);
        }
    }
}

/// A connection that sees the file as it is now, until it is dropped.
fn begin_reading(kind: Kind, path: &Path) -> Result<Connection, OpenError> {
    let sqlite = |error| OpenError::of_sqlite(path, &error);
    let connection = connect_reading(path).map_err(sqlite)?;
    let begin = || -> rusqlite::Result<i32> {
        connection.execute_batch("BEGIN")?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        connection.pragma_query_value(None, "application_id", |row| row.get(0))
    };
    if begin().map_err(sqlite)? == kind.application_id() {
        Ok(connection)
    } else {
        Err(OpenError::Foreign { path: path.to_owned() })
    }
}

/// Reads a file as a whole and says what is wrong with it: sentences for an administrator, none where all is
/// well. Also while a server writes it.
///
/// # Errors
///
/// It cannot be read at all, or is none of ours.
pub fn check(kind: Kind, path: &Path) -> Result<Vec<String>, OpenError> {
    let connection = begin_reading(kind, path)?;
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut check = connection.prepare("PRAGMA integrity_check(20)")?;
        let lines = check.query_map([], |row| row.get::<_, String>(0))?;
        let lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
        let one_line = |line: String| line.trim().replace('\n', "; ");
        Ok(lines.into_iter().filter(|line| line != "ok").map(one_line).collect())
    };
    read().map_err(|error| OpenError::of_sqlite(path, &error))
}

/// Whether an older version of this program wrote the file, so that it has to be brought up to date before this one
/// can read it. `setup`: how tables are read.
///
/// # Errors
///
/// It cannot be read, or is none of ours.
pub fn is_older(kind: Kind, path: &Path, setup: &Setup) -> Result<bool, OpenError> {
    let connection = begin_reading(kind, path)?;
    match kind {
        Kind::Tables => crate::tables::is_older(&connection, setup)
            .map_err(|error| OpenError::of_sqlite(path, &error)),
        Kind::Journal => Ok(crate::file::is_older(&connection)),
    }
}

/// The tables of a file as they are now, to be read only: beside the server that writes it, or of a backup.
///
/// # Errors
///
/// It cannot be read, or is of another version.
pub fn tables(path: &Path, setup: &Setup) -> Result<Tables, OpenError> {
    Tables::on(begin_reading(Kind::Tables, path)?, path, setup)
}

/// Makes this process the one that may write in a folder, until the file is dropped: a server does not begin
/// meanwhile.
///
/// # Errors
///
/// One runs, or the folder cannot be written.
pub fn lock(folder: &Path) -> Result<File, OpenError> {
    crate::file::lock(folder)
}

/// What was in a journal before [`prepare_journal`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Prepared {
    /// The highest reign of which there was anything.
    pub reign: Option<Epoch>,
    /// Hot records that were dropped.
    pub dropped: u64,
    /// Hot records that stay.
    pub kept: u64,
    /// Log records.
    pub logs: u64,
}

/// Takes out of a copy of a journal what was true then and is not now: hot records, but those whose keys
/// begin with one of `keep`. And what is known: so that the twin sends everything that it has.
///
/// # Errors
///
/// The file cannot be written, or is none of ours.
pub fn prepare_journal(path: &Path, keep: &[&[u8]]) -> Result<Prepared, OpenError> {
    let connection = begin_writing(Kind::Journal, path)?;
    let work = || -> rusqlite::Result<Prepared> {
        let transaction = connection.unchecked_transaction()?;
        let mut reigns = Vec::new();
        let tables = [Class::Hot, Class::Table, Class::Log].map(table_of);
        for table in tables.iter().copied().chain(["known"]) {
            let sql = format!("SELECT max(reign) FROM {table}");
            reigns.extend(transaction.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0))?);
        }
        let count = |table: &str| -> rusqlite::Result<u64> {
            let sql = format!("SELECT count(*) FROM {table}");
            let count: i64 = transaction.query_row(&sql, [], |row| row.get(0))?;
            Ok(count.unsigned_abs())
        };
        let hot = table_of(Class::Hot);
        let before = count(hot)?;
        transaction.execute_batch("CREATE TEMP TABLE keep (prefix BLOB NOT NULL)")?;
        for prefix in keep {
            transaction.execute("INSERT INTO keep VALUES (?)", params![prefix])?;
        }
        transaction.execute_batch(&format!(
            "DELETE FROM {hot} WHERE NOT EXISTS (
                SELECT 1 FROM keep WHERE substr(key, 1, length(prefix)) = prefix);
             DELETE FROM known; DROP TABLE keep"
        ))?;
        let (kept, logs) = (count(hot)?, count(table_of(Class::Log))?);
        transaction.commit()?;
        let reign = reigns.into_iter().max().and_then(|reign| stamp_of(reign, 0));
        let reign = reign.map(|stamp| stamp.epoch);
        Ok(Prepared { reign, dropped: before - kept, kept, logs })
    };
    let prepared = work().map_err(|error| OpenError::of_sqlite(path, &error))?;
    end_writing(path, connection)?;
    Ok(prepared)
}

/// Gives a copy of tables another name to write under. The numbers of the old one were given on after the copy
/// was made: what is written from here on must not carry them again.
///
/// # Errors
///
/// The file cannot be written, or is none of ours.
pub fn prepare_tables(path: &Path, me: Origin) -> Result<(), OpenError> {
    let connection = begin_writing(Kind::Tables, path)?;
    let sqlite = |error| OpenError::of_sqlite(path, &error);
    let sql = "UPDATE state SET value = ? WHERE name = 'me'";
    let changed = connection.execute(sql, [me.0.cast_signed()]).map_err(sqlite)?;
    if changed != 1 {
        let what = String::from("it does not say who we are");
        return Err(OpenError::Broken { path: path.to_owned(), what });
    }
    end_writing(path, connection)
}

fn begin_writing(kind: Kind, path: &Path) -> Result<Connection, OpenError> {
    drop(begin_reading(kind, path)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| OpenError::of_sqlite(path, &error))
}

fn end_writing(path: &Path, connection: Connection) -> Result<(), OpenError> {
    connection.close().map_err(|(_, error)| OpenError::of_sqlite(path, &error))?;
    let synced = File::open(path).and_then(|file| file.sync_all());
    let what = |error: std::io::Error| error.to_string();
    synced.map_err(|error| OpenError::Unusable { path: path.to_owned(), what: what(error) })?;
    keep_name(path)
}
