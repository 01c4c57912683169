//! The backup of every day: a thread that waits for the time, and makes one at the lowest priority.
//!
//! Each machine makes its own. A time that was missed is made up for at start; one that failed is tried again
//! after an hour. The loop of the server only hears how it went.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::commands::{BackupOrder, GoodBackup, LastBackup, make_backup, size};
use crate::config::{BackupTable, Config};
use crate::logging::Time;

/// A backup that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(3_600);

/// The clock on the wall is looked at so often: it may be set.
const LOOK: Duration = Duration::from_secs(30);

/// Pause after every part that is copied (1 MiB): others have the disk meanwhile.
const PART_PAUSE: Duration = Duration::from_millis(10);

/// A backup that is so much younger than now was made by a clock that was wrong, and counts for nothing.
const FUTURE_MAX: Duration = Duration::from_secs(86_400);

/// Reading what was copied cannot be cut off in the middle: a server that ends waits so long for it, and leaves
/// it to the next one to clear up.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How nice the thread is to others: most.
pub(super) const NICE: i32 = 19;

/// What is to be told: a name that stays, and a sentence.
pub(super) type Said = (&'static str, String);

/// The thread. What it is making is dropped when this is.
pub(super) struct BackupThread {
    stop: Option<Sender<()>>,
    stopping: Arc<AtomicBool>,
    /// Cut off when the thread ends.
    ended: Receiver<()>,
}

impl BackupThread {
    /// Waits for the time, where the configuration names one. `report` is called from the thread.
    pub(super) fn start(
        config: &Config,
        path: &Path,
        report: impl Fn(Said) + Send + 'static,
    ) -> std::io::Result<Option<Self>> {
        let Some(table) = config.backup.clone() else { return Ok(None) };
        let (stop, inbox) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let daily = Daily {
            config: config.clone(),
            path: path.to_owned(),
            table,
            stopping: Arc::clone(&stopping),
        };
        let (alive, ended) = channel();
        let work = move || {
            let _alive: Sender<()> = alive;
            // Of this thread only; a refusal costs nothing else.
            let _ = rustix::process::setpriority_process(None, NICE);
            // What cannot be noted in the state folder must not be done again and again.
            let mut noted = None;
            loop {
                if daily.is_due(noted.as_ref()) {
                    let (said, last) = daily.make();
                    report(said);
                    noted = Some(last);
                }
                match inbox.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        std::thread::Builder::new().name(String::from("backup")).spawn(work)?;
        Ok(Some(Self { stop: Some(stop), stopping, ended }))
    }
}

impl Drop for BackupThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop = None;
        // It ends, or the time is over: nothing is ever sent.
        let _ = self.ended.recv_timeout(END_PATIENCE);
    }
}

struct Daily {
    config: Config,
    path: PathBuf,
    table: BackupTable,
    stopping: Arc<AtomicBool>,
}

impl Daily {
    fn is_due(&self, noted: Option<&LastBackup>) -> bool {
        let zone = match &self.config.time_zone {
            Some(name) => TimeZone::get(name),
            None => TimeZone::try_system(),
        };
        let zone = zone.unwrap_or(TimeZone::UTC);
        let last = LastBackup::read(&self.config.state);
        let now = Time::now().micros();
        let mut known = last.as_ref().into_iter().chain(noted);
        known.all(|last| is_due(now, last, self.table.at_minutes, &zone))
    }

    fn make(&self) -> (Said, LastBackup) {
        let order = BackupOrder {
            config: &self.config,
            path: &self.path,
            with_secret: self.table.with_secret,
            keep: Some(self.table.keep),
        };
        let made = make_backup(order, &self.table.folder, &mut |_, _, _| {
            std::thread::sleep(PART_PAUSE);
            !self.stopping.load(Ordering::Relaxed)
        });
        let mut last = LastBackup { tried_micros: Time::now().micros(), ..LastBackup::default() };
        let said = match made {
            Ok(made) => {
                let (path, bytes) = (made.path.display().to_string(), made.manifest.bytes());
                let stays = made.stays.map_or_else(String::new, |stays| format!("; {stays}"));
                let text = format!("backup complete: {path} ({}){stays}", size(bytes));
                last.good = Some(GoodBackup { micros: made.manifest.made_micros, path, bytes });
                ("backup_made", text)
            }
            Err(error) => {
                last.error = Some(format!("{error:#}"));
                ("backup_failed", format!("the backup failed: {error:#}"))
            }
        };
        (said, last)
    }
}

/// Whether the last time of the day has passed without a backup. One that was made by hand counts; so does one
/// of a clock that was set back since, for a day.
fn is_due(now: i64, last: &LastBackup, at_minutes: u16, zone: &TimeZone) -> bool {
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let tried = last.tried_micros;
    if last.error.is_some() && (tried..tried.saturating_add(micros(RETRY))).contains(&now) {
        return false;
    }
    let good = last.good.as_ref().map(|good| good.micros);
    let believed = good.filter(|good| *good <= now.saturating_add(micros(FUTURE_MAX)));
    believed.is_none_or(|good| good < latest(now, at_minutes, zone))
}

/// The last moment up to now at which the clock showed that time of the day.
fn latest(now: i64, at_minutes: u16, zone: &TimeZone) -> i64 {
    let stamp = Timestamp::from_microsecond(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let today = zone.to_datetime(stamp).date();
    let hour = i8::try_from(at_minutes / 60).unwrap_or(0);
    let minute = i8::try_from(at_minutes % 60).unwrap_or(0);
    let moment = |local: DateTime| {
        // An hour that a change of the clocks leaves out comes an hour later.
        zone.to_timestamp(local).map_or(i64::MIN, Timestamp::as_microsecond)
    };
    let days = [0, 1].into_iter().map(|back| today.saturating_sub(back.days()));
    let moments = days.map(|day| moment(day.at(hour, minute, 0, 0)));
    moments.filter(|at| *at <= now).max().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn last(good: &str, failed: Option<&str>) -> LastBackup {
        let good = GoodBackup { micros: micros(good), path: String::new(), bytes: 0 };
        LastBackup {
            tried_micros: failed.map_or(good.micros, micros),
            error: failed.map(str::to_owned),
            good: Some(good),
        }
    }

    #[test]
    fn a_backup_is_due_once_a_day_in_its_zone_also_when_its_time_was_missed() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let due = |now: &str, last: &LastBackup| is_due(micros(now), last, 195, &zone);
        // 03:15 in Berlin is 02:15 UTC in November.
        let made = last("2026-11-22T02:15:03Z", None);
        assert!(!due("2026-11-22T23:00:00Z", &made));
        assert!(!due("2026-11-23T02:14:59Z", &made));
        assert!(due("2026-11-23T02:15:00Z", &made));
        assert!(due("2026-11-25T12:00:00Z", &made), "the machine was off");
        let by_hand = last("2026-11-23T02:00:00Z", None);
        assert!(due("2026-11-23T02:15:00Z", &by_hand), "its time was not over yet");
        let never = LastBackup::default();
        assert!(is_due(micros("2026-11-23T12:00:00Z"), &never, 195, &zone), "never made");
    }

    #[test]
    fn a_backup_that_failed_is_tried_again_after_an_hour() {
        let zone = TimeZone::UTC;
        let failed = last("2026-11-22T03:15:03Z", Some("2026-11-23T03:15:00Z"));
        let due = |now: &str| is_due(micros(now), &failed, 195, &zone);
        assert!(!due("2026-11-23T04:14:59Z"));
        assert!(due("2026-11-23T04:15:00Z"));
        assert!(!due("2026-11-23T03:14:59Z"), "its time is not over");
        assert!(due("2026-11-24T03:15:00Z"));
    }

    #[test]
    fn an_hour_that_the_clocks_leave_out_has_its_backup() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // 02:30 does not exist on 2027-03-28.
        let at = latest(micros("2027-03-28T12:00:00Z"), 150, &zone);
        assert_eq!(at, micros("2027-03-28T01:30:00Z"));
    }

    #[test]
    fn an_hour_that_comes_twice_has_one_backup() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // 02:30 is at 00:30 and at 01:30 UTC on 2026-10-25.
        let due = |now: &str, good: &str| is_due(micros(now), &last(good, None), 150, &zone);
        assert!(due("2026-10-25T00:30:00Z", "2026-10-24T00:30:02Z"));
        assert!(!due("2026-10-25T01:30:00Z", "2026-10-25T00:30:02Z"));
        assert!(!due("2026-10-26T01:29:59Z", "2026-10-25T00:30:02Z"));
        assert!(due("2026-10-26T01:30:00Z", "2026-10-25T00:30:02Z"));
    }

    #[test]
    fn a_clock_that_was_years_ahead_when_a_backup_was_made_costs_one_more_and_not_years() {
        let due =
            |now: &str, good: &str| is_due(micros(now), &last(good, None), 195, &TimeZone::UTC);
        assert!(due("2026-11-23T03:20:00Z", "2099-01-01T00:00:00Z"));
        assert!(!due("2026-11-23T03:20:00Z", "2026-11-23T23:00:00Z"), "set back by hours");
        // One that lost the time and begins in 1970, and is right a minute later.
        assert!(due("1970-01-01T00:00:09Z", "2026-11-22T03:15:02Z"));
        assert!(due("2026-11-22T09:00:00Z", "1970-01-01T00:00:09Z"));
    }
}
