//! Two journals, two stores, a link that breaks, servers that restart: whatever happens, nothing
//! committed is lost and both end up equal.
//!
//! `SEED=7 cargo test -p tandem-journal -- --nocapture` replays one run.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "the seed to replay comes from outside")]

use std::collections::{BTreeMap, VecDeque};

use tandem_journal::{Class, Cursor, Frame, Journal, Known, Op, Output, Record, Write};
use tandem_types::{Dice, Duration, Epoch, Instant, Seat, Seq, Stamp};

/// A store that keeps what it is given; a crash loses what was not yet synced.
#[derive(Clone, Default)]
struct Disk {
    records: BTreeMap<Vec<u8>, Record>,
    known: Known,
}

impl Disk {
    fn write(&mut self, write: Write) {
        match write {
            Write::Entry(entry) => {
                self.known.learn(entry.stamp);
                for op in entry.ops {
                    self.put(record(&op, entry.stamp));
                }
            }
            Write::Records(records) => records.into_iter().for_each(|record| self.put(record)),
            Write::Forget(keys) => keys.iter().for_each(|key| {
                self.records.remove(key);
            }),
            Write::Learn(known) => self.known.merge(&known),
        }
    }

    fn put(&mut self, record: Record) {
        if self.records.get(&record.key).is_some_and(|ours| ours.stamp > record.stamp) {
            return;
        }
        if record.class == Class::Hot && record.body.is_none() {
            self.records.remove(&record.key);
        } else {
            self.records.insert(record.key.clone(), record);
        }
    }

    fn logs(&self, lacking: &Known, after: &Cursor) -> (Vec<Record>, Option<Cursor>) {
        let mut all: Vec<Record> = self
            .records
            .values()
            .filter(|record| record.class == Class::Log && !lacking.covers(record.stamp))
            .filter(|record| {
                after
                    .0
                    .as_ref()
                    .is_none_or(|(stamp, key)| (record.stamp, &record.key) > (*stamp, key))
            })
            .cloned()
            .collect();
        all.sort_by_key(|record| (record.stamp, record.key.clone()));
        let more = all.len() > 3;
        all.truncate(3);
        let next = all.last().filter(|_| more).map(|r| Cursor(Some((r.stamp, r.key.clone()))));
        (all, next)
    }
}

fn record(op: &Op, stamp: Stamp) -> Record {
    let (class, key, body) = (op.class, op.key.clone(), op.body.clone());
    Record { class, key, stamp, age: Duration::ZERO, body }
}

struct Side {
    seat: Seat,
    journal: Journal,
    disk: Disk,
    /// Writes not yet on disk.
    unwritten: VecDeque<(u64, Write)>,
    inbox: VecDeque<Frame>,
    strays: Vec<Record>,
}

