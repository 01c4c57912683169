//! Names of transactions: short, and the same on both servers of the pair.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A client transaction: a request of ours. The number is in our Via branch, so a response leads
/// to its transaction by itself (RFC 3261 §17.1.3).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ClientId {
    /// The number in the branch.
    pub(crate) branch: u64,
    /// Whether this is the CANCEL of the INVITE with that branch.
    pub(crate) cancel: bool,
}

impl ClientId {
    /// The INVITE, where this is its CANCEL.
    pub fn cancels(self) -> Option<Self> {
        self.cancel.then_some(Self { cancel: false, ..self })
    }
}

/// A server transaction: a request of somebody else.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ServerId(pub(crate) u64);

/// Any transaction: the key of its record.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TransactionId {
    /// A request of ours.
    Client(ClientId),
    /// A request of somebody else.
    Server(ServerId),
}

impl From<ClientId> for TransactionId {
    fn from(id: ClientId) -> Self {
        Self::Client(id)
    }
}

impl From<ServerId> for TransactionId {
    fn from(id: ServerId) -> Self {
        Self::Server(id)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:016x}", if self.cancel { "x" } else { "c" }, self.branch)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:016x}", self.0)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(id) => id.fmt(f),
            Self::Server(id) => id.fmt(f),
        }
    }
}
