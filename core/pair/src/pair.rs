//! The machine: takes inputs, asks what is the case, does what the table says.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Instant, Seat, Stamp};

use crate::address::Address;
use crate::beat::{Beat, Echo, Life, Server};
use crate::output::{Change, Notice, Output};
use crate::table::{Event, Row, State, find};
use crate::timings::{PROBE_QUESTIONS, Timings};
use crate::twin::{Dropped, Twin};

/// Who stays active when contact is back after both were.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Healing {
    /// Who carries more calls; with equal calls the later reign.
    #[default]
    LiveCalls,
    /// The master.
    Master,
}

/// What is configured.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Our place in the pair.
    pub seat: Seat,
    /// The time-outs; [`Timings::check`] must accept them.
    pub timings: Timings,
    /// Who stays when both were active.
    pub healing: Healing,
    /// Whether there is a virtual address that can be asked for a serving server. Not on loopback.
    pub probe: bool,
    /// Maintenance lock, as it was saved.
    pub locked: bool,
}

/// What this machine brings from its disk.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Greater than at every earlier start: the greater of the saved one plus one, and the
    /// wall clock in milliseconds.
    pub boot: u64,
    /// The last [`Output::SaveEpoch`] that was put on disk.
    pub saved: Epoch,
}

/// What our server hears on the journal link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// When the twin's server was heard last.
    pub heard_at: Option<Instant>,
    /// Whether that serves, as it says.
    pub serving: Option<bool>,
    /// The reign it serves or follows, as it says.
    pub epoch: Option<Epoch>,
}

/// Our own server, as the keeper sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Own {
    /// Its process.
    pub server: Server,
    /// Whether it serves phones.
    pub serving: bool,
    /// Passive: whether everything the twin committed while linked is here.
    pub in_sync: bool,
    /// Active: whether everything that was promised is on the twin too.
    pub protected: bool,
    /// The newest entry it has; `None` before it has told.
    pub holds: Option<Stamp>,
    /// Calls that are up.
    pub calls: u32,
    /// The journal link.
    pub link: Link,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            server: Server::Starting,
            serving: false,
            in_sync: false,
            protected: false,
            holds: None,
            calls: 0,
            link: Link::default(),
        }
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// A heartbeat came; its origin is proven by the caller.
    Heard(Beat),
    /// Our server changed, or reported.
    Own(Own),
    /// This epoch is on disk.
    EpochSaved(Epoch),
    /// This epoch could not be put on disk.
    EpochNotSaved(Epoch),
    /// The virtual address is ours.
    Claimed,
    /// The virtual address could not be taken.
    ClaimFailed,
    /// A server serves at the virtual address; or (`false`) it is certain that none does.
    Probe(bool),
    /// Our network has a carrier.
    Carrier(bool),
    /// The wall clock or the io side tells that this process was held up so long. Own timers that
    /// fire late are noticed without this.
    Slept(Duration),
    /// Maintenance lock set or taken off.
    Lock(bool),
}

/// Why a switchover was not begun.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchRefused {
    /// Only the active server can hand over.
    NotActive,
    /// The twin's keeper is not heard.
    TwinSilent,
    /// The twin's server is not up, or its network, disk or a maintenance lock forbids it to lead.
    TwinNotFit,
    /// The twin is not in sync: calls would be lost. Can be forced.
    TwinNotInSync,
}

/// Rules the simulator may break, to see that it is noticed.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sabotage {
    /// Begin a reign without its epoch on disk.
    pub skip_saving_epochs: bool,
    /// Take heartbeats that are late, repeated or from an earlier life.
    pub accept_late_heartbeats: bool,
}

/// Where the question at the virtual address stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Probe {
    Unasked,
    Asking { asked: u32, next: Instant, until: Instant },
    Answered { again: Instant },
}

