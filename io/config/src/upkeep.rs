//! What is done from time to time: rows and clocks are compared with the twin's, the log is shortened.

use tandem_dialplan::Edit;
use tandem_oplog::{CLOCK_PAUSE, CheckEnd, FAR_MILLIS, Fact, Skew, WaitsFor};
use tandem_store::tables::{KEEP, RowPlace, SHORTEN_OPS};
use tandem_types::{Duration, Instant};

use crate::asks::{Told, TwinCheck, Verified, faults};
use crate::config::{Config, Damaged, Output};
use crate::edits;

/// The rows of both servers are compared this often.
pub const CHECK_PAUSE: Duration = Duration::from_secs(3_600);

/// While there are new changes all the time the rows cannot be compared; it is tried again after this ...
const CHECK_RETRY: Duration = Duration::from_secs(1);

/// ... so often, and then left for the next hour.
const CHECK_TRIES: u32 = 30;

/// Who asked for a comparison hears after this time what there is.
pub const VERIFY_WAIT: Duration = Duration::from_secs(20);

/// Rows that cannot be read are put right so long after the last time at the earliest: it takes the whole log.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// Rows that cannot be read are looked for this often, among so many of them at a time (some milliseconds): edits wait
/// meanwhile.
const FIND_PAUSE: Duration = Duration::from_secs(3_600);
const FIND_ROWS: usize = 2_000;
const FIND_NEXT: Duration = Duration::from_millis(100);

/// The log is looked at this often; while there is more to delete, at once after the next pause.
const SHORTEN_PAUSE: Duration = Duration::from_secs(3_600);
const SHORTEN_NEXT: Duration = Duration::from_secs(1);

/// When what is due, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// Wall time, milliseconds since 1970, at a moment.
    wall: Option<(Instant, u64)>,
    skew: Skew,
    clock_at: Option<Instant>,
    check_at: Option<Instant>,
    tries: u32,
    /// Rows that were put right since both were last found equal.
    mended: u64,
    verifying: Vec<(Instant, u64)>,
    /// When rows that cannot be read were put right last.
    unreadable_at: Option<Instant>,
    /// How many such rows there are, as far as is known.
    unreadable: u64,
    /// Some of them may have been put right.
    pub(crate) recounts: bool,
    /// When they are looked for, and where that goes on.
    find_at: Option<Instant>,
    found_to: Option<RowPlace>,
    /// What was told of them last.
    told_damaged: Option<Damaged>,
    shorten_at: Option<Instant>,
    shortened: u64,
    /// It was told that changes are dated in the future.
    told_ahead: bool,
}

impl Config {
    /// What the wall clock says, in milliseconds since 1970: call it at the start and whenever it is known anew.
    /// Before, nothing is done that needs it.
    pub fn handle_wall(&mut self, now: Instant, wall_millis: u64) {
        if self.upkeep.wall.is_none() {
            let at = Some(now + SHORTEN_NEXT);
            (self.upkeep.shorten_at, self.upkeep.find_at) = (at, at);
        }
        self.upkeep.wall = Some((now, wall_millis));
    }

    /// Whether anything may be changed because of what a clock says: not while the clocks of the two servers
    /// are more than a minute apart.
    pub fn may_write_automatically(&self) -> bool {
        self.upkeep.skew.may_write_automatically()
    }

    /// By how much the twin's clock is ahead, in milliseconds; `None` before it was known.
    pub fn twin_ahead_millis(&self) -> Option<i64> {
        self.upkeep.skew.ahead_millis()
    }

    /// The end of a block that a clock has brought, and none that can be trusted: then it has no effect but
    /// here. Each server ends it by its own clock.
    pub(crate) fn is_untimely(&self, now: Instant, edit: &Edit) -> bool {
        let Edit::Block { what, block: None } = edit else { return false };
        if self.may_write_automatically() {
            return false;
        }
        let block = edits::block(self.tables.reader(), *what).ok().flatten();
        let until = block.and_then(|block| block.until);
        let wall = self.wall(now).and_then(|millis| i64::try_from(millis).ok());
        until.zip(wall).is_some_and(|(until, wall)| until / 1_000 <= wall)
    }

    pub(crate) fn wall(&self, now: Instant) -> Option<u64> {
        let (at, millis) = self.upkeep.wall?;
        let since = u64::try_from(at.elapsed_until(now).as_micros() / 1_000).unwrap_or(u64::MAX);
        Some(millis.saturating_add(since))
    }

    /// The link came up or went down.
    pub(crate) fn upkeep_link(&mut self) {
        let upkeep = &mut self.upkeep;
        upkeep.skew.forget_question();
        (upkeep.clock_at, upkeep.check_at, upkeep.tries) = (None, None, 0);
        self.verified(&TwinCheck::NotCompared("the link to the other server was cut".to_owned()));
    }

