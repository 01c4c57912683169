//! What this server says when the two compare their rows; the steps are told in [`tandem_oplog::Check`].

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::params;
use sha2::{Digest as _, Sha256};
use tandem_oplog::{
    BUCKETS, BucketDigest, Change, Check, CheckEnd, Claim, Decision, Fact, Grade, Hlc, Mended,
    PART_BYTES, Row, Seen, TableId, decide,
};

use super::mend::Put;
use super::verify::Rows;
use super::{Digest, Tables, Touched};

/// Parts of the tables: table, and number of the part.
type Parts = Vec<(TableId, u8)>;

/// What a step of a check came to.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) reply: Option<Check>,
    pub(super) touched: Touched,
    pub(super) facts: Vec<Fact>,
    /// Rows that neither server can read, as they are to be written here.
    pub(super) remake: Vec<Change>,
    /// It is at its end, for who asked.
    pub(super) end: Option<CheckEnd>,
}

impl Checked {
    fn end(end: CheckEnd) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    fn reply(reply: Check) -> Self {
        Self { reply: Some(reply), ..Self::default() }
    }

    fn with(mut self, put: Put) -> Self {
        self.touched.extend(put.touched);
        self.facts.extend(put.facts);
        self
    }
}

/// Which part of its table a row belongs to.
fn part_of(key: &[u8]) -> u8 {
    Sha256::digest(key)[0]
}

impl Tables {
    /// Begins a check, with what is in the tables here put right first.
    pub(super) fn begin_check(&mut self, ask: u64) -> rusqlite::Result<Checked> {
        let put = self.mend_tables()?;
        let tables = self.told_digests(&put)?.into_iter().collect();
        Ok(Checked::reply(Check::Digests { ask, seen: self.seen().clone(), tables }).with(put))
    }

    /// Answers a step of a check, ours with this number or one of the other server.
    pub(super) fn check(&mut self, asked: Option<u64>, check: &Check) -> rusqlite::Result<Checked> {
        let is_ours = |ask: &u64| asked == Some(*ask);
        match check {
            Check::Digests { ask, seen, tables } => self.compare_digests(*ask, seen, tables),
            Check::Rows { ask, seen, whole, parts, rows } => {
                self.compare_rows(*ask, seen, *whole, parts, rows)
            }
            Check::Apart { ask } if is_ours(ask) => Ok(Checked::end(CheckEnd::Apart)),
            Check::Buckets { ask, seen, tables } if is_ours(ask) => {
                self.compare_buckets(*ask, seen, tables)
            }
            Check::Mended { ask, seen, rows } if is_ours(ask) => {
                if seen != self.seen() {
                    return Ok(Checked::end(CheckEnd::Apart));
                }
                if rows.is_empty() {
                    let facts = vec![Fact::NotMended];
                    return Ok(Checked { facts, ..Checked::end(CheckEnd::Differs) });
                }
                let end = CheckEnd::Mended(rows.len() as u64);
                let (unread, right): (Vec<Mended>, Vec<Mended>) =
                    rows.iter().cloned().partition(Mended::is_unread);
                let put = self.mend(&right)?;
                let (remake, lost) = self.last_resort(unread)?;
                let aside = self.set_aside(&lost)?;
                Ok(Checked { remake, ..Checked::end(end) }.with(put).with(aside))
            }
            Check::Apart { .. } | Check::Buckets { .. } | Check::Mended { .. } => {
                Ok(Checked::default())
            }
        }
    }

    fn compare_digests(
        &mut self,
        ask: u64,
        seen: &Seen,
        theirs: &[(TableId, [u8; 32])],
    ) -> rusqlite::Result<Checked> {
        if seen != self.seen() {
            return Ok(Checked::reply(Check::Apart { ask }));
        }
        let put = self.mend_tables()?;
        let ours = self.told_digests(&put)?;
        let theirs: BTreeMap<_, _> = theirs.iter().copied().collect();
        let ids: BTreeSet<TableId> = ours.keys().chain(theirs.keys()).copied().collect();
        let mut tables = Vec::new();
        for id in ids.into_iter().filter(|id| ours.get(id) != theirs.get(id)) {
            tables.push((id, self.buckets(id)?));
        }
        Ok(Checked::reply(Check::Buckets { ask, seen: seen.clone(), tables }).with(put))
    }

