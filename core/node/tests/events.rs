//! What is on record of the steps of a call, on both machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, BEN_AT_HOME, Bench, answer, in_dialog};
use tandem_call::{CallEvent, LegId};
use tandem_sip::Method;
use tandem_types::Duration;

const ONE: LegId = LegId(1);
const TWO: LegId = LegId(2);

/// The events without their times.
fn steps(bench: &Bench, who: usize) -> Vec<CallEvent> {
    let events = bench.events(who).pop().unwrap();
    let times: Vec<u64> = events.trail.steps.iter().map(|step| step.after_us).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(events.trail.left_out, 0);
    events.trail.steps.iter().map(|step| step.event).collect()
}

#[test]
fn every_step_of_a_call_is_on_record_at_both_machines_with_the_devices() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    let (to, target) = bench.answer(&invite, &got);
    assert_eq!(bench.events(0), [], "a call that is up has no closed record");
    bench.wait(Duration::from_secs(5));
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let bye = bench.request(BEN, &Method::Bye);
    bench.send(BEN, answer(&bye, 200));
    assert_eq!(bench.events(0), bench.events(1));
    let expected = [
        CallEvent::Attempt { leg: ONE },
        CallEvent::Ringing { leg: ONE },
        CallEvent::Answered { leg: ONE },
    ];
    assert_eq!(steps(&bench, 0), expected);
    let events = bench.events(1).pop().unwrap();
    assert!(events.devices[&ONE].contains("sip:ben@"), "{events:?}");
}

#[test]
fn the_events_say_which_device_answered_and_which_was_cancelled_or_refused() {
    let mut bench = Bench::new();
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    bench.log_in_as(BEN_AT_HOME, "ben", 2);
    let (_, got) = bench.ring_as(2);
    let home = bench.request(BEN_AT_HOME, &Method::Invite);
    bench.send(BEN_AT_HOME, answer(&home, 603));
    let cancel = bench.request(BEN, &Method::Cancel);
    bench.send(BEN, answer(&cancel, 200));
    bench.send(BEN, answer(&got, 487));
    let steps = steps(&bench, 0);
    let refused = |leg| steps.contains(&CallEvent::Refused { leg, status: 603 });
    let cancelled = |leg| steps.contains(&CallEvent::Cancelled { leg });
    assert!((refused(ONE) && cancelled(TWO)) || (refused(TWO) && cancelled(ONE)), "{steps:?}");
}

#[test]
fn a_takeover_is_an_event_of_the_calls_that_were_up() {
    let mut bench = Bench::new();
    let (invite, got) = bench.ring();
    bench.kill_active();
    bench.sent.clear();
    let (to, target) = bench.answer(&invite, &got);
    bench.send(ANNA, in_dialog(&invite, Method::Bye, &to, &target, 3));
    bench.response(ANNA, 200);
    let steps = steps(&bench, 1);
    let epoch = bench.servers[1].node.status(bench.now).epoch;
    let taken = CallEvent::TakenOver { epoch };
    assert_eq!(steps.iter().filter(|step| **step == taken).count(), 1, "{steps:?}");
    let place = |wanted: CallEvent| steps.iter().position(|step| *step == wanted);
    assert!(place(CallEvent::Attempt { leg: ONE }) < place(taken));
    assert!(place(taken) < place(CallEvent::Answered { leg: ONE }), "{steps:?}");
}
