//! Times as people say and read them: the time zone, and points in time on the command line.

use anyhow::anyhow;
use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::cli::Failure;
use crate::config::Config;

/// A time zone and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// UTC where that is wanted; else the one of the configuration; else the machine's.
    pub(super) fn of(config: &Config, utc: bool) -> Result<Self, Failure> {
        if utc {
            return Ok(Self::utc());
        }
        let zone = match &config.time_zone {
            Some(name) => TimeZone::get(name),
            None => TimeZone::try_system(),
        };
        let zone = zone.map_err(|error| {
            anyhow!("the time zone of this machine is not known ({error}): set `time_zone`, or add --utc")
        })?;
        let name = config.time_zone.clone().or_else(|| zone.iana_name().map(str::to_owned));
        Ok(Self { name: name.unwrap_or_else(|| String::from("local time")), zone })
    }

    pub(super) fn utc() -> Self {
        Self { name: String::from("UTC"), zone: TimeZone::UTC }
    }

    /// What it is called, as in `Europe/Berlin`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What clocks on the wall show there. `micros` is since 1970 UTC; what lies outside the years that
    /// can be written counts as their first or last moment.
    pub(super) fn local(&self, micros: i64) -> DateTime {
        self.zone.to_datetime(stamp(micros))
    }

    fn at(&self, local: DateTime) -> Option<i64> {
        self.zone.to_timestamp(local).ok().map(Timestamp::as_microsecond)
    }
}

fn stamp(micros: i64) -> Timestamp {
    let nearest = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(nearest)
}

/// Whether there is a time zone of this name.
pub(crate) fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// `2026-11-22T13:03:05.123456Z`.
pub(super) fn exact(micros: i64) -> String {
    format!("{:.6}", stamp(micros))
}

/// A point in time, as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Point {
    /// So many seconds ago.
    Ago(i64),
    /// Midnight so many days ago; 0 is the one with which today began.
    Midnight(i64),
    /// In the time zone of the output.
    Local(DateTime),
    /// Wherever that is.
    Exact(i64),
}

/// What is taken for a point in time.
const EXPECTED: &str = "expected a time as in 2026-11-22, \"2026-11-22 14:03:05\", \
                        2026-11-22T14:03:05Z, today, yesterday, or an age as in 90s, 30m, 2h, 7d";

/// Reads a point in time.
pub(crate) fn point(text: &str) -> Result<Point, String> {
    match text {
        "today" => return Ok(Point::Midnight(0)),
        "yesterday" => return Ok(Point::Midnight(1)),
        _ => {}
    }
    if let Ok(seconds) = crate::cli::parse_span(text) {
        return i64::try_from(seconds).map(Point::Ago).map_err(|_| EXPECTED.to_owned());
    }
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Ok(Point::Exact(exact.as_microsecond()));
    }
    let day = text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0));
    let is_day = text.len() == "2026-11-22".len();
    let local = if is_day { day } else { text.parse::<DateTime>() };
    local.map(Point::Local).map_err(|_| EXPECTED.to_owned())
}

impl Point {
    /// Microseconds since 1970 UTC; `now` is too.
    pub(super) fn micros(self, zone: &Zone, now: i64) -> anyhow::Result<i64> {
        let found = match self {
            Self::Ago(seconds) => {
                seconds.checked_mul(1_000_000).and_then(|ago| now.checked_sub(ago))
            }
            Self::Midnight(days) => {
                let today = zone.local(now).date();
                let day = today.checked_sub(Span::new().days(days)).ok();
                day.and_then(|day| zone.at(day.at(0, 0, 0, 0)))
            }
            Self::Local(local) => zone.at(local),
            Self::Exact(micros) => Some(micros),
        };
        found.ok_or_else(|| anyhow!("a time so far away cannot be written: {EXPECTED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        let name = String::from("Europe/Berlin");
        Zone { zone: TimeZone::get(&name).unwrap(), name }
    }

    /// 2026-11-22 13:03:05 UTC.
    const NOW: i64 = 1_795_352_585_000_000;

    #[test]
    fn points_are_read_in_the_zone_of_the_output() {
        let of = |text: &str| exact(point(text).unwrap().micros(&berlin(), NOW).unwrap());
        assert_eq!(of("2026-11-22"), "2026-11-21T23:00:00.000000Z");
        assert_eq!(of("2026-07-01"), "2026-06-30T22:00:00.000000Z");
        assert_eq!(of("2026-11-22 14:03"), "2026-11-22T13:03:00.000000Z");
        assert_eq!(of("2026-11-22T14:03:05"), "2026-11-22T13:03:05.000000Z");
        assert_eq!(of("2026-11-22T14:03:05Z"), "2026-11-22T14:03:05.000000Z");
        assert_eq!(of("2026-11-22T14:03:05+02:00"), "2026-11-22T12:03:05.000000Z");
        assert_eq!(of("today"), "2026-11-21T23:00:00.000000Z");
        assert_eq!(of("yesterday"), "2026-11-20T23:00:00.000000Z");
        assert_eq!(of("2h"), "2026-11-22T11:03:05.000000Z");
    }

    #[test]
    fn what_is_no_time_is_refused_and_says_what_is_one() {
        for text in ["", "noon", "22.11.2026", "2026-13-01", "2026-11-22 25:00", "-2h"] {
            assert!(point(text).unwrap_err().starts_with("expected a time"), "{text}");
        }
    }

    #[test]
    fn local_time_follows_summer_and_winter() {
        let shown = |micros| berlin().local(micros).to_string();
        assert_eq!(shown(NOW), "2026-11-22T14:03:05");
        assert_eq!(shown(1_782_910_985_000_000), "2026-07-01T15:03:05");
        assert!(is_zone("Europe/Berlin") && !is_zone("Middle/Earth"));
    }
}
