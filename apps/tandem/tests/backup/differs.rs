//! What is changed behind the back of a running machine, and how `tandem verify` names it on both.

use std::fs;

use rusqlite::Connection;

use crate::common::calls::write_calls;
use crate::common::machines::{Machine, Pair};
use crate::common::{DEADLINE, Folder};

/// Another program writes in a database of a running machine.
fn behind_the_back(machine: &Machine, name: &str, sql: &str) {
    let connection = Connection::open(machine.state().join(name)).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch(sql).unwrap();
    assert!(connection.changes() > 0, "{sql}");
}

/// What verify says of a machine where not all is right.
#[track_caller]
fn wrong(machine: &Machine) -> String {
    let output = machine.command(&["verify"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// As verify advises: the machine is stopped, the file renamed, the machine started.
fn make_anew(pair: &mut Pair, name: &str) {
    pair.standby.kill();
    for end in ["", "-wal", "-shm"] {
        let from = pair.standby.state().join(format!("{name}{end}"));
        let to = pair.standby.state().join(format!("old-{name}{end}"));
        assert!(fs::rename(from, to).is_ok() || !end.is_empty());
    }
    pair.standby.start();
    pair.wait_together();
}

fn with_calls(calls: &[&str]) -> Pair {
    let mut pair = Pair::set_up();
    write_calls(&pair.master.state(), 50, calls);
    pair.start();
    pair.standby.wait_calls(calls);
    pair.master.prints(&["verify"]);
    pair
}

#[test]
fn a_record_of_a_call_that_is_another_one_on_one_machine_is_named_on_both() {
    let mut pair = with_calls(&["one", "two"]);
    // The same call at the same place, told differently, and sealed as it should be.
    let other = Folder::new("another");
    write_calls(&other.0, 50, &["one"]);
    let sql = format!(
        "ATTACH '{}' AS other;
         UPDATE log_record SET (written, body, sum, ends) = (
             SELECT written, body, sum, ends FROM other.log_record WHERE key = CAST('cdr/one' AS BLOB))
         WHERE key = CAST('cdr/one' AS BLOB)",
        other.0.join("journal.db").display()
    );
    behind_the_back(&pair.standby, "journal.db", &sql);
    for machine in [&pair.master, &pair.standby] {
        let said = wrong(machine);
        assert!(said.contains("- cdr/one differs between the machines"), "{said}");
        assert!(said.contains("journal.db    right") && !said.contains("two"), "{said}");
    }
    make_anew(&mut pair, "journal.db");
    pair.standby.wait_calls(&["one", "two"]);
    for machine in [&pair.master, &pair.standby] {
        machine.prints(&["verify"]);
    }
}

#[test]
fn a_record_of_a_call_that_is_gone_on_one_machine_is_named_on_both() {
    let mut pair = with_calls(&["one", "two"]);
    let sql = "DELETE FROM log_record WHERE key = CAST('cdr/two' AS BLOB)";
    behind_the_back(&pair.standby, "journal.db", sql);
    let said = wrong(&pair.standby);
    assert!(said.contains("- cdr/two is on the other machine only"), "{said}");
    let said = wrong(&pair.master);
    assert!(said.contains("- cdr/two is on this machine only"), "{said}");
    make_anew(&mut pair, "journal.db");
    pair.standby.wait_calls(&["one", "two"]);
    for machine in [&pair.master, &pair.standby] {
        machine.prints(&["verify"]);
    }
}

#[test]
fn a_row_of_the_configuration_that_was_changed_past_the_server_is_named() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.master.add("ben", "11");
    pair.standby.wait_users(&["anna", "ben"]);
    // The rows are compared when the two meet; a look that met the adds would come again, and mend what follows.
    pair.kill();
    pair.start();
    pair.master.prints(&["verify"]);
    // Only what people see of it: the machine itself knows that nobody wrote that.
    let sql = "UPDATE users SET display = 'Mallory' WHERE id = (SELECT min(id) FROM users)";
    behind_the_back(&pair.standby, "config.db", sql);
    let said = wrong(&pair.standby);
    assert!(said.contains("config.db     WRONG"), "{said}");
    // What is kept of a row, too: the two differ.
    let sql = "UPDATE row_version SET body = (
            SELECT body FROM row_version WHERE tab = 1 ORDER BY key DESC LIMIT 1)
        WHERE tab = 1 AND key = (SELECT min(key) FROM row_version WHERE tab = 1)";
    behind_the_back(&pair.standby, "config.db", sql);
    for machine in [&pair.master, &pair.standby] {
        let said = wrong(machine);
        let line = "- the same changes, but table users of the configuration differs";
        assert!(said.contains(line), "{said}");
        let own = if machine.config == pair.standby.config { "WRONG" } else { "right" };
        assert!(said.contains(&format!("config.db     {own}")), "{said}");
    }
    make_anew(&mut pair, "config.db");
    pair.standby.wait_users(&["anna", "ben"]);
    for machine in [&pair.master, &pair.standby] {
        machine.prints(&["verify"]);
    }
}
