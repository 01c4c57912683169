//! Log records that are older than they are to be kept go, in bites, and never come back.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Wait, entry, folder, hot, log, record, stamp};
use rusqlite::Connection;
use tandem_journal::{Class, Cursor, Known, Record, Write};
use tandem_store::{
    BITE, Elsewhere, FILE_NAME, GRACE, Retention, Settings, Store, StoreEvent, WallClock,
};
use tandem_types::{Duration, Seat};

/// One day in microseconds.
const DAY: u64 = 86_400_000_000;

/// A clock that a test moves.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn at(day: u64) -> Self {
        Self(Arc::new(AtomicU64::new(day * DAY)))
    }

    fn set(&self, day: u64) {
        self.0.store(day * DAY, Ordering::SeqCst);
    }

    fn settings(&self) -> Settings {
        let now = Arc::clone(&self.0);
        let wall_clock = WallClock::new(move || now.load(Ordering::SeqCst));
        Settings { wall_clock, end_of: end, ..Settings::default() }
    }
}

/// The body of a record says on which day it ended; other records have no end.
fn end(key: &[u8], body: &[u8]) -> Option<i64> {
    if !key.starts_with(b"cdr/") {
        return None;
    }
    let day: u64 = std::str::from_utf8(body).ok()?.parse().ok()?;
    i64::try_from(day * DAY).ok()
}

fn open(folder: &Path, clock: &Clock) -> (Store, Wait) {
    let (store, _, wait) = common::open(folder, clock.settings());
    (store, wait)
}

fn days(days: u64) -> Retention {
    Retention(Some(Duration::from_micros(days * DAY)))
}

/// Calls that end on these days, each with its events.
fn calls(store: &Store, wait: &mut Wait, first: u64, ends: &[u64]) {
    let mut last = 0;
    for (n, day) in (first..).zip(ends) {
        let ops =
            vec![log(&format!("cdr/{n}"), &day.to_string()), log(&format!("cev/{n}"), "steps")];
        store.write(entry(1, Seat::Master, n, ops), true, n).unwrap();
        last = n;
    }
    wait.stored(last);
}

fn keys(store: &Store) -> Vec<String> {
    let reader = store.reader().unwrap();
    let all = reader.all(Class::Log).unwrap();
    all.into_iter().map(|one| String::from_utf8(one.key).unwrap()).collect()
}

/// How many records were deleted at a time.
fn bites(wait: &Wait) -> Vec<usize> {
    let mut bites = Vec::new();
    for event in &wait.seen {
        if let StoreEvent::Deleted { records } = event {
            bites.push(*records);
        }
    }
    bites
}

/// Deletes what there is to delete now: how many.
fn delete(store: &Store, wait: &mut Wait, keep: Retention, ticket: u64) -> usize {
    wait.seen.clear();
    store.retain(keep);
    // Behind each of these a bite has been done.
    for n in ticket..ticket + 20 {
        store.write(entry(1, Seat::Master, 9_000 + n, vec![hot("call/x", "y")]), true, n).unwrap();
        wait.stored(n);
    }
    bites(wait).into_iter().sum()
}

#[test]
fn what_is_older_by_its_end_and_by_its_writing_goes_after_a_day_of_grace() {
    let folder = folder("goes");
    let clock = Clock::at(100);
    let (store, mut wait) = open(&folder, &clock);
    calls(&store, &mut wait, 1, &[100, 100]);
    clock.set(105);
    // One whose end was told wrongly by a clock that was behind stays until it was written so long ago.
    calls(&store, &mut wait, 3, &[3, 105]);
    assert_eq!(delete(&store, &mut wait, days(6), 1_000), 0);
    clock.set(107);
    assert_eq!(delete(&store, &mut wait, days(6), 2_000), 0, "not within the grace");
    clock.set(108);
    assert_eq!(delete(&store, &mut wait, days(6), 3_000), 4, "two calls with their events");
    assert_eq!(keys(&store), ["cdr/3", "cdr/4", "cev/3", "cev/4"]);
    assert_eq!(GRACE.as_micros(), u128::from(DAY));
}

#[test]
fn what_is_not_elsewhere_stays_however_old_it_is() {
    let folder = folder("elsewhere");
    let clock = Clock::at(100);
    let elsewhere = Elsewhere::default();
    let settings = Settings { elsewhere: Some(elsewhere.clone()), ..clock.settings() };
    let (store, _, mut wait) = common::open(&folder, settings);
    calls(&store, &mut wait, 1, &[100; 400]);
    clock.set(200);
    calls(&store, &mut wait, 401, &[200]);
    assert_eq!(delete(&store, &mut wait, days(30), 1_000), 0, "nothing is known to be there");
    let mut there = Known::new();
    there.learn(stamp(1, Seat::Master, 150));
    elsewhere.learn(&there);
    assert_eq!(delete(&store, &mut wait, days(30), 2_000), 300, "150 calls with their events");
    there.learn(stamp(1, Seat::Master, 401));
    elsewhere.learn(&there);
    assert_eq!(delete(&store, &mut wait, days(30), 3_000), 500);
    assert_eq!(keys(&store), ["cdr/401", "cev/401"]);
}

