//! SIP endpoints: datagrams and connections in, datagrams and connections out.
//!
//! ```text
//!   bind(virtual address) ──> UDP socket ── reader task ──┐
//!                        └──> TCP listener ── a task a connection ──> NetEvent ──> the server's loop
//!   send(flow, bytes) ──> UDP: at once, or lost           │
//!                    └──> TCP: the flow's connection, opened where there is none
//! ```
//!
//! Nothing here waits for a slow phone: what cannot be sent at once is queued for its connection, up
//! to a limit, or lost, and said so. Every limit on what a stranger may use is in [`Limits`].
//!
//! This crate knows no SIP: where a message ends in a stream is told by the caller's [`Split`].

mod net;
mod socket;
mod tcp;
mod udp;

pub use net::{
    BindError, BoundId, CONNECT_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX,
    FIRST_MESSAGE_MAX, Limits, Net, NetEvent, Piece, QUEUE_BYTES_MAX, SendError, Split,
};
pub use udp::DATAGRAMS_PER_WAKEUP;
