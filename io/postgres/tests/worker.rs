//! The thread, a configuration and a journal against a real PostgreSQL that is killed, stands still, and
//! gives its place to another one.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use common::{DEADLINE, MIDNIGHT, access, block_on, connect, record, say, setup, stamp};
use rusqlite::Connection;
use server::Server;
use tandem_config::{Authority, Config, Order, Output, Work};
use tandem_dialplan::{Edit, Emergency, Number};
use tandem_journal::{Cursor, Known, Record};
use tandem_postgres::{Here, Line, Report, Spool, State, Stored, Worker};
use tandem_store::tables::{By, Tables};
use tandem_types::{Dice, Epoch, Instant as Time, Seat};

/// Beyond this an edit is not waited for: the database may take 2 s, its thread 1 s more.
const BOUND: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Asks(Line);

impl Authority for Asks {
    fn ready(&self) -> Result<(), String> {
        self.0.ready().map_err(|why| format!("{why:?}"))
    }

    fn store(&mut self, ops: Vec<Vec<u8>>) -> Result<(), String> {
        self.0.store(ops).map_err(|why| match why {
            Stored::Doubt(ref what) => format!("doubt: {what}"),
            Stored::NotReady(_) | Stored::Refused(_) => format!("{why:?}"),
        })
    }

    fn doubt(&mut self) {
        self.0.doubt();
    }
}

/// A journal in memory.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<Record>>>, Arc<Disk>);

/// How its disk is.
#[derive(Default)]
struct Disk {
    /// Nothing is read.
    fails: AtomicBool,
    /// The call of this number is damaged.
    damaged: AtomicU64,
    /// That was told.
    told: AtomicBool,
    /// From this entry on it does not claim to know anything.
    doubt: AtomicU64,
    /// How often it was read.
    reads: AtomicU64,
    /// Each time: how many waited, and how many that was said to be.
    seen: Mutex<Vec<(u64, u64)>>,
    line: OnceLock<Line>,
}

/// So many are counted, at most.
const COUNT_MAX: u64 = 150;

impl Journal {
    fn write(&self, call: &str, seq: u64) {
        self.write_in(1, call, seq);
    }

    fn write_in(&self, reign: u32, call: &str, seq: u64) {
        let mut all = self.0.lock().unwrap();
        all.push(record(&format!("cdr/{call}"), reign, seq, call));
        all.push(record(&format!("cev/{call}"), reign, seq, "[]"));
    }
}

impl Spool for Journal {
    fn known(&mut self) -> Result<Known, String> {
        let mut known = Known::new();
        self.0.lock().unwrap().iter().for_each(|record| known.learn(record.stamp));
        match self.1.doubt.load(Ordering::SeqCst) {
            0 => {}
            from => known.doubt(stamp(1, from)),
        }
        Ok(known)
    }

    fn read(
        &mut self,
        known: &Known,
        after: &Cursor,
    ) -> Result<(Vec<Record>, Option<Cursor>), String> {
        let disk = &self.1;
        disk.reads.fetch_add(1, Ordering::SeqCst);
        if disk.fails.load(Ordering::SeqCst) {
            return Err("a bad sector".to_owned());
        }
        let mut all = self.0.lock().unwrap().clone();
        let damaged = stamp(1, disk.damaged.load(Ordering::SeqCst));
        let before = all.len();
        all.retain(|record| record.stamp != damaged);
        if all.len() < before && !disk.told.swap(true, Ordering::SeqCst) {
            return Err("a record is damaged".to_owned());
        }
        let place = |record: &Record| Some((record.stamp, record.key.clone()));
        let mut lacking: Vec<Record> =
            all.iter().filter(|one| !known.covers(one.stamp)).cloned().collect();
        lacking.sort_by_key(place);
        lacking.retain(|one| place(one) > after.0);
        if let Some(waiting) = disk.line.get().and_then(|line| line.standing().waiting) {
            disk.seen.lock().unwrap().push((lacking.len() as u64, waiting));
        }
        let next = (lacking.len() > 100).then(|| Cursor(place(&lacking[99])));
        lacking.truncate(100);
        Ok((lacking, next))
    }

