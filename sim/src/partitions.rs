//! Partitions one after the other, with a third voter and without phones: whatever is cut, never do two serve.
//!
//! Everything is real but the phones: keepers, servers, the witness and both ends of its road. So this runs many
//! times faster than with calls: a million partitions take half an hour on two cores.

use tandem_keeper::OperatorRequest;
use tandem_types::{Dice, Duration};

use crate::machine::Rules;
use crate::network::{Port, Road, Way, Weather};
use crate::run::{Report, caught};
use crate::world::World;

/// Partitions of one run.
pub const IN_A_RUN: u64 = 40;

/// Runs one seed. `hasty_voter` in the rules breaks the rule on purpose. With `record` the report has the story.
pub fn run(seed: u64, rules: Rules, record: bool) -> Report {
    caught(|| run_through(seed, Rules { votes: true, ..rules }, record))
}

fn run_through(seed: u64, rules: Rules, record: bool) -> Report {
    let mut dice = Dice::from_number(seed ^ 0x0c17_5e4d);
    let rules = Rules { gateway: dice.chance(30), ..rules };
    let mut world = World::new(seed, rules, Weather::CALM, &[]);
    if record {
        world.record();
    }
    world.power_on(0);
    world.power_on(1);
    world.advance(Duration::from_secs(3));
    for _ in 0..IN_A_RUN {
        partition(&mut world, &mut dice);
        world.oracle.seen.partitions += 1;
        if dice.chance(30) {
            world.mend();
            world.set_weather(Weather::CALM);
            world.advance(Duration::from_millis(1_500));
        }
    }
    world.heals();
    let now = world.now();
    if !world.together.is_zero() && world.oracle.violations.is_empty() {
        world.oracle.broken(now, "both servers served for a while");
    }
    world.oracle.seen.together_micros = u64::try_from(world.together.as_micros()).unwrap_or(0);
    world.oracle.seen.granted = world.granted();
    let story = world.take_log();
    Report { violations: world.oracle.violations, seen: world.oracle.seen, story }
}

/// Cuts anything from anything, changes the weather, and now and then kills or holds up something.
fn partition(world: &mut World, dice: &mut Dice) {
    for machine in 0..2 {
        for (road, open_percent) in
            [(Road::Heartbeat, 65), (Road::Link, 65), (Road::Lan, 70), (Road::Witness, 70)]
        {
            for way in [Way::Out, Way::In] {
                let cut = !dice.chance(open_percent);
                world.network.set_cut(Port { machine, road, way }, cut);
            }
        }
    }
    world.disturb();
    world.say(|| String::from("---- another partition"));
    world.set_weather(Weather {
        loss_percent: if dice.chance(30) { dice.below(60) } else { 0 },
        twice_percent: dice.below(10),
        delay_micros: 50,
        jitter_micros: dice.below(5_000),
    });
    let at = usize::from(dice.chance(50));
    let millis = Duration::from_millis(dice.below(600));
    match dice.below(24) {
        0 => world.kill_server(at),
        1 => world.stall_keeper(at, millis),
        2 => world.kill_keeper(at),
        3 => world.stall_server(at, Some(millis)),
        4 => world.stall_machine(at, millis),
        5 => world.operate(at, OperatorRequest::Switch { force: dice.chance(50) }),
        6 => world.start_voter(),
        7 => {
            world.power_off(at);
            world.advance(millis);
            world.power_on(at);
        }
        _ => {}
    }
    world.advance(Duration::from_millis(50 + dice.below(1_000)));
}
