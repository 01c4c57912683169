//! What an administrator may ask of the configuration itself: what was changed and by whom, what is
//! undecided since the two servers were apart; and to undo, to keep, to restore.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tandem_oplog::{Change, Column, DELETED, Op, OpId, Origin, Value, Written};
use tandem_store::tables::{Batch, By, ChangeError, Conflict, Tables, Undecided};

use crate::files::{self, FileId, FileRow, NewFile};
use crate::hex::hex;
use crate::schema::{COUNTERS, FILES, LOGINS, NUMBERS, SCHEMA, USERS};

/// Changes shown at most.
pub const HISTORY_MAX: usize = 10_000;

/// A question, or an order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The newest changes.
    Changes {
        /// How many; [`HISTORY_MAX`] at most.
        limit: usize,
    },
    /// What is undecided.
    Conflicts,
    /// Everything as one document.
    Export {
        /// With what is kept of passwords.
        passwords: bool,
    },
    /// A document in place of everything.
    Import {
        /// The document.
        document: String,
        /// Otherwise only what would be different is told.
        apply: bool,
    },
    /// Every column that a change wrote gets back what was there, where nobody has written it since.
    Undo {
        /// The change, as [`ChangeRow::id`] names it.
        id: String,
    },
    /// The value in force stays.
    Keep {
        /// As [`ConflictRow::name`] has it.
        name: String,
    },
    /// A value that lost is in force from now on.
    Restore {
        /// As [`ConflictRow::name`] has it.
        name: String,
        /// Which of [`ConflictRow::lost`], from 1 on.
        which: usize,
    },
    /// Every version of every file.
    Files {
        /// Of one class only.
        class: Option<String>,
    },
    /// A file, whose content is here already.
    FileAdd(NewFile),
    /// A file is removed, with all its versions.
    FileRemove {
        /// What it is for.
        class: String,
        /// What it is called.
        name: String,
    },
    /// Whether the file is what was written into it, and both servers hold the same. What differs is put right.
    Verify,
}

impl Ask {
    /// Whether it changes anything.
    pub const fn changes(&self) -> bool {
        match self {
            Self::Changes { .. }
            | Self::Conflicts
            | Self::Files { .. }
            | Self::Verify
            | Self::Export { .. }
            | Self::Import { apply: false, .. } => false,
            Self::Import { apply: true, .. }
            | Self::Undo { .. }
            | Self::Keep { .. }
            | Self::Restore { .. }
            | Self::FileAdd(_)
            | Self::FileRemove { .. } => true,
        }
    }
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Changes, newest first.
    ChangeList(Vec<ChangeRow>),
    /// What is undecided.
    ConflictList(Vec<ConflictRow>),
    /// Files, the latest version first.
    FileList(Vec<FileRow>),
    /// Everything.
    Document(String),
    /// What a document would change, a line each.
    Difference(Vec<String>),
    /// The answer to [`Ask::Verify`].
    Verified(Verified),
    /// It is done, and safe.
    Decided,
    /// It is not; why.
    NotDecided(String),
}

/// Whether all is well.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verified {
    /// What is wrong with the file here, a sentence each; none where all is well.
    pub faults: Vec<String>,
    /// The comparison with the other server.
    pub twin: TwinCheck,
}

/// A comparison with the other server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TwinCheck {
    /// There is no link to it.
    Alone,
    /// Both hold the same.
    Equal,
    /// Both hold the same now: so many rows were different and were put right.
    Mended {
        /// Rows.
        rows: u64,
    },
    /// Rows differ, and could not be put right.
    Differs,
    /// They could not be compared; why.
    NotCompared(String),
}

/// A change as listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChangeRow {
    /// Its name.
    pub id: String,
    /// When it was made: milliseconds since 1970, by its server's clock.
    pub millis: u64,
    /// Who made it.
    pub author: String,
    /// What was different after it.
    pub what: Vec<String>,
}

/// A column with more than one value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConflictRow {
    /// Its name.
    pub name: String,
    /// The value in force.
    pub in_force: ValueRow,
    /// Those that lost, newest first.
    pub lost: Vec<ValueRow>,
}

/// One of the values.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ValueRow {
    /// As people read it; nothing of a secret.
    pub value: String,
    /// When it was written: milliseconds since 1970.
    pub millis: u64,
    /// Who wrote it; empty where that is not kept any more.
    pub author: String,
}

/// Answers a question.
pub(crate) fn tell(tables: &Tables, ask: &Ask) -> rusqlite::Result<Option<Told>> {
    match ask {
        Ask::Changes { limit } => changes(tables, *limit).map(Told::ChangeList).map(Some),
        Ask::Conflicts => {
            let people = People::read(tables.reader())?;
            let undecided = tables.undecided()?;
            let rows = undecided.iter().map(|one| conflict(tables, &people, one));
            let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            rows.extend(files::conflicts(tables.reader())?);
            Ok(Some(Told::ConflictList(rows)))
        }
        Ask::Files { class } => {
            files::list(tables.reader(), class.as_deref()).map(Told::FileList).map(Some)
        }
        Ask::Verify
        | Ask::Export { .. }
        | Ask::Import { .. }
        | Ask::Undo { .. }
        | Ask::Keep { .. }
        | Ask::Restore { .. }
        | Ask::FileAdd(_)
        | Ask::FileRemove { .. } => Ok(None),
    }
}

