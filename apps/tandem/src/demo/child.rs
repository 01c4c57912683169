//! A process that belongs to a run: started with a log file, ended by its id, always reaped.
//!
//! Invariant: whatever ends the run (an error, Ctrl-C, SIGKILL), the process ends too: on drop, or
//! by the kernel when the thread that started it is gone. So children are started from a thread that
//! lives as long as the run.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::Timespec;
use tandem_os::child::{Child as Process, Exit, Output, Stop};

use super::space::Space;
use super::wait;

/// A process gets this long to end after SIGTERM.
const POLITE: Duration = Duration::from_secs(3);

/// How long a wait for the end of a process lasts before Ctrl-C is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much of a log is shown with an error.
const LOG_TAIL_LINES: usize = 12;

/// A started process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    log: PathBuf,
}

impl Child {
    /// Starts `program` in `space` (`None`: where we are), with its output added to `log`.
    ///
    /// # Errors
    ///
    /// The log cannot be written, the program is not there.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: &[A],
        space: Option<&Space>,
        log: &Path,
    ) -> Result<Self> {
        let open = || -> Result<File> {
            let file = OpenOptions::new().create(true).append(true).open(log);
            file.with_context(|| format!("cannot write {}", log.display()))
        };
        let mut command = command_in(space, program);
        // Its own group: Ctrl-C in the terminal is for us, and we end it in good order.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .process_group(0);
        let process = Process::spawn(&mut command, Output::Inherit)?;
        Ok(Self { name: name.to_owned(), process, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error that says how it ended and what it said last, where it has ended.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.process.reap()? {
            None => Ok(()),
            Some(exit) => Err(anyhow!("{} ended with {exit}:\n{}", self.name, self.log_tail())),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It still runs after `limit`; Ctrl-C.
    pub fn wait(&mut self, limit: Duration) -> Result<Exit> {
        let end = Instant::now() + limit;
        loop {
            if let Some(exit) = self.process.reap()? {
                return Ok(exit);
            }
            if wait::asked_to_stop() {
                bail!("stopped by a signal while waiting for the end of {}", self.name);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} still runs after {} s", self.name, limit.as_secs());
            }
            self.await_end(left)?;
        }
    }

    /// Waits a moment for its end.
    fn await_end(&self, limit: Duration) -> Result<()> {
        let limit = limit.min(LOOK_EVERY);
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
        poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&limit))?;
        Ok(())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Child {
    /// SIGTERM, and SIGKILL where that is not enough; reaps it.
    fn drop(&mut self) {
        let end = Instant::now() + POLITE;
        let mut polite = self.process.stop(Stop::Ask).is_ok();
        while polite && Instant::now() < end {
            match self.process.reap() {
                Ok(None) => polite = self.await_end(LOOK_EVERY).is_ok(),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // The inner process kills and reaps on drop.
    }
}

/// A command that runs `program` in `space`.
#[must_use]
pub fn command_in(space: Option<&Space>, program: &Path) -> Command {
    match space {
        // Of util-linux; it replaces itself by the program, so the process id stays.
        Some(space) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", space.file().display())).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Sends a signal to one process.
///
/// # Errors
///
/// There is no such process, or it is not ours.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = raw.with_context(|| format!("{pid} is no process id"))?;
    kill_process(process, signal).with_context(|| format!("cannot signal process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &str) -> Child {
        let log = std::env::temp_dir().join(format!("{log}-{}", std::process::id()));
        let child = Child::start("shell", Path::new("sh"), &["-c", script], None, &log);
        let child = child.unwrap();
        std::fs::remove_file(log).unwrap();
        child
    }

    #[test]
    fn how_a_process_ended_is_known() {
        let mut child = shell("exit 3", "tandem-child-exit");
        assert_eq!(child.wait(Duration::from_secs(20)).unwrap(), Exit::Code(3));
        assert!(child.still_runs().is_err());
    }

    #[test]
    fn a_process_is_ended_and_reaped() {
        let mut child = shell("exec sleep 1000", "tandem-child-end");
        let pid = child.pid();
        child.still_runs().unwrap();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
