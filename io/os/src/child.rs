//! A child process that can be waited for like a socket and does not outlive its keeper.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::sys;

/// Where the child's output goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// To where ours goes.
    Inherit,
    /// To [`Child::stdout`] and [`Child::stderr`]. They must be read, or the child stands still.
    Capture,
}

/// How a child is asked to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// SIGTERM: it may finish what it does.
    Ask,
    /// SIGKILL: at once.
    Kill,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// A running child. Its descriptor is readable once it has ended. Dropping this kills it.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
    exit: Option<Exit>,
}

impl Child {
    /// Starts `command`. The child dies with the thread that calls this, so that must be one that
    /// lives as long as the process. It starts with no signal blocked; what systemd told this process
    /// is not passed on.
    ///
    /// # Errors
    /// If the program cannot be started; its path is in the text.
    pub fn spawn(command: &mut Command, output: Output) -> io::Result<Self> {
        if output == Output::Capture {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        sys::prepare_child(command, getpid());
        let process = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
        })?;
        // Not reaped yet, so the number is still this child's.
        let pidfd = pidfd_open(Pid::from_child(&process), PidfdFlags::empty())?;
        Ok(Self { process, pidfd, exit: None })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it writes, if captured; given once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// What it complains about, if captured; given once.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.process.stderr.take()
    }

    /// Asks it to end. Without effect on one that has.
    ///
    /// # Errors
    /// If it may not be signalled (it changed its user).
    pub fn stop(&self, how: Stop) -> io::Result<()> {
        let signal = match how {
            Stop::Ask => Signal::TERM,
            Stop::Kill => Signal::KILL,
        };
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How it ended, if it has. Never waits.
    ///
    /// # Errors
    /// None in practice.
    pub fn reap(&mut self) -> io::Result<Option<Exit>> {
        if self.exit.is_none() {
            self.exit = self.process.try_wait()?.map(exit);
        }
        Ok(self.exit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.is_none() {
            // It ends in a moment; waiting for that leaves no zombie behind.
            let _ = self.stop(Stop::Kill);
            let _ = self.process.wait();
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

fn exit(status: ExitStatus) -> Exit {
    match status.signal() {
        Some(number) => Exit::Signal(number),
        // Without a signal there is a code (waitid(2)).
        None => Exit::Code(status.code().unwrap_or(-1)),
    }
}
