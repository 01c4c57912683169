//! With a third voter, a witness or an etcd: never two serve, whatever is cut.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tandem::demo::child::signal;
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, Third, on_pair, reigns, stayed, went_over};
use super::wires::{part, unplug};
use super::{Row, quick, row};

/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(3);

const WITNESS: Plan = Plan { lines: "", third: Third::Witness };
const ETCD: Plan = Plan { lines: "", third: Third::Etcd };

pub(super) const ROWS: &[Row] = &[
    quick(row("witness-cut", "the two are cut from each other: never two serve", || {
        cut_between(WITNESS)
    })),
    row("witness-isolated", "the active is cut from all: it stops before the twin serves", || {
        isolated(WITNESS)
    }),
    row("witness-down", "the pair goes on and takes over without its witness", || down(WITNESS)),
    quick(row("etcd-cut", "the two are cut from each other: never two serve", || {
        cut_between(ETCD)
    })),
    row("etcd-isolated", "the active is cut from all: it stops before the twin serves", || {
        isolated(ETCD)
    }),
    row("etcd-down", "the pair goes on and takes over without its etcd", || down(ETCD)),
];

fn cut_between(plan: Plan) -> Result<String> {
    on_pair(plan, |ground, before| {
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

fn isolated(plan: Plan) -> Result<String> {
    on_pair(plan, |ground, before| {
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

fn down(plan: Plan) -> Result<String> {
    on_pair(plan, |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        ground.stop_third();
        wait::pass("the time without a third voter", CUT)?;
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
