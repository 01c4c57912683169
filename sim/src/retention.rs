//! Old call records go on both machines and never come back, whatever befalls the pair meanwhile.
//!
//! Calls are made; the clocks on both walls go on by days, while a machine is off, cut off or killed; calls are
//! made again. In the end both machines have the record of every call within the rule, and none of an older one.

use std::collections::BTreeSet;

use tandem_node::Request;
use tandem_types::{Dice, Duration};

use crate::judge::call_of;
use crate::machine::Rules;
use crate::network::{Road, Weather};
use crate::phone::Habits;
use crate::run::{Report, caught};
use crate::world::World;

const USERS: [(&str, usize); 4] = [("anna", 1), ("ben", 2), ("carol", 1), ("dora", 1)];

/// Closed calls stay on record for so many days.
const DAYS: u32 = 30;

const HOUR_MILLIS: i64 = 3_600_000;

/// People who do everything quickly.
const QUICK: Habits = Habits {
    answer_millis: Some((5, 200)),
    busy_percent: 8,
    talk_millis: Some((20, 300)),
    patience_millis: Some((100, 900)),
    hold_percent: 10,
};

/// Runs one seed. With `record` the report has the story.
pub fn run(seed: u64, record: bool) -> Report {
    caught(|| run_through(seed, record))
}

fn run_through(seed: u64, record: bool) -> Report {
    let mut dice = Dice::from_number(seed ^ 0x07e7_e471);
    let mut world = World::new(seed, Rules::default(), Weather::CALM, &USERS);
    if record {
        world.record();
    }
    world.power_on(0);
    world.power_on(1);
    world.advance(Duration::from_secs(4));
    world.log_everybody_in(&USERS);
    let first = busy(&mut world, &mut dice);
    let at = usize::from(dice.chance(50));
    let rule = Request::RetentionSet { days: Some(DAYS) };
    let rule = world.ask(at, rule);
    world.advance_until(Duration::from_secs(2), |world| world.reply(rule).is_some());
    trouble(&mut world, &mut dice);
    // Within the rule and its grace, or beyond both.
    let grace = dice.chance(30);
    let hours = if grace { 24 * i64::from(DAYS) + 12 } else { 24 * i64::from(DAYS) + 36 };
    for machine in 0..2 {
        world.jump_wall(machine, hours * HOUR_MILLIS);
    }
    if dice.chance(50) {
        trouble(&mut world, &mut dice);
    }
    world.advance(Duration::from_millis(500 + dice.below(1_500)));
    world.heals();
    world.log_everybody_in(&[]);
    let second = busy(&mut world, &mut dice);
    // The rule is looked at again within an hour: here by starting each server anew, in turn.
    for machine in [at, 1 - at] {
        world.kill_server(machine);
        world.advance_until(Duration::from_secs(10), World::is_healthy);
    }
    world.advance(Duration::from_secs(2));
    judge(&mut world, &first, &second, grace);
    let story = world.take_log();
    Report { violations: world.oracle.violations, seen: world.oracle.seen, story }
}

/// Calls, all of which have ended; their numbers.
fn busy(world: &mut World, dice: &mut Dice) -> BTreeSet<u32> {
    let mut calls = BTreeSet::new();
    for phone in 0..world.phones().len() {
        world.use_phone(phone, |phone, _| phone.habits = QUICK);
    }
    for _ in 0..12 {
        world.advance(Duration::from_millis(dice.below(80)));
        let phone = usize::try_from(dice.below(world.phones().len() as u64)).unwrap_or(0);
        let to = USERS[usize::try_from(dice.below(USERS.len() as u64)).unwrap_or(0)].0;
        if world.phones()[phone].config().user != to {
            calls.insert(world.call(phone, to));
        }
    }
    world.advance(Duration::from_secs(3));
    calls
}

/// One of the two is off, cut off, killed, or nothing happens.
fn trouble(world: &mut World, dice: &mut Dice) {
    let at = usize::from(dice.chance(50));
    match dice.below(5) {
        0 => world.kill_server(at),
        1 => world.power_off(at),
        2 => world.cut(at, &[Road::Link], true),
        3 => world.cut(at, &Road::ALL, true),
        _ => {}
    }
    world.advance(Duration::from_millis(dice.below(600)));
}

fn judge(world: &mut World, first: &BTreeSet<u32>, second: &BTreeSet<u32>, grace: bool) {
    let mut found = Vec::new();
    for at in 0..2 {
        let there: BTreeSet<u32> = world.machines[at]
            .disk
            .logs()
            .values()
            .filter_map(|kept| tandem_node::read_cdr(kept.body.as_deref()?))
            .filter_map(|cdr| call_of(&cdr))
            .collect();
        world.oracle.seen.records += there.len() as u64;
        let owes = |call: &&u32| world.oracle.owed.of(**call).is_some();
        let lost: Vec<&u32> =
            second.iter().filter(owes).filter(|call| !there.contains(call)).collect();
        if !lost.is_empty() {
            found.push(format!("machine {at} has lost the young records of {lost:?}"));
        }
        let old: Vec<&u32> = first.intersection(&there).collect();
        let kept = first.iter().filter(owes).filter(|call| there.contains(call)).count();
        let owed = first.iter().filter(owes).count();
        if !grace && !old.is_empty() {
            found.push(format!("machine {at} still has, or has again, {old:?}"));
        }
        if grace && kept < owed {
            found
                .push(format!("machine {at} deleted within the grace: {kept} of {owed} are there"));
        }
    }
    for what in found {
        world.oracle.broken(world.now(), &what);
    }
}
