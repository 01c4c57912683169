//! Every order of events up to a limit, and every rule broken once. In release builds the limits are
//! wider: `cargo test --release -p tandem-model` takes about two minutes on two cores.
#![allow(clippy::unwrap_used)]

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};
use tandem_model::{Flaw, Limits, Rules};

/// What a debug build has time for.
const SMALL: Limits = Limits { silence: 2, datagrams: 1, doubles: true, epochs: 1, deaths: 0 };

const SAFE: &str = "one serves at most";
const UNIQUE: &str = "no epoch twice";

/// Runs the checker to its end, or until something is broken. The states it saw, and what is broken.
fn check(rules: Rules) -> (usize, Vec<&'static str>) {
    let begun = std::time::Instant::now();
    let checker = rules.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let (seen, found) = (checker.unique_state_count(), checker.discoveries());
    let properties = rules.properties().into_iter();
    let broken = properties.filter(|property| match property.expectation {
        Expectation::Always => found.contains_key(property.name),
        // A run that was ended early need not have come so far.
        Expectation::Sometimes => rules.flaw.is_none() && !found.contains_key(property.name),
        Expectation::Eventually => true,
    });
    let broken: Vec<_> = broken.map(|property| property.name).collect();
    println!("{rules:?}: {seen} states in {:.1?}, broken: {broken:?}", begun.elapsed());
    if let Some(name) = broken.iter().find(|name| found.contains_key(*name)) {
        for (_, act) in found[name].clone().into_vec() {
            println!("    {act:?}");
        }
    }
    (seen, broken)
}

/// Nothing is broken, and so many states at least were looked at.
fn holds(limits: Limits, settles: bool, at_least: usize) {
    let (seen, broken) = check(Rules { limits, flaw: None, settles });
    assert_eq!(broken, [] as [&str; 0]);
    assert!(seen >= at_least, "{seen} states only");
}

#[test]
fn never_do_both_serve_and_every_state_settles() {
    holds(SMALL, true, 50_000);
    if !cfg!(debug_assertions) {
        holds(Limits { deaths: 1, ..SMALL }, true, 300_000);
        holds(Limits { deaths: 2, ..SMALL }, false, 500_000);
        holds(Limits { silence: 1, datagrams: 2, ..SMALL }, false, 500_000);
        holds(Limits { epochs: 2, ..SMALL }, false, 800_000);
    }
}

#[test]
fn every_rule_that_is_broken_is_found() {
    let one = Limits { deaths: 1, ..SMALL };
    let two = Limits { silence: 1, datagrams: 2, epochs: 2, ..SMALL };
    for (flaw, limits, expected) in [
        (Flaw::EpochWithoutSeat, SMALL, UNIQUE),
        (Flaw::PromiseEndsFirst, two, SAFE),
        (Flaw::RightFromAnswer, one, SAFE),
        (Flaw::NoStartSilence, one, SAFE),
        (Flaw::NoColdWait, Limits { epochs: 2, ..one }, SAFE),
        (Flaw::AnyOrder, Limits { epochs: 1, ..two }, SAFE),
        (Flaw::VoteForAnyReign, one, SAFE),
        (Flaw::ServerOutlivesRestart, one, SAFE),
    ] {
        let (_, broken) = check(Rules { limits, flaw: Some(flaw), settles: false });
        assert_eq!(broken, [expected], "{flaw:?}");
    }
}

#[test]
fn a_refusal_that_hides_the_epoch_bars_a_survivor_for_ever() {
    let rules = Rules { limits: SMALL, flaw: Some(Flaw::RefusalHidesEpoch), settles: true };
    let (_, broken) = check(rules);
    assert!(broken.iter().any(|name| name.starts_with("settles when")), "{broken:?}");
}
