//! With a witness: never two serve, whatever is cut.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tandem::demo::child::signal;
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, on_pair, reigns, stayed, went_over};
use super::wires::{part, unplug};
use super::{Row, quick, row};

/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(3);

const VOTES: Plan = Plan { lines: "", witness: true };

pub(super) const ROWS: &[Row] = &[
    quick(row("witness-cut", "the two are cut from each other: never two serve", cut_between)),
    row(
        "witness-isolated",
        "the active is cut from all: it stops before the twin serves",
        isolated,
    ),
    row("witness-down", "the pair goes on and takes over without its witness", down),
];

fn cut_between() -> Result<String> {
    on_pair(VOTES, |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        part(&ground.stage, true)?;
        wait::until("silence between the two", LIMIT, || {
            let heard = ground.status(before.index)?.twin.is_some_and(|twin| twin.heard);
            Ok((!heard).then_some(()))
        })?;
        wait::pass("the cut", CUT)?;
        let states = [ground.status(0)?, ground.status(1)?].map(|status| status.state.to_string());
        part(&ground.stage, false)?;
        let (after, seen) = ground.settle(watch)?;
        let text = seen.one_served()?;
        Ok(format!(
            "{} in the cut; {} new reigns; {text}",
            states.join(" and "),
            reigns(before, &after)
        ))
    })
}

fn isolated() -> Result<String> {
    on_pair(VOTES, |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        unplug(&ground.stage, before.index, true)?;
        let now = ground.stage.twins.wait_takeover(before.index, LIMIT)?;
        wait::pass("the isolation", CUT)?;
        unplug(&ground.stage, before.index, false)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        stayed(&now, &after)?;
        seen.one_served()
    })
}

fn down() -> Result<String> {
    on_pair(VOTES, |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        ground.stop_witness();
        wait::pass("the time without a witness", CUT)?;
        let alone = ground.protected()?;
        let seen = watch.end()?;
        stayed(before, &alone)?;
        seen.one_served()?;
        let lost = seen.none_lost()?;
        let watch = ground.watch()?;
        signal(alone.pid, Signal::KILL)?;
        ground.stage.twins.wait_takeover(alone.index, LIMIT)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(&alone, &after)?;
        Ok(format!("without it: {lost}; a takeover: {}", seen.one_served()?))
    })
}
