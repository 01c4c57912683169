//! An empty machine fetches all call records from its twin over the link, while phones are served.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rusqlite::{Connection, OpenFlags};
use tandem::demo::place::FIRST_PHONE;
use tandem::demo::report::Report;
use tandem::demo::wait;
use tandem_journal::Record;
use tandem_node::{CDR_PREFIX, EVENTS_PREFIX};
use tandem_store::{Reader, WallClock};

use super::commands;
use super::empty::wipe;
use super::observe::Lags;
use super::{Plan, fill, rate};
use crate::meter::Meter;
use crate::ordeal::millis;
use crate::stage::{CALLERS, PROTECTED_LIMIT, Stage, User};

/// All of it is there by then.
const LIMIT: Duration = Duration::from_secs(600);

/// Phones ask so often while they are measured.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (mut stage, serving) = Stage::new()?;
    let measured = (|| {
        ensure!(serving.index == 0, "the master serves first");
        let users = [
            stage.add_users(&serving, "caller", 1000, 1)?.remove(0),
            stage.add_users(&serving, "called", 2000, 1)?.remove(0),
        ];
        measure(plan, &mut stage, &users, report)
    })();
    if measured.is_err() && !wait::asked_to_stop() {
        stage.folder.keep();
    }
    measured.with_context(|| format!("logs are in {}", stage.folder.path().display()))
}

fn measure(plan: &Plan, stage: &mut Stage, users: &[User; 2], report: &mut Report) -> Result<()> {
    let mut phones = meter(stage, users)?;
    phones.log_in()?;
    phones.call()?;
    let [here, there] = [0, 1].map(|index| stage.twins.machines[index].config.state.clone());
    let call = wait::until("the records of a call", PROTECTED_LIMIT, || closed_call(&here))?;
    [1, 0].into_iter().for_each(|index| stage.twins.stop_keeper(index));
    let begun = Instant::now();
    let bytes = fill::records(&here, &call, plan.records)?;
    let filled = begun.elapsed();
    wipe(&there)?;

    stage.twins.start_keeper(0)?;
    wait::until("a server that serves alone", PROTECTED_LIMIT, || stage.twins.serving())?;
    let during = Answers::start(meter(stage, users)?);
    let begun = Instant::now();
    stage.twins.start_keeper(1)?;
    stage.twins.wait_protected(LIMIT)?;
    let took = begun.elapsed();
    let during = during.finish()?;
    let quiet = Answers::start(meter(stage, users)?);
    wait::pass("requests with nothing beside them", took.max(Duration::from_secs(5)))?;
    let quiet = quiet.finish()?;

    let seconds = took.as_secs_f64();
    // Bytes are far below 2^52.
    let mib = bytes as f64 / (1024.0 * 1024.0);
    let text = format!(
        "{} calls, {mib:.0} MiB of records in {seconds:.1} s: {:.1} MiB/s; made in {filled:.1?}",
        plan.records,
        mib / seconds
    );
    let per_second = rate(plan.records, seconds).round();
    report.figure("call records that an empty machine fetches", per_second, "a second", &text);
    let same = wait::until("all records on the other disk", PROTECTED_LIMIT, || {
        let [here, there] = [count(&here)?, count(&there)?];
        Ok((here == there).then_some(here))
    })?;
    report.check("both machines have all records", same >= plan.records, &format!("{same} rows"));
    for (name, [options, logins]) in [("meanwhile", &during), ("with nothing beside", &quiet)] {
        for (what, lags) in [("OPTIONS", options), ("REGISTER", logins)] {
            let what = format!("{what} to 200, {name}");
            report.figure(&what, lags.at(0.5), "ms", &lags.words());
        }
    }
    commands::run(stage, plan.records, report)
}

fn meter(stage: &Stage, users: &[User; 2]) -> Result<Meter> {
    let (space, address) = (stage.place.space(CALLERS), stage.place.address(FIRST_PHONE));
    Meter::new(space.as_ref(), address, stage.twins.virtual_address, users.clone())
}

/// The record of the one call and its events, as soon as both are on disk.
fn closed_call(state: &Path) -> Result<Option<Vec<Record>>> {
    let reader = Reader::open(state, WallClock::system())?;
    let mut records = reader.log(CDR_PREFIX, 1, None)?;
    records.extend(reader.log(EVENTS_PREFIX, 1, None)?);
    Ok((records.len() == 2).then_some(records))
}

/// How many log records are on this disk.
fn count(state: &Path) -> Result<u64> {
    let path = state.join(tandem_store::FILE_NAME);
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT count(*) FROM log_record INDEXED BY log_by_stamp";
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count)?)
}

/// Phones that ask all the time.
struct Answers {
    end: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<[Vec<f64>; 2]>>,
    begun: Instant,
}

impl Answers {
    fn start(mut meter: Meter) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut times = [Vec::new(), Vec::new()];
            while !ending.load(Ordering::Relaxed) {
                times[0].push(millis(meter.options()?));
                times[1].push(millis(meter.log_in()?));
                std::thread::sleep(PAUSE);
            }
            Ok(times)
        });
        Self { end, thread, begun: Instant::now() }
    }

    /// Times of OPTIONS and of logins.
    fn finish(self) -> Result<[Lags; 2]> {
        self.end.store(true, Ordering::Relaxed);
        let seconds = self.begun.elapsed().as_secs_f64();
        let [options, logins] =
            self.thread.join().map_err(|_| anyhow!("the phones have panicked"))??;
        Ok([Lags::of(options, seconds)?, Lags::of(logins, seconds)?])
    }
}
