//! Reading the twin's records: on becoming active all of them; while active, those that only the
//! twin had.

use std::collections::BTreeSet;

use tandem_call::{Cdr, Ending, Input, Outcome};
use tandem_journal::{Class, Record};
use tandem_registrar::{Aor, AorCheckpoint};
use tandem_stack::{Checkpoint, TransactionId};
use tandem_types::{Duration, Flow, Instant};

use crate::calls::CallKey;
use crate::live::{Live, LiveRecord};
use crate::node::Node;
use crate::ports::Output;
use crate::record::{self, BINDING, CALL, CallEvents, TRANSACTION};

/// Q.850 cause of a call whose server went away before anybody answered: temporary failure.
const STRAY_CAUSE: u8 = 41;

/// One record that was read.
enum Read {
    Call(String, Box<LiveRecord>),
    Transaction(Checkpoint),
    Binding(Aor, AorCheckpoint),
}

fn read(key: &[u8], body: &[u8]) -> Option<Read> {
    let name = |prefix: &[u8]| {
        let rest = key.strip_prefix(prefix)?;
        core::str::from_utf8(rest).ok().map(str::to_owned)
    };
    if let Some(call) = name(CALL) {
        return record::decode(body).map(|live| Read::Call(call, Box::new(live)));
    }
    if name(TRANSACTION).is_some() {
        return record::decode(body).map(Read::Transaction);
    }
    if let Some(user) = name(BINDING) {
        return record::decode(body).map(|saved| Read::Binding(Aor::new(user), saved));
    }
    None
}

impl Node {
    /// Takes over everything the journal holds. How many records could not be read: they stay in
    /// the journal, for a server that can.
    pub(crate) fn load(&mut self, now: Instant) -> usize {
        let mut unreadable = 0;
        let mut found = Vec::new();
        for (key, _, age, body) in self.journal.records(now) {
            match read(key, body) {
                Some(read) => found.push((read, age)),
                None => unreadable += 1,
            }
        }
        let transactions: BTreeSet<TransactionId> = found
            .iter()
            .filter_map(|(read, _)| match read {
                Read::Transaction(saved) => Some(saved.id()),
                Read::Call(..) | Read::Binding(..) => None,
            })
            .collect();
        let mut unheard = Vec::new();
        for (read, age) in found {
            unheard.extend(self.restore(now, read, age, &transactions));
        }
        for id in transactions {
            self.calls.tie_loose(id);
        }
        // What was restored stands in the journal already; only what ended meanwhile is a change.
        for id in self.forget_restored_changes(now) {
            self.calls.untie(&id);
            self.change(Class::Hot, record::transaction_key(&id), None);
        }
        for key in unheard {
            self.end_aside(now, &key);
        }
        unreadable
    }

    /// Restores what was read; `transactions`: all there are. A call that cannot go on is named, to be ended once all
    /// is restored.
    fn restore(
        &mut self,
        now: Instant,
        read: Read,
        age: Duration,
        transactions: &BTreeSet<TransactionId>,
    ) -> Option<CallKey> {
        match read {
            Read::Call(key, mut saved) => {
                self.rehome_ties(&mut saved.ties);
                let mut live = Live::restore(now, *saved, age);
                self.note_taken_over(now, &mut live);
                #[cfg(feature = "sabotage")]
                self.close_too_early(now, &key, &live);
                let rings = !live.call.is_over() && live.call.answered_by().is_none();
                if rings && !transactions.contains(&live.ties.invite.into()) {
                    // It came over without his INVITE: the twin went away amid an entry or amid a catch-up.
                    let events = live.ties.events(live.call.trail().clone());
                    self.close_stray(now, &key, live.call.cdr().clone(), &events);
                    self.change(Class::Hot, record::call_key(&key), None);
                    return Some(self.set_aside(&key, live));
                }
                self.calls.restore(key, live);
            }
            Read::Transaction(mut saved) => {
                // Logins come before transactions in the order of keys.
                saved.reroute(|flow| self.rehome(flow), |uri, flow| self.reach(uri, flow));
                self.stack.restore(now, saved, age);
            }
            Read::Binding(user, saved) => self.registrar.restore(now, user, saved, age),
        }
        None
    }

