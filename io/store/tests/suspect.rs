//! Files that are found damaged while they are in use: told once, marked, read as a whole at the next start.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::{entry, folder, hot, log, open};
use rusqlite::Connection;
use tandem_journal::{Cursor, Known};
use tandem_store::{
    FILE_NAME, OpenError, Reader, Settings, Store, StoreEvent, WallClock, move_aside, suspected,
};
use tandem_types::Seat;

const PAGE: usize = 4_096;

/// Overwrites every page of an open journal but the first, as a broken disk does.
fn ruin(path: &Path) {
    let connection = Connection::open(path).unwrap();
    // Everything is in the file, and whoever has it open reads it again.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let pages = usize::try_from(file.metadata().unwrap().len()).unwrap() / PAGE;
    assert!(pages > 3, "{pages}");
    for page in 1..pages {
        file.write_all_at(&[0x5a; PAGE], (page * PAGE) as u64).unwrap();
    }
}

fn write(store: &Store, seq: u64) {
    let ops = vec![hot("h", "x"), log(&format!("{seq:04}"), &"r".repeat(600))];
    store.write(entry(1, Seat::Master, seq, ops), true, seq).unwrap();
}

#[test]
fn a_write_or_a_read_that_finds_the_file_damaged_marks_it_once_and_the_next_start_refuses_it() {
    for reads in [false, true] {
        let folder = folder(if reads { "suspect-read" } else { "suspect-write" });
        let path = folder.join(FILE_NAME);
        let (store, _, mut wait) = open(&folder, Settings::default());
        (1..=40).for_each(|seq| write(&store, seq));
        wait.stored(40);
        assert_eq!(suspected(&path), None);
        ruin(&path);
        if reads {
            store.fetch(Known::new(), Cursor(None), 1);
        } else {
            write(&store, 41);
        }
        let what = loop {
            if let StoreEvent::Suspect { what } = wait.next() {
                break what;
            }
        };
        assert_eq!(suspected(&path), Some(what));
        write(&store, 42);
        while !matches!(wait.next(), StoreEvent::Failing { .. }) {}
        store.fetch(Known::new(), Cursor(None), 2);
        drop(store);
        let more = wait.rest().iter().filter(|it| matches!(it, StoreEvent::Suspect { .. })).count();
        assert_eq!(more, 0, "told once");
        let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
        assert!(matches!(error, OpenError::Broken { .. }), "{error}");
        assert!(suspected(&path).is_some(), "nothing was changed");
        move_aside(&path).unwrap();
        assert_eq!(suspected(&path), None, "the mark goes with the file");
        open(&folder, Settings::default());
    }
}

#[test]
fn who_reads_beside_the_server_marks_what_is_damaged_and_only_that() {
    let folder = folder("suspect-beside");
    let path = folder.join(FILE_NAME);
    let (store, _, mut wait) = open(&folder, Settings::default());
    (1..=40).for_each(|seq| write(&store, seq));
    wait.stored(40);
    let reader = Reader::open(&folder, WallClock::system()).unwrap();
    assert_eq!(reader.log(b"", 100, None).unwrap().len(), 40);
    let right = std::fs::read(&path).unwrap();
    ruin(&path);
    let error = reader.log(b"", 100, None).unwrap_err();
    assert!(error.is_damage, "{error}");
    let ruined = std::fs::read(&path).unwrap();
    drop((reader, store));
    // It was replaced meanwhile by one that is right.
    std::fs::write(&path, right).unwrap();
    assert!(!error.mark());
    assert_eq!(suspected(&path), None);
    std::fs::write(&path, ruined).unwrap();
    assert!(error.mark());
    assert_eq!(suspected(&path), Some(error.what));
    // A file that cannot be read for another reason is not taken for damaged.
    let nothing = Reader::open(&folder.join("nowhere"), WallClock::system()).unwrap_err();
    assert!(!nothing.mark());
}

#[test]
fn the_mark_on_a_file_that_is_right_goes_at_the_next_start() {
    let folder = folder("suspect-right");
    let path = folder.join(FILE_NAME);
    drop(open(&folder, Settings::default()));
    std::fs::write(folder.join("journal.db.suspect"), "was it?").unwrap();
    assert_eq!(suspected(&path), Some(String::from("was it?")));
    drop(open(&folder, Settings::default()));
    assert_eq!(suspected(&path), None);
}

#[test]
fn a_file_that_is_too_big_for_every_start_is_read_as_a_whole_where_it_is_suspected() {
    let folder = folder("suspect-big");
    let path = folder.join(FILE_NAME);
    drop(open(&folder, Settings::default()));
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE filler (bytes BLOB);
             WITH n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
             INSERT INTO filler SELECT zeroblob(4000) FROM n;
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
    drop(connection);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    assert!(file.metadata().unwrap().len() > 64 << 20);
    file.write_all_at(&[0x5a; PAGE], 10_000 * PAGE as u64).unwrap();
    drop(open(&folder, Settings::default()));
    std::fs::write(folder.join("journal.db.suspect"), "x").unwrap();
    let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Broken { .. }), "{error}");
}
