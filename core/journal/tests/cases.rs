//! Catch-up, frame by frame: what goes wrong between two frames.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use tandem_journal::{
    CHUNK_RECORDS_MAX, Class, Cursor, FETCH_WAIT, Frame, Journal, Known, MORE_WAIT, Op, Output,
    Record, UNSTORED_MAX, Write,
};
use tandem_types::{Duration, Epoch, Instant, Role, Seat, Seq, Stamp};

const NOW: Instant = Instant::ZERO;
const FIRST: Epoch = Epoch { number: 1, seat: Seat::Master };

fn hot(number: usize) -> Vec<Op> {
    let (class, key) = (Class::Hot, format!("hot{number:04}").into());
    vec![Op { class, key, body: Some(vec![1]) }]
}

/// An active journal with `records` in memory, linked.
fn active(records: usize) -> Journal {
    let mut journal = Journal::new(NOW, Seat::Master, Vec::new(), Known::new());
    journal.activate(FIRST);
    for number in 0..records {
        journal.append(NOW, hot(number));
    }
    journal.handle_link_up(NOW);
    drain(&mut journal);
    journal
}

fn drain(journal: &mut Journal) -> Vec<Output> {
    std::iter::from_fn(|| journal.poll_output()).collect()
}

/// The frames and reads among what a journal wants, ticks left out.
fn said(journal: &mut Journal) -> Vec<String> {
    let say = |output| match output {
        Output::Send(Frame::Tick { .. }) => None,
        Output::Send(Frame::Records { records, .. }) => Some(format!("records {}", records.len())),
        Output::Send(Frame::CaughtUp { .. }) => Some("caught up".into()),
        Output::Send(Frame::Hello { .. }) => Some("hello".into()),
        Output::Send(Frame::Ack(stamp)) => Some(format!("ack {}", stamp.seq)),
        Output::Send(Frame::More { .. }) => Some("more".into()),
        Output::Fetch { read, .. } => Some(format!("fetch {read}")),
        Output::Send(_) | Output::Store { .. } | Output::Committed | Output::Aside(_) => None,
        Output::Protection { .. } | Output::Stray(_) | Output::Changed(_) | Output::Logged(_) => {
            None
        }
        Output::SameSeat => None,
    };
    drain(journal).into_iter().filter_map(say).collect()
}

fn join(journal: &mut Journal, join: u32) {
    let known = Known::new();
    journal.handle_frame(NOW, Frame::Join { epoch: FIRST, join, known });
    journal.handle_frame(NOW, Frame::TailDone { join });
    journal.settle_tail();
}

fn read_of(said: &[String]) -> u64 {
    said.iter().find_map(|what| what.strip_prefix("fetch ")).unwrap().parse().unwrap()
}

#[test]
fn an_answer_of_the_disk_to_an_earlier_catch_up_does_not_end_this_one() {
    let mut journal = active(CHUNK_RECORDS_MAX + 88);
    join(&mut journal, 1);
    journal.handle_frame(NOW, Frame::More { join: 1 });
    journal.handle_frame(NOW, Frame::More { join: 1 });
    let first = said(&mut journal);
    let read = read_of(&first);
    assert_eq!(first, ["more", "records 512", "records 88", &format!("fetch {read}")]);
    // The disk is slow; the link breaks and is back.
    journal.handle_link_down();
    journal.handle_link_up(NOW);
    join(&mut journal, 2);
    journal.handle_fetched(read, Vec::new(), None);
    assert_eq!(said(&mut journal), ["more", "records 512"]);
    journal.handle_frame(NOW, Frame::More { join: 2 });
    journal.handle_frame(NOW, Frame::More { join: 2 });
    let second = said(&mut journal);
    journal.handle_fetched(read_of(&second), Vec::new(), None);
    assert_eq!(said(&mut journal), ["caught up"]);
}

