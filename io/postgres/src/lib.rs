//! PostgreSQL as the place where a pair that has grown keeps its configuration and its call records.
//!
//! ```text
//!   an edit ──> op ──> PostgreSQL ──> the own file (a cache from then on) ──> done
//!                         │  ^
//!   others' ops <─────────┘  └── records, read from the journal of this machine: the spool
//! ```
//!
//! [`Worker`] is a thread that keeps one connection to whichever of the hosts is writable. Nobody waits
//! for it but who makes an edit, and that one not for long. [`Database`] is the connection itself, for
//! commands that copy everything.
//!
//! Invariants: what [`Database::take`] or [`Database::put`] returned `Ok` for is committed there. Both may be
//! repeated without any harm: an op has a name, and so has a record.
//!
//! This crate does not know what a row or a record is about: its caller says what is to be read in it.

mod access;
mod copy;
mod database;
mod ops;
mod records;
mod schema;
mod tls;
mod trouble;
mod worker;

pub use access::{Access, AccessError};
pub use copy::Outgoing;
pub use database::{Database, PATIENCE};
pub use ops::Digests;
pub use records::{BATCH_RECORDS, CdrColumns, Described, Tally};
pub use schema::{ColumnKind, MIGRATIONS, Setup};
pub use trouble::Trouble;
pub use worker::{Here, Line, Report, Spool, Standing, State, Stored, Worker};
