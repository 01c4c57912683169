//! A machine that was away for a day gets what was changed meanwhile: over the real link, onto its disk; and
//! what callers notice of it at the machine that sends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem::demo::place::{CLIENT, CLIENT_NAME};
use tandem::demo::probe::{Asked, Probe};
use tandem::demo::report::Report;
use tandem::demo::wait;
use tandem_types::Seat;

use super::empty::PAUSE_MAX;
use super::lag::me;
use super::observe::{Lags, Observer, Sight};
use super::{CATCH_UP_AIM, Plan, fill, rate};
use crate::ordeal::millis;
use crate::stage::{PROTECTED_LIMIT, Stage};

/// Users whose names are changed again and again.
const USERS: usize = 1_000;

/// When to give up waiting.
const LIMIT: Duration = Duration::from_secs(600);

/// Requests are asked so long before the catch-up.
const BEFORE: Duration = Duration::from_secs(8);

pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut stage = Stage::prepared(|stage| {
        let config = &stage.twins.machines[0].config;
        fill::users(&config.state, &config.realm, "user", 5_000, USERS).map(drop)
    })?;
    let measured = measure(plan, &mut stage, report);
    if measured.is_err() && !wait::asked_to_stop() {
        stage.folder.keep();
    }
    measured.with_context(|| format!("logs are in {}", stage.folder.path().display()))
}

fn measure(plan: &Plan, stage: &mut Stage, report: &mut Report) -> Result<()> {
    let [here, there] = [0, 1].map(|index| stage.twins.machines[index].config.state.clone());
    let origin = me(&here)?;
    let sights = [Sight::ops(&here, origin), Sight::ops(&there, origin)];
    stage.twins.start()?;
    stage.twins.wait_protected(PROTECTED_LIMIT)?;
    wait_equal(&sights)?;
    [1, 0].into_iter().for_each(|index| stage.twins.stop_keeper(index));

    let mut tables = fill::tables(&here, Seat::Master)?;
    let filled = fill::changes(&mut tables, plan.ops)?;
    drop(tables);
    stage.twins.start_keeper(0)?;
    wait::until("a server that serves alone", PROTECTED_LIMIT, || stage.twins.serving())?;
    let client = stage.place.space(CLIENT_NAME);
    let address = stage.place.address(CLIENT);
    let probe = Probe::start(client.as_ref(), address, stage.twins.virtual_address)?;
    wait::pass("requests with nothing beside them", BEFORE)?;
    let observer = Observer::start(&sights[0], &sights[1])?;
    let begun = Instant::now();
    stage.twins.start_keeper(1)?;
    wait_equal(&sights)?;
    let (first, last, count) = observer.arrivals()?;
    let took = last.duration_since(first);
    let seconds = took.as_secs_f64();
    let per_second = rate(count, seconds).round();
    let text = format!(
        "{count} changes in {seconds:.1} s, {:.1} s from the start of the machine; made in {filled:.1?}",
        last.duration_since(begun).as_secs_f64()
    );
    let asked = probe.finish()?;
    let before = begun.checked_sub(took).unwrap_or(begun);
    answers(&asked, before, begun, "before", report)?;
    answers(&asked, first, last, "meanwhile", report)?;
    // The first step is not in the count of the time, so it must be a small part.
    ensure!(count >= plan.ops, "{count} of {} changes arrived", plan.ops);
    report.figure("a machine that was away catches up", per_second, "a second", &text);
    let aim = format!("{CATCH_UP_AIM} changes a second are caught up");
    report.check(&aim, per_second >= CATCH_UP_AIM, &text);
    stage.twins.wait_protected(PROTECTED_LIMIT)?;
    [1, 0].into_iter().for_each(|index| stage.twins.stop_keeper(index));
    let (one, two) = (fill::tables(&here, Seat::Master)?, fill::tables(&there, Seat::Standby)?);
    let equal = one.digests()? == two.digests()? && one.seen() == two.seen();
    report.check("both have the same configuration then", equal, "");
    Ok(())
}

/// How soon what was asked within this time was answered; all of it is, and in time.
fn answers(
    asked: &[Asked],
    from: Instant,
    to: Instant,
    when: &str,
    report: &mut Report,
) -> Result<()> {
    let is_within = |one: &&Asked| (from..to).contains(&one.at);
    let within: Vec<&Asked> = asked.iter().filter(is_within).collect();
    let answered = within.iter().filter_map(|one| Some(millis(one.answer?.0 - one.at)));
    let lags = Lags::of(answered.collect(), 0.0)?;
    let lost = within.len() - lags.count();
    let text = format!("{}; {lost} lost", lags.words());
    report.figure(&format!("OPTIONS to 200, {when}"), lags.at(0.5), "ms", &text);
    let held = lost == 0 && lags.at(1.0) <= millis(PAUSE_MAX);
    report.check(&format!("callers are answered {when}"), held, &text);
    Ok(())
}

fn wait_equal(sights: &[Sight; 2]) -> Result<()> {
    wait::until("the same on both machines", LIMIT, || {
        let [here, there] = [sights[0].look()?, sights[1].look()?];
        Ok((here == there).then_some(()))
    })
}
