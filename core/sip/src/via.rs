use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::bytes::{decimal_fitting, is_space, push_decimal, trim, trim_end};
use crate::{Host, Params, Token};

/// One step of the way a request took: `SIP/2.0/UDP host:port;branch=...` (RFC 3261 §20.42).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Via {
    /// `UDP`, `TCP`, ... as it stood.
    pub transport: Token,
    /// Who sent it: where answers go unless `received` says otherwise.
    pub host: Host,
    /// The port that goes with the host.
    pub port: Option<u16>,
    /// branch, received, rport and others.
    pub params: Params,
}

impl Via {
    /// What a branch starts with that is unique to its transaction (RFC 3261 §8.1.1.7).
    pub const MAGIC_COOKIE: &'static [u8] = b"z9hG4bK";

    /// Reads one value.
    ///
    /// # Errors
    ///
    /// When it does not follow the grammar of RFC 3261 §25.1, or its protocol is not SIP/2.0.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let rest = word(trim(bytes), b"SIP").ok_or("protocol is not SIP/2.0")?;
        let rest = word(slash(rest)?, b"2.0").ok_or("protocol is not SIP/2.0")?;
        Self::parse_after_version(rest)
    }

    /// As `parse`, whatever the version of SIP: to answer that it is not supported.
    pub(crate) fn parse_any_version(bytes: &[u8]) -> Option<Self> {
        let rest = slash(word(trim(bytes), b"SIP")?).ok()?;
        let length = rest.iter().position(|byte| is_space(*byte) || *byte == b'/')?;
        Self::parse_after_version(&rest[length..]).ok()
    }

    fn parse_after_version(rest: &[u8]) -> Result<Self, &'static str> {
        let rest = slash(rest)?;
        let length = rest.iter().position(|byte| is_space(*byte)).ok_or("no host")?;
        let transport = Token::new(&rest[..length]).ok_or("transport malformed")?;
        let rest = trim(&rest[length..]);
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let (host, port) = sent_by(trim_end(&rest[..end])).ok_or("host or port malformed")?;
        let params = Params::parse(&rest[end..]).ok_or("parameter malformed")?;
        Ok(Self { transport, host, port, params })
    }

    /// The branch: names the transaction.
    pub fn branch(&self) -> Option<&[u8]> {
        self.params.value("branch")
    }

    /// The address the request came from, where the receiver wrote it down (RFC 3261 §18.2.1).
    /// IPv6 with or without brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.params.value("received")?;
        let bare = value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        core::str::from_utf8(bare.unwrap_or(value)).ok()?.parse().ok()
    }

    /// `None`: not there; `Some(None)`: the sender asks for it; `Some(Some(port))`: the receiver
    /// wrote it down (RFC 3581 §3). A value that is no port counts as none.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|value| value.and_then(decimal_fitting))
    }

    /// The address to answer to instead of the host (RFC 3261 §18.2.2).
    pub fn maddr(&self) -> Option<Host> {
        self.params.value("maddr").and_then(Host::parse)
    }

    /// Writes down the address the request came from.
    pub fn set_received(&mut self, address: IpAddr) {
        self.params.set("received", Some(address.to_string().as_bytes()));
    }

    /// Writes down the port the request came from.
    pub fn set_rport(&mut self, port: u16) {
        self.params.set("rport", Some(port.to_string().as_bytes()));
    }

    /// As it prints.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.params.as_bytes().len());
        out.extend_from_slice(b"SIP/2.0/");
        out.extend_from_slice(self.transport.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.host.to_string().as_bytes());
        if let Some(port) = self.port {
            out.push(b':');
            push_decimal(port.into(), &mut out);
        }
        out.extend_from_slice(self.params.as_bytes());
        out
    }
}

/// What follows after `word`, whatever its case.
fn word<'a>(bytes: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// What follows after a slash with spaces around it.
fn slash(bytes: &[u8]) -> Result<&[u8], &'static str> {
    trim(bytes).strip_prefix(b"/").map(trim).ok_or("protocol malformed")
}

/// `host:port`, spaces around the colon allowed.
fn sent_by(bytes: &[u8]) -> Option<(Host, Option<u16>)> {
    if !bytes.iter().any(|byte| is_space(*byte)) {
        return Host::parse_with_port(bytes);
    }
    // The last colon, unless it stands in brackets.
    let colon = memchr::memrchr(b':', bytes)?;
    let port = decimal_fitting(trim(&bytes[colon + 1..]))?;
    Some((Host::parse(trim(&bytes[..colon]))?, Some(port)))
}

impl From<Via> for Vec<u8> {
    fn from(via: Via) -> Self {
        via.to_bytes()
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Via {
        Via::parse(text.as_bytes()).unwrap_or_else(|what| panic!("{text}: {what}"))
    }

    #[test]
    fn spaces_may_stand_around_every_separator() {
        let parsed =
            via("sip  / 2.0\t/ TCP     spindle.example.com : 5070  ;\tbranch  =   z9hG4bK9ikj8 ");
        assert_eq!(parsed.to_string(), "SIP/2.0/TCP spindle.example.com:5070;branch=z9hG4bK9ikj8");
        assert_eq!(via(&parsed.to_string()), parsed);
    }

    #[test]
    fn where_the_request_came_from_is_written_down() {
        let mut parsed = via("SIP/2.0/UDP [2001:db8::9:1];rport;branch=z9hG4bKas3");
        assert_eq!((parsed.rport(), parsed.received()), (Some(None), None));
        parsed.set_received("2001:db8::9:255".parse().unwrap());
        parsed.set_rport(5099);
        assert_eq!(
            parsed.to_string(),
            "SIP/2.0/UDP [2001:db8::9:1];rport=5099;branch=z9hG4bKas3;received=2001:db8::9:255"
        );
        assert_eq!(via(&parsed.to_string()).rport(), Some(Some(5099)));
        assert_eq!(
            via("SIP/2.0/UDP h;received=[2001:db8::1]").received(),
            parsed_ip("2001:db8::1")
        );
        assert_eq!(via("SIP/2.0/UDP h").rport(), None);
    }

    fn parsed_ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/7.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0 h",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h;;,;,,",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP h i",
        ] {
            assert!(Via::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
