//! Values that lost against another that did not know of them, and about which nobody has decided.

use tandem_oplog::{Hlc, OpId, Row, TableId, Value};

use super::Tables;
use super::batch::{Kept, kept_row};
use super::sql::key_of;

/// A column of a row with more than one value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Undecided {
    /// The table.
    pub table: &'static str,
    /// The row.
    pub key: Vec<Value>,
    /// The column.
    pub column: &'static str,
    /// Its values are shown to nobody.
    pub secret: bool,
    /// The value in force.
    pub winner: Conflict,
    /// Those that lost, newest first.
    pub losers: Vec<Conflict>,
}

/// One of the values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The value.
    pub value: Value,
    /// When it was written.
    pub hlc: Hlc,
    /// By which op: the log has its author.
    pub op: OpId,
}

impl Tables {
    /// What is kept of a row; `None` where nobody ever wrote one, or where that cannot be read.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn row(&self, table: TableId, key: &[Value]) -> rusqlite::Result<Option<Row>> {
        Ok(match kept_row(&self.connection, table, key)? {
            Kept::Row(row) => Some(row),
            Kept::Nothing | Kept::Unreadable => None,
        })
    }

    /// All of them, ordered by table and key. [`super::Batch::decide`] ends one.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn undecided(&self) -> rusqlite::Result<Vec<Undecided>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tab, key, body FROM row_version WHERE undecided = 1 ORDER BY tab, key",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, key, body): (u16, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            // A table that only a newer server knows is shown there.
            let (Some(table), Some(key), Some(row)) =
                (self.schema.table(id), key_of(&key), Row::decode(&body))
            else {
                continue;
            };
            for (column, cell) in row.cells() {
                let losers: Vec<Conflict> = cell.losers().map(conflict).collect();
                if let (Some(column), Some(winner), false) =
                    (table.column(column), cell.winner(), losers.is_empty())
                {
                    all.push(Undecided {
                        table: table.name,
                        key: key.clone(),
                        column: column.name,
                        secret: column.secret,
                        winner: conflict(winner),
                        losers,
                    });
                }
            }
        }
        Ok(all)
    }
}

fn conflict(version: &tandem_oplog::Version) -> Conflict {
    Conflict { value: version.value.clone(), hlc: version.hlc, op: version.op }
}
