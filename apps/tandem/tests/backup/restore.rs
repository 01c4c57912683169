//! Putting backups back: nothing that is newer on the twin is lost, and nothing old wins.

use std::fs;
use std::process::Stdio;

use crate::common::calls::write_calls;
use crate::common::machines::{Machine, Pair};
use crate::common::tandem;

#[test]
fn a_machine_that_is_put_back_gets_what_its_twin_has_and_takes_nothing_from_it() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.master.add("ben", "11");
    pair.kill();
    write_calls(&pair.master.state(), 50, &["early"]);
    pair.start();
    pair.standby.wait_calls(&["early"]);
    let made = pair.master.backup(&pair.folder.0.join("kept"), &[]);
    let made = made.to_str().unwrap();
    // What comes after: the twin is ahead of the backup.
    pair.master.add("carla", "12");
    pair.master.prints(&["user", "remove", "ben"]);
    pair.standby.add("dora", "13");
    let running = pair.master.refused(1, &["restore", made]);
    assert!(running.contains("the keeper of this machine runs"), "{running}");
    pair.master.kill();
    pair.standby.wait_role("active");
    pair.standby.add("emil", "14");
    let printed = pair.master.prints(&["restore", made]);
    assert!(printed.contains("restored; start it with"), "{printed}");
    assert!(printed.contains("1 records of calls"), "{printed}");
    let everybody = ["anna", "carla", "dora", "emil"];
    pair.master.start();
    pair.wait_together();
    pair.master.wait_users(&everybody);
    assert_eq!(pair.standby.users(), everybody, "nothing is lost on the twin");
    pair.master.wait_calls(&["early"]);
    // And it works: it may be active, and what is written there counts.
    let status = pair.master.json(&["status", "--json"]);
    assert_eq!(status["role"], "passive", "{status:#}");
    pair.master.prints(&["switch"]);
    pair.master.wait_role("active");
    pair.master.add("fritz", "15");
    pair.standby.wait_users(&["anna", "carla", "dora", "emil", "fritz"]);
    let right = pair.master.prints(&["verify"]);
    assert!(right.contains("everything is right: 4 of 4 looked at"), "{right}");
}

#[test]
fn both_machines_put_back_to_different_days_start_and_become_the_same() {
    let mut pair = Pair::up();
    let kept = pair.folder.0.join("kept");
    pair.master.add("anna", "10");
    pair.kill();
    write_calls(&pair.master.state(), 50, &["monday"]);
    pair.start();
    pair.standby.wait_calls(&["monday"]);
    let monday = pair.master.backup(&kept, &[]);
    pair.standby.add("ben", "11");
    pair.master.prints(&["user", "set", "anna", "--display", "Anna of Tuesday"]);
    pair.kill();
    write_calls(&pair.standby.state(), 60, &["tuesday"]);
    pair.start();
    pair.master.wait_calls(&["monday", "tuesday"]);
    let tuesday = pair.standby.backup(&kept, &[]);
    pair.master.add("carla", "12");
    pair.kill();
    pair.master.prints(&["restore", monday.to_str().unwrap()]);
    pair.standby.prints(&["restore", tuesday.to_str().unwrap()]);
    pair.start();
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna", "ben"]);
        machine.wait_calls(&["monday", "tuesday"]);
        let users = machine.json(&["user", "list", "--json"]);
        assert_eq!(users[0]["display"], "Anna of Tuesday", "the newest write wins");
    }
    pair.master.prints(&["verify"]);
    // The backup of one machine on both.
    pair.kill();
    for machine in [&pair.master, &pair.standby] {
        machine.prints(&["restore", monday.to_str().unwrap()]);
    }
    pair.start();
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna"]);
        machine.wait_calls(&["monday"]);
    }
    pair.standby.add("dora", "13");
    pair.master.add("emil", "14");
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna", "dora", "emil"]);
    }
    pair.standby.prints(&["verify"]);
}

