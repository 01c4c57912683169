//! Two real databases and the exchange between them: writes on both sides, a link that is cut at any
//! message, crashes, and backups put back. All end equal, and what was on both disks stays.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::Backup;
use tandem_oplog::{
    CHAINS_MAX, Chain, Column, Fact, Message, OpId, Origin, Output, PART_BYTES, Schema, Sync, Table,
};
use tandem_store::tables::{By, Setup, Tables};
use tandem_types::{Dice, Epoch};

const ITEM: Table = Table {
    id: 1,
    name: "item",
    key: &["id"],
    columns: &[Column::new(1, "one"), Column::new(2, "two")],
};
static SCHEMA: Schema = Schema { version: 1, tables: &[ITEM] };
const SQL: &str = "CREATE TABLE item (
    id INTEGER NOT NULL PRIMARY KEY, one INTEGER NOT NULL, two INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0) STRICT";

fn setup(node: u8) -> Setup {
    Setup { schema: &SCHEMA, migrations: &[SQL], node, origin: Origin(u64::from(node) + 1) }
}

fn copy(tables: &Tables, node: u8) -> Tables {
    let mut to = Connection::open_in_memory().unwrap();
    Backup::new(tables.reader(), &mut to).unwrap().step(-1).unwrap();
    Tables::on(to, Path::new("copy"), &setup(node)).unwrap()
}

struct Server {
    node: u8,
    tables: Tables,
    sync: Sync,
    facts: Vec<Fact>,
    backup: Option<Tables>,
    /// Origins that were given to it, for new ones.
    names: u64,
}

impl Server {
    fn new(node: u8) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        let tables = Tables::on(connection, Path::new("memory"), &setup(node)).unwrap();
        let sync = Sync::new(tables.me(), tables.heads().collect());
        Self { node, tables, sync, facts: Vec::new(), backup: None, names: 0 }
    }

    /// Its process begins anew.
    fn restart(&mut self) {
        self.sync = Sync::new(self.tables.me(), self.tables.heads().collect());
    }

    fn write(&mut self, wall: u64, sql: &str) -> Option<OpId> {
        let by = By { author: String::new(), wall_millis: wall, epoch: Epoch::NEVER };
        let done = self.tables.change(&by, |connection| connection.execute_batch(sql)).unwrap().1;
        self.sync.handle_here(self.tables.heads().collect());
        done
    }

    /// Does what the exchange asks for; what is sent goes into `line`.
    fn work(&mut self, line: &mut VecDeque<Vec<u8>>) {
        while let Some(output) = self.sync.poll_output() {
            match output {
                Output::Send(message) => line.push_back(message.encode()),
                Output::Compare { round, heads } => {
                    let compared = self.tables.compare(&heads).unwrap();
                    self.sync.handle_compared(round, &compared);
                }
                Output::Begin { round, lacking } => {
                    let (start, end) = self.tables.start(&lacking).unwrap();
                    self.sync.handle_begin(round, start, end);
                }
                Output::Read { round, after, lacking } => {
                    let page = self.tables.log(after, &lacking, PART_BYTES).unwrap();
                    let ops = page.ops.into_iter().map(|op| (op.id, op.bytes)).collect();
                    self.sync.handle_page(round, ops, page.next, page.more);
                }
                Output::Take(ops) => {
                    self.tables.take(ops.iter().map(Vec::as_slice)).unwrap();
                    self.sync.handle_here(self.tables.heads().collect());
                    self.sync.handle_taken();
                }
                Output::TellChains(origin) => {
                    let chains = self.tables.chains(origin, CHAINS_MAX).unwrap();
                    line.push_back(Message::Chains { origin, chains }.encode());
                }
                Output::Rename(chains) => {
                    self.names += 1;
                    let new = Origin(1_000 * self.names + u64::from(self.node));
                    self.tables.rename(&chains, new).unwrap();
                    self.sync.handle_renamed(new, self.tables.heads().collect());
                }
                Output::Fact(fact) => self.facts.push(fact),
            }
        }
    }
}

struct World {
    servers: [Server; 2],
    /// From each to the other.
    lines: [VecDeque<Vec<u8>>; 2],
    up: bool,
}

impl World {
    fn new() -> Self {
        Self { servers: [Server::new(0), Server::new(1)], lines: Default::default(), up: false }
    }

    fn link(&mut self, up: bool) {
        self.lines = Default::default();
        self.up = up;
        for server in &mut self.servers {
            if up { server.sync.handle_link_up() } else { server.sync.handle_link_down() }
        }
        self.work();
    }

    fn work(&mut self) {
        for (server, line) in self.servers.iter_mut().zip(&mut self.lines) {
            server.work(line);
        }
        if !self.up {
            self.lines = Default::default();
        }
    }

