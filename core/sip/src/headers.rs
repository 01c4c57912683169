use core::fmt;

use serde::{Deserialize, Serialize};

use crate::HeaderName;
use crate::bytes::{quoted_length, trim};

/// One header line. A value never holds CR or LF, so it cannot start another line.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Header {
    name: HeaderName,
    value: Vec<u8>,
}

impl Header {
    /// CR and LF in the value become spaces.
    pub fn new(name: HeaderName, value: impl Into<Vec<u8>>) -> Self {
        let mut value = value.into();
        if memchr::memchr2(b'\r', b'\n', &value).is_some() {
            for byte in &mut value {
                if matches!(byte, b'\r' | b'\n') {
                    *byte = b' ';
                }
            }
        }
        Self { name, value }
    }

    /// From a parsed line, which holds neither CR nor LF.
    pub(crate) const fn from_line(name: HeaderName, value: Vec<u8>) -> Self {
        Self { name, value }
    }

    /// Its name.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Its value: without folds and without spaces at the ends, otherwise the bytes that stood
    /// there.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value.escape_ascii())
    }
}

/// The header lines of a message, in order.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with_capacity(lines: usize) -> Self {
        Self(Vec::with_capacity(lines))
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All lines.
    pub fn iter(&self) -> core::slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// The value of the first line called `name`.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Whether a line is called `name`.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// The value of each line called `name`.
    pub fn all<'h, 'n>(
        &'h self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        self.0.iter().filter(move |header| header.name == *name).map(Header::value)
    }

    /// Each value of each line called `name`, split at commas outside of quotes and `<>`
    /// (RFC 3261 §7.3.1). Not for Date and the headers of authentication, where commas do not
    /// separate values.
    pub fn values<'h, 'n>(
        &'h self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        self.all(name).flat_map(Values::new)
    }

    /// Adds a line at the end. CR and LF in the value become spaces.
    pub fn push(&mut self, name: HeaderName, value: impl Into<Vec<u8>>) {
        self.0.push(Header::new(name, value));
    }

    pub(crate) fn push_line(&mut self, header: Header) {
        self.0.push(header);
    }

    /// Adds a line before all others.
    pub fn push_front(&mut self, name: HeaderName, value: impl Into<Vec<u8>>) {
        self.0.insert(0, Header::new(name, value));
    }

    /// Makes `value` the only line called `name`: where the first one stands, or at the end.
    pub fn set(&mut self, name: HeaderName, value: impl Into<Vec<u8>>) {
        let header = Header::new(name, value);
        match self.0.iter().position(|old| old.name == header.name) {
            None => self.0.push(header),
            Some(first) => {
                let mut at = 0;
                self.0.retain(|old| {
                    at += 1;
                    at - 1 <= first || old.name != header.name
                });
                self.0[first] = header;
            }
        }
    }

    /// Takes away all lines called `name`; how many there were.
    pub fn remove(&mut self, name: &HeaderName) -> usize {
        let before = self.0.len();
        self.0.retain(|header| header.name != *name);
        before - self.0.len()
    }

    /// Keeps the lines for which `keep` is true.
    pub fn retain(&mut self, keep: impl FnMut(&Header) -> bool) {
        self.0.retain(keep);
    }

    /// Takes away the first value called `name`, out of its line if it shares one: how a Via or a
    /// Route is popped.
    pub fn remove_first_value(&mut self, name: &HeaderName) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|header| header.name == *name)?;
        let line = &self.0[at].value;
        let mut values = Values::new(line);
        let first = values.next().unwrap_or_default().to_vec();
        match values.rest() {
            Some(rest) => self.0[at].value = rest.to_vec(),
            None => {
                self.0.remove(at);
            }
        }
        Some(first)
    }

    /// Puts `value` in place of the first value called `name`, or adds a line before all others:
    /// how a Via gets its `received`.
    pub fn replace_first_value(&mut self, name: HeaderName, value: impl Into<Vec<u8>>) {
        let Some(at) = self.0.iter().position(|header| header.name == name) else {
            return self.push_front(name, value);
        };
        let mut values = Values::new(&self.0[at].value);
        values.next();
        let mut line = value.into();
        if let Some(rest) = values.rest() {
            line.extend_from_slice(b", ");
            line.extend_from_slice(rest);
        }
        self.0[at] = Header::new(name, line);
    }

    /// Adds all lines called `name` of another message.
    pub fn copy_from(&mut self, other: &Self, name: &HeaderName) {
        self.0.extend(other.0.iter().filter(|header| header.name == *name).cloned());
    }

    /// Appends all lines as they print.
    pub(crate) fn write_to(&self, body_bytes: usize, out: &mut Vec<u8>) {
        let mut has_length = false;
        for header in &self.0 {
            if header.name == HeaderName::ContentLength {
                if !has_length {
                    write_line(&header.name, body_bytes.to_string().as_bytes(), out);
                }
                has_length = true;
            } else {
                write_line(&header.name, &header.value, out);
            }
        }
        if !has_length {
            write_line(&HeaderName::ContentLength, body_bytes.to_string().as_bytes(), out);
        }
    }

    /// An upper bound for what `write_to` appends.
    pub(crate) fn printed_bytes(&self) -> usize {
        let line = |header: &Header| header.name.as_str().len() + header.value.len() + 4;
        self.0.iter().map(line).sum::<usize>() + 40
    }
}

