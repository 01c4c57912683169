//! Records as earlier versions of this program wrote them are read; what is newer and unknown is kept.
//!
//! `tests/golden/records-N.txt` holds records as version N of their encoding wrote them, one a line: key and body in
//! hexadecimal digits. They are never written anew; for a new version the last test prints what to write
//! (`cargo test -p tandem-node --test golden -- --nocapture`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use std::collections::BTreeSet;

use bench::{ANNA, BEN, Bench, answer, in_dialog};
use tandem_journal::{Class, Record};
use tandem_node::{
    CDR_PREFIX, EVENTS_PREFIX, RECORD_VERSION, Request, end_of_record, read_cdr, read_events,
};
use tandem_sip::Method;
use tandem_types::{Duration, Epoch, Seat, Seq, Stamp};

/// Each version that is read.
const GOLDEN: [(u8, &str); 1] = [(1, include_str!("golden/records-1.txt"))];

/// One call that is over, and one that is up.
fn made_today() -> Vec<Record> {
    let mut over = Bench::new();
    let (invite, got) = over.ring();
    let (to, target) = over.answer(&invite, &got);
    over.wait(Duration::from_secs(5));
    over.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    let bye = over.request(BEN, &Method::Bye);
    over.send(BEN, answer(&bye, 200));
    let mut up = Bench::new();
    let (invite, got) = up.ring();
    up.answer(&invite, &got);
    let mut records = up.records(1);
    records.extend(over.records(1).into_iter().filter(|record| record.class == Class::Log));
    records
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn stamp() -> Stamp {
    Stamp { epoch: Epoch { number: 1, seat: Seat::Master }, seq: Seq(3) }
}

fn golden(version: u8) -> Vec<Record> {
    let found = GOLDEN.iter().find(|(number, _)| *number == version);
    let (_, text) = found.unwrap_or_else(|| panic!("there are no records of version {version}"));
    let record = |line: &str| {
        let (key, body) = line.split_once(' ').unwrap();
        let is_log = key.starts_with("cdr/") || key.starts_with("cev/");
        let class = if is_log { Class::Log } else { Class::Hot };
        let (key, body) = (key.as_bytes().to_vec(), Some(bytes(body)));
        Record { class, key, stamp: stamp(), age: Duration::ZERO, body }
    };
    text.lines().map(record).collect()
}

/// A server that is started with these records on its disk and becomes active alone.
fn crowned_with(records: Vec<Record>) -> Bench {
    let mut bench = Bench::new();
    bench.switch_off(0);
    bench.switch_off(1);
    bench.put_records(1, records);
    bench.switch_on(1, Duration::ZERO);
    bench.crown(1);
    bench
}

#[test]
fn records_of_this_version_and_of_the_one_before_are_read() {
    let versions = RECORD_VERSION.saturating_sub(1).max(1)..=RECORD_VERSION;
    for version in versions {
        let records = golden(version);
        assert!(records.iter().all(|one| one.body.as_ref().unwrap()[0] == version));
        let kinds =
            |kind: &str| records.iter().filter(|one| one.key.starts_with(kind.as_bytes())).count();
        for kind in ["aor/", "call/", "txn/", "cdr/", "cev/"] {
            assert!(kinds(kind) > 0, "version {version} has no {kind}");
        }
        for record in records.iter().filter(|one| one.class == Class::Log) {
            let body = record.body.as_deref().unwrap();
            if record.key.starts_with(CDR_PREFIX) {
                let cdr = read_cdr(body).unwrap();
                assert_eq!((cdr.sip_status, cdr.talk_seconds()), (200, 5));
                assert_eq!(end_of_record(&record.key, body), cdr.end);
            } else {
                assert!(record.key.starts_with(EVENTS_PREFIX));
                assert_eq!(read_events(body).unwrap().trail.steps.len(), 3);
                assert_eq!(end_of_record(&record.key, body), None);
            }
        }
        let (calls, logins) = (kinds("call/"), kinds("aor/"));
        let bench = crowned_with(records);
        let fact = format!("{calls} calls and {logins} logins at hand, 0 records unreadable");
        assert!(bench.facts.iter().any(|said| said.contains(&fact)), "{:?}", bench.facts);
    }
}

#[test]
fn every_kind_of_record_that_is_made_today_is_among_them() {
    let kind = |record: &Record| record.key.split(|byte| *byte == b'/').next().unwrap().to_vec();
    let made = made_today();
    for record in &made {
        let (key, body) = (String::from_utf8_lossy(&record.key), record.body.as_deref());
        println!("{key} {}", hex(body.unwrap_or_default()));
    }
    let made: BTreeSet<Vec<u8>> = made.iter().map(kind).collect();
    let kept: BTreeSet<Vec<u8>> = golden(RECORD_VERSION).iter().map(kind).collect();
    assert_eq!(made, kept);
}

#[test]
fn what_is_newer_or_unknown_is_counted_and_kept_for_a_server_that_can_read_it() {
    let mut newer = golden(RECORD_VERSION);
    newer.retain(|one| one.class == Class::Hot);
    let known = newer.len();
    for record in &mut newer {
        record.body.as_mut().unwrap()[0] = RECORD_VERSION + 1;
    }
    let body = Some(vec![RECORD_VERSION, 1, 2, 3]);
    newer.push(Record { key: b"park/7".to_vec(), body, ..newer[0].clone() });
    let mut bench = crowned_with(newer.clone());
    let fact = format!("{} records unreadable", known + 1);
    assert!(bench.facts.iter().any(|said| said.contains(&fact)), "{:?}", bench.facts);
    // It works beside them: another user comes, calls are made, and they are where they were.
    bench.add_user("carla", "30");
    bench.wait(Duration::from_secs(120));
    bench.switch_on(0, Duration::ZERO);
    for who in 0..2 {
        let there = bench.records(who);
        for record in &newer {
            let kept = there.iter().find(|one| one.key == record.key);
            let kept = kept.unwrap_or_else(|| panic!("{who} lost {:?}", record.key));
            assert_eq!(kept.body, record.body);
        }
    }
}

#[test]
fn who_asks_for_a_change_stands_behind_it_on_either_server() {
    let mut bench = Bench::new();
    for (who, by) in [(0, "carla"), (1, "dora")] {
        let days = Some(7 + u32::try_from(who).unwrap());
        let request = Request::RetentionSet { days };
        bench.input(who, tandem_node::Input::Admin { id: 5, request, by: by.to_owned() });
        assert_eq!(bench.authors.last().map(String::as_str), Some(by), "{:?}", bench.replies);
        assert_eq!(bench.kept_days[0], days, "and it is said to the store");
    }
    // Nobody asked for what is done because its time is over.
    let block = Request::Block {
        what: tandem_node::Blockable::Calls,
        reason: String::new(),
        seconds: Some(2),
    };
    bench.input(0, tandem_node::Input::Admin { id: 6, request: block, by: "carla".to_owned() });
    bench.input(
        0,
        tandem_node::Input::Admin { id: 6, request: Request::UserList, by: "eve".to_owned() },
    );
    bench.wait(Duration::from_secs(3));
    assert_eq!(bench.authors.last().map(String::as_str), Some("the server"));
    let wrong = Request::RetentionSet { days: Some(0) };
    bench.replies.clear();
    bench.input(1, tandem_node::Input::Admin { id: 7, request: wrong, by: "eve".to_owned() });
    assert!(format!("{:?}", bench.replies).contains("expected 1 to 36500 days"));
    assert!(!bench.authors.contains(&"eve".to_owned()));
}
