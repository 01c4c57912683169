//! An op: the changes of one transaction, as they are logged and as they travel.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tandem_types::Epoch;

use crate::clock::Hlc;
use crate::schema::{ColumnId, TableId};

/// Version of an op's encoding: its first byte.
pub const OP_VERSION: u8 = 1;

/// The longest op in bytes. A transaction that would be longer is refused as a whole.
pub const OP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Rows that one transaction may change.
pub const OP_CHANGES_MAX: usize = 50_000;

/// The longest key of a row, encoded, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// One database that writes. Made by dice when it is made, and anew when it turns out to be a copy that
/// has gone a way of its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Origin(pub u64);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names an op for good.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct OpId {
    /// Who wrote it.
    pub origin: Origin,
    /// Its number there, from 1 on without a gap.
    pub number: u64,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.number)
    }
}

/// What somebody has of each origin: every op up to that number.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seen(BTreeMap<Origin, u64>);

impl Seen {
    /// Nothing.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether the op is among them.
    pub fn has(&self, id: OpId) -> bool {
        self.up_to(id.origin) >= id.number
    }

    /// The last one of an origin; 0 where there is none.
    pub fn up_to(&self, origin: Origin) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Whether the op follows on what is there of its origin.
    pub fn is_next(&self, id: OpId) -> bool {
        self.up_to(id.origin) + 1 == id.number
    }

    /// It, and all before it of its origin, are there from now on.
    pub fn learn(&mut self, id: OpId) {
        if id.number > 0 {
            let up_to = self.0.entry(id.origin).or_default();
            *up_to = (*up_to).max(id.number);
        }
    }

    /// No more than this is there of its origin.
    pub fn forget_after(&mut self, id: OpId) {
        if id.number == 0 {
            self.0.remove(&id.origin);
        } else if let Some(up_to) = self.0.get_mut(&id.origin) {
            *up_to = (*up_to).min(id.number);
        }
    }

    /// Whether everything `other` has is there.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|id| self.has(id))
    }

    /// The last op of each origin, ordered by origin.
    pub fn iter(&self) -> impl Iterator<Item = OpId> {
        self.0.iter().map(|(origin, number)| OpId { origin: *origin, number: *number })
    }
}

impl FromIterator<OpId> for Seen {
    fn from_iter<I: IntoIterator<Item = OpId>>(ids: I) -> Self {
        let mut seen = Self::new();
        ids.into_iter().for_each(|id| seen.learn(id));
        seen
    }
}

/// What a column holds. (No floating point: two machines must agree on every bit.)
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// A number, a truth value, a time.
    Integer(i64),
    /// UTF-8.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Blob(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// What one transaction wrote into one column of one row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Written {
    /// The column.
    pub column: ColumnId,
    /// What its writer found there; `None` in a row that it made.
    pub before: Option<Value>,
    /// What is there now.
    pub value: Value,
}

/// What one transaction did to one row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// The table.
    pub table: TableId,
    /// The columns of the key, in the order of the table.
    pub key: Vec<Value>,
    /// The columns that were written, ordered by number.
    pub columns: Vec<Written>,
}

/// The changes of one transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Op {
    /// Who wrote it, and its number there.
    pub id: OpId,
    /// When.
    pub hlc: Hlc,
    /// The reign it was written in, or the last one its writer had seen.
    pub epoch: Epoch,
    /// The schema of its writer.
    pub schema: u32,
    /// Whoever ordered it: an administrator's name, or the part of the system.
    pub author: String,
    /// What its writer had of other origins. Of its own it had all before.
    pub seen: Seen,
    /// What it did.
    pub changes: Vec<Change>,
}

impl Op {
    /// Whether its writer knew of another op.
    pub fn knew(&self, other: OpId) -> bool {
        if other.origin == self.id.origin {
            other.number < self.id.number
        } else {
            self.seen.has(other)
        }
    }

    /// A version byte, then postcard.
    ///
    /// # Errors
    ///
    /// Beyond one of the limits.
    pub fn encode(&self) -> Result<Vec<u8>, OpError> {
        if self.changes.len() > OP_CHANGES_MAX {
            return Err(OpError::TooManyChanges);
        }
        for change in &self.changes {
            if postcard::to_stdvec(&change.key).map_or(true, |key| key.len() > KEY_BYTES_MAX) {
                return Err(OpError::KeyTooLong);
            }
        }
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        let bytes = postcard::to_extend(self, vec![OP_VERSION]).map_err(|_| OpError::Garbage)?;
        if bytes.len() > OP_BYTES_MAX { Err(OpError::TooLong) } else { Ok(bytes) }
    }

    /// The name of an encoded op, without reading the rest of it.
    pub fn id_of(bytes: &[u8]) -> Option<OpId> {
        let (version, rest) = bytes.split_first()?;
        let (id, _) = postcard::take_from_bytes(rest).ok()?;
        (*version == OP_VERSION).then_some(id)
    }

    /// Reads an op.
    ///
    /// # Errors
    ///
    /// Another version, bytes that are no op, or beyond one of the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, OpError> {
        if bytes.len() > OP_BYTES_MAX {
            return Err(OpError::TooLong);
        }
        let op: Self = match bytes.split_first() {
            Some((&OP_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|_| OpError::Garbage)?
            }
            Some((&other, _)) => return Err(OpError::Version(other)),
            None => return Err(OpError::Garbage),
        };
        if op.id.number == 0 {
            return Err(OpError::Garbage);
        }
        if op.changes.len() > OP_CHANGES_MAX {
            return Err(OpError::TooManyChanges);
        }
        Ok(op)
    }
}

