//! Calls as the phone sees them: one dialog each (RFC 3261 §12 to §15).
//!
//! ```text
//!   caller:  Calling ──2xx──> Up ──BYE──> Leaving ──> Over
//!   callee:  Ringing ──2xx──> Answered ──ACK──> Up ──> ...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tandem_sip::{ContactValue, HeaderName, Method, NameAddr, Request, Response, Uri};
use tandem_types::Instant;

use super::message::{call_of, device_of, is_hold};
use super::transaction::{ServerKey, What};
use super::{News, Phone};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Calling,
    Ringing,
    Answered,
    Up,
    Leaving,
    Over,
}

/// One call.
#[derive(Debug)]
pub(super) struct Talk {
    state: State,
    pub(super) call_id: String,
    /// This phone, with its tag.
    pub(super) local: NameAddr,
    /// The other side, with its tag once known.
    pub(super) remote: NameAddr,
    /// Where requests go.
    pub(super) target: Uri,
    cseq: u32,
    remote_cseq: Option<u32>,
    /// Of our INVITE.
    branch: Vec<u8>,
    /// Their INVITE, and where it came from.
    incoming: Option<(ServerKey, SocketAddr, Request)>,
    /// INVITEs that we answered with 2xx, by CSeq.
    answers: BTreeMap<u32, ServerKey>,
    trying: bool,
    tags: BTreeSet<Vec<u8>>,
    /// The owner wants to end it as soon as that is allowed.
    leaves: bool,
    cancelled: bool,
    holding: bool,
    /// When the owner does the next thing.
    plan: Option<Instant>,
    hold_plan: Option<Instant>,
}

impl Talk {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.plan, self.hold_plan].into_iter().flatten().min()
    }
}

/// Orders of the owner.
impl Phone {
    /// Calls somebody; the number names the call everywhere.
    pub fn call(&mut self, now: Instant, call: u32, to: &str) {
        let branch = self.new_branch();
        let local = NameAddr::new(self.own_address()).with_tag(self.dice.hex(4).as_bytes());
        let target = self.address_of(to);
        let patience = self.habits.patience_millis;
        let talk = Talk {
            state: State::Calling,
            call_id: format!("{}-{call}", self.dice.hex(6)),
            local,
            remote: NameAddr::new(target.clone()),
            target,
            cseq: 1,
            remote_cseq: None,
            branch: branch.clone(),
            incoming: None,
            answers: BTreeMap::new(),
            trying: false,
            tags: BTreeSet::new(),
            leaves: false,
            cancelled: false,
            holding: false,
            plan: patience.map(|range| now + self.pick(range)),
            hold_plan: None,
        };
        let mut invite = self.talk_request(&talk, Method::Invite, 1);
        invite.headers.push_front(HeaderName::Via, self.via(&branch));
        invite.headers.push(HeaderName::Contact, self.contact());
        invite.headers.set(HeaderName::UserAgent, format!("sim-phone/call-{call}"));
        invite.headers.push(HeaderName::Subject, format!("call {call}"));
        let mut invite = invite.with_body("application/sdp", self.sdp(call, false));
        self.prove_eagerly(&mut invite);
        self.talks.insert(call, talk);
        self.tell(News::Calls { call, to: to.to_owned() });
        self.start_in(now, invite, self.config.server, What::Invite(call), branch, false);
    }

