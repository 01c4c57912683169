//! Where a message ends, how much of it is taken, what is repaired, and what comes back.

use tandem_sip::{
    Carrier, ContactValue, HeaderName, Limits, MAX_HEADER_LINE_BYTES, MAX_HEADER_LINES,
    MAX_LIST_VALUES, MAX_MESSAGE_BYTES, MAX_URI_BYTES, Message, Method, NameAddr, ParseError,
    ParseErrorKind, Repairs, Request, Response, Uri,
};

/// A request with these lines after those that must be there, and this body.
fn request(lines: &str, body: &str) -> String {
    format!(
        "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\n\
         To: <sip:bob@example.com>\r\nFrom: <sip:alice@example.com>;tag=1\r\nCall-ID: c\r\n\
         CSeq: 1 MESSAGE\r\n{lines}\r\n{body}"
    )
}

fn parse(text: impl AsRef<[u8]>, how: Carrier) -> Result<Message, ParseError> {
    Message::parse(text.as_ref(), how, &Limits::default())
}

/// Status and kind of a refusal.
fn refusal(text: impl AsRef<[u8]>, how: Carrier) -> (Option<u16>, ParseErrorKind) {
    let error = parse(text, how).expect_err("refused");
    (error.status, error.kind)
}

use Carrier::{Datagram, Stream};

#[test]
fn the_body_of_a_datagram_without_content_length_is_the_rest() {
    let message = parse(request("", "v=0\r\n"), Datagram).unwrap();
    assert_eq!(message.body(), b"v=0\r\n");
    assert_eq!(message.headers().content_length(), Ok(Some(5)));
}

#[test]
fn bytes_beyond_content_length_are_dropped_from_a_datagram_and_refused_in_a_stream() {
    let text = request("Content-Length: 3\r\n", "v=0\r\n");
    assert_eq!(parse(&text, Datagram).unwrap().body(), b"v=0");
    assert_eq!(refusal(&text, Stream), (Some(400), ParseErrorKind::ContentLength));
}

#[test]
fn a_wrong_content_length_is_refused() {
    let cases = ["6", "-1", "", "5 5", "5, 5", "+5", "0x5", "18446744073709551616", "5\r\nl: 3"];
    for value in cases {
        for how in [Datagram, Stream] {
            let text = request(&format!("Content-Length: {value}\r\n"), "v=0\r\n");
            assert_eq!(refusal(&text, how), (Some(400), ParseErrorKind::ContentLength), "{value}");
        }
    }
    assert_eq!(refusal(request("", ""), Stream), (Some(400), ParseErrorKind::ContentLength));
    let twice = parse(request("l: 005\r\nContent-Length: 5\r\n", "v=0\r\n"), Stream).unwrap();
    assert_eq!(twice.headers().all(&HeaderName::ContentLength).count(), 1);
}

#[test]
fn line_ends_alone_are_a_keep_alive_and_before_a_message_nothing() {
    for text in ["\r\n\r\n", "\r\n", "\n", ""] {
        assert_eq!(refusal(text, Datagram), (None, ParseErrorKind::KeepAlive));
    }
    assert!(parse(format!("\r\n\r\n{}", request("", "")), Datagram).is_ok());
}

#[test]
fn what_is_no_sip_gets_no_answer() {
    for text in
        ["x", "\0\0\0\r\n", "GET / HTTP/1.1\r\n\r\n", "SIP/2.0\r\n\r\n", "a b\r\n\r\n", " \r\n"]
    {
        assert_eq!(parse(text, Datagram).unwrap_err().status, None, "{text:?}");
    }
    let ack = request("Content-Length: x\r\n", "").replace("MESSAGE", "ACK");
    assert_eq!(refusal(ack, Datagram), (None, ParseErrorKind::ContentLength));
    let nobody = "OPTIONS sip:a SIP/2.0\r\nTo: <sip:a>\r\n\r\n";
    assert_eq!(parse(nobody, Datagram).unwrap_err().partial, None);
}

