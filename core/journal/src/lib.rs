//! Ordered entries: append, acknowledge, commit, catch up, merge.
//!
//! Architecture invariant: this crate knows no telephony; records are opaque bytes with a class.

mod entry;

pub use entry::{Class, Entry, Known, Op, Record};
