//! How a long content is cut: where it is cut depends on what is in it (FastCDC), so that a new version of
//! a file has most of its chunks in common with the one before.

use std::fs::File;
use std::io::{self, Read};

use fastcdc::v2020::StreamCDC;
use serde::{Deserialize, Serialize};

use crate::content::{ContentId, Hasher};
use crate::folder::{FILE_BYTES_MAX, FileError, Folder};

/// A piece of a content.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Chunk {
    /// What it is.
    pub id: ContentId,
    /// Its length.
    pub bytes: u32,
}

/// Lengths, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cuts {
    /// A content shorter than this is sent whole.
    pub whole_below: u64,
    /// The shortest chunk, but for the last one.
    pub least: usize,
    /// What is aimed at.
    pub usual: usize,
    /// The longest chunk.
    pub most: usize,
}

impl Default for Cuts {
    fn default() -> Self {
        const KIB: usize = 1024;
        Self { whole_below: 1024 * 1024, least: 64 * KIB, usual: 256 * KIB, most: 1024 * KIB }
    }
}

/// The longest chunk that is taken from a twin, which may cut otherwise in another version.
pub const CHUNK_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// The most chunks of one content.
pub const CHUNKS_MAX: usize = 65_536;

/// Whether chunks can be those of a content of so many bytes.
pub(crate) fn is_sound(chunks: &[Chunk], bytes: u64) -> bool {
    let each = chunks.iter().all(|chunk| (1..=CHUNK_BYTES_MAX).contains(&chunk.bytes));
    let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
    each && (1..=CHUNKS_MAX).contains(&chunks.len()) && sum == bytes && bytes <= FILE_BYTES_MAX
}

/// A content as it is told to the twin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Telling {
    /// All of it.
    Whole(Vec<u8>),
    /// Its chunks, in their order.
    Recipe(Vec<Chunk>),
}

impl Folder {
    /// A content for the twin, verified.
    ///
    /// # Errors
    ///
    /// It is not here, or damaged.
    pub fn tell(&self, content: ContentId) -> Result<Telling, FileError> {
        let mut file = File::open(self.path(content))?;
        let bytes = file.metadata()?.len();
        let (found, told) = if bytes < self.cuts.whole_below {
            let mut whole = Vec::new();
            file.read_to_end(&mut whole)?;
            (ContentId::of(&whole), Telling::Whole(whole))
        } else {
            let (found, chunks) = cut(file, self.cuts)?;
            (found, Telling::Recipe(chunks))
        };
        if found == content { Ok(told) } else { Err(FileError::Damaged) }
    }
}

/// The name and the chunks of what is read.
pub(crate) fn cut(from: impl Read, cuts: Cuts) -> io::Result<(ContentId, Vec<Chunk>)> {
    let (mut hasher, mut chunks) = (Hasher::default(), Vec::new());
    for piece in StreamCDC::new(from, cuts.least, cuts.usual, cuts.most) {
        let piece = piece.map_err(io::Error::other)?.data;
        hasher.update(&piece);
        let bytes = u32::try_from(piece.len()).map_err(io::Error::other)?;
        chunks.push(Chunk { id: ContentId::of(&piece), bytes });
    }
    Ok((hasher.finish(), chunks))
}
