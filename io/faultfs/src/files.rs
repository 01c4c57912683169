//! What is on the disk: for each file what everybody reads, what is durable, and the writes between.

use std::collections::BTreeMap;

use tandem_types::Dice;

/// A disk guarantees to write so many bytes as a whole, or so many, or fewer.
const PIECES: [u64; 3] = [512, 4096, 64];

/// All files of a disk.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub(crate) files: BTreeMap<String, File>,
    /// Deleted, but the folder was not synced since: a power cut may bring them back.
    ghosts: BTreeMap<String, File>,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// What a read finds: the page cache.
    pub(crate) now: Vec<u8>,
    /// What a power cut leaves in any case.
    durable: Vec<u8>,
    /// The way from one to the other.
    unsynced: Vec<Change>,
    /// Whether its name is durable.
    named: bool,
}

/// What changes the bytes of a file.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut { length: usize },
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => put(to, *at, bytes),
            Self::Cut { length } => to.truncate(*length),
        }
    }
}

fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[at..end].copy_from_slice(bytes);
}

/// One call of SQLite that changes something.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write { file: String, at: usize, bytes: Vec<u8> },
    Cut { file: String, length: usize },
    Sync { file: String, folder: bool },
    Make { file: String },
    Delete { file: String, folder: bool },
}

impl Files {
    /// The bytes of a file.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(|file| file.now.as_slice())
    }

    /// Replaces the bytes of a file, which are durable then.
    pub fn set(&mut self, name: &str, bytes: Vec<u8>) {
        let file = File { durable: bytes.clone(), now: bytes, unsynced: Vec::new(), named: true };
        self.files.insert(name.to_owned(), file);
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Bytes of all files together.
    pub(crate) fn length(&self) -> usize {
        self.files.values().map(|file| file.now.len()).sum()
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Write { file, at, bytes } => {
                self.change(file, Change::Write { at: *at, bytes: bytes.clone() });
            }
            Step::Cut { file, length } => self.change(file, Change::Cut { length: *length }),
            Step::Sync { file, folder } => {
                if let Some(file) = self.files.get_mut(file) {
                    // Only what is dirty is written: see `fail_sync`.
                    for change in file.unsynced.drain(..) {
                        change.apply(&mut file.durable);
                    }
                }
                if *folder {
                    self.sync_folder();
                }
            }
            Step::Make { file } => {
                self.files.entry(file.clone()).or_default();
            }
            Step::Delete { file, folder } => {
                if let Some(gone) = self.files.remove(file)
                    && gone.named
                {
                    self.ghosts.insert(file.clone(), gone);
                }
                if *folder {
                    self.sync_folder();
                }
            }
        }
    }

    fn change(&mut self, file: &str, change: Change) {
        if let Some(file) = self.files.get_mut(file) {
            change.apply(&mut file.now);
            file.unsynced.push(change);
        }
    }

    fn sync_folder(&mut self) {
        self.ghosts.clear();
        for file in self.files.values_mut() {
            file.named = true;
        }
    }

    /// A sync of this file failed. The system believes from here on that it has written everything: what
    /// has reached the disk is left to the dice, and no later sync repeats it. Reads find what was
    /// written until it `forgets`; then they find what is on the disk.
    pub(crate) fn fail_sync(&mut self, name: &str, forgets: bool, dice: &mut Dice) {
        if let Some(file) = self.files.get_mut(name) {
            file.durable = file.after_power_cut(dice);
            file.unsynced.clear();
            if forgets {
                file.now.clone_from(&file.durable);
            }
        }
    }

    /// The process was killed in the middle of this step: the system keeps what it was given, and of the
    /// last write a part.
    pub(crate) fn killed_in(mut self, step: Option<&Step>, dice: &mut Dice) -> Self {
        if let Some(Step::Write { file, at, bytes }) = step {
            let part = usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap_or(0);
            let bytes = bytes[..part].to_vec();
            self.apply(&Step::Write { file: file.clone(), at: *at, bytes });
        }
        self
    }

    /// The machine lost its power in the middle of this step.
    pub(crate) fn power_cut_in(mut self, step: Option<&Step>, dice: &mut Dice) -> Self {
        // What the step would have done may have reached the disk, but it has promised nothing.
        match step {
            Some(Step::Sync { .. }) | None => {}
            Some(Step::Delete { file, .. }) => {
                self.apply(&Step::Delete { file: file.clone(), folder: false });
            }
            Some(step @ (Step::Write { .. } | Step::Cut { .. } | Step::Make { .. })) => {
                self.apply(step);
            }
        }
        let mut after = Self::default();
        for (name, file) in &self.files {
            if file.named || dice.chance(50) {
                after.set(name, file.after_power_cut(dice));
            }
        }
        for (name, ghost) in &self.ghosts {
            if !after.files.contains_key(name) && dice.chance(50) {
                after.set(name, ghost.after_power_cut(dice));
            }
        }
        after
    }
}

