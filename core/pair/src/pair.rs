//! The machine: takes inputs, asks what is the case, does what the table says.

mod run;
mod situation;
#[cfg(test)]
mod walk;

use std::collections::VecDeque;

use tandem_types::{Duration, Epoch, Instant};

use crate::address::Address;
use crate::beat::{Beat, Life, Server};
#[cfg(feature = "sabotage")]
use crate::input::Sabotage;
use crate::input::{Config, Input, Own, Start, SwitchRefused};
use crate::output::{Notice, Output};
use crate::table::{Event, State, find};
use crate::twin::{Dropped, Twin};
use crate::votes::{Third, Voted, Votes};

/// Where the question at the virtual address stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Probe {
    Unasked,
    Asking { next: Instant, until: Instant },
    Answered { again: Instant },
}

/// One machine's half of the pair.
#[derive(Debug)]
pub struct Pair {
    config: Config,
    state: State,
    since: Instant,
    /// The sentence that led to the present state.
    why: &'static str,
    life: Life,
    seq: u64,
    /// Our own last reign.
    reign: Epoch,
    /// The highest epoch seen; the next reign is minted above it.
    highest: Epoch,
    /// The epoch being put on disk for a reign, and how long that may take.
    minting: Option<(Epoch, Instant)>,
    mint_from: Instant,
    /// The server process of our last reign is still the same.
    reigned_with_this_server: bool,
    own: Own,
    /// Calls that our last heartbeat told.
    told: (bool, u32),
    /// Since when the link says that the twin serves too, in a later reign.
    rival_on_link: Option<Instant>,
    /// Since when the link says without a break that the twin's server does not serve.
    idle_on_link: Option<Instant>,
    /// When the twin was heard last before the present or latest silence.
    lost_at: Option<Instant>,
    carrier: bool,
    /// Neither the gateway nor any phone is reached.
    isolated: bool,
    locked: bool,
    unfit_until: Option<Instant>,
    twin: Twin,
    twin_was_heard: bool,
    rival_seen: bool,
    alike_seen: bool,
    /// When this keeper started.
    born: Instant,
    /// Since when we neither serve nor are about to.
    idle_since: Instant,
    /// Before that, silence of the twin means nothing.
    judge_from: Instant,
    probe: Probe,
    somebody_serves: bool,
    /// The twin handed over to us: it hears at the address until we announce it.
    handed_over: bool,
    votes: Votes,
    /// The epoch of the claim is on disk; what lacks is a vote.
    saved: bool,
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
    asked: std::collections::BTreeSet<(State, Event)>,
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
            told: (false, 0),
            rival_on_link: None,
            idle_on_link: None,
            lost_at: None,
            carrier: true,
            isolated: false,
            locked: config.locked,
            unfit_until: None,
            twin: Twin::default(),
            twin_was_heard: false,
            rival_seen: false,
            alike_seen: false,
            born: now,
            idle_since: now,
            judge_from: now + config.timings.cold_wait(config.seat),
            probe: Probe::Unasked,
            somebody_serves: false,
            handed_over: false,
            votes: Votes::new(now, config.votes, &config.timings),
            saved: false,
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
            Input::Voted(voted) => self.voted(now, voted),
            Input::Isolated(isolated) => self.take_isolated(now, isolated),
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
        // A server that has the role and has not said yet that it serves may begin to at any moment:
        // its word that it does not is no word that it has stopped.
        if self.state != State::Active || !self.own.serving {
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

    /// Sends extra heartbeats now: the twin waits for a word.
    pub fn hurry(&mut self, now: Instant) {
        self.burst = Some((now, 0));
        self.run(now);
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
            self.nobody_serves_since().map(|since| since + timings.revive),
            self.twin.served_at().map(|at| at + timings.revive),
            self.twin.lease_end(timings.silence),
            self.unfit_until,
            Some(self.mint_from),
            self.votes.next_timeout(self.now),
            self.votes.is_on().then(|| self.idle_since + timings.lease),
            self.rival_on_link.map(|since| since + timings.both_ways()),
            self.idle_on_link.map(|since| since + timings.idle_settles()),
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
        let waits = self.state == State::Probing
            && matches!(self.probe, Probe::Answered { .. })
            && !self.somebody_serves
            && !self.votes.holds(now);
        let case = if waits { Event::Unvoted } else { self.situation(now) };
        find(self.state, case, self.config.seat).why
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

    /// Whether we would serve at once and without loss if the twin died now.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.is_fit(now) && self.is_whole(now)
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

    /// Whether two of three votes are needed to serve.
    pub fn needs_votes(&self) -> bool {
        self.votes.is_on()
    }

    /// Until when the votes let us serve; `None`: without an end, or not at all.
    pub fn right_until(&self) -> Option<Instant> {
        self.votes.right_until().filter(|_| self.votes.is_on())
    }

    /// Until when the twin and the third voter vote for us, and what the latter said last.
    pub fn ballot(&self) -> (Option<Instant>, Option<Instant>, Third) {
        (self.votes.twin_until(), self.votes.third_until(), self.votes.third())
    }

    /// Whether the virtual address is ours.
    pub fn holds_address(&self) -> bool {
        self.address.is_held()
    }

    /// Whether the virtual address is still heard here after it was handed over to the twin.
    pub fn leaves_address(&self) -> bool {
        matches!(self.address, Address::Leaving { .. })
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
        let claimed = self.twin.beat().is_some_and(|before| before.state == State::Claiming);
        let taken = self.twin.take(now, us, patience, beat, accept_late);
        if taken.is_ok() {
            self.votes.hear(now, self.life, &beat);
            if self.votes.is_on() && beat.state == State::Claiming && !claimed {
                // It waits for our vote.
                self.burst = Some((now, 0));
            }
        }
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
        let told = |own: &Own| (own.server, own.serving, own.protected);
        if told(&own) != told(&self.own) {
            self.burst = Some((now, 0));
        }
        if own.serving && !self.own.serving {
            // Now somebody hears at the address.
            self.address.announce(now);
        }
        self.own = own;
        let rival = self.is_later_rival_on_link();
        self.rival_on_link = rival.then(|| self.rival_on_link.unwrap_or(now));
        let idle = own.link.serving == Some(false);
        self.idle_on_link = idle.then(|| self.idle_on_link.unwrap_or(now));
        // Our server may have seen a reign that no heartbeat told of: on its disk, or on the link.
        let on_disk = own.holds.map(|holds| holds.epoch);
        for epoch in [on_disk, own.link.epoch].into_iter().flatten() {
            self.learn(epoch);
        }
    }

    fn epoch_saved(&mut self, now: Instant, epoch: Epoch) {
        if self.minting.is_none_or(|(minted, _)| minted != epoch) {
            return;
        }
        self.minting = None;
        self.highest = self.highest.max(epoch);
        if matches!(self.state, State::Claiming | State::Active) {
            self.reign = epoch;
        }
        if self.state == State::Claiming && !self.votes.holds(now) {
            self.saved = true;
            return;
        }
        if self.state == State::Active {
            let why = find(State::Active, Event::EpochSaved, self.config.seat).why;
            let evidence = self.evidence(now, Event::EpochSaved);
            self.changed(State::Active, why, evidence);
            self.burst = Some((now, 0));
        }
        self.step(now, Event::EpochSaved);
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
            // Whatever the row says: a claim that is overdue must not stay so.
            self.release();
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
            self.nobody_serves_there(now);
        }
    }

    /// Nobody answered at the virtual address.
    fn nobody_serves_there(&mut self, now: Instant) {
        if self.votes.holds(now) {
            return self.step(now, Event::ProbeQuiet);
        }
        self.somebody_serves = false;
        self.probe = Probe::Answered { again: now + self.config.timings.probe_again };
        self.step(now, Event::Unvoted);
    }

    fn voted(&mut self, now: Instant, voted: Voted) {
        if let Voted::Refused { highest, .. } = voted {
            // A reign of the twin that it may not have lived to tell us of.
            self.learn(highest);
        }
        let waits = self.state == State::Probing && !self.somebody_serves;
        let granted = self.votes.take(now, voted) && waits && self.votes.holds(now);
        if granted && let Probe::Answered { .. } = self.probe {
            self.probe = Probe::Unasked;
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

    fn take_isolated(&mut self, now: Instant, isolated: bool) {
        if isolated == self.isolated {
            return;
        }
        self.isolated = isolated;
        self.outputs.push_back(Output::Notice(Notice::Isolated(isolated)));
        if !isolated {
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
        if late > self.config.timings.sleep() {
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
        if long <= self.config.timings.sleep() {
            return;
        }
        self.outputs.push_back(Output::Notice(Notice::Slept(long)));
        self.next_beat = Some(now);
        self.life.sleeps += 1;
        // Before it is forgotten how long the twin may rely on what we promised.
        self.judge_afresh(now);
        self.twin.forget();
        self.step(now, Event::Slept);
    }
}
