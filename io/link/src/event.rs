//! What the link says to its owner, in order and with a bound on what may lie unread.
//!
//! ```text
//!   connection ──> one channel, as it happened ──┬─> line   ups, downs, strangers, hot frames
//!                                                ├─> ops    ┐ after the line; before the down of
//!                                                └─> bulk   ┘ their generation or not at all
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::class::Class;
use crate::queue::Queue;

/// What happened on the link. Frames belong to the generation that came up last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// The peer is there and is who it must be. Generations count from 1 in this process.
    Up {
        /// Which connection this is.
        generation: u64,
    },
    /// A frame as the peer sent it; whole, once, in order within its class.
    Frame(Class, Vec<u8>),
    /// The connection is gone. Frames that were sent and not answered may be lost.
    Down {
        /// Which connection that was.
        generation: u64,
        /// What ended it.
        why: DownReason,
    },
    /// Somebody who is not the peer wanted to be, or answered in its place, or the peer speaks a
    /// link of another version. Not every try is reported: the next one only after this was taken.
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
    /// More than [`Class::queued_bytes_max`] of hot frames waited to be sent.
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
    /// What keeps its order: everything but the frames of the other classes.
    line: VecDeque<Waiting>,
    ops: Aside,
    bulk: Aside,
    /// The generation whose frames arrive.
    arriving: u64,
    /// The generation the owner knows of.
    known: u64,
}

/// Frames of a class that have arrived, with their generations.
#[derive(Debug, Default)]
struct Aside {
    frames: VecDeque<(u64, Waiting)>,
    held: bool,
}

impl Aside {
    fn next(&mut self, generation: u64) -> Option<Waiting> {
        let due = !self.held && self.frames.front().is_some_and(|(of, _)| *of == generation);
        if due { self.frames.pop_front().map(|(_, waiting)| waiting) } else { None }
    }

    fn forget(&mut self, generation: u64) {
        self.frames.retain(|(of, _)| *of > generation);
    }
}

impl Events {
    /// The next event, hot frames before ops before bulk; `None` after the link was closed here.
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<LinkEvent> {
        loop {
            if let Some(event) = self.try_recv() {
                return Some(event);
            }
            let waiting = self.receiver.recv().await?;
            self.sort(waiting);
        }
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<LinkEvent> {
        while let Ok(waiting) = self.receiver.try_recv() {
            self.sort(waiting);
        }
        let waiting = self.next()?;
        Some(self.taken(waiting))
    }

    /// Leaves the frames of a class where they are until it is let go again: beyond
    /// [`Class::waiting_bytes_max`] the peer has to wait with that class, and with no other. When the link
    /// goes down they are dropped. Hot frames cannot be held.
    pub fn hold(&mut self, class: Class, hold: bool) {
        match class {
            Class::Hot => {}
            Class::Ops => self.ops.held = hold,
            Class::Bulk => self.bulk.held = hold,
        }
    }

    fn sort(&mut self, waiting: Waiting) {
        match &waiting.event {
            LinkEvent::Up { generation } => self.arriving = *generation,
            LinkEvent::Down { .. }
            | LinkEvent::Foreign { .. }
            | LinkEvent::Frame(Class::Hot, _) => {}
            LinkEvent::Frame(Class::Ops, _) => {
                return self.ops.frames.push_back((self.arriving, waiting));
            }
            LinkEvent::Frame(Class::Bulk, _) => {
                return self.bulk.frames.push_back((self.arriving, waiting));
            }
        }
        self.line.push_back(waiting);
    }

    fn next(&mut self) -> Option<Waiting> {
        let ended = match self.line.front().map(|waiting| &waiting.event) {
            Some(LinkEvent::Down { .. }) => true,
            Some(LinkEvent::Up { .. } | LinkEvent::Foreign { .. } | LinkEvent::Frame(..)) => false,
            None => return self.aside(),
        };
        // What arrived before the end belongs before the end.
        let last = if ended { self.aside() } else { None };
        last.or_else(|| self.line.pop_front())
    }

    fn aside(&mut self) -> Option<Waiting> {
        let known = self.known;
        self.ops.next(known).or_else(|| self.bulk.next(known))
    }

    /// From the moment the owner knows of a generation it may send in it, not before.
    fn taken(&mut self, waiting: Waiting) -> LinkEvent {
        match &waiting.event {
            LinkEvent::Up { generation } => {
                self.known = *generation;
                self.queue.announce(Some(*generation));
            }
            LinkEvent::Down { generation, .. } => {
                self.ops.forget(*generation);
                self.bulk.forget(*generation);
                self.queue.announce(None);
            }
            LinkEvent::Foreign { .. } => self.foreign_waits.store(false, Ordering::Relaxed),
            LinkEvent::Frame(..) => {}
        }
        waiting.event
    }
}

/// The link's end.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    sender: mpsc::UnboundedSender<Waiting>,
    /// For each class.
    rooms: [Arc<Semaphore>; 3],
    foreign_waits: Arc<AtomicBool>,
}

