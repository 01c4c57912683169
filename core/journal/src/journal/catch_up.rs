//! Catch-up: what each side lacks, one chunk on its way at a time.
//!
//! ```text
//!   passive                                active
//!      | <-------------- Hello ---------------|
//!      |--------------- Join ---------------->|   "my tail follows"
//!      | <-------------- More ----------------|
//!      |-- Records ... TailDone ------------->|   what only we have
//!      | <-- Records ... CaughtUp ------------|   log records the disk does not have yet, memory by
//!      |--- More after each                   |   key, log records off the disk; between them live entries
//! ```
//!
//! Invariant: a hot record is not sent before the log records of the entry that wrote it, unless they are on the
//! disk here. Whoever takes over in the middle gives answers by what it has, and records are what they promise.
//!
//! Invariant: what only the passive had is in the journal here before this server claims to know it, and before the
//! passive, which drops what was not named, is told that this was all.
//!
//! Invariant: an answer to a question of an earlier catch-up is never taken for one of this.

use std::collections::BTreeSet;

use tandem_types::{Duration, Epoch, Instant, Role, Seq};

use super::{FETCH_WAIT, Journal, Output, Part, Phase, Twin, Write, fresh};
use crate::entry::{Class, Entry, Known, Op, Record};
use crate::frame::{Cursor, Frame};

impl Journal {
    /// Log records read for [`Output::Fetch`]; `next` is `None` when these were the last.
    pub fn handle_fetched(&mut self, read: u64, records: Vec<Record>, next: Option<Cursor>) {
        if read != self.read || self.asked.take().is_none() {
            return;
        }
        let join = self.join;
        match &mut self.part {
            Part::Lead { twin: Twin::CatchingUp { phase: phase @ Phase::Log(_), .. }, .. }
            | Part::Follow { tail: Some((_, phase @ Phase::Log(_))), .. } => match next {
                Some(cursor) => {
                    *phase = Phase::Log(cursor);
                    self.outputs.push_back(Output::Send(Frame::Records { join, records }));
                }
                None => {
                    if !records.is_empty() {
                        self.outputs.push_back(Output::Send(Frame::Records { join, records }));
                    }
                    self.complete();
                }
            },
            Part::Lead { .. } | Part::Follow { .. } => {}
        }
    }

    pub(super) fn take_hello(&mut self, role: Role, epoch: Epoch, known: Known) {
        match (self.role(), role) {
            (Role::Active, Role::Passive) => self.hello(),
            (Role::Passive, Role::Active) if epoch >= self.epoch => {
                self.epoch = epoch;
                self.join = self.join.wrapping_add(1);
                self.forget_read();
                let (join, ours) = (self.join, self.known.clone());
                self.outputs.push_back(Output::Send(Frame::Join { epoch, join, known: ours }));
                self.part = Part::Follow {
                    joining: Some(BTreeSet::new()),
                    tail: Some((known, Phase::Memory(None))),
                    in_sync: false,
                    unacked: None,
                };
                // The peer's first More asks for our tail: one chunk on its way at a time.
            }
            // Two of a kind: who leads is decided elsewhere. An older reign is not followed.
            (Role::Passive | Role::Active, Role::Active) | (Role::Passive, Role::Passive) => {}
        }
    }

    pub(super) fn take_join(&mut self, joined: Epoch, join: u32, known: Known) {
        if joined != self.epoch {
            return;
        }
        self.join = join;
        self.silent = false;
        self.sync_what_the_twin_held();
        self.forget_read();
        if let Part::Lead { twin, acked, .. } = &mut self.part {
            *twin = Twin::Tail { known };
            *acked = Seq::ZERO;
            self.outputs.push_back(Output::Send(Frame::More { join }));
            self.protect("the twin joins");
        }
    }

    pub(super) fn take_records(&mut self, now: Instant, records: Vec<Record>) {
        let leads = match &mut self.part {
            Part::Lead { twin: Twin::Tail { .. }, .. } => true,
            Part::Follow { joining: Some(named), .. } => {
                named.extend(records.iter().map(|record| record.key.clone()));
                false
            }
            Part::Lead { .. } | Part::Follow { .. } => return,
        };
        let (mut keep, mut gone) = (Vec::new(), Vec::new());
        for record in records {
            match record.class {
                Class::Hot if leads => {
                    if self.replica.get(&record.key).is_none() && !self.known.covers(record.stamp) {
                        self.outputs.push_back(Output::Stray(record));
                    }
                }
                Class::Hot => {
                    // The active server's word counts, even where we hold something later that
                    // it lost in a crash: it lives by what it has.
                    if self.replica.remove_later(&record) {
                        gone.push(record.key.clone());
                    }
                    if self.replica.merge(now, &record) {
                        keep.push(record);
                    }
                }
                Class::Table => {
                    if self.replica.merge(now, &record) {
                        self.outputs.push_back(Output::Changed(record.key.clone()));
                        keep.push(record);
                    }
                }
                Class::Log => {
                    if leads {
                        self.outputs.push_back(Output::Logged(record.clone()));
                    }
                    keep.push(record);
                }
            }
        }
        if !gone.is_empty() {
            self.store(Write::Forget(gone), false);
        }
        if !keep.is_empty() {
            let has_log = keep.iter().any(|record| record.class == Class::Log);
            let ticket = self.store(Write::Records(keep), true);
            if has_log {
                self.pace.note(ticket);
            }
        }
        self.ask_for_more(now);
    }