    fn doubt(&self, known: &mut Known) {
        if self.1.told.load(Ordering::SeqCst) {
            known.doubt(stamp(1, self.1.damaged.load(Ordering::SeqCst)));
        }
    }

    fn count(&mut self, known: &Known) -> Result<u64, String> {
        let all = self.0.lock().unwrap();
        let count = all.iter().filter(|one| !known.covers(one.stamp)).count() as u64;
        Ok(count.min(COUNT_MAX))
    }

    fn wall_micros(&self) -> i64 {
        MIDNIGHT
    }
}

/// One server: its configuration, its journal, its thread.
struct Side {
    config: Config,
    journal: Journal,
    worker: Worker,
    reports: Receiver<Report>,
    started: Instant,
    next: u64,
    gone: Vec<String>,
    unread: Vec<String>,
    lives: u64,
}

impl Side {
    fn new(address: &str, seat: Seat) -> Self {
        let dice = Dice::from_number(seat as u64 + 1);
        let tables = Config::setup(seat, &mut dice.clone());
        let memory = Connection::open_in_memory().unwrap();
        let tables = Tables::on(memory, Path::new("memory"), &tables).unwrap();
        let mut config = Config::on(tables, dice).unwrap();
        let journal = Journal::default();
        let (sender, reports) = channel();
        let report = move |_: &Line, report| drop(sender.send(report));
        let spool = Box::new(journal.clone());
        let worker = Worker::start(access(address), setup(), spool, report).unwrap();
        config.obey(Box::new(Asks(worker.line())));
        let started = Instant::now();
        let (gone, unread) = (Vec::new(), Vec::new());
        Self { config, journal, worker, reports, started, next: 0, gone, unread, lives: 0 }
    }

    fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap())
    }

    /// Takes what the thread says until nothing more comes for `quiet`.
    fn hear(&mut self, quiet: Duration) {
        loop {
            match self.reports.recv_timeout(quiet) {
                Ok(report) => self.heard(report),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the thread has ended"),
            }
        }
    }

    fn heard(&mut self, report: Report) {
        match report {
            Report::Exchange { round, heads, ops } => {
                let now = self.now();
                match self.config.handle_database(now, &heads, &ops) {
                    Ok((seen, ops)) => self.worker.line().here(Here { round, seen, ops }),
                    Err(why) => self.worker.line().refuse(round, why),
                }
            }
            Report::Gone(why) => self.gone.push(why.to_string()),
            Report::Live(_) => self.lives += 1,
            Report::Spool(what) => self.unread.push(what),
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < end, "{what}: {:?}", self.worker.line().standing());
            self.hear(Duration::from_millis(20));
        }
    }

    fn live(&mut self) {
        self.until("live", |side| side.worker.line().standing().state == State::Live);
    }

    /// Makes an edit that can be told from every other.
    fn edit(&mut self, number: u64) -> Result<(), String> {
        self.hear(Duration::ZERO);
        self.next += 1;
        let numbers = [Number::parse(&number.to_string()).unwrap()].into();
        let edit = Edit::Emergency(Emergency { numbers, to: None });
        let by = By { author: format!("edit {number}"), wall_millis: 1, epoch: Epoch::NEVER };
        let order = Order { id: self.next, work: Work::Edit(edit), by };
        self.config.handle_orders(self.now(), vec![order]);
        let mut answer = None;
        while let Some(output) = self.config.poll_output() {
            if let Output::Edited { id, result } = output {
                assert_eq!((id, answer.is_none()), (self.next, true));
                answer = Some(result);
            }
        }
        answer.unwrap()
    }

    /// Who wrote what is logged here: the names of the edits.
    fn authors(&self) -> Vec<String> {
        let logged = self.config.tables().newest(100_000).unwrap();
        let author = |op: &[u8]| tandem_oplog::Op::decode(op).unwrap().author;
        logged.iter().map(|op| author(&op.bytes)).collect()
    }

    fn shipped(&mut self, seq: u64) {
        self.until("all records are there", |side| {
            side.worker.line().standing().shipped.covers(stamp(1, seq))
        });
    }
}

