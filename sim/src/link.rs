//! The journal link between the two servers: frames arrive whole and in order, or the link is down.
//!
//! A cut does not lose frames, it holds them up; only when nothing has come through for [`IDLE`]
//! do both ends notice. A server that starts again replaces the old connection at once.

use std::collections::VecDeque;

use tandem_types::{Duration, Instant};

/// What travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cargo {
    /// For the node.
    Node(Vec<u8>),
    /// For the configuration.
    Config(Vec<u8>),
}

/// One connection, and what is on its way in it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Tells connections apart.
    pub(crate) generation: u64,
    /// Whether each end believes it is up.
    pub(crate) up: [bool; 2],
    /// The server processes at its ends.
    pub(crate) lives: [u64; 2],
    /// Frames on their way to each end.
    queues: [VecDeque<(Instant, Cargo)>; 2],
    /// Since when nothing gets through.
    broken_since: Option<Instant>,
}

/// How often the two servers look for each other, and at their connection.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// Nothing gets through for so long: the link is down.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// A frame that is held up tries again after this pause.
pub(crate) const HELD_UP: Duration = Duration::from_millis(10);

impl Link {
    /// A new connection between these processes.
    pub(crate) fn connect(&mut self, lives: [u64; 2]) {
        self.generation += 1;
        self.up = [true; 2];
        self.lives = lives;
        self.queues = Default::default();
        self.broken_since = None;
    }

    /// Queues a frame; returns when it arrives if nothing holds it up.
    pub(crate) fn send(&mut self, to: usize, arrival: Instant, frame: Cargo) -> Instant {
        let queue = &mut self.queues[to];
        let due = queue.back().map_or(arrival, |(last, _)| arrival.max(*last));
        queue.push_back((due, frame));
        due
    }

    /// The next frame that is there.
    pub(crate) fn receive(&mut self, now: Instant, to: usize) -> Option<Cargo> {
        let due = self.queues[to].front().is_some_and(|(due, _)| *due <= now);
        if due { self.queues[to].pop_front().map(|(_, frame)| frame) } else { None }
    }

    /// Whether a frame waits.
    pub(crate) fn waits(&self, to: usize) -> bool {
        !self.queues[to].is_empty()
    }

    /// A look at the connection. True where both ends give it up now.
    pub(crate) fn is_over(&mut self, now: Instant, whole: bool) -> bool {
        if whole {
            self.broken_since = None;
            return false;
        }
        let since = *self.broken_since.get_or_insert(now);
        since + IDLE <= now
    }

    /// The process at this end is gone: what it would have had to send again never arrives, nor
    /// anything behind it. `arrivals`: until when the rest is there.
    pub(crate) fn end_died(&mut self, at: usize, arrivals: Instant) {
        self.queues[1 - at].retain(|(due, _)| *due <= arrivals);
    }

    /// Both ends have given it up.
    pub(crate) fn close(&mut self) {
        self.generation += 1;
        self.up = [false; 2];
        self.queues = Default::default();
        self.broken_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn frames_keep_their_order_whatever_their_delay() {
        let mut link = Link::default();
        link.connect([1, 1]);
        assert_eq!(link.send(1, at(9), Cargo::Node(vec![1])), at(9));
        assert_eq!(link.send(1, at(3), Cargo::Config(vec![2])), at(9));
        assert_eq!(link.receive(at(8), 1), None);
        assert_eq!(link.receive(at(9), 1), Some(Cargo::Node(vec![1])));
        assert_eq!(link.receive(at(9), 1), Some(Cargo::Config(vec![2])));
        assert!(!link.waits(1));
    }

    #[test]
    fn a_short_cut_breaks_nothing_and_a_long_one_does() {
        let mut link = Link::default();
        link.connect([1, 1]);
        assert!(!link.is_over(at(0), false));
        assert!(!link.is_over(at(900), false));
        assert!(!link.is_over(at(950), true));
        assert!(!link.is_over(at(1_000), false));
        assert!(link.is_over(at(2_000), false));
    }
}
