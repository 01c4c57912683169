//! From bytes to a message: start line, header lines, body.
//!
//! The first fault decides the answer, but reading goes on behind it: the answer needs the Via and
//! the other headers of the request, wherever they stand.

use crate::bytes::{decimal_fitting, is_space, trim, trim_end};
use crate::lines::Lines;
use crate::{
    Carrier, Header, HeaderName, Headers, Limits, Message, Method, ParseError, ParseErrorKind,
    Repairs, Request, Response, Uri, Via,
};

/// What is wrong, and what to answer if it is a request.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: ParseErrorKind,
    pub(crate) status: u16,
    pub(crate) what: &'static str,
}

impl Fault {
    pub(crate) const fn bad(kind: ParseErrorKind, what: &'static str) -> Self {
        Self { kind, status: 400, what }
    }
}

/// A start line as far as it was understood.
enum Start {
    Request { method: Method, uri: Uri },
    Response { status: u16, reason: Vec<u8> },
}

pub(crate) fn parse(
    bytes: &[u8],
    how: Carrier,
    limits: &Limits,
    repairs: &mut Repairs,
) -> Result<Message, ParseError> {
    if bytes.len() > limits.message_bytes {
        let what = "message too large";
        return Err(ParseError {
            status: Some(513),
            ..ParseError::silent(ParseErrorKind::TooLarge, what)
        });
    }
    let bytes = without_leading_line_ends(bytes, repairs);
    if bytes.is_empty() {
        return Err(ParseError::silent(ParseErrorKind::KeepAlive, "line ends only"));
    }
    let mut lines = Lines::new(bytes);
    let Some(line) = lines.next() else {
        return Err(ParseError::silent(ParseErrorKind::NotSip, "no line end"));
    };
    let mut fault = None;
    let start = parse_start(line, limits, repairs, &mut fault)?;
    let mut headers = parse_headers(&mut lines, how, limits, repairs, &mut fault);
    repairs.bare_line_feeds += lines.bare_line_feeds();
    let body = parse_body(&mut headers, lines.rest(), how).unwrap_or_else(|error| {
        fault.get_or_insert(error);
        &[]
    });
    let body = body.to_vec();
    match start {
        Start::Request { method, uri } => {
            let request = Request { method, uri, headers, body };
            match fault.map_or_else(|| crate::check::request(&request), Err) {
                Ok(()) => Ok(Message::Request(request)),
                Err(fault) => Err(refuse(request, fault)),
            }
        }
        Start::Response { status, reason } => {
            let response = Response { status, reason, headers, body };
            match fault.map_or_else(|| crate::check::response(&response), Err) {
                Ok(()) => Ok(Message::Response(response)),
                Err(fault) => Err(ParseError::silent(fault.kind, fault.what)),
            }
        }
    }
}

/// Telephones send empty lines before and between messages (RFC 3261 §7.5).
fn without_leading_line_ends<'a>(mut bytes: &'a [u8], repairs: &mut Repairs) -> &'a [u8] {
    loop {
        bytes = match bytes {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\n', rest @ ..] => {
                repairs.bare_line_feeds += 1;
                rest
            }
            _ => return bytes,
        };
    }
}

/// ACK is never answered; neither is who left no way back.
fn refuse(mut request: Request, fault: Fault) -> ParseError {
    if request.method == Method::Ack {
        return ParseError::silent(fault.kind, fault.what);
    }
    if fault.kind == ParseErrorKind::Version {
        let top = request.headers.values(&HeaderName::Via).next().and_then(Via::parse_any_version);
        if let Some(via) = top {
            request.headers.replace_first_value(HeaderName::Via, via);
        }
    }
    let partial = request.headers.contains(&HeaderName::Via).then(|| Box::new(request));
    ParseError { kind: fault.kind, status: Some(fault.status), partial, what: fault.what }
}

fn parse_start(
    line: &[u8],
    limits: &Limits,
    repairs: &mut Repairs,
    fault: &mut Option<Fault>,
) -> Result<Start, ParseError> {
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return parse_status_line(line, repairs);
    }
    let not_sip = || ParseError::silent(ParseErrorKind::NotSip, "not a SIP message");
    let text = trim(line);
    let method_end = text.iter().position(|byte| is_space(*byte)).ok_or_else(not_sip)?;
    let version_start = text.iter().rposition(|byte| is_space(*byte)).ok_or_else(not_sip)? + 1;
    let (method, version) = (&text[..method_end], &text[version_start..]);
    let address = trim(text.get(method_end..version_start).ok_or_else(not_sip)?);
    let method = Method::from_bytes(method).ok_or_else(not_sip)?;
    if !version.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return Err(not_sip());
    }
    let is_tight = line.len() == method_end + address.len() + version.len() + 2;
    if !is_tight || memchr::memchr(b'\t', line).is_some() {
        repairs.start_line_spaces += 1;
    }
    if !version[4..].eq_ignore_ascii_case(b"2.0") {
        let what = "version not supported";
        fault.get_or_insert(Fault { kind: ParseErrorKind::Version, status: 505, what });
    }
    if address.len() > limits.uri_bytes.min(crate::MAX_URI_BYTES) {
        let what = "Request-URI too long";
        fault.get_or_insert(Fault { kind: ParseErrorKind::UriTooLong, status: 414, what });
        return Ok(Start::Request { method, uri: Uri::unparsed(address) });
    }
    let uri = Uri::parse(address).unwrap_or_else(|error| {
        fault.get_or_insert(Fault::bad(ParseErrorKind::StartLine, error.what()));
        Uri::unparsed(address)
    });
    if uri.has_headers() {
        let what = "Request-URI with headers";
        fault.get_or_insert(Fault::bad(ParseErrorKind::StartLine, what));
    }
    Ok(Start::Request { method, uri })
}

