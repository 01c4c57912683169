//! The link between the two servers of a pair: frames, in order within each of a few classes.
//!
//! ```text
//!   standby                                   master
//!   dials for ever  ── QUIC, mutual TLS ──▶   listens
//!                   ◀── hot ━━━━━━━━━━━▶     what calls wait for
//!                   ◀── ops ━━━━━━━━━━━▶     changes of the configuration
//!                   ◀── bulk ━━━━━━━━━━▶     snapshots, files
//! ```
//!
//! [`PairSecret`] is all the two servers share; keys and certificates follow from it. [`Link`] keeps
//! one authenticated connection to the peer and says when it came up, what arrived and when it went
//! down. It knows nothing about what the frames mean. Each [`Class`] has a stream, a queue and a bound of
//! its own: a long file, or one that nobody takes, does not delay the frames that calls wait for.
//!
//! Architecture invariant: sending never waits. A frame is queued or refused; for a hot one that is
//! refused the link is closed because the peer does not keep up. All classes come up and go down
//! together, and nothing of one generation of the link is ever delivered in another.

mod class;
mod code;
mod congestion;
mod connect;
mod event;
mod identity;
mod link;
mod pack;
mod queue;
#[cfg(test)]
mod rogue;
mod secret;
mod serve;
mod stream;
mod tls;

pub use class::Class;
pub use code::CodeError;
pub use event::{DownReason, Events, LinkEvent};
pub use identity::Identity;
pub use link::{Config, Link, StartError};
pub use queue::Unsent;
pub use secret::{PairSecret, WitnessKey};

/// The longest frame, in bytes. A longer one is not sent; one that is announced closes the link.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
