//! What the tests have in common: a setup, records, and waiting for what a runtime does.

#![allow(dead_code, reason = "every test uses another part of it")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::Future;
use std::time::Duration as StdDuration;

use tandem_journal::{Class, Record};
use tandem_postgres::{Access, CdrColumns, ColumnKind, Database, Described, Setup, Trouble};
use tandem_types::{Duration, Epoch, Seat, Seq, Stamp};

/// Beyond what anything takes, also on a busy machine.
pub(crate) const DEADLINE: StdDuration = StdDuration::from_secs(60);

/// 2026-11-23 00:00:00 UTC, microseconds.
pub(crate) const MIDNIGHT: i64 = 1_795_392_000_000_000;

pub(crate) fn setup() -> Setup {
    let kinds = tandem_config::column_kinds().unwrap().into_iter().map(|one| {
        let kind = ColumnKind::of_sqlite(&one.kind).unwrap();
        ((one.table.to_owned(), one.column), kind)
    });
    Setup {
        schema: &tandem_config::SCHEMA,
        kinds: kinds.collect(),
        pair: "example.com".to_owned(),
        describe,
    }
}

/// The body of a call's record in these tests is its caller.
fn describe(record: &Record) -> Described {
    let key = String::from_utf8_lossy(&record.key).into_owned();
    let body = String::from_utf8_lossy(record.body.as_deref().unwrap()).into_owned();
    match key.split_once('/') {
        Some(("cdr", call)) => Described::Call(Box::new(CdrColumns {
            call_id: call.to_owned(),
            caller: body,
            start_us: MIDNIGHT,
            ..CdrColumns::default()
        })),
        Some(("cev", call)) => Described::Events { call_id: call.to_owned(), steps: body },
        Some(_) | None => Described::Other,
    }
}

pub(crate) fn record(key: &str, epoch: u32, seq: u64, body: &str) -> Record {
    Record {
        class: Class::Log,
        key: key.as_bytes().to_vec(),
        stamp: stamp(epoch, seq),
        age: Duration::ZERO,
        body: Some(body.as_bytes().to_vec()),
    }
}

pub(crate) fn stamp(number: u32, seq: u64) -> Stamp {
    Stamp { epoch: Epoch { number, seat: Seat::Master }, seq: Seq(seq) }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

pub(crate) fn access(address: &str) -> Access {
    Access::parse(address, None).unwrap()
}

pub(crate) async fn connect(address: &str) -> Result<Database, Trouble> {
    Database::connect(&access(address), setup()).await
}

/// Says something to the database past this crate.
pub(crate) async fn say(address: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    let (client, connection) =
        tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let said = client.simple_query(sql).await.unwrap();
    let mut rows = Vec::new();
    for message in said {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
        }
    }
    rows
}
