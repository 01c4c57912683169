//! The stack as its user and the network see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod limits;
mod rules;
mod survive;
mod user;
