//! Real processes on loopback addresses: a pair comes up, is used, loses a server, goes on.
//!
//! Every test has a block of 127/8 of its own, drawn at random, so that none meets another's ports.
//! Nothing sleeps: the tests wait for lines of the keepers' logs, with a deadline.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::machines::{Machine, Pair};
use common::{DEADLINE, calls, signal, tandem};
use serde_json::Value;
use tandem_call::Cdr;
use tandem_journal::{Class, Known, Record, Write};
use tandem_store::{Reader, Settings, WallClock};
use tandem_types::{Epoch, Pii, Seat, Seq, Stamp};

/// A pair, set up as the README says, whose keepers show what they know.
fn set_up() -> Pair {
    let pair = Pair::set_up();
    for (number, machine) in (1..).zip([&pair.master, &pair.standby]) {
        let mut file = std::fs::OpenOptions::new().append(true).open(&machine.config).unwrap();
        writeln!(file, "metrics = \"{}.{number}:9160\"", pair.block).unwrap();
    }
    pair
}

/// Both machines, up and protected, with the process id of each server.
fn up() -> (Pair, [u64; 2]) {
    let mut pair = set_up();
    pair.master.start();
    pair.standby.start();
    let servers = [&mut pair.master, &mut pair.standby].map(|one| one.keeper().wait_server());
    pair.master.wait_role("active");
    pair.standby.wait_role("passive");
    pair.master.keeper().wait_protected();
    pair.master.wait_twin_ready();
    (pair, servers)
}

#[test]
fn a_pair_comes_up_and_both_machines_show_it() {
    let (mut pair, _) = up();
    let [master, standby] = [&pair.master, &pair.standby].map(Machine::status);
    assert_eq!((&master["seat"], &master["role"]), (&"master".into(), &"active".into()));
    assert_eq!((&standby["seat"], &standby["role"]), (&"standby".into(), &"passive".into()));
    assert_eq!(
        (&master["twin"]["role"], &standby["twin"]["role"]),
        (&standby["role"], &master["role"])
    );
    for status in [&master, &standby] {
        assert_eq!(status["services"][0]["state"], "up", "{status:#}");
        assert_eq!(status["fit"], true, "{status:#}");
    }
    let page = String::from_utf8(pair.standby.command(&["status"]).stdout).unwrap();
    assert!(page.contains("standby: passive") && page.contains("master: active"), "{page}");
    assert!(!page.contains('\x1b'), "no colours in a pipe");
    let secret = std::fs::read_to_string(pair.master.config.with_file_name("pair.secret")).unwrap();
    let said = format!("{:?}", pair.master.keeper().seen);
    assert!(!said.is_empty() && !said.contains(secret.trim()));
}

