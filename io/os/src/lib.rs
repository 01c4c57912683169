//! What the keeper and the server need from Linux: clock, randomness, real-time priority, virtual
//! addresses, child processes, signals, systemd, small durable files, local sockets.
//!
//! Everything here is blocking and small, for a loop around [`poll`]: prepare at the start, then each
//! call takes microseconds. What the machine refuses comes back as data that says who can change it.
//!
//! Architecture invariant: this crate decides nothing. `unsafe` is in `sys` alone.

pub mod address;
pub mod child;
pub mod clock;
pub mod durable;
pub mod entropy;
pub mod notify;
pub mod poll;
pub mod realtime;
pub mod seqpacket;
pub mod signals;
mod sys;
