//! Endpoints on loopback with ports that the system chooses.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tandem_net::{
    BindError, BoundId, DATAGRAMS_PER_WAKEUP, FIRST_MESSAGE_MAX, Limits, Net, NetEvent, Piece,
    SendError, Split,
};
use tandem_types::{Duration, Flow, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_datagram_comes_and_goes_on_ipv4_and_ipv6() {
    for ip in [V4, V6] {
        let mut world = World::new(Limits::default());
        let (_, local) = world.bind(ip, Transport::Udp);
        let phone = UdpSocket::bind(ip).await.unwrap();
        let flow = Flow { transport: Transport::Udp, local, remote: phone.local_addr().unwrap() };
        phone.send_to(b"OPTIONS", local).await.unwrap();
        assert_eq!(world.next().await, bytes(flow, b"OPTIONS"));
        world.net.send(flow, b"SIP/2.0 200 OK").unwrap();
        assert_eq!(receive(&phone).await, b"SIP/2.0 200 OK");
    }
}

#[tokio::test]
async fn what_is_sent_right_after_binding_arrives() {
    let mut world = World::new(Limits::default());
    let phone = UdpSocket::bind(V4).await.unwrap();
    let remote = phone.local_addr().unwrap();
    let (_, local) = world.bind(V4, Transport::Udp);
    world.net.send(Flow { transport: Transport::Udp, local, remote }, b"INVITE").unwrap();
    assert_eq!(receive(&phone).await, b"INVITE");
}

#[tokio::test]
async fn a_burst_beyond_one_wakeup_arrives_whole_and_in_order() {
    let mut world = World::new(Limits::default());
    let (_, local) = world.bind(V4, Transport::Udp);
    let phone = UdpSocket::bind(V4).await.unwrap();
    let count = u8::try_from(DATAGRAMS_PER_WAKEUP * 3).unwrap();
    for n in 0..count {
        phone.send_to(&[n], local).await.unwrap();
    }
    for n in 0..count {
        assert!(matches!(world.next().await, NetEvent::Bytes { bytes, .. } if bytes == [n]));
    }
}

#[tokio::test]
async fn a_phone_that_is_gone_is_reported_and_the_others_are_still_reached() {
    for ip in [V4, V6] {
        let mut world = World::new(Limits::default());
        let (_, local) = world.bind(ip, Transport::Udp);
        let there = UdpSocket::bind(ip).await.unwrap();
        let gone = UdpSocket::bind(ip).await.unwrap().local_addr().unwrap();
        let flow = |remote| Flow { transport: Transport::Udp, local, remote };
        world.net.send(flow(gone), b"INVITE").unwrap();
        for n in 0..5 {
            world.net.send(flow(there.local_addr().unwrap()), &[n]).unwrap();
            assert_eq!(receive(&there).await, [n]);
        }
        let NetEvent::Failed { flow: failed, why } = world.next().await else { panic!() };
        assert_eq!((failed, why.as_str()), (flow(gone), "Connection refused"));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_bound_sends_nothing() {
    let mut world = World::new(Limits::default());
    let (id, local) = world.bind(V4, Transport::Udp);
    let flow = Flow { transport: Transport::Udp, local, remote: local };
    world.net.send(flow, b"x").unwrap();
    world.net.unbind(id).await;
    assert!(matches!(world.net.send(flow, b"x"), Err(SendError::NotBound)));
    let tcp = Flow { transport: Transport::Tcp, ..flow };
    assert!(matches!(world.net.send(tcp, b"x"), Err(SendError::NotBound)));
}

#[tokio::test]
async fn an_address_is_free_again_when_unbind_returns() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut world = World::new(Limits::default());
        let (id, local) = world.bind(V4, transport);
        let error = World::new(Limits::default()).net.bind(local, transport, false).unwrap_err();
        let want = format!("{transport} {local}: another program has this port");
        assert_eq!(error.to_string(), want);
        world.net.unbind(id).await;
        assert_eq!(world.net.address(id), None);
        World::new(Limits::default()).net.bind(local, transport, false).unwrap();
    }
}

#[tokio::test]
async fn an_address_of_nobody_is_bound_only_with_freebind() {
    // 192.0.2.0/24 and 2001:db8::/32 are for documentation: no machine has them.
    for address in ["192.0.2.77:0", "[2001:db8::77]:0"] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut world = World::new(Limits::default());
            let address: SocketAddr = address.parse().unwrap();
            let error = world.net.bind(address, transport, false).unwrap_err();
            let want = format!("{transport} {address}: this machine does not have this address");
            assert_eq!(error.to_string(), want);
            world.net.bind(address, transport, true).unwrap();
        }
    }
}

#[tokio::test]
async fn all_addresses_at_once_are_refused() {
    let mut world = World::new(Limits::default());
    for all in ["0.0.0.0:0", "[::]:0"] {
        let error: BindError =
            world.net.bind(all.parse().unwrap(), Transport::Udp, false).unwrap_err();
        assert!(
            error.to_string().ends_with("expected one address of this machine, not all of them")
        );
    }
}

