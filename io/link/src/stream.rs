//! The streams of one connection: each side opens one for each class and writes on those, the most
//! urgent first.
//!
//! ```text
//!   stream of a class │ opening: "TDM", version, class │ head, frame │ head, frame │ ...
//! ```
//!
//! Invariant: a stream that ends, breaks or breaks the rules ends the connection, and so all the others.

use std::future::pending;

use quinn::{
    ApplicationClose, Connection, ConnectionError, ReadError, ReadExactError, RecvStream,
    SendStream, WriteError,
};
use tandem_types::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::class::{Class, OPENING_BYTES};
use crate::event::{Announcer, DownReason};
use crate::pack::{self, HEAD_BYTES, Head, LENGTH_BYTES, Stopped};
use crate::queue::{Queue, Work};

/// The streams that this side writes on.
#[derive(Debug)]
pub(crate) struct Outgoing {
    hot: SendStream,
    ops: SendStream,
    bulk: SendStream,
}

impl Outgoing {
    /// Opens those that are not open yet.
    pub(crate) async fn open(
        connection: &Connection,
        hot: Option<SendStream>,
    ) -> Result<Self, WriteError> {
        let hot = match hot {
            Some(hot) => hot,
            None => open(connection, Class::Hot).await?,
        };
        let ops = open(connection, Class::Ops).await?;
        let bulk = open(connection, Class::Bulk).await?;
        Ok(Self { hot, ops, bulk })
    }

    /// Writes what comes into the queue until it says stop; gives the reason for that once all hot frames
    /// and all ops are with the peer.
    pub(crate) async fn carry(&mut self, queue: &Queue) -> Result<String, DownReason> {
        let Self { hot, ops, bulk } = self;
        let last = async {
            tokio::try_join!(write(Class::Hot, hot, queue), write(Class::Ops, ops, queue))
        };
        let never = async {
            match write(Class::Bulk, bulk, queue).await {
                // A file is begun anew anyway; it must not delay the farewell.
                Ok(_) => pending().await,
                Err(why) => why,
            }
        };
        let why = tokio::select! {
            biased;
            written = last => written?.0,
            why = never => return Err(why),
        };
        // What was written shall arrive before the farewell, which would cut it off.
        if hot.finish().is_ok() && ops.finish().is_ok() {
            let arrived = async { tokio::join!(hot.stopped(), ops.stopped()) };
            let _ = timeout(FAREWELL, arrived).await;
        }
        Ok(why)
    }
}

/// The streams that this side reads. They are kept until the connection is closed: one that is dropped
/// earlier would tell the peer something else than why.
#[derive(Debug)]
pub(crate) struct Incoming {
    hot: RecvStream,
    ops: Option<RecvStream>,
    bulk: Option<RecvStream>,
}

impl Incoming {
    /// With the stream that came first.
    pub(crate) const fn new(hot: RecvStream) -> Self {
        Self { hot, ops: None, bulk: None }
    }

    /// Reads frames of all classes until something is wrong with one of them.
    pub(crate) async fn carry(
        &mut self,
        connection: &Connection,
        announcer: &Announcer,
    ) -> DownReason {
        let Self { hot, ops, bulk } = self;
        let others = async {
            let ops = match accept_next(Class::Ops, connection).await {
                Ok(recv) => ops.insert(recv),
                Err(why) => return why,
            };
            let bulk = async {
                match accept_next(Class::Bulk, connection).await {
                    Ok(recv) => read(Class::Bulk, connection, bulk.insert(recv), announcer).await,
                    Err(why) => why,
                }
            };
            tokio::select! {
                biased;
                why = read(Class::Ops, connection, ops, announcer) => why,
                why = bulk => why,
            }
        };
        tokio::select! {
            biased;
            why = read(Class::Hot, connection, hot, announcer) => why,
            why = others => why,
        }
    }
}

/// Opens the stream of a class.
pub(crate) async fn open(connection: &Connection, class: Class) -> Result<SendStream, WriteError> {
    let mut send = connection.open_uni().await?;
    // Refused only by a stream that is closed, and writing then says so.
    let _ = send.set_priority(class.priority());
    send.write_all(&class.opening()).await?;
    Ok(send)
}

/// The next stream of the peer, which must be that of this class.
pub(crate) async fn accept(connection: &Connection, class: Class) -> Result<RecvStream, Unfit> {
    let mut recv = connection.accept_uni().await.map_err(ReadError::from)?;
    let mut opening = [0; OPENING_BYTES];
    recv.read_exact(&mut opening).await?;
    class.check(opening).map_err(Unfit::Rules)?;
    Ok(recv)
}

/// Why a stream did not come.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// The connection or the stream ended.
    Lost(ReadExactError),
    /// It begins with something else.
    Rules(String),
}

impl<E: Into<ReadExactError>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

async fn accept_next(class: Class, connection: &Connection) -> Result<RecvStream, DownReason> {
    match accept(connection, class).await {
        Ok(recv) => Ok(recv),
        Err(Unfit::Lost(error)) => Err(read_failure(connection, error).await),
        Err(Unfit::Rules(what)) => Err(DownReason::Protocol(what)),
    }
}

