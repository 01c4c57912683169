//! A copy of everything that comes in: staged part by part, then joined with what is here at once.
//!
//! Of each origin the log of whoever has more of it is kept, from its floor on. Stamps rise from cause to
//! effect, so the two logs are put together in the order of stamps.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension as _, params};
use tandem_oplog::{
    Chain, Change, CopyHeader, CopyItem, CopyPart, Op, OpId, Origin, Row, Seen, Staged, TableId,
    Value,
};

use super::batch::{Kept, kept_row, number_of, origin_of};
use super::file::{last_position, note_gone, set_state};
use super::sql::key_of;
use super::{Batch, Tables, Touched};

/// Why a copy cannot be taken. What is staged of it is of no use then; see [`Tables::unstage`].
#[derive(Debug)]
pub enum JoinError {
    /// A part is missing or damaged.
    Damaged(&'static str),
    /// The disk, or SQLite.
    Disk(rusqlite::Error),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => {
                write!(f, "the copy of the configuration cannot be used: {what}")
            }
            Self::Disk(error) => write!(f, "the configuration cannot be written: {error}"),
        }
    }
}

impl core::error::Error for JoinError {}

impl From<rusqlite::Error> for JoinError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk(error)
    }
}

impl Tables {
    /// What is here of a copy.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn staged(&self) -> rusqlite::Result<Staged> {
        let Some(header) = self.staged_header()? else { return Ok(Staged::default()) };
        let mut last = self.connection.prepare_cached(
            "SELECT number, items, hash FROM staged ORDER BY number DESC LIMIT 1",
        )?;
        let id = header.id();
        last.query_row([], |row| {
            let (parts, items): (i64, i64) = (row.get(0)?, row.get(1)?);
            let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
            Ok(Staged { id, parts: unsigned(parts), items: unsigned(items), hash: row.get(2)? })
        })
    }

    fn staged_header(&self) -> rusqlite::Result<Option<CopyHeader>> {
        let body = self.staged_body(0)?;
        Ok(body.and_then(|body| postcard::from_bytes(&body).ok()))
    }

    fn staged_body(&self, number: u64) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut find =
            self.connection.prepare_cached("SELECT body FROM staged WHERE number = ?")?;
        find.query_row([i64::try_from(number).unwrap_or(i64::MAX)], |row| row.get(0)).optional()
    }

    /// A copy begins to come, or goes on after `from`.
    ///
    /// # Errors
    ///
    /// What is here is not `from`; or the disk.
    pub fn stage_begin(&mut self, header: &CopyHeader, from: &Staged) -> Result<(), JoinError> {
        if from.parts > 0 {
            let goes_on = self.staged()? == *from && from.id == header.id();
            return if goes_on {
                Ok(())
            } else {
                Err(JoinError::Damaged("its beginning is not here"))
            };
        }
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        let body = postcard::to_stdvec(header).unwrap_or_default();
        self.reread()?;
        let transaction = self.connection.unchecked_transaction()?;
        transaction.execute("DELETE FROM staged", [])?;
        let hash = Staged::default().hash;
        transaction.execute("INSERT INTO staged VALUES (0, 0, ?, ?)", params![hash, body])?;
        Ok(transaction.commit()?)
    }

    /// A part of it: on disk when this returns.
    ///
    /// # Errors
    ///
    /// It does not follow on what is here, or was damaged; or the disk.
    pub fn stage(&mut self, part: &CopyPart) -> Result<Staged, JoinError> {
        self.reread()?;
        let before = self.staged()?;
        let Some(staged) = part.follows(&before) else {
            return Err(JoinError::Damaged("a part is missing or damaged"));
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let values = params![signed(staged.parts), signed(staged.items), staged.hash, part.body];
        self.connection
            .prepare_cached("INSERT INTO staged (number, items, hash, body) VALUES (?, ?, ?, ?)")?
            .execute(values)?;
        Ok(staged)
    }

    /// Forgets what is staged.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn unstage(&mut self) -> rusqlite::Result<()> {
        self.reread()?;
        self.connection.execute("DELETE FROM staged", []).map(|_| ())
    }

    /// Joins the copy that is staged with what is here, in one transaction: the rows that are different now.
    ///
    /// # Errors
    ///
    /// It is not whole, or damaged; or the disk. Nothing has changed then.
    pub fn join(&mut self) -> Result<Touched, JoinError> {
        let header = self.staged_header()?.ok_or(JoinError::Damaged("nothing is staged"))?;
        let staged = self.staged()?;
        if staged.items != header.items {
            return Err(JoinError::Damaged("it is not whole"));
        }
        let mut batch = self.begin()?;
        batch
            .uncaptured(|batch| Join::new(batch, &header).and_then(|mut join| join.all(&staged)))?;
        Ok(batch.commit()?)
    }
}

