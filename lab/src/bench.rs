//! What protection costs: answer times while protected and alone, and what a second of CPU time of
//! the serving server is enough for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem::demo::place::FIRST_PHONE;
use tandem::demo::report::{Report, Spread, Voice};
use tandem::demo::twins::Serving;
use tandem::demo::wait;

use crate::calls::{Calls, People, Rhythm, log_in};
use crate::meter::Meter;
use crate::ordeal::millis;
use crate::stage::{CALLERS, PROTECTED_LIMIT, Stage};

/// Calls a second for the CPU figure.
const CALL_RATE: usize = 100;

/// Logins a second for the CPU figure.
const LOGIN_RATE: usize = 400;

/// Ticks of a second in /proc/PID/stat (USER_HZ; the same on every Linux).
const TICKS: f64 = 100.0;

/// A tenth of the requests warm everything up and are not counted.
const WARM_UP: usize = 10;

/// Measures; returns the report.
#[must_use]
pub(crate) fn measure(requests: usize, calls: usize, voice: Voice) -> Report {
    let mut report = Report::new("What protection costs", voice);
    let run = |report: &mut Report| {
        answers(report, requests)?;
        cpu(report, calls)
    };
    if let Err(error) = run(&mut report) {
        report.check("the bench comes to its end", false, &format!("{error:#}"));
    }
    report
}

/// Answer times, protected and then alone.
fn answers(report: &mut Report, requests: usize) -> Result<()> {
    let (mut stage, serving) = Stage::new()?;
    let [caller] = one(stage.add_users(&serving, "caller", 1000, 1)?)?;
    let [called] = one(stage.add_users(&serving, "called", 2000, 1)?)?;
    let (space, address) = (stage.place.space(CALLERS), stage.place.address(FIRST_PHONE));
    let server = stage.twins.virtual_address;
    let mut meter = Meter::new(space.as_ref(), address, server, [caller, called])?;
    let protected = series(&mut meter, requests)?;
    let after = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    ensure!(after.index == serving.index, "the role changed while measuring");
    let other = 1 - serving.index;
    stage.twins.stop_keeper(other);
    wait::until("an unprotected server", PROTECTED_LIMIT, || {
        Ok(stage.twins.serving()?.filter(|serving| !serving.status.protected).map(drop))
    })?;
    let alone = series(&mut meter, requests)?;
    for (name, times) in protected.named() {
        note(report, &format!("{name}, protected"), times);
    }
    for (name, times) in alone.named() {
        note(report, &format!("{name}, alone"), times);
    }
    let counted = [&protected, &alone].map(|series| series.named().map(|(_, times)| times.len()));
    let all = counted.iter().flatten().all(|count| *count == requests);
    report.check("every measured request was answered", all, &format!("{counted:?}"));
    Ok(())
}

/// Answer times in milliseconds.
#[derive(Debug, Default)]
struct Series {
    options: Vec<f64>,
    logins: Vec<f64>,
    answers: Vec<f64>,
    goodbyes: Vec<f64>,
}

