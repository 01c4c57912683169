//! All calls that are up, and which message belongs to which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// Calls that ended and whose record is not closed yet.
    over: Vec<CallKey>,
    /// Calls that ended and still wait for a message.
    waning: BTreeSet<CallKey>,
    /// Calls whose record was closed here, the latest: what the twin still has of them after we
    /// were apart is old.
    closed: BTreeSet<CallKey>,
    closed_order: VecDeque<CallKey>,
    /// Of these those that the twin closed, and when that was heard here.
    closed_by_twin: BTreeMap<CallKey, Instant>,
    /// Transactions tied since the last entry.
    fresh: Vec<TransactionId>,
    /// How many calls each caller has, by number.
    callers: BTreeMap<String, usize>,
    /// When it was noticed last that the twin has served too.
    asked: Option<Instant>,
}

/// Dialogs remembered after their end, at most; beyond that the oldest are forgotten.
const ENDED_MAX: usize = 8_192;

/// Closed calls remembered at most; beyond that the oldest are forgotten.
const CLOSED_MAX: usize = 16_384;

/// So long a dialog is remembered after its end: 64*T1, as long as a BYE is repeated.
const ENDED_FOR: tandem_types::Duration = tandem_types::Duration::from_secs(32);

/// What the twin brings comes within this time.
const ASKED_FOR: tandem_types::Duration = tandem_types::Duration::from_secs(10);

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
        self.live.len() - self.waning.len()
    }

    pub(crate) fn insert(&mut self, key: CallKey, live: Live) {
        self.count_caller(&live);
        self.live.insert(key.clone(), live);
        self.touch(&key);
    }

    /// The call changed: its record and its timer follow.
    pub(crate) fn touch(&mut self, key: &str) {
        self.changed.insert(key.to_owned());
        self.set_timer(key);
    }

    fn set_timer(&mut self, key: &str) {
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

    /// The twin has served while we were apart: who hung up may have been heard there alone, where nobody knew of the
    /// call (481). So both sides of every call are asked, once for all that the twin brings.
    pub(crate) fn ask_soon(&mut self, now: Instant) {
        if self.asked.is_some_and(|asked| now < asked + ASKED_FOR) {
            return;
        }
        self.asked = Some(now);
        let keys: Vec<CallKey> = self.live.keys().cloned().collect();
        for key in keys {
            if let Some(live) = self.live.get_mut(&key) {
                live.call.ask_soon(now);
            }
            self.set_timer(&key);
        }
    }

    fn count_caller(&mut self, live: &Live) {
        *self.callers.entry(live.ties.caller.clone()).or_default() += 1;
    }

    /// How many calls this number has made that are not forgotten yet.
    pub(crate) fn of_caller(&self, number: &str) -> usize {
        self.callers.get(number).copied().unwrap_or_default()
    }

    /// All calls, ended ones included.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// The call ended: its record must be closed.
    pub(crate) fn note_over(&mut self, key: &str) {
        self.over.push(key.to_owned());
        if self.live.contains_key(key) {
            self.waning.insert(key.to_owned());
        }
    }

    /// The record of this call is closed.
    pub(crate) fn note_closed(&mut self, key: &str) {
        if self.closed.insert(key.to_owned()) {
            self.closed_order.push_back(key.to_owned());
        }
        if self.closed_order.len() > CLOSED_MAX
            && let Some(oldest) = self.closed_order.pop_front()
        {
            self.closed.remove(&oldest);
        }
    }

    /// The twin closed the record of this call while we were apart.
    pub(crate) fn note_closed_by_twin(&mut self, now: Instant, key: &str) {
        self.note_closed(key);
        self.closed_by_twin.retain(|_, heard| now < *heard + ENDED_FOR);
        self.closed_by_twin.insert(key.to_owned(), now);
    }

    /// Whether the twin closed it so lately that its caller may still repeat the INVITE, because no answer came
    /// through.
    pub(crate) fn is_closed_by_twin(&self, now: Instant, key: &str) -> bool {
        self.closed_by_twin.get(key).is_some_and(|heard| now < *heard + ENDED_FOR)
    }

    /// Whether the record of this call was closed here, as far as is remembered.
    pub(crate) fn is_closed(&self, key: &str) -> bool {
        self.closed.contains(key)
    }

    /// Calls that are over and whose record is not closed yet.
    pub(crate) fn take_over(&mut self) -> Vec<CallKey> {
        core::mem::take(&mut self.over)
    }

    /// How many transactions, dialogs and timers lead here.
    pub(crate) fn ways(&self) -> (usize, usize, usize) {
        let dialogs = self.by_dialog.len() + self.ended.len();
        (self.by_transaction.len(), dialogs, self.timers.len() + self.callers.len())
    }

    /// The calls that changed since the last time.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<CallKey> {
        core::mem::take(&mut self.changed)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let call = self.timers.first().map(|(due, _)| *due);
        let ended = self.ended_order.first().map(|(until, _)| *until);
        call.into_iter().chain(ended).min()
    }

    /// A call whose time has come.
    pub(crate) fn due(&self, now: Instant) -> Option<CallKey> {
        self.timers.first().filter(|(due, _)| *due <= now).map(|(_, key)| key.clone())
    }

    /// Takes a call out, to be put back under another number: the ways to it are found again there.
    pub(crate) fn take(&mut self, key: &str) -> Option<Live> {
        let live = self.live.remove(key)?;
        self.waning.remove(key);
        if let Some(count) = self.callers.get_mut(&live.ties.caller) {
            *count -= 1;
            if *count == 0 {
                self.callers.remove(&live.ties.caller);
            }
        }
        if let Some(due) = self.due.remove(key) {
            self.timers.remove(&(due, key.to_owned()));
        }
        Some(live)
    }

    /// Forgets a call and every way to it but those of requests still under way.
    pub(crate) fn remove(&mut self, now: Instant, key: &str) {
        let Some(live) = self.take(key) else { return };
        // They may have been lost with a server that had the call before us.
        self.fresh.push(live.ties.invite.into());
        self.fresh.extend(live.ties.ports.values().map(|port| TransactionId::from(port.invite)));
        for port in live.ties.ports.values() {
            for dialog in [&port.near, &port.far].into_iter().flatten() {
                let name = dialog.id.clone();
                self.by_dialog.remove(&name);
                self.ended.insert(name.clone(), now + ENDED_FOR);
                self.ended_order.insert((now + ENDED_FOR, name));
            }
        }
        self.forget_ended(now);
    }

    /// Forgets dialogs that ended long ago.
    pub(crate) fn forget_ended(&mut self, now: Instant) {
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
        let id = id.into();
        self.fresh.push(id);
        self.by_transaction.insert(id, (key.to_owned(), purpose));
    }

    /// A transaction restored whose call is over: its record goes when it does.
    pub(crate) fn tie_loose(&mut self, id: TransactionId) {
        self.by_transaction.entry(id).or_insert_with(|| (CallKey::new(), Purpose::Farewell));
    }

    /// Transactions tied since the last time.
    pub(crate) fn take_fresh_ties(&mut self) -> Vec<TransactionId> {
        core::mem::take(&mut self.fresh)
    }

    /// Whether this transaction belongs to a call: then its record travels to the twin. The CANCEL
    /// of an INVITE does from its first change on.
    pub(crate) fn owns(&mut self, id: &TransactionId) -> bool {
        if let TransactionId::Client(client) = id
            && let Some(invite) = client.cancels()
            && let Some((key, _)) = self.by_client(invite)
        {
            self.tie(*id, &key, Purpose::Farewell);
        }
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
        self.count_caller(&live);
        if live.call.is_over() {
            self.waning.insert(key.clone());
        }
        self.live.insert(key, live);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