#[test]
fn a_user_added_on_the_passive_machine_is_on_both_and_outlives_the_active_server() {
    let (mut pair, [server, _]) = up();
    let added = pair.standby.command(&["user", "add", "anna", "--number", "10"]);
    assert!(added.status.success(), "{added:?}");
    let printed = String::from_utf8(added.stdout).unwrap();
    assert!(printed.contains("anna added\npassword: "), "{printed}");
    assert_eq!(
        (pair.master.users(), pair.standby.users()),
        (vec!["anna".into()], vec!["anna".into()])
    );
    let again = pair.master.command(&["user", "add", "anna", "--number", "11"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let changed = ["user", "set", "anna", "--new-password", "--display", "Anna", "--disable"];
    let changed = String::from_utf8(pair.standby.command(&changed).stdout).unwrap();
    assert!(changed.contains("anna changed\npassword: ") && changed != printed, "{changed}");
    let anna = &pair.master.json(&["user", "list", "--json"])[0];
    assert_eq!((&anna["display"], &anna["enabled"]), (&"Anna".into(), &false.into()));

    signal(server, "-KILL");
    pair.standby.wait_role("active");
    pair.master.wait_role("passive");
    pair.standby.keeper().wait_protected();
    assert_eq!(pair.standby.status()["role"], "active");
    assert_eq!(pair.master.status()["services"][0]["restarts"], 1);
    assert_eq!(
        (pair.master.users(), pair.standby.users()),
        (vec!["anna".into()], vec!["anna".into()])
    );
}

/// A command that is under way.
struct Begun(Command, Child);

impl Begun {
    fn new(machine: &Machine, arguments: &[&str]) -> Self {
        let mut command = tandem();
        command.arg("--config").arg(&machine.config).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Self(command, child)
    }

    /// What was asked for is done, or was done before and is refused with that reason. Where the machine is so
    /// busy that nobody serves for seconds, it is asked again.
    #[track_caller]
    fn ends_well(self, busy: &[&str]) {
        let Self(mut command, child) = self;
        let until = Instant::now() + DEADLINE;
        let mut output = child.wait_with_output().unwrap();
        while !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            if error.contains("it may be done") {
                return;
            }
            let is_busy = busy.iter().any(|why| error.contains(why));
            assert!(is_busy && Instant::now() < until, "{command:?}: {output:?}");
            output = command.output().unwrap();
        }
    }
}

/// Nobody served within the five seconds that a command waits.
const NOBODY: [&str; 2] = ["cannot reach the active one", "has not answered"];

#[test]
fn commands_that_meet_a_takeover_are_done() {
    let (mut pair, [server, _]) = up();
    let add = |machine: &Machine, name: &str, number: &str| {
        Begun::new(machine, &["user", "add", name, "--number", number])
    };
    // Some are on their way when the server dies, one comes when it is dead, and nobody knows when.
    let mut commands = Vec::new();
    let names = ["anna", "ben", "carla", "dora", "emil", "fritz"];
    for (name, number) in names.into_iter().zip(["10", "11", "12", "13", "14", "15"]) {
        if name == "dora" {
            signal(server, "-KILL");
        }
        commands.push(add(&pair.standby, name, number));
    }
    commands.into_iter().for_each(|command| command.ends_well(&NOBODY));
    pair.standby.wait_role("active");
    pair.standby.wait_users(&names);
    pair.wait_together();
    // A planned switch meets them on both machines.
    let switch = Begun::new(&pair.master, &["switch"]);
    let gustav = add(&pair.master, "gustav", "16");
    let hanna = add(&pair.standby, "hanna", "17");
    gustav.ends_well(&NOBODY);
    hanna.ends_well(&NOBODY);
    // The order is refused where the twin was not heard in time.
    switch.ends_well(&["is not heard", "neither server is active"]);
    pair.master.wait_role("active");
    for machine in [&pair.master, &pair.standby] {
        machine.wait_users(&["anna", "ben", "carla", "dora", "emil", "fritz", "gustav", "hanna"]);
    }
}

#[test]
fn a_keeper_that_is_told_to_stop_hands_over_first() {
    let (mut pair, _) = up();
    pair.master.keeper().signal("-TERM");
    pair.master.wait_role("yielding");
    pair.standby.wait_role("active");
    let exit = pair.master.keeper().process.wait().unwrap();
    assert!(exit.success(), "{exit}");
    let status = pair.master.command(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    let error = String::from_utf8(status.stderr).unwrap();
    assert!(error.contains("start it with `systemctl start tandem-keeper`"), "{error}");
    // The call records are in the store, whoever runs.
    assert_eq!(pair.master.json(&["cdr", "list", "--json"]), serde_json::json!([]));
}

#[test]
fn a_hung_server_is_killed_and_the_other_machine_serves() {
    let (mut pair, [server, _]) = up();
    signal(server, "-STOP");
    pair.master.keeper().wait("server hung", |line| line["fact"]["ServiceHung"].is_object());
    pair.standby.wait_role("active");
    assert_ne!(pair.master.keeper().wait_server(), server);
}

#[test]
fn both_machines_tell_what_happened_on_both_though_one_is_gone() {
    let (mut pair, [server, _]) = up();
    assert!(pair.standby.command(&["lock", "on"]).status.success());
    let locked = |machine: &Machine| machine.status()["twin"]["locked"] == true;
    let until = Instant::now() + DEADLINE;
    while !locked(&pair.master) {
        assert!(Instant::now() < until, "{:#}", pair.master.status());
    }
    assert_eq!(pair.master.command(&["switch"]).status.code(), Some(1));
    assert!(pair.standby.command(&["lock", "off"]).status.success());
    pair.master.wait_twin_ready();
    signal(server, "-KILL");
    pair.standby.wait_role("active");
    pair.standby.keeper().wait_protected();
    let of = |events: &Value, seat: &str, kind: &str| -> Vec<Value> {
        let events = events.as_array().unwrap().iter();
        events.filter(|e| e["seat"] == seat && e["kind"] == kind).cloned().collect()
    };
    // What the twin tells comes a moment later.
    let until = Instant::now() + DEADLINE;
    let events = loop {
        let events = pair.master.json(&["events", "--json", "--limit", "1000"]);
        let has = |kind| !of(&events, "standby", kind).is_empty();
        if has("reign_begun") && has("server_protection") {
            break events;
        }
        assert!(Instant::now() < until, "{events:#}");
    };
    let took = &of(&events, "standby", "reign_begun")[0]["took_us"];
    assert!(took["total"].as_u64() >= took["epoch_saved"].as_u64(), "{took}");
    let changes = of(&events, "standby", "role_changed");
    let claim = changes.iter().find(|event| event["evidence"]["to"] == "claiming").unwrap();
    // The word of the twin's keeper; where that came late, the probe of the address.
    let evidence = &claim["evidence"];
    let was_told = ["died", "starting"].iter().any(|word| evidence["twin_server"] == *word);
    assert!(was_told || evidence["probed_ms"].is_u64(), "{claim:#}");
    assert_eq!(of(&events, "master", "switch_refused").len(), 1);
    assert_eq!(of(&events, "standby", "locked").len(), 1);
    assert_eq!(of(&events, "master", "server_ended").len(), 1);

    pair.standby.keeper().kill();
    let alone = pair.standby.json(&["events", "--json", "--limit", "1000", "--since", "1h"]);
    assert_eq!(of(&alone, "standby", "role_changed"), changes);
    assert_eq!(of(&alone, "master", "server_ended").len(), 1);
    let page = String::from_utf8(pair.standby.command(&["events"]).stdout).unwrap();
    assert!(page.contains("rested on: ") && page.contains("took: "), "{page}");
}

/// The status line and the page that the keeper of this machine shows.
fn ask_http(machine: &Machine, path: &str) -> (String, String) {
    let text = std::fs::read_to_string(&machine.config).unwrap();
    let address = text.split("metrics = \"").nth(1).unwrap().split('"').next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), page.to_owned())
}

