//! Records of the journal: every one as it is in the journal, and beside it columns for people and reports.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use tandem_journal::{Class, Cursor, Known, Record};
use tandem_types::{Duration, Epoch, Seat, Seq, Stamp};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use crate::database::{Database, within};
use crate::ops::plain;
use crate::trouble::Trouble;

/// Records that are written in one transaction, at most.
pub const BATCH_RECORDS: usize = 1_000;

/// The columns of a call. Times are microseconds since 1970.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CdrColumns {
    /// The call number.
    pub call_id: String,
    /// The caller's number.
    pub caller: String,
    /// The caller's name.
    pub caller_name: String,
    /// What was dialled.
    pub called: String,
    /// The name of that.
    pub called_name: String,
    /// The number of who answered; before that as called.
    pub answered_by: String,
    /// The name of that.
    pub answered_by_name: String,
    /// The call came.
    pub start_us: i64,
    /// It rang.
    pub delivered_us: Option<i64>,
    /// It was answered.
    pub connect_us: Option<i64>,
    /// It ended.
    pub end_us: Option<i64>,
    /// How it went.
    pub outcome: String,
    /// Who ended it.
    pub ending: String,
    /// The SIP status for the caller.
    pub sip_status: i64,
    /// The Q.850 cause.
    pub q850_cause: i64,
    /// Seconds from the answer to the end.
    pub talk_seconds: i64,
}

/// What is in a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Described {
    /// A call.
    Call(Box<CdrColumns>),
    /// What happened in a call, as JSON.
    Events {
        /// The call number.
        call_id: String,
        /// The steps.
        steps: String,
    },
    /// Something else: only the record itself is kept.
    Other,
}

/// How many records, and what stands for all of them in their order.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    records: u64,
    digest: Sha256,
}

impl Tally {
    /// The next one. (Its age is not part of it: that is counted anew on every machine.)
    pub fn add(&mut self, record: &Record) {
        self.records += 1;
        self.digest.update(reign_of(record.stamp.epoch).to_le_bytes());
        self.digest.update(record.stamp.seq.0.to_le_bytes());
        for part in [record.key.as_slice(), record.body.as_deref().unwrap_or_default()] {
            self.digest.update((part.len() as u64).to_le_bytes());
            self.digest.update(part);
        }
    }

    /// How many.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The digest of all.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

impl Database {
    /// Up to where every record is there.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn known(&self) -> Result<Known, Trouble> {
        self.timed(async {
            let mut known = Known::new();
            for row in self.client.query("SELECT reign, seq FROM known", &[]).await? {
                known.learn(stamp(row.try_get(0)?, row.try_get(1)?)?);
            }
            Ok(known)
        })
        .await
    }

    /// Writes records, of which those that are there already change nothing (of two of one name the later stays);
    /// and up to where there are all, in the same transaction. `now_micros` since 1970 is what ages
    /// are counted from. Deleted ones are left out: what is there stays.
    ///
    /// # Errors
    ///
    /// It does not answer. Then they may be there, or come to be.
    pub async fn put(
        &mut self,
        records: &[Record],
        known: Option<&Known>,
        now_micros: i64,
    ) -> Result<(), Trouble> {
        let (patience, describe) = (self.patience, self.setup.describe);
        let put = async {
            let transaction = self.client.transaction().await?;
            put(&transaction, describe, records, now_micros).await?;
            if let Some(known) = known {
                learn(&transaction, known).await?;
            }
            Ok(transaction.commit().await?)
        };
        within(patience * 3, put).await
    }

    /// Records in the order of stamp and key, after this one; fewer than `limit` when there are no more.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn records(
        &self,
        after: &Cursor,
        limit: usize,
        now_micros: i64,
    ) -> Result<Vec<Record>, Trouble> {
        let (reign, seq, key) = match &after.0 {
            Some((stamp, key)) => (reign_of(stamp.epoch), seq_of(stamp.seq), key.as_slice()),
            None => (-1, 0, [].as_slice()),
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "SELECT key, reign, seq, written, body FROM log_record
            WHERE (reign, seq, key) > ($1, $2, $3) ORDER BY reign, seq, key LIMIT $4";
        let rows = self.query(sql, &[&reign, &seq, &key, &limit]).await?;
        rows.iter().map(|row| record(row, now_micros)).collect()
    }

    /// How many records are there.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn record_count(&self) -> Result<u64, Trouble> {
        let row = self.query_one("SELECT count(*) FROM log_record", &[]).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
    }
}

