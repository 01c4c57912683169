//! SIPp, many phones in one process: its scenarios, its start, its statistics.
//!
//! Invariant: the numbers are SIPp's own, read from its statistics file; a file that cannot be read
//! is an error, never zero.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tandem::demo::child::{Child, signal};
use tandem::demo::wait;

use crate::stage::{Stage, User};

/// The port of SIP of all phones.
pub(crate) const SIP_PORT: u16 = 5060;

/// A phone waits this long for an answer before its call has failed, in milliseconds: as long as a
/// transaction may take (RFC 3261 §17.1.1.2, 64*T1) and some.
const ANSWER_LIMIT_MS: u32 = 40_000;

/// SIPp has ended this long after it was asked to, with all calls ended.
const END_LIMIT: Duration = Duration::from_secs(90);

/// A scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scenario {
    /// Logs users in.
    Register,
    /// Calls, talks, hangs up.
    Caller,
    /// Rings, answers, is hung up on.
    Phone,
}

impl Scenario {
    fn text(self) -> &'static str {
        match self {
            Self::Register => include_str!("../scenarios/register.xml"),
            Self::Caller => include_str!("../scenarios/caller.xml"),
            Self::Phone => include_str!("../scenarios/phone.xml"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Caller => "caller",
            Self::Phone => "phone",
        }
    }
}

/// What a SIPp shall do.
#[derive(Clone, Debug)]
pub(crate) struct Order<'a> {
    /// Its part.
    pub(crate) scenario: Scenario,
    /// Its machine: name and address.
    pub(crate) host: (&'a str, IpAddr),
    /// Its port.
    pub(crate) port: u16,
    /// Calls a second; `None`: it waits for calls.
    pub(crate) rate: Option<usize>,
    /// Calls in all; `None`: until it is told to end.
    pub(crate) calls: Option<usize>,
    /// How long its pauses are (ringing, talking).
    pub(crate) pause: Duration,
    /// A line of values for each call, used in turn.
    pub(crate) lines: Vec<String>,
}

/// A running SIPp.
#[derive(Debug)]
pub(crate) struct Sipp {
    child: Child,
    statistics: PathBuf,
    errors: PathBuf,
}

/// What a SIPp has seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Calls begun or received.
    pub(crate) calls: u64,
    /// Those that went as the scenario says, to the end.
    pub(crate) good: u64,
    /// Those that did not.
    pub(crate) failed: u64,
    /// Messages that were repeated.
    pub(crate) repeated: u64,
}

impl Sipp {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// SIPp is not installed, a file cannot be written.
    pub(crate) fn start(stage: &Stage, order: &Order<'_>) -> Result<Self> {
        let name = format!("{}-{}", order.scenario.name(), order.port);
        let base = stage.folder.path();
        let file = |ending: &str| base.join(format!("{name}.{ending}"));
        let (scenario, statistics, errors) = (file("xml"), file("csv"), file("errors"));
        std::fs::write(&scenario, order.scenario.text())?;
        // A file of an earlier run must not be taken for this one's.
        let _ = std::fs::remove_file(&statistics);
        let mut arguments = vec![stage.twins.virtual_address.to_string()];
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|w| (*w).to_owned()));
        let show = |path: &Path| path.display().to_string();
        add(&["-sf", &show(&scenario), "-i", &order.host.1.to_string()]);
        add(&["-p", &order.port.to_string(), "-d", &order.pause.as_millis().to_string()]);
        add(&["-recv_timeout", &ANSWER_LIMIT_MS.to_string(), "-nostdin", "-aa"]);
        add(&["-trace_err", "-error_file", &show(&errors)]);
        add(&["-trace_stat", "-stf", &show(&statistics), "-fd", "1"]);
        if let Some(rate) = order.rate {
            add(&["-r", &rate.to_string(), "-l", "10000"]);
        }
        if let Some(calls) = order.calls {
            add(&["-m", &calls.to_string()]);
        }
        if !order.lines.is_empty() {
            let mut text = String::from("SEQUENTIAL\n");
            for line in &order.lines {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{line}");
            }
            std::fs::write(file("values"), text)?;
            add(&["-inf", &show(&file("values"))]);
        }
        let space = stage.place.space(order.host.0);
        let log = file("log");
        let child = Child::start(&name, &program()?, &arguments, space.as_ref(), &log)?;
        Ok(Self { child, statistics, errors })
    }

    /// An error where it has ended.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        self.child.still_runs()
    }

    /// Waits until it has begun (its statistics are there).
    ///
    /// # Errors
    ///
    /// It ends instead.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        wait::until("SIPp's statistics", Duration::from_secs(10), || {
            self.child.still_runs()?;
            Ok(read(&self.statistics).ok().map(drop))
        })
    }

    /// Waits until it has done all its calls.
    ///
    /// # Errors
    ///
    /// It does not end within `limit`.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<Seen> {
        self.child.wait(limit)?;
        read(&self.statistics)
    }

    /// Lets it begin no further call, waits until those that are up have ended.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub(crate) fn finish(mut self) -> Result<Seen> {
        self.child.still_runs()?;
        signal(self.child.pid(), Signal::USR1)?;
        self.child.wait(END_LIMIT)?;
        read(&self.statistics)
    }

    /// The file with what went wrong.
    #[must_use]
    pub(crate) fn errors(&self) -> PathBuf {
        self.errors.clone()
    }
}

