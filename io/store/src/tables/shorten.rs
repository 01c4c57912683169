//! The log is shortened: what is old, and on both disks, is deleted. What the ops made stays.
//!
//! ```text
//!   1 ........ floor | floor + 1 .......................... head        of each origin
//!   chains (passed)  |  ops with their chains (op_log)
//! ```
//!
//! The log is what lets the other server catch up, and the history that administrators read. So it is kept
//! for more than a year, and shortened by the oldest op of all first, whoever wrote it. Of the ops that
//! are gone the chains stay, so that a backup that is older than the log is still known as one.

use rusqlite::{OptionalExtension as _, params};
use tandem_oplog::{Chain, OpId, Origin, Seen};

use super::Tables;
use super::batch::origin_of;
use super::file::{last_position, note_gone, set_state};

/// Ops that are deleted in one transaction, at most.
pub const SHORTEN_OPS: usize = 500;

/// So many chains of ops that are gone are kept for each origin.
pub const PASSED_MAX: u64 = 1_000_000;

/// What is kept of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keep {
    /// Older ops are deleted ...
    pub millis: u64,
    /// ... and those that are not among the newest so many,
    pub ops: u64,
    /// but none that is younger than this,
    pub both_millis: u64,
    /// or younger than this while the other server is not known to have it.
    pub alone_millis: u64,
}

const DAY_MILLIS: u64 = 86_400_000;

/// What is kept: 400 days, at most a million ops. In any case 7 days, and what the other server lacks 90 days.
pub const KEEP: Keep = Keep {
    millis: 400 * DAY_MILLIS,
    ops: 1_000_000,
    both_millis: 7 * DAY_MILLIS,
    alone_millis: 90 * DAY_MILLIS,
};

/// Position, origin, number, chain and stamp of an op.
type Due = (i64, i64, i64, [u8; 16], i64);

impl Tables {
    /// Deletes the oldest ops that need not be kept, [`SHORTEN_OPS`] at most: how many that were. `there` is
    /// what the other server has on its disk, if it is there.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written. Nothing has changed then.
    pub fn shorten(
        &mut self,
        wall_millis: u64,
        there: Option<&Seen>,
        keep: &Keep,
    ) -> rusqlite::Result<usize> {
        self.reread()?;
        let due = self.due(wall_millis, there, keep)?;
        let Some((position, ..)) = due.last() else { return Ok(0) };
        let transaction = self.connection.unchecked_transaction()?;
        {
            let mut pass = transaction.prepare_cached(
                "INSERT OR IGNORE INTO passed (origin, number, chain) VALUES (?, ?, ?)",
            )?;
            let mut forget = transaction
                .prepare_cached("DELETE FROM passed WHERE origin = ? AND number <= ?")?;
            let max = i64::try_from(PASSED_MAX).unwrap_or(i64::MAX);
            for (_, origin, number, chain, _) in &due {
                pass.execute(params![origin, number, chain])?;
                forget.execute([*origin, number - max])?;
            }
            transaction
                .prepare_cached("DELETE FROM op_log WHERE position <= ?")?
                .execute([position])?;
        }
        // The stamps that are gone with them must not be given again.
        set_state(&transaction, "hlc", self.heads.clock.last().to_bits())?;
        if let Some(newest) = due.iter().map(|(.., hlc)| *hlc).max() {
            note_gone(&transaction, newest)?;
        }
        transaction.commit()?;
        Ok(due.len())
    }

    /// What may go.
    fn due(
        &self,
        wall_millis: u64,
        there: Option<&Seen>,
        keep: &Keep,
    ) -> rusqlite::Result<Vec<Due>> {
        let end = last_position(&self.connection)?;
        let mut oldest = self.connection.prepare_cached(
            "SELECT position, origin, number, came, chain, hlc FROM op_log ORDER BY position LIMIT ?",
        )?;
        let mut rows = oldest.query([i64::try_from(SHORTEN_OPS).unwrap_or(i64::MAX)])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let (position, origin, number): (i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let came = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
            let age = wall_millis.saturating_sub(came);
            // Positions have gaps at most where the log was shortened: before the first one.
            let newer = u64::try_from(end - position).unwrap_or(0);
            let number_of = u64::try_from(number).unwrap_or(0);
            let id = OpId { origin: Origin(origin.cast_unsigned()), number: number_of };
            let both = there.is_some_and(|there| there.has(id));
            #[cfg(feature = "sabotage")]
            let both = both || self.broken == Some(super::Broken::ShortenTooFar);
            let least = if both { keep.both_millis } else { keep.alone_millis };
            if age <= least || (age <= keep.millis && newer < keep.ops) {
                break;
            }
            due.push((position, origin, number, row.get(4)?, row.get(5)?));
        }
        Ok(due)
    }

    /// Ops in the log.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn logged(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT count(*) FROM op_log INDEXED BY sqlite_autoindex_op_log_1";
        let count: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The last op of an origin that is not kept any more; 0 where all are.
    pub(super) fn floor(&self, origin: Origin) -> rusqlite::Result<u64> {
        let mut find =
            self.connection.prepare_cached("SELECT max(number) FROM passed WHERE origin = ?")?;
        let floor: Option<Option<i64>> =
            find.query_row([origin_of(origin)], |row| row.get(0)).optional()?;
        Ok(floor.flatten().and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    /// The last op of each origin that is not kept any more, and what stands for all up to it.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn floors(&self) -> rusqlite::Result<Vec<(OpId, Chain)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT origin, max(number), chain FROM passed GROUP BY origin ORDER BY origin",
        )?;
        let rows = statement.query_map([], |row| {
            let (origin, number): (i64, i64) = (row.get(0)?, row.get(1)?);
            let number = u64::try_from(number).unwrap_or(0);
            Ok((OpId { origin: Origin(origin.cast_unsigned()), number }, Chain(row.get(2)?)))
        })?;
        rows.collect()
    }
}