#[test]
fn what_only_the_twin_had_is_settled_before_it_is_known_here_and_before_the_twin_hears_that_this_was_all()
 {
    let mut journal = active(0);
    let epoch = Epoch { number: 0, seat: Seat::Standby };
    let stamp = Stamp { epoch, seq: Seq(7) };
    let mut known = Known::new();
    known.learn(stamp);
    journal.handle_frame(NOW, Frame::Join { epoch: FIRST, join: 1, known: known.clone() });
    let (class, body, age) = (Class::Hot, Some(vec![1]), Duration::ZERO);
    let stray = Record { class, key: b"call/1".to_vec(), stamp, age, body };
    let records = vec![stray.clone()];
    journal.handle_frame(NOW, Frame::Records { join: 1, records });
    assert!(drain(&mut journal).contains(&Output::Stray(stray)));
    journal.handle_frame(NOW, Frame::TailDone { join: 1 });
    let read = read_of(&said(&mut journal));
    journal.handle_fetched(read, Vec::new(), None);
    assert!(journal.has_tail());
    assert_eq!(said(&mut journal), [""; 0], "not caught up");
    journal.append(NOW, hot(1));
    drain(&mut journal);
    journal.settle_tail();
    let said = drain(&mut journal);
    let knows = |output: &&Output| match output {
        Output::Store { write: Write::Learn(known), .. }
        | Output::Send(Frame::CaughtUp { known, .. }) => known.covers(stamp),
        Output::Send(_) | Output::Store { .. } | Output::Fetch { .. } | Output::Committed => false,
        Output::Protection { .. } | Output::Stray(_) | Output::Changed(_) | Output::Logged(_) => {
            false
        }
        Output::Aside(_) | Output::SameSeat => false,
    };
    assert_eq!(said.iter().filter(knows).count(), 2, "{said:?}");
    assert!(!journal.has_tail());
}

/// The answer to a call, and its record.
fn closed(call: &str) -> Vec<Op> {
    let op =
        |class, kind: &str| Op { class, key: [kind, call].concat().into(), body: Some(vec![1]) };
    vec![op(Class::Log, "cdr/"), op(Class::Hot, "txn/")]
}

/// The keys of the records that a journal sends in one frame, where it sends one.
fn sent_keys(journal: &mut Journal) -> Option<Vec<String>> {
    let keys = |output| {
        let Output::Send(Frame::Records { records, .. }) = output else { return None };
        Some(records.iter().map(|r| String::from_utf8_lossy(&r.key).into_owned()).collect())
    };
    drain(journal).into_iter().find_map(keys)
}

#[test]
fn a_record_that_is_not_on_the_disk_yet_comes_before_the_answer_that_promises_it() {
    let mut journal = active(0);
    journal.append(NOW, closed("1"));
    let ticket = last_synced(&mut journal);
    journal.append(NOW, closed("2"));
    journal.handle_stored(ticket);
    drain(&mut journal);
    join(&mut journal, 1);
    assert_eq!(sent_keys(&mut journal).unwrap(), ["cdr/2"], "the other one is on the disk");
    journal.handle_frame(NOW, Frame::More { join: 1 });
    assert_eq!(sent_keys(&mut journal).unwrap(), ["txn/1", "txn/2"]);
    journal.handle_frame(NOW, Frame::More { join: 1 });
    assert!(said(&mut journal)[0].starts_with("fetch"));
}

#[test]
fn so_does_one_that_was_taken_while_following() {
    let mut journal = passive_in_sync();
    let stamp = Stamp { epoch: FIRST, seq: Seq(2) };
    let entry = tandem_journal::Entry { stamp, ops: closed("1") };
    journal.handle_frame(NOW, Frame::Entry(entry));
    let epoch = Epoch { number: 2, seat: Seat::Standby };
    journal.activate(epoch);
    drain(&mut journal);
    journal.handle_frame(NOW, Frame::Join { epoch, join: 1, known: Known::new() });
    journal.handle_frame(NOW, Frame::TailDone { join: 1 });
    assert_eq!(sent_keys(&mut journal).unwrap(), ["cdr/1"]);
}

#[test]
fn what_a_twin_has_of_them_it_is_not_sent_again() {
    let mut journal = active(0);
    journal.append(NOW, closed("1"));
    drain(&mut journal);
    let mut known = Known::new();
    known.learn(Stamp { epoch: FIRST, seq: Seq(1) });
    journal.handle_frame(NOW, Frame::Join { epoch: FIRST, join: 1, known });
    journal.handle_frame(NOW, Frame::TailDone { join: 1 });
    assert_eq!(sent_keys(&mut journal).unwrap(), ["txn/1"]);
}

