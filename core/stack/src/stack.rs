//! The transactions of one server, their timers and indexes.
//!
//! ```text
//!  handle_bytes --> receive --> server machines --> events ----> transaction user
//!                          \--> client machines ----^                |
//!  transmits <----- outputs of the machines <---- send <-------------+
//!                          |
//!                       settle: index, timer, change
//! ```
//!
//! Whatever touches a machine ends in `settle`: the one place where outputs become messages and
//! events, timers are planned, changes noted and ended transactions removed.
//!
//! Invariant: every index entry and timer belongs to a transaction that exists.

use crate::id::{ClientId, ServerId, TransactionId};
use crate::invite_client::InviteClient;
use crate::invite_server::InviteServer;
use crate::machine::Output;
use crate::matching::{AckKey, MergeKey, ServerKey, source_of};
use crate::non_invite_client::NonInviteClient;
use crate::non_invite_server::NonInviteServer;
use crate::ports::{Config, Counters, Event, Transmit};
use crate::timing::Octets;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use tandem_sip::{Request, Response};
use tandem_types::{Dice, Flow, Instant};

/// All transactions of one server. See the crate's documentation.
#[derive(Debug)]
pub struct Stack {
    pub(crate) config: Config,
    pub(crate) dice: Dice,
    /// Makes To tags of answers without state: secret, and the same for a repeated request.
    pub(crate) tag_secret: u64,
    /// What our Via branches start with.
    pub(crate) branch_prefix: String,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    pub(crate) servers: BTreeMap<ServerId, Server>,
    pub(crate) by_key: BTreeMap<ServerKey, ServerId>,
    pub(crate) by_merge: BTreeMap<MergeKey, ServerId>,
    pub(crate) by_ack: BTreeMap<AckKey, ServerId>,
    pub(crate) by_flow: BTreeSet<(Flow, ClientId)>,
    pub(crate) per_source: BTreeMap<IpAddr, usize>,
    timers: BTreeSet<(Instant, TransactionId)>,
    pub(crate) changes: BTreeSet<TransactionId>,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
    /// When the second began in which `stateless` answers were given.
    pub(crate) second: Instant,
    pub(crate) stateless: u32,
}

/// One request of ours.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) flow: Flow,
    pub(crate) machine: ClientMachine,
    pub(crate) due: Option<Instant>,
    /// Whether the twin was told to keep a record.
    pub(crate) recorded: bool,
}

#[derive(Debug)]
pub(crate) enum ClientMachine {
    Invite(InviteClient),
    Other(NonInviteClient),
}

/// One request of somebody else.
#[derive(Debug)]
pub(crate) struct Server {
    /// How the request came.
    pub(crate) flow: Flow,
    /// Where responses go.
    pub(crate) reply: Flow,
    pub(crate) key: ServerKey,
    /// Set while another copy of the request would be a merged request.
    pub(crate) merge: Option<MergeKey>,
    /// Set while the ACK for the final response to an INVITE may come.
    pub(crate) ack: Option<AckKey>,
    /// The request as far as a response needs it; dropped with the final response.
    pub(crate) sketch: Option<Octets>,
    pub(crate) machine: ServerMachine,
    pub(crate) due: Option<Instant>,
    /// Whether the twin was told to keep a record.
    pub(crate) recorded: bool,
}

#[derive(Debug)]
pub(crate) enum ServerMachine {
    Invite(InviteServer),
    Other(NonInviteServer),
}

/// The message that is being handled, for [`Output::Deliver`].
#[derive(Debug)]
pub(crate) enum Subject {
    None,
    Response(Flow, Box<Response>),
    Ack(Flow, Box<Request>),
}

impl Stack {
    /// Without any transaction.
    pub fn new(config: Config, mut dice: Dice) -> Self {
        let drawn = dice.next_u64();
        let tag_secret = config.tag_secret.unwrap_or(drawn);
        let branch_prefix = crate::matching::branch_prefix(&config.server_name);
        Self {
            config,
            dice,
            tag_secret,
            branch_prefix,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_merge: BTreeMap::new(),
            by_ack: BTreeMap::new(),
            by_flow: BTreeSet::new(),
            per_source: BTreeMap::new(),
            timers: BTreeSet::new(),
            changes: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            second: Instant::ZERO,
            stateless: 0,
        }
    }

