//! A pair of real processes on loopback addresses of its own, that is stopped, damaged and put back.

#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_call::{Cdr, Ending, Outcome};
use tandem_journal::{Class, Entry, Op, Write};
use tandem_node::{CallEvents, RECORD_VERSION};
use tandem_store::{Settings, Store, StoreEvent};
use tandem_types::{Epoch, Pii, Seat, Seq, Stamp};

/// Far beyond what anything here takes, also on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn tandem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.env_remove("TANDEM_CONFIG");
    command
}

/// A folder that goes away.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let mut dice = [0; 4];
        tandem_os::entropy::fill(&mut dice).unwrap();
        let number = u32::from_le_bytes(dice);
        let name = format!("tandem-{name}-{}-{number:08x}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One machine: its folder, and its keeper while that runs.
pub struct Machine {
    pub config: PathBuf,
    keeper: Option<Child>,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Machine {
    pub fn of(config: PathBuf) -> Self {
        Self { config, keeper: None, lines: channel().1, seen: Vec::new() }
    }

    pub fn state(&self) -> PathBuf {
        self.config.with_file_name("state")
    }

    pub fn start(&mut self) {
        let mut command = tandem();
        command.arg("--config").arg(&self.config).arg("keeper").stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let stdout = BufReader::new(keeper.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        (self.keeper, self.lines, self.seen) = (Some(keeper), lines, Vec::new());
    }

    /// The machine is off.
    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // The server dies with its keeper.
            let _ = keeper.kill();
            let _ = keeper.wait();
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

    /// Waits for the next line that `wanted` holds for.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line says: {what}; there were {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    pub fn wait_role(&mut self, role: &str) {
        self.wait(role, |line| line["fact"]["Role"]["to"] == role);
    }

    pub fn wait_text(&mut self, text: &str) {
        self.wait(text, |line| line["text"].as_str().is_some_and(|said| said.contains(text)));
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
    pub folder: Folder,
}

impl Pair {
    pub fn set_up() -> Self {
        let folder = Folder::new("backup");
        let mut dice = [0; 2];
        tandem_os::entropy::fill(&mut dice).unwrap();
        let block = format!("127.{}.{}", dice[0].clamp(1, 254), dice[1]);
        let [here, there] = ["master", "standby"].map(|seat| folder.0.join(seat));
        let mut init = tandem();
        init.args(["init", "--seat", "master", "--dir"]).arg(&here);
        init.args(["--address", &format!("{block}.1"), "--peer", &format!("{block}.2")]);
        init.args(["--virtual", &format!("{block}.10/24")]);
        let output = init.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let code = printed.lines().find_map(|line| line.trim().split("--join ").nth(1)).unwrap();
        let mut init = tandem();
        init.args(["init", "--seat", "standby", "--join", "-", "--dir"]).arg(&there);
        let mut init = init.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        init.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
        assert!(init.wait().unwrap().success());
        let [master, standby] = [here, there].map(|folder| Machine::of(folder.join("tandem.toml")));
        Self { master, standby, folder }
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

/// Writes the records of calls to a journal that nobody has open, as a server in this reign would.
pub fn write_calls(state: &Path, reign: u32, calls: &[&str]) {
    let (stored, reports) = channel();
    let report = move |event| {
        if let StoreEvent::Stored { ticket } = event {
            let _ = stored.send(ticket);
        }
    };
    let (store, _) = Store::open(state, Settings::default(), report).unwrap();
    for (number, call) in (1_u64..).zip(calls) {
        let epoch = Epoch { number: reign, seat: Seat::Master };
        let stamp = Stamp { epoch, seq: Seq(number) };
        let log = |prefix: &str, body| Op {
            class: Class::Log,
            key: format!("{prefix}/{call}").into_bytes(),
            body: Some(body),
        };
        let hot = Op { class: Class::Hot, key: format!("txn/{call}").into(), body: Some(vec![9]) };
        let ops = vec![log("cdr", encode(&cdr(call))), log("cev", encode(&steps())), hot];
        store.write(Write::Entry(Entry { stamp, ops }), true, number).unwrap();
        while reports.recv_timeout(DEADLINE).unwrap() < number {}
    }
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![RECORD_VERSION]).unwrap()
}

/// A call that has just ended.
fn cdr(call: &str) -> Cdr {
    let end = i64::try_from(tandem_os::clock::wall_micros()).unwrap();
    Cdr {
        call_id: call.into(),
        origination_number: Pii::new("10".into()),
        origination_name: Pii::new("Anna".into()),
        called_number: Pii::new("20".into()),
        called_name: Pii::new("Ben".into()),
        destination_number: Pii::new("20".into()),
        destination_name: Pii::new("Ben".into()),
        start: end - 60_000_000,
        delivered: Some(end - 59_000_000),
        connect: Some(end - 30_000_000),
        end: Some(end),
        outcome: Some(Outcome::Answered),
        ending: Some(Ending::Caller),
        sip_status: 200,
        q850_cause: 16,
        origination_device: "phone udp 192.0.2.5:5060".into(),
        destination_device: "sip:ben@192.0.2.6 udp 192.0.2.6:5060".into(),
    }
}

fn steps() -> CallEvents {
    CallEvents {
        devices: std::collections::BTreeMap::new(),
        trail: tandem_call::Trail { steps: Vec::new(), left_out: 0 },
    }
}
