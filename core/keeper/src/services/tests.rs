//! Services in made-up time.

use super::*;
use crate::supervisor::Restart;
use tandem_pair::Timings;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn plan(name: &str) -> Plan {
    Plan {
        name: name.into(),
        after: Vec::new(),
        runs: Runs::Always,
        readiness: Readiness::Started,
        probe: None,
        limits: Limits { hung: None, ..Limits::of_server(&Timings::default()) },
        alarm: true,
        stop_leading: false,
    }
}

/// What the processes are told; facts are left out.
fn deeds(services: &mut Services) -> Vec<ServiceOutput> {
    let outputs = core::iter::from_fn(|| services.poll_output());
    outputs.filter(|output| !matches!(output, ServiceOutput::Fact(_))).collect()
}

fn facts(services: &mut Services) -> Vec<&'static str> {
    let outputs = core::iter::from_fn(|| services.poll_output());
    outputs
        .filter_map(|output| match output {
            ServiceOutput::Fact(fact) => Some(fact.kind()),
            ServiceOutput::Start(_)
            | ServiceOutput::Stop(_)
            | ServiceOutput::Kill(_)
            | ServiceOutput::Probe(..)
            | ServiceOutput::HandOver(_)
            | ServiceOutput::Finished => None,
        })
        .collect()
}

#[test]
fn services_start_in_order_and_stop_in_the_reverse_order() {
    // Named out of order on purpose: 0 after 2, 1 after 0.
    let plans = vec![
        Plan { after: vec![2], ..plan("second") },
        Plan { after: vec![0], ..plan("third") },
        Plan { readiness: Readiness::Line, ..plan("first") },
    ];
    let mut services = Services::new(at(0), plans);
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(2)]);
    services.handle(at(1), ServiceInput::Started(2, 12));
    assert_eq!(deeds(&mut services), [], "it exists, but is not ready");
    services.handle(at(2), ServiceInput::Line(2));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(0)]);
    services.handle(at(3), ServiceInput::Started(0, 10));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(1)]);
    services.handle(at(4), ServiceInput::Started(1, 11));

    services.handle(at(5), ServiceInput::Shutdown);
    for (at_ms, service, next) in [(6, 1, Some(0)), (7, 0, Some(2)), (8, 2, None)] {
        assert_eq!(deeds(&mut services), [ServiceOutput::Stop(service)]);
        services.handle(at(at_ms), ServiceInput::Exited(service, Exit::Code(0)));
        if next.is_none() {
            assert_eq!(deeds(&mut services), [ServiceOutput::Finished]);
        }
    }
    assert_eq!(services.next_timeout(), None);
}

#[test]
fn a_service_that_ignores_the_wish_to_stop_is_killed_and_holds_nobody_up_longer() {
    let plans = vec![plan("deaf"), Plan { after: vec![0], ..plan("later") }];
    let mut services = Services::new(at(0), plans);
    services.handle(at(0), ServiceInput::Started(0, 1));
    services.handle(at(0), ServiceInput::Started(1, 2));
    services.handle(at(10), ServiceInput::Shutdown);
    services.handle(at(11), ServiceInput::Exited(1, Exit::Signal(15)));
    deeds(&mut services);
    services.handle_timeout(at(11 + 2_999));
    assert_eq!(deeds(&mut services), []);
    services.handle_timeout(at(11 + 3_000));
    assert_eq!(deeds(&mut services), [ServiceOutput::Kill(0)]);
    services.handle(at(3_012), ServiceInput::Exited(0, Exit::Signal(9)));
    assert_eq!(deeds(&mut services), [ServiceOutput::Finished]);
}

#[test]
fn a_service_of_the_active_machine_comes_and_goes_with_the_role() {
    let plans = vec![Plan { runs: Runs::Active, ..plan("gate") }, plan("always")];
    let mut services = Services::new(at(0), plans);
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(1)]);
    services.handle(at(1), ServiceInput::Active(true));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(0)]);
    services.handle(at(2), ServiceInput::Started(0, 7));
    services.handle(at(3), ServiceInput::Active(false));
    assert_eq!(deeds(&mut services), [ServiceOutput::Stop(0)]);
    services.handle(at(4), ServiceInput::Active(true));
    assert_eq!(deeds(&mut services), [], "it is still stopping");
    services.handle(at(5), ServiceInput::Exited(0, Exit::Signal(15)));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(0)], "off, and wanted again");
}

