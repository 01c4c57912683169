//! Both served, because nothing was shared: the switch between them passed nothing from one to the other,
//! phones reached both. When contact is back one must stop.

use std::time::Duration;

use anyhow::{Result, ensure};
use tandem::demo::wait;

use super::ground::{LIMIT, Plan, on_pair};
use super::wires::part;
use super::{Row, quick, row};
use crate::calls::{Calls, People, Rhythm};

/// One call before the cut and two in it, at the machine that the phones turn to then; all of them last
/// beyond the healing.
const CALLS: Rhythm = Rhythm {
    rate: 1,
    calls: Some(3),
    ringing: Duration::from_millis(100),
    talking: Duration::from_secs(6),
};

pub(super) const ROWS: &[Row] = &[
    quick(row("healing-live-calls", "both served: who carries the calls stays", || heal("", 1))),
    row("healing-master", "both served, healing = \"master\": the master stays", || {
        heal("healing = \"master\"\n", 0)
    }),
];

fn heal(lines: &'static str, stays: usize) -> Result<String> {
    on_pair(Plan { lines, ..Plan::default() }, |ground, before| {
        ensure!(before.index == 0, "the master does not serve");
        let people = People::log_in(&mut ground.stage, before)?;
        let watch = ground.watch()?;
        let calls = Calls::begin(&ground.stage, &people, CALLS)?;
        let up = |count: usize, index: usize, ground: &super::ground::Ground| {
            wait::until("answered calls", LIMIT, || {
                Ok((ground.stage.twins.calls(index)? == (0, count)).then_some(()))
            })
        };
        up(1, 0, ground)?;
        part(&ground.stage, true)?;
        ground.stage.twins.wait_takeover(0, LIMIT)?;
        up(3, 1, ground)?;
        let both = [ground.status(0)?, ground.status(1)?].map(|status| status.state.to_string());
        let counts = [ground.stage.twins.calls(0)?.1, ground.stage.twins.calls(1)?.1];
        part(&ground.stage, false)?;
        let after = ground.protected()?;
        let outcome = calls.finish()?;
        let (last, seen) = ground.settle(watch)?;
        ensure!(seen.both() > 10, "both served {} requests only: there was no cut", seen.both());
        ensure!(after.index == stays && last.index == stays, "the wrong one stayed");
        let good = (outcome.callers.calls, outcome.callers.good, outcome.phones.good);
        ensure!(
            good == (3, 3, 3),
            "calls, good at the callers and phones: {good:?} {}",
            outcome.errors
        );
        Ok(format!(
            "{} with {} calls and {} with {}; then one; all 3 calls went to their end",
            both[0], counts[0], both[1], counts[1]
        ))
    })
}
