//! The link as its owner holds it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Endpoint, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tandem_types::{Duration, Seat};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::class::Class;
use crate::connect::{Acceptor, Dialer};
use crate::event::{Announcer, Events};
use crate::identity::{Identity, server_name};
use crate::queue::{Queue, Unsent};
use crate::secret::PairSecret;
use crate::serve::Runner;
use crate::tls;

/// Where the link runs and who may speak on it.
#[derive(Clone, Debug)]
pub struct Config {
    /// This server's seat: the standby dials, the master listens.
    pub seat: Seat,
    /// The UDP address to bind.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
    /// What the pair shares.
    pub secret: PairSecret,
    /// After this silence the link is down. At least a few keep-alives (20 ms) long.
    pub idle: Duration,
}

impl Config {
    /// With the default idle time-out of one second.
    pub const fn new(seat: Seat, local: SocketAddr, peer: SocketAddr, secret: PairSecret) -> Self {
        Self { seat, local, peer, secret, idle: DEFAULT_IDLE }
    }
}

/// One side of the link. Connects again for ever; dropping it ends the connection.
#[derive(Debug)]
pub struct Link {
    queue: Arc<Queue>,
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Link {
    /// Binds and starts. Needs a tokio runtime with time and network.
    ///
    /// # Errors
    /// If the address cannot be bound or the idle time-out is not one.
    pub fn start(config: Config) -> Result<(Self, Events), StartError> {
        let own = Identity::derive(&config.secret, config.seat)?;
        let peer = Identity::derive(&config.secret, config.seat.other())?;
        let transport = tls::transport(config.idle)?;
        let server = match config.seat {
            Seat::Master => Some(tls::server_config(&own, &peer, transport.clone())?),
            Seat::Standby => None,
        };
        let endpoint = Endpoint::new(
            tls::endpoint_config(&config.secret, config.seat),
            server,
            bind(config.local).map_err(|error| StartError::Bind(config.local, error))?,
            Arc::new(TokioRuntime),
        )
        .map_err(|error| StartError::Bind(config.local, error))?;
        let local = endpoint.local_addr().map_err(|error| StartError::Bind(config.local, error))?;

        let queue = Arc::new(Queue::default());
        let (announcer, events) = Announcer::new(queue.clone());
        let mut runner = Runner::new(endpoint.clone(), queue.clone(), announcer.clone());
        let established = runner.door();
        match config.seat {
            Seat::Master => {
                let acceptor =
                    Acceptor { endpoint, peer: config.peer.ip(), announcer, established };
                runner.keep(acceptor.run());
            }
            Seat::Standby => {
                let dialer = Dialer {
                    endpoint,
                    client: tls::client_config(&own, &peer, transport)?,
                    name: server_name(config.seat.other()),
                    peer: config.peer,
                    announcer,
                    established,
                };
                runner.keep(dialer.run());
            }
        }
        let task = tokio::spawn(runner.run());
        Ok((Self { queue, local, task }, events))
    }

    /// Queues a frame for the peer. Never waits; the frame leaves as soon as the runtime turns.
    ///
    /// # Errors
    /// The frame is not queued; [`Unsent`] says why.
    pub fn send(&self, class: Class, frame: Vec<u8>) -> Result<(), Unsent> {
        self.queue.send(class, frame)
    }

    /// Bytes of a class that wait to be handed to the transport. Who sends much looks here first.
    pub fn waiting(&self, class: Class) -> usize {
        self.queue.waiting_bytes(class)
    }

    /// The address that is bound.
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Ends the present connection, telling the peer why, and connects anew.
    pub fn reset(&self, why: &str) {
        self.queue.reset(why);
    }

    /// Sends what waits (but bulk), tells the peer why, and ends. Takes half a second at most.
    pub async fn close(mut self, why: &str) {
        self.queue.stop(why);
        // A peer that takes nothing more is left without a farewell when `self` is dropped.
        let _ = timeout(MAX_CLOSE, &mut self.task).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why the link did not start.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be used.
    Bind(SocketAddr, io::Error),
    /// The idle time-out is too long for the transport.
    IdleTimeout,
    /// The TLS library refuses its configuration.
    Tls(rustls::Error),
    /// The certificate cannot be made.
    Certificate(rcgen::Error),
    /// The TLS library lacks the cipher every QUIC connection starts with.
    NoInitialCipher,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => write!(f, "cannot use {address} for the link: {error}"),
            Self::IdleTimeout => f.write_str("the link's idle time-out is too long"),
            Self::Tls(error) => write!(f, "the link's TLS cannot be set up: {error}"),
            Self::Certificate(error) => write!(f, "the link's certificate: {error}"),
            Self::NoInitialCipher => f.write_str("the TLS library lacks AES-128-GCM"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<rustls::Error> for StartError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

impl From<rcgen::Error> for StartError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}

/// A socket with buffers for a catch-up's bursts, as far as the system allows.
fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Smaller buffers lose packets under bursts; they are repeated.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// How long a close may take in all.
const MAX_CLOSE: Duration = Duration::from_millis(500);
const DEFAULT_IDLE: Duration = Duration::from_secs(1);
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
