//! Tables on a disk that is full, that fails, and whose bits flip.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod ground;

use ground::{Break, Script, assert_equal, by, converge, disk, folder, memory, open, print, setup};
use tandem_faultfs::{Disk, Error, Failure, Files, On};
use tandem_oplog::Origin;
use tandem_store::tables::{ChangeError, Setup, Tables};
use tandem_store::{OpenError, move_aside};
use tandem_types::Dice;

fn insert(n: u64) -> String {
    format!("INSERT INTO item (id, one, two) VALUES ({n}, {n}, '{}')", "text ".repeat(300))
}

/// Changes of two ops each. Those that fail are tried again until they pass; meanwhile memory says what
/// the disk says. How many failed.
fn write(disk: &Disk, tables: &mut Tables, ids: std::ops::Range<u64>) -> usize {
    let mut failed = 0;
    for n in ids {
        let before = print(tables);
        for tries in 0.. {
            assert!(tries < 10, "it never passes");
            let mut both = || {
                let mut batch = tables.begin()?;
                for sql in [insert(n), format!("UPDATE item SET one = one + 1 WHERE id = {n}")] {
                    match batch.change(&by(1_000 + n), |c| c.execute_batch(&sql)) {
                        Ok(_) => {}
                        Err(ChangeError::Disk(error) | ChangeError::Refused(error)) => {
                            return Err(error);
                        }
                        Err(ChangeError::Unfit(what)) => panic!("{what}"),
                    }
                }
                batch.commit()
            };
            match both() {
                Ok(_) => break,
                Err(_) => {
                    failed += 1;
                    if tries > 1 {
                        disk.room(None);
                    }
                    assert_eq!(print(tables), before, "memory says what the disk says");
                }
            }
        }
    }
    failed
}

#[test]
fn after_an_error_of_the_disk_memory_says_what_the_disk_says_and_the_next_commit_stays() {
    let mut failed = 0;
    for (on, error) in [
        (On::Write, Error::Io),
        (On::Write, Error::Full),
        (On::Sync, Error::Io),
        (On::Sync, Error::IoAndForgotten),
    ] {
        for after in 0..24 {
            let ground = disk("fails", Files::default());
            ground.0.seed(after);
            let mut tables = open(&ground.0).unwrap();
            tables.reader().pragma_update(None, "wal_autocheckpoint", 15).unwrap();
            ground.0.fail(Failure { on, after, times: 1 + after % 2, error });
            failed += write(&ground.0, &mut tables, 0..8);
            if ground.0.heal() > 0 {
                assert!(after > 10, "{on:?} {after} never came");
                break;
            }
            let shown = print(&tables);
            let cut = disk("fails-cut", ground.0.moment().power_cut(after));
            assert_eq!(print(&open(&cut.0).unwrap()), shown, "{on:?} {error:?} {after}");
            ground::assert_follows_from_log(&tables);
        }
    }
    assert!(failed > 60, "{failed}");
}

#[test]
fn a_commit_that_failed_is_there_as_a_whole_or_not_at_all_after_the_next_start() {
    let mut there = 0;
    for seed in 0..40 {
        let ground = disk("doubt", Files::default());
        let mut tables = open(&ground.0).unwrap();
        write(&ground.0, &mut tables, 0..2);
        let before = print(&tables);
        ground.0.fail(Failure { on: On::Sync, after: 0, times: 1, error: Error::Io });
        let failed = tables.change(&by(5_000), |c| c.execute_batch(&insert(7)));
        assert!(matches!(failed, Err(ChangeError::Disk(_))));
        assert_eq!(print(&tables), before);
        for files in [ground.0.moment().killed(seed), ground.0.moment().power_cut(seed)] {
            let again = disk("doubt-again", files);
            let found = open(&again.0).unwrap();
            ground::assert_follows_from_log(&found);
            if print(&found) == before {
                continue;
            }
            assert_eq!(found.seen().up_to(found.me()), tables.seen().up_to(tables.me()) + 1);
            there += 1;
        }
    }
    assert!(there > 10, "nobody can know: {there}");
}

