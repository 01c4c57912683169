//! The rows of the role table as stories: two keepers, one misfortune each.

use tandem_keeper::pair::{Healing, Notice, State, Timings};
use tandem_keeper::{
    Exit, Fact, HISTORY_MAX, Input, MESSAGE_MAX, OperatorAnswer, OperatorRequest, Output, decode,
    encode,
};
use tandem_types::{Duration, Epoch};

use crate::world::{MASTER, STANDBY, Wires, World, ms};

#[test]
fn the_word_that_a_server_died_goes_out_before_the_kernel_is_asked_for_anything() {
    let mut world = World::settled(1);
    let keeper = world.machines[MASTER].keeper.as_mut().expect("it runs");
    keeper.handle(world.now, Input::ServiceExited { how: Exit::Signal(11) });
    let outputs: Vec<_> = core::iter::from_fn(|| keeper.poll_output()).collect();
    let first = |wanted: fn(&Output) -> bool| outputs.iter().position(wanted).expect("it is there");
    let word = first(|output| matches!(output, Output::Datagram { .. }));
    let release = first(|output| matches!(output, Output::ReleaseAddress));
    assert!(word < release, "{outputs:#?}");
}

#[test]
fn after_a_common_cold_start_the_master_leads() {
    let mut world = World::new(1);
    world.boot(STANDBY);
    world.run(ms(700));
    world.boot(MASTER);
    world.run(ms(2_000));
    assert_eq!(world.states(), (State::Active, State::Passive), "{}", world.story());
}

#[test]
fn a_lone_master_waits_a_moment_and_a_lone_standby_a_grace_longer() {
    for (at, least, most) in [(MASTER, 1_000, 1_040), (STANDBY, 11_000, 11_040)] {
        let mut world = World::new(1);
        world.boot(at);
        let waited = world.run_until(ms(20_000), |world| world.serving() == [at]);
        assert!((ms(least)..ms(most)).contains(&waited), "{waited:?}");
    }
}

#[test]
fn who_starts_while_the_other_serves_follows() {
    let mut world = World::new(1);
    world.boot(STANDBY);
    world.run_until(ms(20_000), |world| world.serving() == [STANDBY]);
    world.boot(MASTER);
    world.run(ms(3_000));
    assert_eq!(world.states(), (State::Passive, State::Active), "{}", world.story());
    assert!(world.status(STANDBY).protected);
}

#[test]
fn a_killed_server_is_replaced_without_any_time_out() {
    for seed in 0..50 {
        let mut world = World::settled(seed);
        world.kill_server(MASTER);
        world.run_until(ms(10), |world| world.serving().is_empty());
        let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
        assert!(took < ms(8), "{took:?}; {}", world.story());
        assert_eq!(world.machines[STANDBY].probes, 0);
        world.run(ms(1_000));
        assert_eq!(world.states(), (State::Passive, State::Active));
        assert!(world.status(STANDBY).protected, "the killed one is back and caught up");
        assert_eq!(world.overlap, Duration::ZERO);
    }
}

#[test]
fn a_killed_server_is_replaced_quickly_though_every_third_packet_is_lost() {
    for seed in 0..50 {
        let mut world = World::settled(seed);
        world.wires = Wires { loss: 33, delay: 2_000, ..Wires::GOOD };
        world.kill_server(MASTER);
        world.run_until(ms(10), |world| world.serving().is_empty());
        let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
        assert!(took < ms(25), "{took:?}; {}", world.story());
    }
}

#[test]
fn a_hung_server_is_killed_and_replaced() {
    let mut world = World::settled(1);
    world.hang_server(MASTER, ms(60_000));
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(400), "{took:?}");
    world.run(ms(1_000));
    assert_eq!(world.states(), (State::Passive, State::Active), "{}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_server_that_has_the_role_and_does_not_serve_is_replaced() {
    let mut world = World::settled(1);
    world.machines[STANDBY].server.refuses = true;
    world.order(MASTER, OperatorRequest::Switch { force: false });
    world.run(ms(9_000));
    assert!(world.serving().is_empty());
    world.run(ms(3_000));
    let hung = world.count(STANDBY, |fact| matches!(fact, Fact::ServiceHung { .. }));
    assert_eq!((hung, world.serving()), (1, vec![MASTER]), "{}", world.story());
}

#[test]
fn a_dead_machine_is_replaced_after_silence_and_a_probe() {
    for seed in 0..50 {
        let mut world = World::settled(seed);
        world.kill_machine(MASTER);
        let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
        assert!(took < ms(135), "{took:?}");
        assert_eq!(world.machines[STANDBY].probes, 6);
    }
}