/// In one statement: the names of the edits there.
fn authors(address: &str) -> Vec<String> {
    let rows = block_on(say(address, "SELECT author FROM tandem.op_log ORDER BY position"));
    rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect()
}

fn calls(address: &str) -> Vec<(String, String)> {
    let sql =
        "SELECT c.call_id, e.steps FROM tandem.cdr c JOIN tandem.call_event e USING (call_id)";
    let rows = block_on(say(address, sql));
    rows.into_iter().map(|mut row| (row.remove(0).unwrap(), row.remove(0).unwrap())).collect()
}

#[test]
fn killed_in_the_middle_of_edits_and_records_nothing_acknowledged_is_missing_or_doubled() {
    let mut server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    side.live();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    let mut number = 0;
    for round in 0..3 {
        // It is killed by another thread while this one goes on.
        let mut killed = None;
        let (ready, kill) = channel();
        std::thread::scope(|scope| {
            let server = &mut server;
            let killer = scope.spawn(move || {
                kill.recv().unwrap();
                server.kill();
            });
            while killed.is_none_or(|at| number < at + 20) {
                number += 1;
                side.journal.write(&number.to_string(), number);
                match side.edit(number) {
                    Ok(()) => acknowledged.push(format!("edit {number}")),
                    Err(_) => refused += 1,
                }
                if killed.is_none() && number % 20 == 15 {
                    ready.send(()).unwrap();
                    killed = Some(number);
                }
            }
            killer.join().unwrap();
        });
        side.until("it is gone", |side| side.worker.line().standing().state == State::Away);
        let waiting = side.worker.line().standing();
        assert!(waiting.why.is_some(), "round {round}: {waiting:?}");
        server.start();
        side.live();
    }
    side.shipped(number);
    assert!(acknowledged.len() > 30 && refused > 10, "{} and {refused}", acknowledged.len());
    let there = authors(&address);
    let once: BTreeSet<&String> = there.iter().collect();
    assert_eq!(once.len(), there.len(), "nothing is doubled");
    let missing: Vec<&String> = acknowledged.iter().filter(|one| !once.contains(one)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    side.until("what came to be there is here", |side| side.authors().len() == there.len());
    let here: BTreeSet<String> = side.authors().into_iter().collect();
    assert_eq!(here.iter().collect::<BTreeSet<_>>(), once);
    let digests = block_on(async { connect(&address).await.unwrap().digests().await.unwrap() });
    assert_eq!(digests, side.config.tables().digests().unwrap());
    let calls = calls(&address);
    assert_eq!(calls.len() as u64, number, "every call once, with its events");
}

#[test]
fn while_it_stands_still_edits_are_refused_in_time_and_records_wait() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    side.live();
    side.edit(1).unwrap();
    side.journal.write("1", 1);
    side.shipped(1);
    server.hang();
    side.journal.write("2", 2);
    let began = Instant::now();
    let why = side.edit(2).unwrap_err();
    assert!(began.elapsed() < BOUND, "{:?}: {why}", began.elapsed());
    side.until("it is gone", |side| side.worker.line().standing().state == State::Away);
    let began = Instant::now();
    let why = side.edit(3).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1), "{why}");
    assert!(why.contains("NotReady"), "{why}");
    // What is here is read as ever.
    assert!(side.authors().contains(&"edit 1".to_owned()));
    side.until("what waits is counted", |side| side.worker.line().standing().waiting == Some(2));
    assert!(!side.worker.line().standing().shipped.covers(stamp(1, 2)), "it may not be deleted");
    server.go_on();
    side.live();
    side.shipped(2);
    assert_eq!(side.worker.line().standing().waiting, Some(0));
    side.edit(4).unwrap();
    let there = authors(&address);
    // The second came to be there after all, or did not; in either case both agree.
    assert_eq!(there.len(), side.authors().len(), "{there:?}");
    assert!(!there.contains(&"edit 3".to_owned()) && there.contains(&"edit 4".to_owned()));
}

