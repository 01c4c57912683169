//! `tandem cdr` on files as servers leave them: damaged, behind, with clocks that jumped; and exports that are
//! killed or find the disk full.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use common::calls::body;
use common::{DEADLINE, Folder, Service, tandem};
use serde_json::Value;
use tandem_call::{Cdr, LegId, Outcome, Trail};
use tandem_journal::{Class, Entry, Known, Op, Record, Write};
use tandem_node::{CallEvents, RECORD_VERSION};
use tandem_store::{Settings, Store, suspected};
use tandem_types::{Epoch, Pii, Seat, Seq, Stamp};

/// 2026-11-22 13:03:05 UTC, in microseconds.
const NOON: i64 = 1_795_352_585_000_000;
const SECOND: i64 = 1_000_000;

/// The files of one machine, without a server.
struct Machine {
    store: Option<(Store, Receiver<u64>)>,
    ticket: u64,
    folder: Folder,
}

impl Machine {
    fn new(seat: &str) -> Self {
        let folder = Folder::new("cdr");
        std::fs::create_dir(folder.0.join("state")).unwrap();
        let text = format!(
            "seat = \"{seat}\"\nrealm = \"example.com\"\naddress = [\"127.9.9.1\"]\n\
             peer = [\"127.9.9.2\"]\nvirtual = [\"127.9.9.10/24\"]\nstate = \"state\"\n\
             time_zone = \"Europe/Berlin\"\n"
        );
        std::fs::write(folder.0.join("tandem.toml"), text).unwrap();
        let mut machine = Self { store: None, ticket: 0, folder };
        machine.start();
        machine
    }

    /// As a server does when it is started, again.
    fn start(&mut self) {
        let settings = Settings { end_of: tandem_node::end_of_record, ..Settings::default() };
        self.store = Some(common::calls::open(&self.folder.0.join("state"), settings));
    }

    fn write(&mut self, write: Write) {
        self.ticket += 1;
        let (store, reports) = self.store.as_ref().unwrap();
        store.write(write, true, self.ticket).unwrap();
        while reports.recv_timeout(DEADLINE).unwrap() < self.ticket {}
    }

    fn command(&self) -> Command {
        let mut command = tandem();
        command.arg("--config").arg(self.folder.0.join("tandem.toml"));
        command.arg("cdr");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// The standard output of a command that succeeds.
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn follow(&self, after: &str) -> Follower {
        let mut command = self.command();
        Follower(Service::start(command.args(["follow", "--json", "--after", after])))
    }
}

struct Follower(Service);

impl Follower {
    /// The calls it prints until it prints a position after `wanted` of them, and that position.
    fn calls(&self, wanted: usize) -> (Vec<String>, String) {
        let mut calls = Vec::new();
        loop {
            let line = self.0.lines.recv_timeout(DEADLINE).unwrap();
            match line["position"].as_str() {
                Some(position) if calls.len() >= wanted => return (calls, position.to_owned()),
                Some(_) => {}
                None => calls.push(line["call_id"].as_str().unwrap().to_owned()),
            }
        }
    }
}

/// A call that ended so many seconds after noon.
fn cdr(call: &str, end: i64) -> Cdr {
    common::calls::cdr(call, NOON + end * SECOND)
}

fn stamp(number: u32, seq: u64) -> Stamp {
    let seat = if number % 2 == 1 { Seat::Master } else { Seat::Standby };
    Stamp { epoch: Epoch { number, seat }, seq: Seq(seq) }
}

fn log(key: &str, body: Vec<u8>) -> Op {
    Op { class: Class::Log, key: key.into(), body: Some(body) }
}

/// The entry that closes a call.
fn closed(at: Stamp, cdr: &Cdr) -> Write {
    let key = format!("cdr/{}", cdr.call_id);
    Write::Entry(Entry { stamp: at, ops: vec![log(&key, body(cdr))] })
}

/// The same as a catch-up brings it.
fn caught_up(at: Stamp, cdr: &Cdr) -> Record {
    let key = format!("cdr/{}", cdr.call_id).into_bytes();
    let age = tandem_types::Duration::ZERO;
    Record { class: Class::Log, key, stamp: at, age, body: Some(body(cdr)) }
}

/// The calls of an export as JSON lines.
fn calls(page: &str) -> Vec<String> {
    let call = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        value["call_id"].as_str().unwrap().to_owned()
    };
    page.lines().map(call).collect()
}

