use core::fmt;

use crate::{HeaderName, Request};

/// Bytes that are no SIP message, or one nobody may act on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseError {
    /// What kind of fault: for counters.
    pub kind: ParseErrorKind,
    /// The status to answer; `None` when nothing may be answered (responses, ACK, garbage).
    pub status: Option<u16>,
    /// The request as far as it was understood, to make that answer from. `None` when there is no
    /// Via, so nobody waits for an answer. The Via itself may be malformed: answer to where the
    /// request came from.
    pub partial: Option<Box<Request>>,
    /// What is wrong, fit for a reason phrase and a log.
    pub what: &'static str,
}

impl ParseError {
    pub(crate) const fn silent(kind: ParseErrorKind, what: &'static str) -> Self {
        Self { kind, status: None, partial: None, what }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl core::error::Error for ParseError {}

/// Kinds of faults in a message.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keep-alive (RFC 5626 §4.4.1), no fault.
    KeepAlive,
    /// Does not start as SIP does.
    NotSip,
    /// Longer than allowed: 513.
    TooLarge,
    /// The request or status line is malformed.
    StartLine,
    /// Another version of SIP: 505.
    Version,
    /// The Request-URI is longer than allowed: 414.
    UriTooLong,
    /// A header line without a name or with a stray control character.
    HeaderSyntax,
    /// More header lines than allowed.
    TooManyHeaders,
    /// A header line longer than allowed.
    HeaderTooLong,
    /// The end of the header section is missing.
    Truncated,
    /// Content-Length is no length, says two things, or does not fit.
    ContentLength,
    /// A header that must be there is not.
    Missing,
    /// A header that must be understood cannot be.
    Malformed,
    /// A header that may stand once stands more often.
    Repeated,
}

/// A header that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderError {
    /// Which header.
    pub name: HeaderName,
    /// What is wrong with it.
    pub fault: HeaderFault,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderFault {
    /// It is not there.
    Missing,
    /// Its value does not follow its grammar.
    Malformed(&'static str),
}

impl HeaderError {
    pub(crate) const fn missing(name: HeaderName) -> Self {
        Self { name, fault: HeaderFault::Missing }
    }

    pub(crate) const fn malformed(name: HeaderName, what: &'static str) -> Self {
        Self { name, fault: HeaderFault::Malformed(what) }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            HeaderFault::Missing => write!(f, "{} is missing", self.name),
            HeaderFault::Malformed(what) => write!(f, "{}: {what}", self.name),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Why bytes are no URI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UriError(pub(crate) &'static str);

impl UriError {
    /// What is wrong.
    pub const fn what(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for UriError {}
