//! Which of the two servers is active.
//!
//! [`Pair`] is one machine's half of that agreement. It touches neither network nor clock nor disk:
//! heartbeats, the word of the own server and the time come in, orders go out.
//!
//! ```text
//! Input ─> what is known of the twin ─┐
//!          what is known of ourselves ├─> Event ─> table::ROWS ─> State ─> Output
//! time  ─> which silences have lasted ┘            (the policy)
//! ```
//!
//! After every input the machine asks afresh which [`Event`] describes the situation, and the table
//! says what to do about it. Nothing depends on the order in which two things were noticed, and a
//! lost message costs time, never truth: the next one tells the same.
//!
//! Architecture invariant: this crate knows nothing about SIP, calls (but their number), processes or
//! addresses. Two servers are active at once only if neither can learn of the other by any path.

mod address;
mod beat;
mod input;
mod output;
#[cfg(test)]
mod page;
mod pair;
mod table;
mod timings;
mod twin;
mod votes;

pub use address::REFRESH_AT;
pub use beat::{Beat, Echo, Life, Server};
#[cfg(feature = "sabotage")]
pub use input::Sabotage;
pub use input::{Config, Healing, Input, Link, Own, Start, SwitchRefused};
pub use output::{Change, Evidence, Notice, Output};
pub use pair::Pair;
pub use table::{Event, ROWS, Row, State, find};
pub use timings::{Profile, RELAX, Timings};
pub use twin::{Dropped, Twin};
pub use votes::{Third, Voted};
