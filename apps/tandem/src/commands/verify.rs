//! `tandem verify`: whether everything is as it was written, here and against the other machine.
//!
//! It counts what it looks at: what was not looked at is not well.

mod older;
mod pair;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use tandem_call::{Cdr, Ending};
use tandem_files::ContentId;
use tandem_journal::Record;
use tandem_node::{CDR_PREFIX, EVENTS_PREFIX, is_newer, read_cdr, read_events};
use tandem_os::entropy;
use tandem_store::backup::{self, Kind};
use tandem_store::{Reader, WallClock, suspected};
use tandem_types::{Dice, Seat};

use super::backup::{CONTENTS, Shown};
use super::print_json;
use super::restore::Opened;
use super::size::size;
use crate::cli::Failure;
use crate::config::Config;

/// Records that are read in one go.
const PAGE: usize = 1_000;
/// Faults of one thing that are told, at most; the others are counted.
const FAULTS_MAX: usize = 20;

/// The options of `tandem verify`.
#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    /// Check a backup instead of this machine
    #[arg(long, value_name = "BACKUP")]
    backup: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// The file, the folder, or the other machine.
    what: String,
    /// How many of what were looked at; empty: it was not looked at.
    looked_at: String,
    /// What is wrong.
    faults: Vec<String>,
    /// Faults beyond those.
    more: usize,
    /// What to do about it.
    advice: &'static str,
}

impl Finding {
    fn new(what: impl Into<String>, advice: &'static str) -> Self {
        let what = what.into();
        Self { what, looked_at: String::new(), faults: Vec::new(), more: 0, advice }
    }

    fn fault(&mut self, what: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what.into());
        } else {
            self.more += 1;
        }
    }

    fn is_good(&self) -> bool {
        self.faults.is_empty() && !self.looked_at.is_empty()
    }
}

/// What to do about a damaged file of this machine.
const REBUILD: &str = "stop this machine (`systemctl stop tandem-keeper`), rename the file, start it again: \
                       everything comes back from the other machine; where there is none, `tandem restore`";
/// About files that are missing or wrong.
const REFETCH: &str = "what is not here comes from the other machine by itself while the link is up (`tandem file \
                       list`); where that lacks it too, from a backup";
/// About a damaged backup.
const DISCARD: &str = "make another one; do not rely on this one";

/// `tandem verify`.
pub(crate) fn verify(
    load: impl Fn() -> Result<Config, Failure>,
    args: &VerifyArgs,
) -> Result<(), Failure> {
    let findings = match &args.backup {
        Some(from) => of_backup(from)?,
        None => of_machine(&load()?),
    };
    let good = findings.iter().filter(|finding| finding.is_good()).count();
    if args.json {
        print_json(&serde_json::json!({ "good": good == findings.len(), "findings": findings }))?;
    } else {
        findings.iter().for_each(print);
    }
    if good < findings.len() {
        let (bad, all) = (findings.len() - good, findings.len());
        return Err(Failure::Other(anyhow!("{bad} of {all} are not known to be right")));
    }
    if !args.json {
        println!("everything is right: {good} of {good} looked at");
    }
    Ok(())
}

fn print(finding: &Finding) {
    let state = match (finding.looked_at.is_empty(), finding.faults.is_empty()) {
        (true, _) => "NOT LOOKED AT",
        (false, true) => "right",
        (false, false) => "WRONG",
    };
    println!("{:<14}{state:<7}{}", finding.what, finding.looked_at);
    for fault in &finding.faults {
        println!("{:<14}- {fault}", "");
    }
    if finding.more > 0 {
        println!("{:<14}- and {} more", "", finding.more);
    }
    if !finding.is_good() {
        println!("{:<14}do: {}", "", finding.advice);
    }
}

fn of_machine(config: &Config) -> Vec<Finding> {
    let mut shown = Shown::on_terminal();
    let mut findings = of_folder(&config.state, &config.state, config.seat, REBUILD, &mut shown);
    for finding in &mut findings {
        if let Some(found) = suspected(&config.state.join(&finding.what)) {
            finding.fault(format!("it was found damaged while it was in use ({found})"));
        }
    }
    shown.show("the other machine");
    findings.push(pair::compare(config));
    shown.clear();
    findings
}

fn of_backup(from: &Path) -> Result<Vec<Finding>, Failure> {
    let mut shown = Shown::on_terminal();
    shown.show("reading the backup");
    let opened = Opened::open(from)?;
    let mut list = Finding::new("manifest.json", DISCARD);
    let (files, bytes) = (opened.manifest.files.len(), opened.manifest.bytes());
    list.looked_at = format!("{files} files, {}", size(bytes));
    let mut findings = vec![list];
    let seat = opened.manifest.seat;
    // What an older version wrote is looked at as a restore would make it.
    let current = older::bring_up_to_date(&opened.folder, seat)?;
    let databases = current.as_ref().map_or(opened.folder.as_path(), older::Current::folder);
    findings.extend(of_folder(databases, &opened.folder, seat, DISCARD, &mut shown));
    shown.clear();
    Ok(findings)
}

/// The databases in a folder, and the contents in that or another one.
fn of_folder(
    databases: &Path,
    folder: &Path,
    seat: Seat,
    advice: &'static str,
    shown: &mut Shown,
) -> Vec<Finding> {
    shown.show("config.db");
    let (tables, named) = tables(databases, seat, advice);
    let journal = journal(databases, advice, shown);
    shown.show("contents");
    vec![tables, journal, contents(&folder.join(CONTENTS), named)]
}

