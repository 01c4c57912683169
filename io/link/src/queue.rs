//! What waits to be sent: bounded in bytes, emptied by the connection's task, filled without waiting.
//!
//! Frames are taken only while the connection is the one its owner knows of. Between the end of a
//! connection and the moment the owner learns of the next one, frames are refused: they would be part
//! of a conversation that the peer has forgotten.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{MAX_FRAME_BYTES, MAX_QUEUED_BYTES};

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsent {
    /// The link is down: the peer gets everything by the catch-up when it is back.
    Down,
    /// Too much waits already. The link is being closed for this.
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

/// What the connection's task has to do next.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Work {
    /// Write these bytes: frames with their lengths.
    Write(Vec<u8>),
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
    changed: Notify,
    closing: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Vec<u8>>,
    /// Length of all frames with their heads.
    bytes: usize,
    /// The generation that can carry frames.
    open: Option<u64>,
    /// The generation the owner knows of.
    announced: Option<u64>,
    closing: Option<Closing>,
    stopping: Option<String>,
}

impl Queue {
    /// Queues a frame. Never waits.
    pub(crate) fn send(&self, frame: Vec<u8>) -> Result<(), Unsent> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(Unsent::TooLong);
        }
        let mut state = self.lock();
        if state.open.is_none() || state.open != state.announced || state.stopping.is_some() {
            return Err(Unsent::Down);
        }
        let bytes = state.bytes + HEAD_BYTES + frame.len();
        if bytes > MAX_QUEUED_BYTES {
            state.close(Closing::Overflow);
            drop(state);
            self.closing.notify_one();
            return Err(Unsent::Full);
        }
        state.bytes = bytes;
        state.frames.push_back(frame);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Bytes that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The owner was told of this generation, or that it is gone.
    pub(crate) fn announce(&self, generation: Option<u64>) {
        self.lock().announced = generation;
    }

    /// A connection is there (or gone): frames of before are dropped.
    pub(crate) fn open(&self, generation: Option<u64>) {
        let mut state = self.lock();
        state.clear();
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
        self.changed.notify_one();
    }

    /// Waits for something to do. One task at a time.
    pub(crate) async fn work(&self) -> Work {
        loop {
            if let Some(work) = self.lock().work() {
                return work;
            }
            self.changed.notified().await;
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
    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    fn close(&mut self, why: Closing) {
        self.clear();
        self.open = None;
        self.closing = Some(why);
    }

    fn work(&mut self) -> Option<Work> {
        if self.frames.is_empty() {
            return self.stopping.clone().map(Work::Stop);
        }
        let mut batch = Vec::with_capacity(self.bytes.min(BATCH_BYTES));
        while let Some(frame) = self.frames.pop_front() {
            // Longer than `MAX_FRAME_BYTES` it is not, so it fits.
            batch.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            batch.extend_from_slice(&frame);
            if batch.len() >= BATCH_BYTES {
                break;
            }
        }
        self.bytes -= batch.len();
        Some(Work::Write(batch))
    }
}

/// A frame's length as 32 bits, most significant byte first.
pub(crate) const HEAD_BYTES: usize = 4;

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

    fn work(queue: &Queue) -> Option<Work> {
        queue.lock().work()
    }

    #[test]
    fn frames_are_written_in_order_with_their_lengths() {
        let queue = up(1);
        queue.send(b"one".to_vec()).unwrap();
        queue.send(Vec::new()).unwrap();
        queue.send(b"three".to_vec()).unwrap();
        assert_eq!(queue.waiting_bytes(), 20);
        let batch = b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three".to_vec();
        assert_eq!(work(&queue), Some(Work::Write(batch)));
        assert_eq!((work(&queue), queue.waiting_bytes()), (None, 0));
    }

    #[test]
    fn nothing_is_taken_for_a_connection_its_owner_has_not_heard_of() {
        let queue = up(1);
        queue.open(Some(2));
        assert_eq!(queue.send(b"for the first".to_vec()), Err(Unsent::Down));
        queue.announce(None);
        assert_eq!(queue.send(b"for none".to_vec()), Err(Unsent::Down));
        queue.announce(Some(2));
        assert_eq!(queue.send(b"for the second".to_vec()), Ok(()));
    }

    #[test]
    fn what_waited_for_a_dead_connection_is_dropped() {
        let queue = up(1);
        queue.send(b"old".to_vec()).unwrap();
        queue.open(None);
        queue.open(Some(2));
        assert_eq!(work(&queue), None);
    }

    #[test]
    fn a_frame_of_the_greatest_length_is_taken_and_a_longer_one_is_not() {
        let queue = up(1);
        assert_eq!(queue.send(vec![0; MAX_FRAME_BYTES + 1]), Err(Unsent::TooLong));
        assert_eq!(queue.send(vec![0; MAX_FRAME_BYTES]), Ok(()));
    }

    #[test]
    fn the_queue_is_filled_to_its_limit_and_closes_beyond() {
        let queue = up(1);
        for _ in 0..4 {
            queue.send(vec![0; MAX_FRAME_BYTES - HEAD_BYTES]).unwrap();
        }
        assert_eq!(queue.waiting_bytes(), MAX_QUEUED_BYTES);
        assert_eq!(queue.send(Vec::new()), Err(Unsent::Full));
        assert_eq!(queue.send(Vec::new()), Err(Unsent::Down));
        assert_eq!((work(&queue), queue.waiting_bytes()), (None, 0));
        assert_eq!(queue.lock().closing, Some(Closing::Overflow));
    }

    #[test]
    fn a_stop_comes_after_what_waits_and_a_reset_before() {
        let queue = up(1);
        queue.send(b"last".to_vec()).unwrap();
        queue.stop("switch off");
        assert_eq!(queue.send(b"late".to_vec()), Err(Unsent::Down));
        assert!(matches!(work(&queue), Some(Work::Write(_))));
        assert_eq!(work(&queue), Some(Work::Stop("switch off".into())));

        let queue = up(1);
        queue.send(b"lost".to_vec()).unwrap();
        queue.reset("nonsense");
        assert_eq!(queue.lock().closing, Some(Closing::Reset("nonsense".into())));
        assert_eq!(work(&queue), None);
    }
}