const JSONL: [&str; 3] = ["export", "--format", "jsonl"];

/// Calls in the order in which they were closed, with a clock that was set back in between.
const CALLS: [(&str, i64); 5] = [("e", 10), ("d", 20), ("c", -3_600), ("b", -3_600), ("a", 30)];

#[test]
fn exports_are_in_the_order_of_the_end_and_equal_from_both_machines() {
    let (mut here, mut there) = (Machine::new("master"), Machine::new("standby"));
    for (seq, (call, end)) in (1..).zip(CALLS) {
        here.write(closed(stamp(1, seq), &cdr(call, end)));
    }
    // There they came in a catch-up, in another order; and one is still missing.
    let mut late: Vec<Record> = (1..)
        .zip(CALLS)
        .map(|(seq, (call, end))| caught_up(stamp(1, seq), &cdr(call, end)))
        .collect();
    let missing = late.remove(1);
    late.reverse();
    there.write(Write::Records(late));
    assert_eq!(calls(&there.prints(&JSONL)), ["b", "c", "e", "a"]);
    there.write(Write::Records(vec![missing]));
    for format in ["jsonl", "reference", "asterisk"] {
        let export = ["export", "--format", format];
        let page = here.prints(&export);
        assert_eq!(page, there.prints(&export), "{format}");
        assert_eq!(page, here.prints(&export), "{format}");
    }
    assert_eq!(calls(&here.prints(&JSONL)), ["b", "c", "e", "d", "a"]);
    // Ranges that follow on one another have each record once.
    let part = |range: &[&str]| calls(&here.prints(&[&JSONL[..], range].concat()));
    let cut = "2026-11-22 14:03:25";
    assert_eq!(part(&["--until", cut]), ["b", "c", "e"]);
    assert_eq!(part(&["--since", cut]), ["d", "a"]);
}

