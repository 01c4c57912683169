//! Tables on a disk that fails, their twin in memory, a script for both, and what must hold afterwards.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::Backup;
use tandem_faultfs::{Disk, Files};
use tandem_oplog::{CHAINS_MAX, Chain, Column, Message, OpId, Origin, Schema, Seen, Table};
use tandem_store::OpenError;
use tandem_store::tables::{Batch, By, ChangeError, Deed, Exchange, Setup, Tables};
use tandem_types::Epoch;

pub const FILE: &str = "config.db";

const ITEM: Table = Table {
    id: 1,
    name: "item",
    key: &["id"],
    columns: &[Column::new(1, "one"), Column::new(2, "two")],
};
static SCHEMA: Schema = Schema { version: 1, tables: &[ITEM] };
const SQL: &str = "CREATE TABLE item (
    id INTEGER NOT NULL PRIMARY KEY, one INTEGER NOT NULL, two TEXT NOT NULL DEFAULT '',
    deleted INTEGER NOT NULL DEFAULT 0) STRICT";

pub fn setup(node: u8) -> Setup {
    Setup { schema: &SCHEMA, migrations: &[SQL], node, origin: Origin(u64::from(node) + 1) }
}

pub fn by(wall_millis: u64) -> By {
    By { author: "admin".to_owned(), wall_millis, epoch: Epoch::NEVER }
}

/// A folder that exists: its name is opened by the code under test.
pub fn folder(name: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A disk below such a folder; what the code under test makes on the real one is gone with it.
pub struct Ground(pub Disk);

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.folder());
    }
}

pub fn disk(name: &str, files: Files) -> Ground {
    Ground(Disk::mount(&folder(name), files))
}

/// Opens the tables as in production.
pub fn open(disk: &Disk) -> Result<Tables, OpenError> {
    Tables::open(&disk.folder().join(FILE), &setup(0))
}

pub fn memory(node: u8) -> Tables {
    Tables::on(Connection::open_in_memory().unwrap(), Path::new("memory"), &setup(node)).unwrap()
}

/// A copy in memory: what a backup holds.
pub fn copy(tables: &Tables, node: u8) -> Tables {
    let mut to = Connection::open_in_memory().unwrap();
    Backup::new(tables.reader(), &mut to).unwrap().step(-1).unwrap();
    Tables::on(to, Path::new("copy"), &setup(node)).unwrap()
}

/// Everything: what is in the file, and what is believed of it in memory.
pub fn print(tables: &Tables) -> String {
    let mut text = format!("{:?} {:?} {}\n", tables.me(), tables.heads().collect::<Vec<_>>(), {
        tables.latest()
    });
    for table in ["item", "row_version", "op_log", "origin", "parked", "state", "passed", "staged"]
    {
        let mut statement =
            tables.reader().prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<rusqlite::types::Value> =
                (0..columns).map(|at| row.get(at).unwrap()).collect();
            text += &format!("{table} {values:?}\n");
        }
    }
    text
}

/// The tables are what their log says, if it is taken anew from the beginning.
pub fn assert_follows_from_log(tables: &Tables) {
    let mut anew = memory(7);
    let ops = tables.log(0, &Seen::new(), usize::MAX).unwrap().ops;
    // A database that was put back and renamed has its ops in an order in which each can be taken.
    assert_eq!(anew.take(ops.iter().map(|op| op.bytes.as_slice())).unwrap(), ops.len());
    assert_eq!(tables.digests().unwrap(), anew.digests().unwrap());
    assert_eq!(rows(tables), rows(&anew));
    assert_eq!(tables.heads().collect::<Vec<_>>(), anew.heads().collect::<Vec<_>>());
}