/// A passive journal that is being caught up and was sent `chunks` with a log record each. What it said to the last
/// of them.
fn caught_up_to(chunks: usize) -> (Journal, Vec<String>) {
    let mut journal = Journal::new(NOW, Seat::Standby, Vec::new(), Known::new());
    journal.handle_link_up(NOW);
    let (seat, role, known) = (Seat::Master, Role::Active, Known::new());
    journal.handle_frame(NOW, Frame::Hello { seat, role, epoch: FIRST, known });
    drain(&mut journal);
    let mut last = Vec::new();
    for number in 1..=chunks {
        journal.handle_frame(NOW, Frame::Records { join: 1, records: vec![logged(number)] });
        last = said(&mut journal);
    }
    (journal, last)
}

fn logged(number: usize) -> Record {
    let stamp = Stamp { epoch: FIRST, seq: Seq(number as u64) };
    let (class, key) = (Class::Log, format!("cdr/{number}").into());
    Record { class, key, stamp, age: Duration::ZERO, body: Some(vec![1]) }
}

#[test]
fn a_catch_up_comes_as_fast_as_the_disk_takes_it() {
    let (_, said_to_last) = caught_up_to(UNSTORED_MAX - 1);
    assert_eq!(said_to_last, ["more"]);
    let (mut journal, said_to_last) = caught_up_to(UNSTORED_MAX);
    assert_eq!(said_to_last, [""; 0], "so many wait for the disk");
    journal.handle_stored(1);
    assert_eq!(said(&mut journal), ["more"]);
    journal.handle_stored(2);
    assert_eq!(said(&mut journal), [""; 0], "one question for each chunk");
}

#[test]
fn a_disk_that_is_broken_or_says_nothing_does_not_hold_a_catch_up_up() {
    let (mut journal, _) = caught_up_to(UNSTORED_MAX);
    journal.handle_disk(false);
    assert_eq!(said(&mut journal), ["more"]);
    let (mut journal, _) = caught_up_to(UNSTORED_MAX);
    let until = NOW + MORE_WAIT;
    while journal.next_timeout() < until {
        let at = journal.next_timeout();
        journal.handle_timeout(at);
    }
    assert_eq!(said(&mut journal), [""; 0]);
    journal.handle_timeout(until);
    assert_eq!(said(&mut journal), ["more"]);
}

#[test]
fn what_was_held_up_is_not_asked_for_in_the_next_catch_up() {
    let (mut journal, _) = caught_up_to(UNSTORED_MAX);
    let (seat, role, known) = (Seat::Master, Role::Active, Known::new());
    journal.handle_frame(NOW, Frame::Hello { seat, role, epoch: FIRST, known });
    drain(&mut journal);
    journal.handle_stored(1);
    assert_eq!(said(&mut journal), [""; 0]);
}

#[test]
fn a_read_that_is_never_answered_is_asked_for_again() {
    let mut journal = active(0);
    join(&mut journal, 1);
    let first = read_of(&said(&mut journal));
    let late = NOW + FETCH_WAIT;
    while journal.next_timeout() < late {
        let next = journal.next_timeout();
        journal.handle_timeout(next);
    }
    assert_eq!(said(&mut journal), Vec::<String>::new());
    journal.handle_timeout(late);
    let second = read_of(&said(&mut journal));
    journal.handle_fetched(first, Vec::new(), Some(Cursor(None)));
    assert_eq!(said(&mut journal), Vec::<String>::new(), "nobody waits for that any more");
    journal.handle_fetched(second, Vec::new(), None);
    assert_eq!(said(&mut journal), ["caught up"]);
}

