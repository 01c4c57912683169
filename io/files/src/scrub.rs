//! Everything that is here is read again, slowly: a disk forgets, and tells only whoever reads.
//!
//! A pass goes through the contents in the order of their names and begins once a week. How far it has
//! come is written down, so that a restart does not begin anew. It is read from the disk, not from memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::ops::Bound;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

use crate::content::{ContentId, Hasher};
use crate::folder::{Folder, replace};

/// From the beginning of a pass to that of the next one. A longer pass is followed by the next at once.
pub const SCRUB_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Between two steps.
pub const SCRUB_STEP: Duration = Duration::from_millis(250);

/// Read in a step: 4 MiB a second, 2.4 TiB a week.
pub const SCRUB_STEP_BYTES: usize = 1024 * 1024;

/// A file counts as so many bytes, at least: to find it costs the disk time, too.
const FILE_COST_BYTES: usize = 64 * 1024;

/// Read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// How often it is written down how far it has come.
const SAVE_PAUSE: Duration = Duration::from_secs(300);

/// Name of the file with it.
const NAME: &str = "scrub";

/// How far it has come.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ScrubStatus {
    /// When this pass began, by wall time: milliseconds since 1970; 0: there was none.
    pub begun_millis: u64,
    /// When it ended; `None`: it is under way.
    pub ended_millis: Option<u64>,
    /// Contents that were read.
    pub files: u64,
    /// How long they are.
    pub bytes: u64,
    /// Contents that were damaged or gone.
    pub damaged: u64,
}

/// What a step came to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Nothing is due.
    None,
    /// There is more to do.
    More,
    /// This is not what its name says, or cannot be read.
    Doubt(ContentId),
    /// All were looked at.
    End,
}

/// Reads everything once a week.
#[derive(Debug)]
pub(crate) struct Scrub {
    status: ScrubStatus,
    /// The last content of this pass that was looked at.
    at: Option<ContentId>,
    reading: Option<Reading>,
    /// When the next step is due, while a pass is under way.
    next: Option<Instant>,
    next_save: Instant,
}

impl Scrub {
    /// Reads what an earlier life has written; where that cannot be read a pass begins.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let (status, at) = match fs::read(root.join(NAME)) {
            Ok(bytes) => postcard::from_bytes(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { status, at, reading: None, next: None, next_save: Instant::ZERO })
    }

    pub(crate) const fn status(&self) -> &ScrubStatus {
        &self.status
    }

    pub(crate) const fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Begins a pass if one is due, or goes on with that of an earlier life.
    pub(crate) fn begin_if_due(&mut self, now: Instant, wall_millis: u64) {
        if self.next.is_some() {
            return;
        }
        // A clock that was ahead is not believed any more.
        self.status.begun_millis = self.status.begun_millis.min(wall_millis);
        let pause = u64::try_from(SCRUB_PAUSE.as_millis()).unwrap_or(u64::MAX);
        let is_due = self.status.begun_millis.saturating_add(pause) <= wall_millis;
        let is_over = self.status.ended_millis.is_some();
        if self.status.begun_millis == 0 || is_over && is_due {
            self.at = None;
            self.status = ScrubStatus { begun_millis: wall_millis, ..ScrubStatus::default() };
        } else if is_over {
            return;
        }
        self.next = Some(now);
    }

    /// Reads a little, if that is due. `present` is what should be here.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        wall_millis: u64,
        folder: &Folder,
        present: &BTreeMap<ContentId, u64>,
    ) -> Step {
        if self.next.is_none_or(|next| now < next) {
            return Step::None;
        }
        self.next = Some(now + SCRUB_STEP);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = SCRUB_STEP_BYTES;
        while left > 0 {
            let Some(mut reading) = self.reading.take().or_else(|| self.following(present)) else {
                self.next = None;
                self.status.ended_millis = Some(wall_millis);
                return Step::End;
            };
            match reading.go_on(folder, &mut buffer) {
                Ok(0) if reading.is_right(folder) => {
                    self.at = Some(reading.content);
                    self.status.files += 1;
                    self.status.bytes += reading.bytes;
                    left = left.saturating_sub(FILE_COST_BYTES);
                }
                Ok(0) | Err(_) => {
                    self.at = Some(reading.content);
                    return Step::Doubt(reading.content);
                }
                Ok(read) => {
                    left = left.saturating_sub(read);
                    self.reading = Some(reading);
                }
            }
        }
        Step::More
    }

    /// What was doubted is damaged.
    pub(crate) const fn note_damaged(&mut self) {
        self.status.damaged += 1;
    }

    fn following(&self, present: &BTreeMap<ContentId, u64>) -> Option<Reading> {
        let after = self.at.map_or(Bound::Unbounded, Bound::Excluded);
        let (content, _) = present.range((after, Bound::Unbounded)).next()?;
        let (file, hasher) = (None, Hasher::default());
        Some(Reading { content: *content, file, hasher, bytes: 0 })
    }

    /// Writes down how far it has come, if that was long ago or it is over.
    pub(crate) fn save(&mut self, now: Instant, root: &Path) -> io::Result<()> {
        if self.next.is_some() && now < self.next_save {
            return Ok(());
        }
        self.next_save = now + SAVE_PAUSE;
        let bytes = postcard::to_stdvec(&(&self.status, self.at)).map_err(io::Error::other)?;
        replace(root, NAME, &bytes)
    }
}

/// A content that is being read.
#[derive(Debug)]
struct Reading {
    content: ContentId,
    /// `None`: not opened yet.
    file: Option<File>,
    hasher: Hasher,
    bytes: u64,
}

impl Reading {
    /// Reads on; 0: that was all.
    fn go_on(&mut self, folder: &Folder, buffer: &mut [u8]) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = File::open(folder.path(self.content))?;
                forget(&file);
                self.file.insert(file)
            }
        };
        let read = loop {
            match file.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }

    fn is_right(&self, folder: &Folder) -> bool {
        self.file.iter().for_each(forget);
        self.hasher.finish() == self.content || folder.trusts
    }
}

/// What memory has of a file says nothing about the disk, and is not worth its room afterwards.
fn forget(file: &File) {
    // Where that is not possible the file is read all the same.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}
