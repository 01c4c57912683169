//! Everything at once, where not every change is kept any more: into a database that is empty, and out of one
//! for a server that lacks what neither keeps.
//!
//! It goes by the same parts as a copy between two servers, so what is kept of every row, the log and the chains
//! of what is gone are the same to the byte on both sides.

use core::fmt;
use std::collections::BTreeMap;
use std::time::Duration;

use tandem_oplog::{
    Chain, CopyHeader, CopyItem, CopyPart, Hlc, Op, OpId, Origin, PART_BYTES, Row, Seen, Staged,
};
use tokio_postgres::{GenericClient, IsolationLevel, Transaction};

use crate::database::{Database, within};
use crate::ops::{Heads, head, keep, log, mirror, number_of, origin_of, table_id};
use crate::schema::{LOCK, Rows, Setup, note_schema, set_state, state};
use crate::trouble::Trouble;

/// Where the stamps were when it was filled: none of them is given again.
const STAMP: &str = "hlc";

/// Rows that are read at once.
const PAGE_ROWS: i64 = 1_000;

impl Database {
    /// The last change of each origin that is not kept there any more, and what stands for all up to it.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn floors(&self) -> Result<Heads, Trouble> {
        self.timed(floors(&self.client)).await
    }

    /// Whether every change that `seen` does not have is kept there.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn keeps_since(&self, seen: &Seen) -> Result<bool, Trouble> {
        Ok(self.floors().await?.iter().all(|(id, _)| seen.has(*id)))
    }

    /// Writes a copy of everything into a database that has no configuration yet, in one transaction. `read`
    /// gives the next part, and nothing at the end.
    ///
    /// # Errors
    ///
    /// It does not answer, has a configuration, or the copy is not whole. Nothing is there then.
    pub async fn fill<E: fmt::Display>(
        &mut self,
        header: &CopyHeader,
        mut read: impl FnMut() -> Result<Option<CopyPart>, E>,
    ) -> Result<(), Trouble> {
        let (patience, setup) = (self.patience, self.setup.clone());
        let transaction = within(patience, async { Ok(self.client.transaction().await?) }).await?;
        within(patience, is_empty(&transaction)).await?;
        let chains = header.floors.iter().map(|(id, chain)| (id.origin, (id.number, *chain)));
        let mut fill = Fill { transaction, setup: &setup, chains: chains.collect() };
        while let Some(part) = read().map_err(|error| Trouble::Refused(error.to_string()))? {
            let items = CopyPart::items(&part.body).ok_or_else(|| damaged("a part"))?;
            within(patience, fill.part(items)).await?;
        }
        within(patience, fill.end(header)).await
    }

    /// A copy of everything that is there now, whatever is written meanwhile.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn copy(&mut self) -> Result<Outgoing<'_>, Trouble> {
        let patience = self.patience;
        let begin = async {
            let build = self.client.build_transaction().read_only(true);
            let transaction = build.isolation_level(IsolationLevel::RepeatableRead).start().await?;
            let header = header(&transaction).await?;
            let told = Staged { id: header.id(), ..Staged::default() };
            let place = Place::Passed(i64::MIN, 0);
            Ok(Outgoing { transaction, header, told, place, patience })
        };
        within(patience, begin).await
    }
}

fn damaged(what: &str) -> Trouble {
    Trouble::Refused(format!("{what} of the copy cannot be read: run `tandem verify`"))
}

async fn floors(client: &impl GenericClient) -> Result<Heads, Trouble> {
    // One look into the index for each origin: there may be a million of each.
    let sql = "SELECT origin.origin, last.number, last.chain FROM origin CROSS JOIN LATERAL (
            SELECT number, chain FROM passed WHERE passed.origin = origin.origin
            ORDER BY number DESC LIMIT 1) AS last
        ORDER BY origin.origin";
    client.query(sql, &[]).await?.iter().map(head).collect()
}

/// Takes the lock, so that it stays so.
async fn is_empty(transaction: &Transaction<'_>) -> Result<(), Trouble> {
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let sql = "SELECT EXISTS (SELECT FROM origin) OR EXISTS (SELECT FROM op_log)
        OR EXISTS (SELECT FROM row_version)";
    match transaction.query_one(sql, &[]).await?.try_get(0)? {
        false => Ok(()),
        true => {
            let what = "the database has a configuration, and lacks changes that are not in the log here any \
                        more: use an empty database";
            Err(Trouble::Refused(what.to_owned()))
        }
    }
}

