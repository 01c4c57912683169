//! Real processes on loopback addresses: files are on both machines, whatever is killed.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tandem::demo::place::{Folder, Place};
use tandem::demo::twins::Twins;
use tandem::demo::wait;
use tandem_files::{ContentId, verify_all};
use tandem_types::Dice;

/// Far beyond what anything here takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Pairs look for free addresses one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A pair, and files to add.
struct Pair {
    twins: Twins,
    folder: Folder,
}

impl Pair {
    fn up() -> Self {
        let place = Place::loopback().unwrap();
        let folder = Folder::new(None).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_tandem"));
        let mut twins = Twins::set_up(program, folder.path(), &place).unwrap();
        twins.start().unwrap();
        twins.wait_protected(LIMIT).unwrap();
        let mut pair = Self { twins, folder };
        pair.wait_files_socket(0);
        pair.wait_files_socket(1);
        pair
    }

    fn wait_files_socket(&mut self, at: usize) {
        wait::until("the files", LIMIT, || {
            let report = self.try_json(at, &["file", "classes", "--json"]);
            Ok(report.filter(|report| report["twin"] == true))
        })
        .unwrap();
    }

    fn command(&self, at: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.env_remove("TANDEM_CONFIG").arg("--config");
        command.arg(&self.twins.machines[at].config_path);
        command
    }

