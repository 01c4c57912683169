//! A sequence of inputs into the transaction stack, as its network and its user may give them.
//!
//! Two bytes each say what happens and to whom. Messages come from a few templates in which the
//! input may change a byte. Whatever comes, nothing panics, and after each step:
//! counts keep within their limits, no timer stays in the past, nothing is sent for a transaction
//! of nobody, records are told of before they are deleted, and the twin restores from them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use tandem_sip::Carrier;
use tandem_sip::{HeaderName, Limits, Message, Method, Request};
use tandem_stack::{
    ClientId, Config, Event, Frame, Framer, ServerId, Stack, TransactionId, make_response,
};
use tandem_types::{Dice, Duration, Flow, Instant, Transport};

/// Small, so that they are reached.
const PER_SOURCE: usize = 6;
const SERVERS: usize = 10;
const CLIENTS: usize = 8;
/// Every CANCEL of a known INVITE may add one (see `Stack`).
const CANCELS: usize = 2;

fuzz_target!(|input: &[u8]| {
    let mut desk = Desk::new();
    let mut input = input.iter().copied();
    while let (Some(verb), Some(object)) = (input.next(), input.next()) {
        desk.step(verb, object, &mut input);
        desk.check();
    }
    // In the end all is forgotten but INVITEs that ring.
    desk.pass(Duration::from_secs(200));
    desk.check();
});

struct Desk {
    stack: Stack,
    now: Instant,
    servers: Vec<(ServerId, Request)>,
    clients: Vec<(ClientId, Request)>,
    /// What the twin was told to keep.
    records: BTreeSet<TransactionId>,
    framer: Framer,
}

fn flow(object: u8) -> Flow {
    let transport = if object & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let remote = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9 + (object >> 1 & 1)), 5060));
    Flow { transport, local: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5060)), remote }
}

fn request(method: &str, object: u8, headers: &str) -> String {
    let call = object >> 2 & 7;
    let to_tag = if object & 0x20 == 0 { "" } else { ";tag=us" };
    let cookie = if object & 0xc0 == 0x40 { "" } else { "z9hG4bK" };
    format!(
        "{method} sip:b@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;rport;branch={cookie}{call}\r\n\
         From: <sip:a@h>;tag=a\r\nTo: <sip:b@h>{to_tag}\r\nCall-ID: c{call}\r\n\
         CSeq: {} {method}\r\n{headers}Content-Length: 0\r\n\r\n",
        1 + (object >> 7)
    )
}

impl Desk {
    fn new() -> Self {
        Self {
            stack: new_stack(1),
            now: Instant::ZERO,
            servers: Vec::new(),
            clients: Vec::new(),
            records: BTreeSet::new(),
            framer: Framer::new(),
        }
    }