#[test]
fn a_full_disk_refuses_and_takes_the_same_change_when_there_is_room() {
    let ground = disk("room", Files::default());
    let mut tables = open(&ground.0).unwrap();
    for room in [100, 5_000, 9_000, 20_000] {
        ground.0.room(Some(ground.0.length() + room));
        let first = 100 * room as u64;
        assert!(write(&ground.0, &mut tables, first..first + 8) > 0, "{room} were enough");
        ground.0.room(None);
    }
    ground::assert_follows_from_log(&tables);
    let shown = print(&tables);
    let cut = disk("room-cut", ground.0.moment().power_cut(1));
    assert_eq!(print(&open(&cut.0).unwrap()), shown);
}

#[test]
fn what_is_there_is_opened_on_a_full_disk_too_and_is_durable() {
    let ground = disk("full-start", Files::default());
    let mut tables = open(&ground.0).unwrap();
    write(&ground.0, &mut tables, 0..20);
    let shown = print(&tables);
    let full = disk("full-start-again", ground.0.moment().killed(0));
    full.0.room(Some(full.0.length()));
    let mut found = open(&full.0).unwrap();
    assert_eq!(print(&found), shown);
    assert!(found.change(&by(9_000), |c| c.execute_batch(&insert(100))).is_err(), "it is full");
    assert_eq!(print(&found), shown);
    let cut = disk("full-start-cut", full.0.moment().power_cut(1));
    assert_eq!(print(&open(&cut.0).unwrap()), shown);
    full.0.room(None);
    write(&full.0, &mut found, 100..102);
}

#[test]
fn a_batch_whose_transaction_is_gone_writes_nothing_more() {
    let ground = disk("gone", Files::default());
    let mut tables = open(&ground.0).unwrap();
    write(&ground.0, &mut tables, 0..60);
    drop(tables);
    let mut tables = open(&ground.0).unwrap();
    tables.reader().pragma_update(None, "cache_size", 5).unwrap();
    let before = print(&tables);
    let mut batch = tables.begin().unwrap();
    batch.change(&by(9_000), |c| c.execute_batch(&insert(100))).unwrap();
    ground.0.fail(Failure { on: On::Read, after: 0, times: 1, error: Error::Io });
    let sql = "UPDATE item SET one = one + 1";
    let failed = batch.change(&by(9_001), |c| c.execute_batch(sql)).unwrap_err();
    assert!(failed.to_string().contains("disk I/O error"), "its own reason: {failed}");
    assert_eq!(ground.0.heal(), 0);
    // SQLite has rolled back the first change as well: the third must not be committed alone.
    let third = batch.change(&by(9_002), |c| c.execute_batch(&insert(102)));
    assert!(matches!(third, Err(ChangeError::Disk(_))));
    assert!(batch.commit().is_err());
    assert_eq!(print(&tables), before);
    write(&ground.0, &mut tables, 100..102);
    ground::assert_follows_from_log(&tables);
}

#[test]
fn the_log_of_sqlite_is_begun_anew_while_the_file_stays_open() {
    let ground = disk("long", Files::default());
    let mut tables = open(&ground.0).unwrap();
    write(&ground.0, &mut tables, 0..400);
    let log = ground.0.moment().killed(0).bytes("config.db-wal").unwrap().len();
    assert!(log < 1_100 * 4_120, "{log}");
}

/// As [`print`], without what is said in one place only: who we are, and the latest stamp of all.
fn content(tables: &Tables) -> String {
    let text = print(tables);
    let lines = text.lines().skip(1).filter(|line| !line.starts_with("state "));
    // When an op came here has no checksum: it differs between the servers, is shown to nobody, and decides only
    // when the op is forgotten. It stands behind the chain.
    let without_came = |line: &str| match line.split_once("]), Integer(") {
        Some((before, after)) if line.starts_with("op_log ") => {
            before.to_owned() + after.trim_start_matches(|digit: char| digit.is_ascii_digit())
        }
        Some(_) | None => line.to_owned(),
    };
    lines.map(without_came).collect()
}

