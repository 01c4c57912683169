//! What goes into the node and what comes out of it.

use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tandem_call::Cdr;
use tandem_dialplan::{Blockable, Edit};
use tandem_journal::{Cursor, Known, Record, Write};
use tandem_sip::digest::Algorithm;
use tandem_types::{Duration, Epoch, Flow, Instant, Role, Seat, Stamp};

use crate::block::BlockRow;
use crate::facts::Fact;

/// What the node must know before it starts. The same for its whole life.
#[derive(Clone, Debug)]
pub struct Config {
    /// This server's seat.
    pub seat: Seat,
    /// The realm of digest authentication, and the domain of every user.
    pub realm: String,
    /// Addresses at which SIP is served on the virtual address: they move with the role.
    pub virtual_addresses: Vec<SocketAddr>,
    /// Addresses at which SIP is spoken on this machine's own address, whatever its role.
    pub own_addresses: Vec<SocketAddr>,
    /// Who is answered 503 is told to wait so long, or up to twice as long, in seconds.
    pub retry_after_seconds: u32,
    /// The pair's key for digest nonces.
    pub nonce_key: [u8; 32],
    /// Which digest algorithms a phone is offered.
    pub digest: Digest,
    /// Devices that may be logged in at once for one user.
    pub devices_per_user_max: usize,
    /// Whether the virtual addresses can still be heard for a moment after the twin has taken them:
    /// on a network, not where two servers on one machine bind the same one.
    pub lingers: bool,
}

/// Which digest algorithms a phone is offered (RFC 8760). What is kept of a password serves all.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// MD5 alone: every phone takes it. Many give up when they see another one beside it, which
    /// they should not (baresip 1.0.0 does).
    #[default]
    Md5,
    /// SHA-256 alone, for a house whose phones all know it.
    Sha256,
    /// SHA-256 first, then MD5.
    Both,
}

impl Digest {
    /// The algorithms in the order offered.
    pub const fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Md5 => &[Algorithm::Md5],
            Self::Sha256 => &[Algorithm::Sha256],
            Self::Both => &[Algorithm::Sha256, Algorithm::Md5],
        }
    }
}

/// Rules that a test may break.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// Messages leave before their entry is committed.
    AnswerBeforeCommit,
    /// Entries of the journal are acknowledged and thrown away.
    AcknowledgeWithoutKeeping,
    /// Calls are not on record before they are over.
    WriteNothingAhead,
    /// A call that is taken over gets a record for what there was of it until then.
    CloseAtTakeover,
}

impl Config {
    /// Whether `ip` is one of ours.
    pub fn is_ours(&self, ip: IpAddr) -> bool {
        self.virtual_addresses.iter().chain(&self.own_addresses).any(|ours| ours.ip() == ip)
    }
}

/// What happens to the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// What the clock on the wall shows now: microseconds since 1970 UTC. At start, then each
    /// second.
    Wall(i64),
    /// One datagram or one framed stream message.
    Bytes {
        /// Where it came from and where it came in.
        flow: Flow,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Nothing can be sent on this flow: refused, reset, timed out.
    FlowFailed(Flow),
    /// A connection ended. What was sent on it may have arrived; what follows takes another way.
    FlowClosed(Flow),
    /// The keeper's word on our role. Without a valid lease an active node stops serving.
    Lease {
        /// The role.
        role: Role,
        /// The reign.
        epoch: Epoch,
        /// Until when it holds, on this machine's clock.
        until: Instant,
    },
    /// The keeper says: hand over to the twin, in this reign. The lease holds until then.
    HandOver {
        /// The reign that ends.
        epoch: Epoch,
        /// Until when the lease holds, on this machine's clock.
        until: Instant,
    },
    /// The link to the twin's server came up.
    LinkUp,
    /// The link went down.
    LinkDown,
    /// One frame from the twin's server.
    Frame(Vec<u8>),
    /// All writes to the store up to this ticket are done.
    Stored(u64),
    /// The store cannot write (false), or can again.
    Disk(bool),
    /// Log records, for [`Output::Fetch`].
    Fetched {
        /// The number of the read.
        read: u64,
        /// The records.
        records: Vec<Record>,
        /// Where to go on; `None` when these were the last.
        next: Option<Cursor>,
    },
    /// Records on the disk were damaged and are set aside; the stamps of the entries that wrote them, `None`
    /// where that is not known.
    Damaged(Vec<Option<Stamp>>),
    /// Whether there is such a log record, for [`Output::Look`].
    Looked {
        /// Its key.
        key: Vec<u8>,
        /// Whether there is.
        found: bool,
    },
    /// [`Output::Edit`] is done, or is refused with the reason.
    Edited {
        /// Of the edit.
        id: u64,
        /// The reason.
        result: Result<(), String>,
    },
    /// The configuration is different: all of it at start, later what others changed, and what is true
    /// where an edit was refused.
    Changed(Vec<Edit>),
    /// An administrator's request; answered by [`Output::Answer`].
    Admin {
        /// Names the request.
        id: u64,
        /// What is wanted.
        request: Request,
        /// Who wants it: a user of the machine where it was asked.
        by: String,
    },
}

