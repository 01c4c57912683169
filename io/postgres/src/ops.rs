//! Ops: logged, taken into the rows, and read by whoever lacks them. By the same rules as in
//! every server's own file, so that the digests of both are equal.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use tandem_oplog::{Chain, Column, Op, OpId, Origin, Row, Seen, Table, TableId, Value};
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::database::{Database, more_patience};
use crate::schema::{ColumnKind, LOCK, Rows, Setup, note_schema, quoted};
use crate::trouble::Trouble;

/// Stands for all rows of each table, with everything that is kept of them; as in the servers' files.
pub type Digests = BTreeMap<TableId, [u8; 32]>;

const NOT_KEPT: &str = "this server lacks changes that the database does not keep any more: the other server has \
                        them; without it, stop this one, run `tandem store move --to embedded` and start it again";

/// The last op of each origin, with its chain.
pub(crate) type Heads = Vec<(OpId, Chain)>;

impl Database {
    /// The last op of each origin that is there, and what stands for all up to it.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn heads(&self) -> Result<Heads, Trouble> {
        self.timed(async {
            let sql = "SELECT origin, number, chain FROM origin ORDER BY origin";
            self.client.query(sql, &[]).await?.iter().map(head).collect()
        })
        .await
    }

    /// Ops in an order in which they can be taken, encoded. Those that are there already change nothing. When
    /// this returns `Ok` all of them are committed; after [`Trouble::Away`] they may be, or come to
    /// be.
    ///
    /// # Errors
    ///
    /// It does not answer; or one of them cannot be taken, and then none is.
    pub async fn take(&mut self, ops: &[Vec<u8>]) -> Result<(), Trouble> {
        let patience = self.patience + more_patience(ops);
        let setup = self.setup.clone();
        let transaction = async {
            let transaction = self.client.transaction().await?;
            transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
            if take(&transaction, &setup, ops).await? > 0 {
                transaction.execute("SELECT pg_notify('tandem', '')", &[]).await?;
            }
            transaction.commit().await?;
            Ok(())
        };
        crate::database::within(patience, transaction).await
    }

    /// Ops that `seen` does not have, in the order in which they came there, until they are `bytes` or more.
    ///
    /// # Errors
    ///
    /// It does not answer; or some of them are not kept there any more ([`Database::keeps_since`]).
    pub async fn lacking(&self, seen: &Seen, bytes: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        if !self.keeps_since(seen).await? {
            return Err(Trouble::Refused(NOT_KEPT.to_owned()));
        }
        let (origins, numbers): (Vec<i64>, Vec<i64>) =
            seen.iter().map(|id| (origin_of(id.origin), number_of(id.number))).unzip();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        // No more than is asked for comes over the network: one may be an import of everybody.
        let sql = "WITH seen AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS s (origin, number)),
            lacking AS (SELECT position, octet_length(body)::bigint AS length FROM op_log
                WHERE number > coalesce((SELECT s.number FROM seen s WHERE s.origin = op_log.origin), 0)
                ORDER BY position LIMIT 1000),
            summed AS (SELECT position, sum(length) OVER (ORDER BY position) - length AS before
                FROM lacking)
            SELECT body FROM op_log JOIN summed USING (position) WHERE before < $3::bigint
            ORDER BY position";
        let rows = self.query(sql, &[&origins, &numbers, &bytes]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// The digest of every table that has rows.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn digests(&self) -> Result<Digests, Trouble> {
        let mut digests: BTreeMap<TableId, Sha256> = BTreeMap::new();
        for row in
            self.query("SELECT tab, key, body FROM row_version ORDER BY tab, key", &[]).await?
        {
            let digest = digests.entry(table_id(row.try_get(0)?)?).or_default();
            for part in [row.try_get::<_, &[u8]>(1)?, row.try_get::<_, &[u8]>(2)?] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        Ok(digests.into_iter().map(|(table, digest)| (table, digest.finalize().into())).collect())
    }

    /// Compares what is kept of every row there with what `here` keeps of it: how many rows there are, and what
    /// differs, by table and key.
    ///
    /// # Errors
    ///
    /// It does not answer, or `here` fails.
    pub async fn compare_rows<E: core::fmt::Display>(
        &self,
        here: impl Fn(TableId, &[Value]) -> Result<Option<Row>, E>,
    ) -> Result<(u64, Vec<String>), Trouble> {
        let (mut count, mut differ) = (0, Vec::new());
        let sql = "SELECT tab, key, body FROM row_version ORDER BY tab, key";
        for ((table, key), row) in kept(self.query(sql, &[]).await?)? {
            count += 1;
            let name =
                self.setup.schema.table(table).map_or("a table of a newer version", |t| t.name);
            let key = key_of(&key).unwrap_or_default();
            let found = here(table, &key).map_err(|error| Trouble::Refused(error.to_string()))?;
            if found.as_ref() != Some(&row) {
                let what = if found.is_some() { "is another here" } else { "is not here" };
                let key: Vec<String> = key.iter().map(ToString::to_string).collect();
                differ.push(format!("row {} of {name} in the database {what}", key.join(", ")));
            }
        }
        Ok((count, differ))
    }

    /// How many ops and rows are there.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn op_count(&self) -> Result<(u64, u64), Trouble> {
        let sql = "SELECT (SELECT count(*) FROM op_log), (SELECT count(*) FROM row_version)";
        let row = self.query_one(sql, &[]).await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok((count(row.try_get(0)?), count(row.try_get(1)?)))
    }
}

