//! Backups of real pairs: made while they run, cut off, damaged, put back on one machine, on both, on a new
//! one; and what becomes of a pair whose files are damaged.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]
#![allow(unreachable_pub, reason = "shared by files of one test, not a crate's interface")]

#[path = "../common/mod.rs"]
mod common;
mod cut;
mod damage;
mod differs;
mod hostile;
mod make;
mod older;
mod refused;
mod restore;
mod suspect;
mod trouble;
