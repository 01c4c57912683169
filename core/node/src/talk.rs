//! From messages to what a call understands, and back.

use core::net::IpAddr;

use tandem_call::{Method, Passing};
use tandem_sip::{Header, HeaderName, Headers, Host, NameAddr, Request, Uri};
use tandem_types::{Flow, Transport};

/// What we call ourselves.
pub(crate) const PRODUCT: &str = "Tandem";

/// The methods we take.
pub(crate) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS, UPDATE, INFO, PRACK, MESSAGE";

/// SIP extensions that work from phone to phone through us, because all they need passes through
/// (RFC 3262, RFC 4028, RFC 3312).
const EXTENSIONS: [&str; 3] = ["100rel", "timer", "precondition"];

/// Header fields that pass from one side of a call to the other. Everything else belongs to one
/// side only.
fn passes(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "Accept"
            | "Alert-Info"
            | "Call-Info"
            | "Content-Disposition"
            | "Content-Encoding"
            | "Content-Language"
            | "Content-Type"
            | "Info-Package"
            | "MIME-Version"
            | "Min-SE"
            | "Priority"
            | "Privacy"
            | "RAck"
            | "Reason"
            | "Recv-Info"
            | "Require"
            | "Retry-After"
            | "RSeq"
            | "Session-Expires"
            | "Subject"
            | "Supported"
            | "Unsupported"
            | "Warning"
    )
}

/// What of a message passes to the other side.
pub(crate) fn passing(headers: &Headers, body: &[u8]) -> Passing {
    let mut out = Vec::new();
    for header in headers {
        if !passes(header.name()) {
            continue;
        }
        let name = header.name().as_str();
        let value = if *header.name() == HeaderName::Supported {
            supported(header)
        } else {
            header.value().to_vec()
        };
        if !value.is_empty() {
            out.push((name.to_owned(), value));
        }
    }
    Passing { headers: out, body: body.to_vec() }
}

/// Of the extensions a phone supports those that work through us.
fn supported(header: &Header) -> Vec<u8> {
    let tags = tandem_sip::Values::new(header.value())
        .filter(|tag| EXTENSIONS.iter().any(|ours| tag.eq_ignore_ascii_case(ours.as_bytes())));
    tags.collect::<Vec<_>>().join(&b", "[..])
}

/// Extensions that a request requires and that do not work through us (RFC 3261 §8.2.2.3).
pub(crate) fn unsupported(headers: &Headers) -> Option<Vec<u8>> {
    let tags: Vec<&[u8]> = headers
        .require()
        .filter(|tag| !EXTENSIONS.iter().any(|ours| tag.eq_ignore_ascii_case(ours.as_bytes())))
        .collect();
    (!tags.is_empty()).then(|| tags.join(&b", "[..]))
}

/// Puts what passes into a message of ours.
pub(crate) fn apply(headers: &mut Headers, body: &mut Vec<u8>, passing: Passing) {
    for (name, value) in passing.headers {
        headers.push(HeaderName::named(&name), value);
    }
    *body = passing.body;
}

/// The kind of a request inside a call, if we pass it.
pub(crate) fn kind(method: &tandem_sip::Method) -> Option<Method> {
    use tandem_sip::Method as Sip;
    match method {
        Sip::Invite => Some(Method::Invite),
        Sip::Update => Some(Method::Update),
        Sip::Info => Some(Method::Info),
        Sip::Prack => Some(Method::Prack),
        Sip::Message => Some(Method::Message),
        Sip::Options => Some(Method::Options),
        Sip::Ack
        | Sip::Bye
        | Sip::Cancel
        | Sip::Register
        | Sip::Subscribe
        | Sip::Notify
        | Sip::Refer
        | Sip::Publish
        | Sip::Other(_) => None,
    }
}

/// The request method of that kind.
pub(crate) fn method(kind: Method) -> tandem_sip::Method {
    match kind {
        Method::Invite => tandem_sip::Method::Invite,
        Method::Update => tandem_sip::Method::Update,
        Method::Info => tandem_sip::Method::Info,
        Method::Prack => tandem_sip::Method::Prack,
        Method::Message => tandem_sip::Method::Message,
        Method::Options => tandem_sip::Method::Options,
    }
}

/// Our Contact on this flow.
pub(crate) fn contact(user: &str, flow: Flow) -> NameAddr {
    let uri =
        Uri::sip(Some(user.as_bytes()), &Host::from(flow.local.ip()), Some(flow.local.port()));
    NameAddr::new(match flow.transport {
        Transport::Udp => uri,
        Transport::Tcp => uri.with_param("transport", Some(b"tcp")),
    })
}

/// Where a request to `uri` goes, when the other side was last heard on `seen`.
///
/// UDP: the address in the URI counts where it is the one the phone speaks from: it names the port
/// at which the phone listens. Where it is another (a phone behind NAT writes its private address)
/// or a name, the packets' source counts. TCP: the connection, while it is `open`; after that the
/// address in the URI.
pub(crate) fn next_hop(uri: &Uri, seen: Flow, open: bool) -> Flow {
    if seen.transport == Transport::Tcp && open {
        return seen;
    }
    match uri.host().and_then(|host| host.ip()) {
        Some(ip) if same(ip, seen.remote.ip()) => {
            let port = uri.port().unwrap_or(5060);
            Flow { remote: (seen.remote.ip(), port).into(), ..seen }
        }
        Some(_) | None => seen,
    }
}

fn same(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical()
}

/// The user part of a request's address, unescaped: what was dialled.
pub(crate) fn dialled(request: &Request) -> String {
    let user = request.uri.user_decoded().unwrap_or_else(|| {
        // tel:+49231... carries the number where sip: carries the host.
        request.uri.as_bytes().split(|byte| *byte == b':').nth(1).unwrap_or_default().to_vec()
    });
    String::from_utf8_lossy(&user).into_owned()
}
