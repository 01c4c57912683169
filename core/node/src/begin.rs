//! How it begins: who may log in, who may call, and the first INVITE.

use tandem_call::{Call, Cdr, Ending, LegId, Outcome};
use tandem_dialplan::{Account, Party, RoutePlan, UserName};
use tandem_journal::Class;
use tandem_sip::digest::{self, Challenge, Credentials, Ha1, NonceCheck, NonceUse};
use tandem_sip::{ContactValue, Header, HeaderName, Host, Method, NameAddr, Request, Uri};
use tandem_stack::{Dialog, ServerId, make_response};
use tandem_types::{Flow, Instant, Pii};

use crate::block::BLOCKED_CAUSE;
use crate::facts::Fact;
use crate::live::{Ties, head};
use crate::node::Node;
use crate::record;
use crate::talk::{self, apply, contact, passing};
use tandem_dialplan::Blockable;

/// What a proof of identity came to.
enum Proof {
    /// This user, by the right password.
    Of(UserName),
    /// No proof yet, or not a good one any more: ask. True: only too old.
    Ask { stale: bool },
    /// The right one, but too old: ask.
    Old,
    /// A wrong one.
    Wrong(String),
}

/// Devices of one user that one call rings at most.
const LEGS_MAX: usize = 32;

/// Calls that one number may have made and not ended; one more is refused 486, with Q.850 cause 42
/// (congestion).
const CALLS_PER_USER_MAX: usize = 64;

/// Calls in all; one more is refused as above.
const CALLS_MAX: usize = 50_000;

/// So many calls to emergency numbers are taken beyond either limit; one more is refused as above.
const EMERGENCY_SPARE: usize = 16;

/// Bytes of Via, Record-Route and the like that an INVITE may carry, because every record of its
/// call does; beyond: 513.
const HEAD_BYTES_MAX: usize = 8 * 1024;

impl Node {
    /// Digest authentication (RFC 3261 §22). `None`: the request was answered.
    pub(crate) fn authenticate(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Request,
    ) -> Option<UserName> {
        let (stale, mark) = match self.proof(now, flow, request) {
            Proof::Of(user) => return Some(user),
            Proof::Ask { stale } => (stale, None),
            Proof::Old => {
                let begins = request.method == Method::Invite;
                (true, begins.then(|| self.mark(flow, request)))
            }
            Proof::Wrong(user) => {
                self.fact(Fact::LoginRefused { user, source: flow });
                (false, None)
            }
        };
        self.challenge(now, id, flow, request, stale, mark);
        None
    }

    /// Asks who it is, or for a newer proof of it; with the mark of the request, where it begins a call.
    fn challenge(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Request,
        stale: bool,
        mark: Option<u64>,
    ) {
        let (status, name) = if request.method == Method::Register {
            (401, HeaderName::WwwAuthenticate)
        } else {
            (407, HeaderName::ProxyAuthenticate)
        };
        let (seconds, address) = (self.wall_seconds(now), flow.remote.ip());
        let salt = self.dice.next_u64();
        let nonce = match mark {
            Some(mark) => self.nonce_key.issue_again(seconds, address, salt, mark),
            None => self.nonce_key.issue(seconds, address, salt),
        };
        let mut response = make_response(request, status, None);
        for algorithm in self.config.digest.algorithms() {
            let mut challenge =
                Challenge::new(self.config.realm.as_bytes(), nonce.as_bytes(), *algorithm);
            challenge.is_stale = stale;
            response.headers.push(name.clone(), challenge.to_bytes());
        }
        self.answer(now, &id, response);
    }

    fn wall_seconds(&self, now: Instant) -> u64 {
        u64::try_from(self.wall(now) / 1_000_000).unwrap_or(0)
    }

    /// The proof that is for us.
    fn given(&self, request: &Request) -> Option<Credentials> {
        let name = if request.method == Method::Register {
            HeaderName::Authorization
        } else {
            HeaderName::ProxyAuthorization
        };
        let realm = self.config.realm.as_bytes();
        request.headers.credentials(&name).find(|given| given.realm == realm)
    }