/// Waits until the page at `path` is as wanted: it is up to a second old.
fn wait_http(machine: &Machine, path: &str, wanted: impl Fn(&str, &str) -> bool) {
    let until = Instant::now() + DEADLINE;
    loop {
        let (head, page) = ask_http(machine, path);
        if wanted(&head, &page) {
            return;
        }
        assert!(Instant::now() < until, "{path}: {head}\n{page}");
    }
}

#[test]
fn the_keepers_show_who_is_active_also_while_a_server_is_down() {
    let (mut pair, [server, _]) = up();
    wait_http(&pair.master, "/readyz", |head, _| head == "HTTP/1.1 200 OK");
    wait_http(&pair.master, "/metrics", |_, page| {
        page.contains("\ntandem_role 1\n") && page.contains("\ntandem_protected 1\n")
    });
    wait_http(&pair.standby, "/readyz", |head, _| head == "HTTP/1.1 503 Service Unavailable");
    wait_http(&pair.standby, "/healthz", |head, _| head == "HTTP/1.1 200 OK");
    signal(server, "-KILL");
    pair.standby.wait_role("active");
    wait_http(&pair.standby, "/readyz", |head, _| head == "HTTP/1.1 200 OK");
    wait_http(&pair.standby, "/metrics", |_, page| {
        page.contains("\ntandem_takeover_seconds_count 1\n") && page.contains("\ntandem_role 1\n")
    });
    wait_http(&pair.master, "/metrics", |_, page| {
        page.contains("\ntandem_role 0\n")
            && page.contains("tandem_service_restarts_total{service=\"server\"} 1\n")
    });
}

