//! Checkpoints of the tables, which are made by a connection of their own, and what becomes of those that fail.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod ground;

use std::path::Path;

use ground::{FILE, Ground, by, disk, folder, open, print, setup};
use rusqlite::Connection;
use tandem_faultfs::{Error, Failure, Files, On};
use tandem_store::tables::Tables;

/// Tables whose checkpoints are made when the test says so.
fn stepped(ground: &Ground) -> Tables {
    let mut tables = open(&ground.0).unwrap();
    tables.tidy(&ground.0.folder().join(FILE)).unwrap();
    tables
}

fn insert(tables: &mut Tables, ids: std::ops::Range<u64>) {
    for id in ids {
        let text = "text ".repeat(300);
        let sql = format!("INSERT INTO item (id, one, two) VALUES ({id}, {id}, '{text}')");
        tables.change(&by(1_000 + id), |c| c.execute_batch(&sql)).unwrap();
    }
}

fn log_frames(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap()
}

#[test]
fn after_a_power_cut_at_any_step_of_a_checkpoint_everything_is_there() {
    let ground = disk("tidying-cut", Files::default());
    let mut tables = stepped(&ground);
    ground.0.record();
    let mut states = vec![(0, print(&tables))];
    for (number, mode) in (0..).zip(["PASSIVE", "", "RESTART", "", "PASSIVE", "PASSIVE", ""]) {
        insert(&mut tables, number * 3..number * 3 + 3);
        states.push((ground.0.now(), print(&tables)));
        if !mode.is_empty() {
            tables.checkpoint(mode);
        }
    }
    drop(tables);
    assert_eq!(ground.0.open(), 0, "everything is closed");
    let moments = ground.0.moments();
    for (at, moment) in moments.iter().enumerate() {
        let promised = states.iter().rposition(|(from, _)| *from <= at).unwrap();
        let again = disk("tidying-cut-again", moment.power_cut(at as u64));
        let found = print(&open(&again.0).unwrap());
        if found != states[promised].1 {
            // Of the three commits that follow some may be there as well.
            let seen = open(&again.0).unwrap().seen().up_to(setup(0).origin);
            let from = promised as u64 * 3;
            assert!((from + 1..=from + 3).contains(&seen), "{at}: {seen} of {from}");
        }
    }
    assert!(moments.len() > 100, "{}", moments.len());
}

