//! Cold starts, in every order.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, on, stayed};
use super::{Row, quick, row};

const MASTER: usize = 0;
const STANDBY: usize = 1;

pub(super) const ROWS: &[Row] = &[
    quick(row("start-both", "both start at once: the master leads", || {
        cold(MASTER, Duration::ZERO)
    })),
    quick(row(
        "start-standby-first-0.5s",
        "the standby starts 0.5 s sooner: the master leads",
        || cold(STANDBY, Duration::from_millis(500)),
    )),
    row("start-standby-first-3s", "the standby starts 3 s sooner: the master leads", || {
        cold(STANDBY, Duration::from_secs(3))
    }),
    row("start-master-first-0.5s", "the master starts 0.5 s sooner: it leads", || {
        cold(MASTER, Duration::from_millis(500))
    }),
    row("start-master-first-3s", "the master starts 3 s sooner: it leads", || {
        cold(MASTER, Duration::from_secs(3))
    }),
    row("start-lone-standby", "a lone standby serves after its grace, and goes on", lone_standby),
];

fn cold(first: usize, gap: Duration) -> Result<String> {
    on(Plan::default(), |ground| {
        let watch = ground.watch()?;
        let begun = Instant::now();
        ground.stage.twins.start_keeper(first)?;
        if !gap.is_zero() {
            wait::pass("the other one to be started", gap)?;
        }
        ground.stage.twins.start_keeper(1 - first)?;
        let serving = ground.protected()?;
        let took = begun.elapsed();
        ground.calm()?;
        let after = ground.protected()?;
        let seen = watch.end()?.one_served()?;
        ensure!(serving.index == MASTER, "the standby leads");
        ensure!(serving.status.reign.number == 1, "it is reign {}", serving.status.reign);
        stayed(&serving, &after)?;
        Ok(format!("protected after {:.1} s; {seen}", took.as_secs_f64()))
    })
}

fn lone_standby() -> Result<String> {
    on(Plan::default(), |ground| {
        let watch = ground.watch()?;
        let begun = Instant::now();
        ground.stage.twins.start_keeper(STANDBY)?;
        let alone = ground.stage.twins.wait_takeover(MASTER, 2 * LIMIT)?;
        let took = begun.elapsed();
        let timings = alone.status.timings;
        let grace = timings.cold_wait(alone.status.seat);
        ensure!(took >= grace, "it served after {} ms", took.as_millis());
        ground.stage.twins.start_keeper(MASTER)?;
        let (serving, seen) = ground.settle(watch)?;
        stayed(&alone, &serving)?;
        let seen = seen.one_served()?;
        Ok(format!("served after {:.1} s; the master follows it; {seen}", took.as_secs_f64()))
    })
}
