//! Two thousand runs of bad luck: every promise is kept, and there were promises to keep.
//!
//! `cargo run -p tandem-sim -- replay SEED` tells the story of one run.

use tandem_sim::{Rules, Seen, chaos};

/// How many seeds the test command runs.
const SEEDS: u64 = 2_000;

#[test]
fn whatever_happens_what_callers_were_promised_is_kept() {
    let mut seen = Seen::default();
    let mut broken = Vec::new();
    for (seed, report) in chaos::run_many(0..SEEDS, Rules::default()) {
        seen.add(&report.seen);
        if !report.violations.is_empty() {
            broken.push(format!(
                "cargo run -p tandem-sim -- replay {seed}\n    {}",
                report.violations.join("\n    ")
            ));
        }
    }
    println!("{seen:#?}");
    assert!(broken.is_empty(), "{} runs broke a promise:\n{}", broken.len(), broken.join("\n"));
    // What never happened proves nothing.
    let floor = |what: &str, count: u64, least: u64| {
        assert!(count >= least, "only {count} {what}, expected {least}");
    };
    floor("calls", seen.calls, 15 * SEEDS);
    floor("answered calls", seen.answered, 10 * SEEDS);
    floor("calls carried over a takeover", seen.carried, 4 * SEEDS);
    floor("ringing calls carried over", seen.carried_ringing, 4 * SEEDS);
    floor("reigns", seen.reigns, 4 * SEEDS);
    floor("records compared", seen.records, 10 * SEEDS);
    floor("answers of a passive server", seen.refused_by_passive, SEEDS / 2);
    floor("users saved", seen.users, 4 * SEEDS);
    floor("promises of the third voter", seen.granted, SEEDS);
    floor("active machines cut off from everybody", seen.isolated, SEEDS / 20);
    floor("switchovers that waited for the calls to end", seen.idle_switches, SEEDS / 50);
    floor("maintenance locks", seen.locks, SEEDS / 50);
    assert!(seen.races * 100 < SEEDS, "{} races of two servers", seen.races);
    // A split that ends before anybody spoke to either side is decided by a coin.
    assert!(seen.healing_losses * 20 < SEEDS, "{} splits healed wrongly", seen.healing_losses);
    let excused_percent = seen.excused * 100 / seen.calls;
    assert!(excused_percent < 30, "{excused_percent} % of all calls were excused");
}
