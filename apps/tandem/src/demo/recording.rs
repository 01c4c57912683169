//! What a phone hears, and when: the phone writes every piece of audio that it received and decoded
//! into a file at once, and the kernel tells us of each write.
//!
//! This needs no privilege, sees what the listener gets (network, phone and all), and works the same
//! on loopback and in namespaces. The phone's jitter buffer lets one piece out for each packet that
//! arrives, so a pause in the arrival of packets is a pause here.
//!
//! Invariant: a pause is never shown shorter than it was by more than our own lateness, because the
//! pieces are read by a thread that does nothing else.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

/// baresip's name for what it heard: `dump-<date>-dec.wav`.
const HEARD: &str = "-dec.wav";

/// Bytes before the samples in a WAV file as baresip writes it.
const WAV_HEADER: usize = 44;

/// The watch over one phone's folder.
#[derive(Debug)]
pub struct Recording {
    folder: PathBuf,
    arrivals: Receiver<Instant>,
    pieces: Vec<Instant>,
}

impl Recording {
    /// Watches the folder into which a phone records.
    ///
    /// # Errors
    ///
    /// The kernel refuses to watch it.
    pub fn of(folder: &Path) -> Result<Self> {
        let watch = init(CreateFlags::CLOEXEC).context("cannot watch a folder (inotify)")?;
        add_watch(&watch, folder, WatchFlags::MODIFY | WatchFlags::DELETE_SELF)?;
        let (sender, arrivals) = channel();
        // Ends when the folder is removed, or at the next piece after the phone was dropped.
        std::thread::spawn(move || listen(&watch, &sender));
        Ok(Self { folder: folder.to_owned(), arrivals, pieces: Vec::new() })
    }

    /// When each piece arrived.
    ///
    /// # Errors
    ///
    /// None today; a watch that was lost shows as silence.
    pub fn pieces(&mut self) -> Result<&[Instant]> {
        self.pieces.extend(self.arrivals.try_iter());
        Ok(&self.pieces)
    }

    /// The loudest sample of the newest recording.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn loudest(&self) -> Result<u16> {
        let files = std::fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path());
        let newest =
            files.filter(|path| path.as_os_str().as_bytes().ends_with(HEARD.as_bytes())).max();
        let newest = newest.context("the phone has recorded nothing")?;
        let bytes = std::fs::read(&newest)?;
        let samples = bytes.get(WAV_HEADER..).unwrap_or_default().chunks_exact(2);
        let loudness =
            samples.map(|sample| i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs());
        Ok(loudness.max().unwrap_or(0))
    }
}

fn listen(watch: &OwnedFd, sender: &Sender<Instant>) {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watch, &mut space);
    while let Ok(event) = reader.next() {
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        match name {
            // The folder itself is gone.
            None => return,
            Some(name) if name.as_bytes().ends_with(HEARD.as_bytes()) => {
                if sender.send(Instant::now()).is_err() {
                    return;
                }
            }
            Some(_) => {}
        }
    }
}

/// The longest pause in `arrivals` between `from` and `to`, both of which count as its ends: what
/// never came again is a pause until `to`.
#[must_use]
pub fn longest_pause(arrivals: &[Instant], from: Instant, to: Instant) -> Duration {
    let within = arrivals.iter().filter(|at| (from..=to).contains(*at)).copied();
    let mut last = arrivals.iter().filter(|at| **at < from).max().copied().unwrap_or(from);
    let mut longest = Duration::ZERO;
    for at in within.chain([to]) {
        longest = longest.max(at.saturating_duration_since(last));
        last = at;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: Instant, millis: &[u64]) -> Vec<Instant> {
        millis.iter().map(|ms| base + Duration::from_millis(*ms)).collect()
    }

    fn pause(arrivals: &[u64], from: u64, to: u64) -> u128 {
        let base = Instant::now();
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
        longest_pause(&at(base, arrivals), base + from, base + to).as_millis()
    }

    #[test]
    fn a_steady_stream_has_the_pause_of_its_rhythm() {
        assert_eq!(pause(&[0, 20, 40, 60, 80], 30, 90), 20);
    }

    #[test]
    fn the_longest_pause_is_found_also_where_it_begins_before() {
        assert_eq!(pause(&[0, 20, 90, 110], 40, 120), 70);
    }

    #[test]
    fn audio_that_never_comes_again_is_a_pause_until_the_end() {
        assert_eq!(pause(&[0, 20], 30, 1030), 1010);
    }

    #[test]
    fn no_audio_at_all_is_one_pause() {
        assert_eq!(pause(&[], 0, 500), 500);
    }
}