struct World {
    now: Instant,
    dice: Dice,
    sides: [Side; 2],
    link: bool,
    active: usize,
    epoch: Epoch,
    /// What was appended, and whether it was committed before a crash could take it.
    promised: BTreeMap<Vec<u8>, Vec<u8>>,
    waiting: Vec<(Seq, Vec<Op>)>,
    counter: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::ZERO;
        let side = |seat| Side {
            seat,
            journal: Journal::new(now, seat, Vec::new(), Known::new()),
            disk: Disk::default(),
            unwritten: VecDeque::new(),
            inbox: VecDeque::new(),
            strays: Vec::new(),
        };
        let mut world = Self {
            now,
            dice: Dice::from_number(seed),
            sides: [side(Seat::Master), side(Seat::Standby)],
            link: false,
            active: 0,
            epoch: Epoch::NEVER,
            promised: BTreeMap::new(),
            waiting: Vec::new(),
            counter: 0,
        };
        world.crown(0);
        world.connect();
        world.calm();
        world
    }

    fn crown(&mut self, who: usize) {
        self.active = who;
        self.waiting.clear();
        self.epoch = self.epoch.next(self.sides[who].seat);
        self.sides[who].journal.activate(self.epoch);
    }

    fn connect(&mut self) {
        self.link = true;
        let now = self.now;
        self.sides.iter_mut().for_each(|side| side.journal.handle_link_up(now));
    }

    fn cut(&mut self) {
        self.link = false;
        for side in &mut self.sides {
            side.inbox.clear();
            side.journal.handle_link_down();
        }
    }

    fn append(&mut self) {
        self.counter += 1;
        let body = Some(self.counter.to_be_bytes().to_vec());
        let key = self.dice.below(12);
        let op = match self.dice.below(4) {
            0 => Op { class: Class::Hot, key: format!("hot{key}").into(), body: None },
            1 => Op { class: Class::Log, key: format!("log{}", self.counter).into(), body },
            2 => Op { class: Class::Table, key: format!("table{key}").into(), body },
            _ => Op { class: Class::Hot, key: format!("hot{key}").into(), body },
        };
        let now = self.now;
        let seq = self.sides[self.active].journal.append(now, vec![op.clone()]);
        self.waiting.push((seq, vec![op]));
        self.drain();
    }

    /// Takes outputs; what is committed becomes a promise.
    fn drain(&mut self) {
        for who in 0..2 {
            while let Some(output) = self.sides[who].journal.poll_output() {
                self.take(who, output);
            }
            // What comes of strays is decided a while later.
            let journal = &mut self.sides[who].journal;
            if journal.has_tail() && self.dice.chance(40) {
                journal.settle_tail();
            }
        }
        let journal = &self.sides[self.active].journal;
        let (hot, durable) = (journal.hot_committed(), journal.durable_committed());
        let waiting = std::mem::take(&mut self.waiting);
        for (seq, ops) in waiting {
            let mark = if ops.iter().any(|op| op.class.is_durable()) { durable } else { hot };
            if seq > mark {
                self.waiting.push((seq, ops));
                continue;
            }
            for op in ops.into_iter().filter(|op| op.class.is_durable()) {
                self.promised.insert(op.key, op.body.unwrap_or_default());
            }
        }
    }

    fn take(&mut self, who: usize, output: Output) {
        match output {
            Output::Send(frame) => {
                let bytes = frame.encode();
                if self.link {
                    self.sides[1 - who].inbox.push_back(Frame::decode(&bytes).unwrap());
                }
            }
            Output::Store { write, ticket, .. } => {
                self.sides[who].unwritten.push_back((ticket, write));
            }
            Output::Fetch { lacking, after, read } => {
                self.flush(who, usize::MAX);
                let (records, next) = self.sides[who].disk.logs(&lacking, &after);
                self.sides[who].journal.handle_fetched(read, records, next);
            }
            Output::Stray(record) => self.sides[who].strays.push(record),
            Output::SameSeat => panic!("different seats"),
            Output::Committed
            | Output::Protection { .. }
            | Output::Changed(_)
            | Output::Logged(_)
            | Output::Aside(_) => {}
        }
    }

    fn flush(&mut self, who: usize, count: usize) {
        for _ in 0..count {
            let side = &mut self.sides[who];
            let Some((ticket, write)) = side.unwritten.pop_front() else { break };
            side.disk.write(write);
            side.journal.handle_stored(ticket);
        }
    }

    fn deliver(&mut self, who: usize) {
        let now = self.now;
        if let Some(frame) = self.sides[who].inbox.pop_front() {
            self.sides[who].journal.handle_frame(now, frame);
        }
        self.drain();
    }

    fn calm(&mut self) {
        for _ in 0..400 {
            for who in 0..2 {
                self.flush(who, usize::MAX);
                self.deliver(who);
            }
        }
    }

    fn crash(&mut self, who: usize) {
        let protected = self.sides[self.active].journal.in_sync();
        self.cut();
        let side = &mut self.sides[who];
        side.unwritten.clear();
        let records = side.disk.records.values().filter(|r| r.class != Class::Log).cloned();
        let (records, known) = (records.collect(), side.disk.known.clone());
        side.journal = Journal::new(self.now, side.seat, records, known);
        // The twin takes over if it was in sync, else this one goes on from its disk.
        let twin = 1 - who;
        if who == self.active {
            let heir = if protected && self.sides[twin].journal.in_sync() { twin } else { who };
            if heir == twin {
                self.crown(twin);
            } else {
                self.crown(who);
            }
        }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(self.dice.below(4));
        match self.dice.below(100) {
            0 => {
                let who = usize::from(self.dice.chance(50));
                let was_in_sync = self.sides[1 - self.active].journal.in_sync();
                if who == self.active && was_in_sync {
                    // Decided before the cut, as the keeper does.
                    let twin = 1 - who;
                    self.crown(twin);
                    self.crash(who);
                } else {
                    self.crash(who);
                }
            }
            1 => self.cut(),
            2..=9 if !self.link => self.connect(),
            10..=40 => self.append(),
            41..=60 => {
                let (who, count) = (usize::from(self.dice.chance(50)), self.dice.below(5));
                self.flush(who, usize::try_from(count).unwrap());
                self.drain();
            }
            61..=65 => {
                let now = self.now;
                self.sides.iter_mut().for_each(|side| side.journal.handle_timeout(now));
                self.drain();
            }
            _ => {
                let who = usize::from(self.dice.chance(50));
                self.deliver(who);
            }
        }
    }

    fn settle_and_compare(mut self, seed: u64) -> usize {
        if !self.link {
            self.connect();
        }
        self.calm();
        assert!(self.sides[self.active].journal.in_sync(), "SEED={seed}: not in sync at the end");
        let content = |side: &Side| {
            let memory: Vec<_> = side
                .journal
                .records(self.now)
                .map(|(key, class, _, body)| (key.to_vec(), class, body.to_vec()))
                .collect();
            let disk: Vec<_> = side
                .disk
                .records
                .values()
                .map(|r| (r.key.clone(), r.stamp, r.body.clone()))
                .collect();
            (memory, disk)
        };
        assert!(content(&self.sides[0]) == content(&self.sides[1]), "SEED={seed}: the two differ");
        for (key, body) in &self.promised {
            let kept = self.sides[0].disk.records.get(key).and_then(|r| r.body.clone());
            assert!(kept.is_some(), "SEED={seed}: {} lost", String::from_utf8_lossy(key));
            if key.starts_with(b"log") {
                assert_eq!(kept.as_ref(), Some(body), "SEED={seed}");
            }
        }
        self.promised.len()
    }
}

#[test]
fn what_was_committed_is_on_both_servers_after_any_trouble() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..500,
    };
    let mut promises = 0;
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        promises += world.settle_and_compare(seed);
    }
    println!("{count} runs, {promises} promises kept");
    assert!(count == 1 || promises > 10_000, "too quiet to prove anything: {promises} promises");
}
