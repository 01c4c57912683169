//! The journal on disk: one SQLite file, one writer, readers beside it.
//!
//! ```text
//!   write(entry, sync, ticket) ──> Queue ──> writer thread: at most 256 writes, one transaction
//!   fetch(lacking, after) ───────> (bounded)      │ synced where one of them wants it
//!                                                 ├──> Stored { ticket }: that one and all before
//!                                                 ├──> Failing / Recovered: full or broken disk
//!                                                 └──> fetch thread ──> Fetched { records, next }
//!                                  checkpoint thread: WAL -> file, beside the commits
//!   Reader: own connection, also from another process
//! ```
//!
//! Invariants: what was reported [`StoreEvent::Stored`] after a write with `sync` survives kill -9 and
//! power loss. An entry is there as a whole or not at all. What the file says is *known* never
//! claims more than it holds: after hot writes were dropped nothing more is learned until the caller
//! says what is known.
//!
//! This crate decides nothing: it does not know what a record means, nor who is active.

pub mod backup;
mod beside;
mod file;
mod queue;
mod reader;
mod retention;
mod seal;
#[cfg(feature = "sabotage")]
mod stepped;
mod store;
mod suspect;
pub mod tables;
mod tidy;
mod writer;

pub use file::{FILE_NAME, OpenError, move_aside};
pub use queue::{BATCH_BYTES, BATCH_WRITES_MAX, LINGER, QUEUE_BYTES_MAX, Refused};
pub use reader::{Ended, ReadError, Reader};
pub use retention::{BITE, Elsewhere, GRACE, Retention};
pub use seal::{Damaged, EndOf};
#[cfg(feature = "sabotage")]
pub use stepped::Stepped;
pub use store::{Loaded, Settings, Store, StoreEvent, WallClock};
pub use suspect::suspected;
#[cfg(feature = "sabotage")]
pub use writer::Sabotage;
