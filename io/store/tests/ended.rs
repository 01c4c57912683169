//! Log records in the order in which what they tell ended: each once, a lot at a time.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use common::{entry, folder, log};
use rusqlite::Connection;
use tandem_store::{FILE_NAME, Reader, Settings, WallClock};
use tandem_types::Seat;

/// The end is in the body.
fn end_of(_: &[u8], body: &[u8]) -> Option<i64> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

/// Keys in the order of the reader, and the longest lot.
fn read(reader: &Reader) -> (Vec<String>, usize) {
    let mut ended = reader.ended(b"cdr/").unwrap();
    let (mut keys, mut longest) = (Vec::new(), 0);
    while let Some(lot) = ended.next_lot().unwrap() {
        longest = longest.max(lot.len());
        keys.extend(lot.into_iter().map(|record| String::from_utf8(record.key).unwrap()));
    }
    (keys, longest)
}

#[test]
fn records_come_in_the_order_of_their_end_and_of_their_key_a_lot_at_a_time() {
    let folder = folder("ended");
    let settings = Settings { end_of, ..Settings::default() };
    let (store, _, mut wait) = common::open(&folder, settings);
    let reader = store.reader().unwrap();
    assert_eq!(read(&reader), (Vec::new(), 0), "an empty file");
    // The clock was set back and forth; many ended at the same moment, over the border of a lot too.
    let mut want = Vec::new();
    for ticket in 1..=10_u64 {
        let ops = (0..500_u64)
            .flat_map(|number| {
                let (of_clock, name) = (number * 7 % 500 / 3 + ticket % 3, number * 131 % 500);
                let key = format!("cdr/{name:03}-{ticket:02}");
                want.push((of_clock, key.clone()));
                let end = of_clock.to_string();
                [log(&key, &end), log(&format!("events/{name:03}-{ticket:02}"), &end)]
            })
            .collect();
        store.write(entry(1, Seat::Master, ticket, ops), true, ticket).unwrap();
    }
    wait.stored(10);
    want.sort();
    let want: Vec<String> = want.into_iter().map(|(_, key)| key).collect();
    let (keys, longest) = read(&reader);
    assert_eq!(keys, want);
    assert!(longest <= 1_100, "{longest} of {} at once", want.len());
    // What ends meanwhile is left out, and what moved its end does not come twice.
    let mut ended = reader.ended(b"cdr/").unwrap();
    let first = ended.next_lot().unwrap().unwrap();
    let again = String::from_utf8(first[0].key.clone()).unwrap();
    let ops = vec![log("cdr/later", "999999"), log(&again, "999999")];
    store.write(entry(1, Seat::Master, 11, ops), true, 11).unwrap();
    wait.stored(11);
    let mut count = first.len();
    while let Some(lot) = ended.next_lot().unwrap() {
        assert!(lot.iter().all(|record| record.key != again.as_bytes()));
        count += lot.len();
    }
    assert_eq!(count, want.len());
    assert_eq!(read(&reader).0.len(), want.len() + 1);
}

#[test]
fn a_damaged_record_is_left_out_and_told_also_where_it_has_lost_its_end() {
    let folder = folder("ended-damaged");
    let settings = Settings { end_of, ..Settings::default() };
    let (store, _, mut wait) = common::open(&folder, settings);
    let ops = ["1", "2", "3"].map(|end| log(&format!("cdr/{end}"), end)).into();
    store.write(entry(1, Seat::Master, 1, ops), true, 1).unwrap();
    wait.stored(1);
    drop(store);
    let file = Connection::open(folder.join(FILE_NAME)).unwrap();
    let changed =
        file.execute("UPDATE log_record SET ends = NULL WHERE key = ?", [b"cdr/1".as_slice()]);
    assert_eq!(changed, Ok(1));
    let changed =
        file.execute("UPDATE log_record SET ends = 9 WHERE key = ?", [b"cdr/2".as_slice()]);
    assert_eq!(changed, Ok(1));
    drop(file);
    let reader = Reader::open(&folder, WallClock::system()).unwrap();
    assert_eq!(read(&reader).0, ["cdr/3"]);
    let damaged = reader.take_damaged();
    let keys: Vec<_> = damaged.iter().map(|one| String::from_utf8_lossy(&one.key)).collect();
    assert_eq!(keys, ["cdr/1", "cdr/2"]);
}
