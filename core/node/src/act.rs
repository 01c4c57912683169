//! Does what a call says: turns its outputs into requests and responses.

use tandem_call::{Call, Input, LegId, Output as Say, Passing, RequestId, Side};
use tandem_journal::Class;
use tandem_sip::{HeaderName, Headers, Method, Request, Response};
use tandem_stack::{Dialog, make_response};
use tandem_types::{Flow, Instant};

use crate::facts::Fact;
use crate::live::{Live, Port, Purpose, ends_with_response, head};
use crate::node::Node;
use crate::outbox::Promise;
use crate::record;
use crate::talk::{self, apply, contact};

impl Node {
    /// Something happened to a call: tell it, and do what it says.
    pub(crate) fn tell(&mut self, now: Instant, key: &str, input: Input) {
        let wall = self.wall(now);
        let Some(live) = self.calls.get_mut(key) else { return };
        live.call.handle(now, wall, input);
        self.listen(now, key);
    }

    /// The call's time has come.
    pub(crate) fn call_timeout(&mut self, now: Instant, key: &str) {
        let wall = self.wall(now);
        let Some(live) = self.calls.get_mut(key) else { return };
        live.call.handle_timeout(now, wall);
        self.listen(now, key);
    }

    /// Does everything a call says.
    pub(crate) fn listen(&mut self, now: Instant, key: &str) {
        while let Some(say) = self.calls.get_mut(key).and_then(|live| live.call.poll_output()) {
            match say {
                Say::Cancel(leg) => self.cancel_leg(now, key, leg),
                Say::Ack { leg, request, passing } => {
                    self.send_ack(now, key, leg, request, passing)
                }
                Say::ByeAfterAck { leg, passing } => {
                    if let Some(live) = self.calls.get_mut(key) {
                        live.ties.farewell = Some((leg, passing));
                    }
                }
                Say::CancelRequest { request } => self.cancel_request(now, key, request),
                Say::Bye { leg, side, passing } => self.send_bye(now, key, leg, side, passing),
                Say::Progress { leg, status, passing } => {
                    self.answer_caller(now, key, leg, status, passing);
                }
                Say::Answer { leg, passing } => {
                    self.note_answer(key, leg);
                    self.answer_caller(now, key, leg, 200, passing);
                }
                Say::Refuse { status, cause, passing } => {
                    self.refuse_caller(now, key, status, cause, passing);
                }
                Say::Request { leg, side, request, method, passing } => {
                    self.pass_request(now, key, leg, side, request, talk::method(method), passing);
                }
                Say::Respond { request, status, passing } => {
                    self.pass_response(now, key, request, status, passing);
                }
                Say::Ended => self.calls.note_over(key),
            }
        }
        self.calls.touch(key);
    }

    /// Calls that ended with this input: their records are closed, once.
    pub(crate) fn note_ended_calls(&mut self) {
        for key in self.calls.take_over() {
            let Some(live) = self.calls.get_mut(&key) else { continue };
            if core::mem::replace(&mut live.recorded, true) {
                continue;
            }
            let cdr = live.call.cdr().clone();
            let events = live.ties.events(live.call.trail().clone());
            let outcome = cdr.outcome.map_or_else(String::new, |outcome| format!("{outcome:?}"));
            let talk_seconds = cdr.talk_seconds();
            self.change(Class::Log, record::cdr_key(&key), Some(record::encode(&cdr)));
            self.change(Class::Log, record::events_key(&key), Some(record::encode(&events)));
            self.calls.note_closed(&key);
            self.fact(Fact::CallEnded { call: key, outcome, talk_seconds });
        }
    }

    fn note_answer(&mut self, key: &str, leg: LegId) {
        if let Some(live) = self.calls.get_mut(key)
            && let Some(port) = live.ties.ports.get(&leg)
        {
            let device = format!("{} {}", port.uri, port.flow);
            live.call.set_destination_device(device);
        }
        self.fact(Fact::CallAnswered { call: key.to_owned() });
    }

    fn cancel_leg(&mut self, now: Instant, key: &str, leg: LegId) {
        let port = self.calls.get(key).and_then(|live| live.ties.ports.get(&leg));
        if let Some(Port { uri, flow, invite, .. }) = port {
            let (invite, flow) = (*invite, self.reach(uri, *flow));
            self.stack.move_request(&invite, flow);
            self.stack.cancel(now, &invite);
        }
    }

    fn cancel_request(&mut self, now: Instant, key: &str, request: RequestId) {
        let through = self.calls.get(key).and_then(|live| live.ties.through.get(&request));
        if let Some((client, ..)) = through.and_then(|through| through.sent) {
            self.stack.cancel(now, &client);
        }
    }

