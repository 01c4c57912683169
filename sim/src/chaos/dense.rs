//! Many calls and much bad luck: each call has one record, on both machines.
//!
//! As [`chaos`](super), with more people who call each other all the time: answered, refused, given up, rung in
//! vain for three minutes, to people who are not there and to numbers that do not exist, put on hold and back.
//! Beside that servers, keepers and machines die, power goes, networks are cut, and operators switch. No disk
//! is full: then what is promised is said to rest on memory alone.

use tandem_keeper::OperatorRequest;
use tandem_types::{Dice, Duration};

use super::{Chaos, Rare, weather};
use crate::ledger::Ledger;
use crate::machine::Rules;
use crate::oracle::Seen;
use crate::phone::Habits;
use crate::run::{Report, caught};
use crate::world::World;

/// The users of a run, and how many devices each has. The last one is never there, the one before never answers.
const USERS: [(&str, usize); 14] = [
    ("anna", 1),
    ("ben", 2),
    ("carol", 1),
    ("dora", 1),
    ("emil", 1),
    ("frida", 2),
    ("gustav", 1),
    ("hanna", 1),
    ("ida", 1),
    ("jakob", 2),
    ("karl", 1),
    ("lena", 1),
    (SILENT, 1),
    (ABSENT, 1),
];

const SILENT: &str = "silent";
const ABSENT: &str = "absent";

/// Somebody who does not exist.
const NOBODY: &str = "4711";

/// The phones call for so long.
const BUSY: Duration = Duration::from_secs(9);

/// Pause between two calls, in microseconds, at most.
const CALL_PAUSE_MICROS: u64 = 36_000;

/// Of so many calls one is followed by a fault, where it may be.
const CALLS_A_FAULT: u64 = 9;

/// One run of so many lasts until who rings in vain is told so.
const PATIENT_RUNS: u64 = 24;

/// A server gives up ringing after three minutes.
const RINGS_OUT: Duration = Duration::from_secs(186);

/// People who do everything quickly.
const QUICK: Habits = Habits {
    answer_millis: Some((5, 900)),
    busy_percent: 8,
    talk_millis: Some((20, 2_500)),
    patience_millis: Some((100, 3_000)),
    hold_percent: 30,
};

/// Runs one seed.
pub fn run(seed: u64, rules: Rules, record: bool) -> Report {
    caught(|| run_through(seed, rules, record))
}

fn run_through(seed: u64, rules: Rules, record: bool) -> Report {
    let mut chaos = Chaos::dense(seed, rules);
    if record {
        chaos.world.record();
    }
    if chaos.begin() {
        let patient = seed % PATIENT_RUNS == 5;
        chaos.choose_habits(patient);
        chaos.busy();
        if patient && chaos.world.heals() {
            chaos.world.advance(RINGS_OUT);
        }
        chaos.world.judge();
        chaos.world.let_calls_end();
        chaos.world.judge_ledger();
        let seen = &chaos.world.oracle.seen;
        if chaos.fair && seen.losses > seen.healing_losses {
            let now = chaos.world.now();
            chaos.world.oracle.broken(now, "state was lost although faults came one by one");
        }
    }
    let story = chaos.world.take_log();
    let oracle = chaos.world.oracle;
    Report { violations: oracle.violations, seen: oracle.seen, story }
}

/// What was counted, for people.
pub fn report(seen: &Seen) -> String {
    let Seen { calls, answered, ledger, .. } = seen;
    let Ledger { owed, found, lost, lost_with_both, doubled, begun_twice, unsaid, .. } = ledger;
    let Ledger { lost_answered, lost_over, .. } = ledger;
    let rang = lost_with_both - lost_answered - lost_over;
    format!(
        "{calls} calls begun, {answered} answered; {} up and {} ringing when the server changed\n\
         {} processes killed, {} power cuts, {} cuts of the network, {} planned switches, {} reigns\n\
         {owed} records owed, {found} found on both machines\n\
         {lost} lost, {doubled} doubled\n\
         {lost_with_both} of both machines dead at once, or of one that was alone, before a disk had them: \
         {rang} callers had heard it ring, {lost_answered} had an answer, {lost_over} their last one\n\
         {begun_twice} begun twice: taken by a server that died before its first word, and again by its twin\n\
         {unsaid} more records of calls to which no server had said anything",
        seen.carried,
        seen.carried_ringing,
        seen.kills,
        seen.power_cuts,
        seen.cuts,
        seen.switches,
        seen.reigns,
    )
}

impl Chaos {
    fn dense(seed: u64, rules: Rules) -> Self {
        let mut dice = Dice::from_number(seed ^ 0x00d3_115e);
        let weather = weather(&mut dice);
        let fair = seed % 3 != 2;
        let rules = Rules { votes: rules.votes || seed / 3 % 3 == 1, ..rules };
        let mut world = World::new(seed, rules, weather, &USERS);
        world.oracle.strict = fair;
        let rare = Rare { orders: seed % 5 == 2, clocks: seed % 7 == 3 };
        Self {
            world,
            dice,
            fair,
            rare,
            kills: [0; 2],
            remedies: Vec::new(),
            users: 0,
            people: &USERS,
            has_full_disks: false,
        }
    }

    fn choose_habits(&mut self, patient: bool) {
        for number in 0..self.world.phones().len() {
            self.world.use_phone(number, |phone, _| {
                phone.habits = QUICK;
                if phone.config().user == SILENT {
                    phone.habits = Habits { answer_millis: None, busy_percent: 0, ..QUICK };
                }
                if patient && number % 4 == 0 {
                    phone.habits.patience_millis = None;
                }
            });
        }
    }

    fn busy(&mut self) {
        let end = self.world.now() + BUSY;
        while self.world.now() < end {
            let pause = self.dice.below(CALL_PAUSE_MICROS);
            self.advance(Duration::from_micros(pause));
            self.call_anybody();
            if self.dice.below(CALLS_A_FAULT) == 0 {
                match self.dice.below(10) {
                    0 | 1 => self.switch(),
                    _ => self.fault(),
                }
            }
        }
        self.end_faults();
    }

    fn switch(&mut self) {
        if !self.fair || (self.world.is_healthy() && self.remedies.is_empty()) {
            let at = self.pick(2);
            self.world.operate(at, OperatorRequest::Switch { force: false });
        }
    }

    fn call_anybody(&mut self) {
        let phone = self.pick(self.world.phones().len());
        let to = if self.dice.chance(3) { NOBODY } else { USERS[self.pick(USERS.len())].0 };
        let user = self.world.phones()[phone].config().user.clone();
        if user != to && user != ABSENT {
            let call = self.world.call(phone, to);
            let now = self.world.now();
            self.world.say(|| format!("{now} (call {call} begins)"));
        }
    }
}
