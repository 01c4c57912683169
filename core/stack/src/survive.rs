//! What the twin must know of each transaction, and how it goes on from that.
//!
//! Invariant: a record holds time remaining, never a point in time; and a transaction restored
//! behaves as the original would, apart from sending its last message once more.

use crate::answer::reread;
use crate::id::{ClientId, ServerId, TransactionId};
use crate::invite_client::InviteClient;
use crate::invite_server::InviteServer;
use crate::machine::Output;
use crate::matching::{AckKey, Facts, MergeKey, ServerKey};
use crate::non_invite_client::NonInviteClient;
use crate::non_invite_server::NonInviteServer;
use crate::stack::{ClientMachine, Server, ServerMachine, Stack, Subject};
use crate::timing::Octets;
use crate::{invite_client, invite_server, non_invite_client, non_invite_server};
use serde::{Deserialize, Serialize};
use tandem_sip::{ContactValue, Message, Uri};
use tandem_types::{Duration, Flow, Instant};

/// One transaction as the twin keeps it. Plain data; its inside is this crate's affair.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checkpoint(Saved);

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum Saved {
    InviteClient(ClientId, Flow, invite_client::Saved),
    NonInviteClient(ClientId, Flow, non_invite_client::Saved),
    InviteServer(ServerId, SavedServer, invite_server::Saved),
    NonInviteServer(ServerId, SavedServer, non_invite_server::Saved),
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct SavedServer {
    flow: Flow,
    /// Where it is not where the request came from.
    reply: Option<Flow>,
    key: ServerKey,
    sketch: Option<Octets>,
}

impl Checkpoint {
    /// Whose it is.
    pub fn id(&self) -> TransactionId {
        match &self.0 {
            Saved::InviteClient(id, ..) | Saved::NonInviteClient(id, ..) => (*id).into(),
            Saved::InviteServer(id, ..) | Saved::NonInviteServer(id, ..) => (*id).into(),
        }
    }

    /// The server that wrote this is gone, with its own addresses and its connections. `home` gives
    /// a flow a local end that is ours. `find` says where the other side of a connection is reached
    /// now, from the address that it gave itself (RFC 3261 §18.2.2) and the connection.
    pub fn reroute(
        &mut self,
        home: impl Fn(Flow) -> Flow,
        mut find: impl FnMut(&Uri, Flow) -> Flow,
    ) {
        // The message is read where there was a connection only: that takes time.
        let mut reroute = |address: &dyn Fn() -> Option<Uri>, flow: &mut Flow| {
            *flow = home(*flow);
            if flow.transport.is_reliable()
                && let Some(address) = address()
            {
                *flow = find(&address, *flow);
            }
        };
        let (server, last) = match &mut self.0 {
            Saved::InviteClient(_, flow, saved) => {
                reroute(&|| saved.request().and_then(goal), flow);
                for (flow, ack) in saved.acks() {
                    reroute(&|| goal(ack), flow);
                }
                return;
            }
            Saved::NonInviteClient(_, flow, saved) => {
                reroute(&|| goal(saved.request()), flow);
                return;
            }
            Saved::InviteServer(_, server, saved) => (server, saved.response()),
            Saved::NonInviteServer(_, server, saved) => (server, saved.response()),
        };
        let mut reply = server.reply.unwrap_or(server.flow);
        reroute(&|| server.sketch.as_ref().or(last).and_then(sender), &mut reply);
        server.reply = (reply != server.flow).then_some(reply);
    }
}

/// Where a request of ours goes.
fn goal(request: &Octets) -> Option<Uri> {
    match reread(&request.0)? {
        Message::Request(request) => Some(request.uri),
        Message::Response(_) => None,
    }
}

/// Who sent a request: its Contact; of our answer, which has ours in that place, its Via.
fn sender(message: &Octets) -> Option<Uri> {
    let message = reread(&message.0)?;
    if let Message::Request(request) = &message
        && let Some(ContactValue::Addr(contact)) = request.headers.contacts().ok()?.first()
    {
        return Some(contact.uri.clone());
    }
    let via = message.headers().via().ok()?;
    Some(Uri::sip(None, &via.host, via.port))
}

impl Stack {
    /// The transactions whose record must be written or deleted since the last call, each once, in
    /// order. Repetitions and timers alone are no change.
    pub fn take_changes(&mut self) -> Vec<TransactionId> {
        let changed = std::mem::take(&mut self.changes);
        changed.into_iter().filter(|id| self.note_recorded(*id)).collect()
    }

    /// Whether the twin must hear of this change: not of what it never knew and need not know.
    fn note_recorded(&mut self, id: TransactionId) -> bool {
        let (recorded, keep) = match id {
            TransactionId::Client(id) => {
                let Some(client) = self.clients.get_mut(&id) else { return true };
                let keep = match &client.machine {
                    ClientMachine::Invite(machine) => machine.is_kept(),
                    ClientMachine::Other(machine) => machine.is_kept(),
                };
                (&mut client.recorded, keep)
            }
            TransactionId::Server(id) => {
                let Some(server) = self.servers.get_mut(&id) else { return true };
                let keep = match &server.machine {
                    ServerMachine::Invite(machine) => machine.is_kept(),
                    ServerMachine::Other(machine) => machine.is_kept(),
                };
                (&mut server.recorded, keep)
            }
        };
        std::mem::replace(recorded, keep) || keep
    }

    /// Whether there is such a transaction and the twin was told to keep a record of it.
    pub fn is_recorded(&self, id: &TransactionId) -> bool {
        match id {
            TransactionId::Client(id) => self.clients.get(id).is_some_and(|it| it.recorded),
            TransactionId::Server(id) => self.servers.get(id).is_some_and(|it| it.recorded),
        }
    }

    /// The record of a transaction; `None`: delete its record.
    pub fn checkpoint(&self, now: Instant, id: &TransactionId) -> Option<Checkpoint> {
        let saved = match id {
            TransactionId::Client(id) => {
                let client = self.clients.get(id)?;
                match &client.machine {
                    ClientMachine::Invite(machine) => {
                        Saved::InviteClient(*id, client.flow, machine.save(now)?)
                    }
                    ClientMachine::Other(machine) => {
                        Saved::NonInviteClient(*id, client.flow, machine.save(now)?)
                    }
                }
            }
            TransactionId::Server(id) => {
                let server = self.servers.get(id)?;
                match &server.machine {
                    ServerMachine::Invite(machine) => {
                        let saved = machine.save(now)?;
                        Saved::InviteServer(*id, SavedServer::of(server), saved)
                    }
                    ServerMachine::Other(machine) => {
                        let saved = machine.save(now)?;
                        Saved::NonInviteServer(*id, SavedServer::of(server), saved)
                    }
                }
            }
        };
        Some(Checkpoint(saved))
    }

    /// Goes on with a transaction of the twin's, which wrote this record `age` ago. What may be
    /// lost with the twin is sent again at once: a request without any answer, a final response.
    /// A transaction that is already here is left alone.
    pub fn restore(&mut self, now: Instant, checkpoint: Checkpoint, age: Duration) {
        let mut out = Vec::new();
        match checkpoint.0 {
            Saved::InviteClient(id, flow, saved) => {
                let reliable = flow.transport.is_reliable();
                let machine = InviteClient::restore(now, reliable, saved, age, &mut out);
                self.restore_client(now, id, flow, ClientMachine::Invite(machine), out);
            }
            Saved::NonInviteClient(id, flow, saved) => {
                let reliable = flow.transport.is_reliable();
                let machine = NonInviteClient::restore(now, reliable, saved, age, &mut out);
                self.restore_client(now, id, flow, ClientMachine::Other(machine), out);
            }
            Saved::InviteServer(id, server, saved) => {
                let reliable = server.flow.transport.is_reliable();
                let last = saved.response().cloned();
                let machine = InviteServer::restore(now, reliable, saved, age, &mut out);
                self.restore_server(id, server, ServerMachine::Invite(machine), last, out);
            }
            Saved::NonInviteServer(id, server, saved) => {
                let reliable = server.flow.transport.is_reliable();
                let last = saved.response().cloned();
                let machine = NonInviteServer::restore(now, reliable, saved, age, &mut out);
                self.restore_server(id, server, ServerMachine::Other(machine), last, out);
            }
        }
    }

    fn restore_client(
        &mut self,
        now: Instant,
        id: ClientId,
        flow: Flow,
        machine: ClientMachine,
        out: Vec<Output>,
    ) {
        if self.clients.contains_key(&id) {
            return;
        }
        self.insert_client(id, flow, machine);
        if let Some(client) = self.clients.get_mut(&id) {
            client.recorded = true;
        }
        self.settle_client(now, id, out, Subject::None);
    }

    fn restore_server(
        &mut self,
        id: ServerId,
        saved: SavedServer,
        machine: ServerMachine,
        last: Option<Octets>,
        out: Vec<Output>,
    ) {
        if self.servers.contains_key(&id) || self.by_key.contains_key(&saved.key) {
            return;
        }
        let reply = saved.reply.unwrap_or(saved.flow);
        let (merge, ack) = index_keys(saved.sketch.as_ref(), last.as_ref(), &machine);
        let server = Server {
            merge,
            ack,
            sketch: saved.sketch,
            recorded: true,
            ..Server::new(saved.flow, reply, saved.key, machine)
        };
        self.insert_server(id, server);
        self.settle_server(id, out, Subject::None);
    }

    /// Forgets everything without sending, as when the role is lost. Counters stay.
    pub fn clear(&mut self) {
        self.forget_all();
    }
}

/// The keys that records leave out, because the messages in them tell: the one for merged requests
/// until the request is answered (an INVITE: refused), the one for the ACK after an INVITE's final response.
fn index_keys(
    sketch: Option<&Octets>,
    last: Option<&Octets>,
    machine: &ServerMachine,
) -> (Option<MergeKey>, Option<AckKey>) {
    // Most of what is taken over is long answered and waits only for a repetition, which its branch
    // tells: reading each of those messages would be half of the time of a takeover.
    let invites = matches!(machine, ServerMachine::Invite(_));
    let answered = !invites && sketch.is_none();
    let message = sketch.or(last).filter(|_| !answered).and_then(|bytes| reread(&bytes.0));
    let Some((message, facts)) = message.and_then(|message| {
        let facts = Facts::of(message.headers())?;
        Some((message, facts))
    }) else {
        return (None, None);
    };
    match message {
        Message::Request(_) => (facts.to_tag.is_none().then(|| MergeKey::new(&facts)), None),
        Message::Response(response) if !response.is_success() => {
            (None, invites.then(|| AckKey::of_refused(&facts)))
        }
        Message::Response(_) => {
            let ack = invites.then(|| AckKey::new(&facts));
            // Whether the request had a To tag is not known; a key too many does no harm, for no
            // request without a To tag shares it.
            (Some(MergeKey::new(&facts)), ack)
        }
    }
}

impl SavedServer {
    fn of(server: &Server) -> Self {
        Self {
            flow: server.flow,
            reply: (server.reply != server.flow).then_some(server.reply),
            key: server.key.clone(),
            sketch: server.sketch.clone(),
        }
    }
}
