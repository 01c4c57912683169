//! Vocabulary every crate shares: time, seats, roles, epochs, addresses, dice, private numbers.
//!
//! Architecture invariant: this crate decides nothing and touches nothing.

mod dice;
mod flow;
mod pair;
mod pii;
mod time;

pub use dice::Dice;
pub use flow::{Flow, Transport};
pub use pair::{Epoch, Role, Seat, Seq, Stamp};
pub use pii::Pii;
pub use time::{Duration, Instant};
