//! Planned switches: when no calls are up, and those that are refused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, on_pair, stayed, went_over};
use super::wires::{Cut, cut};
use super::{Row, quick, row};
use crate::calls::{Calls, People, Rhythm};

/// One call that lasts long enough for everything that is done meanwhile.
const CALL: Rhythm = Rhythm {
    rate: 1,
    calls: Some(1),
    ringing: Duration::from_millis(100),
    talking: Duration::from_secs(5),
};

pub(super) const ROWS: &[Row] = &[
    quick(row("switch", "ordered at the passive: no request is lost", switch)),
    row("switch-when-idle", "waits for a call, can be cancelled, then switches", when_idle),
    row("switch-refused", "refused with the reason; forced where that can be", refused),
];

fn switch() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        ground.calm()?;
        ground.tandem(1 - before.index, &["switch"])?;
        ground.stage.twins.wait_takeover(before.index, LIMIT)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        let one = seen.one_served()?;
        Ok(format!("{one}; {}", seen.none_lost()?))
    })
}

fn when_idle() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let people = People::log_in(&mut ground.stage, before)?;
        let (active, passive) = (before.index, 1 - before.index);
        let watch = ground.watch()?;
        let calls = Calls::begin(&ground.stage, &people, CALL)?;
        wait::until("a call", LIMIT, || {
            Ok((ground.stage.twins.calls(active)? == (0, 1)).then_some(()))
        })?;
        for _ in 0..2 {
            ground.tandem(passive, &["switch", "--when-idle"])?;
            wait::until("a switchover that is shown on both", LIMIT, || {
                let [one, other] = [ground.status(active)?.switch, ground.status(passive)?.switch];
                let shown = one.is_some_and(|s| s.calls == 1 && s.here) && other.is_some();
                Ok(shown.then_some(()))
            })?;
            ground.calm()?;
            let waits = ground.protected()?;
            stayed(before, &waits).context("it did not wait for the call")?;
            if ground.status(active)?.switch.is_none() {
                break;
            }
            if waits.status.switch.is_some_and(|switch| switch.waits_ms.is_none()) {
                anyhow::bail!("it does not say for how long it has waited");
            }
            ground.tandem(passive, &["switch", "--cancel"])?;
            wait::until("the end of the switchover on both", LIMIT, || {
                let [one, other] = [ground.status(active)?.switch, ground.status(passive)?.switch];
                Ok((one.is_none() && other.is_none()).then_some(()))
            })?;
        }
        ground.tandem(passive, &["switch", "--when-idle"])?;
        let outcome = calls.finish()?;
        ground.stage.twins.wait_takeover(active, LIMIT)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        let good = (outcome.callers.good, outcome.phones.good);
        ensure!(good == (1, 1), "the call was not good: {}", outcome.errors);
        let one = seen.one_served()?;
        Ok(format!("cancelled twice, then switched; {one}; {}", seen.none_lost()?))
    })
}

fn refused() -> Result<String> {
    on_pair(Plan::default(), |ground, before| {
        let watch = ground.watch()?;
        let (active, passive) = (before.index, 1 - before.index);
        ground.tandem(passive, &["lock", "on"])?;
        let locked = wait::until("the lock to be seen", LIMIT, || {
            let seen = ground.status(active)?.twin.is_some_and(|twin| twin.locked);
            Ok(seen.then_some(()))
        });
        locked?;
        let locked = ground.refused(active, &["switch"], "refused")?;
        ground.tandem(passive, &["lock", "off"])?;
        ground.protected()?;
        ground.stage.twins.kill_keeper(passive)?;
        wait::until("the silence of the twin", LIMIT, || {
            let heard = ground.status(active)?.twin.is_some_and(|twin| twin.heard);
            Ok((!heard).then_some(()))
        })?;
        let down = ground.refused(active, &["switch"], "refused")?;
        ground.refused(active, &["switch", "--force"], "refused")?;
        ground.stage.twins.start_keeper(passive)?;
        let ready = ground.protected()?;
        stayed(before, &ready)?;
        cut(&ground.stage, active, Cut::Link, true)?;
        wait::until("a twin that is not in sync", LIMIT, || {
            Ok((!ground.status(active)?.twin_ready).then_some(()))
        })?;
        let late = ground.refused(active, &["switch"], "refused")?;
        ground.tandem(active, &["switch", "--force"])?;
        ground.stage.twins.wait_takeover(active, LIMIT)?;
        cut(&ground.stage, active, Cut::Link, false)?;
        let (after, seen) = ground.settle(watch)?;
        went_over(before, &after)?;
        seen.one_served()?;
        Ok(format!("locked: {locked}; down: {down}; not in sync: {late}; forced"))
    })
}
