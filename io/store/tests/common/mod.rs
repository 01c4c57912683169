//! Short ways to make entries and to wait for what the store reports.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration as Patience;

use tandem_journal::{Class, Cursor, Entry, Op, Record, Write};
use tandem_store::{Loaded, Settings, Store, StoreEvent};
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
