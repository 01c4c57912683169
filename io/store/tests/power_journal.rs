//! The journal, killed and cut off from its power at every write and every sync, and on a disk that fails.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::path::PathBuf;

use common::{Ground, entry, ground, hot, log, record, stamp, table};
use rusqlite::Connection;
use tandem_faultfs::{Error, Failure, Files, Moment, On};
use tandem_journal::{Class, Known, Write};
use tandem_store::{
    FILE_NAME, OpenError, Reader, Sabotage, Settings, Stepped, StoreEvent, WallClock,
};
use tandem_types::Seat;

/// Every third entry is one that must be on the disk: with a table and a log record.
const DURABLE: u64 = 3;

/// One journal with what was promised of it.
struct Script<'a> {
    ground: &'a Ground,
    store: Stepped,
    /// The last entry that was written.
    last: u64,
    /// Up to which entry a report came, from which moment on; and whether that was synced.
    promised: Vec<(usize, u64, bool)>,
    /// Entries of the batch that is tried, and whether one of them wants a sync.
    trying: Option<(u64, bool)>,
    gaps: usize,
    failures: usize,
}

impl<'a> Script<'a> {
    fn new(ground: &'a Ground, rule: Option<Sabotage>) -> Self {
        let (mut store, _) = Stepped::open(&ground.folder, &Settings::default()).unwrap();
        if let Some(rule) = rule {
            store.sabotage(rule);
        }
        let promised = vec![(ground.disk.now(), 0, true)];
        Self { ground, store, last: 0, promised, trying: None, gaps: 0, failures: 0 }
    }

    /// Entries, each of which changes two hot records.
    fn write(&mut self, count: u64) {
        let mut synced = false;
        for _ in 0..count {
            self.last += 1;
            let n = self.last;
            let text = format!("{n:04}");
            let mut ops = vec![hot("a", &text), hot("b", &text)];
            let durable = n.is_multiple_of(DURABLE);
            if durable {
                ops.extend([table("t", &text), log(&text, &"x".repeat(900))]);
            }
            synced |= durable;
            self.store.write(entry(1, Seat::Master, n, ops), durable, n).unwrap();
        }
        self.trying = Some((self.last, synced));
        self.turn();
    }

    /// One try, and what is reported of it.
    fn turn(&mut self) {
        self.store.turn();
        // A report that comes too early holds from before the writes that it speaks of.
        for event in self.store.events() {
            match event {
                StoreEvent::Stored { .. } => {
                    let Some((last, synced)) = self.trying.take() else { continue };
                    self.promised.push((self.ground.disk.now(), last, synced));
                }
                StoreEvent::Dropped { .. } => self.gaps += 1,
                StoreEvent::Failing { .. } => self.failures += 1,
                StoreEvent::Recovered
                | StoreEvent::Deleted { .. }
                | StoreEvent::Damaged { .. }
                | StoreEvent::Suspect { .. }
                | StoreEvent::Fetched { .. }
                | StoreEvent::Looked { .. }
                | StoreEvent::FetchFailed { .. } => {}
            }
        }
    }

    /// Until it is on the disk; then, where something may be lost, the hot records once more.
    fn settle(&mut self) {
        for tries in 0.. {
            assert!(tries < 100, "it never comes to an end");
            if self.trying.is_none() {
                break;
            }
            self.turn();
        }
        if core::mem::take(&mut self.gaps) > 0 {
            let (body, at) = (format!("{:04}", self.last), stamp(1, Seat::Master, self.last));
            let records = ["a", "b"].map(|key| record(Class::Hot, key, at, Some(&body))).to_vec();
            let mut known = Known::new();
            known.learn(at);
            self.store.write(Write::Records(records), false, self.last).unwrap();
            self.store.write(Write::Learn(known), false, self.last).unwrap();
            self.trying = Some((self.last, false));
            self.turn();
            self.settle();
        }
    }

    fn run(&mut self) {
        for (count, checkpoint) in [
            (1, None),
            (1, None),
            (2, None),
            (1, Some("PASSIVE")),
            (5, None),
            (1, None),
            (1, Some("RESTART")),
            (1, None),
            (7, None),
            (2, Some("PASSIVE")),
            (1, None),
            (1, None),
            (3, None),
        ] {
            self.write(count);
            self.settle();
            if let Some(mode) = checkpoint {
                self.store.checkpoint(mode);
            }
        }
    }
}

