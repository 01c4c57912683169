//! Small files that survive a crash: either the old content or the new, never a mixture.
//!
//! [`replace`] is for files people read (write aside, sync, rename, sync the folder: four waits for the
//! disk). [`SlotFile`] is for a value that a takeover waits for, such as the epoch: one wait.
//!
//! ```text
//!   0                512        4096             4608
//!   │ slot 0: newest │  ···     │ slot 1: before │        each: mark, CRC, counter, length, value
//!         ▲ save writes the slot that does not hold the newest value, then syncs
//!           settle makes both the same, off the critical path: then one rotten slot costs nothing
//! ```
//!
//! Invariant: a value whose save returned is found again, or the file is reported as damaged.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces the file at `path` as a whole. Only this user may read it.
///
/// # Errors
/// The old content is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// A file with one small value, kept twice.
#[derive(Debug)]
pub struct SlotFile {
    file: File,
    /// The slot with the newest value.
    newest: usize,
    counter: u64,
    value: Vec<u8>,
    /// Both slots hold the newest value.
    settled: bool,
}

impl SlotFile {
    /// Opens the file at `path` and gives its value; makes it with `initial` if there is none.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] if the file holds no whole value. It is left as it is: an administrator
    /// has to decide.
    ///
    /// # Panics
    /// If `initial` is longer than [`MAX_VALUE_BYTES`].
    pub fn open(path: &Path, initial: &[u8]) -> Result<Self, OpenError> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut content = vec![0; SLOT_OFFSETS[1] as usize];
                let slot = encode(1, initial);
                content[..SLOT_BYTES].copy_from_slice(&slot);
                content.extend_from_slice(&slot);
                replace(path, &content)?;
                OpenOptions::new().read(true).write(true).open(path)?
            }
            Err(error) => return Err(error.into()),
        };
        let mut content = Vec::new();
        Read::by_ref(&mut file).take(MAX_FILE_BYTES).read_to_end(&mut content)?;
        let slots = SLOT_OFFSETS.map(|offset| decode(content.get(offset as usize..)));
        let (newest, counter, value, settled) = match slots {
            [Some((first, _)), Some((second, value))] if second > first => {
                (1, second, value, false)
            }
            [Some((first, value)), second] => {
                let settled = second.is_some_and(|(second, _)| second == first);
                (0, first, value, settled)
            }
            [None, Some((second, value))] => (1, second, value, false),
            [None, None] => return Err(OpenError::Damaged(path.to_owned())),
        };
        let mut opened = Self { file, newest, counter, value, settled };
        opened.settle()?;
        Ok(opened)
    }

    /// The value that was saved last.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Saves a value: on the disk when this returns.
    ///
    /// # Errors
    /// Which of the two values will be found later is then open; the old one counts.
    ///
    /// # Panics
    /// If the value is longer than [`MAX_VALUE_BYTES`].
    pub fn save(&mut self, value: &[u8]) -> io::Result<()> {
        let slot = encode(self.counter + 1, value);
        let target = 1 - self.newest;
        // Whatever happens now, `target` can no longer be relied on.
        self.settled = false;
        self.file.write_all_at(&slot, SLOT_OFFSETS[target])?;
        self.file.sync_data()?;
        self.newest = target;
        self.counter += 1;
        value.clone_into(&mut self.value);
        Ok(())
    }

    /// Makes the second copy, if it is not made yet. To be called when there is time.
    ///
    /// # Errors
    /// The value is saved all the same, once.
    pub fn settle(&mut self) -> io::Result<()> {
        if !self.settled {
            let slot = encode(self.counter, &self.value);
            self.file.write_all_at(&slot, SLOT_OFFSETS[1 - self.newest])?;
            self.file.sync_data()?;
            self.settled = true;
        }
        Ok(())
    }
}

/// Why a [`SlotFile`] cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// It holds no whole value: garbage, or cut off.
    Damaged(PathBuf),
    /// What the system says.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(path) => {
                write!(f, "{} is damaged: it holds no whole value", path.display())
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A slot: mark, CRC-32 of the rest, counter, length, value, zeros; numbers little-endian.
fn encode(counter: u64, value: &[u8]) -> [u8; SLOT_BYTES] {
    assert!(value.len() <= MAX_VALUE_BYTES, "a slot holds {MAX_VALUE_BYTES} bytes");
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(MARK);
    slot[8..16].copy_from_slice(&counter.to_le_bytes());
    slot[16..18].copy_from_slice(&(value.len() as u16).to_le_bytes());
    slot[HEAD_BYTES..HEAD_BYTES + value.len()].copy_from_slice(value);
    let sum = crc32(&slot[8..]);
    slot[4..8].copy_from_slice(&sum.to_le_bytes());
    slot
}

/// Counter and value of the slot that `bytes` begin with, if it is whole.
fn decode(bytes: Option<&[u8]>) -> Option<(u64, Vec<u8>)> {
    let slot: &[u8; SLOT_BYTES] = bytes?.first_chunk()?;
    let (head, rest) = slot.split_at(8);
    let sum = crc32(rest).to_le_bytes();
    if head[..4] != *MARK || head[4..] != sum {
        return None;
    }
    let counter = u64::from_le_bytes(*rest.first_chunk()?);
    let length = usize::from(u16::from_le_bytes([rest[8], rest[9]]));
    Some((counter, rest.get(10..10 + length)?.to_vec()))
}

