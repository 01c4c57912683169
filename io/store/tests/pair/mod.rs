//! Two real databases and the exchange between them: a link that can be cut at any message, crashes, backups
//! that are put back; and a judge who knows every op that was ever written.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::Backup;
use tandem_oplog::{
    Chain, Change, CheckEnd, Column, Fact, Hlc, Message, Op, OpId, Origin, Schema, Seen, Table,
};
use tandem_store::tables::{Broken, By, Deed, Exchange, Setup, Tables};
use tandem_types::{Epoch, Seat};

pub const ITEM: Table = Table {
    id: 1,
    name: "item",
    key: &["id"],
    columns: &[Column::new(1, "one"), Column::new(2, "two")],
};
pub static SCHEMA: Schema = Schema { version: 1, tables: &[ITEM] };
pub const SQL: &str = "CREATE TABLE item (
    id INTEGER NOT NULL PRIMARY KEY, one INTEGER NOT NULL, two INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0) STRICT;";

pub fn setup(node: u8) -> Setup {
    Setup { schema: &SCHEMA, migrations: &[SQL], node, origin: Origin(u64::from(node) + 1) }
}

pub fn memory(setup: &Setup) -> Tables {
    Tables::on(Connection::open_in_memory().unwrap(), Path::new("memory"), setup).unwrap()
}

pub fn copy(tables: &Tables, node: u8) -> Tables {
    let mut to = Connection::open_in_memory().unwrap();
    Backup::new(tables.reader(), &mut to).unwrap().step(-1).unwrap();
    Tables::on(to, Path::new("copy"), &setup(node)).unwrap()
}

pub fn insert(id: u64, value: u64) -> String {
    format!(
        "INSERT INTO item (id, one, two) VALUES ({id}, {value}, 0)
         ON CONFLICT (id) DO UPDATE SET one = excluded.one"
    )
}

/// What is not as it must be.
pub type Verdict<T = ()> = Result<T, String>;

pub fn same<T: Debug + PartialEq>(one: &T, other: &T, what: &str) -> Verdict {
    if one == other { Ok(()) } else { Err(format!("{what}: {one:?} is not {other:?}")) }
}

pub struct Server {
    pub node: u8,
    pub tables: Tables,
    pub exchange: Exchange,
    pub facts: Vec<Fact>,
    pub ends: Vec<CheckEnd>,
    pub backup: Option<Tables>,
    /// Origins that were given to it, for new ones.
    pub names: u64,
    /// Its exchange has failed, and begins anew soon.
    pub failed: Option<String>,
    rule: Option<Broken>,
    /// The last reign that it has seen begin.
    epoch: Epoch,
    /// Rows were written anew that neither could read.
    pub remade: bool,
    /// Ops that got a new name, and those of such rows.
    renamed: Vec<(OpId, Chain, Vec<u8>)>,
}

impl Server {
    pub fn new(node: u8) -> Self {
        Self::on(node, memory(&setup(node)))
    }

    pub fn on(node: u8, tables: Tables) -> Self {
        let exchange = Exchange::new(&tables);
        Self {
            node,
            tables,
            exchange,
            facts: Vec::new(),
            ends: Vec::new(),
            backup: None,
            names: 0,
            failed: None,
            rule: None,
            epoch: Epoch::NEVER,
            remade: false,
            renamed: Vec::new(),
        }
    }

    /// Its process begins anew.
    pub fn restart(&mut self) {
        self.failed = None;
        self.tables.sabotage(self.rule);
        self.exchange = Exchange::new(&self.tables);
    }

    /// It becomes active. Where the two are apart both may, one more often than the other.
    pub fn reign(&mut self) {
        let seat = if self.node == 0 { Seat::Master } else { Seat::Standby };
        self.epoch = self.epoch.next(seat);
    }

    pub fn sabotage(&mut self, rule: Broken) {
        self.rule = Some(rule);
        self.restart();
    }

    pub fn write(&mut self, wall: u64, sql: &str) -> Option<OpId> {
        self.try_write(wall, sql).unwrap()
    }

    pub fn try_write(&mut self, wall: u64, sql: &str) -> Verdict<Option<OpId>> {
        let by = By { author: String::new(), wall_millis: wall, epoch: self.epoch };
        let done = self.tables.change(&by, |connection| connection.execute_batch(sql));
        self.exchange.handle_written(&self.tables);
        Ok(done.map_err(|error| error.to_string())?.1)
    }

    pub fn chain(&self, id: OpId) -> Option<Chain> {
        self.tables.chain_at(id).unwrap()
    }

    fn remake(&mut self, changes: &[Change]) {
        let wall_millis = self.tables.latest().millis();
        let by = By { author: "repair".into(), wall_millis, epoch: self.epoch };
        let mut batch = self.tables.begin().unwrap();
        let id = batch.remake(&by, changes).unwrap().unwrap();
        batch.commit().unwrap();
        self.exchange.handle_written(&self.tables);
        let bytes = self.tables.op(id).unwrap().unwrap().bytes;
        self.renamed.push((id, self.chain(id).unwrap(), bytes));
        self.remade = true;
    }

