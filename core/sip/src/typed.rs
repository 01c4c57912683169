use core::str;

use crate::MAX_LIST_VALUES;
use crate::bytes::{decimal, decimal_fitting, is_space, is_token, trim, trim_end};
use crate::digest::{Challenge, Credentials};
use crate::{
    ContactValue, HeaderError, HeaderName, Headers, Method, NameAddr, Params, Token, Values, Via,
};

/// CSeq numbers stay below this (RFC 3261 §8.1.1.5).
const CSEQ_LIMIT: u32 = 1 << 31;

/// Values of headers as types. A header that stands more than once counts with its first line,
/// unless it is a list.
impl Headers {
    /// The top Via (RFC 3261 §20.42).
    ///
    /// # Errors
    ///
    /// When it is missing or malformed.
    pub fn via(&self) -> Result<Via, HeaderError> {
        self.required(HeaderName::Via, |line| {
            Via::parse(Values::new(line).next().unwrap_or_default())
        })
    }

    /// All Vias, the latest first.
    ///
    /// # Errors
    ///
    /// When one is malformed.
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        self.list(&HeaderName::Via, Via::parse)
    }

    /// Who asks (RFC 3261 §20.20).
    ///
    /// # Errors
    ///
    /// When it is missing or malformed.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::From, NameAddr::parse)
    }

    /// Who is asked (RFC 3261 §20.39).
    ///
    /// # Errors
    ///
    /// When it is missing or malformed.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::To, NameAddr::parse)
    }

    /// Number and method of a request within its dialog (RFC 3261 §20.16).
    ///
    /// # Errors
    ///
    /// When it is missing or malformed, or the number is 2^31 or more.
    pub fn cseq(&self) -> Result<(u32, Method), HeaderError> {
        self.required(HeaderName::CSeq, parse_cseq)
    }

    /// Names a call, or all registrations of one telephone (RFC 3261 §20.8).
    ///
    /// # Errors
    ///
    /// When it is missing, empty, or holds spaces.
    pub fn call_id(&self) -> Result<&[u8], HeaderError> {
        let value = self.get(&HeaderName::CallId);
        let value = value.ok_or(HeaderError::missing(HeaderName::CallId))?;
        if value.is_empty() || value.iter().any(|byte| is_space(*byte)) {
            return Err(HeaderError::malformed(HeaderName::CallId, "not a word"));
        }
        Ok(value)
    }

    /// How many more servers may pass the request on, 0 to 255 (RFC 3261 §20.22).
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.optional(HeaderName::MaxForwards, |value| decimal_fitting(value).ok_or("not 0 to 255"))
    }

    /// The addresses to be reached at (RFC 3261 §20.10).
    ///
    /// # Errors
    ///
    /// When one is malformed.
    pub fn contacts(&self) -> Result<Vec<ContactValue>, HeaderError> {
        self.list(&HeaderName::Contact, |value| match value {
            b"*" => Ok(ContactValue::Star),
            _ => NameAddr::parse(value).map(ContactValue::Addr),
        })
    }

    /// The servers the request still has to pass (RFC 3261 §20.34).
    ///
    /// # Errors
    ///
    /// When one is malformed.
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(&HeaderName::Route, NameAddr::parse)
    }

    /// The servers that want to see later requests of the dialog (RFC 3261 §20.30).
    ///
    /// # Errors
    ///
    /// When one is malformed.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(&HeaderName::RecordRoute, NameAddr::parse)
    }

    /// The addresses of any list of addresses: Path, P-Asserted-Identity, Diversion, ...
    ///
    /// # Errors
    ///
    /// When one is malformed.
    pub fn addresses(&self, name: &HeaderName) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(name, NameAddr::parse)
    }

    /// Whom to call (RFC 3515 §2.1).
    ///
    /// # Errors
    ///
    /// When it is missing or malformed.
    pub fn refer_to(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::ReferTo, NameAddr::parse)
    }

    /// Seconds until it is over (RFC 3261 §20.19). More than a u32 holds counts as the most it
    /// holds.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::Expires, parse_seconds)
    }

    /// The shortest Expires a registrar takes, in seconds (RFC 3261 §20.23).
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::MinExpires, parse_seconds)
    }

    /// Seconds after which to try again (RFC 3261 §20.33); comment and parameters are passed over.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn retry_after(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::RetryAfter, |value| {
            let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
            match value.get(end) {
                None | Some(b' ' | b'\t' | b';' | b'(') => parse_seconds(&value[..end]),
                Some(_) => Err("not a number of seconds"),
            }
        })
    }

    /// The body's length as the header says it, in bytes (RFC 3261 §20.14). In a parsed message
    /// it is right; when the body was changed since, only `to_bytes` puts it right.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        self.optional(HeaderName::ContentLength, |value| {
            decimal_fitting(value).ok_or("not a length")
        })
    }

    /// The type of the body (RFC 3261 §20.15).
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn content_type(&self) -> Result<Option<MediaType>, HeaderError> {
        self.optional(HeaderName::ContentType, MediaType::parse)
    }

    /// Extensions the other side must understand (RFC 3261 §20.32).
    pub fn require(&self) -> impl Iterator<Item = &[u8]> {
        self.tokens(&HeaderName::Require)
    }

    /// Extensions a proxy must understand (RFC 3261 §20.29).
    pub fn proxy_require(&self) -> impl Iterator<Item = &[u8]> {
        self.tokens(&HeaderName::ProxyRequire)
    }

    /// Extensions the sender understands (RFC 3261 §20.37).
    pub fn supported(&self) -> impl Iterator<Item = &[u8]> {
        self.tokens(&HeaderName::Supported)
    }

    /// Whether the sender understands `extension`, or requires it.
    pub fn supports(&self, extension: &str) -> bool {
        let wanted = |token: &[u8]| token.eq_ignore_ascii_case(extension.as_bytes());
        self.supported().chain(self.require()).any(wanted)
    }

    /// The methods the sender understands (RFC 3261 §20.5); what is no method is passed over.
    pub fn allow(&self) -> impl Iterator<Item = Method> {
        self.values(&HeaderName::Allow).filter_map(Method::from_bytes)
    }

    /// The words of a list of words; empty places are passed over.
    pub fn tokens<'h, 'n>(
        &'h self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        self.values(name).filter(|token| !token.is_empty())
    }

    /// The number of a reliable provisional response (RFC 3262 §7.1).
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::RSeq, |value| decimal_fitting(value).ok_or("not a number"))
    }

    /// Which reliable provisional response a PRACK confirms: its RSeq, CSeq number and method
    /// (RFC 3262 §7.2).
    ///
    /// # Errors
    ///
    /// When it is missing or malformed.
    pub fn rack(&self) -> Result<(u32, u32, Method), HeaderError> {
        self.required(HeaderName::RAck, |value| {
            let (rseq, rest) = split_number(value).ok_or("not two numbers and a method")?;
            let (cseq, method) = parse_cseq(rest)?;
            Ok((rseq, cseq, method))
        })
    }

    /// Session-Expires: how long a call may stay without a refresh, in seconds, with its parameters
    /// (RFC 4028 §4).
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn refresh_interval(&self) -> Result<Option<(u32, Params)>, HeaderError> {
        self.optional(HeaderName::SessionExpires, |value| {
            let end = memchr::memchr(b';', value).unwrap_or(value.len());
            let params = Params::parse(&value[end..]).ok_or("parameter malformed")?;
            Ok((parse_seconds(trim_end(&value[..end]))?, params))
        })
    }

    /// Why a request was sent (RFC 3326); malformed values are passed over.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonValue> {
        self.values(&HeaderName::Reason).filter_map(ReasonValue::parse)
    }

    /// Proofs of who asks, of Authorization or Proxy-Authorization; those of other schemes than
    /// Digest and malformed ones are passed over.
    pub fn credentials<'h, 'n>(
        &'h self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = Credentials> + use<'h, 'n> {
        self.all(name).filter_map(Credentials::parse)
    }

    /// Questions who asks, of WWW-Authenticate or Proxy-Authenticate; those of other schemes than
    /// Digest, unknown algorithms and malformed ones are passed over.
    pub fn challenges<'h, 'n>(
        &'h self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = Challenge> + use<'h, 'n> {
        self.all(name).filter_map(Challenge::parse)
    }

    fn required<T>(
        &self,
        name: HeaderName,
        parse: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<T, HeaderError> {
        match self.get(&name) {
            Some(value) => parse(value).map_err(|what| HeaderError::malformed(name, what)),
            None => Err(HeaderError::missing(name)),
        }
    }

    fn optional<T>(
        &self,
        name: HeaderName,
        parse: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<Option<T>, HeaderError> {
        let parsed = self.get(&name).map(parse).transpose();
        parsed.map_err(|what| HeaderError::malformed(name, what))
    }

    fn list<T>(
        &self,
        name: &HeaderName,
        parse: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, HeaderError> {
        let mut out = Vec::new();
        for value in self.values(name) {
            if out.len() == MAX_LIST_VALUES {
                return Err(HeaderError::malformed(name.clone(), "too many values"));
            }
            out.push(parse(value).map_err(|what| HeaderError::malformed(name.clone(), what))?);
        }
        Ok(out)
    }
}

fn parse_seconds(value: &[u8]) -> Result<u32, &'static str> {
    let seconds = decimal(value).ok_or("not a number of seconds")?;
    Ok(u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn split_number(value: &[u8]) -> Option<(u32, &[u8])> {
    let end = value.iter().position(|byte| is_space(*byte))?;
    Some((decimal_fitting(&value[..end])?, trim(&value[end..])))
}

fn parse_cseq(value: &[u8]) -> Result<(u32, Method), &'static str> {
    let (number, method) = split_number(value).ok_or("not a number and a method")?;
    if number >= CSEQ_LIMIT {
        return Err("number of 2^31 or more");
    }
    Ok((number, Method::from_bytes(method).ok_or("not a method")?))
}

/// The type of a body: `application/sdp;charset=utf-8`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MediaType {
    /// Before the slash, as it stood.
    pub kind: Token,
    /// After the slash, as it stood.
    pub subtype: Token,
    /// charset, boundary and others.
    pub params: Params,
}

impl MediaType {
    fn parse(value: &[u8]) -> Result<Self, &'static str> {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let slash = memchr::memchr(b'/', &value[..end]).ok_or("not a media type")?;
        Ok(Self {
            kind: Token::new(trim(&value[..slash])).ok_or("not a media type")?,
            subtype: Token::new(trim(&value[slash + 1..end])).ok_or("not a media type")?,
            params: Params::parse(&value[end..]).ok_or("parameter malformed")?,
        })
    }

    /// Whether it is `kind/subtype`, whatever the case and parameters.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.as_str().eq_ignore_ascii_case(kind)
            && self.subtype.as_str().eq_ignore_ascii_case(subtype)
    }
}

/// Why a request was sent: `Q.850;cause=16;text="..."` (RFC 3326).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReasonValue {
    /// `SIP`, `Q.850`, ... as it stood.
    pub protocol: Token,
    /// cause, text and others.
    pub params: Params,
}

impl ReasonValue {
    fn parse(value: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let protocol = trim_end(&value[..end]);
        let params = Params::parse(&value[end..])?;
        is_token(protocol).then_some(Self { protocol: Token::new(protocol)?, params })
    }

    /// The cause, if it is a number.
    pub fn cause(&self) -> Option<u16> {
        self.params.value("cause").and_then(decimal_fitting)
    }
}
