//! The pair in made-up time: two machines, a bad network, bad disks, phones, a gateway, a witness on a third
//! machine, and bad luck by number.
//!
//! Architecture invariant: one thread, one seed, no clock. The same seed gives the same run on every
//! machine, so every failure can be replayed.

pub mod chaos;
mod clean;
mod deeds;
mod disk;
mod faults;
mod judge;
mod ledger;
mod link;
mod machine;
mod network;
mod operator;
mod oracle;
mod orders;
pub mod partitions;
mod phone;
mod reach;
pub mod retention;
mod run;
mod story;
pub mod switching;
mod voter;
mod watch;
mod world;

pub use ledger::Ledger;
pub use machine::Rules;
pub use network::{Counts, Network, Port, Road, Way, Weather};
pub use oracle::{Oracle, Seen};
pub use orders::Order;
pub use phone::{Config as PhoneConfig, Habits, News, Phone};
pub use run::{Report, run_many};
pub use story::{STORY_SEED, Story};
pub use world::{World, new_user};
