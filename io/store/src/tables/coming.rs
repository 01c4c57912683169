//! Rows that ops write, before they are in the file: one that many ops of a batch wrote is read and written once.

use std::collections::{BTreeMap, BTreeSet};

use tandem_oplog::{Change, Column, ColumnId, Op, Row, TableId, Value};

use super::Batch;
use super::batch::{Kept, kept_bytes};

/// A row as it was read, with what ops did to it since.
struct Coming {
    row: Row,
    is_new: bool,
    /// Columns whose value is another since.
    changed: BTreeSet<ColumnId>,
}

/// Rows to be written; of one that cannot be read nothing.
#[derive(Default)]
pub(super) struct Rows {
    tables: BTreeMap<TableId, BTreeMap<Vec<Value>, Option<Coming>>>,
    /// So long is what was read, and what came.
    pub(super) bytes: usize,
}

impl Batch<'_> {
    /// Takes what an op did into its rows. One that cannot be read stays as it is, and the change in the log, until
    /// the row is put right as a whole ([`super::Tables::mend_unreadable`], or by the other server).
    pub(super) fn take_changes(&mut self, op: &Op, rows: &mut Rows) -> rusqlite::Result<()> {
        for change in &op.changes {
            let table = rows.tables.entry(change.table).or_default();
            let coming = match table.get_mut(&change.key) {
                Some(coming) => coming,
                None => {
                    let (coming, bytes) = self.read_row(change)?;
                    rows.bytes += bytes;
                    table.entry(change.key.clone()).or_insert(coming)
                }
            };
            let Some(coming) = coming else { continue };
            coming.changed.extend(coming.row.take(op, change));
            #[cfg(feature = "sabotage")]
            self.tables.spoil(op, change, &mut coming.row);
        }
        Ok(())
    }

    fn read_row(&mut self, change: &Change) -> rusqlite::Result<(Option<Coming>, usize)> {
        let body = kept_bytes(&self.tables.connection, change.table, &change.key)?;
        let length = body.as_ref().map_or(0, Vec::len);
        let (row, is_new) = match Kept::of(body.as_deref()) {
            Kept::Nothing => (Row::default(), true),
            Kept::Row(row) => (row, false),
            Kept::Unreadable => {
                self.tables.met_unreadable = true;
                self.touch(change.table, &change.key);
                return Ok((None, length));
            }
        };
        Ok((Some(Coming { row, is_new, changed: BTreeSet::new() }), length))
    }

    /// Writes what is kept of the rows. Their tables have it already.
    pub(super) fn keep_rows(&mut self, rows: Rows) -> rusqlite::Result<()> {
        rows.each(|id, key, coming| self.keep_row(id, key, &coming.row))
    }

    /// Writes what is kept of the rows, and their tables.
    pub(super) fn write_rows(&mut self, rows: Rows) -> rusqlite::Result<()> {
        rows.each(|id, key, Coming { row, is_new, changed }| {
            self.keep_row(id, key, row)?;
            let Some(table) = self.tables.schema.table(id) else { return Ok(()) };
            // A column that only its writer knows waits in what is kept of the row.
            let value = |id: &ColumnId| Some((table.column(*id)?, row.value(*id)?.clone()));
            let columns: Vec<(Column, Value)> = changed.iter().filter_map(value).collect();
            if key.len() != table.key.len() || (columns.is_empty() && !is_new) {
                return Ok(());
            }
            self.write_or_park(table, key, &columns, row)
        })
    }
}

impl Rows {
    fn each(
        &self,
        mut write: impl FnMut(TableId, &[Value], &Coming) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        for (id, rows) in &self.tables {
            for (key, coming) in rows {
                if let Some(coming) = coming {
                    write(*id, key, coming)?;
                }
            }
        }
        Ok(())
    }
}
