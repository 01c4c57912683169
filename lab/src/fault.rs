//! The faults that are made on purpose, and how they are undone.

use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use rustix::process::Signal;
use tandem::demo::child::signal;
use tandem::demo::twins::Serving;

use crate::stage::Stage;

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
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Kill, Self::Hang, Self::LinkDown, Self::Blackhole];

    /// In words.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "server killed (SIGKILL)",
            Self::Hang => "server hung (SIGSTOP)",
            Self::LinkDown => "link down",
            Self::Blackhole => "traffic black-holed",
        }
    }

    /// Makes it and returns when.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn make(self, stage: &Stage, serving: &Serving) -> Result<Instant> {
        let host = host(stage, serving);
        let at = Instant::now();
        match self {
            Self::Kill => signal(serving.pid, Signal::KILL)?,
            Self::Hang => signal(serving.pid, Signal::STOP)?,
            Self::LinkDown => stage.network()?.set_link(&host, false)?,
            Self::Blackhole => stage.network()?.set_blackhole(&host, true)?,
        }
        Ok(at)
    }

    /// Undoes it, where the pair does not do that itself.
    ///
    /// # Errors
    ///
    /// It cannot be undone.
    pub(crate) fn undo(self, stage: &Stage, serving: &Serving) -> Result<()> {
        let host = host(stage, serving);
        match self {
            // The keeper starts a killed server again, and kills and starts one that hangs.
            Self::Kill | Self::Hang => Ok(()),
            Self::LinkDown => stage.network()?.set_link(&host, true),
            Self::Blackhole => stage.network()?.set_blackhole(&host, false),
        }
    }
}

/// The name of the machine that serves.
fn host(stage: &Stage, serving: &Serving) -> String {
    stage.twins.machines[serving.index].seat.to_string()
}