#[test]
fn while_its_disk_is_full_records_wait_and_it_is_told_once() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    side.live();
    side.edit(1).unwrap();
    side.journal.write("1", 1);
    side.shipped(1);
    // What PostgreSQL says then (SQLSTATE 53100); a sequence counts on though it is taken back.
    server.query(
        "CREATE SEQUENCE tries;
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('tandem.tries');
            RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100';
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON tandem.log_record EXECUTE FUNCTION full_disk();
        CREATE TRIGGER full_disk BEFORE INSERT ON tandem.op_log EXECUTE FUNCTION full_disk()",
    );
    side.journal.write("2", 2);
    side.until("it tries again and again", |_| {
        server.query("SELECT last_value >= 4 FROM tries") == ["t"]
    });
    let standing = side.worker.line().standing();
    assert!(standing.why.as_ref().unwrap().contains("No space left on device"), "{standing:?}");
    assert_eq!((standing.state, standing.waiting), (State::Away, Some(2)));
    assert!(!standing.shipped.covers(stamp(1, 2)), "it may not be deleted");
    assert_eq!((side.gone.len(), side.lives), (1, 1), "{:?}", side.gone);
    side.edit(2).unwrap_err();
    server.query("DROP FUNCTION full_disk CASCADE");
    side.until("it is back", |side| side.lives == 2);
    side.live();
    side.shipped(2);
    side.edit(3).unwrap();
    assert_eq!((side.gone.len(), side.lives), (1, 2), "{:?}", side.gone);
    assert_eq!(authors(&address), ["edit 1", "edit 3"]);
}

#[test]
fn a_journal_that_cannot_be_read_is_told_once_and_holds_up_no_edit() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    side.journal.1.fails.store(true, Ordering::SeqCst);
    side.journal.write("1", 1);
    side.live();
    side.edit(1).unwrap();
    side.until("it tries again and again", |side| side.journal.1.reads.load(Ordering::SeqCst) >= 4);
    assert_eq!(side.unread, ["a bad sector"]);
    assert!(!side.worker.line().standing().shipped.covers(stamp(1, 1)), "it may not be deleted");
    side.journal.1.fails.store(false, Ordering::SeqCst);
    side.shipped(1);
    assert_eq!((calls(&address).len(), side.unread.len()), (1, 1));
}

#[test]
fn how_many_wait_is_true_while_they_are_sent_also_of_more_than_are_counted() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    (1..=250).for_each(|seq| side.journal.write(&seq.to_string(), seq));
    assert!(side.journal.1.line.set(side.worker.line()).is_ok());
    side.shipped(250);
    let seen = side.journal.1.seen.lock().unwrap().clone();
    let middle: Vec<_> = seen.into_iter().filter(|(waiting, _)| *waiting < 500).collect();
    assert!(middle.len() >= 4, "{middle:?}");
    // The two records of the entry that was sent last count still.
    assert!(
        middle.iter().all(|(waiting, said)| *said == (waiting + 2).min(COUNT_MAX)),
        "{middle:?}"
    );
    assert_eq!(side.worker.line().standing().waiting, Some(0));
}

#[test]
fn what_the_journal_does_not_claim_to_know_is_sent_once_and_not_with_every_record() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    assert!(side.journal.1.line.set(side.worker.line()).is_ok());
    side.journal.1.doubt.store(2, Ordering::SeqCst);
    (1..=3).for_each(|seq| side.journal.write(&seq.to_string(), seq));
    side.live();
    side.until("all are there", |_| calls(&address).len() == 3);
    side.shipped(1);
    side.journal.1.seen.lock().unwrap().clear();
    side.journal.write_in(2, "4", 1);
    side.until("so is the next", |_| calls(&address).len() == 4);
    let seen = side.journal.1.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|(records, _)| *records == 2) && !seen.is_empty(), "{seen:?}");
    // When it is sure again it says so.
    side.journal.1.doubt.store(0, Ordering::SeqCst);
    side.shipped(3);
}

