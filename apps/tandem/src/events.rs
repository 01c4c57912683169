//! The files of what happened: one event a line, for each machine of the pair one file and the one
//! before it.
//!
//! ```text
//! state/events/master.jsonl     state/events/standby.jsonl       the newest at the end
//!              master.1.jsonl                standby.1.jsonl     what was there before
//! ```
//!
//! Both machines keep both files. A line that a crash cut short is skipped when read; the next one
//! begins on a line of its own. Whoever may read the folder can read what happened, whoever runs.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tandem_keeper::Event;
use tandem_types::Seat;

/// A file that is longer, in bytes, becomes the one before, and a new one begins. So two of them for
/// each machine are what events take at most.
pub(crate) const FILE_MAX: u64 = 1024 * 1024;

/// The events of one machine, being written.
pub(crate) struct EventFile {
    path: PathBuf,
    before: PathBuf,
    file: Option<File>,
    length: u64,
    /// The last line is whole.
    whole: bool,
}

impl EventFile {
    /// Of a machine, in the folder of events. Nothing is opened before something is written.
    pub(crate) fn new(folder: &Path, seat: Seat) -> Self {
        let [before, path] = paths(folder, seat);
        Self { path, before, file: None, length: 0, whole: true }
    }

    /// Adds a line. It is not synced.
    ///
    /// # Errors
    ///
    /// What the disk says; the next line is tried anew.
    pub(crate) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let result = self.try_append(line);
        if result.is_err() {
            // The folder may be another one by then.
            self.file = None;
        }
        result
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        if self.length + line.len() as u64 > FILE_MAX && self.length > 0 {
            std::fs::rename(&self.path, &self.before)?;
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Err(ErrorKind::NotFound.into()) };
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if !self.whole {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        self.whole = false;
        file.write_all(&bytes)?;
        self.whole = true;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&self.path)?;
        self.length = file.metadata()?.len();
        self.whole = ends_whole(&mut file, self.length)?;
        self.file = Some(file);
        Ok(())
    }

    /// Puts what was added on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

fn ends_whole(file: &mut File, length: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let Some(last) = length.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// The files of one machine's events, the older one first.
pub(crate) fn paths(folder: &Path, seat: Seat) -> [PathBuf; 2] {
    [folder.join(format!("{seat}.1.jsonl")), folder.join(format!("{seat}.jsonl"))]
}

/// Everything that is kept of one machine, in the order of its numbers.
///
/// # Errors
///
/// A file that is there and cannot be read. One that is missing has no events.
pub(crate) fn read(folder: &Path, seat: Seat) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for path in paths(folder, seat) {
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(FILE_MAX * 2).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let lines = bytes.split(|byte| *byte == b'\n');
        let of_seat = |event: &Event| event.seat == seat;
        events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()).filter(of_seat));
    }
    // A line may stand in both files where the disk failed while they changed places.
    events.sort_by_key(|event| event.seq);
    events.dedup_by_key(|event| event.seq);
    Ok(events)
}

/// Everything that is kept of both machines, by time.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_both(folder: &Path) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for seat in Seat::ALL {
        events.extend(read(folder, seat)?);
    }
    // Stable: what one machine told within one millisecond stays in its order.
    events.sort_by_key(|event| event.time_ms);
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes away.
    pub(super) struct Folder(pub(super) PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn event(seq: u64, seat: Seat, time_ms: u64) -> Event {
        Event { seq, ..Event::new(seat, time_ms, "kind", &format!("number {seq}")) }
    }

    fn line(event: &Event) -> Vec<u8> {
        serde_json::to_vec(event).unwrap()
    }

    fn seqs(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_skipped_and_spoils_no_other() {
        let folder = Folder::new("events-cut");
        let mut file = EventFile::new(&folder.0, Seat::Master);
        file.append(&line(&event(1, Seat::Master, 10))).unwrap();
        drop(file);
        let [_, path] = paths(&folder.0, Seat::Master);
        let mut raw = OpenOptions::new().append(true).open(&path).unwrap();
        raw.write_all(b"{\"seq\":2,\"time_ms\":11,\"se").unwrap();
        let mut file = EventFile::new(&folder.0, Seat::Master);
        file.append(&line(&event(3, Seat::Master, 12))).unwrap();
        assert_eq!(seqs(&read(&folder.0, Seat::Master).unwrap()), [1, 3]);
    }

    #[test]
    fn a_full_file_becomes_the_one_before_and_the_oldest_go() {
        let folder = Folder::new("events-full");
        let mut file = EventFile::new(&folder.0, Seat::Standby);
        let one = line(&event(1_000_000, Seat::Standby, 1)).len() as u64 + 1;
        let in_a_file = FILE_MAX / one;
        for seq in 0..in_a_file * 3 {
            file.append(&line(&event(1_000_000 + seq, Seat::Standby, 1))).unwrap();
        }
        let kept = seqs(&read(&folder.0, Seat::Standby).unwrap());
        assert!(paths(&folder.0, Seat::Standby).iter().all(|path| {
            let length = std::fs::metadata(path).unwrap().len();
            length <= FILE_MAX && length > FILE_MAX - 2 * one
        }));
        assert_eq!(*kept.last().unwrap(), 1_000_000 + in_a_file * 3 - 1);
        assert_eq!(kept.len() as u64, kept.last().unwrap() - kept.first().unwrap() + 1);
    }

    #[test]
    fn both_machines_events_are_merged_by_time_and_shown_once() {
        let folder = Folder::new("events-both");
        let [mut master, mut standby] = Seat::ALL.map(|seat| EventFile::new(&folder.0, seat));
        for seq in [5, 6, 6] {
            master.append(&line(&event(seq, Seat::Master, seq * 10))).unwrap();
        }
        standby.append(&line(&event(100, Seat::Standby, 55))).unwrap();
        assert_eq!(seqs(&read_both(&folder.0).unwrap()), [5, 100, 6]);
    }

    #[test]
    fn a_disk_that_refuses_is_told_and_tried_again() {
        let folder = Folder::new("events-refused");
        std::fs::write(&folder.0, b"a file, not a folder").unwrap();
        let mut file = EventFile::new(&folder.0, Seat::Master);
        assert!(file.append(&line(&event(1, Seat::Master, 10))).is_err());
        std::fs::remove_file(&folder.0).unwrap();
        file.append(&line(&event(2, Seat::Master, 10))).unwrap();
        assert_eq!(seqs(&read(&folder.0, Seat::Master).unwrap()), [2]);
    }
}
