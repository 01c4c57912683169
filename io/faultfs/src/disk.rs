//! The disk: counts its steps, keeps the moment before each, and fails where it is told to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_types::Dice;

use crate::files::{Files, Step};
use crate::vfs;

/// A disk below a folder, gone when this is dropped. Everything that uses it must be closed by then.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
}

/// What is asked for when it fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum On {
    /// Bytes are read.
    Read,
    /// Bytes are written or cut off.
    Write,
    /// What was written shall be durable.
    Sync,
}

/// How it fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Error {
    /// EIO.
    Io,
    /// EIO, and what was written but not synced is forgotten: reads find what is on the disk.
    IoAndForgotten,
    /// ENOSPC.
    Full,
}

/// Calls that fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Which.
    pub on: On,
    /// So many of them succeed before.
    pub after: u64,
    /// So many fail then.
    pub times: u64,
    /// How.
    pub error: Error,
}

/// The files before a step, and the step.
#[derive(Clone, Debug)]
pub struct Moment {
    files: Files,
    step: Option<Step>,
}

impl Moment {
    /// What is there when the process is killed in this step: everything before, and a part of it.
    pub fn killed(&self, seed: u64) -> Files {
        self.files.clone().killed_in(self.step.as_ref(), &mut Dice::from_number(seed))
    }

    /// What is there when the power goes in this step.
    pub fn power_cut(&self, seed: u64) -> Files {
        self.files.clone().power_cut_in(self.step.as_ref(), &mut Dice::from_number(seed))
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) files: Files,
    steps: u64,
    moments: Option<Vec<Moment>>,
    failures: Vec<Failure>,
    room: Option<usize>,
    dice: Dice,
    pub(crate) shared: BTreeMap<String, vfs::Shared>,
    /// Files that are open.
    open: u64,
    /// The number of the last one that was opened.
    last: u64,
    reads: u64,
}

impl Disk {
    /// Puts a disk with these files below a folder.
    pub fn mount(folder: &Path, files: Files) -> Self {
        let state = State {
            files,
            steps: 0,
            moments: None,
            failures: Vec::new(),
            room: None,
            dice: Dice::from_number(0),
            shared: BTreeMap::new(),
            open: 0,
            last: 0,
            reads: 0,
        };
        let state = Arc::new(Mutex::new(state));
        vfs::mount(folder, &state);
        Self { folder: folder.to_owned(), state }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps every moment from now on.
    pub fn record(&self) {
        self.lock().moments.get_or_insert_default();
    }

    /// How many moments were kept: what is done by now is done in those that follow.
    pub fn now(&self) -> usize {
        self.lock().moments.as_ref().map_or(0, Vec::len)
    }

    /// The moments, and the one after the last step.
    pub fn moments(&self) -> Vec<Moment> {
        let state = self.lock();
        let mut moments = state.moments.clone().unwrap_or_default();
        moments.push(Moment { files: state.files.clone(), step: None });
        moments
    }

    /// The moment that is now.
    pub fn moment(&self) -> Moment {
        Moment { files: self.lock().files.clone(), step: None }
    }

    /// Lets calls fail, from now on counted.
    pub fn fail(&self, failure: Failure) {
        self.lock().failures.push(failure);
    }

    /// No call fails any more; how many failures have not come to pass.
    pub fn heal(&self) -> usize {
        let mut state = self.lock();
        let left = state.failures.iter().filter(|failure| failure.times > 0).count();
        state.failures.clear();
        left
    }

    /// All files together may grow to so many bytes; `None` for as many as they like.
    pub fn room(&self, bytes: Option<usize>) {
        self.lock().room = bytes;
    }

    /// Bytes of all files.
    pub fn length(&self) -> usize {
        self.lock().files.length()
    }

    /// What the dice of failing syncs begin with.
    pub fn seed(&self, seed: u64) {
        self.lock().dice = Dice::from_number(seed);
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// How many files of this disk are open, one for each connection and log.
    pub fn open(&self) -> u64 {
        self.lock().open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        vfs::unmount(&self.folder);
    }
}

pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A file is opened: its number.
    pub(crate) const fn opened(&mut self) -> u64 {
        self.open += 1;
        self.last += 1;
        self.last
    }

    pub(crate) const fn closed(&mut self) {
        self.open -= 1;
    }

    /// Reads so many bytes as there are.
    pub(crate) fn read(&mut self, file: &str, at: usize, to: &mut [u8]) -> Result<usize, Error> {
        self.reads += 1;
        self.may(On::Read)?;
        let bytes = self.files.bytes(file).unwrap_or_default();
        let found = bytes.get(at..).unwrap_or_default();
        let count = found.len().min(to.len());
        to[..count].copy_from_slice(&found[..count]);
        Ok(count)
    }

    /// Does a step, unless it fails.
    pub(crate) fn step(&mut self, step: Step) -> Result<(), Error> {
        self.steps += 1;
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { files: self.files.clone(), step: Some(step.clone()) });
        }
        match &step {
            Step::Write { file, at, bytes } => {
                self.may(On::Write)?;
                self.fit(file, *at, bytes)?;
            }
            Step::Cut { .. } => self.may(On::Write)?,
            Step::Sync { file, .. } => {
                if let Err(error) = self.may(On::Sync) {
                    let forgets = error == Error::IoAndForgotten;
                    self.files.fail_sync(file, forgets, &mut self.dice);
                    return Err(error);
                }
            }
            Step::Make { .. } | Step::Delete { .. } => {}
        }
        self.files.apply(&step);
        Ok(())
    }

    fn may(&mut self, on: On) -> Result<(), Error> {
        for failure in self.failures.iter_mut().filter(|failure| failure.on == on) {
            if failure.after > 0 {
                failure.after -= 1;
            } else if failure.times > 0 {
                failure.times -= 1;
                return Err(failure.error);
            }
        }
        Ok(())
    }

    /// Where the disk is full, what still fits is written.
    fn fit(&mut self, file: &str, at: usize, bytes: &[u8]) -> Result<(), Error> {
        let Some(room) = self.room else { return Ok(()) };
        let length = self.files.bytes(file).map_or(0, <[u8]>::len);
        let free = room.saturating_sub(self.files.length());
        if (at + bytes.len()).saturating_sub(length) <= free {
            return Ok(());
        }
        let fits = (length + free).saturating_sub(at).min(bytes.len());
        let part = Step::Write { file: file.to_owned(), at, bytes: bytes[..fits].to_vec() };
        self.files.apply(&part);
        Err(Error::Full)
    }
}
