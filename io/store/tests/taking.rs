//! Changes of the other server that come together: what they come to, and what is written of them.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rusqlite::Connection;
use tandem_oplog::{Column, Origin, Schema, Seen, Table};
use tandem_store::tables::{By, Setup, Tables};
use tandem_types::{Dice, Epoch};

const ITEM: Table = Table {
    id: 1,
    name: "item",
    key: &["id"],
    columns: &[Column::new(1, "one"), Column::new(2, "two")],
};
static SCHEMA: Schema = Schema { version: 1, tables: &[ITEM] };
const SQL: &str = "CREATE TABLE item (
    id INTEGER NOT NULL PRIMARY KEY, one TEXT NOT NULL, two TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0) STRICT;";
/// A server that allows less.
const STRICT: &str = "CREATE TABLE item (
    id INTEGER NOT NULL PRIMARY KEY, one TEXT NOT NULL, two TEXT NOT NULL CHECK (two <> 'new'),
    deleted INTEGER NOT NULL DEFAULT 0) STRICT;";

/// So long that three of them are more than waits to be written.
const LONG: usize = 2 * 1024 * 1024;

fn open(node: u8, migrations: &'static [&'static str]) -> Tables {
    on(Connection::open_in_memory().unwrap(), node, migrations)
}

fn on(connection: Connection, node: u8, migrations: &'static [&'static str]) -> Tables {
    let setup = Setup { schema: &SCHEMA, migrations, node, origin: Origin(u64::from(node) + 1) };
    Tables::on(connection, Path::new("memory"), &setup).unwrap()
}

fn put(tables: &mut Tables, wall_millis: u64, id: i64, column: &str, value: &str) {
    let by = By { author: String::new(), wall_millis, epoch: Epoch::NEVER };
    let sql = format!(
        "INSERT INTO item (id, one, two) VALUES (?1, '', '') ON CONFLICT DO NOTHING;
         UPDATE item SET {column} = ?2 WHERE id = ?1"
    );
    let (insert, update) = sql.split_once(';').unwrap();
    let write = |connection: &Connection| {
        connection.execute(insert, [id])?;
        connection.execute(update, (id, value)).map(drop)
    };
    tables.change(&by, write).unwrap();
}

fn lacking(from: &Tables, to: &Tables) -> Vec<Vec<u8>> {
    let page = from.log(0, to.seen(), usize::MAX).unwrap();
    page.ops.into_iter().map(|op| op.bytes).collect()
}

fn take(to: &mut Tables, ops: &[Vec<u8>]) -> usize {
    to.take(ops.iter().map(Vec::as_slice)).unwrap()
}

fn rows(tables: &Tables) -> Vec<(i64, String, String)> {
    let mut all = tables.reader().prepare("SELECT id, one, two FROM item ORDER BY id").unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    all.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn changes_that_come_together_come_to_what_they_come_to_one_by_one() {
    let mut undecided = 0;
    for seed in 0..60 {
        let mut dice = Dice::from_number(seed);
        let (mut a, mut b) = (open(0, &[SQL]), open(1, &[SQL]));
        for number in 0..40 {
            let tables = if dice.chance(50) { &mut a } else { &mut b };
            let column = if dice.chance(50) { "one" } else { "two" };
            put(
                tables,
                1_000 + dice.below(500),
                i64::try_from(dice.below(4)).unwrap(),
                column,
                &format!("{number}"),
            );
            if dice.chance(10) {
                let ops = lacking(&a, &b);
                take(&mut b, &ops);
            }
        }
        let (mut together, mut single) = (open(2, &[SQL]), open(3, &[SQL]));
        for from in [&a, &b] {
            let ops = lacking(from, &together);
            assert_eq!(take(&mut together, &ops), ops.len(), "seed {seed}");
            for op in &ops {
                assert_eq!(take(&mut single, core::slice::from_ref(op)), 1, "seed {seed}");
            }
            assert_eq!(take(&mut together, &ops), 0, "seed {seed}");
        }
        assert_eq!(together.digests().unwrap(), single.digests().unwrap(), "seed {seed}");
        assert_eq!(rows(&together), rows(&single), "seed {seed}");
        assert_eq!(together.faults().unwrap(), [""; 0], "seed {seed}");
        assert!(together.heads().eq(single.heads()), "seed {seed}");
        undecided += together.undecided().unwrap().len();
    }
    assert!(undecided > 60, "{undecided}");
}

#[test]
fn what_is_there_of_each_origin_is_written_with_the_changes_and_not_without() {
    let mut a = open(0, &[SQL]);
    for number in 0..20 {
        put(&mut a, 1_000, number % 3, "one", &format!("{number}"));
    }
    let ops = lacking(&a, &open(1, &[SQL]));
    let mut b = open(1, &[SQL]);
    take(&mut b, &ops[..5]);
    let five: Seen = b.seen().clone();
    let mut batch = b.begin().unwrap();
    batch.take_all(ops[5..].iter().map(Vec::as_slice)).unwrap();
    drop(batch);
    assert_eq!(b.seen(), &five);
    for (count, wanted) in [(0, &five), (ops.len(), a.seen())] {
        take(&mut b, &ops[..count]);
        let mut copy = Connection::open_in_memory().unwrap();
        rusqlite::backup::Backup::new(b.reader(), &mut copy).unwrap().step(-1).unwrap();
        let copy = on(copy, 1, &[SQL]);
        assert_eq!(copy.seen(), wanted);
        assert!(copy.heads().eq(b.heads()));
        assert_eq!(copy.faults().unwrap(), [""; 0]);
    }
}

#[test]
fn a_column_that_is_refused_keeps_back_no_other_that_comes_with_it() {
    let (mut newer, mut older) = (open(0, &[SQL]), open(1, &[STRICT]));
    put(&mut newer, 1_000, 1, "one", "old");
    let ops = lacking(&newer, &older);
    take(&mut older, &ops);
    put(&mut newer, 1_001, 1, "two", "new");
    put(&mut newer, 1_002, 1, "one", "latest");
    let ops = lacking(&newer, &older);
    take(&mut older, &ops);
    assert_eq!(rows(&older), [(1, "latest".to_owned(), String::new())]);
    assert_eq!(older.digests().unwrap(), newer.digests().unwrap());
    assert_eq!(older.faults().unwrap(), [""; 0]);
}

#[test]
fn more_than_waits_to_be_written_comes_in_one_part() {
    let (mut a, mut b) = (open(0, &[SQL]), open(1, &[SQL]));
    for number in 0..8_u8 {
        let value = String::from(char::from(b'a' + number)).repeat(LONG);
        put(&mut a, 1_000, i64::from(number % 2), "one", &value);
    }
    let ops = lacking(&a, &b);
    assert_eq!(take(&mut b, &ops), 8);
    assert!(rows(&a) == rows(&b) && a.digests().unwrap() == b.digests().unwrap());
    assert_eq!(b.faults().unwrap(), [""; 0]);
}
