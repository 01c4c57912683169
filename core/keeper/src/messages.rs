//! What is spoken on the machine's unix sockets: server to keeper, keeper to server, operator to keeper.
//!
//! One message is a version byte and postcard; where it ends is the transport's business (a
//! seqpacket socket or a length before it). Nothing longer than [`MESSAGE_MAX`] is read.

use core::fmt;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Role, Seq};

use crate::likeness::Likeness;
use crate::status::Status;

/// Version of the messages.
pub const VERSION: u8 = 3;

/// The longest message in bytes, version included.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// From the server to its keeper.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ServerMessage {
    /// Can be given the role. Sent once, with a `Progress` right behind it: before that it is given
    /// nothing, because the next epoch must be above what it holds.
    Ready,
    /// Sign of life out of the server's event loop; sent every `Timings::progress`, and at once when
    /// `serving`, `in_sync`, `protected` or `peer_serving` change.
    Progress(Progress),
    /// It stops by itself.
    Stopping,
    /// Something that operators may want to know; the keeper keeps it with its own events.
    Fact(ServerFact),
    /// Where a few registered phones are, to be asked whether this machine reaches them.
    Phones(Vec<SocketAddr>),
    /// In place of `Progress`, with its counter: it lives, and must not serve, because its configuration is
    /// lost and the twin has not brought it yet.
    Waiting(u64),
}

/// Something that the server tells operators.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServerFact {
    /// A name that stays.
    pub kind: String,
    /// For people; persons' numbers are masked.
    pub sentence: String,
}

/// How the server is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// Raised with every turn of the event loop; a number that stands still is a hang.
    pub counter: u64,
    /// The role it has, as it believes.
    pub role: Role,
    /// The newest reign of which it has entries, or in which it serves.
    pub epoch: Epoch,
    /// Its newest entry of that reign.
    pub last_seq: Seq,
    /// Passive: everything that the twin committed while the two were linked is here. Stays true
    /// when the link breaks (the twin's keeper tells if the twin went on alone).
    pub in_sync: bool,
    /// Active: everything that was promised is on the twin too.
    pub protected: bool,
    /// It serves phones at this moment: it holds a lease, and what it took over is restored.
    pub serving: bool,
    /// Calls that are up.
    pub calls: u32,
    /// Active: how long ago a phone was heard; `None`: not in this reign.
    pub phone_heard: Option<Duration>,
    /// Contacts that are registered.
    pub bindings: u32,
    /// How long ago the twin's server was heard on the journal link; `None`: never.
    pub link_heard: Option<Duration>,
    /// Whether the twin's server serves, as it said last on the link.
    pub peer_serving: Option<bool>,
    /// The reign that the twin's server serves or follows, as it said last on the link.
    pub peer_epoch: Option<Epoch>,
    /// How the configuration stands to that of the twin; `None`: the two were not compared yet.
    pub config: Option<Likeness>,
    /// Rows of the configuration that are damaged here and wait to be put right; `None`: none are known.
    pub damaged: Option<DamagedRows>,
    /// How the database stands; `None`: the pair has none, or nothing was looked at yet.
    pub database: Option<DatabaseFigures>,
}

/// Rows of the configuration that are damaged on one machine, until they come back from the other one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DamagedRows {
    /// How many.
    pub rows: u64,
    /// The twin is of a version that compares no rows: they wait for its upgrade.
    pub twin_is_older: bool,
}

/// How the database of a pair stands, in figures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DatabaseFigures {
    /// How.
    pub state: DatabaseState,
    /// Call records of this machine that wait for it; `None`: it has never said what it has.
    pub waiting: Option<u64>,
    /// How long ago it answered; `None`: never.
    pub heard: Option<Duration>,
}

/// How the database of a pair stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DatabaseState {
    /// Nothing was heard yet, or what is there and here is compared.
    Connecting,
    /// It takes changes and records.
    Live,
    /// It does not answer.
    Away,
    /// It answers and will not do until somebody changes something.
    Refused,
}

impl DatabaseState {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Connecting, Self::Live, Self::Away, Self::Refused];

    /// A name that stays.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Away => "away",
            Self::Refused => "refused",
        }
    }
}

