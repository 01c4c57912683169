use core::fmt;

use serde::{Deserialize, Serialize};

use crate::Token;

/// What a request asks for. Case counts (RFC 3261 §7.1).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// Starts a call or changes it.
    Invite,
    /// Confirms the final answer to an INVITE.
    Ack,
    /// Ends a call.
    Bye,
    /// Takes back an INVITE.
    Cancel,
    /// Tells where a user is.
    Register,
    /// Asks what the other side can do.
    Options,
    /// Carries something within a call (RFC 6086).
    Info,
    /// Confirms a provisional answer (RFC 3262).
    Prack,
    /// Changes a call without a new offer cycle (RFC 3311).
    Update,
    /// Carries a text (RFC 3428).
    Message,
    /// Asks to be told of events (RFC 6665).
    Subscribe,
    /// Tells of an event (RFC 6665).
    Notify,
    /// Asks the other side to call somebody (RFC 3515).
    Refer,
    /// Publishes a state (RFC 3903).
    Publish,
    /// Any other.
    Other(Token),
}

impl Method {
    /// `None` when it is not a token.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"INFO" => Self::Info,
            b"PRACK" => Self::Prack,
            b"UPDATE" => Self::Update,
            b"MESSAGE" => Self::Message,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"REFER" => Self::Refer,
            b"PUBLISH" => Self::Publish,
            other => Self::Other(Token::new(other)?),
        })
    }

    /// As it stands in a request line.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Message => "MESSAGE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Publish => "PUBLISH",
            Self::Other(token) => token.as_str(),
        }
    }
}

impl TryFrom<String> for Method {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_bytes(text.as_bytes()).ok_or("not a method")
    }
}

/// Stored by name, so that a later version may add methods.
impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.as_str().into()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