#[test]
fn a_machine_of_which_nothing_is_left_is_set_up_from_a_backup() {
    let mut pair = Pair::up();
    let kept = pair.folder.0.join("kept");
    pair.master.add("anna", "10");
    let with = pair.master.backup(&kept, &["--with-secret"]);
    let without = pair.master.backup(&kept, &[]);
    pair.master.kill();
    pair.standby.wait_role("active");
    pair.standby.add("ben", "11");
    let home = pair.master.config.parent().unwrap().to_owned();
    fs::remove_dir_all(&home).unwrap();
    let said = pair.master.refused(1, &["restore", without.to_str().unwrap()]);
    assert!(said.contains("the pair secret of the other machine"), "{said}");
    assert!(!home.exists());
    pair.master.prints(&["restore", with.to_str().unwrap()]);
    pair.master.start();
    pair.wait_together();
    pair.master.wait_users(&["anna", "ben"]);
    pair.master.kill();
    // The other way: the secret is carried over from the twin by hand.
    fs::remove_dir_all(&home).unwrap();
    fs::create_dir(&home).unwrap();
    let secret = pair.standby.config.with_file_name("pair.secret");
    fs::copy(secret, pair.master.config.with_file_name("pair.secret")).unwrap();
    pair.master.prints(&["restore", without.to_str().unwrap()]);
    pair.master.start();
    pair.wait_together();
    pair.master.wait_users(&["anna", "ben"]);
}

#[test]
fn the_configuration_of_a_day_comes_back_on_both_as_one_change_that_can_be_undone() {
    let pair = Pair::up();
    pair.master.add("anna", "10");
    pair.master.add("ben", "11");
    pair.master.wait_twin_has_configuration();
    let made = pair.standby.backup(&pair.folder.0.join("kept"), &[]);
    let made = made.to_str().unwrap();
    pair.master.prints(&["user", "remove", "ben"]);
    pair.master.prints(&["user", "set", "anna", "--new-password"]);
    pair.master.add("carla", "12");
    let shown = pair.master.prints(&["restore", made, "--configuration"]);
    assert!(shown.contains("+ user ben: 11") && shown.contains("- user carla"), "{shown}");
    assert!(shown.contains("~ user anna: another password"), "passwords come back: {shown}");
    assert!(shown.contains("nothing is changed yet"), "{shown}");
    assert_eq!(pair.master.users(), ["anna", "carla"]);
    pair.master.prints(&["restore", made, "--configuration", "--apply"]);
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna", "ben"]);
    }
    let again = pair.standby.prints(&["restore", made, "--configuration"]);
    assert!(again.contains("nothing is different"), "{again}");
    let changes = pair.master.json(&["change", "list", "--json"]);
    pair.master.prints(&["change", "undo", changes[0]["id"].as_str().unwrap()]);
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna", "carla"]);
    }
}

#[test]
fn a_backup_of_another_pair_and_half_a_restore_are_refused() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    let made = pair.master.backup(&pair.folder.0.join("kept"), &[]);
    let made = made.to_str().unwrap();
    pair.kill();
    let other = Pair::set_up();
    let said = other.master.refused(1, &["restore", made]);
    assert!(said.contains("of another pair") && !other.master.state().join("config.db").exists());
    other.master.prints(&["restore", made, "--other-pair"]);
    assert!(other.master.state().join("config.db").exists());
    // As a restore that was killed leaves it.
    let mark = pair.master.state().join("restore.unfinished");
    fs::write(&mark, "").unwrap();
    let mut machine = Machine::of(pair.master.config.clone());
    machine.start();
    machine.wait_text("a restore was cut off here");
    machine.kill();
    pair.master.prints(&["restore", made]);
    assert!(!mark.exists());
    pair.start();
    pair.standby.wait_users(&["anna"]);
}

#[test]
fn a_restore_that_is_killed_leaves_what_was_there_or_is_done_again() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.kill();
    write_calls(&pair.master.state(), 50, &["one", "two"]);
    let made = pair.master.backup(&pair.folder.0.join("kept"), &[]);
    let state = pair.master.state();
    let (mut before, mut within) = (0, 0);
    for turns in 0..800_u32 {
        let mut command = tandem();
        command.arg("--config").arg(&pair.master.config).arg("restore").arg(&made);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        for _ in 0..turns * 20 {
            std::hint::black_box(fs::metadata(&pair.master.config).unwrap());
        }
        let _ = child.kill();
        if child.wait().unwrap().success() {
            break;
        }
        if state.join("restore.unfinished").exists() {
            within += 1;
        } else {
            before += 1;
            assert!(state.join("config.db").exists() && state.join("journal.db").exists());
        }
    }
    assert!(before > 3, "{before} were killed before anything changed, {within} within");
    pair.master.prints(&["restore", made.to_str().unwrap()]);
    let found = String::from_utf8(pair.master.command(&["verify"]).stdout).unwrap();
    assert!(found.contains("config.db     right") && found.contains("2 calls"), "{found}");
    pair.start();
    pair.standby.wait_calls(&["one", "two"]);
    pair.standby.wait_users(&["anna"]);
}
