//! Ops of the other server, many at a time: each goes into the log as it came, and a row that many of them
//! wrote is read and written once.

use rusqlite::{OptionalExtension as _, params};
use tandem_oplog::{Op, OpId};

use super::Batch;
use super::batch::{TakeError, Taken, number_of, origin_of};
use super::coming::Rows;

/// Rows that wait to be written have so many bytes at most, and what one op wrote.
const COMING_BYTES: usize = 4 * 1024 * 1024;

impl Batch<'_> {
    /// Takes an op of the other server, as it came; see [`Batch::take_all`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn take(&mut self, op: &[u8]) -> Result<Taken, TakeError> {
        let new = self.take_all([op])?;
        Ok(if new > 0 { Taken::New } else { Taken::Known })
    }

    /// Takes ops of the other server, as they came: how many of them are new. Those of one origin come in their
    /// order, and each after those that its writer had seen.
    ///
    /// # Errors
    ///
    /// One is none, it comes too early, or the disk fails. The batch must be dropped then.
    pub fn take_all<'a>(
        &mut self,
        ops: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<usize, TakeError> {
        self.alive()?;
        self.uncaptured(|batch| {
            let (mut rows, mut new) = (Rows::default(), 0);
            for op in ops {
                new += usize::from(batch.take_one(op, &mut rows)? == Taken::New);
                if rows.bytes >= COMING_BYTES {
                    batch.write_rows(core::mem::take(&mut rows))?;
                }
            }
            batch.write_rows(rows)?;
            Ok(new)
        })
    }

    fn take_one(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<Taken, TakeError> {
        let op = Op::decode(bytes).map_err(TakeError::Unreadable)?;
        let seen = &self.tables.heads.seen;
        if seen.has(op.id) {
            #[cfg(feature = "sabotage")]
            if self.tables.broken == Some(super::Broken::TakeTwice) {
                self.take_changes(&op, rows)?;
            }
            return self.is_same(op.id, bytes);
        }
        let gap = if seen.is_next(op.id) {
            op.seen.iter().find(|id| !seen.has(*id))
        } else {
            Some(OpId { number: op.id.number - 1, ..op.id })
        };
        #[cfg(feature = "sabotage")]
        let gap = gap.filter(|_| self.tables.broken != Some(super::Broken::SkipGapCheck));
        if let Some(missing) = gap {
            return Err(TakeError::Gap(missing));
        }
        self.take_changes(&op, rows)?;
        rows.bytes += bytes.len();
        self.tables.heads.clock.saw(op.hlc);
        self.log(&op, bytes, op.hlc.millis())?;
        Ok(Taken::New)
    }

    fn is_same(&self, id: OpId, bytes: &[u8]) -> Result<Taken, TakeError> {
        let mut find = self
            .tables
            .connection
            .prepare_cached("SELECT body = ? FROM op_log WHERE origin = ? AND number = ?")?;
        let values = params![bytes, origin_of(id.origin), number_of(id)];
        let same: Option<bool> = find.query_row(values, |row| row.get(0)).optional()?;
        // One that is not kept any more cannot be compared.
        if same.unwrap_or(true) { Ok(Taken::Known) } else { Err(TakeError::TwoPasts(id)) }
    }
}
