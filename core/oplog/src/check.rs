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
    /// The row, encoded; none: there is none; empty: who says so cannot read it, nor its table, and whoever hears
    /// it may be able to ([`Decision::Unreadable`]).
    pub body: Option<Vec<u8>>,
}

impl Mended {
    /// Whether whoever hears this is to look whether its table can be read.
    pub fn is_unread(&self) -> bool {
        self.body.as_ref().is_some_and(Vec::is_empty)
    }
}

/// What is right of two rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// This, encoded; none: there is no such row.
    Right(Option<Vec<u8>>),
    /// What is kept of it can be read on neither server, and no log proves what it was. It is written anew from
    /// its table, where that can be read, and otherwise set aside.
    Unreadable,
}

/// Which of two rows is right; the same whoever of the two servers asks. What a whole log says is right.
/// Otherwise what is not contradicted; where that does not tell, the writes that both have, or the newest.
pub fn decide(one: &Claim, other: &Claim) -> Decision {
    let row = |claim: &Claim| claim.body.as_deref().and_then(Row::decode);
    Decision::Right(match (row(one), row(other)) {
        _ if one.grade > other.grade => one.body.clone(),
        _ if one.grade < other.grade => other.body.clone(),
        (Some(a), Some(b)) => Some(a.settle(&b).encode()),
        (Some(_), None) => one.body.clone(),
        (None, Some(_)) => other.body.clone(),
        (None, None) if one.body.is_none() && other.body.is_none() => None,
        (None, None) => return Decision::Unreadable,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(body: Option<&[u8]>, grade: Grade) -> Claim {
        let body = body.map(<[u8]>::to_vec);
        Claim { table: 1, key: vec![1], body, grade, is_kept: true }
    }

    #[test]
    fn a_row_that_nobody_can_read_is_not_taken_for_one_that_nobody_wrote() {
        use Grade::{Contradicted, Possible, Proved};
        let (garbage, row) = (&[0, 255][..], Row::default().encode());
        let of = |one: Claim, other: Claim| {
            let decision = decide(&one, &other);
            assert_eq!(decide(&other, &one), decision, "whoever asks");
            decision
        };
        let unreadable = || claim(Some(garbage), Contradicted);
        assert_eq!(of(unreadable(), unreadable()), Decision::Unreadable);
        assert_eq!(of(unreadable(), claim(None, Contradicted)), Decision::Unreadable);
        for grade in [Contradicted, Possible, Proved] {
            let readable = claim(Some(&row), grade);
            assert_eq!(of(unreadable(), readable), Decision::Right(Some(row.clone())));
        }
        // Its log is whole: nobody wrote it.
        assert_eq!(of(unreadable(), claim(None, Proved)), Decision::Right(None));
        assert_eq!(of(claim(None, Proved), claim(None, Proved)), Decision::Right(None));
    }
}
