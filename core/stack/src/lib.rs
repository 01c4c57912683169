//! SIP transactions, dialogs and stream framing as one value: RFC 3261 §12, §17, §18 with RFC 6026
//! (INVITE), RFC 3581 (where responses go) and RFC 5626 §3.5.1 (keep-alives).
//!
//! ```text
//!              handle_bytes, handle_timeout, handle_flow_failed
//!   network ------------------------------------------------------> +-------+
//!           <------------------------------ poll_transmit --------- | Stack | <--> checkpoint,
//!                                                                   +-------+      restore
//!   transaction user <--------------------- poll_event -------------   ^  ^
//!           '------ request, respond, cancel, acknowledge -------------'  '------ next_timeout
//! ```
//!
//! How it is used: after *one* input (`handle_*`, or something of the transaction user) drain
//! [`Stack::poll_event`] (the answers to events are inputs too) until it is empty; then write the
//! records of [`Stack::take_changes`] by [`Stack::checkpoint`]; then take [`Stack::poll_transmit`],
//! and hold each message back until those records are safe. A [`Transmit::repeat`] may be dropped
//! while the message it repeats is still held. [`Transmit::transaction`] is `None` for answers
//! that rest on no state.
//!
//! * Server side: [`Event::Request`] is answered by [`Stack::respond`], once or more with 1xx and
//!   once for good. [`make_response`] copies what every response must have. 2xx to INVITE are
//!   repeated here until [`Event::Ack`] or [`Event::NoAck`]. CANCEL is answered here; the INVITE
//!   gets its 487 from the transaction user on [`Event::Cancelled`]. 400, 481 (CANCEL), 482, 483,
//!   503 (limits) are answered here, without a transaction.
//! * Client side: [`Stack::request`] adds the Via; [`Event::Response`] or [`Event::Failed`] follow.
//!   2xx to INVITE want [`Stack::acknowledge`]; ACK for others is sent here.
//! * Takeover: [`Stack::restore`] each record; then requests that were not answered yet can be had
//!   again from [`Stack::server_request`].
//! * [`Dialog`] is a plain value the transaction user keeps; [`Framer`] cuts TCP streams.
//!
//! One file per state machine of the RFC, named as the RFC names it.
//!
//! Architecture invariant: this crate knows no user, registration or call, and reads no clock. What
//! a stranger sends is bounded: transactions by [`Config`], answers without one by the second, and
//! what one message can set off by a constant.

mod answer;
mod dialog;
mod framing;
mod id;
mod invite_client;
mod invite_server;
mod machine;
mod matching;
mod non_invite_client;
mod non_invite_server;
mod ports;
mod receive;
mod send;
mod stack;
mod survive;
mod timing;

pub use answer::{DEFAULT_PORT, make_response};
pub use dialog::{CSEQ_MAX, Dialog, DialogError, DialogId};
pub use framing::{Frame, FrameError, Framer, MAX_BODY_BYTES, MAX_HEAD_BYTES, PONG};
pub use id::{ClientId, ServerId, TransactionId};
pub use invite_client::MAX_FORKS;
pub use machine::{FailReason, RespondError};
pub use ports::{
    Config, Counters, Event, MAX_CLIENTS, MAX_PER_SOURCE, MAX_SERVERS, MAX_STATELESS_PER_SECOND,
    RETRY_AFTER, Transmit,
};
pub use stack::Stack;
pub use survive::Checkpoint;
pub use timing::{LIFE, T1, T2, T4};