    fn proof(&mut self, now: Instant, flow: Flow, request: &Request) -> Proof {
        let Some(given) = self.given(request) else { return Proof::Ask { stale: false } };
        let shown = String::from_utf8_lossy(&given.username).chars().take(64).collect();
        let seconds = self.wall_seconds(now);
        let nonce = match self.nonce_key.check(&given.nonce, seconds, flow.remote.ip()) {
            NonceCheck::Fresh(nonce) => Some(nonce),
            NonceCheck::Stale => None,
            NonceCheck::Forged => return Proof::Ask { stale: false },
        };
        let user = core::str::from_utf8(&given.username).ok().and_then(|n| UserName::parse(n).ok());
        let account = user.as_ref().and_then(|user| self.directory.get(user));
        let right = account.is_some_and(|account| {
            let Account { user, credentials } = account;
            let ha1 = Ha1::from_hashes(credentials.md5, credentials.sha256);
            user.enabled && digest::verify(&given, &request.method, &ha1)
        });
        if !self.config.digest.algorithms().contains(&given.algorithm) {
            return Proof::Ask { stale: false };
        }
        let user = user.filter(|_| right && speaks_for(request, &given.username));
        let (nonce, user) = match (nonce, user) {
            (Some(nonce), Some(user)) => (nonce, user),
            (Some(_), None) => return Proof::Wrong(shown),
            (None, Some(_)) => return Proof::Old,
            (None, None) => return Proof::Ask { stale: true },
        };
        let count = given.qop.as_ref().map_or(0, |qop| qop.count);
        match self.nonce_counts.accept(nonce, count) {
            NonceUse::First => Proof::Of(user),
            NonceUse::Replayed | NonceUse::Stale => Proof::Old,
        }
    }

