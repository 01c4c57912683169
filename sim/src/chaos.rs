//! Bad luck by number: a few seconds of calls and faults, then peace, then judgement.
//!
//! Two seeds of three are *fair*: a fault comes only while the pair is whole, so nothing may be
//! lost at all. In the others faults come on top of each other. One seed of three has a third voter, one
//! of three a gateway, some an operator with orders, some clocks that jump; each of them in fair runs and
//! in others.

pub mod dense;
mod rare;

use std::ops::Range;

use tandem_keeper::OperatorRequest;
use tandem_types::{Dice, Duration, Instant};

use crate::machine::Rules;
use crate::network::{Port, Road, Way, Weather};
use crate::orders::{Order, Trigger};
use crate::phone::Habits;
use crate::run::{Report, caught};
use crate::world::{World, new_user};
use rare::Rare;

/// The users of a run, and how many devices each has.
const USERS: [(&str, usize); 4] = [("anna", 1), ("ben", 2), ("carol", 1), ("dora", 1)];

/// Calls and faults last so long.
const TROUBLE: Duration = Duration::from_secs(6);

/// A cold pair serves and is in sync by then.
const COLD_START_MAX: Duration = Duration::from_secs(4);

/// A witness that has started promises nothing for so long.
const VOTER_SETTLES: Duration = Duration::from_millis(3_200);

/// Kills of one machine's server: more would make its keeper wait for long.
const KILLS_MAX: usize = 3;

/// Runs one seed.
pub fn run(seed: u64, rules: Rules, record: bool) -> Report {
    caught(|| run_through(seed, rules, record))
}

fn run_through(seed: u64, rules: Rules, record: bool) -> Report {
    let mut chaos = Chaos::new(seed, rules);
    if record {
        chaos.world.record();
    }
    if chaos.begin() {
        chaos.trouble();
        chaos.world.judge();
        let seen = &chaos.world.oracle.seen;
        if chaos.fair && seen.losses > seen.healing_losses {
            let now = chaos.world.now();
            chaos.world.oracle.broken(now, "state was lost although faults came one by one");
        }
    }
    if !chaos.fair {
        chaos.world.oracle.seen.healing_losses = 0;
    }
    chaos.world.oracle.seen.granted = chaos.world.granted();
    let story = chaos.world.take_log();
    let oracle = chaos.world.oracle;
    Report { violations: oracle.violations, seen: oracle.seen, story }
}

/// Runs a range of seeds.
pub fn run_many(seeds: Range<u64>, rules: Rules) -> Vec<(u64, Report)> {
    crate::run::run_many(seeds, |seed| run(seed, rules, false))
}

#[derive(Debug)]
struct Chaos {
    world: World,
    dice: Dice,
    fair: bool,
    rare: Rare,
    kills: [usize; 2],
    /// What ends when.
    remedies: Vec<(Instant, Remedy)>,
    users: u32,
    /// The users of the run, and how many devices each has.
    people: &'static [(&'static str, usize)],
    has_full_disks: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Remedy {
    PowerOn(usize),
    Plug(usize),
    Mend,
    /// What waits for a message waits no longer.
    Disarm,
    Disk(usize),
    Weather,
    Voter,
    Gateway,
    Unlock(usize),
}

