//! A machine that was away for a day gets what was changed meanwhile: over the real link, onto its disk.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tandem::demo::report::Report;
use tandem::demo::wait;
use tandem_types::Seat;

use super::lag::me;
use super::observe::{Observer, Sight};
use super::{CATCH_UP_AIM, Plan, fill, rate};
use crate::stage::{PROTECTED_LIMIT, Stage};

/// Users whose names are changed again and again.
const USERS: usize = 1_000;

/// When to give up waiting.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

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
    let observer = Observer::start(&sights[0], &sights[1])?;
    let begun = Instant::now();
    stage.twins.start()?;
    wait_equal(&sights)?;
    let (first, last, count) = observer.arrivals()?;
    let seconds = last.duration_since(first).as_secs_f64();
    let per_second = rate(count, seconds).round();
    let text = format!(
        "{count} changes in {seconds:.1} s, {:.1} s from the start of both machines; made in {filled:.1?}",
        last.duration_since(begun).as_secs_f64()
    );
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

fn wait_equal(sights: &[Sight; 2]) -> Result<()> {
    wait::until("the same on both machines", LIMIT, || {
        let [here, there] = [sights[0].look()?, sights[1].look()?];
        Ok((here == there).then_some(()))
    })
}
