//! Two nodes side by side with a perfect link and a perfect store, and phones that say what the
//! test tells them to.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::{BTreeMap, VecDeque};

use tandem_call::{Cdr, Ending};
use tandem_journal::{Class, Entry, Frame, Known, Record, Write};
use tandem_node::{
    CDR_PREFIX, CallEvents, Config, EVENTS_PREFIX, Edit, Input, Node, Output, Reply,
    Request as Admin, read_cdr, read_events,
};
use tandem_sip::digest::{Challenge, respond};
use tandem_sip::{Carrier, HeaderName, Limits, Message, Method, Request, Response, Uri};
use tandem_types::{Dice, Duration, Epoch, Flow, Instant, Role, Seat, Transport};

pub(crate) const VIRTUAL: &str = "10.0.0.10:5060";
const OWN: [&str; 2] = ["10.0.0.1:5060", "10.0.0.2:5060"];
const SEATS: [Seat; 2] = [Seat::Master, Seat::Standby];

const START: Instant = Instant::from_micros(1_000_000_000);
/// Microseconds since 1970 when a bench begins.
const WALL_START: i64 = 1_700_000_000_000_000;

pub(crate) struct Server {
    pub(crate) node: Node,
    records: BTreeMap<Vec<u8>, Record>,
    known: Known,
    /// The configuration on its disk: every edit, the last of each kind.
    settings: BTreeMap<String, Edit>,
    pub(crate) alive: bool,
    pub(crate) frames: VecDeque<Vec<u8>>,
    /// Entries of its own that it wrote, and their bytes as they travel.
    pub(crate) entries: (usize, usize),
}

