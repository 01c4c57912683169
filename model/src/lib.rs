//! Checks every order of events between two keepers with votes and their witness, by model checking.
//!
//! ```text
//!  keeper M ──┐                            ┌── keeper S
//!   role      │  at most a few datagrams:  │    role
//!   epoch     │  lost, doubled, overtaken  │    epoch       at any moment: a tick, a crash, a restart,
//!   rights    └────────────┬───────────────┘    rights      a claim, a request, a hand-over
//!   promise            witness (the real ledger)
//! ```
//!
//! The keepers are a sketch of `core/pair`, each rule with the name of the code it stands for; the
//! witness is the real [`tandem_witness::Ledger`]. Time is a few ticks. What holds in every state that
//! can be reached:
//!
//! * never do both serve;
//! * no epoch is minted twice;
//! * whatever happened, once the faults stop exactly one comes to serve and goes on: with everything
//!   back, with one machine dead for good, with the two cut off from each other, without the witness.
//!
//! A model that finds nothing proves nothing: [`Flaw`] breaks one rule at a time, and the checker must
//! find it. What is not here: clocks that run apart (the arithmetic of `tandem_witness::promised`), and
//! everything of `core/pair` that votes do not touch (the simulation has it).

mod keeper;
mod settle;
mod world;

pub use keeper::{Echo, Keeper, Role};
pub use world::{Act, Datagram, Flaw, Limits, Rules, World};

/// In ticks: how long a server goes on without its keeper, at most.
pub const LEASE: u8 = 1;