    /// The next message to send, oldest first.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing the transaction user must know, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many client and how many server transactions there are.
    pub fn transactions(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }

    /// When to call [`Self::handle_timeout`], if ever.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, id)) = self.timers.first().copied()
            && due <= now
        {
            let mut out = Vec::new();
            match id {
                TransactionId::Client(id) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.handle_timeout(now, &mut out);
                    }
                    self.settle_client(now, id, out, Subject::None);
                }
                TransactionId::Server(id) => {
                    if let Some(server) = self.servers.get_mut(&id) {
                        server.handle_timeout(now, &mut out);
                    }
                    self.settle_server(id, out, Subject::None);
                }
            }
        }
    }

    /// Nothing can be sent on this flow any more: refused, reset, closed. Requests of ours that
    /// wait on it fail; our answers stay, in case their requests come again (RFC 6026 §7.1).
    pub fn handle_flow_failed(&mut self, now: Instant, flow: Flow) {
        let first = ClientId { branch: 0, cancel: false };
        let ids = self.by_flow.range((flow, first)..).take_while(|(other, _)| *other == flow);
        for id in ids.map(|(_, id)| *id).collect::<Vec<_>>() {
            let mut out = Vec::new();
            if let Some(client) = self.clients.get_mut(&id) {
                match &mut client.machine {
                    ClientMachine::Invite(machine) => machine.handle_transport_error(&mut out),
                    ClientMachine::Other(machine) => machine.handle_transport_error(&mut out),
                }
            }
            self.settle_client(now, id, out, Subject::None);
        }
    }

    pub(crate) fn transmit(
        &mut self,
        flow: Flow,
        bytes: Octets,
        transaction: Option<TransactionId>,
        repeat: bool,
    ) {
        self.counters.repeats += u64::from(repeat);
        self.transmits.push_back(Transmit { flow, bytes: bytes.0, transaction, repeat });
    }

    pub(crate) fn insert_client(&mut self, id: ClientId, flow: Flow, machine: ClientMachine) {
        self.by_flow.insert((flow, id));
        self.clients.insert(id, Client { flow, machine, due: None, recorded: false });
    }

    pub(crate) fn insert_server(&mut self, id: ServerId, server: Server) {
        self.by_key.insert(server.key.clone(), id);
        self.by_merge.extend(server.merge.clone().map(|key| (key, id)));
        self.by_ack.extend(server.ack.clone().map(|key| (key, id)));
        *self.per_source.entry(source_of(server.flow)).or_default() += 1;
        self.servers.insert(id, server);
    }

    /// Ends the handling of one client transaction: see the module's documentation.
    pub(crate) fn settle_client(
        &mut self,
        now: Instant,
        id: ClientId,
        out: Vec<Output>,
        mut subject: Subject,
    ) {
        let Some(flow) = self.clients.get(&id).map(|client| client.flow) else { return };
        for output in out {
            match output {
                Output::Send { bytes, repeat } => {
                    self.transmit(flow, bytes, Some(id.into()), repeat);
                }
                Output::SendTo { flow, bytes, repeat } => {
                    // An answer that comes again on another connection: the first one is gone.
                    let flow = match &subject {
                        Subject::Response(came, _) if flow.transport.is_reliable() => *came,
                        Subject::Response(..) | Subject::Ack(..) | Subject::None => flow,
                    };
                    self.transmit(flow, bytes, Some(id.into()), repeat);
                }
                Output::Deliver => {
                    let Subject::Response(flow, response) =
                        std::mem::replace(&mut subject, Subject::None)
                    else {
                        continue;
                    };
                    // Nobody waits for the answer to a CANCEL.
                    if !id.cancel {
                        self.events.push_back(Event::Response { id, flow, response: *response });
                    }
                }
                Output::Cancel { request } => self.start_cancel(now, id, flow, &request.0),
                Output::Failed(reason) => {
                    self.counters.failed += 1;
                    if !id.cancel {
                        self.events.push_back(Event::Failed { id, reason });
                    }
                }
                Output::NoAck => {}
            }
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        let next = client.next_timeout();
        plan(&mut self.timers, &mut client.due, next, id.into());
        if client.is_over()
            && let Some(client) = self.clients.remove(&id)
        {
            plan(&mut self.timers, &mut { client.due }, None, id.into());
            self.by_flow.remove(&(client.flow, id));
            self.note_end(id.into(), client.recorded);
        }
    }

    /// Ends the handling of one server transaction: see the module's documentation.
    pub(crate) fn settle_server(&mut self, id: ServerId, out: Vec<Output>, mut subject: Subject) {
        let Some(reply) = self.servers.get(&id).map(|server| server.reply) else { return };
        for output in out {
            match output {
                Output::Send { bytes, repeat } => {
                    self.transmit(reply, bytes, Some(id.into()), repeat);
                }
                Output::Deliver => {
                    let Subject::Ack(flow, request) =
                        std::mem::replace(&mut subject, Subject::None)
                    else {
                        continue;
                    };
                    let request = *request;
                    self.events.push_back(Event::Ack { invite: Some(id), flow, request });
                }
                Output::NoAck => self.events.push_back(Event::NoAck { id }),
                Output::SendTo { .. } | Output::Cancel { .. } | Output::Failed(_) => {}
            }
        }
        let Some(server) = self.servers.get_mut(&id) else { return };
        let next = server.next_timeout();
        plan(&mut self.timers, &mut server.due, next, id.into());
        if server.is_over()
            && let Some(server) = self.servers.remove(&id)
        {
            plan(&mut self.timers, &mut { server.due }, None, id.into());
            self.by_key.remove(&server.key);
            self.by_merge.retain_not(server.merge.as_ref(), id);
            self.by_ack.retain_not(server.ack.as_ref(), id);
            self.leave_source(source_of(server.flow));
            self.note_end(id.into(), server.recorded);
        }
    }

    fn leave_source(&mut self, source: IpAddr) {
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    /// The twin must forget what it was told to keep, and need not hear of the rest.
    fn note_end(&mut self, id: TransactionId, recorded: bool) {
        if recorded {
            self.changes.insert(id);
        } else {
            self.changes.remove(&id);
        }
    }

    pub(crate) fn forget_all(&mut self) {
        self.clients.clear();
        self.servers.clear();
        self.by_key.clear();
        self.by_merge.clear();
        self.by_ack.clear();
        self.by_flow.clear();
        self.per_source.clear();
        self.timers.clear();
        self.changes.clear();
        self.transmits.clear();
        self.events.clear();
    }
}

/// Moves the timer of one transaction.
fn plan(
    timers: &mut BTreeSet<(Instant, TransactionId)>,
    due: &mut Option<Instant>,
    next: Option<Instant>,
    id: TransactionId,
) {
    if *due == next {
        return;
    }
    if let Some(old) = *due {
        timers.remove(&(old, id));
    }
    timers.extend(next.map(|next| (next, id)));
    *due = next;
}

/// Removes an index entry if it still leads to this transaction.
trait RetainNot<K> {
    fn retain_not(&mut self, key: Option<&K>, id: ServerId);
}

impl<K: Ord> RetainNot<K> for BTreeMap<K, ServerId> {
    fn retain_not(&mut self, key: Option<&K>, id: ServerId) {
        if let Some(key) = key
            && self.get(key) == Some(&id)
        {
            self.remove(key);
        }
    }
}

impl Client {
    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &mut self.machine {
            ClientMachine::Invite(machine) => machine.handle_timeout(now, out),
            ClientMachine::Other(machine) => machine.handle_timeout(now, out),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        match &self.machine {
            ClientMachine::Invite(machine) => machine.next_timeout(),
            ClientMachine::Other(machine) => machine.next_timeout(),
        }
    }

    fn is_over(&self) -> bool {
        match &self.machine {
            ClientMachine::Invite(machine) => machine.is_over(),
            ClientMachine::Other(machine) => machine.is_over(),
        }
    }
}

impl Server {
    pub(crate) fn new(flow: Flow, reply: Flow, key: ServerKey, machine: ServerMachine) -> Self {
        let (merge, ack, sketch, due) = (None, None, None, None);
        Self { flow, reply, key, merge, ack, sketch, machine, due, recorded: false }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle_timeout(now, out),
            ServerMachine::Other(machine) => machine.handle_timeout(now),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.next_timeout(),
            ServerMachine::Other(machine) => machine.next_timeout(),
        }
    }

    fn is_over(&self) -> bool {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.is_over(),
            ServerMachine::Other(machine) => machine.is_over(),
        }
    }
}
