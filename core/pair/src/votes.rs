//! The votes for our reign, where a third voter is configured: our own, and the twin's or the third.
//!
//! ```text
//! the twin's:  our heartbeat of T (claiming or active) ──> idle twin hears it, promises not to
//!                                                          promote itself for one silence
//!              right until T + silence * 31/32 <── its heartbeat echoes T
//! the third:   asked at T ──> promises it to nobody else for one term
//!              right until T + term <── granted
//! ```
//!
//! Rights are counted from sending and promises from hearing, so a right has always ended before the
//! promise it rests on. The third voter is asked only while the twin's vote is old or not there: when a
//! machine dies, no promise to the dead stands in the way of its twin.

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Instant};

use crate::beat::{Beat, Life};
use crate::table::State;
use crate::timings::Timings;

/// What the third voter said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Voted {
    /// The vote is ours.
    Granted {
        /// Of the request.
        number: u64,
        /// For so long since the request was handed out.
        term: Duration,
    },
    /// The vote is promised to the twin.
    Refused {
        /// Of the request.
        number: u64,
        /// For so long, if it is not prolonged. Zero: until the reign is later than `highest`.
        left: Duration,
        /// The latest reign that the voter gave its vote to; no earlier one gets it.
        highest: Epoch,
    },
    /// The voter does not answer.
    Unreachable {
        /// Of the request.
        number: u64,
    },
}

/// What the third voter said last.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Third {
    /// It was not asked, or has not answered.
    #[default]
    Unasked,
    /// It gave us its vote.
    Granted,
    /// Its vote is the twin's.
    Refused,
    /// It does not answer.
    Unreachable,
}

/// The votes that we hold.
#[derive(Clone, Debug)]
pub(crate) struct Votes {
    /// `None`: nobody else votes, and none is needed.
    term: Option<Duration>,
    silence: Duration,
    lease: Duration,
    both_ways: Duration,
    /// Since when our heartbeats say that we serve or are about to.
    stands_since: Option<Instant>,
    twin_until: Option<Instant>,
    /// Since when the twin's vote has been fresh without a break.
    steady_since: Option<Instant>,
    third_until: Option<Instant>,
    asked: Option<(u64, Instant)>,
    numbers: u64,
    ask_from: Instant,
    third: Third,
}

/// The right by the twin's vote is shorter than its promise by one part in so many, because two clocks
/// do not run alike; good for clocks that are each wrong by 1.5 %.
const DRIFT_PART: u32 = 32;

/// The third vote is given back when the twin's has been fresh for so long.
const STEADY: Duration = Duration::from_secs(1);

impl Votes {
    pub(crate) fn new(now: Instant, on: bool, timings: &Timings) -> Self {
        Self {
            term: on.then_some(timings.vote),
            silence: timings.silence,
            lease: timings.lease,
            both_ways: timings.both_ways(),
            stands_since: None,
            twin_until: None,
            steady_since: None,
            third_until: None,
            asked: None,
            numbers: 0,
            ask_from: now,
            third: Third::Unasked,
        }
    }

    /// Whether votes are needed at all.
    pub(crate) fn is_on(&self) -> bool {
        self.term.is_some()
    }

    /// Until when we may serve; `None`: not at all.
    pub(crate) fn right_until(&self) -> Option<Instant> {
        self.twin_until.max(self.third_until)
    }

