//! 100,000 damaged messages: nothing panics, what is read survives printing, memory stays bounded.

#![allow(unsafe_code, reason = "counting what is allocated takes an allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tandem_sip::{Carrier, HeaderName, Limits, Message, ParseError, digest};
use tandem_types::Dice;

const MESSAGES: u64 = 100_000;
/// Highest use of memory while a message is parsed, printed and read through every accessor.
const BYTES_PER_BYTE: usize = 40;
const BYTES_ALWAYS: usize = 16 * 1024;

/// The system's allocator, counting what the thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HIGHEST: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: isize) {
    HELD.with(|held| held.set(held.get() + bytes));
    HIGHEST.with(|highest| highest.set(highest.get().max(HELD.with(Cell::get))));
}

/// Bytes that `work` held at once, beyond what was held before.
fn highest_while(work: impl FnOnce()) -> usize {
    let before = HELD.with(Cell::get);
    HIGHEST.with(|highest| highest.set(before));
    work();
    usize::try_from(HIGHEST.with(Cell::get) - before).unwrap_or(0)
}

/// Calls everything that reads a header.
fn touch(message: &Message) {
    let headers = message.headers();
    let _ = (headers.vias(), headers.contacts(), headers.routes(), headers.record_routes());
    let _ = (headers.expires(), headers.min_expires(), headers.retry_after(), headers.rseq());
    let _ =
        (headers.rack(), headers.refresh_interval(), headers.refer_to(), headers.content_type());
    let _ = headers.require().chain(headers.supported()).chain(headers.proxy_require()).count();
    let _ = (headers.allow().count(), headers.reasons().count(), headers.supports("100rel"));
    let _ = headers.addresses(&HeaderName::PAssertedIdentity);
    let ha1 = digest::Ha1::new(b"bob", b"example.com", b"zanzibar");
    for credentials in headers.credentials(&HeaderName::Authorization) {
        digest::verify(&credentials, &tandem_sip::Method::Register, &ha1);
    }
    for challenge in headers.challenges(&HeaderName::WwwAuthenticate) {
        assert_eq!(digest::Challenge::parse(&challenge.to_bytes()), Some(challenge));
    }
    if let Message::Request(request) = message {
        let from = headers.from().expect("was checked").uri;
        assert!(request.uri.is_equivalent(&request.uri), "{:?}", request.uri);
        let _ = request.uri.is_equivalent(&from);
        let _ = from.with_user(Some(b"a b")).with_param("x", Some(b"y z")).without_params();
    }
}

/// What is promised of every message that was read.
fn check(message: &Message) {
    let headers = message.headers();
    assert!(headers.via().is_ok() && headers.call_id().is_ok() && headers.cseq().is_ok());
    let (from, to) = (headers.from().expect("was checked"), headers.to().expect("was checked"));
    for address in [from, to] {
        assert_eq!(tandem_sip::NameAddr::parse(&address.to_bytes()), Ok(address));
    }
    let via = headers.via().expect("was checked");
    assert_eq!(tandem_sip::Via::parse(&via.to_bytes()), Ok(via));
    assert_eq!(headers.content_length(), Ok(Some(message.body().len())));
    touch(message);
    let printed = message.to_bytes();
    for how in [Carrier::Datagram, Carrier::Stream] {
        assert_eq!(Message::parse(&printed, how, &Limits::default()).as_ref(), Ok(message));
    }
}

/// What is promised of every refusal.
fn check_refusal(error: &ParseError) {
    assert!(error.status.is_some() || error.partial.is_none());
    if let Some(partial) = &error.partial {
        assert!(partial.headers.contains(&HeaderName::Via));
        // The answer copies these lines; they must be fit to print.
        let lines = partial.headers.iter().map(|header| header.value());
        assert!(lines.flatten().all(|byte| !matches!(byte, b'\r' | b'\n')));
    }
}

#[test]
fn damaged_messages_are_read_or_refused_within_bounds() {
    let messages = common::all();
    let mut dice = Dice::from_number(3261);
    let mut read = 0_u64;
    for number in 0..MESSAGES {
        let original = &messages[dice.below(messages.len() as u64) as usize];
        let damaged = common::mutate(original, &messages, &mut dice);
        let how = if dice.chance(70) { Carrier::Datagram } else { Carrier::Stream };
        let highest = highest_while(|| match Message::parse(&damaged, how, &Limits::default()) {
            Ok(message) => {
                read += 1;
                check(&message);
            }
            Err(error) => check_refusal(&error),
        });
        let bound = damaged.len() * BYTES_PER_BYTE + BYTES_ALWAYS;
        assert!(highest <= bound, "message {number}: {highest} of {bound} bytes");
    }
    // A test that refuses everything, or damages nothing, proves nothing.
    assert!(read > MESSAGES / 10 && read < MESSAGES / 2, "read {read}");
}

#[test]
fn messages_made_to_use_memory_do_not() {
    let head = "OPTIONS sip:h SIP/2.0\r\nTo: <sip:h>\r\nFrom: <sip:h>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n";
    let vias = format!("{head}Via: SIP/2.0/X h{}\r\n\r\n", ",SIP/2.0/X h".repeat(600));
    let contacts = format!("{head}v: SIP/2.0/X h\r\nm: a:b{}\r\n\r\n", ",a:b".repeat(2000));
    let lines = format!("{head}v: SIP/2.0/X h\r\n{}\r\n", "a:\r\n".repeat(15_000));
    let folds = format!("{head}v: SIP/2.0/X h\r\na:{}\r\n\r\n", "\r\n ".repeat(20_000));
    let params = format!("{head}v: SIP/2.0/X h{}\r\n\r\n", ";a".repeat(4_000));
    for text in [vias, contacts, lines, folds, params] {
        let highest = highest_while(|| {
            match Message::parse(text.as_bytes(), Carrier::Datagram, &Limits::default()) {
                Ok(message) => touch(&message),
                Err(error) => check_refusal(&error),
            }
        });
        let bound = text.len() * BYTES_PER_BYTE + BYTES_ALWAYS;
        assert!(highest <= bound, "{highest} of {bound} bytes: {}", &text[90..130]);
    }
}
