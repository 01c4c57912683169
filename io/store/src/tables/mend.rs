//! Rows that are not what was written are put right: from what is kept of them, or from the other server.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{params, params_from_iter};
use tandem_oplog::{Fact, Mended, Row, Table, TableId, Value};

use super::sql::{Sql, key_bytes, key_of, value_of};
use super::{Batch, Tables, Touched};

/// What was put right.
#[derive(Debug, Default)]
pub(super) struct Put {
    pub(super) touched: Touched,
    pub(super) facts: Vec<Fact>,
    /// Tables with rows of which what is kept cannot be read.
    pub(super) unreadable: BTreeSet<TableId>,
}

/// A row, for whoever goes on after it: table and key, as the file has them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowPlace(i64, Vec<u8>);

impl Tables {
    /// Compares the tables with what is kept of their rows, and writes what is different.
    pub(super) fn mend_tables(&mut self) -> rusqlite::Result<Put> {
        let mut put = Put::default();
        for table in self.schema.tables {
            let wrong = self.wrong_rows(table, &mut put.unreadable)?;
            if wrong.is_empty() {
                continue;
            }
            let mut batch = self.begin()?;
            let rows = wrong.len() as u64;
            batch.uncaptured(|batch| {
                wrong.iter().try_for_each(|(key, row)| batch.set_right(table, key, row.as_ref()))
            })?;
            put.touched.extend(batch.commit()?);
            put.facts.push(Fact::Mended { table: table.name.to_owned(), rows, table_only: true });
        }
        Ok(put)
    }

    /// Whether a change was made or taken of a row of which what is kept cannot be read, since
    /// [`Tables::mend_unreadable`].
    pub const fn met_unreadable(&self) -> bool {
        self.met_unreadable
    }

    /// Puts rows of which what is kept cannot be read right from the log, where that is whole. The rows that
    /// were written, what to tell of them, and how many are left for the other server to mend.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written. Nothing has changed then.
    pub fn mend_unreadable(&mut self) -> rusqlite::Result<(Touched, Vec<Fact>, u64)> {
        let mut unreadable = self.unreadable()?;
        let mut put = Put::default();
        // A log that was shortened says nothing here, and to read it takes long.
        if !unreadable.is_empty() && self.floors()?.is_empty() {
            let mut faults = Vec::new();
            let log = self.read_log(&mut faults)?;
            if log.is_whole && faults.is_empty() {
                for row in &mut unreadable {
                    row.body = log.rows.get(&(row.table, row.key.clone())).map(Row::encode);
                }
                put = self.write_mended(&unreadable, true)?;
                unreadable.clear();
            }
        }
        self.met_unreadable = false;
        Ok((put.touched, put.facts, unreadable.len() as u64))
    }

