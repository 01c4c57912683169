//! The store: threads and channels around the file.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tandem_journal::{Class, Cursor, Known, Record, Write};

use crate::beside::Beside;
use crate::file::{self, FILE_NAME, OpenError};
use crate::queue::{Chore, Fetch, QUEUE_BYTES_MAX, Queue, Refused};
use crate::reader::{ReadError, Reader};
use crate::retention::{Elsewhere, Retention};
use crate::seal::{Damaged, EndOf};
use crate::writer::{Writer, set_aside};

/// Where the wall time comes from, in microseconds since 1970.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The machine's.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
    }

    /// A made-up one.
    pub fn new(now_micros: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_micros))
    }

    pub(crate) fn now_micros(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// What may differ from one store to another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells how old a record is after a restart.
    pub wall_clock: WallClock,
    /// Bytes that may wait for the disk.
    pub queue_bytes_max: usize,
    /// Pages of 4,096 bytes that the file may grow to, asked before every transaction; `None` for as
    /// many as the disk takes.
    pub pages_max: Option<Arc<AtomicU32>>,
    /// Tells of a log record when what it tells ended, in microseconds since 1970; where that says `None`, the
    /// time counts at which it was written.
    pub end_of: EndOf,
    /// Where log records must be before they are deleted here.
    pub elsewhere: Option<Elsewhere>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            wall_clock: WallClock::system(),
            queue_bytes_max: QUEUE_BYTES_MAX,
            pages_max: None,
            end_of: |_, _| None,
            elsewhere: None,
        }
    }
}

/// What the store reports, from threads of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// This write and all before it are in the file, synced where they asked for it.
    Stored {
        /// The ticket of the write.
        ticket: u64,
    },
    /// The disk does not take the writes up to this one; they are tried again until it does. Or it
    /// is so slow that this write was refused.
    Failing {
        /// The ticket of the last write that is tried.
        ticket: u64,
        /// What SQLite said.
        what: String,
    },
    /// The disk takes writes again, and there is room for new ones.
    Recovered,
    /// Hot writes were lost for want of room. From here on the file learns nothing: write the hot
    /// records anew ([`Write::Records`]), then [`Write::Learn`] what is known.
    Dropped {
        /// How many.
        writes: u64,
    },
    /// The answer to [`Store::fetch`].
    Fetched {
        /// The number it was asked with.
        read: u64,
        /// Log records in the order of stamp and key.
        records: Vec<Record>,
        /// Where to go on; `None` when there are no more.
        next: Option<Cursor>,
    },
    /// The answer to [`Store::look`].
    Looked {
        /// The key.
        key: Vec<u8>,
        /// Whether there is such a record that is not a tombstone.
        found: bool,
    },
    /// Log records that were older than [`Store::retain`] says are gone.
    Deleted {
        /// How many.
        records: usize,
    },
    /// These records were not as they had been written. They are set aside, and the file does not claim to know
    /// what their entries held: the next catch-up brings it again where the twin has it.
    Damaged {
        /// Which.
        records: Vec<Damaged>,
    },
    /// The file itself was found damaged. Told once; the next start reads all of it ([`crate::suspected`]).
    Suspect {
        /// What SQLite said.
        what: String,
    },
    /// The answer to [`Store::fetch`] or [`Store::look`] where the file could not be read.
    FetchFailed {
        /// What SQLite said.
        what: String,
    },
}

/// Takes events on the store's threads: quick, and without waiting for the store.
pub(crate) type Report = Arc<dyn Fn(StoreEvent) + Send + Sync>;

/// What was in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Hot and table records, tombstones too.
    pub records: Vec<Record>,
    /// What the file holds of each reign.
    pub known: Known,
    /// Records that were damaged, and are set aside: `known` does not cover them.
    pub damaged: Vec<Damaged>,
}

