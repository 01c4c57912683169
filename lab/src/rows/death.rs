//! Machines, servers and keepers that die.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tandem::demo::child::signal;
use tandem::demo::twins::Serving;
use tandem::demo::wait;

use super::ground::{Ground, LIMIT, Plan, on_pair, stayed, went_over};
use super::wires::has_virtual;
use super::{Row, quick, row};

/// The address of a dead keeper lapses within this, as the guide promises.
const LAPSE_LIMIT: Duration = Duration::from_secs(2);

/// How long the crash loop may take.
const LOOP_LIMIT: Duration = Duration::from_secs(30);

pub(super) const ROWS: &[Row] = &[
    quick(row("machine-dead", "the twin takes over and keeps the role", machine_dead)),
    quick(row("server-crash", "its keeper tells the twin, which takes over", server_crash)),
    row("server-hang", "its keeper kills it, and the twin takes over", server_hang),
    row("server-crash-loop", "it rests after too many crashes; the twin serves on", crash_loop),
    quick(row("keeper-dead", "the twin takes over; the address leaves the machine", keeper_dead)),
    quick(row("passive-dead", "the active goes on unprotected, and no call waits", passive_dead)),
];

/// A fault of the active machine that is undone once the twin serves.
fn takeover(
    fault: impl Fn(&mut Ground, &Serving) -> Result<()>,
    undo: impl Fn(&mut Ground, &Serving) -> Result<()>,
) -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        fault(ground, before)?;
        ground.stage.twins.wait_takeover(before.index, LIMIT)?;
        ground.calm()?;
        undo(ground, before)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        seen.one_served()
    })
}

fn machine_dead() -> Result<String> {
    let set = |up: bool| {
        move |ground: &mut Ground, before: &Serving| {
            let host = ground.stage.twins.machines[before.index].seat.to_string();
            ground.stage.network()?.set_link(&host, up)
        }
    };
    takeover(set(false), set(true))
}

fn server_crash() -> Result<String> {
    takeover(|_, before| signal(before.pid, Signal::KILL), |_, _| Ok(()))
}

fn server_hang() -> Result<String> {
    takeover(|_, before| signal(before.pid, Signal::STOP), |_, _| Ok(()))
}

fn keeper_dead() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        ensure!(has_virtual(&ground.stage, before.index)?, "the address was never there");
        // Its server dies with it here; what remains is what the kernel holds: the address.
        ground.stage.twins.kill_keeper(before.index)?;
        let killed = Instant::now();
        ground.stage.twins.wait_takeover(before.index, LIMIT)?;
        wait::until("the end of the address at the dead machine", LIMIT, || {
            Ok((!has_virtual(&ground.stage, before.index)?).then_some(()))
        })?;
        let lapsed = killed.elapsed();
        ensure!(lapsed <= LAPSE_LIMIT, "the address was there for {} ms", lapsed.as_millis());
        ground.stage.twins.start_keeper(before.index)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        let seen = seen.one_served()?;
        Ok(format!("the address was gone after {} ms; {seen}", lapsed.as_millis()))
    })
}

fn passive_dead() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        let passive = 1 - before.index;
        ground.stage.twins.kill_keeper(passive)?;
        let alone = wait::until("an unprotected server", LIMIT, || {
            let status = ground.status(before.index)?;
            Ok((!status.protected && !status.twin_ready).then_some(status))
        })?;
        ensure!(!alone.is_protected(), "it says that it is protected");
        ground.calm()?;
        ground.stage.twins.start_keeper(passive)?;
        let began = Instant::now();
        let after = ground.protected()?;
        let took = began.elapsed().as_millis();
        ground.calm()?;
        let seen = watch.end()?;
        stayed(before, &after)?;
        seen.one_served()?;
        Ok(format!("protected again {took} ms after its start; {}", seen.none_lost()?))
    })
}

fn crash_loop() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        let broken = before.index;
        let mut kills = 0;
        let mut killed = None;
        let failing = wait::until("a rest of the server that crashes", LOOP_LIMIT, || {
            let status = ground.status(broken)?;
            let server = status.services.into_iter().next().context("no server")?;
            if server.failing {
                return Ok(Some(server));
            }
            if let Some(pid) =
                server.pid.filter(|pid| Some(*pid) != killed && server.up_ms.is_some())
            {
                signal(pid, Signal::KILL)?;
                kills += 1;
                killed = Some(pid);
            }
            Ok(None)
        })?;
        let rest = failing.next_start_ms.context("it does not say when it starts again")?;
        ensure!(kills == 6, "{kills} crashes: expected one more than five");
        ensure!(rest > 25_000, "it rests for {rest} ms only");
        let alone = ground.stage.twins.wait_takeover(broken, LIMIT)?;
        ground.calm()?;
        went_over(before, &alone)?;
        // The rest ends by itself.
        let (after, seen) = ground.settle(watch)?;
        stayed(&alone, &after)?;
        Ok(format!(
            "rested for {:.0} s after {kills} crashes; {}",
            rest as f64 / 1e3,
            seen.one_served()?
        ))
    })
}