    fn compare_buckets(
        &self,
        ask: u64,
        seen: &Seen,
        tables: &[(TableId, Vec<Option<BucketDigest>>)],
    ) -> rusqlite::Result<Checked> {
        if tables.is_empty() {
            return Ok(Checked::end(CheckEnd::Equal));
        }
        if seen != self.seen() {
            return Ok(Checked::end(CheckEnd::Apart));
        }
        let mut parts = Parts::new();
        for (id, theirs) in tables {
            let ours = self.buckets(*id)?;
            let differ = (0..=u8::MAX).zip(ours.iter().zip(theirs)).filter(|(_, (a, b))| a != b);
            parts.extend(differ.map(|(part, _)| (*id, part)));
        }
        let Claims { whole, mut rows, .. } = self.claims(&parts)?;
        // So many parts as fit; the next check finds the rest.
        let mut bytes = 0;
        let mut fits = |(id, part): &(TableId, u8)| {
            let here = rows.iter().filter(|row| row.table == *id && part_of(&row.key) == *part);
            let length = |row: &Claim| row.key.len() + row.body.as_ref().map_or(0, Vec::len);
            let before = bytes;
            bytes += here.map(length).sum::<usize>();
            before < PART_BYTES
        };
        let end = parts.iter().position(|part| !fits(part));
        parts.truncate(end.unwrap_or(parts.len()));
        rows.retain(|row| parts.contains(&(row.table, part_of(&row.key))));
        Ok(Checked::reply(Check::Rows { ask, seen: seen.clone(), whole, parts, rows }))
    }

    fn compare_rows(
        &mut self,
        ask: u64,
        seen: &Seen,
        whole: bool,
        parts: &[(TableId, u8)],
        theirs: &[Claim],
    ) -> rusqlite::Result<Checked> {
        if seen != self.seen() {
            return Ok(Checked::reply(Check::Apart { ask }));
        }
        let Claims { whole: whole_here, rows: ours, log } = self.claims(parts)?;
        let named = |rows: &[Claim]| -> BTreeMap<(TableId, Vec<u8>), Claim> {
            rows.iter().map(|row| ((row.table, row.key.clone()), row.clone())).collect()
        };
        let (ours, theirs) = (named(&ours), named(theirs));
        let places: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
        for place in places {
            let (table, key) = place.clone();
            let none = |whole| {
                let grade = if whole { Grade::Proved } else { Grade::Contradicted };
                Claim { table, key: key.clone(), body: None, grade, is_kept: true }
            };
            let one = ours.get(place).cloned().unwrap_or_else(|| none(whole_here));
            let other = theirs.get(place).cloned().unwrap_or_else(|| none(whole));
            match decide(&one, &other) {
                Decision::Right(body) => {
                    if !other.is_kept || body != other.body || body != self.body(table, &key)? {
                        rows.push(Mended { table, key, body });
                    }
                }
                Decision::Unreadable => {
                    unreadable.push((Mended { table, key, body: None }, other.body.is_some()));
                }
            }
        }
        let (mut remake, mut lost) = (Vec::new(), Vec::new());
        for (row, is_there) in unreadable {
            match self.written_anew(&row, &log)? {
                Some(change) => remake.push(change),
                None if is_there => rows.push(Mended { body: Some(Vec::new()), ..row }),
                None => lost.push(row),
            }
        }
        if !remake.is_empty() {
            // They go over like any change; the next comparison finds what else differs.
            return Ok(Checked { remake, ..Checked::reply(Check::Apart { ask }) });
        }
        let right: Vec<Mended> = rows.iter().filter(|row| !row.is_unread()).cloned().collect();
        let (put, aside) = (self.mend(&right)?, self.set_aside(&lost)?);
        rows.extend(lost);
        Ok(Checked::reply(Check::Mended { ask, seen: seen.clone(), rows }).with(put).with(aside))
    }

    /// The digests of the tables. What cannot be read is never the same as what the other one has, also where both
    /// have the same bytes (a copied disk).
    fn told_digests(&self, put: &Put) -> rusqlite::Result<BTreeMap<TableId, Digest>> {
        let mut digests = self.digests()?;
        for (_, digest) in digests.iter_mut().filter(|(id, _)| put.unreadable.contains(id)) {
            *digest =
                Sha256::new_with_prefix(*digest).chain_update(self.unlike()).finalize().into();
        }
        Ok(digests)
    }

    /// What the other one does not say.
    const fn unlike(&self) -> [u8; 8] {
        self.me.0.to_le_bytes()
    }

    /// The digests of the parts of a table.
    fn buckets(&self, table: TableId) -> rusqlite::Result<Vec<Option<BucketDigest>>> {
        let mut digests: Vec<Option<Sha256>> = vec![None; BUCKETS];
        self.each(table, |key, body| {
            let digest = digests[usize::from(part_of(key))].get_or_insert_default();
            for part in [key, body] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
            if Row::decode(body).is_none() {
                digest.update(self.unlike());
            }
        })?;
        let short = |digest: Sha256| {
            let mut short = BucketDigest::default();
            short.copy_from_slice(&digest.finalize()[..8]);
            short
        };
        Ok(digests.into_iter().map(|digest| digest.map(short)).collect())
    }

