//! The real `tandem witness` on loopback: set up as an administrator does, asked as a keeper does,
//! killed, reloaded, and sent garbage.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Folder, Service, done};
use serde_json::Value;
use tandem_link::PairSecret;
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_types::{Duration, Epoch, Instant, Seat};
use tandem_vote::{Ask, Lease as _, Side, Voted, WitnessConfig, WitnessLease};
use tandem_witness::{TERM_MAX, promised};

/// Far beyond what anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const TERM: Duration = Duration::from_secs(1);

fn tandem(arguments: &[&str]) -> Command {
    let mut command = common::tandem();
    command.args(arguments);
    command
}

fn secret(byte: u8) -> PairSecret {
    PairSecret::from_bytes([byte; 32])
}

/// A folder of one test, with the file of a witness in it.
struct Place(Folder);

impl Place {
    fn new(name: &str) -> Self {
        let place = Self(Folder::new(&format!("vote-{name}")));
        place.add("pair", 1);
        let text = std::fs::read_to_string(place.file()).unwrap();
        let socket =
            format!("socket = {:?}\nlisten = [\"127.0.0.1:0\"]", place.folder().join("socket"));
        std::fs::write(place.file(), text.replace("listen = [\"[::]:5072\"]", &socket)).unwrap();
        place
    }

    fn folder(&self) -> &Path {
        &self.0.0
    }

    fn file(&self) -> PathBuf {
        self.folder().join("witness.toml")
    }

    /// Its witness, and where it listens.
    fn start(&self) -> (Service, SocketAddr) {
        let mut service = Service::start(&mut self.command(&[]));
        let line = service.wait_text("listens at ");
        (service, line.split([' ', ',']).nth(2).unwrap().parse().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tandem(&["witness", "--config"]);
        command.arg(self.file()).args(arguments);
        command
    }

    fn add(&self, name: &str, byte: u8) {
        done(&mut self.command(&["add", name, &secret(byte).witness_key().to_code()]));
    }

    fn status(&self) -> Value {
        serde_json::from_str(&done(&mut self.command(&["status", "--json"]))).unwrap()
    }
}

/// One keeper's end.
struct End {
    lease: WitnessLease,
    seat: Seat,
    number: u64,
}

impl End {
    fn new(at: SocketAddr, pair: u8, seat: Seat) -> Self {
        let lease = WitnessLease::start(WitnessConfig {
            address: at.to_string(),
            key: *secret(pair).witness_key().reveal(),
            side: Side { seat, life: 1 },
            own: Vec::new(),
            not_from: Vec::new(),
        });
        Self { lease: lease.unwrap(), seat, number: 0 }
    }

    /// Asks until it is answered: on a busy machine a word may come too late. When the request was sent.
    fn ask(&mut self, reign: u32) -> (Instant, Voted) {
        let until = clock::now() + DEADLINE;
        loop {
            match self.ask_once(reign) {
                (_, Voted::Unreachable { why, .. }) => assert!(clock::now() < until, "{why}"),
                answered => return answered,
            }
        }
    }

    fn ask_once(&mut self, reign: u32) -> (Instant, Voted) {
        self.number += 1;
        let (now, epoch) = (clock::now(), Epoch { number: reign, seat: self.seat });
        self.lease.ask(now, Ask { number: self.number, epoch, term: TERM });
        loop {
            let mut answers = self.lease.answers();
            if let Some(voted) = answers.pop() {
                assert!(answers.is_empty(), "one request, one answer: {answers:?}");
                return (now, voted);
            }
            poll(&[(self.lease.as_fd(), Want::Read)], Some(clock::now() + DEADLINE)).unwrap();
        }
    }

    /// Asks again and again; when the request was sent that was granted.
    fn ask_until_granted(&mut self, reign: u32) -> Instant {
        let until = clock::now() + DEADLINE;
        loop {
            match self.ask(reign) {
                (since, Voted::Granted { term, .. }) => {
                    assert_eq!(term, TERM);
                    return since;
                }
                (_, other @ (Voted::Refused { .. } | Voted::Unreachable { .. })) => {
                    assert!(clock::now() < until, "{other:?}");
                    self.wait_a_little(&other);
                }
            }
        }
    }

