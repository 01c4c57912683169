//! Both keepers, the witness, what is on its way between them, and everything that may happen next.

use stateright::{Model, Property};
use tandem_types::{Duration, Epoch, Instant, Seat};
use tandem_witness::{Ledger, Side, TERM_MAX, Verdict, promised};

use crate::keeper::{Beat, Keeper, Role};
use crate::settle::Suffix;

/// A datagram on its way.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Datagram {
    /// From this keeper to the other.
    Beat(usize, Beat),
    /// From this keeper to the witness: life, serial, reign.
    Ask(usize, u8, u64, Epoch),
    /// From this keeper to the witness: life, serial.
    Release(usize, u8, u64),
    /// To this keeper, life and serial.
    Granted(usize, u8, u64),
    /// To this keeper, life and serial; the highest epoch that was granted.
    Refused(usize, u8, u64, Epoch),
}

/// What may happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Time passes.
    Tick,
    /// A keeper sends a heartbeat.
    Beat(usize),
    /// A keeper begins to claim.
    Claim(usize),
    /// A keeper gives up a claim that got no vote, or hands over.
    SitDown(usize),
    /// A keeper asks for the third vote.
    Ask(usize),
    /// A keeper gives the third vote back.
    Release(usize),
    /// A keeper dies.
    Crash(usize),
    /// It is started again.
    Restart(usize),
    /// The witness dies and is started again, with nothing in its memory.
    RestartWitness,
    /// A datagram arrives.
    Deliver(usize),
    /// A datagram arrives, and will arrive again.
    DeliverTwice(usize),
    /// A datagram is lost.
    Lose(usize),
}

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// An epoch is a number only.
    EpochWithoutSeat,
    /// The voter's promise ends before the right that rests on it: the twin's.
    PromiseEndsFirst,
    /// The right is counted from the answer, not from the request.
    RightFromAnswer,
    /// The witness grants at once after its start.
    NoStartSilence,
    /// A keeper does not listen after its start.
    NoColdWait,
    /// The witness takes a message that was overtaken or comes again.
    AnyOrder,
    /// An echo of a heartbeat from before the claim counts as a vote.
    VoteForAnyReign,
    /// A refusal does not tell the highest epoch that was granted.
    RefusalHidesEpoch,
    /// A keeper is started again, and may vote, while the server of its earlier life still serves.
    ServerOutlivesRestart,
}

/// How far the checker goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In ticks: a keeper that was not heard for so long is silent; as long a vote lasts, the twin's
    /// and the third.
    pub silence: u8,
    /// Datagrams on their way at a time.
    pub datagrams: usize,
    /// Whether datagrams may arrive twice.
    pub doubles: bool,
    /// Epochs are minted up to this number.
    pub epochs: u32,
    /// Deaths of keepers and restarts of the witness, together.
    pub deaths: u8,
}

/// The model: limits, and the rule that is broken, if any.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How far to go.
    pub limits: Limits,
    /// What is broken.
    pub flaw: Option<Flaw>,
    /// Whether to look what every state settles to.
    pub settles: bool,
}

/// One state of everything.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The master and the standby.
    pub keepers: [Keeper; 2],
    /// The witness, seen from `NOW`.
    pub ledger: Ledger,
    /// What is on its way; a set.
    pub datagrams: Vec<Datagram>,
    /// Bits of the epochs that were minted.
    pub minted: u32,
    /// One was minted twice.
    pub minted_twice: bool,
    /// Deaths so far.
    pub deaths: u8,
}

/// The witness's clock always shows this: with every tick its instants move towards the past.
const NOW: Instant = Instant::from_micros(100_000_000);

impl World {
    fn new(rules: &Rules) -> Self {
        Self {
            keepers: Seat::ALL.map(|seat| Keeper::new(seat, rules)),
            ledger: Ledger::new(NOW),
            datagrams: Vec::new(),
            minted: 0,
            minted_twice: false,
            deaths: 0,
        }
    }

    /// Puts a datagram on its way; where there is no room it is lost.
    fn send(&mut self, datagram: Datagram, room: usize) {
        if self.datagrams.len() < room {
            self.datagrams.push(datagram);
        }
    }

    fn tick(&mut self, rules: &Rules) {
        for keeper in &mut self.keepers {
            keeper.tick(rules);
        }
        for datagram in &mut self.datagrams {
            if let Datagram::Beat(_, beat) = datagram {
                beat.age = (beat.age + 1).min(rules.limits.silence);
                beat.echo = beat.echo.and_then(|echo| echo.later(rules));
            }
        }
        self.ledger.grants_from = (self.ledger.grants_from - rules.tick()).max(NOW);
        self.ledger.promise = self.ledger.promise.and_then(|mut promise| {
            promise.until = promise.until - rules.tick();
            (promise.until > NOW).then_some(promise)
        });
    }

