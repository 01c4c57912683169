//! Making backups, and what is left where that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use crate::common::calls::write_calls;
use crate::common::machines::{Machine, Pair};
use crate::common::{DEADLINE, Folder, tandem};

/// What is in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The complete backups in a folder.
fn complete(folder: &Path) -> Vec<String> {
    let is_one =
        |name: &String| !name.starts_with('.') && folder.join(name).join("manifest.json").exists();
    names(folder).into_iter().filter(is_one).collect()
}

#[test]
fn a_backup_of_a_pair_that_runs_is_complete_and_for_its_owner_only() {
    let pair = Pair::up();
    pair.master.add("anna", "10");
    let dir = pair.folder.0.join("kept");
    let made = pair.standby.backup(&dir, &[]);
    assert!(made.to_str().unwrap().ends_with("Z-standby"), "{made:?}");
    assert_eq!(names(&made), ["config.db", "journal.db", "manifest.json", "tandem.toml"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&made), 0o700);
    for name in names(&made) {
        assert_eq!(mode(&made.join(&name)), 0o600, "{name}");
    }
    let secret = fs::read_to_string(pair.master.config.with_file_name("pair.secret")).unwrap();
    for name in names(&made) {
        let text = String::from_utf8_lossy(&fs::read(made.join(&name)).unwrap()).into_owned();
        assert!(!text.contains(secret.trim()), "{name}");
    }
    let with = pair.master.backup(&dir, &["--with-secret"]);
    assert_eq!(fs::read_to_string(with.join("pair.secret")).unwrap(), secret);
    let good = pair.master.prints(&["verify", "--backup", made.to_str().unwrap()]);
    assert!(good.contains("everything is right: 4 of 4 looked at"), "{good}");
    let status = pair.master.prints(&["status"]);
    assert!(status.contains(with.to_str().unwrap()), "{status}");
}

#[test]
fn a_backup_is_one_file_where_that_is_wanted_also_of_a_machine_that_is_off() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.kill();
    write_calls(&pair.master.state(), 9, &["one", "two"]);
    let file = pair.folder.0.join("all.tar");
    let file = file.to_str().unwrap();
    let printed = pair.master.prints(&["backup", "--file", file]);
    assert!(printed.contains("complete: ") && printed.contains("the pair secret is not in it"));
    assert!(pair.master.refused(1, &["backup", "--file", file]).contains("already there"));
    let good = pair.master.prints(&["verify", "--backup", file]);
    assert!(good.contains("2 calls, each with its steps"), "{good}");
    let left: Vec<String> = names(&pair.folder.0);
    assert_eq!(left, [".tandem-master.lock", "all.tar", "master", "standby"], "nothing is left");
    let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "what is kept of passwords is in it");
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    let wrong = pair.master.refused(1, &["verify", "--backup", file]);
    assert!(wrong.contains("is damaged") || wrong.contains("cannot take"), "{wrong}");
    assert_eq!(names(&pair.folder.0), left);
}

#[test]
fn only_old_complete_backups_of_this_machine_are_removed() {
    let pair = Pair::up();
    let dir = pair.folder.0.join("kept");
    let other = pair.standby.backup(&dir, &[]);
    let first = pair.master.backup(&dir, &[]);
    fs::create_dir(dir.join("mine")).unwrap();
    fs::write(dir.join("mine").join("manifest.json"), "{}").unwrap();
    let incomplete = pair.master.backup(&dir, &[]);
    fs::remove_file(incomplete.join("manifest.json")).unwrap();
    let second = pair.master.backup(&dir, &[]);
    let third = pair.master.backup(&dir, &["--keep", "2"]);
    assert!(!first.exists());
    for stays in [&other, &incomplete, &second, &third, &dir.join("mine")] {
        assert!(stays.exists(), "{stays:?}");
    }
}

#[test]
fn a_bit_that_flips_anywhere_in_a_backup_is_found_and_nothing_is_restored_from_it() {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    let made = pair.master.backup(&pair.folder.0.join("kept"), &["--with-secret"]);
    pair.kill();
    let before = fs::read(pair.master.state().join("config.db")).unwrap();
    for name in ["config.db", "journal.db", "tandem.toml", "pair.secret"] {
        let whole = fs::read(made.join(name)).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(made.join(name), flipped).unwrap();
            for command in [&["verify", "--backup"][..], &["restore"]] {
                let mut arguments = command.to_vec();
                arguments.push(made.to_str().unwrap());
                let said = pair.master.refused(1, &arguments);
                assert!(said.contains("is damaged") && said.contains(name), "{name} {at}: {said}");
            }
        }
        fs::write(made.join(name), whole).unwrap();
    }
    fs::remove_file(made.join("manifest.json")).unwrap();
    let said = pair.master.refused(1, &["restore", made.to_str().unwrap()]);
    assert!(said.contains("no complete backup"), "{said}");
    assert_eq!(fs::read(pair.master.state().join("config.db")).unwrap(), before);
}

