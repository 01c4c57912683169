//! One phone that calls and one that is called, in one thread, to measure single answers by the
//! microsecond (SIPp's clock has milliseconds).
//!
//! Invariant: a time is taken only between a request or answer of ours and the message that belongs
//! to it (by Call-ID, CSeq and status); repeated and late ones are passed over.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tandem::demo::space::{Space, inside};
use tandem_sip::Method;
use tandem_sip::digest::{Challenge, respond};

use crate::stage::User;

/// A message that does not come within this never comes.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// The session that both phones offer; nobody sends any audio.
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 20000 RTP/AVP 0\r\n";

/// Times of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTimes {
    /// From the called phone's 200 until the caller has it.
    pub(crate) answer: Duration,
    /// From the caller's BYE to its 200.
    pub(crate) goodbye: Duration,
}

/// Two phones.
#[derive(Debug)]
pub(crate) struct Meter {
    caller: Phone,
    called: Phone,
    server: SocketAddr,
    /// Makes Call-IDs and branches unique.
    turn: u64,
}

#[derive(Debug)]
struct Phone {
    socket: UdpSocket,
    address: SocketAddr,
    user: User,
    /// What the server asked, and how often it was answered.
    challenge: Option<(Challenge, u32)>,
}

impl Meter {
    /// Two phones at `address`, inside `space`.
    ///
    /// # Errors
    ///
    /// The address is not there.
    pub(crate) fn new(
        space: Option<&Space>,
        address: IpAddr,
        server: SocketAddr,
        [caller, called]: [User; 2],
    ) -> Result<Self> {
        let phone = |user| -> Result<Phone> {
            let socket = inside(space, || Ok(UdpSocket::bind((address, 0))?))?;
            socket.set_read_timeout(Some(LIMIT))?;
            let address = socket.local_addr()?;
            Ok(Phone { socket, address, user, challenge: None })
        };
        Ok(Self { caller: phone(caller)?, called: phone(called)?, server, turn: 0 })
    }

    /// An OPTIONS and its answer: nothing is changed by it, so nothing is waited for.
    ///
    /// # Errors
    ///
    /// No answer.
    pub(crate) fn options(&mut self) -> Result<Duration> {
        self.turn += 1;
        let (server, id) = (self.server, self.turn);
        let request = self.caller.request("OPTIONS", &format!("sip:{server}"), id, 1, "", "");
        let sent = self.caller.send(&request, server)?;
        let (at, _) = self.caller.await_answer(id, "1 OPTIONS", 200..=200)?;
        Ok(at - sent)
    }