impl Chaos {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut dice = Dice::from_number(seed ^ 0x7a0d_e355);
        let weather = weather(&mut dice);
        let fair = seed % 3 != 2;
        let rules = Rules {
            votes: rules.votes || seed / 3 % 3 == 1,
            gateway: rules.gateway || seed / 9 % 3 == 1,
            ..rules
        };
        let mut world = World::new(seed, rules, weather, &USERS);
        world.oracle.strict = fair;
        Self {
            world,
            dice,
            fair,
            rare: Rare::of(seed),
            kills: [0; 2],
            remedies: Vec::new(),
            users: 0,
            people: &USERS,
            has_full_disks: true,
        }
    }

    /// Both machines on, users made, phones logged in. False where even that failed.
    fn begin(&mut self) -> bool {
        if self.world.rules.votes {
            self.world.advance(VOTER_SETTLES);
        }
        self.world.power_on(0);
        let pause = self.dice.below(200);
        self.world.advance(Duration::from_millis(pause));
        self.world.power_on(1);
        if !self.world.advance_until(COLD_START_MAX, World::is_healthy) {
            let now = self.world.now();
            self.world.oracle.broken(now, "the pair does not start");
            return false;
        }
        let Some(active) = self.world.active() else { return false };
        for (user, _) in self.people {
            self.world.ask(active, new_user(user));
        }
        self.world.advance(Duration::from_millis(150));
        for phone in 0..self.world.phones().len() {
            self.world.use_phone(phone, |phone, now| {
                phone.habits = CHATTY;
                phone.log_in(now);
            });
            self.world.advance(Duration::from_millis(7));
        }
        self.world.advance(Duration::from_millis(200));
        true
    }

    fn trouble(&mut self) {
        let end = self.world.now() + TROUBLE;
        while self.world.now() < end {
            let pause = self.dice.below(250);
            self.advance(Duration::from_millis(pause));
            match self.dice.below(100) {
                0..=54 => self.call(),
                55..=59 => self.add_user(),
                60..=64 => self.ask_the_passive(),
                65..=67 => self.hang_up(),
                _ => self.fault(),
            }
        }
        self.end_faults();
    }

    fn end_faults(&mut self) {
        for (_, remedy) in core::mem::take(&mut self.remedies) {
            self.remedy(remedy);
        }
    }

    /// Lets time pass and ends what ends in it.
    fn advance(&mut self, pause: Duration) {
        let until = self.world.now() + pause;
        while let Some(at) = self.remedies.iter().map(|(at, _)| *at).min().filter(|at| *at <= until)
        {
            self.world.advance(at.remaining_from(self.world.now()));
            let due = |(when, _): &(Instant, Remedy)| *when <= at;
            let (now, later) = self.remedies.drain(..).partition::<Vec<_>, _>(due);
            self.remedies = later;
            for (_, remedy) in now {
                self.remedy(remedy);
            }
        }
        self.world.advance(until.remaining_from(self.world.now()));
    }

    fn pick(&mut self, limit: usize) -> usize {
        usize::try_from(self.dice.below(limit as u64)).unwrap_or(0)
    }

    fn after(&mut self, from: u64, to: u64, remedy: Remedy) {
        let pause = Duration::from_millis(from + self.dice.below(to - from));
        self.remedies.push((self.world.now() + pause, remedy));
    }

    fn call(&mut self) {
        let phone = self.pick(self.world.phones().len());
        let to = USERS[self.pick(USERS.len())].0;
        if self.world.phones()[phone].config().user != to {
            let call = self.world.call(phone, to);
            let now = self.world.now();
            self.world.say(|| format!("{now} (call {call} begins)"));
        }
    }

    fn hang_up(&mut self) {
        let phone = self.pick(self.world.phones().len());
        self.world.use_phone(phone, |phone, now| phone.hang_up_all(now));
    }

    fn add_user(&mut self) {
        let at = self.pick(2);
        self.users += 1;
        let name = format!("user{}", self.users);
        self.world.ask(at, new_user(&name));
    }

    /// A stranger asks the passive server, at its own address.
    fn ask_the_passive(&mut self) {
        let Some(active) = self.world.active() else { return };
        self.world.ask_stranger(1 - active);
    }

    fn fault(&mut self) {
        if self.fair && !(self.world.is_healthy() && self.remedies.is_empty()) {
            return;
        }
        let at = self.pick(2);
        let at = if self.dice.chance(60) { self.world.active().unwrap_or(at) } else { at };
        let millis = Duration::from_millis(20 + self.dice.below(400));
        let which = self.dice.below(22);
        if self.rare_fault(at) {
            return;
        }
        self.world.say(|| format!("---- fault {which} at {at}"));
        if matches!(which, 5 | 7 | 8) {
            // The next fault of a fair run waits until this one is over.
            self.after(500, 600, Remedy::Disarm);
        }
        match which {
            0..=3 if self.kills[at] < KILLS_MAX => {
                self.kills[at] += 1;
                self.world.kill_server(at);
            }
            4 if self.kills[at] < KILLS_MAX => {
                self.kills[at] += 1;
                self.world.stall_server(at, None);
            }
            5 => self.world.stall_server(at, Some(millis)),
            6 => self.world.kill_keeper(at),
            7 => self.world.stall_keeper(at, millis / 2),
            8 => self.world.stall_machine(at, millis),
            9 | 10 => {
                self.world.power_off(at);
                self.after(200, 2_000, Remedy::PowerOn(at));
            }
            11 => {
                self.world.unplug(at, true);
                self.after(100, 2_500, Remedy::Plug(at));
            }
            12 => {
                self.world.cut(at, &Road::ALL, true);
                self.after(50, 2_500, Remedy::Mend);
            }
            13 => {
                self.world.cut(at, &[Road::Heartbeat, Road::Link], true);
                self.after(50, 2_500, Remedy::Mend);
            }
            14 => {
                let road = Road::ALL[self.pick(2)];
                let way = if self.dice.chance(50) { Way::In } else { Way::Out };
                self.world.cut_one_way(Port { machine: at, road, way });
                self.after(50, 2_500, Remedy::Mend);
            }
            15 => {
                let full = self.dice.chance(50);
                if full && self.has_full_disks {
                    self.world.fill_disk(at, true)
                } else {
                    self.world.slow_disk(at, true)
                }
                self.after(50, 2_000, Remedy::Disk(at));
            }
            16 => {
                let weather = Weather { loss_percent: 15, ..weather(&mut self.dice) };
                self.world.set_weather(weather);
                self.after(100, 1_500, Remedy::Weather);
            }
            17 => self.world.operate(at, OperatorRequest::Switch { force: false }),
            18..=21 => self.fault_at_a_message(at),
            _ => {}
        }
    }

    /// Something happens in the very moment in which a server says something.
    fn fault_at_a_message(&mut self, from: usize) {
        let status = ["200", "200", "180", "487"][self.pick(4)];
        let method = if status == "200" { ["INVITE", "BYE"][self.pick(2)] } else { "INVITE" };
        let (order, remedy) = match self.dice.below(4) {
            0 => (Order::Cut(from, Road::ALL.to_vec(), true), Remedy::Mend),
            1 => (Order::PowerOff(from), Remedy::PowerOn(from)),
            2 => (Order::Unplug(from, true), Remedy::Plug(from)),
            _ => (Order::KillServer(from), Remedy::Disarm),
        };
        let before = self.dice.chance(50);
        self.world.say(|| format!("---- at {status} {method} ({before}): {order}"));
        // A fair fault comes while the pair is whole.
        let (status, method, protected) = (status.to_owned(), method.to_owned(), self.fair);
        self.world.triggers = vec![Trigger { before, status, method, from, protected, order }];
        self.after(700, 2_500, remedy);
    }

    fn remedy(&mut self, remedy: Remedy) {
        self.world.say(|| format!("---- over: {remedy:?}"));
        self.world.triggers.clear();
        match remedy {
            Remedy::PowerOn(at) => self.world.power_on(at),
            Remedy::Plug(at) => self.world.unplug(at, false),
            Remedy::Disarm => {}
            Remedy::Mend => self.world.mend(),
            Remedy::Disk(at) => {
                self.world.fill_disk(at, false);
                self.world.slow_disk(at, false);
            }
            Remedy::Voter => {
                self.world.start_voter();
                self.remedies.push((self.world.now() + VOTER_SETTLES, Remedy::Disarm));
            }
            Remedy::Gateway => self.world.stop_gateway(false),
            Remedy::Unlock(at) => {
                self.world.operate(at, OperatorRequest::Lock { on: false, seconds: None });
            }
            Remedy::Weather => {
                let weather = weather(&mut self.dice);
                self.world.set_weather(weather);
            }
        }
    }
}

/// People who call a lot and talk little.
const CHATTY: Habits = Habits {
    answer_millis: Some((50, 1_500)),
    busy_percent: 6,
    talk_millis: Some((100, 3_000)),
    patience_millis: Some((300, 4_000)),
    hold_percent: 20,
};

/// An ordinary day on a LAN.
fn weather(dice: &mut Dice) -> Weather {
    Weather {
        loss_percent: [0, 0, 1, 3][usize::try_from(dice.below(4)).unwrap_or(0)],
        twice_percent: dice.below(3),
        delay_micros: 60 + dice.below(200),
        jitter_micros: dice.below(1_500),
    }
}
