//! What goes into a real PostgreSQL, and what is refused there.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;
mod server;

use std::path::Path;

use common::{DEADLINE, MIDNIGHT, block_on, connect, record, say, setup, stamp};
use rusqlite::Connection;
use rusqlite::types::Value;
use server::Server;
use tandem_config::{Config, SCHEMA};
use tandem_journal::{Cursor, Known};
use tandem_oplog::{Schema, Seen, Table};
use tandem_postgres::{Access, Database, MIGRATIONS, Trouble};
use tandem_store::tables::{By, Tables};
use tandem_types::{Dice, Epoch, Seat};

fn tables(seat: Seat) -> Tables {
    let setup = Config::setup(seat, &mut Dice::from_number(seat as u64 + 1));
    Tables::on(Connection::open_in_memory().unwrap(), Path::new("memory"), &setup).unwrap()
}

fn write(tables: &mut Tables, wall_millis: u64, sql: &str) {
    let by = By { author: "anna\0".to_owned(), wall_millis, epoch: Epoch::NEVER };
    let body = |connection: &Connection| connection.execute_batch(sql);
    assert!(tables.change(&by, body).unwrap().1.is_some(), "{sql}");
}

fn log(tables: &Tables, lacking: &Seen) -> Vec<Vec<u8>> {
    let page = tables.log(0, lacking, usize::MAX).unwrap();
    page.ops.into_iter().map(|op| op.bytes).collect()
}

/// Two servers that were apart, with everything that a row can come to: changed, deleted, undecided.
fn two_servers() -> (Tables, Tables) {
    let (mut one, mut other) = (tables(Seat::Master), tables(Seat::Standby));
    for number in 0..50 {
        let sql = format!(
            "INSERT INTO users (id, display, enabled, md_five, sha_two)
             VALUES (x'{number:032x}', 'Number {number}', 1, x'00ff', x'');
             INSERT INTO logins (name, user_id) VALUES ('user{number}', x'{number:032x}');
             INSERT INTO numbers (number, user_id, place) VALUES ('{number}', x'{number:032x}', 0);"
        );
        write(&mut one, 1_000 + number, &sql);
    }
    let ops = log(&one, &Seen::new());
    other.take(ops.iter().map(Vec::as_slice)).unwrap();
    write(&mut one, 2_000, "UPDATE users SET display = 'Änne' WHERE id = x'01' OR enabled = 1");
    write(&mut other, 3_000, "UPDATE users SET display = 'Other' WHERE display = 'Number 7'");
    write(&mut other, 3_001, "UPDATE logins SET deleted = 1 WHERE name = 'user9'");
    write(&mut other, 3_002, "INSERT INTO settings (name, value) VALUES ('empty', NULL)");
    (one, other)
}

#[test]
fn both_databases_hold_the_same_to_the_byte_whatever_came_first() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (one, mut other) = two_servers();
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        // First what the other wrote while it lacked the last of the one, then that.
        database.take(&log(&other, &Seen::new())).await.unwrap();
        assert_eq!(database.digests().await.unwrap(), other.digests().unwrap());
        database.take(&log(&one, &Seen::new())).await.unwrap();
        let lacking = database.lacking(other.seen(), usize::MAX).await.unwrap();
        assert_eq!(lacking.len(), 1);
        other.take(lacking.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(database.digests().await.unwrap(), other.digests().unwrap());
        let heads: Vec<_> = other.heads().collect();
        let mut there = database.heads().await.unwrap();
        there.sort_by_key(|(id, _)| *id);
        assert_eq!(there, heads);
        // Once more changes nothing.
        let count = database.op_count().await.unwrap();
        database.take(&log(&other, &Seen::new())).await.unwrap();
        assert_eq!(database.op_count().await.unwrap(), count);
        assert_eq!(database.digests().await.unwrap(), other.digests().unwrap());
        assert!(!other.undecided().unwrap().is_empty(), "the test has a conflict");
    });
    block_on(same_tables(&address, other.reader()));
}

