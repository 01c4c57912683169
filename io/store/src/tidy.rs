//! Checkpoints: what the write-ahead log holds is brought into the file by a connection of its own, beside the
//! commits of the writer's. Both files do it so.
//!
//! SQLite counts a part of the log as brought over, and does not sync it, where a commit came in between. So after a
//! sync that failed nobody knows which pages are in the file, and a later one that succeeds does not bring them
//! again. From then on there is *doubt*: the log is not begun anew, and before the next write all connections are
//! closed and opened anew, which reads the whole log by its checksums and writes all of it to the file once more.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};
use tandem_types::Duration;

use crate::file::connect;

/// How long a checkpoint may hold up a commit because somebody still reads from the log.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(20);

/// Frames (of 4,096 bytes) in the write-ahead log from which on they are brought into the file.
pub(crate) const WAL_FRAMES: i32 = 1_000;

/// Frames from which on the log is begun anew, even if a commit has to wait for that.
const WAL_FRAMES_MAX: i32 = 16_000;

/// The connection that makes checkpoints.
#[derive(Debug)]
pub(crate) struct Tidy {
    path: PathBuf,
    /// `None` while the file cannot be opened.
    connection: Mutex<Option<Connection>>,
    /// The disk has failed, and the file was not read again since.
    doubt: AtomicBool,
}

impl Tidy {
    /// Beside the writer's connection to this file.
    pub(crate) fn open(path: &Path, doubt: bool) -> rusqlite::Result<Self> {
        let connection = Mutex::new(Some(beside(path)?));
        Ok(Self { path: path.to_owned(), connection, doubt: AtomicBool::new(doubt) })
    }

    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is believed until the file is opened anew.
    pub(crate) fn doubt(&self) {
        self.doubt.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.load(Ordering::SeqCst)
    }

    /// Brings pages from the write-ahead log into the file, where there are enough of them.
    pub(crate) fn checkpoint(&self) {
        let connection = self.connection();
        let Some(connection) = connection.as_ref().filter(|_| !self.is_in_doubt()) else { return };
        let frames: rusqlite::Result<i32> =
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
        if let Some(connection) = self.connection().as_ref() {
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

    /// Closes the writer's connection and the one here, and opens both anew; then everything in the file is durable.
    /// What `also` does with the writer's belongs to it. As long as somebody else has the file open as well,
    /// SQLite goes on with what it knew of the log.
    pub(crate) fn open_anew(
        &self,
        writer: &mut Connection,
        also: impl FnOnce(&mut Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut here = self.connection();
        for connection in [Some(&*writer), here.as_ref()].into_iter().flatten() {
            leave_log(connection)?;
        }
        *here = None;
        // In its place until the next try; nothing is written while there is doubt.
        *writer = Connection::open_in_memory()?;
        let mut opened = connect(&self.path)?;
        empty_log(&opened)?;
        *here = Some(beside(&self.path)?);
        also(&mut opened)?;
        *writer = opened;
        self.doubt.store(false, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for Tidy {
    /// The last one to be closed: what is in doubt is left in the log, for the next start to read and write anew.
    fn drop(&mut self) {
        if let Some(connection) = self.connection().as_ref().filter(|_| self.is_in_doubt()) {
            // It can be refused only where there is no such option.
            let _ = leave_log(connection);
        }
    }
}

/// Closing this connection leaves the log as it is. Otherwise SQLite would, when it is the last one, bring over what
/// nobody has read again, and delete the log.
fn leave_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
}

fn beside(path: &Path) -> rusqlite::Result<Connection> {
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
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    match emptied {
        Ok(false) => Ok(()),
        Ok(true) => Err(failure(ffi::SQLITE_BUSY, None)),
        Err(error) => {
            if casts_doubt(&error) {
                // Whoever opens it next reads the log by its checksums.
                leave_log(connection)?;
            }
            Err(error)
        }
    }
}

pub(crate) fn failure(code: i32, what: Option<String>) -> rusqlite::Error {
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