/// What is in a file: up to which entry its records go, and up to which it says that it knows all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Found {
    there: u64,
    known: u64,
}

/// Opens it, and looks whether every entry is there as a whole or not at all.
fn look(ground: &Ground) -> Result<(Found, Stepped), String> {
    let folder: PathBuf = ground.folder.to_path_buf();
    let (store, loaded) =
        Stepped::open(&folder, &Settings::default()).map_err(|error| error.to_string())?;
    let reader = Reader::open(&folder, WallClock::new(|| 0)).map_err(|error| error.to_string())?;
    let known = loaded.known.latest().map_or(0, |stamp| stamp.seq.0);
    let hot: Vec<_> = loaded.records.iter().filter(|record| record.class == Class::Hot).collect();
    let there = hot.first().map_or(0, |record| record.stamp.seq.0);
    let whole = hot.iter().all(|record| {
        record.stamp.seq.0 == there && record.body == Some(format!("{there:04}").into_bytes())
    });
    if !whole || hot.len() != if there == 0 { 0 } else { 2 } {
        return Err(format!("a part of an entry is there: {hot:?}"));
    }
    let durable = there / DURABLE * DURABLE;
    let tables = loaded.records.iter().filter(|record| record.class == Class::Table);
    let tables: Vec<u64> = tables.map(|record| record.stamp.seq.0).collect();
    if tables != if durable == 0 { vec![] } else { vec![durable] } {
        return Err(format!("entries go to {there}, and the table is of {tables:?}"));
    }
    let logs = reader.log(b"", usize::MAX, None).map_err(|error| error.to_string())?;
    let logs: Vec<u64> = logs.iter().rev().map(|record| record.stamp.seq.0).collect();
    if logs != (1..=there / DURABLE).map(|n| n * DURABLE).collect::<Vec<_>>() {
        return Err(format!("entries go to {there}, and the log has {logs:?}"));
    }
    if known > there {
        return Err(format!("{known} is said to be known, and {there} is there"));
    }
    Ok((Found { there, known }, store))
}

/// A run that was made once.
struct Told {
    moments: Vec<Moment>,
    promised: Vec<(usize, u64, bool)>,
    last: u64,
}

fn tell(name: &str, rule: Option<Sabotage>) -> Told {
    let ground = ground(name, Files::default());
    ground.disk.record();
    let mut script = Script::new(&ground, rule);
    script.run();
    assert_eq!((script.failures, script.gaps), (0, 0));
    let Script { store, promised, last, .. } = script;
    drop(store);
    assert_eq!(ground.disk.open(), 0);
    Told { moments: ground.disk.moments(), promised, last }
}

impl Told {
    fn judge(&self, name: &str, at: usize, cut: bool) -> Result<(), String> {
        let moment = &self.moments[at];
        let seed = at as u64;
        let files = if cut { moment.power_cut(seed) } else { moment.killed(seed) };
        let promised =
            self.promised.iter().filter(|(from, _, synced)| *from <= at && (*synced || !cut));
        let promised = promised.map(|(_, last, _)| *last).max().unwrap_or(0);
        let first = ground(name, files);
        first.disk.record();
        let (found, mut store) = look(&first)?;
        if found.there < promised || found.there > self.last || found.known != found.there {
            return Err(format!("{promised} was promised, {found:?}"));
        }
        // What was loaded stays, and so does the next entry from its report on.
        let seen = first.disk.moments().pop().unwrap();
        let next = found.there + 1;
        let text = format!("{next:04}");
        let mut ops = vec![hot("a", &text), hot("b", &text)];
        if next.is_multiple_of(DURABLE) {
            ops.extend([table("t", &text), log(&text, "x")]);
        }
        store.write(entry(1, Seat::Master, next, ops), true, next).unwrap();
        assert!(store.turn());
        assert_eq!(store.events(), [StoreEvent::Stored { ticket: next }]);
        let stored = first.disk.moments().pop().unwrap();
        drop(store);
        for (moment, wanted) in [(seen, found.there), (stored, next)] {
            let again = ground(&format!("{name}-again"), moment.power_cut(seed));
            let (found, _store) = look(&again)?;
            if found != (Found { there: wanted, known: wanted }) {
                return Err(format!("{wanted} was there and is not after a power cut: {found:?}"));
            }
        }
        Ok(())
    }

