//! What the keeper tells people: one line of the log each.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_pair::{Change, Notice};
use tandem_types::Duration;

use crate::supervisor::Exit;

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fact {
    /// The pair's state changed.
    Role(Change),
    /// Something about the pair.
    Pair(Notice),
    /// The server runs as this process.
    ServiceStarted {
        /// Process id.
        pid: u32,
    },
    /// The server can be given the role.
    ServiceReady {
        /// Since its start.
        after: Duration,
    },
    /// The server ended.
    ServiceExited {
        /// How.
        exit: Exit,
    },
    /// The server made no progress and is killed.
    ServiceHung {
        /// For so long.
        silent: Duration,
    },
    /// The server is started again.
    ServiceRestarts {
        /// After this pause.
        pause: Duration,
    },
    /// The server fails again and again.
    ServiceFailing {
        /// It is tried again after this pause.
        pause: Duration,
    },
    /// The epoch could not be written, as the disk says.
    DiskRefused {
        /// The words of the operating system.
        why: String,
    },
    /// The virtual address could not be taken, as the kernel says.
    AddressRefused {
        /// The words of the operating system.
        why: String,
    },
    /// Datagrams came to the heartbeat port that are no heartbeats of the twin.
    Strangers {
        /// How many so far.
        count: u64,
    },
    /// The twin's heartbeats are of another version.
    OtherVersion {
        /// Its version.
        theirs: u8,
    },
    /// An operator asked for a switchover.
    SwitchOrdered {
        /// Also if the twin is not in sync.
        force: bool,
    },
    /// The maintenance lock was set or taken off.
    Locked {
        /// Set.
        on: bool,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(Change { from, to, reign, why }) => {
                write!(f, "{from} -> {to} (reign {reign}): {why}")
            }
            Self::Pair(notice) => notice.fmt(f),
            Self::ServiceStarted { pid } => write!(f, "server started, process {pid}"),
            Self::ServiceReady { after } => {
                write!(f, "server ready after {} ms", after.as_millis())
            }
            Self::ServiceExited { exit } => write!(f, "server ended: {exit}"),
            Self::ServiceHung { silent } => {
                write!(f, "server made no progress for {} ms: killed", silent.as_millis())
            }
            Self::ServiceRestarts { pause } => {
                write!(f, "server starts again in {} ms", pause.as_millis())
            }
            Self::ServiceFailing { pause } => {
                write!(f, "server fails again and again; tried again in {} s", pause.as_secs())
            }
            Self::DiskRefused { why } => write!(f, "epoch not written: {why}"),
            Self::AddressRefused { why } => write!(f, "virtual address not taken: {why}"),
            Self::Strangers { count } => {
                write!(f, "{count} datagrams at the heartbeat port are not of the twin")
            }
            Self::OtherVersion { theirs } => {
                write!(f, "the twin speaks version {theirs} of the heartbeat")
            }
            Self::SwitchOrdered { force: false } => f.write_str("switchover ordered"),
            Self::SwitchOrdered { force: true } => f.write_str("switchover ordered, by force"),
            Self::Locked { on: true } => f.write_str("maintenance lock set"),
            Self::Locked { on: false } => f.write_str("maintenance lock taken off"),
        }
    }
}