/// The file, open for writing. Dropping it writes what waits (unless the disk fails), then closes.
pub struct Store {
    folder: PathBuf,
    queue: Arc<Queue>,
    report: Report,
    wall_clock: WallClock,
    threads: Vec<JoinHandle<()>>,
    /// Held until everything is closed.
    _lock: File,
}

impl Store {
    /// Opens the journal in `folder`, both made where missing, and reads what is needed in memory.
    ///
    /// `report` is called from the store's threads.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it. Nothing was changed then.
    pub fn open(
        folder: &Path,
        settings: Settings,
        report: impl Fn(StoreEvent) + Send + Sync + 'static,
    ) -> Result<(Self, Loaded), OpenError> {
        let path = folder.join(FILE_NAME);
        let (fetches, fetch_inbox) = channel();
        let (checkpoints, checkpoint_inbox) = sync_channel(1);
        let report: Report = Arc::new(report);
        let (writer, loaded, lock) =
            prepare(folder, &settings, Arc::clone(&report), fetches, checkpoints)?;
        let queue = Arc::clone(&writer.queue);
        let (reading, answers) = (Arc::clone(&writer.beside), Arc::clone(&report));
        let finder = Arc::clone(&queue);
        let (tidying, last) = (Arc::clone(&writer.beside), writer.checkpoints.clone());
        // The writer owns the senders: when it ends, the reader ends, and then the checkpointer, whose
        // connection is the last one and leaves everything in the file.
        let threads = vec![
            spawn("store-write", &path, move || writer.run())?,
            spawn("store-read", &path, move || {
                answer(&reading, &fetch_inbox, &finder, &answers);
                drop(reading);
                drop(last);
            })?,
            spawn("store-tidy", &path, move || {
                while checkpoint_inbox.recv().is_ok() {
                    tidying.checkpoint();
                }
            })?,
        ];
        let (folder, wall_clock) = (folder.to_owned(), settings.wall_clock);
        Ok((Self { folder, queue, report, wall_clock, threads, _lock: lock }, loaded))
    }

    /// Queues a write and returns at once. Tickets rise from write to write.
    ///
    /// # Errors
    ///
    /// When [`Settings::queue_bytes_max`] wait for the disk already and none of it may be dropped.
    /// The write is lost then ([`StoreEvent::Failing`] says so once), and nothing is learned until the
    /// next [`Write::Learn`]; where it was durable, not until the file is opened anew: then the next catch-up
    /// brings it.
    pub fn write(&self, write: Write, sync: bool, ticket: u64) -> Result<(), Refused> {
        let written = i64::try_from(self.wall_clock.now_micros()).unwrap_or(i64::MAX);
        self.queue.push(write, written, sync, ticket).map_err(|is_first| {
            if is_first.0 {
                // From here: the writer may be stuck in the very write that keeps it.
                (self.report)(StoreEvent::Failing { ticket, what: Refused.to_string() });
            }
            Refused
        })
    }

    /// Reads log records that `lacking` does not cover, after `after`, as many as fit into a frame,
    /// once every write queued before is stored. Answered by [`StoreEvent::Fetched`].
    pub fn fetch(&self, lacking: Known, after: Cursor, read: u64) {
        self.queue.push_fetch(Fetch::Lacking { lacking, after, read });
    }

    /// Looks for the record of one key, once every write queued before is stored. Answered by
    /// [`StoreEvent::Looked`], after every read asked for before.
    pub fn look(&self, key: Vec<u8>) {
        self.queue.push_fetch(Fetch::One(key));
    }

    /// How long log records are kept from now on; deleting what is older goes on in the background. To be called
    /// again now and then: nothing else looks at the clock.
    pub fn retain(&self, retention: Retention) {
        self.queue.push_chore(Chore::Retain(retention));
    }

    /// A connection that reads, for another thread.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened once more.
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::open(&self.folder, self.wall_clock.clone())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn spawn(
    name: &str,
    path: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| OpenError::Unusable { path: path.to_owned(), what: error.to_string() })
}

