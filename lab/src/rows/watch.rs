//! Who serves at every moment: three clients ask every 10 ms, one at the virtual address from its own
//! machine, and one on each machine of the pair at that machine's own address, so that it is answered
//! however that machine is cut off.
//!
//! ```text
//!   the master answers    200 200 200 503 503
//!   the standby answers   503 503 503 503 200 200     never both: no 200 of the one was asked for
//!                                     └──span──┘      and given within a span of the other
//! ```
//!
//! Invariant: what is counted as both is beyond doubt, also where an answer was late.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem::demo::place::{CLIENT, CLIENT_NAME, SIP_PORT};
use tandem::demo::probe::{Asked, Probe};

use crate::stage::Stage;

/// Answers that are later than this at the end are not waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// So long without an answer and it is not known that it served in between.
const GAP: Duration = Duration::from_millis(100);

/// The clients.
#[derive(Debug)]
pub(super) struct Watch {
    at_virtual: Probe,
    at_own: [Probe; 2],
}

/// What they saw.
#[derive(Debug)]
pub(super) struct Seen {
    at_virtual: Vec<Asked>,
    at_own: [Vec<Asked>; 2],
}

impl Watch {
    /// They begin to ask.
    pub(super) fn begin(stage: &Stage) -> Result<Self> {
        let client = stage.place.space(CLIENT_NAME);
        let address = stage.place.address(CLIENT);
        let at_virtual = Probe::start(client.as_ref(), address, stage.twins.virtual_address)?;
        let own = |index: usize| {
            let machine = &stage.twins.machines[index];
            let own = *machine.config.address.first().context("no own address")?;
            Probe::start(machine.space.as_ref(), own, SocketAddr::new(own, SIP_PORT))
        };
        Ok(Self { at_virtual, at_own: [own(0)?, own(1)?] })
    }

    /// They end.
    pub(super) fn end(self) -> Result<Seen> {
        let Self { at_virtual, at_own: [master, standby] } = self;
        for probe in [&at_virtual, &master, &standby] {
            probe.stop(PATIENCE);
        }
        let at_own = [master.finish()?, standby.finish()?];
        Ok(Seen { at_virtual: at_virtual.finish()?, at_own })
    }
}

impl Seen {
    /// That never two served, in words.
    ///
    /// # Errors
    ///
    /// Two did; nothing was seen.
    pub(super) fn one_served(&self) -> Result<String> {
        let good = [self.good(0), self.good(1)];
        let both = self.both();
        ensure!(both == 0, "both served: {both} requests were answered by one while the other did");
        ensure!(good != [0, 0], "nobody served");
        let outage = self.outage().context("nobody was served at the virtual address")?;
        let [master, standby] = good;
        Ok(format!(
            "longest silence {} ms; answered by master {master}, by standby {standby}, by both 0",
            outage.as_millis()
        ))
    }

    /// That every request to the virtual address was answered well, in words.
    ///
    /// # Errors
    ///
    /// Some were not; there were none.
    pub(super) fn none_lost(&self) -> Result<String> {
        let all = self.at_virtual.len();
        let good = self.at_virtual.iter().filter(|one| is_good(one)).count();
        // The last one may still be on its way.
        ensure!(all > 1 && good + 1 >= all, "only {good} of {all} requests were answered well");
        Ok(format!("all of {all} requests answered"))
    }

    /// How often the other machine than before answered well.
    pub(super) fn switches(&self) -> usize {
        let of = |index: usize| {
            let good = self.at_own[index].iter().filter_map(good_at);
            good.map(move |at| (at, index))
        };
        let mut answers: Vec<_> = of(0).chain(of(1)).collect();
        answers.sort();
        answers.windows(2).filter(|two| two[0].1 != two[1].1).count()
    }

    /// How many requests a machine answered well.
    fn good(&self, index: usize) -> usize {
        self.at_own[index].iter().filter(|one| is_good(one)).count()
    }

    /// How many requests one machine answered well while the other one served.
    pub(super) fn both(&self) -> usize {
        let [master, standby] = &self.at_own;
        within(master, &spans(standby)).max(within(standby, &spans(master)))
    }

    /// The longest time between two good answers at the virtual address.
    pub(super) fn outage(&self) -> Option<Duration> {
        let mut good: Vec<_> = self.at_virtual.iter().filter_map(good_at).collect();
        good.sort();
        good.windows(2).map(|two| two[1].saturating_duration_since(two[0])).max()
    }
}

fn is_good(one: &Asked) -> bool {
    good_at(one).is_some()
}

fn good_at(one: &Asked) -> Option<Instant> {
    one.answer.and_then(|(at, status)| (200..300).contains(&status).then_some(at))
}