    /// Answers a ringing call.
    pub fn pick_up(&mut self, now: Instant, call: u32) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let (State::Ringing, Some((key, from, invite))) = (talk.state, talk.incoming.clone())
        else {
            return;
        };
        talk.state = State::Answered;
        talk.plan = None;
        talk.answers.insert(invite.headers.cseq().map_or(0, |(number, _)| number), key.clone());
        let tag = talk.local.tag().map(<[u8]>::to_vec);
        let mut response = Self::response(&invite, 200, tag.as_deref());
        response.headers.push(HeaderName::Contact, self.contact());
        let response = response.with_body("application/sdp", self.sdp(call, false));
        self.tell(News::PicksUp { call });
        self.answer_request(now, &key, from, &response, Some(call));
    }

    /// Refuses a ringing call.
    pub fn refuse(&mut self, now: Instant, call: u32, status: u16) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let (State::Ringing, Some((key, from, invite))) = (talk.state, talk.incoming.clone())
        else {
            return;
        };
        talk.state = State::Over;
        talk.plan = None;
        let tag = talk.local.tag().map(<[u8]>::to_vec);
        let response = Self::response(&invite, status, tag.as_deref());
        self.tell(News::Refuses { call, status });
        self.answer_request(now, &key, from, &response, Some(call));
    }

    /// Hangs up, gives up, or refuses.
    pub fn hang_up(&mut self, now: Instant, call: u32) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        talk.plan = None;
        talk.hold_plan = None;
        match talk.state {
            State::Calling if !talk.leaves => {
                talk.leaves = true;
                self.tell(News::GivesUp { call });
                self.cancel(now, call);
            }
            State::Ringing => self.refuse(now, call, 486),
            // Not before the ACK (RFC 3261 §15).
            State::Answered => talk.leaves = true,
            State::Up => {
                talk.state = State::Leaving;
                talk.cseq += 1;
                let (target, cseq) = (talk.target.clone(), talk.cseq);
                self.tell(News::HangsUp { call });
                self.send_in(now, call, Method::Bye, cseq, &target, What::Bye(call));
            }
            State::Calling | State::Leaving | State::Over => {}
        }
    }

    /// Hangs up everything.
    pub fn hang_up_all(&mut self, now: Instant) {
        for call in self.talks.keys().copied().collect::<Vec<_>>() {
            self.hang_up(now, call);
        }
    }

    /// Puts the other side on hold.
    pub fn hold(&mut self, now: Instant, call: u32) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        if talk.state != State::Up || talk.holding {
            return;
        }
        talk.hold_plan = None;
        talk.holding = true;
        talk.cseq += 1;
        let (target, cseq) = (talk.target.clone(), talk.cseq);
        self.tell(News::Holds { call });
        self.send_in(now, call, Method::Invite, cseq, &target, What::Hold(call));
    }

    /// Calls in which this phone rings.
    pub fn ringing(&self) -> impl Iterator<Item = u32> {
        self.talks.iter().filter(|(_, talk)| talk.state == State::Ringing).map(|(call, _)| *call)
    }

    /// Calls in which this phone talks.
    pub fn talking(&self) -> impl Iterator<Item = u32> {
        let up = |talk: &&Talk| matches!(talk.state, State::Up | State::Answered);
        self.talks.iter().filter(move |(_, talk)| up(talk)).map(|(call, _)| *call)
    }

    /// Whether no call is under way.
    pub fn is_idle(&self) -> bool {
        self.talks.values().all(|talk| talk.state == State::Over)
    }

    pub(super) fn run_talks(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let calls: Vec<u32> = self.talks.keys().copied().collect();
        for call in calls {
            let Some(talk) = self.talks.get(&call) else { continue };
            if due(talk.hold_plan) {
                self.hold(now, call);
            }
            let Some(talk) = self.talks.get_mut(&call) else { continue };
            if due(talk.plan) {
                talk.plan = None;
                if talk.state == State::Ringing {
                    self.pick_up(now, call);
                } else {
                    self.hang_up(now, call);
                }
            }
        }
    }
}

