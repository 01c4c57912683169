//! What is kept of a row so that every server comes to the same value: for each column the writes that
//! no later writer had seen.
//!
//! ```text
//!   one writer after the other:  A ──> B           the later one is the value, nothing else is kept
//!   both without the other:      A ──┬──> B        the newer stamp is the value, the other one lost and
//!                                    └──> C        is kept, until somebody writes who has seen both
//! ```
//!
//! So a value that lost can be found and restored for as long as nobody has decided about it, on both
//! servers, whichever of the two came first there. To restore it or to dismiss it is an ordinary write.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Hlc;
use crate::op::{Change, Op, OpId, Seen, Value, Written};
use crate::schema::{ColumnId, DELETED};

/// Version of a row's encoding: its first byte.
pub const ROW_VERSION: u8 = 1;

/// One write of one column.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Version {
    /// When.
    pub hlc: Hlc,
    /// The op that wrote it.
    pub op: OpId,
    /// What it wrote.
    pub value: Value,
}

impl Version {
    /// Newest stamp wins; the same stamp from two origins (a clock copied together with its machine) is
    /// decided by the origin.
    fn rank(&self) -> (Hlc, OpId) {
        (self.hlc, self.op)
    }
}

/// A column of a row: its writes, the winner first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cell(Vec<Version>);

impl Cell {
    /// Takes the write of an op; whether the value is another now. At most one write of each origin is kept.
    fn take(&mut self, op: &Op, value: &Value) -> bool {
        let is_other = self.winner().is_none_or(|version| version.value != *value);
        self.0.retain(|version| !op.knew(version.op));
        let version = Version { hlc: op.hlc, op: op.id, value: value.clone() };
        let at = self.0.partition_point(|other| other.rank() > version.rank());
        self.0.insert(at, version);
        is_other && at == 0
    }

    /// What is left when both states are known: a write that one side has and the other one has seen but
    /// not kept was replaced there.
    fn join(&self, seen: &Seen, other: &Self, theirs: &Seen) -> Self {
        let stays = |version: &&Version, there: &Self, seen: &Seen| {
            !seen.has(version.op) || there.0.iter().any(|kept| kept.op == version.op)
        };
        let mut all: Vec<Version> =
            self.0.iter().filter(|version| stays(version, other, theirs)).cloned().collect();
        for version in other.0.iter().filter(|version| stays(version, self, seen)) {
            if !all.iter().any(|kept| kept.op == version.op) {
                all.push(version.clone());
            }
        }
        all.sort_by_key(|version| core::cmp::Reverse(version.rank()));
        Self(all)
    }

    /// For what should be the same and is not: the writes that both have, otherwise those of the newer.
    fn settle(&self, other: &Self) -> Self {
        let both: Vec<Version> =
            self.0.iter().filter(|version| other.0.contains(version)).cloned().collect();
        if !both.is_empty() {
            return Self(both);
        }
        let rank = |cell: &Self| {
            let first = cell.winner().map(|first| (first.rank(), first.value.clone()));
            (first, cell.0.len())
        };
        if rank(self) >= rank(other) { self.clone() } else { other.clone() }
    }

    /// The value, and who wrote it.
    pub fn winner(&self) -> Option<&Version> {
        self.0.first()
    }

    /// Values that lost and about which nobody has decided, newest first.
    pub fn losers(&self) -> impl Iterator<Item = &Version> {
        let winner = self.winner().map(|version| &version.value);
        self.0.iter().skip(1).filter(move |version| Some(&version.value) != winner)
    }

    /// Every write that is kept.
    pub fn versions(&self) -> &[Version] {
        &self.0
    }
}

/// The columns of a row.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Row(BTreeMap<ColumnId, Cell>);

impl Row {
    /// Takes what an op did to this row; returns the columns whose value is another now. The caller
    /// sees to it that every op is taken once, after all that its writer had seen.
    pub fn take(&mut self, op: &Op, change: &Change) -> Vec<ColumnId> {
        let mut changed = Vec::new();
        for Written { column, value, .. } in &change.columns {
            if self.0.entry(*column).or_default().take(op, value) {
                changed.push(*column);
            }
        }
        changed
    }

