//! Bytes of a record that change on the disk are noticed when it is read; it is set aside, and fetched again from the
//! twin.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::path::Path;

use common::{Wait, entry, folder, hot, log, open, stamp, write_version_1};
use rusqlite::Connection;
use tandem_faultfs::{Disk, Files};
use tandem_journal::{Class, Cursor, Known, Record, Write};
use tandem_store::{
    FILE_NAME, OpenError, Reader, Settings, Store, StoreEvent, WallClock, move_aside,
};
use tandem_types::{Dice, Seat};

/// Entries that a file has, each with a call and its record.
const ENTRIES: u64 = 40;

fn fill(folder: &Path) {
    let (store, _, mut wait) = open(folder, Settings::default());
    for n in 1..=ENTRIES {
        let text = format!("{n:04}");
        let ops =
            vec![hot(&format!("call/{text}"), &"h".repeat(300)), log(&text, &"r".repeat(600))];
        store.write(entry(1, Seat::Master, n, ops), true, n).unwrap();
    }
    wait.stored(ENTRIES);
}

/// Changes a file behind its checksums.
fn tamper(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

fn all_logs(reader: &Reader) -> Vec<Record> {
    let mut after = Cursor(None);
    let mut all = Vec::new();
    loop {
        let (records, next) = reader.lacking(&Known::new(), &after).unwrap();
        all.extend(records);
        match next {
            Some(next) => after = next,
            None => return all,
        }
    }
}

fn damaged(wait: &mut Wait) -> Vec<Vec<u8>> {
    loop {
        if let StoreEvent::Damaged { records } = wait.next() {
            return records.into_iter().map(|one| one.key).collect();
        }
    }
}

/// What the twin sends of a catch-up to one that knows so much.
fn catch_up(twin: &Store, wait: &mut Wait, ours: &Known) -> Vec<Record> {
    twin.fetch(ours.clone(), Cursor(None), 1);
    wait.fetched(1).0
}

#[test]
fn a_record_that_changed_on_the_disk_is_not_read_and_comes_again_from_the_twin() {
    for change in [
        "UPDATE log_record SET body = substr(body, 2) WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET written = written - 1 WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET ends = 0 WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET body = NULL WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET sum = NULL WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET sum = sum + 1 WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET seq = 18 WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET reign = 7 WHERE key = CAST('0017' AS BLOB)",
        "UPDATE log_record SET key = CAST('another' AS BLOB) WHERE key = CAST('0017' AS BLOB)",
    ] {
        let (ours, twins) = (folder("changed"), folder("changed-twin"));
        fill(&ours);
        fill(&twins);
        tamper(&ours, change);
        let (store, loaded, mut wait) = open(&ours, Settings::default());
        assert_eq!(loaded.known.latest().unwrap().seq.0, ENTRIES, "not noticed yet");
        store.fetch(Known::new(), Cursor(None), 1);
        let (records, next) = wait.fetched(1);
        assert_eq!((records.len(), next), (39, None), "{change}");
        assert_eq!(damaged(&mut wait).len(), 1, "{change}");
        assert_eq!(all_logs(&store.reader().unwrap()).len(), 39, "it is out of the way");
        drop(store);
        // The next start knows that it does not know, and the catch-up refills it.
        let (store, loaded, mut wait) = open(&ours, Settings::default());
        let known = loaded.known.latest().unwrap().seq.0;
        assert!(known < 17, "{change}: {known}");
        let (twin, _, mut twin_wait) = open(&twins, Settings::default());
        let records = catch_up(&twin, &mut twin_wait, &loaded.known);
        store.write(Write::Records(records), true, 1).unwrap();
        let mut all = Known::new();
        all.learn(stamp(1, Seat::Master, ENTRIES));
        store.write(Write::Learn(all.clone()), true, 2).unwrap();
        wait.stored(2);
        let (have, want) = (all_logs(&store.reader().unwrap()), all_logs(&twin.reader().unwrap()));
        let plain = |records: &[Record]| -> Vec<_> {
            records.iter().map(|one| (one.key.clone(), one.stamp, one.body.clone())).collect()
        };
        assert_eq!(plain(&have), plain(&want), "{change}");
        drop(store);
        let (_store, loaded, _wait) = open(&ours, Settings::default());
        assert_eq!((loaded.known, loaded.damaged), (all, vec![]), "{change}: the doubt is over");
    }
}

#[test]
fn a_call_that_changed_on_the_disk_is_not_loaded_as_garbage() {
    let folder = folder("call");
    fill(&folder);
    tamper(
        &folder,
        "UPDATE hot_record SET body = zeroblob(300) WHERE key = CAST('call/0030' AS BLOB)",
    );
    let (_store, loaded, _wait) = open(&folder, Settings::default());
    assert_eq!(loaded.records.len(), 39);
    assert_eq!(loaded.damaged.len(), 1);
    assert_eq!(loaded.damaged[0].key, b"call/0030");
    assert_eq!(loaded.known.latest().unwrap().seq.0, 29, "and it is not claimed");
}

#[test]
fn what_was_found_in_this_life_is_in_doubt_until_the_next_whatever_is_learned() {
    let folder = folder("doubt");
    fill(&folder);
    tamper(&folder, "UPDATE log_record SET written = 5 WHERE key = CAST('0009' AS BLOB)");
    let (store, loaded, mut wait) = open(&folder, Settings::default());
    store.look(b"0009".to_vec());
    assert_eq!(wait.looked(), (b"0009".to_vec(), false));
    damaged(&mut wait);
    // The caller has not heard of it and goes on.
    store.write(Write::Learn(loaded.known), true, 1).unwrap();
    wait.stored(1);
    drop(store);
    let (_store, loaded, _wait) = open(&folder, Settings::default());
    assert_eq!(loaded.known.latest().unwrap().seq.0, 8);
}

#[test]
fn a_whole_page_of_damaged_records_hides_none_behind_it() {
    let folder = folder("many");
    let (store, _, mut wait) = open(&folder, Settings::default());
    let count = 1_500;
    for n in 1..=count {
        store
            .write(entry(1, Seat::Master, n, vec![log(&format!("{n:06}"), "x")]), false, n)
            .unwrap();
    }
    wait.stored(count);
    drop(store);
    let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
    connection.execute("UPDATE log_record SET written = 1 WHERE seq % 10 <> 0", []).unwrap();
    drop(connection);
    let reader = Reader::open(&folder, WallClock::system()).unwrap();
    assert_eq!(all_logs(&reader).len(), 150);
    assert_eq!(reader.take_damaged().len(), 1_350, "each once");
    assert_eq!(reader.log(b"", 1_000, None).unwrap().len(), 150);
    assert_eq!(reader.check_records().unwrap(), 1_500);
    assert_eq!(reader.take_damaged().len(), 1_350);
}

/// Every record that was there, by key; and what says that it is not as it was.
fn look(folder: &Path) -> Result<(Vec<Record>, usize), OpenError> {
    let (store, loaded, mut wait) = {
        let (report, events) = std::sync::mpsc::channel();
        let (store, loaded) = Store::open(folder, Settings::default(), move |event| {
            let _ = report.send(event);
        })?;
        (store, loaded, events)
    };
    let _ = &mut wait;
    let reader = store.reader().unwrap();
    let mut records = loaded.records;
    // A page whose form is broken is an error of its own.
    let counted = reader.check_records();
    let mut wrong =
        loaded.damaged.len() + reader.take_damaged().len() + usize::from(counted.is_err());
    match reader.all(Class::Log) {
        Ok(logs) => records.extend(logs),
        Err(_) => wrong += 1,
    }
    Ok((records, wrong))
}

fn plain(records: &[Record]) -> Vec<(Class, Vec<u8>, Option<Vec<u8>>)> {
    let mut plain: Vec<_> =
        records.iter().map(|one| (one.class, one.key.clone(), one.body.clone())).collect();
    plain.sort();
    plain
}

#[test]
fn every_bit_that_flips_is_found_or_means_nothing_and_costs_no_record_of_another_page() {
    let ground = folder("flip");
    let disk = Disk::mount(&ground, Files::default());
    fill(&ground);
    let (records, wrong) = look(&ground).unwrap();
    assert_eq!((records.len(), wrong), (80, 0));
    let want = plain(&records);
    let files = disk.moment().killed(0);
    drop(disk);
    let bytes = files.bytes(FILE_NAME).unwrap().to_vec();
    let mut dice = Dice::from_number(11);
    let (mut opening, mut reading, mut nothing, mut kept) = (0, 0, 0, 0);
    for _ in 0..400 {
        let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
        let bit = dice.below(8);
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let mut files = Files::default();
        files.set(FILE_NAME, flipped);
        let ground = folder("flip-one");
        let _disk = Disk::mount(&ground, files);
        match look(&ground) {
            Err(error) => {
                assert!(error.to_string().contains(FILE_NAME), "{error}");
                opening += 1;
                // The server does not start on it; who reads the records gets those that are whole.
                let logs = Reader::open(&ground, WallClock::system())
                    .and_then(|reader| reader.all(Class::Log));
                kept += usize::from(logs.is_ok_and(|logs| logs.len() == 40));
            }
            Ok((records, 0)) => {
                assert!(plain(&records) == want, "bit {bit} of {at}");
                nothing += 1;
            }
            Ok((records, _)) => {
                let had = plain(&records);
                assert!(had.iter().all(|one| want.contains(one)), "bit {bit} of {at}");
                reading += 1;
            }
        }
    }
    println!(
        "{opening} found when it is opened ({kept} of them with every call record readable), {reading} by \
         checksums, {nothing} mean nothing"
    );
    assert!(reading > 150 && opening > 10 && nothing > 10);
}

#[test]
fn damage_to_pages_of_calls_costs_no_call_record() {
    let (ours, twins) = (folder("hot"), folder("hot-twin"));
    fill(&ours);
    fill(&twins);
    // All pages of the table of calls are overwritten.
    let connection = Connection::open(ours.join(FILE_NAME)).unwrap();
    let pages: Vec<u64> = connection
        .prepare("SELECT pageno FROM dbstat WHERE name = 'hot_record'")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| row.get::<_, i64>(0))?
                .map(|page| page.map(i64::cast_unsigned))
                .collect()
        })
        .unwrap_or_else(|_| root_page(&connection));
    assert!(!pages.is_empty());
    drop(connection);
    let path = ours.join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in pages {
        let at = usize::try_from((page - 1) * 4_096).unwrap();
        bytes[at..at + 4_096].fill(0xa5);
    }
    std::fs::write(&path, &bytes).unwrap();
    let error = Store::open(&ours, Settings::default(), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Broken { .. }), "{error}");
    // What the command line reads is all there, before anything is mended.
    let reader = Reader::open(&ours, WallClock::system()).unwrap();
    assert_eq!(reader.log(b"", 1_000, None).unwrap().len(), 40);
    drop(reader);
    // A new file takes over what the old one still has, and the twin sends what it has beyond that.
    let aside = move_aside(&path).unwrap();
    let (store, loaded, mut wait) = open(&ours, Settings::default());
    assert_eq!(loaded.known, Known::new());
    let (twin, _, mut twin_wait) = open(&twins, Settings::default());
    let records = catch_up(&twin, &mut twin_wait, &loaded.known);
    store.write(Write::Records(records), true, 1).unwrap();
    wait.stored(1);
    assert_eq!(all_logs(&store.reader().unwrap()).len(), 40);
    assert!(aside.exists());
}

