//! Virtual addresses with a hardware address of their own, on a switch between network namespaces.
#![allow(clippy::unwrap_used)]

mod namespace;

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use namespace::Namespace;
use tandem_os::address::{Prefixed, Renewal, VirtualAddresses, hardware_for, remove_left_over};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(20);

fn addresses() -> [Prefixed; 2] {
    ["10.7.0.9/24", "fd00:7::9/64"].map(|text| text.parse().unwrap())
}

fn hardware() -> String {
    hardware_for(&addresses()).map(|byte| format!("{byte:02x}")).join(":")
}

/// Two servers and a phone.
struct Net {
    switch: Namespace,
    servers: [Namespace; 2],
    phone: Namespace,
}

fn net() -> Option<Net> {
    let switch = Namespace::new()?;
    switch.ip("link add hub type bridge");
    switch.ip("link set hub up");
    let host = |number: u8| {
        let host = Namespace::new().unwrap();
        host.ip("link add tandem0 type veth peer name port");
        host.ip(&format!("link set tandem0 address 02:00:00:00:00:0{number}"));
        // The switch's end moves over; it must have another name there for each.
        host.ip(&format!("link set port name port{number}"));
        host.ip(&format!("link set port{number} netns {}", switch.thread()));
        switch.ip(&format!("link set port{number} master hub"));
        switch.ip(&format!("link set port{number} up"));
        host.ip("link set tandem0 up");
        host.ip(&format!("addr add 10.7.0.{number}/24 dev tandem0"));
        host.ip(&format!("addr add fd00:7::{number}/64 dev tandem0 nodad"));
        host
    };
    let (servers, phone) = ([host(1), host(2)], host(3));
    Some(Net { switch, servers, phone })
}

fn open(server: &Namespace) -> (VirtualAddresses, Renewal) {
    server.run(|| {
        let hardware = hardware_for(&addresses());
        let it = VirtualAddresses::on_own_hardware("tandem0", &addresses(), hardware).unwrap();
        let renewal = it.renewal().unwrap().unwrap();
        (it, renewal)
    })
}

fn shown(namespace: &Namespace, arguments: &str) -> String {
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let output = namespace.run(move || Command::new("ip").args(arguments).output().unwrap());
    String::from_utf8(output.stdout).unwrap()
}

/// A server at an address: answers each datagram with its own number.
fn serve(server: &Namespace, at: IpAddr) -> UdpSocket {
    let socket = server.run(move || UdpSocket::bind((at, 5060)).unwrap());
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Asks until `server` has answered. How long that took.
fn reach(phone: &UdpSocket, at: IpAddr, server: &UdpSocket) -> Duration {
    let start = clock::now();
    let mut bytes = [0; 8];
    loop {
        assert!(clock::now() < start + DEADLINE, "{at} is not reached");
        // Refused while the neighbour is being looked for.
        let _ = phone.send_to(b"ask", (at, 5060));
        let soon = clock::now() + Duration::from_millis(2);
        poll(&[(std::os::fd::AsFd::as_fd(server), Want::Read)], Some(soon)).unwrap();
        while let Ok((_, from)) = server.recv_from(&mut bytes) {
            let _ = server.send_to(b"answer", from);
        }
        poll(&[(std::os::fd::AsFd::as_fd(phone), Want::Read)], Some(soon)).unwrap();
        if phone.recv_from(&mut bytes).is_ok() {
            return start.elapsed_until(clock::now());
        }
    }
}

#[test]
fn the_hardware_address_moves_with_the_role_and_phones_keep_what_they_know() {
    let Some(net) = net() else { return };
    let mut both = net.servers.each_ref().map(open);
    for at in addresses().map(|prefixed| prefixed.address) {
        let phone = net.phone.run(move || {
            UdpSocket::bind((if at.is_ipv4() { "10.7.0.3" } else { "fd00:7::3" }, 0)).unwrap()
        });
        phone.set_nonblocking(true).unwrap();
        let mut knows = String::new();
        for round in 0..6 {
            let who = round % 2;
            both[who].0.claim().unwrap();
            both[who].1.renew().unwrap();
            let server = serve(&net.servers[who], at);
            println!("round {round}, {at}: reached after {:?}", reach(&phone, at, &server));
            let now = shown(&net.phone, &format!("neigh show {at}"));
            assert!(now.contains(&hardware()), "{now}");
            knows = now;
            both[who].0.release().unwrap();
            both[who].1.rest().unwrap();
        }
        assert!(!knows.is_empty());
    }
}

#[test]
fn only_the_interface_that_has_the_address_answers_for_it() {
    let Some(net) = net() else { return };
    let [one, _] = &net.servers;
    let (mut ours, _) = open(one);
    ours.claim().unwrap();
    let mut asking = net.phone.run(|| {
        let own: Vec<Prefixed> =
            ["10.7.0.9/24", "10.7.0.1/24"].map(|text| text.parse().unwrap()).to_vec();
        VirtualAddresses::on_interface("tandem0", &own).unwrap()
    });
    let until = clock::now() + DEADLINE;
    let mut heard = Vec::new();
    while heard.len() < 12 {
        assert!(clock::now() < until, "{heard:?}");
        asking.probe().unwrap();
        let sources: Vec<_> = asking.sources().map(|source| (source, Want::Read)).collect();
        poll(&sources, Some(clock::now() + Duration::from_millis(20))).unwrap();
        heard.extend(asking.answers().unwrap());
    }
    for claim in heard {
        let is_virtual = claim.address == addresses()[0].address;
        let wanted = if is_virtual { hardware_for(&addresses()) } else { [2, 0, 0, 0, 0, 1] };
        assert_eq!(claim.hardware, wanted, "{claim:?}");
    }
    assert_eq!(ours.answers().unwrap(), [], "one's own answers are no conflict");
}

#[test]
fn the_interface_goes_with_its_owner_and_after_a_kill_with_the_next() {
    let Some(net) = net() else { return };
    let [one, _] = &net.servers;
    let before = shown(one, "-o link");
    let (mut ours, _) = open(one);
    ours.claim().unwrap();
    assert!(shown(one, "-o link").contains(&hardware()));
    drop(ours);
    assert_eq!(shown(one, "-o link").lines().count(), before.lines().count());
    // As after a kill: nobody runs what is to be done at the end.
    std::mem::forget(open(one));
    let (again, _) = open(one);
    std::mem::forget(again);
    assert!(shown(one, "-o link").contains(&hardware()));
    one.run(|| remove_left_over("tandem0", &[]).unwrap());
    assert!(!shown(one, "-o link").contains(&hardware()));
    assert!(shown(&net.switch, "-o link").contains("hub"));
}

/// Not asserted: what a takeover and a release spend here.
#[test]
fn a_claim_and_a_release_take_a_moment() {
    let Some(net) = net() else { return };
    let (mut ours, mut renewal) = open(&net.servers[0]);
    let (mut claims, mut releases, mut rests) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let start = clock::now();
        ours.claim().unwrap();
        let claimed = clock::now();
        ours.release().unwrap();
        claims.push(start.elapsed_until(claimed));
        let released = clock::now();
        renewal.rest().unwrap();
        releases.push(claimed.elapsed_until(released));
        rests.push(released.elapsed_until(clock::now()));
    }
    claims.sort_unstable();
    releases.sort_unstable();
    rests.sort_unstable();
    println!("claim: median {:?}, most {:?}", claims[10], claims[19]);
    println!("release: median {:?}, most {:?}", releases[10], releases[19]);
    println!("rest: median {:?}, most {:?}", rests[10], rests[19]);
}
