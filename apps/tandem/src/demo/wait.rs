//! Waiting for something to become true, with a deadline, and Ctrl-C ends every wait.
//!
//! Invariant: no wait here can outlast its limit by more than one look.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tandem_os::signals::{Signals, Wish};

/// Pause between two looks at something that cannot wake us.
const LOOK_EVERY: Duration = Duration::from_millis(10);

static SIGNALS: OnceLock<Signals> = OnceLock::new();
static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C, SIGTERM and SIGHUP end the waits instead of the process, so that everything
/// that was started is stopped and removed on the way out. Call this before the first thread is
/// started.
///
/// # Errors
///
/// The process may not open more descriptors.
pub fn catch_signals() -> Result<()> {
    if SIGNALS.get().is_none() {
        let signals = Signals::open().context("cannot catch signals")?;
        // Whoever was faster has done the same.
        let _ = SIGNALS.set(signals);
    }
    Ok(())
}

/// Whether Ctrl-C, SIGTERM or SIGHUP (the terminal is gone) came.
#[must_use]
pub fn asked_to_stop() -> bool {
    if let Some(Ok(Some(Wish::Interrupt | Wish::Terminate | Wish::Reload))) =
        SIGNALS.get().map(Signals::read)
    {
        ASKED_TO_STOP.store(true, Ordering::SeqCst);
    }
    ASKED_TO_STOP.load(Ordering::SeqCst)
}

/// Looks again and again until `look` sees something.
///
/// # Errors
///
/// What `look` fails with; `what` did not come within `limit`; Ctrl-C.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if asked_to_stop() {
            bail!("stopped by a signal while waiting for {what}");
        }
        if begun.elapsed() >= limit {
            bail!("no sign of {what} within {} s", limit.as_secs_f64());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets time pass on purpose (people talk, a telephone rings); Ctrl-C ends it.
///
/// # Errors
///
/// Ctrl-C.
pub fn pass(what: &str, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    until(what, time + Duration::from_secs(1), || Ok((Instant::now() >= end).then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_seen() {
        let mut looks = 0;
        let seen = until("three looks", Duration::from_secs(9), || {
            looks += 1;
            Ok((looks == 3).then_some("seen"))
        });
        assert_eq!(seen.unwrap(), "seen");
    }

    #[test]
    fn a_wait_names_what_did_not_come() {
        let error = until("snow", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "no sign of snow within 0 s");
    }

    #[test]
    fn a_wait_ends_with_the_error_of_its_look() {
        let error =
            until("snow", Duration::from_secs(9), || bail!("no window") as Result<Option<()>>);
        assert_eq!(error.unwrap_err().to_string(), "no window");
    }
}