/// The caller's side.
impl Phone {
    fn cancel(&mut self, now: Instant, call: u32) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let branch = talk.branch.clone();
        if talk.cancelled || !self.is_cancellable(&branch) {
            return;
        }
        if let Some(talk) = self.talks.get_mut(&call) {
            talk.cancelled = true;
        }
        let Some(client) = self.clients.get_mut(&(branch.clone(), false)) else { return };
        client.give_up(now);
        let invite = client.request.clone();
        let mut request = Request::new(Method::Cancel, invite.uri.clone());
        for name in [
            HeaderName::Via,
            HeaderName::MaxForwards,
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
        ] {
            request.headers.copy_from(&invite.headers, &name);
        }
        let cseq = invite.headers.cseq().map_or(1, |(number, _)| number);
        request.headers.push(HeaderName::CSeq, format!("{cseq} CANCEL"));
        self.start_in(now, request, self.config.server, What::Cancel(call), branch, true);
    }

    /// The INVITE was sent again with a proof, as this branch.
    pub(super) fn moved(&mut self, call: u32, branch: &[u8]) {
        if let Some(talk) = self.talks.get_mut(&call) {
            talk.branch = branch.to_vec();
        }
    }

    pub(super) fn next_talk_cseq(&mut self, call: u32) -> u32 {
        let Some(talk) = self.talks.get_mut(&call) else { return 1 };
        talk.cseq += 1;
        talk.cseq
    }

    pub(super) fn progress(&mut self, now: Instant, call: u32, response: &Response) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let tag = response.headers.to().ok().and_then(|to| to.tag().map(<[u8]>::to_vec));
        let first = !core::mem::replace(&mut talk.trying, true);
        let rings = response.status > 100;
        let ringing = rings && talk.tags.insert(tag.clone().unwrap_or_default());
        if rings && !ringing {
            self.repeated.push((None, String::from("hears it ring again")));
        }
        let leaves = talk.leaves;
        if first {
            self.tell(News::HearsTrying { call });
        }
        if ringing {
            self.tell(News::HearsRinging { call, tag: tag.unwrap_or_default() });
        }
        if leaves {
            self.cancel(now, call);
        }
    }

    pub(super) fn invite_answered(
        &mut self,
        now: Instant,
        call: u32,
        branch: &[u8],
        response: Option<&Response>,
    ) {
        let talk_millis = self.habits.talk_millis;
        let plan = talk_millis.map(|range| now + self.pick(range));
        let hold_plan = self.plan_hold(now);
        let Some(talk) = self.talks.get_mut(&call) else { return };
        talk.plan = None;
        let Some(response) = response else {
            talk.state = State::Over;
            return self.tell(News::HearsNothing { call });
        };
        if !response.is_success() {
            talk.state = State::Over;
            return self.tell(News::HearsRefusal { call, status: response.status });
        }
        let Some((remote, target)) = partner(response) else {
            talk.state = State::Over;
            return self.complain(format!("200 without tag or contact (call {call})"));
        };
        (talk.remote, talk.target) = (remote, target);
        talk.state = State::Up;
        (talk.plan, talk.hold_plan) = (plan, hold_plan);
        let leaves = talk.leaves;
        self.send_ack(call, branch);
        self.tell(News::HearsAnswer { call, device: device_of(&response.body) });
        if leaves {
            // The answer and our CANCEL crossed.
            self.hang_up(now, call);
        }
    }

    fn plan_hold(&mut self, now: Instant) -> Option<Instant> {
        let chosen = self.dice.chance(self.habits.hold_percent);
        chosen.then(|| now + self.pick((50, 1_500)))
    }

    /// Sends the ACK for a 2xx and keeps it for repeated ones.
    fn send_ack(&mut self, call: u32, branch: &[u8]) {
        let new_branch = self.new_branch();
        let Some(talk) = self.talks.get(&call) else { return };
        let Some(client) = self.clients.get(&(branch.to_vec(), false)) else { return };
        let cseq = client.request.headers.cseq().map_or(1, |(number, _)| number);
        let mut ack = self.talk_request(talk, Method::Ack, cseq);
        ack.headers.push_front(HeaderName::Via, self.via(&new_branch));
        let message = (self.hop(&talk.target), ack.to_bytes());
        self.transmits.push_back(message.clone());
        if let Some(client) = self.clients.get_mut(&(branch.to_vec(), false)) {
            client.ack = Some(message);
        }
    }

    fn send_in(
        &mut self,
        now: Instant,
        call: u32,
        method: Method,
        cseq: u32,
        target: &Uri,
        what: What,
    ) {
        let Some(talk) = self.talks.get(&call) else { return };
        let mut request = self.talk_request(talk, method, cseq);
        if matches!(what, What::Hold(_)) {
            request.headers.push(HeaderName::Contact, self.contact());
            request = request.with_body("application/sdp", self.sdp(call, true));
        }
        self.start(now, request, self.hop(target), what);
    }

    pub(super) fn hold_answered(
        &mut self,
        _now: Instant,
        call: u32,
        branch: &[u8],
        response: Option<&Response>,
    ) {
        let status = response.map_or(408, |response| response.status);
        let Some(talk) = self.talks.get_mut(&call) else { return };
        talk.holding = false;
        if response.is_some_and(Response::is_success) {
            self.send_ack(call, branch);
        }
        self.tell(News::HoldAnswered { call, status });
    }

    pub(super) fn bye_answered(&mut self, call: u32, response: Option<&Response>) {
        let status = response.map_or(408, |response| response.status);
        if let Some(talk) = self.talks.get_mut(&call) {
            talk.state = State::Over;
        }
        self.tell(News::HangUpAnswered { call, status });
    }
}

