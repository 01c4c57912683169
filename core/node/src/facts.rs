//! What the node tells about itself: each fact is one line in the log and, later, one event.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Flow, Pii, Role};

use tandem_dialplan::Blockable;

/// One fact.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fact")]
pub enum Fact {
    /// The keeper gave us this role.
    RoleChanged {
        /// The new role.
        role: Role,
        /// Its reign.
        epoch: Epoch,
        /// Calls taken over.
        calls: usize,
        /// Logins taken over.
        bindings: usize,
        /// Records that could not be read; they are kept in the store.
        unreadable: usize,
    },
    /// The lease ran out; nothing is served until the keeper renews it.
    LeaseLost {
        /// How late we noticed.
        late: Duration,
    },
    /// The keeper renewed a lease that had run out.
    LeaseBack,
    /// A planned switch: nothing is said here any more, the twin says the rest.
    HandedOver {
        /// Messages that waited to leave and were given to the twin.
        messages: usize,
    },
    /// The twin holds, or no longer holds, everything.
    Protection {
        /// Whether it does.
        protected: bool,
        /// Why it changed.
        why: String,
    },
    /// A device logged in for the first time or from a new address.
    LoggedIn {
        /// Who.
        user: String,
        /// From where.
        source: Flow,
    },
    /// A device logged out, or its login ran out.
    LoggedOut {
        /// Who.
        user: String,
    },
    /// A wrong password or unknown user.
    LoginRefused {
        /// The name that was tried.
        user: String,
        /// From where.
        source: Flow,
    },
    /// A call began.
    CallBegan {
        /// Its number.
        call: String,
        /// Who calls.
        from: Pii<String>,
        /// Who is called.
        to: Pii<String>,
    },
    /// A call was answered.
    CallAnswered {
        /// Its number.
        call: String,
    },
    /// A call ended and its record is closed.
    CallEnded {
        /// Its number.
        call: String,
        /// How it went.
        outcome: String,
        /// Seconds of talk.
        talk_seconds: i64,
    },
    /// An administrator lets no device log in anew, or no call begin.
    Blocked {
        /// Which of the two.
        what: Blockable,
        /// Why, in the administrator's words.
        reason: String,
        /// Until it ends by itself; `None`: never.
        seconds: Option<u64>,
    },
    /// A block ended.
    Unblocked {
        /// Which.
        what: Blockable,
        /// Whether its time was over; otherwise an administrator ended it.
        expired: bool,
        /// How many were refused since it began.
        refused: u64,
    },
    /// A device was refused because new logins are blocked.
    LoginBlocked {
        /// Who.
        user: String,
        /// From where.
        source: Flow,
        /// Why they are.
        reason: String,
    },
    /// A call was refused because new calls are blocked.
    CallBlocked {
        /// Its number.
        call: String,
        /// Why they are.
        reason: String,
    },
    /// The store cannot write, or can again.
    Disk {
        /// Whether it can.
        works: bool,
    },
    /// The disk took so long that something was said before it was safe, or it has that now.
    DiskLate {
        /// Whether it is late.
        late: bool,
    },
    /// Records on the disk were not as they had been written.
    RecordsDamaged {
        /// How many.
        records: usize,
    },
    /// Both servers of the pair have the same seat.
    SameSeat,
    /// A frame of the twin could not be read.
    BadFrame {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoleChanged { role, epoch, calls, bindings, unreadable } => write!(
                f,
                "role {role} in epoch {epoch}: {calls} calls and {bindings} logins at hand, \
                 {unreadable} records unreadable"
            ),
            Self::LeaseLost { late } => write!(
                f,
                "the keeper's lease ran out (noticed {} ms late): not serving",
                late.as_millis()
            ),
            Self::HandedOver { messages } => {
                write!(
                    f,
                    "handing over: the twin says the {messages} messages that waited to leave"
                )
            }
            Self::LeaseBack => f.write_str("the keeper renewed the lease: serving again"),
            Self::Protection { protected: true, why } => write!(f, "protected: {why}"),
            Self::Protection { protected: false, why } => write!(f, "UNPROTECTED: {why}"),
            Self::LoggedIn { user, source } => write!(f, "{user} logged in from {source}"),
            Self::LoggedOut { user } => write!(f, "{user}: a device logged out"),
            // The form that fail2ban's stock Asterisk filter matches.
            Self::LoginRefused { user, source } => {
                let family = if source.remote.is_ipv4() { "IPV4" } else { "IPV6" };
                write!(
                    f,
                    "SecurityEvent=\"InvalidPassword\",Service=\"SIP\",AccountID=\"{user}\",\
                     RemoteAddress=\"{family}/{}/{}/{}\"",
                    source.transport.via_token(),
                    source.remote.ip(),
                    source.remote.port()
                )
            }
            Self::CallBegan { call, from, to } => write!(f, "call {call}: {from} calls {to}"),
            Self::CallAnswered { call } => write!(f, "call {call}: answered"),
            Self::CallEnded { call, outcome, talk_seconds } => {
                write!(f, "call {call}: {outcome}, {talk_seconds} s of talk")
            }
            Self::Blocked { what, reason, seconds } => {
                write!(f, "{what} are BLOCKED{}", Reason(reason))?;
                match seconds {
                    Some(seconds) => write!(f, ", for {seconds} s"),
                    None => f.write_str(", until somebody ends it"),
                }
            }
            Self::Unblocked { what, expired, refused } => {
                let why = if *expired { "its time is over" } else { "ended by an administrator" };
                write!(f, "{what} are no longer blocked: {why}; {refused} were refused")
            }
            Self::LoginBlocked { user, source, reason } => {
                let reason = Reason(reason);
                write!(f, "{user} refused at {source}: new logins are blocked{reason}")
            }
            Self::CallBlocked { call, reason } => {
                write!(f, "call {call}: refused, new calls are blocked{}", Reason(reason))
            }
            Self::Disk { works } => f.write_str(if *works { WRITES } else { CANNOT_WRITE }),
            Self::DiskLate { late } => f.write_str(if *late { TOO_SLOW } else { CAUGHT_UP }),
            Self::RecordsDamaged { records } => write!(
                f,
                "DAMAGED RECORDS on the disk: {records}, set aside; the next catch-up brings what the twin has \
                 of them"
            ),
            Self::SameSeat => {
                f.write_str("the twin has our seat: one of the two was set up wrongly")
            }
            Self::BadFrame { why } => write!(f, "the twin sent {why}"),
        }
    }
}

const WRITES: &str = "the store writes again";
const CANNOT_WRITE: &str = "THE STORE CANNOT WRITE: served from memory, safe on the twin only";
const TOO_SLOW: &str = "THE DISK IS TOO SLOW: answers left before it had what they rest on";
const CAUGHT_UP: &str = "the disk has what it was late with";

/// An administrator's reason, where one was given.
struct Reason<'a>(&'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}
