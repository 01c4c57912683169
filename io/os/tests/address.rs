//! Virtual addresses on real interfaces, in network namespaces of the tests' own.
#![allow(clippy::unwrap_used)]

mod namespace;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use namespace::Namespace;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tandem_os::address::{
    Claimant, LinkState, LinkWatch, Prefixed, Refused, VirtualAddresses, list,
};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};

const ONE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(20);

fn addresses() -> [Prefixed; 2] {
    ["10.7.0.9/24", "fd00:7::9/64"].map(|text| text.parse().unwrap())
}

fn open(namespace: &Namespace, name: &'static str) -> VirtualAddresses {
    namespace.run(move || VirtualAddresses::on_interface(name, &addresses())).unwrap()
}

fn listed(namespace: &Namespace, name: &'static str) -> Vec<Prefixed> {
    let mut listed = namespace.run(move || list(name)).unwrap();
    listed.retain(|prefixed| addresses().contains(prefixed));
    listed
}

/// Waits until `count` claims came in.
fn claims(addresses: &mut VirtualAddresses, count: usize) -> Vec<Claimant> {
    let until = clock::now() + DEADLINE;
    let mut claims = Vec::new();
    while claims.len() < count {
        assert!(clock::now() < until, "only {claims:?}");
        let sources: Vec<_> = addresses.sources().map(|source| (source, Want::Read)).collect();
        poll(&sources, Some(until)).unwrap();
        claims.extend(addresses.answers().unwrap());
    }
    claims
}

fn by(hardware: [u8; 6], claim: &Claimant) -> IpAddr {
    assert_eq!(claim.hardware, hardware);
    claim.address
}

#[test]
fn an_address_is_taken_and_given_up_as_often_as_one_likes() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    assert_eq!(listed(&one, "tandem0"), []);
    ours.release().unwrap();
    for _ in 0..2 {
        ours.claim().unwrap();
        ours.claim().unwrap();
        ours.announce().unwrap();
        assert_eq!(listed(&one, "tandem0"), addresses());
        assert_eq!(ours.held().unwrap(), addresses());
        ours.release().unwrap();
        ours.release().unwrap();
        assert_eq!(listed(&one, "tandem0"), []);
        assert_eq!(ours.held().unwrap(), []);
    }
}

#[test]
fn a_taken_address_can_be_used_at_once() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    ours.claim().unwrap();
    ours.announce().unwrap();
    let bound = one.run(|| {
        ["10.7.0.9:0", "[fd00:7::9]:0"].map(|address| std::net::UdpSocket::bind(address).is_ok())
    });
    assert_eq!(bound, [true, true]);
}

