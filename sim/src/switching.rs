//! A pair that is well and is told to switch to and fro, every few hundred milliseconds, under many calls.
//!
//! Nothing is lost on the network, so every repeated message is the pair's fault.

use tandem_keeper::OperatorRequest;
use tandem_types::{Dice, Duration};

use crate::machine::Rules;
use crate::network::Weather;
use crate::phone::Habits;
use crate::run::{Report, caught};
use crate::world::World;

const USERS: [(&str, usize); 8] = [
    ("anna", 1),
    ("ben", 2),
    ("carol", 1),
    ("dora", 1),
    ("emil", 1),
    ("frida", 1),
    ("gustav", 1),
    ("hanna", 1),
];

/// The phones call and the pair switches for so long.
const BUSY: Duration = Duration::from_secs(4);

/// A pair has started, and what was disturbed by that is forgotten.
const SETTLED: Duration = Duration::from_secs(6);

/// People who do everything quickly.
const QUICK: Habits = Habits {
    answer_millis: Some((5, 600)),
    busy_percent: 6,
    talk_millis: Some((20, 1_500)),
    patience_millis: Some((100, 1_500)),
    hold_percent: 30,
};

/// Runs one seed; every third has a third voter. With `record` the report has the story.
pub fn run(seed: u64, record: bool) -> Report {
    caught(|| run_through(seed, record))
}

fn run_through(seed: u64, record: bool) -> Report {
    let mut dice = Dice::from_number(seed ^ 0x51c4_90a7);
    let weather = Weather {
        delay_micros: 40 + dice.below(300),
        jitter_micros: dice.below(1_500),
        ..Weather::CALM
    };
    let rules = Rules { votes: seed % 3 == 1, ..Rules::default() };
    let mut world = World::new(seed, rules, weather, &USERS);
    if record {
        world.record();
    }
    world.power_on(0);
    world.power_on(1);
    world.advance(SETTLED);
    world.log_everybody_in(&USERS);
    for phone in 0..world.phones().len() {
        world.use_phone(phone, |phone, _| phone.habits = QUICK);
    }
    busy(&mut world, &mut dice);
    world.judge();
    let story = world.take_log();
    Report { violations: world.oracle.violations, seen: world.oracle.seen, story }
}

fn busy(world: &mut World, dice: &mut Dice) {
    let end = world.now() + BUSY;
    let mut switch_at = world.now();
    while world.now() < end {
        world.advance(Duration::from_micros(500 + dice.below(40_000)));
        let phones = world.phones().len() as u64;
        let phone = usize::try_from(dice.below(phones)).unwrap_or(0);
        let to = USERS[usize::try_from(dice.below(USERS.len() as u64)).unwrap_or(0)].0;
        if world.phones()[phone].config().user != to {
            world.call(phone, to);
        }
        if switch_at <= world.now() {
            switch_at = world.now() + Duration::from_millis(150 + dice.below(500));
            // On either machine; refused while the twin catches up.
            let at = usize::from(dice.chance(50));
            world.operate(at, OperatorRequest::Switch { force: false });
        }
    }
}
