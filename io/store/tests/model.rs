//! The store against a map in memory, under random writes, batches and restarts.
//!
//! `SEED=7 cargo test -p tandem-store --test model` runs one seed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use std::collections::BTreeMap;

use common::{folder, open};
use tandem_journal::{Class, Cursor, Entry, Known, Op, Record, Write};
use tandem_store::{Reader, Settings, WallClock};
use tandem_types::{Dice, Duration, Epoch, Seat, Seq, Stamp};

const SEEDS: u64 = 20;
const WRITES: u64 = 400;

#[test]
fn the_store_holds_what_a_map_would_hold() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap()..seed.parse::<u64>().unwrap() + 1,
        Err(_) => 0..SEEDS,
    };
    let mut compared = 0;
    for seed in seeds {
        compared += run(seed);
    }
    println!("{compared} records compared");
    assert!(compared > 1_000 || std::env::var("SEED").is_ok(), "too little to prove anything");
}

/// What was written, by key; and what is known.
#[derive(Default)]
struct Model {
    records: BTreeMap<Vec<u8>, Record>,
    known: Known,
}

fn run(seed: u64) -> usize {
    let mut dice = Dice::from_number(seed);
    let folder = folder("model");
    let settings = || Settings { wall_clock: WallClock::new(|| 0), ..Settings::default() };
    let (mut store, _, mut wait) = open(&folder, settings());
    let mut model = Model::default();
    let mut compared = 0;
    for ticket in 1..=WRITES {
        let write = throw(&mut dice, ticket);
        model.take(&write);
        store.write(write, dice.chance(10), ticket).unwrap();
        if dice.chance(3) {
            wait.stored(ticket);
            compared += model.compare(&store.reader().unwrap(), seed);
        }
        if dice.chance(1) {
            drop(store);
            let loaded;
            (store, loaded, wait) = open(&folder, settings());
            assert_eq!(loaded.known, model.known, "SEED={seed}");
        }
    }
    drop(store);
    compared + model.compare(&Reader::open(&folder, WallClock::new(|| 0)).unwrap(), seed)
}

fn throw(dice: &mut Dice, ticket: u64) -> Write {
    let stamp = |dice: &mut Dice, seq| {
        let seat = if dice.chance(50) { Seat::Master } else { Seat::Standby };
        Stamp { epoch: Epoch { number: 5, seat }, seq: Seq(seq) }
    };
    match dice.below(10) {
        0 => {
            let stamp = stamp(dice, ticket);
            let mut known = Known::new();
            known.learn(stamp);
            Write::Learn(known)
        }
        1 => Write::Forget((0..dice.below(3)).map(|_| key(dice, Class::Hot)).collect()),
        2 | 3 => {
            let record = |dice: &mut Dice| {
                let class = class(dice);
                let body = (class == Class::Hot || dice.chance(80)).then(|| body(dice));
                // Some older, some newer than what is there; never as old as another one.
                let seq = ticket * 1_000 + dice.below(2) * 50_000 + dice.below(1_000);
                let stamp = stamp(dice, seq);
                Record { class, key: key(dice, class), stamp, age: Duration::ZERO, body }
            };
            Write::Records((0..dice.below(4)).map(|_| record(dice)).collect())
        }
        _ => {
            let op = |dice: &mut Dice| {
                let class = class(dice);
                let body = dice.chance(75).then(|| body(dice));
                Op { class, key: key(dice, class), body }
            };
            let ops = (0..dice.below(4)).map(|_| op(dice)).collect();
            Write::Entry(Entry { stamp: stamp(dice, ticket * 1_000), ops })
        }
    }
}

fn class(dice: &mut Dice) -> Class {
    [Class::Hot, Class::Hot, Class::Table, Class::Log][usize::try_from(dice.below(4)).unwrap()]
}

fn key(dice: &mut Dice, class: Class) -> Vec<u8> {
    format!("{class:?}/{}", dice.below(8)).into_bytes()
}

fn body(dice: &mut Dice) -> Vec<u8> {
    dice.hex(4).into_bytes()
}

impl Model {
    fn take(&mut self, write: &Write) {
        match write {
            Write::Entry(entry) => {
                self.known.learn(entry.stamp);
                for op in &entry.ops {
                    let (class, stamp, key) = (op.class, entry.stamp, op.key.clone());
                    let body = op.body.clone();
                    let record = Record { class, key, stamp, age: Duration::ZERO, body };
                    match (class, &record.body) {
                        (Class::Hot, None) => drop(self.records.remove(&record.key)),
                        (Class::Hot, Some(_)) => {
                            self.records.insert(record.key.clone(), record);
                        }
                        (Class::Table | Class::Log, _) => self.merge(record),
                    }
                }
            }
            Write::Records(records) => records.iter().for_each(|record| self.merge(record.clone())),
            Write::Forget(keys) => keys.iter().for_each(|key| drop(self.records.remove(key))),
            Write::Learn(known) => self.known.merge(known),
        }
    }

    fn merge(&mut self, record: Record) {
        let is_later = |old: &Record| record.stamp >= old.stamp;
        if self.records.get(&record.key).is_none_or(is_later) {
            self.records.insert(record.key.clone(), record);
        }
    }

    fn compare(&self, reader: &Reader, seed: u64) -> usize {
        let mut held: Vec<Record> = Vec::new();
        for class in [Class::Hot, Class::Table, Class::Log] {
            held.extend(reader.all(class).unwrap());
        }
        let mut want: Vec<Record> = self.records.values().cloned().collect();
        want.sort_by(|one, two| (one.class, &one.key).cmp(&(two.class, &two.key)));
        assert_eq!(held, want, "SEED={seed}");
        assert_eq!(reader.known().unwrap(), self.known, "SEED={seed}");

        // What a peer lacks that knows half of it.
        let mut peer = Known::new();
        self.known.iter().for_each(|stamp| {
            peer.learn(Stamp { seq: Seq(stamp.seq.0 / 2), ..stamp });
        });
        let (lacking, next) = reader.lacking(&peer, &Cursor(None)).unwrap();
        assert_eq!(next, None);
        want.retain(|record| record.class == Class::Log && !peer.covers(record.stamp));
        want.sort_by(|one, two| (one.stamp, &one.key).cmp(&(two.stamp, &two.key)));
        assert_eq!(lacking, want, "SEED={seed}");
        held.len()
    }
}