/// Carries out an order; its op, or why not.
pub(crate) fn carry_out(
    batch: &mut Batch<'_>,
    by: &By,
    ask: &Ask,
    new_id: impl FnOnce() -> FileId,
) -> Result<Option<OpId>, ChangeError<rusqlite::Error>> {
    match ask {
        Ask::Undo { id } => undo(batch, by, id),
        Ask::Keep { name } => decide(batch, by, name, None, new_id),
        Ask::Restore { name, which } => decide(batch, by, name, Some(*which), new_id),
        Ask::FileAdd(new) => files::add(batch, by, new),
        Ask::FileRemove { class, name } => files::remove(batch, by, class, name),
        Ask::Changes { .. }
        | Ask::Conflicts
        | Ask::Files { .. }
        | Ask::Verify
        | Ask::Export { .. }
        | Ask::Import { .. } => Ok(None),
    }
}

fn unfit<T>(why: String) -> Result<T, ChangeError<rusqlite::Error>> {
    Err(ChangeError::Unfit(why))
}

fn decide(
    batch: &mut Batch<'_>,
    by: &By,
    name: &str,
    which: Option<usize>,
    new_id: impl FnOnce() -> FileId,
) -> Result<Option<OpId>, ChangeError<rusqlite::Error>> {
    if let Some(done) = files::decide(batch, by, name, which, new_id) {
        return done;
    }
    let undecided = batch.tables().undecided().map_err(ChangeError::Disk)?;
    let Some(row) = undecided.iter().find(|one| name_of(one) == name) else {
        return unfit(format!("{name}: nothing of this name is undecided"));
    };
    let value = match which {
        None => &row.winner.value,
        Some(which) => match which.checked_sub(1).and_then(|at| row.losers.get(at)) {
            Some(lost) => &lost.value,
            None => {
                return unfit(format!("{name}: expected a number from 1 to {}", row.losers.len()));
            }
        },
    };
    batch.decide(by, row, value)
}

fn undo(
    batch: &mut Batch<'_>,
    by: &By,
    id: &str,
) -> Result<Option<OpId>, ChangeError<rusqlite::Error>> {
    let Some(op) = parse(id) else {
        return unfit(format!("{id:?}: expected the name of a change, as `change list` shows it"));
    };
    let logged = batch.tables().op(op).map_err(ChangeError::Disk)?;
    let Some(op) = logged.and_then(|logged| Op::decode(&logged.bytes).ok()) else {
        return unfit(format!("{id}: there is no such change here, or not any more"));
    };
    let mut since = Vec::new();
    let mut back = Vec::new();
    for change in &op.changes {
        let kept = batch.tables().row(change.table, &change.key).map_err(ChangeError::Disk)?;
        for written in &change.columns {
            let cell = kept.as_ref().and_then(|row| row.cell(written.column));
            if cell.and_then(|cell| cell.winner()).is_some_and(|winner| winner.op == op.id) {
                back.push((change.table, change.key.clone(), written));
            } else {
                let part = Change { columns: vec![written.clone()], ..change.clone() };
                since.push(row_changed(&part, None));
            }
        }
    }
    if !since.is_empty() {
        return unfit(format!("{id}: changed again since: {}", since.join("; ")));
    }
    let put_back = |connection: &Connection| {
        for (table, key, written) in &back {
            undo_column(connection, *table, key, written)?;
        }
        Ok::<_, rusqlite::Error>(())
    };
    batch.change(by, put_back).map(|((), id)| id)
}

/// A row that the change made is deleted; what was there before is there again.
fn undo_column(
    connection: &Connection,
    table: u16,
    key: &[Value],
    written: &Written,
) -> rusqlite::Result<()> {
    let Some(table) = SCHEMA.table(table) else { return Ok(()) };
    let (column, value) = match &written.before {
        Some(before) => (table.column(written.column), before.clone()),
        None => (Some(DELETED), Value::Integer(1)),
    };
    let Some(column) = column else { return Ok(()) };
    tandem_store::tables::set(connection, table, key, column, &value)
}

fn parse(id: &str) -> Option<OpId> {
    let (origin, number) = id.split_once('/')?;
    let origin = Origin(u64::from_str_radix(origin, 16).ok()?);
    Some(OpId { origin, number: number.parse().ok()? })
}