/// Every table and column is there in both, and one text reads the same from both.
async fn same_tables(address: &str, sqlite: &Connection) {
    let mut rows = 0;
    for table in SCHEMA.tables {
        let columns = table.key.iter().copied().chain(table.changing().map(|column| column.name));
        let columns: Vec<&str> = columns.collect();
        let keys = table.key.join(", ");
        let sql = format!("SELECT {} FROM {} ORDER BY {keys}", columns.join(", "), table.name);
        let mut here = sqlite.prepare(&sql).unwrap();
        let mut here = here.query([]).unwrap();
        let path = "SET search_path = tandem; SET bytea_output = hex;";
        for there in say(address, &format!("{path} {sql}")).await {
            let row = here.next().unwrap().unwrap();
            let same: Vec<Option<String>> = (0..columns.len())
                .map(|at| match row.get(at).unwrap() {
                    Value::Null => None,
                    Value::Integer(number) => Some(number.to_string()),
                    Value::Text(text) => Some(text),
                    Value::Blob(bytes) => Some(
                        bytes.iter().fold(String::from("\\x"), |hex, b| format!("{hex}{b:02x}")),
                    ),
                    Value::Real(_) => panic!("{sql}: a number with a point"),
                })
                .collect();
            // Text is sorted by its bytes in both.
            assert_eq!(there, same, "{sql}");
            rows += 1;
        }
        assert!(here.next().unwrap().is_none(), "{sql}: a row more here");
    }
    assert!(rows >= 150, "{rows}");
}

#[test]
fn what_is_not_whole_is_not_taken_and_another_past_is_named() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (one, _) = two_servers();
    let ops = log(&one, &Seen::new());
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        let gap = database.take(&ops[1..]).await;
        assert!(
            matches!(&gap, Err(Trouble::Away(what)) if what.contains("is not there yet")),
            "{gap:?}"
        );
        assert_eq!(database.op_count().await.unwrap(), (0, 0));
        let garbage = database.take(&[vec![1, 2, 3]]).await;
        assert!(matches!(garbage, Err(Trouble::Refused(_))));
        database.take(&ops).await.unwrap();
        let mut forged = tables(Seat::Master);
        write(&mut forged, 9, "INSERT INTO settings (name, value) VALUES ('forged', 'x')");
        let forged = database.take(&log(&forged, &Seen::new())).await;
        assert!(matches!(&forged, Err(Trouble::Refused(what)) if what.contains("another change")));
    });
}

#[test]
fn a_column_that_is_added_later_is_filled_from_what_was_kept() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (one, _) = two_servers();
    block_on(async {
        connect(&address).await.unwrap().take(&log(&one, &Seen::new())).await.unwrap();
        say(&address, "ALTER TABLE tandem.users DROP COLUMN display; DROP TABLE tandem.numbers")
            .await;
        drop(connect(&address).await.unwrap());
    });
    block_on(same_tables(&address, one.reader()));
}

#[test]
fn what_does_not_fit_into_a_table_is_parked_and_kept() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut one = tables(Seat::Master);
    write(&mut one, 1, "INSERT INTO settings (name, value) VALUES ('odd', 'a' || char(0) || 'b')");
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        database.take(&log(&one, &Seen::new())).await.unwrap();
        assert_eq!(database.digests().await.unwrap(), one.digests().unwrap());
        let parked = say(&address, "SELECT why FROM tandem.parked").await;
        assert_eq!(parked, [[Some("a zero stands in a text".to_owned())]]);
        write(&mut one, 2, "UPDATE settings SET value = 'even' WHERE name = 'odd'");
        database.take(&log(&one, &Seen::new())).await.unwrap();
        assert!(say(&address, "SELECT why FROM tandem.parked").await.is_empty());
        assert_eq!(database.digests().await.unwrap(), one.digests().unwrap());
    });
}

