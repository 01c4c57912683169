//! The same bytes through another parser, sipx-sip: both read the same, or differ for a reason that
//! is listed here.

mod common;

use std::collections::BTreeMap;

use sipx_sip::headers as their;
use sipx_sip::validate::{Finding, validate};
use tandem_sip::{
    Carrier, HeaderName, Headers, Host, Limits, Message, NameAddr, ParseError, ParseErrorKind,
    Repairs, Uri, Values, Via,
};
use tandem_types::Dice;

/// Messages compared.
const MESSAGES: usize = 100_000;

/// Why one side reads what the other refuses.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Reason {
    /// We repair bare LF, spaces in the start line and a missing empty line, and count it; they
    /// refuse.
    WeRepair,
    /// We take several Content-Length lines that say the same; they want one.
    WeTakeEqualLengths,
    /// RFC 3261 §7.5 asks to skip empty lines before the start line; they skip one.
    WeSkipEmptyLines,
    /// RFC 5118 §4.10 asks to read `:::`; they do so before an IPv4 part only.
    WeTakeThreeColons,
    /// Real telephones put `@`, `?` and the like into tags and branches, and UTF-8 without quotes
    /// into display names, and `#` into the number that was
    /// dialled. None of it changes where anything ends; they refuse.
    WeTakeMoreCharacters,
    /// Only the top Via is ours to read; they read its whole line.
    WeReadTheTopViaAlone,
    /// The grammar allows spaces around the colon before the port in a Via; they refuse.
    WeTakeSpacesAroundThePort,
    /// The answer to a request goes to its Via and the dialog to its Contact, so we look at both
    /// closely. They do not look at the protocol in Via, nor at Contact before somebody asks.
    TheyLookLater,
    /// A parameter that stands twice (RFC 3261 §7.3.1): two readers may take different ones.
    TheyTakeRepeatedParams,
    /// `a..b` and `.b` are no host names.
    TheyTakeEmptyLabels,
    /// A Call-ID is a word: no spaces.
    TheyTakeSpacesInCallId,
    /// The grammar of URIs: a scheme starts with a letter and something follows it, a password holds no `:`, a parameter one
    /// `=` at most, a header one `=`, and neither holds other characters than the grammar lists.
    TheyTakeLooseUris,
    /// An address with a comma must stand in `<>` (RFC 3261 §20).
    TheyTakeBareCommas,
    /// A folded line right after the start line continues no header.
    TheyFoldTheStartLine,
}

/// All of them: each must come up, or it is a leftover.
const REASONS: [Reason; 14] = [
    Reason::WeRepair,
    Reason::WeTakeEqualLengths,
    Reason::WeSkipEmptyLines,
    Reason::WeTakeThreeColons,
    Reason::WeTakeMoreCharacters,
    Reason::WeReadTheTopViaAlone,
    Reason::WeTakeSpacesAroundThePort,
    Reason::TheyLookLater,
    Reason::TheyTakeRepeatedParams,
    Reason::TheyTakeEmptyLabels,
    Reason::TheyTakeSpacesInCallId,
    Reason::TheyTakeLooseUris,
    Reason::TheyTakeBareCommas,
    Reason::TheyFoldTheStartLine,
];

/// For reasons that chance does not bring up.
const RARE: [&str; 2] = [
    "BYE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKb, SIP/2.0/UDP\r\nTo: <sip:b@h>;tag=1\r\n\
     From: <sip:a@h>;tag=2\r\nCall-ID: d\r\nCSeq: 3 BYE\r\nContent-Length: 0\r\n\r\n",
    "BYE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h : 5060;branch=z9hG4bKb\r\nTo: <sip:b@h>;tag=1\r\n\
     From: <sip:a@h>;tag=2\r\nCall-ID: d\r\nCSeq: 3 BYE\r\nContent-Length: 0\r\n\r\n",
];

