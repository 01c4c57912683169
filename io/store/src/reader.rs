//! Reading beside the writer, from this process or another.

use core::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};
use tandem_journal::{CHUNK_BYTES, CHUNK_RECORDS_MAX, Class, Cursor, Known, Record};
use tandem_types::{Duration, Stamp};

use crate::file::{CLASSES, FILE_NAME, Version, connect_reading, reign_of, seq_of, stamp_of};
use crate::file::{is_damage, table_of, version_of};
use crate::store::WallClock;

/// Why something could not be read. Prints with the file's path.
#[derive(Debug)]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// What SQLite said.
    pub what: String,
    /// Whether the content is wrong; otherwise it is the disk, or there is no file.
    pub is_damage: bool,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for ReadError {}

/// A connection that only reads and never holds up the writer.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
    wall_clock: WallClock,
}

impl Reader {
    /// Opens the file in `folder`, whether or not a server has it open.
    ///
    /// # Errors
    ///
    /// When there is none, or not one that this version can read.
    pub fn open(folder: &Path, wall_clock: WallClock) -> Result<Self, ReadError> {
        let path = folder.join(FILE_NAME);
        let (what, is_damage) = match connect_reading(&path).and_then(|connection| {
            let version = version_of(&connection)?;
            Ok((connection, version))
        }) {
            Ok((connection, Version::Current)) => return Ok(Self { path, connection, wall_clock }),
            Ok((_, Version::Foreign)) => {
                (String::from("this is a database of another program"), false)
            }
            Ok((_, Version::Newer(version))) => {
                (format!("the file has version {version}, newer than this program"), false)
            }
            Err(error) => (error.to_string(), is_damage(&error)),
        };
        Err(ReadError { path, what, is_damage })
    }

    /// The record of this key, of whatever class; also a tombstone.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record>, ReadError> {
        for class in CLASSES {
            let sql = format!("SELECT {COLUMNS} FROM {} WHERE key = ?", table_of(class));
            let found = self.connection.prepare_cached(&sql).and_then(|mut statement| {
                statement.query_row([key], |row| self.record(class, row)).optional()
            });
            if let Some(record) = found.map_err(|error| self.error(&error))? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Every record of a class in the order of keys, tombstones too. Not for logs: use
    /// [`Reader::log`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn all(&self, class: Class) -> Result<Vec<Record>, ReadError> {
        let sql = format!("SELECT {COLUMNS} FROM {} ORDER BY key", table_of(class));
        self.query(class, &sql, params![])
    }