    /// States that lead to the same are the same: what can have no effect any more is taken away, and
    /// of numbers that only rise the order alone is kept.
    fn canonical(mut self, flaw: Option<Flaw>) -> Self {
        self.datagrams.sort();
        self.datagrams.dedup();
        for index in 0..2 {
            self.prune(index, flaw);
            self.rank_lives(index);
            self.rank_seqs(index);
            self.rank_serials(index);
        }
        self
    }

    /// Drops what is to or from this keeper and can have no effect, and forgets what nothing on its
    /// way is compared with.
    fn prune(&mut self, index: usize, flaw: Option<Flaw>) {
        let orders = flaw != Some(Flaw::AnyOrder);
        let (keeper, newest) = (&self.keepers[index], self.keepers[1 - index].newest);
        let (life, asked) = (u64::from(keeper.life), keeper.asked);
        let last = self.ledger.newest[index];
        self.datagrams.retain(|datagram| match datagram {
            Datagram::Beat(from, beat) => *from != index || newest < Some((beat.life, beat.seq)),
            Datagram::Ask(of, life, serial, _) | Datagram::Release(of, life, serial) => {
                *of != index || !orders || last < Some((u64::from(*life), *serial))
            }
            Datagram::Granted(of, whose, serial) | Datagram::Refused(of, whose, serial, _) => {
                let waits = asked.is_some_and(|(asked, _)| asked == *serial);
                *of != index || waits && u64::from(*whose) == life
            }
        });
        let mut on_their_way = [false; 3];
        for datagram in &self.datagrams {
            match datagram {
                Datagram::Beat(from, _) if *from == index => on_their_way[0] = true,
                Datagram::Ask(of, ..) if *of == index => on_their_way[1..].fill(true),
                Datagram::Release(of, ..) if *of == index => on_their_way[1] = true,
                Datagram::Granted(of, ..) | Datagram::Refused(of, ..) if *of == index => {
                    on_their_way[2] = true;
                }
                Datagram::Beat(..)
                | Datagram::Ask(..)
                | Datagram::Release(..)
                | Datagram::Granted(..)
                | Datagram::Refused(..) => {}
            }
        }
        if !on_their_way[0] {
            self.keepers[1 - index].newest = None;
        }
        if !on_their_way[1] {
            self.ledger.newest[index] = None;
        }
        if !on_their_way[2] {
            self.keepers[index].asked = None;
        }
    }

    fn rank_lives(&mut self, index: usize) {
        let mut lives = vec![u64::from(self.keepers[index].life)];
        self.lives(index, |life| {
            lives.push(*life);
        });
        let lives = ranks(lives);
        self.lives(index, |life| *life = rank(&lives, *life) + 1);
    }

    /// Every life of this keeper that is remembered anywhere.
    fn lives(&mut self, index: usize, mut change: impl FnMut(&mut u64)) {
        let mut narrow = |life: &mut u8| {
            let mut wide = u64::from(*life);
            change(&mut wide);
            // There are as many as deaths.
            *life = u8::try_from(wide).unwrap_or(u8::MAX);
        };
        let [one, other] = &mut self.keepers;
        let (keeper, twin) = if index == 0 { (one, other) } else { (other, one) };
        narrow(&mut keeper.life);
        twin.echo.iter_mut().for_each(|echo| narrow(&mut echo.life));
        twin.newest.iter_mut().for_each(|(life, _)| narrow(life));
        for datagram in &mut self.datagrams {
            match datagram {
                Datagram::Beat(from, beat) if *from == index => narrow(&mut beat.life),
                Datagram::Beat(_, beat) => {
                    beat.echo.iter_mut().for_each(|echo| narrow(&mut echo.life));
                }
                Datagram::Ask(of, life, ..)
                | Datagram::Release(of, life, _)
                | Datagram::Granted(of, life, _)
                | Datagram::Refused(of, life, ..) => {
                    if *of == index {
                        narrow(life);
                    }
                }
            }
        }
        let seat = Seat::ALL[index];
        let ledger = &mut self.ledger;
        let promise = ledger.promise.iter_mut().filter(|promise| promise.side.seat == seat);
        promise.for_each(|promise| change(&mut promise.side.life));
        ledger.newest[index].iter_mut().for_each(|(life, _)| change(life));
    }

