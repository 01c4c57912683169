//! What a call says to what happens to it, as transcripts.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use expect_test::{Expect, expect};
use tandem_call::{
    AUDIT_AFTER_TAKEOVER, AUDIT_PAUSE, AUDIT_SPREAD, Call, Cdr, Input, LegId, Lost, Method, Output,
    Passing, RequestId, Side,
};
use tandem_types::{Duration, Instant, Pii};

fn record() -> Cdr {
    let text = |text: &str| Pii::new(text.to_owned());
    Cdr {
        call_id: "1".into(),
        origination_number: text("10"),
        origination_name: text("Anna"),
        called_number: text("20"),
        called_name: text("Ben"),
        destination_number: text("20"),
        destination_name: text("Ben"),
        start: 0,
        delivered: None,
        connect: None,
        end: None,
        outcome: None,
        ending: None,
        sip_status: 0,
        q850_cause: 0,
        origination_device: String::new(),
        destination_device: String::new(),
    }
}

fn input(words: &[&str]) -> Input {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u16>().ok()).unwrap_or(0);
    let leg = LegId(u8::try_from(number(1)).unwrap_or(0));
    let passing = Passing::default();
    let side = if words.contains(&"near") { Side::Near } else { Side::Far };
    let request = RequestId(u32::from(number(2)));
    match words[0] {
        "progress" => Input::Progress { leg, status: number(2), passing },
        "answered" => Input::Answered { leg, passing },
        "refused" => Input::Refused { leg, status: number(2), passing },
        "cancelled" => Input::Cancelled,
        "acked" => Input::Acked { request: None, passing },
        "acked-again" => Input::Acked { request: Some(RequestId(u32::from(number(1)))), passing },
        "invite" | "info" | "options" => {
            let method = match words[0] {
                "invite" => Method::Invite,
                "info" => Method::Info,
                _ => Method::Options,
            };
            Input::Requested { leg, side, request, method, passing }
        }
        "responded" => {
            let request = match words[1].parse::<u32>() {
                Ok(number) => RequestId(number),
                Err(_) => RequestId(u32::MAX - words[1][3..].parse::<u32>().unwrap() + 1),
            };
            Input::Responded { request, status: number(2), passing }
        }
        "bye" => Input::HungUp { leg, side, passing },
        "cancel-request" => Input::RequestCancelled { request: RequestId(number(1).into()) },
        "no-ack" => Input::Gone { leg, side, why: Lost::NoAck },
        other => panic!("unknown step {other}"),
    }
}

fn said(output: Output) -> String {
    match output {
        Output::Cancel(leg) => format!("cancel {}", leg.0),
        Output::Ack { leg, request, .. } => format!("ack {} {request:?}", leg.0),
        Output::Bye { leg, side, .. } => format!("bye {} {side:?}", leg.0),
        Output::ByeAfterAck { leg, .. } => format!("bye {} Near after its ack", leg.0),
        Output::CancelRequest { request } => format!("cancel request {}", request.0),
        Output::Progress { leg, status, .. } => format!("caller: {status} of {}", leg.0),
        Output::Answer { leg, .. } => format!("caller: 200 of {}", leg.0),
        Output::Refuse { status, cause, .. } => format!("caller: {status} cause {cause}"),
        Output::Request { leg, side, method, request, .. } => {
            let own = if request.0 > 1_000_000 { "own" } else { "passed" };
            format!("{method:?} to {} {side:?}, {own}", leg.0)
        }
        Output::Respond { request, status, .. } => format!("respond {} {status}", request.0),
        Output::Ended => "ended".to_owned(),
    }
}