#[test]
fn what_is_damaged_here_is_told_and_left_to_whoever_has_it_whole() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    side.live();
    side.journal.1.damaged.store(2, Ordering::SeqCst);
    (1..=3).for_each(|seq| side.journal.write(&seq.to_string(), seq));
    side.until("the others are there", |_| calls(&address).len() == 2);
    side.shipped(1);
    assert_eq!(side.unread, ["a record is damaged"]);
    // Also after it: what comes next says nothing of what was left out.
    side.journal.write("4", 4);
    side.until("so is the next", |_| calls(&address).len() == 3);
    assert!(!side.worker.line().standing().shipped.covers(stamp(1, 2)), "it may not be deleted");
    let known = "SELECT seq::text FROM tandem.known";
    assert_eq!(block_on(say(&address, known)), [[Some("1".to_owned())]]);
    // The other machine has it.
    let mut other = Side::new(&address, Seat::Standby);
    (1..=4).for_each(|seq| other.journal.write(&seq.to_string(), seq));
    other.shipped(4);
    assert_eq!(calls(&address).len(), 4);
}

#[test]
fn it_ends_at_once_though_it_waits_for_a_database_that_stands_still() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut side = Side::new(&address, Seat::Master);
    side.live();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = "BEGIN; LOCK TABLE tandem.origin IN ACCESS EXCLUSIVE MODE";
    let held = runtime.block_on(async {
        let (held, connection) =
            tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        held.batch_execute(lock).await.unwrap();
        held
    });
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'tandem' AND wait_event_type = 'Lock'";
    side.until("it waits", |_| server.query(waits) == ["1"]);
    server.hang();
    let line = side.worker.line();
    let edit = std::thread::spawn(move || line.store(Vec::new()));
    let began = Instant::now();
    drop(side);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // Who wanted a change is not told that it is done.
    edit.join().unwrap().unwrap_err();
    drop(held);
}

#[test]
fn a_standby_that_is_promoted_gets_what_it_had_not_heard_of() {
    let mut first = Server::new();
    let second = first.standby();
    let address = Server::address(&[&first, &second]);
    let mut side = Side::new(&address, Seat::Master);
    side.live();
    for number in 1..=5 {
        side.edit(number).unwrap();
        side.journal.write(&number.to_string(), number);
    }
    side.shipped(5);
    // From here on it hears nothing: what is acknowledged now is on the first only.
    second.hang();
    for number in 6..=9 {
        side.edit(number).unwrap();
        side.journal.write(&number.to_string(), number);
    }
    side.shipped(9);
    let gone = side.gone.len();
    first.kill();
    second.go_on();
    second.promote();
    side.until("it is gone", |side| side.gone.len() > gone);
    side.live();
    side.edit(10).unwrap();
    let address = Server::address(&[&second]);
    let there = authors(&address);
    for number in 1..=10 {
        assert!(there.contains(&format!("edit {number}")), "{number}: {there:?}");
    }
    assert_eq!(there.len(), 10);
    // The records too: what is there is asked anew at every connection.
    side.shipped(9);
    assert_eq!(calls(&address).len(), 9);
}

#[test]
fn two_servers_have_what_each_other_wrote_without_a_link() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut one = Side::new(&address, Seat::Master);
    let mut other = Side::new(&address, Seat::Standby);
    one.live();
    other.live();
    one.edit(1).unwrap();
    other.until("it has the first", |side| side.authors().len() == 1);
    other.edit(2).unwrap();
    one.until("it has the second", |side| side.authors().len() == 2);
    assert_eq!(one.config.tables().digests().unwrap(), other.config.tables().digests().unwrap());
    assert!(one.config.tables().undecided().unwrap().is_empty(), "each had seen the other's");
    // A copy that was put back gets its own again before it writes.
    drop(one);
    let mut one = Side::new(&address, Seat::Master);
    assert!(one.edit(3).is_err(), "nothing is written before both have compared");
    one.live();
    assert_eq!(one.authors().len(), 2);
    one.edit(4).unwrap();
    assert_eq!(authors(&address).last().unwrap(), "edit 4");
}
