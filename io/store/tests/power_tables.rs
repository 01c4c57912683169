//! Tables that are killed, and whose machine loses its power, at every write and every sync of a script.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod ground;

use ground::{
    Break, Ground, Ledger, Script, assert_equal, by, converge, disk, memory, open, print,
};
use tandem_faultfs::{Files, Moment};
use tandem_oplog::Staged;
use tandem_store::tables::{Keep, Tables};
use tandem_types::Dice;

/// A script that was run once; every crash is made from its moments.
struct Told {
    ledger: Ledger,
    moments: Vec<Moment>,
}

fn tell(name: &str, rule: Break) -> Told {
    let ground = disk(name, Files::default());
    let mut script = Script::new(&ground.0, rule);
    script.run();
    ground::assert_follows_from_log(&script.tables);
    assert_equal(&script.tables, &script.twin, "the script ends with everything exchanged");
    let Script { ledger, tables, .. } = script;
    drop(tables);
    assert_eq!(ground.0.open(), 0);
    Told { ledger, moments: ground.0.moments() }
}

/// How the process ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    PowerCut,
}

impl End {
    fn files(self, moment: &Moment, seed: u64) -> Files {
        match self {
            Self::Killed => moment.killed(seed),
            Self::PowerCut => moment.power_cut(seed),
        }
    }
}

fn open_in(ground: &Ground) -> Result<Tables, String> {
    open(&ground.0).map_err(|error| error.to_string())
}

impl Told {
    /// What is wrong after this end in this moment.
    fn judge(&self, name: &str, end: End, at: usize, seed: u64) -> Result<(), String> {
        let ground = disk(name, end.files(&self.moments[at], seed));
        ground.0.record();
        let found = open_in(&ground)?;
        self.see(&found, at)?;
        let shown = print(&found);
        // What was seen once stays, although nothing was written since.
        let seen = ground.0.moments().pop().unwrap();
        drop(found);
        // And a second crash in the middle of opening takes no more than the first one.
        let moments = ground.0.moments();
        let mut dice = Dice::from_number(seed);
        let second = &moments[usize::try_from(dice.below(moments.len() as u64)).unwrap()];
        let again = disk(&format!("{name}-again"), end.files(second, seed));
        self.see(&open_in(&again)?, at)?;
        drop(again);
        let ground = disk(&format!("{name}-seen"), seen.power_cut(seed));
        let mut tables = open_in(&ground)?;
        if print(&tables) != shown {
            return Err("what was seen after the start was not durable".to_owned());
        }
        self.go_on(&mut tables, at)
    }

    /// Everything that was promised is there, and of what comes next all or nothing.
    fn see(&self, tables: &Tables, at: usize) -> Result<(), String> {
        let found = print(tables);
        let promised = self.ledger.promised_at(at);
        let next = promised.map_or(0, |promised| promised + 1);
        let may: Vec<&str> = promised
            .into_iter()
            .chain([next])
            .filter_map(|state| Some(self.ledger.states.get(state)?.print.as_str()))
            .collect();
        if may.contains(&found.as_str()) {
            let sql = "PRAGMA integrity_check(1)";
            let verdict: String =
                tables.reader().query_row(sql, [], |row| row.get(0)).map_err(|e| e.to_string())?;
            return if verdict == "ok" { Ok(()) } else { Err(verdict) };
        }
        match self.ledger.states.iter().position(|state| state.print == found) {
            Some(state) => Err(format!("state {state} is there, {promised:?} was promised")),
            None => Err(format!("a part of a transaction is there, {promised:?} was promised")),
        }
    }

    /// It writes alone, then meets its twin: no number was given twice, and both end equal.
    fn go_on(&self, tables: &mut Tables, at: usize) -> Result<(), String> {
        let sql = "INSERT INTO item (id, one) VALUES (500, 1)";
        tables.change(&by(100_000), |c| c.execute_batch(sql)).map_err(|e| e.to_string())?;
        let shown = || self.ledger.shown.iter().filter(|(from, ..)| *from <= at);
        for (_, id, chain) in shown() {
            let here = tables.chain_at(*id).unwrap();
            if here.is_some_and(|here| here != *chain) {
                return Err(format!("{id} was given twice"));
            }
        }
        let mut twin = self.ledger.twin_at(at);
        converge(tables, &mut twin);
        assert_equal(tables, &twin, &format!("after {at}"));
        for (_, id, chain) in shown() {
            if tables.chain_at(*id).unwrap() != Some(*chain) {
                return Err(format!("{id} is lost"));
            }
        }
        Ok(())
    }

