//! Both machines against each other, while calls and changes go on.
//!
//! The two are read at slightly different moments, and what happens in between is on one of them only for
//! a moment. So what differs is looked at again: a fault is what differs every time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;
use tandem_node::{CDR_PREFIX, EVENTS_PREFIX, read_cdr};
use tandem_store::backup::{self, LogPart, Sums};
use tandem_store::{GRACE, Reader, WallClock};

use super::Finding;
use crate::cli::Failure;
use crate::config::Config;
use crate::control::ask;
use crate::logging::Time;
use crate::server::{TwinAsk, TwinRecords, TwinTold};

/// So often what differs is looked at.
const TRIES: u32 = 5;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause before the server is asked again what the twin said.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// The twin reads its files for so long, at most.
const PATIENCE: Duration = Duration::from_secs(300);
/// Parts of the journal of which each record is compared, at most.
const PARTS_MAX: usize = 16;

/// What is to be done where they differ.
const ADVICE: &str = "look with `tandem status` whether the link is up and both are in sync, and run this \
                      again; what stays: stop one machine, rename its file, start it: it is made anew from the \
                      other one";

/// Compares this machine with the other one, through its server.
pub(super) fn compare(config: &Config) -> Finding {
    let mut finding = Finding::new("other machine", ADVICE);
    match look(config, &mut finding) {
        Ok(looked_at) => finding.looked_at = looked_at,
        Err(Failure::Config(error) | Failure::Unreachable(error) | Failure::Other(error)) => {
            finding.fault(format!("not compared: {error:#}"));
        }
    }
    finding
}

/// What differs of the log: its key, and where it is.
type Suspects = BTreeMap<Vec<u8>, &'static str>;

/// One look at what differs of the log.
#[derive(Default)]
struct Look {
    suspects: Suspects,
    /// Parts that differ, and that were not looked at record by record.
    unread: usize,
}

fn look(config: &Config, finding: &mut Finding) -> Result<String, Failure> {
    let since = since(config)?;
    let mut last: Option<Look> = None;
    let mut tables = Err(String::new());
    let mut seen = String::new();
    for round in 0..TRIES {
        if round > 0 {
            std::thread::sleep(PAUSE);
        }
        let there: Sums = asked(config, &TwinAsk::Sums { since })?;
        let path = config.state.join(tandem_config::FILE_NAME);
        let here = backup::sums(&path, &config.state, since).map_err(anyhow::Error::from)?;
        seen = format!(
            "{} tables and {} records of calls, on both",
            here.tables.len(),
            here.log_records()
        );
        // Once is enough: what is equal then has not been lost since.
        if tables.is_err() {
            tables = compare_tables(&here, &there);
        }
        let mut found = match &last {
            Some(Look { suspects, unread: 0 }) if suspects.is_empty() => Look::default(),
            Some(_) | None => compare_logs(config, since, &here, &there)?,
        };
        // Only where all of it was read is what was not among it known to be right.
        if let Some(Look { suspects, unread: 0 }) = &last {
            found.suspects.retain(|key, _| suspects.contains_key(key));
        }
        let is_good = tables.is_ok() && found.suspects.is_empty() && found.unread == 0;
        last = Some(found);
        if is_good {
            return Ok(seen);
        }
    }
    if let Err(what) = tables {
        finding.fault(what);
    }
    let Look { suspects, unread } = last.unwrap_or_default();
    for (key, what) in suspects {
        finding.fault(format!("{} {what}", String::from_utf8_lossy(&key)));
    }
    if unread > 0 {
        finding.fault(format!("{unread} more parts of the journal differ, which were not read"));
    }
    Ok(seen)
}

/// Records that are older are deleted by and by, on one machine before the other.
fn since(config: &Config) -> anyhow::Result<Option<i64>> {
    let reader = Reader::open(&config.state, WallClock::system())?;
    let now = u64::try_from(Time::now().micros()).unwrap_or(0);
    Ok(reader.retention()?.shown_from(now))
}

fn compare_tables(here: &Sums, there: &Sums) -> Result<(), String> {
    if here.heads != there.heads {
        return Err(String::from("the two have not taken the same changes of the configuration"));
    }
    let all: BTreeSet<&i64> = here.tables.keys().chain(there.tables.keys()).collect();
    let differs: Vec<String> = all
        .into_iter()
        .filter(|table| here.tables.get(table) != there.tables.get(table))
        .map(|id| table_name(*id))
        .collect();
    if differs.is_empty() {
        return Ok(());
    }
    Err(format!("the same changes, but table {} of the configuration differs", differs.join(", ")))
}

