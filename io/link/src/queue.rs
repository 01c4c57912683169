//! What waits to be sent: a lane for each class, bounded in bytes, emptied by the connection's task,
//! filled without waiting.
//!
//! Frames are taken only while the connection is the one its owner knows of. Between the end of a
//! connection and the moment the owner learns of the next one, frames are refused: they would be part
//! of a conversation that the peer has forgotten.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::MAX_FRAME_BYTES;
use crate::class::Class;
use crate::pack::{HEAD_BYTES, Head, PACK_FROM_BYTES};

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsent {
    /// The link is down: the peer gets everything by the catch-up when it is back.
    Down,
    /// Too much of this class waits already. For a hot frame the link is being closed; with the
    /// other classes the sender waits until [`Link::waiting`](crate::Link::waiting) is less.
    Full,
    /// Longer than [`MAX_FRAME_BYTES`].
    TooLong,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "the link is down",
            Self::Full => "the peer does not keep up",
            Self::TooLong => "the frame is too long for the link",
        })
    }
}

impl std::error::Error for Unsent {}

/// What the connection's task has to do next with a class.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Work {
    /// Write these bytes: short frames with their heads.
    Write(Vec<u8>),
    /// Write this one long frame; its head is not there yet.
    Long(Vec<u8>),
    /// Everything is written: close for this reason and end.
    Stop(String),
}

/// Why the connection has to be closed at once, whatever is being written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Closing {
    /// Too much waited.
    Overflow,
    /// The owner wants a new connection, for this reason.
    Reset(String),
}

/// Shared by the owner's [`Link`](crate::Link), its events and the connection's task.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// For each class.
    changed: [Notify; 3],
    closing: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// For each class.
    lanes: [Lane; 3],
    /// The generation that can carry frames.
    open: Option<u64>,
    /// The generation the owner knows of.
    announced: Option<u64>,
    closing: Option<Closing>,
    stopping: Option<String>,
}

/// The frames of one class.
#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Vec<u8>>,
    /// Length of all frames with their heads, those that are being written included.
    bytes: usize,
    /// The part of it that is being written.
    writing_bytes: usize,
}

