//! A fault again and again under calls, and the caller's promises: every call goes to its end as if
//! nothing had happened, has one record on both machines, and nobody logs in again.
//!
//! A planned switch is no fault, so it is judged harder: no request may be lost or refused, and nobody
//! may have to repeat a message.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tandem::demo::place::{CLIENT, CLIENT_NAME};
use tandem::demo::probe::{Probe, sum_up};
use tandem::demo::report::{Report, Spread, Voice};
use tandem::demo::wait;

use crate::calls::{Calls, Outcome, People, Rhythm, by_pair, pairs_of, records, with_outcome};
use crate::fault::Fault;
use crate::stage::{PROTECTED_LIMIT, Stage};

/// How long each call rings, and is talked.
const RINGING: Duration = Duration::from_millis(1500);
const TALKING: Duration = Duration::from_secs(3);

/// The probe asks so long before a fault and after the pair is protected again.
const AROUND: Duration = Duration::from_millis(300);

/// A fault, so often, under so many calls a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ordeal {
    /// Which.
    pub(crate) fault: Fault,
    /// How often.
    pub(crate) runs: usize,
    /// Calls a second.
    pub(crate) rate: usize,
}

/// What was seen while faults were made.
#[derive(Debug, Default)]
struct Seen {
    faults: usize,
    ringing: usize,
    answered: usize,
    outage: Vec<f64>,
    protected: Vec<f64>,
    lost: usize,
    refused: usize,
    asked: usize,
    /// How often the role went to the master and to the standby.
    towards: [usize; 2],
}

impl Ordeal {
    /// Undergoes it; returns the report.
    #[must_use]
    pub(crate) fn undergo(self, voice: Voice) -> Report {
        let Self { fault, runs, rate } = self;
        let title = format!("{} {runs} times under {rate} calls a second", fault.name());
        let mut report = Report::new(&title, voice);
        if let Err(error) = self.run(&mut report) {
            report.check("the run comes to its end", false, &format!("{error:#}"));
        }
        report
    }

    fn run(self, report: &mut Report) -> Result<()> {
        let (mut stage, serving) = Stage::new()?;
        // Whatever fails: the logs are worth more than the space.
        let kept = stage.folder.path().display().to_string();
        let people = People::log_in(&mut stage, &serving)?;
        let rhythm = Rhythm { rate: self.rate, calls: None, ringing: RINGING, talking: TALKING };
        let mut calls = Calls::begin(&stage, &people, rhythm)?;
        let mut seen = Seen::default();
        for turn in 0..self.runs {
            if let Err(error) = self.fault_once(&mut stage, &mut calls, &mut seen) {
                if wait::asked_to_stop() {
                    return Err(error);
                }
                stage.folder.keep();
                return Err(error.context(format!("fault {} (logs in {kept})", turn + 1)));
            }
        }
        // Calls that began after the last fault must do as well.
        wait::pass("calls after the last fault", RINGING)?;
        let logins = calls.callers_wire.count("REGISTER") + calls.phones_wire.count("REGISTER");
        let invites = calls.phones_wire.count("INVITE");
        let outcome = calls.finish()?;
        self.judge_calls(report, &seen, &outcome);
        if self.fault == Fault::PlannedSwitch {
            self.judge_switches(report, &seen, &outcome);
        }
        let passed = format!("{logins} logins seen among {invites} INVITEs to the phones");
        report.check("no phone logged in again", logins == 0 && invites > 0, &passed);
        let judged = judge_records(report, &stage, &people, &outcome);
        if judged.is_err() || !report.close() {
            stage.folder.keep();
            report.voice().say(&format!("  logs and databases are kept in {kept}"));
        }
        judged?;
        figures(report, &seen);
        Ok(())
    }

    /// One fault and its end.
    fn fault_once(self, stage: &mut Stage, calls: &mut Calls, seen: &mut Seen) -> Result<()> {
        let serving = stage.twins.wait_protected(PROTECTED_LIMIT)?;
        let client = stage.place.space(CLIENT_NAME);
        let address = stage.place.address(CLIENT);
        let probe = Probe::start(client.as_ref(), address, stage.twins.virtual_address)?;
        wait::pass("requests before the fault", AROUND)?;
        let (ringing, answered) = calls.wait_up(&stage.twins, serving.index)?;
        let at = self.fault.make(stage, &serving)?;
        stage.twins.wait_takeover(serving.index, PROTECTED_LIMIT)?;
        self.fault.undo(stage, serving.index)?;
        let undone = Instant::now();
        let now = stage.twins.wait_protected(PROTECTED_LIMIT)?;
        let protected = undone.elapsed();
        ensure!(now.index != serving.index, "the role went back by itself");
        wait::pass("requests after the fault", AROUND)?;
        let probed = sum_up(&probe.finish()?, at)?;
        seen.faults += 1;
        seen.ringing += ringing;
        seen.answered += answered;
        seen.outage.push(millis(probed.outage));
        seen.protected.push(millis(protected));
        seen.towards[now.index] += 1;
        seen.lost += probed.lost;
        seen.refused += probed.refused;
        seen.asked += probed.asked;
        Ok(())
    }

