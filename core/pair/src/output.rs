//! What the caller must do, and what it may tell people.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch};

use crate::beat::Beat;
use crate::table::State;

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
            Self::EpochNotSaved(epoch) => {
                write!(f, "epoch {epoch} could not be saved: this server can not begin a reign")
            }
            Self::ClaimFailed => f.write_str("the virtual address could not be claimed"),
            Self::Rival { twin_calls, own_calls } => write!(
                f,
                "both servers were active: {twin_calls} calls at the twin, {own_calls} here"
            ),
            Self::SameSeat => f.write_str("both machines are configured with the same seat"),
        }
    }
}