#[test]
fn a_dead_keeper_is_replaced_when_its_server_says_that_the_lease_has_ended() {
    let mut world = World::settled(1);
    world.kill_keeper(MASTER);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(120), "{took:?}; {}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
    assert_eq!(world.machines[STANDBY].probes, 0, "the server said so itself: nothing to ask");
    world.boot(MASTER);
    world.run(ms(2_000));
    assert_eq!(world.states(), (State::Passive, State::Active));
}

#[test]
fn a_keeper_that_is_back_at_once_does_not_lead_to_two_servers() {
    for pause in [1, 20, 50, 79, 95, 110, 130] {
        let mut world = World::settled(pause);
        world.kill_keeper(MASTER);
        world.run(ms(pause));
        world.boot(MASTER);
        world.run(ms(3_000));
        assert_eq!(world.states(), (State::Passive, State::Active), "{}", world.story());
        assert_eq!(world.overlap, Duration::ZERO, "{}", world.story());
    }
}

#[test]
fn a_lone_server_that_dies_is_restarted_and_reigns_anew() {
    let mut world = World::settled(1);
    world.kill_machine(STANDBY);
    world.run(ms(1_000));
    assert!(!world.status(MASTER).protected);
    let before = world.status(MASTER).reign;
    world.kill_server(MASTER);
    world.run_until(ms(10), |world| world.serving().is_empty());
    let took = world.run_until(ms(2_000), |world| world.serving() == [MASTER]);
    assert!(took < ms(80 + 50), "{took:?}; {}", world.story());
    assert!(world.status(MASTER).reign > before);
}

#[test]
fn one_silent_path_promotes_nobody() {
    let link_only = Wires { link: true, phones: false, ..Wires::CUT };
    let beats_only = Wires { link: false, phones: false, ..Wires::GOOD };
    let one_path = Wires { beats: [[true; 2], [false; 2]], link: false, ..Wires::GOOD };
    let phones_only = Wires { phones: true, ..Wires::CUT };
    for wires in [link_only, beats_only, one_path, phones_only] {
        let mut world = World::settled(1);
        world.wires = wires;
        world.run(ms(5_000));
        assert_eq!(world.serving(), [MASTER], "{wires:?}; {}", world.story());
        assert_eq!(world.reigns.len(), 1, "{wires:?}");
        world.wires = Wires::GOOD;
        world.run(ms(2_000));
        assert_eq!(world.states(), (State::Active, State::Passive), "{wires:?}");
        assert!(world.status(MASTER).protected);
    }
}

#[test]
fn a_standby_that_is_not_in_sync_leaves_a_dead_server_the_time_to_come_back() {
    let mut world = World::settled(1);
    world.wires.link = false;
    world.run(ms(500));
    assert!(!world.status(STANDBY).whole, "the active went on alone");
    world.kill_server(MASTER);
    world.run(ms(1_000));
    assert_eq!(world.states(), (State::Active, State::Passive), "{}", world.story());
    assert_eq!(world.reigns.len(), 2, "its own disk had all of it");
}

#[test]
fn a_standby_that_is_not_in_sync_serves_when_the_other_does_not_come_back() {
    let mut world = World::settled(1);
    world.wires.link = false;
    world.run(ms(500));
    world.machines[MASTER].start_time = ms(9_000);
    world.kill_server(MASTER);
    let took = world.run_until(ms(9_000), |world| world.serving() == [STANDBY]);
    assert!((ms(3_000)..ms(3_100)).contains(&took), "{took:?}");
}

#[test]
fn after_a_full_cut_who_carries_the_calls_stays() {
    for (calls, stays) in [([5, 2], MASTER), ([2, 5], STANDBY), ([0, 0], STANDBY)] {
        let mut world = World::settled(1);
        world.wires = Wires::CUT;
        world.run(ms(2_000));
        assert_eq!(world.serving(), [MASTER, STANDBY], "nothing is shared: both serve");
        (world.machines[MASTER].server.calls, world.machines[STANDBY].server.calls) =
            (calls[0], calls[1]);
        world.run(ms(100));
        world.gap = Duration::ZERO;
        world.wires = Wires::GOOD;
        let took = world.run_until(ms(1_000), |world| world.serving().len() == 1);
        assert!(took < ms(40), "{took:?}; {}", world.story());
        world.run(ms(2_000));
        assert_eq!(world.serving(), [stays], "{}", world.story());
        assert_eq!(world.gap, Duration::ZERO, "healing interrupts nobody");
        assert!(world.status(stays).protected);
        let healed = world.machines[stays].refreshes.len();
        assert!(healed >= 8, "the address is announced again: {healed}");
    }
}

