//! What a run saw: checks that held or not, and figures; as a table for people or as data.
//!
//! Invariant: a report without any check does not hold, so that nothing passes because it never ran.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

/// The report of one run; a line is printed as soon as it is known.
#[derive(Debug, Serialize)]
pub struct Report {
    title: String,
    held: bool,
    checks: Vec<Check>,
    figures: Vec<Figure>,
    #[serde(skip)]
    begun: Instant,
    #[serde(skip)]
    voice: Voice,
}

/// Something that must be true.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Seconds since the run began.
    pub at_seconds: f64,
    /// What must be true.
    pub what: String,
    /// Whether it was.
    pub held: bool,
    /// What was seen.
    pub seen: String,
}

/// Something that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `ms`, `requests`.
    pub unit: String,
    /// How it was measured, or what to compare it with.
    pub note: String,
}

/// How a run talks while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Voice {
    /// In colours, to a person.
    Colours,
    /// To a file or a pipe.
    Plain,
    /// Only data, at the end.
    Data,
}

impl Voice {
    /// Data where that was asked for; colours on a terminal that does not refuse them.
    #[must_use]
    pub fn of(json: bool) -> Self {
        if json {
            return Self::Data;
        }
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        if colours { Self::Colours } else { Self::Plain }
    }

    /// `text` in this colour where there are colours.
    #[must_use]
    pub fn paint(self, colour: Colour, text: &str) -> String {
        match self {
            Self::Colours => format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8),
            Self::Plain | Self::Data => text.to_owned(),
        }
    }

    /// Prints a line to the person who watches, where there is one.
    pub fn say(self, text: &str) {
        if self != Self::Data {
            println!("{text}");
        }
    }
}

/// Colours of a terminal (ECMA-48 SGR).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// For headings.
    Bold = 1,
    /// For what matters less.
    Dim = 2,
    /// For what failed, and what is passive.
    Red = 31,
    /// For what held, and what is active.
    Green = 32,
    /// For warnings.
    Yellow = 33,
}

impl Report {
    /// Begins a report.
    #[must_use]
    pub fn new(title: &str, voice: Voice) -> Self {
        voice.say(&format!("\n{}\n", voice.paint(Colour::Bold, title)));
        Self {
            title: title.to_owned(),
            held: false,
            checks: Vec::new(),
            figures: Vec::new(),
            begun: Instant::now(),
            voice,
        }
    }

    /// How this run talks.
    #[must_use]
    pub fn voice(&self) -> Voice {
        self.voice
    }

    /// Notes a check.
    pub fn check(&mut self, what: &str, held: bool, seen: &str) {
        let at_seconds = self.begun.elapsed().as_secs_f64();
        let mark = if held {
            self.voice.paint(Colour::Green, "held ")
        } else {
            self.voice.paint(Colour::Red, "BROKE")
        };
        let seen_dim = self.voice.paint(Colour::Dim, seen);
        self.voice.say(&format!("{at_seconds:7.2} s  {mark}  {what:<WIDTH$}  {seen_dim}"));
        self.checks.push(Check {
            at_seconds: round(at_seconds),
            what: what.to_owned(),
            held,
            seen: seen.to_owned(),
        });
    }

    /// Whether a check did not hold.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.checks.iter().any(|check| !check.held)
    }

    /// Does a step that the next ones build on; one that fails is a check that did not hold.
    ///
    /// # Errors
    ///
    /// The step failed: the run ends.
    pub fn step<T>(&mut self, what: &str, step: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        match step() {
            Ok((value, seen)) => {
                self.check(what, true, &seen);
                Ok(value)
            }
            Err(error) => {
                self.check(what, false, &format!("{error:#}"));
                bail!("{what}: {error:#}");
            }
        }
    }

    /// Notes a figure.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, note: &str) {
        let [name, unit, note] = [name, unit, note].map(str::to_owned);
        self.figures.push(Figure { name, value: round(value), unit, note });
    }

    /// Notes a time in milliseconds.
    pub fn time(&mut self, name: &str, time: Duration, note: &str) {
        self.figure(name, time.as_secs_f64() * 1000.0, "ms", note);
    }

    /// Ends the report: whether everything held.
    pub fn close(&mut self) -> bool {
        self.held = !self.checks.is_empty() && !self.is_broken();
        self.held
    }

    /// Ends the report, prints what was not printed yet (all of it as data, where that was asked
    /// for) and says whether everything held.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON.
    pub fn finish(mut self) -> Result<bool> {
        self.close();
        match self.voice {
            Voice::Data => println!("{}", serde_json::to_string_pretty(&self)?),
            Voice::Colours | Voice::Plain => print!("{}", self.summary()),
        }
        Ok(self.held)
    }

    /// The figures and the verdict, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        if !self.figures.is_empty() {
            text += &format!("\n{}\n\n", self.voice.paint(Colour::Bold, "Measured"));
        }
        for Figure { name, value, unit, note } in &self.figures {
            let note = self.voice.paint(Colour::Dim, note);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<WIDTH$} {value:>10} {unit:<8}  {note}");
        }
        let broke = self.checks.iter().filter(|check| !check.held).count();
        let verdict = if self.held {
            let text = format!("Everything held ({} checks).", self.checks.len());
            self.voice.paint(Colour::Green, &text)
        } else {
            let text = format!("{broke} of {} checks did not hold.", self.checks.len());
            self.voice.paint(Colour::Red, &text)
        };
        text + &format!("\n{verdict}\n")
    }
}

/// Width of the column that says what.
const WIDTH: usize = 62;

/// Two digits after the point are enough for people and benches.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Minimum, median, 95th percentile and maximum of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// 19 of 20 are not above this.
    pub p95: f64,
    /// 99 of 100 are not above this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// Of these; `None` where there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        // Nearest rank: the smallest value that so many of a hundred are not above.
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied()
        };
        Some(Self {
            min: rank(0)?,
            median: rank(50)?,
            p95: rank(95)?,
            p99: rank(99)?,
            max: rank(100)?,
            count: sorted.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_checks_does_not_hold() {
        assert!(!Report::new("nothing", Voice::Data).finish().unwrap());
    }

    #[test]
    fn one_broken_check_breaks_the_report() {
        let mut report = Report::new("two", Voice::Data);
        report.check("one", true, "");
        report.check("two", false, "");
        assert!(!report.finish().unwrap());
    }

    #[test]
    fn a_failed_step_is_a_check_that_did_not_hold() {
        let mut report = Report::new("one", Voice::Data);
        let error = report.step("walk", || bail!("ice") as Result<((), String)>).unwrap_err();
        assert_eq!(error.to_string(), "walk: ice");
        assert!(!report.finish().unwrap());
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let spread = Spread::of(&values).unwrap();
        assert_eq!((spread.min, spread.median, spread.p95), (1.0, 50.0, 95.0));
        assert_eq!((spread.p99, spread.max, spread.count), (99.0, 100.0, 100));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[7.0]).unwrap().p99, 7.0);
    }
}