    /// Does what the exchange asks for; what is sent goes into `line`.
    fn work(&mut self, line: &mut VecDeque<Vec<u8>>) {
        loop {
            let new = Origin(1_000 * (self.names + 1) + u64::from(self.node));
            match self.exchange.poll(&mut self.tables, &mut || new) {
                Ok(None) => return,
                Ok(Some(Deed::Send(message))) => line.push_back(message.encode()),
                Ok(Some(Deed::Fact(fact))) => self.facts.push(fact),
                Ok(Some(Deed::Renamed)) => {
                    self.names += 1;
                    let all = self.tables.log(0, &Seen::new(), usize::MAX).unwrap().ops;
                    for op in all.into_iter().filter(|op| op.id.origin == new) {
                        self.renamed.push((op.id, self.chain(op.id).unwrap(), op.bytes));
                    }
                }
                Ok(Some(Deed::Checked(end))) => self.ends.push(end),
                Ok(Some(Deed::Remake(changes))) => self.remake(&changes),
                Ok(Some(Deed::Changed(_) | Deed::TellClock(_) | Deed::Clock(..))) => {}
                Err(what) => {
                    self.exchange.sync_mut().handle_link_down();
                    self.failed = Some(what);
                }
            }
        }
    }
}

#[derive(Default)]
pub struct Ledger {
    /// Everything that was ever written, also what was lost with a disk.
    written: BTreeMap<(OpId, [u8; 16]), (Hlc, Vec<u8>)>,
    /// What was on both disks: it must never be lost.
    pub promised: BTreeMap<OpId, Chain>,
}

impl Ledger {
    fn add(&mut self, id: OpId, chain: Chain, bytes: Vec<u8>) {
        let hlc = Op::decode(&bytes).unwrap().hlc;
        self.written.insert((id, chain.0), (hlc, bytes));
    }

    /// An op; also one that got its name when it was in no log any more, and only its chain was there.
    fn find(&self, id: OpId, chain: Chain) -> Option<(Hlc, Vec<u8>)> {
        if let Some(found) = self.written.get(&(id, chain.0)) {
            return Some(found.clone());
        }
        let ((old, _), (hlc, bytes)) = self.written.iter().find(|((_, at), _)| *at == chain.0)?;
        let mut op = Op::decode(bytes).unwrap();
        op.id = id;
        op.seen.learn(OpId { number: old.number - id.number, ..*old });
        Some((*hlc, op.encode().unwrap()))
    }
}

pub struct World {
    pub servers: [Server; 2],
    /// From each to the other.
    pub lines: [VecDeque<Vec<u8>>; 2],
    pub up: bool,
    pub ledger: Ledger,
    /// So many messages are enough to come to an end.
    pub patience: usize,
}

impl World {
    pub fn new() -> Self {
        Self::of([Server::new(0), Server::new(1)])
    }

    pub fn of(servers: [Server; 2]) -> Self {
        Self {
            servers,
            lines: Default::default(),
            up: false,
            ledger: Ledger::default(),
            patience: 100_000,
        }
    }

    /// Writes on one of them, as who knows all that is written.
    pub fn write(&mut self, at: usize, wall: u64, sql: &str) -> Verdict<Option<OpId>> {
        let [one, other] = &self.servers;
        let other = if at == 0 { other.tables.seen() } else { one.tables.seen() }.clone();
        let server = &mut self.servers[at];
        let Some(id) = server.try_write(wall, sql)? else { return Ok(None) };
        if self.up && server.exchange.sync().is_compared() && other.has(id) {
            return Err(format!("{id} is given again"));
        }
        let bytes = server.tables.op(id).unwrap().unwrap().bytes;
        self.ledger.add(id, server.chain(id).unwrap(), bytes);
        Ok(Some(id))
    }

    pub fn link(&mut self, up: bool) {
        self.lines = Default::default();
        self.up = up;
        for server in &mut self.servers {
            let sync = server.exchange.sync_mut();
            if up {
                sync.handle_link_up()
            } else {
                sync.handle_link_down()
            }
            server.failed = None;
        }
        self.work();
    }

    pub fn work(&mut self) {
        for (server, line) in self.servers.iter_mut().zip(&mut self.lines) {
            server.work(line);
            for (id, chain, bytes) in server.renamed.drain(..) {
                self.ledger.add(id, chain, bytes);
            }
        }
        if !self.up {
            self.lines = Default::default();
        }
    }

    /// Who has failed begins anew.
    pub fn retry(&mut self) -> bool {
        let mut any = false;
        for server in self.servers.iter_mut().filter(|_| self.up) {
            if server.failed.take().is_some() {
                server.exchange.sync_mut().restart();
                any = true;
            }
        }
        self.work();
        any
    }

