//! `tandem cdr follow`: records as they are closed, on either machine, through restarts of the server.
//!
//! Where a follower stands is what its machine knows of each reign. The two machines write the same record
//! under the same reign and number, so a position that one of them printed is good at the other: what that one
//! lacks comes when it has it, and nothing comes a second time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;
use tandem_journal::{Cursor, Known};
use tandem_node::CDR_PREFIX;
use tandem_store::{Reader, WallClock};
use tandem_types::{Epoch, Seat, Seq, Stamp};

use super::records::{Damage, Kept, Read, damaged, read, to_json};
use super::zone::Zone;
use super::{HEADINGS, cells};
use crate::cli::Failure;
use crate::commands::Table;
use crate::config::Config;

/// Pause between two looks at the file. It is opened anew each time: who keeps it open keeps the server from
/// reading it again after an error of the disk, and would not see that it was replaced.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Where to begin, and how it is printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct FollowArgs {
    /// Go on after this position, from the output of --json on either machine; `start`: all records there are
    #[arg(long, value_name = "POSITION")]
    after: Option<Position>,
    /// Print JSON: one object a line for each record, and after each lot the position after it
    #[arg(long)]
    json: bool,
    /// Times in UTC instead of local time
    #[arg(long)]
    utc: bool,
}

/// What a follower has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Position(Known);

/// What a position is expected to look like.
const POSITION: &str = "expected `start` or a position as `tandem cdr follow --json` prints it";

impl fmt::Display for Position {
    /// Each reign and how far: `1m120,2s55`; `start` where nothing was seen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |stamp: Stamp| {
            let seat = match stamp.epoch.seat {
                Seat::Master => 'm',
                Seat::Standby => 's',
            };
            format!("{}{seat}{}", stamp.epoch.number, stamp.seq.0)
        };
        let reigns: Vec<String> = self.0.iter().map(of).collect();
        f.write_str(if reigns.is_empty() { "start" } else { "" })?;
        f.write_str(&reigns.join(","))
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut known = Known::new();
        if text == "start" {
            return Ok(Self(known));
        }
        for reign in text.split(',') {
            let read = || {
                let (seat, at) = [(Seat::Master, 'm'), (Seat::Standby, 's')]
                    .into_iter()
                    .find_map(|(seat, letter)| Some((seat, reign.split_once(letter)?)))?;
                let epoch = Epoch { number: at.0.parse().ok()?, seat };
                Some(Stamp { epoch, seq: Seq(at.1.parse().ok()?) })
            };
            known.learn(read().ok_or(POSITION)?);
        }
        Ok(Self(known))
    }
}

/// `tandem cdr follow`.
pub(super) fn follow(config: &Config, args: &FollowArgs) -> Result<(), Failure> {
    let zone = Zone::of(config, args.utc)?;
    match run(config, args, &zone) {
        // Nobody reads any more.
        Err(error) if super::output::is_closed_pipe(&error) => Ok(()),
        other => Ok(other?),
    }
}

fn run(config: &Config, args: &FollowArgs, zone: &Zone) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut position = args.after.clone();
    let mut trouble = String::new();
    let mut damage = Damage::default();
    if !args.json {
        print_rows(&mut out, zone, &[])?;
    }
    loop {
        match look(config, position.as_ref()) {
            Ok((records, known)) => {
                trouble.clear();
                let is_first = position.is_none();
                let mut whole = Vec::new();
                for record in &records {
                    match record {
                        Read::Whole(cdr, _) => whole.push(&**cdr),
                        Read::Damaged(key, what) => damage.say(key, what),
                    }
                }
                let after = Position(known);
                if args.json {
                    for cdr in &whole {
                        writeln!(out, "{}", to_json(cdr)).context("cannot write")?;
                    }
                    if is_first || !records.is_empty() {
                        let line = json!({ "position": after.to_string() });
                        writeln!(out, "{line}").context("cannot write")?;
                    }
                } else if !whole.is_empty() {
                    print_rows(&mut out, zone, &whole)?;
                }
                position = Some(after);
            }
            // The server makes the file at its first start, and may be replacing it.
            Err(error) if error != trouble => {
                eprintln!("tandem: {error}; it is tried again");
                trouble = error;
            }
            Err(_) => {}
        }
        out.flush().context("cannot write")?;
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// What there is after `position`, in the order in which it was closed, and what is seen with it. Without a
/// position: nothing, and all is seen.
///
/// Only what the file says it knows counts: of a catch-up that is under way later records may be there before
/// earlier ones.
fn look(config: &Config, position: Option<&Position>) -> Result<(Vec<Read>, Known), String> {
    let reader =
        Reader::open(&config.state, WallClock::system()).map_err(|error| error.to_string())?;
    let known = reader.known().map_err(|error| error.to_string())?;
    let Some(Position(seen)) = position else { return Ok((Vec::new(), known)) };
    let kept = Kept::of(&reader).map_err(|failure| match failure {
        Failure::Config(error) | Failure::Unreachable(error) | Failure::Other(error) => {
            format!("{error:#}")
        }
    })?;
    let mut found = BTreeMap::new();
    let mut cursor = Cursor::default();
    loop {
        let page = reader.lacking(seen, &cursor).map_err(|error| error.to_string())?;
        for record in page.0 {
            let is_record = record.key.starts_with(CDR_PREFIX) && record.body.is_some();
            if is_record && known.covers(record.stamp) {
                found.insert((record.stamp, record.key.clone()), read(&record));
            }
        }
        match page.1 {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let mut all = seen.clone();
    all.merge(&known);
    let found = found.into_values().filter(|one| kept.shows(one));
    Ok((found.chain(damaged(&reader)).collect(), all))
}

/// Rows as they come; the columns have a width that fits most.
fn print_rows(
    out: &mut impl io::Write,
    zone: &Zone,
    cdrs: &[&tandem_call::Cdr],
) -> anyhow::Result<()> {
    let start = format!("START ({})", zone.name());
    let mut headings = HEADINGS;
    headings[0] = &start;
    let mut table = Table::new(&headings);
    cdrs.iter().for_each(|cdr| table.row(cells(cdr, zone)));
    let text = table.to_string();
    // The headings once, the rows ever after.
    let lines = if cdrs.is_empty() {
        text.as_str()
    } else {
        text.split_once('\n').map_or("", |(_, rows)| rows)
    };
    out.write_all(lines.as_bytes()).map_err(|error| anyhow!(error)).context("cannot write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_printed() {
        for text in ["start", "1m120", "1m120,2s55,10m9"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in ["", "1", "m", "1m", "1x2", "1m2,", "1m-2", "99999999999m1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
