//! The grammar of URIs (RFC 3261 §19.1.1, §25.1; RFC 3966 §3): bytes to [`Layout`].

use crate::bytes::{
    decimal_fitting, is_telephone_number, is_uri_header, is_uri_param, is_uri_rest, is_user,
};
use crate::host::split_port;
use crate::uri::{Layout, Scheme, Span, split_value};
use crate::uri_compare::same_any_case;
use crate::{Host, MAX_PARAMS, MAX_URI_BYTES, UriError};

/// Where the parts of the URI `bytes` stand.
pub(crate) fn layout(bytes: &[u8]) -> Result<Layout, UriError> {
    if bytes.len() > MAX_URI_BYTES {
        return Err(UriError("URI too long"));
    }
    let colon = memchr::memchr(b':', bytes).ok_or(UriError("URI without scheme"))?;
    let scheme_end = offset(colon);
    let start = colon + 1;
    match scheme(&bytes[..colon])? {
        Scheme::Sip => {
            sip(bytes, start, Layout { scheme: Scheme::Sip, ..Layout::opaque(scheme_end) })
        }
        Scheme::Sips => {
            sip(bytes, start, Layout { scheme: Scheme::Sips, ..Layout::opaque(scheme_end) })
        }
        Scheme::Tel => {
            tel(bytes, start, Layout { scheme: Scheme::Tel, ..Layout::opaque(scheme_end) })
        }
        Scheme::Other => {
            if is_uri_rest(&bytes[start..]) {
                Ok(Layout::opaque(scheme_end))
            } else {
                Err(UriError("URI malformed"))
            }
        }
    }
}

