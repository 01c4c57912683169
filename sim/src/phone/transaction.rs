//! Repeats requests until they are answered and answers until they are acknowledged, recognises
//! what was received before (RFC 3261 §17, timers of its table 4).

use std::net::SocketAddr;

use tandem_sip::{HeaderName, Method, Request, Response};
use tandem_types::{Duration, Instant};

use super::{News, Phone};

/// Branch, and whether it is the CANCEL of that branch.
pub(super) type ClientKey = (Vec<u8>, bool);

/// Branch and method; an ACK belongs to its INVITE.
pub(super) type ServerKey = (Vec<u8>, Method);

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    Register,
    Invite(u32),
    Hold(u32),
    Bye(u32),
    Cancel(u32),
}

/// One request of ours.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) request: Request,
    to: SocketAddr,
    what: What,
    /// Whether it carries a proof that was asked for.
    proven: bool,
    provisional: bool,
    /// Status and tag of the final response.
    answer: Option<(u16, Vec<u8>)>,
    /// The ACK to repeat.
    pub(super) ack: Option<(SocketAddr, Vec<u8>)>,
    repeat: Option<Instant>,
    pause: Duration,
    end: Instant,
}

/// One request of the server.
#[derive(Debug)]
pub(super) struct Server {
    to: SocketAddr,
    last: Vec<u8>,
    /// A final answer to an INVITE of this call: repeated until the ACK.
    unacked: Option<u32>,
    repeat: Option<Instant>,
    pause: Duration,
    end: Instant,
}

impl Client {
    /// An INVITE that is cancelled is over, answered or not, after 64*T1 (RFC 3261 §9.1).
    pub(super) fn give_up(&mut self, now: Instant) {
        self.end = self.end.min(now + T1 * 64);
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.repeat.map_or(self.end, |repeat| repeat.min(self.end))
    }
}

impl Server {
    pub(super) fn next_timeout(&self) -> Instant {
        self.repeat.map_or(self.end, |repeat| repeat.min(self.end))
    }
}

impl Phone {
    /// Sends a request and waits for its answer. Returns its branch.
    pub(super) fn start(
        &mut self,
        now: Instant,
        mut request: Request,
        to: SocketAddr,
        what: What,
    ) -> Vec<u8> {
        let branch = self.new_branch();
        request.headers.push_front(HeaderName::Via, self.via(&branch));
        self.start_in(now, request, to, what, branch.clone(), false);
        branch
    }

    pub(super) fn start_in(
        &mut self,
        now: Instant,
        request: Request,
        to: SocketAddr,
        what: What,
        branch: Vec<u8>,
        proven: bool,
    ) {
        self.transmits.push_back((to, request.to_bytes()));
        let client = Client {
            request,
            to,
            what,
            proven,
            provisional: false,
            answer: None,
            ack: None,
            repeat: Some(now + T1),
            pause: T1,
            end: now + T1 * 64,
        };
        self.clients.insert((branch, matches!(what, What::Cancel(_))), client);
    }

    pub(super) fn run_clients(&mut self, now: Instant) {
        let due = |client: &Client| client.next_timeout() <= now;
        let keys: Vec<ClientKey> =
            self.clients.iter().filter(|(_, c)| due(c)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(client) = self.clients.get_mut(&key) else { continue };
            if client.end <= now {
                let (what, answered) = (client.what, client.answer.is_some());
                self.clients.remove(&key);
                if !answered {
                    self.answered(now, &key.0, what, None);
                }
                continue;
            }
            let invite = client.request.method == Method::Invite;
            client.pause = if invite { client.pause * 2 } else { (client.pause * 2).min(T2) };
            client.repeat = Some(now + client.pause);
            let message = (client.to, client.request.to_bytes());
            self.repeated.push((None, format!("repeats its {}", client.request.method)));
            self.transmits.push_back(message);
        }
    }