/// One machine's half of the pair.
#[derive(Debug)]
pub struct Pair {
    pub(crate) config: Config,
    pub(crate) state: State,
    since: Instant,
    /// The sentence that led to the present state.
    why: &'static str,
    life: Life,
    seq: u64,
    /// Our own last reign.
    pub(crate) reign: Epoch,
    /// The highest epoch seen; the next reign is minted above it.
    pub(crate) highest: Epoch,
    /// The epoch being put on disk for a reign, and how long that may take.
    minting: Option<(Epoch, Instant)>,
    mint_from: Instant,
    /// The server process of our last reign is still the same.
    pub(crate) reigned_with_this_server: bool,
    pub(crate) own: Own,
    /// Calls that our last heartbeat told.
    pub(crate) told_calls: u32,
    pub(crate) carrier: bool,
    pub(crate) locked: bool,
    pub(crate) unfit_until: Option<Instant>,
    pub(crate) twin: Twin,
    twin_was_heard: bool,
    rival_seen: bool,
    /// Before that, silence of the twin means nothing.
    pub(crate) judge_from: Instant,
    probe: Probe,
    somebody_serves: bool,
    address: Address,
    yield_until: Option<Instant>,
    next_beat: Option<Instant>,
    /// Extra heartbeats after a change: since when, and how many are out.
    burst: Option<(Instant, usize)>,
    late: Lateness,
    now: Instant,
    outputs: VecDeque<Output>,
    #[cfg(feature = "sabotage")]
    sabotage: Sabotage,
    #[cfg(test)]
    pub(crate) asked: std::collections::BTreeSet<(State, Event)>,
}

/// The longest lateness of own timers in this and the last window.
#[derive(Debug)]
struct Lateness {
    window_ends: Instant,
    present: Duration,
    past: Duration,
}

impl Lateness {
    fn note(&mut self, now: Instant, late: Duration) {
        if self.window_ends <= now {
            self.window_ends = now + LATENESS_WINDOW;
            self.past = core::mem::take(&mut self.present);
        }
        self.present = self.present.max(late);
    }

    fn worst(&self) -> Duration {
        self.present.max(self.past)
    }
}

/// Own lateness is told for one to two of these.
const LATENESS_WINDOW: Duration = Duration::from_secs(1);

/// After a change it is told so often, so that one lost packet does not cost a heartbeat's pause.
const BURST_AT: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(3), Duration::from_millis(10)];

/// More steps than the longest way through the table that needs no new input.
const STEPS_MAX: usize = 8;

impl Pair {
    /// Starts cold. Orders to give up a left-over address.
    pub fn new(now: Instant, config: Config, start: Start) -> Self {
        let own_reign = start.saved.seat == config.seat;
        Self {
            config,
            state: State::Cold,
            since: now,
            why: "started",
            life: Life { boot: start.boot, sleeps: 0 },
            seq: 0,
            reign: if own_reign { start.saved } else { Epoch::NEVER },
            highest: start.saved,
            minting: None,
            mint_from: now,
            reigned_with_this_server: false,
            own: Own::default(),
            told_calls: 0,
            carrier: true,
            locked: config.locked,
            unfit_until: None,
            twin: Twin::default(),
            twin_was_heard: false,
            rival_seen: false,
            judge_from: now + config.timings.cold_wait(config.seat),
            probe: Probe::Unasked,
            somebody_serves: false,
            address: Address::None,
            yield_until: None,
            next_beat: None,
            burst: None,
            late: Lateness {
                window_ends: now + LATENESS_WINDOW,
                present: Duration::ZERO,
                past: Duration::ZERO,
            },
            now,
            outputs: VecDeque::from([Output::Release]),
            #[cfg(feature = "sabotage")]
            sabotage: Sabotage::default(),
            #[cfg(test)]
            asked: std::collections::BTreeSet::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.notice_lateness(now);
        match input {
            // Why a heartbeat was not taken matters to callers of `hear` only.
            Input::Heard(beat) => drop(self.take_beat(now, beat)),
            Input::Own(own) => self.take_own(now, own),
            Input::EpochSaved(epoch) => self.epoch_saved(now, epoch),
            Input::EpochNotSaved(epoch) => self.epoch_not_saved(now, epoch),
            Input::Claimed => self.address.claimed(now),
            Input::ClaimFailed => self.claim_failed(now),
            Input::Probe(true) => self.probe_answered(now),
            Input::Probe(false) => self.probe_quiet(now),
            Input::Carrier(there) => self.take_carrier(now, there),
            Input::Slept(long) => self.slept(now, long),
            Input::Lock(locked) => self.locked = locked,
        }
        self.run(now);
    }

    /// As [`Input::Heard`].
    ///
    /// # Errors
    ///
    /// Why the heartbeat was not taken.
    pub fn hear(&mut self, now: Instant, beat: Beat) -> Result<(), Dropped> {
        self.notice_lateness(now);
        let taken = self.take_beat(now, beat);
        self.run(now);
        taken
    }

    /// Does everything that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_lateness(now);
        self.run(now);
    }

