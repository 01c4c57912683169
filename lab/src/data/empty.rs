//! An empty machine in place of the passive one, with logins and calls up: how long until it could take
//! over without loss, and what phones notice of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use tandem::demo::place::{CLIENT, CLIENT_NAME, FIRST_PHONE};
use tandem::demo::probe::Probe;
use tandem::demo::report::{Report, Spread};
use tandem::demo::twins::Serving;
use tandem::demo::wait;

use super::{EMPTY_AIM_SECONDS, Plan, fill, flood};
use crate::calls::{Calls, People, Rhythm};
use crate::ordeal::millis;
use crate::stage::{PHONES, PROTECTED_LIMIT, Stage};

/// How often the machine is replaced.
const RUNS: usize = 3;

/// Devices of each user: as many as a user may have.
const DEVICES: usize = 2;

/// The client that asks every 10 ms never waits longer for an answer.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Calls a second while they are made, and how long they last.
const CALL_RATE: usize = 50;
const TALKING: Duration = Duration::from_secs(600);

/// All calls are up by then.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut users = Vec::new();
    let mut stage = Stage::prepared(|stage| {
        let config = &stage.twins.machines[0].config;
        let count = plan.logins.div_ceil(DEVICES);
        users = fill::users(&config.state, &config.realm, "phone", 10_000, count)?;
        Ok(())
    })?;
    let measured = measure(plan, &mut stage, &users, report);
    if measured.is_err() && !wait::asked_to_stop() {
        stage.folder.keep();
    }
    measured.with_context(|| format!("logs are in {}", stage.folder.path().display()))
}

fn measure(
    plan: &Plan,
    stage: &mut Stage,
    users: &[crate::stage::User],
    report: &mut Report,
) -> Result<()> {
    stage.twins.start()?;
    let serving = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    let people = People::log_in(stage, &serving)?;
    let (space, address) = (stage.place.space(PHONES), stage.place.address(FIRST_PHONE + 1));
    let server = stage.twins.virtual_address;
    let begun = Instant::now();
    let logins = flood::log_in(space.as_ref(), address, server, users, DEVICES)?;
    let text = format!("{logins} in {:.1?}, each with its challenge", begun.elapsed());
    report.check("phones have logged in", logins >= plan.logins, &text);
    let rhythm = Rhythm {
        rate: CALL_RATE,
        calls: Some(plan.calls),
        ringing: Duration::from_millis(100),
        talking: TALKING,
    };
    let calls = Calls::begin(stage, &people, rhythm)?;
    let up = |stage: &Stage| stage.twins.calls(serving.index);
    wait::until("calls that are up", LIMIT, || {
        let (_, answered) = up(stage)?;
        Ok((answered == plan.calls).then_some(()))
    })?;
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        seconds.push(replace(stage, &serving, report)?);
    }
    let (_, answered) = up(stage)?;
    report.check("all calls are up still", answered == plan.calls, &format!("{answered}"));
    drop(calls);
    let Some(Spread { median, max, count, .. }) = Spread::of(&seconds) else { return Ok(()) };
    let what = format!("empty to protected: {logins} logins, {} calls", plan.calls);
    report.figure(&what, median, "s", &format!("median; max {max:.2} of {count}"));
    let text = format!("{seconds:.2?} s from the start of its keeper");
    report.check(&format!("{what}: {EMPTY_AIM_SECONDS} s"), max <= EMPTY_AIM_SECONDS, &text);
    Ok(())
}

/// An empty machine in place of the passive one; after how many seconds the pair was protected.
fn replace(stage: &mut Stage, serving: &Serving, report: &mut Report) -> Result<f64> {
    let other = 1 - serving.index;
    stage.twins.stop_keeper(other);
    wipe(&stage.twins.machines[other].config.state)?;
    let client = stage.place.space(CLIENT_NAME);
    let address = stage.place.address(CLIENT);
    let probe = Probe::start(client.as_ref(), address, stage.twins.virtual_address)?;
    wait::pass("requests before", Duration::from_millis(500))?;
    let begun = Instant::now();
    stage.twins.start_keeper(other)?;
    let now = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(now.pid == serving.pid, "the role changed");
    wait::pass("requests after", Duration::from_millis(500))?;
    let asked = probe.finish()?;
    let lost = asked.iter().filter(|one| one.answer.is_none()).count();
    let waits = asked.iter().filter_map(|one| one.answer.map(|(at, _)| at - one.at));
    let longest = waits.max().context("nothing was answered")?;
    let held = lost == 0 && longest <= PAUSE_MAX;
    let text = format!(
        "{lost} of {} requests lost, the longest answer took {:.0} ms",
        asked.len(),
        millis(longest)
    );
    report.check("calls go on while an empty machine is brought up to date", held, &text);
    Ok(seconds)
}

/// Nothing of it is left, as on a new machine.
///
/// # Errors
///
/// Something cannot be removed.
pub(super) fn wipe(state: &Path) -> Result<()> {
    let mut removed = 0;
    for entry in std::fs::read_dir(state)? {
        let path = entry?.path();
        let gone = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        gone.map_err(|error| anyhow!("{}: {error}", path.display()))?;
        removed += 1;
    }
    ensure!(removed > 0, "{} was empty before", state.display());
    Ok(())
}