#[test]
fn every_bit_that_flips_is_found_or_means_nothing() {
    let ground = disk("flip", Files::default());
    let mut script = Script::new(&ground.0, Break::Nothing);
    script.run();
    assert_eq!(script.tables.faults().unwrap(), Vec::<String>::new());
    let shown = content(&script.tables);
    drop(script);
    let files = ground.0.moment().killed(0);
    let bytes = files.bytes(ground::FILE).unwrap();
    let mut dice = Dice::from_number(4);
    let (mut opening, mut reading, mut nothing) = (0, 0, 0);
    for _ in 0..450 {
        let (at, bit) = (dice.below(bytes.len() as u64), dice.below(8));
        let at = usize::try_from(at).unwrap();
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << bit;
        let mut files = Files::default();
        files.set(ground::FILE, flipped);
        let broken = disk("flip-one", files);
        match open(&broken.0) {
            Err(error) => {
                assert!(error.to_string().contains(ground::FILE), "{error}");
                opening += 1;
            }
            Ok(tables) => match tables.faults() {
                Ok(faults) if faults.is_empty() => {
                    assert_eq!(content(&tables), shown, "bit {bit} of {at}");
                    nothing += 1;
                }
                Ok(_) | Err(_) => reading += 1,
            },
        }
    }
    println!(
        "{opening} found when it is opened, {reading} by reading it all, {nothing} mean nothing"
    );
    assert!(opening > 10 && reading > 100, "{opening} {reading} {nothing}");
}

#[test]
fn a_damaged_file_is_named_moved_aside_and_made_anew_from_the_twin() {
    let folder = folder("aside");
    let path = folder.join(ground::FILE);
    let mut twin = memory(1);
    let mut tables = Tables::open(&path, &setup(0)).unwrap();
    for n in 0..40 {
        tables.change(&by(n), |c| c.execute_batch(&insert(n))).unwrap();
        let sql = format!("INSERT INTO item (id, one) VALUES ({n} + 1000, 1)");
        twin.change(&by(n), |c| c.execute_batch(&sql)).unwrap();
    }
    converge(&mut tables, &mut twin);
    drop(tables);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 * 4_096..2 * 4_096 + 8].fill(0x11);
    std::fs::write(&path, &bytes).unwrap();
    let error = Tables::open(&path, &setup(0)).unwrap_err();
    assert!(matches!(&error, OpenError::Broken { path: named, .. } if *named == path), "{error}");
    let start = format!("{}: the file is damaged (", path.display());
    assert!(error.to_string().starts_with(&start) && !error.to_string().contains('\n'), "{error}");
    let aside = move_aside(&path).unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), bytes, "as it was");
    // Who we are is new: the numbers of who we were are given.
    let anew = Setup { origin: Origin(77), ..setup(0) };
    let mut tables = Tables::open(&path, &anew).unwrap();
    converge(&mut tables, &mut twin);
    assert_equal(&tables, &twin, "made anew");
    assert_eq!(tables.faults().unwrap(), Vec::<String>::new());
    tables.change(&by(9_000), |c| c.execute_batch(&insert(5_000))).unwrap();
    converge(&mut tables, &mut twin);
    assert_equal(&tables, &twin, "and it goes on");
    drop(tables);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_disk_that_cannot_be_read_is_not_taken_for_a_damaged_file() {
    let ground = disk("unread", Files::default());
    let mut tables = open(&ground.0).unwrap();
    write(&ground.0, &mut tables, 0..8);
    let files = ground.0.moment().killed(0);
    drop(tables);
    let mut refused = 0;
    for after in 0.. {
        let ground = disk("unread-again", files.clone());
        ground.0.fail(Failure { on: On::Read, after, times: 1, error: Error::Io });
        let opened = open(&ground.0);
        if ground.0.heal() > 0 {
            break;
        }
        match opened {
            Err(OpenError::Unusable { .. }) => refused += 1,
            Ok(_) => {}
            Err(error) => panic!("after {after} reads: {error}"),
        }
        drop(opened);
        assert_eq!(ground::rows(&open(&ground.0).unwrap()).len(), 8);
    }
    assert!(refused > 5, "{refused}");
}
