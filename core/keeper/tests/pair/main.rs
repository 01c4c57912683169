//! Two keepers in made-up time: one misfortune at a time (situations), and all at random (chaos).

mod alike;
mod chaos;
mod facts;
mod isolation;
mod orders;
#[cfg(feature = "sabotage")]
mod sabotage;
mod situations;
mod voter;
mod votes;
mod world;