#[test]
fn a_passive_server_that_misses_an_entry_joins_again_and_acknowledges_nothing() {
    let mut journal = Journal::new(NOW, Seat::Standby, Vec::new(), Known::new());
    journal.handle_link_up(NOW);
    let (seat, role, known) = (Seat::Master, Role::Active, Known::new());
    let hello = Frame::Hello { seat, role, epoch: FIRST, known: known.clone() };
    journal.handle_frame(NOW, hello.clone());
    journal.handle_frame(NOW, Frame::CaughtUp { join: 1, known });
    let entry = |seq| {
        let stamp = Stamp { epoch: FIRST, seq: Seq(seq) };
        Frame::Entry(tandem_journal::Entry { stamp, ops: hot(1) })
    };
    journal.handle_frame(NOW, entry(1));
    assert!(journal.in_sync());
    assert_eq!(said(&mut journal), ["hello", "ack 1"]);
    journal.handle_frame(NOW, entry(3));
    assert!(!journal.in_sync());
    assert_eq!(said(&mut journal), ["hello"]);
    journal.handle_frame(NOW, entry(4));
    assert_eq!(said(&mut journal), Vec::<String>::new());
}

#[test]
fn a_call_record_that_only_the_twin_had_is_told_to_the_layer_above() {
    let mut journal = active(0);
    let (epoch, known) = (FIRST, Known::new());
    journal.handle_frame(NOW, Frame::Join { epoch, join: 1, known });
    drain(&mut journal);
    let stamp = Stamp { epoch: Epoch { number: 1, seat: Seat::Standby }, seq: Seq(7) };
    let (key, body, age) = (b"log".to_vec(), Some(vec![1]), Duration::ZERO);
    let record = Record { class: Class::Log, key: key.clone(), stamp, age, body };
    journal.handle_frame(NOW, Frame::Records { join: 1, records: vec![record] });
    assert!(
        drain(&mut journal)
            .iter()
            .any(|said| matches!(said, Output::Logged(record) if record.key == key))
    );
}

/// A passive journal in sync, linked, that has taken one hot entry.
fn passive_in_sync() -> Journal {
    let mut journal = Journal::new(NOW, Seat::Standby, Vec::new(), Known::new());
    journal.handle_link_up(NOW);
    let (seat, role, known) = (Seat::Master, Role::Active, Known::new());
    let hello = Frame::Hello { seat, role, epoch: FIRST, known: known.clone() };
    journal.handle_frame(NOW, hello);
    journal.handle_frame(NOW, Frame::CaughtUp { join: 1, known });
    drain(&mut journal);
    let stamp = Stamp { epoch: FIRST, seq: Seq(1) };
    journal.handle_frame(NOW, tick());
    journal.handle_frame(NOW, Frame::Entry(tandem_journal::Entry { stamp, ops: hot(1) }));
    assert_eq!(syncs(&mut journal), 0, "the active one has it too");
    journal
}

const fn tick() -> Frame {
    Frame::Tick { role: Role::Active, epoch: FIRST, serving: true }
}

