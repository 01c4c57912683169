//! Records: what of the node's state is stored and sent to the twin, and under which key.
//!
//! Nothing but these records leaves the node's memory. Each begins with a version byte; this
//! version and the one before are read, so that a pair can be upgraded one server at a time.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_call::Cdr;
use tandem_stack::TransactionId;

/// Version of the encoding of every record.
pub const RECORD_VERSION: u8 = 1;

/// Keys of call records begin so.
pub(crate) const CALL: &[u8] = b"call/";
/// Keys of transactions begin so.
pub(crate) const TRANSACTION: &[u8] = b"txn/";
/// Keys of bindings begin so.
pub(crate) const BINDING: &[u8] = b"aor/";
/// Keys of closed call detail records begin so.
pub const CDR_PREFIX: &[u8] = b"cdr/";

pub(crate) fn call_key(call: &str) -> Vec<u8> {
    [CALL, call.as_bytes()].concat()
}

pub(crate) fn cdr_key(call: &str) -> Vec<u8> {
    [CDR_PREFIX, call.as_bytes()].concat()
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

/// Reads the body of a record whose key begins with [`CDR_PREFIX`].
pub fn read_cdr(body: &[u8]) -> Option<Cdr> {
    decode(body)
}
