//! What comes in: which transaction it belongs to, and what is answered without one.
//!
//! ```text
//!  request --> ACK? --> its INVITE, or the transaction user
//!          --> known? --> repeat the answer
//!          --> CANCEL? --> 200 or 481
//!          --> merged or looped? 482 --> no forwards left? 483 --> over a limit? 503
//!          --> new transaction --> transaction user
//! ```
//!
//! Invariant: one message gives at most one new transaction (a CANCEL's), one event and two
//! messages to send.

use crate::answer::{complete_to, complete_via, make_ack, make_response, reply_flow, sketch};
use crate::id::ServerId;
use crate::invite_server::InviteServer;
use crate::machine::Class;
use crate::matching::{AckKey, Facts, MergeKey, ServerKey, is_looped, parse_branch, source_of};
use crate::non_invite_server::NonInviteServer;
use crate::ports::{Event, RETRY_AFTER};
use crate::stack::{ClientMachine, Server, ServerMachine, Stack, Subject};
use crate::timing::Octets;
use tandem_sip::{
    Carrier, HeaderName, Message, Method, ParseError, ParseErrorKind, Request, Response,
};
use tandem_types::{Duration, Flow, Instant, Transport};

/// A request that is being sorted.
struct Incoming {
    now: Instant,
    flow: Flow,
    reply: Flow,
    request: Request,
    facts: Facts,
}

impl Stack {
    /// Takes one datagram, or one message cut from a stream by [`crate::Framer`].
    pub fn handle_bytes(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        self.counters.received += 1;
        let carrier = match flow.transport {
            Transport::Udp => Carrier::Datagram,
            Transport::Tcp => Carrier::Stream,
        };
        match Message::parse(bytes, carrier, &self.config.limits) {
            Ok(Message::Request(request)) => self.receive_request(now, flow, request),
            Ok(Message::Response(response)) => self.receive_response(now, flow, response),
            Err(error) if error.kind == ParseErrorKind::KeepAlive => self.counters.keep_alives += 1,
            Err(error) => self.receive_malformed(now, flow, error),
        }
    }

    fn receive_malformed(&mut self, now: Instant, flow: Flow, error: ParseError) {
        self.counters.malformed += 1;
        let (Some(status), Some(mut request)) = (error.status, error.partial) else { return };
        let Ok(via) = request.headers.via() else { return };
        complete_via(&mut request.headers, &via, flow.remote);
        let response = make_response(&request, status, Some(error.what));
        self.answer_stateless(now, reply_flow(flow, &via), response);
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let Some(facts) = Facts::of(&request.headers) else {
            self.counters.malformed += 1;
            return;
        };
        complete_via(&mut request.headers, &facts.via, flow.remote);
        let reply = reply_flow(flow, &facts.via);
        let incoming = Incoming { now, flow, reply, request, facts };
        if incoming.request.method == Method::Ack {
            return self.receive_ack(incoming);
        }
        let key = incoming.key(&incoming.request.method);
        if let Some(id) = self.by_key.get(&key).copied() {
            return self.receive_again(id);
        }
        if incoming.request.method == Method::Cancel {
            return self.receive_cancel(incoming, key);
        }
        match self.refusal(&incoming) {
            Some(response) => self.answer_stateless(now, reply, response),
            None => self.receive_new(incoming, key),
        }
    }

    fn receive_new(&mut self, incoming: Incoming, key: ServerKey) {
        let Incoming { flow, request, facts, .. } = &incoming;
        let reliable = flow.transport.is_reliable();
        let machine = if request.method == Method::Invite {
            ServerMachine::Invite(InviteServer::new(reliable))
        } else {
            ServerMachine::Other(NonInviteServer::new(reliable))
        };
        let server = Server {
            // Within a dialog the dialog's own order tells copies apart.
            merge: facts.to_tag.is_none().then(|| MergeKey::new(facts)),
            sketch: Some(sketch(request)),
            ..Server::new(*flow, incoming.reply, key, machine)
        };
        let id = self.start_server(server);
        let Incoming { flow, request, .. } = incoming;
        self.events.push_back(Event::Request { id, flow, request });
    }

    fn start_server(&mut self, server: Server) -> ServerId {
        let id = loop {
            let id = ServerId(self.dice.next_u64());
            if !self.servers.contains_key(&id) {
                break id;
            }
        };
        self.counters.requests += 1;
        self.insert_server(id, server);
        self.changes.insert(id.into());
        id
    }

    fn receive_again(&mut self, id: ServerId) {
        self.counters.repeated_requests += 1;
        let mut out = Vec::new();
        match self.servers.get(&id).map(|server| &server.machine) {
            Some(ServerMachine::Invite(machine)) => machine.handle_retransmission(&mut out),
            Some(ServerMachine::Other(machine)) => machine.handle_retransmission(&mut out),
            None => {}
        }
        self.settle_server(id, out, Subject::None);
    }

