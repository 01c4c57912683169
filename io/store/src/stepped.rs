//! The store without its threads, for tests that must know what is on the disk after every step.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tandem_journal::Write;

use crate::file::OpenError;
use crate::queue::{Chore, Fetch, Refused};
use crate::retention::Retention;
use crate::store::{Loaded, Settings, StoreEvent, prepare};
use crate::writer::{Sabotage, Trying, Writer};

/// A store whose writer and whose checkpoints move when they are told to.
pub struct Stepped {
    writer: Writer,
    trying: Option<Trying>,
    events: Arc<Mutex<Vec<StoreEvent>>>,
    wall_micros: i64,
    _fetches: Receiver<Fetch>,
    _checkpoints: Receiver<()>,
    _lock: File,
}

impl Stepped {
    /// As [`crate::Store::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(folder: &Path, settings: &Settings) -> Result<(Self, Loaded), OpenError> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let reported = Arc::clone(&events);
        let report = move |event| {
            reported.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        };
        let (fetches, fetch_inbox) = channel();
        let (checkpoints, checkpoint_inbox) = sync_channel(1);
        let (writer, loaded, lock) =
            prepare(folder, settings, Arc::new(report), fetches, checkpoints)?;
        let stepped = Self {
            writer,
            trying: None,
            events,
            wall_micros: 0,
            _fetches: fetch_inbox,
            _checkpoints: checkpoint_inbox,
            _lock: lock,
        };
        Ok((stepped, loaded))
    }

    /// As [`crate::Store::write`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write(&mut self, write: Write, sync: bool, ticket: u64) -> Result<(), Refused> {
        self.wall_micros += 1;
        self.writer.queue.push(write, self.wall_micros, sync, ticket).map_err(|_| Refused)
    }

    /// As [`crate::Store::retain`].
    pub fn retain(&mut self, retention: Retention) {
        self.writer.queue.push_chore(Chore::Retain(retention));
    }

    /// One try of the writer: a batch, or once more the one that failed. False where there was nothing to
    /// do, or it failed.
    pub fn turn(&mut self) -> bool {
        let next = || self.writer.queue.try_take().map(Trying::new);
        let Some(mut trying) = self.trying.take().or_else(next) else { return false };
        if self.writer.attempt(&mut trying).is_ok() {
            self.writer.done(trying);
            true
        } else {
            self.trying = Some(trying);
            false
        }
    }

    /// One checkpoint, as its thread makes it: PASSIVE or RESTART.
    pub fn checkpoint(&self, mode: &str) {
        self.writer.beside.checkpoint_now(mode);
    }

    /// What was reported since this was last asked.
    pub fn events(&self) -> Vec<StoreEvent> {
        core::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Breaks a rule from here on.
    pub const fn sabotage(&mut self, rule: Sabotage) {
        self.writer.sabotage = Some(rule);
    }
}

impl core::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Stepped")
    }
}
