use serde::{Deserialize, Serialize};

use crate::bytes::push_decimal;
use crate::{
    Carrier, HeaderName, Headers, Limits, Method, ParseError, Repairs, Uri, reason_phrase,
};

/// A SIP message.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// Asks for something.
    Request(Request),
    /// Answers a request.
    Response(Response),
}

/// A request (RFC 3261 §7.1).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Request {
    /// What it asks for.
    pub method: Method,
    /// Of whom.
    pub uri: Uri,
    /// Header lines.
    pub headers: Headers,
    /// Body. `to_bytes` writes its length into Content-Length.
    pub body: Vec<u8>,
}

/// A response (RFC 3261 §7.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// Text for people; any bytes but CR and LF, which print as spaces.
    pub reason: Vec<u8>,
    /// Header lines.
    pub headers: Headers,
    /// Body. `to_bytes` writes its length into Content-Length.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads one message: a whole datagram, or what was cut out of a stream.
    ///
    /// # Errors
    ///
    /// When it is no SIP message or one nobody may act on; the error says what to answer.
    pub fn parse(bytes: &[u8], how: Carrier, limits: &Limits) -> Result<Self, ParseError> {
        Self::parse_counting(bytes, how, limits, &mut Repairs::default())
    }

    /// As [`Message::parse`], and adds what had to be repaired to `repairs`, also on errors.
    ///
    /// # Errors
    ///
    /// As [`Message::parse`].
    pub fn parse_counting(
        bytes: &[u8],
        how: Carrier,
        limits: &Limits,
        repairs: &mut Repairs,
    ) -> Result<Self, ParseError> {
        crate::parse::parse(bytes, how, limits, repairs)
    }

    /// As it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }

    /// The header lines.
    pub const fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The header lines, to change.
    pub const fn headers_mut(&mut self) -> &mut Headers {
        match self {
            Self::Request(request) => &mut request.headers,
            Self::Response(response) => &mut response.headers,
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Request(request) => &request.body,
            Self::Response(response) => &response.body,
        }
    }

    /// The request, if it is one.
    pub const fn as_request(&self) -> Option<&Request> {
        match self {
            Self::Request(request) => Some(request),
            Self::Response(_) => None,
        }
    }

    /// The response, if it is one.
    pub const fn as_response(&self) -> Option<&Response> {
        match self {
            Self::Request(_) => None,
            Self::Response(response) => Some(response),
        }
    }
}

impl Request {
    /// Without headers and body.
    pub const fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Headers::new(), body: Vec::new() }
    }

    /// With one more header line at the end.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// With this body and its type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// As it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = self.method.as_str().len() + self.uri.as_bytes().len() + 12;
        let mut out = Vec::with_capacity(start + self.headers.printed_bytes() + self.body.len());
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.uri.as_bytes());
        out.extend_from_slice(b" SIP/2.0\r\n");
        finish(&self.headers, &self.body, out)
    }
}

impl Response {
    /// With the usual reason phrase, without headers and body.
    pub fn new(status: u16) -> Self {
        let reason = reason_phrase(status).into();
        Self { status, reason, headers: Headers::new(), body: Vec::new() }
    }

    /// With one more header line at the end.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// With this body and its type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// Whether more answers follow: 1xx.
    pub const fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// Whether it grants the request: 2xx.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// As it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = self.reason.len() + 16;
        let mut out = Vec::with_capacity(start + self.headers.printed_bytes() + self.body.len());
        out.extend_from_slice(b"SIP/2.0 ");
        push_decimal(self.status.into(), &mut out);
        out.push(b' ');
        let visible = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        out.extend(self.reason.iter().map(visible));
        out.extend_from_slice(b"\r\n");
        finish(&self.headers, &self.body, out)
    }
}

fn finish(headers: &Headers, body: &[u8], mut out: Vec<u8>) -> Vec<u8> {
    headers.write_to(body.len(), &mut out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}