    /// The row of two servers together: `self` had `seen`, `other` had `theirs`. The same as taking all ops
    /// of both.
    pub fn join(&self, seen: &Seen, other: &Self, theirs: &Seen) -> Self {
        self.both(other, |one, other| one.join(seen, other, theirs))
    }

    /// For two rows that should be the same and are not, when nothing else tells which of them is right. The
    /// same whichever of the two comes first.
    pub fn settle(&self, other: &Self) -> Self {
        self.both(other, Cell::settle)
    }

    fn both(&self, other: &Self, of: impl Fn(&Cell, &Cell) -> Cell) -> Self {
        let none = Cell::default();
        let columns: BTreeSet<ColumnId> = self.0.keys().chain(other.0.keys()).copied().collect();
        let cell = |row: &Self, column| row.0.get(&column).unwrap_or(&none).clone();
        let both = |column| (column, of(&cell(self, column), &cell(other, column)));
        Self(columns.into_iter().map(both).filter(|(_, cell)| !cell.0.is_empty()).collect())
    }

    /// The writes that are kept of each column; for the tests that break a rule.
    #[cfg(feature = "sabotage")]
    pub fn versions_mut(&mut self) -> impl Iterator<Item = (ColumnId, &mut Vec<Version>)> {
        self.0.iter_mut().map(|(column, cell)| (*column, &mut cell.0))
    }

    /// Gives the writes of one op to another one that is the same but for its name; false where there
    /// is none of it.
    pub fn rename(&mut self, from: OpId, to: OpId) -> bool {
        let mut found = false;
        for cell in self.0.values_mut() {
            for version in cell.0.iter_mut().filter(|version| version.op == from) {
                version.op = to;
                found = true;
            }
            cell.0.sort_by_key(|version| core::cmp::Reverse(version.rank()));
        }
        found
    }

    /// The column's value.
    pub fn value(&self, column: ColumnId) -> Option<&Value> {
        self.0.get(&column)?.winner().map(|version| &version.value)
    }

    /// The writes of a column.
    pub fn cell(&self, column: ColumnId) -> Option<&Cell> {
        self.0.get(&column)
    }

    /// Whether the row is deleted.
    pub fn is_deleted(&self) -> bool {
        self.value(DELETED.id) == Some(&Value::Integer(1))
    }

    /// The columns that were ever written, ordered by number.
    pub fn cells(&self) -> impl Iterator<Item = (ColumnId, &Cell)> {
        self.0.iter().map(|(column, cell)| (*column, cell))
    }

    /// Whether a value lost about which nobody has decided.
    pub fn has_losers(&self) -> bool {
        self.0.values().any(|cell| cell.losers().next().is_some())
    }

