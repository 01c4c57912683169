//! What the four state machines have in common: what they ask their owner, the stack, to do.

use crate::timing::Octets;
use serde::{Deserialize, Serialize};
use tandem_types::Flow;

/// One thing the stack must do for a machine, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Output {
    /// Send to the transaction's peer.
    Send { bytes: Octets, repeat: bool },
    /// Send somewhere else: the ACK for a 2xx follows the route set of its dialog.
    SendTo { flow: Flow, bytes: Octets, repeat: bool },
    /// Pass the message that is being handled to the transaction user.
    Deliver,
    /// Start a CANCEL for this INVITE request.
    Cancel { request: Octets },
    /// Tell the transaction user that no final response will come.
    Failed(FailReason),
    /// Tell the transaction user that its 2xx was never acknowledged.
    NoAck,
}

/// Why a client transaction ended without a final response.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FailReason {
    /// Nobody answered in time (timers B and F; to be treated as 408, RFC 3261 §8.1.3.1).
    Timeout,
    /// The message could not be sent, or the stack is at its limit (to be treated as 503).
    Transport,
}

/// The transaction user answered when it may not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RespondError {
    /// No such server transaction: it has ended.
    Unknown,
    /// A final response was sent before; the RFC says to discard the new one.
    AlreadyCompleted,
    /// The status is not between 100 and 699.
    BadStatus,
}

/// How the machines understand a status code (RFC 3261 §7.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// 1xx.
    Provisional,
    /// 2xx.
    Success,
    /// 3xx to 6xx.
    Failure,
}

impl Class {
    /// The class of `status`, if it is one.
    pub(crate) fn of(status: u16) -> Option<Self> {
        match status {
            100..=199 => Some(Self::Provisional),
            200..=299 => Some(Self::Success),
            300..=699 => Some(Self::Failure),
            0..=99 | 700.. => None,
        }
    }
}
