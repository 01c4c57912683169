//! The tables there: made, checked, brought up to date. All of them lie in a schema of their own.
//!
//! Those of the configuration follow [`Setup::schema`] by themselves: a table or a column that is missing is
//! added, and filled from what is kept of the rows. Our own are the list [`MIGRATIONS`].

use std::collections::BTreeMap;

use tandem_journal::Record;
use tandem_oplog::{Column, DELETED, Row, Schema, Table, TableId};
use tokio_postgres::{Client, Transaction};

use crate::ops;
use crate::records::Described;
use crate::trouble::Trouble;

/// The schema's name. (Here the word means what PostgreSQL means by it.)
pub(crate) const NAME: &str = "tandem";

/// Whoever writes ops or changes tables holds this lock: one at a time, in the order of commits.
pub(crate) const LOCK: i64 = 0x7461_6e64_656d;

/// What makes our own tables; a released line never changes.
pub const MIGRATIONS: &[&str] = &["
    CREATE TABLE state (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE origin (
        origin BIGINT NOT NULL PRIMARY KEY, number BIGINT NOT NULL, chain BYTEA NOT NULL);
    CREATE TABLE op_log (
        position BIGINT NOT NULL PRIMARY KEY, origin BIGINT NOT NULL, number BIGINT NOT NULL,
        hlc BIGINT NOT NULL, chain BYTEA NOT NULL, author TEXT NOT NULL, body BYTEA NOT NULL,
        UNIQUE (origin, number));
    CREATE TABLE row_version (
        tab BIGINT NOT NULL, key BYTEA NOT NULL, undecided BIGINT NOT NULL, body BYTEA NOT NULL,
        PRIMARY KEY (tab, key));
    CREATE TABLE parked (
        tab BIGINT NOT NULL, key BYTEA NOT NULL, why TEXT NOT NULL, PRIMARY KEY (tab, key));
    CREATE TABLE known (reign BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL);
    CREATE TABLE log_record (
        key BYTEA NOT NULL PRIMARY KEY, reign BIGINT NOT NULL, seq BIGINT NOT NULL,
        written BIGINT NOT NULL, body BYTEA NOT NULL);
    CREATE INDEX log_by_stamp ON log_record (reign, seq, key);
    CREATE TABLE cdr (
        call_id TEXT NOT NULL PRIMARY KEY, caller TEXT NOT NULL, caller_name TEXT NOT NULL,
        called TEXT NOT NULL, called_name TEXT NOT NULL, answered_by TEXT NOT NULL,
        answered_by_name TEXT NOT NULL, start_us BIGINT NOT NULL, delivered_us BIGINT,
        connect_us BIGINT, end_us BIGINT, outcome TEXT NOT NULL, ending TEXT NOT NULL,
        sip_status BIGINT NOT NULL, q850_cause BIGINT NOT NULL, talk_seconds BIGINT NOT NULL);
    CREATE INDEX cdr_by_start ON cdr (start_us);
    CREATE INDEX cdr_by_end ON cdr (end_us);
    CREATE TABLE call_event (call_id TEXT NOT NULL PRIMARY KEY, steps TEXT NOT NULL);
    CREATE VIEW call_report AS SELECT call_id, caller, caller_name, called, called_name, answered_by,
        answered_by_name, to_timestamp(start_us / 1e6) AS started,
        to_timestamp(delivered_us / 1e6) AS delivered, to_timestamp(connect_us / 1e6) AS connected,
        to_timestamp(end_us / 1e6) AS ended, outcome, ending, sip_status, q850_cause, talk_seconds
        FROM cdr;
", "
    CREATE TABLE passed (
        origin BIGINT NOT NULL, number BIGINT NOT NULL, chain BYTEA NOT NULL,
        PRIMARY KEY (origin, number));
"];

/// A program that knows so many of them can work with a database that has had all: while a pair is brought to a
/// new version, one of its servers still has the old one. Raised where a line changes what is there already.
const OLDEST: usize = 2;

/// How many of the lines a program has to know, as the newest one that was here has said.
const OLDEST_STATE: &str = "oldest";

/// The tables that people read lack what a program took that does not know this schema yet.
const BEHIND: &str = "behind";

/// What must be there of our own: a database that somebody has changed is noticed before it is used.
const OWN: &[(&str, &str)] = &[
    ("state", "name:text value:text"),
    ("origin", "origin:bigint number:bigint chain:bytea"),
    (
        "op_log",
        "position:bigint origin:bigint number:bigint hlc:bigint chain:bytea author:text body:bytea",
    ),
    ("row_version", "tab:bigint key:bytea undecided:bigint body:bytea"),
    ("parked", "tab:bigint key:bytea why:text"),
    ("known", "reign:bigint seq:bigint"),
    ("passed", "origin:bigint number:bigint chain:bytea"),
    ("log_record", "key:bytea reign:bigint seq:bigint written:bigint body:bytea"),
    (
        "cdr",
        "call_id:text caller:text caller_name:text called:text called_name:text answered_by:text \
         answered_by_name:text start_us:bigint delivered_us:bigint connect_us:bigint end_us:bigint \
         outcome:text ending:text sip_status:bigint q850_cause:bigint talk_seconds:bigint",
    ),
    ("call_event", "call_id:text steps:text"),
];

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ColumnKind {
    /// A number, a truth value, a time.
    Integer,
    /// UTF-8.
    Text,
    /// Bytes.
    Blob,
}

impl ColumnKind {
    /// From the word that SQLite has for it.
    pub fn of_sqlite(word: &str) -> Option<Self> {
        match word {
            "INTEGER" => Some(Self::Integer),
            "TEXT" => Some(Self::Text),
            "BLOB" => Some(Self::Blob),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Text => "text",
            Self::Blob => "bytea",
        }
    }
}

/// What is kept there, and for whom.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The tables of the configuration.
    pub schema: &'static Schema,
    /// What their columns hold, by the names of table and column; a column that is missing here is bytes.
    pub kinds: BTreeMap<(String, String), ColumnKind>,
    /// Whose database it is: another pair is refused.
    pub pair: String,
    /// Reads what is in a record of the journal.
    pub describe: fn(&Record) -> Described,
}

impl Setup {
    /// What a column holds.
    pub(crate) fn kind(&self, table: &Table, column: &str) -> ColumnKind {
        if column == DELETED.name {
            return ColumnKind::Integer;
        }
        let name = (table.name.to_owned(), column.to_owned());
        self.kinds.get(&name).copied().unwrap_or(ColumnKind::Blob)
    }
}

/// Settings of the connection. A commit that is told is on a disk, whatever the server's default is.
const SESSION: &str = "
    SET search_path = tandem, pg_catalog;
    SET client_min_messages = warning;
    SET statement_timeout = '60s';
    SET lock_timeout = '2s';
    SET idle_in_transaction_session_timeout = '10s';
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off';
";

/// Makes the database ready, or says why it cannot be used.
pub(crate) async fn prepare(client: &mut Client, setup: &Setup) -> Result<(), Trouble> {
    setup.schema.check().map_err(|fault| Trouble::Refused(fault.to_string()))?;
    client.batch_execute(SESSION).await?;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let place = Place::read(&transaction).await?;
    place.check()?;
    let done = version(&transaction).await?;
    if !place.is_made {
        transaction.batch_execute("CREATE SCHEMA tandem").await?;
    }
    for step in &MIGRATIONS[done.min(MIGRATIONS.len())..] {
        transaction.batch_execute(step).await?;
    }
    let there = columns(&transaction).await?;
    check_own(&there)?;
    claim(&transaction, setup).await?;
    if done < MIGRATIONS.len() {
        set_state(&transaction, "version", &MIGRATIONS.len().to_string()).await?;
        set_state(&transaction, OLDEST_STATE, &OLDEST.to_string()).await?;
    }
    let behind = number(&transaction, BEHIND).await?;
    let is_known = behind.is_some_and(|schema| schema <= i64::from(setup.schema.version));
    if follow(&transaction, setup, &there).await? || is_known {
        ops::rebuild(&transaction, setup).await?;
        if is_known {
            transaction.execute("DELETE FROM state WHERE name = $1", &[&BEHIND]).await?;
        }
    }
    transaction.commit().await?;
    client.batch_execute("LISTEN tandem").await?;
    Ok(())
}

/// Where the tables are to be, and what we may do there.
struct Place {
    user: String,
    database: String,
    encoding: String,
    /// Schemas may be made in it.
    is_open: bool,
    /// Our schema is there.
    is_made: bool,
    /// It may be read and added to.
    is_ours: bool,
    owner: String,
}

impl Place {
    async fn read(transaction: &Transaction<'_>) -> Result<Self, Trouble> {
        let sql = "SELECT current_user::text, datname::text, pg_encoding_to_char(encoding)::text,
                has_database_privilege(datname, 'CREATE'), nspname IS NOT NULL,
                coalesce(has_schema_privilege(nspname, 'USAGE')
                    AND has_schema_privilege(nspname, 'CREATE'), false),
                coalesce(pg_get_userbyid(nspowner)::text, '')
            FROM pg_database LEFT JOIN pg_namespace ON nspname = $1
            WHERE datname = current_database()";
        let row = transaction.query_one(sql, &[&NAME]).await?;
        Ok(Self {
            user: row.try_get(0)?,
            database: row.try_get(1)?,
            encoding: row.try_get(2)?,
            is_open: row.try_get(3)?,
            is_made: row.try_get(4)?,
            is_ours: row.try_get(5)?,
            owner: row.try_get(6)?,
        })
    }

    fn check(&self) -> Result<(), Trouble> {
        let Self { user, database, encoding, owner, .. } = self;
        let fault = if encoding != "UTF8" {
            // A name that it cannot hold would stop everything behind it.
            format!(
                "the database \"{database}\" is encoded in {encoding}: make another one, with \
                 --encoding UTF8 --template template0"
            )
        } else if !self.is_made && !self.is_open {
            format!(
                "\"{user}\" may make nothing in the database \"{database}\": GRANT CREATE ON \
                 DATABASE {database} TO {user}"
            )
        } else if self.is_made && !self.is_ours {
            format!(
                "the schema \"tandem\" of the database \"{database}\" belongs to \"{owner}\", and \
                 \"{user}\" may not use it: log in as \"{owner}\""
            )
        } else {
            return Ok(());
        };
        Err(Trouble::Refused(fault))
    }
}

/// How many migrations it has had.
async fn version(transaction: &Transaction<'_>) -> Result<usize, Trouble> {
    let there = columns(transaction).await?;
    if there.is_empty() {
        return Ok(0);
    }
    let foreign = || {
        let what =
            "the schema \"tandem\" of this database was not made by Tandem: use another database";
        Trouble::Refused(what.to_owned())
    };
    let is_text = |name: &str| {
        let kind = there.get(&("state".to_owned(), name.to_owned()));
        kind.is_some_and(|kind| kind == "text")
    };
    if !is_text("name") || !is_text("value") {
        return Err(foreign());
    }
    let version = state(transaction, "version").await?;
    let version: usize = version.and_then(|text| text.parse().ok()).ok_or_else(foreign)?;
    let oldest = number(transaction, OLDEST_STATE).await?.and_then(|it| usize::try_from(it).ok());
    let is_newer = version > MIGRATIONS.len();
    if version == 0 || is_newer && oldest.unwrap_or(version) > MIGRATIONS.len() {
        return Err(Trouble::Refused(format!(
            "this database was made by a newer version of Tandem: it has version {version}, this \
             program knows {}",
            MIGRATIONS.len()
        )));
    }
    Ok(version)
}

/// Every column with its type, by table.
type Columns = BTreeMap<(String, String), String>;

async fn columns(transaction: &Transaction<'_>) -> Result<Columns, Trouble> {
    // Also those that we may not read: that is another fault than that they are not there.
    let sql = "SELECT relname::text, attname::text, format_type(atttypid, atttypmod)
        FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
            JOIN pg_namespace ON relnamespace = pg_namespace.oid
        WHERE nspname = $1 AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped";
    let rows = transaction.query(sql, &[&NAME]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

fn check_own(there: &Columns) -> Result<(), Trouble> {
    for (table, columns) in OWN {
        for column in columns.split_whitespace() {
            let (name, kind) = column.split_once(':').unwrap_or((column, ""));
            check_column(there, table, name, kind)?;
        }
    }
    Ok(())
}

fn check_column(there: &Columns, table: &str, name: &str, kind: &str) -> Result<(), Trouble> {
    let fault = |what: String| {
        Err(Trouble::Refused(format!(
            "{what}: somebody has changed the tables of this database by hand"
        )))
    };
    match there.get(&(table.to_owned(), name.to_owned())) {
        Some(found) if found == kind => Ok(()),
        Some(found) => fault(format!("column {NAME}.{table}.{name} is {found} and not {kind}")),
        None => fault(format!("there is no column {NAME}.{table}.{name}")),
    }
}

/// The first pair that comes has it.
async fn claim(transaction: &Transaction<'_>, setup: &Setup) -> Result<(), Trouble> {
    match state(transaction, "pair").await? {
        None => set_state(transaction, "pair", &setup.pair).await,
        Some(pair) if pair == setup.pair => Ok(()),
        Some(pair) => Err(Trouble::Refused(format!(
            "this database belongs to another pair ({pair}; this one is {}): use a database for each",
            setup.pair
        ))),
    }
}

/// Adds what is missing of the configuration's tables. True where something was.
async fn follow(
    transaction: &Transaction<'_>,
    setup: &Setup,
    there: &Columns,
) -> Result<bool, Trouble> {
    let mut any = false;
    for table in setup.schema.tables {
        if !there.keys().any(|(name, _)| name == table.name) {
            transaction.batch_execute(&create(setup, table)).await?;
            any = true;
            continue;
        }
        for key in table.key {
            check_column(there, table.name, key, setup.kind(table, key).name())?;
        }
        for column in table.changing() {
            let kind = setup.kind(table, column.name).name();
            if there.contains_key(&(table.name.to_owned(), column.name.to_owned())) {
                check_column(there, table.name, column.name, kind)?;
                continue;
            }
            let add = format!("ALTER TABLE {} ADD COLUMN {} {kind}", table.name, quoted(column));
            transaction.batch_execute(&add).await?;
            any = true;
        }
    }
    Ok(any)
}

/// Everything but the key may be missing: what a row lacks is known to whoever wrote it.
fn create(setup: &Setup, table: &Table) -> String {
    let key = |name: &&str| format!("\"{name}\" {} NOT NULL", setup.kind(table, name).name());
    let keys = table.key.iter().map(key);
    let column = |column: Column| {
        let kind = setup.kind(table, column.name).name();
        format!("{} {kind}{}", quoted(column), if column == DELETED { " NOT NULL" } else { "" })
    };
    let columns: Vec<String> = keys.chain(table.changing().map(column)).collect();
    let primary: Vec<String> = table.key.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "CREATE TABLE \"{}\" ({}, PRIMARY KEY ({}))",
        table.name,
        columns.join(", "),
        primary.join(", ")
    )
}

pub(crate) fn quoted(column: Column) -> String {
    format!("\"{}\"", column.name)
}

pub(crate) async fn state(
    transaction: &Transaction<'_>,
    name: &str,
) -> Result<Option<String>, Trouble> {
    let sql = "SELECT value FROM tandem.state WHERE name = $1";
    let row = transaction.query_opt(sql, &[&name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

async fn number(transaction: &Transaction<'_>, name: &str) -> Result<Option<i64>, Trouble> {
    Ok(state(transaction, name).await?.and_then(|text| text.parse().ok()))
}

/// These were written by a program that knows this schema. Where we do not, the tables that people read lack
/// something of them, until one that does comes back.
pub(crate) async fn note_schema(
    transaction: &Transaction<'_>,
    setup: &Setup,
    schema: Option<u32>,
) -> Result<(), Trouble> {
    match schema {
        Some(schema) if schema > setup.schema.version => {
            set_state(transaction, BEHIND, &schema.to_string()).await
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) async fn set_state(
    transaction: &Transaction<'_>,
    name: &str,
    value: &str,
) -> Result<(), Trouble> {
    let sql = "INSERT INTO state (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(sql, &[&name, &value]).await?;
    Ok(())
}

/// What is kept of rows, by table and encoded key.
pub(crate) type Rows = BTreeMap<(TableId, Vec<u8>), Row>;
