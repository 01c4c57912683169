//! Killed processes, full disks and files that are not what they should be.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{entry, folder, hot, log, open, stamp, table};
use tandem_journal::{Class, Known, Write};
use tandem_store::{FILE_NAME, OpenError, Refused, Settings, Store, StoreEvent, move_aside};
use tandem_types::Seat;

/// In the child process of the test below: the folder to write to.
const CHILD_FOLDER: &str = "TANDEM_STORE_CHILD";

/// Stored reports of the child after which it is killed.
const REPORTS: usize = 40;

#[test]
fn what_was_reported_is_there_after_kill_9_and_entries_are_whole() {
    if let Ok(folder) = std::env::var(CHILD_FOLDER) {
        write_until_killed(Path::new(&folder));
    }
    let folder = folder("kill");
    let mut reported = 0;
    let mut wrote_before = 0;
    for round in 0..3 {
        reported = kill_a_writer(&folder).max(reported);
        let (store, loaded, _wait) = open(&folder, Settings::default());
        let last = loaded.known.latest().map_or(0, |stamp| stamp.seq.0);
        assert!(last >= reported, "{reported} was reported, {last} is known (round {round})");
        assert!(last > wrote_before, "the child wrote nothing");
        wrote_before = last;
        let logs = store.reader().unwrap().log(b"", usize::MAX, None).unwrap();
        assert_eq!(logs.len() as u64, last, "one log record an entry, each once");
        let hot: Vec<_> = loaded.records.iter().filter(|r| r.class == Class::Hot).collect();
        assert_eq!(hot.len(), 1);
        let table = loaded.records.iter().find(|r| r.class == Class::Table).unwrap();
        for record in [hot[0], table] {
            assert_eq!(
                record.stamp.seq.0, last,
                "all of the last entry is there, or nothing of it"
            );
            assert_eq!(record.body.as_deref(), Some(last.to_string().as_bytes()));
        }
    }
}

/// Starts a writer, kills it in mid-write; the highest ticket it reported as stored.
fn kill_a_writer(folder: &Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_reported_is_there_after_kill_9_and_entries_are_whole"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let ticket = |line: String| line.strip_prefix("stored ").and_then(|n| n.parse::<u64>().ok());
    let before: Vec<u64> = lines.by_ref().filter_map(ticket).take(REPORTS).collect();
    assert_eq!(before.len(), REPORTS, "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts too; the last line may be cut off.
    let after: Vec<u64> = lines.filter_map(ticket).collect();
    before.into_iter().chain(after).max().unwrap()
}

/// Writes that the child queues ahead of the disk: more than fit into one transaction.
const AHEAD: u64 = 1_000;

/// Each entry: a hot and a table record that are overwritten, and a new log record.
fn write_until_killed(folder: &Path) -> ! {
    let (report, reports) = std::sync::mpsc::channel();
    let (store, loaded) = Store::open(folder, Settings::default(), move |event| {
        if let StoreEvent::Stored { ticket } = event {
            // In one write, so that a line is whole or not there.
            let _ = std::io::stdout().write_all(format!("stored {ticket}\n").as_bytes());
            let _ = report.send(ticket);
        }
    })
    .unwrap();
    let mut last = loaded.known.latest().map_or(0, |stamp| stamp.seq.0);
    let mut stored = last;
    loop {
        last += 1;
        let text = last.to_string();
        let ops = vec![hot("h", &text), table("t", &text), log(&text, "x")];
        store.write(entry(1, Seat::Master, last, ops), last % 3 == 0, last).unwrap();
        while last - stored >= AHEAD {
            stored = reports.recv().unwrap();
        }
    }
}

#[test]
fn garbage_in_place_of_the_file_is_named_and_left_until_it_is_moved_aside() {
    let folder = folder("garbage");
    let path = folder.join(FILE_NAME);
    let garbage = vec![0x5a; 8_192];
    std::fs::write(&path, &garbage).unwrap();
    let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
    assert!(matches!(&error, OpenError::Broken { path: named, .. } if *named == path), "{error}");
    let want = format!("{}: the file is damaged (file is not a database)", path.display());
    assert_eq!(error.to_string(), want);
    assert_eq!(std::fs::read(&path).unwrap(), garbage);

    let aside = move_aside(&folder.join(FILE_NAME)).unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), garbage);
    let (_store, loaded, _wait) = open(&folder, Settings::default());
    assert_eq!(loaded.records, []);
}