#[test]
fn a_probe_makes_ready_and_so_many_failures_in_a_row_are_a_hang() {
    let probe = Some(ProbePlan { pause: ms(100), limit: ms(50), failures: 2 });
    let plans = vec![Plan { readiness: Readiness::Probe, probe, ..plan("web") }];
    let mut services = Services::new(at(0), plans);
    services.handle(at(1), ServiceInput::Started(0, 7));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(0), ServiceOutput::Probe(0, 1)]);
    services.handle(at(2), ServiceInput::Probed(0, 1, false));
    assert_eq!(services.status(at(2))[0].state, ServiceState::Starting, "it has time");
    services.handle_timeout(at(102));
    services.handle(at(103), ServiceInput::Probed(0, 2, true));
    assert_eq!(services.status(at(103))[0].state, ServiceState::Up);
    services.handle_timeout(at(203));
    services.handle(at(204), ServiceInput::Probed(0, 3, false));
    services.handle_timeout(at(304));
    services.handle(at(305), ServiceInput::Probed(0, 2, false));
    services.handle(at(306), ServiceInput::Probed(0, 4, true));
    services.handle_timeout(at(406));
    services.handle(at(407), ServiceInput::Probed(0, 5, false));
    deeds(&mut services);
    services.handle_timeout(at(507));
    assert_eq!(deeds(&mut services), [ServiceOutput::Probe(0, 6)]);
    assert_eq!(services.next_timeout(), Some(at(557)));
    services.handle_timeout(at(557));
    assert_eq!(deeds(&mut services), [ServiceOutput::Kill(0)], "no answer counts like a bad one");
}

#[test]
fn a_service_that_crashes_in_a_loop_rests_is_an_alarm_and_asks_to_hand_over() {
    let failing = |alarm, stop_leading, active| {
        let plans = vec![Plan { alarm, stop_leading, ..plan("crash") }];
        let mut services = Services::new(at(0), plans);
        services.handle(at(0), ServiceInput::Active(active));
        for _ in 0..crate::RESTARTS_MAX {
            services.handle(at(1), ServiceInput::Started(0, 7));
            services.handle(at(2), ServiceInput::Exited(0, Exit::Code(1)));
            let next = services.next_timeout().expect("it starts again");
            services.handle_timeout(next);
            while services.poll_output().is_some() {}
        }
        services.handle(at(5_000), ServiceInput::Exited(0, Exit::Code(1)));
        services
    };
    let status = &failing(true, false, true).status(at(5_000))[0];
    assert!(status.failing && status.state == ServiceState::Resting, "{status:?}");
    assert_eq!((status.failures, status.next_start_ms), (6, Some(30_000)));
    assert!(facts(&mut failing(true, false, true)).contains(&"service_failing"));
    assert!(!facts(&mut failing(false, false, true)).contains(&"service_failing"));
    assert_eq!(deeds(&mut failing(true, false, true)), []);
    assert_eq!(deeds(&mut failing(true, true, true)), [ServiceOutput::HandOver(0)]);
    assert_eq!(deeds(&mut failing(true, true, false)), [], "nothing to hand over");
}

#[test]
fn a_service_that_is_done_stays_off_until_it_is_wanted_anew() {
    let limits = Limits { restart: Restart::OnFailure, ..plan("x").limits };
    let plans = vec![Plan { limits, runs: Runs::Active, ..plan("once") }];
    let mut services = Services::new(at(0), plans);
    services.handle(at(0), ServiceInput::Active(true));
    services.handle(at(1), ServiceInput::Started(0, 7));
    services.handle(at(2), ServiceInput::Exited(0, Exit::Code(0)));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(0)]);
    assert_eq!(services.next_timeout(), None);
    services.handle(at(3), ServiceInput::Active(false));
    services.handle(at(4), ServiceInput::Active(true));
    assert_eq!(deeds(&mut services), [ServiceOutput::Start(0)]);
}
