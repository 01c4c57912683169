//! Two machines that are set up with the same seat: a copied disk, a mistake at `tandem init`.

use tandem_keeper::Fact;
use tandem_keeper::pair::{Notice, State};
use tandem_types::Seat;

use crate::world::{MASTER, STANDBY, Wires, World, ms};

/// Both with this seat; what tells their lives apart is the time at which they began.
fn alike(seed: u64, seat: Seat) -> World {
    let mut world = World::new(seed);
    for (at, machine) in world.machines.iter_mut().enumerate() {
        machine.seat = seat;
        machine.boot = 100 * at as u64;
    }
    world
}

fn told(world: &World, at: usize) -> usize {
    world.count(at, |fact| matches!(fact, Fact::Pair(Notice::SameSeat)))
}

#[test]
fn neither_of_two_masters_begins_to_serve_and_both_say_why() {
    for seed in 0..20 {
        let mut world = alike(seed, Seat::Master);
        world.boot(MASTER);
        world.run(ms(seed * 30));
        world.boot(STANDBY);
        world.run(ms(20_000));
        assert_eq!(world.states(), (State::Cold, State::Cold), "{}", world.story());
        for at in [MASTER, STANDBY] {
            assert!(world.status(at).same_seat);
            assert_eq!(told(&world, at), 1, "{}", world.story());
        }
    }
}

#[test]
fn a_copy_of_the_active_machine_does_not_serve_beside_it() {
    for seat in [Seat::Master, Seat::Standby] {
        let mut world = alike(1, seat);
        world.boot(MASTER);
        world.run_until(ms(20_000), |world| world.serving() == [MASTER]);
        world.boot(STANDBY);
        world.run(ms(30_000));
        assert_eq!(world.serving(), [MASTER], "{}", world.story());
        assert_eq!((told(&world, MASTER), told(&world, STANDBY)), (1, 1));
        // Also where every second heartbeat gets lost.
        world.wires = Wires { loss: 50, ..Wires::GOOD };
        world.run(ms(30_000));
        assert_eq!(world.serving(), [MASTER], "{}", world.story());
    }
}

#[test]
fn one_of_two_alike_serves_when_the_other_is_taken_away() {
    let mut world = alike(1, Seat::Master);
    world.boot(MASTER);
    world.boot(STANDBY);
    world.run(ms(5_000));
    assert!(world.serving().is_empty(), "{}", world.story());
    world.kill_machine(STANDBY);
    world.run_until(ms(5_000), |world| world.serving() == [MASTER]);
    assert!(!world.status(MASTER).same_seat);
}
