//! A copy of everything, for who lacks ops that the other one does not keep any more.
//!
//! ```text
//!   keeps them no more: TooOld ─────────────────────────>  lacks them: sends its own tail, then
//!                <──────────── AskCopy (what is here of one already)
//!   CopyBegin (heads, floors, how much), CopyPart ... CopyPart, WINDOW bytes ahead of CopyGot, CopyEnd
//!                                          each part staged on disk ──> Join, in one transaction ──> Hello
//! ```
//!
//! What is copied is the sender's state as of one moment: what it keeps of every row, its log, and where
//! that begins. It is *joined* and not put in place of anything, so both may go on writing meanwhile: of a
//! write that one side has and the other has not, what each had seen tells whether it is new there or was
//! replaced there.
//!
//! A copy that was cut off goes on where it ended while the sender's state is the same, and otherwise
//! begins anew. Invariant: until all parts are there and joined, nothing of them is in any table.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Hlc;
use crate::op::{Chain, OpId, Seen};
use crate::schema::TableId;
use crate::sync::WINDOW_BYTES;

/// Stands for all parts up to one.
pub type CopyHash = [u8; 32];

/// What a copy is a copy of.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CopyHeader {
    /// The last op of each origin, and what stands for all up to it.
    pub heads: Vec<(OpId, Chain)>,
    /// The last op of each origin that is not kept any more.
    pub floors: Vec<(OpId, Chain)>,
    /// The latest stamp made or taken there.
    pub latest: Hlc,
    /// How many [`CopyItem`]s.
    pub items: u64,
}

impl CopyHeader {
    /// Its name: the same state has the same one.
    pub fn id(&self) -> [u8; 16] {
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        let bytes = postcard::to_stdvec(self).unwrap_or_default();
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(bytes)[..16]);
        id
    }

    /// The ops that are in it.
    pub fn seen(&self) -> Seen {
        self.heads.iter().map(|(id, _)| *id).collect()
    }
}

/// How much of a copy is on disk at its receiver.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Staged {
    /// Of which; see [`CopyHeader::id`].
    pub id: [u8; 16],
    /// Parts.
    pub parts: u64,
    /// Items in them.
    pub items: u64,
    /// Stands for them.
    pub hash: CopyHash,
}

/// One thing of a copy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum CopyItem {
    /// What stands for the ops up to one that is not kept any more.
    Passed(OpId, Chain),
    /// An op of the log.
    Op {
        /// Wall time of its coming, milliseconds since 1970.
        came_millis: i64,
        /// As it is encoded.
        bytes: Vec<u8>,
    },
    /// What is kept of a row.
    Row {
        /// The table.
        table: TableId,
        /// The key, encoded.
        key: Vec<u8>,
        /// A [`crate::Row`], encoded; empty where its sender cannot read it.
        body: Vec<u8>,
    },
}

/// Some of them together.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CopyPart {
    /// From 1 on.
    pub number: u64,
    /// How many items.
    pub items: u64,
    /// Stands for this one and all before.
    pub hash: CopyHash,
    /// A list of [`CopyItem`]s, encoded.
    pub body: Vec<u8>,
}

impl CopyPart {
    /// The part after `before`.
    pub fn after(before: &Staged, items: &[CopyItem]) -> Self {
        // As in [`CopyHeader::id`].
        let body = postcard::to_stdvec(items).unwrap_or_default();
        let hash = Sha256::new().chain_update(before.hash).chain_update(&body).finalize().into();
        Self { number: before.parts + 1, items: items.len() as u64, hash, body }
    }

    /// What is there with it; `None` where it does not follow on `before`, or was damaged.
    pub fn follows(&self, before: &Staged) -> Option<Staged> {
        let hash: CopyHash =
            Sha256::new().chain_update(before.hash).chain_update(&self.body).finalize().into();
        let follows = self.number == before.parts + 1 && self.hash == hash;
        let items = before.items + self.items;
        follows.then_some(Staged { id: before.id, parts: self.number, items, hash })
    }

    /// The items; `None` for bytes that are none.
    pub fn items(body: &[u8]) -> Option<Vec<CopyItem>> {
        postcard::from_bytes(body).ok()
    }
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// It comes here; otherwise it goes out.
    pub here: bool,
    /// Rows and changes that are on the receiver's disk.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// A copy that goes out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Giving {
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// Parts on the way: number, bytes, items.
    sent: VecDeque<(u64, usize, u64)>,
    /// One is being read.
    reading: bool,
    /// All were read.
    pub(crate) ended: bool,
    pub(crate) opened: bool,
}

impl Giving {
    /// Whether to read the next part now.
    pub(crate) fn reads(&mut self) -> bool {
        let on_the_way: usize = self.sent.iter().map(|(_, bytes, _)| bytes).sum();
        let reads = self.opened && !self.reading && !self.ended && on_the_way < WINDOW_BYTES;
        self.reading |= reads;
        reads
    }

    pub(crate) fn read(&mut self, part: Option<&CopyPart>) {
        self.reading = false;
        match part {
            Some(part) => self.sent.push_back((part.number, part.body.len(), part.items)),
            None => self.ended = true,
        }
    }

    /// Everything up to that part is on the other disk.
    pub(crate) fn got(&mut self, number: u64) {
        while let Some((first, _, items)) = self.sent.front().copied() {
            if first > number {
                return;
            }
            self.done += items;
            self.sent.pop_front();
        }
    }
}

/// A copy that comes here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Getting {
    pub(crate) done: u64,
    pub(crate) total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Origin;

    #[test]
    fn a_part_that_is_damaged_left_out_or_repeated_does_not_follow() {
        let item = |n: u64| CopyItem::Passed(OpId { origin: Origin(1), number: n }, Chain([1; 16]));
        let first = CopyPart::after(&Staged::default(), &[item(1), item(2)]);
        let one = first.follows(&Staged::default()).unwrap();
        assert_eq!((one.parts, one.items), (1, 2));
        let second = CopyPart::after(&one, &[item(3)]);
        assert!(second.follows(&one).is_some());
        assert!(second.follows(&Staged::default()).is_none() && first.follows(&one).is_none());
        let mut damaged = second.clone();
        damaged.body[0] ^= 1;
        assert!(damaged.follows(&one).is_none());
        assert_eq!(CopyPart::items(&second.body), Some(vec![item(3)]));
        assert_eq!(CopyPart::items(&[200]), None);
    }

    #[test]
    fn so_much_is_on_the_way_and_no_more() {
        let mut giving = Giving { opened: true, ..Giving::default() };
        let (mut number, mut before) = (0, Staged::default());
        while giving.reads() {
            let bytes = vec![0; WINDOW_BYTES / 4];
            let part = CopyPart::after(&before, &[CopyItem::Op { came_millis: 0, bytes }]);
            giving.read(Some(&part));
            before = part.follows(&before).unwrap();
            number = part.number;
        }
        assert_eq!(number, 4);
        giving.got(1);
        assert!(giving.reads() && !giving.reads());
        giving.read(None);
        giving.got(4);
        assert!(!giving.reads());
        assert_eq!(giving.done, 4);
    }
}
