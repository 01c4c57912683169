//! The serving machine went away amid an entry or amid a catch-up: of a call its twin has a part, without the
//! transaction in which the caller would be answered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, Bench, answer, in_dialog, ok};
use tandem_call::{Ending, Outcome};
use tandem_node::Holdings;
use tandem_sip::{HeaderName, Message, Method, Request, Response};
use tandem_types::Duration;

fn ringing(got: &Request) -> Response {
    let mut ringing = answer(got, 180);
    ringing.headers.push(HeaderName::Contact, format!("<sip:ben@{BEN}>"));
    ringing
}

/// Anna's INVITE is taken and Ben's phone has it; the machines go away, and the standby serves, which has all but
/// Anna's transaction. Her INVITE, and the one that Ben's phone got.
fn taken_in_part(bench: &mut Bench, says: Option<fn(&Request) -> Response>) -> (Request, Request) {
    bench.add_users();
    let invite = bench.prove(ANNA, "anna", bench::invite());
    let got = bench.request(BEN, &Method::Invite);
    if let Some(says) = says {
        bench.send(BEN, says(&got));
    }
    bench.wait(Duration::from_millis(100));
    bench.switch_off(0);
    bench.switch_off(1);
    assert_eq!(bench.forget_records(1, "txn/s"), 1, "Anna's INVITE");
    bench.switch_on(1, Duration::ZERO);
    bench.sent.clear();
    bench.crown(1);
    (invite, got)
}

#[test]
fn a_caller_who_repeats_it_goes_on_with_the_number_and_the_record_of_the_call() {
    let mut bench = Bench::new();
    let (invite, got) = taken_in_part(&mut bench, None);
    let closed = bench.cdrs(1);
    assert_eq!((closed.len(), closed[0].ending), (1, Some(Ending::Failover)));
    // Ben's phone got the first INVITE, has not answered, and does so late.
    bench.sent.clear();
    bench.send(ANNA, invite.clone());
    bench.response(ANNA, 100);
    let again = bench.request(BEN, &Method::Invite);
    assert_ne!(again.headers.from().unwrap().tag(), got.headers.from().unwrap().tag());
    assert_eq!(again.headers.call_id(), got.headers.call_id(), "the number of the call");
    let (to, target) = bench.answer(&invite, &again);
    bench.send(BEN, ok(&got));
    bench.request(BEN, &Method::Ack);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    bench.wait(Duration::from_secs(100));
    let cdrs = bench.cdrs(1);
    assert_eq!(cdrs.len(), 1, "{cdrs:#?}");
    assert_eq!((cdrs[0].outcome, cdrs[0].ending), (Some(Outcome::Answered), Some(Ending::Caller)));
    assert_eq!(bench.servers[1].node.holdings(), Holdings::default());
}

#[test]
fn a_phone_that_rings_for_a_caller_who_cannot_be_answered_is_cancelled() {
    let mut bench = Bench::new();
    let (_, got) = taken_in_part(&mut bench, Some(ringing));
    let cancel = bench.request(BEN, &Method::Cancel);
    bench.send(BEN, answer(&cancel, 200));
    bench.send(BEN, answer(&got, 487));
    bench.request(BEN, &Method::Ack);
    assert!(bench.silent(ANNA));
    bench.wait(Duration::from_secs(100));
    let cdrs = bench.cdrs(1);
    assert_eq!((cdrs.len(), cdrs[0].ending), (1, Some(Ending::Failover)));
    assert_eq!(bench.hot_keys(1), ["aor/ben"]);
}

#[test]
fn a_caller_who_repeats_it_after_it_was_answered_begins_the_same_call_again() {
    let mut bench = Bench::new();
    let (invite, got) = taken_in_part(&mut bench, Some(ok));
    bench.sent.clear();
    bench.send(ANNA, invite.clone());
    let said = bench.all(BEN);
    assert!(said.contains("ACK") && said.contains("BYE") && said.contains("INVITE"), "{said}");
    bench.sent.clear();
    bench.wait(Duration::from_millis(600));
    let again = loop {
        match bench.next(BEN) {
            Message::Request(request) if request.method == Method::Invite => break request,
            Message::Request(request) => bench.send(BEN, answer(&request, 200)),
            Message::Response(_) => {}
        }
    };
    assert_eq!(again.headers.call_id(), got.headers.call_id(), "the number of the call");
    bench.sent.clear();
    bench.send(BEN, answer(&again, 486));
    bench.response(ANNA, 486);
    bench.wait(Duration::from_secs(100));
    let cdrs = bench.cdrs(1);
    assert_eq!((cdrs.len(), cdrs[0].sip_status), (1, 486), "{cdrs:#?}");
    assert_eq!(bench.servers[1].node.holdings(), Holdings::default());
}
