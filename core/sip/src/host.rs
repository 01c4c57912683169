use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::Token;
use crate::bytes::is_host_name;

/// The host in a URI or Via: a name or an address.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Host {
    /// A name to be looked up; as it stood.
    Name(Token),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address; stands in brackets.
    V6(Ipv6Addr),
}

impl Host {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Some(inner) = bytes.strip_prefix(b"[") {
            let inner = inner.strip_suffix(b"]")?;
            let text = core::str::from_utf8(inner).ok()?;
            // The grammar of RFC 3261 allowed a colon too many: RFC 5118 §4.10.
            let parsed = text.parse().or_else(|_| text.replacen(":::", "::", 1).parse());
            return parsed.ok().map(Self::V6);
        }
        if !is_host_name(bytes) {
            return None;
        }
        // Names are far more often not an address: look at the first byte before trying.
        if bytes[0].is_ascii_digit()
            && let Ok(address) = core::str::from_utf8(bytes).ok()?.parse()
        {
            return Some(Self::V4(address));
        }
        Token::new(bytes).map(Self::Name)
    }

    /// The host and, after a colon, the port.
    pub(crate) fn parse_with_port(bytes: &[u8]) -> Option<(Self, Option<u16>)> {
        let (host, port) = split_port(bytes)?;
        let port = match port {
            Some(digits) => Some(crate::bytes::decimal_fitting(digits)?),
            None => None,
        };
        Some((Self::parse(host)?, port))
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// Whether both are the same address, or the same name in whatever case.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(two)) => one.as_str().eq_ignore_ascii_case(two.as_str()),
            (Self::Name(_) | Self::V4(_) | Self::V6(_), _) => self == other,
        }
    }
}

/// Cuts `host:port` in two; a colon within brackets is none.
pub(crate) fn split_port(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_end = if bytes.first() == Some(&b'[') {
        memchr::memchr(b']', bytes)? + 1
    } else {
        memchr::memchr(b':', bytes).unwrap_or(bytes.len())
    };
    match bytes[host_end..].split_first() {
        None => Some((bytes, None)),
        Some((b':', digits)) => Some((&bytes[..host_end], Some(digits))),
        Some(_) => None,
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&str>) {
        assert_eq!(Host::parse(text.as_bytes()).map(|host| host.to_string()).as_deref(), want);
    }

    #[test]
    fn names_and_addresses_print_as_they_stood() {
        for text in ["Example.COM", "pbx", "3f2a91bc", "a.b.", "192.0.2.1", "[2001:db8::1]"] {
            check(text, Some(text));
        }
        check("[2001:DB8:0::1]", Some("[2001:db8::1]"));
        check("[2001:db8:::192.0.2.1]", Some("[2001:db8::c000:201]"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", ".", "a..b", "a b", "2001:db8::1", "[2001:db8::1", "[192.0.2.1]", "a@b"] {
            check(text, None);
        }
    }

    #[test]
    fn a_port_follows_the_brackets() {
        let parse = |text: &str| Host::parse_with_port(text.as_bytes()).map(|(_, port)| port);
        assert_eq!(parse("[2001:db8::1]:5070"), Some(Some(5070)));
        assert_eq!(parse("[2001:db8::1]"), Some(None));
        assert_eq!(parse("h:65535"), Some(Some(65535)));
        assert_eq!(parse("h:65536"), None);
        assert_eq!(parse("h:"), None);
        assert_eq!(parse("[2001:db8::1]x"), None);
    }
}
