//! The real SQLite on the disk: what it promises holds here, and what it does not promise is lost here.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use tandem_faultfs::{Disk, Error, Failure, Files, On};

const NAME: &str = "some.db";

fn disk(name: &str, files: Files) -> Disk {
    Disk::mount(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), files)
}

fn open(disk: &Disk, synchronous: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(disk.folder().join(NAME))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text TEXT)")?;
    Ok(connection)
}

fn insert(connection: &Connection, n: i64) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO t VALUES (?1, ?2)", (n, "x".repeat(700)))
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// Writes and checkpoints; then cuts the power at every moment. How many rows were lost that a commit
/// had promised, and how many files were damaged.
fn rows_lost(name: &str, synchronous: &str) -> (i64, u64) {
    let disk = disk(name, Files::default());
    let connection = open(&disk, synchronous).unwrap();
    disk.record();
    let mut promised = Vec::new();
    for n in 0..40 {
        insert(&connection, n).unwrap();
        promised.push(disk.now());
        if n % 10 == 9 {
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        }
    }
    drop(connection);
    assert_eq!(disk.open(), 0);
    let moments = disk.moments();
    assert!(moments.len() > 100, "{}", moments.len());
    let (mut lost, mut damaged) = (0, 0);
    for (at, moment) in moments.iter().enumerate() {
        let wanted = promised.iter().filter(|done| **done <= at).count() as i64;
        let killed = self::disk(&format!("{name}-killed"), moment.killed(at as u64));
        assert!(count(&open(&killed, synchronous).unwrap()) >= wanted, "kill -9 in {at}");
        let cut = self::disk(&format!("{name}-cut"), moment.power_cut(at as u64));
        let found = open(&cut, synchronous).and_then(|connection| {
            let sql = "PRAGMA integrity_check(1)";
            let verdict: String = connection.query_row(sql, [], |row| row.get(0))?;
            Ok((verdict == "ok").then(|| count(&connection)))
        });
        match found {
            Ok(Some(found)) => lost += (wanted - found).max(0),
            Ok(None) | Err(_) => damaged += 1,
        }
    }
    (lost, damaged)
}

#[test]
fn a_power_cut_takes_nothing_that_sqlite_has_synced() {
    assert_eq!(rows_lost("full", "FULL"), (0, 0));
}

#[test]
fn a_power_cut_takes_rows_of_who_syncs_late_and_leaves_the_file_whole() {
    let (lost, damaged) = rows_lost("normal", "NORMAL");
    assert!(lost > 20 && damaged == 0, "{lost} {damaged}");
}

#[test]
fn a_power_cut_breaks_the_file_of_who_never_syncs() {
    let (lost, damaged) = rows_lost("off", "OFF");
    assert!(lost > 20 && damaged > 0, "{lost} {damaged}");
}

#[test]
fn two_connections_see_each_other_and_one_writes_at_a_time() {
    let disk = disk("two", Files::default());
    let (one, other) = (open(&disk, "FULL").unwrap(), open(&disk, "FULL").unwrap());
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    insert(&one, 1).unwrap();
    assert_eq!(count(&other), 1);
    one.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(&one, 2).unwrap();
    assert_eq!(count(&other), 1);
    let refused = insert(&other, 3).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    one.execute_batch("COMMIT").unwrap();
    insert(&other, 3).unwrap();
    assert_eq!(count(&one), 3);
    drop((one, other));
    let files = disk.moment().killed(0);
    assert_eq!(files.names().collect::<Vec<_>>(), [NAME], "the last one leaves one file");
}

#[test]
fn calls_fail_as_they_are_told_to() {
    let disk = disk("fail", Files::default());
    let connection = open(&disk, "FULL").unwrap();
    for (n, on) in [(1, On::Write), (2, On::Sync)] {
        disk.fail(Failure { on, after: 0, times: 1, error: Error::Io });
        let failed = insert(&connection, n).unwrap_err();
        assert_eq!(failed.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
        assert_eq!(disk.heal(), 0);
        insert(&connection, n).unwrap();
    }
    disk.room(Some(disk.length() + 100));
    let full = insert(&connection, 10).unwrap_err();
    assert_eq!(full.sqlite_error_code(), Some(ErrorCode::DiskFull));
    disk.room(None);
    insert(&connection, 10).unwrap();
    drop(connection);
    disk.fail(Failure { on: On::Read, after: 0, times: 1_000, error: Error::Io });
    let unread = open(&disk, "FULL").unwrap_err();
    assert_eq!(unread.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    assert!(disk.heal() == 1 && disk.reads() > 0);
    assert_eq!(count(&open(&disk, "FULL").unwrap()), 3);
}

#[test]
fn files_elsewhere_are_on_the_usual_file_system() {
    let _disk = disk("elsewhere", Files::default());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.db", std::process::id()));
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE t (n)").unwrap();
    drop(connection);
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    std::fs::remove_file(&path).unwrap();
}
