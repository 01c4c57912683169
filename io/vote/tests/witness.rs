//! The vote of a witness over real sockets. The voter is the real value; its program has tests of its
//! own.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;

use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_types::{Duration, Epoch, Instant, Seat};
use tandem_vote::{Ask, Lease as _, Side, Voted, WitnessConfig, WitnessLease};
use tandem_witness::{REQUEST_LENGTH, Witness};

const KEY: [u8; 32] = [9; 32];
const PATIENCE: Duration = Duration::from_secs(20);
const TERM: Duration = Duration::from_secs(1);

fn epoch() -> Epoch {
    Epoch { number: 3, seat: Seat::Master }
}

/// A witness that turns when the test says so, and that has been up for long.
struct Voter {
    socket: UdpSocket,
    value: Witness,
}

impl Voter {
    fn bind(at: SocketAddr) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_nonblocking(true).unwrap();
        let value = Witness::new(Instant::ZERO, 5, &[(String::from("pair"), KEY)]).unwrap();
        Self { socket, value }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn turn(&mut self) {
        let mut bytes = [0; REQUEST_LENGTH + 1];
        while let Ok((length, from)) = self.socket.recv_from(&mut bytes) {
            if let Some(answer) = self.value.handle(clock::now(), &bytes[..length]) {
                self.socket.send_to(&answer, from).unwrap();
            }
        }
    }
}

fn lease(address: &str) -> WitnessLease {
    WitnessLease::start(WitnessConfig {
        address: address.to_owned(),
        key: KEY,
        side: Side { seat: Seat::Master, life: 1 },
        own: Vec::new(),
        not_from: Vec::new(),
    })
    .unwrap()
}

/// Waits on the lease's descriptor alone, as the keeper does, until `done` holds.
fn turn_until(
    lease: &mut WitnessLease,
    mut voter: Option<&mut Voter>,
    done: impl Fn(&WitnessLease, &[Voted]) -> bool,
) -> Vec<Voted> {
    let until = clock::now() + PATIENCE;
    let mut answers = lease.answers();
    while !done(lease, &answers) {
        assert!(clock::now() < until, "still {:?}", lease.standing());
        let mut sources = vec![(lease.as_fd(), Want::Read)];
        if let Some(voter) = &voter {
            sources.push((voter.socket.as_fd(), Want::Read));
        }
        let ready = poll(&sources, Some(until)).unwrap();
        if let Some(voter) = &mut voter {
            voter.turn();
        }
        if ready.has(0) {
            answers.extend(lease.answers());
        }
    }
    answers
}

fn heard(lease: &WitnessLease, _: &[Voted]) -> bool {
    lease.standing().heard_at.is_some()
}

fn ask(lease: &mut WitnessLease, number: u64) {
    lease.ask(clock::now(), Ask { number, epoch: epoch(), term: TERM });
}

#[test]
fn a_vote_is_granted_over_either_kind_of_address() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let mut voter = Voter::bind(at.parse().unwrap());
        let mut lease = lease(&voter.address().to_string());
        turn_until(&mut lease, Some(&mut voter), heard);
        ask(&mut lease, 4);
        let answers = turn_until(&mut lease, Some(&mut voter), |_, answers| !answers.is_empty());
        assert_eq!(answers, [Voted::Granted { number: 4, term: TERM }]);
        lease.release(epoch());
        poll(&[(voter.socket.as_fd(), Want::Read)], None).unwrap();
        voter.turn();
        assert_eq!(voter.value.status(clock::now())[0].holder, None);
    }
}

#[test]
fn a_name_is_looked_up_and_all_its_addresses_are_tried() {
    // It has both kinds of address on many systems; the voter listens at one of them.
    let mut voter = Voter::bind("127.0.0.1:0".parse().unwrap());
    let mut lease = lease(&format!("localhost:{}", voter.address().port()));
    turn_until(&mut lease, Some(&mut voter), heard);
}

#[test]
fn a_name_that_nobody_has_is_trouble_with_its_reason() {
    // Too long for a name: refused before any name server is asked.
    let nobody = format!("{}:5072", "n".repeat(64));
    let mut lease = lease(&nobody);
    let answers = |_: &WitnessLease, answers: &[Voted]| !answers.is_empty();
    let until = clock::now() + PATIENCE;
    loop {
        ask(&mut lease, 1);
        let given_up = turn_until(&mut lease, None, answers);
        let Some(Voted::Unreachable { number: 1, why }) = given_up.first() else {
            panic!("{given_up:?}")
        };
        if why.contains(&format!("{nobody} is not found")) {
            return;
        }
        assert!(clock::now() < until, "{why}");
    }
}

#[test]
fn where_nobody_listens_that_is_said_and_a_witness_that_comes_is_found() {
    let gone = Voter::bind("127.0.0.1:0".parse().unwrap());
    let address = gone.address();
    drop(gone);
    let mut lease = lease(&address.to_string());
    ask(&mut lease, 1);
    let answers = turn_until(&mut lease, None, |_, answers| !answers.is_empty());
    let why = format!("no witness listens at {address}");
    assert_eq!(answers, [Voted::Unreachable { number: 1, why: why.clone() }]);
    assert_eq!(lease.standing().trouble, Some(why));
    let mut voter = Voter::bind(address);
    turn_until(&mut lease, Some(&mut voter), heard);
    assert_eq!(lease.standing().trouble, None);
}

#[test]
fn nothing_is_sent_from_an_address_that_may_move_away() {
    let voter = Voter::bind("127.0.0.1:0".parse().unwrap());
    let moving = WitnessConfig {
        address: voter.address().to_string(),
        key: KEY,
        side: Side { seat: Seat::Master, life: 1 },
        own: vec!["127.0.0.2".parse().unwrap()],
        not_from: vec!["127.0.0.1".parse().unwrap()],
    };
    let _lease = WitnessLease::start(moving).unwrap();
    poll(&[(voter.socket.as_fd(), Want::Read)], None).unwrap();
    let (_, from) = voter.socket.recv_from(&mut [0; 100]).unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.2");
}
