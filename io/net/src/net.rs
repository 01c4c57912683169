//! The endpoints of a server, as its loop sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_types::{Duration, Flow, Transport};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::socket;
use crate::tcp::{self, Connections};
use crate::udp;

/// How long opening a connection may take.
pub const CONNECT_MAX: Duration = Duration::from_secs(4);

/// Connections that one address may hold open with us.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 64;

/// Connections in total.
pub const CONNECTIONS_MAX: usize = 4_096;

/// An inbound connection without a whole message for so long after it was opened is closed.
pub const FIRST_MESSAGE_MAX: Duration = Duration::from_secs(30);

/// Bytes that may wait for a slow connection; then it is closed.
pub const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// What strangers may use of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`CONNECT_MAX`].
    pub connect: Duration,
    /// See [`CONNECTIONS_PER_SOURCE_MAX`]; further ones are closed at once.
    pub connections_per_source: usize,
    /// See [`CONNECTIONS_MAX`]; further ones are closed at once, and none is opened.
    pub connections: usize,
    /// See [`FIRST_MESSAGE_MAX`].
    pub first_message: Duration,
    /// See [`QUEUE_BYTES_MAX`].
    pub queue_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: CONNECT_MAX,
            connections_per_source: CONNECTIONS_PER_SOURCE_MAX,
            connections: CONNECTIONS_MAX,
            first_message: FIRST_MESSAGE_MAX,
            queue_bytes: QUEUE_BYTES_MAX,
        }
    }
}

/// What happened on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NetEvent {
    /// One datagram, or one whole message of a stream.
    Bytes {
        /// Where it came from and to.
        flow: Flow,
        /// The message.
        bytes: Vec<u8>,
    },
    /// What was sent on this flow, or part of it, does not arrive.
    Failed {
        /// The flow that was sent on.
        flow: Flow,
        /// What the system said.
        why: String,
    },
    /// A connection is open.
    Opened {
        /// Its two ends. Where we opened it, ours is the address we listen on.
        flow: Flow,
        /// Whether the other side opened it.
        inbound: bool,
    },
    /// A connection that was open is closed; the last event of this connection.
    Closed {
        /// As in [`NetEvent::Opened`].
        flow: Flow,
        /// By whom or what.
        why: String,
    },
}

