//! Keepers and whole machines that stand still for a while and go on (SIGSTOP, SIGCONT), as virtual
//! machines do that are moved or starved.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tandem::demo::twins::Serving;
use tandem::demo::wait;

use super::ground::{Ground, LIMIT, Plan, Stopped, on_pair, reigns, stayed, went_over};
use super::watch::Seen;
use super::{Row, quick, row};

/// What stands still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Keeper,
    /// Everything of the pair on that machine.
    Machine,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const ROWS: &[Row] = &[
    row("keeper-stalls-0.05s", "nothing happens", || stall(What::Keeper, ms(50))),
    quick(row("keeper-stalls-0.1s", "one serves throughout, at most one switch", || {
        short(What::Keeper, ms(100))
    })),
    quick(row("keeper-stalls-1s", "the twin serves, and it comes back passive", || {
        long(What::Keeper, ms(1_000))
    })),
    row("keeper-stalls-5s", "the twin serves, and it comes back passive", || {
        long(What::Keeper, ms(5_000))
    }),
    row("machine-sleeps-0.05s", "nothing happens", || stall(What::Machine, ms(50))),
    row("machine-sleeps-0.1s", "one serves throughout, at most one switch", || {
        short(What::Machine, ms(100))
    }),
    quick(row("machine-sleeps-0.5s", "the twin serves, and it comes back passive", || {
        long(What::Machine, ms(500))
    })),
    row("machine-sleeps-2s", "the twin serves, and it comes back passive", || {
        long(What::Machine, ms(2_000))
    }),
    row("machine-sleeps-10s", "the twin serves, and it comes back passive", || {
        long(What::Machine, ms(10_000))
    }),
    row("passive-sleeps-2s", "the active goes on, and is protected again", passive_sleeps),
];

fn stop(ground: &mut Ground, index: usize, what: What) -> Result<Stopped> {
    let [keeper, server] = ground.processes(index)?;
    Stopped::begin(match what {
        What::Keeper => vec![keeper],
        What::Machine => vec![keeper, server],
    })
}

/// Shorter than anything that judges.
fn stall(what: What, time: Duration) -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let (after, seen) = stands_still(ground, before, what, time)?;
        stayed(before, &after)?;
        seen.one_served()
    })
}

/// As long as a lease: the keeper must listen before it goes on, and the twin may be faster.
fn short(what: What, time: Duration) -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let (after, seen) = stands_still(ground, before, what, time)?;
        let begun = reigns(before, &after);
        ensure!(begun <= 1, "{begun} new reigns have begun");
        let who =
            if after.index == before.index { "the same one serves" } else { "the twin serves" };
        Ok(format!("{who}, {begun} new reigns; {}", seen.one_served()?))
    })
}

/// Who serves stands still; who serves after that, and what was seen.
fn stands_still(
    ground: &mut Ground,
    before: &Serving,
    what: What,
    time: Duration,
) -> Result<(Serving, Seen)> {
    let watch = ground.watch()?;
    ground.calm()?;
    let stopped = stop(ground, before.index, what)?;
    wait::pass("the stall", time)?;
    drop(stopped);
    ground.calm()?;
    ground.settle(watch)
}

/// Longer than the twin waits.
fn long(what: What, time: Duration) -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        let stopped = stop(ground, before.index, what)?;
        let begun = Instant::now();
        let taken = ground.stage.twins.wait_takeover(before.index, LIMIT)?;
        wait::pass("the sleep", time.saturating_sub(begun.elapsed()))?;
        drop(stopped);
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        stayed(&taken, &after)?;
        seen.one_served()
    })
}

fn passive_sleeps() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        let stopped = stop(ground, 1 - before.index, What::Machine)?;
        wait::until("an unprotected server", LIMIT, || {
            Ok((!ground.status(before.index)?.protected).then_some(()))
        })?;
        wait::pass("the sleep", ms(2_000))?;
        drop(stopped);
        let (after, seen) = ground.settle(watch)?;
        stayed(before, &after)?;
        seen.one_served()?;
        seen.none_lost()
    })
}
