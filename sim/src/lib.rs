//! The pair in made-up time: two machines, a bad network, bad disks, phones, and bad luck by number.
//!
//! Architecture invariant: one thread, one seed, no clock. The same seed gives the same run on every
//! machine, so every failure can be replayed.

pub mod chaos;
mod deeds;
mod disk;
mod faults;
mod judge;
mod link;
mod machine;
mod network;
mod oracle;
mod orders;
mod phone;
mod story;
mod watch;
mod world;

pub use machine::Rules;
pub use network::{Counts, Network, Port, Road, Way, Weather};
pub use oracle::{Oracle, Seen};
pub use orders::Order;
pub use phone::{Config as PhoneConfig, Habits, News, Phone};
pub use story::{STORY_SEED, Story};
pub use world::{World, new_user};
