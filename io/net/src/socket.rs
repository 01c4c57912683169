//! Sockets with the options that Tandem wants.

use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tandem_types::Duration;
use tokio::net::TcpSocket;

/// Bytes that the kernel keeps for us while the server is busy: some thousand messages.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Silence on a connection after which the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

pub(crate) fn datagrams(address: SocketAddr, freebind: bool) -> io::Result<std::net::UdpSocket> {
    let socket = new(address, Type::DGRAM, Protocol::UDP, freebind)?;
    // Beyond the system's limit where we may; the limit is fine too.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    // So that the kernel says which phone is gone.
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

pub(crate) fn listener(address: SocketAddr, freebind: bool) -> io::Result<std::net::TcpListener> {
    let socket = new(address, Type::STREAM, Protocol::TCP, freebind)?;
    // Connections of before that are not quite gone do not keep us from listening.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that connects from the address of `local`, from any port.
pub(crate) fn connecting(local: SocketAddr, freebind: bool) -> io::Result<TcpSocket> {
    let socket = new(local, Type::STREAM, Protocol::TCP, freebind)?;
    keep_alive(&socket)?;
    socket.bind(&SocketAddr::new(local.ip(), 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Messages leave at once, and a dead peer is noticed.
pub(crate) fn prepare(stream: &tokio::net::TcpStream) -> io::Result<()> {
    keep_alive(&socket2::SockRef::from(stream))
}

fn keep_alive(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

fn new(address: SocketAddr, kind: Type, protocol: Protocol, freebind: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(freebind)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(freebind)?;
        }
    }
    Ok(socket)
}
