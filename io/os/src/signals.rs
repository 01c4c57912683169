//! The wish to stop, as a descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::sys;

/// A signal somebody sent to this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// SIGTERM: the service is to stop.
    Terminate,
    /// SIGINT: the person at the terminal wants it to stop.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Reads SIGTERM, SIGINT and SIGHUP instead of being ended by them.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Opens the descriptor. Call it before the first thread is started: threads inherit what is
    /// blocked. Processes do, too; [`crate::child`] starts them with nothing blocked.
    ///
    /// # Errors
    /// Only if the process may not open more descriptors.
    pub fn open() -> io::Result<Self> {
        sys::signal_fd(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP]).map(Self)
    }

    /// The next signal, if one came.
    ///
    /// # Errors
    /// None in practice.
    pub fn read(&self) -> io::Result<Option<Wish>> {
        let mut record = [0; RECORD_BYTES];
        match rustix::io::read(&self.0, &mut record) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // The record starts with the number (signalfd(2): ssi_signo).
        let number = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        Ok(match number {
            libc::SIGTERM => Some(Wish::Terminate),
            libc::SIGINT => Some(Wish::Interrupt),
            libc::SIGHUP => Some(Wish::Reload),
            _ => None,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Length of one record of a signal descriptor (signalfd(2)).
const RECORD_BYTES: usize = 128;
