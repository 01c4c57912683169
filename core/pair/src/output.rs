//! What the caller must do, and what it may tell people.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch};

use crate::beat::{Beat, Server};
use crate::table::{Event, State};

/// What the caller must do. Take these until there is none left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send to the twin on every path. While its state is `Active`, the server's lease is renewed
    /// with it.
    Beat(Beat),
    /// Put on disk, then answer [`Input::EpochSaved`](crate::Input::EpochSaved) or
    /// [`Input::EpochNotSaved`](crate::Input::EpochNotSaved).
    SaveEpoch(Epoch),
    /// Take the virtual address; answer `Claimed` or `ClaimFailed`.
    Claim,
    /// Give the virtual address up, also where it may be left over from an earlier life.
    Release,
    /// Announce the virtual address (gratuitous ARP, unsolicited neighbour advertisement).
    Refresh,
    /// Ask once whether a server *serves* at the virtual address; answer
    /// [`Input::Probe`](crate::Input::Probe).
    Probe,
    /// Ask the third voter for its vote, or for more of it; answer
    /// [`Input::Voted`](crate::Input::Voted) with this number. An earlier request is forgotten.
    AskVote {
        /// Names the request.
        number: u64,
        /// For this reign.
        epoch: Epoch,
        /// For so long.
        term: Duration,
    },
    /// Give the third vote back; requests that are not answered are forgotten.
    ReleaseVote {
        /// The reign it was for.
        epoch: Epoch,
    },
    /// The state has changed, or a new reign has begun.
    Changed(Change),
    /// Something people want to know.
    Notice(Notice),
}

/// A change of state, for the log, the administration and the history.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Our own last reign: the present one if the state after is active.
    pub reign: Epoch,
    /// The sentence of the table.
    pub why: String,
    /// What was known at that moment.
    pub evidence: Evidence,
}

/// What was known when the state changed: what the decision rested on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Evidence {
    /// The case that the table answered.
    pub case: Event,
    /// Since a heartbeat of the twin came; `None`: none since we started or woke up.
    pub twin_heard: Option<Duration>,
    /// What the newest heartbeat said that the twin does.
    pub twin_said: Option<State>,
    /// What it said of the twin's server.
    pub twin_server: Option<Server>,
    /// Since the twin was heard to serve.
    pub twin_served: Option<Duration>,
    /// Since the twin's server was heard on the journal link; `None`: never.
    pub link_heard: Option<Duration>,
    /// Whether that served, as it said last.
    pub link_serving: Option<bool>,
    /// For how long it was asked at the virtual address; `None`: not asked.
    pub probed: Option<Duration>,
    /// Our own server.
    pub server: Server,
    /// Whether our network has a carrier.
    pub carrier: bool,
    /// How late our own timers were of late.
    pub late: Duration,
}

/// What people want to know about the pair beside changes of state.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Notice {
    /// The twin's keeper is heard.
    TwinHeard,
    /// The twin's keeper is silent.
    TwinSilent,
    /// Somebody serves at the virtual address although the twin is silent.
    SomebodyServes,
    /// Our own timers were late; nobody is judged until a fresh silence limit has passed.
    Stalled(Duration),
    /// We were held up so long that we count as restarted.
    Slept(Duration),
    /// Our network has a carrier, or has lost it.
    Carrier(bool),
    /// Neither the gateway nor any phone is reached, or one is again.
    Isolated(bool),
    /// An epoch could not be saved: this server can not begin a reign.
    EpochNotSaved(Epoch),
    /// The virtual address could not be claimed.
    ClaimFailed,
    /// Both servers were active and hear each other again: their and our calls.
    Rival {
        /// Calls up at the twin.
        twin_calls: u32,
        /// Calls up here.
        own_calls: u32,
    },
    /// A heartbeat carries our own seat: both machines are configured alike.
    SameSeat,
}

impl Notice {
    /// A name that stays, for events and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TwinHeard => "twin_heard",
            Self::TwinSilent => "twin_silent",
            Self::SomebodyServes => "somebody_serves",
            Self::Stalled(_) => "keeper_stalled",
            Self::Slept(_) => "keeper_slept",
            Self::Carrier(true) => "network_back",
            Self::Carrier(false) => "network_lost",
            Self::Isolated(true) => "isolated",
            Self::Isolated(false) => "not_isolated",
            Self::EpochNotSaved(_) => "epoch_not_saved",
            Self::ClaimFailed => "claim_failed",
            Self::Rival { .. } => "both_served",
            Self::SameSeat => "same_seat",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwinHeard => f.write_str("the keeper of the twin is heard"),
            Self::TwinSilent => f.write_str("the keeper of the twin is silent"),
            Self::SomebodyServes => {
                f.write_str("the twin is silent, but somebody serves at the virtual address")
            }
            Self::Stalled(late) => {
                write!(f, "this keeper was late by {} ms and judges nobody now", late.as_millis())
            }
            Self::Slept(late) => {
                write!(
                    f,
                    "this keeper was held up for {} ms: counts as restarted",
                    late.as_millis()
                )
            }
            Self::Carrier(true) => f.write_str("the network is there"),
            Self::Carrier(false) => f.write_str("the network is gone"),
            Self::Isolated(true) => f.write_str("neither the gateway nor any phone is reached"),
            Self::Isolated(false) => f.write_str("the gateway or a phone is reached again"),
            Self::EpochNotSaved(epoch) => {
                write!(f, "epoch {epoch} could not be saved: this server can not begin a reign")
            }
            Self::ClaimFailed => f.write_str("the virtual address could not be claimed"),
            Self::Rival { twin_calls, own_calls } => write!(
                f,
                "both servers were active: {twin_calls} calls at the twin, {own_calls} here"
            ),
            Self::SameSeat => f.write_str(
                "the other machine is set up with the same seat as this one: neither begins to serve; set \
                 one of them up with the other seat, by `tandem init` and the code of this pair",
            ),
        }
    }
}