fn changes(tables: &Tables, limit: usize) -> rusqlite::Result<Vec<ChangeRow>> {
    let people = People::read(tables.reader())?;
    let limit = limit.min(HISTORY_MAX);
    let mut ops = Vec::new();
    // What is counted is nobody's change: it is looked past.
    for look in (0..).map(|round| limit.saturating_mul(1 << round)) {
        let logged = tables.newest(look)?;
        let decoded = logged.iter().filter_map(|logged| Op::decode(&logged.bytes).ok());
        let counts = |op: &Op| op.changes.iter().all(|change| change.table == COUNTERS.id);
        ops = decoded.filter(|op| !counts(op)).take(limit).collect();
        if ops.len() == limit || logged.len() < look {
            break;
        }
    }
    let row = |op: Op| ChangeRow {
        id: op.id.to_string(),
        millis: op.hlc.millis(),
        author: op.author.clone(),
        what: op.changes.iter().map(|change| row_changed(change, Some(&people))).collect(),
    };
    Ok(ops.into_iter().map(row).collect())
}

/// What is wrong with the file ([`Tables::faults_named`]): users are called by their names, and no value is told.
///
/// # Errors
///
/// The file cannot be read.
pub fn faults(tables: &Tables) -> rusqlite::Result<Vec<String>> {
    // The names may be what is damaged: then keys must do.
    let people = People::read(tables.reader()).ok();
    tables.faults_named(&|table, key| called(people.as_ref(), table, key))
}

/// `users anna`
fn called(people: Option<&People>, table: u16, key: &[Value]) -> String {
    let known = SCHEMA.table(table);
    let table_name = known.map_or_else(|| format!("table {table}"), |known| known.name.into());
    let row = match people {
        Some(people) => people.row(table, key),
        None => row_name(key),
    };
    if row.is_empty() { table_name } else { format!("{table_name} {row}") }
}

/// `users anna: display "Anna" -> "Anna M."`
fn row_changed(change: &Change, people: Option<&People>) -> String {
    let known = SCHEMA.table(change.table);
    let columns: Vec<String> = change
        .columns
        .iter()
        .filter_map(|written| {
            let column = known.and_then(|known| known.column(written.column));
            column_changed(column, written, people)
        })
        .collect();
    format!("{}: {}", called(people, change.table, &change.key), columns.join(", "))
}

/// `None` for what goes without saying.
fn column_changed(
    column: Option<Column>,
    Written { column: id, before, value }: &Written,
    people: Option<&People>,
) -> Option<String> {
    let Some(column) = column else { return Some(format!("column {id} {value}")) };
    let say = |value: &Value| match people {
        Some(people) => people.value(column.name, value),
        None => value.to_string(),
    };
    Some(match (column.secret, before) {
        _ if column == DELETED => match (before, value) {
            (None, _) => String::from("added"),
            (Some(_), Value::Integer(0)) => String::from("back again"),
            (Some(_), _) => String::from("removed"),
        },
        (true, None) => return None,
        (true, Some(_)) => format!("{} is another", column.name),
        (false, Some(before)) => format!("{} {} -> {}", column.name, say(before), say(value)),
        (false, None) => format!("{} {}", column.name, say(value)),
    })
}

fn conflict(
    tables: &Tables,
    people: &People,
    undecided: &Undecided,
) -> rusqlite::Result<ConflictRow> {
    let value = |one: &Conflict| {
        let logged = tables.op(one.op)?;
        let op = logged.and_then(|logged| Op::decode(&logged.bytes).ok());
        let value = match undecided.secret {
            true => "(not shown)".to_owned(),
            false => people.value(undecided.column, &one.value),
        };
        let author = op.map_or_else(String::new, |op| op.author);
        Ok(ValueRow { value, millis: one.hlc.millis(), author })
    };
    Ok(ConflictRow {
        name: name_of(undecided),
        in_force: value(&undecided.winner)?,
        lost: undecided.losers.iter().map(value).collect::<rusqlite::Result<_>>()?,
    })
}

fn name_of(undecided: &Undecided) -> String {
    format!("{}/{}/{}", undecided.table, row_name(&undecided.key), undecided.column)
}

/// The key of a row, as it stands in names.
fn row_name(key: &[Value]) -> String {
    let part = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => hex(bytes),
    };
    key.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Who is meant by a user's key: the names to log in with, also those of the past.
struct People {
    users: BTreeMap<Vec<u8>, Vec<String>>,
    files: BTreeMap<Vec<u8>, String>,
}

impl People {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut people: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        let mut read = connection.prepare("SELECT user_id, name FROM logins ORDER BY name")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            people.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
        let files = files::called(connection)?;
        Ok(Self { users: people, files })
    }

    fn row(&self, table: u16, key: &[Value]) -> String {
        match key {
            [Value::Blob(id)] if table == USERS.id => self.name(id),
            [Value::Blob(id)] if table == FILES.id && self.files.contains_key(id) => {
                self.files[id].clone()
            }
            _ => row_name(key),
        }
    }

    fn value(&self, column: &str, value: &Value) -> String {
        let is_user = [LOGINS, NUMBERS].iter().any(|table| table.columns[0].name == column);
        match value {
            Value::Blob(id) if is_user => self.name(id),
            Value::Null | Value::Integer(_) | Value::Text(_) | Value::Blob(_) => value.to_string(),
        }
    }

    fn name(&self, id: &[u8]) -> String {
        match self.users.get(id) {
            Some(names) => names.join("/"),
            None => format!("user {}", row_name(&[Value::Blob(id.to_vec())])),
        }
    }
}
