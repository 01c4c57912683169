//! The keeper on a network. Virtual addresses of one that is killed or stopped: the kernel removes them
//! by itself, and the next keeper does not wait for that. A stranger who claims them, and whom the
//! machine reaches. With the real program, in network namespaces.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_os::address::{Prefixed, VirtualAddresses};

/// Far beyond what anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const VIRTUAL: [&str; 3] = ["10.87.0.9/24", "10.88.0.9/32", "fd00:87::9/64"];

/// A network namespace; it is gone when this is dropped.
struct Space {
    holder: Child,
    /// The holder ends with this.
    _line: ChildStdin,
}

impl Space {
    /// Says on the output why there can be none.
    fn new() -> Option<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = holder.stdin.take().unwrap();
        // What comes back was said inside the namespace.
        let mut echo = BufReader::new(holder.stdout.take().unwrap());
        let mut heard = String::new();
        let said = std::io::Write::write_all(&mut line, b"there\n");
        if said.is_err() || echo.read_line(&mut heard).unwrap() == 0 {
            let _ = holder.wait();
            println!("SKIPPED: no network namespace here: not root?");
            return None;
        }
        Some(Self { holder, _line: line })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg(program);
        command
    }

    fn ip(&self, arguments: &str) {
        let status = self.command("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    /// Runs `job` in the namespace; sockets stay in it.
    fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let inside = || {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network)
                .unwrap();
            job()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// One machine, and what is at the other end of its wire.
struct Place {
    machine: Space,
    far: Space,
    folder: PathBuf,
}

impl Place {
    fn new(name: &str) -> Option<Self> {
        let (machine, far) = (Space::new()?, Space::new()?);
        let folder = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
        machine.ip("link set lo up");
        machine.ip("link add eth0 type veth peer name switch");
        machine.ip(&format!("link set switch netns {}", far.holder.id()));
        machine.ip("link set eth0 up");
        machine.ip("addr add 10.87.0.1/24 dev eth0");
        machine.ip("addr add fd00:87::1/64 dev eth0 nodad");
        far.ip("link set switch address 02:00:00:00:00:77 up");
        far.ip("addr add 10.87.0.254/24 dev switch");
        let place = Self { machine, far, folder };
        let mut init = Command::new(env!("CARGO_BIN_EXE_tandem"));
        init.args(["init", "--seat", "master", "--address", "10.87.0.1", "--peer", "10.87.0.2"]);
        init.args(VIRTUAL.iter().flat_map(|address| ["--virtual", address]));
        init.args(["--interface", "eth0", "--dir"]).arg(&place.folder).env_remove("TANDEM_CONFIG");
        let output = init.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(place)
    }

    fn command(&self, program: &str) -> Command {
        self.machine.command(program)
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

    /// What `tandem status` says, when it says what is `wanted`.
    fn wait_status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let mut status = self.command(env!("CARGO_BIN_EXE_tandem"));
            status.arg("--config").arg(self.config()).args(["status", "--json"]);
            let output = status.output().unwrap();
            let status = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "{status:#} {output:?}");
        }
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

#[test]
fn a_stranger_who_claims_the_address_is_named_and_answered_and_changes_no_role() {
    let Some(place) = Place::new("stranger") else { return };
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    place.wait_held(true);
    let mut stranger = place.far.run(|| {
        let address: Prefixed = VIRTUAL[0].parse().unwrap();
        VirtualAddresses::on_interface("switch", &[address]).unwrap()
    });
    // What the keeper says by itself, every three seconds in the end, is not what is waited for.
    let mut own = Instant::now();
    loop {
        assert!(own.elapsed() < DEADLINE, "it announces nothing by itself");
        if !stranger.answers().unwrap().is_empty() {
            let pause = own.elapsed();
            own = Instant::now();
            if pause > Duration::from_millis(1_200) {
                break;
            }
        }
    }
    stranger.announce().unwrap();
    keeper.wait(&["AddressConflict"]);
    // It was sent before that line, and may still be on its way.
    while stranger.answers().unwrap().is_empty() {}
    assert!(own.elapsed() < Duration::from_millis(2_500), "that was the next one of its own");
    for _ in 0..50 {
        stranger.announce().unwrap();
    }
    let status = place.wait_status(|status| status["conflicts"][0].is_object());
    assert_eq!(status["role"], "active");
    let conflict = &status["conflicts"][0]["what"];
    assert_eq!(conflict["hardware"], serde_json::json!([2, 0, 0, 0, 0, 0x77]), "{status:#}");
    assert_eq!(conflict["address"], "10.87.0.9");
    assert_eq!(status["conflicts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_gateway_is_found_by_itself_and_its_silence_shows() {
    let Some(place) = Place::new("gateway") else { return };
    place.machine.ip("route add default via 10.87.0.254");
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    let reach = |status: &Value, is: bool| status["reach"]["what"]["gateway"] == is;
    place.wait_status(|status| reach(status, true));
    place.far.ip("addr del 10.87.0.254/24 dev switch");
    place.wait_status(|status| reach(status, false));
}

#[test]
fn a_virtual_hardware_address_comes_and_goes_with_the_addresses() {
    let Some(place) = Place::new("hardware") else { return };
    let text = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), format!("virtual_mac = \"02:00:00:00:00:aa\"\n{text}")).unwrap();
    let links = || {
        let output = place.command("ip").args(["-o", "link", "show"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    place.wait_held(true);
    assert!(links().contains("02:00:00:00:00:aa"), "{}", links());
    // The far side learns it, and no other.
    let asking = place.far.run(|| std::net::UdpSocket::bind("10.87.0.254:0").unwrap());
    let start = Instant::now();
    loop {
        asking.send_to(b"?", "10.87.0.9:9").unwrap();
        let known = place.far.command("ip").args(["neigh", "show", "10.87.0.9"]).output().unwrap();
        let known = String::from_utf8(known.stdout).unwrap();
        if known.contains("lladdr") {
            assert!(known.contains("02:00:00:00:00:aa"), "{known}");
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{known}");
    }
    keeper.signal("-KILL");
    drop(keeper);
    place.wait_held(false);
    assert!(links().contains("02:00:00:00:00:aa"), "nobody was there to remove it");
    // Without it from now on.
    std::fs::write(place.config(), text).unwrap();
    let keeper = Keeper::start(&place);
    keeper.wait_active();
    assert!(!links().contains("02:00:00:00:00:aa"), "{}", links());
    place.wait_held(true);
}
