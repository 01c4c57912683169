//! The node: one input at a time, and one journal entry for all inputs since outputs were taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tandem_dialplan::Directory;
use tandem_journal::{Class, Frame, Journal, Known, Op, Record};
use tandem_registrar::Registrar;
use tandem_sip::digest::{NonceCounts, NonceKey};
use tandem_sip::{Carrier, Limits, Message, Method};
use tandem_stack::{ServerId, Stack, TransactionId};
use tandem_types::{Dice, Duration, Epoch, Flow, Instant, Role, Seq};

use crate::asked::Questions;
use crate::block::Blocks;
use crate::calls::Calls;
use crate::facts::Fact;
use crate::failing::Failing;
use crate::hand_over::{Inherited, Parting};
use crate::outbox::{Marks, Outbox, Parcel, Promise, Released};
use crate::ports::{Config, Input, Output, Standing, Status};
use crate::record;

/// The server as one value.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) dice: Dice,
    pub(crate) stack: Stack,
    pub(crate) registrar: Registrar,
    pub(crate) directory: Directory,
    pub(crate) calls: Calls,
    pub(crate) nonce_key: NonceKey,
    pub(crate) nonce_counts: NonceCounts,
    pub(crate) blocks: Blocks,
    /// Calls that only the twin had, until it is known whether their record is closed here.
    pub(crate) strays: BTreeMap<Vec<u8>, Record>,
    pub(crate) journal: Journal,
    pub(crate) outbox: Outbox,
    role: Role,
    epoch: Epoch,
    /// Until when the keeper lets us serve.
    lease: Instant,
    /// Whether the lease ran out while active.
    suspended: bool,
    /// When a phone was heard last in this reign.
    phone_heard: Option<Instant>,
    /// TCP connections that phones opened to this server.
    pub(crate) connections: BTreeSet<Flow>,
    /// Flows on which nothing could be sent a moment ago.
    failing: Failing,
    /// The rule that a test breaks.
    #[cfg(feature = "sabotage")]
    sabotage: Option<crate::ports::Sabotage>,
    /// The clock on the wall, and when it was read.
    pub(crate) wall: (Instant, i64),
    /// Changes that are not in the journal yet.
    pub(crate) ops: Vec<Op>,
    /// When changes that no message rests on are written at the latest.
    write_at: Option<Instant>,
    /// What the answer to the input at hand promises.
    pub(crate) promise: Promise,
    /// A request whose answer promises nothing, of the input at hand.
    pub(crate) unpromised: Option<ServerId>,
    /// The last entry on which something rests that left before the disk had it, until it has.
    unsafe_at: Option<Seq>,
    unsettled: bool,
    /// What administrators asked for here while the other server was active.
    pub(crate) questions: Questions,
    /// Answers that wait for an edit of the configuration.
    pub(crate) edits: BTreeMap<u64, Parcel>,
    pub(crate) next_edit: u64,
    /// An edit that was just ordered, on which the answer rests.
    pub(crate) edited: Option<u64>,
    /// Who asks for what is decided at the moment.
    pub(crate) author: String,
    /// How many days closed calls stay on record, and when that was said last.
    pub(crate) retention: (Option<u32>, Option<Instant>),
    /// A planned switch that is under way.
    pub(crate) parting: Parting,
    /// What the twin handed over to us.
    pub(crate) inherited: Inherited,
    pub(crate) outputs: VecDeque<Output>,
}

/// The name that marks our Via branches; the same on both servers of every pair is fine.
const SERVER_NAME: &str = "tandem";

