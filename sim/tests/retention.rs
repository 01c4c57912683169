//! Old call records go on both machines and stay away; young ones stay.
//!
//! `cargo run -p tandem-sim -- retention SEED` tells the story of one run.

use tandem_sim::{retention, run_many};

const SEEDS: u64 = 120;

#[test]
fn old_records_go_on_both_machines_and_never_come_back_and_young_ones_stay() {
    let mut records = 0;
    let mut broken = Vec::new();
    for (seed, report) in run_many(0..SEEDS, |seed| retention::run(seed, false)) {
        records += report.seen.records;
        if !report.violations.is_empty() {
            let what = report.violations.join("\n    ");
            broken.push(format!("cargo run -p tandem-sim -- retention {seed}\n    {what}"));
        }
    }
    println!("{records} records looked at");
    assert!(broken.is_empty(), "{} runs broke a promise:\n{}", broken.len(), broken.join("\n"));
    assert!(records > 10 * SEEDS, "{records}");
}