/// What is repaired, in the order of the fields of `Repairs`.
fn repairs(text: &str, how: Carrier) -> (Result<Message, ParseError>, [u64; 3]) {
    let mut count = Repairs::default();
    let message = Message::parse_counting(text.as_bytes(), how, &Limits::default(), &mut count);
    (message, [count.bare_line_feeds, count.start_line_spaces, count.missing_blank_lines])
}

#[test]
fn three_things_are_repaired_and_counted() {
    let text = request("Content-Length: 0\r\n", "");
    let (want, none) = repairs(&text, Stream);
    assert_eq!(none, [0, 0, 0]);
    let (message, count) = repairs(&text.replace("\r\n", "\n"), Stream);
    assert_eq!((message, count), (want.clone(), [8, 0, 0]));
    let spaces = text.replace("sip:bob@example.com SIP/2.0", " sip:bob@example.com\tSIP/2.0 ");
    assert_eq!(repairs(&spaces, Stream), (want.clone(), [0, 1, 0]));
    let open = text.strip_suffix("\r\n").unwrap();
    assert_eq!(repairs(open, Datagram), (want, [0, 0, 1]));
    assert_eq!(refusal(open, Stream), (Some(400), ParseErrorKind::Truncated));
    // Half a line may say something else than the whole.
    let cut = text.strip_suffix("0\r\n\r\n").unwrap();
    assert_eq!(refusal(cut, Datagram), (Some(400), ParseErrorKind::Truncated));
    let (status, count) = repairs(&response_line("SIP/2.0 200"), Datagram);
    assert_eq!((status.unwrap().as_response().unwrap().reason.len(), count), (0, [0, 1, 0]));
}

fn response_line(line: &str) -> String {
    let text = request("Content-Length: 0\r\n", "");
    text.replace("MESSAGE sip:bob@example.com SIP/2.0", line)
}

#[test]
fn a_status_has_three_digits_from_100_to_699() {
    for (status, is_read) in [
        ("099", false),
        ("100", true),
        ("699", true),
        ("700", false),
        ("0200", false),
        ("20", false),
    ] {
        let text = response_line(&format!("SIP/2.0 {status} x"));
        assert_eq!(parse(&text, Datagram).is_ok(), is_read, "{status}");
    }
    assert_eq!(refusal(response_line("SIP/3.0 200 OK"), Datagram), (None, ParseErrorKind::Version));
}

#[test]
fn a_message_at_the_limit_is_read_and_one_byte_more_is_513() {
    let length = MAX_MESSAGE_BYTES - request("", "").len();
    assert!(parse(request("", &"x".repeat(length)), Datagram).is_ok());
    let beyond = request("", &"x".repeat(length + 1));
    assert_eq!(refusal(beyond, Datagram), (Some(513), ParseErrorKind::TooLarge));
}

#[test]
fn as_many_header_lines_as_allowed_are_read_and_one_more_is_400() {
    let lines = |more: usize| request(&"X-A: b\r\n".repeat(MAX_HEADER_LINES - 5 + more), "");
    assert!(parse(lines(0), Datagram).is_ok());
    let error = parse(lines(1), Datagram).unwrap_err();
    assert_eq!((error.status, error.kind), (Some(400), ParseErrorKind::TooManyHeaders));
    assert!(error.partial.unwrap().headers.len() <= MAX_HEADER_LINES + 1);
}

#[test]
fn a_header_line_at_the_limit_is_read_and_one_byte_more_is_400() {
    for fold in ["", "\r\n "] {
        let line = |more: usize| {
            let space = fold.len().saturating_sub(2);
            let value = "b".repeat(MAX_HEADER_LINE_BYTES - 5 - space + more);
            request(&format!("X-A: {fold}{value}\r\n"), "")
        };
        assert!(parse(line(0), Datagram).is_ok());
        let error = parse(line(1), Datagram).unwrap_err();
        assert_eq!((error.status, error.kind), (Some(400), ParseErrorKind::HeaderTooLong));
        assert!(!error.partial.unwrap().headers.contains(&HeaderName::named("X-A")));
    }
}

