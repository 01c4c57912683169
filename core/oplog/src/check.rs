//! Whether two servers that have the same ops hold the same rows: what they tell each other, and which of
//! two rows is right where they do not.
//!
//! ```text
//!   asks:    Digests (of each table, at what was seen)  ──>  other ops there: Apart, asked again later
//!            ready where all are equal                  <──  Buckets (digests of 256 parts of the tables
//!            Rows (of the parts that differ)            ──>                           that differ)
//!            writes the same                            <──  Mended (what it decided and wrote)
//! ```
//!
//! The same ops make the same rows. So a difference is a fault of a disk or of ours, never a conflict.

use serde::{Deserialize, Serialize};

use crate::op::Seen;
use crate::row::Row;
use crate::schema::TableId;

/// A table is compared in so many parts, by a hash of the key.
pub const BUCKETS: usize = 256;

/// Stands for the rows of a part of a table.
pub type BucketDigest = [u8; 8];

/// What the two say of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Check {
    /// Of each table that has rows; begins one.
    Digests {
        /// Comes back with every answer.
        ask: u64,
        /// What was here then.
        seen: Seen,
        /// Table and digest, ordered by table.
        tables: Vec<(TableId, [u8; 32])>,
    },
    /// Other ops are here: ask again.
    Apart {
        /// As above.
        ask: u64,
    },
    /// Of the tables that differ. None do: this ends it.
    Buckets {
        /// As above.
        ask: u64,
        /// As above.
        seen: Seen,
        /// The digests of their parts; none for parts without rows.
        tables: Vec<(TableId, Vec<Option<BucketDigest>>)>,
    },
    /// Every row in some of the parts that differ.
    Rows {
        /// As above.
        ask: u64,
        /// As above.
        seen: Seen,
        /// The log here is whole: a row that is not told was never written.
        whole: bool,
        /// Table and part.
        parts: Vec<(TableId, u8)>,
        /// The rows.
        rows: Vec<Claim>,
    },
    /// What differed, as both have it from now on. This ends it; the next one tells whether all is well.
    Mended {
        /// As above.
        ask: u64,
        /// As above.
        seen: Seen,
        /// The rows.
        rows: Vec<Mended>,
    },
}

/// What speaks for a row as one server has it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Grade {
    /// It cannot be read, or the log says something else.
    Contradicted,
    /// What is left of the log says nothing against it.
    Possible,
    /// The whole log says so.
    Proved,
}

/// A row as one server has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim {
    /// The table.
    pub table: TableId,
    /// The key, encoded.
    pub key: Vec<u8>,
    /// The row, encoded; none: there is none.
    pub body: Option<Vec<u8>>,
    /// What speaks for it.
    pub grade: Grade,
    /// It is what is kept there. Otherwise it is what the log there says, and something else is kept.
    pub is_kept: bool,
}

/// A row as it is to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mended {
    /// The table.
    pub table: TableId,
    /// The key, encoded.
    pub key: Vec<u8>,
    /// The row, encoded; none: there is none.
    pub body: Option<Vec<u8>>,
}

/// Which of two rows is right; the same whoever of the two servers asks. What a whole log says is right.
/// Otherwise what is not contradicted; where that does not tell, the writes that both have, or the newest.
pub fn decide(one: &Claim, other: &Claim) -> Option<Vec<u8>> {
    if one.grade != other.grade {
        return if one.grade > other.grade { one.body.clone() } else { other.body.clone() };
    }
    let row = |claim: &Claim| claim.body.as_deref().and_then(Row::decode);
    match (row(one), row(other)) {
        (Some(a), Some(b)) => Some(a.settle(&b).encode()),
        (Some(_), None) => one.body.clone(),
        (None, Some(_)) => other.body.clone(),
        (None, None) => None,
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckEnd {
    /// Both hold the same.
    Equal,
    /// They had not the same ops: it says nothing.
    Apart,
    /// Rows differed; so many were mended. Another check tells whether all is well.
    Mended(u64),
    /// Rows differ, and nothing was found that could be done.
    Differs,
}
