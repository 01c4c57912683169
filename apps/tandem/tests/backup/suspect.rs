//! A database that is damaged while its server runs: the twin carries on, and it comes back from there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rusqlite::Connection;

use crate::common::DEADLINE;
use crate::common::calls::{open, write_calls};
use crate::common::machines::{Machine, Pair, told};

const PAGE: u64 = 4_096;

/// Overwrites every page but the first of a database that a server has open, as a broken disk does.
fn ruin_open(machine: &Machine, name: &str) {
    let path = machine.state().join(name);
    let connection = Connection::open(&path).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    // Everything is in the file, and the server reads it again.
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert!(!busy);
    let file = File::options().write(true).open(&path).unwrap();
    let pages = file.metadata().unwrap().len() / PAGE;
    assert!(pages > 3, "{pages}");
    for page in 1..pages {
        file.write_all_at(&[0x5a; 4_096], page * PAGE).unwrap();
    }
}

#[test]
fn a_passive_whose_configuration_is_damaged_while_it_runs_ends_and_gets_it_from_its_twin() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.standby.wait_users(&["anna"]);
    ruin_open(&pair.standby, "config.db");
    // What the twin writes is the first that meets the damage.
    pair.master.add("ben", "11");
    pair.standby.wait_text("config.db was found damaged while in use");
    pair.standby.wait_text("stopping: a file of this machine was found damaged");
    pair.standby.wait_text("nothing is served here before");
    pair.standby.wait_text("has brought back the configuration");
    pair.wait_together();
    pair.standby.wait_users(&["anna", "ben"]);
    assert!(pair.standby.state().join("config.db.broken-1").exists());
    for mark in ["config.db.suspect", "config.lost"] {
        assert!(!pair.standby.state().join(mark).exists(), "{mark}");
    }
    assert!(told(&pair.master, "config_damaged"), "the other machine knows too");
    assert_eq!(pair.master.json(&["status", "--json"])["role"], "active", "nothing moved");
    pair.master.prints(&["verify"]);
}

#[test]
fn an_active_without_its_twin_goes_on_with_a_damaged_configuration_until_the_twin_is_there() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.standby.wait_users(&["anna"]);
    pair.standby.kill();
    pair.master.wait_text("the link to the twin is down");
    ruin_open(&pair.master, "config.db");
    let refused = pair.master.command(&["user", "add", "ben", "--number", "11"]);
    assert!(!refused.status.success(), "{refused:?}");
    pair.master.wait_text("THIS MUST BE LOOKED AT");
    let status = pair.master.prints(&["status"]);
    assert!(status.contains("DAMAGED     config.db was found damaged while in use"), "{status}");
    assert!(fs::read(pair.master.state().join("config.db.suspect")).is_ok());
    assert_eq!(pair.master.json(&["status", "--json"])["role"], "active");
    pair.standby.start();
    pair.master.wait_text("stopping: a file of this machine was found damaged");
    pair.standby.wait_role("active");
    pair.master.wait_text("has brought back the configuration");
    pair.wait_together();
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna"]);
    }
    pair.master.add("ben", "11");
    pair.standby.wait_users(&["anna", "ben"]);
    pair.standby.prints(&["verify"]);
}

#[test]
fn a_mark_on_a_file_that_is_right_costs_one_look_and_is_told() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.standby.kill();
    let mark = pair.standby.state().join("config.db.suspect");
    fs::write(&mark, "was it?").unwrap();
    let said = String::from_utf8(pair.standby.command(&["verify"]).stdout).unwrap();
    assert!(said.contains("- it was found damaged while it was in use (was it?)"), "{said}");
    pair.standby.start();
    pair.standby.wait_text("it was read as a whole now, and is used");
    pair.wait_together();
    assert!(!mark.exists());
    pair.standby.wait_users(&["anna"]);
}

/// A pair with records of calls on both machines.
fn up_with_calls(calls: &[&str]) -> Pair {
    let mut pair = Pair::set_up();
    fs::create_dir_all(pair.master.state()).unwrap();
    write_calls(&pair.master.state(), 50, calls);
    pair.start();
    pair.standby.wait_calls(calls);
    pair
}

