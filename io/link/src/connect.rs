//! How the two find each other: the standby dials for ever, the master answers nobody else.
//!
//! ```text
//!   dialer                                acceptor
//!     │ ── hello, certificate ──▶           │  both check the pinned certificate
//!     │ ── opens its hot stream ──▶         │
//!     │                                     │  the connection is adopted (an older one ends)
//!     │ ◀── opens its hot stream ──         │
//! ```
//!
//! The dialer's TLS is content before the acceptor has seen its certificate; the stream that comes back
//! says that it was accepted. The streams of the other classes follow once the link is up.

use std::net::{IpAddr, SocketAddr};

use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, Incoming, ReadError, ReadExactError,
    RecvStream, SendStream, VarInt, WriteError,
};
use tandem_types::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::class::Class;
use crate::event::Announcer;
use crate::stream::{self, Unfit};

/// An authenticated connection with its first streams.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) connection: Connection,
    /// Not there where the peer still waits for it.
    pub(crate) hot_out: Option<SendStream>,
    pub(crate) hot_in: RecvStream,
}

/// The standby's side.
pub(crate) struct Dialer {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientConfig,
    pub(crate) name: &'static str,
    pub(crate) peer: SocketAddr,
    pub(crate) announcer: Announcer,
    pub(crate) established: mpsc::Sender<Established>,
}

impl Dialer {
    /// Dials, waits until that connection is gone, dials again; ends with its owner.
    pub(crate) async fn run(self) {
        let (mut pause, mut patience) = (MIN_PAUSE, MIN_PATIENCE);
        loop {
            match timeout(patience, self.dial()).await {
                Ok(Ok(established)) => {
                    (pause, patience) = (MIN_PAUSE, MIN_PATIENCE);
                    let connection = established.connection.clone();
                    if self.established.send(established).await.is_err() {
                        return;
                    }
                    connection.closed().await;
                }
                // The peer answered, but not as the peer: asking faster will not help.
                Ok(Err(failure)) => {
                    if let Failure::Foreign(why) = failure {
                        self.announcer.foreign(self.peer, why);
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                // Nobody there: the waiting was pause enough.
                Err(_) => patience = (patience * 2).min(MAX_PATIENCE),
            }
            sleep(pause).await;
        }
    }

    async fn dial(&self) -> Result<Established, Failure> {
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), self.peer, self.name)
            .map_err(|_| Failure::Other)?;
        let connection = connecting.await?;
        let hot_out = Some(stream::open(&connection, Class::Hot).await?);
        let hot_in = accept_hot(&connection).await?;
        Ok(Established { connection, hot_out, hot_in })
    }
}

/// The master's side.
pub(crate) struct Acceptor {
    pub(crate) endpoint: Endpoint,
    pub(crate) peer: IpAddr,
    pub(crate) announcer: Announcer,
    pub(crate) established: mpsc::Sender<Established>,
}

impl Acceptor {
    /// Accepts until the endpoint is closed; ends with its owner.
    pub(crate) async fn run(self) {
        let mut known = JoinSet::new();
        let mut unknown = JoinSet::new();
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { return };
                    // Strangers cannot keep the peer out by opening many.
                    let group = match incoming.remote_address().ip() == self.peer {
                        true => &mut known,
                        false => &mut unknown,
                    };
                    if group.len() < MAX_HANDSHAKES {
                        let (announcer, door) = (self.announcer.clone(), self.established.clone());
                        group.spawn(answer(incoming, announcer, door));
                    } else {
                        incoming.refuse();
                    }
                }
                Some(_) = known.join_next() => {}
                Some(_) = unknown.join_next() => {}
            }
        }
    }
}

async fn answer(incoming: Incoming, announcer: Announcer, door: mpsc::Sender<Established>) {
    let address = incoming.remote_address();
    match timeout(MAX_PATIENCE, handshake(incoming)).await {
        Ok(Ok(established)) => {
            // The owner is gone otherwise, and the connection with it.
            let _ = door.send(established).await;
        }
        Ok(Err(Failure::Foreign(why))) => announcer.foreign(address, why),
        Ok(Err(Failure::Other)) | Err(_) => {}
    }
}

async fn handshake(incoming: Incoming) -> Result<Established, Failure> {
    let connection = incoming.accept()?.await?;
    let hot_in = accept_hot(&connection).await?;
    Ok(Established { connection, hot_out: None, hot_in })
}

async fn accept_hot(connection: &Connection) -> Result<RecvStream, Failure> {
    match stream::accept(connection, Class::Hot).await {
        Ok(recv) => Ok(recv),
        Err(Unfit::Lost(error)) => Err(error.into()),
        Err(Unfit::Rules(what)) => {
            // It is the peer, and somebody has to install the same version on both.
            connection.close(code::PROTOCOL, what.as_bytes());
            Err(Failure::Foreign(what))
        }
    }
}

/// Why no connection came about.
#[derive(Debug)]
enum Failure {
    /// TLS refused them, or they refused us, or they speak another version.
    Foreign(String),
    /// They went away or were too slow.
    Other,
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        let code = match &error {
            ConnectionError::TransportError(refused) => u64::from(refused.code),
            ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
            ConnectionError::VersionMismatch
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => return Self::Other,
        };
        if TLS_ALERTS.contains(&code) {
            Self::Foreign(format!("it does not know the secret of this pair ({error})"))
        } else {
            Self::Other
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                Self::Other
            }
        }
    }
}

impl From<ReadExactError> for Failure {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(ReadError::ConnectionLost(error)) => error.into(),
            ReadExactError::ReadError(_) | ReadExactError::FinishedEarly(_) => Self::Other,
        }
    }
}

/// Why a side closed, for who reads a trace; the text is what counts.
pub(crate) mod code {
    use super::VarInt;

    pub(crate) const CLOSED: VarInt = VarInt::from_u32(1);
    pub(crate) const REPLACED: VarInt = VarInt::from_u32(2);
    pub(crate) const OVERFLOW: VarInt = VarInt::from_u32(3);
    pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(4);
}

/// TLS alerts as QUIC codes (RFC 9001 §4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// Between two tries, growing while the peer refuses.
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// How long one try may take, growing while nobody answers: a busy peer needs longer.
const MIN_PATIENCE: Duration = Duration::from_millis(250);
const MAX_PATIENCE: Duration = Duration::from_secs(1);
/// Handshakes at a time, for the peer's address and for all others.
const MAX_HANDSHAKES: usize = 8;