#[test]
fn a_list_is_filtered_by_time_number_and_outcome() {
    let mut machine = Machine::new("master");
    for (seq, (call, end)) in (1..).zip(CALLS) {
        let mut cdr = cdr(call, end);
        if call == "d" {
            cdr.called_number = Pii::new("+49231123456".into());
            (cdr.connect, cdr.outcome) = (None, Some(Outcome::NoAnswer));
        }
        machine.write(closed(stamp(1, seq), &cdr));
    }
    let list = |more: &[&str]| {
        let page = machine.prints(&[&["list", "--json"], more].concat());
        let list: Vec<Value> = serde_json::from_str(&page).unwrap();
        list.iter().map(|cdr| cdr["call_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        list(&[]),
        ["a", "b", "c", "d", "e"],
        "the last closed first, whatever the clock said"
    );
    assert_eq!(list(&["--limit", "2"]), ["a", "b"]);
    assert_eq!(list(&["--since", "2026-11-22T13:03:05Z"]), ["a", "d", "e"]);
    assert_eq!(list(&["--until", "2026-11-22T13:03:05Z", "--limit", "1"]), ["b"]);
    assert_eq!(list(&["--number", "+49*"]), ["d"]);
    assert_eq!(list(&["--number", "2"]), [""; 0]);
    assert_eq!(list(&["--outcome", "noanswer"]), ["d"]);
    assert_eq!(list(&["--outcome", "noanswer", "--outcome", "answered", "--limit", "9"]).len(), 5);
    let page = machine.prints(&["list", "--limit", "1"]);
    assert!(
        page.starts_with("START (Europe/Berlin)") && page.contains("2026-11-22 14:02:35"),
        "{page}"
    );
    assert!(machine.prints(&["list", "--utc", "--limit", "1"]).contains("2026-11-22 13:02:35"));
}

#[test]
fn a_damaged_record_is_named_and_the_others_are_exported() {
    let mut machine = Machine::new("master");
    machine.write(closed(stamp(1, 1), &cdr("good", 1)));
    let mut cut = body(&cdr("cut", 2));
    cut.truncate(cut.len() / 2);
    let newer = [&[RECORD_VERSION + 1], &body(&cdr("newer", 3))[1..]].concat();
    let mut open = cdr("open", 4);
    (open.end, open.outcome) = (None, None);
    let ops = vec![
        log("cdr/cut", cut),
        log("cdr/newer", newer),
        log("cdr/other", body(&cdr("swapped", 5))),
        log("cdr/open", body(&open)),
    ];
    machine.write(Write::Entry(Entry { stamp: stamp(1, 2), ops }));
    for arguments in [&JSONL[..], &["list", "--json"]] {
        let output = machine.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        for key in ["cdr/cut", "cdr/newer", "cdr/other", "cdr/open"] {
            assert!(said.contains(&format!("{key} cannot be shown: ")), "{said}");
        }
        assert!(said.contains("4 records cannot be read"), "{said}");
        let page = String::from_utf8(output.stdout).unwrap();
        assert!(page.contains("\"good\"") && !page.contains("swapped"), "{page}");
    }
    let file = machine.folder.0.join("out.jsonl");
    let output = machine.run(&[&JSONL[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(calls(&std::fs::read_to_string(file).unwrap()), ["good"]);
}

/// So many records that an export takes a while and more than the room of the tests below.
fn many(machine: &mut Machine, count: u64) {
    let ops: Vec<Op> = (0..count)
        .map(|n| {
            let cdr = cdr(&format!("call-{n:06}"), i64::try_from(n).unwrap());
            log(&format!("cdr/{}", cdr.call_id), body(&cdr))
        })
        .collect();
    machine.write(Write::Entry(Entry { stamp: stamp(1, 1), ops }));
}

fn part_of(file: &Path) -> PathBuf {
    file.with_file_name(format!("{}.part", file.file_name().unwrap().to_str().unwrap()))
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let mut machine = Machine::new("master");
    many(&mut machine, 2_000);
    let file = machine.folder.0.join("out.jsonl");
    std::fs::write(&file, "old\n").unwrap();
    let mut command = Command::new("sh");
    // A limit on the size of files stands for the full disk; SQLite only reads.
    command.args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""]);
    let export = machine.command();
    command
        .arg(export.get_program())
        .args(export.get_args())
        .args(JSONL)
        .arg("--output")
        .arg(&file);
    let output = command.env_remove("TANDEM_CONFIG").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is as it was"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old\n");
    assert!(!part_of(&file).exists());
    // With room it is the whole new one.
    machine.prints(&[&JSONL[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2_000);
}

#[test]
fn an_export_that_is_killed_leaves_the_old_file_and_the_next_one_is_whole() {
    const RECORDS: u64 = 3_000;
    let mut machine = Machine::new("master");
    many(&mut machine, RECORDS);
    let file = machine.folder.0.join("out.jsonl");
    let mut killed_within = 0;
    for _ in 0..20 {
        std::fs::write(&file, "old\n").unwrap();
        let mut export = machine.command();
        export.args(JSONL).arg("--output").arg(&file).stderr(Stdio::null());
        let mut child = export.spawn().unwrap();
        let until = Instant::now() + DEADLINE;
        let size = || std::fs::metadata(part_of(&file)).map_or(0, |part| part.len());
        while size() == 0 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = std::fs::read_to_string(&file).unwrap();
        assert!(left == "old\n" || left.lines().count() as u64 == RECORDS, "{} bytes", left.len());
        killed_within += u32::from(part_of(&file).exists());
        if killed_within == 2 {
            break;
        }
    }
    assert!(killed_within > 0, "no export was killed while it wrote");
    machine.prints(&[&JSONL[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count() as u64, RECORDS);
    assert!(!part_of(&file).exists());
}

#[test]
fn records_are_followed_through_a_restart_and_on_the_other_machine_each_once() {
    let (mut here, mut there) = (Machine::new("master"), Machine::new("standby"));
    here.write(closed(stamp(1, 1), &cdr("one", 1)));
    let follower = here.follow("start");
    assert_eq!(follower.calls(1).0, ["one"]);
    here.write(closed(stamp(1, 2), &cdr("two", 2)));
    let (seen, position) = follower.calls(1);
    assert_eq!((seen, position.as_str()), (vec!["two".into()], "1m2"));
    here.store = None;
    here.start();
    // The clock was set back: it comes all the same.
    here.write(closed(stamp(1, 3), &cdr("three", -9_999)));
    let (seen, position) = follower.calls(1);
    assert_eq!(seen, ["three"]);
    drop(follower);
    // The twin is behind: it has the first two, and of a catch-up the fifth before the fourth.
    for (seq, call) in [(1, "one"), (2, "two")] {
        there.write(closed(stamp(1, seq), &cdr(call, 1)));
    }
    let follower = there.follow(&position);
    let record = |seq, call| caught_up(stamp(1, seq), &cdr(call, 1));
    there.write(Write::Records(vec![record(5, "five")]));
    there.write(Write::Records(vec![record(3, "three"), record(4, "four")]));
    let known = |at: Stamp| {
        let mut known = Known::new();
        known.learn(at);
        Write::Learn(known)
    };
    there.write(known(stamp(1, 5)));
    assert_eq!(follower.calls(2).0, ["four", "five"]);
    // It takes over.
    there.write(closed(stamp(2, 1), &cdr("six", 3)));
    assert_eq!(follower.calls(1), (vec!["six".into()], "1m5,2s1".into()));
}

#[test]
fn many_records_are_followed_in_lots_and_who_stopped_after_any_of_them_goes_on_there() {
    const CALLS: usize = 2_000;
    let mut machine = Machine::new("master");
    many(&mut machine, 700);
    // Entries of three calls, so that pages end within one; then another server goes on.
    for (reign, seq, range) in [(1, 2, 700..1_300), (2, 1, 1_300..CALLS as u64)] {
        for (seq, first) in (seq..).zip(range.clone().step_by(3)) {
            let ops = (first..range.end.min(first + 3)).map(|n| {
                let cdr = cdr(&format!("call-{n:06}"), i64::try_from(n).unwrap());
                log(&format!("cdr/{}", cdr.call_id), body(&cdr))
            });
            let ops = ops.collect();
            machine.write(Write::Entry(Entry { stamp: stamp(reign, seq), ops }));
        }
    }
    let follower = machine.follow("start");
    let (mut all, mut places) = (Vec::new(), Vec::new());
    while all.len() < CALLS {
        let (lot, position) = follower.calls(1);
        all.extend(lot);
        places.push((all.len(), position));
    }
    drop(follower);
    let want: Vec<String> = (0..CALLS).map(|n| format!("call-{n:06}")).collect();
    assert_eq!(all, want, "each once, in the order in which they were closed");
    assert!(places.len() >= 3, "{places:?}");
    for (seen, position) in &places[..places.len() - 1] {
        let rest = machine.follow(position).calls(CALLS - seen).0;
        assert_eq!(rest, want[*seen..], "{position}");
    }
}

#[test]
fn who_finds_the_file_damaged_leaves_a_mark_for_the_server() {
    let mut machine = Machine::new("master");
    many(&mut machine, 500);
    machine.store = None;
    let path = machine.folder.0.join("state/journal.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4_096;
    bytes[4_096..pages / 2 * 4_096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(suspected(&path), None);
    let output = machine.run(&["list"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("journal.db: ") && said.contains("The file is damaged"), "{said}");
    assert!(suspected(&path).is_some());
}

#[test]
fn events_that_cannot_be_read_are_named_and_their_call_is_exported() {
    let mut machine = Machine::new("master");
    let events = CallEvents { devices: [].into(), trail: Trail::default() };
    for (seq, call) in [(1, "right"), (2, "cut"), (3, "changed")] {
        let mut steps = body(&events);
        if call == "cut" {
            steps.truncate(1);
        }
        let ops = vec![
            log(&format!("cdr/{call}"), body(&cdr(call, 60))),
            log(&format!("cev/{call}"), steps),
        ];
        machine.write(Write::Entry(Entry { stamp: stamp(1, seq), ops }));
    }
    let file = rusqlite::Connection::open(machine.folder.0.join("state/journal.db")).unwrap();
    let sql = "UPDATE log_record SET written = 1 WHERE key = CAST('cev/changed' AS BLOB)";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    for arguments in [&JSONL[..], &["show", "cut"], &["show", "changed"]] {
        let output = machine.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let (wants_cut, wants_changed) = match arguments.last() {
            Some(&"cut") => (true, false),
            Some(&"changed") => (false, true),
            Some(_) | None => (true, true),
        };
        assert_eq!(said.contains("cev/cut cannot be shown: it is damaged"), wants_cut, "{said}");
        assert_eq!(said.contains("cev/changed cannot be shown: "), wants_changed, "{said}");
        assert!(!output.stdout.is_empty());
    }
    let page = String::from_utf8(machine.run(&JSONL).stdout).unwrap();
    assert_eq!(calls(&page), ["changed", "cut", "right"]);
    machine.prints(&["show", "right"]);
    machine.prints(&["export", "--format", "reference"]);
}

#[test]
fn one_call_is_shown_with_its_events_and_an_unknown_one_is_named() {
    let mut machine = Machine::new("master");
    let devices = BTreeMap::from([(LegId(1), "sip:ben@192.0.2.6 udp 192.0.2.6:5060".into())]);
    let trail = serde_json::json!({
        "steps": [
            { "after_us": 0, "event": { "attempt": { "leg": 1 } } },
            { "after_us": 1_000_000, "event": { "ringing": { "leg": 1 } } },
            { "after_us": 30_000_000, "event": { "answered": { "leg": 1 } } },
        ],
        "left_out": 0,
    });
    let events = CallEvents { devices, trail: serde_json::from_value(trail).unwrap() };
    let ops = vec![log("cdr/abc", body(&cdr("abc", 60))), log("cev/abc", body(&events))];
    machine.write(Write::Entry(Entry { stamp: stamp(1, 1), ops }));
    let page = machine.prints(&["show", "abc"]);
    let at = |what: &str| page.find(what).unwrap_or_else(|| panic!("{what} is not in {page}"));
    let order = [
        "2026-11-22 14:03:05.000",
        "leg 1 (sip:ben@",
        "leg 1 rang",
        "leg 1 answered",
        "the call ended",
    ];
    assert!(order.map(at).is_sorted(), "{page}");
    let json: Value = serde_json::from_str(&machine.prints(&["show", "abc", "--json"])).unwrap();
    assert_eq!(json["events"][1]["event"], "ringing");
    assert_eq!(json["events"][1]["time"], "2026-11-22T13:03:06.000000Z");
    assert_eq!(machine.prints(&JSONL).lines().count(), 1, "events are no records");
    let output = machine.run(&["show", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("nobody: there is no closed record")
    );
}

#[test]
fn numbers_are_not_exported_masked_while_nobody_says_who_is_inside() {
    let mut machine = Machine::new("master");
    machine.write(closed(stamp(1, 1), &cdr("one", 1)));
    let output = machine.run(&[&JSONL[..], &["--numbers", "hidden"]].concat());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"");
}