    /// Delivers one message; false when there is none.
    fn deliver(&mut self, from: usize) -> bool {
        let Some(bytes) = self.lines[from].pop_front() else { return false };
        self.servers[1 - from].sync.handle_message(Message::decode(&bytes).unwrap());
        self.work();
        true
    }

    fn settle(&mut self) {
        if !self.up {
            self.link(true);
        }
        self.work();
        for step in 0.. {
            assert!(step < 100_000, "they never come to an end");
            if !self.deliver(0) && !self.deliver(1) {
                return;
            }
        }
    }

    fn assert_equal(&self, what: &str) {
        let [one, other] = &self.servers;
        assert_eq!(one.tables.seen(), other.tables.seen(), "{what}");
        assert_eq!(one.tables.digests().unwrap(), other.tables.digests().unwrap(), "{what}");
        assert_eq!(one.tables.undecided().unwrap(), other.tables.undecided().unwrap(), "{what}");
        assert_eq!(rows(&one.tables), rows(&other.tables), "{what}");
        for server in &self.servers {
            assert!(server.sync.may_write() && server.sync.behind() == Some(0), "{what}");
        }
    }
}

fn rows(tables: &Tables) -> Vec<[i64; 4]> {
    let sql = "SELECT id, one, two, deleted FROM item ORDER BY id";
    let mut statement = tables.reader().prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

fn insert(id: u64, value: u64) -> String {
    format!(
        "INSERT INTO item (id, one, two) VALUES ({id}, {value}, 0)
         ON CONFLICT (id) DO UPDATE SET one = excluded.one"
    )
}

#[test]
fn what_is_written_while_linked_is_on_the_other_disk_at_once() {
    let mut world = World::new();
    world.settle();
    let id = world.servers[0].write(1_000, &insert(1, 7)).unwrap();
    world.settle();
    assert!(world.servers[0].sync.there().unwrap().has(id));
    assert_eq!(world.servers[0].facts, [Fact::Equal]);
    world.assert_equal("live");
}

#[test]
fn both_write_while_apart_and_a_long_log_goes_in_parts() {
    let mut world = World::new();
    for number in 0..3_000 {
        world.servers[0].write(1_000 + number, &insert(number % 50, number));
        world.servers[1].write(1_000 + number, &insert(number % 70, number));
    }
    world.settle();
    world.assert_equal("healed");
    assert!(!world.servers[0].tables.undecided().unwrap().is_empty());
}

#[test]
fn a_backup_that_is_put_back_gets_its_own_changes_again_before_it_writes() {
    let mut world = World::new();
    world.settle();
    world.servers[0].write(1_000, &insert(1, 1));
    world.settle();
    world.servers[0].backup = Some(copy(&world.servers[0].tables, 0));
    for number in 0..20 {
        world.servers[0].write(2_000 + number, &insert(number + 2, number));
    }
    world.settle();
    world.link(false);
    world.servers[0].tables = world.servers[0].backup.take().unwrap();
    world.servers[0].restart();
    world.link(true);
    // As soon as it has heard the other one, until it has everything.
    assert!(world.deliver(1));
    assert!(!world.servers[0].sync.may_write());
    world.settle();
    assert!(world.servers[0].facts.contains(&Fact::PutBack { here: 1, there: 21 }));
    assert_eq!(world.servers[0].tables.me(), Origin(1), "nothing was written meanwhile");
    world.assert_equal("put back");
}

#[test]
fn a_backup_that_has_written_since_goes_on_under_a_new_name_and_nothing_is_lost() {
    for there_is_more in [true, false] {
        let mut world = World::new();
        world.settle();
        world.servers[0].write(1_000, &insert(1, 1));
        world.settle();
        let old = copy(&world.servers[0].tables, 0);
        world.servers[0].write(2_000, &insert(2, 2));
        if there_is_more {
            for number in 0..9 {
                world.servers[0].write(2_001 + number, &insert(3, number));
            }
        }
        world.settle();
        world.link(false);
        world.servers[0].tables = old;
        world.servers[0].restart();
        for number in 0..5 {
            world.servers[0].write(9_000 + number, &insert(10 + number, number));
        }
        world.settle();
        assert_eq!(world.servers[0].tables.me(), Origin(1_000));
        world.assert_equal("renamed");
        let ids: Vec<i64> = rows(&world.servers[0].tables).iter().map(|row| row[0]).collect();
        let wanted: &[i64] = if there_is_more {
            &[1, 2, 3, 10, 11, 12, 13, 14]
        } else {
            &[1, 2, 10, 11, 12, 13, 14]
        };
        assert_eq!(ids, wanted);
        // And the new name is kept.
        world.servers[0].write(9_500, &insert(20, 1));
        world.settle();
        world.assert_equal("after that");
    }
}

#[test]
fn a_log_that_was_shortened_says_so_and_sends_nothing_wrong() {
    let mut world = World::new();
    for number in 0..5 {
        world.servers[0].write(1_000 + number, &insert(number, number));
    }
    let prune = "DELETE FROM op_log WHERE number < 3";
    world.servers[0].tables.reader().execute_batch(prune).unwrap();
    world.settle();
    assert!(world.servers[0].facts.contains(&Fact::TooOld { here: false }));
    assert!(world.servers[1].facts.contains(&Fact::TooOld { here: true }));
    assert!(rows(&world.servers[1].tables).is_empty());
}

#[test]
fn damaged_messages_are_no_messages() {
    let mut dice = Dice::from_number(3);
    let message =
        Message::Chains { origin: Origin(5), chains: vec![(1, tandem_oplog::Chain([3; 16]))] };
    assert_eq!(Message::decode(&message.encode()), Some(message.clone()));
    for _ in 0..20_000 {
        let mut bytes = message.encode();
        let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
        bytes[at] = u8::try_from(dice.below(256)).unwrap();
        let _ =
            Message::decode(&bytes[..usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap()]);
    }
    assert_eq!(Message::decode(&[]), None);
}

/// A random step; what is on both disks is promised.
fn step(world: &mut World, dice: &mut Dice, wall: u64, promised: &mut BTreeMap<OpId, Chain>) {
    let one = usize::from(dice.chance(50));
    match dice.below(100) {
        0..40 => {
            let server = &mut world.servers[one];
            if server.sync.may_write() {
                let (id, value, skew) = (dice.below(6), dice.below(1_000), dice.below(3_000));
                let sql = match dice.below(4) {
                    0 => format!("UPDATE item SET two = {value} WHERE id = {id}"),
                    1 => format!("UPDATE item SET deleted = {} WHERE id = {id}", value % 2),
                    _ => insert(id, value),
                };
                server.write(wall + skew, &sql);
            }
        }
        40..85 => drop(world.deliver(one)),
        85..90 => world.link(!world.up),
        90..93 => {
            // A process is killed: the link goes with it.
            world.link(false);
            world.servers[one].restart();
        }
        93..96 => {
            let server = &mut world.servers[one];
            server.backup = Some(copy(&server.tables, server.node));
        }
        96..98 => {
            if let Some(backup) = world.servers[one].backup.take() {
                world.link(false);
                world.servers[one].tables = backup;
                world.servers[one].restart();
                // What only this disk had may be gone with it.
                let other = &world.servers[1 - one].tables;
                promised.retain(|id, chain| other.chain_at(*id).unwrap() == Some(*chain));
            }
        }
        _ => {}
    }
    world.work();
    let [a, b] = &world.servers;
    for (server, other) in [(a, b), (b, a)] {
        let there = server.sync.there().cloned().unwrap_or_default();
        for id in there.iter().filter(|id| server.tables.seen().has(*id)) {
            let chain = server.tables.chain_at(id).unwrap();
            assert_eq!(other.tables.chain_at(id).unwrap(), chain, "{id} is not on the other disk");
            promised.insert(id, chain.unwrap());
        }
    }
}

#[test]
fn whatever_is_cut_killed_and_put_back_both_end_equal() {
    let (kept, put_back, renamed) = run(0..runs());
    assert!(kept > 1_500 && put_back > 100 && renamed > 30);
}

/// 500, or as many as are asked for: `TANDEM_RUNS=10000 cargo test --release -p tandem-store` for a
/// night.
fn runs() -> u64 {
    std::env::var("TANDEM_RUNS").map_or(500, |runs| runs.parse().unwrap())
}

/// Promises kept, backups noticed, new names.
fn run(seeds: std::ops::Range<u64>) -> (u64, usize, u64) {
    let (mut put_back, mut renamed, mut kept) = (0, 0, 0);
    for seed in seeds {
        let mut dice = Dice::from_number(seed);
        let mut world = World::new();
        let mut promised = BTreeMap::new();
        for number in 0..dice.below(300) {
            step(&mut world, &mut dice, 10_000 + number * 10, &mut promised);
        }
        world.settle();
        world.assert_equal(&format!("seed {seed}"));
        for (id, chain) in &promised {
            let found = world.servers[0].tables.chain_at(*id).unwrap();
            assert_eq!(found, Some(*chain), "seed {seed}: {id} is lost");
            kept += 1;
        }
        for server in &world.servers {
            let facts = server.facts.iter().filter(|fact| matches!(fact, Fact::PutBack { .. }));
            put_back += facts.count();
            renamed += server.names;
            assert!(!server.facts.iter().any(|fact| matches!(fact, Fact::TooOld { .. })));
        }
    }
    println!("{kept} promises, {put_back} put back, {renamed} renamed");
    (kept, put_back, renamed)
}