/// CRC-32 as in Ethernet and zip (reflected, polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

/// One sector: what a disk writes as a whole, mostly.
const SLOT_BYTES: usize = 512;
/// In different blocks, so that one torn write cannot hit both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const HEAD_BYTES: usize = 18;
/// The longest value of a [`SlotFile`].
pub const MAX_VALUE_BYTES: usize = SLOT_BYTES - HEAD_BYTES;
/// Nothing of ours is longer.
const MAX_FILE_BYTES: u64 = 8192;
const MARK: &[u8; 4] = b"TDMs";

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("tandem-durable-{}-{test}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("epoch")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn read(path: &Path) -> Vec<u8> {
        SlotFile::open(path, b"initial").unwrap().value().to_vec()
    }

    fn spoil(path: &Path, slot: usize, from: usize, length: usize) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&vec![0xa5; length], SLOT_OFFSETS[slot] + from as u64).unwrap();
    }

    #[test]
    fn crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_value_is_found_again() {
        let folder = Folder::new("again");
        assert_eq!(read(&folder.file()), b"initial");
        for number in 0..5_u8 {
            let mut file = SlotFile::open(&folder.file(), b"").unwrap();
            file.save(&[number; 9]).unwrap();
            assert_eq!(file.value(), [number; 9]);
            drop(file);
            assert_eq!(read(&folder.file()), [number; 9]);
        }
    }

    #[test]
    fn the_longest_value_fits_and_an_empty_one_too() {
        let folder = Folder::new("longest");
        let mut file = SlotFile::open(&folder.file(), &[]).unwrap();
        file.save(&[7; MAX_VALUE_BYTES]).unwrap();
        assert_eq!(read(&folder.file()), [7; MAX_VALUE_BYTES]);
        file.save(&[]).unwrap();
        assert_eq!(read(&folder.file()), []);
    }

    /// A crash leaves any part of the new slot; the rest is as before.
    #[test]
    fn a_save_that_was_cut_off_leaves_the_old_value() {
        let folder = Folder::new("cut");
        for settled in [false, true] {
            for length in [1, 4, 7, 16, 100, SLOT_BYTES] {
                let mut file = SlotFile::open(&folder.file(), b"").unwrap();
                file.save(b"old").unwrap();
                if settled {
                    file.settle().unwrap();
                }
                spoil(&folder.file(), 1 - file.newest, 0, length);
                drop(file);
                assert_eq!(read(&folder.file()), b"old");
            }
        }
    }

    /// Until it is settled, the newest value stands in one slot only.
    #[test]
    fn a_save_does_not_touch_the_only_copy_of_the_value_before() {
        let folder = Folder::new("only");
        let mut file = SlotFile::open(&folder.file(), b"").unwrap();
        for number in 0..5_u8 {
            file.save(&[number]).unwrap();
            let before = file.newest;
            file.save(&[number, number]).unwrap();
            let content = fs::read(folder.file()).unwrap();
            let slot = decode(content.get(SLOT_OFFSETS[before] as usize..)).unwrap();
            assert_eq!(slot.1, [number]);
        }
    }

    #[test]
    fn a_settled_value_survives_a_rotten_slot() {
        let folder = Folder::new("rotten");
        for slot in [0, 1] {
            let mut file = SlotFile::open(&folder.file(), b"").unwrap();
            file.save(b"before").unwrap();
            file.save(b"now").unwrap();
            file.settle().unwrap();
            drop(file);
            spoil(&folder.file(), slot, 20, 1);
            assert_eq!(read(&folder.file()), b"now");
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_value() {
        let folder = Folder::new("garbage");
        let contents = [
            Vec::new(),
            b"7M".to_vec(),
            vec![0; 5000],
            vec![0xff; 5000],
            encode(3, b"x")[..511].to_vec(),
        ];
        for content in contents {
            replace(&folder.file(), &content).unwrap();
            let opened = SlotFile::open(&folder.file(), b"initial");
            assert!(matches!(opened, Err(OpenError::Damaged(_))), "{content:?}");
            assert_eq!(fs::read(folder.file()).unwrap(), content, "it was left as it is");
        }
    }

    #[test]
    fn every_flipped_bit_of_the_only_slot_is_noticed() {
        let slot = encode(3, b"epoch 9M");
        for bit in 0..SLOT_BYTES * 8 {
            let mut flipped = slot;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(Some(&flipped)), None, "bit {bit}");
        }
        assert_eq!(decode(Some(&slot)), Some((3, b"epoch 9M".to_vec())));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("replace");
        replace(&folder.file(), b"a long first content").unwrap();
        replace(&folder.file(), b"short").unwrap();
        assert_eq!(fs::read(folder.file()).unwrap(), b"short");
        assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        assert!(replace(&folder.0.join("missing/file"), b"").is_err());
    }
}