    pub(super) fn take_tail_done(&mut self, now: Instant) {
        let Part::Lead { twin, tail, .. } = &mut self.part else { return };
        let Twin::Tail { known } = twin else { return };
        let known = core::mem::take(known);
        let phase = Phase::Fresh(self.fresh.lacking(now, &known));
        *tail = Some(known.clone());
        *twin = Twin::CatchingUp { known, phase };
        self.send_chunk(now);
    }

    /// Whether the tail of the twin was taken and is not settled.
    pub fn has_tail(&self) -> bool {
        matches!(self.part, Part::Lead { tail: Some(_), .. })
    }

    /// Every [`Output::Stray`] so far was decided on, and what came of it was appended: from now on this server knows
    /// what its twin knew. Earlier, who is killed here claims to know what nobody has, and the twin is told that
    /// it is gone.
    pub fn settle_tail(&mut self) {
        let Part::Lead { twin, tail, .. } = &mut self.part else { return };
        let Some(known) = tail.take() else { return };
        let is_sent = matches!(twin, Twin::CatchingUp { phase: Phase::Sent, .. });
        self.known.merge(&known);
        self.store(Write::Learn(known), true);
        if is_sent {
            self.complete();
        }
    }

    /// Sends the next part of a catch-up or of our tail.
    pub(super) fn send_chunk(&mut self, now: Instant) {
        let join = self.join;
        let (known, phase, all_hot) = match &mut self.part {
            Part::Lead { twin: Twin::CatchingUp { known, phase }, .. } => (known, phase, true),
            Part::Follow { tail: Some((known, phase)), .. } => (known, phase, false),
            Part::Lead { .. } | Part::Follow { .. } => return,
        };
        if let Phase::Fresh(left) = phase {
            let records = fresh::take_chunk(left);
            if !records.is_empty() {
                self.outputs.push_back(Output::Send(Frame::Records { join, records }));
                return;
            }
            *phase = Phase::Memory(None);
        }
        if let Phase::Memory(after) = phase {
            let (records, next) = self.replica.chunk(now, after.as_ref(), |kept| {
                (all_hot && kept.class == Class::Hot) || !known.covers(kept.stamp)
            });
            *phase = match next {
                Some(key) => Phase::Memory(Some(key)),
                None => Phase::Log(Cursor(None)),
            };
            if !records.is_empty() {
                self.outputs.push_back(Output::Send(Frame::Records { join, records }));
                return;
            }
        }
        if let Phase::Log(after) = phase {
            let (lacking, after) = (known.clone(), after.clone());
            self.read += 1;
            self.asked = Some(now);
            self.outputs.push_back(Output::Fetch { lacking, after, read: self.read });
        }
    }

    /// All of a catch-up, or of our tail, is sent.
    fn complete(&mut self) {
        let join = self.join;
        match &mut self.part {
            Part::Lead { twin: Twin::CatchingUp { phase, .. }, tail: Some(_), .. } => {
                *phase = Phase::Sent;
            }
            Part::Lead { twin, .. } => {
                // The twin acknowledges what it was sent meanwhile; then it is in sync.
                *twin = Twin::Lagging;
                let known = self.known.clone();
                self.outputs.push_back(Output::Send(Frame::CaughtUp { join, known }));
            }
            Part::Follow { tail, .. } => {
                *tail = None;
                self.outputs.push_back(Output::Send(Frame::TailDone { join }));
            }
        }
    }

    pub(super) fn take_caught_up(&mut self, all: &Known) {
        let Part::Follow { joining, in_sync, unacked, .. } = &mut self.part else { return };
        let Some(named) = joining.take() else { return };
        *in_sync = true;
        *unacked = all.latest().filter(|stamp| stamp.epoch == self.epoch);
        let gone = self.replica.sweep(&named);
        self.known.merge(all);
        if !gone.is_empty() {
            self.store(Write::Forget(gone), false);
        }
        self.store(Write::Learn(all.clone()), true);
    }

    /// While we are being caught up there are gaps before this entry, so its changes are kept but
    /// its position is not yet known.
    pub(super) fn store_without_learning(&mut self, now: Instant, entry: Entry) {
        let (stamp, age, sync) = (entry.stamp, Duration::ZERO, entry.is_durable());
        self.fresh.note(now, self.ticket + 1, &entry);
        let (gone, kept): (Vec<Op>, Vec<Op>) =
            entry.ops.into_iter().partition(|op| op.class == Class::Hot && op.body.is_none());
        if !kept.is_empty() {
            let record =
                |op: Op| Record { class: op.class, key: op.key, stamp, age, body: op.body };
            self.store(Write::Records(kept.into_iter().map(record).collect()), sync);
        }
        if !gone.is_empty() {
            self.store(Write::Forget(gone.into_iter().map(|op| op.key).collect()), false);
        }
    }

    /// No answer to an earlier [`Output::Fetch`] counts any more.
    pub(super) fn forget_read(&mut self) {
        self.read += 1;
        self.asked = None;
        self.pace.forget();
    }

    /// A read that is not answered is asked for again.
    pub(super) fn ask_again(&mut self, now: Instant) {
        if self.asked.is_some_and(|asked| asked + FETCH_WAIT <= now) {
            self.asked = None;
            self.send_chunk(now);
        }
    }
}
