//! The replication lag: from "on the disk of the one machine" to "on the disk of the other".
//!
//! Changes of the configuration are ordered as administrators do; call records come from calls. Each kind
//! now and then, many a second, and many a second while a fifth of all packets between the two machines
//! is lost in each direction.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use tandem::demo::place::FIRST_PHONE;
use tandem::demo::report::Report;
use tandem::demo::space::Space;
use tandem::demo::twins::Serving;
use tandem::demo::wait;

use super::observe::{Lags, Observer, Sight};
use super::{LAG_AIM_MS, Plan, changes, note};
use crate::calls::{Calls, People, Rhythm};
use crate::calm::{lose, lose_nothing, lost};
use crate::meter::Meter;
use crate::stage::{CALLERS, PROTECTED_LIMIT, Stage};
use crate::table::Table;

/// Changes and calls a second where there are few.
const FEW: usize = 10;

/// Calls a second where there are many.
const CALLS: usize = 100;

/// Part of the packets that is lost.
pub(super) const LOSS: f64 = 0.2;

/// Who is changed: enough that no two commands in a row are about the same one.
const USERS: usize = 100;

/// So long after the last change everything has arrived.
pub(super) const ARRIVAL: Duration = Duration::from_secs(3);

/// What is going on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Weather {
    Few,
    Many,
    Lossy,
}

pub(super) fn run(plan: &Plan, report: &mut Report, table: &mut Table) -> Result<()> {
    let (mut stage, serving) = Stage::new()?;
    let measured = measure(plan, &mut stage, &serving, report, table);
    if measured.is_err() && !wait::asked_to_stop() {
        stage.folder.keep();
    }
    measured.with_context(|| format!("logs are in {}", stage.folder.path().display()))
}

fn measure(
    plan: &Plan,
    stage: &mut Stage,
    serving: &Serving,
    report: &mut Report,
    table: &mut Table,
) -> Result<()> {
    let time = Duration::from_secs(plan.seconds);
    let users: Vec<String> = stage
        .add_users(serving, "changed", 5_000, USERS)?
        .into_iter()
        .map(|user| user.name)
        .collect();
    let people = People::log_in(stage, serving)?;
    for weather in [Weather::Few, Weather::Many, Weather::Lossy] {
        let spaces = between(stage)?;
        if weather == Weather::Lossy {
            lose_between(stage, &spaces)?;
        }
        let per_second = if weather == Weather::Few { FEW } else { plan.rate };
        let observer = Observer::start(&ops(stage, serving, 0)?, &ops(stage, serving, 1)?)?;
        let socket = stage.twins.machines[serving.index].config.server_socket();
        let answers = changes::make(&socket, &users, per_second, time)?;
        wait::pass("the last changes", ARRIVAL)?;
        let lags = observer.finish()?;
        let what = match weather {
            Weather::Few => format!("configuration, {FEW} changes a second"),
            Weather::Many => format!("configuration, {per_second} changes a second"),
            Weather::Lossy => format!("configuration, {per_second} a second, 20 % loss"),
        };
        note(table, &what, "tandem", &lags);
        note(table, &format!("{what}: until answered"), "tandem", &answers);
        let p99 = lags.at(0.99);
        match weather {
            Weather::Few => report.check(&what, lags.count() > 0, &lags.words()),
            Weather::Many => {
                let name = format!("{what}: p99 of {LAG_AIM_MS} ms at most");
                // Fewer changes a second than wanted are another thing than was measured.
                let enough = lags.count() as f64 >= 0.9 * per_second as f64 * time.as_secs_f64();
                report.check(&name, p99 <= LAG_AIM_MS && enough, &lags.words());
            }
            Weather::Lossy => was_lost(report, &what, &lags, &spaces)?,
        }
        let what = records(stage, serving, &people, weather, time, report, table)?;
        if weather == Weather::Lossy {
            spaces.iter().try_for_each(lose_nothing)?;
        }
        report.check(&format!("{what}: the role stayed"), stays(stage, serving)?, "");
    }
    Ok(())
}

fn stays(stage: &mut Stage, serving: &Serving) -> Result<bool> {
    let now = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    Ok((now.index, now.pid) == (serving.index, serving.pid))
}

