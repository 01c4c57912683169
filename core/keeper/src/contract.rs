//! What is configured, what can happen, and what the caller must do.

use std::net::SocketAddr;

use tandem_pair::{Config as PairConfig, Profile, Voted};
use tandem_types::{Duration, Epoch};

use crate::conflict::Conflict;
use crate::fact::Fact;
use crate::messages::{KeeperMessage, OperatorAnswer, OperatorRequest, ServerMessage};
use crate::reach::Reach;
use crate::supervisor::Exit;

/// The most paths for heartbeats.
pub const PATHS_MAX: u8 = 8;

/// What is configured, and what the kernel granted.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Of the pair. The time-outs are those of the profile; the keeper relaxes them by itself.
    pub pair: PairConfig,
    /// The name of the time-outs.
    pub profile: Profile,
    /// Whether the kernel gave real-time priority.
    pub real_time: bool,
    /// Key of the heartbeats, the same on both machines.
    pub heartbeat_key: [u8; 32],
    /// How many paths heartbeats take, at most [`PATHS_MAX`].
    pub paths: u8,
    /// The operator's orders, as they were saved.
    pub orders: Standing,
}

/// An operator's orders that outlive the keeper.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The maintenance lock.
    pub locked: bool,
    /// How long it lasts; `None`: until it is taken off. Kept on disk as the time at which it ends.
    pub lock_left: Option<Duration>,
    /// A switchover waits for the calls to end.
    pub switch_when_idle: bool,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram came to the heartbeat port of this path.
    Datagram {
        /// The path, from 0.
        path: u8,
        /// As received.
        bytes: Vec<u8>,
    },
    /// The server process exists.
    ServiceStarted {
        /// Process id.
        pid: u32,
    },
    /// The server process has ended, or could not be started.
    ServiceExited {
        /// How.
        how: Exit,
    },
    /// The server said something.
    ServiceSaid(ServerMessage),
    /// The channel to the server has closed.
    ServiceChannelClosed,
    /// This epoch is on disk.
    EpochSaved(Epoch),
    /// This epoch could not be put on disk, because.
    EpochNotSaved(Epoch, String),
    /// The virtual address is ours.
    AddressClaimed,
    /// The virtual address could not be taken, because.
    ClaimFailed(String),
    /// A server serves at the virtual address; `false`: it is certain that none does. Silence
    /// needs no input.
    ProbeAnswered(bool),
    /// The third voter answered, or does not.
    Voted(Voted),
    /// Somebody who is neither we nor the twin says that a virtual address is his.
    AddressConflict(Conflict),
    /// Whom we reached with the questions of the last [`Output::AskReach`].
    Reach(Reach),
    /// The network that phones use has a carrier.
    LinkState(bool),
    /// The io side noticed that this process was held up so long.
    Slept(Duration),
    /// An operator asks; the answer carries the same id.
    Operator {
        /// Chosen by the caller.
        id: u64,
        /// What is asked.
        request: OperatorRequest,
    },
    /// The keeper is to end: hand over if possible, stop the server, then [`Output::Finished`].
    Shutdown,
}

/// What the caller must do, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send to the twin on this path.
    Datagram {
        /// The path, from 0.
        path: u8,
        /// To be sent.
        bytes: Vec<u8>,
    },
    /// Start the server process; it must not outlive the keeper (parent-death signal).
    StartService,
    /// Kill the server process.
    KillService {
        /// SIGKILL; else SIGTERM.
        hard: bool,
    },
    /// Send to the server; if that is not possible, forget it.
    TellService(KeeperMessage),
    /// Put on disk, durably, in the order given; then answer `EpochSaved` or `EpochNotSaved`.
    SaveEpoch(Epoch),
    /// Put the operator's orders on disk.
    SaveOrders(Standing),
    /// Take the virtual address; answer `AddressClaimed` or `ClaimFailed`.
    ClaimAddress,
    /// Give up the virtual address, also one that an earlier keeper left behind.
    ReleaseAddress,
    /// Announce the virtual address: gratuitous ARP, unsolicited neighbour advertisement.
    RefreshAddress,
    /// Ask once whether a server serves at the virtual address, and answer `ProbeAnswered` if so.
    /// Ask the server (SIP OPTIONS), not the kernel (ARP): that answers for the dead.
    Probe,
    /// Ask the gateway and these phones whether we reach them; answer with one [`Input::Reach`], a
    /// tenth of a second later at most.
    AskReach {
        /// Where phones are, at most [`PHONES_MAX`](crate::PHONES_MAX).
        phones: Vec<SocketAddr>,
    },
    /// Ask the third voter for its vote; answer [`Input::Voted`] with this number. An earlier request
    /// is forgotten.
    AskVote {
        /// Names the request.
        number: u64,
        /// For this reign.
        epoch: Epoch,
        /// For so long, counted from now.
        term: Duration,
    },
    /// Give the third vote back.
    ReleaseVote {
        /// The reign it was for.
        epoch: Epoch,
    },
    /// Answer to an operator.
    Answer {
        /// As in the question.
        id: u64,
        /// The answer.
        answer: OperatorAnswer,
    },
    /// Write to the log and show.
    Fact(Fact),
    /// After [`Input::Shutdown`]: nothing more to do.
    Finished,
}