fn record(row: &Row, now_micros: i64) -> Result<Record, Trouble> {
    let written: i64 = row.try_get(3)?;
    // A wall clock that was set back makes nothing older than new.
    let age = u64::try_from(now_micros.saturating_sub(written)).unwrap_or(0);
    Ok(Record {
        class: Class::Log,
        key: row.try_get(0)?,
        stamp: stamp(row.try_get(1)?, row.try_get(2)?)?,
        age: Duration::from_micros(age),
        body: Some(row.try_get(4)?),
    })
}

/// An epoch as a number that sorts like it; the same as in the journal's file.
fn reign_of(epoch: Epoch) -> i64 {
    let seat = match epoch.seat {
        Seat::Master => 0,
        Seat::Standby => 1,
    };
    i64::from(epoch.number) * 2 + seat
}

fn seq_of(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

fn stamp(reign: i64, seq: i64) -> Result<Stamp, Trouble> {
    let read = || {
        let seat = if reign % 2 == 0 { Seat::Master } else { Seat::Standby };
        let number = u32::try_from(u64::try_from(reign).ok()? / 2).ok()?;
        Some(Stamp { epoch: Epoch { number, seat }, seq: Seq(u64::try_from(seq).ok()?) })
    };
    let fault = || Trouble::Refused(format!("there is no reign {reign} with an entry {seq}"));
    read().ok_or_else(fault)
}

async fn put(
    transaction: &Transaction<'_>,
    describe: fn(&Record) -> Described,
    records: &[Record],
    now_micros: i64,
) -> Result<(), Trouble> {
    let mut there: Vec<&Record> = records.iter().filter(|record| record.body.is_some()).collect();
    // Of two of one key in one statement PostgreSQL would refuse both; and whoever locks in the same order
    // never waits for one who waits for him.
    there.sort_by(|a, b| (&a.key, b.stamp).cmp(&(&b.key, a.stamp)));
    there.dedup_by(|later, first| later.key == first.key);
    if there.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = there.iter().map(|record| record.key.as_slice()).collect();
    let reigns: Vec<i64> = there.iter().map(|record| reign_of(record.stamp.epoch)).collect();
    let seqs: Vec<i64> = there.iter().map(|record| seq_of(record.stamp.seq)).collect();
    let written = |record: &&Record| {
        now_micros.saturating_sub(i64::try_from(record.age.as_micros()).unwrap_or(i64::MAX))
    };
    let written: Vec<i64> = there.iter().map(written).collect();
    let bodies: Vec<&[u8]> = there.iter().filter_map(|record| record.body.as_deref()).collect();
    let sql = "INSERT INTO log_record (key, reign, seq, written, body)
        SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
        ON CONFLICT (key) DO UPDATE SET reign = excluded.reign, seq = excluded.seq,
            written = excluded.written, body = excluded.body
        WHERE (log_record.reign, log_record.seq) < (excluded.reign, excluded.seq)
        RETURNING key";
    let rows = transaction.query(sql, &[&keys, &reigns, &seqs, &written, &bodies]).await?;
    let new: Result<BTreeSet<Vec<u8>>, tokio_postgres::Error> =
        rows.iter().map(|row| row.try_get(0)).collect();
    let new = new?;
    let (mut calls, mut events) = (Vec::new(), Vec::new());
    for record in there.into_iter().filter(|record| new.contains(&record.key)) {
        match describe(record) {
            Described::Call(columns) => calls.push(*columns),
            Described::Events { call_id, steps } => events.push((plain(&call_id), plain(&steps))),
            Described::Other => {}
        }
    }
    put_calls(transaction, calls).await?;
    put_events(transaction, events).await
}

async fn put_calls(
    transaction: &Transaction<'_>,
    mut calls: Vec<CdrColumns>,
) -> Result<(), Trouble> {
    calls.sort_by(|a, b| a.call_id.cmp(&b.call_id));
    calls.dedup_by(|b, a| a.call_id == b.call_id);
    if calls.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&CdrColumns) -> &String| -> Vec<String> {
        calls.iter().map(|call| plain(of(call))).collect()
    };
    let number = |of: fn(&CdrColumns) -> i64| -> Vec<i64> { calls.iter().map(of).collect() };
    let time =
        |of: fn(&CdrColumns) -> Option<i64>| -> Vec<Option<i64>> { calls.iter().map(of).collect() };
    let texts = [
        text(|call| &call.call_id),
        text(|call| &call.caller),
        text(|call| &call.caller_name),
        text(|call| &call.called),
        text(|call| &call.called_name),
        text(|call| &call.answered_by),
        text(|call| &call.answered_by_name),
        text(|call| &call.outcome),
        text(|call| &call.ending),
    ];
    let times = [
        time(|call| Some(call.start_us)),
        time(|call| call.delivered_us),
        time(|call| call.connect_us),
        time(|call| call.end_us),
    ];
    let numbers = [
        number(|call| call.sip_status),
        number(|call| call.q850_cause),
        number(|call| call.talk_seconds),
    ];
    let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
    values.extend(texts.iter().map(|values| values as &(dyn ToSql + Sync)));
    values.extend(times.iter().map(|values| values as &(dyn ToSql + Sync)));
    values.extend(numbers.iter().map(|values| values as &(dyn ToSql + Sync)));
    transaction.execute(PUT_CALLS, &values).await?;
    Ok(())
}

