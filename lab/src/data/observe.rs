//! When something was first seen on each of the two machines, by one clock.
//!
//! What another process can read of an SQLite file in WAL mode with `synchronous = FULL` is on disk: the
//! index of the log is written after it was synced. So both files are looked at, in turns and without a
//! lock, and what counts is when a number was there first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

/// Pause between two looks: no lag is known better.
const PAUSE: Duration = Duration::from_micros(250);

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    path: PathBuf,
    sql: String,
}

impl Sight {
    /// The number of the last change of one server in the configuration's file in this folder.
    pub(super) fn ops(folder: &Path, origin: i64) -> Self {
        Self {
            path: folder.join(tandem_config::FILE_NAME),
            sql: format!("SELECT number FROM origin WHERE origin = {origin}"),
        }
    }

    /// The last entry of the journal in this folder that closed a call.
    pub(super) fn records(folder: &Path) -> Self {
        Self {
            path: folder.join(tandem_store::FILE_NAME),
            sql: "SELECT seq FROM log_record INDEXED BY log_by_stamp
                  ORDER BY reign DESC, seq DESC LIMIT 1"
                .to_owned(),
        }
    }

    /// Looks once; 0 where nothing is there yet.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(super) fn look(&self) -> Result<u64> {
        read(&self.open()?, &self.sql)
    }

    fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&self.path, flags);
        opened.with_context(|| format!("cannot read {}", self.path.display()))
    }
}

fn read(connection: &Connection, sql: &str) -> Result<u64> {
    let mut statement = connection.prepare_cached(sql)?;
    let found: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(u64::try_from(found.unwrap_or(0))?)
}

/// When which number was seen first; both rise.
type Seen = Vec<(Instant, u64)>;

/// Looks all the time.
#[derive(Debug)]
pub(super) struct Observer {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<[Seen; 2]>>,
}

impl Observer {
    /// Begins to look at where something is made and at where it arrives.
    ///
    /// # Errors
    ///
    /// One of the files cannot be read.
    pub(super) fn start(here: &Sight, there: &Sight) -> Result<Self> {
        let sights = [here, there];
        let sqls = sights.map(|sight| sight.sql.clone());
        let files = [here.open()?, there.open()?];
        // What is there now does not count, however late the thread begins.
        let now = Instant::now();
        let mut seen = [0, 1].map(|_| Seen::new());
        for (seen, sight) in seen.iter_mut().zip(sights) {
            seen.push((now, sight.look()?));
        }
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                for index in 0..2 {
                    let number = read(&files[index], &sqls[index])?;
                    if seen[index].last().is_none_or(|(_, last)| number > *last) {
                        seen[index].push((Instant::now(), number));
                    }
                }
                std::thread::sleep(PAUSE);
            }
            Ok(seen)
        });
        Ok(Self { end, thread })
    }

    /// Ends; every number that came up here and the time until it was there. What was there at the start
    /// does not count.
    ///
    /// # Errors
    ///
    /// A file could not be read; something has not arrived.
    pub(super) fn finish(self) -> Result<Lags> {
        let [here, there] = self.stop()?;
        Lags::between(&here, &there)
    }

    /// As [`Observer::finish`], where the numbers have gaps: only those that were seen here count.
    ///
    /// # Errors
    ///
    /// As there.
    pub(super) fn entries(self) -> Result<Lags> {
        let [here, there] = self.stop()?;
        let numbered = |(index, (at, _)): (usize, &(Instant, u64))| (*at, index as u64);
        let rows: Seen = here.iter().enumerate().map(numbered).collect();
        // What is there has the number of the last one here that it covers.
        let cover = |(at, number): &(Instant, u64)| {
            let covered = here.partition_point(|(_, own)| own <= number).checked_sub(1)?;
            Some((*at, covered as u64))
        };
        Lags::between(&rows, &there.iter().filter_map(cover).collect::<Vec<_>>())
    }

    /// Ends; when the first new number was there and when the last, and how many that were.
    ///
    /// # Errors
    ///
    /// A file could not be read; nothing has arrived.
    pub(super) fn arrivals(self) -> Result<(Instant, Instant, u64)> {
        let [_, there] = self.stop()?;
        let [(_, before), (first, _), .., (last, number)] = there[..] else {
            return Err(anyhow!("it arrived in fewer than two steps: {} seen", there.len()));
        };
        Ok((first, last, number - before))
    }

    fn stop(self) -> Result<[Seen; 2]> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the observer has panicked"))?
    }
}

/// Times in milliseconds, sorted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lags {
    sorted: Vec<f64>,
    seconds: f64,
}

impl Lags {
    /// Of these, measured over so many seconds.
    ///
    /// # Errors
    ///
    /// There are none.
    pub(super) fn of(mut millis: Vec<f64>, seconds: f64) -> Result<Self> {
        ensure!(!millis.is_empty(), "nothing was changed");
        millis.sort_by(f64::total_cmp);
        Ok(Self { sorted: millis, seconds: (seconds * 10.0).round() / 10.0 })
    }

    fn between(here: &[(Instant, u64)], there: &[(Instant, u64)]) -> Result<Self> {
        let mut arrivals = there.iter();
        let mut arrived = arrivals.next();
        let mut lags = Vec::new();
        for pair in here.windows(2) {
            let [(_, before), (at, number)] = [pair[0], pair[1]];
            for number in before + 1..=number {
                while arrived.is_some_and(|(_, there)| *there < number) {
                    arrived = arrivals.next();
                }
                let (there, _) = arrived.with_context(|| format!("{number} has not arrived"))?;
                lags.push(there.saturating_duration_since(at).as_secs_f64() * 1_000.0);
            }
        }
        let span = match here {
            [first, .., last] => last.0.duration_since(first.0).as_secs_f64(),
            [] | [_] => 0.0,
        };
        Self::of(lags, span)
    }

    /// The smallest that so large a part of all is not above.
    pub(super) fn at(&self, part: f64) -> f64 {
        // Counts are far below 2^52, and a part of one is not negative.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (self.sorted.len() as f64 * part).ceil() as usize;
        let value = self.sorted.get(rank.max(1) - 1).copied().unwrap_or_default();
        (value * 100.0).round() / 100.0
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// How long that took.
    pub(super) const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// For a line of the report.
    pub(super) fn words(&self) -> String {
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|part| self.at(part));
        format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max} ms of {}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_the_time_until_it_or_a_later_one_was_there() {
        let start = Instant::now();
        let seen = |rows: &[(u64, u64)]| -> Vec<(Instant, u64)> {
            rows.iter().map(|(ms, n)| (start + Duration::from_millis(*ms), *n)).collect()
        };
        // 4 was there before; 5 and 6 came in one commit.
        let here = seen(&[(0, 4), (10, 6), (20, 7)]);
        let there = seen(&[(0, 3), (1, 4), (12, 5), (19, 7)]);
        let lags = Lags::between(&here, &there).unwrap();
        // 7 was seen there before it was looked for here.
        assert_eq!(lags.sorted, [0.0, 2.0, 9.0]);
        assert_eq!((lags.at(0.5), lags.at(0.99), lags.count()), (2.0, 9.0, 3));
        assert!(Lags::between(&here, &there[..2]).is_err(), "not arrived");
        assert!(Lags::between(&here[..1], &there).is_err(), "nothing changed");
    }
}
