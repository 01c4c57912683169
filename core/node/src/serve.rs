//! What the transactions report: requests from outside, responses to ours.

use tandem_call::{Input, LegId, Lost, Side};
use tandem_sip::{HeaderName, Method, Request, Response};
use tandem_stack::{
    ClientId, Dialog, DialogError, DialogId, Event, FailReason, ServerId, make_response,
};
use tandem_types::{Flow, Instant};

use crate::live::{Port, Purpose, Through, head};
use crate::node::Node;
use crate::talk::{self, passing};

impl Node {
    pub(crate) fn serve(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { id, flow, request } => self.request(now, id, flow, request),
            Event::Cancelled { invite, cancel } => self.cancelled(now, invite, cancel),
            Event::Ack { invite, flow, request } => self.acked(now, invite, flow, &request),
            Event::Response { id, flow, response } => self.response(now, id, flow, &response),
            Event::Failed { id, reason } => {
                let status = match reason {
                    FailReason::Timeout => 408,
                    FailReason::Transport => 503,
                };
                self.failed(now, id, status);
            }
            Event::NoAck { id } => self.no_ack(now, id),
        }
    }

    fn request(&mut self, now: Instant, id: ServerId, flow: Flow, request: Request) {
        if let Some(name) = DialogId::of_request(&request) {
            self.request_in_dialog(now, id, flow, &request, &name);
            return;
        }
        match request.method {
            Method::Invite => self.invite(now, id, flow, request),
            Method::Register => self.register(now, id, flow, &request),
            Method::Options => self.options(now, id, &request),
            Method::Bye | Method::Update | Method::Info | Method::Prack => {
                self.reply(now, id, &request, 481);
            }
            // The stack keeps these to itself.
            Method::Ack | Method::Cancel => {}
            Method::Message
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Publish
            | Method::Other(_) => self.not_allowed(now, id, &request),
        }
    }

    /// An answer without anything of its own.
    pub(crate) fn reply(&mut self, now: Instant, id: ServerId, request: &Request, status: u16) {
        let mut response = make_response(request, status, None);
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        self.answer(now, &id, response);
    }

    fn not_allowed(&mut self, now: Instant, id: ServerId, request: &Request) {
        let mut response = make_response(request, 405, None);
        response.headers.push(HeaderName::Allow, talk::ALLOW);
        self.answer(now, &id, response);
    }

    /// OPTIONS to the server itself (RFC 3261 §11.2): what it can do.
    fn options(&mut self, now: Instant, id: ServerId, request: &Request) {
        let mut response = make_response(request, 200, None);
        response.headers.push(HeaderName::Allow, talk::ALLOW);
        response.headers.push(HeaderName::Accept, "application/sdp");
        response.headers.push(HeaderName::Supported, "100rel, timer, precondition");
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        self.unpromised = Some(id);
        self.answer(now, &id, response);
    }

    fn request_in_dialog(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Request,
        name: &DialogId,
    ) {
        let Some((key, leg, side)) = self.calls.by_dialog(name) else {
            // Both sides hung up at once: the second BYE finds the call gone, and that is fine.
            let crossed = request.method == Method::Bye && self.calls.ended_lately(name);
            self.reply(now, id, request, if crossed { 200 } else { 481 });
            return;
        };
        let Some(live) = self.calls.get_mut(&key) else {
            self.reply(now, id, request, 481);
            return;
        };
        let Some(dialog) = live.ties.ports.get_mut(&leg).and_then(|port| port.dialog(side)) else {
            self.reply(now, id, request, 481);
            return;
        };
        if dialog.check_remote_cseq(request).is_err() {
            // RFC 3261 §12.2.2: out of order.
            self.reply(now, id, request, 500);
            return;
        }
        if matches!(request.method, Method::Invite | Method::Update) {
            dialog.refresh_target(&request.headers);
        }
        match side {
            Side::Near => live.ties.flow = flow,
            Side::Far => {
                if let Some(port) = live.ties.ports.get_mut(&leg) {
                    port.flow = flow;
                }
            }
        }
        if request.method == Method::Bye {
            // Ours as soon as it is answered: a repeated BYE must find its answer on the twin.
            self.calls.tie(id, &key, Purpose::Farewell);
            self.reply(now, id, request, 200);
            let passing = passing(&request.headers, &[]);
            self.tell(now, &key, Input::HungUp { leg, side, passing });
            return;
        }
        let Some(method) = talk::kind(&request.method) else {
            self.not_allowed(now, id, request);
            return;
        };
        if self.refuse_unsupported(now, id, request) {
            return;
        }
        let Some(live) = self.calls.get_mut(&key) else { return };
        let name = live.name_request();
        let received = Some((id, side, head(request)));
        live.ties.through.insert(name, Through { leg, received, sent: None });
        self.calls.tie(id, &key, Purpose::Through(name));
        if request.method == Method::Invite {
            let trying = make_response(request, 100, None);
            self.answer(now, &id, trying);
        }
        let passing = passing(&request.headers, &request.body);
        let input = Input::Requested { leg, side, request: name, method, passing };
        self.tell(now, &key, input);
    }

    /// 420 where the request requires what does not work through us. True where it did.
    pub(crate) fn refuse_unsupported(
        &mut self,
        now: Instant,
        id: ServerId,
        request: &Request,
    ) -> bool {
        let Some(tags) = talk::unsupported(&request.headers) else { return false };
        let mut response = make_response(request, 420, None);
        response.headers.push(HeaderName::Unsupported, tags);
        self.answer(now, &id, response);
        true
    }

    fn cancelled(&mut self, now: Instant, invite: ServerId, cancel: ServerId) {
        let known = self.calls.by_server(invite);
        if let Some((key, _)) = &known {
            // A copy of it that comes to the twin is answered the same there.
            self.calls.tie(cancel, key, Purpose::Farewell);
        }
        match known {
            Some((key, Purpose::Caller)) => self.tell(now, &key, Input::Cancelled),
            Some((key, Purpose::Through(request))) => {
                self.tell(now, &key, Input::RequestCancelled { request });
            }
            Some((_, Purpose::Device(_) | Purpose::Farewell)) => {}
            None => {
                if let Some((_, request)) = self.stack.server_request(&invite) {
                    self.reply(now, invite, &request, 487);
                }
            }
        }
    }

    fn acked(&mut self, now: Instant, invite: Option<ServerId>, flow: Flow, request: &Request) {
        let Some((key, purpose)) = invite.and_then(|id| self.calls.by_server(id)) else { return };
        let request_id = match purpose {
            Purpose::Caller => {
                if let Some(live) = self.calls.get_mut(&key) {
                    live.ties.flow = flow;
                }
                None
            }
            Purpose::Through(id) => Some(id),
            Purpose::Device(_) | Purpose::Farewell => return,
        };
        let passing = passing(&request.headers, &request.body);
        self.tell(now, &key, Input::Acked { request: request_id, passing });
        if purpose == Purpose::Caller {
            self.say_farewell(now, &key);
        }
    }

    fn response(&mut self, now: Instant, id: ClientId, flow: Flow, response: &Response) {
        let Some((key, purpose)) = self.calls.by_client(id) else { return };
        let status = response.status;
        if status == 100 {
            return;
        }
        let passing = passing(&response.headers, &response.body);
        match purpose {
            Purpose::Device(leg) => {
                if self.is_other_fork(&key, leg) {
                    self.hang_up_fork(now, &key, leg, id, flow, response);
                    return;
                }
                self.note_device(&key, leg, flow, response);
                let input = match status {
                    0..=199 => Input::Progress { leg, status, passing },
                    200..=299 => Input::Answered { leg, passing },
                    300.. => Input::Refused { leg, status, passing },
                };
                self.tell(now, &key, input);
            }
            Purpose::Through(request) => {
                self.note_target(&key, request, response);
                self.tell(now, &key, Input::Responded { request, status, passing });
                self.drop_own_through(&key, request, status);
            }
            Purpose::Farewell | Purpose::Caller => {}
        }
    }

    /// Whether this device's final response came before: behind its contact there are several.
    fn is_other_fork(&self, key: &str, leg: LegId) -> bool {
        let port = self.calls.get(key).and_then(|live| live.ties.ports.get(&leg));
        port.is_some_and(|port| !port.waiting)
    }

    /// A second device behind one contact answered too: it is acknowledged and hung up (RFC 3261
    /// §13.2.2.4); the call stays with the first.
    fn hang_up_fork(
        &mut self,
        now: Instant,
        key: &str,
        leg: LegId,
        id: ClientId,
        flow: Flow,
        response: &Response,
    ) {
        let port = self.calls.get(key).and_then(|live| live.ties.ports.get(&leg));
        let Some(port) = port.filter(|_| response.is_success()) else { return };
        let Ok(mut dialog) = dialog_with(port, response) else { return };
        let cseq = port.request.headers.cseq().map_or(0, |(cseq, _)| cseq);
        let next = self.reach(dialog.next_hop(), flow);
        self.stack.acknowledge(now, &id, next, dialog.make_ack(cseq));
        let bye = self.stack.request(now, next, dialog.make_request(Method::Bye));
        self.calls.tie(bye, key, Purpose::Farewell);
    }

    /// What a device's response to our INVITE tells: its dialog, and how it is reached.
    fn note_device(&mut self, key: &str, leg: LegId, flow: Flow, response: &Response) {
        let Some(live) = self.calls.get_mut(key) else { return };
        let Some(port) = live.ties.ports.get_mut(&leg) else { return };
        port.flow = flow;
        if response.status >= 200 {
            port.waiting = false;
        }
        if response.status >= 300 {
            return;
        }
        let name = DialogId::of_response(response);
        if let Some(far) = port.far.as_mut().filter(|far| Some(&far.id) == name.as_ref()) {
            // A 2xx without a Contact leaves the address as it was.
            let _ = far.confirm(response);
        } else if let Ok(mut dialog) = dialog_with(port, response) {
            let name = dialog.id.clone();
            if let Some(old) = &port.far {
                // Several devices behind one contact ring in turn: no number is used twice.
                dialog.local_cseq = dialog.local_cseq.max(old.local_cseq);
            }
            if let Some(old) = port.far.replace(dialog) {
                self.calls.forget_dialog(&old.id);
            }
            self.calls.name_dialog(name, key, leg, Side::Far);
        }
    }

    /// A 2xx to a re-INVITE or UPDATE may move the other side (RFC 3261 §12.2.1.2).
    fn note_target(&mut self, key: &str, request: tandem_call::RequestId, response: &Response) {
        if !response.is_success() {
            return;
        }
        let Some(live) = self.calls.get_mut(key) else { return };
        let Some(through) = live.ties.through.get(&request) else { return };
        let Some((_, side, _)) = through.sent else { return };
        if let Some(dialog) =
            live.ties.ports.get_mut(&through.leg).and_then(|port| port.dialog(side))
            && response.headers.contains(&HeaderName::Contact)
        {
            dialog.refresh_target(&response.headers);
        }
    }

    /// A question of our own ends with its answer.
    fn drop_own_through(&mut self, key: &str, request: tandem_call::RequestId, status: u16) {
        if status >= 200
            && let Some(live) = self.calls.get_mut(key)
            && live.ties.through.get(&request).is_some_and(|through| through.received.is_none())
        {
            live.ties.through.remove(&request);
        }
    }

    fn failed(&mut self, now: Instant, id: ClientId, status: u16) {
        let Some((key, purpose)) = self.calls.by_client(id) else { return };
        let passing = tandem_call::Passing::default();
        match purpose {
            Purpose::Device(leg) => {
                if let Some(port) =
                    self.calls.get_mut(&key).and_then(|live| live.ties.ports.get_mut(&leg))
                {
                    port.waiting = false;
                }
                self.tell(now, &key, Input::Refused { leg, status, passing });
            }
            Purpose::Through(request) => {
                self.tell(now, &key, Input::Responded { request, status, passing });
                self.drop_own_through(&key, request, status);
            }
            Purpose::Farewell | Purpose::Caller => {}
        }
    }

    fn no_ack(&mut self, now: Instant, id: ServerId) {
        let Some((key, purpose)) = self.calls.by_server(id) else { return };
        let Some(live) = self.calls.get(&key) else { return };
        let gone = match purpose {
            Purpose::Caller => live.call.answered_by().map(|leg| (leg, Side::Near)),
            Purpose::Through(request) => live.ties.through.get(&request).and_then(|through| {
                let (_, side, _) = through.received.as_ref()?;
                Some((through.leg, *side))
            }),
            Purpose::Device(_) | Purpose::Farewell => None,
        };
        if purpose == Purpose::Caller {
            self.say_farewell(now, &key);
        }
        if let Some((leg, side)) = gone {
            self.tell(now, &key, Input::Gone { leg, side, why: Lost::NoAck });
        }
    }
}

/// The dialog that a device's response makes. An answer without a Contact, which it must have, is
/// taken as one from the contact that was called.
fn dialog_with(port: &Port, response: &Response) -> Result<Dialog, DialogError> {
    match Dialog::uac(&port.request, response) {
        Err(DialogError::NoContact) => {
            let mut completed = response.clone();
            completed.headers.set(HeaderName::Contact, tandem_sip::NameAddr::new(port.uri.clone()));
            Dialog::uac(&port.request, &completed)
        }
        other => other,
    }
}