#[test]
fn records_are_a_union_and_what_is_known_never_goes_back() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        let known = |seq: u64| {
            let mut known = Known::new();
            known.learn(stamp(2, seq));
            known
        };
        let mut records = vec![
            record("cdr/b", 2, 3, "200"),
            record("cev/b", 2, 3, "[]"),
            record("cdr/a", 1, 9, "100\0"),
            record("other", 2, 4, "x"),
            // Of one key the later.
            record("cdr/b", 1, 1, "old"),
        ];
        records.push(tandem_journal::Record { body: None, ..record("cdr/gone", 2, 5, "") });
        database.put(&records, Some(&known(5)), MIDNIGHT).await.unwrap();
        database.put(&records, Some(&known(4)), MIDNIGHT).await.unwrap();
        assert_eq!(database.known().await.unwrap(), known(5));
        let all = database.records(&Cursor(None), 10, MIDNIGHT + 7).await.unwrap();
        let keys: Vec<&[u8]> = all.iter().map(|record| record.key.as_slice()).collect();
        assert_eq!(keys, [b"cdr/a".as_slice(), b"cdr/b", b"cev/b", b"other"]);
        assert_eq!(all[0].age.as_micros(), 7);
        let second = Cursor(Some((all[1].stamp, all[1].key.clone())));
        assert_eq!(database.records(&second, 10, MIDNIGHT + 7).await.unwrap(), all[2..]);
        let text = |text: &str| Some(text.to_owned());
        let sql = "SELECT call_id, caller, started FROM tandem.call_report ORDER BY call_id";
        let midnight = "2026-11-23 00:00:00+00";
        let read = say(&address, sql).await;
        assert_eq!(read[0], [text("a"), text("100\u{fffd}"), text(midnight)]);
        assert_eq!(read[1], [text("b"), text("200"), text(midnight)]);
        // A later version of a record replaces it, in the columns too; an earlier one does nothing.
        database.put(&[record("cdr/b", 3, 1, "300")], None, MIDNIGHT).await.unwrap();
        database.put(&[record("cdr/b", 2, 9, "400")], None, MIDNIGHT).await.unwrap();
        assert_eq!(say(&address, sql).await[1][1], text("300"));
        assert_eq!(database.record_count().await.unwrap(), 4);
    });
}

fn refused(result: Result<Database, Trouble>) -> String {
    match result {
        Err(Trouble::Refused(what)) => what,
        Err(Trouble::Away(what)) => panic!("away: {what}"),
        Ok(_) => panic!("taken"),
    }
}

#[test]
fn a_database_that_is_not_ours_is_refused_by_its_name() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    block_on(async {
        say(&address, "CREATE SCHEMA tandem; CREATE TABLE tandem.horses (name TEXT)").await;
        assert!(refused(connect(&address).await).contains("was not made by Tandem"));
        say(
            &address,
            "DROP SCHEMA tandem CASCADE; CREATE SCHEMA tandem;
            CREATE TABLE tandem.state (horse TEXT)",
        )
        .await;
        assert!(refused(connect(&address).await).contains("was not made by Tandem"));
        say(&address, "DROP SCHEMA tandem CASCADE").await;
        drop(connect(&address).await.unwrap());

        let other = tandem_postgres::Setup { pair: "example.org".to_owned(), ..setup() };
        let access = common::access(&address);
        let what = refused(Database::connect(&access, other).await);
        assert!(what.contains("belongs to another pair (example.com; this one is example.org)"));

        say(&address, "ALTER TABLE tandem.users ALTER COLUMN display TYPE BYTEA USING NULL").await;
        let what = refused(connect(&address).await);
        assert!(what.contains("column tandem.users.display is bytea and not text"), "{what}");
        say(&address, "ALTER TABLE tandem.users DROP COLUMN display").await;
        say(&address, "ALTER TABLE tandem.op_log DROP COLUMN body").await;
        let what = refused(connect(&address).await);
        assert!(what.contains("there is no column tandem.op_log.body"), "{what}");
        say(&address, "UPDATE tandem.state SET value = '99' WHERE name IN ('version', 'oldest')")
            .await;
        let what = refused(connect(&address).await);
        assert!(what.contains("newer version of Tandem: it has version 99"), "{what}");
    });
}