/// The configuration, and the contents that its rows name.
fn tables(folder: &Path, seat: Seat, advice: &'static str) -> (Finding, Vec<ContentId>) {
    let mut finding = Finding::new(tandem_config::FILE_NAME, advice);
    let path = folder.join(tandem_config::FILE_NAME);
    let look = || -> anyhow::Result<(Vec<String>, u64, Vec<ContentId>)> {
        let setup = tandem_config::Config::setup(seat, &mut Dice::from_seed(entropy::seed()?));
        let tables = backup::tables(&path, &setup)?;
        let count = "SELECT count(*) FROM row_version";
        let rows: i64 = tables.reader().query_row(count, (), |row| row.get(0))?;
        let mut find = tables.reader().prepare("SELECT content FROM files WHERE deleted = 0")?;
        let named = find.query_map((), |row| row.get(0))?;
        let named = named.map(|content| content.map(ContentId)).collect::<Result<_, _>>()?;
        Ok((tandem_config::faults(&tables)?, rows.unsigned_abs(), named))
    };
    match look() {
        Ok((faults, rows, named)) => {
            faults.into_iter().for_each(|fault| finding.fault(fault));
            finding.looked_at = format!("{rows} rows, each against the log of changes");
            (finding, named)
        }
        Err(error) => {
            finding.fault(format!("{error:#}"));
            (finding, Vec::new())
        }
    }
}

fn journal(folder: &Path, advice: &'static str, shown: &mut Shown) -> Finding {
    let mut finding = Finding::new(tandem_store::FILE_NAME, advice);
    let path = folder.join(tandem_store::FILE_NAME);
    shown.show(tandem_store::FILE_NAME);
    match backup::check(Kind::Journal, &path) {
        Ok(faults) => faults.into_iter().for_each(|fault| finding.fault(fault)),
        Err(error) => {
            finding.fault(error.to_string());
            return finding;
        }
    }
    let mut look = || -> anyhow::Result<(u64, u64)> {
        let reader = Reader::open(folder, WallClock::system())?;
        let records = reader.check_records()?;
        for damaged in reader.take_damaged() {
            let key = String::from_utf8_lossy(&damaged.key).into_owned();
            finding.fault(format!("{key}: it is not what its checksum says"));
        }
        each(&reader, EVENTS_PREFIX, &mut |record| {
            let body = record.body.as_deref().unwrap_or_default();
            if !is_newer(body) && read_events(body).is_none() {
                finding.fault(format!("{}: the steps of this call cannot be read", name(record)));
            }
            Ok(())
        })?;
        let mut count = 0;
        each(&reader, CDR_PREFIX, &mut |record| {
            count += 1;
            if count % 10_000 == 0 {
                shown.show(&format!("{}: {count} calls", tandem_store::FILE_NAME));
            }
            if let Some(fault) = fault_of_call(&reader, record)? {
                finding.fault(format!("{}: {fault}", name(record)));
            }
            Ok(())
        })?;
        Ok((records, count))
    };
    match look() {
        Ok((records, count)) => {
            finding.looked_at = format!(
                "{records} records, each against its checksum; {count} calls, each with its steps"
            );
        }
        Err(error) => finding.fault(format!("{error:#}")),
    }
    finding
}

/// What is wrong with the record of a call.
fn fault_of_call(reader: &Reader, record: &Record) -> anyhow::Result<Option<&'static str>> {
    let body = record.body.as_deref().unwrap_or_default();
    let call = &record.key[CDR_PREFIX.len()..];
    let Some(cdr) = read_cdr(body) else {
        return Ok((!is_newer(body)).then_some("the record cannot be read"));
    };
    if cdr.call_id.as_bytes() != call {
        return Ok(Some("it is the record of another call"));
    }
    let is_there = |key: &[u8]| reader.get(key).map(|found| found.is_some());
    let complete = rang_nowhere(&cdr)
        || is_there(&[EVENTS_PREFIX, call].concat())?
        // Both were too old, and were deleted since the record was read.
        || !is_there(&record.key)?;
    Ok((!complete).then_some("the steps of this call are missing"))
}

/// A call that was refused where it began (no such number, nobody logged in, calls are blocked): no device was
/// invited, and there are no steps.
fn rang_nowhere(cdr: &Cdr) -> bool {
    let Cdr { start, end, delivered, connect, ending, .. } = cdr;
    *ending == Some(Ending::Server) && *end == Some(*start) && delivered.or(*connect).is_none()
}

fn name(record: &Record) -> String {
    String::from_utf8_lossy(&record.key).into_owned()
}

/// Every record whose key begins so, the last written first.
fn each(
    reader: &Reader,
    prefix: &[u8],
    then: &mut dyn FnMut(&Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut last: Option<Record> = None;
    loop {
        let page = reader.log(prefix, PAGE, last.as_ref())?;
        page.iter().try_for_each(&mut *then)?;
        match page.into_iter().next_back() {
            Some(record) => last = Some(record),
            None => return Ok(()),
        }
    }
}

fn contents(folder: &Path, named: Vec<ContentId>) -> Finding {
    let mut finding = Finding::new("contents", REFETCH);
    if !folder.exists() && named.is_empty() {
        finding.looked_at = String::from("none");
        return finding;
    }
    match tandem_files::verify_all(folder, named) {
        Ok(report) => {
            for content in &report.missing {
                finding.fault(format!(
                    "{content}: a file of this content is named, and it is not here"
                ));
            }
            for content in &report.damaged {
                finding.fault(format!("{content}: it is not what its name says"));
            }
            let bytes = size(report.whole.values().sum());
            finding.looked_at = match report.whole.len() + report.damaged.len() {
                0 => String::from("none"),
                count => format!("{count}, each against its name; {bytes}"),
            };
        }
        Err(error) => finding.fault(format!("{}: {error}", folder.display())),
    }
    finding
}
