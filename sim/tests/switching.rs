//! Planned switches lose nothing: no phone repeats a request, and none hears an answer twice.

use tandem_sim::{Seen, run_many, switching};

/// How many seeds the test command runs.
const SEEDS: u64 = 200;

#[test]
fn under_many_calls_no_planned_switch_makes_anybody_repeat_anything() {
    let mut seen = Seen::default();
    let mut broken = Vec::new();
    for (seed, report) in run_many(0..SEEDS, |seed| switching::run(seed, false)) {
        seen.add(&report.seen);
        if !report.violations.is_empty() {
            broken.push(format!(
                "cargo run -p tandem-sim -- switching {seed}\n    {}",
                report.violations.join("\n    ")
            ));
        }
    }
    println!("{seen:#?}");
    assert!(broken.is_empty(), "{} runs broke a promise:\n{}", broken.len(), broken.join("\n"));
    assert!(seen.clean_switches >= 6 * SEEDS, "only {} switches", seen.clean_switches);
    assert!(seen.carried + seen.carried_ringing >= 40 * SEEDS, "few calls at the switches");
}
