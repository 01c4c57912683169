//! Tables that both servers may write, in one SQLite file: what a transaction changes is captured,
//! logged as an op in the same transaction, and taken by the other server in the same way.
//!
//! ```text
//!   change(sql) ──> the tables ──preupdate hook──> Capture ──> Op ──> op_log ──> log() ──> the link
//!                        ^                                      │
//!                        └── columns whose value is another ── Row (row_version) <── take(op) <── the link
//! ```
//!
//! One value, used by one thread; it neither waits nor decides when to write. All that a batch did is
//! on disk when [`Batch::commit`] returns, and nothing of it where that fails.
//!
//! Invariants: an op's number is never given twice, because it is on disk before anybody else sees it.
//! The tables are a function of `row_version`, and that of the set of ops in `op_log`.

mod batch;
#[cfg(feature = "sabotage")]
mod broken;
mod capture;
mod check;
mod coming;
mod conflict;
mod copy;
mod digest;
mod exchange;
mod file;
mod join;
mod log;
mod mend;
mod remake;
mod rename;
mod shorten;
mod sql;
mod taking;
mod tidying;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tandem_oplog::{Chain, Clock, Hlc, OpId, Origin, Schema, Seen};
use tandem_types::Epoch;

use crate::tidy::Tidy;
use capture::Capture;

pub use batch::{Batch, ChangeError, TakeError, Taken, Touched};
#[cfg(feature = "sabotage")]
pub use broken::Broken;
pub use conflict::{Conflict, Undecided};
pub use copy::Copy;
pub use digest::Digest;
pub use exchange::{Deed, Exchange};
pub use file::Setup;
pub(crate) use file::is_older;
pub use join::JoinError;
pub use log::{Logged, Page};
pub use mend::RowPlace;
pub use rename::RenameError;
pub use shorten::{KEEP, Keep, PASSED_MAX, SHORTEN_OPS};
pub use sql::set;
pub use verify::NameRow;

/// Who changes something, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct By {
    /// An administrator's name, or the part of the system.
    pub author: String,
    /// Wall time, milliseconds since 1970.
    pub wall_millis: u64,
    /// The reign in force, or the last one seen.
    pub epoch: Epoch,
}

/// What is known of the log, as it is on disk and, within a batch, as it will be.
#[derive(Clone, Debug)]
struct Heads {
    clock: Clock,
    seen: Seen,
    chains: BTreeMap<Origin, Chain>,
    /// Of the last op that came into the log. It rises for as long as this process lives, also where all
    /// ops were deleted meanwhile: who reads on after a position misses nothing.
    position: i64,
}

/// The tables, open for writing.
pub struct Tables {
    connection: Connection,
    schema: &'static Schema,
    me: Origin,
    heads: Heads,
    capture: Arc<Mutex<Capture>>,
    /// A change was made or taken of a row of which what is kept cannot be read.
    met_unreadable: bool,
    /// Closed after the connection above.
    tidy: Option<Arc<Tidy>>,
    #[cfg(feature = "sabotage")]
    broken: Option<Broken>,
    /// The latest that any op was written in.
    #[cfg(feature = "sabotage")]
    reign: Epoch,
}

impl Tables {
    /// Who we are in the log.
    pub const fn me(&self) -> Origin {
        self.me
    }

    /// The ops that are here.
    pub const fn seen(&self) -> &Seen {
        &self.heads.seen
    }

    /// The last op of each origin, and what stands for all up to it.
    pub fn heads(&self) -> impl Iterator<Item = (OpId, Chain)> {
        self.heads.seen.iter().map(|id| {
            let chain = self.heads.chains.get(&id.origin).copied();
            (id, chain.unwrap_or(Chain::START))
        })
    }

    /// The latest stamp made or taken here.
    pub const fn latest(&self) -> Hlc {
        self.heads.clock.last()
    }

    /// The connection, to read what is committed.
    pub const fn reader(&self) -> &Connection {
        &self.connection
    }

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// SQLite refuses: the file is locked by somebody else, or cannot be read.
    pub fn begin(&mut self) -> rusqlite::Result<Batch<'_>> {
        self.reread()?;
        Batch::begin(self)
    }

    /// One change in a transaction of its own; see [`Batch::change`].
    ///
    /// # Errors
    ///
    /// As there; nothing has changed then.
    pub fn change<T, E: From<rusqlite::Error>>(
        &mut self,
        by: &By,
        body: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<(T, Option<OpId>), ChangeError<E>> {
        let mut batch = self.begin().map_err(ChangeError::Disk)?;
        let done = batch.change(by, body)?;
        batch.commit().map_err(ChangeError::Disk)?;
        Ok(done)
    }

    /// Takes ops of the other server in one transaction; see [`Batch::take_all`].
    ///
    /// # Errors
    ///
    /// As there; nothing has changed then.
    pub fn take<'a>(
        &mut self,
        ops: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<usize, TakeError> {
        let mut batch = self.begin().map_err(TakeError::Disk)?;
        let new = batch.take_all(ops)?;
        batch.commit().map_err(TakeError::Disk)?;
        Ok(new)
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("me", &self.me)
            .field("heads", &self.heads)
            .finish_non_exhaustive()
    }
}