    pub(super) fn take_response(&mut self, now: Instant, response: Response) {
        let Ok(via) = response.headers.via() else { return };
        let Ok((_, method)) = response.headers.cseq() else { return };
        let key = (via.branch().unwrap_or_default().to_vec(), method == Method::Cancel);
        let Some(client) = self.clients.get_mut(&key) else {
            // So late that the request is forgotten, or never ours.
            return;
        };
        let invite = client.request.method == Method::Invite;
        if response.is_provisional() {
            if client.answer.is_none() {
                client.provisional = true;
                client.repeat = client.repeat.filter(|_| !invite).map(|_| now + T2);
                client.pause = T2;
                if invite {
                    client.end = now + RING_MAX;
                }
                if let What::Invite(call) = client.what {
                    self.progress(now, call, &response);
                }
            }
            return;
        }
        let tag = response.headers.to().ok().and_then(|to| to.tag().map(<[u8]>::to_vec));
        let answer = (response.status, tag.unwrap_or_default());
        if let Some(before) = &client.answer {
            let (status, method) = (answer.0, &client.request.method);
            self.repeated.push((None, format!("hears {status} to its {method} again")));
            // Two servers may each ask who we are: a question rests on no state.
            let questions = matches!((before.0, answer.0), (401, 401) | (407, 407));
            if *before != answer && !questions {
                let what = format!(
                    "two answers to one {}: {} and {}",
                    client.request.method, before.0, answer.0
                );
                // Once is enough; the server goes on repeating it.
                client.answer = Some(answer);
                self.complain(what);
            } else if let Some(ack) = client.ack.clone() {
                self.transmits.push_back(ack);
            }
            return;
        }
        client.answer = Some(answer);
        client.repeat = None;
        client.end = now + if invite { LINGER_INVITE } else { T4 };
        let (what, proven) = (client.what, client.proven);
        if invite && !response.is_success() {
            self.ack_refusal(&key, &response);
        }
        let asked = matches!(response.status, 401 | 407);
        let stale = |name| response.headers.challenges(&name).any(|it| it.is_stale);
        let stale = stale(HeaderName::WwwAuthenticate) || stale(HeaderName::ProxyAuthenticate);
        if asked && (stale || !proven) {
            self.try_again(now, &key, &response);
        } else {
            self.answered(now, &key.0, what, Some(&response));
        }
    }

