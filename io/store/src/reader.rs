//! Reading beside the writer, from this process or another.

mod ended;

use core::cell::RefCell;
use core::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};
use tandem_journal::{CHUNK_BYTES, CHUNK_RECORDS_MAX, Class, Cursor, Known, Record};
use tandem_types::{Duration, Stamp};

use crate::file::{CLASSES, FILE_NAME, Version, connect_reading, reign_of, seq_of, stamp_of};
use crate::file::{is_damage, is_older, mark_unless_right, table_of, version_of};
use crate::retention::{self, Retention};
use crate::seal::{Damaged, columns, take};
use crate::store::WallClock;

pub use ended::Ended;

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

impl ReadError {
    /// For who reads beside the server, which may never meet what was met here: marks the file where it is
    /// damaged ([`crate::suspected`]), so that the next start reads all of it. Whether it is.
    pub fn mark(&self) -> bool {
        self.is_damage && mark_unless_right(&self.path, &self.what)
    }
}

/// A connection that only reads and never holds up the writer.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
    wall_clock: WallClock,
    damaged: RefCell<Vec<Damaged>>,
}

/// Of one reign. Nothing but the index is read.
const COUNT_LACKING: &str = "SELECT count(*) FROM (SELECT 1 FROM log_record INDEXED BY log_by_stamp
    WHERE reign = ?1 AND seq > ?2 LIMIT ?3)";

/// Rows of one query.
struct Page {
    records: Vec<Record>,
    /// The place of the last one, where there may be more.
    last: Option<(i64, i64, Vec<u8>)>,
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
            Ok((connection, Version::Current)) if is_older(&connection) => (
                String::from(
                    "the file is of an older version: it is brought up to date when the server starts",
                ),
                false,
            ),
            Ok((connection, Version::Current)) => {
                let damaged = RefCell::default();
                return Ok(Self { path, connection, wall_clock, damaged });
            }
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

    /// The record of this key, of whatever class; also a tombstone. A damaged one is none: see
    /// [`Reader::take_damaged`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record>, ReadError> {
        for class in CLASSES {
            let sql = format!("SELECT {} FROM {} WHERE key = ?", columns(class), table_of(class));
            let page = self.query(class, &sql, params![key], usize::MAX)?;
            if let Some(record) = page.records.into_iter().next() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The damaged records that were met since this was last asked: each is left out of what was read.
    pub fn take_damaged(&self) -> Vec<Damaged> {
        let mut damaged = core::mem::take(&mut *self.damaged.borrow_mut());
        damaged.sort_by_key(|one| (one.class, one.row));
        damaged.dedup_by_key(|one| (one.class, one.row));
        damaged
    }

    /// Reads every record there is and compares it with its checksum. How many there are; those that are
    /// damaged are told by [`Reader::take_damaged`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn check_records(&self) -> Result<u64, ReadError> {
        let mut count = 0;
        for class in CLASSES {
            let sql = format!("SELECT {} FROM {}", columns(class), table_of(class));
            let check = || -> rusqlite::Result<u64> {
                let mut statement = self.connection.prepare_cached(&sql)?;
                let mut rows = statement.query([])?;
                let mut count = 0;
                while let Some(row) = rows.next()? {
                    self.damaged.borrow_mut().extend(take(class, row)?.damaged);
                    count += 1;
                }
                Ok(count)
            };
            count += check().map_err(|error| self.error(&error))?;
        }
        Ok(count)
    }

