//! Replicated tables: two and three servers write, are cut off, crash, exchange, and end equal.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::Connection;
use tandem_oplog::{Column, OpId, Origin, Schema, Seen, Table, Value};
use tandem_store::OpenError;
use tandem_store::tables::{Broken, By, ChangeError, Setup, Tables, TakeError, Taken};
use tandem_types::{Dice, Epoch};

const USER: Table = Table {
    id: 1,
    name: "user",
    key: &["id"],
    columns: &[Column::new(1, "display"), Column::new(2, "enabled")],
};
const NUMBER: Table =
    Table { id: 2, name: "number", key: &["number"], columns: &[Column::new(1, "user")] };
const COUNTER: Table =
    Table { id: 3, name: "counter", key: &["name", "node"], columns: &[Column::new(1, "value")] };

static FIRST: Schema = Schema { version: 1, tables: &[USER, NUMBER, COUNTER] };
const FIRST_SQL: &str = "
    CREATE TABLE user (
        id INTEGER NOT NULL PRIMARY KEY, display TEXT NOT NULL, enabled INTEGER NOT NULL DEFAULT 1,
        deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE number (
        number TEXT NOT NULL PRIMARY KEY, user INTEGER, deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE counter (
        name TEXT NOT NULL, node INTEGER NOT NULL, value INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, node)) STRICT;
";

/// The next version: a column and a table more.
const USER_2: Table = Table {
    columns: &[Column::new(1, "display"), Column::new(2, "enabled"), Column::new(3, "mail")],
    ..USER
};
const GROUP: Table =
    Table { id: 4, name: "hunt_group", key: &["name"], columns: &[Column::new(1, "strategy")] };
static SECOND: Schema = Schema { version: 2, tables: &[USER_2, NUMBER, COUNTER, GROUP] };
const SECOND_SQL: &str = "
    ALTER TABLE user ADD COLUMN mail TEXT NOT NULL DEFAULT '';
    CREATE TABLE hunt_group (
        name TEXT NOT NULL PRIMARY KEY, strategy TEXT NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0) STRICT;
";

fn first(node: u8) -> Setup {
    let origin = Origin(u64::from(node) + 1);
    Setup { schema: &FIRST, migrations: &[FIRST_SQL], node, origin }
}

fn second(node: u8) -> Setup {
    Setup { schema: &SECOND, migrations: &[FIRST_SQL, SECOND_SQL], ..first(node) }
}

fn memory(setup: &Setup) -> Tables {
    Tables::on(Connection::open_in_memory().unwrap(), Path::new("memory"), setup).unwrap()
}

fn by(wall_millis: u64) -> By {
    By { author: "admin".to_owned(), wall_millis, epoch: Epoch::NEVER }
}

/// One statement in a transaction of its own.
fn run(tables: &mut Tables, wall: u64, sql: &str) -> Option<OpId> {
    let done = tables.change(&by(wall), |connection| connection.execute_batch(sql));
    done.unwrap().1
}

fn ops(tables: &Tables, lacking: &Seen) -> Vec<Vec<u8>> {
    let page = tables.log(0, lacking, usize::MAX).unwrap();
    page.ops.into_iter().map(|op| op.bytes).collect()
}

/// Everything `to` lacks; how many ops that were.
fn pull(to: &mut Tables, from: &Tables) -> usize {
    let ops = ops(from, to.seen());
    to.take(ops.iter().map(Vec::as_slice)).unwrap()
}

/// All rows of a table as text, deleted ones too.
fn dump(tables: &Tables, table: &str) -> Vec<String> {
    let mut statement =
        tables.reader().prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
        Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn display(tables: &Tables, id: i64) -> String {
    let sql = "SELECT display FROM user WHERE id = ?";
    tables.reader().query_row(sql, [id], |row| row.get(0)).unwrap()
}

fn assert_equal(one: &Tables, other: &Tables, what: &str) {
    assert_eq!(one.seen(), other.seen(), "{what}");
    for table in ["user", "number", "counter"] {
        assert_eq!(dump(one, table), dump(other, table), "{what}: {table}");
    }
    assert_eq!(one.undecided().unwrap(), other.undecided().unwrap(), "{what}");
    assert_eq!(one.digests().unwrap(), other.digests().unwrap(), "{what}");
    let chains = |tables: &Tables| tables.heads().collect::<Vec<_>>();
    assert_eq!(chains(one), chains(other), "{what}");
}

#[test]
fn what_is_written_on_one_server_is_on_the_other_and_once() {
    let (mut a, mut b) = (memory(&first(0)), memory(&first(1)));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna'), (2, 'Ben')");
    run(&mut a, 1_001, "UPDATE user SET display = 'Benno', enabled = 0 WHERE id = 2");
    assert_eq!(pull(&mut b, &a), 2);
    assert_eq!(pull(&mut b, &a), 0);
    assert_eq!(dump(&b, "user").len(), 2);
    assert_equal(&a, &b, "after two changes");
    // Taken once more: nothing happens.
    let again = ops(&a, &Seen::new());
    assert_eq!(b.take(again.iter().map(Vec::as_slice)).unwrap(), 0);
    assert_equal(&a, &b, "after the same again");
}

#[test]
fn different_columns_of_one_row_are_both_kept() {
    let (mut a, mut b) = (memory(&first(0)), memory(&first(1)));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna')");
    pull(&mut b, &a);
    run(&mut a, 2_000, "UPDATE user SET display = 'Anna M.'");
    run(&mut b, 2_000, "UPDATE user SET enabled = 0");
    pull(&mut a, &b);
    pull(&mut b, &a);
    assert_equal(&a, &b, "healed");
    assert_eq!(dump(&a, "user"), ["[Integer(1), Text(\"Anna M.\"), Integer(0), Integer(0)]"]);
    assert!(a.undecided().unwrap().is_empty());
}

#[test]
fn of_two_values_the_newer_stays_and_the_other_can_be_restored_or_dismissed() {
    let (mut a, mut b) = (memory(&first(0)), memory(&first(1)));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna'), (2, 'Ben')");
    pull(&mut b, &a);
    run(&mut a, 2_000, "UPDATE user SET display = 'old' || id");
    run(&mut b, 3_000, "UPDATE user SET display = 'new' || id");
    pull(&mut a, &b);
    pull(&mut b, &a);
    assert_equal(&a, &b, "healed");
    assert_eq!(display(&a, 1), "new1");
    let undecided = a.undecided().unwrap();
    assert_eq!(undecided.len(), 2);
    assert_eq!(undecided[0].losers[0].value, Value::Text("old1".to_owned()));
    assert_eq!((undecided[0].table, undecided[0].column), ("user", "display"));
    let mut batch = a.begin().unwrap();
    // The first is restored, the second left as it is: both are decided.
    for (row, value) in [(0, "old1"), (1, "new2")] {
        let value = Value::Text(value.to_owned());
        assert!(batch.decide(&by(1), &undecided[row], &value).unwrap().is_some());
    }
    batch.commit().unwrap();
    pull(&mut b, &a);
    assert_equal(&a, &b, "decided");
    assert!(b.undecided().unwrap().is_empty());
    assert_eq!((display(&b, 1), display(&b, 2)), ("old1".to_owned(), "new2".to_owned()));
}

#[test]
fn a_number_that_two_claim_belongs_to_the_later_claim_and_the_other_claim_shows() {
    let (mut a, mut b) = (memory(&first(0)), memory(&first(1)));
    run(&mut a, 1_000, "INSERT INTO number (number, user) VALUES ('20', 1)");
    run(&mut b, 2_000, "INSERT INTO number (number, user) VALUES ('20', 2)");
    pull(&mut a, &b);
    pull(&mut b, &a);
    assert_equal(&a, &b, "healed");
    let undecided = a.undecided().unwrap();
    assert_eq!(undecided[0].winner.value, Value::Integer(2));
    assert_eq!(undecided[0].losers[0].value, Value::Integer(1));
}

#[test]
fn a_deleted_row_stays_deleted_for_who_did_not_know_and_comes_back_when_wanted() {
    let (mut a, mut b) = (memory(&first(0)), memory(&first(1)));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna')");
    pull(&mut b, &a);
    run(&mut a, 2_000, "UPDATE user SET deleted = 1");
    run(&mut b, 3_000, "UPDATE user SET display = 'Anne'");
    pull(&mut a, &b);
    pull(&mut b, &a);
    assert_equal(&a, &b, "healed");
    assert_eq!(dump(&a, "user"), ["[Integer(1), Text(\"Anne\"), Integer(1), Integer(1)]"]);
    run(&mut b, 4_000, "UPDATE user SET deleted = 0");
    pull(&mut a, &b);
    assert_equal(&a, &b, "undeleted");
}

#[test]
fn what_cannot_be_replicated_is_refused_and_leaves_nothing() {
    let mut a = memory(&first(0));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna')");
    let before = (dump(&a, "user"), a.seen().clone(), a.latest());
    for (sql, reason) in [
        ("DELETE FROM user", "rows are not deleted"),
        ("UPDATE user SET id = 7", "the key of a row never changes"),
        ("UPDATE user SET display = CAST(x'ff' AS TEXT)", "no UTF-8"),
    ] {
        let done = a.change(&by(2_000), |connection| connection.execute_batch(sql));
        match done {
            Err(ChangeError::Unfit(why)) => assert!(why.contains(reason), "{why}"),
            other => panic!("{sql}: {other:?}"),
        }
        assert_eq!((dump(&a, "user"), a.seen().clone(), a.latest()), before, "{sql}");
    }
    // A change that its author gives up takes nothing along of the rest of its batch.
    let mut batch = a.begin().unwrap();
    let insert = "INSERT INTO user (id, display) VALUES (2, 'Ben')";
    batch.change(&by(3_000), |connection| connection.execute_batch(insert)).unwrap();
    let given_up = batch.change(&by(3_000), |connection| -> Result<(), rusqlite::Error> {
        connection.execute_batch("UPDATE user SET display = 'x'")?;
        Err(rusqlite::Error::QueryReturnedNoRows)
    });
    assert!(matches!(given_up, Err(ChangeError::Refused(_))));
    batch.commit().unwrap();
    assert_eq!(display(&a, 1), "Anna");
    assert_eq!(display(&a, 2), "Ben");
    assert_eq!(a.seen().up_to(a.me()), 2);
}

#[test]
fn what_changes_nothing_is_no_op_and_what_is_not_committed_is_gone() {
    let mut a = memory(&first(0));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna')");
    assert_eq!(run(&mut a, 2_000, "UPDATE user SET display = 'Anna'"), None);
    let back = "UPDATE user SET display = 'x'; UPDATE user SET display = 'Anna'";
    assert_eq!(run(&mut a, 2_000, back), None);
    let mut batch = a.begin().unwrap();
    let sql = "UPDATE user SET display = 'x'";
    batch.change(&by(3_000), |connection| connection.execute_batch(sql)).unwrap();
    drop(batch);
    assert_eq!(display(&a, 1), "Anna");
    assert_eq!(a.seen().up_to(a.me()), 1);
    assert_eq!(run(&mut a, 2_000, sql).unwrap().number, 2);
}

#[test]
fn an_op_that_comes_too_early_or_damaged_is_refused_and_nothing_of_its_batch_stays() {
    let (mut a, mut b) = (memory(&first(0)), memory(&first(1)));
    run(&mut a, 1_000, "INSERT INTO user (id, display) VALUES (1, 'Anna')");
    run(&mut a, 1_001, "UPDATE user SET display = 'x'");
    let ops = ops(&a, &Seen::new());
    assert!(matches!(b.take([ops[1].as_slice()]), Err(TakeError::Gap(_))));
    assert!(matches!(b.take([ops[0].as_slice(), &[1, 2, 3]]), Err(TakeError::Unreadable(_))));
    assert!(dump(&b, "user").is_empty());
    assert_eq!(b.seen(), &Seen::new());
    // An effect before its cause: what a third one wrote about it.
    let mut c = memory(&first(2));
    pull(&mut c, &a);
    let late = run(&mut c, 5, "UPDATE user SET enabled = 0").unwrap();
    let effect = c.log(0, a.seen(), usize::MAX).unwrap().ops.remove(0);
    assert_eq!(effect.id, late);
    assert!(matches!(b.take([effect.bytes.as_slice()]), Err(TakeError::Gap(_))));
    pull(&mut b, &c);
    assert_equal(&b, &c, "in order");
}

#[test]
fn a_newer_server_loses_nothing_to_an_older_one_that_is_upgraded_later() {
    let (old, new) = upgrade(None);
    let old = old.unwrap();
    assert_equal(&old, &new, "after the upgrade");
    for table in ["user", "hunt_group"] {
        assert_eq!(dump(&old, table), dump(&new, table));
    }
}

#[test]
fn who_throws_away_what_only_a_newer_server_knows_is_caught() {
    let why = upgrade(Some(Broken::DropUnknown)).0.unwrap_err().to_string();
    assert!(why.contains("hunt_group.strategy"), "a row without its values: {why}");
}

/// A server of the version before, upgraded after it has exchanged with a newer one; and that one.
fn upgrade(rule: Option<Broken>) -> (Result<Tables, OpenError>, Tables) {
    let name = format!("tandem-tables-{}-{}", std::process::id(), u8::from(rule.is_some()));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("config.db");
    let mut new = memory(&second(0));
    let mut old = Tables::open(&path, &first(1)).unwrap();
    old.sabotage(rule);
    run(&mut old, 900, "INSERT INTO user (id, display) VALUES (1, 'Anna')");
    pull(&mut new, &old);
    run(&mut new, 1_000, "UPDATE user SET mail = 'anna@example.com', display = 'Anne'");
    run(&mut new, 1_001, "INSERT INTO hunt_group (name, strategy) VALUES ('sales', 'all')");
    pull(&mut old, &new);
    assert_eq!(display(&old, 1), "Anne");
    // The other way: an old one writes about a row that has a new column.
    run(&mut old, 1_002, "UPDATE user SET enabled = 0");
    pull(&mut new, &old);
    drop(old);
    let old = Tables::open(&path, &second(1));
    // Back to the old program: it says why it cannot.
    let back = Tables::open(&path, &first(1));
    assert!(old.is_err() || matches!(back, Err(OpenError::Newer { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
    (old, new)
}

#[test]
fn a_foreign_file_is_not_touched() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE x (y)").unwrap();
    let opened = Tables::on(connection, Path::new("their.db"), &first(0));
    assert!(matches!(opened, Err(OpenError::Foreign { .. })));
}

/// What the oracle knows of a server that may crash.
struct Server {
    tables: Tables,
    /// What was said to be done: it must be there for good.
    promised: BTreeSet<OpId>,
}

/// One statement as administrators, phones and counters make them.
fn statement(dice: &mut Dice, node: u8) -> String {
    let (user, value) = (dice.below(4), dice.below(1_000));
    match dice.below(7) {
        0 | 1 => format!(
            "INSERT INTO user (id, display) VALUES ({user}, 'u{value}')
             ON CONFLICT (id) DO UPDATE SET display = excluded.display"
        ),
        2 => format!("UPDATE user SET enabled = {} WHERE id = {user}", value % 2),
        3 => format!("UPDATE user SET deleted = {} WHERE id = {user}", value % 2),
        4 => format!(
            "INSERT INTO number (number, user) VALUES ('{}', {user})
             ON CONFLICT (number) DO UPDATE SET user = excluded.user",
            20 + value % 3
        ),
        5 => format!(
            "UPDATE user SET display = 'both', enabled = {}; UPDATE number SET user = {user}",
            value % 2
        ),
        _ => format!(
            "INSERT INTO counter (name, node, value) VALUES ('calls', {node}, 1)
             ON CONFLICT (name, node) DO UPDATE SET value = value + 1"
        ),
    }
}

fn step(
    dice: &mut Dice,
    servers: &mut [Server],
    wall: u64,
    made: &mut BTreeMap<u8, i64>,
    one_row: bool,
) {
    let pick = |dice: &mut Dice| usize::try_from(dice.below(servers.len() as u64)).unwrap();
    let (one, from) = (pick(dice), pick(dice));
    match dice.below(10) {
        0..6 => {
            let node = if one_row { 0 } else { u8::try_from(one).unwrap() };
            let sql = statement(dice, node);
            let commits = dice.chance(85);
            let tables = &mut servers[one].tables;
            let mut batch = tables.begin().unwrap();
            let wall = wall + dice.below(5_000);
            let id =
                batch.change(&by(wall), |connection| connection.execute_batch(&sql)).unwrap().1;
            // Otherwise it crashes before the commit, and has promised nothing.
            if commits {
                batch.commit().unwrap();
                servers[one].promised.extend(id);
                if sql.contains("counter") {
                    *made.entry(node).or_default() += 1;
                }
            }
        }
        _ if one != from => {
            // A part of what is lacking, some of it twice; the rest is lost with the connection.
            let all = ops(&servers[from].tables, servers[one].tables.seen());
            let end = usize::try_from(dice.below(all.len() as u64 + 1)).unwrap();
            let twice = usize::try_from(dice.below(end as u64 + 1)).unwrap();
            let mut batch = servers[one].tables.begin().unwrap();
            for op in &all[..end] {
                assert_eq!(batch.take(op).unwrap(), Taken::New);
            }
            for op in &all[..twice] {
                assert_eq!(batch.take(op).unwrap(), Taken::Known);
            }
            if dice.chance(85) {
                batch.commit().unwrap();
            }
        }
        _ => {}
    }
}

#[test]
fn whatever_is_written_cut_off_and_repeated_all_end_equal_and_no_promise_is_broken() {
    let (written, undecided, lost) = exchange(0..runs(), false);
    assert_eq!(lost, 0, "counts");
    assert!(written > 5_000 && undecided > 250, "{written} changes, {undecided} undecided");
}

#[test]
fn who_counts_in_one_row_for_all_servers_is_caught() {
    assert!(exchange(0..100, true).2 > 10);
}

/// 500, or as many as are asked for: `TANDEM_RUNS=10000 cargo test --release -p tandem-store` for a
/// night.
fn runs() -> u64 {
    std::env::var("TANDEM_RUNS").map_or(500, |runs| runs.parse().unwrap())
}

/// Changes that were promised, columns left undecided, and what was counted in vain: each server has a row of
/// its own to count in, or all have one.
fn exchange(seeds: std::ops::Range<u64>, one_row: bool) -> (usize, usize, i64) {
    let (mut written, mut undecided, mut lost) = (0, 0, 0);
    for seed in seeds {
        let mut dice = Dice::from_number(seed);
        let count = if dice.chance(70) { 2 } else { 3 };
        let mut servers: Vec<Server> = (0..count)
            .map(|node| Server { tables: memory(&first(node)), promised: BTreeSet::new() })
            .collect();
        let mut made = BTreeMap::new();
        for number in 0..dice.below(60) {
            step(&mut dice, &mut servers, 10_000 + number * 20, &mut made, one_row);
        }
        for _ in 0..2 {
            for one in 0..servers.len() {
                for from in (0..servers.len()).filter(|from| *from != one) {
                    let ops = ops(&servers[from].tables, servers[one].tables.seen());
                    servers[one].tables.take(ops.iter().map(Vec::as_slice)).unwrap();
                }
            }
        }
        let (first, others) = servers.split_first().unwrap();
        for other in others {
            assert_equal(&first.tables, &other.tables, &format!("seed {seed}"));
        }
        for id in servers.iter().flat_map(|server| &server.promised) {
            assert!(first.tables.seen().has(*id), "seed {seed}: {id} is lost");
            written += 1;
        }
        for (node, value) in made {
            let sql = "SELECT value FROM counter WHERE node = ?";
            let counted: i64 =
                first.tables.reader().query_row(sql, [node], |row| row.get(0)).unwrap();
            lost += value - counted;
        }
        undecided += first.tables.undecided().unwrap().len();
    }
    (written, undecided, lost)
}
