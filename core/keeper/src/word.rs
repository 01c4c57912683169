//! What the two keepers tell each other beside the heartbeat itself: an operator's order may be given
//! on either machine and is carried out on the one that is active.
//!
//! A wish stands in every heartbeat until the answer stands in one of the twin's; so a lost datagram
//! costs the pause between two heartbeats and nothing else.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_pair::{Beat, SwitchRefused};

/// One datagram.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Letter {
    /// The heartbeat.
    pub beat: Beat,
    /// What goes with it.
    pub word: Word,
}

/// What goes with a heartbeat.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Word {
    /// What an operator at the sender wants the receiver to do.
    pub wish: Option<Wish>,
    /// To the receiver's newest wish.
    pub answer: Option<Answer>,
    /// The sender hands over as soon as no calls are up.
    pub waits_for_idle: bool,
}

/// An order that is to be carried out by the other machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Wish {
    /// Rises with every wish of one life of the keeper; two lives in a row begin far apart.
    pub number: u32,
    /// What is wanted.
    pub want: Want,
}

/// What an operator may want of the active machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Want {
    /// Hand over now.
    Switch {
        /// Also if the twin is not in sync.
        force: bool,
    },
    /// Hand over as soon as no calls are up.
    SwitchWhenIdle,
    /// Do not hand over when no calls are up.
    CancelSwitch,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// The number of the wish.
    pub number: u32,
    /// Why it was not done; `None`: it is done, or on its way.
    pub refused: Option<OrderRefused>,
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderRefused {
    /// The switchover was not begun.
    Switch(SwitchRefused),
    /// There is nothing to cancel.
    NothingWaits,
}

impl fmt::Display for OrderRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch(SwitchRefused::NotActive) => {
                "neither server is active at the moment: there is nothing to hand over"
            }
            Self::Switch(SwitchRefused::TwinSilent) => {
                "the machine that would take over is not heard"
            }
            Self::Switch(SwitchRefused::TwinNotFit) => {
                "the machine that would take over can not lead: its server, network, disk or \
                 maintenance lock forbids it"
            }
            Self::Switch(SwitchRefused::TwinNotInSync) => {
                "the machine that would take over is not in sync, calls would be lost; force it to \
                 switch nevertheless"
            }
            Self::NothingWaits => "no switchover waits for the calls to end",
        })
    }
}
