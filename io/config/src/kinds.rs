//! What the columns of the tables hold, as the migrations say it: for a database that has to be told.

use rusqlite::Connection;

use crate::schema::{MIGRATIONS, SCHEMA};

/// A column, with SQLite's word for what it holds: INTEGER, TEXT or BLOB.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ColumnKind {
    /// The table.
    pub table: &'static str,
    /// The column, of the key or not.
    pub column: String,
    /// The word.
    pub kind: String,
}

/// Every column of [`SCHEMA`].
///
/// # Errors
///
/// SQLite refuses what the migrations say: a fault of ours.
pub fn column_kinds() -> rusqlite::Result<Vec<ColumnKind>> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(&MIGRATIONS.concat())?;
    let mut all = Vec::new();
    for table in SCHEMA.tables {
        let mut columns = connection.prepare("SELECT name, type FROM pragma_table_info(?)")?;
        let columns = columns.query_map([table.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for found in columns {
            let (column, kind) = found?;
            all.push(ColumnKind { table: table.name, column, kind });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_the_schema_has_a_kind() {
        let all = column_kinds().unwrap();
        for table in SCHEMA.tables {
            let names = table.key.iter().copied();
            for name in names.chain(table.changing().map(|column| column.name)) {
                let found = all.iter().find(|one| one.table == table.name && one.column == name);
                let kind = found.unwrap_or_else(|| panic!("{}.{name}", table.name)).kind.as_str();
                assert!(
                    ["INTEGER", "TEXT", "BLOB"].contains(&kind),
                    "{}.{name}: {kind}",
                    table.name
                );
            }
        }
    }
}
