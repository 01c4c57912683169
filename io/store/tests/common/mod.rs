//! Short ways to make entries and to wait for what the store reports.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration as Patience;

use rusqlite::Connection;
use tandem_faultfs::{Disk, Files};
use tandem_journal::{Class, Cursor, Entry, Op, Record, Write};
use tandem_store::{FILE_NAME, Loaded, Settings, Store, StoreEvent};
use tandem_types::{Duration, Epoch, Seat, Seq, Stamp};

/// A fresh folder for one test, gone when the test ends.
pub struct Folder(PathBuf);

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn folder(name: &str) -> Folder {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    Folder(folder)
}

/// A disk in memory below a folder of its own.
pub struct Ground {
    pub disk: Disk,
    pub folder: Folder,
}

pub fn ground(name: &str, files: Files) -> Ground {
    let folder = folder(name);
    Ground { disk: Disk::mount(&folder, files), folder }
}

/// The tables as version 1 of the file had them. Written down here a second time: what was released stays, whatever
/// becomes of the code.
const VERSION_1: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE hot_record (
        key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB) STRICT;
    CREATE TABLE table_record (
        key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB) STRICT;
    CREATE TABLE log_record (
        key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB) STRICT;
    CREATE INDEX log_by_stamp ON log_record (reign, seq, key);
    CREATE TABLE known (reign INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
    PRAGMA application_id = 0x54414e44; PRAGMA user_version = 1;";

/// A file of version 1: a call, a tombstone, so many log records (each with its number as its body), all of them
/// known.
pub fn write_version_1(folder: &Path, logs: u64) {
    let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
    connection.execute_batch(VERSION_1).unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO hot_record VALUES (CAST('call/1' AS BLOB), 2, 1, 7, CAST('h' AS BLOB));
             INSERT INTO table_record VALUES (CAST('user/1' AS BLOB), 2, 1, 7, NULL);
             INSERT INTO known VALUES (2, {logs});
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {logs})
             INSERT INTO log_record SELECT CAST(printf('%05d', i) AS BLOB), 2, i, i, CAST(i AS BLOB) FROM n"
        ))
        .unwrap();
}

pub fn open(folder: &Path, settings: Settings) -> (Store, Loaded, Wait) {
    let (report, events) = channel();
    let (store, loaded) = Store::open(folder, settings, move |event| {
        let _ = report.send(event);
    })
    .unwrap();
    (store, loaded, Wait { events, seen: Vec::new() })
}

/// What the store reported so far.
pub struct Wait {
    events: Receiver<StoreEvent>,
    pub seen: Vec<StoreEvent>,
}

impl Wait {
    /// The next report.
    #[track_caller]
    pub fn next(&mut self) -> StoreEvent {
        let event = self.events.recv_timeout(Patience::from_secs(30)).unwrap();
        self.seen.push(event.clone());
        event
    }

    /// What was reported and not waited for, once the store is closed.
    pub fn rest(&self) -> Vec<StoreEvent> {
        self.events.try_iter().collect()
    }

    /// Until the write with this ticket is in the file.
    #[track_caller]
    pub fn stored(&mut self, ticket: u64) {
        while !matches!(self.next(), StoreEvent::Stored { ticket: done } if done >= ticket) {}
    }

    /// Until the next look is answered.
    #[track_caller]
    pub fn looked(&mut self) -> (Vec<u8>, bool) {
        loop {
            if let StoreEvent::Looked { key, found } = self.next() {
                return (key, found);
            }
        }
    }

    /// Until this read is answered.
    #[track_caller]
    pub fn fetched(&mut self, wanted: u64) -> (Vec<Record>, Option<Cursor>) {
        loop {
            if let StoreEvent::Fetched { read, records, next } = self.next()
                && read == wanted
            {
                return (records, next);
            }
        }
    }
}

pub fn stamp(number: u32, seat: Seat, seq: u64) -> Stamp {
    Stamp { epoch: Epoch { number, seat }, seq: Seq(seq) }
}

pub fn entry(number: u32, seat: Seat, seq: u64, ops: Vec<Op>) -> Write {
    Write::Entry(Entry { stamp: stamp(number, seat, seq), ops })
}

pub fn hot(key: &str, body: &str) -> Op {
    op(Class::Hot, key, body)
}

pub fn table(key: &str, body: &str) -> Op {
    op(Class::Table, key, body)
}

pub fn log(key: &str, body: &str) -> Op {
    op(Class::Log, key, body)
}

fn op(class: Class, key: &str, body: &str) -> Op {
    Op { class, key: key.into(), body: Some(body.into()) }
}

pub fn record(class: Class, key: &str, stamp: Stamp, body: Option<&str>) -> Record {
    let body = body.map(Into::into);
    Record { class, key: key.into(), stamp, age: Duration::ZERO, body }
}