fn write_line(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = core::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The values of one line, split at commas outside of quotes and `<>`. A quote or `<` that does
/// not end takes the rest of the line. An empty line has no values, but one between two commas is
/// given, empty.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    /// Of the line `line`.
    pub fn new(line: &'a [u8]) -> Self {
        let line = trim(line);
        Self { rest: (!line.is_empty()).then_some(line) }
    }

    /// What was not split yet.
    fn rest(&self) -> Option<&'a [u8]> {
        self.rest
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest.take()?;
        let mut at = 0;
        while let Some(found) = memchr::memchr3(b',', b'"', b'<', &line[at..]) {
            at += found;
            let skipped = match line[at] {
                b',' => {
                    self.rest = Some(trim(&line[at + 1..]));
                    return Some(trim(&line[..at]));
                }
                b'"' => quoted_length(&line[at..]),
                _ => memchr::memchr(b'>', &line[at..]).map(|end| end + 1),
            };
            match skipped {
                Some(length) => at += length,
                None => break,
            }
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut out = Headers::new();
        for (name, value) in lines {
            out.push(HeaderName::named(name), *value);
        }
        out
    }

    fn printed(headers: &Headers) -> String {
        let mut out = Vec::new();
        headers.write_to(0, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    }

    fn split(line: &str) -> Vec<&str> {
        Values::new(line.as_bytes()).map(|value| core::str::from_utf8(value).unwrap()).collect()
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate() {
        assert_eq!(
            split("\"a, \\\"b\" <sip:c,d@e>;x=\",\" , <sip:f>"),
            ["\"a, \\\"b\" <sip:c,d@e>;x=\",\"", "<sip:f>"]
        );
        assert_eq!(split(""), [""; 0]);
        assert_eq!(split("a,,b,"), ["a", "", "b", ""]);
        assert_eq!(split("a, \"b, c"), ["a", "\"b, c"]);
        assert_eq!(split("<a, b"), ["<a, b"]);
    }

    #[test]
    fn a_line_cannot_smuggle_another() {
        let smuggled = headers(&[("Subject", "x\r\nVia: y\nz")]);
        assert_eq!(printed(&smuggled), "Subject: x  Via: y z\nContent-Length: 0\n");
    }

    #[test]
    fn set_leaves_one_line_where_the_first_stood() {
        let mut lines = headers(&[("p", "1"), ("q", "2"), ("P", "3"), ("w", "4")]);
        lines.set(HeaderName::named("P"), "5");
        assert_eq!(printed(&lines), "P: 5\nq: 2\nw: 4\nContent-Length: 0\n");
        lines.set(HeaderName::named("z"), "6");
        assert_eq!(lines.len(), 4);
        assert_eq!(lines.remove(&HeaderName::named("Q")), 1);
    }

    #[test]
    fn the_first_value_can_be_popped_and_replaced() {
        let mut lines = headers(&[("Z", "0"), ("Via", "a, b"), ("Via", "c")]);
        lines.replace_first_value(HeaderName::Via, "a;received");
        assert_eq!(lines.get(&HeaderName::Via), Some(b"a;received, b".as_slice()));
        let mut popped = Vec::new();
        while let Some(value) = lines.remove_first_value(&HeaderName::Via) {
            popped.push(String::from_utf8(value).unwrap());
        }
        assert_eq!(popped, ["a;received", "b", "c"]);
        lines.replace_first_value(HeaderName::Via, "d");
        assert_eq!(printed(&lines), "Via: d\nZ: 0\nContent-Length: 0\n");
    }

    #[test]
    fn the_printer_alone_says_how_long_the_body_is() {
        let lines = headers(&[("l", "999"), ("Z", "1"), ("Content-Length", "5")]);
        assert_eq!(printed(&lines), "Content-Length: 0\nZ: 1\n");
    }
}
