//! What SQL statements do to the replicated tables, as SQLite tells it before each row is written
//! (`sqlite3_preupdate_hook`).

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::hooks::{PreUpdateCase, PreUpdateNewValueAccessor, PreUpdateOldValueAccessor};
use tandem_oplog::{Change, ColumnId, Schema, TableId, Value, Written};

use super::sql::value_of;

/// Where a table's columns are in its rows.
#[derive(Debug)]
struct Shape {
    id: TableId,
    key: Vec<i32>,
    columns: Vec<(ColumnId, i32)>,
}

/// A row: its table and key.
type Place = (TableId, Vec<Value>);

/// A column: what was there before the first statement, and what is there after the last.
#[derive(Debug)]
struct Touched {
    before: Option<Value>,
    value: Value,
    /// Written on purpose, also where nothing is different.
    meant: bool,
}

/// The changes of the transaction that runs.
#[derive(Debug, Default)]
pub(super) struct Capture {
    shapes: BTreeMap<String, Shape>,
    /// Ops of others are being written: nothing is captured.
    pub(super) off: bool,
    rows: BTreeMap<Place, BTreeMap<ColumnId, Touched>>,
    fault: Option<String>,
}

impl Capture {
    /// Learns where the columns of the schema are.
    ///
    /// # Errors
    ///
    /// The file lacks a table or a column of the schema.
    pub(super) fn new(
        connection: &Connection,
        schema: &Schema,
    ) -> rusqlite::Result<Result<Self, String>> {
        let mut shapes = BTreeMap::new();
        for table in schema.tables {
            let mut statement =
                connection.prepare("SELECT name, cid FROM pragma_table_info(?1)")?;
            let rows = statement.query_map([table.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let at: BTreeMap<String, i32> = rows.collect::<rusqlite::Result<_>>()?;
            let place = |name: &str| match at.get(name) {
                Some(place) => Ok(*place),
                None => Err(format!("table {} has no column {name}", table.name)),
            };
            let key: Result<Vec<i32>, String> = table.key.iter().map(|name| place(name)).collect();
            let columns: Result<Vec<(ColumnId, i32)>, String> =
                table.changing().map(|column| Ok((column.id, place(column.name)?))).collect();
            match (key, columns) {
                (Ok(key), Ok(columns)) => {
                    shapes.insert(table.name.to_owned(), Shape { id: table.id, key, columns });
                }
                (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(Self { shapes, ..Self::default() }))
    }

    /// Before a row is written.
    pub(super) fn saw(&mut self, table: &str, case: &PreUpdateCase) {
        if self.off {
            return;
        }
        let Some(shape) = self.shapes.get(table) else { return };
        let seen = match case {
            PreUpdateCase::Insert(new) => inserted(shape, new),
            PreUpdateCase::Update { old_value_accessor, new_value_accessor } => {
                updated(shape, old_value_accessor, new_value_accessor)
            }
            PreUpdateCase::Delete(_) => Err("rows are not deleted: set `deleted` to 1"),
            PreUpdateCase::Unknown => Err("SQLite told of a change that is not known here"),
        };
        match seen {
            Ok((key, columns)) => {
                let id = shape.id;
                let row = self.rows.entry((id, key)).or_default();
                for (column, before, value) in columns {
                    match row.get_mut(&column) {
                        Some(touched) => touched.value = value,
                        None => {
                            row.insert(column, Touched { before, value, meant: false });
                        }
                    }
                }
            }
            Err(what) => {
                self.fault.get_or_insert_with(|| format!("{table}: {what}"));
            }
        }
    }

    /// A column is written as it is, to decide between values.
    pub(super) fn mean(&mut self, place: Place, column: ColumnId, value: Value) {
        let row = self.rows.entry(place).or_default();
        let touched = Touched { before: Some(value.clone()), value, meant: true };
        row.entry(column).or_insert(touched).meant = true;
    }

    /// What was captured, and nothing is any more.
    ///
    /// # Errors
    ///
    /// A statement did what cannot be replicated.
    pub(super) fn take(&mut self) -> Result<Vec<Change>, String> {
        let rows = core::mem::take(&mut self.rows);
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let mut changes = Vec::new();
        for ((table, key), columns) in rows {
            let written = columns.into_iter().filter_map(|(column, touched)| {
                let Touched { before, value, meant } = touched;
                let differs = before.as_ref() != Some(&value);
                (differs || meant).then_some(Written { column, before, value })
            });
            let columns: Vec<Written> = written.collect();
            if !columns.is_empty() {
                changes.push(Change { table, key, columns });
            }
        }
        Ok(changes)
    }
}

/// The key, and for each column its number, what was there and what is there.
type Told = (Vec<Value>, Vec<(ColumnId, Option<Value>, Value)>);

const ODD: &str = "a value of a kind that is not replicated (floating point, or no UTF-8)";

fn inserted(shape: &Shape, new: &PreUpdateNewValueAccessor) -> Result<Told, &'static str> {
    let read = |at: i32| {
        let value = new.get_new_column_value(at).map_err(|_| "SQLite does not show the row")?;
        value_of(value).ok_or(ODD)
    };
    let key = shape.key.iter().map(|at| read(*at)).collect::<Result<_, _>>()?;
    let column = |(id, at): &(ColumnId, i32)| Ok((*id, None, read(*at)?));
    Ok((key, shape.columns.iter().map(column).collect::<Result<_, _>>()?))
}

fn updated(
    shape: &Shape,
    old: &PreUpdateOldValueAccessor,
    new: &PreUpdateNewValueAccessor,
) -> Result<Told, &'static str> {
    let both = |at: i32| {
        let unseen = |_| "SQLite does not show the row";
        let old = old.get_old_column_value(at).map_err(unseen)?;
        let new = new.get_new_column_value(at).map_err(unseen)?;
        Ok::<_, &'static str>((value_of(old).ok_or(ODD)?, value_of(new).ok_or(ODD)?))
    };
    let mut key = Vec::new();
    for at in &shape.key {
        let (old, new) = both(*at)?;
        if old != new {
            return Err("the key of a row never changes: make another row");
        }
        key.push(new);
    }
    let mut columns = Vec::new();
    for (id, at) in &shape.columns {
        let (old, new) = both(*at)?;
        if old != new {
            columns.push((*id, Some(old), new));
        }
    }
    Ok((key, columns))
}