/// Always fits: a URI is at most [`MAX_URI_BYTES`] long.
fn offset(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

fn span(start: usize, end: usize) -> Span {
    Span { start: offset(start), end: offset(end) }
}

fn scheme(name: &[u8]) -> Result<Scheme, UriError> {
    let [first, rest @ ..] = name else { return Err(UriError("URI without scheme")) };
    let follows = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !first.is_ascii_alphabetic() || !rest.iter().all(follows) {
        return Err(UriError("URI scheme malformed"));
    }
    Ok(if name.eq_ignore_ascii_case(b"sip") {
        Scheme::Sip
    } else if name.eq_ignore_ascii_case(b"sips") {
        Scheme::Sips
    } else if name.eq_ignore_ascii_case(b"tel") {
        Scheme::Tel
    } else {
        Scheme::Other
    })
}

fn sip(bytes: &[u8], start: usize, mut out: Layout) -> Result<Layout, UriError> {
    // The user part may hold `;`, `?` and `/`, so look for its end first.
    let mut at = start;
    if let Some(length) = memchr::memchr(b'@', &bytes[start..]) {
        let end = start + length;
        let colon = memchr::memchr(b':', &bytes[start..end]).map(|found| start + found);
        let user_end = colon.unwrap_or(end);
        if user_end == start || !is_user(&bytes[start..user_end]) {
            return Err(UriError("user part malformed"));
        }
        out.user = Some(span(start, user_end));
        if let Some(colon) = colon {
            if !is_user(&bytes[colon + 1..end]) {
                return Err(UriError("password malformed"));
            }
            out.password = Some(span(colon + 1, end));
        }
        at = end + 1;
    }
    let question = memchr::memchr(b'?', &bytes[at..]).map(|found| at + found);
    let params_end = question.unwrap_or(bytes.len());
    let host_end =
        memchr::memchr(b';', &bytes[at..params_end]).map_or(params_end, |found| at + found);
    out.port = host_and_port(&bytes[at..host_end])?;
    let host_bytes = split_port(&bytes[at..host_end]).map_or(0, |(host, _)| host.len());
    out.host = span(at, at + host_bytes);
    check_params(&bytes[host_end..params_end])?;
    out.params = span(host_end, params_end);
    if let Some(question) = question {
        check_headers(&bytes[question + 1..])?;
        out.headers = Some(span(question + 1, bytes.len()));
    }
    Ok(out)
}

fn host_and_port(bytes: &[u8]) -> Result<Option<u16>, UriError> {
    let (host, port) = split_port(bytes).ok_or(UriError("host malformed"))?;
    Host::parse(host).ok_or(UriError("host malformed"))?;
    match port {
        Some(digits) => decimal_fitting(digits).map(Some).ok_or(UriError("port malformed")),
        None => Ok(None),
    }
}

/// Empty, or each parameter with a semicolon before it; each name once.
fn check_params(bytes: &[u8]) -> Result<(), UriError> {
    let mut names: Vec<&[u8]> = Vec::new();
    for param in bytes.split(|byte| *byte == b';').skip(1) {
        let (name, value) = split_value(param);
        if !is_uri_param(name) || value.is_some_and(|value| !is_uri_param(value)) {
            return Err(UriError("URI parameter malformed"));
        }
        if names.len() == MAX_PARAMS {
            return Err(UriError("too many URI parameters"));
        }
        if names.iter().any(|known| same_any_case(known, name)) {
            return Err(UriError("URI parameter stands twice"));
        }
        names.push(name);
    }
    Ok(())
}

fn check_headers(bytes: &[u8]) -> Result<(), UriError> {
    for (at, header) in bytes.split(|byte| *byte == b'&').enumerate() {
        if at == MAX_PARAMS {
            return Err(UriError("too many URI headers"));
        }
        match split_value(header) {
            (name, Some(value))
                if !name.is_empty() && is_uri_header(name) && is_uri_header(value) => {}
            _ => return Err(UriError("URI header malformed")),
        }
    }
    Ok(())
}

fn tel(bytes: &[u8], start: usize, mut out: Layout) -> Result<Layout, UriError> {
    let end = memchr::memchr(b';', &bytes[start..]).map_or(bytes.len(), |found| start + found);
    if !is_telephone_number(&bytes[start..end]) {
        return Err(UriError("telephone number malformed"));
    }
    check_params(&bytes[end..])?;
    out.user = Some(span(start, end));
    out.params = span(end, bytes.len());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use crate::{Host, Scheme, Uri};

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn text(bytes: &[u8]) -> &str {
        core::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn all_parts_are_found() {
        let all = uri("sips:a;b?c:pw&x@[2001:db8::1]:5070;lr;transport=TCP;x=%41?Subject=hi&X=");
        assert_eq!(all.scheme(), Scheme::Sips);
        assert_eq!(all.user().map(text), Some("a;b?c"));
        assert_eq!(all.password().map(text), Some("pw&x"));
        assert_eq!(all.host(), Host::parse(b"[2001:db8::1]"));
        assert_eq!(all.port(), Some(5070));
        assert!(all.is_loose_router());
        assert_eq!(all.param("Transport").map(text), Some("TCP"));
        let headers: Vec<_> =
            all.headers().map(|(name, value)| (text(name), value.map(text))).collect();
        assert_eq!(headers, [("Subject", Some("hi")), ("X", Some(""))]);
        let bare = uri("sip:example.com");
        assert_eq!((bare.user(), bare.port(), bare.has_headers()), (None, None, false));
    }

    #[test]
    fn bytes_print_as_they_stood() {
        for text in
            ["SIP:A%4a@Example.COM:05060;LR", "tel:+1-201-555-0123;Phone-Context=x", "isbn:2"]
        {
            assert_eq!(uri(text).to_string(), text);
        }
    }

    #[test]
    fn a_telephone_number_stands_for_the_user() {
        let number = uri("tel:+49(231)555-12;ext=7");
        assert_eq!(number.scheme(), Scheme::Tel);
        assert_eq!(number.user().map(text), Some("+49(231)555-12"));
        assert_eq!(number.param("ext").map(text), Some("7"));
        assert_eq!(number.host(), None);
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            ":a",
            "1sip:a",
            "sip:@h",
            "sip:a@",
            "sip:a b@h",
            "sip:a@h;",
            "sip:a@h;;lr",
            "sip:a@h;x=",
            "sip:a@h?",
            "sip:a@h?x",
            "sip:a%4@h",
            "sip:a@b@c",
            "sip:a@h:",
            "sip:a@h:99999",
            "sip:2001:db8::10",
            "<sip:a@h>",
            "sip:a@h;l r",
            "sip:a@h;lr;%4cR",
            "sip:a@h;lr;LR",
            "tel:",
            "tel:+",
            "tel:1+2",
            "tel:abcx",
            "x:",
            "x: y",
            "alice@example.com",
            "sip:ä@h",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_can_be_changed() {
        let from = uri("sip:alice:pw@example.com;user=phone;lr?Subject=x");
        assert_eq!(
            from.with_user(Some(b"b@b#1")).to_string(),
            "sip:b%40b%231@example.com;user=phone;lr?Subject=x"
        );
        assert_eq!(from.without_params().to_string(), "sip:alice@example.com");
        assert_eq!(
            from.without_headers().without_param("LR").to_string(),
            "sip:alice:pw@example.com;user=phone"
        );
        let host = Host::parse(b"[::1]").unwrap();
        assert_eq!(
            from.without_params().with_host(&host, Some(5062)).to_string(),
            "sip:alice@[::1]:5062"
        );
        let built = Uri::sip(None, &host, None).with_param("transport", Some(b"t;cp"));
        assert_eq!(built.to_string(), "sip:[::1];transport=t%3Bcp");
        assert_eq!(built.with_param("Transport", None).to_string(), "sip:[::1];Transport");
    }

    #[test]
    fn a_uri_at_the_limit_passes_and_one_beyond_does_not() {
        let longest = format!("sip:{}@h", "a".repeat(crate::MAX_URI_BYTES - 6));
        assert!(longest.parse::<Uri>().is_ok());
        assert!(format!("{longest}h").parse::<Uri>().is_err());
    }
}
