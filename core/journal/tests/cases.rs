//! Catch-up, frame by frame: what goes wrong between two frames.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use tandem_journal::{
    CHUNK_RECORDS_MAX, Class, Cursor, FETCH_WAIT, Frame, Journal, Known, Op, Output, Record,
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