    /// A login of the called phone: the time from the request with the proof to its 200.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub(crate) fn log_in(&mut self) -> Result<Duration> {
        let (server, phone) = (self.server, &mut self.called);
        let uri = format!("sip:{server}");
        for _ in 0..2 {
            self.turn += 1;
            let contact = format!("Contact: <sip:{}@{}>\r\n", phone.user.name, phone.address);
            let proof = phone.proof("Authorization", &Method::Register, &uri);
            let more = format!("{contact}Expires: 3600\r\n{proof}");
            let request = phone.request("REGISTER", &uri, self.turn, 1, &more, "");
            let sent = phone.send(&request, server)?;
            let (at, answer) = phone.await_answer(self.turn, "1 REGISTER", 200..=499)?;
            if status(&answer) == Some(200) {
                return Ok(at - sent);
            }
            phone.take_challenge(&answer, "WWW-Authenticate")?;
        }
        bail!("the login was refused twice")
    }

    /// A whole call.
    ///
    /// # Errors
    ///
    /// It is refused, or a message does not come.
    pub(crate) fn call(&mut self) -> Result<CallTimes> {
        let server = self.server;
        let uri = format!("sip:{}@{server}", self.called.user.number);
        let invite = self.invite(&uri)?;
        let (id, cseq) = (self.turn, "1 INVITE");
        let answered = self.called.send(&ok(&invite, self.called.address, SDP), server)?;
        let (at, answer) = self.caller.await_answer(id, cseq, 200..=200)?;
        let to = field(&answer, "To").context("a 200 without To")?.to_owned();
        let target = contact(&answer)?;
        let ack = self.caller.in_call("ACK", &target, id, 1, &to);
        self.caller.send(&ack, server)?;
        self.called.await_request("ACK")?;
        let bye = self.caller.in_call("BYE", &target, id, 2, &to);
        let sent = self.caller.send(&bye, server)?;
        let bye = self.called.await_request("BYE")?;
        self.called.send(&ok(&bye, self.called.address, ""), server)?;
        let (ended, _) = self.caller.await_answer(id, "2 BYE", 200..=200)?;
        Ok(CallTimes { answer: at - answered, goodbye: ended - sent })
    }

    /// Calls until it rings; returns the INVITE that the called phone got.
    fn invite(&mut self, uri: &str) -> Result<String> {
        let (server, phone) = (self.server, &mut self.caller);
        for _ in 0..2 {
            self.turn += 1;
            let proof = phone.proof("Proxy-Authorization", &Method::Invite, uri);
            let contact = format!("Contact: <sip:{}@{}>\r\n", phone.user.name, phone.address);
            let more = format!("{contact}{proof}Content-Type: application/sdp\r\n");
            let request = phone.request("INVITE", uri, self.turn, 1, &more, SDP);
            phone.send(&request, server)?;
            if phone.challenge.is_some() {
                // A nonce that has become too old shows as a call that does not arrive.
                return self.called.await_request("INVITE");
            }
            let (_, answer) = phone.await_answer(self.turn, "1 INVITE", 300..=499)?;
            phone.take_challenge(&answer, "Proxy-Authenticate")?;
            let to = field(&answer, "To").context("a 407 without To")?.to_owned();
            let branch = field(&request, "Via").context("an INVITE without Via")?.to_owned();
            let ack = phone.in_call("ACK", uri, self.turn, 1, &to);
            let own = field(&ack, "Via").context("an ACK without Via")?.to_owned();
            phone.send(&ack.replace(&own, &branch), server)?;
        }
        bail!("the call was refused twice")
    }
}

impl Phone {
    fn request(
        &self,
        method: &str,
        uri: &str,
        id: u64,
        cseq: u32,
        more: &str,
        body: &str,
    ) -> String {
        let to = format!("<{}>", if method == "REGISTER" { self.aor(uri) } else { uri.to_owned() });
        self.write(method, uri, id, cseq, &to, more, body)
    }

    fn in_call(&self, method: &str, uri: &str, id: u64, cseq: u32, to: &str) -> String {
        self.write(method, uri, id, cseq, to, "", "")
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a request; there are no fewer")]
    fn write(
        &self,
        method: &str,
        uri: &str,
        id: u64,
        cseq: u32,
        to: &str,
        more: &str,
        body: &str,
    ) -> String {
        let (address, port) = (self.address, self.address.port());
        let from = self.aor(uri);
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK-meter-{port}-{id}-{cseq}-{method};rport\r\n\
             Max-Forwards: 70\r\nFrom: <{from}>;tag=m{id}\r\nTo: {to}\r\n\
             Call-ID: meter-{port}-{id}\r\nCSeq: {cseq} {method}\r\n{more}\
             Content-Length: {length}\r\n\r\n{body}",
            length = body.len(),
        )
    }

    /// The user at the server of `uri`.
    fn aor(&self, uri: &str) -> String {
        let host = uri.rsplit(['@', ':']).nth(1).unwrap_or_default();
        format!("sip:{}@{host}", self.user.name)
    }

    fn send(&self, text: &str, server: SocketAddr) -> Result<Instant> {
        let at = Instant::now();
        self.socket.send_to(text.as_bytes(), server)?;
        Ok(at)
    }