/// Reads and validates as the other library wants it to be done. RFC 2543 telephones send no
/// Max-Forwards, so neither side may want it.
fn their_parse(bytes: &[u8]) -> Result<sipx_sip::Message, String> {
    let limits = sipx_sip::parser::Limits::datagram();
    let message = sipx_sip::parser::parse_datagram(bytes.to_vec().into(), &limits)
        .map_err(|error| format!("{error:?}"))?;
    let mut findings = validate(&message);
    findings.retain(|finding| *finding != Finding::MissingRequiredHeader("Max-Forwards"));
    if findings.is_empty() { Ok(message) } else { Err(format!("{findings:?}")) }
}

#[test]
fn both_read_the_same_or_differ_for_a_known_reason() {
    let mut originals = common::all();
    originals.extend(RARE.iter().map(|text| text.as_bytes().to_vec()));
    let mut dice = Dice::from_number(2543);
    let mut seen: BTreeMap<Reason, u32> = BTreeMap::new();
    let mut both_read = 0;
    for number in 0..MESSAGES {
        let bytes = originals.get(number).cloned().unwrap_or_else(|| {
            let original = &originals[dice.below(originals.len() as u64) as usize];
            common::mutate(original, &originals, &mut dice)
        });
        let mut repairs = Repairs::default();
        let limits = Limits::default();
        let ours = Message::parse_counting(&bytes, Carrier::Datagram, &limits, &mut repairs);
        let reason = match (&ours, &their_parse(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                compare(ours, theirs);
                both_read += 1;
                continue;
            }
            (Err(_), Err(_)) => continue,
            (Ok(_), Err(_)) if repairs.total() > 0 => Some(Reason::WeRepair),
            (Ok(ours), Err(why)) => why_we_read(ours, why),
            (Err(error), Ok(theirs)) => why_we_refuse(error, theirs),
        };
        let reason = reason.unwrap_or_else(|| {
            panic!("message {number}: {ours:?}\n{}", bytes.escape_ascii());
        });
        *seen.entry(reason).or_default() += 1;
    }
    for reason in REASONS {
        assert!(seen.contains_key(&reason), "{reason:?} never came up: {seen:?}");
    }
    assert!(both_read > MESSAGES / 8, "{both_read} read by both, {seen:?}");
}

fn why_we_read(ours: &Message, why: &str) -> Option<Reason> {
    if why.contains("ContentLengthRepeated") {
        return Some(Reason::WeTakeEqualLengths);
    }
    if why.contains("StartLine(Empty)") {
        return Some(Reason::WeSkipEmptyLines);
    }
    if ours.to_bytes().windows(3).any(|window| window == b":::") {
        return Some(Reason::WeTakeThreeColons);
    }
    let has_hash = |uri: &Uri| uri.user().is_some_and(|user| user.contains(&b'#'));
    if ours.as_request().is_some_and(|request| has_hash(&request.uri)) {
        return Some(Reason::WeTakeMoreCharacters);
    }
    if !why.starts_with("[MalformedRequiredHeader") {
        return None;
    }
    let headers = ours.headers();
    let (from, to, via) = (headers.from().ok()?, headers.to().ok()?, headers.via().ok()?);
    let is_odd_name =
        |address: &NameAddr| address.display.as_ref().is_some_and(|name| !name.is_ascii());
    let odd = [&from, &to].into_iter().any(is_odd_name)
        || [&from.uri, &to.uri].into_iter().any(has_hash)
        || [&from.params, &to.params, &via.params].into_iter().any(has_odd_value);
    if odd {
        return Some(Reason::WeTakeMoreCharacters);
    }
    if headers.vias().is_err() {
        return Some(Reason::WeReadTheTopViaAlone);
    }
    let top = headers.values(&HeaderName::Via).next()?;
    let sent_by = top.split(|byte| *byte == b';').next()?;
    let is_space = |pair: &[u8]| matches!(pair, [b' ' | b'\t', b':'] | [b':', b' ' | b'\t']);
    let is_space = sent_by.windows(2).any(is_space);
    is_space.then_some(Reason::WeTakeSpacesAroundThePort)
}

