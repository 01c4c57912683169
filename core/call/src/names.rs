//! What things in a call are called: legs, sides, requests.

use serde::{Deserialize, Serialize};

/// A device that rings or rang in this call, counted from 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LegId(pub u8);

/// A request that passes through the call, unique in it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RequestId(pub u32);

/// One of the two sides of a leg.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Side {
    /// Towards the caller.
    Near,
    /// Towards the device.
    Far,
}

impl Side {
    /// The opposite side.
    pub const fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// The kinds of request inside a call.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Method {
    /// A new offer, hold, a new address: re-INVITE.
    Invite,
    /// RFC 3311.
    Update,
    /// RFC 6086, DTMF of many phones.
    Info,
    /// RFC 3262.
    Prack,
    /// RFC 3428 inside the dialog.
    Message,
    /// The server asks whether the other side still knows the call.
    Options,
}

/// Why a side is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// It never acknowledged our 200 to its INVITE.
    NoAck,
    /// It answered 481, or nothing at all, to a request in the dialog.
    Unknown,
}
