//! The virtual addresses of a keeper that is killed or stopped: the kernel removes them by itself, and
//! the next keeper does not wait for that. With the real program, in a network namespace.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Far beyond what anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const VIRTUAL: [&str; 3] = ["10.87.0.9/24", "10.88.0.9/32", "fd00:87::9/64"];

/// A namespace with one machine in it; it is gone when this is dropped.
struct Place {
    holder: Child,
    /// The holder ends with this.
    _line: ChildStdin,
    folder: PathBuf,
}

impl Place {
    /// Says on the output why there can be none.
    fn new(name: &str) -> Option<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = holder.stdin.take().unwrap();
        // What comes back was said inside the namespace.
        let mut echo = BufReader::new(holder.stdout.take().unwrap());
        let mut heard = String::new();
        if std::io::Write::write_all(&mut line, b"there\n").is_err()
            || echo.read_line(&mut heard).unwrap() == 0
        {
            let _ = holder.wait();
            println!("SKIPPED: no network namespace here: not root?");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
        let place = Self { holder, _line: line, folder };
        for command in [
            "link set lo up",
            "link add eth0 type veth peer name switch",
            "link set switch up",
            "link set eth0 up",
            "addr add 10.87.0.1/24 dev eth0",
            "addr add fd00:87::1/64 dev eth0 nodad",
        ] {
            let status = place.command("ip").args(command.split(' ')).status().unwrap();
            assert!(status.success(), "ip {command}");
        }
        let mut init = Command::new(env!("CARGO_BIN_EXE_tandem"));
        init.args(["init", "--seat", "master", "--address", "10.87.0.1", "--peer", "10.87.0.2"]);
        init.args(VIRTUAL.iter().flat_map(|address| ["--virtual", address]));
        init.args(["--interface", "eth0", "--dir"]).arg(&place.folder).env_remove("TANDEM_CONFIG");
        let output = init.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(place)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg(program);
        command
    }

    fn config(&self) -> PathBuf {
        self.folder.join("tandem.toml")
    }

    /// The virtual addresses that the machine has.
    fn held(&self) -> Vec<&'static str> {
        let output = self.command("ip").args(["-o", "addr", "show"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("10.87.0.1/24"), "the machine's own address is there: {text}");
        let is_held = |address: &&&str| text.contains(&format!(" {address} "));
        VIRTUAL.iter().filter(is_held).copied().collect()
    }

    /// Waits until the machine has all of them or none. How long that took.
    fn wait_held(&self, all: bool) -> Duration {
        let start = Instant::now();
        while self.held().len() != if all { VIRTUAL.len() } else { 0 } {
            assert!(start.elapsed() < DEADLINE, "{:?}", self.held());
        }
        start.elapsed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Keeper {
    process: Child,
    lines: Receiver<String>,
}

impl Keeper {
    fn start(place: &Place) -> Self {
        let mut command = place.command(env!("CARGO_BIN_EXE_tandem"));
        command.env_remove("TANDEM_CONFIG").arg("--config").arg(place.config()).arg("keeper");
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// Reads until a line has all of `words`; the lines before it.
    fn wait(&self, words: &[&str]) -> Vec<String> {
        let until = Instant::now() + DEADLINE;
        let mut before = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {words:?}: {before:#?}");
            };
            if words.iter().all(|word| line.contains(word)) {
                return before;
            }
            before.push(line);
        }
    }

    fn wait_active(&self) -> Vec<String> {
        self.wait(&[r#""to":"active""#])
    }

    fn signal(&self, name: &str) {
        let process = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The server dies with its keeper.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_addresses_of_a_keeper_that_is_killed_go_by_themselves() {
    let Some(place) = Place::new("killed") else { return };
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    place.wait_held(true);
    // Renewed a few times: it is not the first lifetime that counts.
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(place.held(), VIRTUAL);
    }
    keeper.signal("-KILL");
    println!("gone {:?} after the keeper", place.wait_held(false));
}

#[test]
fn the_addresses_of_a_keeper_that_is_stopped_go_and_come_back_with_it() {
    let Some(place) = Place::new("stopped") else { return };
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    place.wait_held(true);
    keeper.signal("-STOP");
    println!("gone {:?} after the keeper was stopped", place.wait_held(false));
    keeper.signal("-CONT");
    // Held up for so long it is as good as new: it begins cold.
    let before = keeper.wait_active();
    assert!(before.iter().any(|line| line.contains(r#""to":"cold""#)), "{before:#?}");
    place.wait_held(true);
}

#[test]
fn the_next_keeper_removes_what_is_left_before_anything_else() {
    let Some(place) = Place::new("next") else { return };
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    place.wait_held(true);
    // Other addresses from now on.
    let text = std::fs::read_to_string(place.config()).unwrap();
    let changed = VIRTUAL.iter().fold(text, |text, address| {
        text.replace(address, &address.replace(".9/", ".99/").replace("::9/", "::99/"))
    });
    std::fs::write(place.config(), changed).unwrap();
    keeper.signal("-KILL");
    drop(keeper);
    // As if the second that they last were a day.
    for address in VIRTUAL {
        let stay = ["addr", "change", address, "dev", "eth0", "valid_lft", "9000", "preferred_lft"];
        assert!(place.command("ip").args(stay).arg("0").status().unwrap().success());
    }
    let keeper = Keeper::start(&place);
    for _ in VIRTUAL {
        keeper.wait(&["removed ", "an earlier keeper left it there"]);
    }
    assert_eq!(place.held(), [""; 0]);
    assert!(Path::new(&place.folder).join("tandem.toml").exists());
    keeper.wait_active();
    assert_eq!(place.held(), [""; 0], "they are others now");
}
