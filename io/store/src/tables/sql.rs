//! From the values of ops to those of SQLite and back, and the statements that write a row.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};
use tandem_oplog::{Column, Row, Table, Value};

/// A value as SQLite takes it.
pub(super) struct Sql<'a>(pub(super) &'a Value);

impl ToSql for Sql<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// What SQLite holds; `None` for what no op can carry: floating point, or text that is no UTF-8.
pub(super) fn value_of(value: ValueRef<'_>) -> Option<Value> {
    match value {
        ValueRef::Null => Some(Value::Null),
        ValueRef::Integer(number) => Some(Value::Integer(number)),
        ValueRef::Real(_) => None,
        ValueRef::Text(text) => Some(Value::Text(core::str::from_utf8(text).ok()?.to_owned())),
        ValueRef::Blob(bytes) => Some(Value::Blob(bytes.to_vec())),
    }
}

/// A key as a column of our own tables. Equal keys have equal bytes.
pub(super) fn key_bytes(key: &[Value]) -> Vec<u8> {
    // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
    postcard::to_stdvec(key).unwrap_or_default()
}

/// The reverse of [`key_bytes`].
pub(super) fn key_of(bytes: &[u8]) -> Option<Vec<Value>> {
    postcard::from_bytes(bytes).ok()
}

/// Writes these columns of a row, made where it is missing. `row` is all that is known of it.
pub(super) fn write_row(
    connection: &Connection,
    table: &Table,
    key: &[Value],
    columns: &[(Column, Value)],
    row: &Row,
) -> rusqlite::Result<()> {
    if !columns.is_empty() {
        let sets = names(columns.iter().map(|(column, _)| column.name), " = ?, ", " = ?");
        let keys = names(table.key.iter().copied(), " = ? AND ", " = ?");
        let update = format!("UPDATE {} SET {sets} WHERE {keys}", table.name);
        let values = columns.iter().map(|(_, value)| Sql(value)).chain(key.iter().map(Sql));
        let mut update = connection.prepare_cached(&update)?;
        if update.execute(params_from_iter(values))? > 0 {
            return Ok(());
        }
    }
    let known = |column: &Column| row.value(column.id).is_some();
    let columns: Vec<Column> = table.changing().filter(known).collect();
    let all = table.key.iter().copied().chain(columns.iter().map(|column| column.name));
    let all = names(all, ", ", "");
    let marks = vec!["?"; table.key.len() + columns.len()].join(", ");
    // A row that is there already has what is written here, column by column.
    let insert =
        format!("INSERT INTO {} ({all}) VALUES ({marks}) ON CONFLICT DO NOTHING", table.name);
    let values = columns.iter().filter_map(|column| row.value(column.id)).map(Sql);
    let mut insert = connection.prepare_cached(&insert)?;
    insert.execute(params_from_iter(key.iter().map(Sql).chain(values)))?;
    Ok(())
}

/// Writes one column of a row that is there, within [`super::Batch::change`].
///
/// # Errors
///
/// SQLite refuses the value.
pub fn set(
    connection: &Connection,
    table: &Table,
    key: &[Value],
    column: Column,
    value: &Value,
) -> rusqlite::Result<()> {
    let keys = names(table.key.iter().copied(), " = ? AND ", " = ?");
    let update = format!("UPDATE {} SET {} = ? WHERE {keys}", table.name, column.name);
    let values = core::iter::once(value).chain(key).map(Sql);
    connection.prepare_cached(&update)?.execute(params_from_iter(values)).map(|_| ())
}

/// Names (checked by [`tandem_oplog::Schema::check`]) with something between and after the last.
fn names<'a>(names: impl Iterator<Item = &'a str>, between: &str, end: &str) -> String {
    let mut text = names.collect::<Vec<_>>().join(between);
    text.push_str(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_bytes() {
        let key = vec![Value::Text("ä".to_owned()), Value::Integer(-1), Value::Blob(vec![0, 255])];
        assert_eq!(key_of(&key_bytes(&key)), Some(key));
        assert_eq!(key_of(&[3, 9]), None);
    }

    #[test]
    fn what_no_op_can_carry_is_not_taken_for_something_else() {
        assert_eq!(value_of(ValueRef::Real(1.0)), None);
        assert_eq!(value_of(ValueRef::Text(&[0xff])), None);
        assert_eq!(value_of(ValueRef::Text("ß".as_bytes())), Some(Value::Text("ß".to_owned())));
    }
}
