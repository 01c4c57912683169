//! Any bytes, as a datagram and as a stream message: nothing panics, what is read survives printing,
//! every accessor bears it.
//!
//! Builds with the stable compiler: `cargo build -p tandem-fuzz --bin message`. To run it, install
//! `cargo-fuzz` and start from the messages of RFC 4475:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run message fuzz/corpus/message core/sip/tests/torture -- -max_len=4096
//! ```

#![no_main]

use tandem_sip::{
    Carrier, HeaderName, Limits, Message, Method, NameAddr, ParseError, Uri, Via, digest,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for how in [Carrier::Datagram, Carrier::Stream] {
        match Message::parse(data, how, &Limits::default()) {
            Ok(message) => check(&message),
            Err(error) => check_refusal(&error),
        }
    }
    // What an attacker writes into one value, without the rest of a message around it.
    if let Ok(uri) = Uri::parse(data) {
        assert_eq!(uri.as_bytes(), data);
        change(&uri);
    }
    if let Ok(value) = NameAddr::parse(data) {
        assert_eq!(NameAddr::parse(&value.to_bytes()), Ok(value));
    }
    if let Ok(value) = Via::parse(data) {
        assert_eq!(Via::parse(&value.to_bytes()), Ok(value));
    }
    if let Some(value) = digest::Credentials::parse(data) {
        digest::verify(&value, &Method::Register, &digest::Ha1::new(b"a", b"b", b"c"));
    }
    if let Some(value) = digest::Challenge::parse(data) {
        assert_eq!(digest::Challenge::parse(&value.to_bytes()), Some(value));
    }
    let key = digest::NonceKey::new([1; 32]);
    let address = core::net::Ipv4Addr::LOCALHOST.into();
    assert_eq!(key.check(data, 0, address), digest::NonceCheck::Forged);
});

fn check(message: &Message) {
    let headers = message.headers();
    assert!(headers.via().is_ok() && headers.call_id().is_ok() && headers.cseq().is_ok());
    let from = headers.from().expect("was checked");
    let to = headers.to().expect("was checked");
    change(&from.uri);
    let _ = from.uri.is_equivalent(&to.uri);
    if let Message::Request(request) = message {
        change(&request.uri);
    }
    touch(message);
    let printed = message.to_bytes();
    for how in [Carrier::Datagram, Carrier::Stream] {
        match Message::parse(&printed, how, &Limits::default()) {
            Ok(read) => assert_eq!(read, *message),
            // Printing spells compact names out and adds Content-Length, so what came close to a
            // limit may go beyond it.
            Err(error) => assert!(data_is_near_a_limit(&printed), "{error}"),
        }
    }
}

fn data_is_near_a_limit(printed: &[u8]) -> bool {
    printed.len() > tandem_sip::MAX_MESSAGE_BYTES
        || printed.split(|byte| *byte == b'\n').count() > tandem_sip::MAX_HEADER_LINES
        || printed
            .split(|byte| *byte == b'\n')
            .any(|line| line.len() > tandem_sip::MAX_HEADER_LINE_BYTES)
}

/// Calls every accessor.
fn touch(message: &Message) {
    let headers = message.headers();
    let _ = (headers.vias(), headers.contacts(), headers.routes(), headers.record_routes());
    let _ = (headers.max_forwards(), headers.expires(), headers.min_expires());
    let _ = (headers.retry_after(), headers.rseq(), headers.rack(), headers.refresh_interval());
    let _ = (headers.refer_to(), headers.content_type(), headers.content_length());
    let _ = headers.require().chain(headers.supported()).chain(headers.proxy_require()).count();
    let _ = (headers.allow().count(), headers.reasons().count(), headers.supports("100rel"));
    let _ = headers.addresses(&HeaderName::PAssertedIdentity);
    let _ = headers.credentials(&HeaderName::Authorization).count();
    let _ = headers.challenges(&HeaderName::WwwAuthenticate).count();
    let mut changed = headers.clone();
    while changed.remove_first_value(&HeaderName::Via).is_some() {}
    changed.replace_first_value(HeaderName::Route, "<sip:a;lr>");
}

/// Changes keep a URI a URI.
fn change(uri: &Uri) {
    assert!(uri.is_equivalent(uri), "{uri}");
    let changed = uri.with_user(Some(b"a b")).with_param("x", Some(b"y z")).without_headers();
    let near_limit = changed.as_bytes().len() > tandem_sip::MAX_URI_BYTES
        || uri.params().count() >= tandem_sip::MAX_PARAMS;
    assert!(near_limit || Uri::parse(changed.as_bytes()).as_ref() == Ok(&changed), "{changed}");
    let _ = (uri.user_decoded(), uri.host(), uri.headers().count(), uri.without_params());
}

fn check_refusal(error: &ParseError) {
    assert!(error.status.is_some() || error.partial.is_none());
    if let Some(partial) = &error.partial {
        let _ = Message::Request((**partial).clone()).to_bytes();
    }
}