#[test]
fn a_request_uri_at_the_limit_is_read_and_one_byte_more_is_414() {
    let text = |more: usize| {
        let user = "b".repeat(MAX_URI_BYTES - "sip:@example.com".len() + more);
        request("", "").replace("sip:bob@example.com SIP", &format!("sip:{user}@example.com SIP"))
    };
    assert!(parse(text(0), Datagram).is_ok());
    assert_eq!(refusal(text(1), Datagram), (Some(414), ParseErrorKind::UriTooLong));
    let tight = Limits { uri_bytes: 10, ..Limits::default() };
    let error = Message::parse(text(0).as_bytes(), Datagram, &tight).unwrap_err();
    assert_eq!(error.status, Some(414));
}

#[test]
fn as_many_contacts_as_allowed_are_read_and_one_more_is_400() {
    let text = |count: usize| {
        request(&format!("Contact: {}<sip:a>\r\n", "<sip:a>,".repeat(count - 1)), "")
    };
    let message = parse(text(MAX_LIST_VALUES), Datagram).unwrap();
    assert_eq!(message.headers().contacts().unwrap().len(), MAX_LIST_VALUES);
    assert_eq!(
        refusal(text(MAX_LIST_VALUES + 1), Datagram),
        (Some(400), ParseErrorKind::Malformed)
    );
}

#[test]
fn every_byte_above_ascii_survives_in_values_reason_and_body() {
    let high: Vec<u8> = (0x80..=0xff).collect();
    let mut bytes = b"SIP/2.0 200 \xe4".to_vec();
    bytes.extend(&high);
    bytes
        .extend(b"\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: \"J\xfcrgen\" <sip:a>;tag=1\r\n");
    bytes.extend(b"To: M\xfcller <sip:b>\r\nCall-ID: c\xff\r\nCSeq: 1 INFO\r\nSubject: ");
    bytes.extend(&high);
    bytes.extend(b"\r\nX-F: \xc3\xbc\r\n \xfc\r\n\r\n");
    bytes.extend(&high);
    let message = parse(&bytes, Datagram).unwrap();
    let printed = message.to_bytes();
    assert_eq!(parse(&printed, Stream).as_ref(), Ok(&message));
    assert_eq!(message.headers().get(&HeaderName::Subject), Some(high.as_slice()));
    assert_eq!(message.headers().get(&HeaderName::named("x-f")), Some(b"\xc3\xbc \xfc".as_slice()));
    assert_eq!(message.headers().from().unwrap().display.as_deref(), Some(b"J\xfcrgen".as_slice()));
    assert_eq!(message.headers().to().unwrap().display.as_deref(), Some(b"M\xfcller".as_slice()));
    assert_eq!(message.body(), high);
    let held = [b"Subject: ".as_slice(), &high, b"\r\n"].concat();
    assert!(printed.windows(held.len()).any(|window| window == held));
}

#[test]
fn the_accessors_read_what_a_telephone_sends() {
    let lines = "Contact: \"A, B\" <sip:a@h;lr>;expires=60;q=0.5, <tel:+1>\r\nm: sip:c@d\r\n\
         Max-Forwards: 70\r\nExpires: 99999999999\r\nRequire: 100rel,, timer\r\nk: replaces\r\n\
         Retry-After: 120 (at lunch);duration=60\r\nSession-Expires: 1800 ;refresher=uac\r\n\
         RAck: 776656 1 INVITE\r\nRSeq: 7\r\nMin-Expires: x\r\nAllow: INVITE, ACK, (bad), X-Y\r\n\
         Content-Type: Application/SDP ;charset=utf-8\r\nReason: Q.850 ;cause=16;text=\"a, b\", SIP\r\n\
         Route: <sip:p1;lr>, <sip:p2;lr>\r\nRefer-To: sip:x@y\r\n";
    let message = parse(request(lines, ""), Datagram).unwrap();
    let headers = message.headers();
    let contacts = headers.contacts().unwrap();
    assert_eq!(contacts.len(), 3);
    let ContactValue::Addr(first) = &contacts[0] else { panic!("{contacts:?}") };
    assert_eq!(first.display.as_deref(), Some(b"A, B".as_slice()));
    assert_eq!(first.params.value("Q"), Some(b"0.5".as_slice()));
    assert_eq!(headers.max_forwards(), Ok(Some(70)));
    assert_eq!(headers.expires(), Ok(Some(u32::MAX)));
    assert_eq!(headers.require().collect::<Vec<_>>(), [b"100rel".as_slice(), b"timer"]);
    assert!(headers.supports("Replaces") && headers.supports("timer") && !headers.supports("gruu"));
    assert_eq!(headers.retry_after(), Ok(Some(120)));
    let (seconds, params) = headers.refresh_interval().unwrap().unwrap();
    assert_eq!((seconds, params.value("refresher")), (1800, Some(b"uac".as_slice())));
    assert_eq!(headers.rack(), Ok((776_656, 1, Method::Invite)));
    assert_eq!(headers.rseq(), Ok(Some(7)));
    assert!(headers.min_expires().is_err());
    assert_eq!(headers.allow().count(), 3);
    assert!(headers.content_type().unwrap().unwrap().is("application", "sdp"));
    let causes: Vec<_> = headers.reasons().map(|reason| reason.cause()).collect();
    assert_eq!(causes, [Some(16), None]);
    assert_eq!(headers.routes().unwrap().len(), 2);
    assert_eq!(headers.record_routes().unwrap().len(), 0);
    assert_eq!(headers.refer_to().unwrap().uri.to_string(), "sip:x@y");
    let star = parse(request("Contact: *\r\n", ""), Datagram).unwrap();
    assert_eq!(star.headers().contacts(), Ok(vec![ContactValue::Star]));
}