#[test]
fn a_database_in_which_something_may_not_be_done_says_what_and_for_whom() {
    let server = Server::new();
    let address = |user: &str, name: &str| {
        let address = Server::address(&[&server]);
        address.replace("tandem@", &format!("{user}@")).replace("/postgres", &format!("/{name}"))
    };
    server.query("CREATE ROLE guest LOGIN");
    server.query("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    server.query("CREATE DATABASE ours");
    block_on(async {
        let what = refused(connect(&address("tandem", "latin")).await);
        assert!(what.contains("\"latin\" is encoded in LATIN1"), "{what}");
        let what = refused(connect(&address("guest", "ours")).await);
        assert!(what.contains("GRANT CREATE ON DATABASE ours TO guest"), "{what}");
        // It was made with another name, and this one may read it or not.
        drop(connect(&address("tandem", "ours")).await.unwrap());
        for grant in ["", "GRANT USAGE ON SCHEMA tandem TO guest"] {
            say(&address("tandem", "ours"), grant).await;
            let what = refused(connect(&address("guest", "ours")).await);
            assert!(what.contains("belongs to \"tandem\", and \"guest\" may not"), "{what}");
        }
        say(&address("tandem", "ours"), "GRANT ALL ON SCHEMA tandem TO guest").await;
        let what = refused(connect(&address("guest", "ours")).await);
        assert!(what.contains("permission denied for table state"), "{what}");
        // A schema that somebody made for us is enough.
        let sql = "DROP SCHEMA tandem CASCADE; CREATE SCHEMA tandem AUTHORIZATION guest";
        say(&address("tandem", "ours"), sql).await;
        let database = connect(&address("guest", "ours")).await.unwrap();
        assert_eq!(database.op_count().await.unwrap(), (0, 0));
        let what = refused(connect(&address("nobody", "ours")).await);
        assert!(what.contains("role \"nobody\" does not exist"), "{what}");
        let what = refused(connect(&address("tandem", "missing")).await);
        assert!(what.contains("database \"missing\" does not exist"), "{what}");
    });
}

#[test]
fn whoever_copies_everything_is_not_kept_for_ever_by_one_that_stands_still() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    block_on(async {
        let short = std::time::Duration::from_millis(50);
        let database = connect(&address).await.unwrap().patient(short);
        server.hang();
        let late = |error: Trouble| assert!(matches!(error, Trouble::Away(_)), "{error}");
        late(database.digests().await.unwrap_err());
        late(database.op_count().await.unwrap_err());
        late(database.records(&Cursor(None), 1, 0).await.unwrap_err());
        late(database.record_count().await.unwrap_err());
        let none = |_, _: &[_]| Ok::<_, String>(None);
        late(database.compare_rows(none).await.unwrap_err());
    });
}

/// A schema before the last column of each table was added, and before the last table was.
fn older() -> &'static Schema {
    let shorter = |table: &Table| {
        let kept = &table.columns[..table.columns.len().saturating_sub(1)];
        Table { columns: kept, ..*table }
    };
    let tables = SCHEMA.tables[..SCHEMA.tables.len() - 1].iter().map(shorter);
    let tables: &'static [Table] = Box::leak(tables.collect());
    Box::leak(Box::new(Schema { version: SCHEMA.version - 1, tables }))
}