#[test]
fn a_backup_that_is_killed_leaves_none_and_the_next_one_clears_up() {
    let mut pair = Pair::up();
    pair.kill();
    let calls: Vec<String> = (0..400).map(|number| format!("call-{number}")).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    write_calls(&pair.master.state(), 9, &calls);
    let dir = pair.folder.0.join("kept");
    let (mut cut, mut done) = (0, 0);
    // Cut off later and later, until it is done before that.
    for turns in 0..400_u32 {
        let mut command = tandem();
        command.arg("--config").arg(&pair.master.config).arg("backup").arg(&dir);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        for _ in 0..turns * 40 {
            std::hint::black_box(fs::metadata(&pair.master.config).unwrap());
        }
        let _ = child.kill();
        if child.wait().unwrap().success() {
            done += 1;
            break;
        }
        cut += 1;
        for name in if dir.exists() { complete(&dir) } else { Vec::new() } {
            // Killed between its last step and its end.
            pair.master.prints(&["verify", "--backup", dir.join(&name).to_str().unwrap()]);
        }
    }
    assert!(cut > 3, "{cut} were cut off, {done} done");
    let made = pair.master.backup(&dir, &[]);
    pair.master.prints(&["verify", "--backup", made.to_str().unwrap()]);
    assert!(!dir.join(".tandem-master.partial").exists());
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_of_that_backup() {
    let mut pair = Pair::up();
    pair.kill();
    let calls: Vec<String> = (0..400).map(|number| format!("call-{number}")).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    write_calls(&pair.master.state(), 9, &calls);
    let mount = pair.folder.0.join("small");
    fs::create_dir(&mount).unwrap();
    // A disk of its own that is too small; nobody else sees it.
    let script = "mount -t tmpfs -o size=\"$4\" tmpfs \"$1\" || exit 77
                  \"$2\" --config \"$3\" backup \"$1\"; code=$?
                  ls -A \"$1\"; exit $code";
    let mut full = 0;
    // Full at one step after the other, up to the list at the end.
    for size in (16..2_000).step_by(8) {
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]);
        command.arg(&mount).arg(env!("CARGO_BIN_EXE_tandem")).arg(&pair.master.config);
        let output = command.arg(format!("{size}k")).output().unwrap();
        if output.status.code() == Some(77) {
            println!("SKIPPED: this machine allows no mount in a namespace: {output:?}");
            return;
        }
        if output.status.success() {
            break;
        }
        full += 1;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("full") || said.contains("No space left"), "{size}: {said}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), ".tandem-master.lock\n");
        let status: serde_json::Value =
            serde_json::from_slice(&fs::read(pair.master.state().join("backup.last")).unwrap())
                .unwrap();
        assert!(status["error"].is_string() && status["good"].is_null(), "{status}");
    }
    assert!(full > 10, "{full} found it full");
}

#[test]
fn a_machine_makes_its_backup_by_itself_and_says_so() {
    let mut pair = Pair::set_up();
    let dir = Folder::new("daily");
    for machine in [&pair.master, &pair.standby] {
        let mut text = fs::read_to_string(&machine.config).unwrap();
        text += &format!("[backup]\nfolder = {:?}\nkeep = 3\n", dir.0);
        fs::write(&machine.config, text).unwrap();
    }
    pair.start();
    let until = Instant::now() + DEADLINE;
    let told = |machine: &Machine| {
        let events = machine.json(&["events", "--json", "--limit", "1000"]);
        let made = events.as_array().unwrap().iter().filter(|event| event["kind"] == "backup_made");
        made.count()
    };
    // Both machines know the events of both.
    while told(&pair.master) < 2 || told(&pair.standby) < 2 {
        assert!(Instant::now() < until, "{}", pair.master.prints(&["events"]));
    }
    assert_eq!(complete(&dir.0).len(), 2);
    // One is enough for a day.
    pair.master.kill();
    pair.master.start();
    pair.wait_together();
    assert_eq!(complete(&dir.0).len(), 2);
}
