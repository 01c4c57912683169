//! Asks for the vote of a third machine: a witness over UDP, or an etcd cluster.
//!
//! ```text
//!  keeper's loop ── ask, release ──> Lease ── UDP ────────────────> tandem witness
//!       ▲                              │  └── a thread ── HTTP ──> etcd
//!       └── poll on its descriptor <───┘
//! ```
//!
//! Nothing here ever blocks the loop that calls it: names are looked up and HTTP is spoken in threads.
//!
//! Architecture invariant: this crate decides neither when a vote is asked for nor what it allows.

mod bell;
mod etcd;
mod resolver;
mod witness;

use std::os::fd::AsFd;

use tandem_types::{Duration, Epoch, Instant};

pub use etcd::{EtcdConfig, EtcdLease, Login, MARGIN_PART, TTL, Tls};
pub use tandem_witness::{Side, Standing, Voted};
pub use witness::{WitnessConfig, WitnessLease};

/// A request for the vote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ask {
    /// Of the request; rises. The answer carries it.
    pub number: u64,
    /// The reign it is for.
    pub epoch: Epoch,
    /// How long the right is to last. A voter may grant less, or more.
    pub term: Duration,
}

/// Somebody who gives one side of the pair at a time the right to serve.
///
/// The descriptor becomes readable when there is something to do here: then call
/// [`Lease::answers`].
pub trait Lease: AsFd {
    /// Asks for the vote, or for more of it. The right is counted from `now`. An earlier request
    /// that has no answer yet is forgotten.
    fn ask(&mut self, now: Instant, ask: Ask);

    /// Gives the vote back. Answers to earlier requests count no more and are not reported.
    fn release(&mut self, epoch: Epoch);

    /// What became of requests. One that is neither granted nor refused within a moment is reported
    /// as out of reach.
    fn answers(&mut self) -> Vec<Voted>;

    /// Whether the voter is there, for people.
    fn standing(&self) -> Standing;
}