    /// Only notices if this process was held up. For callers that have other work to do at `now`
    /// before they come here.
    pub fn wake(&mut self, now: Instant) {
        self.notice_lateness(now);
    }

    /// Begins to hand over to the twin.
    ///
    /// # Errors
    ///
    /// When there is nothing to hand over, or nobody to hand over to.
    pub fn order_switch(&mut self, now: Instant, force: bool) -> Result<(), SwitchRefused> {
        self.notice_lateness(now);
        self.run(now);
        if self.state != State::Active {
            return Err(SwitchRefused::NotActive);
        }
        let beat = self.heard_twin(now).ok_or(SwitchRefused::TwinSilent)?;
        if !beat.fit {
            return Err(SwitchRefused::TwinNotFit);
        }
        if !self.twin_can_serve(now, force) {
            return Err(SwitchRefused::TwinNotInSync);
        }
        self.step(now, Event::SwitchOrdered);
        self.run(now);
        Ok(())
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Pair::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timings = &self.config.timings;
        let probe = match self.probe {
            Probe::Unasked => None,
            Probe::Asking { next, until, .. } => Some(next.min(until)),
            Probe::Answered { again } => Some(again),
        };
        let deeds = [
            Some(self.next_beat.unwrap_or(self.now)),
            self.burst.and_then(|(from, out)| Some(from + *BURST_AT.get(out)?)),
            self.minting.map(|(_, until)| until),
            self.address.next_timeout(),
            self.yield_until,
            probe.filter(|_| self.state == State::Probing),
        ];
        // What is the case changes by itself at these times only; those that are past have had it.
        let turns = [
            self.twin.silent_at(timings.silence),
            Some(self.judge_from),
            self.own.link.heard_at.map(|at| at + timings.silence),
            self.twin.idle_since().map(|since| since + timings.revive),
            self.twin.lease_end(timings.silence),
            self.unfit_until,
            Some(self.mint_from),
        ];
        let turns = turns.into_iter().flatten().filter(|at| *at > self.now);
        deeds.into_iter().flatten().chain(turns).min()
    }

    /// What this server does.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The sentence that led to the present state.
    pub fn why(&self) -> &'static str {
        self.why
    }

    /// What is the case now and what the table says to it: why this server goes on as it does.
    pub fn standing(&self, now: Instant) -> &'static str {
        find(self.state, self.situation(now), self.config.seat).why
    }

    /// Our own last reign; the present one while active.
    pub fn reign(&self) -> Epoch {
        self.reign
    }

    /// The highest epoch seen.
    pub fn highest(&self) -> Epoch {
        self.highest
    }

    /// What is known of the twin's keeper.
    pub fn twin(&self) -> &Twin {
        &self.twin
    }

    /// Whether the twin's keeper is heard.
    pub fn is_twin_heard(&self, now: Instant) -> bool {
        self.heard_twin(now).is_some()
    }

    /// Whether the twin would serve at once if we died now.
    pub fn is_twin_ready(&self, now: Instant) -> bool {
        self.twin_can_serve(now, false)
    }

    /// The life of this keeper.
    pub fn life(&self) -> Life {
        self.life
    }

    /// How late own timers were of late.
    pub fn lateness(&self) -> Duration {
        self.late.worst()
    }

    /// Whether the maintenance lock is set.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Whether our network has a carrier.
    pub fn has_carrier(&self) -> bool {
        self.carrier
    }

    /// Breaks rules on purpose.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
    }
}