/// A database that is being filled.
struct Fill<'a> {
    transaction: Transaction<'a>,
    setup: &'a Setup,
    /// Up to where there is something of each origin.
    chains: BTreeMap<Origin, (u64, Chain)>,
}

impl Fill<'_> {
    async fn part(&mut self, items: Vec<CopyItem>) -> Result<(), Trouble> {
        let (mut passed, mut ops, mut rows) = (Vec::new(), Vec::new(), Rows::new());
        for item in items {
            match item {
                CopyItem::Passed(id, chain) => passed.push((id, chain)),
                CopyItem::Op { bytes, .. } => ops.push(bytes),
                CopyItem::Row { table, key, body } => {
                    let row = Row::decode(&body).ok_or_else(|| damaged("a row"))?;
                    rows.insert((table, key), row);
                }
            }
        }
        self.passed(&passed).await?;
        self.ops(&ops).await?;
        keep(&self.transaction, &rows).await?;
        mirror(&self.transaction, self.setup, &rows).await
    }

    async fn passed(&self, passed: &[(OpId, Chain)]) -> Result<(), Trouble> {
        let origins: Vec<i64> = passed.iter().map(|(id, _)| origin_of(id.origin)).collect();
        let numbers: Vec<i64> = passed.iter().map(|(id, _)| number_of(id.number)).collect();
        let chains: Vec<&[u8]> = passed.iter().map(|(_, chain)| chain.0.as_slice()).collect();
        let sql = "INSERT INTO passed (origin, number, chain)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";
        self.transaction.execute(sql, &[&origins, &numbers, &chains]).await?;
        Ok(())
    }

    async fn ops(&mut self, ops: &[Vec<u8>]) -> Result<(), Trouble> {
        let mut fresh = Vec::new();
        for bytes in ops {
            let op = Op::decode(bytes).map_err(|error| Trouble::Refused(error.to_string()))?;
            let (last, chain) = self.chains.entry(op.id.origin).or_insert((0, Chain::START));
            if *last + 1 != op.id.number {
                return Err(damaged("the log"));
            }
            (*last, *chain) = (op.id.number, chain.link(bytes));
            let chain = *chain;
            fresh.push((op, bytes, chain));
        }
        log(&self.transaction, &fresh).await?;
        let newest = fresh.iter().map(|(op, ..)| op.schema).max();
        note_schema(&self.transaction, self.setup, newest).await
    }

    async fn end(self, header: &CopyHeader) -> Result<(), Trouble> {
        let heads = header.heads.iter().filter(|(id, _)| id.number > 0);
        let heads: BTreeMap<Origin, (u64, Chain)> =
            heads.map(|(id, chain)| (id.origin, (id.number, *chain))).collect();
        if self.chains != heads {
            let what = "the log of changes does not end where it says: run `tandem verify`";
            return Err(Trouble::Refused(what.to_owned()));
        }
        let origins: Vec<i64> = heads.keys().copied().map(origin_of).collect();
        let numbers: Vec<i64> = heads.values().map(|(number, _)| number_of(*number)).collect();
        let chains: Vec<&[u8]> = heads.values().map(|(_, chain)| chain.0.as_slice()).collect();
        // Those of which nothing is in the log are not there yet.
        let sql = "INSERT INTO origin (origin, number, chain)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) ON CONFLICT DO NOTHING";
        self.transaction.execute(sql, &[&origins, &numbers, &chains]).await?;
        set_state(&self.transaction, STAMP, &header.latest.to_bits().to_string()).await?;
        self.transaction.execute("SELECT pg_notify('tandem', '')", &[]).await?;
        Ok(self.transaction.commit().await?)
    }
}

/// Where the next part begins: after this.
#[derive(Clone, Debug)]
enum Place {
    Passed(i64, i64),
    Log(i64),
    Rows(i64, Vec<u8>),
    End,
}

