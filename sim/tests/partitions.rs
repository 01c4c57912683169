//! With a third voter two never serve at once. A million partitions: `cargo run --release -p tandem-sim -- night`.

use tandem_sim::{Rules, Seen, partitions, run_many};

/// Runs of the test command, of [`partitions::IN_A_RUN`] partitions each.
const RUNS: u64 = 50;

#[test]
fn partitions_of_every_kind_never_make_two_serve() {
    let mut seen = Seen::default();
    let mut broken = Vec::new();
    for (seed, report) in run_many(0..RUNS, |seed| partitions::run(seed, Rules::default(), false)) {
        seen.add(&report.seen);
        if !report.violations.is_empty() {
            broken.push(format!(
                "cargo run -p tandem-sim -- partitions {seed}\n    {}",
                report.violations.join("\n    ")
            ));
        }
    }
    println!("{seen:#?}");
    assert!(broken.is_empty(), "{} runs broke a promise:\n{}", broken.len(), broken.join("\n"));
    assert_eq!(seen.together_micros, 0);
    assert!(seen.reigns >= 5 * RUNS, "only {} reigns", seen.reigns);
    assert!(seen.granted >= 20 * RUNS, "only {} promises", seen.granted);
}
