//! Which records are wanted, and reading them.

use std::collections::BTreeSet;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tandem_call::{Cdr, Outcome};
use tandem_journal::{Class, Record};
use tandem_node::{CDR_PREFIX, CallEvents, EVENTS_PREFIX, is_newer, read_cdr, read_events};
use tandem_store::{ReadError, Reader, WallClock};

use super::zone::{Point, Zone, exact, point};
use crate::cli::Failure;
use crate::config::Config;
use crate::logging::Time;

/// Records that are read in one go.
const PAGE: usize = 1_000;

/// Which records are wanted. The time of a record is that of its end: a record is closed once, so ranges
/// that follow on one another have each record exactly once.
#[derive(Args, Clone, Debug)]
pub(crate) struct Wanted {
    /// Calls that ended then or later: 2026-11-22, "2026-11-22 14:03", yesterday, 7d
    #[arg(long, value_name = "TIME", value_parser = point)]
    since: Option<Point>,
    /// Calls that ended before
    #[arg(long, value_name = "TIME", value_parser = point)]
    until: Option<Point>,
    /// Calls from, to or answered by this number; with a * at its end: numbers that begin so
    #[arg(long, value_name = "NUMBER")]
    number: Option<String>,
    /// Calls that went so; may be repeated
    #[arg(long = "outcome", value_name = "OUTCOME", value_enum)]
    outcomes: Vec<OutcomeName>,
}

/// [`Outcome`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lowercase")]
enum OutcomeName {
    Answered,
    Busy,
    NoAnswer,
    Cancelled,
    Refused,
    Failed,
}

impl OutcomeName {
    const fn outcome(self) -> Outcome {
        match self {
            Self::Answered => Outcome::Answered,
            Self::Busy => Outcome::Busy,
            Self::NoAnswer => Outcome::NoAnswer,
            Self::Cancelled => Outcome::Cancelled,
            Self::Refused => Outcome::Refused,
            Self::Failed => Outcome::Failed,
        }
    }
}

/// [`Wanted`], with its times fixed.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Microseconds since 1970 UTC, inclusive.
    since: Option<i64>,
    /// The same, exclusive.
    until: Option<i64>,
    number: Option<String>,
    outcomes: Vec<Outcome>,
}

impl Wanted {
    pub(super) fn filter(self, zone: &Zone) -> anyhow::Result<Filter> {
        let now = Time::now().micros();
        let fix = |point: Option<Point>| point.map(|point| point.micros(zone, now)).transpose();
        let outcomes = self.outcomes.into_iter().map(OutcomeName::outcome).collect();
        Ok(Filter {
            since: fix(self.since)?,
            until: fix(self.until)?,
            number: self.number,
            outcomes,
        })
    }
}

impl Filter {
    /// Whether this record is wanted; `end` is when it ended.
    pub(super) fn takes(&self, cdr: &Cdr, end: i64) -> bool {
        let parties = [&cdr.origination_number, &cdr.called_number, &cdr.destination_number];
        let is_number = |wanted: &String| {
            parties.iter().any(|number| match wanted.strip_suffix('*') {
                Some(beginning) => number.reveal().starts_with(beginning),
                None => number.reveal() == wanted,
            })
        };
        self.since.is_none_or(|since| end >= since)
            && self.until.is_none_or(|until| end < until)
            && self.number.as_ref().is_none_or(is_number)
            && (self.outcomes.is_empty()
                || cdr.outcome.is_some_and(|outcome| self.outcomes.contains(&outcome)))
    }
}

