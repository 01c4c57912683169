//! Every message of RFC 4475 and RFC 5118 with the outcome it must have.

mod common;

use tandem_sip::{Carrier, HeaderName, Limits, Message, ParseErrorKind, Repairs};

use Want::{Answered, Dropped, Read, Repaired};

/// What must become of a message that comes as a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Want {
    /// Read as it is, and nothing is lost when it is printed and read again.
    Read,
    /// The same after a repair that is counted.
    Repaired,
    /// Refused with this status, and the answer can be built.
    Answered(u16, ParseErrorKind),
    /// Refused without an answer.
    Dropped(ParseErrorKind),
}

/// RFC 4475, in its order. Where the RFC leaves a choice, the comment says what was chosen.
const TORTURE: &[(&str, Want)] = &[
    ("wsinv", Read),
    ("intmeth", Read),
    ("esc01", Read),
    ("escnull", Read),
    ("esc02", Read),
    ("lwsdisp", Read),
    ("longreq", Read),
    ("dblreq", Read),
    ("semiuri", Read),
    ("transports", Read),
    ("mpart01", Read),
    ("unreason", Read),
    ("noreason", Read),
    ("badinv01", Answered(400, ParseErrorKind::Malformed)),
    ("clerr", Answered(400, ParseErrorKind::ContentLength)),
    ("ncl", Answered(400, ParseErrorKind::ContentLength)),
    ("scalar02", Answered(400, ParseErrorKind::Malformed)),
    ("scalarlg", Dropped(ParseErrorKind::Malformed)),
    ("quotbal", Answered(400, ParseErrorKind::Malformed)),
    // Reading past the brackets is allowed, but who writes them writes other things wrong too.
    ("ltgtruri", Answered(400, ParseErrorKind::StartLine)),
    ("lwsruri", Answered(400, ParseErrorKind::StartLine)),
    // Spaces in the start line are repaired: the meaning is clear.
    ("lwsstart", Repaired),
    ("trws", Repaired),
    // Dropping the headers is allowed, but they were meant to do something.
    ("escruri", Answered(400, ParseErrorKind::StartLine)),
    // Nothing here depends on Date, so it is passed on as it is.
    ("baddate", Read),
    ("regbadct", Answered(400, ParseErrorKind::Malformed)),
    ("badaspec", Answered(400, ParseErrorKind::Malformed)),
    ("baddn", Answered(400, ParseErrorKind::Malformed)),
    ("badvers", Answered(505, ParseErrorKind::Version)),
    ("mismatch01", Answered(400, ParseErrorKind::Malformed)),
    ("mismatch02", Answered(400, ParseErrorKind::Malformed)),
    ("bigcode", Dropped(ParseErrorKind::StartLine)),
    // From here on the message is well formed; what to do with it is decided above this crate.
    ("badbranch", Read),
    ("insuf", Answered(400, ParseErrorKind::Missing)),
    ("unkscm", Read),
    ("novelsc", Read),
    ("unksm2", Read),
    ("bext01", Read),
    ("invut", Read),
    ("regaut01", Read),
    ("multi01", Answered(400, ParseErrorKind::Repeated)),
    ("mcl01", Answered(400, ParseErrorKind::ContentLength)),
    ("bcast", Read),
    ("zeromf", Read),
    ("cparam01", Read),
    ("cparam02", Read),
    ("regescrt", Read),
    ("sdp01", Read),
    ("inv2543", Read),
    // In the archive, but in no section of the RFC: has no version, so it is not SIP.
    ("test", Dropped(ParseErrorKind::NotSip)),
];

/// RFC 5118, with line ends as they are on the wire: its files have LF alone.
const IPV6: &[(&str, Want)] = &[
    ("ipv6-good", Read),
    ("ipv6-bad", Answered(400, ParseErrorKind::StartLine)),
    ("port-ambiguous", Read),
    ("port-unambiguous", Read),
    ("via-received-param-with-delim", Read),
    ("via-received-param-no-delim", Read),
    // The RFC counts 268 bytes where 251 stand: a fault of the RFC, and to be refused.
    ("ipv6-in-sdp", Answered(400, ParseErrorKind::ContentLength)),
    ("mult-ip-in-header", Read),
    ("mult-ip-in-sdp", Read),
    ("ipv4-mapped-ipv6", Read),
    // The RFC asks to read the colon too many. These two files lack the empty line.
    ("ipv6-bug-abnf-3-colons", Repaired),
    ("ipv6-correct-abnf-2-colons", Repaired),
];

