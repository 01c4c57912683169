//! Which tables are replicated: names and numbers of their columns. Numbers are what travels, so that
//! servers of two versions understand each other; a number is never used again.

use core::fmt;
use std::collections::BTreeSet;

/// Number of a table.
pub type TableId = u16;

/// Number of a column in its table.
pub type ColumnId = u16;

/// The column that every table has: a row is deleted by writing 1 here, and comes back by writing 0.
pub const DELETED: Column = Column::new(0, "deleted");

/// A column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column {
    /// What travels.
    pub id: ColumnId,
    /// What the database calls it.
    pub name: &'static str,
    /// It holds what is shown to nobody, as the digest of a password.
    pub secret: bool,
}

impl Column {
    /// A column that may be shown.
    pub const fn new(id: ColumnId, name: &'static str) -> Self {
        Self { id, name, secret: false }
    }

    /// A column that is shown to nobody.
    pub const fn secret(id: ColumnId, name: &'static str) -> Self {
        Self { id, name, secret: true }
    }
}

/// A table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Table {
    /// What travels.
    pub id: TableId,
    /// What the database calls it.
    pub name: &'static str,
    /// The columns of its key, in order. They never change in a row.
    pub key: &'static [&'static str],
    /// The columns that change, without [`DELETED`].
    pub columns: &'static [Column],
}

impl Table {
    /// The columns that change, [`DELETED`] first.
    pub fn changing(&self) -> impl Iterator<Item = Column> {
        core::iter::once(DELETED).chain(self.columns.iter().copied())
    }

    /// The column with this number.
    pub fn column(&self, id: ColumnId) -> Option<Column> {
        self.changing().find(|column| column.id == id)
    }

    /// The column with this name.
    pub fn named(&self, name: &str) -> Option<Column> {
        self.changing().find(|column| column.name == name)
    }
}

/// All tables of one version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schema {
    /// Rises with every table or column that is added.
    pub version: u32,
    /// The tables.
    pub tables: &'static [Table],
}

/// A schema that contradicts itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SchemaFault(String);

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaFault {}

impl Schema {
    /// The table with this number.
    pub fn table(&self, id: TableId) -> Option<&'static Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// The table with this name.
    pub fn named(&self, name: &str) -> Option<&'static Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Whether numbers and names are there once each, every table has a key, and all names are plain
    /// (they become part of SQL).
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn check(&self) -> Result<(), SchemaFault> {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for table in self.tables {
            let fault = |what: String| Err(SchemaFault(format!("table {}: {what}", table.name)));
            if !ids.insert(table.id) || !names.insert(table.name) {
                return fault("its number or name is there twice".to_owned());
            }
            if table.key.is_empty() {
                return fault("no key".to_owned());
            }
            let (mut numbers, mut columns) = (BTreeSet::new(), BTreeSet::new());
            for column in table.changing() {
                if !numbers.insert(column.id) {
                    return fault(format!("number {} is there twice", column.id));
                }
            }
            let all = table.changing().map(|column| column.name).chain(table.key.iter().copied());
            for name in all.chain([table.name]) {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                if name.is_empty() || !name.bytes().all(plain) {
                    return fault(format!("{name:?} is no plain name (a-z, _)"));
                }
                if name != table.name && !columns.insert(name) {
                    return fault(format!("column {name} is there twice"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Table = Table {
        id: 1,
        name: "user",
        key: &["id"],
        columns: &[Column::new(1, "display"), Column::new(2, "enabled")],
    };

    fn fault(tables: &'static [Table]) -> String {
        Schema { version: 1, tables }.check().unwrap_err().to_string()
    }

    #[test]
    fn a_sound_schema_finds_its_tables_and_columns() {
        let schema = Schema { version: 1, tables: &[USER] };
        assert_eq!(schema.check(), Ok(()));
        assert_eq!(schema.table(1), schema.named("user"));
        assert_eq!(schema.table(2), None);
        assert_eq!(USER.column(2), USER.named("enabled"));
        assert_eq!(USER.column(0), Some(DELETED));
        assert_eq!(USER.column(9), None);
        assert_eq!(USER.changing().count(), 3);
    }

    #[test]
    fn every_contradiction_is_named() {
        const NO_KEY: Table = Table { key: &[], ..USER };
        const ODD: Table = Table { name: "Us er", ..USER };
        const ZERO: Table = Table { columns: &[Column::new(0, "x")], ..USER };
        const TWICE: Table = Table { columns: &[Column::new(1, "x"), Column::new(2, "x")], ..USER };
        const IN_KEY: Table = Table { columns: &[Column::new(1, "id")], ..USER };
        assert_eq!(fault(&[USER, USER]), "table user: its number or name is there twice");
        assert_eq!(fault(&[NO_KEY]), "table user: no key");
        assert_eq!(fault(&[ZERO]), "table user: number 0 is there twice");
        assert_eq!(fault(&[TWICE]), "table user: column x is there twice");
        assert_eq!(fault(&[IN_KEY]), "table user: column id is there twice");
        assert!(fault(&[ODD]).contains("no plain name"));
    }
}
