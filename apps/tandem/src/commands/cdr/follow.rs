//! `tandem cdr follow`: records as they are closed, on either machine, through restarts of the server.
//!
//! Where a follower stands is what its machine knows of each reign. The two machines write the same record
//! under the same reign and number, so a position that one of them printed is good at the other: what that one
//! lacks comes when it has it, and nothing comes a second time.

use std::fmt;
use std::io::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;
use tandem_call::Cdr;
use tandem_journal::{Cursor, Known, Record};
use tandem_node::CDR_PREFIX;
use tandem_store::{ReadError, Reader, WallClock};
use tandem_types::{Epoch, Seat, Seq, Stamp};

use super::records::{Damage, Kept, Read, damaged, failed, read, to_json};
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
        let mut lot =
            |lot: Vec<Read>, after: &Position| print(&mut out, args, zone, lot, after, &mut damage);
        match look(config, &mut position, &mut lot) {
            Ok(()) => trouble.clear(),
            Err(Trouble::Output(error)) => return Err(error),
            // The server makes the file at its first start, and may be replacing it.
            Err(Trouble::File(error)) if error != trouble => {
                eprintln!("tandem: {error}; it is tried again");
                trouble = error;
            }
            Err(Trouble::File(_)) => {}
        }
        out.flush().context("cannot write")?;
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// One lot, with the position after it.
fn print(
    out: &mut impl io::Write,
    args: &FollowArgs,
    zone: &Zone,
    lot: Vec<Read>,
    after: &Position,
    damage: &mut Damage,
) -> anyhow::Result<()> {
    let mut whole = Vec::new();
    for one in lot {
        match one {
            Read::Whole(cdr, _) => whole.push(cdr),
            Read::Damaged(key, what) => damage.say(&key, what),
        }
    }
    if !args.json {
        return if whole.is_empty() { Ok(()) } else { print_rows(out, zone, &whole) };
    }
    for cdr in &whole {
        writeln!(out, "{}", to_json(cdr)).context("cannot write")?;
    }
    let line = json!({ "position": after.to_string() });
    writeln!(out, "{line}").context("cannot write")
}

/// Why a look ended before its time.
enum Trouble {
    /// The file cannot be read: it is tried again.
    File(String),
    /// Nothing can be written.
    Output(anyhow::Error),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        failed(&error).into()
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Config(error) | Failure::Unreachable(error) | Failure::Other(error) => {
                Self::File(format!("{error:#}"))
            }
        }
    }
}

/// What there is after `position`, in the order in which it was closed, lot by lot; each moves the position.
/// Without a position: nothing, and all is seen.
///
/// Only what the file says it knows counts: of a catch-up that is under way later records may be there before
/// earlier ones.
fn look(
    config: &Config,
    position: &mut Option<Position>,
    each: &mut impl FnMut(Vec<Read>, &Position) -> anyhow::Result<()>,
) -> Result<(), Trouble> {
    let reader = Reader::open(&config.state, WallClock::system())?;
    let known = reader.known()?;
    let Some(seen) = position.as_ref().map(|position| position.0.clone()) else {
        return each(Vec::new(), position.insert(Position(known))).map_err(Trouble::Output);
    };
    let Some(read_before) = read_before(&seen, &known) else { return Ok(()) };
    let kept = Kept::of(&reader)?;
    let mut cursor = Cursor::default();
    let mut records: Vec<Record> = Vec::new();
    loop {
        let (page, next) = reader.lacking(&read_before, &cursor)?;
        let is_record = |it: &Record| it.key.starts_with(CDR_PREFIX) && it.body.is_some();
        records.extend(page.into_iter().filter(|it| is_record(it) && known.covers(it.stamp)));
        let end = next.as_ref().and_then(|next| next.0.as_ref()).map(|(stamp, _)| *stamp);
        // Of the entry at whose records the page ends there may be more on the next one.
        let whole = end.map_or(records.len(), |end| records.partition_point(|it| it.stamp < end));
        let rest = records.split_off(whole);
        let lot = records.iter().map(read).filter(|one| kept.shows(one));
        let lot: Vec<Read> = lot.chain(damaged(&reader)).collect();
        let after = position.insert(Position(up_to(&seen, &known, end)));
        if !lot.is_empty() {
            each(lot, after).map_err(Trouble::Output)?;
        }
        records = rest;
        match next {
            Some(next) => cursor = next,
            None => return Ok(()),
        }
    }
}

/// What is not read for what `known` has beyond `seen`; `None`: nothing is. After damage a file may hold much that it
/// does not claim to know: of such a reign nothing is read again and again.
fn read_before(seen: &Known, known: &Known) -> Option<Known> {
    let mut all = seen.clone();
    let mut has_more = false;
    for stamp in known.iter() {
        if stamp.seq == Seq::ZERO || seen.covers(stamp) {
            all.learn(Stamp { seq: Seq(u64::MAX), ..stamp });
        } else {
            has_more = true;
        }
    }
    has_more.then_some(all)
}

/// What is seen when, beyond `seen`, everything `known` is, up to the entry `end`.
fn up_to(seen: &Known, known: &Known, end: Option<Stamp>) -> Known {
    let mut all = seen.clone();
    for stamp in known.iter() {
        let last = match end {
            Some(end) if end.epoch < stamp.epoch => continue,
            Some(end) if end.epoch == stamp.epoch => stamp.seq.0.min(end.seq.0.saturating_sub(1)),
            Some(_) | None => stamp.seq.0,
        };
        if last > 0 {
            all.learn(Stamp { seq: Seq(last), ..stamp });
        }
    }
    all
}

/// Rows as they come; the columns have a width that fits most.
fn print_rows(out: &mut impl io::Write, zone: &Zone, cdrs: &[Box<Cdr>]) -> anyhow::Result<()> {
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
    fn a_page_that_ends_within_an_entry_moves_the_position_to_the_one_before() {
        let position = |text: &str| text.parse::<Position>().unwrap().0;
        let (seen, known) = (position("1m7,2s3"), position("1m9,2s40,3m5"));
        let at = |end: &str| Position(up_to(&seen, &known, position(end).latest())).to_string();
        assert_eq!(at("2s20"), "1m9,2s19");
        assert_eq!(at("3m1"), "1m9,2s40");
        assert_eq!(at("1m8"), "1m7,2s3");
        assert_eq!(at("2s99"), "1m9,2s40", "beyond what is known");
        assert_eq!(Position(up_to(&seen, &known, None)).to_string(), "1m9,2s40,3m5");
    }

    #[test]
    fn only_reigns_of_which_more_is_known_are_read() {
        let position = |text: &str| text.parse::<Position>().unwrap().0;
        let stamp = |text: &str| position(text).latest().unwrap();
        let seen = position("1m7,2s3");
        for nothing in ["1m7,2s3", "1m7", "1m5,2s3,3m0", "start"] {
            assert_eq!(read_before(&seen, &position(nothing)), None, "{nothing}");
        }
        // What the file holds beyond the seventh of the first reign it does not claim to know.
        let read = read_before(&seen, &position("1m7,2s4,3m0")).unwrap();
        assert!(read.covers(stamp("1m999999")) && read.covers(stamp("3m1")));
        assert!(read.covers(stamp("2s3")) && !read.covers(stamp("2s4")));
    }

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