/// As it is called in the database; its number, where the other machine is of a newer version.
fn table_name(id: i64) -> String {
    let table = u16::try_from(id).ok().and_then(|id| tandem_config::SCHEMA.table(id));
    table.map_or_else(|| id.to_string(), |table| table.name.to_owned())
}

/// Compares the parts that differ record by record. `since` lies among the steps of calls that ended at about
/// that time, by the clock of each machine when it wrote them: so more is read, and of that counts what belongs
/// to a younger call.
fn compare_logs(
    config: &Config,
    since: Option<i64>,
    here: &Sums,
    there: &Sums,
) -> Result<Look, Failure> {
    let mut parts: Vec<LogPart> = here.logs.keys().chain(there.logs.keys()).copied().collect();
    parts.sort();
    parts.dedup();
    parts.retain(|part| here.logs.get(part) != there.logs.get(part));
    let unread = parts.split_off(parts.len().min(PARTS_MAX)).len();
    let margin = i64::try_from(GRACE.as_micros() / 2).unwrap_or(0);
    let since_read = since.map(|since| since.saturating_sub(margin));
    let mut suspects = Suspects::new();
    for part in parts {
        let there: TwinRecords = asked(config, &TwinAsk::Part { part, since: since_read })?;
        let here =
            backup::log_part(&config.state, part, since_read).map_err(anyhow::Error::from)?;
        for (key, hash) in &here {
            match there.get(key) {
                None => drop(suspects.insert(key.clone(), "is on this machine only")),
                Some(other) if other != hash => {
                    suspects.insert(key.clone(), "differs between the machines");
                }
                Some(_) => {}
            }
        }
        for key in there.keys().filter(|key| !here.contains_key(*key)) {
            suspects.insert(key.clone(), "is on the other machine only");
        }
    }
    let old = old_calls(config, since, &suspects)?;
    suspects.retain(|key, _| !old.contains(key));
    Ok(Look { suspects, unread })
}

/// Of these keys those that belong to calls which ended before that.
fn old_calls(
    config: &Config,
    since: Option<i64>,
    suspects: &Suspects,
) -> anyhow::Result<BTreeSet<Vec<u8>>> {
    let Some(since) = since else { return Ok(BTreeSet::new()) };
    let reader = Reader::open(&config.state, WallClock::system())?;
    let mut old = BTreeSet::new();
    for key in suspects.keys() {
        let steps_of = key.strip_prefix(EVENTS_PREFIX);
        let cdr_key = steps_of.map_or_else(|| key.clone(), |call| [CDR_PREFIX, call].concat());
        let record = reader.get(&cdr_key)?;
        let end = record.and_then(|record| read_cdr(&record.body?)?.end);
        let is_old = match end {
            Some(end) => end < since,
            // Steps whose call is not here, and is not missing here either.
            None => steps_of.is_some() && !suspects.contains_key(&cdr_key),
        };
        if is_old {
            old.insert(key.clone());
        }
    }
    Ok(old)
}

/// Asks the twin through the server of this machine, and waits.
fn asked<A: DeserializeOwned>(config: &Config, question: &TwinAsk) -> Result<A, Failure> {
    let ask = |question: &TwinAsk| ask::<TwinTold>(&config.server_socket(), "server", question);
    let until = Instant::now() + PATIENCE;
    let mut told = ask(question)?;
    let TwinTold::Asked(id) = told else { return Err(super::super::unexpected()) };
    loop {
        told = ask(&TwinAsk::Result { id })?;
        match told {
            TwinTold::Has(bytes) => {
                let answer = postcard::from_bytes(&bytes);
                return Ok(answer.context("the other machine is of another version")?);
            }
            TwinTold::Failed(why) => return Err(Failure::Other(anyhow!("{why}"))),
            TwinTold::Reads if Instant::now() < until => std::thread::sleep(ASK_PAUSE),
            TwinTold::Reads | TwinTold::Asked(_) => {
                let long = PATIENCE.as_secs();
                return Err(Failure::Other(anyhow!(
                    "the other machine has not answered within {long} s: is it of another version?"
                )));
            }
        }
    }
}
