//! The systems that are measured side by side, behind one surface: Tandem in both profiles, and what
//! a careful administrator would build instead, keepalived with Kamailio.
//!
//! Every system gets two machines of its own on a switch of its own, the same client, and the same
//! faults. None of the others runs meanwhile.

mod kamailio;
pub(crate) mod keepalived;
mod rig;
mod twins;
mod vrrp_log;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tandem::config::Profile;
use tandem::demo::place::Place;
use tandem::demo::probe::Probe;
use tandem::demo::space::Space;
use tandem::demo::wait;

use crate::fault::Fault;
use crate::stage::Stage;
use keepalived::Adverts;

/// How long a look lasts whether somebody answers: some requests.
const LOOK: Duration = Duration::from_millis(50);

/// A system that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum System {
    /// Tandem as it is installed.
    Tandem,
    /// Tandem with `profile = "fast"`.
    TandemFast,
    /// keepalived with its defaults, and Kamailio.
    Keepalived,
    /// keepalived with ten adverts a second, and Kamailio.
    #[value(name = "keepalived-100ms")]
    Keepalived100ms,
}

impl System {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Tandem, Self::TandemFast, Self::Keepalived, Self::Keepalived100ms];

    /// As on the command line.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tandem => "tandem",
            Self::TandemFast => "tandem-fast",
            Self::Keepalived => "keepalived",
            Self::Keepalived100ms => "keepalived-100ms",
        }
    }

    /// Whether it is ours: then it is judged, not only measured.
    #[must_use]
    pub(crate) fn is_ours(self) -> bool {
        match self {
            Self::Tandem | Self::TandemFast => true,
            Self::Keepalived | Self::Keepalived100ms => false,
        }
    }

    /// Starts it; it may not be ready yet.
    ///
    /// # Errors
    ///
    /// Not root; a program is not there.
    pub(crate) fn start(self) -> Result<Box<dyn Pair>> {
        Ok(match self {
            Self::Tandem => Box::new(Stage::with(Profile::Default)?.0),
            Self::TandemFast => Box::new(Stage::with(Profile::Fast)?.0),
            Self::Keepalived => Box::new(rig::Rig::start(Adverts::Defaults)?),
            Self::Keepalived100ms => Box::new(rig::Rig::start(Adverts::Tenth)?),
        })
    }
}

/// Two machines of which one serves at the virtual address.
pub(crate) trait Pair {
    /// Where it is.
    fn place(&self) -> &Place;

    /// What clients know.
    fn virtual_address(&self) -> SocketAddr;

    /// Waits until one machine serves and the other could take over at once; returns which serves.
    ///
    /// # Errors
    ///
    /// That does not come to be.
    fn wait_well(&mut self) -> Result<usize>;

    /// Makes a fault of the machine that serves and returns when.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    fn make(&mut self, fault: Fault, serving: usize) -> Result<Instant>;

    /// Waits until the other machine than `before` serves.
    ///
    /// # Errors
    ///
    /// It does not.
    fn wait_takeover(&mut self, before: usize) -> Result<()>;

    /// Undoes the fault of the machine that served, where the pair does not do that itself.
    ///
    /// # Errors
    ///
    /// It cannot be undone.
    fn undo(&mut self, fault: Fault, served: usize) -> Result<()>;

    /// Keeps configuration and logs; returns where.
    fn keep(&mut self) -> PathBuf;
}

/// Waits until every request from `from` to `server` is answered with 200.
///
/// # Errors
///
/// They are not within `limit`.
pub(crate) fn wait_answers(
    space: Option<&Space>,
    from: IpAddr,
    server: SocketAddr,
    limit: Duration,
) -> Result<()> {
    let seen = wait::until("answers", limit, || {
        let probe = Probe::start(space, from, server)?;
        wait::pass("some requests", LOOK)?;
        let asked = probe.finish()?;
        let good = asked.iter().all(|one| matches!(one.answer, Some((_, 200))));
        Ok((good && !asked.is_empty()).then_some(()))
    });
    seen.with_context(|| format!("nobody answers at {server}"))
}