    /// Every moment: how many, and what was wrong first.
    fn judge_all(&self, name: &str, end: End, seeds: u64) -> (usize, Vec<String>) {
        let mut wrong = Vec::new();
        for at in 0..self.moments.len() {
            for seed in 0..seeds {
                let seed = at as u64 * 100 + seed;
                if let Err(what) = self.judge(name, end, at, seed) {
                    wrong.push(format!("{end:?} in {at}, seed {seed}: {what}"));
                }
            }
        }
        (self.moments.len(), wrong)
    }
}

#[test]
fn after_kill_9_at_any_step_what_was_committed_is_there_and_nothing_is_half_there() {
    let told = tell("kill", Break::Nothing);
    let (count, wrong) = told.judge_all("killed", End::Killed, 1);
    assert!(wrong.is_empty(), "{} of {count}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(count > 200 && told.ledger.states.len() > 15, "{count} {}", told.ledger.states.len());
    println!("{count} moments, {} states", told.ledger.states.len());
}

#[test]
fn after_a_power_cut_at_any_step_too() {
    let told = tell("cut", Break::Nothing);
    let (count, wrong) = told.judge_all("cut-off", End::PowerCut, 2);
    assert!(wrong.is_empty(), "{} of {count}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(count > 200);
}

#[test]
fn who_never_syncs_is_caught() {
    let told = tell("never", Break::NeverSync);
    let (count, wrong) = told.judge_all("never-cut", End::PowerCut, 1);
    assert!(wrong.len() > 20, "{} of {count}", wrong.len());
}

#[test]
fn who_ships_before_the_commit_is_caught() {
    let told = tell("early", Break::ShipBeforeCommit);
    let (_, wrong) = told.judge_all("early-kill", End::Killed, 1);
    assert!(wrong.iter().any(|what| what.ends_with("given twice")), "{wrong:#?}");
}

#[test]
fn a_copy_that_is_joined_while_the_power_goes_is_joined_or_not_and_can_be_joined_then() {
    let mut from = memory(1);
    for number in 0..40 {
        let sql = format!("INSERT INTO item (id, one) VALUES ({number}, {number})");
        from.change(&by(2_000 + number), |c| c.execute_batch(&sql)).unwrap();
    }
    let keep = Keep { millis: 1, ops: u64::MAX, both_millis: 1, alone_millis: 30 };
    assert_eq!(from.shorten(2_050, None, &keep).unwrap(), 20);
    let ground = disk("join", Files::default());
    let mut tables = open(&ground.0).unwrap();
    let sql = "INSERT INTO item (id, one) VALUES (7, 70), (99, 9)";
    tables.change(&by(1_000), |c| c.execute_batch(sql)).unwrap();
    let mut copy = from.copy(Staged::default()).unwrap();
    tables.stage_begin(copy.header(), &copy.told()).unwrap();
    while let Some(part) = copy.read().unwrap() {
        tables.stage(&part).unwrap();
    }
    let before = print(&tables);
    ground.0.record();
    assert_eq!(tables.join().unwrap().len(), 40);
    let after = print(&tables);
    assert_eq!(tables.faults().unwrap(), Vec::<String>::new());
    drop(tables);
    let (mut joined, moments) = (0, ground.0.moments());
    for (at, moment) in moments.iter().enumerate() {
        for end in [End::Killed, End::PowerCut] {
            let ground = disk("join-again", end.files(moment, at as u64));
            let mut tables = open(&ground.0).unwrap();
            let found = print(&tables);
            assert!(found == before || found == after, "{end:?} in {at}: a part of it is there");
            if found == before {
                tables.join().unwrap();
                assert_eq!(print(&tables), after, "{end:?} in {at}");
            } else {
                joined += 1;
            }
        }
    }
    assert!(moments.len() > 5 && (1..moments.len() * 2 - 1).contains(&joined), "{joined}");
}