    /// Both have the same ops, for the first time on this link.
    pub(crate) fn upkeep_equal(&mut self, now: Instant) {
        if self.exchange.sync().is_able() {
            self.upkeep.check_at = Some(now);
            self.upkeep.clock_at = self.upkeep.wall.map(|_| now);
            self.keep_up(now);
        }
    }

    /// The twin compares just now.
    pub(crate) fn check_later(&mut self, now: Instant) {
        let check_at = &mut self.upkeep.check_at;
        if check_at.is_some_and(|at| at.remaining_from(now) > CHECK_RETRY) {
            // Who waits here hears of one that was begun here.
            let waits = !self.upkeep.verifying.is_empty();
            *check_at = Some(now + if waits { CHECK_RETRY } else { CHECK_PAUSE });
        }
    }

    /// When [`Config::keep_up`] has something to do.
    pub(crate) fn upkeep_timeout(&self) -> Option<Instant> {
        let verifying = self.upkeep.verifying.first().map(|(until, _)| *until);
        let Upkeep { clock_at, check_at, find_at, shorten_at, .. } = &self.upkeep;
        [*clock_at, *check_at, *find_at, *shorten_at, verifying].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn keep_up(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.upkeep.clock_at) {
            self.upkeep.clock_at = Some(now + CLOCK_PAUSE);
            let number = self.upkeep.skew.ask(now);
            self.exchange.sync_mut().ask_clock(number);
        }
        if is_due(self.upkeep.check_at) {
            if self.exchange.sync_mut().begin_check() {
                self.upkeep.check_at = Some(now + CHECK_PAUSE);
            } else {
                self.check_again(now);
            }
        }
        if is_due(self.upkeep.find_at) {
            self.find_unreadable(now);
        }
        if is_due(self.upkeep.shorten_at) {
            self.shorten(now);
        }
        let late = self.upkeep.verifying.first().is_some_and(|(until, _)| *until <= now);
        if late {
            let why = "the other server gave no answer in time, or gets changes all the time";
            self.verified(&TwinCheck::NotCompared(why.to_owned()));
        }
    }

    fn check_again(&mut self, now: Instant) {
        let upkeep = &mut self.upkeep;
        upkeep.tries += 1;
        if upkeep.tries <= CHECK_TRIES {
            upkeep.check_at = Some(now + CHECK_RETRY);
        } else {
            (upkeep.tries, upkeep.check_at) = (0, Some(now + CHECK_PAUSE));
        }
    }

    /// A comparison is at its end.
    pub(crate) fn checked(&mut self, now: Instant, end: CheckEnd) {
        match end {
            CheckEnd::Equal => {
                self.upkeep.tries = 0;
                let told = match core::mem::take(&mut self.upkeep.mended) {
                    0 => TwinCheck::Equal,
                    rows => TwinCheck::Mended { rows },
                };
                self.verified(&told);
            }
            CheckEnd::Mended(rows) => {
                self.upkeep.mended += rows;
                self.check_again(now);
            }
            CheckEnd::Apart => self.check_again(now),
            CheckEnd::Differs => self.verified(&TwinCheck::Differs),
        }
    }

    /// Rows that were changed and cannot be read are put right: from the log here, or else by a comparison.
    pub(crate) fn mend_unreadable(&mut self, now: Instant) {
        let is_early = self.upkeep.unreadable_at.is_some_and(|at| now < at + UNREADABLE_PAUSE);
        if is_early || !self.tables.met_unreadable() {
            return;
        }
        self.upkeep.unreadable_at = Some(now);
        let (touched, facts, left) = match self.tables.mend_unreadable() {
            Ok(mended) => mended,
            Err(error) => return self.fail(error.to_string()),
        };
        self.outputs.extend(facts.into_iter().map(Output::Fact));
        self.changed(&touched, &[]);
        self.upkeep.unreadable = left;
        if left > 0 && self.exchange.sync().is_able() {
            (self.upkeep.tries, self.upkeep.check_at) = (0, Some(now));
        }
    }

    /// What rows that cannot be read here wait for.
    fn damaged_waits_for(&self) -> WaitsFor {
        let sync = self.exchange.sync();
        match (self.linked && sync.there().is_some(), sync.is_able()) {
            (false, _) => WaitsFor::Twin,
            (true, false) => WaitsFor::Upgrade,
            (true, true) => WaitsFor::Comparison,
        }
    }

