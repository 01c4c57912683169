//! What an administrator orders and what must outlive a takeover: the lock, blocks. And a program beside
//! the server that crashes again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tandem::demo::child::signal;
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, on_pair, stayed, went_over};
use super::{Row, quick, row};
use crate::calls::{People, log_in};

/// A program that fails at once.
const BROKEN: &str = "[[service]]\nname = \"broken\"\ncommand = [\"/bin/false\"]\n";

pub(super) const ROWS: &[Row] = &[
    quick(row("lock", "a locked machine does not take over, also after its restart", lock)),
    row("lock-for", "a lock ends by itself", lock_for),
    quick(row("blocks", "blocks of logins and calls outlive a takeover", blocks)),
    row("service-crash-loop", "a program beside the server crashes: no role changes", service_loop),
];

fn lock() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        let (active, passive) = (before.index, 1 - before.index);
        ground.tandem(passive, &["lock", "on"])?;
        ground.stage.twins.kill_keeper(passive)?;
        ground.stage.twins.start_keeper(passive)?;
        let locked = wait::until("the locked machine", LIMIT, || {
            Ok(ground.stage.twins.status(passive)?.filter(|status| status.server.is_some()))
        })?;
        ensure!(locked.locked, "the lock has not outlived the keeper");
        wait::until("its being in sync", LIMIT, || {
            let status = ground.status(active)?;
            Ok(status.protected.then_some(()))
        })?;
        signal(ground.server(active)?, Signal::KILL)?;
        // Nobody else may: the server that died comes back.
        let again = wait::until("the server that died", LIMIT, || {
            Ok(ground.stage.twins.serving()?.filter(|now| now.pid != before.pid))
        })?;
        ensure!(again.index == active, "the locked machine took over");
        ground.calm()?;
        ensure!(ground.status(passive)?.role != again.status.role, "the locked machine serves");
        ground.tandem(passive, &["lock", "off"])?;
        let ready = ground.protected()?;
        signal(ready.pid, Signal::KILL)?;
        ground.stage.twins.wait_takeover(active, LIMIT)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(&ready, &after)?;
        seen.one_served()
    })
}

fn lock_for() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let passive = 1 - before.index;
        ground.tandem(passive, &["lock", "on", "--for", "2s"])?;
        let status = ground.status(passive)?;
        let left = status.lock_left_ms.unwrap_or_default();
        ensure!(status.locked && (1..=2_000).contains(&left), "{left} ms are left of 2 s");
        wait::until("the lock to be seen by the twin", LIMIT, || {
            let seen = ground.status(before.index)?.twin.is_some_and(|twin| twin.locked);
            Ok(seen.then_some(()))
        })?;
        wait::until("the end of the lock", LIMIT, || {
            Ok((!ground.status(passive)?.locked).then_some(()))
        })?;
        let after = ground.protected()?;
        stayed(before, &after)?;
        Ok(format!("{left} ms were left at first; then it was off, and the pair protected"))
    })
}

fn blocks() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let people = People::log_in(&mut ground.stage, before)?;
        let watch = ground.watch()?;
        let passive = 1 - before.index;
        ground.tandem(passive, &["block", "logins", "on", "--reason", "work in house B"])?;
        ground.tandem(passive, &["block", "calls", "on", "--for", "1h"])?;
        ground.protected()?;
        signal(before.pid, Signal::KILL)?;
        ground.stage.twins.wait_takeover(before.index, LIMIT)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        let shown = ground.tandem(after.index, &["block", "show"])?;
        for word in ["logins", "calls", "work in house B"] {
            ensure!(shown.contains(word), "`tandem block show` has no {word:?}: {shown}");
        }
        // Those who are logged in renew; those who are not are refused.
        let renewed = log_in(&ground.stage, &people.called[..3], 10, 1)?;
        ensure!((renewed.good, renewed.failed) == (3, 0), "renewed: {renewed:?}");
        let fresh = log_in(&ground.stage, &people.callers[..3], 10, 1)?;
        ensure!((fresh.good, fresh.failed) == (0, 3), "logged in anew: {fresh:?}");
        ground.tandem(before.index, &["block", "logins", "off"])?;
        ground.tandem(before.index, &["block", "calls", "off"])?;
        let free = log_in(&ground.stage, &people.callers[..3], 10, 1)?;
        ensure!((free.good, free.failed) == (3, 0), "after the block: {free:?}");
        Ok(format!("3 renewed, 3 refused, 3 logged in afterwards; {}", seen.one_served()?))
    })
}

fn service_loop() -> Result<String> {
    on_pair(Plan { lines: BROKEN, ..Plan::default() }, |ground, before| {
        let watch = ground.watch()?;
        let mut failures = 0;
        wait::until("two programs that failed too often", LIMIT, || {
            let mut failing = 0;
            for index in 0..2 {
                let status = ground.status(index)?;
                let broken = status.services.iter().find(|service| service.name == "broken");
                failing += usize::from(broken.is_some_and(|service| service.failing));
                failures = failures.max(broken.map_or(0, |service| service.failures));
            }
            Ok((failing == 2).then_some(()))
        })?;
        wait::pass("more of it", Duration::from_secs(1))?;
        let after = ground.protected()?;
        let seen = watch.end()?;
        stayed(before, &after)?;
        seen.one_served()?;
        Ok(format!("{failures} failures on one machine; {}", seen.none_lost()?))
    })
}
