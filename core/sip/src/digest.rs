//! Digest authentication (RFC 3261 §22, RFC 7616; RFC 8760 for several algorithms).
//!
//! ```text
//!   telephone                         server
//!      │ ── REGISTER ─────────────────► │  Challenge { nonce: key.issue(now, address, salt), .. }
//!      │ ◄─ 401 WWW-Authenticate ────── │      one line for each algorithm, SHA-256 first
//!      │ ── REGISTER Authorization ───► │  key.check(nonce) ─► Fresh / Stale / Forged
//!      │                                │  verify(credentials, method, ha1)
//!      │ ◄─ 200 ─────────────────────── │  counts.accept(nonce, nc)
//! ```
//!
//! A nonce is its own proof: time, salt and a code over both and the client's IP address under the
//! pair's key. Nobody stores nonces, so both servers of a pair take each other's, and a stranger
//! who asks for a million of them fills nothing. Only counts of nonces that were *used* by somebody
//! with the right password are kept, and those are bounded ([`NonceCounts`]).
//!
//! A proof grows old, and clocks of two servers run apart: then a client is asked for a newer proof, by one server or
//! by both, in turn. The nonce for it carries the mark of the first of these requests, so that the last one is known
//! for the same at either server ([`NonceKey::issue_again`]).
//!
//! Architecture invariant: this module knows no users and no clock, and compares secrets in
//! constant time.

mod challenge;
mod credentials;
mod ha1;
mod nonce;

pub use challenge::Challenge;
pub use credentials::{Credentials, QopAuth, respond, verify};
pub use ha1::{Algorithm, Ha1};
pub use nonce::{
    MAX_NONCE_COUNTS, NONCE_LIFE_SECONDS, NonceCheck, NonceCounts, NonceId, NonceKey, NonceUse,
};

use crate::bytes::{is_space, quoted_length, trim, unquote};

/// The pairs of `Digest name=value, name="value"`, values without quotes. `None` when it is another
/// scheme, malformed, or holds more than [`MAX_PARAMS`](crate::MAX_PARAMS).
fn parse_pairs(value: &[u8]) -> Option<Vec<(&[u8], Vec<u8>)>> {
    let value = trim(value);
    let scheme_end = value.iter().position(|byte| is_space(*byte))?;
    if !value[..scheme_end].eq_ignore_ascii_case(b"Digest") {
        return None;
    }
    let mut pairs = Vec::with_capacity(10);
    let mut rest = trim(&value[scheme_end..]);
    while !rest.is_empty() {
        let equals = memchr::memchr(b'=', rest)?;
        let name = trim(&rest[..equals]);
        let after = trim(&rest[equals + 1..]);
        let length = match after.first()? {
            b'"' => quoted_length(after)?,
            _ => memchr::memchr(b',', after).unwrap_or(after.len()),
        };
        if !crate::bytes::is_token(name) || pairs.len() == crate::MAX_PARAMS {
            return None;
        }
        pairs.push((name, unquote(trim(&after[..length]))));
        rest = match trim(&after[length..]) {
            [] => &[],
            [b',', tail @ ..] => trim(tail),
            _ => return None,
        };
    }
    Some(pairs)
}

/// Appends `, name="value"` or, for the first one, without the comma.
fn push_quoted_pair(name: &str, value: &[u8], out: &mut Vec<u8>) {
    push_name(name, out);
    crate::bytes::push_quoted(value, out);
}

fn push_plain_pair(name: &str, value: &str, out: &mut Vec<u8>) {
    push_name(name, out);
    out.extend_from_slice(value.as_bytes());
}

fn push_name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(if out.ends_with(b"Digest") { b" " } else { b", " });
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
}

/// `bytes` as lower-case hexadecimal digits.
fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes that hexadecimal digits stand for.
fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| {
        Some(crate::bytes::hex_value(pair[0])? << 4 | crate::bytes::hex_value(pair[1])?)
    };
    pairs.iter().map(byte).collect()
}
