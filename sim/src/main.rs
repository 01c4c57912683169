//! `tandem-sim chaos --seeds 0..2000` looks for broken promises; `tandem-sim replay 17` tells one
//! run; `tandem-sim story FILE` plays a story. `tandem-sim calls --count 1000000` makes so many calls and counts their
//! records. `tandem-sim night` is for the nights: ten thousand seeds of chaos
//! and a million partitions.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use tandem_sim::chaos::{self, dense};
use tandem_sim::{Report, Rules, Seen, Story, partitions, retention, run_many, switching};

const USAGE: &str = "usage: tandem-sim chaos --seeds FROM..TO | calls --count CALLS [--seed FIRST] | replay SEED \
                     | call SEED | retention SEED | switching SEED | partitions SEED | story FILE | night [--part ONE_OF_SO_MANY]";

/// Seeds of chaos in a night.
const NIGHT_SEEDS: u64 = 10_000;

/// Partitions in a night.
const NIGHT_PARTITIONS: u64 = 1_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["chaos", "--seeds", range] => match parse_range(range) {
            Some((from, to)) => run_chaos(from, to),
            None => usage(),
        },
        ["calls", "--count", count] => make_calls(count, "0"),
        ["calls", "--count", count, "--seed", first] => make_calls(count, first),
        ["story", file] => play(file),
        ["night"] => night(1),
        ["night", "--part", part] => match part.parse() {
            Ok(part @ 1..) => night(part),
            Ok(0) | Err(_) => usage(),
        },
        [what @ ("replay" | "call" | "retention" | "switching" | "partitions"), seed] => {
            match seed.parse() {
                Ok(seed) if what == "partitions" => {
                    tell(&partitions::run(seed, Rules::default(), true))
                }
                Ok(seed) if what == "call" => tell(&dense::run(seed, Rules::default(), true)),
                Ok(seed) if what == "retention" => tell(&retention::run(seed, true)),
                Ok(seed) if what == "switching" => tell(&switching::run(seed, true)),
                Ok(seed) => tell(&chaos::run(seed, Rules::default(), true)),
                Err(_) => usage(),
            }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once("..")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn run_chaos(from: u64, to: u64) -> ExitCode {
    let (seen, failed) = run_and_tell("replay", from..to, &chaos_of);
    println!("{seen:#?}");
    println!("{failed} of {} runs broke a promise", to.saturating_sub(from));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn chaos_of(seed: u64) -> Report {
    chaos::run(seed, Rules::default(), false)
}

fn partitions_of(seed: u64) -> Report {
    partitions::run(seed, Rules::default(), false)
}

/// Runs seeds; prints how each one that failed is replayed. What was seen, and how many failed.
fn run_and_tell(
    command: &str,
    seeds: Range<u64>,
    run: &(dyn Fn(u64) -> Report + Sync),
) -> (Seen, u64) {
    let mut seen = Seen::default();
    let mut failed = 0_u64;
    // In portions, so that a night that is ended early has told what it found.
    for first in seeds.clone().step_by(PORTION) {
        let portion = first..seeds.end.min(first + PORTION as u64);
        for (seed, report) in run_many(portion, run) {
            seen.add(&report.seen);
            if !report.violations.is_empty() {
                failed += 1;
                println!("seed {seed}: cargo run -p tandem-sim -- {command} {seed}");
                report.violations.iter().for_each(|what| println!("    {what}"));
            }
        }
    }
    (seen, failed)
}

/// Seeds between two looks at what failed.
const PORTION: usize = 200;

/// A part of a night: one of so many.
fn night(part: u64) -> ExitCode {
    let begin = Instant::now();
    let runs = (NIGHT_PARTITIONS / part).div_ceil(partitions::IN_A_RUN);
    let (seen, torn) = run_and_tell("partitions", 0..runs, &partitions_of);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{} partitions with a third voter in {seconds:.0} s: {} reigns, {} promises of the witness; both served \
         for {} us; {torn} of {runs} runs broke a promise",
        seen.partitions, seen.reigns, seen.granted, seen.together_micros
    );
    let begin = Instant::now();
    let seeds = NIGHT_SEEDS.div_ceil(part);
    let (seen, failed) = run_and_tell("replay", 0..seeds, &chaos_of);
    let seconds = begin.elapsed().as_secs_f64();
    println!("{seen:#?}");
    println!("{seeds} seeds of chaos in {seconds:.0} s: {failed} broke a promise");
    if torn + failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs until so many calls were made, and prints what became of their records.
fn make_calls(count: &str, first: &str) -> ExitCode {
    let (Ok(count), Ok(first)) = (count.parse::<u64>(), first.parse::<u64>()) else {
        return usage();
    };
    let begin = Instant::now();
    let (mut seen, mut failed, mut seed) = (Seen::default(), 0, first);
    while seen.calls < count {
        let next = seed + CALLS_PORTION;
        let (more, wrong) = run_and_tell("call", seed..next, &calls_of);
        seen.add(&more);
        failed += wrong;
        seed = next;
        eprintln!("{}; {failed} runs broke a promise\n", dense::report(&seen));
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{}", dense::report(&seen));
    let runs = seed - first;
    println!("{runs} runs in {seconds:.0} s; {failed} broke a promise");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn calls_of(seed: u64) -> Report {
    dense::run(seed, Rules::default(), false)
}

/// Runs between two words of how far it is.
const CALLS_PORTION: u64 = 40;

/// One run as it was recorded.
fn tell(report: &Report) -> ExitCode {
    report.story.iter().for_each(|line| println!("{line}"));
    println!("{:?}", report.seen);
    report.violations.iter().for_each(|what| println!("BROKEN: {what}"));
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(file: &str) -> ExitCode {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    match text.and_then(|text| Story::parse(&text)) {
        Ok(story) => {
            let (seen, kept) = story.play(tandem_sim::STORY_SEED);
            print!("{seen}");
            if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::from(2)
        }
    }
}
