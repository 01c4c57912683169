//! Two keepers in made-up time: one misfortune at a time (situations), and all at random (chaos).

mod chaos;
mod situations;
mod world;
