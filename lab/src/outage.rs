//! What a client notices of each fault that asks the virtual address every 10 ms: the outage is the
//! longest time between two answers.
//!
//! Tandem, and next to it keepalived with Kamailio, get the same faults from the same code. Times are
//! measured, not judged; of Tandem it is judged that the role never goes back by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tandem::demo::place::{CLIENT, CLIENT_NAME};
use tandem::demo::probe::{Asked, Probe};
use tandem::demo::report::{Report, Spread, Voice};
use tandem::demo::wait;

use crate::fault::Fault;
use crate::ordeal::millis;
use crate::peers::{Pair, System, wait_answers};
use crate::table::Table;

/// The probe asks so long before a fault and after the takeover.
const AROUND: Duration = Duration::from_millis(500);

/// When to give up waiting for an answer at the virtual address.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// So many faults in a row, then a new pair: a keeper lets a server wait half a minute that died five
/// times in a minute.
const FAULTS_EACH: usize = 8;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison<'a> {
    /// How often each fault is made.
    pub(crate) runs: usize,
    /// Only these faults; empty: all.
    pub(crate) only: &'a [Fault],
    /// Only these systems; empty: all.
    pub(crate) systems: &'a [System],
}

/// What was seen of one fault.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Of the requests.
    seen: Seen,
    /// Since the fault was undone until the pair was well again.
    well: Duration,
    /// The machine of the fault serves again, and nobody told it to.
    went_back: bool,
}

impl Comparison<'_> {
    /// Makes each fault of each system; returns the report and the table.
    #[must_use]
    pub(crate) fn measure(self, voice: Voice) -> (Report, Table) {
        let mut report = Report::new("What a client notices that asks every 10 ms", voice);
        let mut table = Table::new(&COLUMNS);
        let wanted = |fault: &Fault| self.only.is_empty() || self.only.contains(fault);
        let chosen = |system: &System| self.systems.is_empty() || self.systems.contains(system);
        for fault in Fault::ALL.into_iter().filter(wanted) {
            for system in System::ALL.into_iter().filter(chosen) {
                if wait::asked_to_stop() {
                    return (report, table);
                }
                let what = format!("{}, {}", fault.name(), system.name());
                match repeat(fault, system, self.runs) {
                    Ok(turns) => {
                        judge(&what, system, &turns, self.runs, &mut report);
                        note(fault, system, &turns, &mut table);
                    }
                    Err(error) => report.check(&what, false, &format!("{error:#}")),
                }
            }
        }
        (report, table)
    }
}

fn repeat(fault: Fault, system: System, runs: usize) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    while turns.len() < runs {
        let mut pair = system.start()?;
        for _ in 0..FAULTS_EACH.min(runs - turns.len()) {
            match once(fault, turns.len(), pair.as_mut()) {
                Ok(turn) => turns.push(turn),
                Err(error) if wait::asked_to_stop() => return Err(error),
                Err(error) => {
                    let path = pair.keep();
                    let what = format!("fault {} (logs in {})", turns.len() + 1, path.display());
                    return Err(error.context(what));
                }
            }
        }
    }
    Ok(turns)
}

/// When within a second the fault of this turn is made: spread evenly over it however many there are, so
/// that none is always made just before or just after something that happens once a second.
fn moment(turn: usize) -> Duration {
    // The golden section of a second.
    Duration::from_millis((turn as u64 * 618) % 1000)
}

fn once(fault: Fault, turn: usize, pair: &mut dyn Pair) -> Result<Turn> {
    let client = pair.place().space(CLIENT_NAME);
    let (address, server) = (pair.place().address(CLIENT), pair.virtual_address());
    let answers = || wait_answers(client.as_ref(), address, server, ANSWER_LIMIT);
    let before = pair.wait_well()?;
    answers()?;
    let probe = Probe::start(client.as_ref(), address, server)?;
    wait::pass("requests before the fault", AROUND + moment(turn))?;
    let at = pair.make(fault, before)?;
    pair.wait_takeover(before)?;
    wait::pass("requests after the takeover", AROUND)?;
    pair.undo(fault, before)?;
    let undone = Instant::now();
    let after = pair.wait_well()?;
    let well = undone.elapsed();
    answers()?;
    let seen = Seen::of(&probe.finish()?, at, undone)?;
    Ok(Turn { seen, well, went_back: after == before })
}

/// What the client saw of a fault and of its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Seen {
    /// The longest time between two good answers that the fault can have made.
    outage: Duration,
    /// The longest that began after the fault was undone: what healing costs.
    healing: Duration,
    /// Requests without any answer, over all.
    lost: usize,
    /// Requests that were answered, but not with 2xx.
    refused: usize,
    /// Requests in all.
    asked: usize,
}