/// What the node wants done. Take these until there is none left.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a SIP message.
    Transmit {
        /// Where to.
        flow: Flow,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send to the twin's server.
    Frame(Vec<u8>),
    /// Write to the store, in order.
    Store {
        /// What.
        write: Write,
        /// Whether it must be on disk before [`Input::Stored`].
        sync: bool,
        /// Rises with every write.
        ticket: u64,
    },
    /// Read log records, once all writes before this are done.
    Fetch {
        /// What the twin has: read what this does not cover.
        lacking: Known,
        /// Where to go on.
        after: Cursor,
        /// The number of the read.
        read: u64,
    },
    /// Look whether there is a log record of this key, once all writes before this are done, and
    /// before any later [`Output::Fetch`] is answered.
    Look {
        /// Its key.
        key: Vec<u8>,
    },
    /// Change the configuration; answer by [`Input::Edited`] when that is safe.
    Edit {
        /// Names it.
        id: u64,
        /// What is from now on.
        edit: Edit,
        /// Who wants it so.
        by: String,
    },
    /// Keep closed calls on record for so many days, `None`: for ever. Said again now and then: it is also the
    /// time to look for what is older by now.
    Retain(Option<u32>),
    /// Bind the virtual addresses (true) or release them.
    Serve(bool),
    /// The answer to an administrator's request.
    Answer {
        /// Names the request.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something worth a line in the log.
    Fact(Fact),
}

/// What an administrator may ask of the node, on either server. The passive one hands it to the
/// active one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A new user; the password is made by the server and shown once, unless given.
    UserAdd {
        /// Login name.
        name: String,
        /// Name for people; the login name where empty.
        display: String,
        /// Internal numbers.
        numbers: Vec<String>,
        /// A password of the administrator's choice.
        password: Option<String>,
    },
    /// Changes a user; what is `None` stays.
    UserSet {
        /// Login name.
        name: String,
        /// Name for people.
        display: Option<String>,
        /// All internal numbers.
        numbers: Option<Vec<String>>,
        /// Whether the user may log in.
        enabled: Option<bool>,
        /// What becomes of the password.
        password: NewPassword,
    },
    /// Removes a user.
    UserRemove {
        /// Login name.
        name: String,
    },
    /// Every user, with the devices logged in.
    UserList,
    /// Every call that is up.
    CallList,
    /// Lets no device log in anew, or no call begin.
    Block {
        /// Which of the two.
        what: Blockable,
        /// Why, in one line; may be empty. Phones that are refused are told.
        reason: String,
        /// Until it ends by itself; `None`: never.
        seconds: Option<u64>,
    },
    /// Ends a block.
    Unblock {
        /// Which.
        what: Blockable,
    },
    /// What is blocked.
    BlockList {
        /// As this server knows it, whatever its role: answered at once. Otherwise by the active
        /// one.
        here: bool,
    },
    /// Changes the emergency numbers; what is `None` stays.
    EmergencySet {
        /// All of them.
        numbers: Option<Vec<String>>,
        /// The name or number of the user where they ring; empty: nowhere but at users who have
        /// them.
        to: Option<String>,
    },
    /// The emergency numbers.
    EmergencyList,
    /// How long closed calls stay on record.
    RetentionSet {
        /// Days; `None`: for ever.
        days: Option<u32>,
    },
    /// How long closed calls stay on record. Answered by either server.
    Retention,
}