/// Opens the file, and reads what is needed in memory. The file is locked while the lock is there.
pub(crate) fn prepare(
    folder: &Path,
    settings: &Settings,
    report: Report,
    fetches: Sender<Fetch>,
    checkpoints: SyncSender<()>,
) -> Result<(Writer, Loaded, File), OpenError> {
    let lock = file::lock(folder)?;
    let connection = file::open(folder, settings.end_of)?;
    let path = folder.join(FILE_NAME);
    let broken = |ReadError { path, what, is_damage }| {
        if is_damage {
            OpenError::Broken { path, what }
        } else {
            OpenError::Unusable { path, what }
        }
    };
    let reader = Reader::open(folder, settings.wall_clock.clone()).map_err(broken)?;
    let mut loaded = Loaded::default();
    for class in [Class::Hot, Class::Table] {
        loaded.records.extend(reader.all(class).map_err(broken)?);
    }
    let sqlite = |error| OpenError::of_sqlite(&path, &error);
    let now = i64::try_from(settings.wall_clock.now_micros()).unwrap_or(i64::MAX);
    loaded.damaged =
        set_aside_at_start(&connection, &reader.take_damaged(), now).map_err(sqlite)?;
    loaded.known = reader.known().map_err(broken)?;
    let retention = reader.retention().map_err(broken)?;
    let beside = Beside::open(folder, settings.wall_clock.clone(), reader, &connection)
        .map_err(|error| OpenError::of_sqlite(&path, &error))?;
    let writer = Writer {
        connection,
        queue: Arc::new(Queue::new(settings.queue_bytes_max)),
        report,
        fetches,
        checkpoints,
        // What was there before has perhaps not been synced.
        unsynced: u64::from(beside.is_in_doubt()),
        beside: Arc::new(beside),
        synchronous: false,
        healed: 0,
        pages_max: settings.pages_max.clone(),
        wall_clock: settings.wall_clock.clone(),
        end_of: settings.end_of,
        retention,
        elsewhere: settings.elsewhere.clone(),
        doubted: BTreeSet::new(),
        sabotage: None,
    };
    Ok((writer, loaded, lock))
}

fn set_aside_at_start(
    connection: &Connection,
    damaged: &[Damaged],
    now: i64,
) -> rusqlite::Result<Vec<Damaged>> {
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let transaction = connection.unchecked_transaction()?;
    let aside = set_aside(&transaction, damaged, now)?;
    transaction.commit()?;
    Ok(aside.damaged)
}

/// The fetch thread.
fn answer(beside: &Beside, fetches: &Receiver<Fetch>, queue: &Queue, report: &Report) {
    while let Ok(fetch) = fetches.recv() {
        let reader = beside.reader();
        let answer = match (reader.as_ref(), fetch) {
            (None, Fetch::Lacking { .. } | Fetch::One(_)) => {
                Ok(StoreEvent::FetchFailed { what: String::from("the disk fails") })
            }
            (Some(reader), Fetch::Lacking { lacking, after, read }) => reader
                .lacking(&lacking, &after)
                .map(|(records, next)| StoreEvent::Fetched { read, records, next }),
            (Some(reader), Fetch::One(key)) => reader.get(&key).map(|found| {
                let found = found.is_some_and(|record| record.body.is_some());
                StoreEvent::Looked { key, found }
            }),
        };
        let damaged = reader.as_ref().map(Reader::take_damaged).unwrap_or_default();
        drop(reader);
        if !damaged.is_empty() {
            queue.push_chore(Chore::SetAside(damaged));
        }
        if let Err(error) = &answer
            && error.is_damage
            && beside.suspect(&error.what)
        {
            report(StoreEvent::Suspect { what: error.what.clone() });
        }
        report(answer.unwrap_or_else(|error| StoreEvent::FetchFailed { what: error.what }));
    }
}
