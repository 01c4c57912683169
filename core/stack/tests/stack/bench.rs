//! A stack on a test bench: messages in as text, everything that comes out as a transcript.

use expect_test::Expect;
use std::net::SocketAddr;
use tandem_sip::{Carrier, Limits, Message, Request, Response};
use tandem_stack::{ClientId, Config, Event, ServerId, Stack, Transmit, make_response};
use tandem_types::{Dice, Duration, Flow, Instant, Transport};

pub(crate) struct Bench {
    pub(crate) stack: Stack,
    pub(crate) now: Instant,
    /// Where the next message comes from.
    pub(crate) flow: Flow,
    /// The requests that were reported, oldest first.
    pub(crate) requests: Vec<(ServerId, Request)>,
    /// What was sent, oldest first.
    pub(crate) sent: Vec<Transmit>,
    pub(crate) seen: String,
}

pub(crate) fn flow(transport: Transport, remote: &str) -> Flow {
    let remote: SocketAddr = remote.parse().unwrap();
    let local = if remote.is_ipv4() { "192.0.2.1:5060" } else { "[2001:db8::1]:5060" };
    Flow { transport, local: local.parse().unwrap(), remote }
}

pub(crate) fn udp(remote: &str) -> Flow {
    flow(Transport::Udp, remote)
}

/// A request as a telephone at 192.0.2.9:5060 sends it.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) via: String,
    pub(crate) branch: String,
    pub(crate) call: String,
    pub(crate) to_tag: String,
    pub(crate) cseq: u32,
    /// More header lines.
    pub(crate) more: String,
}

impl Default for Phone {
    fn default() -> Self {
        Self {
            via: "SIP/2.0/UDP 192.0.2.9:5060".into(),
            branch: ";branch=z9hG4bK1".into(),
            call: "call1".into(),
            to_tag: String::new(),
            cseq: 1,
            more: String::new(),
        }
    }
}

impl Phone {
    pub(crate) fn says(&self, method: &str) -> String {
        let Self { via, branch, call, to_tag, cseq, more } = self;
        let text = format!(
            "{method} sip:bob@pbx.example SIP/2.0\nVia: {via}{branch}\nFrom: <sip:alice@pbx.example>;tag=a\n\
             To: <sip:bob@pbx.example>{to_tag}\nCall-ID: {call}\nCSeq: {cseq} {method}\n{more}Content-Length: 0\n\n"
        );
        text.replace('\n', "\r\n")
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Config::new("pbx.example"))
    }

    pub(crate) fn with(config: Config) -> Self {
        Self {
            stack: Stack::new(config, Dice::from_number(1)),
            now: Instant::ZERO,
            flow: udp("192.0.2.9:5060"),
            requests: Vec::new(),
            sent: Vec::new(),
            seen: String::new(),
        }
    }

    pub(crate) fn hear(&mut self, text: &str) -> &mut Self {
        self.stack.handle_bytes(self.now, self.flow, text.as_bytes());
        self.note()
    }

    pub(crate) fn wait(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while let Some(due) = self.stack.next_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.stack.handle_timeout(due);
            self.note();
        }
        self.now = end;
        self
    }

    /// Answers the request that was reported last.
    pub(crate) fn respond(&mut self, status: u16) -> &mut Self {
        let (id, request) = self.requests.last().unwrap();
        let response = make_response(request, status, None);
        if let Err(error) = self.stack.respond(self.now, id, response) {
            self.seen += &format!("{error:?}\n");
        }
        self.note()
    }

    /// The other side answers the request that was sent last.
    pub(crate) fn answered(&mut self, status: u16, to_tag: &str) -> &mut Self {
        let request = self.last_request();
        self.answer(&request, status, to_tag)
    }

    pub(crate) fn answer(&mut self, request: &Request, status: u16, to_tag: &str) -> &mut Self {
        let mut response = make_response(request, status, None);
        let to = response.headers.to().unwrap();
        if to.tag().is_none() {
            response.headers.set(tandem_sip::HeaderName::To, to.with_tag(to_tag.as_bytes()));
        }
        self.hear(std::str::from_utf8(&response.to_bytes()).unwrap())
    }

    pub(crate) fn last_request(&self) -> Request {
        let mut messages = self.sent.iter().rev().map(|sent| parse(&sent.bytes));
        messages.find_map(|message| message.as_request().cloned()).unwrap()
    }

    pub(crate) fn last_response(&self) -> Response {
        let mut messages = self.sent.iter().rev().map(|sent| parse(&sent.bytes));
        messages.find_map(|message| message.as_response().cloned()).unwrap()
    }

    pub(crate) fn request(&mut self, request: Request) -> ClientId {
        let id = self.stack.request(self.now, self.flow, request);
        self.note();
        id
    }

    /// Writes down what came out.
    pub(crate) fn note(&mut self) -> &mut Self {
        let now = self.now;
        while let Some(event) = self.stack.poll_event() {
            self.seen += &format!("{now} {}\n", describe(&event));
            if let Event::Request { id, request, .. } = event {
                self.requests.push((id, request));
            }
        }
        while let Some(sent) = self.stack.poll_transmit() {
            let end = sent.bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let line = String::from_utf8_lossy(&sent.bytes[..end]).into_owned();
            let again = if sent.repeat { " again" } else { "" };
            let alone = if sent.transaction.is_none() { " statelessly" } else { "" };
            self.seen += &format!("{now} -> {} {line}{again}{alone}\n", sent.flow);
            self.sent.push(sent);
        }
        self
    }

    /// Compares the transcript since the last comparison.
    #[track_caller]
    pub(crate) fn want(&mut self, want: &Expect) {
        want.assert_eq(&std::mem::take(&mut self.seen));
    }
}

pub(crate) fn describe(event: &Event) -> String {
    match event {
        Event::Request { flow, request, .. } => format!("{} from {flow}", request.method),
        Event::Cancelled { .. } => "cancelled".into(),
        Event::Ack { invite: Some(_), .. } => "ACK".into(),
        Event::Ack { invite: None, .. } => "ACK for nothing known".into(),
        Event::Response { response, .. } => {
            format!("{} {}", response.status, String::from_utf8_lossy(&response.reason))
        }
        Event::Failed { reason, .. } => format!("failed: {reason:?}"),
        Event::NoAck { .. } => "no ACK".into(),
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Message {
    Message::parse(bytes, Carrier::Datagram, &Limits::default()).unwrap()
}

/// A request of our user, as made from text.
pub(crate) fn ours(method: &str, more: &str) -> Request {
    let text = format!(
        "{method} sip:carol@192.0.2.7 SIP/2.0\nVia: SIP/2.0/UDP x\nFrom: <sip:pbx@pbx.example>;tag=o\n\
         To: <sip:carol@pbx.example>\nCall-ID: ours\nCSeq: 7 {method}\n{more}\n"
    );
    let mut request = parse(text.replace('\n', "\r\n").as_bytes()).as_request().unwrap().clone();
    request.headers.remove(&tandem_sip::HeaderName::Via);
    request
}