    fn receive_ack(&mut self, incoming: Incoming) {
        let key = incoming.key(&Method::Invite);
        let known = self.by_key.get(&key);
        let known = known.or_else(|| self.by_ack.get(&AckKey::new(&incoming.facts)));
        let known = known.or_else(|| self.by_ack.get(&AckKey::of_refused(&incoming.facts)));
        let Incoming { now, flow, request, facts, .. } = incoming;
        let Some(id) = known.copied() else {
            self.counters.stray_acks += 1;
            // Without a To tag it acknowledges nothing that anybody could know.
            if facts.to_tag.is_some() {
                self.events.push_back(Event::Ack { invite: None, flow, request });
            }
            return;
        };
        let mut out = Vec::new();
        if let Some(server) = self.servers.get_mut(&id)
            && let ServerMachine::Invite(machine) = &mut server.machine
            && machine.handle_ack(now, &mut out)
        {
            self.changes.insert(id.into());
        }
        self.settle_server(id, out, Subject::Ack(flow, Box::new(request)));
    }

    /// Answers the CANCEL in any case; it has an effect only before the INVITE's final response
    /// (RFC 3261 §9.2).
    fn receive_cancel(&mut self, incoming: Incoming, key: ServerKey) {
        let Incoming { now, flow, reply, ref request, .. } = incoming;
        let Some(invite) = self.by_key.get(&incoming.key(&Method::Invite)).copied() else {
            let response = make_response(request, 481, None);
            return self.answer_stateless(now, reply, response);
        };
        let machine = ServerMachine::Other(NonInviteServer::new(flow.transport.is_reliable()));
        let id = self.start_server(Server::new(flow, reply, key, machine));
        // Cannot fail: the transaction was started just now.
        let _ = self.respond(now, &id, make_response(request, 200, None));
        if let Some(server) = self.servers.get(&invite)
            && let ServerMachine::Invite(machine) = &server.machine
            && machine.may_respond().is_ok()
        {
            self.events.push_back(Event::Cancelled { invite, cancel: id });
        }
    }

    /// The answer to a request that must not get a transaction.
    fn refusal(&mut self, incoming: &Incoming) -> Option<Response> {
        let Incoming { flow, request, facts, .. } = incoming;
        let answer = |status, reason| Some(make_response(request, status, reason));
        if facts.to_tag.is_none() {
            if self.by_merge.contains_key(&MergeKey::new(facts)) {
                return answer(482, Some("Merged Request"));
            }
            if is_looped(&self.branch_prefix, *flow, request) {
                return answer(482, None);
            }
            // REGISTER and OPTIONS end here, so they need not be passed on (RFC 3261 §11.2).
            let passed_on = ![Method::Register, Method::Options].contains(&request.method);
            if passed_on && request.headers.max_forwards() == Ok(Some(0)) {
                return answer(483, None);
            }
        }
        let held = self.per_source.get(&source_of(*flow)).copied().unwrap_or_default();
        if held >= self.config.per_source || self.servers.len() >= self.config.servers {
            self.counters.over_limit += 1;
            let wait = RETRY_AFTER.as_secs().to_string();
            return answer(503, None).map(|full| full.with(HeaderName::RetryAfter, wait));
        }
        None
    }

    /// Answers without keeping anything, as long as there are not too many such answers.
    fn answer_stateless(&mut self, now: Instant, reply: Flow, mut response: Response) {
        if self.second.elapsed_until(now) >= Duration::from_secs(1) {
            self.second = now;
            self.stateless = 0;
        }
        if self.stateless >= self.config.stateless_per_second {
            self.counters.dropped += 1;
            return;
        }
        self.stateless += 1;
        self.counters.stateless_answers += 1;
        complete_to(&mut response, self.tag_secret);
        self.transmit(reply, Octets::from(response.to_bytes()), None, false);
    }

    fn receive_response(&mut self, now: Instant, flow: Flow, response: Response) {
        let known = self.match_response(&response);
        let (Some((id, facts)), Some(class)) = (known, Class::of(response.status)) else {
            self.counters.stray_responses += 1;
            return;
        };
        let mut out = Vec::new();
        let to_tag = facts.to_tag.unwrap_or_default();
        let changed = match self.clients.get_mut(&id).map(|client| &mut client.machine) {
            Some(ClientMachine::Invite(machine)) => {
                let make_ack = |invite: &[u8]| make_ack(invite, &response);
                machine.handle_response(now, class, &to_tag, make_ack, &mut out)
            }
            Some(ClientMachine::Other(machine)) => machine.handle_response(now, class, &mut out),
            None => false,
        };
        if changed {
            self.changes.insert(id.into());
        }
        self.settle_client(now, id, out, Subject::Response(flow, Box::new(response)));
    }

    /// RFC 3261 §17.1.3 and §8.1.3.3: the one Via is ours, its branch and the method match.
    fn match_response(&self, response: &Response) -> Option<(crate::ClientId, Facts)> {
        let facts = Facts::of(&response.headers)?;
        let alone = response.headers.values(&HeaderName::Via).nth(1).is_none();
        let branch = facts.via.branch().filter(|_| alone)?;
        let id = parse_branch(&self.branch_prefix, branch, &facts.method)?;
        let is_invite = match self.clients.get(&id)?.machine {
            ClientMachine::Invite(_) => true,
            ClientMachine::Other(_) => false,
        };
        (is_invite == (facts.method == Method::Invite)).then_some((id, facts))
    }

    /// From now on another copy of this request is a new request.
    pub(crate) fn drop_merge(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get_mut(&id)
            && let Some(key) = server.merge.take()
        {
            self.by_merge.remove(&key);
        }
    }
}

impl Incoming {
    fn key(&self, method: &Method) -> ServerKey {
        ServerKey::new(&self.request.uri, &self.facts, method)
    }
}
