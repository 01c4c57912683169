//! What is stored is there; what is known is never more than what is there.

mod common;

use common::{Wait, entry, folder, hot, log, record, stamp, table};
use tandem_journal::{CHUNK_RECORDS_MAX, Class, Cursor, Known, Record, Write};
use tandem_store::{OpenError, Reader, Settings, Store, StoreEvent, WallClock};
use tandem_types::{Duration, Seat};

#[test]
fn a_record_survives_with_its_stamp_and_its_age() {
    let folder = folder("age");
    let at =
        |micros| Settings { wall_clock: WallClock::new(move || micros), ..Settings::default() };
    {
        let (store, _wait) = open(&folder, at(5_000_000));
        let ops = vec![hot("call/1", "ringing"), table("user/anna", "Anna"), log("cdr/1", "x")];
        store.write(entry(1, Seat::Master, 7, ops), true, 1).unwrap();
    }
    let (_store, loaded, _wait) = common::open(&folder, at(7_500_000));
    let age = Duration::from_millis(2_500);
    let stamp = stamp(1, Seat::Master, 7);
    let want = [
        Record { age, ..record(Class::Hot, "call/1", stamp, Some("ringing")) },
        Record { age, ..record(Class::Table, "user/anna", stamp, Some("Anna")) },
    ];
    assert_eq!(loaded.records, want, "log records stay on disk");
    assert!(loaded.known.covers(stamp));
}

#[test]
fn a_wall_clock_that_was_set_back_makes_a_record_new_not_older() {
    let folder = folder("back");
    let at =
        |micros| Settings { wall_clock: WallClock::new(move || micros), ..Settings::default() };
    {
        let (store, _wait) = open(&folder, at(9_000_000));
        store.write(entry(1, Seat::Master, 1, vec![hot("call/1", "a")]), false, 1).unwrap();
    }
    let (_store, loaded, _wait) = common::open(&folder, at(1_000_000));
    assert_eq!(loaded.records[0].age, Duration::ZERO);
}

#[test]
fn a_deleted_hot_record_leaves_nothing_and_a_deleted_table_record_a_tombstone() {
    let folder = folder("deleted");
    {
        let (store, mut wait) = open(&folder, Settings::default());
        let ops = vec![hot("call/1", "a"), hot("call/2", "b"), table("user/anna", "Anna")];
        store.write(entry(1, Seat::Master, 1, ops), false, 1).unwrap();
        wait.stored(1);
        let gone = |op: tandem_journal::Op| tandem_journal::Op { body: None, ..op };
        let ops = vec![gone(hot("call/1", "")), gone(table("user/anna", ""))];
        store.write(entry(1, Seat::Master, 2, ops), true, 2).unwrap();
        store.write(Write::Forget(vec![b"call/2".to_vec()]), false, 3).unwrap();
        wait.stored(3);
        let reader = store.reader().unwrap();
        assert_eq!(reader.get(b"call/1").unwrap(), None);
        assert_eq!(reader.get(b"user/anna").unwrap().unwrap().body, None);
    }
    let (_store, loaded, _wait) = common::open(&folder, Settings::default());
    let keys: Vec<_> = loaded.records.iter().map(|record| record.key.as_slice()).collect();
    assert_eq!(keys, [b"user/anna"]);
}

#[test]
fn of_two_versions_the_later_stamp_stays_in_whatever_order_they_come() {
    for class in [Class::Hot, Class::Table, Class::Log] {
        for in_one_batch in [false, true] {
            let folder = folder("merge");
            let (store, mut wait) = open(&folder, Settings::default());
            let (old, new) = (stamp(1, Seat::Standby, 9), stamp(2, Seat::Master, 1));
            let late = record(class, "k", old, Some("old"));
            let newer = record(class, "k", new, Some("new"));
            if in_one_batch {
                store.write(Write::Records(vec![newer, late]), false, 1).unwrap();
            } else {
                store.write(Write::Records(vec![newer]), false, 0).unwrap();
                wait.stored(0);
                store.write(Write::Records(vec![late]), false, 1).unwrap();
            }
            wait.stored(1);
            let kept = store.reader().unwrap().get(b"k").unwrap().unwrap();
            assert_eq!((kept.stamp, kept.body.as_deref()), (new, Some(&b"new"[..])), "{class:?}");
        }
    }
}

