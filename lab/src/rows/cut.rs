//! Wires that are cut: between the two, in one direction, all of one machine's, and on and off.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tandem::demo::place::CLIENT;
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, on_pair, reigns, stayed, went_over};
use super::wires::{Cut, cut, unplug};
use super::{Row, quick, row};

/// How long a cut lasts in which nothing should happen.
const CUT: Duration = Duration::from_secs(2);

/// A wire that flaps: so often, down and up for so long.
const FLAPS: usize = 20;
const DOWN: Duration = Duration::from_millis(50);
const UP: Duration = Duration::from_millis(150);

/// Somebody on the phones' network who answers to ARP: the machine of the client.
const GATEWAY: &str = "gateway = \"10.87.0.31\"\n";

pub(super) const ROWS: &[Row] = &[
    quick(row(
        "cut-between",
        "phones reach both: still one serves, healing switches nothing",
        || quiet(&[(0, Cut::Twin), (1, Cut::Twin)]),
    )),
    row(
        "cut-heartbeats-of-active",
        "its heartbeats are lost, the link is not: nothing happens",
        || quiet(&[(0, Cut::HeartbeatsOut)]),
    ),
    row(
        "cut-heartbeats-of-passive",
        "its heartbeats are lost, the link is not: nothing happens",
        || quiet(&[(1, Cut::HeartbeatsOut)]),
    ),
    row("cut-link", "the journal link is cut, heartbeats are not: nothing happens", || {
        quiet(&[(0, Cut::Link)])
    }),
    quick(row(
        "isolated-active",
        "it stops by itself, the twin serves, healing switches nothing",
        isolated_active,
    )),
    row("isolated-passive", "the active goes on, healing switches nothing", isolated_passive),
    row("flapping", "a wire goes down and up 20 times: at most one switch", flapping),
];

/// Cuts at these machines (the master, 0, serves) that must not move the role.
fn quiet(cuts: &[(usize, Cut)]) -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        ensure!(before.index == 0, "the master does not serve");
        let watch = ground.watch()?;
        ground.calm()?;
        for (index, what) in cuts {
            cut(&ground.stage, *index, *what, true)?;
        }
        // That the cut is there shows at one of the two: it does not hear the twin, or is unprotected.
        let seen = wait::until("the cut", LIMIT, || {
            let [master, standby] = [ground.status(0)?, ground.status(1)?];
            let deaf = [&master, &standby].map(|one| !one.twin.as_ref().is_some_and(|t| t.heard));
            let noticed = deaf != [false, false] || !master.protected;
            Ok(noticed.then_some((deaf, master.protected)))
        })?;
        wait::pass("the cut", CUT)?;
        let between = [ground.status(0)?, ground.status(1)?].map(|status| status.state.to_string());
        for (index, what) in cuts {
            cut(&ground.stage, *index, *what, false)?;
        }
        let (after, watched) = ground.settle(watch)?;
        stayed(before, &after)?;
        watched.one_served()?;
        let ([master, standby], protected) = seen;
        let deaf = format!("deaf: master {master}, standby {standby}; protected {protected}");
        Ok(format!("{deaf}; then {}; {}", between.join(" and "), watched.none_lost()?))
    })
}

fn isolated_active() -> Result<String> {
    let plan = Plan { lines: GATEWAY, ..Plan::default() };
    on_pair(plan, |ground, before| {
        ensure!(GATEWAY.contains(&ground.stage.place.address(CLIENT).to_string()), "wrong gateway");
        let watch = ground.watch()?;
        ground.calm()?;
        let index = before.index;
        unplug(&ground.stage, index, true)?;
        let cut_at = Instant::now();
        let status = wait::until("the isolated machine to stop serving", LIMIT, || {
            let status = ground.status(index)?;
            let serves = status.server.as_ref().is_some_and(|server| server.what.serving);
            Ok((!serves).then_some(status))
        })?;
        let stopped = cut_at.elapsed();
        let now = ground.stage.twins.wait_takeover(index, LIMIT)?;
        wait::pass("the isolation", CUT)?;
        let still = ground.status(index)?;
        ensure!(still.carrier && still.role != now.status.role, "it is {}", still.state);
        unplug(&ground.stage, index, false)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        stayed(&now, &after)?;
        let both = seen.both();
        let outage = seen.outage().unwrap_or_default().as_millis();
        Ok(format!(
            "stopped after {} ms ({}); longest silence {outage} ms; both, apart from each other: {both} \
             requests",
            stopped.as_millis(),
            status.why
        ))
    })
}

fn isolated_passive() -> Result<String> {
    let plan = Plan { lines: GATEWAY, ..Plan::default() };
    on_pair(plan, |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        let passive = 1 - before.index;
        unplug(&ground.stage, passive, true)?;
        wait::pass("the isolation", CUT)?;
        let state = ground.status(passive)?.state;
        unplug(&ground.stage, passive, false)?;
        let (after, seen) = ground.settle(watch)?;
        ensure!(after.index == before.index, "healing moved the role");
        let both = seen.both();
        let text = seen.none_lost()?;
        Ok(format!(
            "it was {state} meanwhile; both, apart from each other: {both} requests; {} new reigns; {text}",
            reigns(before, &after)
        ))
    })
}

fn flapping() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        let host = ground.stage.twins.machines[before.index].seat.to_string();
        for _ in 0..FLAPS {
            ground.stage.network()?.set_link(&host, false)?;
            wait::pass("the wire to be down", DOWN)?;
            ground.stage.network()?.set_link(&host, true)?;
            wait::pass("the wire to be up", UP)?;
        }
        let (after, seen) = ground.settle(watch)?;
        let one = seen.one_served()?;
        let switches = seen.switches();
        ensure!(switches <= 1, "{switches} switches; {one}");
        Ok(format!("{switches} switches, {} new reigns; {one}", reigns(before, &after)))
    })
}
