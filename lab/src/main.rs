//! The lab: the real programs on machines made of network namespaces, with a virtual address that
//! moves, real phones (baresip, SIPp), and faults made on purpose. It needs root.
//!
//! ```text
//!   master   standby   client (asks every 10 ms)   callers (SIPp)   phones (SIPp)
//!      └────────┴──────────┴────────── hub ───────────┴────────────────┘
//! ```
//!
//! Correctness is checked (exit code 0: all held); times are measured and printed, never judged.
//!
//! Invariant: every check counts what it saw, so that none passes because nothing ran.

mod bench;
mod calls;
mod calm;
mod data;
mod fault;
mod interop;
mod meter;
mod ordeal;
mod outage;
mod peers;
mod rows;
mod sipp;
mod sniffer;
mod stage;
mod table;
mod tables;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use tandem::config::Profile;
use tandem::demo::report::{Report, Voice};
use tandem::demo::wait;

use calm::{Calm, Stress};
use fault::Fault;
use ordeal::Ordeal;
use outage::Comparison;
use peers::System;
use rows::Choice;
use table::Table;

/// Faults made on purpose, and what phones notice of them.
#[derive(Debug, Parser)]
#[command(name = "tandem-lab", version, max_term_width = 100)]
struct Cli {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// How often and under how many calls.
#[derive(Args, Clone, Copy, Debug)]
struct Load {
    /// How many faults
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Calls a second
    #[arg(long, default_value_t = 20)]
    rate: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the serving server again and again under calls
    Kill {
        /// How many kills
        #[arg(long, default_value_t = 50)]
        runs: usize,
        /// Calls a second
        #[arg(long, default_value_t = 20)]
        rate: usize,
    },
    /// Stop the serving server (SIGSTOP: it hangs) again and again under calls
    Stop(Load),
    /// Take the cable of the serving machine out again and again under calls
    LinkDown(Load),
    /// Hand over to the other machine under calls, again and again in both directions: nothing may be lost
    Switch {
        /// How many switches
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// Calls a second
        #[arg(long, default_value_t = 50)]
        rate: usize,
    },
    /// The story with two real telephones, again and again
    Baresip {
        /// How many times
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// What a client notices that asks every 10 ms, of each fault, next to keepalived and Kamailio
    Outage {
        /// How many of each
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// Only this fault; may be repeated
        #[arg(long, value_enum)]
        only: Vec<Fault>,
        /// Only this system; may be repeated
        #[arg(long, value_enum)]
        system: Vec<System>,
    },
    /// Changes of role of a healthy pair, with keepalived beside it: busy processors, lost heartbeats
    Calm {
        /// How long each condition lasts
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Only this condition; may be repeated
        #[arg(long, value_enum)]
        only: Vec<Stress>,
        /// Tandem with `profile = "fast"`
        #[arg(long)]
        fast: bool,
    },
    /// What replicated tables cost: changes a second, and how fast one that was away catches up
    Tables {
        /// Commits of each kind
        #[arg(long, default_value_t = 2_000)]
        commits: u64,
        /// Changes to catch up: 432,000 are five a second for a day
        #[arg(long, default_value_t = 432_000)]
        ops: u64,
    },
    /// Keeping two servers alike: commits, replication lag, catching up, an empty machine; PostgreSQL beside it
    Data(data::Plan),
    /// Answer times while protected and alone; calls and logins for a second of CPU time
    Bench {
        /// Requests of each kind
        #[arg(long, default_value_t = 2000)]
        requests: usize,
        /// Calls for the CPU figures
        #[arg(long, default_value_t = 2000)]
        calls: usize,
    },
    /// Real phones over UDP and TCP on IPv4 and IPv6, across kills
    Interop {
        /// Only checks whose name has this in it
        #[arg(long, default_value = "", hide_default_value = true)]
        only: String,
    },
    /// Every situation that the role table has an answer to, each on a pair of its own
    Rows {
        /// Only scenarios whose name has this in it
        #[arg(long, default_value = "", hide_default_value = true)]
        only: String,
        /// The short round, under a minute
        #[arg(long, conflicts_with = "only")]
        quick: bool,
    },
    /// A short version of everything but the bench: correctness only
    Ci,
    /// Everything, in full
    All,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tandem-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all held.
fn run(cli: &Cli) -> Result<bool> {
    wait::catch_signals()?;
    let voice = Voice::of(cli.json);
    let mut done = Done { voice, held: true, reports: Vec::new() };
    let under = |fault, runs, rate| Ordeal { fault, runs, rate }.undergo(voice);
    match cli.command {
        Command::Kill { runs, rate } => done.add(under(Fault::Kill, runs, rate))?,
        Command::Stop(Load { runs, rate }) => done.add(under(Fault::Hang, runs, rate))?,
        Command::LinkDown(Load { runs, rate }) => done.add(under(Fault::LinkDown, runs, rate))?,
        Command::Switch { runs, rate } => done.add(under(Fault::PlannedSwitch, runs, rate))?,
        Command::Baresip { runs } => stories(runs, &mut done)?,
        Command::Outage { runs, ref only, ref system } => {
            outages(Comparison { runs, only, systems: system }, &mut done)?;
        }
        Command::Calm { minutes, ref only, fast } => {
            let profile = if fast { Profile::Fast } else { Profile::Default };
            calms(minutes, profile, only, &mut done)?;
        }
        Command::Tables { commits, ops } => done.add(tables::measure(commits, ops, voice))?,
        Command::Data(ref plan) => {
            let (report, table) = plan.measure(voice);
            done.add_with(report, &table)?;
        }
        Command::Bench { requests, calls } => done.add(bench::measure(requests, calls, voice))?,
        Command::Interop { ref only } => done.add(interop::run(only, voice))?,
        Command::Rows { quick: true, .. } => done.add(rows::play(Choice::Quick, voice))?,
        Command::Rows { ref only, .. } => done.add(rows::play(Choice::Named(only), voice))?,
        Command::Ci => {
            done.add(under(Fault::Kill, 3, 20))?;
            done.add(under(Fault::Hang, 1, 20))?;
            done.add(under(Fault::LinkDown, 1, 20))?;
            done.add(under(Fault::PlannedSwitch, 4, 20))?;
            done.add(interop::run("", voice))?;
            done.add(rows::play(Choice::Quick, voice))?;
        }
        Command::All => {
            done.add(under(Fault::Kill, 50, 20))?;
            done.add(under(Fault::Hang, 10, 20))?;
            done.add(under(Fault::LinkDown, 10, 20))?;
            done.add(under(Fault::PlannedSwitch, 20, 50))?;
            stories(3, &mut done)?;
            done.add(interop::run("", voice))?;
            done.add(rows::play(Choice::Named(""), voice))?;
            outages(Comparison { runs: 20, only: &[], systems: &[] }, &mut done)?;
            calms(10.0, Profile::Default, &[], &mut done)?;
            done.add(bench::measure(2000, 2000, voice))?;
        }
    }
    done.finish()
}

fn stories(runs: usize, done: &mut Done) -> Result<()> {
    (0..runs).try_for_each(|_| done.add(stage::story(done.voice)?))
}

fn outages(comparison: Comparison<'_>, done: &mut Done) -> Result<()> {
    let (report, table) = comparison.measure(done.voice);
    done.add_with(report, &table)
}

fn calms(minutes: f64, profile: Profile, only: &[Stress], done: &mut Done) -> Result<()> {
    let time = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
    let (report, table) = Calm { time, profile, only }.watch(done.voice);
    done.add_with(report, &table)
}

/// The reports so far.
#[derive(Debug)]
struct Done {
    voice: Voice,
    held: bool,
    reports: Vec<serde_json::Value>,
}

impl Done {
    /// One more; what is left of it to print is printed. Ctrl-C ends the run here.
    fn add(&mut self, report: Report) -> Result<()> {
        self.add_with(report, &Table::default())
    }

    /// One more, with a table.
    fn add_with(&mut self, mut report: Report, table: &Table) -> Result<()> {
        self.held &= report.close();
        let mut value = serde_json::to_value(&report)?;
        if !table.is_empty() {
            value["table"] = table.to_json();
        }
        self.reports.push(value);
        match self.voice {
            Voice::Data => {}
            Voice::Colours | Voice::Plain => print!("{table}{}", report.summary()),
        }
        ensure!(!wait::asked_to_stop(), "stopped by a signal");
        Ok(())
    }

    /// Whether all held.
    fn finish(self) -> Result<bool> {
        let held = self.held && !self.reports.is_empty();
        if self.voice == Voice::Data {
            let all = serde_json::json!({ "held": held, "reports": self.reports });
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        Ok(held)
    }
}