pub(crate) struct Bench {
    pub(crate) now: Instant,
    /// Time that passed while a machine was away, on the clocks on the wall only.
    away: Duration,
    pub(crate) servers: [Server; 2],
    pub(crate) active: usize,
    pub(crate) epoch: Epoch,
    /// Frames between the servers stay where they are.
    pub(crate) link_frozen: bool,
    /// Writes of the active server are not reported done.
    pub(crate) disk_frozen: bool,
    unreported: Option<(usize, u64)>,
    /// No store answers whether it has a record.
    pub(crate) looks_frozen: bool,
    /// Changes of the configuration wait here.
    pub(crate) edits_frozen: bool,
    pub(crate) edits: Vec<(usize, u64)>,
    /// Anna's phone is on TCP.
    pub(crate) on_tcp: bool,
    /// Phones talk to the active machine's own address.
    pub(crate) at_own: bool,
    /// From which server and local address what was sent left.
    pub(crate) left_from: Vec<(usize, String)>,
    /// Print every entry.
    pub(crate) tell: bool,
    /// What was sent to phones, by their address.
    pub(crate) sent: BTreeMap<String, VecDeque<Message>>,
    pub(crate) replies: Vec<Reply>,
    /// Who made each change of the configuration.
    pub(crate) authors: Vec<String>,
    /// How long call records are kept, as was last said by each server.
    pub(crate) kept_days: [Option<u32>; 2],
    pub(crate) facts: Vec<String>,
    /// Who was told to bind (true) or release the virtual address.
    pub(crate) serves: Vec<(usize, bool)>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let now = START;
        let server = |who: usize| Server {
            node: Node::new(now, config(who), Dice::from_number(who as u64), vec![], Known::new()),
            records: BTreeMap::new(),
            known: Known::new(),
            settings: BTreeMap::new(),
            alive: true,
            frames: VecDeque::new(),
            entries: (0, 0),
        };
        let mut bench = Self {
            now,
            away: Duration::ZERO,
            servers: [server(0), server(1)],
            active: 0,
            epoch: Epoch::NEVER,
            link_frozen: false,
            disk_frozen: false,
            unreported: None,
            looks_frozen: false,
            edits_frozen: false,
            edits: Vec::new(),
            on_tcp: false,
            at_own: false,
            left_from: Vec::new(),
            tell: false,
            sent: BTreeMap::new(),
            replies: Vec::new(),
            authors: Vec::new(),
            kept_days: [None; 2],
            facts: Vec::new(),
            serves: Vec::new(),
        };
        for who in 0..2 {
            bench.input(who, Input::Wall(WALL_START));
            bench.input(who, Input::LinkUp);
        }
        bench.crown(0);
        bench
    }

    pub(crate) fn crown(&mut self, who: usize) {
        self.active = who;
        self.epoch = self.epoch.next(SEATS[who]);
        let until = self.now + Duration::from_secs(1_000);
        self.input(who, Input::Lease { role: Role::Active, epoch: self.epoch, until });
    }

    /// The disk works again.
    pub(crate) fn thaw(&mut self) {
        self.disk_frozen = false;
        if let Some((who, ticket)) = self.unreported.take() {
            self.input(who, Input::Stored(ticket));
        }
    }

    /// The keeper lets the active server go on.
    pub(crate) fn renew(&mut self) {
        let (who, epoch) = (self.active, self.epoch);
        let until = self.now + Duration::from_secs(1_000);
        self.input(who, Input::Lease { role: Role::Active, epoch, until });
    }

    /// The keeper of an active server that hands over lets it go on.
    pub(crate) fn renew_hand_over(&mut self) {
        let (who, epoch) = (self.active, self.epoch);
        let until = self.now + Duration::from_secs(1_000);
        self.input(who, Input::HandOver { epoch, until });
    }

    /// The active server dies; its twin takes over.
    pub(crate) fn kill_active(&mut self) {
        let (dead, heir) = (self.active, 1 - self.active);
        self.servers[dead].alive = false;
        self.servers[heir].frames.clear();
        self.link_frozen = false;
        self.input(heir, Input::LinkDown);
        self.crown(heir);
    }

    /// The machine is switched off.
    pub(crate) fn switch_off(&mut self, who: usize) {
        self.servers[who].alive = false;
        self.servers[who].frames.clear();
        self.servers[1 - who].frames.clear();
        self.input(1 - who, Input::LinkDown);
    }

    /// A server comes back with what its disk held, `away` after it was written.
    pub(crate) fn switch_on(&mut self, who: usize, away: Duration) {
        let kept = self.servers[who].records.values().filter(|r| r.class != Class::Log);
        let aged = |record: &Record| Record { age: record.age + away, ..record.clone() };
        let (records, known) = (kept.map(aged).collect(), self.servers[who].known.clone());
        let dice = Dice::from_number(77 + who as u64);
        self.servers[who].node = Node::new(self.now, config(who), dice, records, known);
        self.servers[who].alive = true;
        self.away += away;
        let since = START.elapsed_until(self.now).as_micros() + self.away.as_micros();
        let wall = WALL_START + i64::try_from(since).unwrap();
        for server in [who, 1 - who] {
            self.input(server, Input::Wall(wall));
        }
        let mut settings = self.servers[who].settings.clone();
        if self.servers[1 - who].alive {
            settings.extend(self.servers[1 - who].settings.clone());
        }
        for server in 0..2 {
            if self.servers[server].alive {
                self.servers[server].settings = settings.clone();
                self.input(server, Input::Changed(settings.values().cloned().collect()));
            }
        }
        if self.servers[1 - who].alive {
            self.meet();
        }
    }

    /// The link is there, to both before anything is said on it.
    pub(crate) fn meet(&mut self) {
        let now = self.now;
        self.servers.iter_mut().for_each(|server| server.node.handle(now, Input::LinkUp));
        self.run();
    }

    pub(crate) fn input(&mut self, who: usize, input: Input) {
        let now = self.now;
        if self.servers[who].alive {
            self.servers[who].node.handle(now, input);
        }
        self.run();
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = (0..2)
                .filter(|who| self.servers[*who].alive)
                .filter_map(|who| self.servers[who].node.next_timeout())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for who in 0..2 {
                if self.servers[who].alive {
                    let now = self.now;
                    self.servers[who].node.handle_timeout(now);
                }
            }
            self.run();
        }
        self.now = end;
    }

    /// Until nothing moves.
    pub(crate) fn run(&mut self) {
        loop {
            let mut moved = false;
            for who in 0..2 {
                while self.servers[who].alive
                    && let Some(output) = self.servers[who].node.poll_output(self.now)
                {
                    moved = true;
                    self.output(who, output);
                }
                if !self.link_frozen
                    && self.servers[who].alive
                    && let Some(frame) = self.servers[who].frames.pop_front()
                {
                    moved = true;
                    let now = self.now;
                    self.servers[who].node.handle(now, Input::Frame(frame));
                }
            }
            if !moved {
                break;
            }
        }
    }

    fn output(&mut self, who: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Transmit { flow, bytes } => {
                let message =
                    Message::parse(&bytes, Carrier::Datagram, &Limits::default()).unwrap();
                self.left_from.push((who, flow.local.to_string()));
                self.sent.entry(flow.remote.to_string()).or_default().push_back(message);
            }
            Output::Frame(frame) if self.servers[1 - who].alive => {
                if let Ok(Frame::Entry(entry)) = Frame::decode(&frame) {
                    let count = &mut self.servers[who].entries;
                    *count = (count.0 + 1, count.1 + frame.len());
                    if self.tell {
                        tell(self.now, &entry);
                    }
                }
                self.servers[1 - who].frames.push_back(frame);
            }
            Output::Frame(_) => {}
            Output::Serve(serve) => self.serves.push((who, serve)),
            Output::Retain(days) => self.kept_days[who] = days,
            Output::Store { write, ticket, .. } => {
                self.servers[who].store(write);
                if self.disk_frozen && who == self.active {
                    self.unreported = Some((who, ticket));
                } else {
                    self.servers[who].node.handle(now, Input::Stored(ticket));
                }
            }
            Output::Fetch { lacking, read, .. } => {
                let records = self.servers[who].records.values();
                let wanted =
                    records.filter(|r| r.class == Class::Log && !lacking.covers(r.stamp)).cloned();
                let records = wanted.collect();
                self.servers[who].node.handle(now, Input::Fetched { read, records, next: None });
            }
            Output::Look { .. } if self.looks_frozen => {}
            Output::Look { key } => {
                let found = self.servers[who].records.contains_key(&key);
                self.servers[who].node.handle(now, Input::Looked { key, found });
            }
            Output::Edit { id, .. } if self.edits_frozen => self.edits.push((who, id)),
            Output::Edit { id, edit, by } => {
                self.authors.push(by);
                let key = match &edit {
                    Edit::User { name, .. } => name.to_string(),
                    Edit::Emergency(_) => "Emergency".to_owned(),
                    Edit::Retention(_) => "Retention".to_owned(),
                    Edit::Block { what, .. } => format!("Block {what}"),
                    Edit::Refused(refused) => format!("Refused {} {}", refused.what, refused.seat),
                };
                for server in self.servers.iter_mut().filter(|server| server.alive) {
                    server.settings.insert(key.clone(), edit.clone());
                }
                let twin = &mut self.servers[1 - who];
                if twin.alive {
                    twin.node.handle(now, Input::Changed(vec![edit]));
                }
                self.servers[who].node.handle(now, Input::Edited { id, result: Ok(()) });
            }
            Output::Answer { reply, .. } => self.replies.push(reply),
            Output::Fact(fact) => self.facts.push(format!("{who} {fact}")),
        }
    }

    /// The closed call records on the disk of one server.
    pub(crate) fn cdrs(&self, who: usize) -> Vec<Cdr> {
        let records = self.servers[who].records.iter();
        let closed = records.filter(|(key, _)| key.starts_with(CDR_PREFIX));
        closed.map(|(_, record)| read_cdr(record.body.as_ref().unwrap()).unwrap()).collect()
    }

    /// The events of all closed calls on the disk of one server.
    pub(crate) fn events(&self, who: usize) -> Vec<CallEvents> {
        let records = self.servers[who].records.iter();
        let closed = records.filter(|(key, _)| key.starts_with(EVENTS_PREFIX));
        closed.map(|(_, record)| read_events(record.body.as_ref().unwrap()).unwrap()).collect()
    }

    /// All records on the disk of one server.
    pub(crate) fn records(&self, who: usize) -> Vec<Record> {
        self.servers[who].records.values().cloned().collect()
    }

    /// Puts records onto the disk of a server that is off.
    pub(crate) fn put_records(&mut self, who: usize, records: Vec<Record>) {
        let all = records.into_iter().map(|record| (record.key.clone(), record));
        self.servers[who].records.extend(all);
    }

    /// Takes the records whose keys begin so from the disk of a server that is off. How many there were.
    pub(crate) fn forget_records(&mut self, who: usize, prefix: &str) -> usize {
        let records = &mut self.servers[who].records;
        let before = records.len();
        records.retain(|key, _| !key.starts_with(prefix.as_bytes()));
        before - records.len()
    }

    /// The keys of hot records on the disk of one server.
    pub(crate) fn hot_keys(&self, who: usize) -> Vec<String> {
        let hot = self.servers[who].records.iter().filter(|(_, r)| r.class == Class::Hot);
        hot.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }

    pub(crate) fn add_user(&mut self, name: &str, number: &str) {
        let request = Admin::UserAdd {
            name: name.into(),
            display: String::new(),
            numbers: vec![number.into()],
            password: Some(password(name)),
        };
        let who = self.active;
        self.input(who, Input::Admin { id: 1, request, by: String::from("root") });
        assert_eq!(self.replies.pop(), Some(Reply::Done { password: None }));
    }

    pub(crate) fn send(&mut self, from: &str, message: impl Into<Message>) {
        let (who, mut flow) = (self.active, flow(from));
        if (self.on_tcp && from == ANNA) || from == BEN_STREAM || from == BEN_ANEW {
            flow.transport = Transport::Tcp;
        }
        if self.at_own {
            flow.local = OWN[who].parse().unwrap();
        }
        self.input(who, Input::Bytes { flow, bytes: message.into().to_bytes() });
    }

    /// The next message a phone was sent.
    #[track_caller]
    pub(crate) fn next(&mut self, phone: &str) -> Message {
        self.sent.get_mut(phone).and_then(VecDeque::pop_front).expect("nothing was sent")
    }

    #[track_caller]
    pub(crate) fn response(&mut self, phone: &str, status: u16) -> Response {
        match self.next(phone) {
            Message::Response(response) => {
                assert_eq!(response.status, status);
                response
            }
            Message::Request(request) => panic!("got {} for {status}", request.method),
        }
    }

    #[track_caller]
    pub(crate) fn request(&mut self, phone: &str, method: &Method) -> Request {
        match self.next(phone) {
            Message::Request(request) => {
                assert_eq!(&request.method, method);
                request
            }
            Message::Response(response) => panic!("got {} for {method}", response.status),
        }
    }

    /// Everything a phone was sent and has not looked at, as `180 200 BYE`.
    pub(crate) fn all(&mut self, phone: &str) -> String {
        let messages = self.sent.remove(phone).unwrap_or_default();
        let name = |message: &Message| match message {
            Message::Request(request) => request.method.to_string(),
            Message::Response(response) => response.status.to_string(),
        };
        messages.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn silent(&self, phone: &str) -> bool {
        self.sent.get(phone).is_none_or(VecDeque::is_empty)
    }

    /// Sends a request, is asked for a proof, sends it again with one.
    pub(crate) fn prove(&mut self, phone: &str, user: &str, request: Request) -> Request {
        self.send(phone, request.clone());
        self.prove_again(phone, user, request)
    }

    /// Is asked for a proof, or for a newer one, sends the request again with one.
    pub(crate) fn prove_again(&mut self, phone: &str, user: &str, mut request: Request) -> Request {
        let (status, ask, prove) = if request.method == Method::Register {
            (401, HeaderName::WwwAuthenticate, HeaderName::Authorization)
        } else {
            (407, HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)
        };
        let response = self.response(phone, status);
        let challenge: Challenge = response.headers.challenges(&ask).next().unwrap();
        let (cseq, method) = request.headers.cseq().unwrap();
        if method == Method::Invite {
            let to = response.headers.get(&HeaderName::To).unwrap().to_vec();
            let mut ack = Request::new(Method::Ack, request.uri.clone());
            for header in &request.headers {
                ack.headers.push(header.name().clone(), header.value());
            }
            ack.headers.set(HeaderName::To, to);
            ack.headers.set(HeaderName::CSeq, format!("{cseq} ACK"));
            self.send(phone, ack);
        }
        let uri = request.uri.clone();
        let proof = respond(
            &challenge,
            &method,
            uri.as_bytes(),
            user.as_bytes(),
            password(user).as_bytes(),
            b"c",
            1,
        );
        request.headers.remove(&prove);
        request.headers.push(prove, proof.to_bytes());
        request.headers.set(HeaderName::CSeq, format!("{} {method}", cseq + 1));
        let via = request.headers.via().unwrap().to_string().replace("branch=", "branch=z9hG4bKx");
        request.headers.set(HeaderName::Via, via);
        self.send(phone, request.clone());
        request
    }

    /// Anna and Ben have numbers; Ben's phone is logged in.
    pub(crate) fn add_users(&mut self) {
        self.add_user("anna", "10");
        self.add_user("ben", "20");
        self.log_in(BEN, "ben");
    }

    pub(crate) fn log_in(&mut self, phone: &str, user: &str) {
        self.log_in_as(phone, user, 0);
    }

    pub(crate) fn log_in_as(&mut self, phone: &str, user: &str, number: u32) {
        let id = format!("r{number}");
        let mut register = request(Method::Register, "sip:example.com", phone, user, user, &id);
        register.headers.push(HeaderName::Contact, format!("<sip:{user}@{phone}>"));
        self.prove(phone, user, register);
        self.response(phone, 200);
    }

    /// Anna's INVITE until Ben's phone rings; her INVITE and the one he got.
    pub(crate) fn ring(&mut self) -> (Request, Request) {
        self.add_user("anna", "10");
        self.add_user("ben", "20");
        self.log_in(ANNA, "anna");
        self.log_in(BEN, "ben");
        self.ring_as(0)
    }

    pub(crate) fn ring_as(&mut self, number: u32) -> (Request, Request) {
        let id = format!("c{number}");
        let mut invite = request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", &id);
        invite.headers.push(HeaderName::Contact, format!("<sip:anna@{ANNA}>"));
        let invite = invite.with_body("application/sdp", "v=0 anna");
        let invite = self.prove(ANNA, "anna", invite);
        self.response(ANNA, 100);
        let got = self.request(BEN, &Method::Invite);
        assert_eq!(got.body, b"v=0 anna");
        let mut ringing = answer(&got, 180);
        ringing.headers.push(HeaderName::Contact, format!("<sip:ben@{BEN}>"));
        self.send(BEN, ringing);
        self.response(ANNA, 180);
        (invite, got)
    }

    /// Ben answers, Anna acknowledges; her view of the dialog as (To, remote target).
    pub(crate) fn answer(&mut self, invite: &Request, got: &Request) -> (Vec<u8>, Uri) {
        self.send(BEN, ok(got));
        let answered = self.response(ANNA, 200);
        let (to, target) = dialog_of(&answered);
        let ack = in_dialog(invite, Method::Ack, &to, &target, 2);
        self.send(ANNA, ack);
        self.request(BEN, &Method::Ack);
        (to, target)
    }
}