    /// A call whose caller cannot be answered, because the transaction of his INVITE is gone, leaves its number and its
    /// record to the INVITE, which he repeats. Under another number its devices are told that it is over.
    pub(crate) fn set_aside(&mut self, key: &str, mut live: Live) -> CallKey {
        live.recorded = true;
        let aside = format!("{key}~{}", self.dice.hex(4));
        self.calls.restore(aside.clone(), live);
        aside
    }

    /// Tells the devices of a call that was set aside.
    pub(crate) fn end_aside(&mut self, now: Instant, key: &str) {
        let ending = Ending::Failover;
        self.tell(now, key, Input::Closed { status: 480, cause: STRAY_CAUSE, ending });
    }

    /// Breaks a rule, where a test says so.
    #[cfg(feature = "sabotage")]
    fn close_too_early(&mut self, now: Instant, key: &str, live: &Live) {
        if !self.breaks(crate::ports::Sabotage::CloseAtTakeover) || live.call.is_over() {
            return;
        }
        let mut cdr = live.call.cdr().clone();
        let cause = cdr.q850_cause;
        cdr.call_id = format!("{key}-until-then");
        cdr.close(self.wall(now), Outcome::Answered, Ending::Caller, cause);
        let key = record::cdr_key(&cdr.call_id);
        self.change(Class::Log, key, Some(record::encode(&cdr)));
    }

    /// Flows that end at the other machine's own address end at ours from now on.
    fn rehome_ties(&self, ties: &mut crate::live::Ties) {
        ties.flow = self.rehome(ties.flow);
        for port in ties.ports.values_mut() {
            port.flow = self.rehome(port.flow);
        }
    }

    /// The same flow with a local end that is ours.
    pub(crate) fn rehome(&self, flow: Flow) -> Flow {
        if self.config.is_ours(flow.local.ip()) {
            return flow;
        }
        let all = self.config.virtual_addresses.iter().chain(&self.config.own_addresses);
        let mut same_family = all.filter(|ours| ours.is_ipv4() == flow.local.is_ipv4());
        Flow { local: same_family.next().copied().unwrap_or(flow.local), ..flow }
    }

    /// A hot record that only the twin had: it served while we were apart, or before we both were
    /// away. A call is adopted once it is known that its record is not closed here.
    pub(crate) fn stray(&mut self, now: Instant, stray: Record) {
        let Some(body) = &stray.body else { return };
        self.calls.ask_soon(now);
        match read(&stray.key, body) {
            Some(Read::Call(key, saved)) if saved.recorded || self.calls.is_closed(&key) => {}
            // A disk that cannot be written answers nothing either.
            Some(Read::Call(key, saved)) if !self.journal.disk_works() => {
                self.adopt(now, &key, *saved, stray.age);
            }
            Some(Read::Call(key, _)) => {
                let key = record::cdr_key(&key);
                self.outputs.push_back(Output::Look { key: key.clone() });
                self.strays.insert(key, stray);
            }
            // A transaction without its call would answer what nobody asks any more; a login of
            // that time is not newer than what the phone told us since.
            Some(Read::Transaction(_)) => {}
            Some(Read::Binding(user, saved))
                if self.registrar.bindings(now, &user).next().is_none() =>
            {
                self.registrar.restore(now, user.clone(), saved, stray.age);
                let body = self.registrar.checkpoint(now, &user);
                let body = body.map(|saved| record::encode(&saved));
                self.change(Class::Hot, record::binding_key(user.as_str()), body);
            }
            Some(Read::Binding(..)) | None => {}
        }
    }

