//! What the keeper tells people: one line of the log each.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_pair::{Change, Notice};
use tandem_types::Duration;

use crate::conflict::Conflict;
use crate::messages::ServerFact;
use crate::reign::Begun;
use crate::services::{ServiceEvent, ServiceFact};
use crate::supervisor::Exit;

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fact {
    /// The pair's state changed.
    Role(Change),
    /// A reign has begun: the server serves.
    Begun(Begun),
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
    /// Somebody else says that a virtual address is his.
    AddressConflict(Conflict),
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
    /// A switchover waits for the calls to end.
    SwitchWaits {
        /// How many are up.
        calls: u32,
    },
    /// It was cancelled.
    SwitchCancelled,
    /// The role went over for another reason meanwhile.
    SwitchMoot,
    /// An operator asked for a switchover.
    SwitchOrdered {
        /// Also if the twin is not in sync.
        force: bool,
    },
    /// A switchover was asked for and not begun.
    SwitchRefused {
        /// The sentence that the operator got.
        why: String,
    },
    /// The maintenance lock was set or taken off.
    Locked {
        /// Set.
        on: bool,
    },
    /// Something happened to a service beside the server.
    Service(ServiceFact),
    /// Something that the server has to tell; it is in the server's log already.
    Server(ServerFact),
}

impl Fact {
    /// A name that stays, for events and metrics.
    pub fn kind(&self) -> &str {
        match self {
            Self::Role(_) => "role_changed",
            Self::Begun(_) => "reign_begun",
            Self::Pair(notice) => notice.kind(),
            Self::ServiceStarted { .. } => "server_started",
            Self::ServiceReady { .. } => "server_ready",
            Self::ServiceExited { .. } => "server_ended",
            Self::ServiceHung { .. } => "server_hung",
            Self::ServiceRestarts { .. } => "server_restarts",
            Self::ServiceFailing { .. } => "server_failing",
            Self::DiskRefused { .. } => "disk_refused",
            Self::AddressRefused { .. } => "address_refused",
            Self::AddressConflict(_) => "address_conflict",
            Self::Strangers { .. } => "strangers",
            Self::OtherVersion { .. } => "other_version",
            Self::SwitchOrdered { .. } => "switch_ordered",
            Self::SwitchWaits { .. } => "switch_waits",
            Self::SwitchCancelled => "switch_cancelled",
            Self::SwitchMoot => "switch_moot",
            Self::SwitchRefused { .. } => "switch_refused",
            Self::Locked { on: true } => "locked",
            Self::Locked { on: false } => "unlocked",
            Self::Service(fact) => fact.kind(),
            Self::Server(fact) => &fact.kind,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(Change { from, to, reign, why, .. }) => {
                write!(f, "{from} -> {to} (reign {reign}): {why}")
            }
            Self::Begun(begun) => {
                write!(f, "serves in reign {}", begun.reign)?;
                if begun.unserved.is_some() {
                    let total = begun.total().as_millis();
                    write!(f, ", {total} ms after the twin was heard to serve last")?;
                }
                Ok(())
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
            Self::AddressConflict(conflict) => {
                write!(f, "somebody else uses the virtual address {conflict}: find that device")
            }
            Self::Strangers { count } => {
                write!(
                    f,
                    "{count} datagrams at the heartbeat port are not signed with this pair's key: the other \
                     machine is of another pair, or somebody else sends here"
                )
            }
            Self::OtherVersion { theirs } => {
                write!(f, "the twin speaks version {theirs} of the heartbeat")
            }
            Self::SwitchOrdered { force: false } => f.write_str("switchover ordered"),
            Self::SwitchOrdered { force: true } => f.write_str("switchover ordered, by force"),
            Self::SwitchWaits { calls } => {
                write!(f, "switchover ordered for the moment in which no calls are up; {calls} are")
            }
            Self::SwitchCancelled => f.write_str("the switchover that waited was cancelled"),
            Self::SwitchMoot => {
                f.write_str("the switchover that waited is not needed any more: the twin serves")
            }
            Self::SwitchRefused { why } => write!(f, "switchover refused: {why}"),
            Self::Service(fact) => fact.fmt(f),
            Self::Server(fact) => f.write_str(&fact.sentence),
            Self::Locked { on: true } => f.write_str("maintenance lock set"),
            Self::Locked { on: false } => f.write_str("maintenance lock taken off"),
        }
    }
}

impl ServiceFact {
    /// A name that stays.
    pub fn kind(&self) -> &'static str {
        match self.what {
            ServiceEvent::Started(_) => "service_started",
            ServiceEvent::Ready(_) => "service_ready",
            ServiceEvent::Hung(_) => "service_hung",
            ServiceEvent::Exited(_) => "service_ended",
            ServiceEvent::Restarts(_) => "service_restarts",
            ServiceEvent::Failing(_) => "service_failing",
            ServiceEvent::Ended => "service_over",
        }
    }
}

impl fmt::Display for ServiceFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} ", self.service)?;
        match &self.what {
            ServiceEvent::Started(pid) => write!(f, "started, process {pid}"),
            ServiceEvent::Ready(after) => write!(f, "ready after {} ms", after.as_millis()),
            ServiceEvent::Hung(long) => {
                write!(f, "does not work for {} ms: killed", long.as_millis())
            }
            ServiceEvent::Exited(exit) => write!(f, "ended: {exit}"),
            ServiceEvent::Restarts(pause) => write!(f, "starts again in {} ms", pause.as_millis()),
            ServiceEvent::Failing(pause) => {
                write!(f, "fails again and again; tried again in {} s", pause.as_secs())
            }
            ServiceEvent::Ended => f.write_str("is not started again"),
        }
    }
}
