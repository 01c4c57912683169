//! What the link says to its owner, in order and with a bound on what may lie unread.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::MAX_WAITING_BYTES;
use crate::queue::Queue;

/// What happened on the link. Frames belong to the generation that came up last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// The peer is there and is who it must be. Generations count from 1 in this process.
    Up {
        /// Which connection this is.
        generation: u64,
    },
    /// A frame as the peer sent it; whole, in order, once.
    Frame(Vec<u8>),
    /// The connection is gone. Frames that were sent and not answered may be lost.
    Down {
        /// Which connection that was.
        generation: u64,
        /// What ended it.
        why: DownReason,
    },
    /// Somebody who is not the peer wanted to be, or answered in its place. Not every try is
    /// reported: the next one only after this was taken.
    Foreign {
        /// Where it came from.
        address: SocketAddr,
        /// What was wrong with it, for the log.
        why: String,
    },
}

/// Why a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DownReason {
    /// Nothing was heard for the idle time-out.
    Silent,
    /// The peer's process was started anew and does not know this connection.
    Restarted,
    /// The peer ended it and gave this reason.
    ClosedByPeer(String),
    /// The peer came with a new connection.
    Replaced,
    /// More than [`MAX_QUEUED_BYTES`](crate::MAX_QUEUED_BYTES) waited to be sent.
    Overflow,
    /// The peer broke the rules of the link.
    Protocol(String),
    /// This side ended it and gave this reason.
    Closed(String),
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("the peer is silent"),
            Self::Restarted => f.write_str("the peer's server was started anew"),
            Self::ClosedByPeer(why) => write!(f, "the peer closed the link: {why}"),
            Self::Replaced => f.write_str("the peer opened a new connection"),
            Self::Overflow => f.write_str("the peer does not keep up"),
            Self::Protocol(what) => write!(f, "the peer broke the protocol: {what}"),
            Self::Closed(why) => write!(f, "closed here: {why}"),
        }
    }
}

/// The owner's end: take events from here.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Waiting>,
    queue: Arc<Queue>,
    foreign_waits: Arc<AtomicBool>,
}

impl Events {
    /// The next event; `None` after the link was closed here. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<LinkEvent> {
        let waiting = self.receiver.recv().await?;
        Some(self.taken(waiting))
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<LinkEvent> {
        let waiting = self.receiver.try_recv().ok()?;
        Some(self.taken(waiting))
    }

    /// From the moment the owner knows of a generation it may send in it, not before.
    fn taken(&self, waiting: Waiting) -> LinkEvent {
        match &waiting.event {
            LinkEvent::Up { generation } => self.queue.announce(Some(*generation)),
            LinkEvent::Down { .. } => self.queue.announce(None),
            LinkEvent::Foreign { .. } => self.foreign_waits.store(false, Ordering::Relaxed),
            LinkEvent::Frame(_) => {}
        }
        waiting.event
    }
}

/// The link's end.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    sender: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    foreign_waits: Arc<AtomicBool>,
}

impl Announcer {
    /// Both ends. `queue` learns which generation the owner knows of.
    pub(crate) fn new(queue: Arc<Queue>) -> (Self, Events) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let foreign_waits = Arc::new(AtomicBool::new(false));
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let events = Events { receiver, queue, foreign_waits: foreign_waits.clone() };
        (Self { sender, room, foreign_waits }, events)
    }

    /// Waits until a frame of `length` bytes may be read.
    pub(crate) async fn make_room(&self, length: u32) -> Option<OwnedSemaphorePermit> {
        self.room.clone().acquire_many_owned(length + FRAME_COST_BYTES).await.ok()
    }

    /// A frame for which there is room.
    pub(crate) fn frame(&self, frame: Vec<u8>, room: OwnedSemaphorePermit) {
        self.put(LinkEvent::Frame(frame), Some(room));
    }

    /// The link came up or went down.
    pub(crate) fn say(&self, event: LinkEvent) {
        self.put(event, None);
    }

    /// A stranger; reported only if the last one was taken, so strangers cannot fill the memory.
    pub(crate) fn foreign(&self, address: SocketAddr, why: String) {
        if !self.foreign_waits.swap(true, Ordering::Relaxed) {
            self.put(LinkEvent::Foreign { address, why }, None);
        }
    }

    fn put(&self, event: LinkEvent, _room: Option<OwnedSemaphorePermit>) {
        // An owner who dropped its end does not want to know; the link ends with its `Link`.
        let _ = self.sender.send(Waiting { event, _room });
    }
}

/// An event with the room it takes, given back when the owner takes the event.
#[derive(Debug)]
struct Waiting {
    event: LinkEvent,
    _room: Option<OwnedSemaphorePermit>,
}

/// What a frame costs besides its bytes, so that empty ones are bounded too.
const FRAME_COST_BYTES: u32 = 64;