#[test]
fn records_of_a_catch_up_teach_nothing_until_the_caller_says_so() {
    let folder = folder("learn");
    let (store, mut wait) = open(&folder, Settings::default());
    let at = stamp(3, Seat::Standby, 5);
    store.write(Write::Records(vec![record(Class::Log, "cdr/1", at, Some("x"))]), true, 1).unwrap();
    wait.stored(1);
    assert_eq!(store.reader().unwrap().known().unwrap(), Known::new());
    let mut known = Known::new();
    known.learn(at);
    store.write(Write::Learn(known.clone()), true, 2).unwrap();
    wait.stored(2);
    assert_eq!(store.reader().unwrap().known().unwrap(), known);
}

#[test]
fn the_log_is_read_newest_first_page_by_page() {
    let folder = folder("log");
    let (store, mut wait) = open(&folder, Settings::default());
    for n in 1..=5_u64 {
        let ops = vec![log(&format!("cdr/{n}"), "x"), log(&format!("audit/{n}"), "y")];
        store.write(entry(1, Seat::Master, n, ops), false, n).unwrap();
    }
    wait.stored(5);
    let reader = store.reader().unwrap();
    let keys = |page: &[Record]| -> Vec<String> {
        page.iter().map(|record| String::from_utf8(record.key.clone()).unwrap()).collect()
    };
    let first = reader.log(b"cdr/", 3, None).unwrap();
    assert_eq!(keys(&first), ["cdr/5", "cdr/4", "cdr/3"]);
    let second = reader.log(b"cdr/", 3, first.last()).unwrap();
    assert_eq!(keys(&second), ["cdr/2", "cdr/1"]);
    assert_eq!(reader.log(b"cdr/", 3, second.last()).unwrap(), []);
    assert_eq!(reader.log(b"", 100, None).unwrap().len(), 10);
    assert_eq!(reader.log(b"nothing", 100, None).unwrap(), []);
}

#[test]
fn a_peer_is_read_exactly_what_it_lacks() {
    let folder = folder("lacking");
    let (store, mut wait) = open(&folder, Settings::default());
    let mut ticket = 0;
    let mut want = Vec::new();
    let reigns =
        [(1, Seat::Master, 700, 300), (2, Seat::Standby, 40, 40), (3, Seat::Master, 800, 0)];
    let mut peer = Known::new();
    for (number, seat, entries, known) in reigns {
        if known > 0 {
            peer.learn(stamp(number, seat, known));
        }
        for seq in 1..=entries {
            ticket += 1;
            // Two records with one stamp: the key tells them apart.
            let keys = [format!("{number}/{seq}/a"), format!("{number}/{seq}/b")];
            let ops = keys.iter().map(|key| log(key, "x")).collect();
            store.write(entry(number, seat, seq, ops), false, ticket).unwrap();
            if seq > known {
                want.extend(keys);
            }
        }
    }
    wait.stored(ticket);
    let mut got = Vec::new();
    let mut after = Cursor(None);
    for read in 1.. {
        store.fetch(peer.clone(), after, read);
        let (records, next) = wait.fetched(read);
        assert!(records.len() <= CHUNK_RECORDS_MAX);
        got.extend(records.into_iter().map(|record| String::from_utf8(record.key).unwrap()));
        match next {
            Some(cursor) => after = cursor,
            None => break,
        }
    }
    assert_eq!(got, want);
    let reader = store.reader().unwrap();
    let all = want.len() as u64;
    for (max, count) in
        [(u64::MAX, all), (all, all), (all - 1, all - 1), (801, 801), (1, 1), (0, 0)]
    {
        assert_eq!(reader.count_lacking(&peer, max).unwrap(), count, "at most {max}");
    }
    assert_eq!(reader.count_lacking(&reader.known().unwrap(), u64::MAX).unwrap(), 0);
    assert_eq!(reader.count_lacking(&Known::new(), u64::MAX).unwrap(), ticket * 2);
}