pub(crate) fn head(row: &tokio_postgres::Row) -> Result<(OpId, Chain), Trouble> {
    let (origin, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let chain = <[u8; 16]>::try_from(row.try_get::<_, &[u8]>(2)?);
    let (Ok(number), Ok(chain)) = (u64::try_from(number), chain) else {
        return Err(Trouble::Refused("table origin holds what Tandem never wrote".to_owned()));
    };
    Ok((OpId { origin: Origin(origin.cast_unsigned()), number }, Chain(chain)))
}

pub(crate) fn table_id(number: i64) -> Result<TableId, Trouble> {
    let fault = || Trouble::Refused(format!("there is no table of the number {number}"));
    TableId::try_from(number).map_err(|_| fault())
}

pub(crate) fn origin_of(origin: Origin) -> i64 {
    origin.0.cast_signed()
}

pub(crate) fn number_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A key as a column. Equal keys have equal bytes.
fn key_bytes(key: &[Value]) -> Vec<u8> {
    // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
    postcard::to_stdvec(key).unwrap_or_default()
}

fn key_of(bytes: &[u8]) -> Option<Vec<Value>> {
    postcard::from_bytes(bytes).ok()
}

/// How many of them are new.
async fn take(
    transaction: &Transaction<'_>,
    setup: &Setup,
    ops: &[Vec<u8>],
) -> Result<usize, Trouble> {
    let sql = "SELECT origin, number, chain FROM origin ORDER BY origin";
    let heads: Result<Heads, Trouble> =
        transaction.query(sql, &[]).await?.iter().map(head).collect();
    let heads = heads?;
    let mut seen: Seen = heads.iter().map(|(id, _)| *id).collect();
    let mut chains: BTreeMap<Origin, Chain> =
        heads.into_iter().map(|(id, chain)| (id.origin, chain)).collect();
    let mut fresh = Vec::new();
    for bytes in ops {
        let op = Op::decode(bytes).map_err(|error| Trouble::Refused(error.to_string()))?;
        if seen.has(op.id) {
            is_same(transaction, op.id, bytes).await?;
            continue;
        }
        let before = OpId { number: op.id.number - 1, ..op.id };
        let missing = core::iter::once(before).filter(|id| id.number > 0).chain(op.seen.iter());
        if let Some(missing) = missing.into_iter().find(|id| !seen.has(*id)) {
            // Somebody has it: the next exchange brings it.
            return Err(Trouble::Away(format!("change {missing} is not there yet")));
        }
        seen.learn(op.id);
        let chain = chains.entry(op.id.origin).or_insert(Chain::START);
        *chain = chain.link(bytes);
        fresh.push((op, bytes, *chain));
    }
    if !fresh.is_empty() {
        log(transaction, &fresh).await?;
        let touched = rows(transaction, &fresh).await?;
        keep(transaction, &touched).await?;
        mirror(transaction, setup, &touched).await?;
        note_schema(transaction, setup, fresh.iter().map(|(op, ..)| op.schema).max()).await?;
    }
    Ok(fresh.len())
}

async fn is_same(transaction: &Transaction<'_>, id: OpId, bytes: &[u8]) -> Result<(), Trouble> {
    let sql = "SELECT body = $3 FROM op_log WHERE origin = $1 AND number = $2";
    let (origin, number) = (origin_of(id.origin), number_of(id.number));
    let same = transaction.query_opt(sql, &[&origin, &number, &bytes]).await?;
    match same.map(|row| row.try_get(0)).transpose()? {
        Some(false) => {
            Err(Trouble::Refused(format!("there is another change {id} in the database")))
        }
        // One that is not kept any more cannot be compared.
        Some(true) | None => Ok(()),
    }
}

/// A zero cannot stand in a text there.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(crate) async fn log(
    transaction: &Transaction<'_>,
    fresh: &[(Op, &Vec<u8>, Chain)],
) -> Result<(), Trouble> {
    let sql = "SELECT coalesce(max(position), 0) FROM op_log";
    let mut position: i64 = transaction.query_one(sql, &[]).await?.try_get(0)?;
    let (mut positions, mut origins, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut stamps, mut chains, mut authors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bodies, mut heads) = (Vec::new(), BTreeMap::new());
    for (op, bytes, chain) in fresh {
        position += 1;
        positions.push(position);
        origins.push(origin_of(op.id.origin));
        numbers.push(number_of(op.id.number));
        stamps.push(op.hlc.to_bits());
        chains.push(chain.0.as_slice());
        authors.push(plain(&op.author));
        bodies.push(bytes.as_slice());
        heads.insert(origin_of(op.id.origin), (number_of(op.id.number), chain.0.as_slice()));
    }
    let sql = "INSERT INTO op_log (position, origin, number, hlc, chain, author, body)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[],
                             $6::text[], $7::bytea[])";
    let values: [&(dyn ToSql + Sync); 7] =
        [&positions, &origins, &numbers, &stamps, &chains, &authors, &bodies];
    transaction.execute(sql, &values).await?;
    let sql = "INSERT INTO origin (origin, number, chain)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])
        ON CONFLICT (origin) DO UPDATE SET number = excluded.number, chain = excluded.chain";
    let origins: Vec<i64> = heads.keys().copied().collect();
    let numbers: Vec<i64> = heads.values().map(|(number, _)| *number).collect();
    let chains: Vec<&[u8]> = heads.values().map(|(_, chain)| *chain).collect();
    transaction.execute(sql, &[&origins, &numbers, &chains]).await?;
    Ok(())
}