async fn read(
    class: Class,
    connection: &Connection,
    recv: &mut RecvStream,
    announcer: &Announcer,
) -> DownReason {
    loop {
        if let Err(broken) = read_frame(class, recv, announcer).await {
            return match broken {
                Broken::Lost(error) => read_failure(connection, error).await,
                Broken::Rules(what) => DownReason::Protocol(what),
                Broken::Closed => DownReason::Closed("nobody reads".to_owned()),
            };
        }
    }
}

/// Why there is no next frame.
enum Broken {
    /// The stream ended; between two frames if it was nothing of the next one.
    Lost(ReadExactError),
    Rules(String),
    Closed,
}

impl From<ReadExactError> for Broken {
    fn from(error: ReadExactError) -> Self {
        Self::Lost(error)
    }
}

async fn read_frame(
    class: Class,
    recv: &mut RecvStream,
    announcer: &Announcer,
) -> Result<(), Broken> {
    let mut head = [0; HEAD_BYTES];
    recv.read_exact(&mut head).await?;
    match Head::read(class, head).map_err(Broken::Rules)? {
        Head::Plain(length) => {
            let room = announcer.make_room(class, length).await.ok_or(Broken::Closed)?;
            let frame = read_body(recv, length).await?;
            announcer.frame(class, frame, room);
        }
        Head::Packed(body_bytes) => {
            let rules = |what: &'static str| Broken::Rules(what.to_owned());
            let length = read_body(recv, LENGTH_BYTES as u32).await?;
            let length = length.try_into().map_err(|_| rules("half a frame"))?;
            let length = pack::unpacked_bytes(length, body_bytes).map_err(rules)?;
            // Room for what it will be: the block is shorter and soon gone.
            let room = announcer.make_room(class, length).await.ok_or(Broken::Closed)?;
            let block = read_body(recv, body_bytes - LENGTH_BYTES as u32).await?;
            let frame = pack::unpack(block, length).await.map_err(rules)?;
            announcer.frame(class, frame, room);
        }
    }
    Ok(())
}

/// What follows a head; its end is never the end of a frame.
async fn read_body(recv: &mut RecvStream, length: u32) -> Result<Vec<u8>, Broken> {
    let mut body = vec![0; length as usize];
    match recv.read_exact(&mut body).await {
        Ok(()) => Ok(body),
        Err(ReadExactError::FinishedEarly(_)) => Err(Broken::Rules("half a frame".to_owned())),
        Err(error @ ReadExactError::ReadError(_)) => Err(Broken::Lost(error)),
    }
}

/// A stream that ends is the first half of a farewell; the reason comes with the second.
async fn read_failure(connection: &Connection, error: ReadExactError) -> DownReason {
    match error {
        ReadExactError::ReadError(ReadError::ConnectionLost(error)) => reason(error),
        ReadExactError::FinishedEarly(0) => match timeout(FAREWELL, connection.closed()).await {
            Ok(error) => reason(error),
            Err(_) => DownReason::Protocol("the stream ended, the connection did not".to_owned()),
        },
        ReadExactError::FinishedEarly(_) => DownReason::Protocol("half a frame".to_owned()),
        ReadExactError::ReadError(error) => DownReason::Protocol(error.to_string()),
    }
}

/// Writes the frames of a class until the queue says stop; gives the reason for that.
async fn write(class: Class, send: &mut SendStream, queue: &Queue) -> Result<String, DownReason> {
    loop {
        let written = match queue.work(class).await {
            Work::Write(batch) => send.write_all(&batch).await,
            Work::Long(frame) => {
                let (head, body) = if class.compresses() {
                    let stopped = |Stopped| DownReason::Closed("the process ends".to_owned());
                    pack::pack(frame).await.map_err(stopped)?
                } else {
                    (Head::Plain(frame.len() as u32), frame)
                };
                match send.write_all(&head.bytes()).await {
                    Ok(()) => send.write_all(&body).await,
                    failed @ Err(_) => failed,
                }
            }
            Work::Stop(why) => return Ok(why),
        };
        match written {
            Ok(()) => {}
            Err(WriteError::ConnectionLost(error)) => return Err(reason(error)),
            Err(
                error @ (WriteError::Stopped(_)
                | WriteError::ClosedStream
                | WriteError::ZeroRttRejected),
            ) => return Err(DownReason::Protocol(error.to_string())),
        }
        // Where the transport takes everything at once, the more urgent class gets its turn all the same.
        yield_now().await;
    }
}

/// What ended a connection.
pub(crate) fn reason(error: ConnectionError) -> DownReason {
    match error {
        ConnectionError::TimedOut => DownReason::Silent,
        ConnectionError::Reset => DownReason::Restarted,
        ConnectionError::ApplicationClosed(ApplicationClose { reason, .. }) => {
            DownReason::ClosedByPeer(String::from_utf8_lossy(&reason).into_owned())
        }
        ConnectionError::ConnectionClosed(close) => DownReason::ClosedByPeer(close.to_string()),
        ConnectionError::LocallyClosed => DownReason::Closed("the link ended".to_owned()),
        ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::CidsExhausted => DownReason::Protocol(error.to_string()),
    }
}

/// How long each half of a farewell may take.
pub(crate) const FAREWELL: Duration = Duration::from_millis(200);
