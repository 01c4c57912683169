//! A pair of real processes on loopback addresses of its own, that is stopped, damaged and put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use super::{DEADLINE, Folder, Service, block, init_master, init_standby, tandem};

/// One machine: its folder, and its keeper while that runs.
pub struct Machine {
    pub config: PathBuf,
    keeper: Option<Service>,
}

impl Machine {
    pub fn of(config: PathBuf) -> Self {
        Self { config, keeper: None }
    }

    pub fn state(&self) -> PathBuf {
        self.config.with_file_name("state")
    }

    pub fn start(&mut self) {
        self.keeper = Some(Service::of(&self.config, "keeper"));
    }

    /// As [`Machine::start`], by a command that becomes its keeper.
    pub fn start_as(&mut self, command: &mut Command) {
        self.keeper = Some(Service::start(command));
    }

    /// Its keeper, which runs.
    pub fn keeper(&mut self) -> &mut Service {
        self.keeper.as_mut().unwrap()
    }

    /// The machine is off.
    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.kill();
            let until = Instant::now() + DEADLINE;
            while self.server_runs() {
                assert!(Instant::now() < until, "the server outlives its keeper");
            }
        }
    }

    fn server_runs(&self) -> bool {
        let lock = fs::File::options().write(true).open(self.state().join("journal.lock"));
        lock.is_ok_and(|lock| lock.try_lock().is_err())
    }

    pub fn wait_role(&mut self, role: &str) {
        self.keeper().wait_role(role);
    }

    pub fn wait_text(&mut self, text: &str) {
        self.keeper().wait_text(text);
    }

    pub fn command(&self, arguments: &[&str]) -> Output {
        tandem().arg("--config").arg(&self.config).args(arguments).output().unwrap()
    }

    /// What a command prints that must succeed.
    #[track_caller]
    pub fn prints(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that must be refused with this code.
    #[track_caller]
    pub fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.prints(arguments)).unwrap()
    }

    pub fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// Waits until the keeper would hand over without loss. Each look is a command of its own.
    pub fn wait_twin_ready(&self) {
        let until = Instant::now() + DEADLINE;
        while self.status()["twin_ready"] != true {
            assert!(Instant::now() < until, "{:#}", self.status());
        }
    }

    /// Waits until the disk of the other machine has all of the configuration: a change does not wait longer
    /// than a second for that.
    pub fn wait_twin_has_configuration(&self) {
        let until = Instant::now() + DEADLINE;
        while self.status()["server"]["what"]["config"]["twin_lacks"] != 0 {
            assert!(Instant::now() < until, "{:#}", self.status());
        }
    }

    /// Everybody, and what they are called.
    pub fn users(&self) -> Vec<String> {
        let users = self.json(&["user", "list", "--json"]);
        let name = |user: &Value| user["name"].as_str().unwrap().to_owned();
        users.as_array().unwrap().iter().map(name).collect()
    }

    /// Waits until the users are these. Each look is a command of its own.
    #[track_caller]
    pub fn wait_users(&self, wanted: &[&str]) {
        let until = Instant::now() + DEADLINE;
        loop {
            let output = self.command(&["user", "list", "--json"]);
            let users: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let users: Vec<&str> = users
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|user| user["name"].as_str())
                .collect();
            if users == wanted {
                return;
            }
            assert!(Instant::now() < until, "{users:?} instead of {wanted:?}");
        }
    }

    pub fn add(&self, name: &str, number: &str) {
        self.prints(&["user", "add", name, "--number", number]);
    }

    /// The calls on record.
    pub fn calls(&self) -> Vec<String> {
        let calls = self.json(&["cdr", "list", "--json"]);
        let mut calls: Vec<String> = calls
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["call_id"].as_str().unwrap().to_owned())
            .collect();
        calls.sort();
        calls
    }

    /// Waits until the calls on record are these.
    #[track_caller]
    pub fn wait_calls(&self, wanted: &[&str]) {
        let until = Instant::now() + DEADLINE;
        // A server that begins makes the file first.
        let is_there = || self.command(&["cdr", "list"]).status.success();
        while !is_there() || self.calls() != wanted {
            assert!(Instant::now() < until, "not {wanted:?}");
        }
    }

    /// Makes a backup of this machine in `dir`; its folder.
    pub fn backup(&self, dir: &Path, more: &[&str]) -> PathBuf {
        let mut arguments = vec!["backup", dir.to_str().unwrap()];
        arguments.extend(more);
        let printed = self.prints(&arguments);
        let line = printed.lines().find(|line| line.starts_with("complete: ")).unwrap();
        PathBuf::from(line["complete: ".len()..].rsplit_once(" (").unwrap().0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Both machines, set up and not started.
pub struct Pair {
    pub master: Machine,
    pub standby: Machine,
    /// Their addresses begin so.
    pub block: String,
    pub folder: Folder,
}

impl Pair {
    pub fn set_up() -> Self {
        let folder = Folder::new("machines");
        let [here, there] = ["master", "standby"].map(|seat| folder.0.join(seat));
        let block = block();
        init_standby(&there, &init_master(&here, &block));
        let [master, standby] = [here, there].map(|folder| Machine::of(folder.join("tandem.toml")));
        Self { master, standby, block, folder }
    }

    /// Both run, and what happens is on both.
    pub fn up() -> Self {
        let mut pair = Self::set_up();
        pair.start();
        pair
    }

    pub fn start(&mut self) {
        self.master.start();
        self.standby.start();
        self.wait_together();
    }

    /// Until what happens is on both.
    pub fn wait_together(&mut self) {
        let until = Instant::now() + DEADLINE;
        let ready = |machine: &Machine| {
            let output = machine.command(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            status["role"] == "active" && status["twin_ready"] == true
        };
        while !ready(&self.master) && !ready(&self.standby) {
            assert!(Instant::now() < until, "the pair does not come up");
        }
    }

    /// Both are off.
    pub fn kill(&mut self) {
        self.standby.kill();
        self.master.kill();
    }
}

/// Whether something of this kind is among the events.
pub fn told(machine: &Machine, kind: &str) -> bool {
    let events = machine.json(&["events", "--json", "--limit", "1000"]);
    events.as_array().unwrap().iter().any(|event| event["kind"] == kind)
}