    /// Delivers one message; false when there is none.
    pub fn deliver(&mut self, from: usize) -> bool {
        let Some(bytes) = self.lines[from].pop_front() else { return false };
        let message = Message::decode(&bytes).unwrap();
        self.servers[1 - from].exchange.sync_mut().handle_message(message);
        self.work();
        true
    }

    pub fn try_settle(&mut self) -> Verdict {
        if !self.up {
            self.link(true);
        }
        self.work();
        for _ in 0..self.patience {
            if !self.deliver(0) && !self.deliver(1) && !self.retry() {
                return Ok(());
            }
        }
        let failed: Vec<_> = self.servers.iter().map(|server| &server.failed).collect();
        Err(format!("they never come to an end: {failed:?}"))
    }

    pub fn settle(&mut self) {
        self.try_settle().unwrap();
    }

    /// Both compare their rows, begun by one of them, until they are equal: how many comparisons that took.
    pub fn check(&mut self, at: usize) -> Verdict<usize> {
        for count in 1..20 {
            self.servers[at].ends.clear();
            if !self.servers[at].exchange.sync_mut().begin_check() {
                return Err("they have not the same ops".to_owned());
            }
            self.try_settle()?;
            match self.servers[at].ends.pop() {
                Some(CheckEnd::Equal) => return Ok(count),
                Some(CheckEnd::Mended(_)) => {}
                Some(CheckEnd::Apart) if self.servers.iter().any(|server| server.remade) => {}
                end => return Err(format!("a comparison ended with {end:?}")),
            }
        }
        Err("they never become equal".to_owned())
    }

    pub fn assert_equal(&self, what: &str) {
        self.judge_equal().unwrap_or_else(|why| panic!("{what}: {why}"));
    }

    /// Both are the same, whole, and able to go on.
    pub fn judge_equal(&self) -> Verdict {
        let [one, other] = &self.servers;
        let heads = |server: &Server| server.tables.heads().collect::<Vec<_>>();
        same(&heads(one), &heads(other), "what is there")?;
        let digests = |server: &Server| server.tables.digests().unwrap();
        same(&digests(one), &digests(other), "the digests")?;
        let undecided = |server: &Server| server.tables.undecided().unwrap();
        same(&undecided(one), &undecided(other), "the drawer")?;
        same(&rows(&one.tables), &rows(&other.tables), "the rows")?;
        for server in &self.servers {
            let sync = server.exchange.sync();
            same(&(sync.may_write(), sync.behind()), &(true, Some(0)), "able to go on")?;
            same(&server.tables.faults().unwrap(), &Vec::new(), "faults")?;
        }
        Ok(())
    }

    /// And what is there is what all the ops make that are there, taken one after the other; what was on both
    /// disks is among them.
    pub fn judge(&self) -> Verdict {
        self.judge_equal()?;
        let tables = &self.servers[0].tables;
        for (id, chain) in &self.ledger.promised {
            same(&self.servers[0].chain(*id), &Some(*chain), &format!("{id} was promised"))?;
        }
        let mut ops = Vec::new();
        for head in tables.seen().iter() {
            for number in 1..=head.number {
                let id = OpId { number, ..head };
                let chain = self.servers[0].chain(id).or_else(|| self.servers[1].chain(id));
                let chain = chain.ok_or(format!("nothing stands for {id}"))?;
                let op = self.ledger.find(id, chain);
                ops.push(op.ok_or(format!("{id} was never written"))?);
            }
        }
        ops.sort_by_key(|(hlc, _)| *hlc);
        let mut wanted = memory(&setup(9));
        let taken = wanted.take(ops.iter().map(|(_, bytes)| bytes.as_slice()));
        taken.map_err(|error| format!("what is there does not follow: {error}"))?;
        same(&wanted.digests().unwrap(), &tables.digests().unwrap(), "what the ops make")?;
        same(&rows(&wanted), &rows(tables), "the rows that the ops make")
    }

    /// What each has heard to be on the other's disk is there.
    pub fn judge_acknowledged(&mut self) -> Verdict {
        let [a, b] = &self.servers;
        for (server, other) in [(a, b), (b, a)] {
            let there = server.exchange.sync().there().cloned().unwrap_or_default();
            for id in there.iter().filter(|id| server.tables.seen().has(*id)) {
                let Some(chain) = server.chain(id) else { continue };
                same(&other.chain(id), &Some(chain), &format!("{id} is on the other disk"))?;
                self.ledger.promised.insert(id, chain);
            }
        }
        Ok(())
    }
}

pub fn rows(tables: &Tables) -> Vec<[i64; 4]> {
    let sql = "SELECT id, one, two, deleted FROM item ORDER BY id";
    let mut statement = tables.reader().prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}
