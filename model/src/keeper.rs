//! One keeper, as far as votes are concerned.

use tandem_types::{Epoch, Seat};

use crate::LEASE;
use crate::world::{Flaw, Rules};

/// What a keeper does. `Probing`, `Passive`, `Cold` and `Stopped` of `tandem_pair::State` are one
/// here: idle. `Yielding` is idle too: it has told its server to stop.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Not running.
    Down,
    /// Neither serves nor is about to.
    Idle,
    /// Has minted an epoch and waits for a vote.
    Claiming,
    /// Serves.
    Active,
}

/// What a heartbeat sends back of the newest one that came.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Echo {
    /// The life of who sent it.
    pub life: u8,
    /// Ticks since it was sent, less than a silence.
    pub age: u8,
    /// The reign it was sent in; [`Epoch::NEVER`] from an idle keeper. Stands for the comparison with
    /// `stands_since` in `votes.rs`.
    pub reign: Epoch,
}

/// One keeper. Counters are ticks that remain.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Keeper {
    /// Its place.
    pub seat: Seat,
    /// What it does.
    pub role: Role,
    /// Counts starts.
    pub life: u8,
    /// The highest epoch seen; on disk.
    pub highest: Epoch,
    /// The reign that it claims or holds.
    pub reign: Epoch,
    /// It listens yet (`judge_from`).
    pub cold: u8,
    /// The twin does not count as silent yet (`patience`): the promise to the twin.
    pub promise: u8,
    /// The right by the twin's vote (`twin_until`).
    pub twin_right: u8,
    /// The right by the third vote (`third_until`).
    pub third_right: u8,
    /// The request that is out: its serial, and ticks since it was handed in.
    pub asked: Option<(u64, u8)>,
    /// Of the newest datagram to the witness.
    pub serial: u64,
    /// Of the newest heartbeat sent.
    pub seq: u64,
    /// Life and seq of the newest heartbeat of the twin.
    pub newest: Option<(u8, u64)>,
    /// Of that heartbeat.
    pub echo: Option<Echo>,
    /// The keeper has died and its server has not noticed yet: it serves for so long.
    pub orphan: u8,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Beat {
    pub(crate) life: u8,
    pub(crate) seq: u64,
    pub(crate) role: Role,
    pub(crate) reign: Epoch,
    pub(crate) highest: Epoch,
    pub(crate) echo: Option<Echo>,
    /// Ticks since it was sent.
    pub(crate) age: u8,
}

impl Echo {
    /// A tick later; `None`: too old.
    pub(crate) fn later(self, rules: &Rules) -> Option<Self> {
        let tick = u8::from(rules.flaw != Some(Flaw::RightFromAnswer));
        Some(Self { age: self.age + tick, ..self }).filter(|echo| echo.age < rules.limits.silence)
    }
}

impl Keeper {
    /// Just started, for the first time.
    pub fn new(seat: Seat, rules: &Rules) -> Self {
        Self {
            seat,
            role: Role::Idle,
            life: 1,
            highest: Epoch::NEVER,
            reign: Epoch::NEVER,
            cold: rules.cold(),
            promise: 0,
            twin_right: 0,
            third_right: 0,
            asked: None,
            serial: 0,
            seq: 0,
            newest: None,
            echo: None,
            orphan: 0,
        }
    }

    /// Whether phones are served here.
    pub fn serves(&self) -> bool {
        self.role == Role::Active || self.orphan > 0
    }

    /// Whether it may vote for the twin (`State::is_idle`).
    pub fn is_idle(&self) -> bool {
        self.role == Role::Idle
    }

    pub(crate) fn stands(&self) -> bool {
        matches!(self.role, Role::Claiming | Role::Active)
    }

    /// Whether it has two votes (`Votes::holds`).
    pub(crate) fn holds(&self) -> bool {
        self.twin_right > 0 || self.third_right > 0
    }

    /// Whether it may begin to claim: what is silent has been so for long enough, or says that it is
    /// idle (rows to `Claiming`).
    pub(crate) fn may_claim(&self) -> bool {
        self.is_idle() && self.cold == 0 && self.promise == 0
    }

    /// Mints an epoch and saves it (`mint`, `Output::SaveEpoch`).
    pub(crate) fn claim(&mut self, rules: &Rules) {
        self.highest = self.highest.next(self.seat);
        if rules.flaw == Some(Flaw::EpochWithoutSeat) {
            self.highest.seat = Seat::Master;
        }
        self.reign = self.highest;
        self.role = Role::Claiming;
        self.twin_right = 0;
        self.settle();
    }

    /// What follows at once from votes that came or ended (`Event::EpochSaved`, `NoMajority`).
    pub(crate) fn settle(&mut self) {
        match self.role {
            Role::Claiming if self.holds() => self.role = Role::Active,
            Role::Active if !self.holds() => self.sit_down(),
            Role::Down | Role::Idle | Role::Claiming | Role::Active => {}
        }
    }