    /// What the file holds of each reign.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn known(&self) -> Result<Known, ReadError> {
        let read = || {
            let mut known = Known::new();
            let mut statement = self.connection.prepare_cached("SELECT reign, seq FROM known")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                known.learn(stamp(row, 0)?);
            }
            Ok(known)
        };
        read().map_err(|error| self.error(&error))
    }

    /// Log records whose key begins with `prefix`, the last written first, at most `limit`, from
    /// the one written before `before` on (the last of the page before).
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn log(
        &self,
        prefix: &[u8],
        limit: usize,
        before: Option<&Record>,
    ) -> Result<Vec<Record>, ReadError> {
        let (reign, seq, key) = match before {
            Some(record) => {
                (reign_of(record.stamp.epoch), seq_of(record.stamp.seq), record.key.as_slice())
            }
            None => (i64::MAX, i64::MAX, [].as_slice()),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM log_record INDEXED BY log_by_stamp
             WHERE (reign, seq, key) < (?1, ?2, ?3) AND substr(key, 1, ?4) = ?5
             AND body IS NOT NULL ORDER BY reign DESC, seq DESC, key DESC LIMIT ?6"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let length = i64::try_from(prefix.len()).unwrap_or(i64::MAX);
        self.query(Class::Log, &sql, params![reign, seq, key, length, prefix, limit])
    }

    /// The next log records that `known` does not cover, in the order of stamp and key, as many as
    /// fit into one frame; with where to go on, or `None` when there are no more.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn lacking(
        &self,
        known: &Known,
        after: &Cursor,
    ) -> Result<(Vec<Record>, Option<Cursor>), ReadError> {
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        let mut at = after.0.as_ref().map_or((i64::MIN, None), |(stamp, key)| {
            (reign_of(stamp.epoch), Some((seq_of(stamp.seq), key.as_slice())))
        });
        while let Some(reign) = self.reign_from(at.0)? {
            let covered = known_in(known, reign);
            let within = at.1.filter(|(seq, _)| reign == at.0 && *seq > covered);
            let page = self.page(reign, covered, within)?;
            let is_last_of_reign = page.len() < CHUNK_RECORDS_MAX;
            for record in page {
                bytes += record.key.len() + record.body.as_ref().map_or(0, Vec::len);
                records.push(record);
                if records.len() == CHUNK_RECORDS_MAX || bytes >= CHUNK_BYTES {
                    let last = records.last().map(|record| (record.stamp, record.key.clone()));
                    return Ok((records, Some(Cursor(last))));
                }
            }
            assert!(is_last_of_reign, "a full page fills the frame");
            at = (reign + 1, None);
        }
        Ok((records, None))
    }

    /// The first reign at or after `reign` of which there are log records.
    fn reign_from(&self, reign: i64) -> Result<Option<i64>, ReadError> {
        let sql = "SELECT reign FROM log_record INDEXED BY log_by_stamp WHERE reign >= ?
            ORDER BY reign LIMIT 1";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([reign], |row| row.get(0)).optional())
            .map_err(|error| self.error(&error))
    }

    /// Log records of one reign: after a place within it, or all beyond what is covered.
    fn page(
        &self,
        reign: i64,
        covered: i64,
        within: Option<(i64, &[u8])>,
    ) -> Result<Vec<Record>, ReadError> {
        let limit = i64::try_from(CHUNK_RECORDS_MAX).unwrap_or(i64::MAX);
        let from = format!("SELECT {COLUMNS} FROM log_record INDEXED BY log_by_stamp");
        let order = "ORDER BY seq, key LIMIT";
        match within {
            Some((seq, key)) => self.query(
                Class::Log,
                &format!("{from} WHERE reign = ? AND (seq, key) > (?, ?) {order} ?"),
                params![reign, seq, key, limit],
            ),
            None => self.query(
                Class::Log,
                &format!("{from} WHERE reign = ? AND seq > ? {order} ?"),
                params![reign, covered, limit],
            ),
        }
    }

    fn query(
        &self,
        class: Class,
        sql: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Record>, ReadError> {
        let read = || -> rusqlite::Result<Vec<Record>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, |row| self.record(class, row))?.collect()
        };
        read().map_err(|error| self.error(&error))
    }

    fn record(&self, class: Class, row: &Row<'_>) -> rusqlite::Result<Record> {
        let written: i64 = row.get(3)?;
        // A wall clock that was set back makes nothing older than new.
        let age = self.wall_clock.now_micros().saturating_sub(u64::try_from(written).unwrap_or(0));
        Ok(Record {
            class,
            key: row.get(0)?,
            stamp: stamp(row, 1)?,
            age: Duration::from_micros(age),
            body: row.get(4)?,
        })
    }

    fn error(&self, error: &rusqlite::Error) -> ReadError {
        let (what, is_damage) = (error.to_string(), is_damage(error));
        ReadError { path: self.path.clone(), what, is_damage }
    }
}

/// In the order in which [`Reader::record`] takes them.
const COLUMNS: &str = "key, reign, seq, written, body";

/// The stamp in the columns from `first` on.
fn stamp(row: &Row<'_>, first: usize) -> rusqlite::Result<Stamp> {
    let (reign, seq) = (row.get(first)?, row.get(first + 1)?);
    stamp_of(reign, seq).ok_or(rusqlite::Error::IntegralValueOutOfRange(first, reign))
}

/// How far a reign is known; -1 where it is not.
fn known_in(known: &Known, reign: i64) -> i64 {
    let of_reign = known.iter().find(|stamp| reign_of(stamp.epoch) == reign);
    of_reign.map_or(-1, |stamp| seq_of(stamp.seq))
}
