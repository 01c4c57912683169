//! What the phone's messages look like.

use std::net::{IpAddr, SocketAddr};

use tandem_sip::digest::{Challenge, respond};
use tandem_sip::{HeaderName, Host, Method, NameAddr, Request, Response, Uri, Via};

use super::Phone;
use super::talk::Talk;

impl Phone {
    /// The owner's address: `sip:anna@domain`.
    pub(super) fn own_address(&self) -> Uri {
        self.address_of(&self.config.user)
    }

    pub(super) fn address_of(&self, user: &str) -> Uri {
        let host = Host::parse(self.config.realm.as_bytes());
        let host = host.unwrap_or(Host::from(self.config.server.ip()));
        Uri::sip(Some(user.as_bytes()), &host, None)
    }

    /// Where this phone is reached.
    pub(super) fn contact(&self) -> NameAddr {
        let host = Host::from(self.config.address.ip());
        let user = self.config.device.as_bytes();
        NameAddr::new(Uri::sip(Some(user), &host, Some(self.config.address.port())))
    }

    pub(super) fn new_branch(&mut self) -> Vec<u8> {
        [Via::MAGIC_COOKIE, self.dice.hex(8).as_bytes()].concat()
    }

    pub(super) fn via(&self, branch: &[u8]) -> Vec<u8> {
        let address = self.config.address;
        [format!("SIP/2.0/UDP {address};rport;branch=").as_bytes(), branch].concat()
    }

    /// A request with everything but its Via.
    pub(super) fn plain_request(
        &self,
        method: Method,
        uri: Uri,
        from: &NameAddr,
        to: &NameAddr,
        call_id: &str,
        cseq: u32,
    ) -> Request {
        let cseq = format!("{cseq} {method}");
        Request::new(method, uri)
            .with(HeaderName::MaxForwards, "70")
            .with(HeaderName::From, from.clone())
            .with(HeaderName::To, to.clone())
            .with(HeaderName::CallId, call_id)
            .with(HeaderName::CSeq, cseq)
            .with(HeaderName::UserAgent, "sim-phone")
    }

    /// A request within a call.
    pub(super) fn talk_request(&self, talk: &Talk, method: Method, cseq: u32) -> Request {
        let Talk { local, remote, target, call_id, .. } = talk;
        self.plain_request(method, target.clone(), local, remote, call_id, cseq)
    }

    /// The body of an offer or answer: which device speaks, in which call.
    pub(super) fn sdp(&self, call: u32, held: bool) -> Vec<u8> {
        let (device, ip) = (&self.config.device, self.config.address.ip());
        let direction = if held { "sendonly" } else { "sendrecv" };
        format!(
            "v=0\r\no=- {call} 1 IN IP4 {ip}\r\ns={device}\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio 10000 RTP/AVP 8\r\na={direction}\r\n"
        )
        .into_bytes()
    }

    /// A response with what every response copies (RFC 3261 §8.2.6.2).
    pub(super) fn response(request: &Request, status: u16, tag: Option<&[u8]>) -> Response {
        let mut response = Response::new(status);
        for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
            response.headers.copy_from(&request.headers, &name);
        }
        match (request.headers.to(), tag) {
            (Ok(to), Some(tag)) if to.tag().is_none() => {
                response.headers.push(HeaderName::To, to.with_tag(tag));
            }
            _ => response.headers.copy_from(&request.headers, &HeaderName::To),
        }
        response
    }

    /// Adds the proof of identity that `challenge` asks for.
    pub(super) fn prove(&mut self, request: &mut Request, challenge: &Challenge, count: u32) {
        let name = if request.method == Method::Register {
            HeaderName::Authorization
        } else {
            HeaderName::ProxyAuthorization
        };
        let cnonce = self.dice.hex(4);
        let credentials = respond(
            challenge,
            &request.method,
            request.uri.as_bytes(),
            self.config.user.as_bytes(),
            self.config.password.as_bytes(),
            cnonce.as_bytes(),
            count,
        );
        request.headers.set(name, credentials);
    }

    /// Adds a proof before it is asked for, where this phone does so.
    pub(super) fn prove_eagerly(&mut self, request: &mut Request) {
        if !self.config.eager {
            return;
        }
        if let Some((challenge, count)) = &mut self.challenge {
            *count += 1;
            let (challenge, count) = (challenge.clone(), *count);
            self.prove(request, &challenge, count);
        }
    }

    /// Where a request to `uri` goes: its address, or the server where it is a name.
    pub(super) fn hop(&self, uri: &Uri) -> SocketAddr {
        let ip: Option<IpAddr> = uri.host().and_then(|host| host.ip());
        ip.map_or(self.config.server, |ip| (ip, uri.port().unwrap_or(5060)).into())
    }
}

/// The number of the call, which the caller wrote into the Subject.
pub(super) fn call_of(request: &Request) -> Option<u32> {
    let subject = request.headers.get(&HeaderName::Subject)?;
    core::str::from_utf8(subject).ok()?.strip_prefix("call ")?.parse().ok()
}

/// Which device wrote this body.
pub(super) fn device_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().find_map(|line| line.strip_prefix("s="));
    line.unwrap_or("nobody").to_owned()
}

/// Whether this body puts the other side on hold.
pub(super) fn is_hold(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("a=sendonly")
}