const fn millis(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

/// How many writes with a sync a journal wants.
fn syncs(journal: &mut Journal) -> usize {
    let syncs = |output: &Output| matches!(output, Output::Store { sync: true, .. });
    drain(journal).iter().filter(|output| syncs(output)).count()
}

/// Lets time pass up to `until`; how many writes with a sync that brings.
fn syncs_until(journal: &mut Journal, until: Instant) -> usize {
    let mut count = 0;
    while journal.next_timeout() <= until {
        let next = journal.next_timeout();
        journal.handle_timeout(next);
        count += syncs(journal);
    }
    count
}

#[test]
fn a_passive_server_that_is_left_alone_brings_what_it_holds_to_its_disk_at_once() {
    let mut journal = passive_in_sync();
    journal.handle_link_down();
    assert_eq!(syncs(&mut journal), 1);
    assert_eq!(syncs_until(&mut journal, millis(1_000)), 0, "once is enough");
}

#[test]
fn a_passive_server_does_so_too_when_the_active_one_falls_silent() {
    let mut journal = passive_in_sync();
    assert_eq!(syncs_until(&mut journal, millis(99)), 0);
    assert_eq!(syncs_until(&mut journal, millis(120)), 1);
    assert_eq!(syncs_until(&mut journal, millis(1_000)), 0, "once is enough");
    // It is heard again, and falls silent again.
    journal.handle_frame(millis(1_000), tick());
    assert_eq!(syncs_until(&mut journal, millis(1_090)), 0);
    assert_eq!(syncs_until(&mut journal, millis(1_120)), 1);
}

#[test]
fn in_the_middle_of_a_catch_up_it_does_so_too() {
    let mut journal = Journal::new(NOW, Seat::Standby, Vec::new(), Known::new());
    journal.handle_link_up(NOW);
    let (seat, role, known) = (Seat::Master, Role::Active, Known::new());
    journal.handle_frame(NOW, Frame::Hello { seat, role, epoch: FIRST, known });
    let stamp = Stamp { epoch: FIRST, seq: Seq(2) };
    let entry = |ops| Frame::Entry(tandem_journal::Entry { stamp, ops });
    journal.handle_frame(NOW, entry(hot(1)));
    assert_eq!(syncs(&mut journal), 0, "the active one has it too");
    journal.handle_frame(NOW, entry(closed("1")));
    assert_eq!(syncs(&mut journal), 1, "a record goes to the disk");
    journal.handle_frame(NOW, entry(hot(2)));
    journal.handle_link_down();
    assert_eq!(syncs(&mut journal), 1);
}

#[test]
fn a_passive_server_that_was_never_in_sync_has_nothing_to_make_safe() {
    let mut journal = Journal::new(NOW, Seat::Standby, Vec::new(), Known::new());
    journal.handle_link_up(NOW);
    assert_eq!(syncs_until(&mut journal, millis(500)), 0);
    journal.handle_link_down();
    assert_eq!(syncs(&mut journal), 0);
}

/// An active journal whose twin is in sync and was heard now.
fn protected() -> Journal {
    let mut journal = active(0);
    join(&mut journal, 1);
    let read = read_of(&said(&mut journal));
    journal.handle_fetched(read, Vec::new(), None);
    let ack = |seq| Frame::Ack(Stamp { epoch: FIRST, seq: Seq(seq) });
    journal.handle_frame(NOW, ack(0));
    journal.handle_frame(NOW, Frame::Tick { role: Role::Passive, epoch: FIRST, serving: false });
    assert!(journal.in_sync());
    drain(&mut journal);
    journal
}

#[test]
fn an_active_server_whose_twin_is_late_brings_what_it_wrote_without_a_sync_to_its_disk() {
    let mut journal = protected();
    journal.append(NOW, hot(1));
    assert_eq!(syncs(&mut journal), 0);
    assert_eq!(syncs_until(&mut journal, millis(19)), 0);
    assert_eq!(syncs_until(&mut journal, millis(20)), 1);
}

/// The ticket of the last write with a sync.
fn last_synced(journal: &mut Journal) -> u64 {
    let ticket = |output| {
        if let Output::Store { sync: true, ticket, .. } = output { Some(ticket) } else { None }
    };
    drain(journal).into_iter().filter_map(ticket).next_back().unwrap()
}

#[test]
fn alone_what_is_final_waits_for_the_disk_and_the_rest_for_20_ms() {
    let mut journal = active(0);
    journal.handle_link_down();
    drain(&mut journal);
    let seq = journal.append(NOW, hot(1));
    let ticket = last_synced(&mut journal);
    syncs_until(&mut journal, millis(19));
    assert_eq!(journal.hot_committed(), Seq::ZERO);
    syncs_until(&mut journal, millis(20));
    assert_eq!((journal.hot_committed(), journal.final_committed()), (seq, Seq::ZERO));
    journal.handle_stored(ticket);
    assert_eq!(journal.final_committed(), seq);
}

#[test]
fn what_is_final_waits_for_the_twin_and_where_that_is_late_for_the_disk() {
    let mut journal = protected();
    let first = journal.append(NOW, hot(1));
    journal.handle_frame(NOW, Frame::Ack(Stamp { epoch: FIRST, seq: first }));
    assert_eq!(journal.final_committed(), first, "the disk is not waited for");
    drain(&mut journal);
    let second = journal.append(NOW, hot(2));
    journal.handle_timeout(millis(20));
    assert_eq!((journal.hot_committed(), journal.final_committed()), (second, first));
    let ticket = last_synced(&mut journal);
    journal.handle_stored(ticket);
    assert_eq!(journal.final_committed(), second);
}

#[test]
fn a_broken_disk_is_not_waited_for() {
    let mut journal = active(0);
    let seq = journal.append(NOW, hot(1));
    journal.handle_disk(false);
    assert_eq!((journal.final_committed(), journal.durable_committed()), (seq, seq));
}
