//! Machines that are no pair: of another pair, set up alike, copied from one another. Real processes on
//! loopback addresses; each must be refused with a sentence that says what to do, and nothing may be lost.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Folder, block, init_master, init_standby, tandem};
use serde_json::Value;

/// A folder for everything, and a block of addresses of its own; both go away.
struct Ground {
    folder: Folder,
    block: String,
}

/// A machine: its folder and, while it runs, its keeper.
struct Machine {
    folder: PathBuf,
    keeper: Option<Child>,
}

impl Ground {
    fn new() -> Self {
        Self { folder: Folder::new("foreign"), block: block() }
    }

    /// A master, and the code for its standby.
    fn master(&self, name: &str) -> (Machine, String) {
        let folder = self.folder.0.join(name);
        let code = init_master(&folder, &self.block);
        (Machine { folder, keeper: None }, code)
    }

    fn standby(&self, code: &str) -> Machine {
        let folder = self.folder.0.join("standby");
        init_standby(&folder, code);
        Machine { folder, keeper: None }
    }

    /// The disk of the master in the other machine, with that machine's addresses.
    fn copy(&self, master: &Machine) -> Machine {
        let folder = self.folder.0.join("copy");
        let done = Command::new("cp").arg("-a").arg(&master.folder).arg(&folder).status().unwrap();
        assert!(done.success());
        let copy = Machine { folder, keeper: None };
        let [one, two] = [1, 2].map(|number| format!("[\"{}.{number}\"]", self.block));
        copy.set("address", &two);
        copy.set("peer", &one);
        copy
    }
}

impl Machine {
    fn file(&self) -> PathBuf {
        self.folder.join("tandem.toml")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Another value for a key that is in the file.
    fn set(&self, key: &str, value: &str) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        let beginning = format!("{key} = ");
        let mut count = 0;
        let line = |line: &str| match line.starts_with(&beginning) {
            true => {
                count += 1;
                format!("{beginning}{value}\n")
            }
            false => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        assert_eq!(count, 1, "{key} in {text}");
        std::fs::write(self.file(), text).unwrap();
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let mut keeper = tandem();
        keeper.arg("--config").arg(self.file()).arg("keeper").stdout(log);
        self.keeper = Some(keeper.spawn().unwrap());
    }

    fn stop(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let pid = keeper.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        keeper.wait().unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Option<String> {
        let output = tandem().arg("--config").arg(self.file()).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }

    fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.command(&["status", "--json"])?).ok()
    }

    /// Waits until `tandem status` says this.
    fn wait_page(&self, words: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let page = self.command(&["status"]).unwrap_or_default();
            if page.contains(words) {
                return page;
            }
            assert!(Instant::now() < until, "no {words:?} in\n{page}\n{}", self.log());
        }
    }

    fn wait_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !self.status().is_some_and(|status| wanted(&status)) {
            assert!(Instant::now() < until, "{what}: {:#?}\n{}", self.status(), self.log());
        }
    }

    fn users(&self) -> Vec<String> {
        let text = self.command(&["user", "list", "--json"]).unwrap();
        let users: Value = serde_json::from_str(&text).unwrap();
        let name = |user: &Value| user["name"].as_str().unwrap().to_owned();
        users.as_array().unwrap().iter().map(name).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

fn serves(status: &Value) -> bool {
    status["role"] == "active" && status["server"]["what"]["serving"] == true
}

fn is_file_there(path: &Path) -> bool {
    path.is_file()
}

#[test]
fn a_machine_of_another_pair_is_refused_and_both_say_why() {
    let ground = Ground::new();
    let ((mut master, _), (_, code)) = (ground.master("one"), ground.master("other"));
    let mut standby = ground.standby(&code);
    master.start();
    master.wait_status("it serves alone", serves);
    assert!(master.command(&["user", "add", "anna", "--number", "100"]).is_some());
    standby.start();
    for machine in [&master, &standby] {
        let page = machine.wait_page("does not know the secret of this pair");
        assert!(page.contains("is the other machine set up with the code of this pair?"), "{page}");
        assert!(page.contains("not compared with that of the other machine"), "{page}");
        let until = Instant::now() + DEADLINE;
        while !machine.log().contains("is not the twin: it does not know the secret of this pair") {
            assert!(Instant::now() < until, "{}", machine.log());
        }
    }
    // It tries again and again; that is told once.
    let told = master.log().matches("is not the twin").count();
    assert_eq!(told, 1, "{}", master.log());
    assert!(serves(&master.status().unwrap()));
    assert!(!serves(&standby.status().unwrap()));
    assert!(is_file_there(&standby.folder.join("state/config.db")));
}

#[test]
fn a_copied_disk_does_not_serve_beside_the_first_and_is_a_twin_as_soon_as_its_seat_is_mended() {
    let ground = Ground::new();
    let (mut master, _) = ground.master("one");
    master.start();
    master.wait_status("it serves alone", serves);
    assert!(master.command(&["user", "add", "anna", "--number", "100"]).is_some());
    master.stop();
    let mut copy = ground.copy(&master);
    master.start();
    master.wait_status("it serves alone", serves);
    copy.start();
    for machine in [&master, &copy] {
        let page = machine.wait_page("the other machine is set up as master too");
        assert!(page.contains("by `tandem init` and the code of this pair"), "{page}");
    }
    assert!(serves(&master.status().unwrap()), "who served goes on");
    assert!(!serves(&copy.status().unwrap()));
    // Meanwhile the first one goes on, under the name that both have in the configuration.
    assert!(master.command(&["user", "add", "bert", "--number", "101"]).is_some());
    copy.stop();
    copy.set("seat", "\"standby\"");
    copy.start();
    for machine in [&master, &copy] {
        machine.wait_page("equal on both machines");
    }
    master.wait_status("protected", |status| status["protected"] == true);
    assert!(
        master.log().contains("config_copied") || master.log().contains("is a copy of the other's")
    );
    assert!(copy.command(&["user", "add", "carl", "--number", "102"]).is_some());
    assert!(master.command(&["user", "add", "dora", "--number", "103"]).is_some());
    for machine in [&master, &copy] {
        machine.wait_page("equal on both machines");
        assert_eq!(machine.users(), ["anna", "bert", "carl", "dora"]);
    }
    let status = copy.status().unwrap();
    assert_eq!(status["server"]["what"]["config"]["twin_lacks"], 0, "{status:#}");
}

#[test]
fn a_machine_with_the_address_of_its_twin_does_not_start_and_names_the_key() {
    let ground = Ground::new();
    let (master, _) = ground.master("one");
    // Of a network that nobody has here (RFC 5737 §3).
    master.set("address", "[\"198.51.100.2\"]");
    master.set("peer", "[\"198.51.100.1\"]");
    let mut keeper = tandem();
    keeper.arg("--config").arg(master.file()).arg("keeper").stderr(Stdio::piped());
    let mut started = keeper.spawn().unwrap();
    let until = Instant::now() + DEADLINE;
    while started.try_wait().unwrap().is_none() && Instant::now() < until {
        std::thread::yield_now();
    }
    // One that runs all the same must not stay.
    let _ = started.kill();
    let ended = started.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success());
    assert!(
        said.contains("198.51.100.2") && said.contains("the `address` of this machine"),
        "{said}"
    );
}
