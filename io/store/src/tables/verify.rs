//! Whether a file still is what was written into it: what SQLite's own check does not see.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::{OptionalExtension as _, params_from_iter};
use tandem_oplog::{Chain, Hlc, Op, Origin, Row, Seen, TableId, Value};

use super::Tables;
use super::check::FromLog;
use super::file::{GONE, state};
use super::sql::{Sql, key_bytes, key_of, value_of};
use crate::file::{OpenError, examine};
use crate::suspect::mark;

/// Faults of each kind that are told at most.
const FAULTS_MAX: usize = 20;

/// Calls a row by its name: table and key.
pub type NameRow<'a> = &'a dyn Fn(TableId, &[Value]) -> String;

/// What the log says of each row.
pub(super) type Rows = BTreeMap<(TableId, Vec<u8>), Row>;

impl Tables {
    /// Reads everything and compares: the log with its chains, what is kept of the rows with the log, the
    /// tables with what is kept. Sentences for an administrator; none where all is well.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn faults(&self) -> rusqlite::Result<Vec<String>> {
        self.faults_named(&|id, key| {
            let table =
                self.schema.table(id).map_or_else(|| format!("table {id}"), |it| it.name.into());
            let key: Vec<String> = key.iter().map(Value::to_string).collect();
            format!("{table} {}", key.join(","))
        })
    }

    /// As [`Tables::faults`], with rows called as `name` calls them.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn faults_named(&self, name: NameRow<'_>) -> rusqlite::Result<Vec<String>> {
        let mut faults = Vec::new();
        let mut check = self.connection.prepare("PRAGMA integrity_check(20)")?;
        let mut found = check.query([])?;
        while let Some(row) = found.next()? {
            let what: String = row.get(0)?;
            if what != "ok" {
                faults.push(what);
            }
        }
        let from_log = self.read_log(&mut faults)?;
        self.read_rows(&from_log, name, &mut faults)?;
        for table in self.schema.tables {
            let mut told = Told { faults: &mut faults, left: FAULTS_MAX };
            for key in self.strangers(table)? {
                told.tell(format!("{}: it was written by nobody", name(table.id, &key)));
            }
        }
        Ok(faults)
    }

    /// To be asked after something failed: reads the file as a whole. What is damaged; then it is marked, and the
    /// next start looks at it however big it is.
    pub fn suspect(&self) -> Option<String> {
        let path = PathBuf::from(self.connection.path()?);
        match examine(&path, &self.connection, "quick_check") {
            Err(OpenError::Broken { what, .. }) => {
                mark(&path, &what);
                Some(what)
            }
            // The disk is no fault of the file's.
            Ok(()) | Err(_) => None,
        }
    }

    /// The rows as the log makes them, from where it begins.
    pub(super) fn read_log(&self, faults: &mut Vec<String>) -> rusqlite::Result<FromLog> {
        let mut faults = Told { faults, left: FAULTS_MAX };
        let mut statement = self
            .connection
            .prepare("SELECT origin, number, hlc, chain, body FROM op_log ORDER BY position")?;
        let mut log = statement.query([])?;
        let floors = self.floors()?;
        let is_whole = floors.is_empty();
        let floor = |(id, chain): &(tandem_oplog::OpId, Chain)| (id.origin, (id.number, *chain));
        let mut chains: BTreeMap<Origin, (u64, Chain)> = floors.iter().map(floor).collect();
        let mut rows = Rows::new();
        while let Some(row) = log.next()? {
            let (origin, number, hlc): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let chain: Option<[u8; 16]> = row.get(3).ok();
            let name = format!("change {number} of {}", Origin(origin.cast_unsigned()));
            let bytes = row.get_ref(4)?.as_blob().unwrap_or_default();
            let (Ok(op), Some(chain)) = (Op::decode(bytes), chain.map(Chain)) else {
                faults.tell(format!("{name} in the log cannot be read"));
                continue;
            };
            let named = (op.id.origin.0.cast_signed(), op.hlc.to_bits()) == (origin, hlc)
                && i64::try_from(op.id.number) == Ok(number);
            let before = chains.get(&op.id.origin).copied();
            let (last, before) = before.unwrap_or((0, Chain::START));
            let linked = before.link(bytes);
            if !named || linked != chain || last + 1 != op.id.number {
                faults.tell(format!("{name} in the log is not the one that was written"));
            }
            chains.insert(op.id.origin, (op.id.number, chain));
            for change in &op.changes {
                let row = rows.entry((change.table, key_bytes(&change.key))).or_default();
                row.take(&op, change);
            }
        }
        for (id, chain) in self.heads() {
            if id.number > 0 && chains.get(&id.origin) != Some(&(id.number, chain)) {
                faults.tell(format!("the log of {} does not end where it says", id.origin));
            }
        }
        let floors: Seen = floors.iter().map(|(id, _)| *id).collect();
        let gone = state(&self.connection, GONE)?.filter(|_| !is_whole).and_then(Hlc::from_bits);
        Ok(FromLog { rows, is_whole, floors, gone })
    }

    /// What is kept of the rows, and the tables.
    fn read_rows(
        &self,
        from_log: &FromLog,
        name: NameRow<'_>,
        faults: &mut Vec<String>,
    ) -> rusqlite::Result<()> {
        let mut faults = Told { faults, left: FAULTS_MAX };
        let mut statement =
            self.connection.prepare("SELECT tab, key, undecided, body FROM row_version")?;
        let mut kept = statement.query([])?;
        let mut count = 0;
        while let Some(row) = kept.next()? {
            let (table, key, undecided): (i64, Vec<u8>, bool) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let table = TableId::try_from(table).unwrap_or(0);
            let body = row.get_ref(3)?.as_blob().unwrap_or_default();
            let logged = from_log.rows.get(&(table, key.clone()));
            count += 1;
            let called = || match key_of(&key) {
                Some(key) => name(table, &key),
                None => format!("a row of {}, whose key cannot be read", name(table, &[])),
            };
            let Some(row) = Row::decode(body).filter(|row| row.has_losers() == undecided) else {
                faults.tell(format!("{}: what is kept of it cannot be read", called()));
                continue;
            };
            let is_other = match (from_log.is_whole, logged) {
                (true, logged) => logged.is_none_or(|logged| logged.encode() != body),
                (false, logged) => from_log.contradicts(&row, logged),
            };
            if is_other {
                faults.tell(format!("{}: what is kept of it is not in the log", called()));
            }
            if self.differs(table, &key, &row)? {
                faults.tell(format!("{}: its table has something else than was written", called()));
            }
        }
        if from_log.is_whole && count != from_log.rows.len() {
            faults.tell(format!("{count} rows are kept, the log has {}", from_log.rows.len()));
        }
        Ok(())
    }

    /// Whether a table has something else than what is kept of the row.
    pub(super) fn differs(&self, id: TableId, key: &[u8], row: &Row) -> rusqlite::Result<bool> {
        // What only a newer server knows is not in any table here.
        let (Some(table), Some(key)) = (self.schema.table(id), key_of(key)) else {
            return Ok(false);
        };
        if key.len() != table.key.len() {
            return Ok(false);
        }
        let keys: Vec<String> = table.key.iter().map(|name| format!("{name} = ?")).collect();
        let names: Vec<&str> = table.changing().map(|column| column.name).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE {}", names.join(", "), table.name, keys.join(" AND "));
        let mut find = self.connection.prepare_cached(&sql)?;
        let found = find.query_row(params_from_iter(key.iter().map(Sql)), |found| {
            let mut same = true;
            for (at, column) in table.changing().enumerate() {
                if let Some(value) = row.value(column.id) {
                    same &= value_of(found.get_ref(at)?).as_ref() == Some(value);
                }
            }
            Ok(same)
        });
        Ok(found.optional()? != Some(true) && !self.is_parked(id, &key_bytes(&key))?)
    }

    fn is_parked(&self, id: TableId, key: &[u8]) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM parked WHERE tab = ? AND key = ?";
        self.connection.prepare_cached(sql)?.exists((id, key))
    }
}

/// A list that stays short.
struct Told<'a> {
    faults: &'a mut Vec<String>,
    left: usize,
}

impl Told<'_> {
    fn tell(&mut self, what: String) {
        if self.left > 0 {
            self.left -= 1;
            self.faults.push(what);
        }
    }
}
