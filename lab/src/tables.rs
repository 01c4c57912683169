//! What replicated tables cost: changes a second on one machine, and how fast one that was away catches up.
//! On real files, beside the same rows written to SQLite and nothing else.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rusqlite::Connection;
use tandem::demo::place::Folder;
use tandem::demo::report::{Report, Voice};
use tandem_config::{MIGRATIONS, SCHEMA};
use tandem_oplog::{Origin, PART_BYTES};
use tandem_store::tables::{By, Setup, Tables};
use tandem_types::Epoch;

/// Users whose numbers are changed again and again.
const USERS: u64 = 1_000;

/// Changes that wait together become one commit.
const TOGETHER: u64 = 64;

/// Changes in one commit while the log is made that is caught up afterwards.
const FILL: u64 = 1_000;

/// Measures; returns the report.
#[must_use]
pub(crate) fn measure(commits: u64, ops: u64, voice: Voice) -> Report {
    let mut report = Report::new("What replicated tables cost", voice);
    if let Err(error) = run(&mut report, commits, ops) {
        report.check("the bench comes to its end", false, &format!("{error:#}"));
    }
    report
}

/// Measures into a report.
///
/// # Errors
///
/// A file cannot be written.
pub(crate) fn run(report: &mut Report, commits: u64, ops: u64) -> Result<()> {
    let folder = Folder::new(None)?;
    let raw = raw(&folder.path().join("raw.db"), commits)?;
    rate(report, "SQLite alone, a row a commit", raw, commits);
    let mut one = open(folder.path(), 0)?;
    let alone = write(&mut one, commits, 1)?;
    rate(report, "replicated, a change a commit", alone, commits);
    let together = write(&mut one, commits * TOGETHER, TOGETHER)?;
    rate(report, "replicated, 64 changes a commit", together, commits * TOGETHER);
    let mut other = open(folder.path(), 1)?;
    let before = catch_up(&mut other, &one)?;
    ensure!(before > 0, "nothing was there to catch up");
    let fill = write(&mut one, ops, FILL)?;
    rate(report, "replicated, 1,000 changes a commit", fill, ops);
    let start = Instant::now();
    let taken = catch_up(&mut other, &one)?;
    rate(report, "catching up", start.elapsed(), taken);
    let equal = one.digests()? == other.digests()? && one.seen() == other.seen();
    report.check("both have the same afterwards", equal, &format!("{taken} changes caught up"));
    Ok(())
}

fn rate(report: &mut Report, what: &str, took: Duration, count: u64) {
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let per_second = count as f64 / took.as_secs_f64();
    report.figure(what, per_second.round(), "a second", &format!("{count} in {took:.1?}"));
}

fn raw(path: &Path, commits: u64) -> Result<Duration> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE numbers (number TEXT PRIMARY KEY, user_id BLOB, place INTEGER)",
    )?;
    let start = Instant::now();
    let mut write = connection.prepare("REPLACE INTO numbers VALUES (?, ?, ?)")?;
    for number in 0..commits {
        write.execute((name(number), [0_u8; 16], i64::try_from(number)?))?;
    }
    Ok(start.elapsed())
}

fn open(folder: &Path, node: u8) -> Result<Tables> {
    let origin = Origin(u64::from(node) + 1);
    let setup = Setup { schema: &SCHEMA, migrations: MIGRATIONS, node, origin };
    Ok(Tables::open(&folder.join(format!("config-{node}.db")), &setup)?)
}

fn name(number: u64) -> String {
    (1_000 + number % USERS).to_string()
}

fn write(tables: &mut Tables, count: u64, together: u64) -> Result<Duration> {
    let by = By { author: "lab".to_owned(), wall_millis: 1_790_000_000_000, epoch: Epoch::NEVER };
    let start = Instant::now();
    for first in (0..count).step_by(usize::try_from(together)?) {
        let mut batch = tables.begin()?;
        for number in first..count.min(first + together) {
            let place = i64::try_from(batch.tables().seen().up_to(batch.tables().me()))?;
            batch.change(&by, |connection| {
                let mut write = connection.prepare_cached(
                    "INSERT INTO numbers (number, user_id, place) VALUES (?, ?, ?)
                     ON CONFLICT (number) DO UPDATE SET place = excluded.place",
                )?;
                write.execute((name(number), [0_u8; 16], place)).map(|_| ())
            })?;
        }
        batch.commit()?;
    }
    Ok(start.elapsed())
}

/// As over the link: part by part, each on disk before the next. How many that were.
fn catch_up(to: &mut Tables, from: &Tables) -> Result<u64> {
    let mut position = 0;
    let mut taken = 0;
    loop {
        let lacking = to.seen().clone();
        let page = from.log(position, &lacking, PART_BYTES)?;
        taken += to.take(page.ops.iter().map(|op| op.bytes.as_slice()))?;
        position = page.next;
        if !page.more {
            return Ok(u64::try_from(taken)?);
        }
    }
}