    fn judge_switches(self, report: &mut Report, seen: &Seen, outcome: &Outcome) {
        let [master, standby] = seen.towards;
        let text = format!("{master} to the master, {standby} to the standby");
        let alternated = master + standby == self.runs && master.abs_diff(standby) <= 1;
        report.check("the switches went both ways in turn", alternated, &text);
        let Seen { lost, refused, asked, .. } = *seen;
        let text = format!("{lost} lost and {refused} refused of {asked}, each sent once");
        let none = asked > 0 && lost == 0 && refused == 0;
        report.check("the client that asks every 10 ms lost no request", none, &text);
        let (callers, phones) = (outcome.callers.repeated, outcome.phones.repeated);
        let text = format!("{callers} by the callers, {phones} by the called phones");
        let none = outcome.callers.calls > 0 && callers == 0 && phones == 0;
        report.check("no phone had to repeat a message", none, &text);
    }

    fn judge_calls(self, report: &mut Report, seen: &Seen, outcome: &Outcome) {
        let Seen { faults, ringing, answered, .. } = *seen;
        let text =
            format!("{faults} faults, {ringing} ringing and {answered} answered calls were up");
        let enough = faults == self.runs && ringing > faults && answered > faults;
        report.check("every fault hit ringing and answered calls", enough, &text);
        let Outcome { callers, phones, errors } = outcome;
        let good = callers.calls > 0 && callers.good == callers.calls && callers.failed == 0;
        let text = format!(
            "{} calls: {} good, {} failed, {} messages repeated {}",
            callers.calls,
            callers.good,
            callers.failed,
            callers.repeated,
            if good { "" } else { errors.as_str() }
        );
        report.check("every call was answered and hung up with 200, none was lost", good, &text);
        let text =
            format!("{} calls: {} good, {} failed", phones.calls, phones.good, phones.failed);
        let good =
            phones.calls == callers.calls && phones.good == phones.calls && phones.failed == 0;
        report.check("every called phone saw one call to its end", good, &text);
    }
}

/// Every call must have one record, the same on both machines.
fn judge_records(
    report: &mut Report,
    stage: &Stage,
    people: &People,
    outcome: &Outcome,
) -> Result<()> {
    let calls = usize::try_from(outcome.callers.calls)?;
    let [master, standby] = records(&stage.twins, calls)?;
    let mut ids: Vec<_> = master.iter().map(|record| record["call_id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    let text = format!("{calls} calls, {} and {} records", master.len(), standby.len());
    let once = calls > 0 && master.len() == calls && ids.len() == calls;
    report.check("every call has exactly one record", once, &text);
    let differ = master.iter().zip(&standby).filter(|(one, two)| one != two).count();
    let same = master == standby && !master.is_empty();
    report.check("both machines have the same records", same, &format!("{differ} differ"));
    let counted = by_pair(&master);
    let right = counted == pairs_of(people, calls);
    let text = format!("{} pairs of callers and called", counted.len());
    report.check("the records say who called whom", right, &text);
    let answered = with_outcome(&master, "answered");
    let text = format!("{answered} of {} answered", master.len());
    report.check("the records say that all were answered", answered == calls, &text);
    Ok(())
}

fn figures(report: &mut Report, seen: &Seen) {
    spread(report, "outage (longest time between two answers)", &seen.outage);
    spread(report, "until protected again, since the fault was undone", &seen.protected);
    // Counts are far below 2^52.
    let note = format!("of {}, each sent once; {} refused", seen.asked, seen.refused);
    report.figure("requests lost", seen.lost as f64, "requests", &note);
}

/// Notes median, 95th percentile and maximum.
pub(crate) fn spread(report: &mut Report, name: &str, values: &[f64]) {
    let Some(Spread { min, median, p95, max, count, .. }) = Spread::of(values) else { return };
    let note = format!("median; min {min:.1}, p95 {p95:.1}, max {max:.1} of {count}");
    report.figure(name, median, "ms", &note);
}

/// As milliseconds.
#[must_use]
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