impl Announcer {
    /// Both ends. `queue` learns which generation the owner knows of.
    pub(crate) fn new(queue: Arc<Queue>) -> (Self, Events) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let foreign_waits = Arc::new(AtomicBool::new(false));
        let rooms = Class::ALL.map(|class| Arc::new(Semaphore::new(class.waiting_bytes_max())));
        let events = Events {
            receiver,
            queue,
            foreign_waits: foreign_waits.clone(),
            line: VecDeque::new(),
            ops: Aside::default(),
            bulk: Aside::default(),
            arriving: 0,
            known: 0,
        };
        (Self { sender, rooms, foreign_waits }, events)
    }

    /// Waits until a frame of `length` bytes may be read.
    pub(crate) async fn make_room(
        &self,
        class: Class,
        length: u32,
    ) -> Option<OwnedSemaphorePermit> {
        let room = self.rooms[class.index()].clone();
        room.acquire_many_owned(length + FRAME_COST_BYTES).await.ok()
    }

    /// A frame for which there is room.
    pub(crate) fn frame(&self, class: Class, frame: Vec<u8>, room: OwnedSemaphorePermit) {
        self.put(LinkEvent::Frame(class, frame), Some(room));
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(announcer: &Announcer, class: Class, text: &str) {
        let room = announcer.make_room(class, text.len() as u32).await.unwrap();
        announcer.frame(class, text.into(), room);
    }

    fn down(generation: u64) -> LinkEvent {
        LinkEvent::Down { generation, why: DownReason::Silent }
    }

    /// All that is there, as text.
    fn drain(events: &mut Events) -> String {
        let mut all = Vec::new();
        while let Some(event) = events.try_recv() {
            all.push(match event {
                LinkEvent::Up { generation } => format!("up{generation}"),
                LinkEvent::Down { generation, .. } => format!("down{generation}"),
                LinkEvent::Frame(_, bytes) => String::from_utf8(bytes).unwrap(),
                LinkEvent::Foreign { .. } => "foreign".to_owned(),
            });
        }
        all.join(" ")
    }

    /// Two generations in which bulk came first and hot last.
    async fn two_generations() -> (Announcer, Events) {
        let (announcer, events) = Announcer::new(Arc::new(Queue::default()));
        for generation in 1..=2 {
            announcer.say(LinkEvent::Up { generation });
            for (class, letter) in [(Class::Bulk, 'b'), (Class::Ops, 'o'), (Class::Hot, 'h')] {
                put(&announcer, class, &format!("{letter}{generation}")).await;
            }
            announcer.say(down(generation));
        }
        (announcer, events)
    }

    #[tokio::test]
    async fn hot_is_first_and_no_frame_leaves_its_generation() {
        let (_announcer, mut events) = two_generations().await;
        assert_eq!(drain(&mut events), "up1 h1 o1 b1 down1 up2 h2 o2 b2 down2");
    }

    #[tokio::test]
    async fn a_held_class_waits_and_what_waits_at_the_end_is_dropped() {
        let (announcer, mut events) = two_generations().await;
        events.hold(Class::Bulk, true);
        events.hold(Class::Hot, true);
        assert_eq!(drain(&mut events), "up1 h1 o1 down1 up2 h2 o2 down2");
        announcer.say(LinkEvent::Up { generation: 3 });
        put(&announcer, Class::Bulk, "b3").await;
        assert_eq!(drain(&mut events), "up3");
        put(&announcer, Class::Hot, "h3").await;
        assert_eq!(drain(&mut events), "h3");
        events.hold(Class::Bulk, false);
        assert_eq!(drain(&mut events), "b3");
    }

    #[tokio::test]
    async fn each_class_has_its_own_room_and_gets_it_back() {
        let (announcer, mut events) = Announcer::new(Arc::new(Queue::default()));
        let full = |class: Class| announcer.rooms[class.index()].available_permits();
        let before = full(Class::Bulk);
        announcer.say(LinkEvent::Up { generation: 1 });
        put(&announcer, Class::Bulk, "1234").await;
        assert_eq!(before - full(Class::Bulk), 4 + FRAME_COST_BYTES as usize);
        assert_eq!(full(Class::Ops), Class::Ops.waiting_bytes_max());
        events.hold(Class::Bulk, true);
        announcer.say(down(1));
        assert_eq!(drain(&mut events), "up1 down1");
        assert_eq!(full(Class::Bulk), before);
    }
}
