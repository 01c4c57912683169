use core::fmt;

use serde::{Deserialize, Serialize};

use crate::bytes::{escape_uri_param, escape_user, push_decimal, unescape};
use crate::{Host, UriError};

/// The kind of a [`Uri`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// `sip:` (RFC 3261 §19.1).
    Sip,
    /// `sips:` (RFC 3261 §19.1).
    Sips,
    /// `tel:` (RFC 3966).
    Tel,
    /// Any other; kept as it is.
    Other,
}

/// An address: `sip:user:password@host:port;params?headers`, `tel:number;params`, or another
/// absolute URI, which is kept raw.
///
/// Holds the bytes as they stood and prints them; the parts are slices of them. `==` compares the
/// bytes; use [`Uri::is_equivalent`] to compare as RFC 3261 §19.1.4 says.
#[derive(Clone, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Uri {
    pub(crate) raw: Vec<u8>,
    pub(crate) layout: Layout,
}

/// Where the parts stand in the bytes. A function of the bytes alone.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Layout {
    pub(crate) scheme: Scheme,
    /// Of the scheme name; the colon stands here.
    pub(crate) scheme_end: u16,
    pub(crate) user: Option<Span>,
    pub(crate) password: Option<Span>,
    /// Empty unless sip or sips.
    pub(crate) host: Span,
    pub(crate) port: Option<u16>,
    /// With the first semicolon; empty when there are none.
    pub(crate) params: Span,
    /// Without the question mark; `None` when there is no question mark.
    pub(crate) headers: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl Uri {
    /// A `sip:` URI. What may not stand in a user part is escaped.
    pub fn sip(user: Option<&[u8]>, host: &Host, port: Option<u16>) -> Self {
        let mut parts =
            Parts { scheme: b"sip", host: host.to_string().into_bytes(), port, ..Parts::default() };
        parts.user = user.map(escaped_user);
        parts.assemble()
    }

    /// Reads a URI without anything around it.
    ///
    /// # Errors
    ///
    /// When it does not follow its grammar or is longer than [`MAX_URI_BYTES`](crate::MAX_URI_BYTES).
    pub fn parse(bytes: &[u8]) -> Result<Self, UriError> {
        crate::uri_parse::layout(bytes).map(|layout| Self { raw: bytes.to_vec(), layout })
    }

    /// Whatever the bytes are: for the partial request of a parse error.
    pub(crate) fn unparsed(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(crate::MAX_URI_BYTES)];
        Self { raw: bytes.to_vec(), layout: Layout::opaque(0) }
    }

    /// As it stood.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Which kind it is.
    pub fn scheme(&self) -> Scheme {
        self.layout.scheme
    }

    /// The name before the colon, as it stood.
    pub fn scheme_name(&self) -> &[u8] {
        &self.raw[..usize::from(self.layout.scheme_end)]
    }

    /// Whether it is `sip:` or `sips:`.
    pub fn is_sip(&self) -> bool {
        match self.layout.scheme {
            Scheme::Sip | Scheme::Sips => true,
            Scheme::Tel | Scheme::Other => false,
        }
    }

    /// The user part, or the number of a `tel:` URI, as it stood.
    pub fn user(&self) -> Option<&[u8]> {
        self.layout.user.map(|span| self.slice(span))
    }

    /// The user part with `%HH` replaced by what they stand for.
    pub fn user_decoded(&self) -> Option<Vec<u8>> {
        self.user().map(unescape)
    }

    /// The password, as it stood. Nobody should use one.
    pub fn password(&self) -> Option<&[u8]> {
        self.layout.password.map(|span| self.slice(span))
    }

    /// The host of a `sip:` or `sips:` URI.
    pub fn host(&self) -> Option<Host> {
        Host::parse(self.host_bytes())
    }

    /// The host as it stood; empty unless `sip:` or `sips:`.
    pub fn host_bytes(&self) -> &[u8] {
        self.slice(self.layout.host)
    }

    /// The port, if one stands there.
    pub fn port(&self) -> Option<u16> {
        self.layout.port
    }

    /// Name and value of each parameter, as they stand.
    pub fn params(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let raw = self.params_bytes();
        raw.split(|byte| *byte == b';').skip(1).map(split_value)
    }

    /// The parameters as they stand, with the first semicolon.
    pub(crate) fn params_bytes(&self) -> &[u8] {
        self.slice(self.layout.params)
    }

    /// The value of the parameter `name`: `None` when it is not there, empty when it stands
    /// without a value.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params().find_map(|(key, value)| {
            // The name itself may be escaped: `%6Cr` is `lr`.
            let is_same = match memchr::memchr(b'%', key) {
                None => key.eq_ignore_ascii_case(name.as_bytes()),
                Some(_) => unescape(key).eq_ignore_ascii_case(name.as_bytes()),
            };
            is_same.then_some(value.unwrap_or_default())
        })
    }

    /// Whether the parameter `name` is there.
    pub fn has_param(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// Whether it is a loose router's (RFC 3261 §19.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.has_param("lr")
    }

    /// Name and value of each header after the question mark, as they stand.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let raw = self.layout.headers.map(|span| self.slice(span)).unwrap_or_default();
        raw.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).map(split_value)
    }

    /// Whether headers follow after a question mark.
    pub fn has_headers(&self) -> bool {
        self.layout.headers.is_some()
    }

    /// With another user part, escaped as needed. Other schemes than sip and sips stay as they are.
    #[must_use]
    pub fn with_user(&self, user: Option<&[u8]>) -> Self {
        self.rebuilt(|parts| {
            parts.user = user.map(escaped_user);
            parts.password = None;
        })
    }

    /// With another host and port. Other schemes than sip and sips stay as they are.
    #[must_use]
    pub fn with_host(&self, host: &Host, port: Option<u16>) -> Self {
        self.rebuilt(|parts| {
            parts.host = host.to_string().into_bytes();
            parts.port = port;
        })
    }

    /// With the parameter `name` set, at the end. Other schemes than sip and sips stay as they are.
    #[must_use]
    pub fn with_param(&self, name: &str, value: Option<&[u8]>) -> Self {
        let mut params = self.params_without(name);
        params.push(b';');
        escape_uri_param(name.as_bytes(), &mut params);
        if let Some(value) = value {
            params.push(b'=');
            escape_uri_param(value, &mut params);
        }
        self.rebuilt(|parts| parts.params = params)
    }

    /// Without the parameter `name`. Other schemes than sip and sips stay as they are.
    #[must_use]
    pub fn without_param(&self, name: &str) -> Self {
        self.rebuilt(|parts| parts.params = self.params_without(name))
    }

    /// Without headers: fit for a Request-URI (RFC 3261 §19.1.1).
    #[must_use]
    pub fn without_headers(&self) -> Self {
        self.rebuilt(|parts| parts.headers = None)
    }

    /// Scheme, user, host and port alone: the form of an address-of-record (RFC 3261 §10.3).
    #[must_use]
    pub fn without_params(&self) -> Self {
        self.rebuilt(|parts| {
            parts.params.clear();
            parts.headers = None;
            parts.password = None;
        })
    }

    fn params_without(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.params_bytes().len() + 16);
        for param in self.params_bytes().split(|byte| *byte == b';').skip(1) {
            if !split_value(param).0.eq_ignore_ascii_case(name.as_bytes()) {
                out.push(b';');
                out.extend_from_slice(param);
            }
        }
        out
    }

    fn rebuilt(&self, change: impl FnOnce(&mut Parts<'_>)) -> Self {
        if !self.is_sip() {
            return self.clone();
        }
        let mut parts = Parts {
            scheme: self.scheme_name(),
            user: self.user().map(<[u8]>::to_vec),
            password: self.password().map(<[u8]>::to_vec),
            host: self.host_bytes().to_vec(),
            port: self.port(),
            params: self.params_bytes().to_vec(),
            headers: self.layout.headers.map(|span| self.slice(span).to_vec()),
        };
        change(&mut parts);
        parts.assemble()
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.raw[usize::from(span.start)..usize::from(span.end)]
    }
}

