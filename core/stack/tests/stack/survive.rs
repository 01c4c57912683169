//! Takeovers: what the twin is told, and that it goes on as if nothing had happened.

use crate::bench::{Bench, Phone, describe, flow, ours, parse};
use expect_test::expect;
use std::collections::BTreeMap;
use tandem_sip::{HeaderName, Message, Request};
use tandem_stack::{
    Checkpoint, ClientId, Config, Event, ServerId, Stack, TransactionId, Transmit, make_response,
};
use tandem_types::{Dice, Duration, Flow, Instant, Transport};

/// The twin's records, written as the journal would: only what `take_changes` names.
#[derive(Default)]
struct Records(BTreeMap<TransactionId, (Instant, Vec<u8>)>);

impl Records {
    /// Writes and deletes; how many of each.
    fn write(&mut self, now: Instant, stack: &mut Stack) -> (usize, usize) {
        let (mut written, mut deleted) = (0, 0);
        for id in stack.take_changes() {
            if let Some(checkpoint) = stack.checkpoint(now, &id) {
                assert_eq!(checkpoint.id(), id);
                self.0.insert(id, (now, postcard::to_stdvec(&checkpoint).unwrap()));
                written += 1;
            } else {
                assert!(self.0.remove(&id).is_some(), "a record to delete that never was");
                deleted += 1;
            }
        }
        (written, deleted)
    }

    fn restore(&self, now: Instant, stack: &mut Stack) {
        for (written, bytes) in self.0.values() {
            let checkpoint: Checkpoint = postcard::from_bytes(bytes).unwrap();
            stack.restore(now, checkpoint, written.elapsed_until(now));
        }
    }
}

impl Bench {
    /// The twin goes on.
    fn takeover(&mut self, records: &Records) {
        self.stack = Stack::new(Config::new("pbx.example"), Dice::from_number(2));
        records.restore(self.now, &mut self.stack);
        self.seen += "takeover\n";
        self.note();
    }
}

/// The other server had said 200, which nobody knows any more.
#[test]
fn who_acknowledges_another_answer_to_an_invite_is_told_no_more_of_its_refusal() {
    for (takes_over, cseq) in [(false, 1), (true, 1), (false, 2)] {
        let (mut bench, mut records) = (Bench::new(), Records::default());
        let phone = Phone::default();
        let dialog = Phone { branch: ";branch=z9hG4bK2".into(), to_tag: ";tag=x".into(), ..phone };
        bench.hear(&Phone::default().says("INVITE")).respond(487);
        records.write(bench.now, &mut bench.stack);
        if takes_over {
            bench.takeover(&records);
        }
        bench.seen.clear();
        bench.hear(&Phone { cseq, ..dialog }.says("ACK")).wait(Duration::from_secs(40));
        let is_repeated = bench.seen.contains("487 Request Terminated again");
        assert_eq!(is_repeated, cseq == 2, "{takes_over}: {}", bench.seen);
        assert_eq!(bench.stack.transactions(), (0, 0));
    }
}

