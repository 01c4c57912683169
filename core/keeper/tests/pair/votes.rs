//! With a third voter two never serve at once, whatever is cut; and it costs nothing while the two hear
//! each other. `PARTITIONS=1000000 cargo test --release -p tandem-keeper partitions` makes as many.

use tandem_keeper::pair::{Healing, State, Third, Timings};
use tandem_keeper::{Input, OperatorRequest, Seal};
use tandem_types::{Duration, Epoch, Instant, Seat};

use crate::world::{MASTER, STANDBY, Wires, World, ms};

/// Partitions of the test command.
const PARTITIONS: u64 = 1_000;

/// Partitions of one run.
const IN_A_RUN: u64 = 40;

fn settled(seed: u64) -> World {
    World::new(seed).with_voter().settle()
}

#[test]
fn the_third_voter_is_not_asked_while_the_two_hear_each_other() {
    let mut world = settled(1);
    let before = world.voter.as_ref().expect("there is one").asked;
    world.run(ms(60_000));
    assert_eq!(world.voter.as_ref().expect("there is one").asked, before);
    let votes = world.status(MASTER).votes.expect("shown");
    assert!(votes.twin_ms > 50 && votes.third_ms == 0, "{votes:?}");
}

#[test]
fn a_dead_machine_is_replaced_as_fast_as_without_votes() {
    let mut world = settled(1);
    world.kill_machine(MASTER);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(150), "{took:?}; {}", world.story());
    let votes = world.status(STANDBY).votes.expect("shown");
    assert!(votes.third_ms > 0 && votes.third == Third::Granted, "{votes:?}");
}

