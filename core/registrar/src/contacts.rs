//! What a REGISTER asks for, read once.

use core::fmt;

use tandem_sip::{ContactValue, HeaderError, HeaderName, NameAddr, Params, Request, Uri};

use crate::binding::Q_MAX;
use crate::registrar::Config;

/// Longest Contact value that is kept, in bytes. A longer one is refused.
pub const CONTACT_BYTES_MAX: usize = 2_048;

/// Longest Call-ID that is kept, in bytes. A longer one is refused.
pub const CALL_ID_BYTES_MAX: usize = 256;

/// So much of a User-Agent is kept, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 128;

/// Why nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The request does not make sense: 400.
    Malformed(&'static str),
    /// More devices than one user may have: 403.
    TooManyDevices,
    /// Shorter than we renew: 423 with this Min-Expires, in seconds.
    TooBrief(u32),
    /// Older than what is there already (RFC 3261 §10.3 step 7): 500.
    OutOfOrder,
    /// A device that is not logged in, while none is admitted: 503.
    NotAdmitted,
}

impl Refused {
    /// The status to answer.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooManyDevices => 403,
            Self::TooBrief(_) => 423,
            Self::OutOfOrder => 500,
            Self::NotAdmitted => 503,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::TooManyDevices => f.write_str("too many devices are logged in"),
            Self::TooBrief(least) => write!(f, "less than {least} seconds"),
            Self::OutOfOrder => f.write_str("older than the registration that is there"),
            Self::NotAdmitted => f.write_str("no further device may log in now"),
        }
    }
}

impl From<HeaderError> for Refused {
    fn from(_: HeaderError) -> Self {
        Self::Malformed("a header of the registration cannot be read")
    }
}

/// What a REGISTER asks for.
#[derive(Debug)]
pub(crate) enum Wish {
    /// To be told the bindings.
    Query,
    /// To forget all of them (`Contact: *`).
    Clear,
    /// To make, renew or forget these.
    Change(Vec<Contact>),
}

/// One address to make, renew or forget.
#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) uri: Uri,
    pub(crate) q: u16,
    /// Zero: forget it.
    pub(crate) seconds: u32,
    pub(crate) params: Params,
}

/// Reads the Contact and Expires headers.
pub(crate) fn read(request: &Request, config: &Config) -> Result<Wish, Refused> {
    // What cannot be read counts as not said (RFC 3261 §10.2.1.1).
    let general = request.headers.expires().unwrap_or(None);
    let mut contacts = Vec::new();
    let mut star = false;
    for value in request.headers.contacts()? {
        match value {
            ContactValue::Star => star = true,
            ContactValue::Addr(value) => contacts.push(contact(&value, general, config)?),
        }
    }
    match (star, contacts.is_empty()) {
        (false, true) => Ok(Wish::Query),
        (false, false) => Ok(Wish::Change(contacts)),
        (true, true) if general == Some(0) => Ok(Wish::Clear),
        (true, true) => Err(Refused::Malformed("Contact: * needs Expires: 0")),
        (true, false) => Err(Refused::Malformed("Contact: * stands alone")),
    }
}

fn contact(value: &NameAddr, general: Option<u32>, config: &Config) -> Result<Contact, Refused> {
    if !value.uri.is_sip() {
        return Err(Refused::Malformed("a Contact is not a SIP address"));
    }
    if value.uri.as_bytes().len() + value.params.as_bytes().len() > CONTACT_BYTES_MAX {
        return Err(Refused::Malformed("a Contact is too long"));
    }
    let own = value.params.value("expires").and_then(seconds);
    let asked = own.or(general).unwrap_or(config.expires_default_seconds);
    if asked > 0 && asked < config.expires_min_seconds {
        return Err(Refused::TooBrief(config.expires_min_seconds));
    }
    let mut params = value.params.clone();
    params.remove("expires");
    params.remove("q");
    Ok(Contact {
        uri: value.uri.without_headers(),
        q: value.params.value("q").and_then(thousandths).unwrap_or(Q_MAX),
        seconds: asked.min(config.expires_max_seconds),
        params,
    })
}

/// Digits as a number; more than fits counts as the most that fits.
fn seconds(digits: &[u8]) -> Option<u32> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    all_digits.then(|| digits.iter().fold(0, add))
}

/// `0.5`, `1`, `1.000` in thousandths (RFC 3261 §25.1, qvalue).
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, rest) = text.split_first()?;
    let fraction = match rest {
        [] => rest,
        [b'.', fraction @ ..] if fraction.len() <= 3 => fraction,
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let q = u16::from(whole - b'0') * Q_MAX + digit(0) * 100 + digit(1) * 10 + digit(2);
    (q <= Q_MAX).then_some(q)
}

/// The Call-ID, where it is one that is kept.
pub(crate) fn call_id(request: &Request) -> Result<&[u8], Refused> {
    let call_id = request.headers.call_id()?;
    if call_id.len() > CALL_ID_BYTES_MAX {
        return Err(Refused::Malformed("the Call-ID is too long"));
    }
    Ok(call_id)
}

/// What the phone calls itself, cut to what is kept.
pub(crate) fn user_agent(request: &Request) -> Vec<u8> {
    let text = request.headers.get(&HeaderName::UserAgent).unwrap_or_default();
    text[..text.len().min(USER_AGENT_BYTES_MAX)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_read_in_thousandths() {
        let cases: [(&str, Option<u16>); 10] = [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("0.5", Some(500)),
            ("0.25", Some(250)),
            ("0.125", Some(125)),
            ("1.000", Some(1_000)),
            ("1.001", None),
            ("0.1234", None),
            ("2", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(thousandths(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn more_seconds_than_fit_are_the_most_that_fit() {
        assert_eq!(seconds(b"99999999999999999999"), Some(u32::MAX));
        assert_eq!(seconds(b"0060"), Some(60));
        assert_eq!(seconds(b""), None);
        assert_eq!(seconds(b"-1"), None);
    }
}