/// Why something is no op.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpError {
    /// A version this server does not know.
    Version(u8),
    /// Bytes that are no op.
    Garbage,
    /// More than [`OP_CHANGES_MAX`] rows.
    TooManyChanges,
    /// More than [`OP_BYTES_MAX`] bytes.
    TooLong,
    /// A key of more than [`KEY_BYTES_MAX`] bytes.
    KeyTooLong,
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "a change of version {version}; this server knows {OP_VERSION}")
            }
            Self::Garbage => f.write_str("a change that cannot be read"),
            Self::TooManyChanges => {
                write!(f, "more than {OP_CHANGES_MAX} rows at once: make it in several parts")
            }
            Self::TooLong => {
                write!(f, "more than {OP_BYTES_MAX} bytes at once: make it in several parts")
            }
            Self::KeyTooLong => write!(f, "a key of more than {KEY_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for OpError {}

/// Stands for all ops of an origin up to one of them: two databases with the same chain at the same
/// number have the same ops.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Chain(pub [u8; 16]);

impl Chain {
    /// Before the first op of every origin.
    pub const START: Self = Self([0; 16]);

    /// With the next op, as it is encoded.
    pub fn link(self, op: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(self.0).chain_update(op).finalize();
        let mut chain = [0; 16];
        chain.copy_from_slice(&digest[..16]);
        Self(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Dice;

    const ANNA: Origin = Origin(1);
    const BEN: Origin = Origin(2);

    fn id(origin: Origin, number: u64) -> OpId {
        OpId { origin, number }
    }

    fn op() -> Op {
        Op {
            id: id(ANNA, 3),
            hlc: Hlc::new(1_790_000_000_000, 2, 1),
            epoch: Epoch::NEVER,
            schema: 1,
            author: "admin".to_owned(),
            seen: [id(BEN, 7)].into_iter().collect(),
            changes: vec![Change {
                table: 1,
                key: vec![Value::Blob(vec![1; 16])],
                columns: vec![
                    Written { column: 1, before: None, value: Value::Text("Anna".to_owned()) },
                    Written { column: 2, before: Some(Value::Null), value: Value::Integer(-1) },
                ],
            }],
        }
    }

    #[test]
    fn an_op_comes_back_from_its_bytes_and_damaged_bytes_do_no_harm() {
        let bytes = op().encode().unwrap();
        assert_eq!(Op::decode(&bytes), Ok(op()));
        let mut dice = Dice::from_number(1);
        for _ in 0..20_000 {
            let mut damaged = bytes.clone();
            for _ in 0..=dice.below(3) {
                let at = usize::try_from(dice.below(damaged.len() as u64)).unwrap();
                damaged[at] = u8::try_from(dice.below(256)).unwrap();
            }
            damaged.truncate(usize::try_from(dice.below(damaged.len() as u64 + 1)).unwrap());
            if let Ok(op) = Op::decode(&damaged) {
                assert!(op.id.number > 0);
            }
        }
        assert_eq!(Op::decode(&[]), Err(OpError::Garbage));
        assert_eq!(Op::decode(&[9, 9]), Err(OpError::Version(9)));
    }

    #[test]
    fn what_is_too_big_is_refused_at_the_limit() {
        let change = op().changes.remove(0);
        let mut many = Op { changes: vec![change.clone(); OP_CHANGES_MAX], ..op() };
        assert!(many.encode().is_ok());
        many.changes.push(change);
        assert_eq!(many.encode(), Err(OpError::TooManyChanges));
        let mut long = op();
        long.changes[0].columns[0].value = Value::Blob(vec![0; OP_BYTES_MAX]);
        assert_eq!(long.encode(), Err(OpError::TooLong));
        let mut key = op();
        key.changes[0].key[0] = Value::Text("k".repeat(KEY_BYTES_MAX));
        assert_eq!(key.encode(), Err(OpError::KeyTooLong));
    }

    #[test]
    fn seen_counts_up_to_and_in_order() {
        let mut seen = Seen::new();
        assert!(seen.is_next(id(ANNA, 1)) && !seen.is_next(id(ANNA, 2)));
        seen.learn(id(ANNA, 2));
        seen.learn(id(ANNA, 1));
        assert!(seen.has(id(ANNA, 2)) && !seen.has(id(ANNA, 3)) && !seen.has(id(BEN, 1)));
        let mut more = seen.clone();
        more.learn(id(BEN, 1));
        assert!(more.covers(&seen) && !seen.covers(&more));
        more.forget_after(id(ANNA, 1));
        assert_eq!(more.up_to(ANNA), 1);
        more.forget_after(id(ANNA, 0));
        assert_eq!(more.iter().collect::<Vec<_>>(), [id(BEN, 1)]);
    }

    #[test]
    fn a_writer_knows_its_own_past_and_what_it_had_seen() {
        let op = op();
        assert!(op.knew(id(ANNA, 2)) && !op.knew(id(ANNA, 3)));
        assert!(op.knew(id(BEN, 7)) && !op.knew(id(BEN, 8)));
    }

    #[test]
    fn a_chain_tells_two_pasts_apart() {
        let (one, two) = (Chain::START.link(b"one"), Chain::START.link(b"two"));
        assert_ne!(one, two);
        assert_ne!(one.link(b"three"), two.link(b"three"));
        assert_eq!(one.link(b"three"), Chain::START.link(b"one").link(b"three"));
    }
}
