//! The `tandem` program: one binary with the services and the operator's commands.
//!
//! ```text
//! tandem keeper ──starts──> tandem server         the two processes of a machine
//!      ▲ keeper.sock             ▲ server.sock    one JSON line each way
//!      └──── status ─────────────┴── user, call   the commands
//! ```
//!
//! Thin: it reads the configuration, builds io, runs the values of core, and prints. What is
//! decided is decided in core.
//!
//! Invariant: each of the two services is one thread that owns its value; everything that may block
//! (a disk, a name) is on another thread and reports back.

mod cli;
mod commands;
pub mod config;
mod control;
pub mod demo;
mod events;
pub mod init;
mod keeper;
mod logging;
pub mod pairing;
mod server;
mod witness;

pub use cli::main;