    /// How long log records are kept.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn retention(&self) -> Result<Retention, ReadError> {
        retention::read(&self.connection).map_err(|error| self.error(&error))
    }

    /// Every record of a class in the order of keys, tombstones too. Not for logs: use
    /// [`Reader::log`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn all(&self, class: Class) -> Result<Vec<Record>, ReadError> {
        // Not by an index: where that is damaged, records would be missing and nobody would know.
        let sql = format!("SELECT {} FROM {} NOT INDEXED", columns(class), table_of(class));
        let mut records = self.query(class, &sql, params![], usize::MAX)?.records;
        records.sort_by(|one, two| one.key.cmp(&two.key));
        Ok(records)
    }

    /// What the file holds of each reign; not beyond what is in doubt since a record was damaged.
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
            let mut statement = self.connection.prepare_cached("SELECT reign, seq FROM doubt")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                known.doubt(stamp(row, 0)?);
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
        let length = i64::try_from(prefix.len()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT {} FROM log_record INDEXED BY log_by_stamp
             WHERE (reign, seq, key) < (?1, ?2, ?3) AND substr(key, 1, ?4) = ?5
             AND body IS NOT NULL ORDER BY reign DESC, seq DESC, key DESC LIMIT ?6",
            columns(Class::Log)
        );
        let place = |record: &Record| {
            (reign_of(record.stamp.epoch), seq_of(record.stamp.seq), record.key.clone())
        };
        let mut from = before.map_or((i64::MAX, i64::MAX, Vec::new()), place);
        let mut records = Vec::new();
        // Again where damaged ones were left out, lest a page without any look like the last one.
        while records.len() < limit {
            let rows = i64::try_from(limit - records.len()).unwrap_or(i64::MAX);
            let (reign, seq, key) = &from;
            let bound = params![reign, seq, key, length, prefix, rows];
            let page = self.query(Class::Log, &sql, bound, limit - records.len())?;
            records.extend(page.records);
            match page.last {
                Some(last) => from = last,
                None => break,
            }
        }
        Ok(records)
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
            (reign_of(stamp.epoch), Some((seq_of(stamp.seq), key.clone())))
        });
        while let Some(reign) = self.reign_from(at.0)? {
            let covered = known_in(known, reign);
            let mut within = at.1.filter(|(seq, _)| reign == at.0 && *seq > covered);
            loop {
                let page = self.page(reign, covered, within.as_ref())?;
                for record in page.records {
                    bytes += record.key.len() + record.body.as_ref().map_or(0, Vec::len);
                    records.push(record);
                    if records.len() == CHUNK_RECORDS_MAX || bytes >= CHUNK_BYTES {
                        let last = records.last().map(|record| (record.stamp, record.key.clone()));
                        return Ok((records, Some(Cursor(last))));
                    }
                }
                match page.last {
                    Some((_, seq, key)) => within = Some((seq, key)),
                    None => break,
                }
            }
            at = (reign + 1, None);
        }
        Ok((records, None))
    }

    /// How many log records `known` does not cover, counted up to `max`. No record is read for it, so damaged
    /// ones count too.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn count_lacking(&self, known: &Known, max: u64) -> Result<u64, ReadError> {
        let (mut count, mut from) = (0, i64::MIN);
        while count < max
            && let Some(reign) = self.reign_from(from)?
        {
            let rest = i64::try_from(max - count).unwrap_or(i64::MAX);
            let bound = params![reign, known_in(known, reign), rest];
            let counted: rusqlite::Result<i64> = self
                .connection
                .prepare_cached(COUNT_LACKING)
                .and_then(|mut statement| statement.query_row(bound, |row| row.get(0)));
            count += counted.map_err(|error| self.error(&error))?.unsigned_abs();
            from = reign + 1;
        }
        Ok(count)
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
        within: Option<&(i64, Vec<u8>)>,
    ) -> Result<Page, ReadError> {
        let limit = i64::try_from(CHUNK_RECORDS_MAX).unwrap_or(i64::MAX);
        let columns = columns(Class::Log);
        let from = format!("SELECT {columns} FROM log_record INDEXED BY log_by_stamp");
        let order = "ORDER BY seq, key LIMIT";
        match within {
            Some((seq, key)) => self.query(
                Class::Log,
                &format!("{from} WHERE reign = ? AND (seq, key) > (?, ?) {order} ?"),
                params![reign, seq, key, limit],
                CHUNK_RECORDS_MAX,
            ),
            None => self.query(
                Class::Log,
                &format!("{from} WHERE reign = ? AND seq > ? {order} ?"),
                params![reign, covered, limit],
                CHUNK_RECORDS_MAX,
            ),
        }
    }

    /// Runs a query of [`columns`]; `full`: where it gives so many rows there may be more.
    fn query(
        &self,
        class: Class,
        sql: &str,
        parameters: &[&dyn rusqlite::ToSql],
        full: usize,
    ) -> Result<Page, ReadError> {
        let read = || -> rusqlite::Result<Page> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(parameters)?;
            let (mut records, mut last, mut count) = (Vec::new(), None, 0);
            while let Some(row) = rows.next()? {
                count += 1;
                let taken = take(class, row)?;
                match (taken.damaged, stamp_of(taken.reign, taken.seq)) {
                    (None, Some(stamp)) => {
                        // Where a damaged one has its place is perhaps not true either.
                        last = Some((taken.reign, taken.seq, taken.key.clone()));
                        let age = self.age(taken.written);
                        let (key, body) = (taken.key, taken.body);
                        records.push(Record { class, key, stamp, age, body });
                    }
                    (damaged, _) => self.damaged.borrow_mut().extend(damaged),
                }
            }
            Ok(Page { records, last: last.filter(|_| count == full) })
        };
        read().map_err(|error| self.error(&error))
    }

    /// A wall clock that was set back makes nothing older than new.
    fn age(&self, written: i64) -> Duration {
        let now = self.wall_clock.now_micros();
        Duration::from_micros(now.saturating_sub(u64::try_from(written).unwrap_or(0)))
    }

    fn error(&self, error: &rusqlite::Error) -> ReadError {
        let (what, is_damage) = (error.to_string(), is_damage(error));
        ReadError { path: self.path.clone(), what, is_damage }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_counted_in_the_index_alone() {
        let folder = std::env::temp_dir().join(format!("tandem-count-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let connection = crate::file::open(&folder, |_, _| None).unwrap();
        let explain = format!("EXPLAIN QUERY PLAN {COUNT_LACKING}");
        let mut statement = connection.prepare(&explain).unwrap();
        let rows = statement.query_map([0, 0, 0], |row| row.get::<_, String>(3)).unwrap();
        let plan: Vec<String> = rows.collect::<Result<_, _>>().unwrap();
        drop(statement);
        drop(connection);
        std::fs::remove_dir_all(&folder).unwrap();
        let wanted = "SEARCH log_record USING COVERING INDEX log_by_stamp (reign=? AND seq>?)";
        assert!(plan.iter().any(|step| step == wanted), "{plan:?}");
    }
}