/// The rows that these ops touch, as they are afterwards.
async fn rows(
    transaction: &Transaction<'_>,
    fresh: &[(Op, &Vec<u8>, Chain)],
) -> Result<Rows, Trouble> {
    let changes = || fresh.iter().flat_map(|(op, ..)| op.changes.iter().map(move |one| (op, one)));
    let places: BTreeSet<(TableId, Vec<u8>)> =
        changes().map(|(_, change)| (change.table, key_bytes(&change.key))).collect();
    let tables: Vec<i64> = places.iter().map(|(table, _)| i64::from(*table)).collect();
    let keys: Vec<&[u8]> = places.iter().map(|(_, key)| key.as_slice()).collect();
    let sql = "SELECT tab, key, body FROM row_version
        JOIN unnest($1::bigint[], $2::bytea[]) AS wanted (wanted_tab, wanted_key)
        ON tab = wanted_tab AND key = wanted_key";
    let mut rows = kept(transaction.query(sql, &[&tables, &keys]).await?)?;
    for (op, change) in changes() {
        rows.entry((change.table, key_bytes(&change.key))).or_default().take(op, change);
    }
    Ok(rows)
}

fn kept(found: Vec<tokio_postgres::Row>) -> Result<Rows, Trouble> {
    let mut rows = Rows::new();
    for row in found {
        let (table, key): (TableId, Vec<u8>) = (table_id(row.try_get(0)?)?, row.try_get(1)?);
        let Some(body) = Row::decode(row.try_get(2)?) else {
            let what = format!("what is kept of a row of table {table} cannot be read");
            return Err(Trouble::Refused(what));
        };
        rows.insert((table, key), body);
    }
    Ok(rows)
}

