//! A restore that is killed, at each of its steps, or finds the disk full: the old state or the new one, never
//! a mixture that somebody serves with.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::calls::write_calls;
use crate::common::done;
use crate::common::machines::{Machine, Pair};

/// What changes names or makes them last.
const STEPS: [&str; 6] = ["/^rename", "/^unlink", "/^mkdir", "/^rmdir", "/^fsync", "/^fdatasync"];

/// The folders of what was here before.
fn asides(state: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains("/before-restore-")).collect()
}

/// What was in a state folder, as bytes.
fn old_files(folder: &Path) -> Vec<Option<Vec<u8>>> {
    let names = ["config.db", "config.db-wal", "journal.db", "journal.db-wal"];
    names.map(|name| fs::read(folder.join(name)).ok()).to_vec()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    done(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// One that is killed when it does this for the so-manieth time; whether it was.
fn is_killed(machine: &Machine, made: &Path, step: &str, time: usize) -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={step}")]);
    strace.args(["-e", &format!("inject={step}:signal=KILL:when={time}")]);
    strace.arg(env!("CARGO_BIN_EXE_tandem")).arg("--config").arg(&machine.config);
    strace.arg("restore").arg(made).stdout(Stdio::null()).stderr(Stdio::null());
    !strace.status().unwrap().success()
}

/// A machine with a backup of one call, and other things in its files since.
fn with_backup() -> (Pair, std::path::PathBuf) {
    let mut pair = Pair::up();
    pair.master.add("anna", "10");
    pair.kill();
    let state = pair.master.state();
    write_calls(&state, 50, &["one"]);
    let made = pair.master.backup(&pair.folder.0.join("kept"), &[]);
    write_calls(&state, 60, &["two"]);
    // As a server that was killed leaves them.
    for name in ["config.db-wal", "journal.db-wal"] {
        fs::write(state.join(name), name).unwrap();
    }
    (pair, made)
}

#[test]
fn a_restore_that_is_killed_at_any_step_leaves_the_old_state_or_goes_on_when_started_again() {
    if Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_err() {
        println!("SKIPPED: no strace here");
        return;
    }
    let (pair, made) = with_backup();
    let state = pair.master.state();
    let template = pair.folder.0.join("template");
    copy(&state, &template);
    let before = old_files(&state);
    let (mut old, mut cut, mut done) = (0, 0, 0);
    let times = STEPS.into_iter().flat_map(|step| (1..100).map(move |time| (step, time)));
    let mut over = "";
    for (step, time) in times {
        if step == over {
            continue;
        }
        copy(&template, &state);
        if !is_killed(&pair.master, &made, step, time) {
            over = step;
            continue;
        }
        let step = format!("{step} {time}");
        let is_cut = state.join("restore.unfinished").exists();
        let is_done = !is_cut && old_files(&state) != before;
        if is_cut {
            cut += 1;
            let said = pair.master.refused(1, &["backup", pair.folder.0.to_str().unwrap()]);
            assert!(said.contains("a restore was cut off here"), "step {step}: {said}");
        } else if is_done {
            done += 1;
        } else {
            old += 1;
            // What is on its way is no part of the machine.
            continue;
        }
        pair.master.prints(&["restore", made.to_str().unwrap()]);
        let kept = asides(&state);
        assert!(kept.iter().any(|aside| old_files(aside) == before), "step {step}: {kept:?}");
        assert_eq!(kept.len(), 1 + usize::from(is_done), "step {step}: {kept:?}");
        assert_eq!(pair.master.calls(), ["one"], "step {step}");
        for name in ["restore.unfinished", ".restore", "config.db-wal", "journal.db-wal"] {
            assert!(!state.join(name).exists(), "step {step}: {name}");
        }
    }
    assert!(old > 5 && cut > 10 && done > 0, "{old} old, {cut} cut off, {done} done");
}

#[test]
fn a_restore_that_finds_the_disk_full_changes_nothing() {
    let (pair, made) = with_backup();
    let state = pair.master.state();
    let before = old_files(&state);
    let bytes: u64 = before.iter().flatten().map(|file| file.len() as u64).sum();
    let script = "cp -a \"$1\" \"$1.all\" && mount -t tmpfs -o size=\"$2\" tmpfs \"$1\" || exit 77
                  cp -a \"$1.all/.\" \"$1\" || exit 78
                  \"$3\" --config \"$4\" restore \"$5\"; code=$?
                  rm -r \"$1.all\"; cp -a \"$1\" \"$6\"; exit $code";
    let mut full = 0;
    for more in (16..400_u64).step_by(48) {
        let seen = pair.folder.0.join(format!("seen-{more}"));
        let size = format!("{}k", bytes.div_ceil(1_024) + 40 + more);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(&state);
        command.arg(size).arg(env!("CARGO_BIN_EXE_tandem")).arg(&pair.master.config);
        let output = command.arg(&made).arg(&seen).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(77) => {
                println!("SKIPPED: this machine allows no mount in a namespace: {said}");
                return;
            }
            Some(78) => {}
            Some(0) => assert_eq!(asides(&seen).len(), 1),
            code => {
                full += 1;
                assert_eq!(code, Some(1), "{said}");
                assert!(said.contains("nothing is changed"), "{more}: {said}");
                assert!(said.contains("full") || said.contains("No space"), "{more}: {said}");
                assert_eq!(old_files(&seen), before, "{more}");
                assert!(!seen.join(".restore").exists() && asides(&seen).is_empty(), "{more}");
            }
        }
        let _ = fs::remove_dir_all(state.with_extension("all"));
    }
    assert!(full > 1, "{full} found it full");
}