#[test]
fn a_switchover_is_ordered_on_either_machine() {
    let (mut pair, _) = up();
    assert!(pair.standby.command(&["switch"]).status.success());
    pair.standby.wait_role("active");
    pair.master.wait_role("passive");
}

#[test]
fn a_wrong_configuration_ends_the_command_with_the_place_of_the_error() {
    let pair = set_up();
    let here = &pair.master.config;
    let text = std::fs::read_to_string(here).unwrap();
    std::fs::write(here, text.replace("port = 5060", "port = 0")).unwrap();
    for command in [["config", "check"].as_slice(), &["keeper"], &["status"]] {
        let output = tandem().arg("--config").arg(here).args(command).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("tandem.toml:") && error.contains("port = 0: expected"), "{error}");
    }
}

/// Services that do what services should not.
const UNRULY: &str = r#"
[[service]]
name = "crash"
command = ["/bin/sh", "-c", "exit 3"]
restart_pause_ms = 1
restarts_max = 3
rest_ms = 600000

[[service]]
name = "hang"
command = ["/bin/sh", "-c", "exec sleep 100000"]
probe_command = ["/bin/false"]
probe_pause_ms = 20
probe_failures = 2
restarts_max = 1
rest_ms = 600000

[[service]]
name = "noise"
command = ["/bin/sh", "-c", "while :; do echo garbage; echo $0; done", "xxxxxxxx"]

[[service]]
name = "deaf"
command = ["/bin/sh", "-c", "trap '' TERM; echo deaf is up >&2; exec sleep 100000"]
ready = "line"
ready_line = "is up"
after = ["noise"]
stop_ms = 100

[[service]]
name = "missing"
command = ["/nowhere/nothing"]
restart = "never"
"#;

