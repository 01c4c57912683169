//! Records: what of the node's state is stored and sent to the twin, and under which key.
//!
//! Nothing but these records leaves the node's memory. Each begins with a version byte; this
//! version and the one before are read, so that a pair can be upgraded one server at a time.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_call::{Cdr, LegId, Trail};
use tandem_stack::TransactionId;

/// Version of the encoding of every record.
pub const RECORD_VERSION: u8 = 1;

/// Keys of call records begin so.
pub(crate) const CALL: &[u8] = b"call/";
/// Keys of transactions begin so.
pub(crate) const TRANSACTION: &[u8] = b"txn/";
/// Keys of bindings begin so: one record a user.
pub const BINDING_PREFIX: &[u8] = BINDING;
/// The same.
pub(crate) const BINDING: &[u8] = b"aor/";
/// Keys of closed call detail records begin so.
pub const CDR_PREFIX: &[u8] = b"cdr/";
/// Keys of the events of closed calls begin so.
pub const EVENTS_PREFIX: &[u8] = b"cev/";

/// What happened in a closed call: one record a call, in the entry of its call detail record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CallEvents {
    /// The devices that were invited: contact and address.
    pub devices: BTreeMap<LegId, String>,
    /// The events.
    pub trail: Trail,
}

pub(crate) fn call_key(call: &str) -> Vec<u8> {
    [CALL, call.as_bytes()].concat()
}

pub(crate) fn cdr_key(call: &str) -> Vec<u8> {
    [CDR_PREFIX, call.as_bytes()].concat()
}

pub(crate) fn events_key(call: &str) -> Vec<u8> {
    [EVENTS_PREFIX, call.as_bytes()].concat()
}

pub(crate) fn binding_key(user: &str) -> Vec<u8> {
    [BINDING, user.as_bytes()].concat()
}

pub(crate) fn transaction_key(id: &TransactionId) -> Vec<u8> {
    [TRANSACTION, id.to_string().as_bytes()].concat()
}

/// The version byte and the value.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Only a serialiser that refuses (maps of unknown length) can fail; our types have none.
    postcard::to_extend(value, vec![RECORD_VERSION]).unwrap_or_default()
}

/// The value, where the version is one we read and the bytes are whole.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).ok(),
        Some(_) | None => None,
    }
}

/// As [`encode`], with something behind the value that older versions do not look for.
pub(crate) fn encode_with(value: &impl Serialize, more: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(more, encode(value)).unwrap_or_default()
}

/// As [`decode`], with what stands behind the value, where that is there.
pub(crate) fn decode_with<T: DeserializeOwned, M: DeserializeOwned>(
    bytes: &[u8],
) -> Option<(T, Option<M>)> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => {
            let (value, rest) = postcard::take_from_bytes(rest).ok()?;
            Some((value, postcard::from_bytes(rest).ok()))
        }
        Some(_) | None => None,
    }
}

/// When the call of a closed call detail record ended, in microseconds since 1970; `None` for other records.
pub fn end_of_record(key: &[u8], body: &[u8]) -> Option<i64> {
    if key.starts_with(CDR_PREFIX) { read_cdr(body)?.end } else { None }
}

/// Reads the body of a record whose key begins with [`CDR_PREFIX`].
pub fn read_cdr(body: &[u8]) -> Option<Cdr> {
    decode(body)
}

/// Reads the body of a record whose key begins with [`EVENTS_PREFIX`].
pub fn read_events(body: &[u8]) -> Option<CallEvents> {
    decode(body)
}

/// Whether the body of a record was written by a newer version of this program: then that it cannot be read
/// does not mean that it is damaged.
pub fn is_newer(body: &[u8]) -> bool {
    body.first().is_some_and(|version| *version > RECORD_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_value_is_not_looked_for_by_the_version_before() {
        let value = (7_u64, String::from("a user"));
        let old = encode(&value);
        let new = encode_with(&value, &"carla");
        assert_eq!(decode::<(u64, String)>(&new), Some(value.clone()));
        assert_eq!(decode_with::<_, String>(&new), Some((value.clone(), Some("carla".into()))));
        assert_eq!(decode_with::<_, String>(&old), Some((value, None)));
        assert_eq!(decode_with::<u64, String>(&[RECORD_VERSION + 1, 0]), None);
    }
}
