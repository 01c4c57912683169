//! `tandem events`: what happened on both machines, by time. Reads the files, so it works whoever runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tandem_keeper::{Event, Known};
use tandem_types::Seat;

use super::print_json;
use crate::cli::Failure;
use crate::config::Config;
use crate::events::{paths, read_both};
use crate::logging::Time;

/// Pause between two looks at the files while following them.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What is shown, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct EventsArgs {
    /// Go on and show what happens from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only what is younger, as in 90s, 15m, 1h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    since: Option<Duration>,
    /// How many at most, the newest of them
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Print JSON; with --follow one object a line
    #[arg(long)]
    json: bool,
}

/// `tandem events`.
pub(crate) fn events(config: &Config, args: &EventsArgs) -> Result<(), Failure> {
    let folder = config.events_folder();
    let mut events = load(&folder)?;
    if let Some(age) = args.since {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let oldest = u64::try_from(Time::now().micros() / 1_000 - age).unwrap_or(0);
        events.retain(|event| event.time_ms >= oldest);
    }
    let mut shown = newest(&events);
    let first = events.len().saturating_sub(args.limit);
    if args.json && !args.follow {
        let list: Vec<Value> = events[first..].iter().map(with_time).collect();
        return print_json(&list);
    }
    events[first..].iter().for_each(|event| show(event, args.json));
    if !args.follow {
        return Ok(());
    }
    let mut seen = stamps(&folder);
    loop {
        std::thread::sleep(LOOK_PAUSE);
        let now = stamps(&folder);
        if now == seen {
            continue;
        }
        seen = now;
        let events = load(&folder)?;
        let is_new = |event: &&Event| shown.get(&event.seat).is_none_or(|seq| event.seq > *seq);
        events.iter().filter(is_new).for_each(|event| show(event, args.json));
        shown.extend(newest(&events));
    }
}

pub(super) fn load(folder: &Path) -> Result<Vec<Event>, Failure> {
    let what = || format!("cannot read the events in {}", folder.display());
    Ok(read_both(folder).with_context(what)?)
}

/// The newest number of each machine.
fn newest(events: &[Event]) -> BTreeMap<Seat, u64> {
    let mut newest = BTreeMap::new();
    for event in events {
        let seq: &mut u64 = newest.entry(event.seat).or_default();
        *seq = (*seq).max(event.seq);
    }
    newest
}

/// What changes when a file does.
fn stamps(folder: &Path) -> Vec<Option<(u64, SystemTime)>> {
    let paths = Seat::ALL.map(|seat| paths(folder, seat)).concat();
    let stamp = |path: &std::path::PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.len(), data.modified().ok()?))
    };
    paths.iter().map(stamp).collect()
}

fn show(event: &Event, as_json: bool) {
    if as_json {
        println!("{}", with_time(event));
    } else {
        print!("{}", lines(event));
    }
}

fn time(event: &Event) -> Time {
    Time::from_micros(i64::try_from(event.time_ms).unwrap_or(i64::MAX).saturating_mul(1_000))
}

/// The event with its time as people read it.
fn with_time(event: &Event) -> Value {
    let mut value = json!(event);
    value["time"] = json!(time(event).to_string());
    value
}

/// The event for people: one line, and one for each of what it rested on and how long it took.
fn lines(event: &Event) -> String {
    let seat = event.seat.to_string();
    let mut page = format!("{}  {seat:<8}{}\n", time(event), event.sentence);
    // Writing to a String cannot fail.
    if !event.evidence.is_empty() {
        let _ = writeln!(page, "{:34}rested on: {}", "", evidence_words(&event.evidence));
    }
    if !event.took_us.is_empty() {
        let _ = writeln!(page, "{:34}took: {}", "", took_words(&event.took_us));
    }
    page
}

/// What an event rested on, but what its sentence says anyway.
pub(super) fn evidence_words(evidence: &BTreeMap<String, Known>) -> String {
    let said = |name: &str| matches!(name, "from" | "to" | "reign");
    let words = evidence.iter().filter(|(name, _)| !said(name)).map(|(name, known)| {
        let (name, unit) = match (name.strip_suffix("_ms_ago"), name.strip_suffix("_ms")) {
            (Some(name), _) => (name, " ms ago"),
            (None, Some(name)) => (name, " ms"),
            (None, None) => (name.as_str(), ""),
        };
        let name = name.replace('_', " ");
        match known {
            Known::Yes(true) => format!("{name}: yes"),
            Known::Yes(false) => format!("{name}: NO"),
            Known::Number(number) => format!("{name} {number}{unit}"),
            Known::Word(word) => format!("{name}: {word}"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

/// How long steps took, in milliseconds.
fn took_words(took: &BTreeMap<String, u64>) -> String {
    let words = took.iter().map(|(name, micros)| {
        let (millis, tenths) = (micros / 1_000, micros / 100 % 10);
        format!("{} {millis}.{tenths} ms", name.replace('_', " "))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Reads `90s`, `15m`, `1h`, `7d`.
fn age(text: &str) -> Result<Duration, String> {
    let expected = || String::from("expected a number and s, m, h or d, as in 90s or 7d");
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| expected())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_with_their_unit_and_nothing_else() {
        let seconds = |text| age(text).ok().map(|age| age.as_secs());
        assert_eq!(["90s", "15m", "1h", "7d"].map(seconds), [90, 900, 3_600, 604_800].map(Some));
        assert_eq!(["", "h", "1", "-1h", "1 h", "1é"].map(seconds), [None; 6]);
    }

    #[test]
    fn an_event_reads_as_a_sentence_with_what_it_rested_on() {
        let mut event =
            Event::new(Seat::Standby, 1_795_356_185_123, "role_changed", "it took over");
        event.evidence.insert("twin_heard_ms_ago".into(), Known::Number(104));
        event.evidence.insert("carrier".into(), Known::Yes(true));
        event.evidence.insert("to".into(), Known::Word("active".into()));
        event.took_us.insert("epoch_saved".into(), 1_349);
        let expected = "2026-11-22T14:03:05.123Z  standby it took over\n\
                        \x20                                 rested on: carrier: yes, twin heard 104 ms ago\n\
                        \x20                                 took: epoch saved 1.3 ms\n";
        assert_eq!(lines(&event), expected);
    }
}
