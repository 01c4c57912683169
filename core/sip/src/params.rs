use core::fmt;

use serde::{Deserialize, Serialize};

use crate::MAX_PARAMS;
use crate::bytes::{is_param_value, is_token, push_quoted, quoted_length, trim, trim_end, unquote};

/// Parameters of a header value, `;name=value;name` (RFC 3261 §7.3.1), in order.
///
/// Names compare without case. Values keep their quotes; [`Params::text`] takes them off. Spaces
/// around `;` and `=` are not kept.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Params {
    /// As printed: empty, or starts with a semicolon.
    raw: Vec<u8>,
}

impl Params {
    /// None.
    pub const fn new() -> Self {
        Self { raw: Vec::new() }
    }

    /// What stands after a value: nothing, or `;` and parameters. `None` when one is malformed,
    /// a name stands twice, or there are more than [`MAX_PARAMS`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut raw = Vec::with_capacity(bytes.len());
        let mut names: Vec<&[u8]> = Vec::new();
        let mut rest = trim(bytes);
        while let [b';', tail @ ..] = rest {
            let end = param_end(tail)?;
            let (name, value) = split_value(&tail[..end]);
            let is_known = names.iter().any(|known| known.eq_ignore_ascii_case(name));
            if !is_token(name) || is_known || names.len() == MAX_PARAMS {
                return None;
            }
            names.push(name);
            raw.push(b';');
            raw.extend_from_slice(name);
            if let Some(value) = value {
                let is_quoted = value.first() == Some(&b'"');
                if !is_quoted && !is_param_value(value)
                    || is_quoted && quoted_length(value) != Some(value.len())
                {
                    return None;
                }
                raw.push(b'=');
                raw.extend_from_slice(value);
            }
            rest = &tail[end..];
        }
        rest.is_empty().then_some(Self { raw })
    }

    /// Name and value of each, as they stand.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = self.raw.as_slice();
        core::iter::from_fn(move || {
            let tail = rest.strip_prefix(b";")?;
            let end = param_end(tail).unwrap_or(tail.len());
            rest = &tail[end..];
            Some(split_value(&tail[..end]))
        })
    }

    /// The value of `name`, quotes and all: `None` when it is not there, `Some(None)` when it
    /// stands without a value.
    pub fn get(&self, name: &str) -> Option<Option<&[u8]>> {
        self.iter()
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name.as_bytes()).then_some(value))
    }

    /// The value of `name`, quotes and all, if it is there and has one.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.get(name).flatten()
    }

    /// What `name` says: its value without quotes and backslashes, if it is there and has one.
    pub fn text(&self, name: &str) -> Option<Vec<u8>> {
        self.value(name).map(unquote)
    }

    /// Whether `name` is there, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets `name`, where it stands or at the end. A value that cannot stand as it is gets quotes;
    /// a name that is no token is not set.
    pub fn set(&mut self, name: &str, value: Option<&[u8]>) {
        if !is_token(name.as_bytes()) {
            return;
        }
        let mut raw = Vec::with_capacity(self.raw.len() + name.len() + 16);
        for (key, old) in self.iter() {
            let is_it = key.eq_ignore_ascii_case(name.as_bytes());
            push_param(key, if is_it { value } else { old }, &mut raw);
        }
        if !self.contains(name) {
            push_param(name.as_bytes(), value, &mut raw);
        }
        self.raw = raw;
    }

    /// Takes `name` away.
    pub fn remove(&mut self, name: &str) {
        if self.contains(name) {
            let mut raw = Vec::with_capacity(self.raw.len());
            for (key, value) in self.iter() {
                if !key.eq_ignore_ascii_case(name.as_bytes()) {
                    push_param(key, value, &mut raw);
                }
            }
            self.raw = raw;
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// As they print, the first semicolon included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({})", self.raw.escape_ascii())
    }
}

/// Where the parameter that `bytes` start with ends: at a semicolon outside of quotes.
fn param_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b';', b'"', &bytes[at..]) {
        at += found;
        if bytes[at] == b';' {
            return Some(at);
        }
        at += quoted_length(&bytes[at..])?;
    }
    Some(bytes.len())
}

fn split_value(param: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', param) {
        Some(equals) => (trim(&param[..equals]), Some(trim(&param[equals + 1..]))),
        None => (trim(trim_end(param)), None),
    }
}

fn push_param(name: &[u8], value: Option<&[u8]>, raw: &mut Vec<u8>) {
    raw.push(b';');
    raw.extend_from_slice(name);
    let Some(value) = value else { return };
    raw.push(b'=');
    let has_quotes = value.first() == Some(&b'"') && quoted_length(value) == Some(value.len());
    if has_quotes && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n'))
        || is_param_value(value)
    {
        raw.extend_from_slice(value);
    } else {
        push_quoted(value, raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Params> {
        Params::parse(text.as_bytes())
    }

    fn printed(params: &Params) -> &str {
        core::str::from_utf8(params.as_bytes()).unwrap()
    }

    #[test]
    fn spaces_around_the_separators_go() {
        let params = parse(" ; Tag =  a1 ;lr; x = \"a;\\\"b\" ").unwrap();
        assert_eq!(printed(&params), ";Tag=a1;lr;x=\"a;\\\"b\"");
        assert_eq!(params.value("tAG"), Some(b"a1".as_slice()));
        assert_eq!(params.get("lr"), Some(None));
        assert_eq!(params.text("x").unwrap(), b"a;\"b");
        assert!(!params.contains("y"));
    }

    #[test]
    fn as_many_as_allowed_pass_and_one_more_does_not() {
        let many = |count| (0..count).map(|number| format!(";p{number}")).collect::<String>();
        assert!(parse(&many(MAX_PARAMS)).is_some());
        assert_eq!(parse(&many(MAX_PARAMS + 1)), None);
    }

    #[test]
    fn empty_unfinished_and_repeated_ones_are_refused() {
        for text in [
            ";",
            ";;",
            ";a;",
            ";a=",
            ";=b",
            ";a=\"b",
            ";a=\"b\"c",
            "a=b",
            ";a b",
            ";a=b=c",
            ";tag=1;Tag=1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_set_one_keeps_its_place() {
        let mut params = parse(";a=1;b=2").unwrap();
        params.set("a", Some(b"4"));
        params.set("c", Some(b"with space\r\n"));
        params.set("rport", None);
        params.remove("B");
        assert_eq!(printed(&params), ";a=4;c=\"with space  \";rport");
    }
}
