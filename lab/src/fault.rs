//! The faults that are made on purpose, and how they are undone.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rustix::process::Signal;
use tandem::demo::child::signal;
use tandem::demo::twins::Serving;

use crate::stage::{Stage, program};

/// A fault of the machine or server that serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Fault {
    /// The server process is killed (SIGKILL).
    Kill,
    /// The server process hangs (SIGSTOP).
    Hang,
    /// The machine's cable is out.
    LinkDown,
    /// Everything that the machine sends and receives vanishes.
    Blackhole,
    /// No fault: an administrator orders the other machine to serve.
    PlannedSwitch,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Kill, Self::Hang, Self::LinkDown, Self::Blackhole, Self::PlannedSwitch];

    /// In words.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "server killed (SIGKILL)",
            Self::Hang => "server hung (SIGSTOP)",
            Self::LinkDown => "link down",
            Self::Blackhole => "traffic black-holed",
            Self::PlannedSwitch => "planned switch",
        }
    }

    /// Makes it and returns when.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn make(self, stage: &Stage, serving: &Serving) -> Result<Instant> {
        let host = host(stage, serving.index);
        let at = Instant::now();
        match self {
            Self::Kill => signal(serving.pid, Signal::KILL)?,
            Self::Hang => signal(serving.pid, Signal::STOP)?,
            Self::LinkDown => stage.network()?.set_link(&host, false)?,
            Self::Blackhole => stage.network()?.set_blackhole(&host, true)?,
            Self::PlannedSwitch => switch(stage, serving.index)?,
        }
        Ok(at)
    }

    /// Undoes it, where the pair does not do that itself.
    ///
    /// # Errors
    ///
    /// It cannot be undone.
    pub(crate) fn undo(self, stage: &Stage, served: usize) -> Result<()> {
        let host = host(stage, served);
        match self {
            // The keeper starts a killed server again, and kills and starts one that hangs.
            Self::Kill | Self::Hang | Self::PlannedSwitch => Ok(()),
            Self::LinkDown => stage.network()?.set_link(&host, true),
            Self::Blackhole => stage.network()?.set_blackhole(&host, false),
        }
    }
}

/// The name of a machine.
fn host(stage: &Stage, index: usize) -> String {
    stage.twins.machines[index].seat.to_string()
}

/// `tandem switch` at the machine that serves.
fn switch(stage: &Stage, index: usize) -> Result<()> {
    let config = &stage.twins.machines[index].config_path;
    let mut command = Command::new(program()?);
    let output = command.arg("--config").arg(config).arg("switch").output();
    let output = output.context("cannot run `tandem switch`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`tandem switch` failed: {}", said.trim_end());
    Ok(())
}
