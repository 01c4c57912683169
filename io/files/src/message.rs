//! What the two servers say to each other about files.

use serde::{Deserialize, Serialize};

use crate::content::ContentId;
use crate::recipe::Chunk;

/// First byte of every message: the version of the encoding, and what tells it from others that travel on
/// the same stream.
pub const MARK: u8 = 0xf1;

/// The key of a row that names a content: a UUID of version 7, so the oldest come first.
pub type RowId = [u8; 16];

/// A message.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// These rows are known here, and what they name is whole on this disk.
    Have {
        /// What was said before on this link is void.
        first: bool,
        /// All has been said; what comes now is what is new.
        last: bool,
        /// Them.
        rows: Vec<(RowId, ContentId)>,
    },
    /// That is not so any more.
    Gone(Vec<(RowId, ContentId)>),
    /// Send this content: answered by `Whole`, `Recipe` or `Lack`.
    Want(ContentId),
    /// A short content.
    Whole {
        /// Its name.
        content: ContentId,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// The chunks of a long content, in their order.
    Recipe {
        /// Its name.
        content: ContentId,
        /// Them.
        chunks: Vec<Chunk>,
    },
    /// Send this part: answered by `Part` or `Lack`. Not more than the longest chunk.
    Fetch {
        /// Of this content.
        content: ContentId,
        /// From here on.
        offset: u64,
        /// So many.
        bytes: u32,
    },
    /// A part.
    Part {
        /// Of this content.
        content: ContentId,
        /// From here on.
        offset: u64,
        /// Them.
        bytes: Vec<u8>,
    },
    /// It is not here.
    Lack(ContentId),
    /// What came of it was not what was asked for: look whether yours is damaged.
    Doubt(ContentId),
    /// Nobody has named these here for long: may they go?
    MayDrop(Vec<ContentId>),
    /// These may, of those that were asked about.
    Drop(Vec<ContentId>),
}

impl Message {
    /// The mark, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        postcard::to_extend(self, vec![MARK]).unwrap_or_default()
    }

    /// Reads a message; `None` for bytes that are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&MARK, rest)) => postcard::from_bytes(rest).ok(),
            Some(_) | None => None,
        }
    }
}
