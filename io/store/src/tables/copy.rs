//! A copy of everything that goes out: the state as of one moment, read in parts while others write on.

use core::fmt;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, Row, params};
use tandem_oplog::{Chain, CopyHeader, CopyItem, CopyPart, OpId, Origin, PART_BYTES, Staged};

use super::Tables;

/// Where the next part begins: after this.
#[derive(Clone, Debug)]
enum Place {
    Passed(i64, i64),
    Log(i64),
    Rows(i64, Vec<u8>),
    End,
}

/// The state of a database as of one moment. The file keeps what has changed since beside it for as long
/// as this is there.
pub struct Copy {
    connection: Connection,
    header: CopyHeader,
    place: Place,
    told: Staged,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Tables {
    /// Opens a copy of what is there now. Where it is the same as what the receiver has a part of, that part
    /// is skipped.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn copy(&self, staged: Staged) -> rusqlite::Result<Copy> {
        let connection = self.moment()?;
        let count = |table: &str| -> rusqlite::Result<u64> {
            let sql = format!("SELECT count(*) FROM {table}");
            let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        let items = count("passed")? + count("op_log")? + count("row_version")?;
        let (heads, floors) = (self.heads().collect(), self.floors()?);
        let header = CopyHeader { heads, floors, latest: self.latest(), items };
        let told = Staged { id: header.id(), ..Staged::default() };
        let place = Place::Passed(i64::MIN, 0);
        let mut copy = Copy { connection, header, place: place.clone(), told };
        if copy.told.id == staged.id {
            while copy.told.parts < staged.parts && copy.read()?.is_some() {}
        }
        if copy.told != staged {
            (copy.place, copy.told) = (place, told);
        }
        Ok(copy)
    }

    /// A connection that sees what is there now, whatever is written later.
    fn moment(&self) -> rusqlite::Result<Connection> {
        let path = self.connection.path().filter(|path| !path.is_empty());
        let connection = match path {
            Some(path) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                Connection::open_with_flags(path, flags)?
            }
            None => {
                let mut memory = Connection::open_in_memory()?;
                Backup::new(&self.connection, &mut memory)?.step(-1)?;
                memory
            }
        };
        // The moment is that of the first read.
        connection.execute_batch("BEGIN; SELECT count(*) FROM state;")?;
        Ok(connection)
    }
}

impl Copy {
    /// Of what it is a copy.
    pub const fn header(&self) -> &CopyHeader {
        &self.header
    }

    /// What was read of it, or skipped.
    pub const fn told(&self) -> Staged {
        self.told
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&mut self) -> rusqlite::Result<Option<CopyPart>> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < PART_BYTES {
            let next = match self.place.clone() {
                Place::Passed(origin, number) => self.fill(
                    "SELECT origin, number, chain FROM passed WHERE (origin, number) > (?, ?)
                     ORDER BY origin, number",
                    params![origin, number],
                    (&mut items, &mut bytes),
                    passed,
                    Place::Log(i64::MIN),
                )?,
                Place::Log(position) => self.fill(
                    "SELECT position, came, body FROM op_log WHERE position > ? ORDER BY position",
                    params![position],
                    (&mut items, &mut bytes),
                    logged,
                    Place::Rows(i64::MIN, Vec::new()),
                )?,
                Place::Rows(table, key) => self.fill(
                    "SELECT tab, key, body FROM row_version WHERE (tab, key) > (?, ?) ORDER BY tab, key",
                    params![table, key],
                    (&mut items, &mut bytes),
                    kept,
                    Place::End,
                )?,
                Place::End => break,
            };
            self.place = next;
        }
        if items.is_empty() {
            return Ok(None);
        }
        let part = CopyPart::after(&self.told, &items);
        self.told.parts = part.number;
        self.told.items += part.items;
        self.told.hash = part.hash;
        Ok(Some(part))
    }

    /// Reads on until there is enough: where that was, or `end`.
    fn fill(
        &self,
        sql: &str,
        after: &[&dyn rusqlite::ToSql],
        (items, bytes): (&mut Vec<CopyItem>, &mut usize),
        item: fn(&Row<'_>) -> rusqlite::Result<(Place, CopyItem, usize)>,
        end: Place,
    ) -> rusqlite::Result<Place> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(after)?;
        while let Some(row) = rows.next()? {
            let (place, item, length) = item(row)?;
            items.push(item);
            *bytes += length;
            if *bytes >= PART_BYTES {
                return Ok(place);
            }
        }
        Ok(end)
    }
}

fn passed(row: &Row<'_>) -> rusqlite::Result<(Place, CopyItem, usize)> {
    let (origin, number): (i64, i64) = (row.get(0)?, row.get(1)?);
    let id =
        OpId { origin: Origin(origin.cast_unsigned()), number: u64::try_from(number).unwrap_or(0) };
    Ok((Place::Passed(origin, number), CopyItem::Passed(id, Chain(row.get(2)?)), PASSED_BYTES))
}

fn logged(row: &Row<'_>) -> rusqlite::Result<(Place, CopyItem, usize)> {
    let bytes: Vec<u8> = row.get(2)?;
    let length = bytes.len() + PASSED_BYTES;
    Ok((Place::Log(row.get(0)?), CopyItem::Op { came_millis: row.get(1)?, bytes }, length))
}

fn kept(row: &Row<'_>) -> rusqlite::Result<(Place, CopyItem, usize)> {
    let (table, key, body): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    // What cannot be read here is of no use there: it is left for a comparison.
    let body = if tandem_oplog::Row::decode(&body).is_some() { body } else { Vec::new() };
    let length = key.len() + body.len() + PASSED_BYTES;
    let item = CopyItem::Row { table: u16::try_from(table).unwrap_or(0), key: key.clone(), body };
    Ok((Place::Rows(table, key), item, length))
}

/// What an item costs beside what it carries, roughly.
const PASSED_BYTES: usize = 32;
