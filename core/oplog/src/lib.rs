//! Replicated tables that both servers may write at any time: changes as ops, their clock, and which
//! of two values wins.
//!
//! ```text
//!   a transaction ──> Op { origin, number, stamp, seen, changes } ──> own log ──> the other server
//!                                                                                     │ in order
//!                       Row: for every column the writes that nobody who wrote        v of each origin
//!                       later had seen; the newest is the value, the others     <── take
//!                       are kept where an administrator finds them
//! ```
//!
//! Invariant: two servers that have taken the same ops, in whatever order of origins, hold the same
//! rows, values that lost included; taking an op twice changes nothing.
//!
//! Architecture invariant: this crate does not know what a table is about, nor where it is stored.

mod check;
mod clock;
mod copy;
mod fact;
mod fetch;
mod message;
mod op;
mod row;
mod schema;
mod skew;
mod sync;

pub use check::{BUCKETS, BucketDigest, Check, CheckEnd, Claim, Decision, Grade, Mended, decide};
pub use clock::{Clock, HLC_COUNTER_MAX, HLC_MILLIS_MAX, Hlc};
pub use copy::{CopyHash, CopyHeader, CopyItem, CopyPart, Progress, Staged};
pub use fact::{Fact, WaitsFor};
pub use message::{ABLE_VERSION, Message, SYNC_VERSION};
pub use op::{
    Chain, Change, KEY_BYTES_MAX, OP_BYTES_MAX, OP_CHANGES_MAX, OP_VERSION, Op, OpError, OpId,
    Origin, Seen, Value, Written,
};
pub use row::{Cell, ROW_VERSION, Row, Version};
pub use schema::{Column, ColumnId, DELETED, Schema, SchemaFault, Table, TableId};
pub use skew::{APART_MILLIS, CLOCK_PAUSE, FAR_MILLIS, Skew};
pub use sync::{CHAINS_MAX, Compared, Output, PART_BYTES, Start, Sync, TAKE_BYTES, WINDOW_BYTES};