#[tokio::test]
async fn a_stream_comes_as_messages_and_the_answer_takes_the_same_connection() {
    for ip in [V4, V6] {
        let mut world = World::new(Limits::default());
        let (_, local) = world.bind(ip, Transport::Tcp);
        let (mut phone, flow) = connect(local).await;
        assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: true });
        phone.write_all(b"one\ntwo\nth").await.unwrap();
        assert_eq!(world.next().await, bytes(flow, b"one"));
        assert_eq!(world.next().await, bytes(flow, b"two"));
        phone.write_all(b"ree\n").await.unwrap();
        assert_eq!(world.next().await, bytes(flow, b"three"));
        world.net.send(flow, b"ok").unwrap();
        assert_eq!(read(&mut phone, 2).await, b"ok");
        assert_eq!(world.net.connections(), 1);
        drop(phone);
        let why = String::from("closed by the other side");
        assert_eq!(world.next().await, NetEvent::Closed { flow, why });
        assert_eq!(world.net.connections(), 0);
    }
}

#[tokio::test]
async fn a_connection_is_opened_from_our_address_and_used_again() {
    let mut world = World::new(Limits::default());
    // Another address than the one the system would take by itself.
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), 0));
    let (_, local) = world.bind(from, Transport::Tcp);
    let phone = TcpListener::bind(V4).await.unwrap();
    let remote = phone.local_addr().unwrap();
    let flow = Flow { transport: Transport::Tcp, local, remote };
    world.net.send(flow, b"first ").unwrap();
    world.net.send(flow, b"second").unwrap();
    let (mut stream, source) = phone.accept().await.unwrap();
    assert_eq!(source.ip(), local.ip());
    assert_eq!(read(&mut stream, 12).await, b"first second");
    assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: false });
    stream.write_all(b"answer\n").await.unwrap();
    assert_eq!(world.next().await, bytes(flow, b"answer"));
    assert_eq!(world.net.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_is_reported_once() {
    let mut world = World::new(Limits::default());
    let (_, local) = world.bind(V4, Transport::Tcp);
    let remote = TcpListener::bind(V4).await.unwrap().local_addr().unwrap();
    let flow = Flow { transport: Transport::Tcp, local, remote };
    world.net.send(flow, b"x").unwrap();
    world.net.send(flow, b"y").unwrap();
    let NetEvent::Failed { flow: failed, why } = world.next().await else { panic!() };
    assert_eq!(failed, flow);
    assert!(why.contains("refused"), "{why}");
    assert_eq!(world.net.connections(), 0);
}

#[tokio::test]
async fn an_attempt_to_connect_ends_in_time() {
    let limits = Limits { connect: Duration::from_millis(1), ..Limits::default() };
    let mut world = World::new(limits);
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (full, _waiting) = full_listener().await;
    let flow = Flow { transport: Transport::Tcp, local, remote: full.local_addr().unwrap() };
    world.net.send(flow, b"x").unwrap();
    let why = String::from("no answer to the attempt to connect");
    assert_eq!(world.next().await, NetEvent::Failed { flow, why });
}

#[tokio::test]
async fn unbinding_a_listener_closes_its_connections() {
    let mut world = World::new(Limits::default());
    let (id, local) = world.bind(V4, Transport::Tcp);
    let (mut phone, flow) = connect(local).await;
    world.next().await;
    world.net.unbind(id).await;
    let why = String::from("its address was given up");
    assert_eq!(world.next().await, NetEvent::Closed { flow, why });
    assert_eq!(phone.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(world.net.connections(), 0);
}

#[tokio::test]
async fn a_keep_alive_is_answered_and_is_no_message() {
    let mut world = World::new(Limits::default());
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (mut phone, flow) = connect(local).await;
    phone.write_all(b"?\n").await.unwrap();
    assert_eq!(read(&mut phone, 1).await, b"!");
    assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: true });
    // From here on time jumps to the next deadline whenever nothing else is left to do.
    tokio::time::pause();
    let why = String::from("no message in time");
    assert_eq!(world.next().await, NetEvent::Closed { flow, why });
}

#[tokio::test]
async fn who_has_sent_a_message_may_be_silent() {
    let mut world = World::new(Limits::default());
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (mut phone, flow) = connect(local).await;
    phone.write_all(b"REGISTER\n").await.unwrap();
    assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: true });
    assert_eq!(world.next().await, bytes(flow, b"REGISTER"));
    let (_silent, second) = connect(local).await;
    assert_eq!(world.next().await, NetEvent::Opened { flow: second, inbound: true });
    tokio::time::pause();
    assert!(matches!(world.next().await, NetEvent::Closed { flow, .. } if flow == second));
    assert_eq!(world.net.connections(), 1, "the first had less time left and is still there");
}