/// A copy that goes out: the database as of one moment.
pub struct Outgoing<'a> {
    transaction: Transaction<'a>,
    header: CopyHeader,
    told: Staged,
    place: Place,
    patience: Duration,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Outgoing<'_> {
    /// Of what it is a copy.
    pub const fn header(&self) -> &CopyHeader {
        &self.header
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    ///
    /// It does not answer any more.
    pub async fn read(&mut self) -> Result<Option<CopyPart>, Trouble> {
        loop {
            let (items, next) = within(self.patience, self.page()).await?;
            let is_end = matches!(self.place, Place::End);
            self.place = next;
            if is_end {
                return Ok(None);
            }
            if !items.is_empty() {
                let part = CopyPart::after(&self.told, &items);
                self.told.parts = part.number;
                self.told.items += part.items;
                self.told.hash = part.hash;
                return Ok(Some(part));
            }
        }
    }

    async fn page(&self) -> Result<(Vec<CopyItem>, Place), Trouble> {
        match &self.place {
            Place::Passed(origin, number) => {
                let sql = "SELECT origin, number, chain FROM passed
                    WHERE (origin, number) > ($1, $2) ORDER BY origin, number LIMIT $3";
                let rows = self.transaction.query(sql, &[origin, number, &PAGE_ROWS]).await?;
                let item = |row: &tokio_postgres::Row| {
                    let (id, chain) = head(row)?;
                    let place = Place::Passed(row.try_get(0)?, row.try_get(1)?);
                    Ok((CopyItem::Passed(id, chain), place, chain.0.len()))
                };
                fill(&rows, item, Place::Log(0))
            }
            Place::Log(position) => {
                let sql = "SELECT position, hlc, body FROM op_log
                    WHERE position > $1 ORDER BY position LIMIT $2";
                let rows = self.transaction.query(sql, &[position, &PAGE_ROWS]).await?;
                let item = |row: &tokio_postgres::Row| {
                    let bytes: Vec<u8> = row.try_get(2)?;
                    let (place, length) = (Place::Log(row.try_get(0)?), bytes.len());
                    // When it came is told of each machine; here it is when it was made.
                    let millis = stamp(row.try_get(1)?)?.millis();
                    let came_millis = i64::try_from(millis).unwrap_or(i64::MAX);
                    Ok((CopyItem::Op { came_millis, bytes }, place, length))
                };
                fill(&rows, item, Place::Rows(i64::MIN, Vec::new()))
            }
            Place::Rows(table, key) => {
                let sql = "SELECT tab, key, body FROM row_version
                    WHERE (tab, key) > ($1, $2) ORDER BY tab, key LIMIT $3";
                let rows = self.transaction.query(sql, &[table, key, &PAGE_ROWS]).await?;
                let item = |row: &tokio_postgres::Row| {
                    let (key, body): (Vec<u8>, Vec<u8>) = (row.try_get(1)?, row.try_get(2)?);
                    let place = Place::Rows(row.try_get(0)?, key.clone());
                    let (table, length) = (table_id(row.try_get(0)?)?, key.len() + body.len());
                    Ok((CopyItem::Row { table, key, body }, place, length))
                };
                fill(&rows, item, Place::End)
            }
            Place::End => Ok((Vec::new(), Place::End)),
        }
    }
}

/// Takes rows until there is enough: what they are, and where to go on.
fn fill(
    rows: &[tokio_postgres::Row],
    item: impl Fn(&tokio_postgres::Row) -> Result<(CopyItem, Place, usize), Trouble>,
    end: Place,
) -> Result<(Vec<CopyItem>, Place), Trouble> {
    let (mut items, mut bytes, mut next) = (Vec::new(), 0, end);
    for row in rows {
        let (item, place, length) = item(row)?;
        items.push(item);
        next = place;
        bytes += length;
        if bytes >= PART_BYTES {
            break;
        }
    }
    Ok((items, next))
}

fn stamp(bits: i64) -> Result<Hlc, Trouble> {
    let fault = || Trouble::Refused("a stamp that is none is in the database".to_owned());
    Hlc::from_bits(bits).ok_or_else(fault)
}

async fn header(transaction: &Transaction<'_>) -> Result<CopyHeader, Trouble> {
    let sql = "SELECT origin, number, chain FROM origin ORDER BY origin";
    let heads: Result<Heads, Trouble> =
        transaction.query(sql, &[]).await?.iter().map(head).collect();
    let sql = "SELECT coalesce((SELECT max(hlc) FROM op_log), 0), (SELECT count(*) FROM passed)
        + (SELECT count(*) FROM op_log) + (SELECT count(*) FROM row_version)";
    let row = transaction.query_one(sql, &[]).await?;
    let (latest, items): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let kept = state(transaction, STAMP).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(CopyHeader {
        heads: heads?,
        floors: floors(transaction).await?,
        latest: stamp(latest.max(kept))?,
        items: u64::try_from(items).unwrap_or(0),
    })
}