#[test]
fn after_a_full_cut_the_master_stays_where_that_is_the_rule() {
    let mut world = World::new(1).with(Timings::default(), true, Healing::Master);
    world.boot(MASTER);
    world.boot(STANDBY);
    world.run(ms(2_000));
    world.machines[STANDBY].server.calls = 9;
    world.wires = Wires::CUT;
    world.run(ms(2_000));
    world.wires = Wires::GOOD;
    world.run(ms(2_000));
    assert_eq!(world.serving(), [MASTER], "{}", world.story());
    assert!(world.status(MASTER).protected, "a later reign, so that the standby follows");
}

#[test]
fn an_active_server_without_network_stops_and_the_other_serves() {
    let mut world = World::settled(1);
    world.wires = Wires::CUT;
    world.carrier(MASTER, false);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(135), "{took:?}");
    world.run(ms(1_000));
    assert_eq!(world.states(), (State::Stopped, State::Active));
    assert!(world.overlap < ms(40), "both see the same silence: {:?}", world.overlap);
    world.wires = Wires::GOOD;
    world.carrier(MASTER, true);
    world.run(ms(2_000));
    assert_eq!(world.states(), (State::Passive, State::Active), "{}", world.story());
}

#[test]
fn an_active_server_that_loses_the_phones_network_only_hands_over_at_once() {
    let mut world = World::settled(1);
    world.wires.phones = false;
    world.carrier(MASTER, false);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(10), "{took:?}; {}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_switch_that_restarts_under_both_moves_nothing() {
    let mut world = World::settled(1);
    world.kill_server(MASTER);
    world.run(ms(2_000));
    assert_eq!(world.serving(), [STANDBY]);
    world.wires = Wires::CUT;
    world.carrier(MASTER, false);
    world.carrier(STANDBY, false);
    world.run(ms(30_000));
    assert!(world.serving().is_empty(), "nobody can reach either");
    world.wires = Wires::GOOD;
    world.carrier(MASTER, true);
    world.carrier(STANDBY, true);
    let took = world.run_until(ms(2_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(130), "{took:?}; {}", world.story());
    world.run(ms(2_000));
    assert_eq!(world.serving(), [STANDBY], "{}", world.story());
}

#[test]
fn a_stopped_keeper_finds_itself_replaced_and_follows() {
    for stall in [95, 120, 300, 1_000, 20_000] {
        let mut world = World::settled(stall);
        world.stall_keeper(MASTER, ms(stall));
        world.run(ms(stall + 3_000));
        assert_eq!(world.serving().len(), 1, "{}", world.story());
        assert_eq!(world.overlap, Duration::ZERO, "{}", world.story());
        let slept = world.count(MASTER, |fact| matches!(fact, Fact::Pair(Notice::Slept(_))));
        assert_eq!(slept, 1, "{}", world.story());
    }
}

#[test]
fn a_keeper_that_just_stalled_judges_nobody_at_once() {
    let mut world = World::settled(1);
    world.stall_keeper(STANDBY, ms(75));
    world.run(ms(10));
    world.kill_machine(MASTER);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    let stalled = world.count(STANDBY, |fact| matches!(fact, Fact::Pair(Notice::Stalled(_))));
    assert_eq!(stalled, 1);
    assert!((ms(165)..ms(200)).contains(&took), "a fresh silence first: {took:?}");
}

#[test]
fn without_real_time_priority_stalls_of_300_ms_change_nothing() {
    let mut world = World::new(1).without_real_time(&[MASTER, STANDBY]);
    world.boot(MASTER);
    world.boot(STANDBY);
    world.run(ms(3_000));
    for at in [MASTER, STANDBY, MASTER, STANDBY] {
        world.stall_keeper(at, ms(300));
        world.run(ms(1_500));
    }
    assert_eq!(world.serving(), [MASTER], "{}", world.story());
    assert_eq!(world.reigns.len(), 1);
    assert!(!world.status(MASTER).real_time);
}

#[test]
fn an_epoch_that_can_not_be_saved_begins_no_reign() {
    let mut world = World::settled(1);
    world.machines[STANDBY].disk_broken = true;
    world.kill_machine(MASTER);
    world.run(ms(3_000));
    assert!(world.serving().is_empty());
    assert_eq!(world.states().1, State::Stopped);
    let alarms = world.count(STANDBY, |fact| matches!(fact, Fact::Pair(Notice::EpochNotSaved(_))));
    assert_eq!(alarms, 1, "{}", world.story());
    world.machines[STANDBY].disk_broken = false;
    world.run(ms(6_000));
    assert_eq!(world.serving(), [STANDBY], "tried again");
}

#[test]
fn a_lost_epoch_file_does_not_lead_to_an_epoch_used_twice() {
    let mut world = World::settled(1);
    world.kill_machine(STANDBY);
    world.run(ms(500));
    world.kill_machine(MASTER);
    world.machines[MASTER].disk = Epoch::NEVER;
    world.boot(MASTER);
    world.run(ms(2_000));
    assert_eq!(world.serving(), [MASTER], "above what its server has on disk");
    assert_eq!(world.status(MASTER).reign.number, 2, "{}", world.story());
}

#[test]
fn an_address_that_can_not_be_claimed_ends_the_reign() {
    let mut world = World::settled(1);
    world.machines[STANDBY].address_broken = true;
    world.kill_server(MASTER);
    world.run(ms(3_000));
    assert_eq!(world.serving(), [MASTER], "the master's server is back; {}", world.story());
}

#[test]
fn a_planned_switchover_serves_one_at_a_time() {
    let mut world = World::settled(1);
    for (from, to) in [(MASTER, STANDBY), (STANDBY, MASTER)] {
        world.gap = Duration::ZERO;
        let answer = world.order(from, OperatorRequest::Switch { force: false });
        assert_eq!(answer, OperatorAnswer::Done);
        let took = world.run_until(ms(1_000), |world| world.serving() == [to]);
        assert!(took < ms(20), "{took:?}; {}", world.story());
        world.run(ms(1_000));
        assert_eq!(world.serving(), [to]);
    }
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_switchover_to_nobody_is_refused_with_its_reason() {
    let mut world = World::settled(1);
    world.wires.link = false;
    world.run(ms(500));
    let answer = world.order(MASTER, OperatorRequest::Switch { force: false });
    assert!(matches!(answer, OperatorAnswer::Refused(why) if why.contains("not in sync")));
    world.kill_server(STANDBY);
    world.run(ms(30));
    let answer = world.order(MASTER, OperatorRequest::Switch { force: true });
    assert!(matches!(answer, OperatorAnswer::Refused(why) if why.contains("can not lead")));
    world.kill_machine(STANDBY);
    world.run(ms(500));
    let answer = world.order(MASTER, OperatorRequest::Switch { force: true });
    assert!(matches!(answer, OperatorAnswer::Refused(why) if why.contains("not heard")));
}

#[test]
fn a_switchover_during_which_the_twin_dies_is_taken_back() {
    let mut world = World::settled(1);
    world.order(MASTER, OperatorRequest::Switch { force: false });
    world.kill_machine(STANDBY);
    let took = world.run_until(ms(3_000), |world| world.serving() == [MASTER]);
    assert!(took < ms(200), "{took:?}; {}", world.story());
}

#[test]
fn a_locked_standby_does_not_promote_itself() {
    let mut world = World::settled(1);
    world.order(STANDBY, OperatorRequest::Lock { on: true, seconds: None });
    world.kill_machine(MASTER);
    world.run(ms(5_000));
    assert!(world.serving().is_empty());
    world.order(STANDBY, OperatorRequest::Lock { on: false, seconds: None });
    world.run_until(ms(100), |world| world.serving() == [STANDBY]);
}

#[test]
fn a_keeper_that_is_told_to_end_hands_over_first() {
    let mut world = World::settled(1);
    world.tell(MASTER, Input::Shutdown);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    assert!(took < ms(20), "{took:?}");
    world.run_until(ms(1_000), |world| world.machines[MASTER].finished);
    assert!(world.machines[MASTER].server.pid.is_none());
    assert_eq!(world.overlap, Duration::ZERO);
}

#[test]
fn a_keeper_that_is_told_to_end_lets_its_server_hear_as_long_as_the_address_is_here() {
    let mut world = World::settled(1);
    world.tell(MASTER, Input::Shutdown);
    let mut heard_on = 0;
    while !world.machines[MASTER].finished {
        world.run(ms(1));
        let machine = &world.machines[MASTER];
        assert!(!machine.holds_address || machine.server.pid.is_some(), "{}", world.story());
        heard_on += u32::from(machine.holds_address && world.serving() == [STANDBY]);
    }
    assert!((40..80).contains(&heard_on), "{heard_on} ms; {}", world.story());
}

#[test]
fn a_service_that_crashes_in_a_loop_rests_and_the_other_serves() {
    let mut world = World::settled(1);
    for _ in 0..6 {
        world.run_until(ms(40_000), |world| world.machines[MASTER].server.pid.is_some());
        world.kill_server(MASTER);
        world.run(ms(2));
    }
    assert_eq!(world.serving(), [STANDBY]);
    let failing = world.count(MASTER, |fact| matches!(fact, Fact::ServiceFailing { .. }));
    assert!(failing >= 1, "{}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
}

/// The master's server dies, comes back, and serves again; then every heartbeat that the master ever
/// sent comes once more.
pub(crate) fn replay_the_past(world: &mut World) {
    world.machines[MASTER].recorded = Some(Vec::new());
    world.kill_server(MASTER);
    world.run(ms(2_000));
    world.order(STANDBY, OperatorRequest::Switch { force: false });
    world.run(ms(2_000));
    assert_eq!(world.serving(), [MASTER]);
    for bytes in world.machines[MASTER].recorded.take().expect("recorded") {
        world.tell(STANDBY, Input::Datagram { path: 0, bytes });
        world.run(Duration::from_micros(500));
    }
}

#[test]
fn old_words_change_nothing() {
    let mut world = World::settled(1);
    replay_the_past(&mut world);
    assert_eq!(world.serving(), [MASTER], "{}", world.story());
    assert_eq!(world.overlap, Duration::ZERO);
    assert!(world.status(STANDBY).heartbeats.late > 500, "they were seen");
}

#[test]
fn strangers_change_nothing_and_are_counted() {
    let mut world = World::settled(1);
    let forged = world.status(STANDBY).heartbeats;
    for length in 0..300 {
        let mut bytes = vec![1; length];
        world.dice.fill(&mut bytes);
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        world.tell(STANDBY, Input::Datagram { path: 0, bytes });
    }
    world.tell(STANDBY, Input::Datagram { path: 9, bytes: vec![3; 80] });
    let counted = world.status(STANDBY).heartbeats;
    assert_eq!(counted.strange - forged.strange, 300);
    assert_eq!(counted.other_version - forged.other_version, 1);
    let told = world.count(STANDBY, |fact| matches!(fact, Fact::Strangers { .. }));
    assert_eq!(told, 1, "not three hundred lines");
    assert_eq!(world.serving(), [MASTER]);
}

#[test]
fn the_status_fits_into_a_message_with_a_full_history() {
    let mut world = World::settled(1);
    for round in 0..40 {
        world.order(round % 2, OperatorRequest::Switch { force: true });
        world.run(ms(1_000));
    }
    let status = world.status(MASTER);
    assert_eq!(status.history.len(), HISTORY_MAX);
    assert_eq!(status.services[0].name, "server");
    assert!(status.twin.as_ref().is_some_and(|twin| twin.heard));
    assert!(status.paths.iter().all(|path| path.heard_ms_ago.is_some_and(|ago| ago <= 10)));
    let answer = OperatorAnswer::Status(Box::new(status));
    let bytes = encode(&answer);
    assert!(bytes.len() <= MESSAGE_MAX, "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok(answer));
}

#[test]
fn two_that_hear_each_other_on_the_link_only_do_not_outbid_each_other() {
    let mut world = World::settled(1);
    world.wires = Wires::CUT;
    world.run(ms(3_000));
    assert_eq!(world.serving(), [MASTER, STANDBY]);
    let reigns = world.reigns.len();
    world.wires = Wires { link: true, ..Wires::CUT };
    let took = world.run_until(ms(2_000), |world| world.serving().len() == 1);
    assert!(took < ms(200), "{took:?}; {}", world.story());
    assert!(world.reigns.len() <= reigns + 1, "{}", world.story());
}

#[test]
fn a_locked_twin_that_knows_more_is_not_waited_for() {
    let mut world = World::settled(1);
    world.order(STANDBY, OperatorRequest::Lock { on: true, seconds: None });
    world.kill_server(MASTER);
    world.lose_journal(MASTER);
    world.run(ms(20));
    assert_eq!(world.serving(), [] as [usize; 0]);
    let took = world.run_until(ms(5_000), |world| world.serving() == [MASTER]);
    assert!(took < ms(300), "{took:?}; {}", world.story());
}