/// What inputs change.
impl Pair {
    fn take_beat(&mut self, now: Instant, beat: Beat) -> Result<(), Dropped> {
        let patience = self.twin.patience(self.config.timings.silence);
        let us = (self.config.seat, self.life);
        let accept_late = self.accepts_late();
        let taken = self.twin.take(now, us, patience, beat, accept_late);
        match taken {
            Ok(()) | Err(Dropped::Stale) => self.learn(beat.highest),
            Err(Dropped::SameSeat | Dropped::Late) => {}
        }
        taken
    }

    /// Remembers an epoch so that no later reign is minted at or below it.
    fn learn(&mut self, epoch: Epoch) {
        if epoch > self.highest {
            self.highest = epoch;
            self.outputs.push_back(Output::SaveEpoch(epoch));
        }
    }

    fn take_own(&mut self, now: Instant, own: Own) {
        if own.server != Server::Up {
            self.reigned_with_this_server = false;
        }
        if own.server != self.own.server {
            self.burst = Some((now, 0));
        }
        self.own = own;
    }

    fn epoch_saved(&mut self, now: Instant, epoch: Epoch) {
        if self.minting.is_none_or(|(minted, _)| minted != epoch) {
            return;
        }
        self.minting = None;
        self.highest = self.highest.max(epoch);
        match self.state {
            State::Claiming => {
                self.reign = epoch;
                self.step(now, Event::EpochSaved);
            }
            State::Active => {
                self.reign = epoch;
                self.changed(
                    State::Active,
                    "contact is back: a later reign, so that the twin follows",
                );
                self.burst = Some((now, 0));
            }
            State::Cold | State::Passive | State::Probing | State::Yielding | State::Stopped => {}
        }
    }

    fn epoch_not_saved(&mut self, now: Instant, epoch: Epoch) {
        self.outputs.push_back(Output::Notice(Notice::EpochNotSaved(epoch)));
        if self.minting.is_some_and(|(minted, _)| minted == epoch) {
            self.minting = None;
            self.mint_from = now + self.config.timings.retry;
            self.step(now, Event::EpochNotSaved);
        }
    }

    fn claim_failed(&mut self, now: Instant) {
        if self.address != Address::None {
            self.outputs.push_back(Output::Notice(Notice::ClaimFailed));
            self.step(now, Event::ClaimFailed);
        }
    }

    fn probe_answered(&mut self, now: Instant) {
        if self.state != State::Probing {
            return;
        }
        self.probe = Probe::Answered { again: now + self.config.timings.probe_again };
        if !core::mem::replace(&mut self.somebody_serves, true) {
            self.outputs.push_back(Output::Notice(Notice::SomebodyServes));
        }
        self.step(now, Event::ProbeAnswered);
    }

    fn probe_quiet(&mut self, now: Instant) {
        if self.state == State::Probing && self.situation(now) == Event::Silent {
            self.step(now, Event::ProbeQuiet);
        }
    }

    fn take_carrier(&mut self, now: Instant, there: bool) {
        if there == self.carrier {
            return;
        }
        self.carrier = there;
        self.outputs.push_back(Output::Notice(Notice::Carrier(there)));
        if there {
            self.judge_afresh(now);
        }
    }

    /// Judges nobody until a fresh silence limit has passed.
    fn judge_afresh(&mut self, now: Instant) {
        let fresh = now + self.twin.patience(self.config.timings.silence);
        self.judge_from = self.judge_from.max(fresh);
        self.probe = Probe::Unasked;
    }

    /// Own timers that fire late tell that this process was held up.
    fn notice_lateness(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let due = *self.next_beat.get_or_insert(now);
        let late = due.elapsed_until(now);
        self.late.note(now, late);
        if late > self.config.timings.silence {
            self.slept(now, late);
        } else if late > self.config.timings.stall() {
            self.next_beat = Some(now);
            self.outputs.push_back(Output::Notice(Notice::Stalled(late)));
            self.judge_afresh(now);
        }
    }

    /// The twin may have taken over long ago: forget what it said, and be somebody new, so that
    /// what it said to our former life is known to be old.
    fn slept(&mut self, now: Instant, long: Duration) {
        if long <= self.config.timings.silence {
            return;
        }
        self.outputs.push_back(Output::Notice(Notice::Slept(long)));
        self.next_beat = Some(now);
        self.life.sleeps += 1;
        self.twin.forget();
        self.judge_afresh(now);
        self.step(now, Event::Slept);
    }
}