impl Seen {
    /// # Errors
    ///
    /// Nothing was answered before the fault or after its end, so nothing was measured.
    fn of(asked: &[Asked], fault: Instant, undone: Instant) -> Result<Self> {
        let answered =
            |one: &Asked| one.answer.map(|(at, status)| (at, (200..300).contains(&status)));
        let mut good: Vec<_> =
            asked.iter().filter_map(answered).filter_map(|(at, good)| good.then_some(at)).collect();
        good.sort();
        ensure!(good.first().is_some_and(|at| *at <= fault), "no answer before the fault");
        ensure!(
            good.last().is_some_and(|at| *at >= undone),
            "no answer after the end of the fault"
        );
        let mut seen = Self { asked: asked.len(), ..Self::default() };
        for pair in good.windows(2).filter(|pair| pair[1] > fault) {
            let length = pair[1].saturating_duration_since(pair[0]);
            let longest = if pair[0] < undone { &mut seen.outage } else { &mut seen.healing };
            *longest = length.max(*longest);
        }
        let count = |wanted: Option<bool>| {
            asked.iter().filter(|one| answered(one).map(|(_, good)| good) == wanted).count()
        };
        (seen.lost, seen.refused) = (count(None), count(Some(false)));
        Ok(seen)
    }
}

fn judge(what: &str, system: System, turns: &[Turn], runs: usize, report: &mut Report) {
    let back = turns.iter().filter(|turn| turn.went_back).count();
    let text = format!("{} takeovers; the role went back by itself {back} times", turns.len());
    let held = turns.len() == runs && runs > 0 && (back == 0 || !system.is_ours());
    report.check(what, held, &text);
}

/// The columns of the table.
const COLUMNS: [&str; 13] = [
    "fault",
    "system",
    "min ms",
    "median ms",
    "p95 ms",
    "max ms",
    "healing max ms",
    "runs",
    "lost",
    "refused",
    "asked",
    "went back",
    "well again median ms",
];

fn note(fault: Fault, system: System, turns: &[Turn], table: &mut Table) {
    let spread = |of: fn(&Turn) -> Duration| {
        Spread::of(&turns.iter().map(|turn| millis(of(turn))).collect::<Vec<_>>())
    };
    let outage = spread(|turn| turn.seen.outage);
    let (healing, well) = (spread(|turn| turn.seen.healing), spread(|turn| turn.well));
    let (Some(outage), Some(healing), Some(well)) = (outage, healing, well) else { return };
    let sum = |of: fn(&Turn) -> usize| turns.iter().map(of).sum::<usize>();
    table.row([
        json!(fault.name()),
        json!(system.name()),
        json!(rounded(outage.min)),
        json!(rounded(outage.median)),
        json!(rounded(outage.p95)),
        json!(rounded(outage.max)),
        json!(rounded(healing.max)),
        json!(outage.count),
        json!(sum(|turn| turn.seen.lost)),
        json!(sum(|turn| turn.seen.refused)),
        json!(sum(|turn| turn.seen.asked)),
        json!(sum(|turn| usize::from(turn.went_back))),
        json!(rounded(well.median)),
    ]);
}

/// Tenths of a millisecond; a client that asks every 10 ms sees no more.
fn rounded(millis: f64) -> f64 {
    (millis * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent, and answered when and with what; in ms.
    fn asked(base: Instant, rows: &[(u64, Option<(u64, u16)>)]) -> Vec<Asked> {
        let at = |ms| base + Duration::from_millis(ms);
        let row = |(sent, answer): &(u64, Option<(u64, u16)>)| Asked {
            at: at(*sent),
            answer: answer.map(|(ms, status)| (at(ms), status)),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn the_outage_of_a_fault_and_that_of_its_end_are_two() {
        let base = Instant::now();
        let rows = [
            (0, Some((1, 200))),
            (10, None),
            (20, Some((21, 503))),
            (30, Some((32, 200))),
            (40, Some((41, 200))),
            (50, None),
            (60, None),
            (70, None),
            (80, Some((81, 200))),
        ];
        let at = |ms| base + Duration::from_millis(ms);
        let seen = Seen::of(&asked(base, &rows), at(5), at(35)).unwrap();
        // The pause around the end began before it, so it is the fault's.
        assert_eq!((seen.outage.as_millis(), seen.healing.as_millis()), (31, 40));
        assert_eq!((seen.asked, seen.lost, seen.refused), (9, 4, 1));
    }

    #[test]
    fn the_moments_of_the_faults_are_spread_over_a_second() {
        let mut moments: Vec<_> = (0..20).map(|turn| moment(turn).as_millis()).collect();
        moments.sort();
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] <= 100), "{moments:?}");
        assert!(moments[0] < 100 && moments[19] > 900, "{moments:?}");
    }

    #[test]
    fn what_was_not_seen_is_not_measured() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        let good = |ms| (ms, Some((ms + 1, 200)));
        assert!(Seen::of(&[], at(5), at(6)).is_err());
        assert!(Seen::of(&asked(base, &[good(10)]), at(5), at(6)).is_err());
        assert!(Seen::of(&asked(base, &[good(0), good(10)]), at(5), at(60)).is_err());
        assert!(Seen::of(&asked(base, &[good(0), good(10)]), at(5), at(6)).is_ok());
    }
}
