//! Files of a pair: announcements, voicemail, recordings, fax, firmware, certificates. A file is known by
//! what is in it (BLAKE3), lies under that name, and never changes; what it is called, and for what it is
//! there, are rows of the configuration. Both servers have all contents that a row names.
//!
//! ```text
//!   a user's file ──> Folder::stage ──┐ rename                      ┌── Send ──> link (bulk)
//!   rows that name contents ──────────┼──> Files = Folder + Exchange┤
//!   the twin's messages ──────────────┘                             └── Fact ──> log
//!
//!   <state>/files/4f/4fa1...   contents, whole and verified       damaged/4fa1...   not what they should be
//!                 incoming/    what is on its way here            unnamed           since when nobody names it
//!                                                                 scrub             how far all was read again
//! ```
//!
//! [`Files`] is one value without threads and clocks; what it calls takes as long as a disk takes, so the
//! server gives it a thread of its own. [`Exchange`] is the part of it that thinks: it knows no disk.
//!
//! Invariant: what has a content's name was that content when it got it. It is written elsewhere,
//! verified, synced, and then renamed.

mod content;
mod exchange;
mod files;
mod folder;
mod message;
mod partial;
mod recipe;
mod scrub;
mod status;
mod unnamed;
mod verify;

pub use content::{ContentId, Hasher};
pub use exchange::{
    DROPS_MAX, Exchange, Fact as ExchangeFact, Lacking, Named, Output as ExchangeOutput, RETRY,
    ROWS_MAX, STALL, WANTS_MAX, WINDOW_BYTES,
};
pub use files::{COLLECT_PAUSE, Fact, Files, KEPT_UNNAMED, Output};
pub use folder::{FILE_BYTES_MAX, FileError, Folder, ROOM_KEPT_BYTES, Staged, check_length};
pub use message::{MARK, Message, RowId};
pub use partial::{Finished, Kept, Plan};
pub use recipe::{CHUNK_BYTES_MAX, CHUNKS_MAX, Chunk, Cuts, Telling};
pub use scrub::{SCRUB_PAUSE, SCRUB_STEP, SCRUB_STEP_BYTES, ScrubStatus};
pub use status::{Amount, ClassStatus, UnderWay};
pub use verify::{Report, verify_all};

/// Name of the folder in the state folder.
pub const FOLDER_NAME: &str = "files";
