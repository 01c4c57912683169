//! Reading the log: for the other server, and for whoever asks what was changed.

use rusqlite::{OptionalExtension as _, params};
use tandem_oplog::{Chain, Compared, OpId, Origin, Seen, Start};

use super::Tables;
use super::batch::{number_of, origin_of};
use super::file::last_position;

/// An op as it is logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Logged {
    /// Where it is in this log; rises, and differs between servers.
    pub position: i64,
    /// Its name.
    pub id: OpId,
    /// Wall time of its coming here, milliseconds since 1970.
    pub came_millis: i64,
    /// The op, as it is encoded.
    pub bytes: Vec<u8>,
}

/// A part of the log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// In the order in which they came here: causes before effects.
    pub ops: Vec<Logged>,
    /// Where to go on.
    pub next: i64,
    /// Whether there may be more.
    pub more: bool,
}

impl Tables {
    /// The ops after `position` that `lacking` does not have, until they are `bytes` or more.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self, position: i64, lacking: &Seen, bytes: usize) -> rusqlite::Result<Page> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position, origin, number, came, body FROM op_log WHERE position > ? ORDER BY position",
        )?;
        let mut rows = statement.query([position])?;
        let mut page = Page { next: position, ..Page::default() };
        let mut length = 0;
        while let Some(row) = rows.next()? {
            let (position, origin, number): (i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            page.next = position;
            let number = u64::try_from(number).unwrap_or(0);
            let id = OpId { origin: Origin(origin.cast_unsigned()), number };
            if lacking.has(id) {
                continue;
            }
            let bytes_of_op: Vec<u8> = row.get(4)?;
            length += bytes_of_op.len();
            page.ops.push(Logged { position, id, came_millis: row.get(3)?, bytes: bytes_of_op });
            if length >= bytes {
                page.more = true;
                break;
            }
        }
        Ok(page)
    }

    /// The newest ops, newest first.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn newest(&self, limit: usize) -> rusqlite::Result<Vec<Logged>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position, origin, number, came, body FROM op_log ORDER BY position DESC LIMIT ?",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], logged)?;
        rows.collect()
    }

    /// An op; `None` where it is not here, or not kept any more.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn op(&self, id: OpId) -> rusqlite::Result<Option<Logged>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position, origin, number, came, body FROM op_log WHERE origin = ? AND number = ?",
        )?;
        statement.query_row(params![origin_of(id.origin), number_of(id)], logged).optional()
    }

    /// What stands for all ops of an origin up to this one; `None` where even that is not kept any more.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn chain_at(&self, id: OpId) -> rusqlite::Result<Option<Chain>> {
        if id.number == 0 {
            return Ok(Some(Chain::START));
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT chain FROM op_log WHERE origin = ?1 AND number = ?2
             UNION ALL SELECT chain FROM passed WHERE origin = ?1 AND number = ?2",
        )?;
        let chain: Option<[u8; 16]> = statement
            .query_row(params![origin_of(id.origin), number_of(id)], |row| row.get(0))
            .optional()?;
        Ok(chain.map(Chain))
    }

    /// Compares what another server says with the log here.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn compare(&self, heads: &[(OpId, Chain)]) -> rusqlite::Result<Vec<Compared>> {
        let compare = |(id, theirs): &(OpId, Chain)| {
            // What is not here cannot be another.
            if !self.seen().has(*id) {
                return Ok(Compared::Same);
            }
            Ok(match self.chain_at(*id)? {
                Some(ours) if ours == *theirs => Compared::Same,
                Some(_) => Compared::Differs,
                None => Compared::Unknown,
            })
        };
        heads.iter().map(compare).collect()
    }

    /// Where in the log begins what `lacking` does not have, and the position of its last op.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn start(&self, lacking: &Seen) -> rusqlite::Result<(Start, i64)> {
        let end = last_position(&self.connection)?;
        let mut first: Option<i64> = None;
        let mut find = self
            .connection
            .prepare_cached("SELECT position FROM op_log WHERE origin = ? AND number = ?")?;
        for id in self.seen().iter().filter(|id| !lacking.has(*id)) {
            let next = OpId { number: lacking.up_to(id.origin) + 1, ..id };
            let position: Option<i64> = find
                .query_row(params![origin_of(next.origin), number_of(next)], |row| row.get(0))
                .optional()?;
            match position {
                Some(position) => first = Some(first.map_or(position, |first| first.min(position))),
                None => return Ok((Start::Pruned, end)),
            }
        }
        let start = first.map_or(Start::Nothing, |first| Start::After(first - 1));
        Ok((start, end))
    }

    /// Number and chain of the newest ops of an origin up to this one, newest first, `max` at most; also of
    /// ops that are not kept any more.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn chains(&self, up_to: OpId, max: usize) -> rusqlite::Result<Vec<(u64, Chain)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, chain FROM op_log WHERE origin = ?1 AND number <= ?2
             UNION ALL SELECT number, chain FROM passed WHERE origin = ?1 AND number <= ?2
             ORDER BY number DESC LIMIT ?3",
        )?;
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = statement
            .query_map([origin_of(up_to.origin), number_of(up_to), max], |row| {
                Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), Chain(row.get(1)?)))
            })?;
        rows.collect()
    }
}

fn logged(row: &rusqlite::Row<'_>) -> rusqlite::Result<Logged> {
    let (origin, number): (i64, i64) = (row.get(1)?, row.get(2)?);
    let number = u64::try_from(number).unwrap_or(0);
    let id = OpId { origin: Origin(origin.cast_unsigned()), number };
    Ok(Logged { position: row.get(0)?, id, came_millis: row.get(3)?, bytes: row.get(4)? })
}
