//! Making responses, and knowing where they go: RFC 3261 §8.2.6, §18.2, RFC 3581.

use crate::matching::fnv;
use crate::timing::Octets;
use std::net::SocketAddr;
use tandem_sip::{Carrier, HeaderName, Headers, Limits, Message, Method, Request, Response, Via};
use tandem_types::{Flow, Transport};

/// Where responses go when a Via names no port.
pub const DEFAULT_PORT: u16 = 5060;

/// A response to `request` with what every response has (RFC 3261 §8.2.6): Via, From, To, Call-ID
/// and CSeq as they came, Timestamp in a 100, Record-Route where a dialog may come of it. `None`
/// as reason stands for the usual phrase. The To tag, if there must be one, is the caller's to add.
pub fn make_response(request: &Request, status: u16, reason: Option<&str>) -> Response {
    let mut response = Response::new(status);
    if let Some(reason) = reason {
        response.reason = reason.into();
    }
    let wanted = |name: &HeaderName| match status {
        100 => *name == HeaderName::Timestamp,
        101..=299 => *name == HeaderName::RecordRoute,
        0..=99 | 300.. => false,
    };
    for header in &request.headers {
        if is_copied(header.name()) || wanted(header.name()) {
            response.headers.push(header.name().clone(), header.value());
        }
    }
    response
}

fn is_copied(name: &HeaderName) -> bool {
    [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq]
        .contains(name)
}

/// The request as far as it takes to answer it, also on the twin: much smaller than the whole.
pub(crate) fn sketch(request: &Request) -> Octets {
    const KEPT: [HeaderName; 5] = [
        HeaderName::RecordRoute,
        HeaderName::Contact,
        HeaderName::Supported,
        HeaderName::Require,
        HeaderName::Timestamp,
    ];
    let mut small = Request::new(request.method.clone(), request.uri.clone());
    for header in &request.headers {
        if is_copied(header.name()) || KEPT.contains(header.name()) {
            small.headers.push(header.name().clone(), header.value());
        }
    }
    small.to_bytes().into()
}

/// Reads back a message of our own making. `None` when the transaction user made one that cannot
/// be read.
pub(crate) fn reread(bytes: &[u8]) -> Option<Message> {
    let generous = Limits {
        message_bytes: usize::MAX,
        header_lines: usize::MAX,
        header_line_bytes: usize::MAX,
        ..Limits::default()
    };
    Message::parse(bytes, Carrier::Datagram, &generous).ok()
}

/// Writes into the top Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4). What a
/// stranger claims there is overwritten.
pub(crate) fn complete_via(headers: &mut Headers, via: &Via, source: SocketAddr) {
    let mut complete = via.clone();
    let elsewhere = via.host.ip() != Some(source.ip());
    if via.rport().is_some() {
        complete.set_rport(source.port());
        complete.set_received(source.ip());
    } else if elsewhere {
        complete.set_received(source.ip());
    } else {
        complete.params.remove("received");
    }
    if complete != *via {
        headers.replace_first_value(HeaderName::Via, complete.to_bytes());
    }
}

/// Where to answer a request with this Via, as it came (RFC 3261 §18.2.2, RFC 3581 §4).
///
/// Always to the address it came from, whatever the Via claims; `maddr` is not followed. The port
/// is that of the Via only for senders that do not ask for `rport` and are not behind a NAT.
pub(crate) fn reply_flow(flow: Flow, via: &Via) -> Flow {
    let behind_nat = via.host.ip().is_some_and(|ip| ip != flow.remote.ip());
    let port = via.port.filter(|port| *port != 0).unwrap_or(DEFAULT_PORT);
    match flow.transport {
        Transport::Udp if via.rport().is_none() && !behind_nat => {
            Flow { remote: SocketAddr::new(flow.remote.ip(), port), ..flow }
        }
        Transport::Udp | Transport::Tcp => flow,
    }
}

/// Adds a To tag where a response must have one and has none (RFC 3261 §8.2.6.2): the same for
/// every response to this request, and to its CANCEL.
pub(crate) fn complete_to(response: &mut Response, secret: u64) {
    if response.status == 100 {
        return;
    }
    let Ok(to) = response.headers.to() else { return };
    if to.tag().is_none() {
        let headers = &response.headers;
        let cseq = headers.cseq().map(|(number, _)| number).unwrap_or_default();
        let raw = |name| headers.get(name).unwrap_or_default();
        let parts =
            [raw(&HeaderName::CallId), raw(&HeaderName::From), &cseq.to_be_bytes() as &[u8]];
        let tag = format!("{:016x}", fnv(secret, &parts));
        let to = to.with_tag(tag.as_bytes()).to_bytes();
        response.headers.set(HeaderName::To, to);
    }
}

/// The ACK for a response of 300 to 699 (RFC 3261 §17.1.1.3).
pub(crate) fn make_ack(invite: &[u8], response: &Response) -> Option<Octets> {
    let mut ack = follow_up(invite, Method::Ack)?;
    ack.headers.set(HeaderName::To, response.headers.get(&HeaderName::To)?);
    Some(ack.to_bytes().into())
}

/// The CANCEL for an INVITE (RFC 3261 §9.1).
pub(crate) fn make_cancel(invite: &[u8]) -> Option<Octets> {
    follow_up(invite, Method::Cancel).map(|cancel| cancel.to_bytes().into())
}

/// A request that takes the same way as the INVITE and belongs to it.
fn follow_up(invite: &[u8], method: Method) -> Option<Request> {
    let Message::Request(invite) = reread(invite)? else { return None };
    let (number, _) = invite.headers.cseq().ok()?;
    let mut request = Request::new(method, invite.uri);
    let via = invite.headers.values(&HeaderName::Via).next()?;
    request.headers.push(HeaderName::Via, via);
    request.headers.copy_from(&invite.headers, &HeaderName::Route);
    request.headers.push(HeaderName::MaxForwards, MAX_FORWARDS);
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
        request.headers.copy_from(&invite.headers, &name);
    }
    let cseq = format!("{number} {}", request.method);
    request.headers.push(HeaderName::CSeq, cseq);
    Some(request)
}

/// What a request starts with (RFC 3261 §8.1.1.6).
pub(crate) const MAX_FORWARDS: &str = "70";
