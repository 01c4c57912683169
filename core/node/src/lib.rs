//! The server as one value: messages, leases, frames and time in; messages, frames, writes out.
//!
//! ```text
//!            +------------------------------- Node --------------------------------+
//!  Bytes --> | stack -> registrar / dialplan -> calls -> stack                     |
//!            |     what changed -> records -> journal entry -> twin, store         |
//!  Transmit <-- outbox <------------------------ committed                         |
//!            +---------------------------------------------------------------------+
//! ```
//!
//! Every input is one journal entry at most. Every message that results from it waits in the
//! outbox until that entry, and all before it, are on the twin (alone: on the local disk).
//!
//! A passive node keeps its twin's records unread. It reads them when it becomes active.
//!
//! Architecture invariant: the only crate that knows all of core; it touches nothing outside.

mod act;
mod admin;
mod asked;
mod begin;
mod block;
mod calls;
mod facts;
mod failing;
mod hand_over;
mod holdings;
mod live;
mod node;
mod outbox;
mod ports;
mod record;
mod register;
mod sample;
mod serve;
mod takeover;
mod talk;

pub use admin::{PASSWORD_MIN, RETENTION_DAYS_MAX};
pub use block::{BLOCK_REASON_MAX, BLOCK_SECONDS_MAX, BlockRow, REFUSED_PAUSE};
pub use node::Node;
pub use record::{
    BINDING_PREFIX, CDR_PREFIX, CallEvents, EVENTS_PREFIX, RECORD_VERSION, end_of_record, is_newer,
    read_cdr, read_events,
};
pub use tandem_dialplan::{BlockSetting, Blockable, Edit};

pub use facts::Fact;
pub use holdings::Holdings;
#[cfg(feature = "sabotage")]
pub use ports::Sabotage;
pub use ports::{
    CallRow, Config, DeviceRow, Digest, EmergencyRow, Input, NewPassword, Output, Reply, Request,
    Standing, Status, UserRow,
};