/// What [`Split`] finds in a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// One whole message.
    Message(Vec<u8>),
    /// To be sent back at once (the answer to a keep-alive, RFC 5626 §3.5.1).
    Reply(&'static [u8]),
    /// This stream cannot be read any further; the connection is closed.
    Broken(&'static str),
}

/// Tells where messages end in the stream of one connection.
pub trait Split: Send {
    /// Takes the next bytes and puts what is complete by now into `pieces`.
    fn split(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>);
}

/// Makes one [`Split`] for each connection.
pub(crate) type MakeSplit = Arc<dyn Fn() -> Box<dyn Split> + Send + Sync>;

/// Names what [`Net::bind`] made.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BoundId(u64);

/// Why an address could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// For which transport.
    pub transport: Transport,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, address, source } = self;
        let kind = source.kind();
        if kind == io::ErrorKind::AddrInUse {
            write!(f, "{transport} {address}: another program has this port")
        } else if kind == io::ErrorKind::AddrNotAvailable {
            write!(f, "{transport} {address}: this machine does not have this address")
        } else {
            write!(f, "{transport} {address}: {source}")
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why nothing was sent.
#[derive(Debug)]
pub enum SendError {
    /// The flow's own address is not bound (any more).
    NotBound,
    /// [`Limits::connections`] are open.
    TooManyConnections,
    /// More than [`Limits::queue_bytes`] wait for this connection; it is closed.
    TooSlow,
    /// What the system said.
    Io(io::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBound => f.write_str("the address to send from is not bound"),
            Self::TooManyConnections => f.write_str("too many connections are open"),
            Self::TooSlow => f.write_str("the other side reads too slowly"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

#[derive(Debug)]
struct Bound {
    id: BoundId,
    socket: Socket,
    freebind: bool,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
enum Socket {
    Udp(Arc<UdpSocket>),
    Tcp,
}

/// Every endpoint of a server. Needs a tokio runtime around it.
pub struct Net {
    limits: Limits,
    events: mpsc::Sender<NetEvent>,
    make_split: MakeSplit,
    bound: BTreeMap<(Transport, SocketAddr), Bound>,
    connections: Connections,
    last_id: u64,
}

impl Net {
    /// Without endpoints. Events wait in the channel; while it is full, nothing is read.
    pub fn new(
        limits: Limits,
        events: mpsc::Sender<NetEvent>,
        make_split: impl Fn() -> Box<dyn Split> + Send + Sync + 'static,
    ) -> Self {
        Self {
            limits,
            events,
            make_split: Arc::new(make_split),
            bound: BTreeMap::new(),
            connections: Connections::new(limits),
            last_id: 0,
        }
    }

    /// Listens on an address; with `freebind` also where this machine does not have it yet.
    /// Port 0 takes a free one, see [`Net::address`].
    ///
    /// # Errors
    ///
    /// What the system says; also for the unspecified address (`0.0.0.0`, `::`), because then
    /// nobody could tell which address a phone talks to.
    pub fn bind(
        &mut self,
        address: SocketAddr,
        transport: Transport,
        freebind: bool,
    ) -> Result<BoundId, BindError> {
        let (address, socket, reader) = self
            .open(address, transport, freebind)
            .map_err(|source| BindError { transport, address, source })?;
        self.last_id += 1;
        let id = BoundId(self.last_id);
        self.bound.insert((transport, address), Bound { id, socket, freebind, reader });
        Ok(id)
    }

    /// The address that was bound, with its port.
    pub fn address(&self, id: BoundId) -> Option<SocketAddr> {
        self.bound.iter().find(|(_, bound)| bound.id == id).map(|((_, address), _)| *address)
    }

    /// Stops listening and closes the connections that belong to it. When this returns, the address
    /// is free.
    pub async fn unbind(&mut self, id: BoundId) {
        let found = self.bound.iter().find(|(_, bound)| bound.id == id).map(|(at, _)| *at);
        let Some((transport, address)) = found else { return };
        if let Some(bound) = self.bound.remove(&(transport, address)) {
            bound.reader.abort();
            // Its end is the point: the socket goes with it.
            let _ = bound.reader.await;
        }
        if transport == Transport::Tcp {
            self.connections.close_all(address, "its address was given up");
        }
    }

    /// Sends one message, now or never: a datagram, or a part of the stream to `flow.remote`. A
    /// connection is opened where there is none. What fails later is a [`NetEvent::Failed`].
    ///
    /// # Errors
    ///
    /// When it is known at once that it will not arrive.
    pub fn send(&mut self, flow: Flow, bytes: &[u8]) -> Result<(), SendError> {
        let bound = self.bound.get(&(flow.transport, flow.local)).ok_or(SendError::NotBound)?;
        match &bound.socket {
            Socket::Udp(socket) => udp::send(socket, flow.remote, bytes).map_err(SendError::Io),
            Socket::Tcp => {
                if self.connections.send(flow, bytes)? {
                    return Ok(());
                }
                let from = socket::connecting(flow.local, bound.freebind);
                let from = from.map_err(SendError::Io)?;
                let (make_split, events) = (Arc::clone(&self.make_split), self.events.clone());
                self.connections.open(flow, from, &make_split, events)?;
                self.connections.send(flow, bytes).map(|_| ())
            }
        }
    }

    /// Connections that are open or being opened.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// What this server grants to strangers.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn open(
        &self,
        address: SocketAddr,
        transport: Transport,
        freebind: bool,
    ) -> io::Result<(SocketAddr, Socket, JoinHandle<()>)> {
        if address.ip().is_unspecified() {
            let what = "expected one address of this machine, not all of them";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let events = self.events.clone();
        match transport {
            Transport::Udp => {
                let socket = Arc::new(UdpSocket::from_std(socket::datagrams(address, freebind)?)?);
                let address = socket.local_addr()?;
                let reader = tokio::spawn(udp::read(Arc::clone(&socket), address, events));
                Ok((address, Socket::Udp(socket), reader))
            }
            Transport::Tcp => {
                let listener = TcpListener::from_std(socket::listener(address, freebind)?)?;
                let address = listener.local_addr()?;
                let (connections, split) = (self.connections.clone(), Arc::clone(&self.make_split));
                let reader = tcp::accept(listener, address, connections, split, events);
                Ok((address, Socket::Tcp, tokio::spawn(reader)))
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for ((_, address), bound) in &self.bound {
            bound.reader.abort();
            self.connections.close_all(*address, "the server stops");
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("bound", &self.bound).finish_non_exhaustive()
    }
}
