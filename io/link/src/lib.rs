//! The journal link: one ordered stream of frames between the two servers of a pair.
//!
//! ```text
//!   standby                                   master
//!   dials for ever  ── QUIC, mutual TLS ──▶   listens
//!                   ◀── frames both ways ──▶
//! ```
//!
//! [`PairSecret`] is all the two servers share; keys and certificates follow from it. [`Link`] keeps
//! one authenticated connection to the peer and says when it came up, what arrived and when it went
//! down. It knows nothing about what the frames mean.
//!
//! Architecture invariant: sending never waits. A frame is queued, or the link is closed because the
//! peer does not keep up. Nothing of one generation of the link is ever delivered in another.

mod code;
mod connect;
mod event;
mod identity;
mod link;
mod queue;
#[cfg(test)]
mod rogue;
mod secret;
mod serve;
mod tls;

pub use code::CodeError;
pub use event::{DownReason, Events, LinkEvent};
pub use identity::Identity;
pub use link::{Config, Link, StartError};
pub use queue::Unsent;
pub use secret::{PairSecret, WitnessKey};

/// The longest frame, in bytes. A longer one is not sent; one that is announced closes the link.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// What may wait to be sent, in bytes. Beyond, the link is closed: it comes back with a catch-up.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// What may have arrived without being taken by [`Events::recv`], in bytes. Beyond, the peer has to
/// wait (the transport's flow control), never the memory of this process.
pub const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