#[test]
fn a_dead_server_is_replaced_at_once() {
    let mut world = settled(1);
    world.kill_server(MASTER);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(20), "{took:?}; {}", world.story());
    world.run(ms(2_000));
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_planned_switchover_goes_to_and_fro() {
    let mut world = settled(1);
    for (from, to) in [(MASTER, STANDBY), (STANDBY, MASTER)] {
        world.order(from, OperatorRequest::Switch { force: false });
        let took = world.run_until(ms(1_000), |world| world.serving() == [to]);
        assert!(took < ms(30), "{took:?}; {}", world.story());
        world.run(ms(2_000));
        assert_eq!(world.serving(), [to]);
    }
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn cut_off_from_each_other_and_from_the_phones_only_one_serves() {
    let mut world = settled(1);
    world.wires = Wires::CUT;
    world.run(ms(60_000));
    assert_eq!(world.serving(), [MASTER], "it asked first: {}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
    world.wires = Wires::GOOD;
    world.run(ms(3_000));
    assert_eq!(world.serving(), [MASTER], "healing switches nothing");
}

#[test]
fn who_is_cut_off_from_twin_and_voter_stops_before_the_other_one_begins() {
    let mut world = settled(1);
    world.wires = Wires { voter: [false, true], ..Wires::CUT };
    let took = world.run_until(ms(3_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(250), "{took:?}; {}", world.story());
    world.run(ms(30_000));
    assert_eq!(world.serving(), [STANDBY]);
    assert_eq!(world.overlap, Duration::ZERO);
    world.wires = Wires::GOOD;
    world.run(ms(3_000));
    assert_eq!(world.serving(), [STANDBY], "healing switches nothing");
}

#[test]
fn without_the_voter_the_two_go_on_and_one_alone_does_not() {
    let mut world = settled(1);
    world.wires.voter = [false; 2];
    world.run(ms(10_000));
    assert_eq!(world.serving(), [MASTER]);
    world.kill_machine(STANDBY);
    world.run(ms(2_000));
    assert_eq!(world.serving(), [] as [usize; 0], "{}", world.story());
    let standing = world.status(MASTER).standing;
    assert!(standing.contains("third voter"), "{standing}");
    world.wires.voter = [true; 2];
    let took = world.run_until(ms(3_000), |world| world.serving() == [MASTER]);
    assert!(took < ms(500), "{took:?}; {}", world.story());
}

#[test]
fn a_death_during_a_cut_is_answered_once_the_promise_to_the_dead_has_ended() {
    let mut world = settled(1);
    world.wires = Wires::CUT;
    world.run(ms(5_000));
    world.kill_machine(MASTER);
    let took = world.run_until(ms(5_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(1_500), "{took:?}; {}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_reign_that_only_the_voter_knows_of_does_not_bar_the_survivor_for_ever() {
    let mut world = settled(1);
    let unheard_of = Epoch { number: 40, seat: Seat::Standby };
    world.voter.as_mut().expect("there is one").highest = Some(unheard_of);
    world.kill_machine(STANDBY);
    world.run(ms(2_000));
    assert_eq!(world.serving(), [MASTER], "{}", world.story());
    assert!(world.status(MASTER).reign > unheard_of);
}

#[test]
fn a_keeper_that_slept_gives_a_slower_twin_the_time_that_it_promised() {
    // The master's limits are four times those of the standby.
    let mut world = World::new(1).with_voter().without_real_time(&[MASTER]).settle();
    world.stall_keeper(STANDBY, ms(90));
    world.wires = Wires { voter: [false, true], ..Wires::CUT };
    world.run(ms(3_000));
    assert_eq!(world.serving(), [STANDBY], "{}", world.story());
    assert_eq!(world.overlap, Duration::ZERO, "{}", world.story());
}

#[test]
fn the_third_vote_is_given_back_only_when_the_lease_rests_on_the_twins() {
    let mut promised = 0;
    for after in 900..1_150 {
        // Without an address to ask at, the standby is as quick as it can be.
        let usual = Timings::default();
        let world = World::new(1).with(usual, false, Healing::LiveCalls).with_voter();
        let mut world = world.settle();
        world.voter.as_mut().expect("there is one").term_min = ms(2_000);
        world.wires.beats = [[false; 2]; 2];
        world.run(ms(300));
        world.wires = Wires::GOOD;
        world.run(ms(after));
        let is_promised =
            |world: &World| world.voter.as_ref().is_some_and(|v| v.promised(world.now).is_some());
        promised += usize::from(is_promised(&world));
        world.wires = Wires::CUT;
        for _ in 0..50 {
            if is_promised(&world) {
                world.run(ms(1));
            }
        }
        // Given back while the twin's vote is about to end, or not. Nobody takes the lease back.
        world.stall_keeper(MASTER, ms(200));
        world.run(ms(1_500));
        assert_eq!(world.overlap, Duration::ZERO, "{after}; {}", world.story());
    }
    assert!(promised > 20 && promised < 230, "before and after: {promised}");
}

#[test]
fn a_twin_that_stands_back_is_waited_for_until_its_server_has_stopped() {
    for hangs in 5..80 {
        let mut world = settled(hangs);
        world.hang_server(MASTER, ms(hangs));
        world.carrier(MASTER, false);
        world.run(ms(1_000));
        assert_eq!(world.serving(), [STANDBY], "{}", world.story());
        assert_eq!(world.overlap, Duration::ZERO, "{hangs} ms; {}", world.story());
    }
}

/// Cuts anything from anything, and stalls and kills keepers and servers.
fn partition(world: &mut World) {
    let beats = [(); 2].map(|()| [(); 2].map(|()| world.dice.chance(40)));
    world.wires = Wires {
        beats,
        link: world.dice.chance(40),
        phones: world.dice.chance(50),
        loss: if world.dice.chance(30) { world.dice.below(60) } else { 0 },
        delay: 50 + world.dice.below(5_000),
        twice: world.dice.below(10),
        voter: [world.dice.chance(60), world.dice.chance(60)],
        gateway: [None; 2],
    };
    let at = usize::from(world.dice.chance(50));
    match world.dice.below(20) {
        0 => world.kill_server(at),
        1 => {
            let long = ms(world.dice.below(600));
            world.stall_keeper(at, long);
        }
        2 => {
            world.kill_keeper(at);
            world.run(ms(20));
            world.boot(at);
        }
        3 => {
            let long = ms(world.dice.below(300));
            world.hang_server(at, long);
        }
        4 => {
            world.carrier(at, false);
            let long = ms(world.dice.below(300));
            world.run(long);
            world.carrier(at, true);
        }
        5 => {
            let force = world.dice.chance(50);
            world.tell(at, Input::Operator { id: 1, request: OperatorRequest::Switch { force } });
        }
        _ => {}
    }
    let long = 100 + world.dice.below(1_400);
    world.run(ms(long));
}

#[test]
fn partitions_of_every_kind_never_make_two_serve() {
    // As the seeds of `chaos`: read while compiling.
    let wanted = option_env!("PARTITIONS").and_then(|text| text.parse().ok());
    let runs: u64 = wanted.unwrap_or(PARTITIONS).div_ceil(IN_A_RUN);
    let (mut switched, mut helped) = (0, 0);
    for seed in 0..runs {
        // One of them may be slower than the other, or neither have an address to ask at.
        let world = World::new(seed).with_voter();
        let usual = Timings::default();
        let mut world = match seed % 4 {
            0 => world,
            1 => world.without_real_time(&[MASTER]),
            2 => world.without_real_time(&[STANDBY]),
            _ => world.with(usual, false, Healing::LiveCalls),
        }
        .settle();
        for _ in 0..IN_A_RUN {
            partition(&mut world);
            assert_eq!(world.overlap, Duration::ZERO, "seed {seed}; {}", world.story());
            let voter = world.voter.as_ref().expect("there is one");
            helped += usize::from(voter.promised(world.now).is_some());
            if world.dice.chance(30) {
                world.wires = Wires::GOOD;
                world.run(ms(1_500));
                assert_eq!(world.overlap, Duration::ZERO, "seed {seed}; {}", world.story());
            }
        }
        world.wires = Wires::GOOD;
        world.run(ms(15_000));
        assert_eq!(world.serving().len(), 1, "seed {seed}; {}", world.story());
        assert!(world.states().0 == State::Active || world.states().1 == State::Active);
        switched += world.reigns.len();
    }
    let runs = usize::try_from(runs).expect("small");
    assert!(switched > 3 * runs && helped > 5 * runs, "{switched} reigns, {helped} helped");
}

#[test]
fn a_keeper_that_has_just_started_does_not_vote_while_an_old_server_may_serve() {
    let mut world = settled(1);
    world.kill_keeper(STANDBY);
    world.run(ms(500));
    world.machines[STANDBY].recorded = Some(Vec::new());
    world.boot(STANDBY);
    let born = world.now;
    world.run(ms(300));
    let seal = Seal::new(&[7; 32]);
    let letters = world.machines[STANDBY].recorded.take().expect("recorded");
    let beats = letters.iter().map(|bytes| seal.open(bytes).expect("sealed").beat);
    let lease = Timings::default().lease;
    let mut voted = 0;
    for beat in beats {
        let age = born.elapsed_until(Instant::from_micros(beat.sent_micros));
        assert!(beat.echo.is_none() || age >= lease, "voted after {age:?}");
        voted += usize::from(beat.echo.is_some());
    }
    assert!(voted > 0, "later it votes");
}
