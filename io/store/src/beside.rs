//! The connections beside the writer's: one that reads, one that makes checkpoints. Each is used by its
//! own thread, and all of them are closed and opened anew together after an error of the disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ffi};

use crate::file::FILE_NAME;
use crate::reader::Reader;
use crate::store::WallClock;
use crate::suspect::mark;
use crate::tidy::{Tidy, failure, make_durable};

/// The reader comes first: who only reads cannot leave everything in the file when it is the last one.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    folder: PathBuf,
    wall_clock: WallClock,
    reader: Mutex<Option<Reader>>,
    tidy: Tidy,
    /// The file was found damaged.
    suspect: AtomicBool,
}

impl Beside {
    /// Opens both. What the log holds is made durable first, because a process that was killed may have
    /// left it without a sync. Where that fails everything is in doubt from the beginning.
    pub(crate) fn open(
        folder: &Path,
        wall_clock: WallClock,
        reader: Reader,
        writer: &Connection,
    ) -> rusqlite::Result<Self> {
        let path = folder.join(FILE_NAME);
        let doubt = make_durable(writer).is_err();
        Ok(Self {
            tidy: Tidy::open(&path, doubt)?,
            path,
            folder: folder.to_owned(),
            wall_clock,
            reader: Mutex::new(Some(reader)),
            suspect: AtomicBool::new(false),
        })
    }

    /// The connection that reads; `None` while the file cannot be opened.
    pub(crate) fn reader(&self) -> MutexGuard<'_, Option<Reader>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is believed until the file is opened anew.
    pub(crate) fn doubt(&self) {
        self.tidy.doubt();
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.tidy.is_in_doubt()
    }

    /// The file is damaged: marks it, and says whether that is news.
    pub(crate) fn suspect(&self, what: &str) -> bool {
        let is_new = !self.suspect.swap(true, Ordering::SeqCst);
        if is_new {
            mark(&self.path, what);
        }
        is_new
    }

    /// Brings pages from the write-ahead log into the file, where there are enough of them.
    pub(crate) fn checkpoint(&self) {
        self.tidy.checkpoint();
    }

    /// A checkpoint, however short the log is.
    #[cfg(feature = "sabotage")]
    pub(crate) fn checkpoint_now(&self, mode: &str) {
        self.tidy.checkpoint_now(mode);
    }

    /// Closes all connections and opens them anew ([`Tidy::open_anew`]).
    pub(crate) fn open_anew(&self, writer: &mut Connection) -> rusqlite::Result<()> {
        let mut reader = self.reader();
        *reader = None;
        self.tidy.open_anew(writer, |_| {
            let anew = Reader::open(&self.folder, self.wall_clock.clone());
            *reader = Some(anew.map_err(|error| failure(ffi::SQLITE_IOERR, Some(error.what)))?);
            Ok(())
        })
    }
}