    fn judge_all(&self, name: &str, cut: bool) -> Vec<String> {
        let judge = |at| Some(format!("in {at}: {}", self.judge(name, at, cut).err()?));
        (0..self.moments.len()).filter_map(judge).collect()
    }
}

#[test]
fn after_kill_9_or_a_power_cut_at_any_step_what_was_reported_is_there_and_entries_are_whole() {
    let told = tell("journal", None);
    let count = told.moments.len();
    for cut in [false, true] {
        let wrong = told.judge_all("journal-end", cut);
        assert!(
            wrong.is_empty(),
            "{} of {count}: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
    }
    assert!(count > 80 && told.promised.len() == 14, "{count}");
    println!("{count} moments");
}

#[test]
fn who_breaks_a_rule_is_caught() {
    let told = tell("journal-sync", Some(Sabotage::NeverSync));
    assert!(told.judge_all("journal-sync-cut", true).len() > 10);
    let told = tell("journal-learn", Some(Sabotage::LearnFirst));
    let wrong = told.judge_all("journal-learn-kill", false);
    assert!(wrong.iter().any(|what| what.contains("is said to be known")), "{wrong:#?}");
}

#[test]
fn who_reports_before_it_is_written_is_caught() {
    let ground = ground("journal-early", Files::default());
    let mut script = Script::new(&ground, Some(Sabotage::ReportFirst));
    ground.disk.fail(Failure { on: On::Write, after: 0, times: 1, error: Error::Io });
    script.write(1);
    assert_eq!(script.promised.last(), Some(&(0, 1, false)), "it was reported");
    let killed = common::ground("journal-early-end", ground.disk.moment().killed(0));
    assert_eq!(look(&killed).unwrap().0.there, 0, "and is not there");
}

/// A run in which calls fail; then the power goes at one of the reports (at all of them where a rule is
/// broken), and at the end.
fn fail(name: &str, failure: Failure, rule: Option<Sabotage>) -> Result<Option<usize>, String> {
    let ground = ground(name, Files::default());
    ground.disk.seed(failure.after);
    let mut script = Script::new(&ground, rule);
    ground.disk.record();
    ground.disk.fail(failure);
    script.run();
    if ground.disk.heal() > 0 {
        return Ok(None);
    }
    let (last, failures) = (script.last, script.failures);
    let synced = script.promised.iter().filter(|(.., synced)| *synced);
    let synced: Vec<(usize, u64)> = synced.map(|(at, last, _)| (*at, *last)).collect();
    drop(script);
    let moments = ground.disk.moments();
    // One of the reports, another one for each failure.
    let one = usize::try_from(failure.after).unwrap() % synced.len();
    let reports = if rule.is_some() { &synced } else { &synced[one..=one] };
    for (at, promised) in reports.iter().copied().chain([(moments.len() - 1, last)]) {
        for seed in 0..2 {
            let again = common::ground(&format!("{name}-end"), moments[at].power_cut(seed));
            let found = look(&again).map(|(found, _store)| found);
            let found = found.map_err(|what| format!("{failure:?}: {what}"))?;
            if found.there < promised {
                return Err(format!("{failure:?}: {promised} was promised, {found:?}"));
            }
        }
    }
    Ok(Some(failures))
}

#[test]
fn after_an_error_of_the_disk_what_is_reported_later_is_there_all_the_same() {
    let mut failed = 0;
    for (on, error, each) in [
        (On::Write, Error::Io, 1),
        (On::Write, Error::Full, 3),
        (On::Sync, Error::Io, 1),
        (On::Sync, Error::IoAndForgotten, 1),
    ] {
        for after in (0..).step_by(each) {
            let failure = Failure { on, after, times: 1 + after % 2, error };
            match fail("journal-fails", failure, None).unwrap() {
                Some(failures) => failed += failures,
                None if after > 8 => break,
                None => {}
            }
        }
    }
    assert!(failed > 100, "{failed}");
    println!("{failed} failures");
}

#[test]
fn who_goes_on_after_a_failed_sync_is_caught() {
    let rule = Some(Sabotage::BelieveOn);
    let failure = |after| Failure { on: On::Sync, after, times: 1, error: Error::Io };
    let caught = (0..16).filter(|after| fail("journal-believes", failure(*after), rule).is_err());
    assert!(caught.count() > 2);
}

#[test]
fn a_full_disk_keeps_what_it_has_and_takes_the_rest_when_there_is_room() {
    let ground = ground("journal-room", Files::default());
    let mut script = Script::new(&ground, None);
    script.write(3);
    ground.disk.room(Some(ground.disk.length() + 9_000));
    while script.failures == 0 {
        script.write(1);
    }
    let last = script.last;
    assert!(last > 3 && script.trying.is_some());
    for _ in 0..5 {
        script.turn();
    }
    assert!(script.failures == 1, "the same error is reported once");
    ground.disk.room(None);
    script.settle();
    assert_eq!((script.promised.last().unwrap().1, script.gaps), (last, 0));
    drop(script);
    assert_eq!(look(&ground).unwrap().0, Found { there: last, known: last });
}

/// A part of the log was brought over without a sync because somebody read; then a sync fails, and the store ends.
#[test]
fn who_ends_after_a_checkpoint_whose_sync_failed_leaves_the_log_for_the_next_start() {
    for (seed, error) in (0..8).flat_map(|seed| [(seed, Error::Io), (seed, Error::IoAndForgotten)])
    {
        let ground = ground("journal-ends", Files::default());
        ground.disk.seed(seed);
        let mut script = Script::new(&ground, None);
        (0..3).for_each(|_| script.write(DURABLE));
        let reader = Connection::open(ground.folder.join(FILE_NAME)).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM log_record").unwrap();
        (0..3).for_each(|_| script.write(DURABLE));
        script.store.checkpoint("PASSIVE");
        drop(reader);
        ground.disk.fail(Failure { on: On::Sync, after: 1, times: 1, error });
        script.store.checkpoint("PASSIVE");
        assert_eq!(ground.disk.heal(), 0, "the failure came to pass");
        let last = script.last;
        drop(script);
        assert_eq!(ground.disk.open(), 0, "everything is closed");
        let cut = common::ground("journal-ends-cut", ground.disk.moment().power_cut(seed));
        let found = look(&cut).map(|(found, _store)| found);
        assert_eq!(found, Ok(Found { there: last, known: last }), "{error:?} {seed}");
    }
}

#[test]
fn a_store_that_was_killed_is_opened_on_a_full_disk_too() {
    let ground = ground("journal-full", Files::default());
    let mut script = Script::new(&ground, None);
    script.write(12);
    script.write(2);
    let full = common::ground("journal-full-again", ground.disk.moment().killed(0));
    full.disk.room(Some(full.disk.length()));
    let (found, store) = look(&full).unwrap();
    assert_eq!(found, Found { there: 14, known: 14 });
    drop(store);
    let cut = common::ground("journal-full-cut", full.disk.moment().power_cut(0));
    assert_eq!(look(&cut).unwrap().0, found);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_taken_for_a_damaged_file() {
    let ground = ground("journal-read", Files::default());
    Script::new(&ground, None).run();
    let files = ground.disk.moment();
    let mut refused = 0;
    for after in 0.. {
        ground.disk.fail(Failure { on: On::Read, after, times: 1, error: Error::Io });
        let opened = Stepped::open(&ground.folder, &Settings::default());
        let passed = ground.disk.heal() > 0;
        match opened {
            Err(error @ OpenError::Unusable { .. }) => {
                let text = error.to_string();
                assert!(text.contains("disk I/O error") || text.contains("error code"), "{text}");
                refused += 1;
            }
            // Of what only helps to begin sooner it does without.
            Ok(_) => {}
            Err(error) => panic!("after {after} reads: {error}"),
        }
        if passed {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
    let again = common::ground("journal-read-again", files.killed(0));
    assert_eq!(look(&again).unwrap().0.there, 27);
}
