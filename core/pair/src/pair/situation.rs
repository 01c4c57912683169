//! "What is the case?" - turns all that is known at a moment into the one [`Event`] that describes it.
//!
//! Asked after every input and at every deadline. Pure questions only: nothing changes here.

use core::cmp::Ordering;

use tandem_types::{Epoch, Instant, Seat, Seq, Stamp};

use super::Pair;
use crate::beat::{Beat, Server};
use crate::input::Healing;
use crate::table::{Event, State};

impl Pair {
    /// The case at `now`.
    pub(super) fn situation(&self, now: Instant) -> Event {
        let idle = self.state.is_idle();
        if !idle && self.own.server != Server::Up {
            return Event::ServerDown;
        }
        let unelected = match self.state {
            State::Claiming => self.votes.is_hopeless(now),
            State::Active => !self.votes.holds(now),
            State::Yielding => self.own.serving && !self.votes.holds(now),
            State::Cold | State::Passive | State::Probing | State::Stopped => false,
        };
        if unelected {
            return Event::NoMajority;
        }
        if self.state == State::Stopped && self.is_fit(now) {
            return Event::Recovered;
        }
        let case = match self.heard_twin(now) {
            Some(beat) => self.with_twin(now, beat),
            None => self.without_twin(now),
        };
        let cut = !self.carrier && self.is_replaceable(now, case);
        let alone = self.is_isolated(now) && case == Event::Silent;
        if !idle && (cut || alone) { Event::Cut } else { case }
    }

