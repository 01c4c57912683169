//! `tandem demo`: the main job on one machine, without root and without configuration.
//!
//! ```text
//! place (loopback or namespaces) ── twins (two keepers, two servers) ── phones (baresip), probe
//!                                        └── live: follow the facts      └── story: check, measure
//! ```
//!
//! The parts are public: the lab drives the same pair and the same phones through worse.
//!
//! Invariant: everything is started by one run, belongs to it, and ends with it.

pub mod child;
pub mod control;
mod live;
mod netstring;
pub mod phone;
pub mod place;
pub mod probe;
pub mod recording;
pub mod report;
pub mod space;
pub mod story;
pub mod twins;
pub mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use place::{Folder, Place};
use report::Voice;

/// The options of `tandem demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Tell the whole story with two real phones (baresip), check it and measure
    #[arg(long)]
    pub story: bool,
    /// Print JSON: the story's report, or one line for each fact
    #[arg(long)]
    pub json: bool,
    /// Keep configuration, logs and call records in this new folder
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// Where the running program is, also after an upgrade replaced its file.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Runs the demo. Exit code 0: it was stopped, or everything in the story held.
///
/// # Errors
///
/// It cannot be started; the reason names what to do.
pub fn run(args: DemoArgs) -> Result<ExitCode> {
    wait::catch_signals()?;
    let program = std::fs::read_link(OWN_PROGRAM)?;
    let voice = Voice::of(args.json);
    if !args.story {
        let place = Place::loopback()?;
        let folder = Folder::new(args.keep.as_deref())?;
        live::follow(&program, folder.path(), &place, voice)?;
        return Ok(ExitCode::SUCCESS);
    }
    phone::installed()?;
    let place =
        if space::is_root() { Place::machines(&["alice", "bob"])? } else { Place::loopback()? };
    let mut folder = Folder::new(args.keep.as_deref())?;
    let held = story::tell(&program, folder.path(), &place, voice)?.finish()?;
    // Nobody wants to look at a story that was broken off by Ctrl-C.
    if !held && !wait::asked_to_stop() {
        folder.keep();
        eprintln!("configuration and logs are kept in {}", folder.path().display());
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
