//! What the transaction user asks for: requests, responses, CANCEL, the ACK for a 2xx.

use crate::answer::{MAX_FORWARDS, complete_to, make_cancel, reread};
use crate::id::{ClientId, ServerId};
use crate::invite_client::InviteClient;
use crate::machine::{Class, FailReason, RespondError};
use crate::matching::{AckKey, Facts, branch};
use crate::non_invite_client::NonInviteClient;
use crate::ports::Event;
use crate::stack::{ClientMachine, ServerMachine, Stack, Subject};
use crate::timing::Octets;
use tandem_sip::{HeaderName, Message, Method, Request, Response};
use tandem_types::{Flow, Instant};

impl Stack {
    /// Sends a request other than ACK and CANCEL and waits for its responses. A Via is added, and
    /// Max-Forwards where there is none. Beyond [`crate::Config::clients`] nothing is sent and
    /// [`Event::Failed`] follows.
    pub fn request(&mut self, now: Instant, flow: Flow, mut request: Request) -> ClientId {
        let id = self.fresh_client_id();
        if self.clients.len() >= self.config.clients {
            self.counters.over_limit += 1;
            self.events.push_back(Event::Failed { id, reason: FailReason::Transport });
            return id;
        }
        self.add_via(&mut request, flow, id);
        let bytes = Octets::from(request.to_bytes());
        let reliable = flow.transport.is_reliable();
        let mut out = Vec::new();
        let machine = if request.method == Method::Invite {
            ClientMachine::Invite(InviteClient::new(now, reliable, bytes, &mut out))
        } else {
            ClientMachine::Other(NonInviteClient::new(now, reliable, bytes, &mut out))
        };
        self.start_client(now, id, flow, machine, out);
        id
    }

    fn start_client(
        &mut self,
        now: Instant,
        id: ClientId,
        flow: Flow,
        machine: ClientMachine,
        out: Vec<crate::machine::Output>,
    ) {
        self.counters.sent_requests += 1;
        self.insert_client(id, flow, machine);
        self.changes.insert(id.into());
        self.settle_client(now, id, out, Subject::None);
    }

    fn fresh_client_id(&mut self) -> ClientId {
        loop {
            let id = ClientId { branch: self.dice.next_u64(), cancel: false };
            if !self.clients.contains_key(&id) {
                return id;
            }
        }
    }

    fn add_via(&self, request: &mut Request, flow: Flow, id: ClientId) {
        let token = flow.transport.via_token();
        let branch = branch(&self.branch_prefix, id);
        let via = format!("SIP/2.0/{token} {};rport;branch={branch}", flow.local);
        if !request.headers.contains(&HeaderName::MaxForwards) {
            request.headers.push_front(HeaderName::MaxForwards, MAX_FORWARDS);
        }
        request.headers.push_front(HeaderName::Via, via);
    }

    /// What is still to be sent for a request of ours goes here from now on.
    pub fn move_request(&mut self, id: &ClientId, flow: Flow) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let old = std::mem::replace(&mut client.flow, flow);
        if old != flow {
            self.by_flow.remove(&(old, *id));
            self.by_flow.insert((flow, *id));
            self.changes.insert((*id).into());
        }
    }

    /// Gives up an INVITE: CANCEL is sent as soon as a provisional response is there (RFC 3261
    /// §9.1). The final response, usually 487, still comes as an event; where none comes within
    /// 64*T1, [`Event::Failed`].
    pub fn cancel(&mut self, now: Instant, id: &ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let ClientMachine::Invite(machine) = &mut client.machine else { return };
        let mut out = Vec::new();
        if machine.cancel(now, &mut out) {
            self.changes.insert((*id).into());
        }
        self.settle_client(now, *id, out, Subject::None);
    }

    /// Starts the CANCEL of the INVITE `invite`, whose bytes are `request`.
    pub(crate) fn start_cancel(
        &mut self,
        now: Instant,
        invite: ClientId,
        flow: Flow,
        request: &[u8],
    ) {
        let id = ClientId { cancel: true, ..invite };
        let Some(bytes) = make_cancel(request) else { return };
        if self.clients.contains_key(&id) {
            return;
        }
        let mut out = Vec::new();
        let reliable = flow.transport.is_reliable();
        let machine = NonInviteClient::new(now, reliable, bytes, &mut out);
        self.start_client(now, id, flow, ClientMachine::Other(machine), out);
    }

    /// Sends the ACK for a 2xx, with a Via of its own, and keeps it: it is sent again when that 2xx
    /// comes again. Which 2xx is meant is seen from the To tag.
    pub fn acknowledge(&mut self, now: Instant, id: &ClientId, flow: Flow, mut ack: Request) {
        let own = self.fresh_client_id();
        self.add_via(&mut ack, flow, own);
        let bytes = Octets::from(ack.to_bytes());
        let to = ack.headers.to().ok();
        let to_tag = to.as_ref().and_then(|to| to.tag()).unwrap_or_default();
        if let Some(client) = self.clients.get_mut(id)
            && let ClientMachine::Invite(machine) = &mut client.machine
            && machine.acknowledge(to_tag, flow, &bytes)
        {
            self.changes.insert((*id).into());
        }
        self.transmit(flow, bytes, Some((*id).into()), false);
        self.settle_client(now, *id, Vec::new(), Subject::None);
    }

    /// Answers a request. A To tag is added where one must be and is none; nothing else.
    ///
    /// # Errors
    ///
    /// The response is not sent when the transaction has ended, or was answered for good before.
    pub fn respond(
        &mut self,
        now: Instant,
        id: &ServerId,
        mut response: Response,
    ) -> Result<(), RespondError> {
        let class = Class::of(response.status).ok_or(RespondError::BadStatus)?;
        let server = self.servers.get_mut(id).ok_or(RespondError::Unknown)?;
        match &server.machine {
            ServerMachine::Invite(machine) => machine.may_respond()?,
            ServerMachine::Other(machine) => machine.may_respond()?,
        }
        complete_to(&mut response, self.tag_secret);
        let bytes = Octets::from(response.to_bytes());
        let mut out = Vec::new();
        match &mut server.machine {
            ServerMachine::Invite(machine) => machine.respond(now, class, bytes, &mut out),
            ServerMachine::Other(machine) => machine.respond(now, class, bytes, &mut out),
        }
        if class != Class::Provisional {
            server.sketch = None;
        }
        if class == Class::Failure {
            // What was refused had no effect: another copy may be tried again.
            self.drop_merge(*id);
        }
        if class != Class::Provisional {
            self.expect_ack(*id, class, &response);
        }
        self.changes.insert((*id).into());
        self.settle_server(*id, out, Subject::None);
        Ok(())
    }

    fn expect_ack(&mut self, id: ServerId, class: Class, response: &Response) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if let ServerMachine::Invite(_) = server.machine
            && let Some(facts) = Facts::of(&response.headers)
        {
            let key = match class {
                Class::Success => AckKey::new(&facts),
                Class::Provisional | Class::Failure => AckKey::of_refused(&facts),
            };
            server.ack = Some(key.clone());
            self.by_ack.insert(key, id);
        }
    }

    /// The request of a server transaction that has no final response yet, and how it came: to
    /// answer it after a takeover. Only headers that matter for a response are kept, and no body.
    pub fn server_request(&self, id: &ServerId) -> Option<(Flow, Request)> {
        let server = self.servers.get(id)?;
        match reread(&server.sketch.as_ref()?.0)? {
            Message::Request(request) => Some((server.flow, request)),
            Message::Response(_) => None,
        }
    }
}
