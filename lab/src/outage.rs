//! What a client notices of each fault that asks the virtual address every 10 ms: the outage is the
//! longest time between two answers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tandem::demo::place::{CLIENT, CLIENT_NAME};
use tandem::demo::probe::{Probe, Seen, sum_up};
use tandem::demo::report::{Report, Voice};
use tandem::demo::wait;

use crate::fault::Fault;
use crate::ordeal::{millis, spread};
use crate::stage::{PROTECTED_LIMIT, Stage};

/// The probe asks so long before a fault and after the takeover.
const AROUND: Duration = Duration::from_millis(500);

/// Makes each fault `runs` times (or only one of them); returns the report.
#[must_use]
pub(crate) fn measure(runs: usize, only: Option<Fault>, voice: Voice) -> Report {
    let mut report = Report::new("What a client notices that asks every 10 ms", voice);
    let faults = Fault::ALL.into_iter().filter(|fault| only.is_none_or(|only| only == *fault));
    for fault in faults {
        if let Err(error) = repeat(fault, runs, &mut report) {
            report.check(fault.name(), false, &format!("{error:#}"));
        }
    }
    report
}

fn repeat(fault: Fault, runs: usize, report: &mut Report) -> Result<()> {
    let (mut stage, _) = Stage::new()?;
    let mut seen = Vec::new();
    let mut protected = Vec::new();
    for turn in 0..runs {
        match once(fault, &mut stage) {
            Ok((probed, time)) => {
                seen.push(probed);
                protected.push(millis(time));
            }
            Err(error) if wait::asked_to_stop() => return Err(error),
            Err(error) => {
                stage.folder.keep();
                let path = stage.folder.path().display();
                return Err(error.context(format!("fault {} (logs in {path})", turn + 1)));
            }
        }
    }
    let text = format!("{} takeovers, the role never went back", seen.len());
    report.check(fault.name(), seen.len() == runs && runs > 0, &text);
    let outages: Vec<_> = seen.iter().map(|seen| millis(seen.outage)).collect();
    spread(report, &format!("{}: outage", fault.name()), &outages);
    spread(report, &format!("{}: until protected again, since undone", fault.name()), &protected);
    let lost: usize = seen.iter().map(|seen| seen.lost).sum();
    let asked: usize = seen.iter().map(|seen| seen.asked).sum();
    // Counts are far below 2^52.
    let name = format!("{}: requests lost", fault.name());
    report.figure(&name, lost as f64, "requests", &format!("of {asked} in {runs} runs"));
    Ok(())
}

fn once(fault: Fault, stage: &mut Stage) -> Result<(Seen, Duration)> {
    let serving = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    let client = stage.place.space(CLIENT_NAME);
    let address = stage.place.address(CLIENT);
    let probe = Probe::start(client.as_ref(), address, stage.twins.virtual_address)?;
    wait::pass("requests before the fault", AROUND)?;
    let at = fault.make(stage, &serving)?;
    stage.twins.wait_takeover(serving.index, PROTECTED_LIMIT)?;
    wait::pass("requests after the takeover", AROUND)?;
    fault.undo(stage, &serving)?;
    let undone = Instant::now();
    let now = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    let protected = undone.elapsed();
    ensure!(now.index != serving.index, "the role went back by itself");
    let seen = sum_up(&probe.finish()?, at)?;
    Ok((seen, protected))
}