    /// As a keeper does: not before the refusal says that it can help.
    fn wait_a_little(&mut self, answer: &Voted) {
        let Voted::Refused { left, .. } = answer else { return };
        let until = clock::now() + *left;
        while clock::now() < until {
            poll(&[(self.lease.as_fd(), Want::Read)], Some(until)).unwrap();
            assert_eq!(self.lease.answers(), []);
        }
    }
}

#[test]
fn a_witness_is_set_up_and_asked_as_the_guide_says() {
    let place = Place::new("guide");
    let machine = place.folder().join("machine");
    let init = ["--seat", "master", "--address", "127.9.9.1", "--peer", "127.9.9.2"];
    let mut command = tandem(&["init", "--virtual", "127.9.9.3/32", "--dir"]);
    done(command.arg(&machine).args(init));
    let config = machine.join("tandem.toml");
    let printed = done(tandem(&["witness", "key", "--config"]).arg(&config));
    let advised = printed.lines().last().unwrap().trim();
    let words: Vec<&str> = advised.split(' ').collect();
    let ["tandem", "witness", "add", "NAME", key] = words[..] else { panic!("{advised}") };
    let shared = std::fs::read_to_string(machine.join("pair.secret")).unwrap();
    assert!(!printed.contains(shared.trim()), "the pair secret stays where it is");
    done(&mut place.command(&["add", "berlin", key]));

    let (mut service, address) = place.start();
    let begun = clock::now();
    let mut master = End::new(address, 1, Seat::Master);
    let (_, first) = master.ask(1);
    assert!(matches!(first, Voted::Refused { .. }), "it is silent after its start: {first:?}");
    let granted = master.ask_until_granted(1);
    assert!(begun + TERM_MAX < granted + Duration::from_secs(1), "{begun} {granted}");
    service.wait_text("pair: the vote goes to the master, reign 1M");
    let mut standby = End::new(address, 1, Seat::Standby);
    // A keeper renews its vote several times a second; here that is done where it counts.
    master.ask(1);
    let (_, refused) = standby.ask(2);
    assert!(matches!(refused, Voted::Refused { .. }), "{refused:?}");
    master.ask(1);
    let status = place.status();
    let names: Vec<_> =
        status["pairs"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["berlin", "pair"]);
    assert_eq!(status["pairs"][1]["holder"], "master");
    master.ask(1);
    let page = done(&mut place.command(&["status"]));
    assert!(page.contains("berlin  free") && page.contains("pair    master"), "{page}");
}

#[test]
fn a_witness_that_is_killed_and_comes_back_has_forgotten_and_breaks_no_promise() {
    let place = Place::new("killed");
    let (service, address) = place.start();
    let mut master = End::new(address, 1, Seat::Master);
    let since = master.ask_until_granted(1);
    let text = std::fs::read_to_string(place.file()).unwrap();
    drop(service);
    let (_, gone) = master.ask_once(1);
    let why = format!("no witness listens at {address}");
    assert_eq!(gone, Voted::Unreachable { number: master.number, why });
    let fixed = text.replace("127.0.0.1:0", &address.to_string());
    std::fs::write(place.file(), fixed).unwrap();
    let begun = clock::now();
    let (_service, again) = place.start();
    assert_eq!(again, address);
    let mut standby = End::new(address, 1, Seat::Standby);
    let granted = standby.ask_until_granted(2);
    assert!(since + TERM < granted && begun + promised(TERM_MAX) < granted, "{begun} {granted}");
}

#[test]
fn a_pair_that_was_added_is_served_after_a_reload_and_the_others_keep_their_votes() {
    let place = Place::new("reload");
    let (mut service, address) = place.start();
    let mut master = End::new(address, 1, Seat::Master);
    master.ask_until_granted(1);
    place.add("second", 2);
    service.signal("-HUP");
    service.wait_text("read the pairs again: 2");
    let (_, renewed) = master.ask(1);
    assert!(matches!(renewed, Voted::Granted { .. }), "{renewed:?}");
    End::new(address, 2, Seat::Standby).ask_until_granted(1);
    std::fs::write(place.file(), "nonsense").unwrap();
    service.signal("-HUP");
    service.wait_text("goes on with the pairs it has");
    let (_, renewed) = master.ask(1);
    assert!(matches!(renewed, Voted::Granted { .. }), "{renewed:?}");
    service.signal("-TERM");
    assert!(service.process.wait().unwrap().success());
}

#[test]
fn garbage_and_strangers_get_no_answer_and_disturb_nobody() {
    let place = Place::new("garbage");
    let (_service, address) = place.start();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    for length in [0, 1, 59, 60, 61, 1_400] {
        for byte in [0, 1, 255] {
            stranger.send_to(&vec![byte; length], address).unwrap();
            sent += 1;
        }
    }
    let mut foreign = End::new(address, 9, Seat::Master);
    let (_, nobody) = foreign.ask_once(1);
    assert!(matches!(nobody, Voted::Unreachable { .. }), "{nobody:?}");
    End::new(address, 1, Seat::Master).ask_until_granted(1);
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut [0; 100]).is_err(), "an answer to a stranger");
    let counters = &place.status()["counters"];
    let count = |name: &str| counters[name].as_u64().unwrap();
    // Those of 60 bytes whose first is the version name a pair that is not served.
    assert_eq!(count("garbage") + 1, sent);
    assert!(count("strangers") > 1, "{counters}");
}

#[test]
fn what_is_wrong_is_said_with_the_exit_code_for_it() {
    let place = Place::new("wrong");
    let failed = |output: Output| {
        let words = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), words)
    };
    let (code, words) = failed(place.command(&["status"]).output().unwrap());
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("systemctl start tandem-witness"), "{words}");
    let (code, words) = failed(place.command(&["add", "x", "0000"]).output().unwrap());
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("a witness key has 56 letters"), "{words}");
    let nowhere = Path::new("/nowhere/witness.toml");
    let mut command = tandem(&["witness", "--config"]);
    let (code, words) = failed(command.arg(nowhere).output().unwrap());
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("`tandem witness add` makes it"), "{words}");
}
