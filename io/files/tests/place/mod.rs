//! A folder of a test's own, and what to put in it.

// Each test uses its part.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod pair;

use std::path::PathBuf;

use tandem_files::{Chunk, ContentId, Cuts, Folder};
use tandem_types::Dice;

/// Lengths with which a short file has many chunks.
pub(crate) const SMALL: Cuts = Cuts { whole_below: 1_000, least: 64, usual: 256, most: 1_024 };

/// Removed with all that is in it when it is dropped.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        // In memory where that is possible: these tests sync often.
        let memory = PathBuf::from("/dev/shm");
        let temporary = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = temporary.join(format!("tandem-files-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("files")
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder::open(&self.root()).unwrap().with(SMALL, |_| Ok(u64::MAX))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    Dice::from_number(seed).fill(&mut noise);
    noise
}

/// Chunks of one length.
pub(crate) fn cut_in(bytes: &[u8], each: usize) -> Vec<Chunk> {
    let chunk =
        |part: &[u8]| Chunk { id: ContentId::of(part), bytes: u32::try_from(part.len()).unwrap() };
    bytes.chunks(each).map(chunk).collect()
}