/// Whether a value without quotes is neither a token nor an address in brackets.
fn has_odd_value(params: &tandem_sip::Params) -> bool {
    let is_token = |value: &[u8]| tandem_sip::Token::new(value).is_some();
    let mut values = params.iter().filter_map(|(_, value)| value);
    values
        .any(|value| !value.starts_with(b"\"") && Host::parse(value).is_none() && !is_token(value))
}

fn why_we_refuse(error: &ParseError, theirs: &sipx_sip::Message) -> Option<Reason> {
    match (error.kind, error.what) {
        (ParseErrorKind::Malformed, "Call-ID malformed") => {
            let value = first(theirs, &HeaderName::CallId);
            value.iter().any(u8::is_ascii_whitespace).then_some(Reason::TheyTakeSpacesInCallId)
        }
        (ParseErrorKind::Malformed, "Contact malformed") => why_not_contact(theirs),
        (ParseErrorKind::Malformed, "From malformed") => {
            why_not_address(&first(theirs, &HeaderName::From))
        }
        (ParseErrorKind::Malformed, "To malformed") => {
            why_not_address(&first(theirs, &HeaderName::To))
        }
        (ParseErrorKind::Malformed, "Via malformed") => {
            let line = first(theirs, &HeaderName::Via);
            let value = Values::new(&line).next()?;
            match Via::parse(value).err()? {
                "protocol is not SIP/2.0" | "protocol malformed" | "transport malformed" => {
                    Some(Reason::TheyLookLater)
                }
                what => why_not(what, value),
            }
        }
        (ParseErrorKind::StartLine, what) => {
            let uri = theirs.as_request()?.uri.to_bytes();
            why_not(what, &uri)
        }
        (ParseErrorKind::HeaderSyntax, "header name malformed") => {
            Some(Reason::TheyFoldTheStartLine)
        }
        _ => None,
    }
}

fn why_not_contact(theirs: &sipx_sip::Message) -> Option<Reason> {
    if theirs.headers().typed_all::<their::ContactValue>().any(|contact| contact.is_err()) {
        return Some(Reason::TheyLookLater);
    }
    let lines = our_headers(theirs);
    let values: Vec<&[u8]> =
        lines.values(&HeaderName::Contact).filter(|value| *value != b"*").collect();
    values
        .iter()
        .find(|value| NameAddr::parse(value).is_err())
        .and_then(|value| why_not_address(value))
}

fn why_not_address(value: &[u8]) -> Option<Reason> {
    why_not(NameAddr::parse(value).err()?, value)
}

/// `what` is our complaint about `value`; holds it against the value, so that a wrong complaint
/// does not pass.
fn why_not(what: &str, value: &[u8]) -> Option<Reason> {
    let has = |piece: &[u8]| value.windows(piece.len()).any(|window| window == piece);
    match what {
        "parameter malformed" | "URI parameter stands twice" if repeats_a_param(value) => {
            Some(Reason::TheyTakeRepeatedParams)
        }
        "host malformed" | "host or port malformed"
            if has(b"..") || has(b"@.") || has(b":.") || has(b" .") || has(b"\t.") =>
        {
            Some(Reason::TheyTakeEmptyLabels)
        }
        "address with , or ? needs <>" if has(b",") => Some(Reason::TheyTakeBareCommas),
        "URI parameter malformed" if has(b";") => Some(Reason::TheyTakeLooseUris),
        "URI header malformed" if has(b"?") => Some(Reason::TheyTakeLooseUris),
        "URI malformed"
            if value.ends_with(b":")
                || has(b":>")
                || has(b": ")
                || has(b":;")
                || has_no_uri_byte(value) =>
        {
            Some(Reason::TheyTakeLooseUris)
        }
        "URI scheme malformed" | "password malformed" if has(b":") => {
            Some(Reason::TheyTakeLooseUris)
        }
        _ => None,
    }
}

/// Characters that stand in no URI (RFC 3986 §2).
fn has_no_uri_byte(value: &[u8]) -> bool {
    value.iter().any(|byte| b"\\^`{|}".contains(byte))
}

