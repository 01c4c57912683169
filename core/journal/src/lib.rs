//! Ordered entries: append, acknowledge, commit, catch up, merge.
//!
//! Architecture invariant: this crate knows no telephony; records are opaque bytes with a class.

mod entry;
mod frame;
mod journal;
mod replica;

pub use entry::{Class, Entry, Known, Op, Record};
pub use frame::{CHUNK_BYTES, CHUNK_RECORDS_MAX, Cursor, FRAME_VERSION, Frame, FrameError, TICK};
pub use journal::{
    ACK_WAIT, FETCH_WAIT, Journal, MORE_WAIT, Output, STORING_MAX, UNSTORED_MAX, Write,
};