impl Queue {
    /// Queues a frame. Never waits.
    pub(crate) fn send(&self, class: Class, frame: Vec<u8>) -> Result<(), Unsent> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(Unsent::TooLong);
        }
        let mut state = self.lock();
        if state.open.is_none() || state.open != state.announced || state.stopping.is_some() {
            return Err(Unsent::Down);
        }
        let lane = state.lane(class);
        let bytes = lane.bytes + HEAD_BYTES + frame.len();
        if bytes > class.queued_bytes_max() {
            match class {
                Class::Hot => {
                    state.close(Closing::Overflow);
                    drop(state);
                    self.closing.notify_one();
                }
                Class::Ops | Class::Bulk => {}
            }
            return Err(Unsent::Full);
        }
        lane.bytes = bytes;
        lane.frames.push_back(frame);
        drop(state);
        self.changed[class.index()].notify_one();
        Ok(())
    }

    /// Bytes of a class that wait.
    pub(crate) fn waiting_bytes(&self, class: Class) -> usize {
        self.lock().lane(class).bytes
    }

    /// The owner was told of this generation, or that it is gone.
    pub(crate) fn announce(&self, generation: Option<u64>) {
        self.lock().announced = generation;
    }

    /// A connection is there (or gone): frames of before are dropped.
    pub(crate) fn open(&self, generation: Option<u64>) {
        let mut state = self.lock();
        state.lanes = Default::default();
        state.open = generation;
        state.closing = None;
    }

    /// Ends the connection that is open, if there is one.
    pub(crate) fn reset(&self, why: &str) {
        let mut state = self.lock();
        if state.open.is_some() {
            state.close(Closing::Reset(why.to_owned()));
        }
        drop(state);
        self.closing.notify_one();
    }

    /// Ends the link once what waits is written.
    pub(crate) fn stop(&self, why: &str) {
        self.lock().stopping = Some(why.to_owned());
        for changed in &self.changed {
            changed.notify_one();
        }
    }

    /// Waits for something to do with a class; what was given before is written. One task at a time
    /// for each class.
    pub(crate) async fn work(&self, class: Class) -> Work {
        loop {
            if let Some(work) = self.lock().work(class) {
                return work;
            }
            self.changed[class.index()].notified().await;
        }
    }

    /// Waits until the open connection has to be closed.
    pub(crate) async fn closing(&self) -> Closing {
        loop {
            if let Some(closing) = self.lock().closing.take() {
                return closing;
            }
            self.closing.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step of this module can fail while it holds the lock: a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn lane(&mut self, class: Class) -> &mut Lane {
        &mut self.lanes[class.index()]
    }

    fn close(&mut self, why: Closing) {
        self.lanes = Default::default();
        self.open = None;
        self.closing = Some(why);
    }

    fn work(&mut self, class: Class) -> Option<Work> {
        let work = self.lane(class).work(long_from_bytes(class));
        work.or_else(|| self.stopping.clone().map(Work::Stop))
    }
}

impl Lane {
    fn work(&mut self, long_from_bytes: usize) -> Option<Work> {
        self.bytes -= core::mem::take(&mut self.writing_bytes);
        let work = match self.frames.pop_front() {
            None => return None,
            Some(frame) if frame.len() >= long_from_bytes => {
                self.writing_bytes = HEAD_BYTES + frame.len();
                Work::Long(frame)
            }
            Some(first) => {
                let mut batch = Vec::with_capacity(self.bytes.min(BATCH_BYTES));
                write(&mut batch, &first);
                while batch.len() < BATCH_BYTES {
                    let short = |frame: &mut Vec<u8>| frame.len() < long_from_bytes;
                    let Some(frame) = self.frames.pop_front_if(short) else { break };
                    write(&mut batch, &frame);
                }
                self.writing_bytes = batch.len();
                Work::Write(batch)
            }
        };
        Some(work)
    }
}

fn write(batch: &mut Vec<u8>, frame: &[u8]) {
    // Longer than `MAX_FRAME_BYTES` it is not, so it fits.
    batch.extend_from_slice(&Head::Plain(frame.len() as u32).bytes());
    batch.extend_from_slice(frame);
}

/// Frames from this length on are written each by itself: they are packed, or too long to be copied.
const fn long_from_bytes(class: Class) -> usize {
    if class.compresses() { PACK_FROM_BYTES } else { BATCH_BYTES }
}

/// Small frames are written together up to this, in bytes.
const BATCH_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn up(generation: u64) -> Queue {
        let queue = Queue::default();
        queue.open(Some(generation));
        queue.announce(Some(generation));
        queue
    }

    fn work(queue: &Queue, class: Class) -> Option<Work> {
        queue.lock().work(class)
    }

    #[test]
    fn frames_are_written_in_order_with_their_lengths() {
        let queue = up(1);
        queue.send(Class::Hot, b"one".to_vec()).unwrap();
        queue.send(Class::Hot, Vec::new()).unwrap();
        queue.send(Class::Hot, b"three".to_vec()).unwrap();
        let batch = b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three".to_vec();
        assert_eq!(work(&queue, Class::Hot), Some(Work::Write(batch)));
        assert_eq!(queue.waiting_bytes(Class::Hot), 20, "until it is written");
        assert_eq!((work(&queue, Class::Hot), queue.waiting_bytes(Class::Hot)), (None, 0));
    }

    #[test]
    fn a_long_frame_is_written_by_itself_between_short_ones() {
        for class in Class::ALL {
            let queue = up(1);
            let long = vec![0; long_from_bytes(class)];
            for frame in [vec![1], long.clone(), vec![2], vec![3]] {
                queue.send(class, frame).unwrap();
            }
            assert_eq!(work(&queue, class), Some(Work::Write(b"\0\0\0\x01\x01".to_vec())));
            assert_eq!(work(&queue, class), Some(Work::Long(long)), "{class}");
            assert_eq!(queue.waiting_bytes(class), 4 + long_from_bytes(class) + 10);
            let rest = b"\0\0\0\x01\x02\0\0\0\x01\x03".to_vec();
            assert_eq!(work(&queue, class), Some(Work::Write(rest)));
            assert_eq!((work(&queue, class), queue.waiting_bytes(class)), (None, 0));
        }
    }

    #[test]
    fn nothing_is_taken_for_a_connection_its_owner_has_not_heard_of() {
        for class in Class::ALL {
            let queue = up(1);
            queue.open(Some(2));
            assert_eq!(queue.send(class, b"for the first".to_vec()), Err(Unsent::Down));
            queue.announce(None);
            assert_eq!(queue.send(class, b"for none".to_vec()), Err(Unsent::Down));
            queue.announce(Some(2));
            assert_eq!(queue.send(class, b"for the second".to_vec()), Ok(()));
        }
    }

    #[test]
    fn what_waited_for_a_dead_connection_is_dropped() {
        for class in Class::ALL {
            let queue = up(1);
            queue.send(class, b"old".to_vec()).unwrap();
            queue.send(class, b"older".to_vec()).unwrap();
            assert!(work(&queue, class).is_some());
            queue.open(None);
            queue.open(Some(2));
            assert_eq!((work(&queue, class), queue.waiting_bytes(class)), (None, 0));
        }
    }

    #[test]
    fn a_frame_of_the_greatest_length_is_taken_and_a_longer_one_is_not() {
        for class in Class::ALL {
            let queue = up(1);
            assert_eq!(queue.send(class, vec![0; MAX_FRAME_BYTES + 1]), Err(Unsent::TooLong));
            assert_eq!(queue.send(class, vec![0; MAX_FRAME_BYTES]), Ok(()));
        }
    }

    /// Fills a lane to its limit.
    fn fill(queue: &Queue, class: Class) {
        while queue.waiting_bytes(class) < class.queued_bytes_max() {
            queue.send(class, vec![0; MAX_FRAME_BYTES - HEAD_BYTES]).unwrap();
        }
        assert_eq!(queue.waiting_bytes(class), class.queued_bytes_max());
    }

    #[test]
    fn hot_frames_fill_their_lane_and_close_the_link_beyond() {
        let queue = up(1);
        fill(&queue, Class::Hot);
        assert_eq!(queue.lock().closing, None);
        assert_eq!(queue.send(Class::Hot, Vec::new()), Err(Unsent::Full));
        assert_eq!(queue.send(Class::Hot, Vec::new()), Err(Unsent::Down));
        assert_eq!((work(&queue, Class::Hot), queue.waiting_bytes(Class::Hot)), (None, 0));
        assert_eq!(queue.lock().closing, Some(Closing::Overflow));
    }

    #[test]
    fn frames_of_other_classes_are_refused_beyond_and_nothing_else_happens() {
        for class in [Class::Ops, Class::Bulk] {
            let queue = up(1);
            fill(&queue, class);
            assert_eq!(queue.send(class, Vec::new()), Err(Unsent::Full));
            assert_eq!(queue.lock().closing, None);
            for other in Class::ALL.into_iter().filter(|other| *other != class) {
                assert_eq!(queue.send(other, Vec::new()), Ok(()));
            }
            // One is written, another one has room.
            assert!(matches!(work(&queue, class), Some(Work::Long(_))));
            assert_eq!(queue.send(class, Vec::new()), Err(Unsent::Full));
            assert!(matches!(work(&queue, class), Some(Work::Long(_))));
            assert_eq!(queue.send(class, Vec::new()), Ok(()));
        }
    }

    #[test]
    fn a_stop_comes_after_what_waits_and_a_reset_before() {
        for class in Class::ALL {
            let queue = up(1);
            queue.send(class, b"last".to_vec()).unwrap();
            queue.stop("switch off");
            assert_eq!(queue.send(class, b"late".to_vec()), Err(Unsent::Down));
            assert!(matches!(work(&queue, class), Some(Work::Write(_))));
            assert_eq!(work(&queue, class), Some(Work::Stop("switch off".into())));

            let queue = up(1);
            queue.send(class, b"lost".to_vec()).unwrap();
            queue.reset("nonsense");
            assert_eq!(queue.lock().closing, Some(Closing::Reset("nonsense".into())));
            assert_eq!(work(&queue, class), None);
        }
    }
}
