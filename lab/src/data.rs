//! What keeping two servers alike costs, and how fast it is: of real servers with real files in network
//! namespaces, beside raw SQLite and PostgreSQL's logical replication in the same run.
//!
//! ```text
//!   lab ── changes (command socket) ──> active ── link ──> passive
//!    └──────── looks into both files, four times a millisecond ────────┘   one clock for both
//! ```
//!
//! Unlike the other benches this one has aims, and fails where one is missed.

mod catch_up;
mod changes;
mod commands;
mod empty;
mod fill;
mod flood;
mod lag;
mod observe;
mod postgres;
mod snapshot;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;
use tandem::demo::report::{Report, Voice};
use tandem::demo::wait;

use crate::table::Table;
use crate::tables;
use observe::Lags;

/// A part of the bench.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// Commits a second, beside SQLite alone.
    Commits,
    /// From a commit here to the twin's disk: idle, under changes, under loss.
    Lag,
    /// A machine that was away gets the changes of the configuration it lacks.
    CatchUp,
    /// An empty machine gets all call records; then they are exported and verified.
    Snapshot,
    /// An empty machine gets logins and calls.
    Empty,
    /// The same by PostgreSQL's logical replication.
    Postgres,
}

impl Part {
    const ALL: [Self; 6] =
        [Self::Commits, Self::Lag, Self::CatchUp, Self::Snapshot, Self::Empty, Self::Postgres];
}

/// How much of everything.
#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    /// Only this part; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// How long each condition of the replication lag lasts
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Changes a second while there are many
    #[arg(long, default_value_t = 500)]
    rate: usize,
    /// Changes to catch up: 432,000 are five a second for a day
    #[arg(long, default_value_t = 432_000)]
    ops: u64,
    /// Call records that an empty machine fetches
    #[arg(long, default_value_t = 600_000)]
    records: u64,
    /// Logins that an empty machine fetches
    #[arg(long, default_value_t = 10_000)]
    logins: usize,
    /// Calls that are up meanwhile
    #[arg(long, default_value_t = 500)]
    calls: usize,
}

/// Commits for the figures of one machine.
const COMMITS: u64 = 2_000;

/// The longest lag that 99 of 100 changes may have while there are many.
const LAG_AIM_MS: f64 = 50.0;

/// Changes a second that are caught up at least.
const CATCH_UP_AIM: f64 = 30_000.0;

/// An empty machine is protected within this.
const EMPTY_AIM_SECONDS: f64 = 3.0;

impl Plan {
    /// Measures; returns the report and the table of all lags.
    #[must_use]
    pub(crate) fn measure(&self, voice: Voice) -> (Report, Table) {
        let mut report = Report::new("What keeping two servers alike costs", voice);
        let mut table = Table::new(&COLUMNS);
        let wanted = |part: &Part| self.only.is_empty() || self.only.contains(part);
        for part in Part::ALL.into_iter().filter(wanted) {
            if wait::asked_to_stop() {
                break;
            }
            if let Err(error) = self.part(part, &mut report, &mut table) {
                report.check(&format!("{part:?} comes to its end"), false, &format!("{error:#}"));
            }
        }
        (report, table)
    }

    fn part(&self, part: Part, report: &mut Report, table: &mut Table) -> Result<()> {
        match part {
            Part::Commits => tables::run(report, COMMITS, self.ops),
            Part::Lag => lag::run(self, report, table),
            Part::CatchUp => catch_up::run(self, report),
            Part::Snapshot => snapshot::run(self, report),
            Part::Empty => empty::run(self, report),
            Part::Postgres => postgres::run(self, report, table),
        }
    }
}

/// The columns of the table of lags.
const COLUMNS: [&str; 8] =
    ["what", "system", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "changes", "seconds"];

/// Notes lags in the table.
fn note(table: &mut Table, what: &str, system: &str, lags: &Lags) {
    let at = |part| json!(lags.at(part));
    table.row([
        json!(what),
        json!(system),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        json!(lags.count()),
        json!(lags.seconds()),
    ]);
}

/// So many a second; counts are far below 2^52.
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}