/// A join that is under way.
struct Join<'a, 'b> {
    batch: &'a mut Batch<'b>,
    header: &'a CopyHeader,
    /// What was here, and what was there.
    seen: Seen,
    theirs: Seen,
    /// Origins of which the other one has more.
    behind: BTreeSet<Origin>,
    chains: BTreeMap<Origin, Chain>,
}

impl<'a, 'b> Join<'a, 'b> {
    fn new(batch: &'a mut Batch<'b>, header: &'a CopyHeader) -> Result<Self, JoinError> {
        let (seen, theirs) = (batch.tables.heads.seen.clone(), header.seen());
        let behind = theirs.iter().filter(|id| !seen.has(*id)).map(|id| id.origin).collect();
        let chains = header.floors.iter().map(|(id, chain)| (id.origin, *chain)).collect();
        Ok(Self { batch, header, seen, theirs, behind, chains })
    }

    fn all(&mut self, staged: &Staged) -> Result<(), JoinError> {
        self.make_room()?;
        for number in 1..=staged.parts {
            let body = self.batch.tables.staged_body(number)?;
            let items = body.as_deref().and_then(CopyPart::items);
            for item in items.ok_or(JoinError::Damaged("a part is missing"))? {
                match item {
                    CopyItem::Passed(id, chain) => self.passed(id, chain)?,
                    CopyItem::Op { came_millis, bytes } => self.op(came_millis, &bytes)?,
                    CopyItem::Row { table, key, body } => self.row(table, &key, &body)?,
                }
            }
        }
        self.heads()?;
        let connection = &self.batch.tables.connection;
        connection.execute(IN_ORDER, [])?;
        connection.execute("UPDATE op_log SET position = -position", [])?;
        connection.execute("DELETE FROM staged", [])?;
        self.batch.tables.heads.position = last_position(connection)?;
        Ok(())
    }

    /// The log of origins of which the other one has more makes room for its log.
    fn make_room(&self) -> rusqlite::Result<()> {
        let connection = &self.batch.tables.connection;
        let floors: Seen = self.header.floors.iter().map(|(id, _)| *id).collect();
        for origin in &self.behind {
            let floor = OpId { origin: *origin, number: floors.up_to(*origin) };
            let values = [origin_of(*origin), number_of(floor)];
            connection.execute(
                "INSERT OR IGNORE INTO passed (origin, number, chain)
                 SELECT origin, number, chain FROM op_log WHERE origin = ? AND number <= ?",
                values,
            )?;
            connection.execute("DELETE FROM passed WHERE origin = ? AND number > ?", values)?;
            connection.execute("DELETE FROM op_log WHERE origin = ?", [values[0]])?;
        }
        Ok(())
    }

    fn passed(&self, id: OpId, chain: Chain) -> rusqlite::Result<()> {
        if self.behind.contains(&id.origin) {
            let mut pass = self.batch.tables.connection.prepare_cached(
                "INSERT OR IGNORE INTO passed (origin, number, chain) VALUES (?, ?, ?)",
            )?;
            pass.execute(params![origin_of(id.origin), number_of(id), chain.0])?;
        }
        Ok(())
    }

