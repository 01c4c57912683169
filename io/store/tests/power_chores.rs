//! What the journal does besides commits, killed and cut off from its power at every step: a file of the version
//! before is brought up to date, damaged records are set aside, old ones deleted, a catch-up is taken, the file is
//! opened anew after the disk has failed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::collections::BTreeSet;

use common::{Ground, entry, ground, log, record, stamp, write_version_1};
use rusqlite::Connection;
use tandem_faultfs::Files;
use tandem_journal::{Class, Known, Record, Write};
use tandem_store::{
    BITE, FILE_NAME, Loaded, Reader, Retention, Sabotage, Settings, Stepped, WallClock,
};
use tandem_types::{Duration, Seat};

/// One day in microseconds.
const DAY: u64 = 86_400_000_000;

/// The day on which all of this happens.
const TODAY: u64 = 100;

/// The body of a log record is the day on which it ended, as text.
fn settings() -> Settings {
    let end_of = |_: &[u8], body: &[u8]| {
        let day: u64 = std::str::from_utf8(body).ok()?.parse().ok()?;
        i64::try_from(day.checked_mul(DAY)?).ok()
    };
    let wall_clock = WallClock::new(|| TODAY * DAY);
    Settings { wall_clock, end_of, ..Settings::default() }
}

fn open(ground: &Ground) -> Result<(Stepped, Loaded), String> {
    Stepped::open(&ground.folder, &settings()).map_err(|error| error.to_string())
}

/// Until there is nothing to do.
fn settle(store: &mut Stepped) {
    while store.turn() {}
}

/// Every record of the log that is whole; an error where one is not.
fn logs(ground: &Ground) -> Result<Vec<Record>, String> {
    let text = |error: tandem_store::ReadError| error.to_string();
    let reader = Reader::open(&ground.folder, WallClock::new(|| TODAY * DAY)).map_err(text)?;
    let records = reader.all(Class::Log).map_err(text)?;
    match reader.take_damaged().as_slice() {
        [] => Ok(records),
        damaged => Err(format!("{} are damaged", damaged.len())),
    }
}

fn known_up_to(loaded: &Loaded) -> u64 {
    loaded.known.latest().map_or(0, |stamp| stamp.seq.0)
}

/// So many were set aside.
fn aside(ground: &Ground) -> u64 {
    let connection = Connection::open(ground.folder.join(FILE_NAME)).unwrap();
    let count = connection.query_row("SELECT count(*) FROM damaged_record", [], |row| row.get(0));
    u64::try_from(count.unwrap_or(0_i64)).unwrap()
}

/// Does the work once; then ends it at every moment of it, in every way, and asks `judge`; and cuts the power once
/// more after the judge has opened what it found. How many moments there were, and what was wrong.
fn at_every_moment(
    name: &str,
    files: Files,
    work: impl FnOnce(&Ground),
    judge: impl Fn(&Ground) -> Result<(), String>,
) -> (usize, Vec<String>) {
    let first = ground(name, files);
    first.disk.record();
    work(&first);
    assert_eq!(first.disk.open(), 0, "everything is closed");
    let moments = first.disk.moments();
    let mut wrong = Vec::new();
    for (at, moment) in moments.iter().enumerate() {
        let seed = at as u64;
        let ends = [moment.killed(seed), moment.power_cut(seed), moment.power_cut(seed + 1_000)];
        for (how, files) in ends.into_iter().enumerate() {
            let then = ground(&format!("{name}-then"), files);
            let judged = judge(&then).and_then(|()| {
                let cut = then.disk.moment().power_cut(seed);
                drop(then);
                judge(&ground(&format!("{name}-again"), cut))
                    .map_err(|what| format!("again: {what}"))
            });
            wrong.extend(judged.err().map(|what| format!("end {how} of {at}: {what}")));
        }
    }
    println!("{name}: {} moments", moments.len());
    (moments.len(), wrong)
}

/// A closed journal, made by `work`.
fn made(name: &str, work: impl FnOnce(&Ground)) -> Files {
    let ground = ground(name, Files::default());
    work(&ground);
    ground.disk.moment().killed(0)
}