#[test]
fn while_one_server_is_older_than_the_other_both_write_and_nothing_is_missing_afterwards() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (one, mut other) = two_servers();
    let ops = log(&one, &Seen::new());
    let lacking = log(&other, one.seen());
    other.take(ops.iter().map(Vec::as_slice)).unwrap();
    block_on(async {
        let mut newer = connect(&address).await.unwrap();
        let next = MIGRATIONS.len() + 1;
        let sql = format!("UPDATE tandem.state SET value = '{next}' WHERE name = 'version'");
        say(&address, &sql).await;
        let old = tandem_postgres::Setup { schema: older(), ..setup() };
        let access = common::access(&address);
        let mut older = Database::connect(&access, old.clone()).await.unwrap();
        newer.take(&ops[..10]).await.unwrap();
        older.take(&ops[10..]).await.unwrap();
        // It comes again and still does not know.
        drop(Database::connect(&access, old).await.unwrap());
        newer.take(&lacking).await.unwrap();
        assert_eq!(newer.digests().await.unwrap(), other.digests().unwrap());
        assert_eq!(
            say(&address, "SELECT value FROM tandem.state WHERE name = 'version'").await,
            [[Some(next.to_string())]]
        );
        drop(connect(&address).await.unwrap());
    });
    block_on(same_tables(&address, other.reader()));
    block_on(async {
        let sql = format!(
            "UPDATE tandem.state SET value = '{}' WHERE name = 'oldest'",
            MIGRATIONS.len() + 1
        );
        say(&address, &sql).await;
        let what = refused(connect(&address).await);
        assert!(what.contains("newer version of Tandem"), "{what}");
    });
}

#[test]
fn an_import_of_everybody_has_time_for_each_of_its_bytes() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut one = tables(Seat::Master);
    let rows = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
        INSERT INTO users (id, display, enabled, md_five, sha_two)
        SELECT randomblob(16), hex(randomblob(2000)), 1, x'00', x'00' FROM n";
    write(&mut one, 1, rows);
    block_on(async {
        // Without that there would be none at all.
        let mut database = connect(&address).await.unwrap().patient(std::time::Duration::ZERO);
        database.take(&log(&one, &Seen::new())).await.unwrap();
    });
    assert_eq!(server.query("SELECT count(*) FROM tandem.users"), ["1000"]);
}

#[test]
fn what_is_lacking_comes_in_parts_of_some_bytes() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (one, _) = two_servers();
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        let ops = log(&one, &Seen::new());
        database.take(&ops).await.unwrap();
        let whole = ops[..3].iter().map(Vec::len).sum();
        assert_eq!(database.lacking(&Seen::new(), whole).await.unwrap(), ops[..3]);
        assert_eq!(database.lacking(&Seen::new(), whole + 1).await.unwrap(), ops[..4]);
        assert_eq!(database.lacking(&Seen::new(), 1).await.unwrap(), ops[..1]);
        assert_eq!(database.lacking(&Seen::new(), usize::MAX).await.unwrap(), ops);
    });
}

#[test]
fn a_wrong_password_is_said_without_it() {
    let server = Server::with_password("right");
    let address = Server::address(&[&server]);
    block_on(async {
        let access = Access::parse(&address, Some("gEheim")).unwrap();
        let what = refused(Database::connect(&access, setup()).await);
        assert!(what.contains("password authentication failed for user \"tandem\""), "{what}");
        assert!(!what.contains("gEheim") && !format!("{access:?}").contains("gEheim"));
        let what = refused(connect(&address).await);
        assert!(what.contains("password missing"), "{what}");
        let access = Access::parse(&address, Some("right")).unwrap();
        drop(Database::connect(&access, setup()).await.unwrap());
    });
}

#[test]
fn the_first_host_that_is_writable_is_taken() {
    let mut first = Server::new();
    let second = first.standby();
    let address = Server::address(&[&second, &first]);
    let by_order = Server::address(&[&first, &second]);
    block_on(async {
        let database = connect(&address).await.unwrap();
        let host = database.host().to_owned();
        assert_eq!(connect(&by_order).await.unwrap().host(), host, "the standby is never taken");
    });
    first.kill();
    block_on(async {
        let error = connect(&address).await.unwrap_err();
        assert!(matches!(&error, Trouble::Away(what) if what.contains("; ")), "{error}");
        assert!(error.to_string().contains("it takes no writes: a standby"), "{error}");
    });
    second.promote();
    block_on(async {
        let database = tokio::time::timeout(DEADLINE, connect(&by_order)).await.unwrap().unwrap();
        assert_eq!(database.op_count().await.unwrap(), (0, 0));
    });
}