impl Server {
    fn store(&mut self, write: Write) {
        let records: Vec<Record> = match write {
            Write::Entry(entry) => {
                let stamp = entry.stamp;
                self.known.learn(stamp);
                let record = |op: tandem_journal::Op| Record {
                    class: op.class,
                    key: op.key,
                    stamp,
                    age: Duration::ZERO,
                    body: op.body,
                };
                entry.ops.into_iter().map(record).collect()
            }
            Write::Records(records) => records,
            Write::Forget(keys) => {
                self.records.retain(|key, _| !keys.contains(key));
                Vec::new()
            }
            Write::Learn(known) => {
                self.known.merge(&known);
                Vec::new()
            }
        };
        for record in records {
            assert!(
                !record.key.starts_with(CDR_PREFIX)
                    || self.records.get(&record.key).is_none_or(|old| may_follow(old, &record)),
                "a record was closed twice"
            );
            if record.class == Class::Hot && record.body.is_none() {
                self.records.remove(&record.key);
            } else {
                self.records.insert(record.key.clone(), record);
            }
        }
    }
}

/// A closed call record changes only where its call had been given up before anybody rang, or before it was answered
/// at the other server, and went on all the same.
fn may_follow(old: &Record, new: &Record) -> bool {
    let given_up = |cdr: &Cdr| cdr.ending == Some(Ending::Failover) && cdr.delivered.is_none();
    let read = |record: &Record| record.body.as_deref().and_then(read_cdr);
    let tells_more = match (read(old), read(new)) {
        (Some(old), Some(new)) => {
            given_up(&old) || (old.connect.is_none() && new.connect.is_some())
        }
        (Some(old), None) => given_up(&old),
        (None, _) => false,
    };
    old.body == new.body || (tells_more && old.stamp < new.stamp)
}