    fn run(&self, at: usize, words: &[&str]) -> Output {
        self.command(at).args(words).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn prints(&self, at: usize, words: &[&str]) -> String {
        let output = self.run(at, words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_json(&self, at: usize, words: &[&str]) -> Option<Value> {
        serde_json::from_slice(&self.run(at, words).stdout).ok()
    }

    fn file(&self, name: &str, seed: u64, bytes: usize) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, noise(seed, bytes)).unwrap();
        path
    }

    fn add(&self, at: usize, path: &Path) -> String {
        self.prints(at, &["file", "add", "recordings", path.to_str().unwrap()])
    }

    fn start_add(&self, at: usize, path: &Path) -> Child {
        let mut command = self.command(at);
        command.args(["file", "add", "recordings"]).arg(path).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    fn files(&self, at: usize) -> PathBuf {
        self.twins.machines[at].config.state.join("files")
    }

    /// Waits until a machine says that both have everything.
    fn wait_equal(&self, at: usize) {
        let seen = wait::until("equal files", LIMIT, || {
            let report = self.try_json(at, &["file", "classes", "--json"]);
            Ok(report.filter(|report| {
                let classes = report["classes"].as_array().cloned().unwrap_or_default();
                let none = |amount: &Value| amount["files"] == 0;
                !classes.is_empty()
                    && classes
                        .iter()
                        .all(|class| none(&class["lacking_here"]) && none(&class["lacking_there"]))
            }))
        });
        seen.unwrap_or_else(|error| panic!("{error:#}: {}", self.prints(at, &["file", "classes"])));
    }

    /// Reads everything on both machines and compares it with its name.
    fn assert_whole(&self, contents: &[Vec<u8>]) {
        for at in 0..2 {
            let named = contents.iter().map(|bytes| ContentId::of(bytes));
            let report = verify_all(&self.files(at), named).unwrap();
            assert_eq!((report.damaged, report.missing), (vec![], vec![]), "machine {at}");
            assert!(report.whole.len() >= contents.len(), "machine {at}");
        }
    }

    fn server(&mut self, at: usize) -> u32 {
        let status = self.twins.status(at).unwrap().unwrap();
        status.services[0].pid.unwrap()
    }

    /// Whether anything is on its way to a machine.
    fn is_coming(&self, at: usize) -> bool {
        let entries = std::fs::read_dir(self.files(at).join("incoming")).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().ends_with(".list"))
    }
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    Dice::from_number(seed).fill(&mut noise);
    noise
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn files_are_added_listed_read_removed_and_mended_on_either_machine() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let pair = Pair::up();
    let (first, second) = (pair.file("greeting.wav", 1, 300_000), pair.file("next", 2, 3_000_000));
    let said = pair.add(1, &first);
    assert!(said.contains("saved on both machines"), "{said}");
    let again = ["file", "add", "recordings", second.to_str().unwrap(), "--name", "greeting.wav"];
    assert!(pair.prints(0, &again).contains("saved on both machines"));
    pair.assert_whole(&[noise(1, 300_000), noise(2, 3_000_000)]);
    // What is in force, and what was.
    let to = pair.folder.path().join("out");
    let get = |at: usize, version: &str| {
        let out = to.to_str().unwrap();
        let words = ["file", "get", "recordings", "greeting.wav", "-o", out, "--version", version];
        pair.prints(at, &words);
        std::fs::read(&to).unwrap()
    };
    assert_eq!((get(1, "1"), get(0, "2")), (noise(2, 3_000_000), noise(1, 300_000)));
    let mode = std::fs::metadata(&to).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "only its owner reads it");
    let refused = pair.run(0, &["file", "get", "recordings", "greeting.wav", "-o", "/dev/null"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is no file"), "{refused:?}");
    let listed = pair.try_json(1, &["file", "list", "--versions", "--json"]).unwrap();
    let rows = listed.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{listed:#}");
    assert!(rows.iter().all(|row| row["here"] == true && row["there"] == true), "{listed:#}");
    assert_eq!(rows[0]["media_type"], "audio/wav");
    let page = pair.prints(0, &["file", "list"]);
    assert_eq!(page.lines().count(), 2, "{page}");
    assert!(page.contains("on both machines"), "{page}");
    // A disk that lost some bytes: whoever reads it gets what it was, from the other machine.
    let damaged = pair.files(0).join(rows[0]["content"].as_str().unwrap().get(..2).unwrap());
    let damaged = damaged.join(rows[0]["content"].as_str().unwrap());
    std::fs::write(&damaged, noise(3, 3_000_000)).unwrap();
    assert_eq!(get(0, "1"), noise(2, 3_000_000));
    pair.assert_whole(&[noise(1, 300_000), noise(2, 3_000_000)]);
    // Removed on one machine, brought back on the other.
    pair.prints(0, &["file", "remove", "recordings", "greeting.wav"]);
    assert_eq!(pair.prints(1, &["file", "list"]).lines().count(), 1);
    let changes = pair.try_json(1, &["change", "list", "--json"]).unwrap();
    let change = changes[0]["id"].as_str().unwrap();
    assert!(changes[0]["what"][0].as_str().unwrap().contains("recordings/greeting.wav: removed"));
    pair.prints(1, &["change", "undo", change]);
    pair.wait_equal(0);
    assert_eq!(get(0, "1"), noise(2, 3_000_000));
    // What is refused, and why.
    let refused = pair.run(0, &["file", "get", "recordings", "nothing"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no such file"));
    let status = pair.prints(0, &["status"]);
    assert!(!status.contains("\nfiles "), "nothing to say of files that are equal: {status}");
}

#[test]
fn a_receiver_that_is_killed_in_the_middle_goes_on_where_it_was() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pair = Pair::up();
    let mut contents = Vec::new();
    let mut cut = 0;
    // A machine that is fast may be done before it is killed: another file then.
    for seed in 10..20 {
        let path = pair.file(&format!("long-{seed}"), seed, 24_000_000);
        contents.push(noise(seed, 24_000_000));
        let receiver = pair.server(1);
        let mut adding = pair.start_add(0, &path);
        wait::until("a file on its way", LIMIT, || {
            Ok((pair.is_coming(1) || adding.try_wait()?.is_some()).then_some(()))
        })
        .unwrap();
        kill(receiver);
        cut += usize::from(pair.is_coming(1));
        let said = adding.wait_with_output().unwrap();
        assert!(said.status.success(), "{said:?}");
        if cut > 0 {
            break;
        }
        pair.wait_files_socket(1);
    }
    assert!(cut > 0, "no file was cut off in the middle");
    pair.wait_equal(0);
    pair.wait_equal(1);
    assert!(!pair.is_coming(1));
    pair.assert_whole(&contents);
}

#[test]
fn a_machine_alone_keeps_a_file_and_says_so_plainly() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pair = Pair::up();
    pair.twins.stop_keeper(1);
    wait::until("the link to go down", LIMIT, || {
        let report = pair.try_json(0, &["file", "classes", "--json"]);
        Ok(report.filter(|report| report["twin"] == false))
    })
    .unwrap();
    let path = pair.file("alone", 30, 2_000_000);
    let said = pair.add(0, &path);
    assert!(said.contains("THIS MACHINE ONLY"), "{said}");
    pair.twins.start_keeper(1).unwrap();
    pair.wait_equal(0);
    pair.assert_whole(&[noise(30, 2_000_000)]);
}

#[test]
fn a_flipped_bit_that_nobody_reads_is_found_and_mended_from_the_other_machine() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pair = Pair::up();
    let path = pair.file("quiet", 40, 5_000_000);
    assert!(pair.add(0, &path).contains("saved on both machines"));
    let content = ContentId::of(&noise(40, 5_000_000)).to_string();
    pair.twins.stop_keeper(0);
    let stored = pair.files(0).join(&content[..2]).join(&content);
    let mut bytes = std::fs::read(&stored).unwrap();
    bytes[4_321_000] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    // As after a week.
    std::fs::remove_file(pair.files(0).join("scrub")).unwrap();
    pair.twins.start_keeper(0).unwrap();
    let report = wait::until("all to be read again", LIMIT, || {
        let report = pair.try_json(0, &["file", "classes", "--json"]);
        Ok(report.filter(|report| !report["scrub"]["ended_millis"].is_null()))
    })
    .unwrap();
    assert_eq!(report["scrub"]["damaged"], 1, "{report:#}");
    pair.wait_equal(0);
    pair.assert_whole(&[noise(40, 5_000_000)]);
    assert!(pair.files(0).join("damaged").join(&content).exists());
    let events = pair.prints(0, &["events"]);
    assert!(events.contains("recordings/quiet was damaged or gone on this disk"), "{events}");
    let page = pair.prints(0, &["file", "classes"]);
    assert!(page.contains("scrub: 0 right (0.0 KiB), 1 damaged; everything"), "{page}");
}
