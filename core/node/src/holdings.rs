//! How much a node holds: what must come back to nothing when all calls have ended.

use crate::node::Node;

/// Counts of everything that a node keeps of calls.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Holdings {
    /// Calls, ended ones included that still wait for a message.
    pub calls: usize,
    /// Transactions, of calls or not.
    pub transactions: usize,
    /// Transactions known to belong to a call.
    pub ties: usize,
    /// Dialogs, and dialogs that ended a short while ago.
    pub dialogs: usize,
    /// Timers of calls.
    pub timers: usize,
    /// Messages and answers that wait for their entry to be committed.
    pub parcels: usize,
    /// Records of calls and transactions in the journal's memory.
    pub records: usize,
}

impl Node {
    /// What is held now.
    pub fn holdings(&self) -> Holdings {
        let (clients, servers) = self.stack.transactions();
        let (ties, dialogs, timers) = self.calls.ways();
        let journal = &self.journal;
        Holdings {
            calls: self.calls.iter().count(),
            transactions: clients + servers,
            ties,
            dialogs,
            timers,
            parcels: self.outbox.len(),
            records: journal.count(crate::record::CALL) + journal.count(crate::record::TRANSACTION),
        }
    }
}
