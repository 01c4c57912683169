//! What an operator orders, on either machine.

use tandem_keeper::pair::State;
use tandem_keeper::{Fact, OperatorAnswer, OperatorRequest};
use tandem_types::Duration;

use crate::world::{MASTER, STANDBY, World, ms};

const SWITCH: OperatorRequest = OperatorRequest::Switch { force: false };

fn refused(answer: OperatorAnswer) -> String {
    let OperatorAnswer::Refused(why) = answer else { panic!("{answer:?}") };
    why
}

#[test]
fn a_switchover_may_be_ordered_on_either_machine() {
    let mut world = World::settled(1);
    for (from, to) in [(MASTER, STANDBY), (STANDBY, MASTER)] {
        assert_eq!(world.order(to, SWITCH), OperatorAnswer::Done);
        let took = world.run_until(ms(1_000), |world| world.serving() == [to]);
        assert!(took < ms(30), "{took:?}; {}", world.story());
        world.run(ms(1_000));
        assert_eq!(world.count(from, |fact| *fact == Fact::SwitchOrdered { force: false }), 1);
    }
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn an_order_that_is_lost_on_its_way_is_repeated_and_carried_out_once() {
    let mut world = World::settled(1);
    world.wires.loss = 60;
    assert_eq!(world.order(STANDBY, SWITCH), OperatorAnswer::Done);
    world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    world.wires.loss = 0;
    world.run(ms(2_000));
    assert_eq!(world.serving(), [STANDBY], "not back again: {}", world.story());
    assert_eq!(world.count(MASTER, |fact| *fact == Fact::SwitchOrdered { force: false }), 1);
}

#[test]
fn an_order_that_the_active_machine_refuses_is_refused_with_its_reason() {
    let mut world = World::settled(1);
    world.kill_server(STANDBY);
    world.run(ms(30));
    let why = refused(world.order(STANDBY, SWITCH));
    assert!(why.contains("can not lead"), "{why}");
}

#[test]
fn an_answer_to_an_earlier_life_of_this_keeper_is_none() {
    for seed in 0..20 {
        let mut world = World::settled(seed);
        world.kill_server(STANDBY);
        world.run(ms(30));
        refused(world.order(STANDBY, SWITCH));
        world.kill_keeper(STANDBY);
        world.boot(STANDBY);
        world.run(ms(2_000));
        // Heartbeats with the former answer are on their way while the new order is.
        world.wires.delay = 8_000;
        assert_eq!(world.order(STANDBY, SWITCH), OperatorAnswer::Done, "{}", world.story());
        world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    }
}

#[test]
fn a_server_that_has_the_role_and_does_not_serve_yet_hands_nothing_over() {
    let mut too_early = 0;
    for loads in 1..70 {
        let mut world = World::settled(loads);
        world.order(MASTER, SWITCH);
        world.run_until(ms(1_000), |world| world.states().1 == State::Active);
        // The address is there in two milliseconds; then the server takes its time to begin.
        world.run(ms(3));
        world.hang_server(STANDBY, ms(loads));
        let answer = world.order(STANDBY, OperatorRequest::Switch { force: true });
        if answer != OperatorAnswer::Done {
            let why = refused(answer);
            assert!(why.contains("nothing to hand over"), "{why}");
            too_early += 1;
        }
        world.run(ms(1_000));
        assert_eq!(world.overlap, Duration::ZERO, "{}", world.story());
        assert_eq!(world.serving().len(), 1);
    }
    assert!(too_early > 10, "{too_early}");
}

#[test]
fn an_order_while_the_active_machine_is_not_heard_is_refused_at_once() {
    let mut world = World::settled(1);
    world.kill_machine(MASTER);
    world.run(ms(50));
    let began = world.now;
    let why = refused(world.order(STANDBY, SWITCH));
    assert!(why.contains("did not answer") || why.contains("not active"), "{why}");
    assert!(began.elapsed_until(world.now) <= ms(1_010));
}

#[test]
fn a_switchover_waits_for_the_calls_to_end_and_says_so_on_both_machines() {
    let mut world = World::settled(1);
    world.machines[MASTER].server.calls = 2;
    world.run(ms(50));
    assert_eq!(world.order(STANDBY, OperatorRequest::SwitchWhenIdle), OperatorAnswer::Done);
    world.run(ms(5_000));
    assert_eq!(world.serving(), [MASTER]);
    for at in [MASTER, STANDBY] {
        let waits = world.status(at).switch.expect("it waits");
        assert_eq!((waits.here, waits.calls, waits.twin_ready), (at == MASTER, 2, true));
    }
    world.machines[MASTER].server.calls = 0;
    world.run(ms(200));
    assert_eq!(world.serving(), [STANDBY], "{}", world.story());
    assert_eq!(world.status(STANDBY).switch, None);
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_switchover_that_waits_can_be_cancelled_on_either_machine() {
    let mut world = World::settled(1);
    for at in [MASTER, STANDBY] {
        let why = refused(world.order(at, OperatorRequest::CancelSwitch));
        assert!(why.contains("no switchover waits"), "{why}");
        world.machines[MASTER].server.calls = 1;
        world.run(ms(50));
        world.order(at, OperatorRequest::SwitchWhenIdle);
        assert_eq!(world.order(at, OperatorRequest::CancelSwitch), OperatorAnswer::Done);
        world.machines[MASTER].server.calls = 0;
        world.run(ms(500));
        assert_eq!(world.serving(), [MASTER]);
    }
}

#[test]
fn a_switchover_that_waits_survives_its_keeper() {
    let mut world = World::settled(1);
    // Nobody can take over, so the same machine is active again after its keeper died.
    world.kill_machine(STANDBY);
    world.machines[MASTER].server.calls = 1;
    world.run(ms(500));
    world.order(MASTER, OperatorRequest::SwitchWhenIdle);
    world.kill_keeper(MASTER);
    world.run(ms(100));
    world.boot(MASTER);
    world.run_until(ms(10_000), |world| world.serving() == [MASTER]);
    world.machines[MASTER].server.calls = 1;
    world.run(ms(500));
    assert!(world.status(MASTER).switch.is_some_and(|waits| waits.here && !waits.twin_ready));
    world.boot(STANDBY);
    world.run(ms(10_000));
    assert_eq!(world.serving(), [MASTER]);
    world.machines[MASTER].server.calls = 0;
    world.run(ms(500));
    assert_eq!(world.serving(), [STANDBY], "{}", world.story());
}

#[test]
fn a_switchover_that_waits_is_moot_once_the_twin_took_over() {
    let mut world = World::settled(1);
    world.machines[MASTER].server.calls = 1;
    world.run(ms(50));
    world.order(MASTER, OperatorRequest::SwitchWhenIdle);
    world.kill_server(MASTER);
    world.run(ms(3_000));
    assert_eq!(world.serving(), [STANDBY]);
    assert_eq!(world.count(MASTER, |fact| *fact == Fact::SwitchMoot), 1);
    assert_eq!(world.status(MASTER).switch, None);
}

#[test]
fn a_maintenance_lock_ends_by_itself_and_survives_its_keeper() {
    let mut world = World::settled(1);
    let lock = OperatorRequest::Lock { on: true, seconds: Some(60) };
    assert_eq!(world.order(STANDBY, lock), OperatorAnswer::Done);
    world.run(ms(10_000));
    let left = world.status(STANDBY).lock_left_ms.expect("it ends");
    assert!((49_000..=50_000).contains(&left), "{left}");
    world.kill_keeper(STANDBY);
    world.run(ms(1_000));
    world.boot(STANDBY);
    world.run(ms(5_000));
    assert!(world.status(STANDBY).locked, "the lock was saved");
    world.kill_machine(MASTER);
    world.run(ms(5_000));
    assert_eq!(world.serving(), [] as [usize; 0], "it does not promote itself");
    world.run(ms(60_000));
    assert_eq!(world.serving(), [STANDBY], "the lock is over: {}", world.story());
    assert_eq!(world.states().1, State::Active);
}