/// Twenty commits, of which a part was brought over without a sync when the sync of a checkpoint fails, and the
/// next one would not.
fn doubted(ground: &Ground, after: u64, error: Error) -> Tables {
    let mut tables = stepped(ground);
    insert(&mut tables, 0..10);
    let reader = Connection::open(ground.0.folder().join(FILE)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM item").unwrap();
    insert(&mut tables, 10..20);
    tables.checkpoint("PASSIVE");
    drop(reader);
    ground.0.fail(Failure { on: On::Sync, after, times: 1, error });
    tables.checkpoint("PASSIVE");
    assert_eq!(ground.0.heal(), 0, "the failure came to pass");
    tables
}

const FAILURES: [(Error, u64); 4] =
    [(Error::Io, 0), (Error::Io, 1), (Error::IoAndForgotten, 0), (Error::IoAndForgotten, 1)];

#[test]
fn after_a_checkpoint_whose_sync_failed_everything_is_written_to_the_file_once_more() {
    for (error, after) in FAILURES {
        for seed in 0..8 {
            let ground = disk("tidying-fails", Files::default());
            ground.0.seed(seed);
            let mut tables = doubted(&ground, after, error);
            // The log is begun anew, if it may be.
            insert(&mut tables, 20..22);
            tables.checkpoint("RESTART");
            insert(&mut tables, 22..24);
            let shown = print(&tables);
            assert_eq!(tables.faults().unwrap(), Vec::<String>::new());
            let cut = disk("tidying-fails-cut", ground.0.moment().power_cut(seed));
            assert_eq!(print(&open(&cut.0).unwrap()), shown, "{error:?} {after} {seed}");
        }
    }
}

#[test]
fn who_ends_after_a_checkpoint_whose_sync_failed_leaves_the_log_for_the_next_start() {
    let again = |it| [(it, None), (it, Some(0)), (it, Some(1))];
    for ((error, after), again) in FAILURES.into_iter().flat_map(again) {
        for seed in 0..8 {
            let ground = disk("tidying-ends", Files::default());
            ground.0.seed(seed);
            let mut tables = doubted(&ground, after, error);
            let shown = print(&tables);
            if let Some(after) = again {
                // What is written once more fails as well.
                ground.0.fail(Failure { on: On::Sync, after, times: 1, error });
                tables.begin().unwrap_err();
                assert_eq!(ground.0.heal(), 0, "the failure came to pass");
            }
            drop(tables);
            assert_eq!(ground.0.open(), 0, "everything is closed");
            let case = format!("{error:?} {after} {again:?} {seed}");
            let after_a_cut = || {
                let cut = disk("tidying-ends-cut", ground.0.moment().power_cut(seed));
                open(&cut.0).map(|found| print(&found)).map_err(|error| error.to_string())
            };
            assert_eq!(after_a_cut(), Ok(shown.clone()), "{case}");
            // Without a power cut too, and then it is durable.
            let found = open(&ground.0).map(|found| print(&found));
            assert_eq!(found.map_err(|error| error.to_string()), Ok(shown.clone()), "{case}");
            assert_eq!(after_a_cut(), Ok(shown.clone()), "{case}");
        }
    }
}

/// A process was killed at any step, and the next one finds a disk that fails.
#[test]
fn a_start_whose_sync_fails_leaves_what_is_there_to_the_next_one() {
    let ground = disk("tidying-start", Files::default());
    let mut tables = open(&ground.0).unwrap();
    ground.0.record();
    let mut states = vec![(0, print(&tables))];
    for id in 0..3 {
        insert(&mut tables, id..id + 1);
        states.push((ground.0.now(), print(&tables)));
    }
    let (mut refused, mut wrong) = (0, Vec::new());
    for (at, moment) in ground.0.moments().iter().enumerate() {
        let promised = states.iter().rposition(|(from, _)| *from <= at).unwrap();
        for (error, after) in FAILURES {
            let first = disk("tidying-start-first", moment.killed(at as u64));
            first.0.fail(Failure { on: On::Sync, after, times: 1, error });
            refused += usize::from(open(&first.0).is_err());
            first.0.heal();
            let found = open(&first.0).map(|found| print(&found)).map_err(|it| it.to_string());
            // The change that was being made may be there.
            let mut may = states.iter().skip(promised).take(2);
            if !may.any(|(_, state)| found.as_ref() == Ok(state)) {
                wrong.push(format!("{at} {error:?} {after}: {:?}", found.err()));
            }
        }
    }
    assert!(wrong.is_empty() && refused > 100, "{refused}: {wrong:#?}");
}

#[test]
fn where_a_failed_sync_took_what_was_believed_nothing_is_written_any_more() {
    let ground = disk("tidying-lost", Files::default());
    let mut tables = stepped(&ground);
    insert(&mut tables, 0..2);
    tables.reader().pragma_update(None, "synchronous", "OFF").unwrap();
    insert(&mut tables, 2..4);
    ground.0.fail(Failure { on: On::Sync, after: 0, times: 1, error: Error::IoAndForgotten });
    tables.checkpoint("PASSIVE");
    for _ in 0..2 {
        let refused = tables.begin().unwrap_err().to_string();
        assert!(refused.contains("are there no more"), "{refused}");
    }
    drop(tables);
    let found = open(&ground.0).unwrap();
    assert!(found.seen().up_to(found.me()) < 4, "the next start says what is there");
}

#[test]
fn a_checkpoint_on_a_full_disk_refuses_no_change_and_is_made_when_there_is_room() {
    let ground = disk("tidying-full", Files::default());
    let path = ground.0.folder().join(FILE);
    let mut tables = stepped(&ground);
    insert(&mut tables, 0..1);
    tables.checkpoint("RESTART");
    insert(&mut tables, 1..40);
    let before = log_frames(&path);
    ground.0.room(Some(ground.0.length()));
    tables.checkpoint("PASSIVE");
    ground.0.room(None);
    insert(&mut tables, 40..41);
    assert!(log_frames(&path) > before, "nothing was begun anew");
    tables.checkpoint("RESTART");
    insert(&mut tables, 41..42);
    assert!(log_frames(&path) < before, "the log was begun anew");
    let shown = print(&tables);
    let cut = disk("tidying-full-cut", ground.0.moment().power_cut(1));
    assert_eq!(print(&open(&cut.0).unwrap()), shown);
}

#[test]
fn commits_keep_the_log_short_and_who_closes_leaves_everything_in_the_file() {
    let folder = folder("tidying-short");
    let path = folder.join(FILE);
    let mut tables = Tables::open(&path, &setup(0)).unwrap();
    tables.tidy(&path).unwrap();
    insert(&mut tables, 0..1);
    let mut longest = 0;
    for number in 0..150_u64 {
        let text = (100 + number).to_string().repeat(20_000);
        let sql = format!("UPDATE item SET two = '{text}' WHERE id = 0");
        tables.change(&by(5_000 + number), |c| c.execute_batch(&sql)).unwrap();
        longest = longest.max(std::fs::metadata(folder.join("config.db-wal")).unwrap().len());
    }
    drop(tables);
    assert!(!folder.join("config.db-wal").exists(), "the last one has brought over everything");
    let found = Tables::open(&path, &setup(0)).unwrap();
    assert_eq!(found.seen().up_to(found.me()), 151);
    drop(found);
    std::fs::remove_dir_all(&folder).unwrap();
    // One that were never begun anew would have over 20 MiB.
    assert!((4 << 20..6 << 20).contains(&longest), "{longest}");
}