    fn op(&mut self, came_millis: i64, bytes: &[u8]) -> Result<(), JoinError> {
        let op = Op::decode(bytes).map_err(|_| JoinError::Damaged("a change cannot be read"))?;
        let chain = self.chains.entry(op.id.origin).or_insert(Chain::START);
        *chain = chain.link(bytes);
        if self.behind.contains(&op.id.origin) {
            let mut log = self.batch.tables.connection.prepare_cached(
                "INSERT INTO op_log (origin, number, hlc, chain, came, body) VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            let (origin, number) = (origin_of(op.id.origin), number_of(op.id));
            log.execute(params![origin, number, op.hlc.to_bits(), chain.0, came_millis, bytes])?;
        }
        Ok(())
    }

    fn row(&mut self, table: TableId, key: &[u8], body: &[u8]) -> Result<(), JoinError> {
        // The sender cannot read it: what is here of it stays, and the two compare their rows.
        if body.is_empty() {
            return Ok(());
        }
        let (Some(theirs), Some(key)) = (Row::decode(body), key_of(key)) else {
            return Err(JoinError::Damaged("a row cannot be read"));
        };
        let ours = match kept_row(&self.batch.tables.connection, table, &key)? {
            Kept::Row(ours) => Some(ours),
            Kept::Nothing => None,
            // It is mended by this.
            Kept::Unreadable => {
                let row = self.with_ours(table, &key, theirs)?;
                return Ok(self.batch.put(table, &key, &row)?);
            }
        };
        let none = Seen::new();
        let (seen, there) = (&self.seen, &self.theirs);
        #[cfg(feature = "sabotage")]
        let blind = self.batch.tables.broken == Some(super::Broken::JoinBlindly);
        #[cfg(feature = "sabotage")]
        let (seen, there) = if blind { (&none, &none) } else { (seen, there) };
        let joined = match &ours {
            Some(ours) => ours.join(seen, &theirs, there),
            None => Row::default().join(&none, &theirs, there),
        };
        if ours.as_ref() != Some(&joined) {
            self.batch.put(table, &key, &joined)?;
        }
        Ok(())
    }

    /// A row of theirs with what our log has of it, and they have not seen.
    fn with_ours(
        &self,
        table: TableId,
        key: &[Value],
        mut row: Row,
    ) -> Result<Row, rusqlite::Error> {
        let connection = &self.batch.tables.connection;
        let mut log = connection.prepare_cached("SELECT body FROM op_log ORDER BY position")?;
        let mut ops = log.query([])?;
        while let Some(found) = ops.next()? {
            let Ok(op) = Op::decode(found.get_ref(0)?.as_blob()?) else { continue };
            let here = |change: &&Change| change.table == table && change.key == key;
            if !self.theirs.has(op.id) {
                op.changes.iter().filter(here).for_each(|change| drop(row.take(&op, change)));
            }
        }
        Ok(row)
    }

    /// What is here of each origin now.
    fn heads(&mut self) -> Result<(), JoinError> {
        for (id, chain) in self.header.heads.iter().filter(|(id, _)| id.number > 0) {
            if self.chains.get(&id.origin) != Some(chain) {
                return Err(JoinError::Damaged("its log does not end where it says"));
            }
            if !self.behind.contains(&id.origin) {
                continue;
            }
            let heads = &mut self.batch.tables.heads;
            heads.seen.learn(*id);
            heads.chains.insert(id.origin, *chain);
        }
        let heads = &mut self.batch.tables.heads;
        heads.clock.saw(self.header.latest);
        let latest = heads.clock.last().to_bits();
        set_state(&self.batch.tables.connection, "hlc", latest)?;
        // What the other server's log has lost is not told op by op.
        note_gone(&self.batch.tables.connection, latest)?;
        Ok(())
    }
}

/// Positions in the order of stamps, negative so that none is there twice meanwhile.
const IN_ORDER: &str = "
    UPDATE op_log SET position = -placed.place FROM (
        SELECT position AS old, row_number() OVER (ORDER BY hlc, origin, number) AS place FROM op_log
    ) AS placed WHERE op_log.position = placed.old";
