//! A backup of databases that an older version wrote.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use tandem_config::{MIGRATIONS, SCHEMA};
use tandem_oplog::{Origin, Schema};
use tandem_store::tables::{By, Setup, Tables};
use tandem_types::Epoch;

use crate::common::calls::write_calls;
use crate::common::machines::Pair;

/// A configuration as the first version wrote it, with one user.
fn first_configuration(state: &Path) {
    let schema = Schema { version: 1, tables: &SCHEMA.tables[..5] };
    let schema: &'static Schema = Box::leak(Box::new(schema));
    let setup = Setup { schema, migrations: &MIGRATIONS[..1], node: 0, origin: Origin(7) };
    let path = state.join("config.db");
    let mut tables = Tables::open(&path, &setup).unwrap();
    let by = By { author: "root".into(), wall_millis: 1_700_000_000_000, epoch: Epoch::NEVER };
    let sql = "INSERT INTO users (id, display, enabled, md_five, sha_two)
            VALUES (zeroblob(16), 'Anna', 1, zeroblob(16), zeroblob(32));
        INSERT INTO logins (name, user_id) VALUES ('anna', zeroblob(16));
        INSERT INTO numbers (number, user_id, place) VALUES ('10', zeroblob(16), 0)";
    tables.change(&by, |connection| connection.execute_batch(sql)).unwrap();
    drop(tables);
    // What came to the tables of the log itself since.
    let connection = Connection::open(&path).unwrap();
    let sql = "DROP TABLE passed; DROP TABLE staged; DROP TABLE damaged_row;
        DELETE FROM state WHERE name = 'own'";
    connection.execute_batch(sql).unwrap();
}

/// A journal as the first version wrote it: without checksums.
fn first_journal(state: &Path, calls: &[&str]) {
    write_calls(state, 50, calls);
    let (path, new) = (state.join("journal.db"), state.join("new.db"));
    fs::rename(&path, &new).unwrap();
    let columns = "key BLOB NOT NULL PRIMARY KEY, reign INTEGER NOT NULL, seq INTEGER NOT NULL,
        written INTEGER NOT NULL, body BLOB";
    let mut sql = format!("PRAGMA journal_mode = WAL; ATTACH '{}' AS new;", new.display());
    for table in ["hot_record", "table_record", "log_record"] {
        sql += &format!(
            "CREATE TABLE {table} ({columns}) STRICT;
             INSERT INTO main.{table} SELECT key, reign, seq, written, body FROM new.{table};"
        );
    }
    sql += "CREATE INDEX log_by_stamp ON log_record (reign, seq, key);
        CREATE TABLE known (reign INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
        INSERT INTO main.known SELECT reign, seq FROM new.known; DETACH new;
        PRAGMA application_id = 0x54414e44; PRAGMA user_version = 1;";
    Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
    fs::remove_file(new).unwrap();
}

fn version(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_backup_of_an_older_version_is_right_and_comes_back_either_way() {
    let mut pair = Pair::set_up();
    let state = pair.master.state();
    first_journal(&state, &["one", "two"]);
    first_configuration(&state);
    let made = pair.master.backup(&pair.folder.0.join("kept"), &[]);
    assert_eq!((version(&made.join("config.db")), version(&made.join("journal.db"))), (2, 1));
    let bytes = fs::read(made.join("journal.db")).unwrap();
    let made = made.to_str().unwrap();
    let right = pair.master.prints(&["verify", "--backup", made]);
    assert!(right.contains("everything is right: 4 of 4 looked at"), "{right}");
    assert!(right.contains("2 calls, each with its steps"), "{right}");
    assert_eq!(fs::read(Path::new(made).join("journal.db")).unwrap(), bytes, "as it was");
    // In place.
    let printed = pair.master.prints(&["restore", made]);
    assert!(printed.contains("2 records of calls"), "{printed}");
    pair.start();
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna"]);
        machine.wait_calls(&["one", "two"]);
    }
    pair.master.prints(&["verify"]);
    // As a change.
    pair.master.prints(&["user", "remove", "anna"]);
    let shown = pair.master.prints(&["restore", made, "--configuration"]);
    assert!(shown.contains("+ user anna: 10"), "{shown}");
    pair.master.prints(&["restore", made, "--configuration", "--apply"]);
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna"]);
    }
}
