use core::fmt;

use serde::{Deserialize, Serialize};

/// Which sets of the grammar a byte belongs to (RFC 3261 §25.1), as bits.
const CLASSES: [u8; 256] = classes();
const TOKEN: u8 = 1;
const USER: u8 = 2;
const URI_PARAM: u8 = 4;
const URI_HEADER: u8 = 8;
const TEL: u8 = 16;
const HOST: u8 = 32;
const UNRESERVED: u8 = 64;
const URI_REST: u8 = 128;

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 128 {
        if (at as u8).is_ascii_alphanumeric() {
            table[at] = TOKEN | USER | URI_PARAM | URI_HEADER | HOST | UNRESERVED | URI_REST;
        }
        if (at as u8).is_ascii_hexdigit() {
            table[at] |= TEL;
        }
        at += 1;
    }
    table = mark(table, b"-.!%*_+`'~", TOKEN);
    table = mark(table, b"-_.!~*'()", USER | URI_PARAM | URI_HEADER | UNRESERVED | URI_REST);
    table = mark(table, b";/?:@&=+$,[]#", URI_REST);
    // `#` is not in the grammar of a user part, but telephones dial it unescaped.
    table = mark(table, b"&=+$,;?/#", USER);
    table = mark(table, b"[]/:&+$", URI_PARAM);
    table = mark(table, b"[]/?:+$", URI_HEADER);
    table = mark(table, b"+-.()*#", TEL);
    // `_` is not in the grammar of a host name, but it is in the names people give machines.
    mark(table, b"-._", HOST)
}

const fn mark(mut table: [u8; 256], bytes: &[u8], class: u8) -> [u8; 256] {
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] |= class;
        at += 1;
    }
    table
}

fn all_in(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & class != 0)
}

/// As `all_in`, and `%` may stand if two hexadecimal digits follow.
fn all_in_or_escaped(bytes: &[u8], class: u8) -> bool {
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = if *byte == b'%' {
            let [high, low, after @ ..] = tail else { return false };
            if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
                return false;
            }
            after
        } else if CLASSES[usize::from(*byte)] & class != 0 {
            tail
        } else {
            return false;
        };
    }
    true
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all_in(bytes, TOKEN)
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// The user or password part of a SIP URI.
pub(crate) fn is_user(bytes: &[u8]) -> bool {
    all_in_or_escaped(bytes, USER)
}

pub(crate) fn is_uri_param(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all_in_or_escaped(bytes, URI_PARAM)
}

pub(crate) fn is_uri_header(bytes: &[u8]) -> bool {
    all_in_or_escaped(bytes, URI_HEADER)
}

/// What follows the colon in a URI of a scheme that is not looked into (RFC 3986 §2).
pub(crate) fn is_uri_rest(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all_in_or_escaped(bytes, URI_REST)
}

pub(crate) fn is_telephone_number(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"+").unwrap_or(bytes);
    all_in(digits, TEL)
        && !digits.contains(&b'+')
        && digits.iter().any(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#'))
}

pub(crate) fn is_host_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all_in(bytes, HOST) && bytes[0] != b'.' && !has_empty_label(bytes)
}

fn has_empty_label(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"..")
}

/// A value of a header parameter outside of quotes: a token or a host (RFC 3261 §25.1), and, as
/// telephones send them in tags and branches, other visible characters that end nothing.
pub(crate) fn is_param_value(bytes: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_graphic() && !b";,\"<>=".contains(byte);
    !bytes.is_empty() && bytes.iter().all(fits)
}

pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without spaces and tabs at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    trim_end(bytes)
}

/// Without spaces and tabs at the end.
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Digits only, at least one, leading zeros allowed. `None` when it is no number; saturates.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, byte: &u8| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Some(bytes.iter().fold(0, add))
}

/// As `decimal`, but `None` also when it does not fit.
pub(crate) fn decimal_fitting<T: TryFrom<u64>>(bytes: &[u8]) -> Option<T> {
    decimal(bytes).and_then(|number| T::try_from(number).ok())
}

pub(crate) const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Replaces each `%HH` by its byte; a `%` without two digits stays.
pub(crate) fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Appends `bytes`, those that may not stand in a user part as `%HH`.
pub(crate) fn escape_user(bytes: &[u8], out: &mut Vec<u8>) {
    escape(bytes, |byte| CLASSES[usize::from(byte)] & USER != 0 && byte != b'#', out);
}

/// Appends `bytes`, those that may not stand in a URI parameter as `%HH`.
pub(crate) fn escape_uri_param(bytes: &[u8], out: &mut Vec<u8>) {
    escape(bytes, |byte| CLASSES[usize::from(byte)] & URI_PARAM != 0, out);
}

fn escape(bytes: &[u8], stays: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if stays(*byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Whether `%HH` and the plain character mean the same (RFC 3261 §19.1.2: not if reserved).
pub(crate) fn is_unreserved(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & UNRESERVED != 0
}

/// Appends `number` in decimal digits.
pub(crate) fn push_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// The length of the quoted string that `bytes` starts with, quotes included; `None` when it does
/// not end. A backslash takes the next byte with it (RFC 3261 §25.1).
pub(crate) fn quoted_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..)?) {
        if bytes[at + found] == b'"' {
            return Some(at + found + 1);
        }
        at += found + 2;
    }
    None
}

/// What a quoted string says: without its quotes and backslashes. Other bytes: as they are.
pub(crate) fn unquote(bytes: &[u8]) -> Vec<u8> {
    let Some(inner) = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return bytes.to_vec();
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        out.push(if *byte == b'\\' { *rest.next().unwrap_or(byte) } else { *byte });
    }
    out
}

/// Appends `text` as a quoted string. Line ends become spaces: they cannot be escaped.
pub(crate) fn push_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\r' | b'\n' => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// A word of the SIP grammar: letters, digits and `-.!%*_+'~` and the grave accent, at least one.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(Box<str>);

impl Token {
    /// `None` when a byte is not allowed or there is none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if !is_token(bytes) {
            return None;
        }
        core::str::from_utf8(bytes).ok().map(|text| Self(text.into()))
    }

    /// As it stood.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text.as_bytes()).ok_or("not a token")
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0.into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