#[test]
fn a_fetch_sees_every_write_queued_before_it() {
    let folder = folder("fetch");
    let (store, mut wait) = open(&folder, Settings::default());
    for n in 1..=200 {
        store
            .write(entry(1, Seat::Master, n, vec![log(&format!("{n:03}"), "x")]), false, n)
            .unwrap();
    }
    store.fetch(Known::new(), Cursor(None), 1);
    assert_eq!(wait.fetched(1).0.len(), 200);
}

#[test]
fn a_look_finds_what_was_queued_before_it_and_nothing_else() {
    let folder = folder("look");
    let (store, mut wait) = open(&folder, Settings::default());
    store.write(entry(1, Seat::Master, 1, vec![log("there", "x")]), false, 1).unwrap();
    store.look(b"there".to_vec());
    store.look(b"not there".to_vec());
    assert_eq!(wait.looked(), (b"there".to_vec(), true));
    assert_eq!(wait.looked(), (b"not there".to_vec(), false));
}

#[test]
fn big_log_records_come_in_frames_of_their_own() {
    let folder = folder("big");
    let (store, mut wait) = open(&folder, Settings::default());
    let body = "x".repeat(tandem_journal::CHUNK_BYTES);
    for n in 1..=3 {
        let ops = vec![log(&n.to_string(), &body)];
        store.write(entry(1, Seat::Master, n, ops), false, n).unwrap();
    }
    wait.stored(3);
    let reader = store.reader().unwrap();
    let (records, next) = reader.lacking(&Known::new(), &Cursor(None)).unwrap();
    assert_eq!(records.len(), 1);
    let (records, _) = reader.lacking(&Known::new(), &next.unwrap()).unwrap();
    assert_eq!(records[0].key, b"2");
}

#[test]
fn another_connection_reads_while_the_server_writes_and_after_it_is_gone() {
    let folder = folder("reader");
    {
        let (store, mut wait) = open(&folder, Settings::default());
        store.write(entry(1, Seat::Master, 1, vec![log("cdr/1", "x")]), true, 1).unwrap();
        wait.stored(1);
        let reader = Reader::open(&folder, WallClock::system()).unwrap();
        assert_eq!(reader.log(b"cdr/", 10, None).unwrap().len(), 1);
        store.write(entry(1, Seat::Master, 2, vec![log("cdr/2", "x")]), true, 2).unwrap();
        wait.stored(2);
        assert_eq!(reader.log(b"cdr/", 10, None).unwrap().len(), 2);
    }
    let reader = Reader::open(&folder, WallClock::system()).unwrap();
    assert_eq!(reader.log(b"cdr/", 10, None).unwrap().len(), 2);
}

#[test]
fn a_second_process_is_refused() {
    let folder = folder("twice");
    let (_store, _wait) = open(&folder, Settings::default());
    let error = Store::open(&folder, Settings::default(), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[test]
fn a_reader_of_nothing_names_the_file() {
    let folder = folder("nothing");
    let error = Reader::open(&folder, WallClock::system()).unwrap_err();
    assert!(error.to_string().starts_with(folder.join("journal.db").to_str().unwrap()), "{error}");
}

fn open(folder: &std::path::Path, settings: Settings) -> (Store, Wait) {
    let (store, _, wait) = common::open(folder, settings);
    (store, wait)
}

#[test]
fn an_overwritten_hot_record_is_written_once_and_right() {
    let folder = folder("coalesced");
    let (store, mut wait) = open(&folder, Settings::default());
    for n in 1..=1_000 {
        let ops = vec![hot("call/1", &n.to_string()), hot(&format!("call/{n}"), "own")];
        store.write(entry(1, Seat::Master, n, ops), false, n).unwrap();
    }
    wait.stored(1_000);
    assert!(wait.seen.iter().all(|event| matches!(event, StoreEvent::Stored { .. })));
    let reader = store.reader().unwrap();
    assert_eq!(reader.get(b"call/1").unwrap().unwrap().body.unwrap(), b"1000");
    assert_eq!(reader.all(Class::Hot).unwrap().len(), 1_000);
}
