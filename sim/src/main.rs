//! `tandem-sim chaos --seeds 0..2000` looks for broken promises; `tandem-sim replay 17` tells one
//! run; `tandem-sim story FILE` plays a story.

use std::process::ExitCode;

use tandem_sim::{Report, Rules, Seen, Story, chaos, switching};

const USAGE: &str = "usage: tandem-sim chaos --seeds FROM..TO | replay SEED | story FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["chaos", "--seeds", range] => match parse_range(range) {
            Some((from, to)) => run_chaos(from, to),
            None => usage(),
        },
        ["story", file] => play(file),
        [what @ ("replay" | "switching"), seed] => match seed.parse() {
            Ok(seed) if what == "switching" => tell(&switching::run(seed, true)),
            Ok(seed) => tell(&chaos::run(seed, Rules::default(), true)),
            Err(_) => usage(),
        },
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
    let mut seen = Seen::default();
    let mut failed = 0_u64;
    for (seed, report) in chaos::run_many(from..to, Rules::default()) {
        seen.add(&report.seen);
        if !report.violations.is_empty() {
            failed += 1;
            println!("seed {seed}: cargo run -p tandem-sim -- replay {seed}");
            report.violations.iter().for_each(|what| println!("    {what}"));
        }
    }
    println!("{seen:#?}");
    println!("{failed} of {} runs broke a promise", to.saturating_sub(from));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

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
