//! Who is cut off from everybody: no twin, no gateway, no phone.

use tandem_keeper::Fact;
use tandem_keeper::pair::{Notice, State};

use crate::world::{MASTER, STANDBY, Wires, World, ms};

/// With a gateway that has answered both.
fn settled() -> World {
    let mut world = World::settled(1);
    world.wires.gateway = [Some(true); 2];
    world.run(ms(6_000));
    world
}

#[test]
fn a_gateway_that_never_answered_proves_nothing() {
    let mut world = World::settled(1);
    world.wires.gateway = [Some(false); 2];
    world.run(ms(6_000));
    world.kill_machine(STANDBY);
    world.run(ms(10_000));
    assert_eq!(world.serving(), [MASTER], "{}", world.story());
}

#[test]
fn who_reaches_neither_twin_nor_gateway_nor_phones_stops_and_the_other_one_serves() {
    let mut world = settled();
    world.wires = Wires { gateway: [Some(false), Some(true)], ..Wires::CUT };
    world.run(ms(1_500));
    assert_eq!(world.serving(), [STANDBY], "{}", world.story());
    assert_eq!(world.count(MASTER, |fact| *fact == Fact::Pair(Notice::Isolated(true))), 1);
    assert_eq!(world.states().0, State::Stopped);
    world.wires = Wires { gateway: [Some(true); 2], ..Wires::GOOD };
    world.run(ms(2_000));
    assert_eq!(world.serving(), [STANDBY], "healing switches nothing; {}", world.story());
    assert_eq!(world.states().0, State::Passive);
}

#[test]
fn who_is_isolated_does_not_take_over() {
    let mut world = settled();
    world.wires = Wires { gateway: [Some(true), Some(false)], ..Wires::GOOD };
    world.run(ms(12_000));
    assert_eq!(world.states(), (State::Active, State::Passive), "the twin is heard: all is well");
    world.wires = Wires { gateway: [Some(true), Some(false)], ..Wires::CUT };
    world.run(ms(5_000));
    assert_eq!(world.serving(), [MASTER], "{}", world.story());
}

#[test]
fn a_network_that_is_gone_for_all_and_comes_back_is_served_again() {
    let mut world = settled();
    world.wires = Wires { gateway: [Some(false); 2], ..Wires::CUT };
    world.run(ms(3_000));
    assert_eq!(world.serving(), [] as [usize; 0], "nobody could be reached");
    world.wires = Wires { gateway: [Some(true); 2], ..Wires::GOOD };
    let took = world.run_until(ms(3_000), |world| world.serving().len() == 1);
    assert!(took < ms(500), "{took:?}; {}", world.story());
    world.run(ms(2_000));
    assert_eq!(world.serving().len(), 1);
}