/// The first lines of a file with what went wrong; empty where nothing did.
#[must_use]
pub(crate) fn first_errors(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.trim().is_empty()).take(12).collect::<Vec<_>>().join(" | ")
}

/// The values of a call: user, credentials, number dialled or address of the phone.
#[must_use]
pub(crate) fn line(user: &User, third: &str) -> String {
    let User { name, password, .. } = user;
    format!("{name};[authentication username={name} password={password}];{third}")
}

/// SIPp's last line of statistics.
fn read(path: &Path) -> Result<Seen> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("no statistics of SIPp in {}", path.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Seen> {
    // A line that is being written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    let (Some(names), Some(values)) = (lines.next(), lines.next_back()) else {
        bail!("SIPp has written no statistics yet");
    };
    let row: BTreeMap<_, _> = names.split(';').zip(values.split(';')).collect();
    let number = |name: &str| -> Result<u64> {
        let value = row.get(name).with_context(|| format!("no {name} in SIPp's statistics"))?;
        value.parse().with_context(|| format!("{name} in SIPp's statistics is {value:?}"))
    };
    ensure!(row.contains_key("TotalCallCreated"), "these are no statistics of SIPp");
    Ok(Seen {
        calls: number("TotalCallCreated")?,
        good: number("SuccessfulCall(C)")?,
        failed: number("FailedCall(C)")?,
        repeated: number("Retransmissions(C)")?,
    })
}

/// Where SIPp is.
///
/// # Errors
///
/// It is not installed.
pub(crate) fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("sipp"));
    let found = programs.find(|program| program.is_file());
    found.context("SIPp is not installed: run ./setup, or: apt-get install sip-tester")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "StartTime;TotalCallCreated;CurrentCall;SuccessfulCall(C);FailedCall(C);Retransmissions(C);";

    #[test]
    fn the_newest_whole_line_of_the_statistics_counts() {
        let text = format!("{NAMES}\n1;5;5;0;0;0;\n2;9;1;7;1;3;\n3;99");
        let seen = Seen { calls: 9, good: 7, failed: 1, repeated: 3 };
        assert_eq!(parse(&text).unwrap(), seen);
    }

    #[test]
    fn statistics_without_numbers_are_an_error() {
        assert!(parse("").is_err());
        assert!(parse(NAMES).is_err());
        assert!(parse(&format!("{NAMES}\n")).is_err());
        assert!(parse(&format!("{NAMES}\n1;x;0;0;0;0;\n")).is_err());
        assert!(parse("One;Two;\n1;2;\n").is_err());
    }
}