    fn rank_seqs(&mut self, index: usize) {
        let mut seqs = vec![self.keepers[index].seq];
        self.seqs(index, |seq| seqs.push(*seq));
        let seqs = ranks(seqs);
        self.seqs(index, |seq| *seq = rank(&seqs, *seq));
    }

    /// Every number of a heartbeat of this keeper that is remembered anywhere.
    fn seqs(&mut self, index: usize, mut change: impl FnMut(&mut u64)) {
        change(&mut self.keepers[index].seq);
        self.keepers[1 - index].newest.iter_mut().for_each(|(_, seq)| change(seq));
        for datagram in &mut self.datagrams {
            if let Datagram::Beat(from, beat) = datagram
                && *from == index
            {
                change(&mut beat.seq);
            }
        }
    }

    fn rank_serials(&mut self, index: usize) {
        let mut serials = vec![self.keepers[index].serial];
        self.serials(index, |serial| serials.push(*serial));
        let serials = ranks(serials);
        self.serials(index, |serial| *serial = rank(&serials, *serial));
    }

    /// Every serial of this keeper that is remembered anywhere.
    fn serials(&mut self, index: usize, mut change: impl FnMut(&mut u64)) {
        change(&mut self.keepers[index].serial);
        self.keepers[index].asked.iter_mut().for_each(|(serial, _)| change(serial));
        self.ledger.newest[index].iter_mut().for_each(|(_, serial)| change(serial));
        for datagram in &mut self.datagrams {
            match datagram {
                Datagram::Ask(of, _, serial, _)
                | Datagram::Release(of, _, serial)
                | Datagram::Granted(of, _, serial)
                | Datagram::Refused(of, _, serial, _) => {
                    if *of == index {
                        change(serial);
                    }
                }
                Datagram::Beat(..) => {}
            }
        }
    }
}

