//! Messages that wait until the state they rest on is safe.
//!
//! Each message leaves when every entry that was appended before it is committed. How safe that has to be
//! depends on what the message promises ([`Promise`]); what promises more holds nobody up who promises less.
//! No disk holds a message for longer than [`DISK_WAIT`].

use std::collections::{BTreeMap, VecDeque};

use tandem_stack::TransactionId;
use tandem_types::{Duration, Flow, Instant, Seq};

use crate::ports::Reply;

/// Something that must not leave too early.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parcel {
    Message {
        flow: Flow,
        bytes: Vec<u8>,
        transaction: Option<TransactionId>,
    },
    Answer {
        id: u64,
        reply: Reply,
    },
    /// To the other server, for an administrator there.
    Aside {
        id: u64,
        reply: Reply,
    },
}

/// What whoever hears a message may rely on, and so what it waits for.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Promise {
    /// Only that a server is here (OPTIONS): it waits for nothing. A twin that asks whether anybody serves takes over
    /// where no answer comes in time, and a disk may be slow.
    Nothing,
    /// What goes on (a phone rings, a request of ours): the twin's memory or the disk, or 20 ms.
    #[default]
    Passing,
    /// A call is answered, a device is logged in: the twin's memory, or the disk where there is no twin.
    Final,
    /// Something is on record for good: the disk, and the memory of a twin that is in sync.
    Durable,
}

impl Promise {
    const ALL: [Self; 4] = [Self::Nothing, Self::Passing, Self::Final, Self::Durable];
}

/// A message waits for a disk no longer than this: below the half second after which a phone repeats a
/// request, above what a sync takes on a busy machine (160 to 200 ms now and then).
pub(crate) const DISK_WAIT: Duration = Duration::from_millis(250);

/// Up to where the journal is committed, for each promise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) passing: Seq,
    pub(crate) finals: Seq,
    pub(crate) durable: Seq,
}

impl Marks {
    const fn of(&self, promise: Promise) -> Seq {
        match promise {
            Promise::Nothing => Seq(u64::MAX),
            Promise::Passing => self.passing,
            Promise::Final => self.finals,
            Promise::Durable => self.durable,
        }
    }
}

/// A parcel, the entry it rests on, and since when it waits.
#[derive(Debug)]
struct Held {
    seq: Seq,
    since: Instant,
    parcel: Parcel,
}

/// A parcel that leaves.
#[derive(Debug, PartialEq)]
pub(crate) struct Released {
    pub(crate) parcel: Parcel,
    /// The entry that it should have waited for and did not, because the disk takes too long.
    pub(crate) unsafe_at: Option<Seq>,
}

/// The parcels that wait, in order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What rests on changes that are not in the journal yet.
    staged: Vec<(Parcel, Promise)>,
    /// By promise.
    held: [VecDeque<Held>; 4],
    /// How many messages of a transaction wait.
    waiting: BTreeMap<TransactionId, usize>,
}

impl Outbox {
    /// Keeps `parcel` until the changes it rests on have a position.
    pub(crate) fn stage(&mut self, promise: Promise, parcel: Parcel) {
        if let Parcel::Message { transaction: Some(id), .. } = &parcel {
            *self.waiting.entry(*id).or_default() += 1;
        }
        self.staged.push((parcel, promise));
    }

    /// Whether anything rests on changes that are not in the journal yet.
    pub(crate) fn is_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Whether anything of that may be relied on: it promises more than [`Promise::Passing`].
    pub(crate) fn promises(&self) -> bool {
        self.staged.iter().any(|(_, promise)| *promise > Promise::Passing)
    }

    /// What is staged rests on the entry `seq`, and is held until that is committed.
    pub(crate) fn hold(&mut self, since: Instant, seq: Seq) {
        for (parcel, promise) in core::mem::take(&mut self.staged) {
            self.held[promise as usize].push_back(Held { seq, since, parcel });
        }
    }

    /// Another reign begins here: positions count from the start, and what waited rests on `seq`
    /// of the new one.
    pub(crate) fn rebase(&mut self, seq: Seq) {
        self.held.iter_mut().flatten().for_each(|held| held.seq = seq);
    }

    /// How many parcels wait.
    pub(crate) fn len(&self) -> usize {
        self.staged.len() + self.held.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Whether a first message of this transaction still waits: then a repetition of it must not
    /// overtake it, and need not leave at all.
    pub(crate) fn holds(&self, transaction: &TransactionId) -> bool {
        self.waiting.contains_key(transaction)
    }

    /// The next parcel whose entry is committed, or that has waited for the disk long enough.
    pub(crate) fn release(&mut self, now: Instant, marks: Marks) -> Option<Released> {
        for promise in Promise::ALL {
            let Some(first) = self.held[promise as usize].front() else { continue };
            let safe = first.seq <= marks.of(promise);
            // The journal itself lets go of what waits for the twin only.
            let overdue = promise > Promise::Passing && first.since + DISK_WAIT <= now;
            if !(safe || overdue) {
                continue;
            }
            let Held { seq, parcel, .. } = self.held[promise as usize].pop_front()?;
            if let Parcel::Message { transaction: Some(id), .. } = &parcel {
                self.left(*id);
            }
            return Some(Released { parcel, unsafe_at: (!safe).then_some(seq) });
        }
        None
    }

    /// When something has waited for the disk long enough.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let [_, _, finals, durable] = &self.held;
        let first = [finals, durable].into_iter().filter_map(VecDeque::front);
        first.map(|held| held.since + DISK_WAIT).min()
    }

    fn left(&mut self, id: TransactionId) {
        if let Some(count) = self.waiting.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&id);
            }
        }
    }

    /// Takes out the messages, and whether each must wait for a disk where there is no twin; answers stay.
    pub(crate) fn take_messages(&mut self) -> Vec<(bool, Flow, Vec<u8>)> {
        let mut messages = Vec::new();
        for promise in Promise::ALL {
            let queue = &mut self.held[promise as usize];
            for held in core::mem::take(queue) {
                match held.parcel {
                    Parcel::Message { flow, bytes, .. } => {
                        messages.push((promise > Promise::Passing, flow, bytes));
                    }
                    Parcel::Answer { .. } | Parcel::Aside { .. } => queue.push_back(held),
                }
            }
        }
        self.waiting.clear();
        messages
    }

    /// Takes out what administrators wait for and that is to be on record; messages stay.
    pub(crate) fn take_answers(&mut self) -> Vec<Parcel> {
        let is_message = |held: &Held| matches!(held.parcel, Parcel::Message { .. });
        let queue = &mut self.held[Promise::Durable as usize];
        let (stay, answers): (VecDeque<_>, VecDeque<_>) =
            core::mem::take(queue).into_iter().partition(is_message);
        *queue = stay;
        answers.into_iter().map(|held| held.parcel).collect()
    }

    /// Empties it: a server that lost its role says nothing more to phones. What was in it is
    /// returned, for the administrators who wait.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Parcel> + use<> {
        let Self { staged, held, .. } = core::mem::take(self);
        let held = held.into_iter().flatten().map(|held| held.parcel);
        held.chain(staged.into_iter().map(|(parcel, _)| parcel))
    }
}