    fn step(&mut self, verb: u8, object: u8, input: &mut impl Iterator<Item = u8>) {
        const METHODS: [&str; 6] = ["INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "PRACK"];
        match verb % 16 {
            method @ 0..=5 => {
                self.hear(object, request(METHODS[usize::from(method)], object, "").into())
            }
            6 => {
                let headers =
                    ["Max-Forwards: 0\r\n", "Contact: *\r\n", "Record-Route: <sip:p;lr>\r\n"];
                let headers = headers[usize::from(object % 3)];
                self.hear(object, request("INVITE", object, headers).into());
            }
            7 => self.mutated(object, input),
            8 | 9 => self.respond(object, input.next().unwrap_or_default()),
            10 => self.send(object),
            11 | 12 => self.answered(object, input.next().unwrap_or_default()),
            13 => self.give_up(object),
            14 => self.pass(Duration::from_millis(u64::from(object) * u64::from(object))),
            _ => self.takeover(object),
        }
        self.drain();
    }

    fn hear(&mut self, object: u8, bytes: Vec<u8>) {
        self.stack.handle_bytes(self.now, flow(object), &bytes);
    }

    /// A byte of a template is another, and it comes through a stream.
    fn mutated(&mut self, object: u8, input: &mut impl Iterator<Item = u8>) {
        let mut bytes = request("INVITE", object, "Record-Route: <sip:p>\r\n").into_bytes();
        let (at, byte) = (input.next().unwrap_or_default(), input.next().unwrap_or_default());
        let at = usize::from(at) * 2 % bytes.len();
        bytes[at] = byte;
        self.hear(object, bytes.clone());
        self.framer.push(&bytes);
        loop {
            match self.framer.next_frame() {
                Ok(Some(Frame::Message(message))) => self.hear(object | 1, message),
                Ok(Some(Frame::Ping)) => {}
                Ok(None) => break,
                Err(_) => {
                    self.framer = Framer::new();
                    break;
                }
            }
        }
        assert!(
            self.framer.pending() <= tandem_stack::MAX_HEAD_BYTES + tandem_stack::MAX_BODY_BYTES
        );
    }

    fn respond(&mut self, object: u8, status: u8) {
        let Some((id, request)) = pick(&self.servers, object) else { return };
        let mut response = make_response(request, u16::from(status) * 3, None);
        if object & 0x80 == 0
            && let Ok(to) = response.headers.to()
        {
            response.headers.set(HeaderName::To, to.with_tag(b"us"));
        }
        // Refusing a wrong response is one of the answers.
        let _ = self.stack.respond(self.now, id, response);
        self.stack.server_request(id);
    }

    fn send(&mut self, object: u8) {
        let method = ["INVITE", "OPTIONS"][usize::from(object >> 2 & 1)];
        let text = request(method, object, "");
        let Ok(Message::Request(mut request)) =
            Message::parse(text.as_bytes(), Carrier::Datagram, &Limits::default())
        else {
            panic!("the template cannot be parsed");
        };
        request.headers.remove(&HeaderName::Via);
        let id = self.stack.request(self.now, flow(object), request.clone());
        self.clients.push((id, request));
    }

    fn answered(&mut self, object: u8, status: u8) {
        let Some((_, request)) = pick(&self.clients, object) else { return };
        let mut response = make_response(request, u16::from(status) * 3, None);
        if let Ok(to) = response.headers.to() {
            response.headers.set(HeaderName::To, to.with_tag(&[b'a' + object % 16]));
        }
        if object & 0xc0 == 0xc0 {
            response.headers.set(HeaderName::CSeq, "1 CANCEL");
        }
        self.hear(object, response.to_bytes());
    }

    fn give_up(&mut self, object: u8) {
        if object & 0x80 != 0 {
            return self.stack.handle_flow_failed(self.now, flow(object));
        }
        if let Some((id, request)) = pick(&self.clients, object) {
            self.stack.cancel(self.now, id);
            if object & 0x40 != 0 {
                let mut ack = Request { method: Method::Ack, ..request.clone() };
                ack.headers.set(HeaderName::CSeq, "1 ACK");
                self.stack.acknowledge(self.now, id, flow(object), ack);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.stack.next_timeout().filter(|due| *due <= end) {
            assert!(due >= self.now, "a timer was forgotten");
            self.now = due;
            self.stack.handle_timeout(due);
            self.drain();
        }
        self.now = end;
    }

    fn takeover(&mut self, object: u8) {
        let mut twin = new_stack(u64::from(object));
        for id in &self.records {
            let checkpoint =
                self.stack.checkpoint(self.now, id).expect("its deletion was not told");
            assert_eq!(checkpoint.id(), *id);
            twin.restore(self.now, checkpoint, Duration::from_millis(u64::from(object) * 100));
        }
        assert!(twin.take_changes().len() <= self.records.len());
        let (clients, servers) = twin.transactions();
        assert!(clients + servers <= self.records.len());
        twin.handle_timeout(self.now);
        self.stack = twin;
    }

    fn drain(&mut self) {
        let (mut events, mut messages) = (0, 0);
        while let Some(event) = self.stack.poll_event() {
            events += 1;
            if let Event::Request { id, request, .. } = event {
                self.servers.push((id, request));
            }
        }
        while let Some(sent) = self.stack.poll_transmit() {
            messages += 1;
            // The answer to what was not understood repeats what was not understood.
            let Some(transaction) = sent.transaction else { continue };
            let message = Message::parse(&sent.bytes, Carrier::Datagram, &Limits::default());
            let message = message.expect("what is sent can be parsed");
            if let (Message::Request(request), TransactionId::Client(id)) = (message, transaction)
                && ![Method::Ack, Method::Cancel].contains(&request.method)
                && let Some((_, last)) = self.clients.iter_mut().find(|(client, _)| *client == id)
            {
                *last = request;
            }
        }
        assert!(events <= 64 && messages <= 64, "one input sets off a flood");
        for id in self.stack.take_changes() {
            if self.stack.checkpoint(self.now, &id).is_some() {
                self.records.insert(id);
            } else {
                assert!(self.records.remove(&id), "the deletion of what was never told");
            }
        }
    }

    fn check(&mut self) {
        let (clients, servers) = self.stack.transactions();
        assert!(clients <= CLIENTS * CANCELS && servers <= SERVERS * CANCELS);
        assert!(self.records.len() <= clients + servers);
        assert!(self.stack.next_timeout().is_none_or(|due| due > self.now));
        let counters = self.stack.counters();
        assert!(counters.stateless_answers + counters.dropped <= counters.received);
    }
}

fn pick<T>(list: &[T], object: u8) -> Option<&T> {
    list.len().checked_sub(1 + usize::from(object & 15)).and_then(|at| list.get(at))
}

fn new_stack(seed: u64) -> Stack {
    let config = Config {
        per_source: PER_SOURCE,
        servers: SERVERS,
        clients: CLIENTS,
        stateless_per_second: 3,
        ..Config::new("pbx.example")
    };
    Stack::new(config, Dice::from_number(seed))
}
