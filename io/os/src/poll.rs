//! Waiting for descriptors or a deadline, whichever is first: the heart of the keeper's loop.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;
use tandem_types::Instant;

use crate::clock;

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// Something to read (or a connection to accept, or the other side's end).
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
}

/// Which descriptors have something, by their place in the list that was waited for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ready(u64);

impl Ready {
    /// Whether the descriptor at `index` has something: what was wanted, or an error to be read.
    pub const fn has(self, index: usize) -> bool {
        index < MAX_SOURCES && self.0 & (1 << index) != 0
    }

    /// Whether none has: the deadline has passed, or a signal came.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Waits until a source has something or it is `until`; for ever without `until`. Precise to the
/// microsecond for a real-time thread. May return early with nothing.
///
/// # Errors
/// Only for descriptors that are none, or no memory in the kernel.
///
/// # Panics
/// With more than [`MAX_SOURCES`] sources.
pub fn poll(sources: &[(BorrowedFd<'_>, Want)], until: Option<Instant>) -> io::Result<Ready> {
    assert!(sources.len() <= MAX_SOURCES, "more sources than bits");
    let mut fds: Vec<PollFd<'_>> = sources
        .iter()
        .map(|(fd, want)| {
            PollFd::from_borrowed_fd(
                *fd,
                match want {
                    Want::Read => PollFlags::IN,
                    Want::Write => PollFlags::OUT,
                    Want::Both => PollFlags::IN | PollFlags::OUT,
                },
            )
        })
        .collect();
    let timeout = until.map(|until| {
        let left = until.remaining_from(clock::now());
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    });
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
        Err(error) => return Err(error.into()),
    }
    let has = fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(Ready(has.fold(0, |bits, (index, _)| bits | 1 << index)))
}

/// Sources that can be waited for at a time.
pub const MAX_SOURCES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use crate::seqpacket::Stream;

    #[test]
    fn what_has_something_is_named() {
        let (one, other) = Stream::pair().unwrap();
        other.send(b"hello").unwrap();
        let sources = [(other.as_fd(), Want::Read), (one.as_fd(), Want::Read)];
        let ready = poll(&sources, None).unwrap();
        assert_eq!((ready.has(0), ready.has(1), ready.has(64)), (false, true, false));
        let ready = poll(&[(one.as_fd(), Want::Write)], None).unwrap();
        assert!(ready.has(0));
    }

    #[test]
    fn the_deadline_ends_the_wait_not_before() {
        let (one, _other) = Stream::pair().unwrap();
        let until = clock::now() + Duration::from_millis(3);
        while clock::now() < until {
            assert!(poll(&[(one.as_fd(), Want::Read)], Some(until)).unwrap().is_empty());
        }
        let passed = poll(&[(one.as_fd(), Want::Read)], Some(until)).unwrap();
        assert!(passed.is_empty());
    }

    #[test]
    fn the_greatest_number_of_sources_can_be_waited_for() {
        let (one, other) = Stream::pair().unwrap();
        other.send(b"hello").unwrap();
        let ready = poll(&[(one.as_fd(), Want::Read); MAX_SOURCES], None).unwrap();
        assert!(ready.has(0) && ready.has(MAX_SOURCES - 1));
    }
}