    /// A new call.
    pub(crate) fn invite(&mut self, now: Instant, id: ServerId, flow: Flow, request: Request) {
        let Some(caller) = self.authenticate(now, id, flow, &request) else { return };
        if self.refuse_unsupported(now, id, &request) {
            return;
        }
        let contacts = request.headers.contacts().map_or(0, |contacts| contacts.len());
        if contacts != 1 || Dialog::uas(&request, "").is_err() {
            self.reply(now, id, &request, 400);
            return;
        }
        if head_bytes(&request) > HEAD_BYTES_MAX {
            self.reply(now, id, &request, 513);
            return;
        }
        let Some(key) = self.call_number(now, id, flow, &request) else { return };
        let dialled = talk::dialled(&request);
        let plan = self.directory.route(&caller, &dialled);
        let cdr =
            self.open_record(now, &key, &caller, &dialled, plan.as_ref().ok(), &request, flow);
        let (from, to) = (cdr.origination_number.clone(), cdr.called_number.clone());
        self.fact(Fact::CallBegan { call: key.clone(), from, to });
        let emergency = self.directory.is_emergency(&dialled);
        if !emergency && let Some(reason) = self.refusal(now, Blockable::Calls) {
            self.close_at_once(now, id, 503, BLOCKED_CAUSE, cdr, Outcome::Refused);
            self.answer_blocked(now, id, &request, Blockable::Calls, &reason);
            self.fact(Fact::CallBlocked { call: key, reason });
            return;
        }
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                self.refuse_call(now, id, &request, refusal.status(), cdr, Outcome::Refused);
                return;
            }
        };
        let calls = self.calls.of_caller(&plan.caller.number);
        let spare = if emergency { EMERGENCY_SPARE } else { 0 };
        if calls >= CALLS_PER_USER_MAX + spare || self.calls.len() >= CALLS_MAX + spare {
            self.refuse_call(now, id, &request, 486, cdr, Outcome::Failed);
            return;
        }
        let mut devices = self.devices(now, &plan.destination.user);
        if devices.is_empty() {
            self.refuse_call(now, id, &request, 480, cdr, Outcome::Failed);
            return;
        }
        if plan.destination.user == caller {
            // Who calls himself means his other phones.
            devices.retain(|(uri, _)| !is_contact(&request, uri));
        }
        if devices.is_empty() {
            self.refuse_call(now, id, &request, 486, cdr, Outcome::Busy);
            return;
        }
        // Tied first, so that the record of this transaction travels with the call.
        self.calls.tie(id, &key, crate::live::Purpose::Caller);
        let trying = make_response(&request, 100, None);
        self.answer(now, &id, trying);
        self.ring(now, id, flow, &request, &key, dialled, &plan, devices, cdr);
    }

    /// The number of the call that this INVITE begins.
    ///
    /// Made of the INVITE itself: where a server takes it and dies before it says a word, the caller
    /// repeats it to the twin, and what the two have on record is one call. Its mark makes it unlike any
    /// other. So where the twin closed the call while we were apart, and its caller goes on
    /// asking: who has heard how a call ended does not repeat its INVITE. Nor does who has heard an answer: a call with
    /// that number which nobody acknowledged makes room. `None`: it is a copy that comes late, of an INVITE whose
    /// sender was asked for a newer proof and is further on; it was answered as that was.
    fn call_number(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Request,
    ) -> Option<String> {
        let mark = self.mark(flow, request);
        let marked = mark.to_be_bytes();
        let fields = [HeaderName::CallId, HeaderName::From];
        let fields = fields.iter().filter_map(|name| request.headers.get(name));
        let parts: Vec<&[u8]> = core::iter::once(&marked[..]).chain(fields).collect();
        let number = self.nonce_key.name(&parts);
        let goes_on = self.calls.is_closed_by_twin(now, &number);
        let cseq = |request: &Request| request.headers.cseq().map_or(0, |(cseq, _)| cseq);
        let ties = self.calls.get(&number).map(|live| &live.ties);
        if ties.is_some_and(|ties| cseq(request) < cseq(&ties.request)) {
            self.challenge(now, id, flow, request, true, Some(mark));
            return None;
        }
        let is_free = match self.calls.get(&number) {
            Some(live) if live.call.is_over() => goes_on,
            Some(live) => !live.call.is_acknowledged(),
            None => goes_on || !self.calls.is_closed(&number),
        };
        if !is_free {
            return Some(self.dice.hex(16));
        }
        if let Some(live) = self.calls.take(&number) {
            // A caller whose CSeq went on was asked for a newer proof meanwhile: so his old INVITE is, too.
            let (old, flow) = (live.ties.request.clone(), live.ties.flow);
            if cseq(&old) < cseq(request) {
                self.challenge(now, live.ties.invite, flow, &old, true, Some(mark));
            }
            let aside = self.set_aside(&number, live);
            self.end_aside(now, &aside);
        }
        Some(number)
    }

    /// What tells requests apart, on both servers alike: the proof of identity. Who is asked for a newer one, be it
    /// by both servers in turn, means the same with it as before (RFC 3261 §22.2): the first use of a nonce that
    /// was made for that has the mark of the first of his requests.
    fn mark(&self, flow: Flow, request: &Request) -> u64 {
        let is_first = |given: &Credentials| given.qop.as_ref().is_none_or(|qop| qop.count <= 1);
        let given = self.given(request).filter(is_first);
        let carried =
            given.and_then(|given| self.nonce_key.carried(&given.nonce, flow.remote.ip()));
        carried.unwrap_or_else(|| {
            let of_proof = |header: &&Header| {
                matches!(header.name(), HeaderName::ProxyAuthorization | HeaderName::CSeq)
            };
            let parts: Vec<&[u8]> =
                request.headers.iter().filter(of_proof).map(Header::value).collect();
            self.nonce_key.mark(&parts)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "everything a new call is made of")]
    fn ring(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Request,
        key: &str,
        dialled: String,
        plan: &RoutePlan,
        devices: Vec<(Uri, Flow)>,
        cdr: Cdr,
    ) {
        let mut ties = Ties {
            invite: id,
            request: head(request),
            flow,
            dialled,
            caller: plan.caller.number.clone(),
            ports: std::collections::BTreeMap::new(),
            through: std::collections::BTreeMap::new(),
            farewell: None,
            next_request: 0,
        };
        let passing = passing(&request.headers, &request.body);
        for (number, (uri, device)) in (1..).zip(devices.into_iter().take(LEGS_MAX)) {
            let leg = LegId(number);
            let mut invite = self.leg_request(request, key, leg, plan, &uri, device);
            apply(&mut invite.headers, &mut invite.body, passing.clone());
            let port = self.invite_device(now, invite, uri, device);
            ties.ports.insert(leg, port);
        }
        let call = Call::new(now, ties.ports.keys().copied(), cdr);
        self.add_call(now, key, call, ties);
    }

    /// The INVITE to one device. It has the caller's CSeq number, so that a PRACK means the same
    /// INVITE on both sides; and the call number in its Call-ID.
    fn leg_request(
        &mut self,
        caller: &Request,
        key: &str,
        leg: LegId,
        plan: &RoutePlan,
        uri: &Uri,
        flow: Flow,
    ) -> Request {
        let domain = Host::parse(self.config.realm.as_bytes())
            .unwrap_or_else(|| Host::from(flow.local.ip()));
        let from = shown(&plan.caller, &domain).with_tag(self.dice.hex(8).as_bytes());
        let to = shown(&plan.destination, &domain);
        let number = caller.headers.cseq().map_or(1, |(number, _)| number);
        let forwards = caller.headers.max_forwards().ok().flatten().unwrap_or(70);
        let mut invite = Request::new(Method::Invite, uri.without_headers());
        let headers = &mut invite.headers;
        headers.push(HeaderName::MaxForwards, forwards.saturating_sub(1).to_string());
        headers.push(HeaderName::From, from);
        headers.push(HeaderName::To, to);
        headers.push(HeaderName::CallId, format!("{key}-{}", leg.0));
        headers.push(HeaderName::CSeq, format!("{number} INVITE"));
        headers.push(HeaderName::Contact, contact(&plan.caller.number, flow));
        headers.push(HeaderName::Allow, talk::ALLOW);
        headers.push(HeaderName::PAssertedIdentity, shown(&plan.caller, &domain));
        invite
    }

    /// The record of a call from its first INVITE on.
    #[expect(clippy::too_many_arguments, reason = "all that is known of a call that begins")]
    fn open_record(
        &self,
        now: Instant,
        key: &str,
        caller: &UserName,
        dialled: &str,
        plan: Option<&RoutePlan>,
        request: &Request,
        flow: Flow,
    ) -> Cdr {
        let own = self.directory.get(caller).map(|account| &account.user);
        let own_number = own.and_then(|user| user.numbers.first()).map(ToString::to_string);
        let own_name = own.map_or_else(String::new, |user| user.display.to_string());
        let called = plan.map(|plan| &plan.destination);
        let number = called.map_or_else(|| dialled.to_owned(), |party| party.number.clone());
        let name = called.map_or_else(String::new, |party| party.display.clone());
        let agent = request.headers.get(&HeaderName::UserAgent).unwrap_or_default();
        Cdr {
            call_id: key.to_owned(),
            origination_number: Pii::new(own_number.unwrap_or_else(|| caller.to_string())),
            origination_name: Pii::new(own_name),
            called_number: Pii::new(number.clone()),
            called_name: Pii::new(name.clone()),
            destination_number: Pii::new(number),
            destination_name: Pii::new(name),
            start: self.wall(now),
            delivered: None,
            connect: None,
            end: None,
            outcome: None,
            ending: None,
            sip_status: 0,
            q850_cause: 0,
            origination_device: format!("{} {flow}", String::from_utf8_lossy(agent)),
            destination_device: String::new(),
        }
    }

    /// A call that ends where it began. It has a record all the same.
    fn refuse_call(
        &mut self,
        now: Instant,
        id: ServerId,
        request: &Request,
        status: u16,
        cdr: Cdr,
        outcome: Outcome,
    ) {
        let cause = match (status, outcome) {
            (404, _) => 1,
            (486, Outcome::Failed) => 42,
            (486, _) => 17,
            (_, _) => 20,
        };
        self.close_at_once(now, id, status, cause, cdr, outcome);
        let mut response = make_response(request, status, None);
        response.headers.push(HeaderName::Reason, format!("Q.850;cause={cause}"));
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        self.answer(now, &id, response);
    }

    /// The record of a call that ends where it began.
    fn close_at_once(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        cause: u8,
        mut cdr: Cdr,
        outcome: Outcome,
    ) {
        cdr.close(self.wall(now), outcome, Ending::Server, cause);
        cdr.sip_status = status;
        let key = cdr.call_id.clone();
        self.change(Class::Log, record::cdr_key(&key), Some(record::encode(&cdr)));
        // Its answer must be repeated by the twin, or the call would get a second record there.
        self.calls.tie(id, &key, crate::live::Purpose::Farewell);
        let outcome = format!("{outcome:?}");
        self.fact(Fact::CallEnded { call: key, outcome, talk_seconds: 0 });
    }
}

/// Whether `uri` is the Contact of this request.
fn is_contact(request: &Request, uri: &Uri) -> bool {
    let contacts = request.headers.contacts().unwrap_or_default();
    contacts.iter().any(|contact| match contact {
        ContactValue::Addr(address) => address.uri == *uri,
        ContactValue::Star => false,
    })
}

/// Bytes of what a call keeps of its INVITE, once for each device that rings.
fn head_bytes(request: &Request) -> usize {
    let kept = head(request).headers;
    kept.iter().map(|header| header.value().len()).sum()
}

/// A person as shown to the other side.
fn shown(party: &Party, domain: &Host) -> NameAddr {
    let mut address = NameAddr::new(Uri::sip(Some(party.number.as_bytes()), domain, None));
    if !party.display.is_empty() {
        address.display = Some(party.display.clone().into());
    }
    address
}

/// Whether the user who proved himself is the one the request is from (REGISTER: for).
fn speaks_for(request: &Request, user: &[u8]) -> bool {
    let address = if request.method == Method::Register {
        request.headers.to()
    } else {
        request.headers.from()
    };
    address.is_ok_and(|address| address.uri.user_decoded().as_deref() == Some(user))
}