    /// The ACK that belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
    fn ack_refusal(&mut self, key: &ClientKey, response: &Response) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let mut ack = Request::new(Method::Ack, client.request.uri.clone());
        for name in [HeaderName::Via, HeaderName::MaxForwards, HeaderName::From, HeaderName::CallId]
        {
            ack.headers.copy_from(&client.request.headers, &name);
        }
        ack.headers.copy_from(&response.headers, &HeaderName::To);
        let cseq = client.request.headers.cseq().map_or(1, |(number, _)| number);
        ack.headers.push(HeaderName::CSeq, format!("{cseq} ACK"));
        let message = (client.to, ack.to_bytes());
        client.ack = Some(message.clone());
        self.transmits.push_back(message);
    }

    /// The server asks who we are: the same request with a proof (RFC 3261 §22).
    fn try_again(&mut self, now: Instant, key: &ClientKey, response: &Response) {
        let name = match response.status {
            401 => HeaderName::WwwAuthenticate,
            _ => HeaderName::ProxyAuthenticate,
        };
        let challenge = response.headers.challenges(&name).next();
        let Some(client) = self.clients.get(key) else { return };
        let (mut request, to, what) = (client.request.clone(), client.to, client.what);
        let Some(challenge) = challenge else {
            self.complain(format!("{} without a question", response.status));
            return self.answered(now, &key.0, what, Some(response));
        };
        self.challenge = Some((challenge.clone(), 1));
        let cseq = match what {
            What::Register => self.next_login_cseq(),
            What::Invite(call) | What::Hold(call) | What::Bye(call) | What::Cancel(call) => {
                self.next_talk_cseq(call)
            }
        };
        request.headers.set(HeaderName::CSeq, format!("{cseq} {}", request.method));
        self.prove(&mut request, &challenge, 1);
        let branch = self.new_branch();
        request.headers.remove_first_value(&HeaderName::Via);
        request.headers.push_front(HeaderName::Via, self.via(&branch));
        if let What::Invite(call) = what {
            self.moved(call, &branch);
        }
        self.start_in(now, request, to, what, branch, true);
    }

    /// The final response; `None`: there was none.
    fn answered(&mut self, now: Instant, branch: &[u8], what: What, response: Option<&Response>) {
        match what {
            What::Register => self.logged_in(now, response),
            What::Invite(call) => self.invite_answered(now, call, branch, response),
            What::Hold(call) => self.hold_answered(now, call, branch, response),
            What::Bye(call) => self.bye_answered(call, response),
            What::Cancel(_) => {}
        }
    }

    /// Whether the INVITE with this branch may be cancelled: it was heard, and not answered.
    pub(super) fn is_cancellable(&self, branch: &[u8]) -> bool {
        let client = self.clients.get(&(branch.to_vec(), false));
        client.is_some_and(|client| client.provisional && client.answer.is_none())
    }

    pub(super) fn run_servers(&mut self, now: Instant) {
        let due = |server: &Server| server.next_timeout() <= now;
        let keys: Vec<ServerKey> =
            self.servers.iter().filter(|(_, s)| due(s)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(server) = self.servers.get_mut(&key) else { continue };
            if server.end <= now {
                let unacked = server.unacked;
                self.servers.remove(&key);
                if let Some(call) = unacked {
                    self.never_acked(now, call);
                }
                continue;
            }
            server.pause = (server.pause * 2).min(T2);
            server.repeat = Some(now + server.pause);
            self.repeated.push((server.unacked, format!("repeats its answer to {}", key.1)));
            let message = (server.to, server.last.clone());
            self.transmits.push_back(message);
        }
    }

    pub(super) fn take_request(&mut self, now: Instant, from: SocketAddr, request: Request) {
        let Ok(via) = request.headers.via() else { return };
        let branch = via.branch().unwrap_or_default().to_vec();
        if request.method == Method::Ack {
            return self.acked(now, &branch, &request);
        }
        let key = (branch, request.method.clone());
        if let Some(server) = self.servers.get(&key) {
            let message = (server.to, server.last.clone());
            self.repeated.push((None, format!("hears {} again", key.1)));
            self.transmits.push_back(message);
            return;
        }
        self.serve(now, from, &key, &request);
    }

    /// Answers a request of the server. `call`: a final answer to this call's INVITE, to be
    /// repeated until its ACK comes.
    pub(super) fn answer_request(
        &mut self,
        now: Instant,
        key: &ServerKey,
        to: SocketAddr,
        response: &Response,
        call: Option<u32>,
    ) {
        let last = response.to_bytes();
        self.transmits.push_back((to, last.clone()));
        let invite = key.1 == Method::Invite;
        let end = match (invite, response.is_provisional()) {
            (true, true) => now + RING_MAX,
            (true, false) | (false, _) => now + T1 * 64,
        };
        let repeat = call.map(|_| now + T1);
        let server = Server { to, last, unacked: call, repeat, pause: T1, end };
        self.servers.insert(key.clone(), server);
    }

    /// An ACK: for the INVITE with this branch where it was refused, else for a 2xx.
    fn acked(&mut self, now: Instant, branch: &[u8], request: &Request) {
        let key = (branch.to_vec(), Method::Invite);
        if let Some(server) = self.servers.get_mut(&key) {
            server.repeat = None;
            server.unacked = None;
            return;
        }
        self.acked_answer(now, request);
    }

    /// The 2xx with this key needs no repetition any more. False where that was known.
    pub(super) fn settle_answer(&mut self, key: &ServerKey) -> bool {
        let Some(server) = self.servers.get_mut(key) else { return false };
        server.repeat = None;
        server.unacked.take().is_some()
    }

    /// A response that nobody asked for any more is no complaint, an unexpected one is.
    pub(super) fn note_no_ack(&mut self, call: u32) {
        self.tell(News::HearsNoAck { call });
    }
}

/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2.
const T2: Duration = Duration::from_secs(4);
/// RFC 3261 §17.1.2.2.
const T4: Duration = Duration::from_secs(5);
/// Timer D, and the life of an answered INVITE (RFC 6026).
const LINGER_INVITE: Duration = Duration::from_secs(32);
/// Nobody lets a phone ring longer.
const RING_MAX: Duration = Duration::from_secs(300);
