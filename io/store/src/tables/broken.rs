//! Rules that are broken on purpose, for the tests that prove that this is noticed.

use tandem_oplog::{Change, DELETED, Op, Row};

use super::Tables;

/// A rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// A value that lost is not kept.
    DropLosers,
    /// Of two values the one that comes last wins, whatever their stamps say.
    LastComesWins,
    /// A write of another column of a removed row is thrown away.
    RemovalSwallows,
    /// What was written in an older reign than the latest is thrown away.
    RefuseOlderReign,
    /// What a newer server's columns hold is thrown away.
    DropUnknown,
    /// An op that is here already is taken once more.
    TakeTwice,
    /// An op is taken although one before it is missing.
    SkipGapCheck,
    /// Ops are thrown away that the other one does not have.
    ShortenTooFar,
    /// Two states are joined without looking at what each had seen.
    JoinBlindly,
    /// The other one hears that ops are on disk before they are.
    AcknowledgeEarly,
    /// A number is given again after a backup was put back.
    ReuseNumbers,
    /// Who has written after that goes on under the same name.
    KeepName,
}

impl Tables {
    /// Breaks a rule from now on.
    pub const fn sabotage(&mut self, rule: Option<Broken>) {
        self.broken = rule;
    }

    /// Writes as if by another program, unseen.
    ///
    /// # Errors
    ///
    /// SQLite refuses.
    pub fn write_behind(&mut self, sql: &str) -> rusqlite::Result<()> {
        let mut batch = self.begin()?;
        batch.uncaptured(|batch| batch.reader().execute_batch(sql))?;
        batch.commit().map(|_| ())
    }

    /// What a broken rule makes of a row that an op was just taken into.
    pub(super) fn spoil(&mut self, op: &Op, change: &Change, row: &mut Row) {
        let is_older = op.epoch < self.reign;
        self.reign = self.reign.max(op.epoch);
        let forget = |row: &mut Row| {
            row.versions_mut().for_each(|(_, all)| all.retain(|version| version.op != op.id));
        };
        match self.broken {
            Some(Broken::DropLosers) => row.versions_mut().for_each(|(_, all)| all.truncate(1)),
            Some(Broken::LastComesWins) => row.versions_mut().for_each(|(_, all)| {
                all.sort_by_key(|version| version.op != op.id);
            }),
            Some(Broken::RemovalSwallows) => {
                let removes = change.columns.iter().any(|written| written.column == DELETED.id);
                if row.is_deleted() && !removes {
                    forget(row);
                }
            }
            Some(Broken::RefuseOlderReign) => {
                if is_older {
                    forget(row);
                }
            }
            Some(Broken::DropUnknown) => {
                let table = self.schema.table(change.table);
                let is_known = |id| table.is_some_and(|table| table.column(id).is_some());
                let unknown = row.versions_mut().filter(|(id, _)| !is_known(*id));
                unknown.for_each(|(_, all)| all.clear());
            }
            Some(
                Broken::TakeTwice
                | Broken::SkipGapCheck
                | Broken::ShortenTooFar
                | Broken::JoinBlindly
                | Broken::AcknowledgeEarly
                | Broken::ReuseNumbers
                | Broken::KeepName,
            )
            | None => {}
        }
    }
}