fn is_there(process: u64) -> bool {
    // One that has ended and is not reaped yet has no command line.
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn wait_gone(process: u64) {
    let until = Instant::now() + DEADLINE;
    while is_there(process) {
        assert!(Instant::now() < until, "process {process} is still there");
    }
}

impl Machine {
    /// Waits until this happened to that service; what is told of it.
    fn wait_service(&mut self, name: &str, event: &str) -> Value {
        let line = self.keeper().wait(&format!("{name} {event}"), |line| {
            let fact = &line["fact"]["Service"];
            fact["service"] == name && (fact["what"] == event || !fact["what"][event].is_null())
        });
        line["fact"]["Service"]["what"][event].clone()
    }
}

/// The master alone, active, with the unruly services, and the processes of two of them.
fn unruly() -> (Pair, [u64; 2]) {
    let mut pair = set_up();
    let machine = &mut pair.master;
    let mut file = std::fs::OpenOptions::new().append(true).open(&machine.config).unwrap();
    file.write_all(UNRULY.as_bytes()).unwrap();
    machine.start();
    let noise = machine.wait_service("noise", "started").as_u64().unwrap();
    let deaf = machine.wait_service("deaf", "started").as_u64().unwrap();
    machine.wait_service("deaf", "ready");
    (pair, [noise, deaf])
}

#[test]
fn services_that_crash_hang_or_babble_are_counted_and_do_not_touch_the_role() {
    let (mut pair, processes) = unruly();
    let machine = &mut pair.master;
    let until = Instant::now() + DEADLINE;
    loop {
        let status = machine.status();
        let of = |name: &str| {
            let services = status["services"].as_array().unwrap();
            services.iter().find(|service| service["name"] == name).cloned().unwrap_or_default()
        };
        let settled = status["role"] == "active"
            && of("crash")["failing"] == true
            && of("hang")["failing"] == true
            && of("missing")["state"] == "off"
            && of("noise")["lines_dropped"].as_u64() > Some(1_000);
        if settled {
            assert_eq!(of("crash")["last_exit"], serde_json::json!({ "code": 3 }));
            assert_eq!(of("hang")["last_exit"], serde_json::json!({ "signal": 9 }));
            assert_eq!(of("crash")["failures"], 4);
            assert_eq!((&of("deaf")["state"], &of("noise")["state"]), (&"up".into(), &"up".into()));
            assert_eq!(of("server")["restarts"], 0);
            break;
        }
        assert!(Instant::now() < until, "{status:#}");
    }
    let page = String::from_utf8(machine.command(&["status"]).stdout).unwrap();
    assert!(page.contains("crash: resting") && page.contains("FAILED too often"), "{page}");
    wait_http(machine, "/metrics", |_, page| {
        page.contains("tandem_service_failing{service=\"crash\"} 1\n")
            && page.contains("tandem_service_up{service=\"deaf\"} 1\n")
    });
    let events = machine.json(&["events", "--json", "--limit", "10000"]);
    let failing = events.as_array().unwrap().iter().filter(|e| e["kind"] == "service_failing");
    assert_eq!(failing.count(), 2, "crash and hang");

    machine.keeper().signal("-TERM");
    let exit = machine.keeper().process.wait().unwrap();
    assert!(exit.success(), "{exit}");
    processes.into_iter().for_each(wait_gone);
    // All lines to the end of the last one that has the pipe.
    let stops: Vec<_> = std::iter::from_fn(|| machine.keeper().lines.recv_timeout(DEADLINE).ok())
        .filter_map(|line| {
            let fact = &line["fact"]["Service"];
            (!fact["what"]["exited"].is_null()).then(|| fact["service"].clone())
        })
        .collect();
    let place = |name: &str| stops.iter().rposition(|stopped| stopped == name);
    assert!(place("deaf") < place("noise") && place("deaf").is_some(), "{stops:?}");
}

#[test]
fn services_die_with_their_keeper() {
    let (mut pair, processes) = unruly();
    assert!(processes.into_iter().all(is_there));
    pair.master.keeper().kill();
    processes.into_iter().for_each(wait_gone);
}

/// Calls that a master of an earlier life closed: between users, and with the world outside. How many days ago
/// each ended.
fn put_calls(config: &Path, of: &[(&str, &str, i64)]) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_micros()).unwrap();
    let epoch = Epoch { number: 1, seat: Seat::Master };
    let records = (1..).zip(of).map(|(seq, (call, from, days))| {
        let text = |text: &str| Pii::new(text.to_owned());
        let cdr = Cdr {
            origination_number: text(from),
            called_number: text("10"),
            destination_number: text("10"),
            origination_device: format!("sip:{from}@192.0.2.7 udp 192.0.2.7:5060"),
            destination_device: "sip:anna@192.0.2.6 udp 192.0.2.6:5060".into(),
            ..calls::cdr(call, now - days * 86_400_000_000)
        };
        let age = tandem_types::Duration::from_secs(u64::try_from(*days).unwrap() * 86_400);
        let key = format!("cdr/{call}").into_bytes();
        Record {
            class: Class::Log,
            key,
            stamp: Stamp { epoch, seq: Seq(seq) },
            age,
            body: Some(calls::body(&cdr)),
        }
    });
    let mut known = Known::new();
    known.learn(Stamp { epoch, seq: Seq(of.len() as u64) });
    let settings = Settings { end_of: tandem_node::end_of_record, ..Settings::default() };
    let (store, _) = calls::open(&config.with_file_name("state"), settings);
    store.write(Write::Records(records.collect()), true, 1).unwrap();
    store.write(Write::Learn(known), true, 2).unwrap();
}

