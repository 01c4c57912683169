//! Everything that `tandem status` shows of one machine. Plain data; times as milliseconds ago.

use serde::{Deserialize, Serialize};
use tandem_pair::{Change, Profile, Server, State, Third, Timings};
use tandem_types::{Epoch, Role, Seat};

use crate::conflict::Conflict;
use crate::messages::Progress;
use crate::reach::Reach;
use crate::supervisor::Exit;

/// The newest changes of state that are kept.
pub const HISTORY_MAX: usize = 32;

/// One machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Its place in the pair.
    pub seat: Seat,
    /// Active or passive.
    pub role: Role,
    /// More precisely.
    pub state: State,
    /// For how long.
    pub since_ms: u64,
    /// What led to this state.
    pub why: String,
    /// Why it stays in this state: what the table says to the case at this moment.
    pub standing: String,
    /// Its own last reign; the present one while active.
    pub reign: Epoch,
    /// The highest epoch it has seen.
    pub highest: Epoch,
    /// Active: whether all that was promised is on the twin too.
    pub protected: bool,
    /// Whether it knows all of the newest reign and could go on without loss.
    pub whole: bool,
    /// Whether it could serve: server up, network there, disk willing, not locked.
    pub fit: bool,
    /// Whether the twin would take over at once and without loss if this server died now.
    pub twin_ready: bool,
    /// Maintenance lock.
    pub locked: bool,
    /// When that ends by itself.
    pub lock_left_ms: Option<u64>,
    /// A switchover that waits for the calls to end.
    pub switch: Option<SwitchStatus>,
    /// The votes, where there is a third voter.
    pub votes: Option<VoteStatus>,
    /// Its network has a carrier.
    pub carrier: bool,
    /// Who else says that a virtual address is his, oldest first, and when that was heard last.
    pub conflicts: Vec<When<Conflict>>,
    /// Whom the last questions to gateway and phones reached.
    pub reach: Option<When<Reach>>,
    /// The twin, if it was ever heard.
    pub twin: Option<TwinStatus>,
    /// The other machine is there and is set up with the seat of this one.
    pub same_seat: bool,
    /// When something came that is not signed with the pair's key: the other machine is of another pair, or
    /// somebody else sends to this port.
    pub stranger_ms_ago: Option<u64>,
    /// The newest report of the server.
    pub server: Option<When<Progress>>,
    /// What is started and watched here.
    pub services: Vec<ServiceStatus>,
    /// The time-outs in force.
    pub timings: Timings,
    /// Their name.
    pub profile: Profile,
    /// The kernel gave real-time priority; if not, the time-outs are the longer ones.
    pub real_time: bool,
    /// How late own timers were of late.
    pub late_ms: u64,
    /// Where heartbeats travel.
    pub paths: Vec<PathStatus>,
    /// There is a virtual address on a network, at which a serving server can be asked for.
    pub probe: bool,
    /// Heartbeats counted.
    pub heartbeats: Counters,
    /// Events that could not be kept on this machine's disk since the keeper was started.
    pub events_lost: u64,
    /// Changes of state, newest first; at most [`HISTORY_MAX`].
    pub history: Vec<When<Change>>,
}

impl Status {
    /// Whether a takeover now would lose nothing, as far as this machine knows.
    pub fn is_protected(&self) -> bool {
        match (self.role, &self.twin) {
            (Role::Active, _) => self.protected,
            (Role::Passive, Some(twin)) => {
                twin.heard && twin.role == Role::Active && twin.protected
            }
            (Role::Passive, None) => false,
        }
    }
}

/// Something, and how long ago it was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct When<T> {
    /// How long ago.
    pub ago_ms: u64,
    /// What.
    pub what: T,
}

/// Who votes for this machine. Two of three votes are needed to serve, and one is its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VoteStatus {
    /// For how long the twin does.
    pub twin_ms: u64,
    /// For how long the third voter does. It is asked only while the twin's vote is old or missing.
    pub third_ms: u64,
    /// What the third voter said last.
    pub third: Third,
}

/// A switchover that waits until no calls are up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SwitchStatus {
    /// It waits on this machine, which is active; else on the twin.
    pub here: bool,
    /// For how long; known on the active machine.
    pub waits_ms: Option<u64>,
    /// Calls that must end.
    pub calls: u32,
    /// Whether the machine that takes over could do so at once.
    pub twin_ready: bool,
}

/// The twin, as its newest heartbeat tells.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TwinStatus {
    /// Heard within the silence limit.
    pub heard: bool,
    /// When it was heard last.
    pub heard_ms_ago: u64,
    /// Active or passive.
    pub role: Role,
    /// More precisely.
    pub state: State,
    /// Its own last reign.
    pub reign: Epoch,
    /// Its server process.
    pub server: Server,
    /// Its server serves phones.
    pub serving: bool,
    /// It could lead.
    pub fit: bool,
    /// It knows all of the newest reign.
    pub whole: bool,
    /// Active: all that it promised is here too.
    pub protected: bool,
    /// Calls that are up there.
    pub calls: u32,
    /// Maintenance lock there.
    pub locked: bool,
    /// Its network has a carrier.
    pub carrier: bool,
    /// How late its timers were of late.
    pub late_ms: u64,
    /// From one of our heartbeats to its answer: the round trip and up to one pause between
    /// heartbeats.
    pub round_trip_micros: Option<u64>,
}

/// A service's state.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Not wanted.
    Off,
    /// Started, not ready yet.
    Starting,
    /// Ready and making progress.
    Up,
    /// Killed because it hung.
    Dying,
    /// Asked to stop.
    Stopping,
    /// Ended; starts again after a pause.
    Resting,
}

/// A service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ServiceState,
    /// Its process.
    pub pid: Option<u32>,
    /// How long it has been ready.
    pub up_ms: Option<u64>,
    /// Until it starts again, where it rests.
    pub next_start_ms: Option<u64>,
    /// Starts since the keeper was started.
    pub starts: u64,
    /// Restarts since the keeper was started.
    pub restarts: u64,
    /// How often it ended unasked, since the keeper was started.
    pub failures: u64,
    /// It failed too often within a time, so it rests for long before it is tried again.
    pub failing: bool,
    /// Lines of its output that were too many for the log.
    pub lines_dropped: u64,
    /// How it ended last.
    pub last_exit: Option<Exit>,
}

/// One way on which heartbeats travel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PathStatus {
    /// Its number in the configuration, from 0.
    pub path: u8,
    /// When a heartbeat of the twin came on it last.
    pub heard_ms_ago: Option<u64>,
}

/// Heartbeats, since the keeper was started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Made; each goes out on every path.
    pub sent: u64,
    /// Taken.
    pub taken: u64,
    /// Came on a further path, were repeated, or late.
    pub late: u64,
    /// Signed, but not proven to be sent of late.
    pub stale: u64,
    /// Not signed with the pair's key, too long or too short.
    pub strange: u64,
    /// Of another version.
    pub other_version: u64,
    /// Signed, but with our own seat: the other machine is set up as this one, or they came back.
    pub same_seat: u64,
}