fn parse_status_line(line: &[u8], repairs: &mut Repairs) -> Result<Start, ParseError> {
    let malformed = || ParseError::silent(ParseErrorKind::StartLine, "status line malformed");
    let version_end = line.iter().position(|byte| is_space(*byte)).ok_or_else(malformed)?;
    if !line[4..version_end].eq_ignore_ascii_case(b"2.0") {
        return Err(ParseError::silent(ParseErrorKind::Version, "version not supported"));
    }
    let rest = trim_start(&line[version_end..]);
    let digits = rest.iter().position(|byte| is_space(*byte)).unwrap_or(rest.len());
    let status = decimal_fitting::<u16>(&rest[..digits]);
    let status = status.filter(|status| digits == 3 && (100..700).contains(status));
    let status = status.ok_or_else(malformed)?;
    let reason = rest[digits..].split_first();
    let is_tight = line[version_end] == b' ' && rest.len() + version_end + 1 == line.len();
    if !is_tight || reason.is_none_or(|(space, _)| *space != b' ') {
        repairs.start_line_spaces += 1;
    }
    let reason = reason.map(|(_, reason)| reason).unwrap_or_default();
    if reason.contains(&b'\r') {
        return Err(malformed());
    }
    Ok(Start::Response { status, reason: reason.to_vec() })
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

/// Most messages have fewer lines than this.
const USUAL_HEADER_LINES: usize = 16;

/// Reads up to the empty line.
fn parse_headers(
    lines: &mut Lines<'_>,
    how: Carrier,
    limits: &Limits,
    repairs: &mut Repairs,
    fault: &mut Option<Fault>,
) -> Headers {
    let mut headers = Headers::with_capacity(USUAL_HEADER_LINES);
    loop {
        let Some(line) = lines.next() else {
            if !lines.rest().is_empty() || headers.is_empty() || how == Carrier::Stream {
                let what = "end of headers is missing";
                fault.get_or_insert(Fault::bad(ParseErrorKind::Truncated, what));
            } else {
                repairs.missing_blank_lines += 1;
            }
            return headers;
        };
        if line.is_empty() {
            return headers;
        }
        match parse_header(line, lines, limits.header_line_bytes) {
            Ok(header) if headers.len() < limits.header_lines => headers.push_line(header),
            Ok(_) => {
                let what = "too many header lines";
                fault.get_or_insert(Fault::bad(ParseErrorKind::TooManyHeaders, what));
            }
            Err(error) => {
                fault.get_or_insert(error);
            }
        }
    }
}

fn parse_header(line: &[u8], lines: &mut Lines<'_>, limit: usize) -> Result<Header, Fault> {
    let mut length = line.len();
    let colon = memchr::memchr(b':', line);
    let start = colon.map_or(line.len(), |colon| colon + 1);
    let mut value = trim(&line[start..]).to_vec();
    while let Some(more) = lines.next_folded() {
        length += more.len();
        if length <= limit {
            let more = trim(more);
            if !value.is_empty() && !more.is_empty() {
                value.push(b' ');
            }
            value.extend_from_slice(more);
        }
    }
    if length > limit {
        return Err(Fault::bad(ParseErrorKind::HeaderTooLong, "header line too long"));
    }
    let name = colon.and_then(|colon| HeaderName::from_bytes(trim_end(&line[..colon])));
    let name = name.ok_or(Fault::bad(ParseErrorKind::HeaderSyntax, "header name malformed"))?;
    if memchr::memchr(b'\r', &value).is_some() {
        return Err(Fault::bad(ParseErrorKind::HeaderSyntax, "stray CR in a header"));
    }
    Ok(Header::from_line(name, value))
}

/// Cuts the body (RFC 3261 §18.3), and leaves exactly one Content-Length that is right.
fn parse_body<'a>(headers: &mut Headers, rest: &'a [u8], how: Carrier) -> Result<&'a [u8], Fault> {
    let bad = |what| Fault::bad(ParseErrorKind::ContentLength, what);
    let mut length = None;
    for value in headers.all(&HeaderName::ContentLength) {
        match decimal_fitting::<usize>(value) {
            Some(this) if length.is_none_or(|before| before == this) => length = Some(this),
            Some(_) => return Err(bad("several lengths in Content-Length")),
            None => return Err(bad("Content-Length malformed")),
        }
    }
    let length = match (length, how) {
        (Some(length), _) => length,
        (None, Carrier::Datagram) => rest.len(),
        (None, Carrier::Stream) => return Err(bad("Content-Length is missing")),
    };
    let body = rest.get(..length).ok_or(bad("body shorter than Content-Length"))?;
    if how == Carrier::Stream && rest.len() > length {
        return Err(bad("body longer than Content-Length"));
    }
    headers.set(HeaderName::ContentLength, length.to_string());
    Ok(body)
}
