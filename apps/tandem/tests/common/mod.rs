//! What tests with real processes share: how the program is started and heard, folders that go away, machines
//! on loopback addresses of their own, and the records of calls that never were.
//!
//! Nothing sleeps: tests wait for lines of the logs, or for what a command says, with a deadline.

#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]
#![allow(dead_code, reason = "each test uses a part of it")]
// What fails here fails the test.
#![allow(clippy::unwrap_used)]

pub mod calls;
pub mod machines;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far beyond what anything here takes, also on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn tandem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.env_remove("TANDEM_CONFIG");
    command
}

/// What a command prints that must succeed.
#[track_caller]
pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A signal by its name, as `-KILL`.
pub fn signal(process: u64, name: &str) {
    done(Command::new("kill").args([name, &process.to_string()]));
}

/// Bytes that no other test has drawn.
pub fn drawn() -> [u8; 4] {
    let mut dice = [0; 4];
    tandem_os::entropy::fill(&mut dice).unwrap();
    dice
}

/// The first three numbers of a block of 127/8, so that nobody meets another's ports.
pub fn block() -> String {
    let [one, two, ..] = drawn();
    format!("127.{}.{two}", one.clamp(1, 254))
}

/// A folder that goes away.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let number = u32::from_le_bytes(drawn());
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

/// Sets a master up in `folder`, on `block`; the code for its standby.
pub fn init_master(folder: &Path, block: &str) -> String {
    let mut init = tandem();
    init.args(["init", "--seat", "master", "--dir"]).arg(folder);
    init.args(["--address", &format!("{block}.1"), "--peer", &format!("{block}.2")]);
    let printed = done(init.args(["--virtual", &format!("{block}.10/24")]));
    let mut codes = printed.lines().filter_map(|line| line.trim().split("--join ").nth(1));
    codes.next().unwrap().to_owned()
}

/// The second machine, with the code from the standard input.
pub fn init_standby(folder: &Path, code: &str) {
    let mut init = tandem();
    init.args(["init", "--seat", "standby", "--join", "-", "--dir"]).arg(folder);
    let mut init = init.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    init.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
    assert!(init.wait().unwrap().success());
}

/// A process and the lines it writes. Dropping it kills it.
pub struct Service {
    pub process: Child,
    pub lines: Receiver<Value>,
    /// Lines that were read, for the message of a failure.
    pub seen: Vec<Value>,
}

impl Service {
    pub fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines, seen: Vec::new() }
    }

    /// A service of this configuration: `keeper`, `witness`.
    pub fn of(config: &Path, what: &str) -> Self {
        Self::start(tandem().arg(what).arg("--config").arg(config))
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

    pub fn wait_protected(&mut self) {
        self.wait("protected", |line| {
            line["fact"]["fact"] == "protection" && line["fact"]["protected"] == true
        });
    }

    /// Waits for a line with this text; all of that.
    pub fn wait_text(&mut self, text: &str) -> String {
        let line =
            self.wait(text, |line| line["text"].as_str().is_some_and(|said| said.contains(text)));
        line["text"].as_str().unwrap().to_owned()
    }

    /// Waits for the server to be started; its process id.
    pub fn wait_server(&mut self) -> u64 {
        let line = self.wait("server started", |line| line["fact"]["ServiceStarted"].is_object());
        line["fact"]["ServiceStarted"]["pid"].as_u64().unwrap()
    }

    pub fn signal(&self, name: &str) {
        self::signal(u64::from(self.process.id()), name);
    }

    /// The server dies with its keeper.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}