/// What an entry changes, for people: see [`Bench::tell`].
fn tell(now: Instant, entry: &Entry) {
    let change = |op: &tandem_journal::Op| {
        let key: String = String::from_utf8_lossy(&op.key).chars().take(12).collect();
        let size = op.body.as_ref().map_or("gone".into(), |body| body.len().to_string());
        format!("{key} {size}")
    };
    let changes: Vec<String> = entry.ops.iter().map(change).collect();
    println!("{now} {}: {}", entry.stamp, changes.join(", "));
}

pub(crate) const ANNA: &str = "10.0.1.1:5070";
pub(crate) const BEN: &str = "10.0.1.2:5070";
/// Connections that Ben's phone opened.
pub(crate) const BEN_STREAM: &str = "10.0.1.2:41000";
pub(crate) const BEN_ANEW: &str = "10.0.1.2:42000";
/// Ben's second phone.
pub(crate) const BEN_AT_HOME: &str = "10.0.1.3:5070";

fn password(user: &str) -> String {
    format!("a long secret of {user}")
}

fn config(who: usize) -> Config {
    Config {
        seat: SEATS[who],
        realm: "example.com".into(),
        virtual_addresses: vec![VIRTUAL.parse().unwrap()],
        own_addresses: vec![OWN[who].parse().unwrap()],
        retry_after_seconds: 1,
        nonce_key: [7; 32],
        digest: tandem_node::Digest::Both,
        devices_per_user_max: 4,
        lingers: true,
    }
}