/// Lets both servers look for records that are too old: they read the journal, and there are none.
fn look_for_old_records(machine: &Machine, days: &str) {
    machine.prints(&["cdr", "retention", days]);
}

#[test]
fn a_passive_whose_call_records_are_damaged_while_it_runs_ends_and_gets_them_from_its_twin() {
    let mut pair = up_with_calls(&["one", "two"]);
    pair.master.wait_role("active");
    ruin_open(&pair.standby, "journal.db");
    // Who reads them there is the first to meet it, and leaves a mark for the server.
    let said = pair.standby.refused(1, &["cdr", "list"]);
    assert!(said.contains("The file is damaged"), "{said}");
    let status = pair.standby.prints(&["status"]);
    assert!(status.contains("DAMAGED     journal.db was found damaged"), "{status}");
    look_for_old_records(&pair.master, "400");
    pair.standby.wait_text("journal.db was found damaged while in use");
    pair.standby.wait_text("stopping: a file of this machine was found damaged");
    // Many read it while it is put aside; none of them marks the new one.
    pair.standby.wait_calls(&["one", "two"]);
    pair.wait_together();
    assert!(pair.standby.state().join("journal.db.broken-1").exists());
    assert!(!pair.standby.state().join("journal.db.suspect").exists());
    for kind in ["journal_damaged", "journal_lost"] {
        assert!(told(&pair.master, kind), "the other machine knows too: {kind}");
    }
    assert_eq!(pair.master.status()["role"], "active", "nothing moved");
    assert!(!pair.standby.prints(&["status"]).contains("DAMAGED"));
    pair.master.prints(&["verify"]);
}

#[test]
fn an_active_whose_call_records_are_damaged_while_it_runs_leaves_the_calls_to_its_twin() {
    let mut pair = up_with_calls(&["one", "two"]);
    pair.master.wait_role("active");
    ruin_open(&pair.master, "journal.db");
    look_for_old_records(&pair.master, "400");
    pair.master.wait_text("journal.db was found damaged while in use");
    pair.master.wait_text("stopping: a file of this machine was found damaged");
    pair.standby.wait_role("active");
    pair.master.wait_calls(&["one", "two"]);
    pair.wait_together();
    assert!(pair.master.state().join("journal.db.broken-1").exists());
    assert_eq!(pair.standby.status()["role"], "active");
    pair.standby.prints(&["verify"]);
}

/// Waits until so many calls are on record; the list shows twenty.
#[track_caller]
fn wait_exported(machine: &Machine, calls: usize) {
    let until = Instant::now() + DEADLINE;
    loop {
        let exported = machine.command(&["cdr", "export", "--format", "jsonl"]).stdout;
        let there = exported.iter().filter(|byte| **byte == b'\n').count();
        if there == calls {
            return;
        }
        assert!(Instant::now() < until, "{there} instead of {calls}");
    }
}

#[test]
fn bytes_overwritten_amid_the_call_records_of_a_machine_that_is_off_come_back_from_its_twin() {
    let calls: Vec<String> = (0..400).map(|number| format!("call-{number:03}")).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let mut pair = up_with_calls(&calls[..1]);
    pair.kill();
    write_calls(&pair.master.state(), 60, &calls);
    pair.start();
    wait_exported(&pair.standby, calls.len());
    pair.standby.kill();
    // Whoever closes it as the last one leaves everything in the file itself.
    drop(open(&pair.standby.state(), tandem_store::Settings::default()));
    let path = pair.standby.state().join("journal.db");
    let file = File::options().write(true).open(&path).unwrap();
    let middle = file.metadata().unwrap().len() / PAGE / 2;
    assert!(middle > 20, "{middle}");
    file.write_all_at(&[0x5a; 3 * PAGE as usize], middle * PAGE).unwrap();
    drop(file);
    pair.standby.start();
    pair.wait_together();
    wait_exported(&pair.standby, calls.len());
    assert!(pair.standby.state().join("journal.db.broken-1").exists());
    assert!(told(&pair.master, "journal_lost"), "the other machine knows too");
    assert_eq!(pair.master.status()["role"], "active", "nothing moved");
    pair.standby.prints(&["verify"]);
}
