//! Checkpoints of the tables' file: made as those of the journal are, by a connection of their own, but by the thread
//! that commits, after the commit that makes them due.
//!
//! A thread of its own was tried. Then a commit nearly always comes in between, the log is begun anew only when it
//! is sixteen times as long, and as each commit makes its file longer no commit got faster.

use std::path::Path;
use std::sync::Arc;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ffi};

use super::Tables;
use super::file::{dress, heads};
use crate::file::OpenError;
use crate::tidy::{Tidy, WAL_FRAMES, failure};

impl Tables {
    /// From here on a checkpoint of this file, which is that of these tables, whose sync fails is noticed: before the
    /// next write everything is read again and written once more.
    ///
    /// # Errors
    ///
    /// The file cannot be opened once more.
    pub fn tidy(&mut self, path: &Path) -> Result<(), OpenError> {
        let begun = Tidy::open(path, false).and_then(|tidy| {
            let tidy = Arc::new(tidy);
            watch(&mut self.connection, &tidy)?;
            Ok(tidy)
        });
        self.tidy = Some(begun.map_err(|error| OpenError::of_sqlite(path, &error))?);
        Ok(())
    }

    /// One checkpoint, however short the log is: PASSIVE or RESTART.
    #[cfg(feature = "sabotage")]
    pub fn checkpoint(&self, mode: &str) {
        if let Some(tidy) = &self.tidy {
            tidy.checkpoint_now(mode);
        }
    }

    /// After a checkpoint whose sync failed nothing is written before everything was read again.
    pub(super) fn reread(&mut self) -> rusqlite::Result<()> {
        let Some(tidy) = self.tidy.as_ref().filter(|tidy| tidy.is_in_doubt()) else {
            return Ok(());
        };
        let (capture, believed) = (&self.capture, &self.heads);
        tidy.open_anew(&mut self.connection, |opened| {
            opened.pragma_update(None, "synchronous", "FULL")?;
            dress(opened, capture)?;
            let found =
                heads(opened, 0)?.map_err(|what| failure(ffi::SQLITE_CORRUPT, Some(what)))?;
            if found.seen != believed.seen || found.chains != believed.chains {
                // Their numbers must not be given again: the next start finds out with the twin's help.
                let what = "changes that were on the disk are there no more: restart the server";
                return Err(failure(ffi::SQLITE_IOERR, Some(what.to_owned())));
            }
            watch(opened, tidy)
        })
    }
}

/// In the place of SQLite's own checkpoints, of which nobody hears how they end. It is called when the commit is done and
/// has let go of its locks.
fn watch(writer: &mut Connection, tidy: &Arc<Tidy>) -> rusqlite::Result<()> {
    let tidy = Arc::clone(tidy);
    writer.wal_hook(Some(move |_: &'_ mut Wal, frames| {
        if frames > WAL_FRAMES {
            tidy.checkpoint();
        }
        Ok(())
    }))
}
