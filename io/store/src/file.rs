//! The file itself: how it is opened, checked, migrated, and moved out of the way.
//!
//! One table for each class of record, all with the same columns. `reign` is the epoch as one
//! number that sorts like it: its number times two, plus one for the standby. `written` is wall time
//! in microseconds, used for nothing but the age of a record after a restart. `sum` is its checksum
//! ([`crate::seal`]), `ends` when what a log record tells ended ([`crate::retention`]). What is in `doubt` caps
//! what is in `known`: beyond it a record was damaged, and the next catch-up brings what the twin has.

use core::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tandem_journal::Class;
use tandem_types::{Duration, Epoch, Seat, Seq, Stamp};

use crate::seal::{EndOf, seal_all};
use crate::suspect::{Identity, clear, mark_examined, suspected};

/// Name of the file in its folder. SQLite keeps `-wal` and `-shm` beside it.
pub const FILE_NAME: &str = "journal.db";

/// Locked by the one process that writes.
const LOCK_NAME: &str = "journal.lock";

/// Marks the file as ours ("TAND").
const APPLICATION_ID: i32 = 0x5441_4e44;

/// What brings a file from one version to the next. Append only: a released line never changes.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE hot_record (
        key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB) STRICT;
    CREATE TABLE table_record (
        key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB) STRICT;
    CREATE TABLE log_record (
        key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB) STRICT;
    CREATE INDEX log_by_stamp ON log_record (reign, seq, key);
    CREATE TABLE known (
        reign INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
",
    "
    ALTER TABLE hot_record ADD COLUMN sum INTEGER;
    ALTER TABLE table_record ADD COLUMN sum INTEGER;
    ALTER TABLE log_record ADD COLUMN sum INTEGER;
    ALTER TABLE log_record ADD COLUMN ends INTEGER;
    CREATE INDEX log_by_end ON log_record (ends);
    CREATE TABLE doubt (
        reign INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
    CREATE TABLE damaged_record (
        class TEXT NOT NULL, key BLOB, reign ANY, seq ANY, written ANY, body ANY, sum ANY,
        found INTEGER NOT NULL) STRICT;
    CREATE TABLE retention (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), micros INTEGER) STRICT;
",
];

/// From this version on each record has its checksum, and each log record its end.
const SEALED: usize = 2;

/// A file up to this size is checked as a whole when it is opened; in a bigger one only what is
/// loaded is, because the check reads everything.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// So long a suspected file is read at the most. Whoever starts the server waits for it; and what was found damaged
/// once, and cannot be read in that time, counts as damaged.
const CHECK_TIME_MAX: Duration = Duration::from_secs(6);

/// Instructions of SQLite between two looks at the clock.
const CHECK_STEPS: i32 = 100_000;

/// How long a connection waits for another one's lock before it fails.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Why the file cannot be used. Prints with the file's path, for the administrator.
#[derive(Debug)]
pub enum OpenError {
    /// The folder or the file cannot be read or written.
    Unusable {
        /// Folder or file.
        path: PathBuf,
        /// What the system or SQLite said.
        what: String,
    },
    /// Another process writes here.
    InUse {
        /// The file it has locked.
        path: PathBuf,
    },
    /// The content is damaged, or not SQLite at all. [`move_aside`] makes room for a new one.
    Broken {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        what: String,
    },
    /// A database of another program.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        version: i32,
        /// The highest one that this program knows.
        known: usize,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { path, what } => write!(f, "{}: {what}", path.display()),
            Self::InUse { path } => {
                write!(f, "{}: another process has it open", path.display())
            }
            Self::Broken { path, what } => {
                write!(f, "{}: the file is damaged ({what})", path.display())
            }
            Self::Foreign { path } => {
                write!(f, "{}: this is a database of another program", path.display())
            }
            Self::Newer { path, version, known } => write!(
                f,
                "{}: the file has version {version}; this program knows up to {known}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    pub(crate) fn of_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, what) = (path.to_owned(), error.to_string());
        if is_damage(error) { Self::Broken { path, what } } else { Self::Unusable { path, what } }
    }

    fn of_io(path: &Path, error: &io::Error) -> Self {
        Self::Unusable { path: path.to_owned(), what: error.to_string() }
    }
}

/// Whether the content of a file is wrong, and not the disk.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt),
        // No code: a value that is not what the column promises.
        None => true,
    }
}

/// Whether SQLite has found the form of a file to be wrong.
pub(crate) fn is_malformed(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code().is_some() && is_damage(error)
}