    /// The caller's ACK is there, or given up: a BYE that waited for it leaves.
    pub(crate) fn say_farewell(&mut self, now: Instant, key: &str) {
        let Some(live) = self.calls.get_mut(key) else { return };
        if let Some((leg, passing)) = live.ties.farewell.take() {
            self.send_bye(now, key, leg, Side::Near, passing);
            self.calls.touch(key);
        }
    }

    fn send_ack(
        &mut self,
        now: Instant,
        key: &str,
        leg: LegId,
        request: Option<RequestId>,
        passing: Passing,
    ) {
        let Some(live) = self.calls.get_mut(key) else { return };
        let through = request.and_then(|request| live.ties.through.remove(&request));
        let Some(port) = live.ties.ports.get_mut(&leg) else { return };
        let (id, side, cseq) = match through.and_then(|through| through.sent) {
            Some(sent) => sent,
            None if request.is_none() => {
                let Ok((cseq, _)) = port.request.headers.cseq() else { return };
                (port.invite, Side::Far, cseq)
            }
            None => return,
        };
        let seen = flow_of(&live.ties.flow, port, side);
        let Some(dialog) = port.dialog(side) else { return };
        let (mut ack, next) = (dialog.make_ack(cseq), dialog.next_hop().clone());
        let flow = self.reach(&next, seen);
        apply(&mut ack.headers, &mut ack.body, passing);
        self.stack.acknowledge(now, &id, flow, ack);
    }

    fn send_bye(&mut self, now: Instant, key: &str, leg: LegId, side: Side, passing: Passing) {
        let Some((mut request, flow)) = self.dialog_request(key, leg, side, Method::Bye) else {
            return;
        };
        apply(&mut request.headers, &mut request.body, passing);
        let id = self.stack.request(now, flow, request);
        self.calls.tie(id, key, Purpose::Farewell);
    }

    /// A request in the dialog of a leg, and where it goes.
    fn dialog_request(
        &mut self,
        key: &str,
        leg: LegId,
        side: Side,
        method: Method,
    ) -> Option<(Request, Flow)> {
        let live = self.calls.get_mut(key)?;
        let port = live.ties.ports.get_mut(&leg)?;
        let seen = flow_of(&live.ties.flow, port, side);
        let user = match side {
            Side::Near => live.ties.dialled.clone(),
            Side::Far => live.ties.caller.clone(),
        };
        let dialog = port.dialog(side)?;
        let refreshes = matches!(method, Method::Invite | Method::Update);
        let (mut request, next) = (dialog.make_request(method), dialog.next_hop().clone());
        let flow = self.reach(&next, seen);
        if refreshes {
            request.headers.push(HeaderName::Contact, contact(&user, flow));
            request.headers.push(HeaderName::Allow, talk::ALLOW);
        }
        request.headers.push(HeaderName::UserAgent, talk::PRODUCT);
        Some((request, flow))
    }

    #[expect(clippy::too_many_arguments, reason = "one argument a field of the call's output")]
    fn pass_request(
        &mut self,
        now: Instant,
        key: &str,
        leg: LegId,
        side: Side,
        id: RequestId,
        method: Method,
        passing: Passing,
    ) {
        let Some((mut request, flow)) = self.dialog_request(key, leg, side, method) else {
            let passing = Passing::default();
            self.tell_later(now, key, Input::Responded { request: id, status: 500, passing });
            return;
        };
        apply(&mut request.headers, &mut request.body, passing);
        self.map_rack(key, side, &mut request.headers);
        let cseq = request.headers.cseq().map_or(0, |(cseq, _)| cseq);
        let client = self.stack.request(now, flow, request);
        self.calls.tie(client, key, Purpose::Through(id));
        if let Some(live) = self.calls.get_mut(key) {
            let blank = crate::live::Through { leg, received: None, sent: None };
            let through = live.ties.through.entry(id).or_insert(blank);
            through.sent = Some((client, side, cseq));
        }
    }

    /// A PRACK names the INVITE by its CSeq number (RFC 3262 §7.2), which is another one on the
    /// other side where it is a re-INVITE. (The first INVITE has the caller's number on both.)
    fn map_rack(&self, key: &str, to: Side, headers: &mut Headers) {
        let Ok((rseq, cseq, method)) = headers.rack() else { return };
        let Some(live) = self.calls.get(key) else { return };
        let sent = live.ties.through.values().find_map(|through| {
            let (_, from, received) = through.received.as_ref()?;
            let (number, kind) = received.headers.cseq().ok()?;
            let (_, side, sent) = through.sent?;
            (kind == Method::Invite && number == cseq && *from == to.other() && side == to)
                .then_some(sent)
        });
        if let Some(sent) = sent {
            headers.set(HeaderName::RAck, format!("{rseq} {sent} {method}"));
        }
    }

