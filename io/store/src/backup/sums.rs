//! What stands for all that a server has, to be compared with its twin.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Kind, begin_reading};
use crate::file::{FILE_NAME, OpenError};

/// Positions of a reign whose log records are summed up together.
const POSITIONS: i64 = 8_192;

/// Log records that are summed up together: those of a part of a reign. On both servers a record has the
/// same stamp.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LogPart {
    /// The reign, as the column has it.
    pub reign: i64,
    /// Which part of it, from 0.
    pub part: i64,
}

/// See [`sums`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sums {
    /// The last op of each origin and its chain. Only with equal ones can the tables be compared.
    pub heads: Vec<(i64, i64, Vec<u8>)>,
    /// Each table's digest.
    pub tables: BTreeMap<i64, [u8; 32]>,
    /// The log records of each part: how many, and what stands for them in any order.
    pub logs: BTreeMap<LogPart, (u64, [u8; 16])>,
}

impl Sums {
    /// How many log records there are.
    pub fn log_records(&self) -> u64 {
        self.logs.values().map(|(count, _)| count).sum()
    }
}

/// Reads the tables at `tables` and the journal in `folder`, each as it is at one moment. Of the log records
/// only those that ended at `since` (microseconds since 1970) or later: older ones may be deleted by now, on
/// one server before the other.
///
/// # Errors
///
/// One of the files cannot be read.
pub fn sums(tables: &Path, folder: &Path, since: Option<i64>) -> Result<Sums, OpenError> {
    let mut sums = Sums::default();
    let connection = begin_reading(Kind::Tables, tables)?;
    sum_tables(&connection, &mut sums).map_err(|error| OpenError::of_sqlite(tables, &error))?;
    let path = folder.join(FILE_NAME);
    let connection = begin_reading(Kind::Journal, &path)?;
    let mut each = |part: LogPart, _: &[u8], hash: [u8; 16]| {
        let (count, sum) = sums.logs.entry(part).or_default();
        *count += 1;
        sum.iter_mut().zip(hash).for_each(|(sum, byte)| *sum ^= byte);
    };
    let read = young(&connection, since).and_then(|young| {
        let every = format!("SELECT reign, seq, key, body FROM log_record WHERE {young}");
        read_log(&connection, &every, &[], &mut each)
    });
    read.map_err(|error| OpenError::of_sqlite(&path, &error))?;
    Ok(sums)
}

/// Every log record of one part that is as young: its key, and what stands for it.
///
/// # Errors
///
/// The journal cannot be read.
pub fn log_part(
    folder: &Path,
    part: LogPart,
    since: Option<i64>,
) -> Result<BTreeMap<Vec<u8>, [u8; 16]>, OpenError> {
    let path = folder.join(FILE_NAME);
    let connection = begin_reading(Kind::Journal, &path)?;
    let mut records = BTreeMap::new();
    let first = part.part.saturating_mul(POSITIONS);
    let values = [part.reign, first, first.saturating_add(POSITIONS)];
    let mut each = |_: LogPart, key: &[u8], hash: [u8; 16]| {
        records.insert(key.to_vec(), hash);
    };
    let read = young(&connection, since).and_then(|young| {
        let sql = format!(
            "SELECT reign, seq, key, body FROM log_record
             WHERE reign = ? AND seq >= ? AND seq < ? AND {young}"
        );
        read_log(&connection, &sql, &values, &mut each)
    });
    read.map_err(|error| OpenError::of_sqlite(&path, &error))?;
    Ok(records)
}

fn sum_tables(connection: &Connection, sums: &mut Sums) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("SELECT origin, number, chain FROM origin ORDER BY origin")?;
    let heads = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    sums.heads = heads.collect::<rusqlite::Result<_>>()?;
    let mut statement =
        connection.prepare("SELECT tab, key, body FROM row_version ORDER BY tab, key")?;
    let mut rows = statement.query([])?;
    let mut digests = BTreeMap::<i64, Sha256>::new();
    while let Some(row) = rows.next()? {
        let digest = digests.entry(row.get(0)?).or_default();
        for part in [row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob()?] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    let digests = digests.into_iter().map(|(table, digest)| (table, digest.finalize().into()));
    sums.tables = digests.collect();
    Ok(())
}

/// What to ask of a record so that only young ones are read. What never ended is as young as any.
fn young(connection: &Connection, since: Option<i64>) -> rusqlite::Result<String> {
    let sql = "SELECT count(*) FROM pragma_table_info('log_record') WHERE name = 'ends'";
    let told: bool = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(match since.filter(|_| told) {
        Some(since) => format!("(ends IS NULL OR ends >= {since})"),
        // In a file of the first version nothing is ever deleted.
        None => String::from("true"),
    })
}

/// Takes a log record: where it is, its key, what stands for it.
type Each<'a> = dyn FnMut(LogPart, &[u8], [u8; 16]) + 'a;

fn read_log(
    connection: &Connection,
    sql: &str,
    values: &[i64],
    each: &mut Each<'_>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let (reign, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        let key = row.get_ref(2)?.as_blob()?;
        let mut digest = Sha256::new();
        digest.update(seq.to_le_bytes());
        digest.update((key.len() as u64).to_le_bytes());
        digest.update(key);
        // A tombstone is another thing than a record without content.
        if let Some(body) = row.get_ref(3)?.as_blob_or_null()? {
            digest.update([1]);
            digest.update(body);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        each(LogPart { reign, part: seq.div_euclid(POSITIONS) }, key, hash);
    }
    Ok(())
}