fn root_page(connection: &Connection) -> Vec<u64> {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'hot_record'";
    let page: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    vec![page.cast_unsigned()]
}

#[test]
fn a_file_of_the_version_before_gets_its_checksums_and_is_like_a_new_one() {
    let folder = folder("before");
    write_version_1(&folder, 3_000);
    let error = Reader::open(&folder, WallClock::system()).unwrap_err();
    assert!(error.to_string().contains("older version"), "{error}");
    assert!(!error.mark(), "it is no damage");
    let end_of = |_: &[u8], body: &[u8]| std::str::from_utf8(body).ok()?.parse().ok();
    let (store, loaded, _wait) = open(&folder, Settings { end_of, ..Settings::default() });
    assert_eq!((loaded.records.len(), loaded.damaged.len()), (2, 0));
    assert_eq!(loaded.known.latest().unwrap().seq.0, 3_000);
    let reader = store.reader().unwrap();
    assert_eq!(reader.check_records().unwrap(), 3_002);
    assert_eq!(reader.take_damaged(), vec![]);
    assert_eq!(all_logs(&reader).len(), 3_000);
    // What was released is never edited: a new file has the same tables.
    let new = self::folder("before-new");
    drop(open(&new, Settings::default()));
    assert_eq!(layout(&folder), layout(&new));
}

/// Every table and index, without the white space of their text.
fn layout(folder: &Path) -> Vec<String> {
    let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
    let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let tables = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let tables: Vec<String> =
        tables.map(|sql| sql.unwrap().split_whitespace().collect::<String>()).collect();
    assert!(tables.len() > 8, "{tables:?}");
    tables
}