/// When a machine served beyond doubt: from a good answer that came to the last request in a row that was
/// answered well.
fn spans(asked: &[Asked]) -> Vec<(Instant, Instant)> {
    let answered = |one: &Asked| one.answer.map(|(at, _)| (at, one.at, is_good(one)));
    let mut answers: Vec<_> = asked.iter().filter_map(answered).collect();
    answers.sort();
    let mut spans: Vec<(Instant, Instant)> = Vec::new();
    let mut last = None;
    for (came, sent, good) in answers {
        let goes_on = last.is_some_and(|last| came.saturating_duration_since(last) <= GAP);
        last = good.then_some(came);
        match spans.last_mut() {
            Some((_, end)) if good && goes_on => *end = sent.max(*end),
            Some(_) | None if good => spans.push((came, sent)),
            Some(_) | None => {}
        }
    }
    spans
}

/// How many good answers were asked for and given within these spans.
fn within(asked: &[Asked], spans: &[(Instant, Instant)]) -> usize {
    let inside = |one: &&Asked| {
        let came = good_at(one);
        came.is_some_and(|came| spans.iter().any(|(from, to)| *from <= one.at && came <= *to))
    };
    asked.iter().filter(inside).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent, and answered when and with what; in ms.
    fn asked(base: Instant, rows: &[(u64, u64, u16)]) -> Vec<Asked> {
        let at = |ms| base + Duration::from_millis(ms);
        let row = |&(sent, came, status): &(u64, u64, u16)| Asked {
            at: at(sent),
            answer: (status != 0).then_some((at(came), status)),
        };
        rows.iter().map(row).collect()
    }

    /// Asked every 10 ms and answered a millisecond later.
    fn steady(base: Instant, from: u64, to: u64, status: u16) -> Vec<Asked> {
        let rows: Vec<_> = (from..to).step_by(10).map(|ms| (ms, ms + 1, status)).collect();
        asked(base, &rows)
    }

    fn seen(at_own: [Vec<Asked>; 2]) -> Seen {
        Seen { at_virtual: at_own.concat(), at_own }
    }

    #[test]
    fn one_after_the_other_is_not_both() {
        let base = Instant::now();
        let master = [steady(base, 0, 200, 200), steady(base, 200, 400, 503)].concat();
        let standby = [steady(base, 5, 205, 503), steady(base, 205, 400, 200)].concat();
        let seen = seen([master, standby]);
        assert_eq!(seen.both(), 0);
        seen.one_served().unwrap();
    }

    #[test]
    fn both_at_once_are_counted() {
        let base = Instant::now();
        let both = seen([steady(base, 0, 300, 200), steady(base, 100, 300, 200)]);
        assert_eq!(both.both(), 19);
        assert!(both.one_served().is_err());
    }

    #[test]
    fn who_wakes_up_and_serves_is_seen_although_it_answers_late() {
        let base = Instant::now();
        // Asleep from 100 on; answers all that waited at 400, when the other one serves since 220.
        let waited: Vec<_> = (100..390).step_by(10).map(|ms| (ms, 391, 200)).collect();
        let master = [steady(base, 0, 100, 200), asked(base, &waited)].concat();
        let other = steady(base, 220, 500, 200);
        assert_eq!(seen([master, other.clone()]).both(), 16);
        // As it should be: it refuses them.
        let waited: Vec<_> = (100..390).step_by(10).map(|ms| (ms, 391, 503)).collect();
        let master = [steady(base, 0, 100, 200), asked(base, &waited)].concat();
        assert_eq!(seen([master, other]).both(), 0);
    }

    #[test]
    fn an_answer_that_came_late_proves_nothing() {
        let base = Instant::now();
        let master = asked(base, &[(0, 1, 200), (10, 60, 200)]);
        assert_eq!(seen([master, steady(base, 30, 200, 200)]).both(), 0);
    }

    #[test]
    fn a_silence_between_two_answers_is_no_span() {
        let base = Instant::now();
        let master = [steady(base, 0, 50, 200), steady(base, 500, 550, 200)].concat();
        assert_eq!(seen([master, steady(base, 100, 450, 200)]).both(), 0);
    }

    #[test]
    fn nothing_seen_is_no_good_news() {
        let base = Instant::now();
        assert!(seen([Vec::new(), Vec::new()]).one_served().is_err());
        assert!(seen([Vec::new(), Vec::new()]).none_lost().is_err());
        let lost = [steady(base, 0, 50, 200), asked(base, &[(50, 0, 0), (60, 0, 0)])].concat();
        assert!(seen([lost, Vec::new()]).none_lost().is_err());
    }

    #[test]
    fn switches_are_counted_however_long_nobody_served_between() {
        let base = Instant::now();
        let master = [steady(base, 0, 100, 200), steady(base, 400, 500, 200)].concat();
        let seen = seen([master, steady(base, 150, 300, 200)]);
        assert_eq!((seen.switches(), seen.both()), (2, 0));
        assert_eq!(seen.outage(), Some(Duration::from_millis(110)));
    }
}