#[test]
fn the_network_hears_of_it_in_every_form() {
    let Some((one, other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    let mut theirs = open(&other, "tandem1");
    let [v4, v6] = addresses().map(|prefixed| prefixed.address);
    for round in 0..2 {
        if round == 0 {
            ours.claim().unwrap();
        }
        ours.announce().unwrap();
        let mut heard: Vec<_> = claims(&mut theirs, 3).iter().map(|it| by(ONE, it)).collect();
        heard.sort();
        assert_eq!(heard, [v4, v4, v6], "request and reply, and an advertisement");
    }
    assert_eq!(ours.answers().unwrap(), [], "one's own words are no conflict");
}

/// What counts in the end: a neighbour that knew the twin talks to us.
#[test]
fn a_neighbour_changes_its_mind() {
    let Some((one, other)) = Namespace::wired() else { return };
    other.ip("addr add 10.7.0.1/24 dev tandem1");
    other.ip("addr add fd00:7::1/64 dev tandem1 nodad");
    for address in ["10.7.0.9", "fd00:7::9"] {
        // Entries in use, as a phone's: a claim without announcement would leave them wrong.
        other
            .ip(&format!("neigh add {address} lladdr 02:00:00:00:00:99 dev tandem1 nud reachable"));
    }
    let mut watching = open(&other, "tandem1");
    let mut ours = open(&one, "tandem0");
    ours.claim().unwrap();
    ours.announce().unwrap();
    claims(&mut watching, 3);
    // The packet socket may be given a frame just before the kernel's own tables are.
    let until = clock::now() + DEADLINE;
    for address in ["10.7.0.9", "fd00:7::9"] {
        loop {
            let shown = other.run(move || {
                std::process::Command::new("ip").args(["neigh", "show", address]).output().unwrap()
            });
            let shown = String::from_utf8(shown.stdout).unwrap();
            if shown.contains("02:00:00:00:00:01") {
                break;
            }
            assert!(clock::now() < until, "{shown}");
        }
    }
}

/// The kernel joins the multicast group of a new IPv6 address a moment after it has added it; so the
/// question is repeated, as it is on a wire that loses packets.
#[test]
fn who_has_the_address_answers_a_probe() {
    let Some((one, other)) = Namespace::wired() else { return };
    let mut holder = open(&one, "tandem0");
    let mut asking = open(&other, "tandem1");
    holder.claim().unwrap();
    holder.announce().unwrap();
    claims(&mut asking, 3);
    let until = clock::now() + DEADLINE;
    for wanted in addresses().map(|prefixed| prefixed.address) {
        loop {
            assert!(clock::now() < until, "no answer for {wanted}");
            asking.probe().unwrap();
            let sources: Vec<_> = asking.sources().map(|source| (source, Want::Read)).collect();
            poll(&sources, Some(clock::now() + Duration::from_millis(20))).unwrap();
            let heard = asking.answers().unwrap();
            if heard.iter().any(|claim| by(ONE, claim) == wanted) {
                break;
            }
        }
    }
}

#[test]
fn nobody_answers_for_a_free_address() {
    let Some((one, other)) = Namespace::wired() else { return };
    let mut idle = open(&one, "tandem0");
    let mut asking = open(&other, "tandem1");
    asking.probe().unwrap();
    // Silence cannot be waited for; so the next sound must be a later one.
    idle.announce().unwrap();
    assert_eq!(claims(&mut asking, 3).len(), 3);
    assert_eq!(asking.answers().unwrap(), []);
    assert_eq!(idle.answers().unwrap(), [], "a probe claims nothing");
}

#[test]
fn a_holder_hears_of_a_second_one() {
    let Some((one, other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    let mut theirs = open(&other, "tandem1");
    ours.claim().unwrap();
    ours.announce().unwrap();
    theirs.claim().unwrap();
    theirs.announce().unwrap();
    assert!(claims(&mut ours, 3).iter().all(|claim| claim.hardware == OTHER));
}

#[test]
fn the_watch_sees_the_wire_cut_and_mended_and_the_interface_go() {
    let Some((one, other)) = Namespace::wired() else { return };
    let mut watch = one.run(|| LinkWatch::open("tandem0")).unwrap();
    let mut until = |wanted: fn(LinkState) -> bool| {
        let deadline = clock::now() + DEADLINE;
        while !wanted(watch.state()) {
            assert!(clock::now() < deadline, "still {:?}", watch.state());
            poll(&[(watch.as_fd(), Want::Read)], Some(deadline)).unwrap();
            watch.read().unwrap();
        }
        watch.state()
    };
    let first = until(|state| state.works());
    assert_eq!(first.hardware, Some(ONE));
    other.ip("link set tandem1 down");
    until(|state| state.up && !state.carrier);
    other.ip("link set tandem1 up");
    until(|state| state.works());
    one.ip("link set tandem0 down");
    until(|state| !state.up);
    one.ip("link set tandem0 address 02:00:00:00:00:77 up");
    until(|state| state.hardware == Some([2, 0, 0, 0, 0, 0x77]));
    one.ip("link del tandem0");
    // It goes down first, and is away a moment later.
    assert_eq!(until(|state| state.index == 0), LinkState::default());
    one.ip("link add tandem0 type veth peer name tandem1");
    one.ip("link set tandem1 up");
    one.ip("link set tandem0 up");
    assert_ne!(until(|state| state.works()).index, first.index);
}

#[test]
fn an_interface_that_is_down_or_gone_is_an_error_and_not_silence() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    one.ip("link set tandem0 down");
    assert!(ours.probe().is_err());
    assert!(ours.announce().is_err());
    assert_eq!(ours.answers().unwrap(), []);
    one.ip("link del tandem0");
    let refused = ours.claim().unwrap_err().to_string();
    assert!(refused.starts_with("cannot add 10.7.0.9/24 to tandem0: "), "{refused}");
}

#[test]
fn addresses_on_the_loopback_interface_need_no_announcement() {
    let Some(alone) = Namespace::new() else { return };
    let mut ours = open(&alone, "lo");
    ours.claim().unwrap();
    ours.announce().unwrap();
    ours.probe().unwrap();
    assert_eq!((listed(&alone, "lo"), ours.sources().count()), (addresses().to_vec(), 0));
}

#[test]
fn a_missing_capability_is_named() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let without = |capability: CapabilitySet| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(capability);
        sets.permitted.remove(capability);
        set_capabilities(None, sets).unwrap();
    };
    let refused = one.run(move || {
        // For good: this thread is the namespace's own.
        without(CapabilitySet::NET_ADMIN);
        let mut ours = VirtualAddresses::on_interface("tandem0", &addresses()).unwrap();
        let claim = ours.claim().unwrap_err();
        without(CapabilitySet::NET_RAW);
        [claim, VirtualAddresses::on_interface("tandem0", &addresses()).unwrap_err()]
    });
    let missing = refused.each_ref().map(Refused::missing_capability);
    assert_eq!(missing, [Some("CAP_NET_ADMIN"), Some("CAP_NET_RAW")]);
}

/// Not asserted: how long a takeover spends here.
#[test]
fn a_claim_takes_well_under_a_millisecond() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    let mut micros: Vec<u64> = (0..200)
        .map(|_| {
            let before = clock::now();
            ours.claim().unwrap();
            ours.announce().unwrap();
            let taken = clock::now().as_micros() - before.as_micros();
            ours.release().unwrap();
            taken
        })
        .collect();
    micros.sort_unstable();
    println!("claim of two addresses: p50 {} us, p99 {} us", micros[100], micros[198]);
}