/// Plays a script against a call with two devices, taking it through a checkpoint after every
/// step: a takeover may happen at any moment and must not change what the call says.
#[track_caller]
fn check(script: &str, want: Expect) {
    let mut now = Instant::ZERO;
    let mut call = Call::new(now, [LegId(1), LegId(2)], record());
    let mut seen = String::new();
    for step in script.split(';').map(str::trim) {
        let words: Vec<&str> = step.split(' ').collect();
        let wall = i64::try_from(now.as_micros()).unwrap();
        if words[0] == "wait" {
            now = now + Duration::from_secs(words[1].parse().unwrap());
            call.handle_timeout(now, i64::try_from(now.as_micros()).unwrap());
        } else {
            call.handle(now, wall, input(&words));
        }
        let out: Vec<String> = std::iter::from_fn(|| call.poll_output()).map(said).collect();
        seen += &format!("{step} -> {}\n", out.join("; "));
        call = Call::restore(now, call.checkpoint(now), Duration::ZERO);
    }
    if let Some(outcome) = call.cdr().outcome {
        let cdr = call.cdr();
        seen += &format!("{outcome:?} {:?} {}\n", cdr.ending.unwrap(), cdr.talk_seconds());
    }
    want.assert_eq(&seen);
}

#[test]
fn the_first_device_to_answer_has_the_call_and_the_other_stops_ringing() {
    check(
        "progress 1 180; progress 2 180; answered 2; acked; wait 5; bye 2 near",
        expect![[r#"
            progress 1 180 -> caller: 180 of 1
            progress 2 180 -> caller: 180 of 2
            answered 2 -> cancel 1; caller: 200 of 2
            acked -> ack 2 None
            wait 5 -> 
            bye 2 near -> bye 2 Far; ended
            Answered Caller 5
        "#]],
    );
}

#[test]
fn a_device_that_answers_after_its_cancel_is_acknowledged_and_hung_up() {
    check(
        "progress 1 180; cancelled; answered 1",
        expect![[r#"
            progress 1 180 -> caller: 180 of 1
            cancelled -> cancel 1; cancel 2; caller: 487 cause 16; ended
            answered 1 -> ack 1 None; bye 1 Far
            Cancelled Caller 0
        "#]],
    );
}

#[test]
fn busy_says_more_than_unreachable() {
    check(
        "refused 1 408; refused 2 486",
        expect![[r#"
            refused 1 408 -> 
            refused 2 486 -> caller: 486 cause 17; ended
            Busy Callee 0
        "#]],
    );
}

#[test]
fn one_device_that_declines_for_all_ends_the_ringing() {
    check(
        "progress 2 180; refused 1 603",
        expect![[r#"
            progress 2 180 -> caller: 180 of 2
            refused 1 603 -> cancel 2; caller: 603 cause 21; ended
            Refused Callee 0
        "#]],
    );
}

#[test]
fn nobody_answers() {
    check(
        "progress 1 180; wait 179; wait 1",
        expect![[r#"
            progress 1 180 -> caller: 180 of 1
            wait 179 -> 
            wait 1 -> cancel 1; cancel 2; caller: 480 cause 19; ended
            NoAnswer Server 0
        "#]],
    );
}

#[test]
fn two_offers_that_cross_are_both_refused_by_491() {
    check(
        "answered 1; acked; invite 1 7 near; invite 1 8 far; responded 7 200; acked-again 7",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            acked -> ack 1 None
            invite 1 7 near -> Invite to 1 Far, passed
            invite 1 8 far -> respond 8 491
            responded 7 200 -> respond 7 200
            acked-again 7 -> ack 1 Some(RequestId(7))
        "#]],
    );
}

#[test]
fn requests_still_open_when_the_call_ends_are_answered_487() {
    check(
        "answered 1; acked; info 1 3 far; bye 1 far",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            acked -> ack 1 None
            info 1 3 far -> Info to 1 Near, passed
            bye 1 far -> bye 1 Near; respond 3 487; ended
            Answered Callee 0
        "#]],
    );
}

#[test]
fn a_caller_who_never_acknowledges_is_hung_up_and_so_is_the_device() {
    check(
        "answered 1; no-ack 1 near",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            no-ack 1 near -> ack 1 None; bye 1 Near; bye 1 Far; ended
            Answered Lost 0
        "#]],
    );
}

#[test]
fn a_side_that_knows_nothing_of_the_call_any_more_ends_it() {
    check(
        "answered 1; acked; wait 900; responded own1 200; responded own2 481",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            acked -> ack 1 None
            wait 900 -> Options to 1 Near, own; Options to 1 Far, own
            responded own1 200 -> 
            responded own2 481 -> bye 1 Near; ended
            Answered Lost 900
        "#]],
    );
}

#[test]
fn a_side_is_taken_for_gone_only_after_three_questions_without_an_answer() {
    check(
        "answered 1; acked; wait 900; responded own2 408; wait 900; responded own4 408; \
         wait 900; responded own6 408",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            acked -> ack 1 None
            wait 900 -> Options to 1 Near, own; Options to 1 Far, own
            responded own2 408 -> 
            wait 900 -> Options to 1 Near, own; Options to 1 Far, own
            responded own4 408 -> 
            wait 900 -> Options to 1 Near, own; Options to 1 Far, own
            responded own6 408 -> bye 1 Near; ended
            Answered Lost 2700
        "#]],
    );
}

#[test]
fn a_reinvite_that_is_cancelled_is_cancelled_on_the_other_side_and_ends_with_its_answer() {
    check(
        "answered 1; acked; invite 1 7 near; cancel-request 7; responded 7 487; cancel-request 7",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            acked -> ack 1 None
            invite 1 7 near -> Invite to 1 Far, passed
            cancel-request 7 -> cancel request 7
            responded 7 487 -> respond 7 487
            cancel-request 7 -> 
        "#]],
    );
}

#[test]
fn a_device_that_hangs_up_before_the_ack_is_acknowledged_and_the_caller_hears_it_later() {
    check(
        "answered 1; bye 1 far",
        expect![[r#"
        answered 1 -> cancel 2; caller: 200 of 1
        bye 1 far -> ack 1 None; bye 1 Near after its ack; ended
        Answered Callee 0
    "#]],
    );
}

#[test]
fn a_call_that_ends_cancels_the_reinvite_under_way() {
    check(
        "answered 1; acked; invite 1 7 near; bye 1 near",
        expect![[r#"
        answered 1 -> cancel 2; caller: 200 of 1
        acked -> ack 1 None
        invite 1 7 near -> Invite to 1 Far, passed
        bye 1 near -> bye 1 Far; cancel request 7; respond 7 487; ended
        Answered Caller 0
    "#]],
    );
}

#[test]
fn a_side_that_answers_481_to_a_reinvite_is_gone_and_401_is_not_passed_on() {
    check(
        "answered 1; acked; info 1 6 near; responded 6 401; invite 1 7 near; responded 7 481",
        expect![[r#"
            answered 1 -> cancel 2; caller: 200 of 1
            acked -> ack 1 None
            info 1 6 near -> Info to 1 Far, passed
            responded 6 401 -> respond 6 403
            invite 1 7 near -> Invite to 1 Far, passed
            responded 7 481 -> respond 7 481; bye 1 Near; ended
            Answered Lost 0
        "#]],
    );
}

/// When both sides of the call are asked whether they are still there, after its device answers at `answered`.
fn asked_at(mut call: Call, answered: Instant) -> Instant {
    call.handle(answered, 0, Input::Answered { leg: LegId(0), passing: Passing::default() });
    call.next_timeout().unwrap()
}

#[test]
fn an_answer_to_a_call_of_which_the_twin_may_have_had_more_is_asked_after_soon() {
    let rings = || Call::new(Instant::ZERO, [LegId(0)], record());
    let answered = Instant::ZERO + Duration::from_secs(10);
    let soon = answered + AUDIT_AFTER_TAKEOVER + AUDIT_SPREAD;
    assert_eq!(asked_at(rings(), answered), answered + AUDIT_PAUSE, "nothing happened to it");
    let saved = rings().checkpoint(Instant::ZERO);
    let taken_over = Call::restore(Instant::ZERO, saved, Duration::ZERO);
    assert!(asked_at(taken_over, answered) <= soon, "it was taken over while it rang");
    let mut met = rings();
    met.ask_soon(Instant::ZERO);
    assert!(asked_at(met, answered) <= soon, "both servers had served while it rang");
}
