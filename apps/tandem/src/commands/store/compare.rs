//! Whether both sides hold the same: counted, and every difference by its name.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::iter::Peekable;

use anyhow::anyhow;
use tandem_journal::{Cursor, Known, Record};
use tandem_postgres::{BATCH_RECORDS, Database, Spool, Tally};
use tandem_store::tables::Tables;
use tandem_types::Stamp;

/// Differences that are named; the others are counted.
const NAMED_MAX: usize = 10;

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Differences {
    named: Vec<String>,
    more: usize,
}

impl Differences {
    fn add(&mut self, what: String) {
        if self.named.len() < NAMED_MAX {
            self.named.push(what);
        } else {
            self.more += 1;
        }
    }

    /// An error where there are any.
    pub(super) fn none(self, what: &str) -> anyhow::Result<()> {
        if self.named.is_empty() {
            return Ok(());
        }
        let mut text = format!("{what}: the two sides are NOT equal; nothing is to be set yet");
        for one in &self.named {
            let _ = write!(text, "\n  {one}");
        }
        if self.more > 0 {
            let _ = write!(text, "\n  and {} more", self.more);
        }
        Err(anyhow!(text))
    }
}

/// What is the same on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Same {
    pub(super) changes: u64,
    pub(super) rows: u64,
}

/// Compares changes and rows; `None` where one was written meanwhile, and it has to be done again.
pub(super) async fn configuration(
    tables: &Tables,
    database: &Database,
) -> anyhow::Result<Option<Same>> {
    let there = database.heads().await?;
    let mut heads: Vec<_> = tables.heads().collect();
    heads.retain(|(id, _)| id.number > 0);
    if heads.iter().any(|head| !there.contains(head)) || heads.len() != there.len() {
        return Ok(None);
    }
    let here = |table, key: &[_]| tables.row(table, key);
    let (rows, differ) = database.compare_rows(here).await?;
    let mut differences = Differences::default();
    differ.into_iter().for_each(|what| differences.add(what));
    let digests = tables.digests()?;
    if differences.named.is_empty() && digests != database.digests().await? {
        for table in digests.keys() {
            differences.add(format!("table {table} has rows here that are not in the database"));
        }
    }
    differences.none("configuration")?;
    let changes = heads.iter().map(|(id, _)| id.number).sum();
    Ok(Some(Same { changes, rows }))
}

/// One side, record by record in the order of stamp and key.
struct Side {
    after: Option<Cursor>,
    page: Peekable<std::vec::IntoIter<Record>>,
}

impl Side {
    fn new() -> Self {
        Self { after: Some(Cursor(None)), page: Vec::new().into_iter().peekable() }
    }

    /// This was read, and where to go on.
    fn fill(&mut self, page: Vec<Record>, after: Option<Cursor>) {
        self.page = page.into_iter().peekable();
        self.after = after;
    }

    fn place(&mut self) -> Option<(Stamp, Vec<u8>)> {
        self.page.peek().map(|record| (record.stamp, record.key.clone()))
    }
}

fn name(record: &Record) -> String {
    String::from_utf8_lossy(&record.key).into_owned()
}

/// Reads the journal and the database in step. Of the journal, only what `known` covers: the rest came while it
/// was copied. What only the database has is no difference where `may_be_there` says so.
pub(super) async fn records(
    journal: &mut dyn Spool,
    known: &Known,
    database: &Database,
    may_be_there: &dyn Fn(&Record) -> bool,
) -> anyhow::Result<(Tally, u64)> {
    let (mut tally, mut more) = (Tally::default(), 0);
    let mut differences = Differences::default();
    let everything = Known::new();
    let (mut here, mut there) = (Side::new(), Side::new());
    let now = journal.wall_micros();
    loop {
        while here.page.peek().is_none() {
            let Some(after) = here.after.take() else { break };
            let (mut page, next) =
                journal.read(&everything, &after).map_err(|what| anyhow!(what))?;
            page.retain(|record| record.body.is_some() && known.covers(record.stamp));
            here.fill(page, next);
        }
        while there.page.peek().is_none() {
            let Some(after) = there.after.take() else { break };
            let page = database.records(&after, BATCH_RECORDS, now).await?;
            let last = page.last().filter(|_| page.len() == BATCH_RECORDS);
            let next = last.map(|last| Cursor(Some((last.stamp, last.key.clone()))));
            there.fill(page, next);
        }
        let (one, other) = (here.place(), there.place());
        let order = match (&one, &other) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(other),
        };
        let one = if order.is_le() { here.page.next() } else { None };
        let other = if order.is_ge() { there.page.next() } else { None };
        match (one, other) {
            (Some(one), Some(other)) => {
                if one.body != other.body {
                    differences.add(format!("{} differs", name(&one)));
                }
                tally.add(&one);
            }
            (Some(one), None) => differences.add(format!("{} is not in the database", name(&one))),
            (None, Some(other)) => {
                more += 1;
                if known.covers(other.stamp) && !may_be_there(&other) {
                    differences.add(format!("{} is only in the database", name(&other)));
                }
            }
            (None, None) => {}
        }
    }
    differences.none("call records")?;
    Ok((tally, more))
}
