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
    Aside(Vec<u8>),
}

impl Parcel {
    /// Whether it is a message of this transaction.
    pub(crate) fn is_of(&self, id: &TransactionId) -> bool {
        match self {
            Self::Message { transaction, .. } => transaction.as_ref() == Some(id),
            Self::Answer { .. } | Self::Aside(_) => false,
        }
    }
}

/// The parcels that wait, in order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    hot: VecDeque<(Seq, Parcel)>,
    durable: VecDeque<(Seq, Parcel)>,
    /// How many messages of a transaction wait.
    waiting: BTreeMap<TransactionId, usize>,
}

impl Outbox {
    /// Holds `parcel` until `seq` is committed, on disk too where `durable`.
    pub(crate) fn hold(&mut self, seq: Seq, durable: bool, parcel: Parcel) {
        if let Parcel::Message { transaction: Some(id), .. } = &parcel {
            *self.waiting.entry(*id).or_default() += 1;
        }
        let queue = if durable { &mut self.durable } else { &mut self.hot };
        queue.push_back((seq, parcel));
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

    /// Throws everything away: a server that lost its role says nothing more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