fn repeats_a_param(value: &[u8]) -> bool {
    let names = value.split(|byte| *byte == b';').skip(1);
    let name = |param: &[u8]| {
        let end = param.iter().position(|byte| matches!(byte, b'=' | b'>')).unwrap_or(param.len());
        param[..end].trim_ascii().to_ascii_lowercase()
    };
    let mut names: Vec<_> = names.map(name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    names.len() < all
}

fn first(theirs: &sipx_sip::Message, name: &HeaderName) -> Vec<u8> {
    our_headers(theirs).get(name).unwrap_or_default().to_vec()
}

/// Their header lines as ours.
fn our_headers(theirs: &sipx_sip::Message) -> Headers {
    let mut out = Headers::new();
    for header in theirs.headers().iter() {
        out.push(HeaderName::named(&header.name().to_string()), header.value().into_owned());
    }
    out
}

/// Both read it: then both read the same.
fn compare(ours: &Message, theirs: &sipx_sip::Message) {
    match (ours, theirs) {
        (Message::Request(ours), sipx_sip::Message::Request(theirs)) => {
            assert_eq!(ours.method.as_str().as_bytes(), theirs.method.as_bytes());
            assert_eq!(ours.uri.as_bytes(), &theirs.uri.to_bytes()[..]);
            assert_eq!(ours.uri.user(), theirs.uri.user().or(ours.uri.user()));
            assert_eq!(ours.uri.port(), theirs.uri.port());
        }
        (Message::Response(ours), sipx_sip::Message::Response(theirs)) => {
            assert_eq!(ours.status, theirs.status.code());
            assert_eq!(ours.reason, &theirs.reason[..]);
        }
        (Message::Request(_), _) | (Message::Response(_), _) => panic!("{ours:?}"),
    }
    assert_eq!(ours.body(), &theirs.body()[..]);
    let (lines, their_lines) = (ours.headers(), our_headers(theirs));
    let comparable = |headers: &Headers| -> Vec<(HeaderName, Vec<u8>)> {
        let counted = |name: &HeaderName| *name == HeaderName::ContentLength;
        let lines = headers.iter().filter(|header| !counted(header.name()));
        lines.map(|header| (header.name().clone(), squeezed(header.value()))).collect()
    };
    assert_eq!(comparable(lines), comparable(&their_lines));
    compare_values(lines, theirs.headers());
}

fn compare_values(ours: &Headers, theirs: &sipx_sip::message::Headers) {
    let cseq = theirs.typed::<their::CSeq>().expect("validated").expect("validated");
    let (number, method) = ours.cseq().expect("checked");
    assert_eq!((number, method.as_str().as_bytes()), (cseq.sequence, cseq.method.as_bytes()));
    let via = theirs.typed::<their::Via>().expect("validated").expect("validated");
    let our_via = ours.via().expect("checked");
    assert_eq!(our_via.branch(), via.branch());
    assert_eq!(our_via.port, via.port);
    assert_eq!(our_via.rport().is_some(), via.rport().is_some());
    let from = theirs.typed::<their::From>().expect("validated").expect("validated").0;
    let to = theirs.typed::<their::To>().expect("validated").expect("validated").0;
    for (ours, theirs) in [(ours.from(), from), (ours.to(), to)] {
        let ours = ours.expect("checked");
        assert_eq!(ours.tag(), theirs.tag());
        assert_eq!(ours.uri.as_bytes(), &theirs.uri.to_bytes()[..]);
    }
    let contacts: Result<Vec<_>, _> = theirs.typed_all::<their::ContactValue>().collect();
    if let (Ok(ours), Ok(theirs)) = (ours.contacts(), contacts) {
        assert_eq!(ours.len(), theirs.len());
    }
}

/// Each run of spaces as one: a fold may leave one or several.
fn squeezed(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    for byte in value {
        let byte = if *byte == b'\t' { b' ' } else { *byte };
        if byte != b' ' || out.last() != Some(&b' ') {
            out.push(byte);
        }
    }
    out
}
