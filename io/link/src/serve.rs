//! One connection after the other: adopt it, carry frames, say what ended it.

use std::sync::Arc;

use quinn::{
    ApplicationClose, Connection, ConnectionError, Endpoint, ReadExactError, RecvStream,
    SendStream, VarInt,
};
use tandem_types::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::MAX_FRAME_BYTES;
use crate::connect::{Established, GREETING};
use crate::event::{Announcer, DownReason, LinkEvent};
use crate::queue::{Closing, HEAD_BYTES, Queue, Work};

/// Runs the link: waits for connections, serves the newest.
pub(crate) struct Runner {
    endpoint: Endpoint,
    queue: Arc<Queue>,
    announcer: Announcer,
    door: mpsc::Sender<Established>,
    arrivals: mpsc::Receiver<Established>,
    /// The dialer or the acceptor; ends with this.
    finder: JoinSet<()>,
    generation: u64,
}

/// How a connection ended.
enum End {
    Down(DownReason),
    Replaced(Box<Established>),
    Stop(String),
}

impl Runner {
    pub(crate) fn new(endpoint: Endpoint, queue: Arc<Queue>, announcer: Announcer) -> Self {
        let (door, arrivals) = mpsc::channel(1);
        let finder = JoinSet::new();
        Self { endpoint, queue, announcer, door, arrivals, finder, generation: 0 }
    }

    /// Where authenticated connections come in.
    pub(crate) fn door(&self) -> mpsc::Sender<Established> {
        self.door.clone()
    }

    /// Runs the task that finds connections for as long as this runs.
    pub(crate) fn keep(&mut self, finder: impl Future<Output = ()> + Send + 'static) {
        self.finder.spawn(finder);
    }

    /// Until the queue says stop.
    pub(crate) async fn run(mut self) {
        let why = loop {
            let arrived = tokio::select! {
                Some(arrived) = self.arrivals.recv() => arrived,
                work = self.queue.work() => match work {
                    Work::Stop(why) => break why,
                    Work::Write(_) => continue,
                },
            };
            if let Some(why) = self.serve_newest(arrived).await {
                break why;
            }
        };
        self.finder.abort_all();
        self.endpoint.close(code::CLOSED, why.as_bytes());
        // The farewell has gone out when no connection is left; if it cannot go out, never mind.
        let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }

    /// Serves a connection and those that replace it; gives the reason if the link is to stop.
    async fn serve_newest(&mut self, arrived: Established) -> Option<String> {
        let mut newest = Some(Box::new(arrived));
        while let Some(mut established) = newest.take() {
            if established.greet && established.send.write_all(&GREETING).await.is_err() {
                break;
            }
            self.generation += 1;
            let generation = self.generation;
            self.queue.open(Some(generation));
            self.announcer.say(LinkEvent::Up { generation });
            let connection = established.connection.clone();
            let end = self.carry(*established).await;
            self.queue.open(None);
            let (why, stop) = match end {
                End::Down(why) => (why, None),
                End::Replaced(next) => {
                    newest = Some(next);
                    (DownReason::Replaced, None)
                }
                End::Stop(why) => (DownReason::Closed(why.clone()), Some(why)),
            };
            close(&connection, &why);
            self.announcer.say(LinkEvent::Down { generation, why });
            if stop.is_some() {
                return stop;
            }
        }
        None
    }

    /// Carries frames both ways until something ends it.
    async fn carry(&mut self, established: Established) -> End {
        let Established { connection, mut send, mut recv, greet: _ } = established;
        tokio::select! {
            // First what has arrived, then that the connection is gone.
            biased;
            why = read(&connection, &mut recv, &self.announcer) => End::Down(why),
            closing = self.queue.closing() => End::Down(match closing {
                Closing::Overflow => DownReason::Overflow,
                Closing::Reset(why) => DownReason::Closed(why),
            }),
            end = write(&mut send, &self.queue) => end,
            error = connection.closed() => End::Down(reason(error)),
            Some(next) = self.arrivals.recv() => End::Replaced(Box::new(next)),
        }
    }
}

async fn read(connection: &Connection, recv: &mut RecvStream, announcer: &Announcer) -> DownReason {
    loop {
        let mut head = [0; HEAD_BYTES];
        match recv.read_exact(&mut head).await {
            Ok(()) => {}
            Err(error) => return read_failure(connection, error).await,
        }
        let length = u32::from_be_bytes(head);
        if length as usize > MAX_FRAME_BYTES {
            return DownReason::Protocol(format!("a frame of {length} bytes"));
        }
        let Some(room) = announcer.make_room(length).await else {
            return DownReason::Closed("nobody reads".to_owned());
        };
        let mut frame = vec![0; length as usize];
        match recv.read_exact(&mut frame).await {
            Ok(()) => announcer.frame(frame, room),
            Err(error) => return read_failure(connection, error).await,
        }
    }
}

/// A stream that ends is the first half of a farewell; the reason comes with the second.
async fn read_failure(connection: &Connection, error: ReadExactError) -> DownReason {
    match error {
        ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error)) => reason(error),
        ReadExactError::FinishedEarly(0) => match timeout(FAREWELL, connection.closed()).await {
            Ok(error) => reason(error),
            Err(_) => DownReason::Protocol("the stream ended, the connection did not".to_owned()),
        },
        ReadExactError::FinishedEarly(_) => DownReason::Protocol("half a frame".to_owned()),
        ReadExactError::ReadError(error) => DownReason::Protocol(error.to_string()),
    }
}

async fn write(send: &mut SendStream, queue: &Queue) -> End {
    loop {
        match queue.work().await {
            Work::Write(batch) => {
                if let Err(error) = send.write_all(&batch).await {
                    return End::Down(match error {
                        quinn::WriteError::ConnectionLost(error) => reason(error),
                        quinn::WriteError::Stopped(_)
                        | quinn::WriteError::ClosedStream
                        | quinn::WriteError::ZeroRttRejected => {
                            DownReason::Protocol(error.to_string())
                        }
                    });
                }
            }
            Work::Stop(why) => {
                // What was written shall arrive before the farewell, which would cut it off.
                if send.finish().is_ok() {
                    let _ = timeout(FAREWELL, send.stopped()).await;
                }
                return End::Stop(why);
            }
        }
    }
}

fn reason(error: ConnectionError) -> DownReason {
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

/// Tells the peer; without effect on a connection that is gone.
fn close(connection: &Connection, why: &DownReason) {
    let (code, text) = match why {
        DownReason::Closed(why) => (code::CLOSED, why.as_str()),
        DownReason::Replaced => (code::REPLACED, "replaced by a newer connection"),
        DownReason::Overflow => (code::OVERFLOW, "you do not keep up"),
        DownReason::Protocol(what) => (code::PROTOCOL, what.as_str()),
        DownReason::Silent | DownReason::Restarted | DownReason::ClosedByPeer(_) => {
            (code::CLOSED, "")
        }
    };
    connection.close(code, text.as_bytes());
}

/// Why a side closed, for who reads a trace; the text is what counts.
mod code {
    use super::VarInt;

    pub(super) const CLOSED: VarInt = VarInt::from_u32(1);
    pub(super) const REPLACED: VarInt = VarInt::from_u32(2);
    pub(super) const OVERFLOW: VarInt = VarInt::from_u32(3);
    pub(super) const PROTOCOL: VarInt = VarInt::from_u32(4);
}

/// How long each half of a farewell may take.
const FAREWELL: Duration = Duration::from_millis(200);
