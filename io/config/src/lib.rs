//! The configuration of a pair: users, their logins and numbers, emergency numbers, blocks. Rows in
//! replicated tables; both servers may change them at any time, also while they are apart.
//!
//! ```text
//!   Edit ──> rows ──> op ──> own disk ──┬──> the twin's disk ──> Edited
//!                                       └── (no twin: at once)
//!   the twin's ops ──> own disk ──> Changed(edits): what is different for the server now
//! ```
//!
//! [`Config`] is one value without threads and clocks; what it calls takes as long as a disk takes, so the
//! server gives it a thread of its own. It decides nothing about telephony: whether an edit makes sense
//! has been decided before it comes here.

mod asks;
mod authority;
mod config;
mod document;
mod edits;
mod files;
mod hex;
mod kinds;
mod schema;
mod standing;
mod upkeep;
mod view;

pub use asks::{
    Ask, ChangeRow, ConflictRow, HISTORY_MAX, Told, TwinCheck, ValueRow, Verified, faults,
};
pub use authority::Authority;
pub use config::{Config, Damaged, FILE_NAME, Order, Output, TWIN_WAIT, Work};
pub use files::{
    FILE_CLASSES, FILE_NAME_MAX, FILE_VERSIONS_MAX, FileId, FileNamed, FileRow, FileStanding,
    NewFile,
};
pub use kinds::{ColumnKind, column_kinds};
pub use schema::{MIGRATIONS, SCHEMA};
pub use standing::Standing;
pub use upkeep::{CHECK_PAUSE, VERIFY_WAIT};
