//! One line for each fact: for people on a terminal, JSON otherwise.
//!
//! A terminal may be stopped and a pipe may be full; neither may hold up a service. So a thread of
//! its own writes, and what does not fit into its queue is counted and said later.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;
use tandem_types::Seat;

/// Lines that wait to be written, at most; further ones are dropped and counted.
const LINES_MAX: usize = 4096;

/// Who writes and to what.
pub(crate) struct Log {
    service: &'static str,
    /// `None`: a service that has no place in a pair.
    seat: Option<Seat>,
    human: bool,
    /// `None` only while dropping.
    lines: Option<SyncSender<String>>,
    dropped: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the writing thread. Call this before the caller raises its own priority.
    pub(crate) fn start(
        service: &'static str,
        seat: impl Into<Option<Seat>>,
    ) -> std::io::Result<Self> {
        let seat = seat.into();
        let human = std::io::stdout().is_terminal();
        let (lines, inbox) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let thread = std::thread::Builder::new().name(String::from("log"));
        let writer = thread.spawn(move || write(&inbox, &counted))?;
        Ok(Self { service, seat, human, lines: Some(lines), dropped, writer: Some(writer) })
    }

    /// Something of core that happened.
    pub(crate) fn fact(&self, fact: &(impl fmt::Display + Serialize)) {
        self.line(&fact.to_string(), &json!(fact));
    }

    /// As [`Log::fact`], with these fields of it as people may see them: a private number is
    /// serialised in full, for records, and must not get into a log like that.
    pub(crate) fn masked_fact(
        &self,
        fact: &(impl fmt::Display + Serialize),
        masked: &[(&str, String)],
    ) {
        let mut value = json!(fact);
        for (field, shown) in masked {
            value[*field] = json!(shown);
        }
        self.line(&fact.to_string(), &value);
    }

    /// Something this program has to say itself.
    pub(crate) fn say(&self, text: &str) {
        self.line(text, &serde_json::Value::Null);
    }

    fn line(&self, text: &str, fact: &serde_json::Value) {
        let time = Time::now();
        let line = if self.human {
            let seat = self.seat.map(|seat| format!("{seat} ")).unwrap_or_default();
            format!("{} {seat}{}: {text}\n", time.of_day(), self.service)
        } else {
            let mut line = json!({
                "time": time.to_string(), "seat": self.seat, "service": self.service, "text": text,
            });
            if !fact.is_null() {
                line["fact"] = fact.clone();
            }
            format!("{line}\n")
        };
        let sent = self.lines.as_ref().map(|lines| lines.try_send(line));
        if !matches!(sent, Some(Ok(()))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Log {
    /// Waits until everything is written.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already.
            let _ = writer.join();
        }
    }
}

fn write(inbox: &Receiver<String>, dropped: &AtomicU64) {
    let mut out = std::io::stdout();
    while let Ok(line) = inbox.recv() {
        // Nobody reads any more: there is nobody to tell.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ =
                writeln!(out, "{}", json!({ "text": format!("{lost} log lines were dropped") }));
        }
    }
}

/// A point in time, UTC. Prints as in RFC 3339.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Time {
    micros: i64,
}

impl Time {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX) }
    }

    pub(crate) const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }

    pub(crate) const fn micros(self) -> i64 {
        self.micros
    }

    /// `14:03:05.123`.
    pub(crate) fn of_day(self) -> String {
        let millis = self.micros.rem_euclid(86_400_000_000) / 1_000;
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{hour:02}:{minute:02}:{second:02}.{millis:03}")
    }

    /// `2026-11-22`, by Howard Hinnant's algorithm `civil_from_days`.
    fn date(self) -> String {
        let days = self.micros.div_euclid(86_400_000_000) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// `2026-11-22 14:03:05`.
    pub(crate) fn to_seconds(self) -> String {
        let (date, time) = (self.date(), self.of_day());
        format!("{date} {}", time.split('.').next().unwrap_or_default())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}Z", self.date(), self.of_day())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_in_the_calendar() {
        let of = |seconds: i64| Time::from_micros(seconds * 1_000_000 + 123_456).to_string();
        assert_eq!(of(0), "1970-01-01T00:00:00.123Z");
        assert_eq!(of(951_782_399), "2000-02-28T23:59:59.123Z");
        assert_eq!(of(951_782_400), "2000-02-29T00:00:00.123Z");
        assert_eq!(of(1_795_356_185), "2026-11-22T14:03:05.123Z");
        assert_eq!(of(4_102_444_800), "2100-01-01T00:00:00.123Z");
        assert_eq!(Time::from_micros(1_795_356_185_000_000).to_seconds(), "2026-11-22 14:03:05");
    }
}