#[tokio::test]
async fn garbage_closes_the_connection() {
    let mut world = World::new(Limits::default());
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (mut phone, flow) = connect(local).await;
    world.next().await;
    phone.write_all(b"#\n").await.unwrap();
    let why = String::from("not a message");
    assert_eq!(world.next().await, NetEvent::Closed { flow, why });
    assert_eq!(phone.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn connections_of_one_source_end_at_the_limit() {
    let mut world = World::new(Limits { connections_per_source: 2, ..Limits::default() });
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (first, flow) = connect(local).await;
    let (_second, _) = connect(local).await;
    world.next().await;
    world.next().await;
    let (mut third, _) = connect(local).await;
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    let elsewhere = connect_from(Ipv4Addr::new(127, 0, 0, 7), local).await;
    assert!(matches!(world.next().await, NetEvent::Opened { .. }), "another source may");
    assert_eq!(world.net.connections(), 3);
    drop((first, elsewhere));
    while !matches!(world.next().await, NetEvent::Closed { flow: gone, .. } if gone == flow) {}
    let (_fourth, flow) = connect(local).await;
    while world.next().await != (NetEvent::Opened { flow, inbound: true }) {}
}

#[tokio::test]
async fn connections_in_total_end_at_the_limit_also_our_own() {
    let mut world = World::new(Limits { connections: 1, ..Limits::default() });
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (_first, flow) = connect(local).await;
    assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: true });
    let (mut second, _) = connect(local).await;
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    let phone = TcpListener::bind(V4).await.unwrap();
    let other = Flow { remote: phone.local_addr().unwrap(), ..flow };
    assert!(matches!(world.net.send(other, b"x"), Err(SendError::TooManyConnections)));
    world.net.send(flow, b"x").unwrap();
}

#[tokio::test]
async fn who_does_not_read_is_closed_when_the_queue_is_full() {
    let limits = Limits { queue_bytes: 64 * 1024, ..Limits::default() };
    let mut world = World::new(limits);
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (phone, flow) = connect(local).await;
    assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: true });
    let message = vec![b'x'; 32 * 1024];
    // The loop gets no turn to write, so the limit is met to the byte.
    world.net.send(flow, &message).unwrap();
    world.net.send(flow, &message).unwrap();
    assert!(matches!(world.net.send(flow, b"x"), Err(SendError::TooSlow)));
    assert!(matches!(world.next().await, NetEvent::Closed { flow: gone, .. } if gone == flow));
    assert_eq!(world.net.connections(), 0);
    drop(phone);
}

#[tokio::test]
async fn a_connection_that_breaks_with_bytes_waiting_says_that_they_are_lost() {
    let mut world = World::new(Limits { queue_bytes: 64 * 1024 * 1024, ..Limits::default() });
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (phone, flow) = connect(local).await;
    assert_eq!(world.next().await, NetEvent::Opened { flow, inbound: true });
    world.net.send(flow, &vec![b'x'; 32 * 1024 * 1024]).unwrap();
    phone.set_zero_linger().unwrap();
    drop(phone);
    assert!(matches!(world.next().await, NetEvent::Failed { flow: lost, .. } if lost == flow));
    assert!(matches!(world.next().await, NetEvent::Closed { flow: gone, .. } if gone == flow));
}

#[tokio::test]
async fn dropping_the_net_closes_everything() {
    let mut world = World::new(Limits::default());
    let (_, local) = world.bind(V4, Transport::Tcp);
    let (mut phone, _) = connect(local).await;
    world.next().await;
    drop(world);
    assert_eq!(phone.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

struct World {
    net: Net,
    events: mpsc::Receiver<NetEvent>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let (report, events) = mpsc::channel(16);
        Self { net: Net::new(limits, report, || Box::new(Lines::default())), events }
    }

    fn bind(&mut self, address: SocketAddr, transport: Transport) -> (BoundId, SocketAddr) {
        let id = self.net.bind(address, transport, false).unwrap();
        (id, self.net.address(id).unwrap())
    }

    async fn next(&mut self) -> NetEvent {
        let patience = 2 * FIRST_MESSAGE_MAX;
        tokio::time::timeout(patience, self.events.recv()).await.unwrap().unwrap()
    }
}

/// A line is a message; `?` is a keep-alive, `#` is garbage.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Split for Lines {
    fn split(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            pieces.push(match &line[..end] {
                b"?" => Piece::Reply(b"!"),
                b"#" => Piece::Broken("not a message"),
                message => Piece::Message(message.to_vec()),
            });
        }
    }
}

fn bytes(flow: Flow, bytes: &[u8]) -> NetEvent {
    NetEvent::Bytes { flow, bytes: bytes.to_vec() }
}

async fn receive(phone: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 1_500];
    let length = phone.recv(&mut buffer).await.unwrap();
    buffer[..length].to_vec()
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await.unwrap();
    buffer
}

/// A phone's connection, and the flow it is to the server.
async fn connect(local: SocketAddr) -> (TcpStream, Flow) {
    let stream = TcpStream::connect(local).await.unwrap();
    let remote = stream.local_addr().unwrap();
    (stream, Flow { transport: Transport::Tcp, local, remote })
}

async fn connect_from(ip: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A listener that lets one connection wait, and that one: the next attempt is not answered.
async fn full_listener() -> (TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(V4).unwrap();
    let listener = socket.listen(0).unwrap();
    let waiting = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener, waiting)
}
