//! All calls that are up, and which message belongs to which.

use std::collections::{BTreeMap, BTreeSet};

use tandem_call::{LegId, Side};
use tandem_stack::{ClientId, DialogId, ServerId, TransactionId};
use tandem_types::Instant;

use crate::live::{Live, Purpose};

/// Names a call: the call number.
pub(crate) type CallKey = String;

/// Calls by number, and the ways to find them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    live: BTreeMap<CallKey, Live>,
    by_transaction: BTreeMap<TransactionId, (CallKey, Purpose)>,
    by_dialog: BTreeMap<DialogId, (CallKey, LegId, Side)>,
    timers: BTreeSet<(Instant, CallKey)>,
    due: BTreeMap<CallKey, Instant>,
    changed: BTreeSet<CallKey>,
    /// Dialogs that ended a short while ago, by when they may be forgotten: a BYE that crossed
    /// ours is still answered 200.
    ended: BTreeMap<DialogId, Instant>,
    ended_order: BTreeSet<(Instant, DialogId)>,
}

/// Dialogs remembered after their end, at most; beyond that the oldest are forgotten.
const ENDED_MAX: usize = 8_192;

/// So long a dialog is remembered after its end: 64*T1, as long as a BYE is repeated.
const ENDED_FOR: tandem_types::Duration = tandem_types::Duration::from_secs(32);

impl Calls {
    pub(crate) fn get(&self, key: &str) -> Option<&Live> {
        self.live.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Live> {
        self.live.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CallKey, &Live)> {
        self.live.iter()
    }

    /// Calls that are not over.
    pub(crate) fn count(&self) -> usize {
        self.live.values().filter(|live| !live.call.is_over()).count()
    }

    pub(crate) fn insert(&mut self, key: CallKey, live: Live) {
        self.live.insert(key.clone(), live);
        self.touch(&key);
    }

    /// The call changed: its record and its timer follow.
    pub(crate) fn touch(&mut self, key: &str) {
        self.changed.insert(key.to_owned());
        let due = self.live.get(key).and_then(|live| live.call.next_timeout());
        if self.due.get(key).copied() == due {
            return;
        }
        if let Some(old) = self.due.remove(key) {
            self.timers.remove(&(old, key.to_owned()));
        }
        if let Some(due) = due {
            self.due.insert(key.to_owned(), due);
            self.timers.insert((due, key.to_owned()));
        }
    }

    /// Calls that are over and whose record is not closed yet.
    pub(crate) fn newly_over(&self) -> Vec<CallKey> {
        let is_newly_over = |key: &&CallKey| {
            self.live.get(*key).is_some_and(|live| live.call.is_over() && !live.recorded)
        };
        self.changed.iter().filter(is_newly_over).cloned().collect()
    }

    /// The calls that changed since the last time.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<CallKey> {
        core::mem::take(&mut self.changed)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// A call whose time has come.
    pub(crate) fn due(&self, now: Instant) -> Option<CallKey> {
        self.timers.first().filter(|(due, _)| *due <= now).map(|(_, key)| key.clone())
    }

    /// Forgets a call and every way to it but those of requests still under way.
    pub(crate) fn remove(&mut self, now: Instant, key: &str) {
        let Some(live) = self.live.remove(key) else { return };
        if let Some(due) = self.due.remove(key) {
            self.timers.remove(&(due, key.to_owned()));
        }
        for port in live.ties.ports.values() {
            for dialog in [&port.near, &port.far].into_iter().flatten() {
                let name = dialog.id.clone();
                self.by_dialog.remove(&name);
                self.ended.insert(name.clone(), now + ENDED_FOR);
                self.ended_order.insert((now + ENDED_FOR, name));
            }
        }
        while let Some((until, _)) = self.ended_order.first()
            && (*until <= now || self.ended_order.len() > ENDED_MAX)
        {
            if let Some((_, name)) = self.ended_order.pop_first() {
                self.ended.remove(&name);
            }
        }
    }

    /// Whether this dialog ended a short while ago.
    pub(crate) fn ended_lately(&self, name: &DialogId) -> bool {
        self.ended.contains_key(name)
    }

    pub(crate) fn tie(&mut self, id: impl Into<TransactionId>, key: &str, purpose: Purpose) {
        self.by_transaction.insert(id.into(), (key.to_owned(), purpose));
    }

    /// Whether this transaction belongs to a call: then its record travels to the twin.
    pub(crate) fn owns(&self, id: &TransactionId) -> bool {
        self.by_transaction.contains_key(id)
    }

    /// The transaction is gone.
    pub(crate) fn untie(&mut self, id: &TransactionId) {
        self.by_transaction.remove(id);
    }

    pub(crate) fn by_server(&self, id: ServerId) -> Option<(CallKey, Purpose)> {
        self.by_transaction.get(&id.into()).cloned()
    }

    pub(crate) fn by_client(&self, id: ClientId) -> Option<(CallKey, Purpose)> {
        self.by_transaction.get(&id.into()).cloned()
    }

    pub(crate) fn name_dialog(&mut self, name: DialogId, key: &str, leg: LegId, side: Side) {
        self.by_dialog.insert(name, (key.to_owned(), leg, side));
    }

    /// The device's dialog has another tag now.
    pub(crate) fn forget_dialog(&mut self, name: &DialogId) {
        self.by_dialog.remove(name);
    }

    pub(crate) fn by_dialog(&self, name: &DialogId) -> Option<(CallKey, LegId, Side)> {
        self.by_dialog.get(name).cloned()
    }

    /// Restores a call with every way to it.
    pub(crate) fn restore(&mut self, key: CallKey, live: Live) {
        self.tie(live.ties.invite, &key, Purpose::Caller);
        let mut names = Vec::new();
        for (leg, port) in &live.ties.ports {
            names.push((TransactionId::from(port.invite), Purpose::Device(*leg)));
            for (dialog, side) in [(&port.near, Side::Near), (&port.far, Side::Far)] {
                if let Some(dialog) = dialog {
                    self.by_dialog.insert(dialog.id.clone(), (key.clone(), *leg, side));
                }
            }
        }
        for (request, through) in &live.ties.through {
            let received = through.received.as_ref().map(|(id, ..)| TransactionId::from(*id));
            let sent = through.sent.as_ref().map(|(id, ..)| TransactionId::from(*id));
            for id in [received, sent].into_iter().flatten() {
                names.push((id, Purpose::Through(*request)));
            }
        }
        for (id, purpose) in names {
            self.tie(id, &key, purpose);
        }
        if let Some(due) = live.call.next_timeout() {
            self.due.insert(key.clone(), due);
            self.timers.insert((due, key.clone()));
        }
        self.live.insert(key, live);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