#[test]
fn a_bite_is_small_and_the_next_one_follows() {
    let folder = folder("bites");
    let clock = Clock::at(100);
    let (store, mut wait) = open(&folder, &clock);
    calls(&store, &mut wait, 1, &[100; 600]);
    clock.set(200);
    calls(&store, &mut wait, 601, &[200]);
    assert_eq!(delete(&store, &mut wait, days(30), 1_000), 1_200);
    assert_eq!(bites(&wait), [BITE, BITE, BITE, BITE, 200]);
    assert_eq!(keys(&store), ["cdr/601", "cev/601"]);
}

#[test]
fn what_was_deleted_does_not_come_back_from_a_twin_that_was_away() {
    let (ours, twins) = (folder("away"), folder("away-twin"));
    let clock = Clock::at(100);
    let (store, mut wait) = open(&ours, &clock);
    let (twin, mut twin_wait) = open(&twins, &clock);
    calls(&store, &mut wait, 1, &[100; 5]);
    calls(&twin, &mut twin_wait, 1, &[100; 5]);
    clock.set(140);
    calls(&store, &mut wait, 6, &[140; 2]);
    assert_eq!(delete(&store, &mut wait, days(30), 1_000), 10);
    // The twin was off and has the rule of old; everything it has is sent, as to a machine with an empty disk.
    twin.fetch(Known::new(), Cursor(None), 1);
    let (records, _) = twin_wait.fetched(1);
    assert_eq!(records.len(), 10);
    store.write(Write::Records(records), true, 1_500).unwrap();
    wait.stored(1_500);
    assert_eq!(keys(&store), ["cdr/6", "cdr/7", "cev/6", "cev/7"], "it is not taken");
    // The twin hears of the rule, and has by now a call of these days.
    calls(&twin, &mut twin_wait, 6, &[140; 2]);
    assert_eq!(delete(&twin, &mut twin_wait, days(30), 1_000), 10);
    assert_eq!(keys(&store), keys(&twin));
}

#[test]
fn a_backup_that_is_put_back_loses_again_what_was_deleted() {
    let folder = folder("backup");
    let clock = Clock::at(100);
    let (store, mut wait) = open(&folder, &clock);
    calls(&store, &mut wait, 1, &[100; 5]);
    clock.set(120);
    calls(&store, &mut wait, 6, &[120; 2]);
    delete(&store, &mut wait, days(30), 1_000);
    drop(store);
    let backup = std::fs::read(folder.join(FILE_NAME)).unwrap();
    clock.set(140);
    let (store, mut wait) = open(&folder, &clock);
    assert_eq!(delete(&store, &mut wait, days(30), 1_000), 10);
    drop(store);
    std::fs::write(folder.join(FILE_NAME), backup).unwrap();
    // The rule is in the file: it holds before anybody says so again.
    let (store, mut wait) = open(&folder, &clock);
    assert_eq!(keys(&store).len(), 14);
    let old = record(Class::Log, "cdr/old", stamp(1, Seat::Standby, 1), Some("100"));
    let old = Record { age: Duration::from_micros(40 * DAY), ..old };
    store.write(Write::Records(vec![old]), true, 1).unwrap();
    wait.stored(1);
    assert_eq!(keys(&store).len(), 14);
    assert_eq!(delete(&store, &mut wait, store.reader().unwrap().retention().unwrap(), 2), 10);
}

#[test]
fn a_clock_that_jumped_so_far_that_everything_is_old_deletes_nothing() {
    let folder = folder("jumped");
    let clock = Clock::at(100);
    let (store, mut wait) = open(&folder, &clock);
    calls(&store, &mut wait, 1, &[98, 99, 100]);
    clock.set(4_000);
    assert_eq!(delete(&store, &mut wait, days(30), 1_000), 0);
    assert_eq!(keys(&store).len(), 6);
}

#[test]
fn for_ever_is_for_ever_and_the_rule_is_kept() {
    let folder = folder("ever");
    let clock = Clock::at(100);
    let (store, mut wait) = open(&folder, &clock);
    assert_eq!(store.reader().unwrap().retention().unwrap(), Retention(None));
    calls(&store, &mut wait, 1, &[100]);
    clock.set(4_000);
    calls(&store, &mut wait, 2, &[4_000]);
    assert_eq!(delete(&store, &mut wait, Retention(None), 1_000), 0);
    assert_eq!(delete(&store, &mut wait, days(10), 2_000), 2);
    drop(store);
    let (store, _wait) = open(&folder, &clock);
    assert_eq!(store.reader().unwrap().retention().unwrap(), days(10));
    store.retain(Retention(None));
    drop(store);
    let (store, _wait) = open(&folder, &clock);
    assert_eq!(store.reader().unwrap().retention().unwrap(), Retention(None));
}

#[test]
fn a_record_that_is_damaged_is_set_aside_and_not_deleted_as_old() {
    let folder = folder("damaged");
    let clock = Clock::at(100);
    let (store, mut wait) = open(&folder, &clock);
    calls(&store, &mut wait, 1, &[100; 3]);
    drop(store);
    let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
    let sql = "UPDATE log_record SET ends = 0, written = 0 WHERE key = CAST('cdr/2' AS BLOB)";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    drop(connection);
    let (store, mut wait) = open(&folder, &clock);
    assert_eq!(delete(&store, &mut wait, days(30), 1_000), 0);
    assert!(
        wait.seen
            .iter()
            .any(|event| matches!(event, StoreEvent::Damaged { records } if records.len() == 1))
    );
}