const PUT_CALLS: &str = "
    INSERT INTO cdr (call_id, caller, caller_name, called, called_name, answered_by, answered_by_name,
        outcome, ending, start_us, delivered_us, connect_us, end_us, sip_status, q850_cause,
        talk_seconds)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
        $14::bigint[], $15::bigint[], $16::bigint[])
    ON CONFLICT (call_id) DO UPDATE SET caller = excluded.caller, caller_name = excluded.caller_name,
        called = excluded.called, called_name = excluded.called_name,
        answered_by = excluded.answered_by, answered_by_name = excluded.answered_by_name,
        outcome = excluded.outcome, ending = excluded.ending, start_us = excluded.start_us,
        delivered_us = excluded.delivered_us, connect_us = excluded.connect_us,
        end_us = excluded.end_us, sip_status = excluded.sip_status,
        q850_cause = excluded.q850_cause, talk_seconds = excluded.talk_seconds";

async fn put_events(
    transaction: &Transaction<'_>,
    mut events: Vec<(String, String)>,
) -> Result<(), Trouble> {
    events.sort();
    events.dedup_by(|b, a| a.0 == b.0);
    if events.is_empty() {
        return Ok(());
    }
    let (calls, steps): (Vec<String>, Vec<String>) = events.into_iter().unzip();
    let sql = "INSERT INTO call_event (call_id, steps) SELECT * FROM unnest($1::text[], $2::text[])
        ON CONFLICT (call_id) DO UPDATE SET steps = excluded.steps";
    transaction.execute(sql, &[&calls, &steps]).await?;
    Ok(())
}

/// Never back: the other server may be further.
async fn learn(transaction: &Transaction<'_>, known: &Known) -> Result<(), Trouble> {
    let reigns: Vec<i64> = known.iter().map(|stamp| reign_of(stamp.epoch)).collect();
    let seqs: Vec<i64> = known.iter().map(|stamp| seq_of(stamp.seq)).collect();
    let sql = "INSERT INTO known (reign, seq) SELECT * FROM unnest($1::bigint[], $2::bigint[])
        ON CONFLICT (reign) DO UPDATE SET seq = greatest(known.seq, excluded.seq)";
    transaction.execute(sql, &[&reigns, &seqs]).await?;
    Ok(())
}