pub(crate) fn flow(phone: &str) -> Flow {
    let (local, remote) = (VIRTUAL.parse().unwrap(), phone.parse().unwrap());
    Flow { transport: Transport::Udp, local, remote }
}

/// A request outside of any dialog.
pub(crate) fn request(
    method: Method,
    uri: &str,
    phone: &str,
    from: &str,
    to: &str,
    id: &str,
) -> Request {
    let cseq = format!("1 {method}");
    Request::new(method, uri.parse().unwrap())
        .with(HeaderName::Via, format!("SIP/2.0/UDP {phone};rport;branch=z9hG4bK{id}{from}"))
        .with(HeaderName::MaxForwards, "70")
        .with(HeaderName::From, format!("<sip:{from}@example.com>;tag=t{from}"))
        .with(HeaderName::To, format!("<sip:{to}@example.com>"))
        .with(HeaderName::CallId, format!("{id}-{from}"))
        .with(HeaderName::CSeq, cseq)
}

/// Anna's INVITE to Ben, without a proof and without a body.
pub(crate) fn invite() -> Request {
    let invite = request(Method::Invite, "sip:20@example.com", ANNA, "anna", "20", "c");
    invite.with(HeaderName::Contact, format!("<sip:anna@{ANNA}>"))
}

/// A request of the caller in the dialog that `invite` and the To of its answer made.
pub(crate) fn in_dialog(
    invite: &Request,
    method: Method,
    to: &[u8],
    target: &Uri,
    cseq: u32,
) -> Request {
    let call = String::from_utf8_lossy(invite.headers.call_id().unwrap_or_default());
    let branch = format!("SIP/2.0/UDP {ANNA};rport;branch=z9hG4bKd{call}{cseq}{method}");
    Request::new(method.clone(), target.clone())
        .with(HeaderName::Via, branch)
        .with(HeaderName::MaxForwards, "70")
        .with(HeaderName::From, invite.headers.get(&HeaderName::From).unwrap())
        .with(HeaderName::To, to)
        .with(HeaderName::CallId, invite.headers.get(&HeaderName::CallId).unwrap())
        .with(HeaderName::CSeq, format!("{cseq} {method}"))
        .with(HeaderName::Contact, format!("<sip:anna@{ANNA}>"))
}

