//! Both machines against each other, while calls and changes go on.
//!
//! The two are read at slightly different moments, and what happens in between is on one of them only for
//! a moment. So what differs is looked at again: a fault is what differs every time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;
use tandem_store::backup::{self, LogPart, Sums};
use tandem_store::{Reader, WallClock};

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

fn look(config: &Config, finding: &mut Finding) -> Result<String, Failure> {
    let since = since(config)?;
    let mut suspects: Option<Suspects> = None;
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
        let found = match suspects.as_ref().is_some_and(BTreeMap::is_empty) {
            true => Suspects::new(),
            false => compare_logs(config, since, &here, &there)?,
        };
        suspects = Some(match suspects {
            None => found,
            Some(before) => before.into_iter().filter(|(key, _)| found.contains_key(key)).collect(),
        });
        if tables.is_ok() && suspects.as_ref().is_some_and(BTreeMap::is_empty) {
            return Ok(seen);
        }
    }
    if let Err(what) = tables {
        finding.fault(what);
    }
    for (key, what) in suspects.unwrap_or_default() {
        finding.fault(format!("{} {what}", String::from_utf8_lossy(&key)));
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

fn compare_logs(
    config: &Config,
    since: Option<i64>,
    here: &Sums,
    there: &Sums,
) -> Result<Suspects, Failure> {
    let mut suspects = Suspects::new();
    let mut parts: Vec<LogPart> = here.logs.keys().chain(there.logs.keys()).copied().collect();
    parts.sort();
    parts.dedup();
    parts.retain(|part| here.logs.get(part) != there.logs.get(part));
    for part in parts.into_iter().take(PARTS_MAX) {
        let there: TwinRecords = asked(config, &TwinAsk::Part { part, since })?;
        let here = backup::log_part(&config.state, part, since).map_err(anyhow::Error::from)?;
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
    Ok(suspects)
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