impl Node {
    /// A passive node with what its store held.
    pub fn new(
        now: Instant,
        config: Config,
        mut dice: Dice,
        records: Vec<Record>,
        known: Known,
    ) -> Self {
        let mut seed = [0; 32];
        dice.fill(&mut seed);
        let name = format!("{SERVER_NAME}@{}", config.realm);
        let nonce_key = NonceKey::new(config.nonce_key);
        let stack = tandem_stack::Config {
            tag_secret: Some(nonce_key.tag_secret()),
            ..tandem_stack::Config::new(name)
        };
        Self {
            stack: Stack::new(stack, Dice::from_seed(seed)),
            registrar: Registrar::new(tandem_registrar::Config {
                bindings_per_aor_max: config.devices_per_user_max,
                ..tandem_registrar::Config::default()
            }),
            directory: Directory::new(),
            calls: Calls::default(),
            nonce_key,
            nonce_counts: NonceCounts::default(),
            blocks: Blocks::default(),
            strays: BTreeMap::new(),
            journal: Journal::new(now, config.seat, records, known),
            outbox: Outbox::default(),
            role: Role::Passive,
            epoch: Epoch::NEVER,
            lease: Instant::ZERO,
            suspended: false,
            phone_heard: None,
            connections: BTreeSet::new(),
            failing: Failing::default(),
            wall: (now, 0),
            ops: Vec::new(),
            write_at: None,
            promise: Promise::default(),
            unpromised: None,
            unsafe_at: None,
            unsettled: false,
            questions: Questions::default(),
            edits: BTreeMap::new(),
            next_edit: 0,
            edited: None,
            author: String::new(),
            retention: (None, None),
            parting: Parting::No,
            inherited: Inherited::of(Epoch::NEVER),
            outputs: VecDeque::new(),
            #[cfg(feature = "sabotage")]
            sabotage: None,
            config,
            dice,
        }
    }

