//! A database that was put back and has written since: what it wrote since gets a new name.

use rusqlite::{OptionalExtension as _, params};
use tandem_oplog::{Chain, Op, OpError, OpId, Origin, Row};

use super::Tables;
use super::batch::{number_of, origin_of};
use super::file::set_state;
use super::sql::key_bytes;

/// Why the name could not be changed.
#[derive(Debug)]
pub enum RenameError {
    /// The disk, or SQLite.
    Disk(rusqlite::Error),
    /// An op in the log cannot be read.
    Unreadable(OpError),
}

impl core::fmt::Display for RenameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RenameError {}

impl From<rusqlite::Error> for RenameError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<OpError> for RenameError {
    fn from(error: OpError) -> Self {
        Self::Unreadable(error)
    }
}

impl Tables {
    /// Another server has other ops of ours than we: `theirs` says which, newest first. All that we wrote
    /// after the last one that is the same becomes the work of `new`, who we are from now on. Returns
    /// how many ops that were.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written. Nothing has changed then.
    pub fn rename(&mut self, theirs: &[(u64, Chain)], new: Origin) -> Result<u64, RenameError> {
        self.reread()?;
        let old = self.me;
        let common = self.common(theirs)?;
        let before = self.heads.clone();
        let renamed = self.rename_after(common, new);
        match renamed {
            Ok(count) => {
                self.me = new;
                Ok(count)
            }
            Err(error) => {
                self.me = old;
                self.heads = before;
                Err(error)
            }
        }
    }

    /// The last of our own ops that both have.
    fn common(&self, theirs: &[(u64, Chain)]) -> rusqlite::Result<u64> {
        for (number, chain) in theirs {
            let id = OpId { origin: self.me, number: *number };
            if self.heads.seen.has(id) && self.chain_at(id)? == Some(*chain) {
                return Ok(*number);
            }
        }
        Ok(0)
    }

    fn rename_after(&mut self, common: u64, new: Origin) -> Result<u64, RenameError> {
        let me = self.me;
        let last = OpId { origin: me, number: common };
        let kept = self.chain_at(last)?.unwrap_or(Chain::START);
        let transaction = self.connection.unchecked_transaction()?;
        // What was written by ops that are not kept any more is found in the rows.
        let floor = OpId { origin: me, number: self.floor(me)? };
        let mut number = floor.number.saturating_sub(common);
        let mut chain = Chain::START;
        if number > 0 {
            chain = self.chain_at(floor)?.unwrap_or(Chain::START);
            rename_passed(&transaction, last, floor, new)?;
        }
        {
            let mut read = transaction.prepare(
                "SELECT position, body FROM op_log WHERE origin = ? AND number > ? ORDER BY number",
            )?;
            let mut rows = read.query([origin_of(me), number_of(last)])?;
            let mut write = transaction.prepare(
                "UPDATE op_log SET origin = ?, number = ?, chain = ?, body = ? WHERE position = ?",
            )?;
            while let Some(row) = rows.next()? {
                let position: i64 = row.get(0)?;
                let mut op = Op::decode(row.get_ref(1)?.as_blob().unwrap_or_default())?;
                number += 1;
                let (from, to) = (op.id, OpId { origin: new, number });
                for change in &op.changes {
                    rename_row(&transaction, change.table, &key_bytes(&change.key), from, to)?;
                }
                op.id = to;
                op.seen.learn(last);
                let bytes = op.encode()?;
                chain = chain.link(&bytes);
                write.execute(params![origin_of(new), number_of(to), chain.0, bytes, position])?;
            }
        }
        let mut seen = self.heads.seen.clone();
        seen.forget_after(last);
        transaction.execute("DELETE FROM origin WHERE origin = ?", [origin_of(me)])?;
        let own = OpId { origin: new, number };
        for (id, chain) in [(last, kept), (own, chain)] {
            if id.number > 0 {
                let values = params![origin_of(id.origin), number_of(id), chain.0];
                transaction.execute(
                    "INSERT INTO origin (origin, number, chain) VALUES (?, ?, ?)",
                    values,
                )?;
            }
        }
        seen.learn(own);
        set_state(&transaction, "me", origin_of(new))?;
        transaction.commit()?;
        self.heads.seen = seen;
        self.heads.chains.remove(&me);
        self.heads.chains.extend([(me, kept), (new, chain)]);
        Ok(number)
    }
}

/// Gives the ops after `last` up to `floor` a new name, of which only the rows and the chains tell.
fn rename_passed(
    connection: &rusqlite::Connection,
    last: OpId,
    floor: OpId,
    new: Origin,
) -> rusqlite::Result<()> {
    let mut all = connection.prepare("SELECT tab, key, body FROM row_version")?;
    let mut keep =
        connection.prepare("UPDATE row_version SET body = ? WHERE tab = ? AND key = ?")?;
    let mut renamed = Vec::new();
    let mut rows = all.query([])?;
    while let Some(found) = rows.next()? {
        let body: Vec<u8> = found.get(2)?;
        let Some(mut row) = Row::decode(&body) else { continue };
        let versions = row.cells().flat_map(|(_, cell)| cell.versions());
        let mut ops: Vec<OpId> = versions.map(|version| version.op).collect();
        ops.retain(|op| {
            op.origin == last.origin && (last.number..floor.number).contains(&(op.number - 1))
        });
        for from in ops {
            row.rename(from, OpId { origin: new, number: from.number - last.number });
        }
        let bytes = row.encode();
        if bytes != body {
            renamed.push((found.get::<_, i64>(0)?, found.get::<_, Vec<u8>>(1)?, bytes));
        }
    }
    for (table, key, body) in renamed {
        keep.execute(params![body, table, key])?;
    }
    let values = params![origin_of(new), number_of(last), origin_of(last.origin)];
    connection
        .prepare(
            "UPDATE passed SET origin = ?1, number = number - ?2 WHERE origin = ?3 AND number > ?2",
        )?
        .execute(values)
        .map(|_| ())
}

fn rename_row(
    connection: &rusqlite::Connection,
    table: u16,
    key: &[u8],
    from: OpId,
    to: OpId,
) -> rusqlite::Result<()> {
    let mut find =
        connection.prepare_cached("SELECT body FROM row_version WHERE tab = ? AND key = ?")?;
    let body: Option<Vec<u8>> = find.query_row(params![table, key], |row| row.get(0)).optional()?;
    // It may be replaced by a later one of ours, or damaged.
    if let Some(mut row) = body.as_deref().and_then(Row::decode)
        && row.rename(from, to)
    {
        let mut keep = connection
            .prepare_cached("UPDATE row_version SET body = ? WHERE tab = ? AND key = ?")?;
        keep.execute(params![row.encode(), table, key])?;
    }
    Ok(())
}