/// What follows from them.
impl Pair {
    /// Everything that is due at `now` or follows from the case at `now`.
    fn run(&mut self, now: Instant) {
        if let Some((epoch, until)) = self.minting
            && until <= now
        {
            self.epoch_not_saved(now, epoch);
        }
        if self.address.is_overdue(now) {
            self.claim_failed(now);
        }
        if self.yield_until.is_some_and(|until| until <= now) {
            self.step(now, Event::YieldExpired);
        }
        self.settle(now);
        self.mint_later_reign(now);
        if let Some((epoch, _)) = self.minting
            && self.skips_saving()
        {
            self.epoch_saved(now, epoch);
            self.settle(now);
        }
        self.tell_about_twin(now);
        if self.state == State::Yielding && !self.own.serving {
            self.release();
        }
        if self.address.refresh_due(now) {
            self.outputs.push_back(Output::Refresh);
        }
        self.beat_if_due(now);
    }

    /// Follows the table until it says: stay.
    fn settle(&mut self, now: Instant) {
        for steps in 0.. {
            // A circle in the table would be our own mistake, and to go round is worse than to stop.
            assert!(steps < STEPS_MAX, "the table has a circle at {:?}", self.state);
            let before = self.state;
            let case = self.situation(now);
            self.step(now, case);
            if self.state == State::Probing && case == Event::Silent {
                self.ask(now);
            }
            if self.state == before {
                return;
            }
        }
    }

    /// Asks at the virtual address, or goes on if there is none.
    fn ask(&mut self, now: Instant) {
        if !self.config.probe {
            return self.step(now, Event::ProbeQuiet);
        }
        let timings = &self.config.timings;
        let (asked, next, until) = match self.probe {
            Probe::Asking { asked, next, until } => (asked, next, until),
            Probe::Answered { again } if now < again => return,
            Probe::Unasked | Probe::Answered { .. } => (0, now, now + timings.probe),
        };
        if until <= now {
            self.step(now, Event::ProbeQuiet);
        } else if asked < PROBE_QUESTIONS && next <= now {
            self.outputs.push_back(Output::Probe);
            let next =
                if asked + 1 < PROBE_QUESTIONS { now + timings.probe_pause() } else { until };
            self.probe = Probe::Asking { asked: asked + 1, next, until };
        }
    }

    /// Applies the row for this event.
    fn step(&mut self, now: Instant, event: Event) {
        #[cfg(test)]
        self.asked.insert((self.state, event));
        let row = find(self.state, event, self.config.seat);
        if let Some(to) = row.to {
            self.enter(now, to, event, row);
        }
    }

    /// The only place where the state changes.
    fn enter(&mut self, now: Instant, to: State, event: Event, row: &'static Row) {
        let from = core::mem::replace(&mut self.state, to);
        self.since = now;
        self.probe = Probe::Unasked;
        self.yield_until = None;
        // A reign is explained by what led to the claim, not by the disk having done its work.
        let why = if event == Event::EpochSaved { self.why } else { row.why };
        match to {
            State::Active => self.reigned_with_this_server = true,
            State::Claiming => self.mint(now),
            State::Yielding => self.yield_until = Some(now + self.config.timings.switchover),
            State::Stopped if event != Event::Cut => {
                self.unfit_until = Some(now + self.config.timings.retry);
            }
            State::Cold | State::Passive | State::Probing | State::Stopped => {}
        }
        if to != State::Claiming {
            self.minting = None;
        }
        if to != State::Probing {
            self.somebody_serves = false;
        }
        self.changed(from, why);
        match to {
            State::Active => {
                self.address = Address::Claiming { until: now + self.config.timings.claim };
                self.outputs.push_back(Output::Claim);
            }
            State::Yielding => {}
            State::Cold | State::Passive | State::Probing | State::Claiming | State::Stopped => {
                self.release();
            }
        }
        self.burst = Some((now, 0));
    }