/// Renames a broken file (with what SQLite keeps beside it), so that the next start begins with an
/// empty one and the twin sends what it has. Returns the new name.
///
/// # Errors
///
/// When renaming fails.
pub fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut number = 1;
    let aside = loop {
        let name = with(&format!(".broken-{number}"));
        if !name.exists() {
            break name;
        }
        number += 1;
    };
    // The file goes last: while it is there, the others still belong to it.
    for beside in ["-wal", "-shm", ""] {
        let mut to = aside.clone().into_os_string();
        to.push(beside);
        match std::fs::rename(with(beside), to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !beside.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    clear(path);
    Ok(aside)
}

/// Makes this process the one that writes, until the file is dropped (or the process dies).
pub(crate) fn lock(folder: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(folder).map_err(|error| OpenError::of_io(folder, &error))?;
    let path = folder.join(LOCK_NAME);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| OpenError::of_io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
        Err(std::fs::TryLockError::Error(error)) => Err(OpenError::of_io(&path, &error)),
    }
}

/// Opens the file for writing, made new or brought up to date where needed.
pub(crate) fn open(folder: &Path, end_of: EndOf) -> Result<Connection, OpenError> {
    let path = folder.join(FILE_NAME);
    let connection = connect(&path)
        .and_then(|connection| migrate(&connection, end_of).map(|version| (connection, version)));
    let (mut connection, version) =
        connection.map_err(|error| OpenError::of_sqlite(&path, &error))?;
    match version {
        Version::Current => {}
        Version::Foreign => return Err(OpenError::Foreign { path }),
        Version::Newer(version) => {
            return Err(OpenError::Newer { path, version, known: MIGRATIONS.len() });
        }
    }
    keep_name(&path)?;
    check(&path, &mut connection)?;
    Ok(connection)
}

/// The name in the folder survives a power loss like the content does. Also where the file is not new:
/// who made it may have died before this.
pub(crate) fn keep_name(path: &Path) -> Result<(), OpenError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| OpenError::of_io(folder, &error))
}

/// A connection that writes, to a file that was opened before by [`open`].
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Checkpoints are made by a thread of their own, beside the commits.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn connect_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Which version of the file is there.
pub(crate) enum Version {
    Current,
    Foreign,
    Newer(i32),
}

/// Brings the file up to date, in one transaction.
fn migrate(connection: &Connection, end_of: EndOf) -> rusqlite::Result<Version> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let is_ours = version_of(connection)?;
    if !matches!(is_ours, Version::Current) {
        return Ok(is_ours);
    }
    if done < MIGRATIONS.len() {
        // Rolls back when dropped before the commit.
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(&MIGRATIONS[done..].concat())?;
        if done < SEALED {
            seal_all(&transaction, end_of)?;
        }
        let version = MIGRATIONS.len();
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}"
        ))?;
        transaction.commit()?;
    }
    Ok(Version::Current)
}

/// Whether the file is one of ours (or still empty) and not from the future.
pub(crate) fn version_of(connection: &Connection) -> rusqlite::Result<Version> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID && (tables > 0 || version != 0) {
        return Ok(Version::Foreign);
    }
    if usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len()) || version < 0 {
        return Ok(Version::Newer(version));
    }
    Ok(Version::Current)
}

/// Whether an older version of this program wrote the file, and this one has not opened it for writing yet.
pub(crate) fn is_older(connection: &Connection) -> bool {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    version.is_ok_and(|version| usize::try_from(version).is_ok_and(|it| it < MIGRATIONS.len()))
}

/// Reads a file that is not too big as a whole, and one that is suspected, and says what is wrong with it.
pub(crate) fn check(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let Some(found) = suspected(path) else { return examine(path, connection, "quick_check") };
    if examine_all(path, connection)? {
        clear(path);
        return Ok(());
    }
    let what = format!("found while it was in use, and too big to be read now: {found}");
    Err(OpenError::Broken { path: path.to_owned(), what })
}

/// Somebody beside the server found damage: marks the file, unless all of it is right when it is read once more (the
/// file may have been replaced under whoever read it). Whether it is marked.
pub(crate) fn mark_unless_right(path: &Path, what: &str) -> bool {
    let examined = Identity::of(path);
    let opened = connect_reading(path).map_err(|error| OpenError::of_sqlite(path, &error));
    let is_wrong = match opened.and_then(|mut connection| examine_all(path, &mut connection)) {
        Ok(is_right) => !is_right,
        Err(OpenError::Broken { .. }) => true,
        Err(
            OpenError::Unusable { .. }
            | OpenError::InUse { .. }
            | OpenError::Foreign { .. }
            | OpenError::Newer { .. },
        ) => false,
    };
    is_wrong && mark_examined(path, examined, what)
}

