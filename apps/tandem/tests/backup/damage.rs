//! Files that are damaged when a machine starts: they come back from the twin, and nothing is served before.

use std::fs;

use tandem_types::{Dice, Seat};

use crate::common::calls::write_calls;
use crate::common::machines::{Machine, Pair, told};

/// Writes something else over a database, as a broken disk does.
fn ruin(machine: &Machine, name: &str) {
    let path = machine.state().join(name);
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(machine.state().join(format!("{name}{end}")));
    }
    let mut bytes = fs::read(&path).unwrap();
    let mut noise = 1_u32;
    for byte in &mut bytes {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = noise.to_le_bytes()[3];
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_configuration_of_the_passive_comes_back_from_its_twin() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.standby.wait_users(&["anna"]);
    pair.standby.kill();
    ruin(&pair.standby, "config.db");
    ruin(&pair.standby, "journal.db");
    pair.standby.start();
    pair.standby.wait_text("nothing is served here before");
    pair.standby.wait_text("has brought back the configuration");
    pair.wait_together();
    pair.standby.wait_users(&["anna"]);
    assert!(pair.standby.state().join("config.db.broken-1").exists());
    assert!(!pair.standby.state().join("config.lost").exists());
    for kind in ["config_lost", "config_found", "journal_lost"] {
        assert!(told(&pair.standby, kind), "{kind}");
    }
    pair.standby.prints(&["verify"]);
}

#[test]
fn a_damaged_configuration_of_the_active_while_both_were_off_comes_back_too() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.master.wait_twin_has_configuration();
    pair.kill();
    write_calls(&pair.standby.state(), 50, &["one"]);
    ruin(&pair.master, "config.db");
    ruin(&pair.master, "journal.db");
    // Alone it does not serve without its users.
    pair.master.start();
    pair.master.wait_text("nothing is served here before");
    let until = std::time::Instant::now() + crate::common::DEADLINE;
    loop {
        let output = pair.master.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if status["services"][0]["state"] == "up" {
            assert_eq!(
                (&status["fit"], &status["configuration_lost"]),
                (&false.into(), &true.into())
            );
            break;
        }
        assert!(std::time::Instant::now() < until, "{status:#}");
    }
    let status = pair.master.prints(&["status"]);
    assert!(status.contains("CONFIG LOST") && status.contains("tandem restore"), "{status}");
    pair.standby.start();
    // The one that has everything serves.
    pair.standby.wait_role("active");
    pair.master.wait_text("has brought back the configuration");
    pair.wait_together();
    pair.master.wait_users(&["anna"]);
    pair.master.wait_calls(&["one"]);
}

#[test]
fn a_machine_that_is_alone_with_a_lost_configuration_serves_after_a_restore() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    let made = pair.master.backup(&pair.folder.0.join("kept"), &[]);
    pair.kill();
    ruin(&pair.master, "config.db");
    pair.master.start();
    pair.master.wait_text("nothing is served here before");
    // Started anew it is still lost: the file that is there now is good, and empty.
    pair.master.kill();
    pair.master.start();
    let until = std::time::Instant::now() + crate::common::DEADLINE;
    while pair.master.command(&["user", "list"]).status.code() == Some(3) {
        assert!(std::time::Instant::now() < until);
    }
    assert_eq!(pair.master.json(&["status", "--json"])["configuration_lost"], true);
    pair.master.kill();
    pair.master.prints(&["restore", made.to_str().unwrap()]);
    pair.master.start();
    pair.master.wait_role("active");
    pair.master.wait_users(&["anna"]);
    assert_eq!(pair.master.json(&["status", "--json"])["configuration_lost"], false);
}

#[test]
fn verify_names_the_file_that_is_damaged_and_says_what_was_not_looked_at() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    let right = pair.master.json(&["verify", "--json"]);
    assert_eq!((&right["good"], right["findings"].as_array().unwrap().len()), (&true.into(), 4));
    pair.kill();
    let alone = pair.master.command(&["verify"]);
    assert_eq!(alone.status.code(), Some(1));
    let alone = String::from_utf8(alone.stdout).unwrap();
    assert!(alone.contains("other machine NOT LOOKED AT"), "{alone}");
    write_calls(&pair.master.state(), 50, &["one", "two"]);
    let state = pair.master.state();
    // Whoever closes it as the last one leaves all in the file itself.
    tandem_config::Config::open(&state, Seat::Master, Dice::from_number(1)).unwrap();
    let bytes = fs::read(state.join("config.db")).unwrap();
    let mut wrong = bytes.clone();
    let name = wrong.windows(4).rposition(|part| part == b"anna").unwrap();
    wrong[name] = b'b';
    fs::write(state.join("config.db"), wrong).unwrap();
    let said = String::from_utf8(pair.master.command(&["verify"]).stdout).unwrap();
    assert!(
        said.contains("config.db     WRONG") && said.contains("do: stop this machine"),
        "{said}"
    );
    assert!(
        said.contains("journal.db    right") && said.contains("; 2 calls, each with"),
        "{said}"
    );
    fs::write(state.join("config.db"), bytes).unwrap();
    // What only one of the two has is named.
    pair.start();
    pair.standby.wait_calls(&["one", "two"]);
    pair.master.prints(&["verify"]);
}