fn outcome(bytes: &[u8]) -> Want {
    let mut repairs = Repairs::default();
    let limits = Limits::default();
    match Message::parse_counting(bytes, Carrier::Datagram, &limits, &mut repairs) {
        Ok(message) => {
            let printed = message.to_bytes();
            for how in [Carrier::Datagram, Carrier::Stream] {
                assert_eq!(Message::parse(&printed, how, &limits).as_ref(), Ok(&message));
            }
            if repairs.total() == 0 { Read } else { Repaired }
        }
        Err(error) => match error.status {
            None => Dropped(error.kind),
            Some(status) => {
                let partial = error.partial.expect("an answer needs the request");
                assert!(partial.headers.contains(&HeaderName::Via), "an answer needs a Via");
                Answered(status, error.kind)
            }
        },
    }
}

fn check(files: &[(&str, Vec<u8>)], wants: &[(&str, Want)]) {
    let mut differences = Vec::new();
    for (name, bytes) in files {
        let want = wants.iter().find(|(wanted, _)| wanted == name).map(|(_, want)| *want);
        let got = outcome(bytes);
        if Some(got) != want {
            differences.push(format!("{name}: {got:?} instead of {want:?}"));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(files.len(), wants.len());
}

#[test]
fn every_message_of_rfc_4475_has_its_outcome() {
    assert_eq!(TORTURE.len(), 50);
    let files: Vec<_> =
        common::TORTURE.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
    check(&files, TORTURE);
}

#[test]
fn every_message_of_rfc_5118_has_its_outcome() {
    assert_eq!(IPV6.len(), 12);
    check(&common::ipv6_on_the_wire(), IPV6);
}

fn read(name: &str) -> Message {
    let (_, bytes) = common::TORTURE.iter().find(|(file, _)| *file == name).expect("a file");
    Message::parse(bytes, Carrier::Datagram, &Limits::default()).expect("a message")
}

#[test]
fn the_tortuous_invite_says_what_the_rfc_says_it_does() {
    let message = read("wsinv");
    let headers = message.headers();
    assert_eq!(headers.to().unwrap().tag(), Some(b"1918181833n".as_slice()));
    let from = headers.from().unwrap();
    assert_eq!(from.display.as_deref(), Some(br#"J Rosenberg \""#.as_slice()));
    assert_eq!(from.tag(), Some(b"98asjd8".as_slice()));
    assert_eq!(headers.max_forwards(), Ok(Some(68)));
    assert_eq!(headers.cseq().unwrap().0, 9);
    let branches: Vec<_> =
        headers.vias().unwrap().iter().map(|via| via.branch().unwrap().to_vec()).collect();
    assert_eq!(
        branches,
        [b"390skdjuw".to_vec(), b"z9hG4bK9ikj8".to_vec(), b"z9hG4bK30239".to_vec()]
    );
    assert_eq!(headers.get(&HeaderName::Subject), Some(b"".as_slice()));
    let folded = headers.get(&HeaderName::named("newfangledheader"));
    assert_eq!(folded, Some(b"newfangled value continued newfangled value".as_slice()));
    assert!(headers.routes().unwrap()[0].uri.is_loose_router());
    assert_eq!(message.body().len(), 150);
}

#[test]
fn bytes_of_any_alphabet_survive() {
    let response = read("unreason");
    let reason = &response.as_response().unwrap().reason;
    assert!(String::from_utf8(reason.clone()).unwrap().ends_with('\u{435}'));
    let message = read("intmeth");
    let to = message.headers().to().unwrap();
    assert_eq!(to.display.as_deref(), Some(b"BEL:\x07 NUL:\0 DEL:\x7f".as_slice()));
    let extension = HeaderName::named("extensionHeader-!.%*+_`'~");
    assert_eq!(
        message.headers().get(&extension),
        Some("\u{feff}\u{5927}\u{505c}\u{96fb}".as_bytes())
    );
    let user = read("escnull").headers().to().unwrap().uri.user_decoded();
    assert_eq!(user.as_deref(), Some(b"null-\0-null".as_slice()));
    assert!(read("esc01").headers().contacts().is_ok());
}

#[test]
fn what_follows_the_body_in_a_datagram_is_dropped_and_in_a_stream_refused() {
    let (_, bytes) = common::TORTURE.iter().find(|(file, _)| *file == "dblreq").expect("a file");
    assert!(read("dblreq").body().is_empty());
    let error = Message::parse(bytes, Carrier::Stream, &Limits::default()).unwrap_err();
    assert_eq!((error.kind, error.status), (ParseErrorKind::ContentLength, Some(400)));
}