/// The caller gives up.
pub(crate) fn cancel(invite: &Request) -> Request {
    let mut cancel = invite.clone();
    cancel.method = Method::Cancel;
    cancel.body.clear();
    let (number, _) = invite.headers.cseq().unwrap();
    cancel.headers.set(HeaderName::CSeq, format!("{number} CANCEL"));
    cancel
}

/// The caller's view of the dialog that an answer makes, as (To, remote target).
pub(crate) fn dialog_of(answered: &Response) -> (Vec<u8>, Uri) {
    let to = answered.headers.get(&HeaderName::To).unwrap().to_vec();
    match answered.headers.contacts().unwrap().remove(0) {
        tandem_sip::ContactValue::Addr(address) => (to, address.uri),
        tandem_sip::ContactValue::Star => panic!("no address"),
    }
}

/// Ben's response.
pub(crate) fn answer(request: &Request, status: u16) -> Response {
    let mut response = tandem_stack::make_response(request, status, None);
    let to = response.headers.to().unwrap();
    if to.tag().is_none() {
        response.headers.set(HeaderName::To, to.with_tag(b"tben"));
    }
    response
}

/// Ben's 200.
pub(crate) fn ok(request: &Request) -> Response {
    let mut response = answer(request, 200);
    response.headers.push(HeaderName::Contact, format!("<sip:ben@{BEN}>"));
    response.with_body("application/sdp", "v=0 ben")
}
