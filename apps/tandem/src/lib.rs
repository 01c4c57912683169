//! The `tandem` program: one binary with the services and the operator's commands.

pub mod config;
pub mod init;
pub mod pairing;