/// Reads all of a file, however big it is; false where [`CHECK_TIME_MAX`] is not enough for that.
fn examine_all(path: &Path, connection: &mut Connection) -> Result<bool, OpenError> {
    let until = std::time::Instant::now() + CHECK_TIME_MAX;
    let is_over = move || std::time::Instant::now() >= until;
    let sqlite = |error| OpenError::of_sqlite(path, &error);
    connection.progress_handler(CHECK_STEPS, Some(is_over)).map_err(sqlite)?;
    let examined = examine(path, connection, "integrity_check");
    connection.progress_handler(0, None::<fn() -> bool>).map_err(sqlite)?;
    match examined {
        Ok(()) => Ok(true),
        Err(_) if is_over() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a file as a whole. The quick check, which leaves out what an index says, only where it is not too big.
pub(crate) fn examine(path: &Path, connection: &Connection, how: &str) -> Result<(), OpenError> {
    let verdict = || -> rusqlite::Result<String> {
        let pages: u64 = connection.pragma_query_value(None, "page_count", positive)?;
        let bytes: u64 = connection.pragma_query_value(None, "page_size", positive)?;
        if how == "quick_check" && pages.saturating_mul(bytes) > CHECK_BYTES_MAX {
            return Ok(String::from("ok"));
        }
        let what: String =
            connection.query_row(&format!("PRAGMA {how}(1)"), [], |row| row.get(0))?;
        // On one line, for the log; there is no other database than this one.
        Ok(what.replace("*** in database main ***", "").trim().replace('\n', "; "))
    };
    // A page that the disk did not give once looks like one that is wrong: it is asked twice.
    let second = |first: String| if first == "ok" { Ok(first) } else { verdict() };
    match verdict().and_then(second) {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(what) if is_unread(&what) => Err(OpenError::Unusable { path: path.to_owned(), what }),
        Ok(what) => Err(OpenError::Broken { path: path.to_owned(), what }),
        Err(error) => Err(OpenError::of_sqlite(path, &error)),
    }
}

/// Whether the check has found pages that the disk does not give, instead of pages that are wrong: it
/// says both in the same way, with the number of the error.
fn is_unread(verdict: &str) -> bool {
    let numbers = verdict.split("error code=").skip(1);
    let code = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<i32>().unwrap_or(0)
    };
    numbers.map(code).any(|code| code & 0xff == ffi::SQLITE_IOERR)
}

fn positive(row: &rusqlite::Row<'_>) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0))
}

/// The table that holds the records of a class.
pub(crate) const fn table_of(class: Class) -> &'static str {
    match class {
        Class::Hot => "hot_record",
        Class::Table => "table_record",
        Class::Log => "log_record",
    }
}

/// Every class, in the order in which a key is looked for.
pub(crate) const CLASSES: [Class; 3] = [Class::Hot, Class::Table, Class::Log];

/// The epoch as the column `reign`; sorts like it.
pub(crate) fn reign_of(epoch: Epoch) -> i64 {
    let seat = match epoch.seat {
        Seat::Master => 0,
        Seat::Standby => 1,
    };
    i64::from(epoch.number) * 2 + seat
}

/// The column `seq`. A journal of 2^63 entries would take 292,000 years at a million a second.
pub(crate) fn seq_of(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// A stamp from its two columns; `None` where they hold what was never written.
pub(crate) fn stamp_of(reign: i64, seq: i64) -> Option<Stamp> {
    let seat = if reign % 2 == 0 { Seat::Master } else { Seat::Standby };
    let number = u32::try_from(u64::try_from(reign).ok()? / 2).ok()?;
    Some(Stamp { epoch: Epoch { number, seat }, seq: Seq(u64::try_from(seq).ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_sorts_like_its_epoch_and_comes_back() {
        let mut before = -1;
        for number in [0, 1, 2, u32::MAX] {
            for seat in Seat::ALL {
                let stamp = Stamp { epoch: Epoch { number, seat }, seq: Seq(7) };
                let reign = reign_of(stamp.epoch);
                assert!(reign > before);
                assert_eq!(stamp_of(reign, 7), Some(stamp));
                before = reign;
            }
        }
        assert_eq!(stamp_of(-1, 0), None);
        assert_eq!(stamp_of(0, -1), None);
    }
}