impl File {
    fn after_power_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        // Now and then everything is lost, or nothing, or all but one thing.
        let percent = [0, 10, 50, 90, 100][usize::try_from(dice.below(5)).unwrap_or(0)];
        let piece = PIECES[usize::try_from(dice.below(PIECES.len() as u64)).unwrap_or(0)];
        let piece = usize::try_from(piece).unwrap_or(512);
        for change in &self.unsynced {
            match change {
                Change::Cut { .. } if dice.chance(percent) => change.apply(&mut bytes),
                Change::Cut { .. } => {}
                Change::Write { at, bytes: written } => {
                    keep_pieces(&mut bytes, *at, written, piece, percent, dice);
                }
            }
        }
        // The length is kept somewhere else than the bytes: either may be older than the other.
        match dice.below(4) {
            0 => bytes.truncate(self.durable.len()),
            1 if bytes.len() < self.now.len() => bytes.resize(self.now.len(), 0),
            _ => {}
        }
        bytes
    }
}

/// Of a write, the pieces that have reached the disk before the power went.
fn keep_pieces(
    to: &mut Vec<u8>,
    at: usize,
    written: &[u8],
    piece: usize,
    percent: u64,
    dice: &mut Dice,
) {
    let mut from = 0;
    while from < written.len() {
        let end = (from + piece - (at + from) % piece).min(written.len());
        if dice.chance(percent) {
            put(to, at + from, &written[from..end]);
        } else if dice.chance(10) {
            // Torn: it begins new and ends old.
            let torn = usize::try_from(dice.below((end - from) as u64)).unwrap_or(0);
            put(to, at + from, &written[from..from + torn]);
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: usize, bytes: &[u8]) -> Step {
        Step::Write { file: "a".to_owned(), at, bytes: bytes.to_vec() }
    }

    fn made() -> Files {
        let mut files = Files::default();
        files.apply(&Step::Make { file: "a".to_owned() });
        files.apply(&write(0, &[1; 2_000]));
        files.apply(&Step::Sync { file: "a".to_owned(), folder: true });
        files
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_is_kept_lost_or_torn() {
        let mut files = made();
        files.apply(&write(1_000, &[2; 3_000]));
        let (mut whole, mut none, mut part) = (0, 0, 0);
        for seed in 0..200 {
            let mut dice = Dice::from_number(seed);
            let after = files.clone().power_cut_in(None, &mut dice);
            let bytes = after.bytes("a").unwrap();
            assert_eq!(bytes[..1_000], [1; 1_000], "seed {seed}");
            assert!(bytes.len() >= 2_000 && bytes.len() <= 4_000);
            match bytes[1_000..].iter().filter(|byte| **byte == 2).count() {
                0 => none += 1,
                3_000 => whole += 1,
                _ => part += 1,
            }
        }
        assert!(whole > 10 && none > 10 && part > 50, "{whole} {none} {part}");
        let killed = files.clone().killed_in(None, &mut Dice::from_number(1));
        assert_eq!(killed.bytes("a").unwrap()[1_000..], [2; 3_000]);
    }

    #[test]
    fn a_name_is_durable_when_its_folder_was_synced() {
        let mut files = made();
        files.apply(&Step::Make { file: "b".to_owned() });
        files.apply(&Step::Sync { file: "b".to_owned(), folder: false });
        files.apply(&Step::Delete { file: "a".to_owned(), folder: false });
        let cut = |seed| files.clone().power_cut_in(None, &mut Dice::from_number(seed));
        let count = |name| (0..100).filter(|seed| cut(*seed).bytes(name).is_some()).count();
        assert!((20..80).contains(&count("a")) && (20..80).contains(&count("b")));
        files.apply(&Step::Sync { file: "b".to_owned(), folder: true });
        for seed in 0..20 {
            let after = files.clone().power_cut_in(None, &mut Dice::from_number(seed));
            assert_eq!(after.names().collect::<Vec<_>>(), ["b"]);
        }
    }

    #[test]
    fn a_sync_that_failed_is_not_made_good_by_one_that_succeeds() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut files = made();
            files.apply(&write(0, &[3; 2_000]));
            files.fail_sync("a", false, &mut Dice::from_number(seed));
            assert_eq!(files.bytes("a").unwrap(), [3; 2_000], "reads do not tell");
            files.apply(&Step::Sync { file: "a".to_owned(), folder: true });
            let after = files.power_cut_in(None, &mut Dice::from_number(seed));
            lost += usize::from(after.bytes("a").unwrap() != [3; 2_000]);
        }
        assert!(lost > 20 && lost < 50, "{lost}");
    }
}