    /// Looks for rows of which what is kept cannot be read, so that [`Tables::met_unreadable`] says it: among so many
    /// rows after a place, or from the beginning. The place to go on after; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn find_unreadable(
        &mut self,
        after: Option<&RowPlace>,
        rows: usize,
    ) -> rusqlite::Result<Option<RowPlace>> {
        let mut some = self.connection.prepare_cached(
            "SELECT tab, key, body FROM row_version WHERE (tab, key) > (?, ?) ORDER BY tab, key LIMIT ?",
        )?;
        let (tab, key) = after.map_or((i64::MIN, &[][..]), |RowPlace(tab, key)| (*tab, key));
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        let mut found = some.query(params![tab, key, limit])?;
        let (mut count, mut last) = (0, None);
        while let Some(row) = found.next()? {
            count += 1;
            let body = row.get_ref(2)?.as_blob().unwrap_or_default();
            self.met_unreadable |= Row::decode(body).is_none();
            if count == rows {
                last = Some(RowPlace(row.get(0)?, row.get(1)?));
            }
        }
        Ok(last)
    }

    /// How many rows there are of which what is kept cannot be read.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn count_unreadable(&self) -> rusqlite::Result<u64> {
        Ok(self.unreadable()?.len() as u64)
    }

    fn unreadable(&self) -> rusqlite::Result<Vec<Mended>> {
        let mut all = self.connection.prepare_cached("SELECT tab, key, body FROM row_version")?;
        let mut rows = all.query([])?;
        let mut unreadable = Vec::new();
        while let Some(found) = rows.next()? {
            if Row::decode(found.get_ref(2)?.as_blob().unwrap_or_default()).is_none() {
                unreadable.push(Mended { table: found.get(0)?, key: found.get(1)?, body: None });
            }
        }
        Ok(unreadable)
    }

    /// Rows of a table that are not what is kept of them: key, and what is kept.
    fn wrong_rows(
        &self,
        table: &Table,
        unreadable: &mut BTreeSet<TableId>,
    ) -> rusqlite::Result<Vec<(Vec<Value>, Option<Row>)>> {
        let mut wrong = Vec::new();
        let mut kept = self
            .connection
            .prepare_cached("SELECT key, undecided, body FROM row_version WHERE tab = ?")?;
        let mut rows = kept.query([table.id])?;
        while let Some(found) = rows.next()? {
            let bytes: Vec<u8> = found.get(0)?;
            let undecided: bool = found.get(1)?;
            let row = Row::decode(found.get_ref(2)?.as_blob().unwrap_or_default());
            // What cannot be read is for the other server to mend.
            let (Some(row), Some(key)) = (row, key_of(&bytes)) else {
                unreadable.insert(table.id);
                continue;
            };
            if row.has_losers() != undecided || self.differs(table.id, &bytes, &row)? {
                wrong.push((key, Some(row)));
            }
        }
        wrong.extend(self.strangers(table)?.into_iter().map(|key| (key, None)));
        Ok(wrong)
    }

    /// Rows of a table that nobody ever wrote.
    pub(super) fn strangers(&self, table: &Table) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut strangers = Vec::new();
        let mut all = self.connection.prepare_cached(&format!(
            "SELECT {} FROM {}",
            table.key.join(", "),
            table.name
        ))?;
        let mut is_kept = self
            .connection
            .prepare_cached("SELECT 1 FROM row_version WHERE tab = ? AND key = ?")?;
        let mut rows = all.query([])?;
        while let Some(found) = rows.next()? {
            let value = |at| found.get_ref(at).ok().and_then(value_of);
            let key: Option<Vec<Value>> = (0..table.key.len()).map(value).collect();
            // A key that no op can carry is left for an administrator to find.
            let Some(key) = key else { continue };
            if !is_kept.exists(params![table.id, key_bytes(&key)])? {
                strangers.push(key);
            }
        }
        Ok(strangers)
    }

    /// Writes rows as both servers have them from now on.
    pub(super) fn mend(&mut self, rows: &[Mended]) -> rusqlite::Result<Put> {
        self.write_mended(rows, false)
    }

    pub(super) fn write_mended(
        &mut self,
        rows: &[Mended],
        table_only: bool,
    ) -> rusqlite::Result<Put> {
        let mut put = Put::default();
        let mut batch = self.begin()?;
        batch.uncaptured(|batch| rows.iter().try_for_each(|row| batch.mend_row(row)))?;
        put.touched = batch.commit()?;
        for (table, rows) in self.counts(rows) {
            put.facts.push(Fact::Mended { table, rows, table_only });
        }
        Ok(put)
    }

    /// How many there are of each table.
    pub(super) fn counts(&self, rows: &[Mended]) -> Vec<(String, u64)> {
        let mut counts = BTreeMap::<TableId, u64>::new();
        rows.iter().for_each(|row| *counts.entry(row.table).or_default() += 1);
        let name = |id: TableId| {
            self.schema.table(id).map_or_else(|| id.to_string(), |table| table.name.into())
        };
        counts.into_iter().map(|(id, rows)| (name(id), rows)).collect()
    }
}

impl Batch<'_> {
    fn set_right(
        &mut self,
        table: &Table,
        key: &[Value],
        row: Option<&Row>,
    ) -> rusqlite::Result<()> {
        match row {
            Some(row) => self.put(table.id, key, row),
            None => self.remove(table, key),
        }
    }

    pub(super) fn mend_row(
        &mut self,
        Mended { table: id, key, body }: &Mended,
    ) -> rusqlite::Result<()> {
        let row = body.as_deref().and_then(Row::decode);
        let values = key_of(key);
        if let (Some(row), Some(values)) = (row, &values) {
            return self.put(*id, values, &row);
        }
        self.tables
            .connection
            .prepare_cached("DELETE FROM row_version WHERE tab = ? AND key = ?")?
            .execute(params![id, key])?;
        match (self.tables.schema.table(*id), values) {
            (Some(table), Some(values)) if values.len() == table.key.len() => {
                self.remove(table, &values)
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// A row that nobody ever wrote.
    fn remove(&mut self, table: &Table, key: &[Value]) -> rusqlite::Result<()> {
        let keys: Vec<String> = table.key.iter().map(|name| format!("{name} = ?")).collect();
        let sql = format!("DELETE FROM {} WHERE {}", table.name, keys.join(" AND "));
        self.tables
            .connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(key.iter().map(Sql)))?;
        self.touch(table.id, key);
        Ok(())
    }
}