    /// A version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        postcard::to_extend(self, vec![ROW_VERSION]).unwrap_or_default()
    }

    /// Reads a row; `None` for another version or bytes that are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&ROW_VERSION, rest)) => postcard::from_bytes(rest).ok(),
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::op::Origin;
    use tandem_types::{Dice, Epoch};

    const COLUMNS: u64 = 3;

    /// A server of one row, with what it has taken.
    #[derive(Clone)]
    struct Server {
        origin: Origin,
        clock: Clock,
        seen: Seen,
        row: Row,
        log: Vec<Op>,
    }

    impl Server {
        fn new(number: u8) -> Self {
            Self {
                origin: Origin(u64::from(number)),
                clock: Clock::new(number, Hlc::ZERO),
                seen: Seen::new(),
                row: Row::default(),
                log: Vec::new(),
            }
        }

        fn write(&mut self, wall: u64, columns: Vec<(ColumnId, Value)>) {
            let id = OpId { origin: self.origin, number: self.seen.up_to(self.origin) + 1 };
            let columns = columns.into_iter().map(|(column, value)| {
                let before = self.row.value(column).cloned();
                Written { column, before, value }
            });
            let columns = columns.collect();
            let mut seen = self.seen.clone();
            seen.forget_after(OpId { number: 0, ..id });
            let op = Op {
                id,
                hlc: self.clock.stamp(wall),
                epoch: Epoch::NEVER,
                schema: 1,
                author: String::new(),
                seen,
                changes: vec![Change { table: 1, key: vec![Value::Integer(1)], columns }],
            };
            self.take(&op);
        }

        fn take(&mut self, op: &Op) {
            if !self.seen.is_next(op.id) {
                return;
            }
            assert!(self.seen.covers(&op.seen), "causes come first");
            for change in &op.changes {
                self.row.take(op, change);
            }
            self.seen.learn(op.id);
            self.clock.saw(op.hlc);
            self.log.push(op.clone());
        }

        fn pull(&mut self, from: &Self) {
            from.log.iter().for_each(|op| self.take(op));
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn losers(row: &Row, column: ColumnId) -> Vec<Value> {
        let cell = row.cells().find(|(id, _)| *id == column).unwrap().1;
        cell.losers().map(|version| version.value.clone()).collect()
    }

    #[test]
    fn who_has_seen_the_other_one_replaces_it_and_nothing_is_kept() {
        let (mut a, mut b) = (Server::new(1), Server::new(2));
        a.write(1_000, vec![(1, text("one"))]);
        b.pull(&a);
        b.write(5, vec![(1, text("two"))]);
        a.pull(&b);
        assert_eq!(a.row, b.row);
        assert_eq!(a.row.value(1), Some(&text("two")), "whatever its wall clock says");
        assert!(!a.row.has_losers());
    }

    #[test]
    fn of_two_that_did_not_know_of_each_other_the_loser_is_kept_on_both_sides() {
        let (mut a, mut b) = (Server::new(1), Server::new(2));
        a.write(1_000, vec![(1, text("early"))]);
        b.write(2_000, vec![(1, text("late")), (2, Value::Integer(2))]);
        let old = a.clone();
        a.pull(&b);
        b.pull(&old);
        assert_eq!(a.row, b.row);
        assert_eq!(a.row.value(1), Some(&text("late")));
        assert_eq!(losers(&a.row, 1), [text("early")]);
        assert_eq!(losers(&a.row, 2), []);
        // To decide is to write.
        a.write(3_000, vec![(1, text("early"))]);
        b.pull(&a);
        assert_eq!(a.row, b.row);
        assert_eq!(b.row.value(1), Some(&text("early")));
        assert!(!b.row.has_losers());
    }

    #[test]
    fn the_same_value_twice_is_no_conflict() {
        let (mut a, mut b) = (Server::new(1), Server::new(2));
        a.write(1, vec![(1, text("same"))]);
        b.write(2, vec![(1, text("same"))]);
        a.pull(&b);
        assert!(!a.row.has_losers());
    }

    #[test]
    fn a_renamed_write_is_the_same_write() {
        let mut a = Server::new(1);
        a.write(1, vec![(1, text("x"))]);
        let (from, to) = (a.log[0].id, OpId { origin: Origin(9), number: 1 });
        let mut row = a.row.clone();
        assert!(row.rename(from, to) && !row.rename(from, to));
        assert_eq!(row.value(1), a.row.value(1));
        assert_eq!(Row::decode(&row.encode()), Some(row));
        assert_eq!(Row::decode(&[7, 0]), None);
    }

    /// As below, but at the end one is joined with the others instead of taking their ops.
    #[test]
    fn a_join_comes_to_what_taking_all_ops_comes_to() {
        let mut replaced = 0;
        for seed in 0..500 {
            let mut dice = Dice::from_number(seed);
            let mut servers = [Server::new(1), Server::new(2), Server::new(3)];
            for step in 0..dice.below(40) {
                let one = usize::try_from(dice.below(3)).unwrap();
                if dice.chance(60) {
                    let column = u16::try_from(dice.below(COLUMNS)).unwrap();
                    let value = Value::Integer(i64::try_from(step).unwrap());
                    servers[one].write(10_000 + dice.below(5_000), vec![(column, value)]);
                } else {
                    let from = servers[usize::try_from(dice.below(3)).unwrap()].clone();
                    servers[one].pull(&from);
                }
            }
            let [a, b, c] = &servers;
            let mut wanted = a.clone();
            for _ in 0..2 {
                wanted.pull(b);
                wanted.pull(c);
            }
            let ab = a.row.join(&a.seen, &b.row, &b.seen);
            assert_eq!(ab, b.row.join(&b.seen, &a.row, &a.seen), "seed {seed}");
            let mut seen = a.seen.clone();
            b.seen.iter().for_each(|id| seen.learn(id));
            let abc = c.row.join(&c.seen, &ab, &seen);
            assert_eq!(abc, wanted.row, "seed {seed}");
            assert_eq!(abc.join(&wanted.seen, &a.row, &a.seen), abc, "once more changes nothing");
            replaced += usize::from(a.row.join(&Seen::new(), &b.row, &Seen::new()) != ab);
        }
        assert!(replaced > 100, "what was seen decides: {replaced}");
    }

    #[test]
    fn two_rows_that_should_be_the_same_are_settled_alike_from_both_sides() {
        let (mut a, mut b) = (Server::new(1), Server::new(2));
        a.write(1, vec![(1, text("one")), (2, text("two"))]);
        b.pull(&a);
        b.write(2, vec![(1, text("three"))]);
        assert_eq!(a.row.settle(&b.row), b.row.settle(&a.row));
        assert_eq!(a.row.settle(&b.row).value(1), Some(&text("three")));
    }

    /// Up to three servers write and exchange in random order, with clocks that are seconds apart.
    #[test]
    fn whatever_the_order_all_end_equal_and_no_undecided_value_is_missing() {
        for seed in 0..500 {
            let mut dice = Dice::from_number(seed);
            let mut servers = vec![Server::new(1), Server::new(2), Server::new(3)];
            let mut wall = 10_000;
            for step in 0..dice.below(40) {
                wall += dice.below(50);
                let one = usize::try_from(dice.below(3)).unwrap();
                if dice.chance(60) {
                    let column = u16::try_from(dice.below(COLUMNS)).unwrap();
                    let skew = dice.below(5_000);
                    let value = Value::Integer(i64::try_from(step).unwrap());
                    servers[one].write(wall + skew, vec![(column, value)]);
                } else {
                    let from = servers[usize::try_from(dice.below(3)).unwrap()].clone();
                    servers[one].pull(&from);
                }
            }
            for _ in 0..2 {
                for one in 0..3 {
                    let others = servers.clone();
                    others.iter().for_each(|other| servers[one].pull(other));
                }
            }
            assert_eq!(servers[0].row, servers[1].row, "seed {seed}");
            assert_eq!(servers[1].row, servers[2].row, "seed {seed}");
            judge(&servers[0], seed);
        }
    }

    /// Against the definition: what is kept are the writes that no other writer of the column knew.
    fn judge(server: &Server, seed: u64) {
        for column in 0..u16::try_from(COLUMNS).unwrap() {
            let writes =
                |op: &&Op| op.changes.iter().any(|change| change.columns[0].column == column);
            let all: Vec<&Op> = server.log.iter().filter(writes).collect();
            let mut wanted: Vec<&&Op> =
                all.iter().filter(|op| !all.iter().any(|other| other.knew(op.id))).collect();
            wanted.sort_by_key(|op| core::cmp::Reverse((op.hlc, op.id)));
            let cell = server.row.cells().find(|(id, _)| *id == column);
            let kept = cell.map(|(_, cell)| cell.versions()).unwrap_or_default();
            let kept: Vec<OpId> = kept.iter().map(|version| version.op).collect();
            let wanted: Vec<OpId> = wanted.iter().map(|op| op.id).collect();
            assert_eq!(kept, wanted, "seed {seed}, column {column}");
        }
    }
}