    /// Whether we may serve.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        !self.is_on() || self.right_until().is_some_and(|until| now < until)
    }

    pub(crate) fn twin_until(&self) -> Option<Instant> {
        self.twin_until
    }

    pub(crate) fn third_until(&self) -> Option<Instant> {
        self.third_until
    }

    pub(crate) fn third(&self) -> Third {
        self.third
    }

    /// From now on our heartbeats say that we are about to serve.
    pub(crate) fn stand(&mut self, now: Instant) {
        self.stands_since = Some(now);
        self.twin_until = None;
        self.steady_since = None;
        self.ask_from = now;
    }

    /// Neither serving nor about to: the twin's vote was for what has ended.
    pub(crate) fn sit_down(&mut self) {
        self.stands_since = None;
        self.twin_until = None;
        self.steady_since = None;
    }

    /// For how long we have waited to be voted for.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        let limit = self.stands_since.map(|since| since + self.silence * 2);
        !self.holds(now) && limit.is_none_or(|limit| limit <= now)
    }

    /// When that will be so.
    fn hopeless_at(&self) -> Option<Instant> {
        self.stands_since.map(|since| since + self.silence * 2)
    }

    /// A heartbeat of the twin was taken.
    pub(crate) fn hear(&mut self, now: Instant, life: Life, beat: &Beat) {
        let (Some(since), Some(echo)) = (self.stands_since, beat.echo) else { return };
        let sent = Instant::from_micros(echo.sent_micros);
        let stands_back = beat.state.is_idle() || beat.state == State::Yielding;
        let votes = stands_back && !beat.serving;
        if !self.is_on() || !votes || echo.life != life || sent < since {
            return;
        }
        let unbroken = self.is_twin_fresh(now);
        let right = self.silence - self.silence / DRIFT_PART;
        self.twin_until = self.twin_until.max(Some(sent + right));
        let fresh = self.is_twin_fresh(now);
        self.steady_since = self.steady_since.filter(|_| unbroken).or_else(|| fresh.then_some(now));
    }

    /// Whether the twin's vote needs no help.
    fn is_twin_fresh(&self, now: Instant) -> bool {
        self.twin_until.is_some_and(|until| now + self.silence / 2 < until)
    }

    /// Whether the third vote is wanted by who serves or is about to.
    pub(crate) fn is_needed(&self, now: Instant, claiming: bool) -> bool {
        let since = self.stands_since.unwrap_or(now);
        !self.is_twin_fresh(now) && (!claiming || since + self.both_ways <= now)
    }

    /// Whether to ask now; the number of the request.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<(u64, Duration)> {
        let term = self.term?;
        let held = self.third_until.is_some_and(|until| now + term * 3 / 4 < until);
        let waits = self.asked.is_some_and(|(_, at)| now < at + term / 4);
        if held || waits || now < self.ask_from {
            return None;
        }
        self.numbers += 1;
        self.asked = Some((self.numbers, now));
        Some((self.numbers, term))
    }

    /// The third voter's answer. True: it is to our newest question.
    pub(crate) fn take(&mut self, now: Instant, voted: Voted) -> bool {
        let (Voted::Granted { number, .. }
        | Voted::Refused { number, .. }
        | Voted::Unreachable { number }) = voted;
        let Some((_, at)) = self.asked.filter(|(asked, _)| *asked == number) else {
            return false;
        };
        self.asked = None;
        let pause = self.term.unwrap_or_default() / 8;
        self.ask_from = now + pause;
        self.third = match voted {
            Voted::Granted { term, .. } => {
                self.third_until = self.third_until.max(Some(at + term));
                Third::Granted
            }
            Voted::Refused { left, .. } => {
                // Where only the reign was too early the next request may follow, yet not at once.
                self.ask_from = now + if left.is_zero() { pause } else { left.min(pause) };
                Third::Refused
            }
            Voted::Unreachable { .. } => Third::Unreachable,
        };
        true
    }

    /// Whether the third vote can be given back because the twin's has been fresh for a while, and
    /// no lease that rested on the third ends later.
    pub(crate) fn is_steady(&self, now: Instant) -> bool {
        let long = self.steady_since.is_some_and(|since| since + STEADY <= now);
        let covered = self.twin_until.is_some_and(|until| now + self.lease <= until);
        long && covered && self.is_twin_fresh(now)
    }

    /// Gives the third vote back. True: there was one, or a question that is not answered.
    pub(crate) fn give_back(&mut self, now: Instant) -> bool {
        let held = self.third_until.take().is_some_and(|until| now < until);
        let asked = self.asked.take().is_some();
        if held {
            self.third = Third::Unasked;
        }
        held || asked
    }

    /// When something may change by itself.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let term = self.term?;
        let times = [
            self.twin_until,
            self.twin_until.map(|until| until - self.silence / 2),
            self.third_until,
            self.third_until.map(|until| until - term * 3 / 4),
            self.asked.map(|(_, at)| at + term / 4),
            self.stands_since.map(|since| since + self.both_ways),
            self.hopeless_at(),
            self.steady_since.map(|since| since + STEADY),
            Some(self.ask_from),
        ];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }
}
