//! Backups where something is wrong: files that are damaged or lost, a full disk, a clock that was, and root who
//! makes one for a service that is not root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tandem_config::Config;
use tandem_types::{Dice, Seat};

use crate::common::calls::write_calls;
use crate::common::machines::{Machine, Pair, told};
use crate::common::{DEADLINE, done};

/// What is in a folder, without what is hidden.
fn seen(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_seen = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
    entries.filter(is_seen).collect()
}

/// A machine that is off, with calls.
fn with_calls() -> Pair {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.kill();
    // Whoever closes it as the last one leaves all in the file itself.
    Config::open(&pair.master.state(), Seat::Master, Dice::from_number(1)).unwrap();
    let calls: Vec<String> = (0..400).map(|number| format!("call-{number}")).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    write_calls(&pair.master.state(), 9, &calls);
    pair
}

fn last(machine: &Machine) -> Value {
    serde_json::from_slice(&fs::read(machine.state().join("backup.last")).unwrap()).unwrap()
}

#[test]
fn a_damaged_database_is_no_backup_and_pushes_none_out() {
    let pair = with_calls();
    let dir = pair.folder.0.join("kept");
    let keep = ["backup", dir.to_str().unwrap(), "--keep", "1"];
    pair.master.prints(&keep);
    let good = seen(&dir);
    for name in ["config.db", "journal.db"] {
        let path = pair.master.state().join(name);
        let whole = fs::read(&path).unwrap();
        // From the third page on; and so that it cannot even be opened.
        for from in [8_192, 0] {
            let mut wrong = whole.clone();
            wrong[from..].iter_mut().for_each(|byte| *byte ^= 0x5a);
            fs::write(&path, wrong).unwrap();
            let said = pair.master.refused(1, &keep);
            assert!(said.contains(name), "{said}");
            let words = ["damaged", "malformed", "not a database"];
            assert!(words.iter().any(|word| said.contains(word)), "{said}");
            assert_eq!(seen(&dir), good);
            let last = last(&pair.master);
            assert!(last["error"].is_string() && last["good"].is_object(), "{last}");
        }
        fs::write(&path, whole).unwrap();
    }
    pair.master.prints(&keep);
    assert_ne!(seen(&dir), good);
}

#[test]
fn a_machine_that_lost_its_configuration_makes_no_backup_of_that() {
    let pair = with_calls();
    let dir = pair.folder.0.join("kept");
    fs::write(pair.master.state().join("config.lost"), "").unwrap();
    let said = pair.master.refused(1, &["backup", dir.to_str().unwrap()]);
    assert!(said.contains("is lost") && said.contains("config.lost"), "{said}");
    assert_eq!(seen(&dir), Vec::<PathBuf>::new());
}

#[test]
fn a_backup_of_a_clock_that_was_ahead_neither_stays_alone_nor_pushes_the_new_one_out() {
    let pair = with_calls();
    let dir = pair.folder.0.join("kept");
    let wrong = pair.master.backup(&dir, &[]);
    let list = wrong.join("manifest.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    text["made_micros"] = 4_000_000_000_000_000_i64.into();
    fs::write(&list, serde_json::to_vec(&text).unwrap()).unwrap();
    let first = pair.master.backup(&dir, &["--keep", "2"]);
    let second = pair.master.backup(&dir, &["--keep", "2"]);
    let third = pair.master.backup(&dir, &["--keep", "2"]);
    assert!(wrong.exists(), "one of the two times is wrong: nobody knows which");
    assert!(!first.exists() && second.exists() && third.exists());
}

#[test]
fn an_old_backup_that_cannot_be_removed_does_not_make_the_new_one_a_failure() {
    let pair = with_calls();
    let dir = pair.folder.0.join("kept");
    let old = pair.master.backup(&dir, &[]);
    fs::create_dir(old.join("busy")).unwrap();
    // What somebody has mounted cannot be removed.
    let script = "mount -t tmpfs tmpfs \"$1/busy\" || exit 77
                  exec \"$2\" --config \"$3\" backup \"$4\" --keep 1";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(&old);
    command.arg(env!("CARGO_BIN_EXE_tandem")).arg(&pair.master.config).arg(&dir);
    let output = command.output().unwrap();
    if output.status.code() == Some(77) {
        println!("SKIPPED: this machine allows no mount in a namespace: {output:?}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("complete: ") && said.contains("an older one stays: "), "{said}");
    let last = last(&pair.master);
    assert!(last["error"].is_string() && last["good"]["path"] != old.to_str().unwrap(), "{last}");
}

#[test]
fn a_daily_backup_that_finds_the_disk_full_is_told_on_both_and_the_machine_goes_on() {
    let mut pair = Pair::set_up();
    let dir = pair.folder.0.join("small");
    fs::create_dir(&dir).unwrap();
    let mut text = fs::read_to_string(&pair.master.config).unwrap();
    text += &format!("[backup]\nfolder = {dir:?}\nkeep = 3\n");
    fs::write(&pair.master.config, text).unwrap();
    // A disk of its own for this machine, that is too small.
    let script = "mount -t tmpfs -o size=100k tmpfs \"$1\" || exit 77
                  exec \"$2\" --config \"$3\" keeper";
    let mut keeper = Command::new("unshare");
    keeper.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(&dir);
    keeper.arg(env!("CARGO_BIN_EXE_tandem")).arg(&pair.master.config);
    let probe = ["--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs"];
    if !Command::new("unshare").args(probe).arg(&dir).status().unwrap().success() {
        println!("SKIPPED: this machine allows no mount in a namespace");
        return;
    }
    pair.master.start_as(&mut keeper);
    pair.standby.start();
    pair.wait_together();
    let until = Instant::now() + DEADLINE;
    while !told(&pair.master, "backup_failed") || !told(&pair.standby, "backup_failed") {
        assert!(Instant::now() < until, "{}", pair.master.prints(&["events"]));
    }
    let error = last(&pair.master)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("full") || error.contains("No space"), "{error}");
    let process = pair.master.keeper().process.id();
    let inside = PathBuf::from(format!("/proc/{process}/root{}", dir.display()));
    let left: Vec<_> = fs::read_dir(inside).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, [".tandem-master.lock"]);
    let status = pair.master.prints(&["status"]);
    assert!(status.contains("full") || status.contains("No space"), "{status}");
    pair.master.add("anna", "10");
    pair.standby.wait_users(&["anna"]);
    // The next one is like any other.
    pair.master.backup(&pair.folder.0.join("kept"), &[]);
    assert!(last(&pair.master)["error"].is_null());
}

#[test]
fn what_root_makes_or_restores_belongs_to_the_service() {
    const NOBODY: u32 = 65_534;
    let pair = with_calls();
    let (state, dir) = (pair.master.state(), pair.folder.0.join("kept"));
    if fs::metadata(&state).unwrap().uid() != 0 {
        println!("SKIPPED: not root");
        return;
    }
    let of_nobody = |folder: &Path| {
        let mut find = Command::new("find");
        find.arg(folder).args(["!", "-user", &NOBODY.to_string()]);
        let found = done(&mut find);
        assert_eq!(found, "", "not of the service");
    };
    done(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(&state));
    let made = pair.master.backup(&dir, &["--with-secret"]);
    of_nobody(&dir);
    of_nobody(&state);
    // As on a machine where no server ever began.
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    for _ in ["new", "again"] {
        pair.master.prints(&["restore", made.to_str().unwrap()]);
        of_nobody(&state);
    }
}