/// What becomes of a user's password.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NewPassword {
    /// It stays.
    #[default]
    Keep,
    /// The server makes one and shows it once.
    Make,
    /// This one, of the administrator's choice.
    Take(String),
}

impl Request {
    /// Whether it changes anything.
    pub const fn changes(&self) -> bool {
        match self {
            Self::UserAdd { .. }
            | Self::UserSet { .. }
            | Self::UserRemove { .. }
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::EmergencySet { .. }
            | Self::RetentionSet { .. } => true,
            Self::UserList
            | Self::CallList
            | Self::BlockList { .. }
            | Self::EmergencyList
            | Self::Retention => false,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, and safe.
    Done {
        /// The password the server made: shown this once.
        password: Option<String>,
    },
    /// Not done.
    Refused {
        /// Which field, what was given, what was expected.
        why: String,
    },
    /// Users, by name.
    Users {
        /// The list.
        users: Vec<UserRow>,
    },
    /// Calls, oldest first.
    Calls {
        /// The list.
        calls: Vec<CallRow>,
    },
    /// What is blocked; logins first.
    Blocks {
        /// The list; empty where nothing is.
        blocks: Vec<BlockRow>,
    },
    /// The emergency numbers.
    Emergency {
        /// The list.
        numbers: Vec<EmergencyRow>,
        /// Where those ring that are nobody's own, as it was set.
        to: Option<String>,
    },
    /// How long closed calls stay on record.
    Retention {
        /// Days; `None`: for ever.
        days: Option<u32>,
    },
}

/// An emergency number as listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EmergencyRow {
    /// The number.
    pub number: String,
    /// The user at whom it rings; `None`: a call to it fails.
    pub rings: Option<String>,
}

/// A user as listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserRow {
    /// Login name.
    pub name: String,
    /// Name for people.
    pub display: String,
    /// Internal numbers.
    pub numbers: Vec<String>,
    /// Whether the user may log in.
    pub enabled: bool,
    /// Contact URI, source and seconds left of each device logged in.
    pub devices: Vec<DeviceRow>,
}

/// A device that is logged in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceRow {
    /// Contact URI.
    pub contact: String,
    /// Transport and address it registered from.
    pub source: String,
    /// Seconds until the login expires.
    pub expires_seconds: u64,
    /// What it calls itself.
    pub user_agent: String,
}

/// A call as listed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CallRow {
    /// `ringing` or `answered`.
    pub state: String,
    /// The record as of now.
    pub cdr: Cdr,
}

/// The node at a glance, for the keeper and the status page.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Role by the last lease.
    pub role: Role,
    /// Its reign.
    pub epoch: Epoch,
    /// Whether phones are served right now.
    pub serving: bool,
    /// Whether the twin has everything (active), or we have (passive).
    pub in_sync: bool,
    /// Whether the link to the twin is up.
    pub linked: bool,
    /// The newest reign of which it has entries, and its newest entry of that.
    pub newest: Stamp,
    /// Position in the journal.
    pub last_seq: u64,
    /// Since when the twin's server was not heard on the link.
    pub link_heard: Option<Duration>,
    /// Whether the twin's server says it serves.
    pub peer_serving: Option<bool>,
    /// The reign that the twin's server serves or follows, as it said last.
    pub peer_epoch: Option<Epoch>,
    /// Calls that are up.
    pub calls: usize,
    /// Active: how long ago a phone was heard on a virtual address; `None`: not in this reign.
    pub phone_heard: Option<Duration>,
    /// Devices logged in.
    pub bindings: usize,
    /// Users.
    pub users: usize,
    /// Whether the store can write.
    pub disk_works: bool,
}

/// What the keeper decides by: it must hear of every change at once. Cheap to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Role by the last lease.
    pub role: Role,
    /// Its reign.
    pub epoch: Epoch,
    /// Whether phones are served right now.
    pub serving: bool,
    /// As in [`Status`].
    pub in_sync: bool,
    /// As in [`Status`].
    pub peer_serving: Option<bool>,
}