/// What the server asks.
impl Phone {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a phone knows few methods")]
    pub(super) fn serve(
        &mut self,
        now: Instant,
        from: SocketAddr,
        key: &ServerKey,
        request: &Request,
    ) {
        if request.method == Method::Cancel {
            return self.serve_cancel(now, from, key, request);
        }
        let to_tag = request.headers.to().ok().and_then(|to| to.tag().map(<[u8]>::to_vec));
        let Some(tag) = to_tag else {
            return match request.method {
                Method::Invite => self.serve_invite(now, from, key, request),
                Method::Options => self.reply(now, from, key, request, 200),
                _ => self.reply(now, from, key, request, 481),
            };
        };
        let call_id = request.headers.call_id().unwrap_or_default();
        let found = self
            .talks
            .iter()
            .find(|(_, talk)| talk.call_id.as_bytes() == call_id && talk.local.tag() == Some(&tag));
        match found.map(|(call, _)| *call) {
            Some(call) => self.serve_in_talk(now, from, key, request, call),
            None => self.reply(now, from, key, request, 481),
        }
    }

    fn reply(
        &mut self,
        now: Instant,
        from: SocketAddr,
        key: &ServerKey,
        request: &Request,
        status: u16,
    ) {
        let tag = self.dice.hex(4);
        let response = Self::response(request, status, Some(tag.as_bytes()));
        self.answer_request(now, key, from, &response, None);
    }

    fn serve_invite(&mut self, now: Instant, from: SocketAddr, key: &ServerKey, request: &Request) {
        let (Some(call), Some((remote, target))) = (call_of(request), caller(request)) else {
            self.complain(String::from("INVITE without Subject, From tag or Contact"));
            return self.reply(now, from, key, request, 400);
        };
        if self.talks.contains_key(&call) {
            self.complain(format!("a second INVITE for call {call}"));
            return self.reply(now, from, key, request, 482);
        }
        let tag = self.dice.hex(4);
        let call_id = String::from_utf8_lossy(request.headers.call_id().unwrap_or_default());
        let talk = Talk {
            state: State::Ringing,
            call_id: call_id.into_owned(),
            local: NameAddr::new(self.own_address()).with_tag(tag.as_bytes()),
            remote,
            target,
            cseq: 0,
            remote_cseq: request.headers.cseq().ok().map(|(number, _)| number),
            branch: Vec::new(),
            incoming: Some((key.clone(), from, request.clone())),
            answers: BTreeMap::new(),
            trying: false,
            tags: BTreeSet::new(),
            leaves: false,
            cancelled: false,
            holding: false,
            plan: None,
            hold_plan: None,
        };
        let mut talk = talk;
        if let Ok(to) = request.headers.to() {
            talk.local = to.with_tag(tag.as_bytes());
        }
        self.talks.insert(call, talk);
        self.tell(News::Rings { call });
        if self.dice.chance(self.habits.busy_percent) {
            return self.refuse(now, call, 486);
        }
        let mut ringing = Self::response(request, 180, Some(tag.as_bytes()));
        ringing.headers.push(HeaderName::Contact, self.contact());
        self.answer_request(now, key, from, &ringing, None);
        let answer_millis = self.habits.answer_millis;
        let plan = answer_millis.map(|range| now + self.pick(range));
        if let Some(talk) = self.talks.get_mut(&call) {
            talk.plan = plan;
        }
    }