pub fn rows(tables: &Tables) -> Vec<(i64, i64, String, i64)> {
    let sql = "SELECT id, one, two, deleted FROM item ORDER BY id";
    let mut statement = tables.reader().prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

pub fn assert_equal(one: &Tables, other: &Tables, what: &str) {
    assert_eq!(one.heads().collect::<Vec<_>>(), other.heads().collect::<Vec<_>>(), "{what}");
    assert_eq!(rows(one), rows(other), "{what}");
    assert_eq!(one.digests().unwrap(), other.digests().unwrap(), "{what}");
    assert_eq!(one.undecided().unwrap(), other.undecided().unwrap(), "{what}");
}

/// What a server does when its exchange asks for it.
fn work(tables: &mut Tables, exchange: &mut Exchange, line: &mut VecDeque<Message>) {
    let new = Origin(tables.me().0 + 1_000);
    while let Some(deed) = exchange.poll(tables, &mut || new).unwrap() {
        match deed {
            Deed::Send(message) => line.push_back(message),
            Deed::Fact(_)
            | Deed::Changed(_)
            | Deed::Renamed
            | Deed::TellClock(_)
            | Deed::Clock(..)
            | Deed::Remake(_)
            | Deed::Checked(_) => {}
        }
    }
}

/// Links two servers until both have everything.
pub fn converge(one: &mut Tables, other: &mut Tables) {
    let mut exchanges = [&*one, &*other].map(Exchange::new);
    let [first, second] = &mut exchanges;
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    first.sync_mut().handle_link_up();
    second.sync_mut().handle_link_up();
    for step in 0.. {
        assert!(step < 10_000, "they never come to an end");
        work(one, first, &mut there);
        work(other, second, &mut back);
        match (there.pop_front(), back.pop_front()) {
            (None, None) => return,
            (there, back) => {
                there.into_iter().for_each(|message| second.sync_mut().handle_message(message));
                back.into_iter().for_each(|message| first.sync_mut().handle_message(message));
            }
        }
    }
}

/// What is in the file after a commit has returned.
pub struct State {
    /// The moments from here on have it.
    pub at: usize,
    pub print: String,
}

/// What was promised, and to whom, from which moment on.
#[derive(Default)]
pub struct Ledger {
    pub states: Vec<State>,
    /// Ops that somebody else has seen.
    pub shown: Vec<(usize, OpId, Chain)>,
    /// Ops that the twin has, in its order.
    pub twin: Vec<(usize, Vec<u8>)>,
}

impl Ledger {
    /// The twin as it was at a moment.
    pub fn twin_at(&self, moment: usize) -> Tables {
        let mut twin = memory(1);
        let ops = self.twin.iter().filter(|(at, _)| *at <= moment);
        twin.take(ops.map(|(_, bytes)| bytes.as_slice())).unwrap();
        twin
    }

    /// The last state that was promised at a moment: there is always one after the file was made.
    pub fn promised_at(&self, moment: usize) -> Option<usize> {
        self.states.iter().rposition(|state| state.at <= moment)
    }
}

/// A rule that the script breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Break {
    Nothing,
    /// `synchronous` is OFF.
    NeverSync,
    /// Ops go to the twin before the commit.
    ShipBeforeCommit,
}

/// One server that writes on a disk, and its twin.
pub struct Script<'a> {
    pub disk: &'a Disk,
    pub tables: Tables,
    pub twin: Tables,
    pub ledger: Ledger,
    rule: Break,
    wall: u64,
    twin_position: i64,
}

impl<'a> Script<'a> {
    pub fn new(disk: &'a Disk, rule: Break) -> Self {
        disk.record();
        let tables = open(disk).unwrap();
        // So that there are checkpoints within so short a script.
        tables.reader().pragma_update(None, "wal_autocheckpoint", 40).unwrap();
        if rule == Break::NeverSync {
            tables.reader().pragma_update(None, "synchronous", "OFF").unwrap();
        }
        let ledger = Ledger::default();
        let twin = memory(1);
        let mut script = Self { disk, tables, twin, ledger, rule, wall: 1_000, twin_position: 0 };
        script.kept();
        script
    }

    fn by(&mut self) -> By {
        self.wall += 10;
        by(self.wall)
    }

    /// A commit has returned.
    fn kept(&mut self) {
        let print = print(&self.tables);
        if self.ledger.states.last().is_none_or(|state| state.print != print) {
            self.ledger.states.push(State { at: self.disk.now(), print });
        }
    }

    /// Changes in one transaction; one that is refused is left out.
    pub fn change(&mut self, statements: &[&str]) {
        let before = self.tables.seen().up_to(self.tables.me());
        let by: Vec<By> = statements.iter().map(|_| self.by()).collect();
        let mut batch = self.tables.begin().unwrap();
        for (sql, by) in statements.iter().zip(&by) {
            match batch.change(by, |connection| connection.execute_batch(sql)) {
                Ok(_) | Err(ChangeError::Refused(_) | ChangeError::Unfit(_)) => {}
                Err(error @ ChangeError::Disk(_)) => panic!("{error}"),
            }
        }
        if self.rule == Break::ShipBeforeCommit {
            let me = setup(0).origin;
            let ops = uncommitted(&batch, before);
            self.twin.take(ops.iter().map(Vec::as_slice)).unwrap();
            let at = self.disk.now();
            let last = OpId { origin: me, number: u64::MAX };
            let chains = self.twin.chains(last, ops.len()).unwrap();
            let shown = chains
                .iter()
                .map(|(number, chain)| (at, OpId { origin: me, number: *number }, *chain));
            self.ledger.shown.extend(shown);
            let page = self.twin.log(self.twin_position, &Seen::new(), usize::MAX).unwrap();
            self.twin_position = page.next;
            self.ledger.twin.extend(page.ops.into_iter().map(|op| (at, op.bytes)));
        }
        batch.commit().unwrap();
        self.kept();
    }

