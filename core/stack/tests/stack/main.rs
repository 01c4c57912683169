//! The stack as its user and the network see it.

mod bench;
mod limits;
mod rules;
mod survive;
mod user;
