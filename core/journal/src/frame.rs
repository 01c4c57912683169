//! What the two servers say to each other on the journal link.

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Role, Seat, Stamp};

use crate::entry::{Entry, Known, Record};

/// Version of [`Frame`]'s encoding: the first byte of every frame.
pub const FRAME_VERSION: u8 = 1;

/// One message on the link. Frames arrive in the order sent, or the link is down.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Frame {
    /// Who speaks. The passive one sends it when the link comes up or its role changes; the active
    /// one answers with its own, and sends it unasked when it becomes active.
    Hello {
        /// The speaker's seat; our own seat here means a copied configuration.
        seat: Seat,
        /// The speaker's role.
        role: Role,
        /// The reign it serves in, or the highest it has seen.
        epoch: Epoch,
        /// What it has of each reign.
        known: Known,
    },
    /// Passive to active: "my tail follows, then bring me up to date". Answers the active's Hello.
    Join {
        /// The reign that is joined: the one of the Hello.
        epoch: Epoch,
        /// Names this catch-up; frames of an earlier one are ignored.
        join: u32,
        /// What the passive has of each reign.
        known: Known,
    },
    /// Records the receiver lacks; one such frame at a time is on its way.
    Records {
        /// The catch-up this belongs to.
        join: u32,
        /// The records. Of two versions of one key the later stamp wins.
        records: Vec<Record>,
    },
    /// The last [`Frame::Records`] was taken: send the next.
    More {
        /// The catch-up this belongs to.
        join: u32,
    },
    /// Passive to active: the tail is complete.
    TailDone {
        /// The catch-up this belongs to.
        join: u32,
    },
    /// Active to passive: with this and the entries that were sent meanwhile you have everything.
    CaughtUp {
        /// The catch-up this belongs to.
        join: u32,
        /// What the passive has from now on.
        known: Known,
    },
    /// Active to passive: one entry, in order.
    Entry(Entry),
    /// Passive to active: every entry up to this one is in memory here.
    Ack(Stamp),
    /// Both ways, at [`crate::TICK`]: a sign of life.
    Tick {
        /// The speaker's role.
        role: Role,
        /// The reign it serves in, or the highest it has seen.
        epoch: Epoch,
        /// Whether it serves phones at this moment.
        serving: bool,
    },
    /// Something for the layer above, unread here.
    Aside(Vec<u8>),
}

impl Frame {
    /// A version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        let start = vec![FRAME_VERSION];
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        postcard::to_extend(self, start).unwrap_or_default()
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// Another version, or bytes that are no frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        match bytes.split_first() {
            None => Err(FrameError::Empty),
            Some((&FRAME_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|_| FrameError::Garbage)
            }
            Some((&other, _)) => Err(FrameError::Version(other)),
        }
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// No byte at all.
    Empty,
    /// A version this server does not speak.
    Version(u8),
    /// Not a frame.
    Garbage,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty frame"),
            Self::Version(version) => {
                write!(f, "a frame of version {version}; this server speaks {FRAME_VERSION}")
            }
            Self::Garbage => f.write_str("a frame that cannot be read"),
        }
    }
}

/// Where a read of log records from the store goes on: after this stamp and key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cursor(pub Option<(Stamp, Vec<u8>)>);

/// Pause between signs of life on the link.
pub const TICK: Duration = Duration::from_millis(20);

/// Records in one [`Frame::Records`] at most.
pub const CHUNK_RECORDS_MAX: usize = 512;

/// Bytes of record bodies in one [`Frame::Records`], after which no further record is added.
pub const CHUNK_BYTES: usize = 256 * 1024;