    pub fn twin_change(&mut self, sql: &str) {
        let by = self.by();
        self.twin.change(&by, |connection| connection.execute_batch(sql)).unwrap();
    }

    /// Everything goes both ways.
    pub fn exchange(&mut self) {
        let at = self.disk.now();
        self.ledger.shown.extend(self.tables.heads().map(|(id, chain)| (at, id, chain)));
        converge(&mut self.tables, &mut self.twin);
        self.kept();
        self.note_twin();
    }

    /// What the twin has now, it has from this moment on.
    fn note_twin(&mut self) {
        let page = self.twin.log(self.twin_position, &Seen::new(), usize::MAX).unwrap();
        let at = self.disk.now();
        self.twin_position = page.next;
        self.ledger.twin.extend(page.ops.into_iter().map(|op| (at, op.bytes)));
    }

    /// Decides every conflict for what lost.
    pub fn decide(&mut self) {
        let undecided = self.tables.undecided().unwrap();
        assert!(!undecided.is_empty());
        let by = self.by();
        let mut batch = self.tables.begin().unwrap();
        for row in &undecided {
            batch.decide(&by, row, &row.losers[0].value).unwrap();
        }
        batch.commit().unwrap();
        self.kept();
    }

    /// The twin has got ops of ours that we do not know any more, and we have written since.
    pub fn put_back(&mut self) {
        let mut life = copy(&self.tables, 0);
        for n in 0..2 {
            let by = self.by();
            let sql = format!("UPDATE item SET one = {n} + 700 WHERE id = 1");
            life.change(&by, |connection| connection.execute_batch(&sql)).unwrap();
        }
        converge(&mut life, &mut self.twin);
        self.note_twin();
        self.change(&["UPDATE item SET one = 800 WHERE id = 1"]);
        self.change(&["INSERT INTO item (id, one) VALUES (90, 1)", "UPDATE item SET two = 'z'"]);
        let old = self.tables.me();
        let last = OpId { origin: old, number: u64::MAX };
        let theirs = self.twin.chains(last, CHAINS_MAX).unwrap();
        assert_eq!(self.tables.rename(&theirs, Origin(1_001)).unwrap(), 3);
        self.kept();
    }

    /// All of it.
    pub fn run(&mut self) {
        let long = format!("UPDATE item SET two = '{}' WHERE id = 2", "long ".repeat(3_000));
        self.change(&["INSERT INTO item (id, one) VALUES (1, 1), (2, 2), (3, 3)"]);
        self.change(&[
            "UPDATE item SET one = one + 10",
            "UPDATE item SET two = 'two' WHERE id = 1",
        ]);
        self.exchange();
        self.change(&[
            "INSERT INTO item (id, one) VALUES (4, 4)",
            "INSERT INTO item (id, one) VALUES (4, 5)",
            "DELETE FROM item",
            "UPDATE item SET deleted = 1 WHERE id = 3",
        ]);
        self.change(&[&long]);
        self.exchange();
        self.twin_change("UPDATE item SET one = 50 WHERE id < 3");
        self.twin_change("INSERT INTO item (id, one, two) VALUES (20, 1, 'twin'), (21, 1, 'twin')");
        self.change(&["UPDATE item SET one = 60, two = 'mine' WHERE id < 3"]);
        self.exchange();
        self.decide();
        self.exchange();
        if self.rule == Break::Nothing {
            self.put_back();
            self.exchange();
        }
        for n in 0..4 {
            let sql = format!("INSERT INTO item (id, one) VALUES ({n} + 30, {n})");
            self.change(&[&sql, "UPDATE item SET one = one + 1 WHERE id = 1"]);
            if n % 2 == 1 {
                self.exchange();
            }
        }
    }
}

/// Our ops after this number, of which nobody knows yet whether they will be.
fn uncommitted(batch: &Batch<'_>, after: u64) -> Vec<Vec<u8>> {
    let sql = "SELECT body FROM op_log WHERE origin = 1 AND number > ? ORDER BY number";
    let mut statement = batch.reader().prepare(sql).unwrap();
    let after = i64::try_from(after).unwrap();
    statement.query_map([after], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}