    /// How many rows wait to be put right, where that is another number now.
    pub(crate) fn tell_damaged(&mut self) {
        if core::mem::take(&mut self.upkeep.recounts) && self.upkeep.unreadable > 0 {
            match self.tables.count_unreadable() {
                Ok(rows) => self.upkeep.unreadable = rows,
                Err(error) => self.fail(error.to_string()),
            }
        }
        let rows = self.upkeep.unreadable;
        let damaged = (rows > 0).then(|| Damaged { rows, waits_for: self.damaged_waits_for() });
        let before = core::mem::replace(&mut self.upkeep.told_damaged, damaged);
        if damaged == before {
            return;
        }
        self.outputs.push_back(Output::Unreadable(damaged));
        // A link that comes and goes is no news for the log.
        if let Some(Damaged { rows, waits_for }) = damaged
            && (rows > before.map_or(0, |before| before.rows) || waits_for == WaitsFor::Upgrade)
        {
            self.outputs.push_back(Output::Fact(Fact::Unreadable { rows, waits_for }));
        }
    }

    /// Damage that no change and no comparison has met yet is looked for; without a twin nobody else does.
    fn find_unreadable(&mut self, now: Instant) {
        let after = self.upkeep.found_to.take();
        match self.tables.find_unreadable(after.as_ref(), FIND_ROWS) {
            Ok(place) => self.upkeep.found_to = place,
            Err(error) => self.fail(error.to_string()),
        }
        let goes_on = self.upkeep.found_to.is_some();
        self.upkeep.find_at = Some(now + if goes_on { FIND_NEXT } else { FIND_PAUSE });
    }

    /// Somebody wants to know whether all is well.
    pub(crate) fn verify(&mut self, now: Instant, id: u64) {
        self.upkeep.verifying.push((now + VERIFY_WAIT, id));
        if !self.linked {
            return self.verified(&TwinCheck::Alone);
        }
        if !self.exchange.sync().is_able() {
            let why = "the other server has not greeted yet, or is of an earlier version";
            return self.verified(&TwinCheck::NotCompared(why.to_owned()));
        }
        (self.upkeep.tries, self.upkeep.check_at) = (0, Some(now));
    }

    /// Whoever waits hears of the twin, and what is wrong with the file here.
    fn verified(&mut self, twin: &TwinCheck) {
        if self.upkeep.verifying.is_empty() {
            return;
        }
        let told = match faults(&self.tables) {
            Ok(faults) => Told::Verified(Verified { faults, twin: twin.clone() }),
            Err(error) => Told::NotDecided(error.to_string()),
        };
        for (_, id) in core::mem::take(&mut self.upkeep.verifying) {
            self.outputs.push_back(Output::Told { id, told: told.clone() });
        }
    }

    /// The twin asks for the time.
    pub(crate) fn tell_clock(&mut self, now: Instant, number: u64) {
        if let Some(wall) = self.wall(now) {
            self.exchange.sync_mut().tell_clock(number, wall);
        }
    }

    /// The twin's time.
    pub(crate) fn compare_clocks(&mut self, now: Instant, number: u64, theirs: u64) {
        let Some(ours) = self.wall(now) else { return };
        if let Some(fact) = self.upkeep.skew.answered(now, number, theirs, ours) {
            self.outputs.push_back(Output::Fact(fact));
        }
    }

    /// Stamps never go back, so one that is far in the future takes those made here along; somebody must know.
    pub(crate) fn judge_stamps(&mut self, now: Instant) {
        let Some(wall) = self.wall(now) else { return };
        let ahead_millis = self.tables.latest().millis().saturating_sub(wall);
        let is_ahead = ahead_millis > FAR_MILLIS;
        if is_ahead && !self.upkeep.told_ahead {
            self.outputs.push_back(Output::Fact(Fact::StampAhead { ahead_millis }));
        }
        self.upkeep.told_ahead = is_ahead;
    }

    fn shorten(&mut self, now: Instant) {
        self.upkeep.shorten_at = Some(now + SHORTEN_PAUSE);
        let Some(wall) = self.wall(now).filter(|_| self.may_write_automatically()) else { return };
        // Who takes a copy just now may need what would be deleted: it can wait.
        if self.progress().is_some() {
            return;
        }
        let there = self.exchange.sync().agreed().cloned();
        match self.tables.shorten(wall, there.as_ref(), &KEEP) {
            Ok(ops) => {
                self.upkeep.shortened += ops as u64;
                if ops == SHORTEN_OPS {
                    self.upkeep.shorten_at = Some(now + SHORTEN_NEXT);
                } else if self.upkeep.shortened > 0 {
                    let ops = core::mem::take(&mut self.upkeep.shortened);
                    self.outputs.push_back(Output::Fact(Fact::Shortened { ops }));
                }
            }
            Err(error) => self.fail(error.to_string()),
        }
    }
}