    fn each(&self, table: TableId, mut row: impl FnMut(&[u8], &[u8])) -> rusqlite::Result<()> {
        let mut all = self
            .connection
            .prepare_cached("SELECT key, body FROM row_version WHERE tab = ? ORDER BY key")?;
        let mut rows = all.query([table])?;
        while let Some(found) = rows.next()? {
            row(found.get_ref(0)?.as_blob()?, found.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn body(&self, table: TableId, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
        use rusqlite::OptionalExtension as _;
        let mut find = self
            .connection
            .prepare_cached("SELECT body FROM row_version WHERE tab = ? AND key = ?")?;
        find.query_row(params![table, key], |row| row.get(0)).optional()
    }

    /// What speaks for the rows in some parts.
    fn claims(&self, parts: &[(TableId, u8)]) -> rusqlite::Result<Claims> {
        let mut faults = Vec::new();
        let log = self.read_log(&mut faults)?;
        let (is_sound, whole) = (faults.is_empty(), log.is_whole && faults.is_empty());
        let wanted = |table: TableId, key: &[u8]| parts.contains(&(table, part_of(key)));
        let mut rows: BTreeMap<(TableId, Vec<u8>), Claim> = BTreeMap::new();
        let tables: BTreeSet<TableId> = parts.iter().map(|(table, _)| *table).collect();
        for table in tables {
            self.each(table, |key, body| {
                if wanted(table, key) {
                    let grade = match log.rows.get(&(table, key.to_vec())) {
                        _ if whole => Grade::Contradicted,
                        logged if is_sound && log.allows(body, logged) => Grade::Possible,
                        Some(_) | None => Grade::Contradicted,
                    };
                    let body = Some(body.to_vec());
                    let key = key.to_vec();
                    let claim = Claim { table, key: key.clone(), body, grade, is_kept: true };
                    rows.insert((table, key), claim);
                }
            })?;
        }
        if whole {
            // Whatever is kept: this is what was written.
            let places = log.rows.keys().filter(|(table, key)| wanted(*table, key));
            let places: BTreeSet<_> = places.chain(rows.keys()).cloned().collect();
            for (table, key) in places {
                let kept = rows.remove(&(table, key.clone())).and_then(|claim| claim.body);
                let body = log.rows.get(&(table, key.clone())).map(Row::encode);
                let (grade, is_kept) = (Grade::Proved, kept == body);
                let claim = Claim { table, key: key.clone(), body, grade, is_kept };
                rows.insert((table, key), claim);
            }
        }
        Ok(Claims { whole, rows: rows.into_values().collect(), log })
    }
}

/// What this server has of some rows.
struct Claims {
    /// The whole log speaks for them.
    whole: bool,
    rows: Vec<Claim>,
    log: FromLog,
}

/// What the log says.
pub(super) struct FromLog {
    pub(super) rows: Rows,
    pub(super) is_whole: bool,
    pub(super) floors: Seen,
    /// The newest stamp of what is not in it any more; `None`: nothing is lacking, or a version that did not note it
    /// shortened it.
    pub(super) gone: Option<Hlc>,
}

impl FromLog {
    /// Whether a write is kept that would be in the log, and is not there or was replaced there.
    pub(super) fn contradicts(&self, kept: &Row, logged: Option<&Row>) -> bool {
        kept.cells().any(|(column, cell)| {
            let logged = logged.and_then(|row| row.cell(column));
            let there = logged.map(tandem_oplog::Cell::versions).unwrap_or_default();
            let mut new = cell.versions().iter().filter(|version| !self.floors.has(version.op));
            new.any(|version| !there.contains(version))
        })
    }

    /// Whether what is kept of a row can be: of the writes that are in the log it has those that no other one
    /// in the log replaced.
    fn allows(&self, body: &[u8], logged: Option<&Row>) -> bool {
        let Some(kept) = Row::decode(body) else { return false };
        let in_log = |row: &Row| -> Vec<_> {
            let cells = row.cells().flat_map(|(column, cell)| {
                let new = cell.versions().iter().filter(|version| !self.floors.has(version.op));
                new.map(move |version| (column, version.clone()))
            });
            cells.collect()
        };
        in_log(&kept) == logged.map(in_log).unwrap_or_default()
    }
}