/// From the keeper to its server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum KeeperMessage {
    /// The role. An active server stops serving, by itself, when the newest lease has ended.
    Lease {
        /// Active: serve. Passive: do not, from now on.
        role: Role,
        /// The reign. It may rise while the server is active: go on in the new reign.
        epoch: Epoch,
        /// The end, in microseconds of this machine's boot-time clock. Zero when passive.
        valid_until_micros: u64,
    },
    /// Hand over to the twin: close your mouth, give it what waited to leave, then say that you do
    /// not serve. The lease goes on until then.
    HandOver {
        /// The reign that ends.
        epoch: Epoch,
        /// The end of the lease, as in `Lease`.
        valid_until_micros: u64,
    },
    /// Finish and exit.
    Stop,
}

/// From an operator's command to the keeper.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum OperatorRequest {
    /// How is everything?
    Status,
    /// Hand over to the twin now.
    Switch {
        /// Also if the twin is not in sync.
        force: bool,
    },
    /// Hand over to the twin as soon as no calls are up.
    SwitchWhenIdle,
    /// Do not hand over when no calls are up.
    CancelSwitch,
    /// Maintenance lock: while set this machine does not promote itself.
    Lock {
        /// Set it or take it off.
        on: bool,
        /// It ends by itself after so many seconds.
        seconds: Option<u64>,
    },
}

/// The keeper's answer to an operator.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum OperatorAnswer {
    /// Everything.
    Status(Box<Status>),
    /// It is done, or on its way.
    Done,
    /// It is not done, because of this sentence.
    Refused(String),
}

/// Why a message was not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// Longer than [`MESSAGE_MAX`].
    TooLong,
    /// Empty.
    Empty,
    /// Written in another version.
    Version(u8),
    /// Not a message.
    Garbled,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "message longer than {MESSAGE_MAX} bytes"),
            Self::Empty => f.write_str("empty message"),
            Self::Version(theirs) => {
                write!(f, "message of version {theirs}, this program speaks version {VERSION}")
            }
            Self::Garbled => f.write_str("not a message of the keeper"),
        }
    }
}

impl core::error::Error for Refused {}

/// The bytes of a message.
///
/// # Panics
///
/// Never for the messages of this module: they serialise without a condition.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Writing plain data to a growing vector cannot fail in postcard.
    #[allow(clippy::expect_used)]
    postcard::to_extend(message, vec![VERSION]).expect("plain data")
}

/// Reads a message.
///
/// # Errors
///
/// What is wrong with the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    if bytes.len() > MESSAGE_MAX {
        return Err(Refused::TooLong);
    }
    match bytes.split_first() {
        None => Err(Refused::Empty),
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            Ok(_) | Err(_) => Err(Refused::Garbled),
        },
        Some((&version, _)) => Err(Refused::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let lease = KeeperMessage::Lease {
            role: Role::Active,
            epoch: Epoch::NEVER.next(tandem_types::Seat::Standby),
            valid_until_micros: 80_000,
        };
        assert_eq!(decode(&encode(&lease)), Ok(lease));
        let refused = OperatorAnswer::Refused(String::from("not now"));
        assert_eq!(decode(&encode(&refused)), Ok(refused));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = encode(&ServerMessage::Ready);
        assert_eq!(decode::<ServerMessage>(&[]), Err(Refused::Empty));
        assert_eq!(decode::<ServerMessage>(&[VERSION + 1, 0]), Err(Refused::Version(VERSION + 1)));
        assert_eq!(decode::<ServerMessage>(&[VERSION, 99]), Err(Refused::Garbled));
        let behind = [&good[..], &[0]].concat();
        assert_eq!(decode::<ServerMessage>(&behind), Err(Refused::Garbled));
        assert_eq!(decode::<ServerMessage>(&vec![VERSION; MESSAGE_MAX]), Err(Refused::Garbled));
        assert_eq!(decode::<ServerMessage>(&vec![VERSION; MESSAGE_MAX + 1]), Err(Refused::TooLong));
    }
}