    /// Whether this server could begin to serve.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        self.own.server == Server::Up
            && self.carrier
            && !self.is_isolated(now)
            && !self.locked
            && !self.has_same_seat(now)
            && self.unfit_until.is_none_or(|until| until <= now)
    }

    /// Whether another machine with this seat is heard: then this one begins no reign, as both would mint
    /// the same epoch.
    pub fn has_same_seat(&self, now: Instant) -> bool {
        self.twin.has_alike(now)
    }

    /// Whether nobody at all is reached: neither the twin, nor the gateway, nor a phone.
    fn is_isolated(&self, now: Instant) -> bool {
        self.isolated && self.heard_twin(now).is_none() && !self.is_linked(now)
    }

    /// Whether this server knows all of the newest reign, in memory.
    pub(super) fn is_whole(&self, now: Instant) -> bool {
        let reigned = self.reigned_with_this_server && self.reign == self.highest;
        reigned || (self.own.in_sync && self.twin.was_protected(now, self.config.timings.revive))
    }

    /// The twin's newest heartbeat, unless it has been silent since for too long.
    pub(super) fn heard_twin(&self, now: Instant) -> Option<&Beat> {
        let silent_at = self.twin.silent_at(self.config.timings.silence)?;
        self.twin.beat().filter(|_| now < silent_at)
    }

    /// Whether the twin could take over this instant, as it says.
    pub(super) fn twin_can_serve(&self, now: Instant, even_if_behind: bool) -> bool {
        self.heard_twin(now).is_some_and(|beat| {
            self.twin.is_fresh()
                && beat.fit
                && (beat.whole || even_if_behind)
                && matches!(beat.state, State::Passive | State::Probing)
        })
    }

    /// Whether nobody loses anything if a server without network stops: the twin serves instead,
    /// or nothing reaches anybody anyway.
    fn is_replaceable(&self, now: Instant, case: Event) -> bool {
        case == Event::Silent || self.twin_can_serve(now, false)
    }

    fn with_twin(&self, now: Instant, beat: &Beat) -> Event {
        match beat.state {
            State::Active => self.twin_serves(now, beat),
            State::Yielding if beat.serving => self.twin_serves(now, beat),
            State::Yielding if self.state.is_idle() && !self.is_fit(now) => Event::NotFit,
            State::Yielding => Event::TwinYielded,
            State::Claiming => Event::TwinClaims,
            State::Cold | State::Passive | State::Probing | State::Stopped => {
                if self.state.is_idle() {
                    self.nobody_serves(now, beat)
                } else {
                    Event::TwinFollows
                }
            }
        }
    }

    fn twin_serves(&self, now: Instant, beat: &Beat) -> Event {
        if self.state != State::Active {
            return Event::TwinServes;
        }
        if !self.twin.is_fresh() {
            let heard_both_ways = self.has_later_rival_on_link(now);
            return if heard_both_ways { Event::RivalLinked } else { Event::RivalDeaf };
        }
        let twin_stays = match self.config.healing {
            // What both have told each other counts, so that both come to the same answer.
            Healing::LiveCalls => {
                let (reached, calls) = self.told;
                (beat.reached, beat.calls, beat.reign) > (reached, calls, self.reign)
            }
            Healing::Master => self.config.seat == Seat::Standby,
        };
        if twin_stays { Event::RivalStronger } else { Event::RivalWeaker }
    }

    /// Since when neither serves, as far as is known.
    pub(super) fn nobody_serves_since(&self) -> Option<Instant> {
        self.twin.idle_since().map(|since| since.max(self.idle_since))
    }

    /// Whether a twin that should lead has had the time to. One that is stopped or locked will not come
    /// back by itself soon, unless all began to hear again just now.
    fn is_overdue(&self, now: Instant, beat: &Beat) -> bool {
        let limit = self.nobody_serves_since().map(|since| since + self.config.timings.revive);
        let stopped = (beat.state == State::Stopped || beat.locked) && self.judge_from <= now;
        stopped || limit.is_none_or(|limit| limit <= now)
    }

    /// The twin is heard, and neither serves: who leads?
    fn nobody_serves(&self, now: Instant, beat: &Beat) -> Event {
        // Its server may not have heard yet that it must stop, or hang.
        let lease_end = self.twin.lease_end(self.config.timings.silence);
        if beat.serving || lease_end.is_some_and(|end| now < end) {
            return Event::Unjudged;
        }
        if !self.is_fit(now) {
            return Event::NotFit;
        }
        let overdue = self.is_overdue(now, beat);
        let both_cold = self.state == State::Cold && beat.state == State::Cold;
        // After both were down: a master whose disk lacks what the standby has does not lead, and it
        // waits for a while to hear what that is.
        let (masters, standbys) = match self.config.seat {
            Seat::Master => (self.own.holds, beat.holds),
            Seat::Standby => (beat.holds, self.own.holds),
        };
        if both_cold && self.config.seat == Seat::Master && standbys.is_none() && !overdue {
            return Event::TwinReviving;
        }
        let both_cold = both_cold && (masters.is_none() || standbys <= masters);
        if both_cold && !self.is_whole(now) && !beat.whole && (beat.fit || !overdue) {
            return Event::BothCold;
        }
        let knowledge = self.compare_knowledge(now, beat);
        let we_lead = match knowledge {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.highest.max(beat.highest).seat == self.config.seat,
        };
        match (beat.fit, knowledge) {
            (true, _) if we_lead => Event::WeLead,
            (false, Ordering::Greater | Ordering::Equal) => Event::TwinDown,
            (true | false, _) if overdue => Event::TwinOverdue,
            (true, _) => Event::TwinLeads,
            (false, Ordering::Less) => Event::TwinReviving,
        }
    }

    /// Whether we know more of what was going on than the twin does.
    fn compare_knowledge(&self, now: Instant, beat: &Beat) -> Ordering {
        let ours = (self.is_whole(now), self.own.holds, self.config.seat);
        // A twin that served and was restarted has not told what it holds: its disk has it all.
        let served = self.twin.served_reign().map(|epoch| Stamp { epoch, seq: Seq(u64::MAX) });
        let theirs = (beat.whole, beat.holds.or(served), beat.seat);
        match (ours.0, theirs.0) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => depth(ours.1, ours.2).cmp(&depth(theirs.1, theirs.2)),
        }
    }

    /// Whether our server hears the twin's.
    fn is_linked(&self, now: Instant) -> bool {
        let heard_at = self.own.link.heard_at.filter(|_| self.own.server == Server::Up);
        heard_at.is_some_and(|at| now < at + self.config.timings.silence)
    }

    /// Whether we serve, and the link has said for a while that the twin does so too, in a later
    /// reign. Where heartbeats pass they have come both ways by then, and they tell more.
    fn has_later_rival_on_link(&self, now: Instant) -> bool {
        let settled = |since: Instant| since + self.config.timings.both_ways() <= now;
        self.is_linked(now)
            && self.is_later_rival_on_link()
            && self.rival_on_link.is_some_and(settled)
    }

    pub(super) fn is_later_rival_on_link(&self) -> bool {
        let link = self.own.link;
        self.state == State::Active
            && link.serving == Some(true)
            && link.epoch.is_some_and(|epoch| epoch > self.reign)
    }

    fn without_twin(&self, now: Instant) -> Event {
        if now < self.judge_from {
            return Event::Unjudged;
        }
        let linked = self.is_linked(now);
        if self.has_later_rival_on_link(now) {
            return Event::RivalLinked;
        }
        if linked && self.own.link.serving != Some(false) {
            return Event::LinkServes;
        }
        let settled = |since: Instant| since + self.config.timings.idle_settles() <= now;
        if linked && !self.idle_on_link.is_some_and(settled) {
            return Event::Unjudged;
        }
        if self.state.is_idle() && !self.is_fit(now) {
            return Event::NotFit;
        }
        // Without votes the word on the link is enough; with them the vote is waited for as in a silence.
        if linked && !self.votes.is_on() { Event::LinkIdle } else { Event::Silent }
    }
}

/// Orders what two servers have on disk: the later reign, then who reigned it (it has all of it), then
/// the later entry.
fn depth(holds: Option<Stamp>, seat: Seat) -> (Epoch, bool, Seq) {
    let Some(Stamp { epoch, seq }) = holds else { return (Epoch::NEVER, false, Seq::ZERO) };
    (epoch, epoch.number > 0 && epoch.seat == seat, seq)
}
