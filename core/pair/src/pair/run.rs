//! What follows from the case: steps of the table, and the deeds that go with a state.

use tandem_types::{Duration, Instant};

use super::{BURST_AT, Pair, Probe};
use crate::address::Address;
use crate::beat::Beat;
use crate::output::{Change, Evidence, Notice, Output};
use crate::table::{Event, Row, State, find};

/// More steps than the longest way through the table that needs no new input.
const STEPS_MAX: usize = 8;

impl Pair {
    /// Everything that is due at `now` or follows from the case at `now`.
    pub(super) fn run(&mut self, now: Instant) {
        if let Some((epoch, until)) = self.minting
            && until <= now
        {
            self.epoch_not_saved(now, epoch);
        }
        if self.address.is_overdue(now) {
            self.claim_failed(now);
        }
        if let Some(until) = self.yield_until.filter(|until| *until <= now) {
            if self.votes.is_on() && self.situation(now) == Event::TwinClaims {
                // It has our vote.
                self.yield_until = Some(until + self.config.timings.silence);
            } else {
                self.step(now, Event::YieldExpired);
            }
        }
        self.settle(now);
        if self.state == State::Claiming && self.saved && self.votes.holds(now) {
            self.step(now, Event::EpochSaved);
            self.settle(now);
        }
        self.vote(now);
        self.mint_later_reign(now);
        if let Some((epoch, _)) = self.minting
            && self.skips_saving()
        {
            self.epoch_saved(now, epoch);
            self.settle(now);
        }
        self.tell_about_twin(now);
        if self.address.is_left(now) {
            self.release();
        }
        // After a planned switch the twin hears at the address until phones learn that it is here; a
        // dead one does not, and what a server says first must not be answered to the dead.
        let heard_here = self.own.serving || !self.handed_over;
        if self.address.refresh_due(now) && self.state == State::Active && heard_here {
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
            } else {
                self.probe = Probe::Unasked;
            }
            if self.state == before {
                return;
            }
        }
    }

    /// Asks at the virtual address, or goes on if there is none.
    fn ask(&mut self, now: Instant) {
        if !self.config.probe {
            return self.nobody_serves_there(now);
        }
        let timings = &self.config.timings;
        let (next, until) = match self.probe {
            Probe::Asking { next, until } => (next, until),
            Probe::Answered { again } if now < again => return,
            Probe::Answered { .. } => (now, now + timings.long_probe()),
            Probe::Unasked => (now, now + timings.probe),
        };
        if until <= now {
            self.nobody_serves_there(now);
        } else if next <= now {
            self.outputs.push_back(Output::Probe);
            let next = until.min(now + timings.probe_pause());
            self.probe = Probe::Asking { next, until };
        }
    }

    /// Applies the row for this event.
    pub(super) fn step(&mut self, now: Instant, event: Event) {
        #[cfg(test)]
        self.asked.insert((self.state, event));
        let row = find(self.state, event, self.config.seat);
        if let Some(to) = row.to {
            self.enter(now, to, event, row);
        }
    }

    /// The only place where the state changes.
    fn enter(&mut self, now: Instant, to: State, event: Event, row: &'static Row) {
        let evidence = self.evidence(now, event);
        let from = core::mem::replace(&mut self.state, to);
        self.since = now;
        if to.is_idle() && !from.is_idle() {
            self.idle_since = now;
        }
        if from == State::Cold {
            // The long wait was for a word of the twin.
            self.judge_from = now;
        }
        // Who handed over asks for longer: the twin may be asking too, and was told to serve.
        self.probe = match from {
            State::Yielding => Probe::Answered { again: now },
            State::Cold
            | State::Passive
            | State::Probing
            | State::Claiming
            | State::Active
            | State::Stopped => Probe::Unasked,
        };
        self.yield_until = None;
        self.saved = false;
        if to == State::Claiming {
            self.handed_over = event == Event::TwinYielded;
            self.votes.stand(now);
        } else if to.is_idle() {
            self.votes.sit_down();
        }
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
        self.changed(from, why, evidence);
        // The word goes out before the kernel is asked for anything: the twin may be waiting for it.
        self.burst = Some((now, 0));
        self.beat_if_due(now);
        match to {
            State::Active => {
                self.address = Address::Claiming { until: now + self.config.timings.claim };
                self.outputs.push_back(Output::Claim);
            }
            State::Yielding => {}
            // The twin serves: some phones have not learned yet where the address is.
            State::Passive if matches!(event, Event::TwinServes | Event::LinkServes) => {
                self.address.leave(now + self.config.timings.linger);
            }
            State::Cold | State::Passive | State::Probing | State::Claiming | State::Stopped => {
                self.release();
            }
        }
    }

    pub(super) fn changed(&mut self, from: State, why: &'static str, evidence: Evidence) {
        self.why = why;
        let (to, reign) = (self.state, self.reign);
        let change = Change { from, to, reign, why: why.into(), evidence };
        self.outputs.push_back(Output::Changed(change));
    }

    /// What is known at `now`, before the state changes because of `case`.
    pub(super) fn evidence(&self, now: Instant, case: Event) -> Evidence {
        let ago = |at: Instant| at.elapsed_until(now);
        let beat = self.twin.beat();
        let asks = self.state == State::Probing && self.config.probe;
        Evidence {
            case,
            twin_heard: self.twin.heard_at().map(ago),
            twin_said: beat.map(|beat| beat.state),
            twin_server: beat.map(|beat| beat.server),
            twin_served: self.twin.served_at().map(ago),
            link_heard: self.own.link.heard_at.map(ago),
            link_serving: self.own.link.serving,
            probed: asks.then(|| ago(self.since)),
            server: self.own.server,
            carrier: self.carrier,
            late: self.late.worst(),
        }
    }

    pub(super) fn release(&mut self) {
        if self.address != Address::None {
            self.address = Address::None;
            self.outputs.push_back(Output::Release);
        }
    }

    /// Asks for the third vote while it is needed, and gives it back when it is not.
    fn vote(&mut self, now: Instant) {
        if !self.votes.is_on() {
            return;
        }
        let wanted = match self.state {
            State::Claiming => self.votes.is_needed(now, true),
            State::Active => self.votes.is_needed(now, false),
            State::Yielding => self.own.serving && self.votes.is_needed(now, false),
            State::Probing => !self.somebody_serves,
            State::Cold | State::Passive | State::Stopped => false,
        };
        let epoch = match (self.minting, self.state) {
            (Some((epoch, _)), _) => epoch,
            (None, State::Claiming | State::Active | State::Yielding) => self.reign,
            (None, State::Cold | State::Passive | State::Probing | State::Stopped) => {
                self.highest.next(self.config.seat)
            }
        };
        if wanted {
            if let Some((number, term)) = self.votes.ask(now) {
                self.outputs.push_back(Output::AskVote { number, epoch, term });
            }
            return;
        }
        // A server that was told to stop has done so when it says so, or when its lease has ended.
        let lease_over = self.idle_since + self.config.timings.lease <= now;
        let stopped = !self.own.serving;
        let unused = match self.state {
            State::Active => self.votes.is_steady(now),
            State::Claiming => false,
            State::Yielding => stopped,
            State::Cold | State::Passive | State::Probing | State::Stopped => stopped && lease_over,
        };
        if unused && self.votes.give_back(now) {
            self.outputs.push_back(Output::ReleaseVote { epoch: self.reign });
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
            // Against a rival of a later reign that would go on for ever: both would outbid each other.
            let rival = self.situation(now);
            if rival != Event::RivalDeaf && !self.is_later_rival_on_link() {
                self.mint(now);
            }
        }
    }

    /// Whether phones reached us while the twin did not. Whatever cut us off from both did so up to
    /// a few lost heartbeats after the twin was heard last; a takeover comes later than that.
    fn is_reached(&self) -> bool {
        let margin = self.config.timings.silence;
        self.own.phone_heard.is_some_and(|at| self.lost_at.is_none_or(|lost| at > lost + margin))
    }

    fn tell_about_twin(&mut self, now: Instant) {
        let case = self.situation(now);
        let heard = self.heard_twin(now).is_some();
        if heard != self.twin_was_heard && (heard || case != Event::Unjudged) {
            self.twin_was_heard = heard;
            let notice = if heard { Notice::TwinHeard } else { Notice::TwinSilent };
            self.outputs.push_back(Output::Notice(notice));
            if !heard {
                self.lost_at = self.twin.heard_at();
            }
            if heard {
                // Who was cut off may have announced the address while we could not be heard.
                self.address.announce(now);
            }
        }
        let alike = self.has_same_seat(now);
        if alike && !self.alike_seen {
            self.outputs.push_back(Output::Notice(Notice::SameSeat));
        }
        self.alike_seen = alike;
        let rival = matches!(case, Event::RivalWeaker | Event::RivalDeaf);
        if rival && !self.rival_seen {
            let twin_calls = self.twin.beat().map_or(0, |beat| beat.calls);
            let (_, own_calls) = self.told;
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
        self.told = (self.is_reached(), self.own.calls);
        let beat = self.own_beat(now);
        self.outputs.push_back(Output::Beat(beat));
    }

    /// The heartbeat as it would be sent at `now`.
    pub fn own_beat(&self, now: Instant) -> Beat {
        Beat {
            seat: self.config.seat,
            life: self.life,
            seq: self.seq,
            sent_micros: now.as_micros(),
            echo: self.twin.echo(now).filter(|_| self.may_vote(now)),
            state: self.state,
            reign: self.reign,
            highest: self.highest,
            fit: self.is_fit(now),
            whole: self.is_whole(now),
            holds: self.own.holds,
            server: self.own.server,
            serving: self.own.serving,
            protected: self.own.protected,
            calls: self.own.calls,
            reached: self.is_reached(),
            silence_micros: micros(self.config.timings.silence),
            late_micros: micros(self.late.worst()),
            locked: self.locked,
            carrier: self.carrier,
        }
    }

    /// An echo is a vote for the twin. A keeper that has just started does not vote before the lease of
    /// a server that its predecessor may have left behind has ended.
    fn may_vote(&self, now: Instant) -> bool {
        !self.votes.is_on() || self.born + self.config.timings.lease <= now
    }

    #[cfg(feature = "sabotage")]
    pub(super) fn accepts_late(&self) -> bool {
        self.sabotage.accept_late_heartbeats
    }

    #[cfg(not(feature = "sabotage"))]
    #[allow(clippy::unused_self)]
    pub(super) fn accepts_late(&self) -> bool {
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