impl Series {
    fn named(&self) -> [(&'static str, &[f64]); 4] {
        [
            ("OPTIONS to 200 (changes nothing)", &self.options),
            ("REGISTER to 200", &self.logins),
            ("200 of the called phone to 200 at the caller", &self.answers),
            ("BYE to 200 (through both legs, record closed)", &self.goodbyes),
        ]
    }
}

fn series(meter: &mut Meter, requests: usize) -> Result<Series> {
    let mut series = Series::default();
    let warm_up = requests / WARM_UP;
    // In turns, so that whatever else the machine does hits all kinds alike.
    for turn in 0..warm_up + requests {
        ensure!(!wait::asked_to_stop(), "stopped by a signal");
        let (options, login, call) = (meter.options()?, meter.log_in()?, meter.call()?);
        if turn >= warm_up {
            series.options.push(millis(options));
            series.logins.push(millis(login));
            series.answers.push(millis(call.answer));
            series.goodbyes.push(millis(call.goodbye));
        }
    }
    Ok(series)
}

fn note(report: &mut Report, name: &str, times: &[f64]) {
    let Some(Spread { median, p95, p99, max, count, .. }) = Spread::of(times) else { return };
    let text = format!("median; p95 {p95:.2}, p99 {p99:.2}, max {max:.2} of {count}");
    report.figure(name, median, "ms", &text);
}

/// Calls and logins for a second of CPU time.
fn cpu(report: &mut Report, calls: usize) -> Result<()> {
    let (mut stage, serving) = Stage::new()?;
    let people = People::log_in(&mut stage, &serving)?;
    let other = stage.twins.status(1 - serving.index)?.context("the twin does not answer")?;
    let twin = other.services.first().and_then(|service| service.pid);
    let twin = twin.context("the twin has no server")?;
    let pids = [serving.pid, twin];

    let before = cpu_seconds(pids)?;
    let turns = calls.div_ceil(people.called.len());
    let seen = log_in(&stage, &people.called, LOGIN_RATE, turns)?;
    let good = seen.failed == 0 && seen.good == u64::try_from(people.called.len() * turns)?;
    report.check("every login was good", good, &format!("{} logins", seen.good));
    figures(report, "logins (with their challenge)", seen.good, before, cpu_seconds(pids)?);

    let before = cpu_seconds(pids)?;
    let rhythm = Rhythm {
        rate: CALL_RATE,
        calls: Some(calls),
        ringing: Duration::from_millis(100),
        talking: Duration::from_millis(100),
    };
    let outcome = Calls::begin(&stage, &people, rhythm)?.finish()?;
    let text = format!("{} calls {}", outcome.callers.good, outcome.errors);
    let good = outcome.callers.failed == 0 && outcome.callers.good == u64::try_from(calls)?;
    report.check("every call was good", good, &text);
    figures(
        report,
        "calls (with their challenge)",
        outcome.callers.good,
        before,
        cpu_seconds(pids)?,
    );
    unchanged(&mut stage, &serving)
}

/// The figures are of one server only as long as the role has not moved.
fn unchanged(stage: &mut Stage, serving: &Serving) -> Result<()> {
    let now = stage.twins.wait_protected(PROTECTED_LIMIT)?;
    ensure!(now.pid == serving.pid, "the role changed while measuring");
    Ok(())
}

fn figures(report: &mut Report, what: &str, count: u64, before: [f64; 2], after: [f64; 2]) {
    let build = if cfg!(debug_assertions) { "built for tests" } else { "release build" };
    // Counts are far below 2^52.
    let rate = |index: usize| count as f64 / (after[index] - before[index]).max(1.0 / TICKS);
    for (index, role) in ["serving", "passive"].into_iter().enumerate() {
        let note = format!("{count} in {:.2} s, {build}", after[index] - before[index]);
        report.figure(&format!("{what} for a CPU second, {role} server"), rate(index), "", &note);
    }
}

/// CPU time that processes have used so far, each, in seconds, user and system.
fn cpu_seconds(pids: [u32; 2]) -> Result<[f64; 2]> {
    let [one, two] = pids.map(|pid| cpu_seconds_of(&[pid]));
    Ok([one?, two?])
}

/// CPU time that processes have used so far, together, in seconds, user and system.
///
/// # Errors
///
/// One of them is gone.
pub(crate) fn cpu_seconds_of(pids: &[u32]) -> Result<f64> {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ticks(&stat).map(|ticks| ticks / TICKS).context("a strange /proc/PID/stat")
    };
    pids.iter().map(of).sum()
}

/// utime and stime (proc_pid_stat(5), fields 14 and 15; the name before them may hold anything).
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(field(14)? + field(15)?)
}

fn one<T>(list: Vec<T>) -> Result<[T; 1]> {
    <[T; 1]>::try_from(list).ok().context("not one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_user_and_system() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 700 50 13 14 15";
        assert_eq!(ticks(stat), Some(750.0));
        assert_eq!(ticks("nonsense"), None);
    }
}