fn ranks(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn rank(ranks: &[u64], number: u64) -> u64 {
    ranks.partition_point(|other| *other < number) as u64
}

impl Rules {
    /// In ticks: how long a keeper listens after its start.
    pub(crate) fn cold(&self) -> u8 {
        self.limits.silence + 1
    }

    /// On the witness's clock: a silence is the longest term it grants.
    pub(crate) fn tick(&self) -> Duration {
        TERM_MAX / u32::from(self.limits.silence)
    }

    /// Does one thing.
    pub(crate) fn act(&self, world: &World, act: Act) -> World {
        let mut next = world.clone();
        let room = self.limits.datagrams;
        match act {
            Act::Tick => next.tick(self),
            Act::Beat(k) => {
                let beat = next.keepers[k].beat();
                next.send(Datagram::Beat(k, beat), room);
            }
            Act::Claim(k) => self.claim(&mut next, k),
            Act::SitDown(k) => next.keepers[k].sit_down(),
            Act::Ask(k) => {
                let keeper = &mut next.keepers[k];
                keeper.serial += 1;
                keeper.asked = Some((keeper.serial, 0));
                let ask = Datagram::Ask(k, keeper.life, keeper.serial, keeper.asks_for());
                next.send(ask, room);
            }
            Act::Release(k) => {
                let keeper = &mut next.keepers[k];
                keeper.serial += 1;
                (keeper.asked, keeper.third_right) = (None, 0);
                let release = Datagram::Release(k, keeper.life, keeper.serial);
                keeper.settle();
                next.send(release, room);
            }
            Act::Crash(k) => {
                next.deaths += 1;
                next.keepers[k].crash(self);
            }
            Act::Restart(k) => next.keepers[k].restart(self),
            Act::RestartWitness => self.restart_witness(&mut next),
            Act::Deliver(index) => {
                let datagram = next.datagrams.remove(index);
                self.deliver(&mut next, &datagram);
            }
            Act::DeliverTwice(index) => {
                let datagram = next.datagrams[index].clone();
                self.deliver(&mut next, &datagram);
            }
            Act::Lose(index) => drop(next.datagrams.remove(index)),
        }
        next
    }

    fn claim(&self, next: &mut World, k: usize) {
        next.keepers[k].claim(self);
        let Epoch { number, seat } = next.keepers[k].reign;
        // Without the seat the number alone must not come twice.
        let bit = match seat {
            Seat::Master => 1_u32.checked_shl(number * 2).unwrap_or(0),
            Seat::Standby => 1_u32.checked_shl(number * 2 + 1).unwrap_or(0),
        };
        next.minted_twice |= next.minted & bit != 0;
        next.minted |= bit;
    }

    fn restart_witness(&self, next: &mut World) {
        next.deaths += 1;
        let silence = if self.flaw == Some(Flaw::NoStartSilence) {
            Duration::ZERO
        } else {
            promised(TERM_MAX)
        };
        next.ledger = Ledger::new(NOW + silence);
        // A request to its earlier life names that life and changes nothing.
        next.datagrams.retain(|datagram| match datagram {
            Datagram::Ask(..) | Datagram::Release(..) => false,
            Datagram::Beat(..) | Datagram::Granted(..) | Datagram::Refused(..) => true,
        });
    }

    fn deliver(&self, next: &mut World, datagram: &Datagram) {
        let room = self.limits.datagrams;
        match *datagram {
            Datagram::Beat(from, ref beat) => next.keepers[1 - from].hear(beat, self),
            Datagram::Ask(k, life, serial, epoch) => {
                self.forget_order(next, k);
                let side = Self::side(k, life);
                let verdict = next.ledger.ask(NOW, (side, serial), epoch, TERM_MAX);
                match verdict {
                    Verdict::Granted(_) => next.send(Datagram::Granted(k, life, serial), room),
                    Verdict::Refused { .. } => {
                        let highest = next.ledger.highest;
                        next.send(Datagram::Refused(k, life, serial, highest), room);
                    }
                    Verdict::Released | Verdict::Repeated | Verdict::Older => {}
                }
            }
            Datagram::Release(k, life, serial) => {
                self.forget_order(next, k);
                next.ledger.release((Self::side(k, life), serial));
            }
            Datagram::Granted(k, life, serial) => {
                if next.keepers[k].life == life {
                    next.keepers[k].granted(serial, self);
                }
            }
            Datagram::Refused(k, life, serial, highest) => {
                if next.keepers[k].life == life {
                    next.keepers[k].refused(serial, highest, self);
                }
            }
        }
    }

    fn side(k: usize, life: u8) -> Side {
        Side { seat: Seat::ALL[k], life: life.into() }
    }

    fn forget_order(&self, next: &mut World, k: usize) {
        if self.flaw == Some(Flaw::AnyOrder) {
            next.ledger.newest[k] = None;
        }
    }

    fn keeper_acts(&self, world: &World, k: usize, acts: &mut Vec<Act>) {
        let keeper = &world.keepers[k];
        if keeper.role == Role::Down {
            // The server dies with its keeper (`tandem_os::child`), or was cut off from one that hangs:
            // whatever it is, it is gone before a keeper is started again.
            if keeper.orphan == 0 || self.flaw == Some(Flaw::ServerOutlivesRestart) {
                acts.push(Act::Restart(k));
            }
            return;
        }
        if world.datagrams.len() < self.limits.datagrams {
            acts.push(Act::Beat(k));
        }
        if keeper.may_claim() && keeper.highest.number < self.limits.epochs {
            acts.push(Act::Claim(k));
        }
        if keeper.stands() {
            acts.push(Act::SitDown(k));
        }
        let minted = keeper.asks_for().number <= self.limits.epochs;
        if minted && (keeper.stands() || keeper.may_claim()) {
            acts.push(Act::Ask(k));
        }
        let unused = keeper.is_idle() || keeper.twin_right > 0;
        if unused && (keeper.third_right > 0 || keeper.asked.is_some()) {
            acts.push(Act::Release(k));
        }
        if world.deaths < self.limits.deaths {
            acts.push(Act::Crash(k));
        }
    }
}

impl Model for Rules {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        acts.push(Act::Tick);
        self.keeper_acts(world, 0, acts);
        self.keeper_acts(world, 1, acts);
        if world.deaths < self.limits.deaths {
            acts.push(Act::RestartWitness);
        }
        for index in 0..world.datagrams.len() {
            acts.extend([Act::Deliver(index), Act::Lose(index)]);
            if self.limits.doubles {
                acts.push(Act::DeliverTwice(index));
            }
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        Some(self.act(world, act).canonical(self.flaw))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("one serves at most", |_, world: &World| {
                !world.keepers.iter().all(Keeper::serves)
            }),
            Property::always("no epoch twice", |_, world: &World| !world.minted_twice),
            // So that it cannot pass because nothing happens.
            Property::sometimes("the standby serves by its twin's vote", |_, world: &World| {
                world.keepers[1].role == Role::Active && world.keepers[1].twin_right > 0
            }),
            Property::sometimes("the master serves by the third vote", |_, world: &World| {
                world.keepers[0].role == Role::Active && world.keepers[0].twin_right == 0
            }),
        ];
        if self.settles {
            properties
                .extend(Suffix::ALL.map(|(name, condition)| Property::always(name, condition)));
        }
        properties
    }
}