#[test]
fn a_second_broken_file_does_not_overwrite_the_first() {
    let folder = folder("aside");
    let mut names = Vec::new();
    for content in ["one", "two"] {
        std::fs::write(folder.join(FILE_NAME), content).unwrap();
        names.push(move_aside(&folder.join(FILE_NAME)).unwrap());
    }
    let contents: Vec<_> =
        names.iter().map(|name| std::fs::read_to_string(name).unwrap()).collect();
    assert_eq!(contents, ["one", "two"]);
}

#[test]
fn a_closed_store_is_one_file() {
    let folder = folder("closed");
    write_some(&folder, 500);
    assert!(!folder.join(format!("{FILE_NAME}-wal")).exists(), "all of it is in the file itself");
    assert!(std::fs::metadata(folder.join(FILE_NAME)).unwrap().len() > 100_000);
}

#[test]
fn a_page_that_was_overwritten_is_found_when_the_file_is_opened() {
    let folder = folder("page");
    let path = folder.join(FILE_NAME);
    write_some(&folder, 500);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4_096).skip(2) {
        page[..64].fill(0xff);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Broken { .. }), "{error}");
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let folder = folder("foreign");
    let path = folder.join(FILE_NAME);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE contacts (name TEXT)").unwrap();
    drop(other);
    let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn a_file_of_a_newer_program_is_refused() {
    let folder = folder("newer");
    write_some(&folder, 1);
    let file = rusqlite::Connection::open(folder.join(FILE_NAME)).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("has version 99; this program knows up to"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = folder("no");
    let file = folder.join("file");
    std::fs::write(&file, "").unwrap();
    let error = Store::open(&file, Settings::default(), |_| {}).unwrap_err();
    assert!(error.to_string().starts_with(file.to_str().unwrap()), "{error}");
}

#[test]
fn of_a_half_written_log_the_whole_entries_before_the_break_are_there() {
    let source = folder("wal");
    let (store, _, mut wait) = open(&source, Settings::default());
    // One entry a transaction, so that the log ends in many different places.
    for n in 1..=30 {
        let text = n.to_string();
        let ops = vec![hot("h", &text), table("t", &text), log(&text, "x")];
        store.write(entry(1, Seat::Master, n, ops), true, n).unwrap();
        wait.stored(n);
    }
    let wal = std::fs::read(source.join(format!("{FILE_NAME}-wal"))).unwrap();
    let database = std::fs::read(source.join(FILE_NAME)).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in (0..wal.len()).step_by(wal.len() / 97).chain([wal.len()]) {
        let copy = folder("wal-cut");
        std::fs::write(copy.join(FILE_NAME), &database).unwrap();
        std::fs::write(copy.join(format!("{FILE_NAME}-wal")), &wal[..cut]).unwrap();
        let (store, loaded, _wait) = open(&copy, Settings::default());
        let last = loaded.known.latest().map_or(0, |stamp| stamp.seq.0);
        let logs = store.reader().unwrap().log(b"", usize::MAX, None).unwrap();
        assert_eq!(logs.len() as u64, last);
        assert_eq!(loaded.records.len(), if last == 0 { 0 } else { 2 });
        for record in &loaded.records {
            assert_eq!(record.stamp, stamp(1, Seat::Master, last));
        }
        seen.insert(last);
    }
    assert!(seen.len() > 20 && seen.contains(&30) && seen.contains(&0), "{seen:?}");
}

#[test]
fn a_full_disk_is_reported_and_everything_is_written_when_there_is_room_again() {
    let folder = folder("full");
    let room = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(40));
    let settings = Settings { pages_max: Some(room.clone()), ..Settings::default() };
    let (store, _, mut wait) = open(&folder, settings);
    let body = "x".repeat(2_000);
    let mut ticket = 0;
    let what = loop {
        ticket += 1;
        let ops = vec![log(&format!("{ticket:04}"), &body)];
        store.write(entry(1, Seat::Master, ticket, ops), true, ticket).unwrap();
        let event = wait.next();
        if let StoreEvent::Failing { ticket: tried, what } = event {
            assert_eq!(tried, ticket);
            break what;
        }
        assert_eq!(event, StoreEvent::Stored { ticket });
    };
    assert!(what.contains("full"), "{what}");
    let reader = store.reader().unwrap();
    assert_eq!(reader.log(b"", usize::MAX, None).unwrap().len() as u64, ticket - 1);
    for _ in 0..3 {
        ticket += 1;
        let ops = vec![log(&format!("{ticket:04}"), &body)];
        store.write(entry(1, Seat::Master, ticket, ops), true, ticket).unwrap();
    }
    room.store(1_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(wait.next(), StoreEvent::Recovered);
    wait.stored(ticket);
    assert_eq!(reader.log(b"", usize::MAX, None).unwrap().len() as u64, ticket);
}

#[test]
fn a_full_queue_drops_hot_writes_first_and_refuses_what_is_durable_last() {
    let folder = folder("queue");
    let room = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    let settings =
        Settings { pages_max: Some(room.clone()), queue_bytes_max: 100_000, ..Settings::default() };
    let (store, _, mut wait) = open(&folder, settings);
    // The file cannot grow at all: this one is tried again and again.
    store.write(entry(1, Seat::Master, 1, vec![log("0001", &"x".repeat(9_000))]), true, 1).unwrap();
    assert!(matches!(wait.next(), StoreEvent::Failing { ticket: 1, .. }));
    let body = "x".repeat(1_000);
    let mut ticket = 1;
    let mut durable = vec![1];
    // Half hot, half durable, until nothing is taken any more.
    let refused_at = loop {
        ticket += 1;
        let key = format!("{ticket:04}");
        let is_hot = ticket % 2 == 0;
        let op = if is_hot { hot(&key, &body) } else { log(&key, &body) };
        match store.write(entry(1, Seat::Master, ticket, vec![op]), !is_hot, ticket) {
            Ok(()) if is_hot => {}
            Ok(()) => durable.push(ticket),
            Err(Refused) => break ticket,
        }
    };
    let bytes = durable.len() * 1_000;
    assert!((70_000..100_000).contains(&bytes), "durable writes fill the queue: {bytes}");
    // One report by the writer, one for the first refusal, in whatever order.
    let refusal = StoreEvent::Failing { ticket: refused_at, what: Refused.to_string() };
    let reports = [wait.next(), wait.next()];
    assert!(reports.contains(&refusal), "{reports:?}");
    assert!(reports.iter().any(|r| matches!(r, StoreEvent::Dropped { writes } if *writes > 20)));
    let again = entry(1, Seat::Master, refused_at, vec![log("again", &body)]);
    assert_eq!(store.write(again, true, refused_at), Err(Refused));

    room.store(1_000, std::sync::atomic::Ordering::Relaxed);
    wait.stored(*durable.last().unwrap());
    let reader = store.reader().unwrap();
    let stored = reader.log(b"", usize::MAX, None).unwrap();
    let mut stored: Vec<u64> = stored.iter().map(|record| record.stamp.seq.0).collect();
    stored.reverse();
    assert_eq!(stored, durable, "nothing durable was lost");
    let count = |event| wait.seen.iter().filter(|seen| **seen == event).count();
    assert_eq!((count(refusal), count(StoreEvent::Recovered)), (1, 1));

    // What was dropped must not be claimed as known, by the entries behind it or by new ones ...
    let mut known = Known::new();
    known.learn(stamp(1, Seat::Master, 1));
    assert_eq!(reader.known().unwrap(), known);
    let next = refused_at + 1;
    store.write(entry(1, Seat::Master, next, vec![log("next", "x")]), true, next).unwrap();
    wait.stored(next);
    assert_eq!(reader.known().unwrap(), known);
    // ... nor because somebody says so: nobody has what was refused in memory, to write it anew ...
    let mut told = known.clone();
    told.learn(stamp(1, Seat::Master, next));
    store.write(Write::Learn(told.clone()), true, next + 1).unwrap();
    wait.stored(next + 1);
    assert_eq!(reader.known().unwrap(), known);
    // ... until the next catch-up has brought it.
    drop((reader, store));
    let (store, loaded, mut wait) = open(&folder, Settings::default());
    assert_eq!(loaded.known, known);
    store.write(Write::Learn(told.clone()), true, 1).unwrap();
    wait.stored(1);
    assert_eq!(store.reader().unwrap().known().unwrap(), told);
}

#[test]
fn what_was_dropped_of_hot_writes_is_known_again_when_somebody_says_so() {
    let folder = folder("heal");
    let room = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    let settings =
        Settings { pages_max: Some(room.clone()), queue_bytes_max: 100_000, ..Settings::default() };
    let (store, _, mut wait) = open(&folder, settings);
    store.write(entry(1, Seat::Master, 1, vec![log("0001", &"x".repeat(9_000))]), true, 1).unwrap();
    assert!(matches!(wait.next(), StoreEvent::Failing { ticket: 1, .. }));
    let body = "x".repeat(1_000);
    let last = 300;
    for ticket in 2..=last {
        let op = hot(&format!("{ticket:04}"), &body);
        store.write(entry(1, Seat::Master, ticket, vec![op]), false, ticket).unwrap();
    }
    room.store(1_000, std::sync::atomic::Ordering::Relaxed);
    wait.stored(last);
    assert!(wait.seen.iter().any(|seen| matches!(seen, StoreEvent::Dropped { .. })));
    let reader = store.reader().unwrap();
    let all = stamp(1, Seat::Master, last);
    assert!(!reader.known().unwrap().covers(all));
    let mut known = Known::new();
    known.learn(all);
    store.write(Write::Learn(known.clone()), true, last + 1).unwrap();
    wait.stored(last + 1);
    assert_eq!(reader.known().unwrap(), known);
    store.write(entry(1, Seat::Master, last + 1, vec![log("on", "x")]), true, last + 2).unwrap();
    wait.stored(last + 2);
    assert!(reader.known().unwrap().covers(stamp(1, Seat::Master, last + 1)));
}

/// It says what is known and holds nothing itself: what comes after it is learned all the same.
#[test]
fn a_word_about_what_is_known_that_found_no_room_is_no_loss() {
    let folder = folder("word");
    let room = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    // Just these find room.
    let (last, body) = (4, "x".repeat(9_000));
    let queue_bytes_max = 4 * (2 * 96 + "0001".len() + body.len());
    let pages_max = Some(room.clone());
    let (store, _, mut wait) =
        open(&folder, Settings { pages_max, queue_bytes_max, ..Settings::default() });
    let durable = |ticket: u64| {
        let op = log(&format!("{ticket:04}"), &body);
        store.write(entry(1, Seat::Master, ticket, vec![op]), true, ticket)
    };
    durable(1).unwrap();
    assert!(matches!(wait.next(), StoreEvent::Failing { ticket: 1, .. }));
    assert!((2..=last).all(|ticket| durable(ticket).is_ok()));
    let mut known = Known::new();
    known.learn(stamp(1, Seat::Standby, 7));
    assert_eq!(store.write(Write::Learn(known.clone()), true, last + 1), Err(Refused));
    room.store(1_000, std::sync::atomic::Ordering::Relaxed);
    wait.stored(last);
    durable(last + 2).unwrap();
    wait.stored(last + 2);
    let found = store.reader().unwrap().known().unwrap();
    assert!(found.covers(stamp(1, Seat::Master, last + 2)), "{found:?}");
    assert!(!found.covers(stamp(1, Seat::Standby, 7)), "nobody heard it");
}

#[test]
fn a_store_that_is_dropped_while_the_disk_is_full_ends() {
    let folder = folder("drop");
    let room = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    let settings = Settings { pages_max: Some(room), ..Settings::default() };
    let (store, _, mut wait) = open(&folder, settings);
    store.write(entry(1, Seat::Master, 1, vec![log("1", &"x".repeat(9_000))]), true, 1).unwrap();
    assert!(matches!(wait.next(), StoreEvent::Failing { .. }));
    drop(store);
    let (_store, loaded, _wait) = open(&folder, Settings::default());
    assert_eq!(loaded.known, Known::new());
}

fn write_some(folder: &Path, entries: u64) {
    let (store, _, mut wait) = open(folder, Settings::default());
    for n in 1..=entries {
        let ops = vec![log(&n.to_string(), &"x".repeat(200))];
        store.write(entry(1, Seat::Master, n, ops), false, n).unwrap();
    }
    wait.stored(entries);
}
