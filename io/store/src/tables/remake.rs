//! Rows of which neither server can read what is kept, and no log says what it was: they are written anew from
//! their table, as a change of ours that both get. Where the table cannot be read either they are set aside.
//!
//! ```text
//!   answers the check: its table can be read ──> Remake, Apart ──> a change of ours ──> the next check mends the other
//!                      it cannot, and the other one has the row ──> asks it to look (Mended, empty) ──> Remake there
//!                      nor can the other one ──> set aside, on each when its turn comes
//! ```
//!
//! What lost against the values in force and lay undecided is gone: it was nowhere else.

use rusqlite::{OptionalExtension as _, params, params_from_iter};
use tandem_oplog::{Change, Fact, Mended, OpId, Table, TableId, Value, Written};

use super::batch::{Kept, kept_row};
use super::check::FromLog;
use super::mend::Put;
use super::sql::{Sql, key_bytes, key_of, value_of};
use super::{Batch, By, ChangeError, Tables};

impl Tables {
    /// Those that can be written anew from their table here, and those that cannot.
    pub(super) fn last_resort(
        &self,
        unread: Vec<Mended>,
    ) -> rusqlite::Result<(Vec<Change>, Vec<Mended>)> {
        let (mut remake, mut lost) = (Vec::new(), Vec::new());
        if unread.is_empty() {
            return Ok((remake, lost));
        }
        let log = self.read_log(&mut Vec::new())?;
        for row in unread {
            match self.written_anew(&row, &log)? {
                Some(change) => remake.push(change),
                None => lost.push(Mended { body: None, ..row }),
            }
        }
        Ok((remake, lost))
    }

    /// A row as it is to be written anew: each column as the table has it. What the log has is newer, because
    /// changes of the other server that came since the damage are in no table; but not what may have lost against a
    /// write that is gone from the log. `None` where a column is in neither.
    pub(super) fn written_anew(
        &self,
        row: &Mended,
        log: &FromLog,
    ) -> rusqlite::Result<Option<Change>> {
        let (Some(table), Some(key)) = (self.schema.table(row.table), key_of(&row.key)) else {
            return Ok(None);
        };
        if key.len() != table.key.len() {
            return Ok(None);
        }
        let mut found = self.in_table(table, &key)?.unwrap_or_default().into_iter();
        let logged = log.rows.get(&(row.table, row.key.clone()));
        let columns = table.changing().map(|column| {
            let before = found.next().flatten();
            let logged = logged.and_then(|row| row.cell(column.id)?.winner());
            let won = logged.filter(|version| log.gone < Some(version.hlc));
            let value = won.map(|version| version.value.clone());
            let value = value.or_else(|| before.clone());
            let value = value.or_else(|| logged.map(|version| version.value.clone()))?;
            Some(Written { column: column.id, before, value })
        });
        let columns: Option<Vec<Written>> = columns.collect();
        Ok(columns.map(|columns| Change { table: row.table, key, columns }))
    }

    /// What a table has of a row, column by column; `None` for a column that cannot be read.
    fn in_table(
        &self,
        table: &Table,
        key: &[Value],
    ) -> rusqlite::Result<Option<Vec<Option<Value>>>> {
        let names: Vec<&str> = table.changing().map(|column| column.name).collect();
        let sql = format!("SELECT {} FROM {} WHERE {}", names.join(", "), table.name, keys(table));
        let mut find = self.connection.prepare_cached(&sql)?;
        let read = |found: &rusqlite::Row<'_>| {
            (0..names.len()).map(|at| Ok(value_of(found.get_ref(at)?))).collect()
        };
        find.query_row(params_from_iter(key.iter().map(Sql)), read).optional()
    }

    /// What is here of rows that can be read nowhere goes into a table of its own, and they are deleted.
    pub(super) fn set_aside(&mut self, rows: &[Mended]) -> rusqlite::Result<Put> {
        let mut put = Put::default();
        if rows.is_empty() {
            return Ok(put);
        }
        let mut batch = self.begin()?;
        batch.uncaptured(|batch| {
            rows.iter().try_for_each(|row| {
                batch.keep_bytes(row.table, &row.key)?;
                batch.mend_row(row)
            })
        })?;
        put.touched = batch.commit()?;
        let facts = self.counts(rows).into_iter();
        put.facts.extend(facts.map(|(table, rows)| Fact::SetAside { table, rows }));
        Ok(put)
    }
}

impl Batch<'_> {
    /// Writes rows anew of which what is kept cannot be read, as [`super::Deed::Remake`] says: one op.
    ///
    /// # Errors
    ///
    /// The disk; or it is too much at once.
    pub fn remake(
        &mut self,
        by: &By,
        changes: &[Change],
    ) -> Result<Option<OpId>, ChangeError<rusqlite::Error>> {
        let (_, op) = self.within(by, |batch| {
            changes.iter().try_for_each(|change| batch.forget_row(change))?;
            Ok(((), changes.to_vec()))
        })?;
        self.uncaptured(|batch| changes.iter().try_for_each(|change| batch.write_table(change)))
            .map_err(ChangeError::Disk)?;
        Ok(op)
    }

    fn forget_row(&self, change: &Change) -> Result<(), ChangeError<rusqlite::Error>> {
        self.tables
            .connection
            .prepare_cached("DELETE FROM row_version WHERE tab = ? AND key = ?")
            .and_then(|mut forget| forget.execute(params![change.table, key_bytes(&change.key)]))
            .map(|_| ())
            .map_err(ChangeError::Disk)
    }

    fn write_table(&mut self, change: &Change) -> rusqlite::Result<()> {
        match kept_row(&self.tables.connection, change.table, &change.key)? {
            Kept::Row(row) => self.put(change.table, &change.key, &row),
            Kept::Nothing | Kept::Unreadable => Ok(()),
        }
    }

    /// The bytes of what is kept, and what the table shows, as SQL writes it.
    fn keep_bytes(&self, id: TableId, key: &[u8]) -> rusqlite::Result<()> {
        let connection = &self.tables.connection;
        let mut shown: Option<Vec<u8>> = None;
        if let (Some(table), Some(values)) = (self.tables.schema.table(id), key_of(key))
            && values.len() == table.key.len()
        {
            let names: Vec<String> =
                table.changing().map(|column| format!("quote({})", column.name)).collect();
            let all = names.join(" || ', ' || ");
            let sql =
                format!("SELECT CAST({all} AS BLOB) FROM {} WHERE {}", table.name, keys(table));
            let mut find = connection.prepare_cached(&sql)?;
            shown = find
                .query_row(params_from_iter(values.iter().map(Sql)), |row| row.get(0))
                .optional()?;
        }
        let latest = self.tables.heads.clock.last().to_bits();
        let mut keep = connection.prepare_cached(
            "INSERT INTO damaged_row (tab, key, body, shown, hlc) VALUES (?1, ?2,
                 (SELECT body FROM row_version WHERE tab = ?1 AND key = ?2), ?3, ?4)",
        )?;
        keep.execute(params![id, key, shown, latest]).map(|_| ())
    }
}

/// The condition that names a row of a table by its key.
fn keys(table: &Table) -> String {
    table.key.iter().map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(" AND ")
}