/// A closed record, or why it is none.
#[derive(Debug)]
pub(super) enum Read {
    /// With the time of its end.
    Whole(Box<Cdr>, i64),
    /// Its key, and what is wrong.
    Damaged(String, &'static str),
}

/// Reads the record of a call.
pub(super) fn read(record: &Record) -> Read {
    let key = String::from_utf8_lossy(&record.key).into_owned();
    let body = record.body.as_deref().unwrap_or_default();
    let Some(cdr) = read_cdr(body) else { return Read::Damaged(key, unreadable(body)) };
    let is_its_own = record.key.strip_prefix(CDR_PREFIX) == Some(cdr.call_id.as_bytes());
    match cdr.end {
        Some(end) if is_its_own && cdr.outcome.is_some() => Read::Whole(Box::new(cdr), end),
        Some(_) if is_its_own => Read::Damaged(key, "it is not closed"),
        Some(_) => Read::Damaged(key, "it is damaged: it is of another call than its key says"),
        None => Read::Damaged(key, "it is not closed"),
    }
}

/// Why a body cannot be read.
fn unreadable(body: &[u8]) -> &'static str {
    if is_newer(body) {
        "it was written by a newer version of this program"
    } else {
        "it is damaged"
    }
}

/// Says which records are damaged, each once.
#[derive(Debug, Default)]
pub(super) struct Damage {
    records: usize,
    named: BTreeSet<String>,
}

/// Damaged records that are named; the others are counted.
const NAMED_MAX: usize = 100;

impl Damage {
    pub(super) fn say(&mut self, key: &str, what: &str) {
        if self.named.contains(key) {
            return;
        }
        self.records += 1;
        if self.named.len() < NAMED_MAX {
            self.named.insert(key.to_owned());
            eprintln!("tandem: {key} cannot be shown: {what}");
        }
    }

    /// Those of them that are none.
    pub(super) fn say_all(&mut self, found: impl IntoIterator<Item = Read>) {
        for one in found {
            match one {
                Read::Damaged(key, what) => self.say(&key, what),
                Read::Whole(..) => {}
            }
        }
    }

    /// A failure where there were any.
    pub(super) fn result(&self, rest: &str) -> Result<(), Failure> {
        match self.records {
            0 => Ok(()),
            1 => Err(Failure::Other(anyhow!("1 record cannot be read; {rest}"))),
            many => Err(Failure::Other(anyhow!("{many} records cannot be read; {rest}"))),
        }
    }
}

/// The journal of this machine, whether or not its server runs.
pub(super) fn open(config: &Config) -> Result<Reader, Failure> {
    Reader::open(&config.state, WallClock::system()).map_err(|error| match error.is_damage {
        true => failed(&error),
        false => Failure::Other(anyhow!(
            "{error}\nThe server makes this file at its first start: look with `tandem status`"
        )),
    })
}

/// The journal cannot be read. Where it is damaged nobody else may have met that, so it is marked.
pub(super) fn failed(error: &ReadError) -> Failure {
    if error.mark() {
        return Failure::Other(anyhow!(
            "{error}\nThe file is damaged: the server reads all of it at its next start, and takes what is lost \
             from the other machine (`tandem verify` says what is wrong)"
        ));
    }
    Failure::Other(anyhow!("{error}"))
}

/// What ended before this is older than call records are kept, and is not shown, whether or not it is deleted yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept(Option<i64>);

impl Kept {
    pub(super) fn of(reader: &Reader) -> Result<Self, Failure> {
        let retention = reader.retention().map_err(|error| failed(&error))?;
        let now = u64::try_from(Time::now().micros()).unwrap_or(0);
        Ok(Self(retention.shown_from(now)))
    }

    pub(super) fn shows(self, read: &Read) -> bool {
        match (self.0, read) {
            (Some(from), Read::Whole(_, end)) => *end >= from,
            (Some(_), Read::Damaged(..)) | (None, Read::Whole(..) | Read::Damaged(..)) => true,
        }
    }
}

/// The call records that were met and are not as they had been written.
pub(super) fn damaged(reader: &Reader) -> Vec<Read> {
    let of_calls = |key: &[u8]| key.starts_with(CDR_PREFIX) || key.starts_with(EVENTS_PREFIX);
    let met = reader.take_damaged().into_iter();
    let name = |key: Vec<u8>| String::from_utf8_lossy(&key).into_owned();
    let met =
        met.filter(|one| one.class == Class::Log && (of_calls(&one.key) || one.stamp.is_none()));
    met.map(|one| Read::Damaged(name(one.key), "it is damaged: it is not as it was written"))
        .collect()
}

