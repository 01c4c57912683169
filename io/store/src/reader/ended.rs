//! Log records in the order in which what they tell ended.
//!
//! The index has that order, but for what ended in the same microsecond: that goes by key, so that two servers
//! with the same records give the same order. Memory holds one lot, however many records there are.

use rusqlite::{OptionalExtension as _, params};
use tandem_journal::{Class, Record};

use super::{ReadError, Reader};
use crate::file::stamp_of;
use crate::seal::{columns, take};

/// Rows that are read in one go.
const LOT: usize = 1_000;

/// See [`Reader::ended`].
#[derive(Debug)]
pub struct Ended<'a> {
    reader: &'a Reader,
    prefix: Vec<u8>,
    /// End and row of the last one that was read; what has no end comes first.
    at: Option<(i64, i64)>,
    /// What ended after this came after the beginning.
    until: i64,
    /// Read, with their ends; there may be more of the last end.
    held: Vec<(i64, Record)>,
    done: bool,
}

impl Reader {
    /// Begins to read the log records whose key begins with `prefix`, the first ended first. What ends meanwhile is
    /// left out, so that no record comes twice because its end moved.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn ended(&self, prefix: &[u8]) -> Result<Ended<'_>, ReadError> {
        let sql = "SELECT ends FROM log_record INDEXED BY log_by_end WHERE ends IS NOT NULL
            ORDER BY ends DESC LIMIT 1";
        let last = self.connection.query_row(sql, [], |row| row.get(0)).optional();
        let until = last.map_err(|error| self.error(&error))?.unwrap_or(i64::MIN);
        let (prefix, held) = (prefix.to_vec(), Vec::new());
        Ok(Ended { reader: self, prefix, at: None, until, held, done: false })
    }
}

impl Ended<'_> {
    /// The next records; `None` when there are no more. Damaged ones are left out: see [`Reader::take_damaged`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn next_lot(&mut self) -> Result<Option<Vec<Record>>, ReadError> {
        while !self.done {
            let is_full = self.page().map_err(|error| self.reader.error(&error))?;
            self.done = !is_full && self.at.is_some();
            let last = self.at.filter(|_| !self.done).map_or(i64::MAX, |(end, _)| end);
            let whole = match self.done {
                true => self.held.len(),
                false => self.held.partition_point(|(end, _)| *end < last),
            };
            // What has no end is damaged, and read alone at first.
            self.at = self.at.or(Some((i64::MIN, i64::MIN)));
            let mut lot: Vec<_> = self.held.drain(..whole).collect();
            if !lot.is_empty() {
                lot.sort_by(|one, two| (one.0, &one.1.key).cmp(&(two.0, &two.1.key)));
                return Ok(Some(lot.into_iter().map(|(_, record)| record).collect()));
            }
        }
        Ok(None)
    }

    /// Reads on; whether there may be more.
    fn page(&mut self) -> rusqlite::Result<bool> {
        let place = match self.at {
            Some(_) => "(ends, rowid) > (?3, ?4) AND ends <= ?5",
            None => "ends IS NULL",
        };
        let sql = format!(
            "SELECT {} FROM log_record INDEXED BY log_by_end
             WHERE {place} AND substr(key, 1, ?1) = ?2 AND body IS NOT NULL
             ORDER BY ends, rowid LIMIT ?6",
            columns(Class::Log)
        );
        let length = i64::try_from(self.prefix.len()).unwrap_or(i64::MAX);
        let (end, row) = self.at.unwrap_or_default();
        let limit = if self.at.is_some() { i64::try_from(LOT).unwrap_or(i64::MAX) } else { -1 };
        let mut statement = self.reader.connection.prepare_cached(&sql)?;
        let mut rows =
            statement.query(params![length, self.prefix, end, row, self.until, limit])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            let taken = take(Class::Log, row)?;
            let end: Option<i64> = row.get(7)?;
            self.at = end.map(|end| (end, taken.row)).or(self.at);
            match (taken.damaged, stamp_of(taken.reign, taken.seq), end) {
                (None, Some(stamp), Some(end)) => {
                    let (age, class) = (self.reader.age(taken.written), Class::Log);
                    let (key, body) = (taken.key, taken.body);
                    self.held.push((end, Record { class, key, stamp, age, body }));
                }
                (damaged, _, _) => self.reader.damaged.borrow_mut().extend(damaged),
            }
        }
        Ok(count == LOT)
    }
}
