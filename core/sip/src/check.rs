//! What a message must have before anybody looks at it (RFC 3261 §8.1.1, §8.2.6, §20 table 2).

use crate::parse::Fault;
use crate::{HeaderError, HeaderFault, HeaderName, Headers, ParseErrorKind, Request, Response};

/// Headers that may stand once, of those everything rests on.
const SINGLE: [HeaderName; 5] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::MaxForwards,
];

/// Max-Forwards and a tag in From may be missing: RFC 2543 telephones do not send them.
pub(crate) fn request(request: &Request) -> Result<(), Fault> {
    let headers = &request.headers;
    let (_, method) = common(headers)?;
    if method != request.method {
        let what = "method in CSeq is another";
        return Err(Fault::bad(ParseErrorKind::Malformed, what));
    }
    headers.max_forwards().map_err(|error| fault(&error))?;
    headers.contacts().map_err(|error| fault(&error))?;
    Ok(())
}

pub(crate) fn response(response: &Response) -> Result<(), Fault> {
    common(&response.headers).map(|_| ())
}

fn common(headers: &Headers) -> Result<(u32, crate::Method), Fault> {
    for name in &SINGLE {
        if headers.all(name).nth(1).is_some() {
            return Err(Fault::bad(ParseErrorKind::Repeated, repeated(name)));
        }
    }
    headers.via().map_err(|error| fault(&error))?;
    headers.from().map_err(|error| fault(&error))?;
    headers.to().map_err(|error| fault(&error))?;
    headers.call_id().map_err(|error| fault(&error))?;
    headers.cseq().map_err(|error| fault(&error))
}

fn fault(error: &HeaderError) -> Fault {
    match error.fault {
        HeaderFault::Missing => Fault::bad(ParseErrorKind::Missing, missing(&error.name)),
        HeaderFault::Malformed(_) => Fault::bad(ParseErrorKind::Malformed, malformed(&error.name)),
    }
}

macro_rules! phrases {
    ($function:ident, $after:literal) => {
        #[allow(clippy::wildcard_enum_match_arm, reason = "only the headers that are checked")]
        const fn $function(name: &HeaderName) -> &'static str {
            match name {
                HeaderName::Via => concat!("Via ", $after),
                HeaderName::From => concat!("From ", $after),
                HeaderName::To => concat!("To ", $after),
                HeaderName::CallId => concat!("Call-ID ", $after),
                HeaderName::CSeq => concat!("CSeq ", $after),
                HeaderName::MaxForwards => concat!("Max-Forwards ", $after),
                HeaderName::Contact => concat!("Contact ", $after),
                _ => concat!("header ", $after),
            }
        }
    };
}

phrases!(missing, "is missing");
phrases!(malformed, "malformed");
phrases!(repeated, "stands more than once");