fn was_lost(report: &mut Report, what: &str, lags: &Lags, spaces: &[Space]) -> Result<()> {
    let seen = spaces.iter().map(lost).collect::<Result<Vec<_>>>()?;
    let words: Vec<_> = seen.iter().map(|(came, lost)| format!("{lost} of {came}")).collect();
    let real = seen.iter().all(|(came, lost)| {
        // Counts are far below 2^52.
        *lost > 0 && (*lost as f64 / *came as f64 - LOSS).abs() < LOSS / 4.0
    });
    report.check(what, real, &format!("{}; lost {}", lags.words(), words.join(", ")));
    Ok(())
}

/// The lag of call records; what that was.
fn records(
    stage: &mut Stage,
    serving: &Serving,
    people: &People,
    weather: Weather,
    time: Duration,
    report: &mut Report,
    table: &mut Table,
) -> Result<String> {
    let [here, there] = [serving.index, 1 - serving.index]
        .map(|index| Sight::records(&stage.twins.machines[index].config.state));
    let what = match weather {
        Weather::Few => {
            one_by_one(stage, people, 1)?;
            format!("call records, {FEW} calls a second")
        }
        Weather::Many => format!("call records, {CALLS} calls a second"),
        Weather::Lossy => format!("call records, {CALLS} a second, 20 % loss"),
    };
    let observer = Observer::start(&here, &there)?;
    match weather {
        Weather::Few => one_by_one(stage, people, usize::try_from(time.as_secs())? * FEW)?,
        Weather::Many | Weather::Lossy => {
            let rhythm = Rhythm {
                rate: CALLS,
                calls: Some(CALLS * usize::try_from(time.as_secs())?),
                ringing: Duration::from_millis(100),
                talking: Duration::from_millis(100),
            };
            let outcome = Calls::begin(stage, people, rhythm)?.finish()?;
            let good = outcome.callers.failed == 0 && outcome.callers.good > 0;
            let words = format!("{} good {}", outcome.callers.good, outcome.errors);
            report.check(&format!("{what}: every call was good"), good, &words);
        }
    }
    wait::pass("the last records", ARRIVAL)?;
    let lags = observer.entries()?;
    note(table, &what, "tandem", &lags);
    report.check(&what, true, &lags.words());
    Ok(what)
}

/// Calls at their rhythm, by two phones of the lab's own.
fn one_by_one(stage: &Stage, people: &People, calls: usize) -> Result<()> {
    let (space, address) = (stage.place.space(CALLERS), stage.place.address(FIRST_PHONE));
    let server = stage.twins.virtual_address;
    let pair = [people.callers[0].clone(), people.called[0].clone()];
    let mut meter = Meter::new(space.as_ref(), address, server, pair)?;
    meter.log_in()?;
    let mut next = Instant::now();
    for _ in 0..calls {
        wait::pass("the next call", next.saturating_duration_since(Instant::now()))?;
        meter.call()?;
        next += Duration::from_secs(1) / u32::try_from(FEW)?;
    }
    Ok(())
}

/// Where the changes made on the serving machine are looked for: 0: there itself, 1: on the other one.
fn ops(stage: &Stage, serving: &Serving, other: usize) -> Result<Sight> {
    let state = |index: usize| stage.twins.machines[index].config.state.as_path();
    let origin = me(state(serving.index))?;
    Ok(Sight::ops(state((serving.index + other) % 2), origin))
}

/// Under which name the server of this folder writes.
pub(super) fn me(folder: &Path) -> Result<i64> {
    let path = folder.join(tandem_config::FILE_NAME);
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT value FROM state WHERE name = 'me'";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// The spaces of the two machines.
fn between(stage: &Stage) -> Result<[Space; 2]> {
    let network = stage.network()?;
    Ok(["master", "standby"].map(|name| network.space(name)))
}

/// Lets packets of each machine get lost on their way into the other.
fn lose_between(stage: &Stage, spaces: &[Space; 2]) -> Result<()> {
    for (index, space) in spaces.iter().enumerate() {
        let other = &stage.twins.machines[1 - index].config.address;
        let other = other.first().context("no own address")?.to_string();
        lose(space, &["-s", &other], LOSS)?;
    }
    ensure!(spaces.len() == 2, "both directions");
    Ok(())
}
