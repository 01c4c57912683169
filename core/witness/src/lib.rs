//! The third vote of a pair: promises of a third machine, and the messages they are asked for with.
//!
//! ```text
//!  keeper ── Ask ──> Witness { a Ledger for each pair } ── Granted / Refused ──> keeper
//!  Holder  <───────────────────── answer ───────────────────────────────────────  Voter
//! ```
//!
//! A server with votes configured serves only while it has two of three: its own, and the twin's or
//! the witness's. The witness promises one side at a time to promise nothing to the other; the right
//! of that side is counted from the *sending* of its request and the promise from the *receipt*, with
//! room for two clocks that run apart, so the right always ends first.
//!
//! The witness keeps promises in memory only. After its start it grants nothing for as long as a
//! promise of an earlier life may run, so what it forgot cannot be broken.
//!
//! Architecture invariant: this crate knows neither why a vote is asked for nor what follows from it;
//! no sockets, no clock.

mod holder;
mod ledger;
mod message;
mod term;
mod witness;

pub use holder::{HELLO_EVERY, Holder, PATIENCE, REPEAT_AT, Standing, Voted};
pub use ledger::{Ledger, Promise, Side, Verdict};
pub use message::{
    ANSWER_LENGTH, Answer, Bad, Kind, PairId, REQUEST_LENGTH, Request, Seal, VERSION, Witnessed,
};
pub use term::{TERM_MAX, promised};
pub use witness::{Counters, Fact, PAIRS_MAX, PairStatus, TooManyPairs, Witness};
