//! The connections beside the writer's: one that reads, one that makes checkpoints. Each is used by its
//! own thread, and all of them are closed and opened anew together after an error of the disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};
use tandem_types::Duration;

use crate::file::{FILE_NAME, connect};
use crate::reader::Reader;
use crate::store::WallClock;
use crate::suspect::mark;

/// How long a checkpoint may hold up a commit because somebody still reads from the log.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(20);

/// Frames (of 4,096 bytes) in the write-ahead log from which on they are brought into the file.
const WAL_FRAMES: i64 = 1_000;

/// Frames from which on the log is begun anew, even if a commit has to wait for that.
const WAL_FRAMES_MAX: i64 = 16_000;

/// The reader comes first: who only reads cannot leave everything in the file when it is the last one.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    folder: PathBuf,
    wall_clock: WallClock,
    reader: Mutex<Option<Reader>>,
    checkpointer: Mutex<Option<Connection>>,
    /// The disk has failed, and the file was not read again since.
    doubt: AtomicBool,
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
            checkpointer: Mutex::new(Some(checkpointer(&path)?)),
            path,
            folder: folder.to_owned(),
            wall_clock,
            reader: Mutex::new(Some(reader)),
            doubt: AtomicBool::new(doubt),
            suspect: AtomicBool::new(false),
        })
    }

    /// The connection that reads; `None` while the file cannot be opened.
    pub(crate) fn reader(&self) -> MutexGuard<'_, Option<Reader>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpointer(&self) -> MutexGuard<'_, Option<Connection>> {
        self.checkpointer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is believed until the file is opened anew.
    pub(crate) fn doubt(&self) {
        self.doubt.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.load(Ordering::SeqCst)
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
        let checkpointer = self.checkpointer();
        let Some(connection) = checkpointer.as_ref() else { return };
        let frames: rusqlite::Result<i64> =
            connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1));
        // A failed checkpoint is tried again after the next commit.
        match frames {
            Ok(frames) if frames > WAL_FRAMES_MAX => self.run(connection, "RESTART"),
            Ok(frames) if frames > WAL_FRAMES => self.run(connection, "PASSIVE"),
            Ok(_) | Err(_) => {}
        }
    }

    /// A checkpoint, however short the log is.
    #[cfg(feature = "sabotage")]
    pub(crate) fn checkpoint_now(&self, mode: &str) {
        if let Some(connection) = self.checkpointer().as_ref() {
            self.run(connection, mode);
        }
    }

    fn run(&self, connection: &Connection, mode: &str) {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        // It begins by syncing the log: where that fails, what was in it is not there for sure.
        if let Err(error) = connection.query_row(&sql, [], |_| Ok(()))
            && casts_doubt(&error)
        {
            self.doubt();
        }
    }

    /// Closes all connections and opens them anew; then everything in the file is durable. As long as
    /// somebody else has the file open as well, SQLite goes on with what it knew of the log.
    pub(crate) fn open_anew(&self, writer: &mut Connection) -> rusqlite::Result<()> {
        let (mut reader, mut checkpointer) = (self.reader(), self.checkpointer());
        for connection in [Some(&*writer), checkpointer.as_ref()].into_iter().flatten() {
            // The last one to be closed would copy what nobody has read again.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        *reader = None;
        *checkpointer = None;
        // In its place until the next try; nothing is written while there is doubt.
        *writer = Connection::open_in_memory()?;
        let opened = connect(&self.path)?;
        empty_log(&opened)?;
        *checkpointer = Some(self::checkpointer(&self.path)?);
        let anew = Reader::open(&self.folder, self.wall_clock.clone());
        *reader = Some(anew.map_err(|error| failure(ffi::SQLITE_IOERR, Some(error.what)))?);
        *writer = opened;
        self.doubt.store(false, Ordering::SeqCst);
        Ok(())
    }
}

fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.busy_timeout(CHECKPOINT_WAIT)?;
    Ok(connection)
}

/// Makes durable what the write-ahead log holds. It begins by syncing the log: where only the room for more
/// is missing, or somebody reads, that was enough.
pub(crate) fn make_durable(connection: &Connection) -> rusqlite::Result<()> {
    match empty_log(connection) {
        Err(error) if casts_doubt(&error) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes all that is in the write-ahead log to the file, durably, and begins the log anew.
fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(failure(ffi::SQLITE_BUSY, None));
    }
    Ok(())
}

fn failure(code: i32, what: Option<String>) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), what)
}

/// Whether after this error something may be missing from the disk that a commit had brought there.
pub(crate) fn casts_doubt(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        // These leave everything as it was.
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
