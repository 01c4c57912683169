use core::fmt;

use serde::{Deserialize, Serialize};

use crate::bytes::{is_space, is_token_byte, push_quoted, quoted_length, trim, trim_end, unquote};
use crate::{Params, Uri};

/// A name, an address and parameters: `"Alice" <sip:alice@example.com>;tag=1`, or the address
/// alone, `sip:alice@example.com;tag=1` (RFC 3261 §20.10, §25.1). Prints in the first form.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NameAddr {
    /// What to show for the address, without quotes and backslashes. Quoted when printed.
    pub display: Option<Vec<u8>>,
    /// The address.
    pub uri: Uri,
    /// What stands after it.
    pub params: Params,
}

impl NameAddr {
    /// The address alone.
    pub const fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Params::new() }
    }

    /// Reads one value. `Err` says what is wrong.
    ///
    /// # Errors
    ///
    /// When it does not follow the grammar of RFC 3261 §25.1. Taken beyond that grammar: bytes of
    /// 0x80 and more in a display name without quotes.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = trim(bytes);
        let (display, rest) = match bytes.first() {
            Some(b'"') => {
                let length = quoted_length(bytes).ok_or("quoted string does not end")?;
                let rest = trim(&bytes[length..]);
                if rest.first() != Some(&b'<') {
                    return Err("no < after the display name");
                }
                (Some(unquote(&bytes[..length])).filter(|text| !text.is_empty()), rest)
            }
            // A `<` after a semicolon stands in a quoted parameter of an address without `<>`.
            _ => match memchr::memchr2(b'<', b';', bytes) {
                Some(at) if bytes[at] == b'<' => {
                    let display = Some(plain_display(&bytes[..at])?);
                    (display.filter(|text| !text.is_empty()), &bytes[at..])
                }
                _ => return Self::parse_bare(bytes),
            },
        };
        let end = memchr::memchr(b'>', rest).ok_or("no > after the address")?;
        let uri = Uri::parse(&rest[1..end]).map_err(crate::UriError::what)?;
        let params = Params::parse(&rest[end + 1..]).ok_or("parameter malformed")?;
        Ok(Self { display, uri, params })
    }

    /// Without `<>` everything after a semicolon belongs to the header, and the address may hold
    /// neither comma nor question mark (RFC 3261 §20).
    fn parse_bare(bytes: &[u8]) -> Result<Self, &'static str> {
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let address = trim_end(&bytes[..end]);
        if memchr::memchr2(b',', b'?', address).is_some() {
            return Err("address with , or ? needs <>");
        }
        let uri = Uri::parse(address).map_err(crate::UriError::what)?;
        let params = Params::parse(&bytes[end..]).ok_or("parameter malformed")?;
        Ok(Self { display: None, uri, params })
    }

    /// The tag (RFC 3261 §19.3).
    pub fn tag(&self) -> Option<&[u8]> {
        self.params.value("tag")
    }

    /// With this tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &[u8]) -> Self {
        self.params.set("tag", Some(tag));
        self
    }

    /// As it prints.
    pub fn to_bytes(&self) -> Vec<u8> {
        let uri = self.uri.as_bytes();
        let display = self.display.as_deref().filter(|text| !text.is_empty());
        let mut out = Vec::with_capacity(
            uri.len() + 8 + display.map_or(0, <[u8]>::len) + self.params.as_bytes().len(),
        );
        if let Some(text) = display {
            push_quoted(text, &mut out);
            out.push(b' ');
        }
        out.push(b'<');
        out.extend_from_slice(uri);
        out.push(b'>');
        out.extend_from_slice(self.params.as_bytes());
        out
    }
}

/// A display name without quotes: tokens and spaces.
fn plain_display(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = trim_end(bytes);
    if !text.iter().all(|byte| is_token_byte(*byte) || is_space(*byte) || *byte >= 0x80) {
        return Err("display name needs quotes");
    }
    Ok(text.to_vec())
}

impl From<NameAddr> for Vec<u8> {
    fn from(value: NameAddr) -> Self {
        value.to_bytes()
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// One value of a Contact header (RFC 3261 §20.10).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ContactValue {
    /// `*`: all bindings. Only in a REGISTER that removes them.
    Star,
    /// An address.
    Addr(NameAddr),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, display: Option<&str>, uri: &str, tag: Option<&str>) {
        let parsed =
            NameAddr::parse(text.as_bytes()).unwrap_or_else(|what| panic!("{text}: {what}"));
        assert_eq!(parsed.display.as_deref(), display.map(str::as_bytes), "{text}");
        assert_eq!(parsed.uri.to_string(), uri);
        assert_eq!(parsed.tag(), tag.map(str::as_bytes), "{text}");
        assert_eq!(NameAddr::parse(&parsed.to_bytes()).as_ref(), Ok(&parsed), "{text}");
    }

    #[test]
    fn names_addresses_and_parameters_come_apart() {
        check("sip:a@h;tag=1", None, "sip:a@h", Some("1"));
        check("sip:a@h;x=\"<y>\";tag=1", None, "sip:a@h", Some("1"));
        check("<sip:a@h;tag=1>", None, "sip:a@h;tag=1", None);
        check("\"A, <B>\\\"\"<sip:a,b@h> ; tag = 2", Some("A, <B>\""), "sip:a,b@h", Some("2"));
        check("Bob Smith  <sip:a@h>", Some("Bob Smith"), "sip:a@h", None);
        check("Jürgen <sip:a@h>", Some("Jürgen"), "sip:a@h", None);
        check("caller<tel:+49>", Some("caller"), "tel:+49", None);
        check("\"\" <isbn:2>", None, "isbn:2", None);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in [
            "",
            "\"A <sip:a@h>",
            "A, B <sip:a@h>",
            "\"A\" sip:a@h",
            "< sip:a@h >",
            "<sip:a@h",
            "sip:a@h?x=y",
            "<sip:a@h>x",
            "sip:a,b@h",
            "sip:a b@h",
            "<sip:a@h>;;",
            "*",
        ] {
            assert!(NameAddr::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_display_name_cannot_start_a_new_line() {
        let mut value = NameAddr::new("sip:a@h".parse().unwrap());
        value.display = Some(b"x\r\nVia: \"y\"".to_vec());
        assert_eq!(value.to_string(), "\"x  Via: \\\"y\\\"\" <sip:a@h>");
    }
}
