//! What must hold on every kind of wire: several virtual addresses at once, on plain Ethernet and in a
//! VLAN, with two capabilities and no more; and what the kernel does when nobody renews.
#![allow(clippy::unwrap_used)]

mod namespace;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use namespace::Namespace;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tandem_os::address::{
    LIFETIME, Prefixed, RENEW_EVERY, Renewal, VirtualAddresses, list, remove_left_over,
};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};

const ONE: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(20);

/// Two networks of each kind; of one network two addresses.
fn addresses() -> Vec<Prefixed> {
    let texts = [
        "10.7.0.9/24",
        "10.7.0.10/24",
        "10.8.0.9/16",
        "10.9.0.9/32",
        "fd00:7::9/64",
        "fd00:7::10/64",
        "fd00:8::9/128",
    ];
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn open(namespace: &Namespace, name: &str) -> VirtualAddresses {
    let name = name.to_owned();
    namespace.run(move || VirtualAddresses::on_interface(&name, &addresses())).unwrap()
}

/// Both made inside the namespace: a socket stays where it was opened.
fn open_to_renew(namespace: &Namespace, name: &str) -> (VirtualAddresses, Renewal) {
    let name = name.to_owned();
    namespace.run(move || {
        let addresses = VirtualAddresses::on_interface(&name, &addresses()).unwrap();
        let renewal = addresses.renewal().unwrap().unwrap();
        (addresses, renewal)
    })
}

fn listed(namespace: &Namespace, name: &str) -> Vec<Prefixed> {
    let name = name.to_owned();
    let mut listed = namespace.run(move || list(&name)).unwrap();
    listed.retain(|prefixed| addresses().contains(prefixed));
    listed.sort();
    listed
}

/// Everything that is done with addresses, between an interface here and one there.
fn claim_and_hear(wires: (Namespace, Namespace), names: [&str; 2]) {
    let (one, other) = wires;
    let (mut ours, mut renewal) = open_to_renew(&one, names[0]);
    let mut theirs = open(&other, names[1]);
    for _ in 0..3 {
        ours.claim().unwrap();
        ours.announce().unwrap();
        renewal.renew().unwrap();
        assert_eq!(listed(&one, names[0]), sorted(addresses()));
        let heard = heard(&mut theirs, 4 * 2 + 3);
        for prefixed in addresses() {
            // Request and reply form; one advertisement.
            let forms = if prefixed.address.is_ipv4() { 2 } else { 1 };
            assert_eq!(heard.get(&prefixed.address), Some(&forms), "{prefixed}");
        }
        answers_probe(&mut theirs);
        ours.release().unwrap();
        assert_eq!(listed(&one, names[0]), []);
    }
}

fn sorted(mut addresses: Vec<Prefixed>) -> Vec<Prefixed> {
    addresses.sort();
    addresses
}

/// Reads `count` claims of the first machine.
fn heard(addresses: &mut VirtualAddresses, count: usize) -> BTreeMap<IpAddr, usize> {
    let until = clock::now() + DEADLINE;
    let mut heard = BTreeMap::new();
    while heard.values().sum::<usize>() < count {
        assert!(clock::now() < until, "only {heard:?}");
        let sources: Vec<_> = addresses.sources().map(|source| (source, Want::Read)).collect();
        poll(&sources, Some(until)).unwrap();
        for claim in addresses.answers().unwrap() {
            assert_eq!(claim.hardware, ONE);
            *heard.entry(claim.address).or_default() += 1;
        }
    }
    heard
}

/// Asks until every address was answered for; what is late is read too.
fn answers_probe(asking: &mut VirtualAddresses) {
    let until = clock::now() + DEADLINE;
    let mut missing: Vec<IpAddr> = addresses().iter().map(|prefixed| prefixed.address).collect();
    while !missing.is_empty() {
        assert!(clock::now() < until, "no answer for {missing:?}");
        asking.probe().unwrap();
        let sources: Vec<_> = asking.sources().map(|source| (source, Want::Read)).collect();
        poll(&sources, Some(clock::now() + Duration::from_millis(20))).unwrap();
        let answers = asking.answers().unwrap();
        missing.retain(|address| answers.iter().all(|claim| claim.address != *address));
    }
    // A question was repeated perhaps, so answers may be on their way.
    let quiet = Duration::from_millis(30);
    loop {
        let sources: Vec<_> = asking.sources().map(|source| (source, Want::Read)).collect();
        if poll(&sources, Some(clock::now() + quiet)).unwrap().is_empty() {
            return;
        }
        asking.answers().unwrap();
    }
}

#[test]
fn several_addresses_of_both_kinds_work_at_once() {
    let Some(wires) = Namespace::wired() else { return };
    claim_and_hear(wires, ["tandem0", "tandem1"]);
}

#[test]
fn several_addresses_of_both_kinds_work_in_a_vlan() {
    let Some(wires) = Namespace::tagged() else { return };
    claim_and_hear(wires, ["tandem0.7", "tandem1.7"]);
}

/// CAP_NET_ADMIN changes addresses, CAP_NET_RAW opens sockets of packets. Nothing needs more.
#[test]
fn two_capabilities_are_enough() {
    let Some(wires) = Namespace::wired() else { return };
    for namespace in [&wires.0, &wires.1] {
        namespace.run(|| {
            let two = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: two, permitted: two, inheritable: none };
            set_capabilities(None, sets).unwrap();
        });
    }
    claim_and_hear(wires, ["tandem0", "tandem1"]);
}

