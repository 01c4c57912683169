//! Messages that wait until the state they rest on is safe.
//!
//! Each message leaves when every entry that was appended before it is committed. Those that rest
//! on a durable entry (a closed call record, a saved user) also wait for the disk; nobody behind
//! them does.

use std::collections::{BTreeMap, VecDeque};

use tandem_stack::TransactionId;
use tandem_types::{Flow, Seq};

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

/// The parcels that wait, in order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What rests on changes that are not in the journal yet. True: on a durable one.
    staged: Vec<(Parcel, bool)>,
    hot: VecDeque<(Seq, Parcel)>,
    durable: VecDeque<(Seq, Parcel)>,
    /// How many messages of a transaction wait.
    waiting: BTreeMap<TransactionId, usize>,
}

impl Outbox {
    /// Keeps `parcel` until the changes it rests on have a position; on disk too where `durable`.
    pub(crate) fn stage(&mut self, durable: bool, parcel: Parcel) {
        if let Parcel::Message { transaction: Some(id), .. } = &parcel {
            *self.waiting.entry(*id).or_default() += 1;
        }
        self.staged.push((parcel, durable));
    }

    /// Whether anything rests on changes that are not in the journal yet.
    pub(crate) fn is_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// What is staged rests on the entry `seq`, and is held until that is committed.
    pub(crate) fn hold(&mut self, seq: Seq) {
        for (parcel, durable) in core::mem::take(&mut self.staged) {
            let queue = if durable { &mut self.durable } else { &mut self.hot };
            queue.push_back((seq, parcel));
        }
    }

    /// Another reign begins here: positions count from the start, and what waited rests on `seq`
    /// of the new one.
    pub(crate) fn rebase(&mut self, seq: Seq) {
        for (at, _) in self.hot.iter_mut().chain(&mut self.durable) {
            *at = seq;
        }
    }

    /// How many parcels wait.
    pub(crate) fn len(&self) -> usize {
        self.staged.len() + self.hot.len() + self.durable.len()
    }

    /// Whether a first message of this transaction still waits: then a repetition of it must not
    /// overtake it, and need not leave at all.
    pub(crate) fn holds(&self, transaction: &TransactionId) -> bool {
        self.waiting.contains_key(transaction)
    }

    /// The next parcel whose entry is committed.
    pub(crate) fn release(&mut self, hot: Seq, durable: Seq) -> Option<Parcel> {
        let free = |queue: &VecDeque<(Seq, Parcel)>, mark: Seq| {
            queue.front().is_some_and(|(seq, _)| *seq <= mark)
        };
        let parcel = if free(&self.hot, hot) {
            self.hot.pop_front()
        } else if free(&self.durable, durable) {
            self.durable.pop_front()
        } else {
            None
        };
        let (_, parcel) = parcel?;
        if let Parcel::Message { transaction: Some(id), .. } = &parcel
            && let Some(count) = self.waiting.get_mut(id)
        {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(id);
            }
        }
        Some(parcel)
    }

    /// Takes out the messages, and whether each rests on a durable entry; answers stay.
    pub(crate) fn take_messages(&mut self) -> Vec<(bool, Flow, Vec<u8>)> {
        let mut messages = Vec::new();
        for (durable, queue) in [(false, &mut self.hot), (true, &mut self.durable)] {
            for (seq, parcel) in core::mem::take(queue) {
                match parcel {
                    Parcel::Message { flow, bytes, .. } => messages.push((durable, flow, bytes)),
                    Parcel::Answer { .. } | Parcel::Aside { .. } => queue.push_back((seq, parcel)),
                }
            }
        }
        self.waiting.clear();
        messages
    }

    /// Takes out what administrators wait for; messages stay.
    pub(crate) fn take_answers(&mut self) -> Vec<Parcel> {
        let is_message = |parcel: &Parcel| matches!(parcel, Parcel::Message { .. });
        let (stay, answers): (VecDeque<_>, VecDeque<_>) =
            core::mem::take(&mut self.durable).into_iter().partition(|(_, p)| is_message(p));
        self.durable = stay;
        answers.into_iter().map(|(_, parcel)| parcel).collect()
    }

    /// Empties it: a server that lost its role says nothing more to phones. What was in it is
    /// returned, for the administrators who wait.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Parcel> + use<> {
        let Self { staged, hot, durable, .. } = core::mem::take(self);
        let held = hot.into_iter().chain(durable).map(|(_, parcel)| parcel);
        held.chain(staged.into_iter().map(|(parcel, _)| parcel))
    }
}