/// As [`up`], with calls on the disk of the master; until both machines show them.
fn up_with(calls: &[(&str, &str, i64)]) -> Pair {
    let mut pair = set_up();
    put_calls(&pair.master.config, calls);
    pair.start();
    for machine in [&pair.master, &pair.standby] {
        wait_call_count(machine, calls.len());
    }
    pair
}

fn wait_call_count(machine: &Machine, wanted: usize) {
    let until = Instant::now() + DEADLINE;
    while machine.calls().len() != wanted {
        assert!(Instant::now() < until, "{wanted} expected: {:?}", machine.calls());
    }
}

#[test]
fn call_records_are_exported_masked_in_three_forms_on_either_machine_of_a_live_pair() {
    let pair = up_with(&[("one", "+4923112345", 1), ("two", "20", 0)]);
    for (name, number) in [("anna", "10"), ("ben", "20")] {
        let added = pair.master.command(&["user", "add", name, "--number", number]);
        assert!(added.status.success(), "{added:?}");
    }
    let export = |machine: &Machine, format: &str, numbers: &str| {
        let arguments = ["cdr", "export", "--format", format, "--numbers", numbers, "--utc"];
        let output = machine.command(&arguments);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("2 records, times in UTC"), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    for format in ["reference", "asterisk", "jsonl"] {
        let full = export(&pair.master, format, "full");
        assert!(full.contains("+4923112345") && full.contains("sip:+4923112345@"), "{full}");
        for (numbers, shown) in [("last-3-hidden", "+4923112xxx"), ("hidden", "hidden")] {
            let [one, other] =
                [&pair.master, &pair.standby].map(|machine| export(machine, format, numbers));
            assert_eq!(one, other, "{format}");
            assert!(one.contains(shown) && !one.contains("12345"), "{format}: {one}");
            // Who is a user is no secret, nor is anything else different.
            assert!(one.contains("anna") && one.contains("20"), "{format}: {one}");
            assert_eq!(one.lines().count(), full.lines().count());
        }
    }
}

#[test]
fn old_call_records_are_shown_no_more_and_deleted_on_both_machines() {
    let calls = [("old", "20", 40), ("within-grace", "20", 30), ("new", "20", 1)];
    let pair = up_with(&calls);
    let days = |machine: &Machine| machine.json(&["cdr", "retention", "--json"])["days"].clone();
    assert_eq!(days(&pair.standby), Value::Null, "for ever, unless it is set");
    let wrong = pair.master.command(&["cdr", "retention", "0"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let set = pair.standby.command(&["cdr", "retention", "30"]);
    assert!(set.status.success(), "{set:?}");
    assert_eq!(String::from_utf8(set.stdout).unwrap(), "closed calls stay on record for 30 days\n");
    for machine in [&pair.master, &pair.standby] {
        wait_call_count(machine, 1);
        let until = Instant::now() + DEADLINE;
        while days(machine) != 30 {
            assert!(Instant::now() < until);
        }
        let gone = machine.command(&["cdr", "show", "within-grace"]);
        assert_eq!(gone.status.code(), Some(1), "not shown though it is there: {gone:?}");
        // What is in the file without any rule.
        let reader =
            Reader::open(&machine.config.with_file_name("state"), WallClock::system()).unwrap();
        while reader.get(b"cdr/old").unwrap().is_some() {
            assert!(Instant::now() < until, "it is never deleted");
        }
        assert!(reader.get(b"cdr/within-grace").unwrap().is_some(), "a day longer");
    }
    // Who asked for it is on record, though it was asked on the machine that is passive.
    let changes = String::from_utf8(pair.master.command(&["change", "list"]).stdout).unwrap();
    let line = changes.lines().find(|line| line.contains("call_record_days")).unwrap();
    let me = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    assert!(line.contains(me.trim()), "{me}: {changes}");
}
