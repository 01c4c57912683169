//! How long log records are kept, and deleting those that are older: in small bites, between two batches of
//! writes, without a sync. Nobody waits for it, and a deletion that a power cut undoes is done again.
//!
//! **The rule.** A record is *shown* for as long as it is not older than the rule by its own end. It is *deleted* when it
//! is older by [`GRACE`] more, both by its own end and by when this machine wrote it; and where such a one
//! comes from the twin it is not taken. So both machines decide alike without asking each other, nothing that was
//! deleted comes back (not from a twin that was away, not from a backup), and a clock that is wrong on one
//! machine while a record is written, or was until then, deletes nothing.
//!
//! Where *everything* is older than the rule nothing is deleted: that is what a clock looks like that has jumped.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use tandem_journal::{Class, Known};
use tandem_types::{Duration, Stamp};

use crate::file::stamp_of;
use crate::seal::{Damaged, columns, take};

/// Records deleted in one transaction at most.
pub const BITE: usize = 250;

/// So much longer than they are shown records are kept: clocks differ.
pub const GRACE: Duration = Duration::from_secs(86_400);

/// What is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retention(pub Option<Duration>);

impl Retention {
    /// What ended before this is not shown any more; microseconds since 1970. `None`: everything is.
    pub fn shown_from(self, now_micros: u64) -> Option<i64> {
        let keep = self.0?.as_micros();
        Some(i64::try_from(u128::from(now_micros).saturating_sub(keep)).unwrap_or(i64::MAX))
    }

    /// What ended, and was written, before this is deleted.
    pub(crate) fn deleted_before(self, now_micros: u64) -> Option<i64> {
        let grace = i64::try_from(GRACE.as_micros()).unwrap_or(i64::MAX);
        self.shown_from(now_micros).map(|from| from.saturating_sub(grace))
    }
}

/// What is somewhere else as well: no record is deleted that it does not cover. At first it covers nothing.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere(Arc<Mutex<Known>>);

impl Elsewhere {
    /// Everything that `known` covers is there from now on.
    pub fn learn(&self, known: &Known) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).merge(known);
    }

    fn has(&self, stamp: Stamp) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).covers(stamp)
    }
}

/// As the file has it.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Retention> {
    let micros: Option<Option<i64>> =
        connection.query_row("SELECT micros FROM retention", [], |row| row.get(0)).optional()?;
    let micros = micros.flatten().and_then(|micros| u64::try_from(micros).ok());
    Ok(Retention(micros.map(Duration::from_micros)))
}

/// Writes it to the file, where it is another.
pub(crate) fn write(connection: &Connection, retention: Retention) -> rusqlite::Result<()> {
    let micros = retention.0.map(|keep| i64::try_from(keep.as_micros()).unwrap_or(i64::MAX));
    let sql = "INSERT INTO retention (one, micros) VALUES (1, ?1)
        ON CONFLICT (one) DO UPDATE SET micros = excluded.micros WHERE micros IS NOT excluded.micros";
    connection.prepare_cached(sql)?.execute([micros]).map(|_| ())
}

/// What a bite came to.
#[derive(Debug, Default)]
pub(crate) struct Bitten {
    pub(crate) deleted: usize,
    pub(crate) damaged: Vec<Damaged>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

/// Deletes some of what ended and was written before `before`, and is `elsewhere` too where there is such a
/// place. In a transaction of the caller's.
pub(crate) fn bite(
    connection: &Connection,
    before: i64,
    elsewhere: Option<&Elsewhere>,
) -> rusqlite::Result<Bitten> {
    let newest: Option<i64> =
        connection.prepare_cached(NEWEST)?.query_row([], |row| row.get(0)).optional()?.flatten();
    if newest.is_none_or(|newest| newest < before) {
        return Ok(Bitten::default());
    }
    let sql = format!(
        "SELECT {} FROM log_record INDEXED BY log_by_end WHERE ends < ?1 AND written < ?1 LIMIT ?2",
        columns(Class::Log)
    );
    let mut select = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(BITE).unwrap_or(i64::MAX);
    let rows = select.query_map(params![before, limit], |row| take(Class::Log, row))?;
    let found: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let is_full = found.len() == BITE;
    let mut bitten = Bitten::default();
    let mut delete = connection.prepare_cached("DELETE FROM log_record WHERE rowid = ?")?;
    for taken in found {
        match taken.damaged {
            // What says that it is old is perhaps not true.
            Some(damaged) => bitten.damaged.push(damaged),
            None => {
                let stamp = stamp_of(taken.reign, taken.seq);
                if elsewhere.is_none_or(|there| stamp.is_some_and(|stamp| there.has(stamp))) {
                    bitten.deleted += delete.execute([taken.row])?;
                }
            }
        }
    }
    // Where all of them have to wait the next bite would be the same.
    bitten.more = is_full && (bitten.deleted > 0 || !bitten.damaged.is_empty());
    Ok(bitten)
}

const NEWEST: &str = "SELECT max(ends) FROM log_record INDEXED BY log_by_end";
