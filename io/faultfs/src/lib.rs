//! A disk for tests that SQLite writes to and that fails when it is told to. Nothing else may use it.
//!
//! ```text
//!   rusqlite ──> SQLite ──> vfs (C interface) ──> Disk: files in memory, what of them is durable,
//!                                                  │     and what was written since the last sync
//!                                                  ├──> fail(..): a read, write or sync is an error
//!                                                  ├──> room(..): the disk is full
//!                                                  └──> moments(): the files before every step
//!   Moment ──> killed(dice)     ──> Files: the process died there, the system lives
//!          ──> power_cut(dice)  ──> Files: of what was not synced each piece is there, lost or torn
//! ```
//!
//! While a [`Disk`] is there, every file that SQLite opens below its folder is on it, opened by the
//! same code as in production: the file system of this crate is the default one of the process.
//!
//! Invariant: a sync that succeeds is the only thing that makes bytes durable, and a name is durable
//! when its folder was synced.

mod disk;
mod files;
mod locks;
mod vfs;

pub use disk::{Disk, Error, Failure, Moment, On};
pub use files::Files;
