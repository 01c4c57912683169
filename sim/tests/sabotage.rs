//! A simulator that finds nothing proves nothing: each rule is broken on purpose, and that is seen.

use tandem_node::Sabotage;
use tandem_sim::{Rules, chaos, partitions, run_many};

/// A broken rule is noticed within so many seeds.
const SEEDS: u64 = 600;

/// So many seeds are run before somebody looks.
const PORTION: u64 = 25;

/// The first seeds that notice.
fn noticed_by(rules: Rules) -> usize {
    for first in (0..SEEDS).step_by(PORTION as usize) {
        let reports = chaos::run_many(first..first + PORTION, rules);
        let noticed: Vec<_> =
            reports.iter().filter(|(_, report)| !report.violations.is_empty()).collect();
        for (seed, report) in &noticed {
            println!("seed {seed}: {}", report.violations.first().map_or("", String::as_str));
        }
        if !noticed.is_empty() {
            return noticed.len();
        }
    }
    0
}

#[test]
fn an_answer_that_leaves_before_its_entry_is_committed_is_noticed() {
    let rules = Rules { node_sabotage: Some(Sabotage::AnswerBeforeCommit), ..Rules::default() };
    assert!(noticed_by(rules) > 0);
}

#[test]
fn entries_that_are_acknowledged_and_thrown_away_are_noticed() {
    let rules =
        Rules { node_sabotage: Some(Sabotage::AcknowledgeWithoutKeeping), ..Rules::default() };
    assert!(noticed_by(rules) > 0);
}

#[test]
fn a_reign_whose_epoch_is_not_on_disk_is_noticed() {
    let mut rules = Rules::default();
    rules.pair_sabotage.skip_saving_epochs = true;
    assert!(noticed_by(rules) > 0);
}

#[test]
fn heartbeats_that_are_taken_too_late_are_noticed() {
    let mut rules = Rules::default();
    rules.pair_sabotage.accept_late_heartbeats = true;
    assert!(noticed_by(rules) > 0);
}

#[test]
fn a_third_voter_whose_promises_end_too_early_is_noticed() {
    assert!(noticed_by(Rules { votes: true, hasty_voter: true, ..Rules::default() }) > 0);
}

#[test]
fn so_it_is_in_partitions_without_calls() {
    let rules = Rules { hasty_voter: true, ..Rules::default() };
    let reports = run_many(0..20, |seed| partitions::run(seed, rules, false));
    let micros: u64 = reports.iter().map(|(_, report)| report.seen.together_micros).sum();
    assert!(micros > 0, "two served, and nobody saw it");
}