    /// Neither serves nor is about to (`Votes::sit_down`).
    pub(crate) fn sit_down(&mut self) {
        self.role = Role::Idle;
        self.reign = Epoch::NEVER;
        self.twin_right = 0;
    }

    /// The process dies; its server serves until its lease ends, which the keeper never made longer
    /// than its own right.
    pub(crate) fn crash(&mut self, rules: &Rules) {
        let right = self.twin_right.max(self.third_right);
        let orphan = if self.role == Role::Active { right.min(LEASE) } else { 0 };
        let dead = Self::new(self.seat, rules);
        let (life, highest) = (self.life, self.highest);
        *self = Self { role: Role::Down, life, highest, cold: 0, orphan, ..dead };
    }

    /// Starts with nothing but what is on disk.
    pub(crate) fn restart(&mut self, rules: &Rules) {
        let (life, highest, orphan) = (self.life + 1, self.highest, self.orphan);
        *self = Self { life, highest, orphan, ..Self::new(self.seat, rules) };
        if rules.flaw == Some(Flaw::NoColdWait) {
            self.cold = 0;
        }
    }

    /// One tick passes on its clock.
    pub(crate) fn tick(&mut self, rules: &Rules) {
        let counters =
            [&mut self.cold, &mut self.promise, &mut self.twin_right, &mut self.third_right];
        for counter in counters.into_iter().chain([&mut self.orphan]) {
            *counter = counter.saturating_sub(1);
        }
        // What is too old to give a right is forgotten.
        let tick = u8::from(rules.flaw != Some(Flaw::RightFromAnswer));
        self.echo = self.echo.and_then(|echo| echo.later(rules));
        self.asked = self
            .asked
            .map(|(serial, age)| (serial, age + tick))
            .filter(|(_, age)| *age < rules.limits.silence);
        self.settle();
    }

    /// The next heartbeat.
    pub(crate) fn beat(&mut self) -> Beat {
        self.seq += 1;
        Beat {
            life: self.life,
            seq: self.seq,
            role: self.role,
            reign: self.reign,
            highest: self.highest,
            echo: self.echo,
            age: 0,
        }
    }

    /// A heartbeat of the twin came (`Twin::take`, `Votes::hear`, rows on what the twin does).
    pub(crate) fn hear(&mut self, beat: &Beat, rules: &Rules) {
        if self.role == Role::Down || self.newest >= Some((beat.life, beat.seq)) {
            return;
        }
        self.newest = Some((beat.life, beat.seq));
        let echo = Echo { life: beat.life, age: beat.age, reign: beat.reign };
        self.echo = Some(echo).filter(|echo| echo.age < rules.limits.silence);
        self.highest = self.highest.max(beat.highest);
        match beat.role {
            Role::Claiming | Role::Active => {
                let early = u8::from(rules.flaw == Some(Flaw::PromiseEndsFirst));
                self.promise = rules.limits.silence - early;
                let gives_way = beat.role == Role::Active || self.seat == Seat::Standby;
                if self.role == Role::Claiming && gives_way {
                    self.sit_down();
                }
            }
            Role::Idle => self.hear_idle(beat, rules),
            Role::Down => {}
        }
    }

    fn hear_idle(&mut self, beat: &Beat, rules: &Rules) {
        // `Dropped::Stale`: it must have heard us of late.
        let Some(echo) =
            beat.echo.filter(|echo| echo.life == self.life && echo.age < rules.limits.silence)
        else {
            return;
        };
        self.promise = 0;
        let for_this_reign = echo.reign == self.reign || rules.flaw == Some(Flaw::VoteForAnyReign);
        if self.stands() && for_this_reign {
            self.twin_right = self.twin_right.max(rules.limits.silence - echo.age);
            self.settle();
        }
    }

    /// The witness granted the request with this serial (`Votes::take`).
    pub(crate) fn granted(&mut self, serial: u64, rules: &Rules) {
        let Some((_, age)) = self.asked.take_if(|(asked, _)| *asked == serial) else { return };
        self.third_right = self.third_right.max(rules.limits.silence.saturating_sub(age));
        self.settle();
    }

    /// The witness refused the request with this serial; it knows this epoch.
    pub(crate) fn refused(&mut self, serial: u64, highest: Epoch, rules: &Rules) {
        if self.asked.take_if(|(asked, _)| *asked == serial).is_some()
            && rules.flaw != Some(Flaw::RefusalHidesEpoch)
        {
            self.highest = self.highest.max(highest);
        }
    }

    /// The reign for which the third vote is asked (`Pair::vote`).
    pub(crate) fn asks_for(&self) -> Epoch {
        if self.stands() { self.reign } else { self.highest.next(self.seat) }
    }
}