#[test]
fn a_file_of_the_version_before_is_brought_up_to_date_as_a_whole_or_not_yet() {
    const LOGS: u64 = 400;
    let before = made("bring", |ground| write_version_1(&ground.folder, LOGS));
    let work = |ground: &Ground| drop(open(ground).unwrap());
    let judge = |ground: &Ground| {
        let (_store, loaded) = open(ground)?;
        let found = (loaded.records.len(), loaded.damaged.len(), known_up_to(&loaded));
        let logs = logs(ground)?.len() as u64;
        if (found, logs) == ((2, 0, LOGS), LOGS) {
            Ok(())
        } else {
            Err(format!("{found:?} {logs}"))
        }
    };
    let (moments, wrong) = at_every_moment("bring-up", before, work, judge);
    assert!(moments > 20, "{moments}");
    assert!(wrong.is_empty(), "{} of {moments}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
}

/// Calls of which the first ones ended long ago and the last ones today, each in an entry of its own.
fn calls(ground: &Ground, old: u64, new: u64) {
    let (mut store, _) = open(ground).unwrap();
    for n in 1..=old + new {
        let day = if n <= old { 2 } else { TODAY };
        let ops = vec![log(&format!("{n:05}"), &day.to_string())];
        store.write(entry(1, Seat::Master, n, ops), true, n).unwrap();
        settle(&mut store);
    }
}

/// Deletes what is older than thirty days.
fn delete(store: &mut Stepped) {
    store.retain(Retention(Some(Duration::from_micros(30 * DAY))));
    settle(store);
}

#[test]
fn old_records_are_deleted_once_and_for_all_and_no_other_one_wherever_it_ends() {
    const OLD: u64 = BITE as u64 + 50;
    const NEW: u64 = 20;
    let before = made("old", |ground| calls(ground, OLD, NEW));
    let work = |ground: &Ground| {
        let (mut store, _) = open(ground).unwrap();
        delete(&mut store);
        store.checkpoint("RESTART");
        drop(store);
        assert_eq!(logs(ground).unwrap().len() as u64, NEW, "two bites");
    };
    let judge = |ground: &Ground| {
        let (mut store, loaded) = open(ground)?;
        if known_up_to(&loaded) != OLD + NEW {
            return Err(format!("{} are known", known_up_to(&loaded)));
        }
        let is_new = |one: &Record| one.stamp.seq.0 > OLD;
        let there = logs(ground)?;
        delete(&mut store);
        let left = logs(ground)?;
        let news = there.iter().filter(|one| is_new(one)).count() as u64;
        if news == NEW && left.len() as u64 == NEW && left.iter().all(is_new) {
            Ok(())
        } else {
            Err(format!("{news} new ones of {}, then {}", there.len(), left.len()))
        }
    };
    let (moments, wrong) = at_every_moment("old-deleted", before, work, judge);
    assert!(moments > 10, "{moments}");
    assert!(wrong.is_empty(), "{} of {moments}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
}

#[test]
fn a_damaged_record_is_set_aside_and_in_doubt_or_found_again() {
    // One that is loaded at the start, and one that is met when old ones are deleted.
    for (class, key, from) in [("table", "user/1", 0), ("log", "00007", 6)] {
        let before = made("damaged", |ground| {
            calls(ground, 30, 10);
            let (mut store, _) = open(ground).unwrap();
            let ops = vec![common::table("user/1", "x")];
            store.write(entry(1, Seat::Master, 41, ops), true, 1).unwrap();
            settle(&mut store);
            drop(store);
            let sql = format!(
                "UPDATE {class}_record SET written = written + 1 WHERE key = CAST('{key}' AS BLOB)"
            );
            let connection = Connection::open(ground.folder.join(FILE_NAME)).unwrap();
            assert_eq!(connection.execute(&sql, []).unwrap(), 1);
        });
        let from = if from == 0 { 40 } else { from };
        let work = |ground: &Ground| {
            let (mut store, _) = open(ground).unwrap();
            delete(&mut store);
            drop(store);
            assert_eq!(aside(ground), 1, "{class}");
        };
        let judge = |ground: &Ground| {
            let (mut store, _) = open(ground)?;
            delete(&mut store);
            drop(store);
            let (_store, loaded) = open(ground)?;
            let found = (aside(ground), known_up_to(&loaded), logs(ground)?.len());
            if found == (1, from, 10) { Ok(()) } else { Err(format!("{found:?}")) }
        };
        let (moments, wrong) = at_every_moment("damaged-aside", before, work, judge);
        assert!(moments > 5, "{moments}");
        assert!(wrong.is_empty(), "{class}: {} of {moments}: {wrong:#?}", wrong.len());
    }
}

/// A catch-up in frames of twenty records, in an order that is none, and what is known after it.
fn catch_up(store: &mut Stepped) {
    let mut order: Vec<u64> = (1..=CAUGHT_UP).collect();
    order.reverse();
    for (number, part) in order.chunks(20).enumerate() {
        let one = |n: &u64| {
            let at = stamp(1, Seat::Master, *n);
            record(Class::Log, &format!("{n:05}"), at, Some(&TODAY.to_string()))
        };
        let records = part.iter().map(one).collect();
        store.write(Write::Records(records), true, number as u64).unwrap();
        settle(store);
        if number == 2 {
            store.checkpoint("PASSIVE");
        }
    }
    let mut known = Known::new();
    known.learn(stamp(1, Seat::Master, CAUGHT_UP));
    store.write(Write::Learn(known), true, 100).unwrap();
    settle(store);
}

const CAUGHT_UP: u64 = 120;

#[test]
fn a_catch_up_that_ends_in_the_middle_is_not_known_and_done_again() {
    let before = made("rejoin", |ground| drop(open(ground).unwrap()));
    let judge = |ground: &Ground| {
        let (mut store, loaded) = open(ground)?;
        let (known, there) = (known_up_to(&loaded), logs(ground)?.len() as u64);
        if known != 0 && (known, there) != (CAUGHT_UP, CAUGHT_UP) {
            return Err(format!("{known} are known, {there} are there"));
        }
        catch_up(&mut store);
        drop(store);
        let (_store, loaded) = open(ground)?;
        let keys: BTreeSet<Vec<u8>> = logs(ground)?.into_iter().map(|one| one.key).collect();
        let found = (known_up_to(&loaded), keys.len() as u64);
        if found == (CAUGHT_UP, CAUGHT_UP) { Ok(()) } else { Err(format!("{found:?}")) }
    };
    let work = |ground: &Ground| catch_up(&mut open(ground).unwrap().0);
    let (moments, wrong) = at_every_moment("rejoin-work", before.clone(), work, judge);
    assert!(moments > 30, "{moments}");
    assert!(wrong.is_empty(), "{} of {moments}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    // Who says that he knows before he has it is caught.
    let early = |ground: &Ground| {
        let mut store = open(ground).unwrap().0;
        store.sabotage(Sabotage::LearnFirst);
        let mut known = Known::new();
        known.learn(stamp(1, Seat::Master, CAUGHT_UP));
        store.write(Write::Learn(known), true, 1).unwrap();
        catch_up(&mut store);
    };
    let (_, wrong) = at_every_moment("rejoin-early", before, early, judge);
    assert!(wrong.iter().any(|what| what.contains("are known")), "{wrong:#?}");
}