/// Cuts `name=value` in two.
pub(crate) fn split_value(param: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', param) {
        Some(equals) => (&param[..equals], Some(&param[equals + 1..])),
        None => (param, None),
    }
}

fn escaped_user(user: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len());
    escape_user(user, &mut out);
    out
}

impl Layout {
    pub(crate) const fn opaque(scheme_end: u16) -> Self {
        let empty = Span { start: 0, end: 0 };
        Self {
            scheme: Scheme::Other,
            scheme_end,
            user: None,
            password: None,
            host: empty,
            port: None,
            params: empty,
            headers: None,
        }
    }
}

/// The parts of a sip or sips URI, each already in its printed form.
#[derive(Default)]
struct Parts<'a> {
    scheme: &'a [u8],
    user: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    host: Vec<u8>,
    port: Option<u16>,
    params: Vec<u8>,
    headers: Option<Vec<u8>>,
}

impl Parts<'_> {
    fn assemble(self) -> Uri {
        let mut raw = self.scheme.to_vec();
        raw.push(b':');
        if let Some(user) = self.user {
            raw.extend(user);
            if let Some(password) = self.password {
                raw.push(b':');
                raw.extend(password);
            }
            raw.push(b'@');
        }
        raw.extend(self.host);
        if let Some(port) = self.port {
            raw.push(b':');
            push_decimal(port.into(), &mut raw);
        }
        raw.extend(self.params);
        if let Some(headers) = self.headers {
            raw.push(b'?');
            raw.extend(headers);
        }
        // Built from parts that each follow the grammar: fails only when it became too long, and
        // then it is still printed as it is, without parts.
        Uri::parse(&raw).unwrap_or_else(|_| Uri::unparsed(&raw))
    }
}

impl TryFrom<Vec<u8>> for Uri {
    type Error = UriError;

    fn try_from(raw: Vec<u8>) -> Result<Self, UriError> {
        let layout = crate::uri_parse::layout(&raw)?;
        Ok(Self { raw, layout })
    }
}

impl From<Uri> for Vec<u8> {
    fn from(uri: Uri) -> Self {
        uri.raw
    }
}

impl core::str::FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.raw))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}