    fn pass_response(
        &mut self,
        now: Instant,
        key: &str,
        id: RequestId,
        status: u16,
        passing: Passing,
    ) {
        let Some(live) = self.calls.get_mut(key) else { return };
        let Some(through) = live.ties.through.get(&id) else { return };
        let Some((server, side, request)) = through.received.clone() else { return };
        let user = match side {
            Side::Near => &live.ties.dialled,
            Side::Far => &live.ties.caller,
        };
        let seen = match live.ties.ports.get(&through.leg) {
            Some(port) => flow_of(&live.ties.flow, port, side),
            None => live.ties.flow,
        };
        let mut response = make_response(&request, status, None);
        if status < 300 && matches!(request.method, Method::Invite | Method::Update) {
            response.headers.push(HeaderName::Contact, contact(user, seen));
        }
        if request.method == Method::Options {
            response.headers.push(HeaderName::Allow, talk::ALLOW);
        }
        let says_when = passing.headers.iter().any(|(name, _)| name == "Retry-After");
        if status == 500 && !says_when {
            // RFC 3261 §14.2: an INVITE while another is open.
            response.headers.push(HeaderName::RetryAfter, "2");
        }
        apply(&mut response.headers, &mut response.body, passing);
        if status >= 300 || (status >= 200 && ends_with_response(&request.method)) {
            live.ties.through.remove(&id);
        }
        self.answer(now, &server, response);
    }

    /// A response to the caller's INVITE, in the dialog of this leg.
    fn answer_caller(
        &mut self,
        now: Instant,
        key: &str,
        leg: LegId,
        status: u16,
        passing: Passing,
    ) {
        let Some(live) = self.calls.get_mut(key) else { return };
        let flow = live.ties.flow;
        let Some(port) = live.ties.ports.get_mut(&leg) else { return };
        let mut response = make_response(&live.ties.request, status, None);
        if let Ok(to) = response.headers.to() {
            response.headers.set(HeaderName::To, to.with_tag(port.near_tag.as_bytes()));
        }
        response.headers.push(HeaderName::Contact, contact(&live.ties.dialled, flow));
        response.headers.push(HeaderName::Allow, talk::ALLOW);
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        apply(&mut response.headers, &mut response.body, passing);
        let mut name = None;
        if port.near.is_none()
            && let Ok(dialog) = Dialog::uas(&live.ties.request, &port.near_tag)
        {
            name = Some(dialog.id.clone());
            port.near = Some(dialog);
        }
        let invite = live.ties.invite;
        if let Some(name) = name {
            self.calls.name_dialog(name, key, leg, Side::Near);
        }
        if status >= 200 {
            self.promises(Promise::Final);
        }
        self.answer(now, &invite, response);
    }

    fn refuse_caller(&mut self, now: Instant, key: &str, status: u16, cause: u8, passing: Passing) {
        let Some(live) = self.calls.get_mut(key) else { return };
        let mut response = make_response(&live.ties.request, status, None);
        apply(&mut response.headers, &mut response.body, passing);
        if !response.headers.contains(&HeaderName::Reason) {
            response.headers.push(HeaderName::Reason, format!("Q.850;cause={cause}"));
        }
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        let invite = live.ties.invite;
        self.promises(Promise::Final);
        self.answer(now, &invite, response);
    }

    /// Answers a request; an answer that comes too late is dropped, as the RFC says.
    pub(crate) fn answer(&mut self, now: Instant, id: &tandem_stack::ServerId, response: Response) {
        // The only errors: answered before, or gone. Neither leaves anything to do.
        let _ = self.stack.respond(now, id, response);
    }

    fn tell_later(&mut self, now: Instant, key: &str, input: Input) {
        let wall = self.wall(now);
        if let Some(live) = self.calls.get_mut(key) {
            live.call.handle(now, wall, input);
        }
    }

    /// Our INVITE to one device, and what belongs to it.
    pub(crate) fn invite_device(
        &mut self,
        now: Instant,
        mut request: Request,
        uri: tandem_sip::Uri,
        flow: Flow,
    ) -> Port {
        request.headers.push(HeaderName::UserAgent, talk::PRODUCT);
        let kept = head(&request);
        let invite = self.stack.request(now, flow, request);
        Port {
            uri,
            flow,
            invite,
            request: kept,
            waiting: true,
            far: None,
            near_tag: self.dice.hex(8),
            near: None,
        }
    }

    /// Puts a new call where every message of it will find it.
    pub(crate) fn add_call(
        &mut self,
        now: Instant,
        key: &str,
        call: Call,
        ties: crate::live::Ties,
    ) {
        self.calls.tie(ties.invite, key, Purpose::Caller);
        for (leg, port) in &ties.ports {
            self.calls.tie(port.invite, key, Purpose::Device(*leg));
        }
        self.calls.insert(key.to_owned(), Live { call, ties, recorded: false });
        self.listen(now, key);
    }
}

/// How the other end of this side was last heard.
fn flow_of(caller: &Flow, port: &Port, side: Side) -> Flow {
    match side {
        Side::Near => *caller,
        Side::Far => port.flow,
    }
}