pub(crate) async fn keep(transaction: &Transaction<'_>, rows: &Rows) -> Result<(), Trouble> {
    let tables: Vec<i64> = rows.keys().map(|(table, _)| i64::from(*table)).collect();
    let keys: Vec<&[u8]> = rows.keys().map(|(_, key)| key.as_slice()).collect();
    let undecided: Vec<i64> = rows.values().map(|row| i64::from(row.has_losers())).collect();
    let bodies: Vec<Vec<u8>> = rows.values().map(Row::encode).collect();
    let sql = "INSERT INTO row_version (tab, key, undecided, body)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[])
        ON CONFLICT (tab, key) DO UPDATE SET undecided = excluded.undecided, body = excluded.body";
    transaction.execute(sql, &[&tables, &keys, &undecided, &bodies]).await?;
    Ok(())
}

/// Writes all rows that are kept into the tables that people read.
pub(crate) async fn rebuild(transaction: &Transaction<'_>, setup: &Setup) -> Result<(), Trouble> {
    let sql = "SELECT tab, key, body FROM row_version";
    let rows = kept(transaction.query(sql, &[]).await?)?;
    mirror(transaction, setup, &rows).await
}

/// Writes rows into the tables that people read. What does not fit there is parked, and shown as such.
pub(crate) async fn mirror(
    transaction: &Transaction<'_>,
    setup: &Setup,
    rows: &Rows,
) -> Result<(), Trouble> {
    let mut parked: Vec<(i64, &[u8], String)> = Vec::new();
    for table in setup.schema.tables {
        let mut columns = Columns::of(setup, table);
        let range = (table.id, Vec::new())..=(table.id, vec![0xff; 2048]);
        for ((_, key), row) in rows.range(range) {
            if let Err(why) = columns.push(key, row) {
                parked.push((i64::from(table.id), key, why));
            }
        }
        columns.write(transaction).await?;
    }
    let tables: Vec<i64> = rows.keys().map(|(table, _)| i64::from(*table)).collect();
    let keys: Vec<&[u8]> = rows.keys().map(|(_, key)| key.as_slice()).collect();
    let sql =
        "DELETE FROM parked USING unnest($1::bigint[], $2::bytea[]) AS gone (gone_tab, gone_key)
               WHERE tab = gone_tab AND key = gone_key";
    transaction.execute(sql, &[&tables, &keys]).await?;
    for (table, key, why) in parked {
        let sql = "INSERT INTO parked (tab, key, why) VALUES ($1, $2, $3)";
        transaction.execute(sql, &[&table, &key, &why]).await?;
    }
    Ok(())
}

/// The rows of one table, column by column.
struct Columns<'a> {
    table: &'a Table,
    changing: Vec<Column>,
    kinds: Vec<ColumnKind>,
    values: Vec<Vec<Value>>,
}