#[test]
fn an_address_that_nobody_renews_is_removed_by_the_kernel() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    let (mut shortest, mut longest) = (Duration::MAX, Duration::ZERO);
    for _ in 0..3 {
        ours.claim().unwrap();
        let (claimed, mut all) = (clock::now(), Duration::ZERO);
        while !ours.held().unwrap().is_empty() {
            assert!(clock::now() < claimed + DEADLINE, "still {:?}", ours.held());
            if ours.held().unwrap().len() == addresses().len() {
                all = claimed.elapsed_until(clock::now());
            }
            poll(&[], Some(clock::now() + Duration::from_millis(1))).unwrap();
        }
        shortest = shortest.min(all);
        longest = longest.max(claimed.elapsed_until(clock::now()));
    }
    println!("all were there for {shortest:?} at least, none after {longest:?} at most");
    assert!(longest <= 2 * LIFETIME + Duration::from_millis(500), "{longest:?}");
}

#[test]
fn an_address_that_is_renewed_outlives_its_lifetime() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let (mut ours, mut renewal) = open_to_renew(&one, "tandem0");
    ours.claim().unwrap();
    let start = clock::now();
    let (mut due, mut looks, mut longest) = (start, 0, Duration::ZERO);
    while clock::now() < start + 3 * LIFETIME {
        if due <= clock::now() {
            let before = clock::now();
            renewal.renew().unwrap();
            longest = longest.max(before.elapsed_until(clock::now()));
            due = before + RENEW_EVERY;
        }
        assert_eq!(sorted(ours.held().unwrap()), sorted(addresses()));
        looks += 1;
        poll(&[], Some(clock::now() + Duration::from_millis(2))).unwrap();
    }
    println!("looked {looks} times; renewing {} took {longest:?} at most", addresses().len());
    assert!(looks > 10);
}

#[test]
fn an_address_that_somebody_removed_comes_back_with_the_next_renewal() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let (mut ours, mut renewal) = open_to_renew(&one, "tandem0");
    ours.claim().unwrap();
    one.ip("addr flush dev tandem0");
    assert_eq!(ours.held().unwrap(), []);
    renewal.renew().unwrap();
    assert_eq!(sorted(ours.held().unwrap()), sorted(addresses()));
}

#[test]
fn what_an_earlier_life_left_is_removed_and_nothing_else() {
    for wires in [Namespace::wired().map(|it| (it, "tandem0")), tagged()] {
        let Some(((one, _other), name)) = wires else { continue };
        one.ip(&format!("addr add 10.7.0.2/24 dev {name}"));
        one.ip(&format!("addr add 10.9.0.9/32 dev {name}"));
        one.ip(&format!("addr add fd00:7::2/64 dev {name} nodad"));
        let (own, mut rest) = (["10.7.0.2/24", "fd00:7::2/64"], addresses());
        rest.retain(|prefixed| prefixed.to_string() != "10.9.0.9/32");
        let removed = one.run(move || {
            let mut before = VirtualAddresses::on_interface(name, &rest).unwrap();
            before.claim().unwrap();
            drop(before);
            let mut asked = addresses();
            asked.extend(own.map(|text| text.parse::<Prefixed>().unwrap()));
            (remove_left_over(name, &asked).unwrap(), rest)
        });
        assert_eq!(sorted(removed.0), sorted(removed.1));
        let there = one.run(move || list(name)).unwrap();
        for text in ["10.7.0.2/24", "10.9.0.9/32", "fd00:7::2/64"] {
            assert!(there.contains(&text.parse().unwrap()), "{text} was not ours: {there:?}");
        }
        assert_eq!(listed(&one, name).len(), 1);
    }
}

fn tagged() -> Option<((Namespace, Namespace), &'static str)> {
    Namespace::tagged().map(|it| (it, "tandem0.7"))
}

/// As where the machine's own address is set anew while it is active.
#[test]
fn an_own_address_that_came_later_outlives_the_virtual_one() {
    let Some((one, _other)) = Namespace::wired() else { return };
    let mut ours = open(&one, "tandem0");
    ours.claim().unwrap();
    one.ip("addr add 10.7.0.2/24 dev tandem0");
    ours.release().unwrap();
    let there = one.run(|| list("tandem0")).unwrap();
    assert!(there.contains(&"10.7.0.2/24".parse().unwrap()), "{there:?}");
}

/// Waits until ip(8) says that.
fn wait_said(namespace: &Namespace, arguments: &str, wanted: &str) {
    let until = clock::now() + DEADLINE;
    loop {
        let said = namespace.said(arguments);
        if said.contains(wanted) {
            return;
        }
        assert!(clock::now() < until, "`ip {arguments}` never said {wanted:?}, but {said}");
        poll(&[], Some(clock::now() + Duration::from_millis(5))).unwrap();
    }
}

#[test]
fn a_neighbour_is_still_known_when_the_wire_comes_back() {
    let Some((one, other)) = Namespace::wired() else { return };
    one.ip("address add 10.7.0.1/24 dev tandem0");
    let _addresses = open(&one, "tandem0");
    one.ip("neighbour replace 10.7.0.2 lladdr 02:00:00:00:00:02 nud reachable dev tandem0");
    for (change, state) in [("down", "DOWN mode"), ("up", "UP mode")] {
        other.ip(&format!("link set tandem1 {change}"));
        wait_said(&one, "link show dev tandem0", state);
    }
    let known = one.said("neighbour show 10.7.0.2 dev tandem0");
    assert!(known.contains("02:00:00:00:00:02"), "{known:?}");
}
