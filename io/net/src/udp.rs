//! Datagrams, and what the kernel says about those that did not arrive.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::SockRef;
use tandem_types::{Flow, Transport};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::net::NetEvent;

/// Datagrams read before others get a turn.
pub const DATAGRAMS_PER_WAKEUP: usize = 64;

/// The biggest datagram there can be.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A pending error is reported in place of the next send, whomever that is to. So often it is tried
/// again.
const SEND_TRIES: usize = 4;

/// Sends a datagram at once. A full socket buffer loses it, as the network might.
pub(crate) fn send(socket: &UdpSocket, remote: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    // Not by tokio's try_send_to: that refuses until the event loop has seen the socket once.
    let socket = SockRef::from(socket);
    let mut result = Ok(0);
    for _ in 0..SEND_TRIES {
        result = socket.send_to(bytes, &remote.into());
        match &result {
            Err(error) if is_of_another(error) => {}
            Ok(_) | Err(_) => break,
        }
    }
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads datagrams and errors until aborted, or nobody wants them any more.
pub(crate) async fn read(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    events: mpsc::Sender<NetEvent>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let flow = |remote| Flow { transport: Transport::Udp, local, remote };
    while let Ok(ready) = socket.ready(Interest::READABLE | Interest::ERROR).await {
        if ready.is_error() {
            // Whatever ends the queue, the next error wakes us again.
            let empty = |_| io::Error::from(io::ErrorKind::WouldBlock);
            let next = || next_failure(&socket).map_err(empty);
            while let Ok(failed) = socket.try_io(Interest::ERROR, next) {
                let Some((remote, why)) = failed else { continue };
                if events.send(NetEvent::Failed { flow: flow(remote), why }).await.is_err() {
                    return;
                }
            }
        }
        let mut is_drained = false;
        for _ in 0..DATAGRAMS_PER_WAKEUP {
            let (length, remote) = match socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_drained = true;
                    break;
                }
                // The error of a datagram sent before; its details are in the error queue.
                Err(_) => continue,
            };
            let event = NetEvent::Bytes { flow: flow(remote), bytes: buffer[..length].to_vec() };
            if events.send(event).await.is_err() {
                return;
            }
        }
        // Where nothing is left, waiting lets the others go first; yielding too would cost a turn of
        // the runtime for each message.
        if !is_drained {
            tokio::task::yield_now().await;
        }
    }
}

/// Takes one error off the socket's queue: who could not be reached, and why. `None` for errors
/// that the kernel deals with itself (a path that takes smaller packets).
fn next_failure(socket: &UdpSocket) -> io::Result<Option<(SocketAddr, String)>> {
    let mut start = [0; 1];
    let mut parts = [IoSliceMut::new(&mut start)];
    let mut space = nix::cmsg_space!([u8; ERROR_BYTES]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut errno = None;
    for note in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(error, _)
        | ControlMessageOwned::Ipv6RecvErr(error, _) = note
        {
            errno = Some(error.ee_errno);
        }
    }
    let errno = Errno::from_raw(errno.unwrap_or(0).cast_signed());
    let remote = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
    });
    Ok(remote.filter(|_| is_gone(errno)).map(|remote| (remote, errno.desc().to_owned())))
}

/// Room for one extended error with the address of who reported it.
const ERROR_BYTES: usize = 128;

/// Whether the error says that nobody is there (RFC 3261 §18.4).
fn is_gone(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN
    )
}

/// Whether an error of sending may be that of an earlier datagram to somebody else.
fn is_of_another(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| is_gone(Errno::from_raw(errno)))
}