    /// The store says whether the record of a stray call is closed here.
    pub(crate) fn looked(&mut self, now: Instant, cdr_key: &[u8], found: bool) {
        let Some(stray) = self.strays.remove(cdr_key) else { return };
        let Some(Read::Call(key, saved)) = stray.body.and_then(|body| read(&stray.key, &body))
        else {
            return;
        };
        if found {
            // As if the twin had: it may have been given up here, in an earlier reign, while its caller goes on.
            self.calls.note_closed_by_twin(now, &key);
        }
        if !self.calls.is_closed(&key) && self.calls.get(&key).is_none() {
            self.adopt(now, &key, *saved, stray.age);
        }
    }

    /// Asks again for what the store may not have been able to read.
    pub(crate) fn look_again(&mut self) {
        let keys = self.strays.keys().cloned();
        self.outputs.extend(keys.map(|key| Output::Look { key }));
    }

    /// The disk fails: it is not waited for.
    pub(crate) fn adopt_unlooked(&mut self, now: Instant, disk_works: bool) {
        while !disk_works && let Some((key, _)) = self.strays.first_key_value() {
            let key = key.clone();
            self.looked(now, &key, false);
        }
    }

    /// A call that only the twin had: where it was answered it goes on here; one that rang is
    /// closed.
    fn adopt(&mut self, now: Instant, key: &str, mut saved: LiveRecord, age: Duration) {
        self.rehome_ties(&mut saved.ties);
        saved.without_transactions();
        let mut live = Live::restore(now, saved.clone(), age);
        self.note_taken_over(now, &mut live);
        if live.call.answered_by().is_some() {
            self.calls.restore(key.to_owned(), live);
            self.calls.touch(key);
        } else {
            let (cdr, trail) = saved.call.into_cdr();
            self.close_stray(now, key, cdr, &saved.ties.events(trail));
        }
    }

    /// An event of the call. It travels with the next change of it, after a takeover at the latest when both
    /// sides are asked whether they are still there.
    fn note_taken_over(&self, now: Instant, live: &mut Live) {
        if !live.call.is_over() {
            live.call.taken_over(self.wall(now), self.epoch());
        }
    }

    /// The twin closed the record of a call while we were apart: a phone refused or hung up there.
    /// It is not closed a second time, but where ours says more; whoever still believes in the call is told what it
    /// says.
    pub(crate) fn logged(&mut self, now: Instant, record: &Record) {
        let Some(key) = record.key.strip_prefix(record::CDR_PREFIX) else { return };
        let key = String::from_utf8_lossy(key);
        self.calls.ask_soon(now);
        self.calls.note_closed_by_twin(now, &key);
        let Some(live) = self.calls.get_mut(&key) else { return };
        let cdr = record.body.as_deref().and_then(record::read_cdr);
        // Where it was answered here since, and a phone hung up there, where it still rang, that record does not
        // tell of the answer: ours does, is the later one, and takes its place.
        let is_answered = live.call.answered_by().is_some();
        live.recorded = !(is_answered && cdr.as_ref().is_some_and(|cdr| cdr.connect.is_none()));
        let ending = cdr.as_ref().and_then(|cdr| cdr.ending).unwrap_or(Ending::Lost);
        let (status, cause) = cdr.map_or((487, 16), |cdr| (cdr.sip_status, cdr.q850_cause));
        self.tell(now, &key, Input::Closed { status, cause, ending });
    }

    fn close_stray(&mut self, now: Instant, key: &str, mut cdr: Cdr, events: &CallEvents) {
        cdr.close(self.wall(now), Outcome::Failed, Ending::Failover, STRAY_CAUSE);
        // Not noted as closed: where its caller still repeats the INVITE, that goes on with the
        // number and the record of this call.
        self.change(Class::Log, record::cdr_key(key), Some(record::encode(&cdr)));
        self.change(Class::Log, record::events_key(key), Some(record::encode(events)));
    }
}