impl<'a> Columns<'a> {
    fn of(setup: &Setup, table: &'a Table) -> Self {
        let changing: Vec<Column> = table.changing().collect();
        let names = table.key.iter().copied().chain(changing.iter().map(|column| column.name));
        let kinds: Vec<ColumnKind> = names.map(|name| setup.kind(table, name)).collect();
        let values = vec![Vec::new(); kinds.len()];
        Self { table, changing, kinds, values }
    }

    fn push(&mut self, key: &[u8], row: &Row) -> Result<(), String> {
        let key = key_of(key).filter(|key| key.len() == self.table.key.len());
        let mut all = key.ok_or_else(|| "its key is of another kind".to_owned())?;
        for column in &self.changing {
            let default = if column.id == 0 { Value::Integer(0) } else { Value::Null };
            all.push(row.value(column.id).cloned().unwrap_or(default));
        }
        for (value, kind) in all.iter().zip(&self.kinds) {
            match (value, kind) {
                (Value::Text(text), ColumnKind::Text) if text.contains('\0') => {
                    return Err("a zero stands in a text".to_owned());
                }
                (Value::Null, _)
                | (Value::Integer(_), ColumnKind::Integer)
                | (Value::Text(_), ColumnKind::Text)
                | (Value::Blob(_), ColumnKind::Blob) => {}
                (other, kind) => return Err(format!("{other} is no {}", kind.name())),
            }
        }
        let keys = &all[..self.table.key.len()];
        if keys.contains(&Value::Null) {
            return Err("a part of its key is nothing".to_owned());
        }
        for (column, value) in self.values.iter_mut().zip(all) {
            column.push(value);
        }
        Ok(())
    }

    async fn write(self, transaction: &Transaction<'_>) -> Result<(), Trouble> {
        if self.values.first().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let sql = self.sql();
        let arrays: Vec<Box<dyn ToSql + Sync + Send>> =
            self.kinds.iter().zip(self.values).map(|(kind, values)| array(*kind, values)).collect();
        let arrays: Vec<&(dyn ToSql + Sync)> =
            arrays.iter().map(|array| array.as_ref() as &(dyn ToSql + Sync)).collect();
        transaction.execute(&sql, &arrays).await?;
        Ok(())
    }

    fn sql(&self) -> String {
        let keys: Vec<String> = self.table.key.iter().map(|name| format!("\"{name}\"")).collect();
        let changing: Vec<String> = self.changing.iter().copied().map(quoted).collect();
        let all = [keys.clone(), changing.clone()].concat().join(", ");
        let array = |(at, kind): (usize, &ColumnKind)| format!("${}::{}[]", at + 1, kind.name());
        let arrays: Vec<String> = self.kinds.iter().enumerate().map(array).collect();
        let sets: Vec<String> =
            changing.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        format!(
            "INSERT INTO \"{}\" ({all}) SELECT * FROM unnest({}) ON CONFLICT ({}) DO UPDATE SET {}",
            self.table.name,
            arrays.join(", "),
            keys.join(", "),
            sets.join(", ")
        )
    }
}

fn array(kind: ColumnKind, values: Vec<Value>) -> Box<dyn ToSql + Sync + Send> {
    // What is of another kind was parked before.
    match kind {
        ColumnKind::Integer => Box::new(
            values
                .into_iter()
                .map(|value| match value {
                    Value::Integer(number) => Some(number),
                    Value::Null | Value::Text(_) | Value::Blob(_) => None,
                })
                .collect::<Vec<Option<i64>>>(),
        ),
        ColumnKind::Text => Box::new(
            values
                .into_iter()
                .map(|value| match value {
                    Value::Text(text) => Some(text),
                    Value::Null | Value::Integer(_) | Value::Blob(_) => None,
                })
                .collect::<Vec<Option<String>>>(),
        ),
        ColumnKind::Blob => Box::new(
            values
                .into_iter()
                .map(|value| match value {
                    Value::Blob(bytes) => Some(bytes),
                    Value::Null | Value::Integer(_) | Value::Text(_) => None,
                })
                .collect::<Vec<Option<Vec<u8>>>>(),
        ),
    }
}
