//! What is configured, and what can happen.

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Instant, Seat, Stamp};

use crate::beat::{Beat, Server};
use crate::timings::Timings;
use crate::votes::Voted;

/// Who stays active when contact is back after both were.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Healing {
    /// Who carries more calls; with equal calls the later reign.
    #[default]
    LiveCalls,
    /// The master.
    Master,
}

/// What is configured.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Our place in the pair.
    pub seat: Seat,
    /// The time-outs; [`Timings::check`] must accept them.
    pub timings: Timings,
    /// Who stays when both were active.
    pub healing: Healing,
    /// Whether there is a virtual address that can be asked for a serving server. Not on loopback.
    pub probe: bool,
    /// Whether there is a third voter: then two of three votes are needed to serve.
    pub votes: bool,
    /// Maintenance lock, as it was saved.
    pub locked: bool,
}

/// What this machine brings from its disk.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Greater than at every earlier start: the greater of the saved one plus one, and the
    /// wall clock in milliseconds.
    pub boot: u64,
    /// The last [`Output::SaveEpoch`](crate::Output::SaveEpoch) that was put on disk.
    pub saved: Epoch,
}

/// What our server hears on the journal link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// When the twin's server was heard last.
    pub heard_at: Option<Instant>,
    /// Whether that serves, as it says.
    pub serving: Option<bool>,
    /// The reign it serves or follows, as it says.
    pub epoch: Option<Epoch>,
}

/// Our own server, as the keeper sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Own {
    /// Its process.
    pub server: Server,
    /// Whether it serves phones.
    pub serving: bool,
    /// Passive: whether everything the twin committed while linked is here.
    pub in_sync: bool,
    /// Active: whether everything that was promised is on the twin too; also of a server that died
    /// active, as it said last.
    pub protected: bool,
    /// The newest entry it has; `None` before it has told.
    pub holds: Option<Stamp>,
    /// Calls that are up.
    pub calls: u32,
    /// When a phone was heard last in our reign.
    pub phone_heard: Option<Instant>,
    /// The journal link.
    pub link: Link,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            server: Server::Starting,
            serving: false,
            in_sync: false,
            protected: false,
            holds: None,
            calls: 0,
            phone_heard: None,
            link: Link::default(),
        }
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// A heartbeat came; its origin is proven by the caller.
    Heard(Beat),
    /// Our server changed, or reported.
    Own(Own),
    /// This epoch is on disk.
    EpochSaved(Epoch),
    /// This epoch could not be put on disk.
    EpochNotSaved(Epoch),
    /// The virtual address is ours.
    Claimed,
    /// The virtual address could not be taken.
    ClaimFailed,
    /// A server serves at the virtual address; or (`false`) it is certain that none does.
    Probe(bool),
    /// Our network has a carrier.
    Carrier(bool),
    /// The wall clock or the io side tells that this process was held up so long. Own timers that
    /// fire late are noticed without this.
    Slept(Duration),
    /// Maintenance lock set or taken off.
    Lock(bool),
    /// The third voter answered, or does not.
    Voted(Voted),
    /// Neither the gateway nor any phone was reached, several times in a row; or one was.
    Isolated(bool),
}

/// Why a switchover was not begun.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchRefused {
    /// Only the active server can hand over, once it serves.
    NotActive,
    /// The twin's keeper is not heard.
    TwinSilent,
    /// The twin's server is not up, or its network, disk or a maintenance lock forbids it to lead.
    TwinNotFit,
    /// The twin is not in sync: calls would be lost. Can be forced.
    TwinNotInSync,
}

/// Rules the simulator may break, to see that it is noticed.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sabotage {
    /// Begin a reign without its epoch on disk.
    pub skip_saving_epochs: bool,
    /// Take heartbeats that are late, repeated or from an earlier life.
    pub accept_late_heartbeats: bool,
}