    fn changed(&mut self, from: State, why: &'static str) {
        self.why = why;
        let (to, reign) = (self.state, self.reign);
        self.outputs.push_back(Output::Changed(Change { from, to, reign, why: why.into() }));
    }

    fn release(&mut self) {
        if self.address != Address::None {
            self.address = Address::None;
            self.outputs.push_back(Output::Release);
        }
    }

    /// Orders the epoch of the next reign to disk.
    fn mint(&mut self, now: Instant) {
        let epoch = self.highest.next(self.config.seat);
        self.minting = Some((epoch, now + self.config.timings.save));
        if !self.skips_saving() {
            self.outputs.push_back(Output::SaveEpoch(epoch));
        }
    }

    /// An active server whose reign is not the highest seen would be refused by its twin's journal:
    /// it mints a later one, unless it is about to step down.
    fn mint_later_reign(&mut self, now: Instant) {
        let wanted = self.state == State::Active && self.highest > self.reign;
        if wanted && self.minting.is_none() && self.mint_from <= now {
            let rival = self.situation(now);
            if rival != Event::RivalDeaf {
                self.mint(now);
            }
        }
    }

    fn tell_about_twin(&mut self, now: Instant) {
        let case = self.situation(now);
        let heard = self.heard_twin(now).is_some();
        if heard != self.twin_was_heard && (heard || case != Event::Unjudged) {
            self.twin_was_heard = heard;
            let notice = if heard { Notice::TwinHeard } else { Notice::TwinSilent };
            self.outputs.push_back(Output::Notice(notice));
        }
        let rival = matches!(case, Event::RivalWeaker | Event::RivalDeaf);
        if rival && !self.rival_seen {
            let twin_calls = self.twin.beat().map_or(0, |beat| beat.calls);
            let own_calls = self.told_calls;
            self.outputs.push_back(Output::Notice(Notice::Rival { twin_calls, own_calls }));
        }
        if self.rival_seen && !rival {
            // It announced the address as its own: phones must hear from us again.
            self.address.announce(now);
        }
        self.rival_seen = rival;
    }

    fn beat_if_due(&mut self, now: Instant) {
        let mut due = self.next_beat.is_none_or(|at| at <= now);
        while let Some((from, out)) = self.burst {
            match BURST_AT.get(out) {
                None => self.burst = None,
                Some(after) if from + *after <= now => {
                    self.burst = Some((from, out + 1));
                    due = true;
                }
                Some(_) => break,
            }
        }
        if !due {
            return;
        }
        self.next_beat = Some(now + self.config.timings.beat);
        self.seq += 1;
        self.told_calls = self.own.calls;
        let beat = self.own_beat(now);
        self.outputs.push_back(Output::Beat(beat));
    }

    /// The heartbeat as it would be sent at `now`.
    pub fn own_beat(&self, now: Instant) -> Beat {
        let echo =
            self.twin.beat().map(|beat| Echo { life: beat.life, sent_micros: beat.sent_micros });
        Beat {
            seat: self.config.seat,
            life: self.life,
            seq: self.seq,
            sent_micros: now.as_micros(),
            echo,
            state: self.state,
            reign: self.reign,
            highest: self.highest,
            fit: self.is_fit(now),
            whole: self.is_whole(),
            holds: self.own.holds,
            server: self.own.server,
            serving: self.own.serving,
            protected: self.own.protected,
            calls: self.own.calls,
            silence_micros: micros(self.config.timings.silence),
            late_micros: micros(self.late.worst()),
            locked: self.locked,
            carrier: self.carrier,
        }
    }

    #[cfg(feature = "sabotage")]
    fn accepts_late(&self) -> bool {
        self.sabotage.accept_late_heartbeats
    }

    #[cfg(not(feature = "sabotage"))]
    #[allow(clippy::unused_self)]
    fn accepts_late(&self) -> bool {
        false
    }

    #[cfg(feature = "sabotage")]
    fn skips_saving(&self) -> bool {
        self.sabotage.skip_saving_epochs
    }

    #[cfg(not(feature = "sabotage"))]
    #[allow(clippy::unused_self)]
    fn skips_saving(&self) -> bool {
        false
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
