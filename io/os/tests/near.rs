//! Neighbours and gateways, in network namespaces of the tests' own.
#![allow(clippy::unwrap_used)]

mod namespace;

use std::net::IpAddr;
use std::time::Duration;

use namespace::Namespace;
use tandem_os::address::{Neighbours, Question};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(20);

fn wired() -> Option<(Namespace, Namespace)> {
    let (one, other) = Namespace::wired()?;
    one.ip("addr add 10.7.0.1/24 dev tandem0");
    one.ip("addr add fd00:7::1/64 dev tandem0 nodad");
    other.ip("addr add 10.7.0.2/24 dev tandem1");
    other.ip("addr add fd00:7::2/64 dev tandem1 nodad");
    Some((one, other))
}

fn near(one: &Namespace) -> Neighbours {
    one.run(|| Neighbours::on_interface("tandem0").unwrap())
}

#[test]
fn the_hardware_address_of_a_neighbour_is_known_once_he_was_spoken_with() {
    let Some((one, _other)) = wired() else { return };
    let mut near = near(&one);
    for address in ["10.7.0.2", "fd00:7::2"] {
        let ip: IpAddr = address.parse().unwrap();
        assert_eq!(near.hardware_of(ip), None, "{address}");
        one.ip(&format!("neigh add {address} lladdr 02:00:00:00:00:02 dev tandem0"));
        assert_eq!(near.hardware_of(ip), Some([2, 0, 0, 0, 0, 2]), "{address}");
    }
}

#[test]
fn the_gateways_are_those_of_the_default_routes_through_this_interface() {
    let Some((one, _other)) = wired() else { return };
    let mut near = near(&one);
    assert_eq!(near.default_gateways(), [""; 0].map(|_| IpAddr::from([0; 4])));
    one.ip("route add default via 10.7.0.2");
    assert_eq!(near.default_gateways(), ["10.7.0.2".parse::<IpAddr>().unwrap()]);
    one.ip("-6 route add default via fd00:7::2");
    let both: [IpAddr; 2] = ["10.7.0.2", "fd00:7::2"].map(|text| text.parse().unwrap());
    assert_eq!(near.default_gateways(), both);
}

#[test]
fn a_gateway_answers_while_the_wire_is_there_and_not_when_it_is_cut() {
    let Some((one, other)) = wired() else { return };
    for address in ["10.7.0.2", "fd00:7::2"] {
        let ip = address.parse().unwrap();
        let question = one.run(move || Question::open("tandem0", ip).unwrap());
        let answers = |tries: u32| {
            (0..tries).any(|_| {
                question.ask();
                let sources: Vec<_> = question.sources().map(|fd| (fd, Want::Read)).collect();
                poll(&sources, Some(clock::now() + DEADLINE / 400)).unwrap();
                question.answered()
            })
        };
        assert!(answers(400), "{address}");
        other.ip("link set tandem1 down");
        assert!(!answers(3), "{address}");
        other.ip("link set tandem1 up");
        other.ip("addr replace fd00:7::2/64 dev tandem1 nodad");
        assert!(answers(400), "{address}");
    }
}

#[test]
fn nobody_answers_for_an_address_that_nobody_has() {
    let Some((one, _other)) = wired() else { return };
    let question = one.run(|| Question::open("tandem0", [10, 7, 0, 77].into()).unwrap());
    question.ask();
    let sources: Vec<_> = question.sources().map(|fd| (fd, Want::Read)).collect();
    poll(&sources, Some(clock::now() + DEADLINE / 200)).unwrap();
    assert!(!question.answered());
}