#[test]
fn numbers_have_their_bounds() {
    let with = |line: &str| parse(request(&format!("{line}\r\n"), ""), Datagram);
    assert!(with("Max-Forwards: 255").is_ok());
    assert!(with("Max-Forwards: 256").is_err());
    assert!(with("Max-Forwards: -1").is_err());
    let cseq = |number: &str| {
        parse(request("", "").replace("CSeq: 1", &format!("CSeq: {number}")), Datagram)
    };
    assert!(cseq("2147483647").is_ok());
    assert!(cseq("2147483648").is_err());
    assert_eq!(cseq("0009").unwrap().headers().cseq(), Ok((9, Method::Message)));
}

#[test]
fn a_message_is_built_and_read_back() {
    let uri: Uri = "sip:bob@example.com".parse().unwrap();
    let mut from = NameAddr::new("sip:alice@example.com".parse().unwrap()).with_tag(b"77");
    from.display = Some(b"Alice \"A\"".to_vec());
    let request = Request::new(Method::Invite, uri.clone())
        .with(HeaderName::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK9")
        .with(HeaderName::From, from.clone())
        .with(HeaderName::To, NameAddr::new(uri))
        .with(HeaderName::CallId, "c1")
        .with(HeaderName::CSeq, "1 INVITE")
        .with_body("application/sdp", "v=0\r\n");
    let read = parse(request.to_bytes(), Stream).unwrap();
    assert_eq!(read.headers().from(), Ok(from));
    assert_eq!(read.as_request().map(|read| &read.body), Some(&request.body));
    let mut response = Response::new(180);
    response.reason = b"Ring\r\ning".to_vec();
    for name in
        [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq]
    {
        response.headers.copy_from(&request.headers, &name);
    }
    let read = parse(response.to_bytes(), Stream).unwrap();
    assert_eq!(read.as_response().unwrap().reason, b"Ring  ing");
    assert!(response.is_provisional() && !response.is_success());
}

#[test]
fn a_message_survives_being_stored() {
    let lines = "m: <tel:+1>\r\nX-\u{2a}: \u{fc}\r\nContact: sip:a@[::1]:5061;transport=tcp\r\n";
    let message = parse(request(lines, "body").replace("MESSAGE", "X-METHOD"), Datagram).unwrap();
    let stored = postcard::to_stdvec(&message).unwrap();
    assert_eq!(postcard::from_bytes::<Message>(&stored).as_ref(), Ok(&message));
    let via = message.headers().via().unwrap();
    let stored = postcard::to_stdvec(&via).unwrap();
    assert_eq!(postcard::from_bytes(&stored), Ok(via));
    let stored = postcard::to_stdvec("sip:").unwrap();
    assert!(postcard::from_bytes::<Uri>(&stored).is_err());
}