#[test]
fn a_repeated_bye_is_answered_200_by_the_twin() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    let bye = Phone { to_tag: ";tag=b".into(), ..Phone::default() }.says("BYE");
    bench.hear(&bye).respond(200);
    assert_eq!(records.write(bench.now, &mut bench.stack), (1, 0));
    bench.wait(Duration::from_secs(1)).takeover(&records);
    bench
        .hear(&bye)
        .wait(Duration::from_secs(30))
        .hear(&bye)
        .wait(Duration::from_secs(1))
        .hear(&bye);
    bench.want(&expect![[r#"
        0.000s BYE from udp:192.0.2.9:5060
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
        takeover
        1.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK again
        31.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK again
        32.000s BYE from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn the_twin_can_answer_a_request_it_never_heard() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    let more = "Record-Route: <sip:p;lr>\nUser-Agent: x\n".into();
    let via = "SIP/2.0/UDP 10.0.0.1;rport".into();
    bench.hear(&Phone { more, via, ..Phone::default() }.says("INVITE"));
    records.write(bench.now, &mut bench.stack);
    let (id, original) = bench.requests[0].clone();
    bench.takeover(&records);
    let (flow, request) = bench.stack.server_request(&id).unwrap();
    assert_eq!(flow, bench.flow);
    assert_eq!(make_response(&request, 180, None), make_response(&original, 180, None));
    assert!(!request.headers.contains(&HeaderName::UserAgent));
    bench.respond(200);
    assert_eq!(bench.stack.server_request(&id), None);
    bench.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
        takeover
        0.000s -> udp:192.0.2.9:5060 SIP/2.0 200 OK
    "#]]);
}

/// A phone on a connection that ends with the server: where the twin sends to.
fn rerouted(bench: &mut Bench, records: &Records) {
    bench.stack = Stack::new(Config::new("pbx.example"), Dice::from_number(2));
    for (_, bytes) in records.0.values() {
        let mut checkpoint: Checkpoint = postcard::from_bytes(bytes).unwrap();
        checkpoint.reroute(
            |flow| flow,
            |uri, flow| {
                let port = uri.port().unwrap_or(5060);
                Flow { remote: (flow.remote.ip(), port).into(), ..flow }
            },
        );
        bench.stack.restore(bench.now, checkpoint, Duration::ZERO);
    }
    bench.seen += "takeover\n";
    bench.note();
}

#[test]
fn who_waits_for_an_answer_on_a_lost_connection_gets_it_where_it_listens() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    bench.flow = flow(Transport::Tcp, "192.0.2.9:41234");
    let via = "SIP/2.0/TCP 192.0.2.9:5070;rport".into();
    bench.hear(&Phone { via, ..Phone::default() }.says("INVITE")).respond(180);
    records.write(bench.now, &mut bench.stack);
    rerouted(&mut bench, &records);
    bench.respond(200);
    bench.want(&expect![[r#"
        0.000s INVITE from tcp:192.0.2.9:41234
        0.000s -> tcp:192.0.2.9:41234 SIP/2.0 180 Ringing
        takeover
        0.000s -> tcp:192.0.2.9:5070 SIP/2.0 180 Ringing again
        0.000s -> tcp:192.0.2.9:5070 SIP/2.0 200 OK
    "#]]);
}

#[test]
fn a_request_that_waits_on_a_lost_connection_goes_where_the_phone_listens() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    bench.flow = flow(Transport::Tcp, "192.0.2.9:41234");
    let id = bench.request(ours("INVITE", ""));
    records.write(bench.now, &mut bench.stack);
    rerouted(&mut bench, &records);
    bench.stack.move_request(&id, flow(Transport::Tcp, "192.0.2.9:41235"));
    bench.answer(&bench.last_request(), 180, "c");
    bench.stack.cancel(bench.now, &id);
    bench.note();
    bench.want(&expect![[r#"
        0.000s -> tcp:192.0.2.9:41234 INVITE sip:carol@192.0.2.7 SIP/2.0
        takeover
        0.000s -> tcp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0 again
        0.000s 180 Ringing
        0.000s -> tcp:192.0.2.9:41235 CANCEL sip:carol@192.0.2.7 SIP/2.0
    "#]]);
}

#[test]
fn an_answer_that_comes_again_on_a_new_connection_is_acknowledged_on_that() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    bench.flow = flow(Transport::Tcp, "192.0.2.9:41234");
    let id = bench.request(ours("INVITE", ""));
    let invite = bench.last_request();
    bench.answer(&invite, 200, "c");
    let mut ack = ours("ACK", "");
    ack.headers.set(HeaderName::To, "<sip:carol@pbx.example>;tag=c");
    bench.stack.acknowledge(bench.now, &id, bench.flow, ack);
    bench.note();
    records.write(bench.now, &mut bench.stack);
    rerouted(&mut bench, &records);
    bench.flow = flow(Transport::Tcp, "192.0.2.9:42345");
    bench.answer(&invite, 200, "c");
    bench.want(&expect![[r#"
        0.000s -> tcp:192.0.2.9:41234 INVITE sip:carol@192.0.2.7 SIP/2.0
        0.000s 200 OK
        0.000s -> tcp:192.0.2.9:41234 ACK sip:carol@192.0.2.7 SIP/2.0
        takeover
        0.000s -> tcp:192.0.2.9:42345 ACK sip:carol@192.0.2.7 SIP/2.0 again
    "#]]);
}

#[test]
fn datagrams_need_no_other_way() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    bench.request(ours("INVITE", ""));
    records.write(bench.now, &mut bench.stack);
    rerouted(&mut bench, &records);
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0
        takeover
        0.000s -> udp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0 again
    "#]]);
}

#[test]
fn the_twin_acknowledges_an_answer_that_comes_again() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    let id = bench.request(ours("INVITE", ""));
    let invite = bench.last_request();
    bench.answer(&invite, 200, "c");
    let mut ack = ours("ACK", "");
    ack.headers.set(HeaderName::To, "<sip:carol@pbx.example>;tag=c");
    bench.stack.acknowledge(bench.now, &id, bench.flow, ack);
    bench.note();
    records.write(bench.now, &mut bench.stack);
    let ack = bench.sent.last().unwrap().bytes.clone();
    bench.takeover(&records);
    bench.answer(&invite, 200, "c");
    bench.want(&expect![[r#"
        0.000s -> udp:192.0.2.9:5060 INVITE sip:carol@192.0.2.7 SIP/2.0
        0.000s 200 OK
        0.000s -> udp:192.0.2.9:5060 ACK sip:carol@192.0.2.7 SIP/2.0
        takeover
        0.000s -> udp:192.0.2.9:5060 ACK sip:carol@192.0.2.7 SIP/2.0 again
    "#]]);
    assert_eq!(bench.sent.last().unwrap().bytes, ack);
}

#[test]
fn repetitions_timers_and_what_is_not_kept_are_no_change() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    let write =
        |bench: &mut Bench, records: &mut Records| records.write(bench.now, &mut bench.stack);
    bench.hear(&Phone::default().says("INVITE")).respond(200);
    bench.request(ours("OPTIONS", ""));
    assert_eq!(write(&mut bench, &mut records), (2, 0));
    bench.wait(Duration::from_secs(10)).hear(&Phone::default().says("INVITE"));
    assert_eq!(write(&mut bench, &mut records), (0, 0));
    let options = bench.last_request();
    bench.answer(&options, 100, "c").answer(&options, 100, "c");
    assert_eq!(write(&mut bench, &mut records), (1, 0));
    bench.answer(&options, 200, "c");
    assert_eq!(write(&mut bench, &mut records), (0, 1));
    bench.wait(Duration::from_secs(30));
    assert_eq!(write(&mut bench, &mut records), (0, 1));
    // Over before anybody asked: the twin need not hear of it.
    bench.flow.transport = Transport::Tcp;
    bench.hear(&Phone { cseq: 2, ..Phone::default() }.says("OPTIONS")).respond(200);
    assert_eq!(write(&mut bench, &mut records), (0, 0));
    assert!(records.0.is_empty());
}

#[test]
fn a_stack_that_is_cleared_knows_and_says_nothing() {
    let mut bench = Bench::new();
    bench.hear(&Phone::default().says("INVITE")).respond(200);
    bench.request(ours("INVITE", ""));
    bench.stack.request(bench.now, bench.flow, ours("OPTIONS", ""));
    bench.stack.clear();
    assert_eq!(bench.stack.poll_transmit(), None);
    assert_eq!(bench.stack.next_timeout(), None);
    assert_eq!(bench.stack.transactions(), (0, 0));
    assert!(bench.stack.take_changes().is_empty());
    bench.seen.clear();
    bench.hear(&Phone::default().says("INVITE"));
    bench.want(&expect![[r#"
        0.000s INVITE from udp:192.0.2.9:5060
    "#]]);
}

#[test]
fn a_record_is_a_fraction_of_what_it_stands_for() {
    let (mut bench, mut records) = (Bench::new(), Records::default());
    let more = format!("User-Agent: {}\nAllow: {}\n", "x".repeat(60), "INVITE, ".repeat(12));
    let body = "v=0\r\n".repeat(60);
    let invite = Phone { more, ..Phone::default() }.says("INVITE");
    let invite = invite.replace("Length: 0", &format!("Length: {}", body.len())) + &body;
    bench.hear(&invite).respond(100);
    records.write(bench.now, &mut bench.stack);
    let sizes: Vec<_> = records.0.values().map(|(_, bytes)| bytes.len()).collect();
    expect!["453 of 683"].assert_eq(&format!("{} of {}", sizes[0], invite.len()));
}

/// One server and the world around it, driven by a seed.
struct World {
    stack: Stack,
    now: Instant,
    dice: Dice,
    records: Records,
    incoming: Vec<Incoming>,
    outgoing: Vec<Outgoing>,
    /// What was seen but for repetitions.
    seen: Vec<String>,
    repeats: usize,
}

/// A telephone that asks us.
#[derive(Clone)]
struct Incoming {
    flow: Flow,
    phone: Phone,
    method: &'static str,
    id: Option<ServerId>,
    request: Option<Request>,
    answered: u16,
    /// Nothing more of it is heard: what the twin need not know must not be asked.
    over: bool,
}

/// A telephone we ask.
struct Outgoing {
    flow: Flow,
    id: ClientId,
    request: Request,
    answers: u32,
}

const CLIENT_METHODS: [&str; 3] = ["INVITE", "OPTIONS", "INVITE"];
const STATUSES: [u16; 6] = [100, 180, 183, 200, 200, 486];

impl World {
    fn new(seed: u64) -> Self {
        Self {
            stack: Stack::new(Config::new("pbx.example"), Dice::from_number(seed)),
            now: Instant::ZERO,
            dice: Dice::from_number(seed),
            records: Records::default(),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            seen: Vec::new(),
            repeats: 0,
        }
    }

    fn pick_flow(&mut self) -> Flow {
        let transport = [Transport::Udp, Transport::Tcp][self.dice.below(2) as usize];
        let remote = format!("192.0.2.{}:5060", 9 + self.dice.below(3));
        crate::bench::flow(transport, &remote)
    }

    /// One thing happens.
    fn step(&mut self) {
        match self.dice.below(12) {
            0 | 1 => self.new_request(),
            2 => self.request_again(),
            3..=5 => self.respond(),
            6 => self.cancel_or_ack(),
            7 => self.send(),
            8 | 9 => self.answered(),
            10 => self.give_up(),
            _ => {
                let millis = [1, 300, 900, 4_000, 20_000][self.dice.below(5) as usize];
                self.wait(Duration::from_millis(millis));
            }
        }
        self.drain();
    }

    fn new_request(&mut self) {
        let number = self.incoming.len();
        let flow = self.pick_flow();
        let phone = Phone {
            branch: format!(";rport;branch=z9hG4bK{number}"),
            call: format!("in{number}"),
            ..Phone::default()
        };
        let method = ["INVITE", "BYE", "INVITE"][self.dice.below(3) as usize];
        let new =
            Incoming { flow, phone, method, id: None, request: None, answered: 0, over: false };
        self.incoming.push(new);
        self.hear(number, method);
    }

    fn hear(&mut self, number: usize, method: &str) {
        let Incoming { flow, phone, .. } = &self.incoming[number];
        self.stack.handle_bytes(self.now, *flow, phone.says(method).as_bytes());
    }

    fn pick_incoming(&mut self) -> Option<usize> {
        let number = self.dice.below(self.incoming.len() as u64) as usize;
        self.incoming.get(number).filter(|incoming| !incoming.over).map(|_| number)
    }

    fn request_again(&mut self) {
        if let Some(number) = self.pick_incoming() {
            self.hear(number, self.incoming[number].method);
        }
    }

    fn respond(&mut self) {
        let status = STATUSES[self.dice.below(6) as usize];
        let Some(number) = self.pick_incoming() else { return };
        let incoming = &mut self.incoming[number];
        let (Some(id), Some(request)) = (incoming.id, &incoming.request) else { return };
        let mut response = make_response(request, status, None);
        if status > 100 {
            let to = response.headers.to().unwrap().with_tag(b"us");
            response.headers.set(HeaderName::To, to);
        }
        let result = self.stack.respond(self.now, &id, response);
        self.seen.push(format!("respond {number} {status} {result:?}"));
        if result.is_ok() {
            incoming.answered = status;
        }
        // On a connection nothing comes again, and nothing is remembered.
        incoming.over |=
            status >= 200 && incoming.flow.transport == Transport::Tcp && incoming.method == "BYE";
    }

    fn cancel_or_ack(&mut self) {
        let Some(number) = self.pick_incoming().filter(|at| self.incoming[*at].method == "INVITE")
        else {
            return;
        };
        if self.incoming[number].answered < 200 {
            return self.hear(number, "CANCEL");
        }
        let incoming = &mut self.incoming[number];
        incoming.over = true;
        incoming.phone.to_tag = ";tag=us".into();
        if incoming.answered < 300 {
            incoming.phone.branch = format!(";branch=z9hG4bK{number}ack");
        }
        self.hear(number, "ACK");
    }

    fn send(&mut self) {
        let flow = self.pick_flow();
        let method = CLIENT_METHODS[self.dice.below(3) as usize];
        let mut request = ours(method, "");
        request.headers.set(HeaderName::CallId, format!("out{}", self.outgoing.len()));
        let id = self.stack.request(self.now, flow, request.clone());
        self.outgoing.push(Outgoing { flow, id, request, answers: 0 });
    }

    fn answered(&mut self) {
        let status = STATUSES[self.dice.below(6) as usize];
        let number = self.dice.below(self.outgoing.len() as u64) as usize;
        let tag = ["c", "d"][self.dice.below(2) as usize];
        let Some(outgoing) = self.outgoing.get_mut(number) else { return };
        outgoing.answers += 1;
        let mut response = make_response(&outgoing.request, status, None);
        let to = response.headers.to().unwrap().with_tag(tag.as_bytes());
        response.headers.set(HeaderName::To, to);
        self.stack.handle_bytes(self.now, outgoing.flow, &response.to_bytes());
    }

    fn give_up(&mut self) {
        let number = self.dice.below(self.outgoing.len() as u64) as usize;
        let fails = self.dice.chance(20);
        let Some(outgoing) = self.outgoing.get(number) else { return };
        if fails {
            self.stack.handle_flow_failed(self.now, outgoing.flow);
        } else {
            self.stack.cancel(self.now, &outgoing.id);
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.stack.next_timeout().filter(|due| *due <= end) {
            assert!(due >= self.now);
            self.now = due;
            self.stack.handle_timeout(due);
            self.drain();
        }
        self.now = end;
    }

    /// Writes down events and messages, answers 2xx with ACK, writes the records.
    fn drain(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            self.seen.push(format!("{} {}", self.now, describe(&event)));
            match event {
                Event::Request { id, request, .. } => {
                    let call = request.headers.call_id().unwrap();
                    let number: usize = std::str::from_utf8(&call[2..]).unwrap().parse().unwrap();
                    self.incoming[number].id = Some(id);
                    self.incoming[number].request = Some(request);
                }
                Event::Response { id, flow, response } if response.is_success() => {
                    if response.headers.cseq().unwrap().1 == tandem_sip::Method::Invite {
                        let mut ack = ours("ACK", "");
                        ack.headers
                            .set(HeaderName::To, response.headers.get(&HeaderName::To).unwrap());
                        self.stack.acknowledge(self.now, &id, flow, ack);
                    }
                }
                Event::Response { .. }
                | Event::Cancelled { .. }
                | Event::Ack { .. }
                | Event::Failed { .. }
                | Event::NoAck { .. } => {}
            }
        }
        while let Some(sent) = self.stack.poll_transmit() {
            self.sent(&sent);
        }
        self.records.write(self.now, &mut self.stack);
    }

    fn sent(&mut self, sent: &Transmit) {
        let message = parse(&sent.bytes);
        if let Message::Request(request) = &message
            && let Some(TransactionId::Client(id)) = sent.transaction
            && let Some(outgoing) = self.outgoing.iter_mut().find(|outgoing| outgoing.id == id)
            && !matches!(request.method.as_str(), "ACK" | "CANCEL")
        {
            outgoing.request = request.clone();
        }
        if sent.repeat {
            self.repeats += 1;
            return;
        }
        // The tags and branches of our own are random; all else must be the same.
        let what = match &message {
            Message::Request(request) => request.method.as_str().to_string(),
            Message::Response(response) => response.status.to_string(),
        };
        let headers = message.headers();
        let call = String::from_utf8_lossy(headers.call_id().unwrap()).into_owned();
        self.seen.push(format!("{} -> {} {what} {call} {:?}", self.now, sent.flow, headers.cseq()));
    }

    /// The twin goes on with nothing but the records.
    fn takeover(&mut self) {
        self.stack = Stack::new(Config::new("pbx.example"), Dice::from_number(u64::MAX));
        self.records.restore(self.now, &mut self.stack);
        assert!(self.stack.take_changes().is_empty(), "what was just read is no change");
        let before = self.seen.len();
        self.drain();
        assert_eq!(self.seen.len(), before, "a takeover sends repetitions alone");
    }
}

#[test]
fn a_takeover_changes_nothing_but_repetitions() {
    let (mut compared, mut restored, mut repeats) = (0, 0, 0);
    for seed in 0..SEEDS {
        let at = Dice::from_number(seed).below(STEPS);
        let [alone, pair] = [false, true].map(|dies| {
            let mut world = World::new(seed);
            for step in 0..STEPS {
                if dies && step == at {
                    restored += world.records.0.len();
                    world.takeover();
                }
                world.step();
            }
            world.wait(Duration::from_secs(100));
            world
        });
        assert_eq!(alone.seen, pair.seen, "seed {seed}, takeover before step {at}");
        compared += alone.seen.len();
        repeats += pair.repeats;
    }
    // It did run.
    assert!(
        compared > 20_000 && restored > 1_000 && repeats > 1_000,
        "{compared} {restored} {repeats}"
    );
}

/// How many runs, and how many things happen in each.
const SEEDS: u64 = 500;
const STEPS: u64 = 60;