    /// The final answer to the request with this number and CSeq.
    fn await_answer(
        &self,
        id: u64,
        cseq: &str,
        expected: std::ops::RangeInclusive<u16>,
    ) -> Result<(Instant, String)> {
        let call_id = format!("meter-{}-{id}", self.address.port());
        let (at, text) = self.receive(&format!("the answer to {cseq}"), |text| {
            let ours =
                field(text, "Call-ID") == Some(&call_id) && field(text, "CSeq") == Some(cseq);
            ours && status(text).is_some_and(|status| status >= 200)
        })?;
        let status = status(&text).unwrap_or_default();
        ensure!(expected.contains(&status), "{status} to {cseq}");
        Ok((at, text))
    }

    fn await_request(&self, method: &str) -> Result<String> {
        let start = format!("{method} ");
        Ok(self.receive(method, |text| text.starts_with(&start))?.1)
    }

    fn receive(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<(Instant, String)> {
        let end = Instant::now() + LIMIT;
        let mut bytes = vec![0; DATAGRAM_MAX];
        while Instant::now() < end {
            let received = self.socket.recv(&mut bytes);
            let at = Instant::now();
            let count = received.with_context(|| format!("{what} did not come"))?;
            let text = String::from_utf8_lossy(&bytes[..count]);
            if wanted(&text) {
                return Ok((at, text.into_owned()));
            }
        }
        bail!("{what} did not come")
    }

    fn take_challenge(&mut self, answer: &str, name: &str) -> Result<()> {
        let value = field(answer, name).with_context(|| format!("an answer without {name}"))?;
        let challenge = Challenge::parse(value.as_bytes()).context("a strange challenge")?;
        self.challenge = Some((challenge, 0));
        Ok(())
    }

    /// The header with the proof; empty while nothing was asked.
    fn proof(&mut self, name: &str, method: &Method, uri: &str) -> String {
        let Some((challenge, count)) = &mut self.challenge else { return String::new() };
        *count += 1;
        let User { name: user, password, .. } = &self.user;
        let (user, password) = (user.as_bytes(), password.as_bytes());
        let proof = respond(challenge, method, uri.as_bytes(), user, password, b"meter", *count);
        format!("{name}: {}\r\n", String::from_utf8_lossy(&proof.to_bytes()))
    }
}

/// The first value of a header field.
#[must_use]
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    text.lines().take_while(|line| !line.is_empty()).find_map(line).map(|(_, value)| value)
}

/// The status of an answer.
#[must_use]
pub(crate) fn status(text: &str) -> Option<u16> {
    text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

/// The address in Contact.
fn contact(text: &str) -> Result<String> {
    let value = field(text, "Contact").context("an answer without Contact")?;
    let uri = value.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    Ok(uri.context("a Contact without <>")?.0.to_owned())
}

/// The 200 to a request.
fn ok(request: &str, address: SocketAddr, body: &str) -> String {
    let copied = ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"];
    let mut text = String::from("SIP/2.0 200 OK\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if copied.iter().any(|copied| copied.eq_ignore_ascii_case(name)) {
            let untagged = name.eq_ignore_ascii_case("To") && !value.contains(";tag=");
            let tag = if untagged { ";tag=called" } else { "" };
            text += &format!("{line}{tag}\r\n");
        }
    }
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    text +=
        &format!("Contact: <sip:{address}>\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_copies_what_it_must_and_tags_to() {
        let request =
            "BYE sip:a SIP/2.0\r\nVia: one\r\nVia: two\r\nTo: <sip:b>\r\nX: y\r\n\r\nTo: c";
        let answer = ok(request, SocketAddr::from(([10, 0, 0, 1], 5060)), "");
        let expected = "SIP/2.0 200 OK\r\nVia: one\r\nVia: two\r\nTo: <sip:b>;tag=called\r\n\
                        Contact: <sip:10.0.0.1:5060>\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer, expected);
    }

    #[test]
    fn fields_end_with_the_empty_line() {
        let text = "SIP/2.0 180 Ringing\r\nCall-ID: a\r\n\r\nTo: b";
        assert_eq!((field(text, "call-id"), field(text, "To")), (Some("a"), None));
        assert_eq!(status(text), Some(180));
        assert_eq!(contact("SIP/2.0 200 OK\r\nContact: <sip:a:1>;x\r\n\r\n").unwrap(), "sip:a:1");
    }
}