/// Every record, the last closed first, until `each` says false.
pub(super) fn newest_first(
    reader: &Reader,
    mut each: impl FnMut(Read) -> bool,
) -> Result<(), Failure> {
    let kept = Kept::of(reader)?;
    let mut last: Option<Record> = None;
    loop {
        let page = reader.log(CDR_PREFIX, PAGE, last.as_ref()).map_err(|error| failed(&error))?;
        let found = damaged(reader).into_iter().chain(page.iter().map(read));
        for one in found.filter(|one| kept.shows(one)) {
            if !each(one) {
                return Ok(());
            }
        }
        match page.into_iter().next_back() {
            Some(record) => last = Some(record),
            None => return Ok(()),
        }
    }
}

/// Every record in the order of the end, each once; those that are closed meanwhile are left out.
pub(super) fn first_ended_first(
    reader: &Reader,
    mut each: impl FnMut(Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let kept = Kept::of(reader)?;
    let mut ended = reader.ended(CDR_PREFIX).map_err(|error| failed(&error))?;
    while let Some(lot) = ended.next_lot().map_err(|error| failed(&error))? {
        let found = damaged(reader).into_iter().chain(lot.iter().map(read));
        found.filter(|one| kept.shows(one)).try_for_each(&mut each)?;
    }
    damaged(reader).into_iter().try_for_each(each)
}

/// The record of this call, if it is closed.
pub(super) fn one(reader: &Reader, call: &str) -> Result<Option<Read>, Failure> {
    let key = [CDR_PREFIX, call.as_bytes()].concat();
    let record = reader.get(&key).map_err(|error| failed(&error))?;
    let found = record.filter(|record| record.body.is_some()).map(|record| read(&record));
    let found = found.or_else(|| damaged(reader).pop());
    let kept = Kept::of(reader)?;
    Ok(found.filter(|one| kept.shows(one)))
}

/// The events of this call; `None` where there are none on record, or they cannot be read: then that is said.
pub(super) fn events(
    reader: &Reader,
    call: &str,
    damage: &mut Damage,
) -> Result<Option<CallEvents>, Failure> {
    let key = [EVENTS_PREFIX, call.as_bytes()].concat();
    let record = reader.get(&key).map_err(|error| failed(&error))?;
    let body = record.and_then(|record| record.body);
    let events = body.as_deref().and_then(read_events);
    if let (Some(body), None) = (&body, &events) {
        damage.say(&String::from_utf8_lossy(&key), unreadable(body));
    }
    damage.say_all(damaged(reader));
    Ok(events)
}

/// A record as JSON, with what every reader of it would compute.
pub(super) fn to_json(cdr: &Cdr) -> Value {
    let mut value = json!(cdr);
    value["talk_seconds"] = json!(cdr.talk_seconds());
    let times = [
        ("start_time", Some(cdr.start)),
        ("delivered_time", cdr.delivered),
        ("connect_time", cdr.connect),
        ("end_time", cdr.end),
    ];
    for (name, micros) in times {
        value[name] = json!(micros.map(exact));
    }
    value
}

/// The events of a call as JSON, oldest first.
pub(super) fn events_json(cdr: &Cdr, events: &CallEvents) -> Value {
    let steps = events.trail.steps.iter().map(|step| {
        let after = i64::try_from(step.after_us).unwrap_or(i64::MAX);
        let time = cdr.start.saturating_add(after);
        let (event, leg) = super::show::name(step.event);
        let mut value = json!({ "time": exact(time), "after_us": step.after_us, "event": event });
        if let Some(leg) = leg {
            value["leg"] = json!(leg);
            value["device"] = json!(events.devices.get(&leg));
        }
        super::show::more(step.event).into_iter().for_each(|(name, more)| value[name] = more);
        value
    });
    steps.collect()
}
