//! How fast a catch-up comes: as fast as the disk takes it.
//!
//! Every chunk is asked for. Where the link is faster than the disk, asking at once would fill the queue of the
//! store, which then refuses call records. So the next chunk is asked for when few of the earlier ones wait for the
//! disk. Hot records are in memory, and never waited for.

use std::collections::VecDeque;

use tandem_types::{Duration, Instant};

use super::{Journal, Output};
use crate::frame::Frame;

/// Chunks with log records that may be under way to the disk; a chunk has at most
/// [`CHUNK_BYTES`](crate::CHUNK_BYTES) and a record.
pub const UNSTORED_MAX: usize = 16;

/// A disk that says nothing at all holds the next chunk up for so long: who catches up gets into memory what there is.
pub const MORE_WAIT: Duration = Duration::from_secs(1);

/// What of a catch-up waits for the disk, and whether the next chunk does.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The tickets of chunks with log records, oldest first.
    unstored: VecDeque<u64>,
    /// When the next chunk should have been asked for.
    held: Option<Instant>,
}

impl Pace {
    /// A chunk with log records goes to the disk with this ticket.
    pub(super) fn note(&mut self, ticket: u64) {
        self.unstored.push_back(ticket);
        // They are told apart no longer than they are waited for.
        if self.unstored.len() > 2 * UNSTORED_MAX {
            self.unstored.pop_front();
        }
    }

    /// Everything up to this ticket is on the disk.
    pub(super) fn stored(&mut self, ticket: u64) {
        while self.unstored.front().is_some_and(|first| *first <= ticket) {
            self.unstored.pop_front();
        }
    }

    /// Another catch-up, or none.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    /// When the next chunk is asked for whatever the disk does.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.held.map(|since| since + MORE_WAIT)
    }
}

impl Journal {
    /// Asks for the next chunk, now or when the disk has more of what came.
    pub(super) fn ask_for_more(&mut self, now: Instant) {
        self.pace.held = Some(now);
        self.ask_if_stored();
    }

    /// The time, the disk or a write has moved on.
    pub(super) fn ask_if_stored(&mut self) {
        if !self.disk_works || self.pace.unstored.len() < UNSTORED_MAX {
            self.ask_anyway();
        }
    }

    /// Whatever the disk does.
    pub(super) fn ask_if_late(&mut self, now: Instant) {
        if self.pace.next_timeout().is_some_and(|at| at <= now) {
            self.ask_anyway();
        }
    }

    fn ask_anyway(&mut self) {
        if self.pace.held.take().is_some() {
            let join = self.join;
            self.outputs.push_back(Output::Send(Frame::More { join }));
        }
    }
}
