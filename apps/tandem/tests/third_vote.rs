//! A real pair with a real witness: nobody serves without two of three votes, and the witness is
//! enough when the other machine is dead.
//!
//! Every run has a block of 127/8 of its own, drawn at random. Nothing sleeps: the test waits for lines
//! of the logs, with a deadline.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Far beyond what anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn tandem(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.env_remove("TANDEM_CONFIG").args(arguments);
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A keeper or a witness, and the lines it writes. Dropping it kills it.
struct Service {
    process: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Service {
    fn start(config: &Path, what: &str) -> Self {
        let mut command = tandem(&[what, "--config"]);
        let mut process = command.arg(config).stdout(Stdio::piped()).spawn().unwrap();
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

    fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        loop {
            let Ok(line) = self.lines.recv_timeout(DEADLINE) else {
                panic!("no line says: {what}; there were {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if wanted(&line) {
                return;
            }
        }
    }

    fn wait_text(&mut self, text: &str) {
        self.wait(text, |line| line["text"].as_str().is_some_and(|found| found.contains(text)));
    }

    fn wait_role(&mut self, role: &str) {
        self.wait(role, |line| line["fact"]["Role"]["to"] == role);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A server dies with its keeper.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The files of both machines and of the witness, set up as the guide says.
fn set_up() -> (Folder, [PathBuf; 2], PathBuf) {
    let mut dice = [0; 4];
    tandem_os::entropy::fill(&mut dice).unwrap();
    let block = format!("127.{}.{}", dice[0].clamp(1, 254), dice[1]);
    let name = format!("tandem-third-{}-{}", std::process::id(), dice[2]);
    let folder = Folder(std::env::temp_dir().join(name));
    let folders = ["master", "standby"].map(|seat| folder.0.join(seat));
    let own = format!("{block}.1");
    let mut init = tandem(&["init", "--seat", "master", "--address", &own]);
    init.args(["--peer", &format!("{block}.2"), "--virtual", &format!("{block}.10/24")]);
    let printed = done(init.arg("--dir").arg(&folders[0]));
    let code = printed.lines().find_map(|line| line.trim().split("--join ").nth(1)).unwrap();
    done(tandem(&["init", "--seat", "standby", "--join", code, "--dir"]).arg(&folders[1]));
    let files = folders.map(|folder| folder.join("tandem.toml"));
    for file in &files {
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        writeln!(file, "witness = \"{block}.9:5072\"").unwrap();
    }
    let printed = done(tandem(&["witness", "key", "--config"]).arg(&files[0]));
    let key = printed.split_whitespace().last().unwrap();
    let witness = folder.0.join("witness.toml");
    done(tandem(&["witness", "add", "pair", key, "--config"]).arg(&witness));
    let text = std::fs::read_to_string(&witness).unwrap();
    let socket = folder.0.join("witness.sock");
    let listen = format!("socket = {socket:?}\nlisten = [\"{block}.9:5072\"]");
    std::fs::write(&witness, text.replace("listen = [\"[::]:5072\"]", &listen)).unwrap();
    (folder, files, witness)
}

#[test]
fn two_votes_are_enough_and_one_is_not() {
    let (_folder, files, witness) = set_up();
    let mut voter = Service::start(&witness, "witness");
    voter.wait_text("listens at");
    let [mut master, mut standby] =
        [&files[0], &files[1]].map(|file| Service::start(file, "keeper"));
    master.wait_role("active");
    standby.wait_role("passive");
    master.wait("protected", |line| {
        line["fact"]["fact"] == "protection" && line["fact"]["protected"] == true
    });

    // The master's machine is dead: the witness votes for the standby.
    drop(master);
    standby.wait_role("active");
    voter.wait_text("pair: the vote goes to the standby");

    // Alone, one vote is left: the standby stops serving.
    drop(voter);
    standby.wait_text("the third vote is out of reach: no witness listens at");
    standby.wait("no majority", |line| {
        let role = &line["fact"]["Role"];
        role["to"] == "passive" && role["why"].as_str().is_some_and(|why| why.contains("majority"))
    });

    // The witness is back, and so is the service, once it may vote.
    let mut voter = Service::start(&witness, "witness");
    standby.wait_text("the third vote is in reach again");
    voter.wait_text("pair: the vote goes to the standby");
    standby.wait_role("active");
}