    /// One input. Then drain [`Node::poll_output`]; several inputs may be handed in before that,
    /// they share one journal entry.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Wall(wall) => {
                self.wall = (now, wall);
                self.retain_again(now);
            }
            Input::Bytes { flow, bytes } => self.bytes(now, flow, &bytes),
            Input::FlowFailed(flow) => {
                self.connections.remove(&flow);
                if !self.is_telling() && self.failing.is_lost(now, flow) {
                    self.stack.handle_flow_failed(now, flow);
                }
            }
            Input::FlowClosed(flow) => {
                self.connections.remove(&flow);
            }
            Input::Lease { role, epoch, until } => self.lease(now, role, epoch, until),
            Input::HandOver { epoch, until } => {
                if self.role == Role::Active && epoch == self.epoch {
                    self.lease = self.lease.max(until);
                    self.hand_over(now);
                }
            }
            Input::LinkUp => {
                self.look_again();
                self.journal.handle_link_up(now);
                self.send_questions(now);
            }
            Input::LinkDown => {
                self.journal.handle_link_down();
                self.break_off(now);
                self.questions.lose();
            }
            Input::Frame(bytes) => match Frame::decode(&bytes) {
                #[cfg(feature = "sabotage")]
                Ok(Frame::Entry(entry)) if self.throws_entries_away() => {
                    self.outputs.push_back(Output::Frame(Frame::Ack(entry.stamp).encode()));
                }
                Ok(frame) => {
                    let serves = matches!(frame, Frame::Tick { serving: true, .. });
                    self.journal.handle_frame(now, frame);
                    if serves {
                        self.send_questions(now);
                    }
                }
                Err(error) => self.fact(Fact::BadFrame { why: error.to_string() }),
            },
            Input::Stored(ticket) => self.journal.handle_stored(ticket),
            Input::Disk(works) => {
                if !works && !self.journal.in_sync() {
                    for parcel in self.outbox.take_answers() {
                        self.answer_doubtful(parcel, LOST_DISK);
                    }
                }
                self.journal.handle_disk(works);
                self.adopt_unlooked(now, works);
                self.fact(Fact::Disk { works });
            }
            Input::Fetched { read, records, next } => {
                self.journal.handle_fetched(read, records, next);
            }
            Input::Damaged(stamps) => {
                self.fact(Fact::RecordsDamaged { records: stamps.len() });
                self.journal.handle_damaged(&stamps);
            }
            Input::Looked { key, found } => self.looked(now, &key, found),
            Input::Edited { id, result } => self.edit_done(id, result),
            Input::Changed(edits) => edits.into_iter().for_each(|edit| self.changed(edit)),
            Input::Admin { id, request, by } => self.admin(now, id, request, by),
        }
        self.work(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.journal.handle_timeout(now);
        self.part(now);
        self.end_questions(now);
        if self.role == Role::Active {
            if self.lease <= now && !self.suspended {
                self.suspended = true;
                self.journal.set_serving(now, false);
                let late = self.lease.elapsed_until(now);
                self.fact(Fact::LeaseLost { late });
            }
            if !self.suspended && !self.is_telling() {
                self.stack.handle_timeout(now);
                self.expire_bindings(now);
                self.expire_blocks(now);
                self.keep_refused(now);
                self.calls.forget_ended(now);
                for _ in 0..CALLS_DUE_MAX {
                    let Some(key) = self.calls.due(now) else { break };
                    self.call_timeout(now, &key);
                }
            }
        }
        self.work(now);
    }

    /// When to call [`Node::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let mut next = self.journal.next_timeout();
        if let Some(parting) = self.parting_timeout() {
            next = next.min(parting);
        }
        if let Some(in_vain) = self.questions.next_timeout() {
            next = next.min(in_vain);
        }
        if self.is_telling() && !self.suspended {
            next = next.min(self.lease);
        } else if self.role == Role::Active && !self.suspended {
            let others = [
                Some(self.lease),
                self.stack.next_timeout(),
                self.registrar.next_timeout(),
                self.block_timeout(),
                self.calls.next_timeout(),
                self.write_at,
                self.outbox.next_timeout(),
            ];
            next = others.into_iter().flatten().fold(next, Instant::min);
        }
        Some(next)
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.settle(now);
        self.outputs.pop_front()
    }

    /// What the keeper must hear of at once when it changes.
    pub fn standing(&self) -> Standing {
        Standing {
            role: self.role,
            epoch: self.epoch,
            serving: self.is_serving(),
            in_sync: self.journal.in_sync(),
            peer_serving: self.journal.heard().map(|(.., serving)| serving),
        }
    }

    /// The node at a glance.
    pub fn status(&self, now: Instant) -> Status {
        let heard = self.journal.heard();
        let (calls, bindings) = match self.role {
            Role::Active => (self.calls.count(), self.registrar.bindings_total()),
            // At rest: records, not yet read.
            Role::Passive => {
                (self.journal.count(record::CALL), self.journal.count(record::BINDING))
            }
        };
        Status {
            role: self.role,
            epoch: self.epoch,
            serving: self.is_serving(),
            in_sync: self.journal.in_sync(),
            linked: self.journal.is_linked(),
            newest: self.journal.last(),
            last_seq: self.journal.last().seq.0,
            link_heard: heard.map(|(at, ..)| at.elapsed_until(now)),
            peer_serving: heard.map(|(.., serving)| serving),
            peer_epoch: heard.map(|(_, _, epoch, _)| epoch),
            calls,
            phone_heard: self.phone_heard.map(|at| at.elapsed_until(now)),
            bindings,
            users: self.directory.len(),
            disk_works: self.journal.disk_works(),
        }
    }

    /// Whether we serve and the keeper lets us, this instant.
    fn is_leased(&self, now: Instant) -> bool {
        self.is_serving() && self.lease > now
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.role == Role::Active && !self.suspended
    }

    /// Microseconds since 1970 UTC.
    pub(crate) fn wall(&self, now: Instant) -> i64 {
        let (read, wall) = self.wall;
        wall + i64::try_from(read.elapsed_until(now).as_micros()).unwrap_or(0)
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What answers the input at hand promises this, or more.
    pub(crate) fn promises(&mut self, promise: Promise) {
        self.promise = self.promise.max(promise);
    }

    /// A durable change: what results from this input waits for the disk.
    pub(crate) fn change(&mut self, class: Class, key: Vec<u8>, body: Option<Vec<u8>>) {
        if class.is_durable() {
            self.promises(Promise::Durable);
        }
        self.ops.push(Op { class, key, body });
    }

    pub(crate) fn bytes(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        if self.pass_on(flow, bytes) {
            return;
        }
        match self.role {
            Role::Active if self.is_telling() => self.refuse(flow, bytes),
            Role::Active if !self.suspended && self.lease > now => {
                if flow.transport.is_reliable() && self.connections.len() < CONNECTIONS_MAX {
                    self.connections.insert(flow);
                }
                if self.config.virtual_addresses.contains(&flow.local) {
                    self.phone_heard = Some(now);
                }
                self.stack.handle_bytes(now, flow, bytes);
            }
            // Without a lease somebody else may be active: silence is the only safe answer.
            Role::Active => {}
            Role::Passive => self.refuse(flow, bytes),
        }
    }

    /// The passive server says 503, to every request but ACK, and remembers nothing of it.
    fn refuse(&mut self, flow: Flow, bytes: &[u8]) {
        let Ok(Message::Request(request)) =
            Message::parse(bytes, Carrier::Datagram, &Limits::default())
        else {
            return;
        };
        if request.method == Method::Ack {
            return;
        }
        let mut response = tandem_stack::make_response(&request, 503, None);
        response.headers.push(tandem_sip::HeaderName::RetryAfter, self.retry_after());
        self.outputs.push_back(Output::Transmit { flow, bytes: response.to_bytes() });
    }

    fn lease(&mut self, now: Instant, role: Role, epoch: Epoch, until: Instant) {
        match (self.role, role) {
            (Role::Passive, Role::Active) => {
                // An epoch is led once; the keeper mints a new one for every reign.
                if until > now && self.journal.may_lead(epoch) {
                    self.lease = until;
                    self.begin(now, epoch);
                }
            }
            (Role::Active, Role::Active) if epoch == self.epoch => {
                self.lease = self.lease.max(until);
                if self.suspended && self.lease > now {
                    self.suspended = false;
                    self.journal.set_serving(now, true);
                    self.fact(Fact::LeaseBack);
                }
            }
            (Role::Active, Role::Active) => {
                if self.journal.may_lead(epoch) {
                    // With a closed mouth nothing goes on as it is: what waited to leave is gone.
                    if self.is_leased(now) && !self.is_telling() {
                        self.reign_on(now, epoch);
                        self.lease = until;
                    } else {
                        self.end(now, epoch);
                        self.lease = until;
                        self.begin(now, epoch);
                    }
                }
            }
            (Role::Active, Role::Passive) => self.end(now, epoch),
            (Role::Passive, Role::Passive) => self.epoch = epoch,
        }
    }

    fn begin(&mut self, now: Instant, epoch: Epoch) {
        self.role = Role::Active;
        self.epoch = epoch;
        self.phone_heard = None;
        self.suspended = false;
        self.inherited.keep(self.journal.epoch());
        self.journal.activate(epoch);
        let unreadable = self.load(now);
        if self.inherited.is_complete(now) {
            // What was restored repeats what may be lost with a dead server; nothing is lost here.
            while self.stack.poll_transmit().is_some() {}
        } else {
            // Said again may be what had been said by the dead server alone, or what no disk has yet.
            self.promises(Promise::Final);
        }
        self.journal.set_serving(now, true);
        self.parting = Parting::No;
        self.outputs.push_back(Output::Serve(true));
        self.inherit_all(now);
        let (calls, bindings) = (self.calls.count(), self.registrar.bindings_total());
        self.fact(Fact::RoleChanged { role: Role::Active, epoch, calls, bindings, unreadable });
    }

    /// Another reign of our own without a pause (both served, and this one stays): everything goes
    /// on as it is. What waited rests on the first entry of the new reign, which the store writes
    /// after all that came before.
    fn reign_on(&mut self, now: Instant, epoch: Epoch) {
        self.write(now);
        self.epoch = epoch;
        self.journal.activate(epoch);
        let seq = self.journal.append(now, Vec::new());
        self.outbox.rebase(seq);
        self.unsafe_at = None;
        let (calls, bindings) = (self.calls.count(), self.registrar.bindings_total());
        let role = Role::Active;
        self.fact(Fact::RoleChanged { role, epoch, calls, bindings, unreadable: 0 });
    }

    /// Serves no more, and gives the virtual addresses up.
    pub(crate) fn end(&mut self, now: Instant, epoch: Epoch) {
        self.retire(now, epoch);
        self.parting = Parting::No;
        self.outputs.push_back(Output::Serve(false));
    }

    /// Serves no more. Still hears what comes for the virtual addresses.
    pub(crate) fn retire(&mut self, now: Instant, epoch: Epoch) {
        if self.is_leased(now) && !self.is_telling() {
            self.write(now);
        }
        // What is not in the journal was promised to nobody.
        self.ops.clear();
        (self.write_at, self.unsafe_at) = (None, None);
        for parcel in self.outbox.clear() {
            self.answer_doubtful(parcel, LOST_ROLE);
        }
        self.stack.clear();
        self.registrar.clear();
        self.calls.clear();
        self.connections.clear();
        self.failing = Failing::default();
        self.strays.clear();
        // Who repeats a request to whoever serves next proves it with the same proof.
        self.nonce_counts = NonceCounts::default();
        self.role = Role::Passive;
        self.epoch = epoch;
        self.suspended = false;
        self.journal.set_serving(now, false);
        self.journal.step_down();
        let role = Role::Passive;
        self.fact(Fact::RoleChanged { role, epoch, calls: 0, bindings: 0, unreadable: 0 });
    }

    /// Follows an input through all parts until nothing moves any more.
    fn work(&mut self, now: Instant) {
        self.unsettled = true;
        let promise = core::mem::take(&mut self.promise);
        self.decide_questions(now);
        self.promise = promise;
        loop {
            if let Some(event) = self.stack.poll_event() {
                self.serve(now, event);
            } else if let Some(output) = self.journal.poll_output() {
                self.journal_said(now, output);
            } else {
                break;
            }
        }
        self.note_ended_calls();
        while let Some(transmit) = self.stack.poll_transmit() {
            if transmit.repeat && transmit.transaction.is_some_and(|id| self.outbox.holds(&id)) {
                continue;
            }
            let parcel = Parcel::Message {
                flow: transmit.flow,
                bytes: transmit.bytes,
                transaction: transmit.transaction,
            };
            // A request of ours promises nobody that something is on record: a BYE need not wait
            // for the disk.
            let promise = match transmit.transaction {
                Some(TransactionId::Client(_)) => Promise::Passing,
                Some(TransactionId::Server(id)) if self.unpromised == Some(id) => Promise::Nothing,
                Some(TransactionId::Server(_)) | None => self.promise,
            };
            self.outbox.stage(promise, parcel);
        }
        (self.promise, self.unpromised) = (Promise::default(), None);
    }

    /// What results from the input at hand.
    pub(crate) fn stage(&mut self, parcel: Parcel) {
        self.outbox.stage(self.promise, parcel);
    }

    /// Writes everything that changed as one entry, on which all that is staged rests.
    pub(crate) fn write(&mut self, now: Instant) {
        self.write_at = None;
        self.collect(now);
        let mut seq = self.journal.last().seq;
        let mut ops = core::mem::take(&mut self.ops).into_iter().peekable();
        while ops.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(op) = ops.next_if(|_| bytes < ENTRY_BYTES) {
                bytes += op.key.len() + op.body.as_ref().map_or(0, Vec::len);
                part.push(op);
            }
            seq = self.journal.append(now, part);
        }
        if seq == Seq::ZERO && self.outbox.promises() {
            // What is said first in a reign rests on an entry too: the store writes that after all that came before.
            seq = self.journal.append(now, Vec::new());
        }
        self.outbox.hold(now, seq);
    }

    /// Whether what changed may wait for a later entry: no message rests on it, so for the phones
    /// it is as if it had not happened yet.
    fn may_wait(&mut self, now: Instant) -> bool {
        let durable = self.ops.iter().any(|op| op.class.is_durable());
        let until = *self.write_at.get_or_insert(now + WRITE_PAUSE);
        !durable && !self.outbox.is_staged() && now < until
    }

    /// Writes everything that changed as one entry, and lets go of what is safe.
    fn settle(&mut self, now: Instant) {
        if !core::mem::take(&mut self.unsettled) {
            return;
        }
        let settles_tail = self.journal.has_tail() && self.strays.is_empty();
        if self.role == Role::Active && (settles_tail || !self.may_wait(now)) {
            self.write(now);
        }
        if settles_tail {
            self.journal.settle_tail();
        }
        while let Some(output) = self.journal.poll_output() {
            self.journal_said(now, output);
        }
        // Without a lease somebody else may be active: what is safe waits, and is thrown away with
        // the role.
        let leased = self.is_leased(now);
        let marks = self.marks();
        while leased && let Some(released) = self.outbox.release(now, marks) {
            let Released { parcel, unsafe_at } = released;
            self.note_unsafe(unsafe_at);
            self.outputs.push_back(match parcel {
                Parcel::Message { flow, bytes, .. } => Output::Transmit { flow, bytes },
                Parcel::Answer { .. } | Parcel::Aside { .. } if unsafe_at.is_some() => {
                    self.answer_doubtful(parcel, LATE_DISK);
                    continue;
                }
                Parcel::Answer { id, reply } => Output::Answer { id, reply },
                Parcel::Aside { id, reply } => {
                    self.tell_aside(id, reply);
                    continue;
                }
            });
        }
        self.note_disk_again();
        while let Some(output) = self.journal.poll_output() {
            self.journal_said(now, output);
        }
    }

    /// Breaks a rule on purpose, to prove that the tests would notice.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, rule: Option<crate::ports::Sabotage>) {
        self.sabotage = rule;
    }

    #[cfg(feature = "sabotage")]
    fn throws_entries_away(&self) -> bool {
        self.breaks(crate::ports::Sabotage::AcknowledgeWithoutKeeping)
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn breaks(&self, rule: crate::ports::Sabotage) -> bool {
        self.sabotage == Some(rule)
    }

    /// Something leaves before the disk has what it rests on: that is told, once.
    fn note_unsafe(&mut self, unsafe_at: Option<Seq>) {
        if unsafe_at.is_some() && self.unsafe_at.is_none() {
            self.fact(Fact::DiskLate { late: true });
        }
        self.unsafe_at = self.unsafe_at.max(unsafe_at);
    }

    /// And that the disk has it now.
    fn note_disk_again(&mut self) {
        let on_disk = self.journal.durable_committed();
        if self.unsafe_at.take_if(|seq| *seq <= on_disk).is_some() {
            self.fact(Fact::DiskLate { late: false });
        }
    }

    fn marks(&self) -> Marks {
        #[cfg(feature = "sabotage")]
        if self.sabotage == Some(crate::ports::Sabotage::AnswerBeforeCommit) {
            let last = self.journal.last().seq;
            return Marks { passing: last, finals: last, durable: last };
        }
        Marks {
            passing: self.journal.hot_committed(),
            finals: self.journal.final_committed(),
            durable: self.journal.durable_committed(),
        }
    }

    /// The records of everything that changed since the last entry.
    fn collect(&mut self, now: Instant) {
        let mut ops = core::mem::take(&mut self.ops);
        for key in self.calls.take_changed() {
            #[cfg(feature = "sabotage")]
            if self.breaks(crate::ports::Sabotage::WriteNothingAhead) {
                continue;
            }
            let finished = self.calls.get(&key).is_some_and(crate::live::Live::is_finished);
            if finished {
                self.calls.remove(now, &key);
            }
            let body = self.calls.get(&key).map(|live| live.encode(now));
            ops.push(Op { class: Class::Hot, key: record::call_key(&key), body });
        }
        for id in self.stack.take_changes() {
            let key = record::transaction_key(&id);
            // A transaction that was taken over may be of a call that had ended before: its record
            // must go all the same, or every takeover restores it again.
            if !self.calls.owns(&id) && self.journal.get(&key).is_none() {
                continue;
            }
            let body = self.stack.checkpoint(now, &id).map(|saved| record::encode(&saved));
            if body.is_none() {
                self.calls.untie(&id);
            }
            ops.push(Op { class: Class::Hot, key, body });
        }
        for id in self.calls.take_fresh_ties() {
            // Those that came and went between two entries are in no list of changes.
            if !self.stack.is_recorded(&id) {
                self.calls.untie(&id);
            }
        }
        for user in self.registrar.take_changes() {
            let key = record::binding_key(user.as_str());
            let body = self.registrar.checkpoint(now, &user).map(|saved| record::encode(&saved));
            ops.push(Op { class: Class::Hot, key, body });
        }
        self.ops = ops;
    }

    fn journal_said(&mut self, now: Instant, output: tandem_journal::Output) {
        use tandem_journal::Output as Said;
        match output {
            Said::Send(frame) => {
                self.outputs.push_back(Output::Frame(frame.encode()));
            }
            Said::Store { write, sync, ticket } => {
                self.outputs.push_back(Output::Store { write, sync, ticket });
            }
            Said::Fetch { lacking, after, read } => {
                self.outputs.push_back(Output::Fetch { lacking, after, read });
            }
            Said::Committed => self.unsettled = true,
            Said::Protection { protected, why } => {
                self.fact(Fact::Protection { protected, why: why.to_owned() });
            }
            Said::Stray(stray) => self.stray(now, stray),
            // Nothing of ours is a table record: the configuration has tables of its own.
            Said::Changed(_) => {}
            Said::Logged(record) => self.logged(now, &record),
            Said::Aside(bytes) => self.aside(now, &bytes),
            Said::SameSeat => self.fact(Fact::SameSeat),
        }
    }

    /// Transactions and calls that belong to us after a takeover, and only those whose records
    /// must go, are changes.
    pub(crate) fn forget_restored_changes(&mut self, now: Instant) -> BTreeSet<TransactionId> {
        let changes = self.stack.take_changes();
        changes.into_iter().filter(|id| self.stack.checkpoint(now, id).is_none()).collect()
    }
}

/// Changes that no message rests on are written after so long at the latest.
const WRITE_PAUSE: Duration = Duration::from_millis(50);

/// An entry takes no further change beyond so many bytes, so that it fits into a frame of the link.
const ENTRY_BYTES: usize = 4 * 1024 * 1024;

/// Calls whose time has come that are handled in one go; the others follow at once.
const CALLS_DUE_MAX: usize = 64;

/// Told to whoever waits for an answer that rests on a change nobody may have.
const LOST_ROLE: &str = "this server lost its role; whether it was done shows on the active one";
const LOST_DISK: &str =
    "the disk failed while this was being saved; it is in effect, and may be lost at a restart";

const LATE_DISK: &str = "the disk takes too long; it is in effect, and may be lost at a restart";

/// TCP connections remembered at most; the transport refuses more long before.
const CONNECTIONS_MAX: usize = 65_536;