    fn serve_cancel(&mut self, now: Instant, from: SocketAddr, key: &ServerKey, request: &Request) {
        let cancels =
            |talk: &Talk| talk.incoming.as_ref().is_some_and(|(invite, ..)| invite.0 == key.0);
        let found = self.talks.iter().find(|(_, talk)| cancels(talk)).map(|(call, _)| *call);
        let Some(call) = found else { return self.reply(now, from, key, request, 481) };
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let tag = talk.local.tag().map(<[u8]>::to_vec);
        let ringing = talk.state == State::Ringing;
        let answered = talk.state == State::Answered;
        let incoming = talk.incoming.clone();
        if ringing {
            talk.state = State::Over;
            talk.plan = None;
        }
        let response = Self::response(request, 200, tag.as_deref());
        self.answer_request(now, key, from, &response, None);
        if let (true, Some((invite_key, from, invite))) = (ringing, incoming) {
            let response = Self::response(&invite, 487, tag.as_deref());
            self.answer_request(now, &invite_key, from, &response, Some(call));
        }
        if ringing || answered {
            self.tell(News::StopsRinging { call });
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a phone knows few methods")]
    fn serve_in_talk(
        &mut self,
        now: Instant,
        from: SocketAddr,
        key: &ServerKey,
        request: &Request,
        call: u32,
    ) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let number = request.headers.cseq().map_or(0, |(number, _)| number);
        if let Some(before) = talk.remote_cseq.filter(|before| number <= *before) {
            // One that is lower may have been overtaken on its way; one that is equal was not.
            if number == before {
                self.complain(format!("CSeq {number} came twice (call {call})"));
            }
            return self.reply(now, from, key, request, 500);
        }
        talk.remote_cseq = Some(number);
        if matches!(talk.state, State::Over) {
            return self.reply(now, from, key, request, 481);
        }
        match request.method {
            Method::Bye => {
                talk.state = State::Over;
                (talk.plan, talk.hold_plan) = (None, None);
                self.tell(News::IsHungUp { call });
                self.reply(now, from, key, request, 200);
            }
            Method::Invite if talk.holding => self.reply(now, from, key, request, 491),
            Method::Invite => {
                talk.answers.insert(number, key.clone());
                let held = is_hold(&request.body);
                let mut response = Self::response(request, 200, None);
                response.headers.push(HeaderName::Contact, self.contact());
                let response = response.with_body("application/sdp", self.sdp(call, false));
                self.answer_request(now, key, from, &response, Some(call));
                if held {
                    self.tell(News::IsHeld { call });
                }
            }
            Method::Options => {
                self.tell(News::IsAsked { call });
                self.reply(now, from, key, request, 200);
            }
            _ => self.reply(now, from, key, request, 200),
        }
    }

    /// ACK for a 2xx of ours.
    pub(super) fn acked_answer(&mut self, now: Instant, request: &Request) {
        let call_id = request.headers.call_id().unwrap_or_default();
        let number = request.headers.cseq().map_or(0, |(number, _)| number);
        let to = request.headers.to().ok();
        let tag = to.as_ref().and_then(NameAddr::tag);
        let found = self.talks.iter().find_map(|(call, talk)| {
            let ours = talk.call_id.as_bytes() == call_id && talk.local.tag() == tag;
            let key = talk.answers.get(&number).filter(|_| ours)?;
            Some((*call, key.clone()))
        });
        let Some((call, key)) = found else {
            return self.complain(String::from("ACK for nothing"));
        };
        if !self.settle_answer(&key) {
            return;
        }
        let plan = self.habits.talk_millis.map(|range| now + self.pick(range));
        let hold_plan = self.plan_hold(now);
        let Some(talk) = self.talks.get_mut(&call) else { return };
        if talk.state == State::Answered {
            talk.state = State::Up;
            (talk.plan, talk.hold_plan) = (plan, hold_plan);
            let leaves = talk.leaves;
            self.tell(News::HearsAck { call });
            if leaves {
                self.hang_up(now, call);
            }
        }
    }

    pub(super) fn never_acked(&mut self, now: Instant, call: u32) {
        let Some(talk) = self.talks.get_mut(&call) else { return };
        let answered = talk.state == State::Answered;
        if talk.state == State::Over {
            // Our refusal was not acknowledged: the call is over all the same.
            return;
        }
        if answered {
            talk.state = State::Up;
        }
        self.note_no_ack(call);
        if answered {
            self.hang_up(now, call);
        }
    }
}

/// The other side of a call that we began, by its 2xx.
fn partner(response: &Response) -> Option<(NameAddr, Uri)> {
    let to = response.headers.to().ok()?;
    to.tag()?;
    Some((to, contact(&response.headers.contacts().ok()?)?))
}

/// The other side of a call that rings here.
fn caller(request: &Request) -> Option<(NameAddr, Uri)> {
    let from = request.headers.from().ok()?;
    from.tag()?;
    Some((from, contact(&request.headers.contacts().ok()?)?))
}

fn contact(contacts: &[ContactValue]) -> Option<Uri> {
    contacts.iter().find_map(|contact| match contact {
        ContactValue::Addr(address) => Some(address.uri.clone()),
        ContactValue::Star => None,
    })
}
