//! What the keepers tell of a misfortune: what a change rested on, and how long its steps took.

use tandem_keeper::pair::{Change, Event as Case, State, Timings};
use tandem_keeper::{
    Begun, Event, Fact, Input, Known, Misfortune, OperatorAnswer, OperatorRequest, Outlook,
    ServerFact, ServerMessage,
};
use tandem_types::{Duration, Seat};

use crate::world::{MASTER, STANDBY, World, ms};

fn changes(world: &World, at: usize) -> Vec<&Change> {
    let facts = world.machines[at].facts.iter();
    facts
        .filter_map(|(_, fact)| if let Fact::Role(change) = fact { Some(change) } else { None })
        .collect()
}

fn begun(world: &World, at: usize) -> Vec<Begun> {
    let facts = world.machines[at].facts.iter();
    facts
        .filter_map(|(_, fact)| if let Fact::Begun(begun) = fact { Some(*begun) } else { None })
        .collect()
}

#[test]
fn a_takeover_from_a_dead_machine_shows_both_silences_and_the_quiet_probe() {
    let mut world = World::settled(1);
    world.kill_machine(MASTER);
    world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    world.run(ms(50));
    let changes = changes(&world, STANDBY);
    let claim = changes.iter().find(|c| c.to == State::Claiming).expect("it took over");
    let silence = Timings::default().silence;
    let known = claim.evidence;
    assert_eq!(known.case, Case::ProbeQuiet);
    assert!(known.twin_heard.is_some_and(|ago| ago >= silence), "{known:?}");
    assert!(known.link_heard.is_some_and(|ago| ago >= silence), "{known:?}");
    assert!(known.probed.is_some_and(|long| long >= Timings::default().probe), "{known:?}");
    assert_eq!((known.twin_said, known.carrier), (Some(State::Active), true));
    let event = Event::of(Seat::Standby, 5, &Fact::Role((*claim).clone()));
    assert_eq!(event.kind, "role_changed");
    assert_eq!(event.evidence["case"], Known::Word("probe_quiet".into()));
    let Known::Number(ago) = event.evidence["twin_heard_ms_ago"] else { panic!("{event:?}") };
    assert!((100..200).contains(&ago), "{ago}");
}

#[test]
fn the_steps_of_a_takeover_are_told_once_and_add_up() {
    let mut world = World::settled(2);
    assert_eq!(begun(&world, MASTER).len(), 1, "the cold start");
    assert_eq!(begun(&world, MASTER)[0].unserved, None, "nobody served before");
    world.kill_machine(MASTER);
    let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
    world.run(ms(500));
    let [begun] = begun(&world, STANDBY)[..] else { panic!("{}", world.story()) };
    assert_eq!(begun.case, Case::ProbeQuiet);
    assert!(begun.unserved.is_some_and(|long| long >= Timings::default().machine_death()));
    assert!(begun.saved > Duration::ZERO && begun.claimed == ms(2), "{begun:?}");
    // The server's word that it serves is a moment under way; the last heartbeat was one before.
    let slack = ms(30);
    assert!(begun.total() < took + slack && took < begun.total() + slack, "{begun:?} {took:?}");
}

#[test]
fn what_the_server_tells_and_a_refused_switchover_are_facts() {
    let mut world = World::settled(3);
    let told = ServerFact { kind: "lease_lost".into(), sentence: "no lease".into() };
    world.tell(STANDBY, Input::ServiceSaid(ServerMessage::Fact(told.clone())));
    assert_eq!(world.count(STANDBY, |fact| *fact == Fact::Server(told.clone())), 1);
    world.kill_server(STANDBY);
    world.run(ms(30));
    let answer = world.order(MASTER, OperatorRequest::Switch { force: false });
    let OperatorAnswer::Refused(why) = answer else { panic!("{answer:?}") };
    assert_eq!(world.count(MASTER, |fact| *fact == Fact::SwitchRefused { why: why.clone() }), 1);
}

#[test]
fn what_is_said_to_follow_from_a_death_does_follow() {
    type Deed = fn(&mut World);
    let deeds: [(Misfortune, Deed); 2] = [
        (Misfortune::ServerDies, |world| world.kill_server(MASTER)),
        (Misfortune::MachineDies, |world| world.kill_machine(MASTER)),
    ];
    for (misfortune, deed) in deeds {
        let mut world = World::settled(4);
        let said: Vec<_> = [MASTER, STANDBY].map(|at| world.status(at).outlooks()).into();
        assert_eq!(said[0], said[1], "both machines say the same");
        let of = |outlook: &&Outlook| outlook.misfortune == misfortune;
        let outlook = said[0].iter().find(of).expect("it is there").clone();
        assert_eq!((outlook.serves, outlook.loses), (Some(Seat::Standby), false), "{outlook:?}");
        deed(&mut world);
        world.run_until(ms(10), |world| world.serving().is_empty());
        let took = world.run_until(ms(1_000), |world| world.serving() == [STANDBY]);
        let after = ms(outlook.after_ms.expect("somebody serves"));
        // What was heard last was up to a heartbeat old; disk, address and server take some.
        assert!(took + ms(20) > after && took < after + ms(30), "{took:?}, said {outlook:?}");
        let claim = changes(&world, STANDBY).into_iter().find(|c| c.to == State::Claiming);
        assert_eq!(claim.map(|claim| claim.why.clone()), Some(outlook.why));
    }
}

#[test]
fn where_nothing_would_take_over_it_is_said_why() {
    let mut world = World::settled(5);
    world.order(STANDBY, OperatorRequest::Lock { on: true, seconds: None });
    world.run(ms(50));
    for outlook in world.status(MASTER).outlooks() {
        if outlook.misfortune != Misfortune::CutBetween {
            assert_eq!(outlook.serves, None, "{outlook:?}");
            assert!(outlook.why.contains("maintenance lock"), "{outlook:?}");
        }
    }
    world.order(MASTER, OperatorRequest::Lock { on: true, seconds: None });
    let died = world.status(MASTER).outlooks().remove(0);
    assert!(died.why.contains("keeps it from leading"), "{died:?}");
    world.kill_machine(STANDBY);
    world.run(ms(500));
    let outlooks = world.status(MASTER).outlooks();
    assert!(outlooks[1].why.contains("not heard") && outlooks[1].serves.is_none(), "{outlooks:?}");
    assert_eq!(outlooks[2].serves, Some(Seat::Master));
}
