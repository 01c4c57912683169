//! Connections: one task each, all in one table.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_types::{Duration, Flow, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::{Limits, MakeSplit, NetEvent, Piece, SendError, Split};
use crate::socket;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Pause after the system refused to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The table of connections; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    table: Arc<Mutex<Table>>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, Connection>,
    /// The connection to send on; the newest where there are two with the same ends.
    by_flow: BTreeMap<Flow, u64>,
    /// Inbound ones.
    per_source: BTreeMap<IpAddr, usize>,
    last_number: u64,
}

#[derive(Debug)]
struct Connection {
    flow: Flow,
    inbound: bool,
    outbox: mpsc::UnboundedSender<Vec<u8>>,
    queued: usize,
    /// Ends the task, with the reason.
    close: oneshot::Sender<&'static str>,
}

/// What the task of a connection works with.
struct Wire {
    number: u64,
    flow: Flow,
    split: Box<dyn Split>,
    inbox: mpsc::UnboundedReceiver<Vec<u8>>,
    closing: oneshot::Receiver<&'static str>,
    connections: Connections,
    events: mpsc::Sender<NetEvent>,
    /// When an inbound connection must have brought a message.
    first_message_by: Option<Instant>,
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { table: Arc::default(), limits }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Queues bytes for the flow's connection. False where there is none.
    pub(crate) fn send(&self, flow: Flow, bytes: &[u8]) -> Result<bool, SendError> {
        let mut table = self.lock();
        let number = table.by_flow.get(&flow).copied();
        match number {
            Some(number) => table.queue(number, bytes, self.limits.queue_bytes).map(|()| true),
            None => Ok(false),
        }
    }

    /// Opens a connection; what is sent meanwhile waits for it.
    pub(crate) fn open(
        &self,
        flow: Flow,
        from: TcpSocket,
        make_split: &MakeSplit,
        events: mpsc::Sender<NetEvent>,
    ) -> Result<(), SendError> {
        let wire = self.register(flow, false, make_split, events);
        let wire = wire.ok_or(SendError::TooManyConnections)?;
        tokio::spawn(wire.open(from, self.limits.connect));
        Ok(())
    }

    /// Closes every connection of a listener.
    pub(crate) fn close_all(&self, local: SocketAddr, why: &'static str) {
        let mut table = self.lock();
        let ours = table.open.iter().filter(|(_, connection)| connection.flow.local == local);
        let numbers: Vec<u64> = ours.map(|(number, _)| *number).collect();
        for number in numbers {
            table.close(number, why);
        }
    }

    /// A new line in the table; `None` beyond the limits.
    fn register(
        &self,
        flow: Flow,
        inbound: bool,
        make_split: &MakeSplit,
        events: mpsc::Sender<NetEvent>,
    ) -> Option<Wire> {
        let mut table = self.lock();
        if table.open.len() >= self.limits.connections {
            return None;
        }
        if inbound {
            let count = table.per_source.entry(flow.remote.ip()).or_default();
            if *count >= self.limits.connections_per_source {
                return None;
            }
            *count += 1;
        }
        table.last_number += 1;
        let number = table.last_number;
        let (outbox, inbox) = mpsc::unbounded_channel();
        let (close, closing) = oneshot::channel();
        table.open.insert(number, Connection { flow, inbound, outbox, queued: 0, close });
        table.by_flow.insert(flow, number);
        let first_message_by = inbound.then(|| Instant::now() + self.limits.first_message);
        let (split, connections) = (make_split(), self.clone());
        Some(Wire { number, flow, split, inbox, closing, connections, events, first_message_by })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code that holds the lock can leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn queue(&mut self, number: u64, bytes: &[u8], max: usize) -> Result<(), SendError> {
        let Some(connection) = self.open.get_mut(&number) else { return Ok(()) };
        if connection.queued + bytes.len() > max {
            self.close(number, "the other side reads too slowly");
            return Err(SendError::TooSlow);
        }
        connection.queued += bytes.len();
        // Where the task has just ended, its own report says so.
        let _ = connection.outbox.send(bytes.to_vec());
        Ok(())
    }

    /// Ends a connection from our side.
    fn close(&mut self, number: u64, why: &'static str) {
        if let Some(connection) = self.forget(number) {
            // Where the task has just ended, it closed the connection itself.
            let _ = connection.close.send(why);
        }
    }

    fn forget(&mut self, number: u64) -> Option<Connection> {
        let connection = self.open.remove(&number)?;
        if self.by_flow.get(&connection.flow) == Some(&number) {
            self.by_flow.remove(&connection.flow);
        }
        let source = connection.flow.remote.ip();
        if connection.inbound
            && let Some(count) = self.per_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        Some(connection)
    }
}

/// Accepts connections until aborted.
pub(crate) async fn accept(
    listener: TcpListener,
    local: SocketAddr,
    connections: Connections,
    make_split: MakeSplit,
    events: mpsc::Sender<NetEvent>,
) {
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let flow = Flow { transport: Transport::Tcp, local, remote };
        // Beyond the limits the stream is dropped here, which closes it.
        if let Some(wire) = connections.register(flow, true, &make_split, events.clone()) {
            tokio::spawn(wire.run(stream, true));
        }
    }
}

impl Wire {
    /// Connects, then runs.
    async fn open(mut self, from: TcpSocket, connect_max: Duration) {
        let connected = tokio::select! {
            connected = timeout(connect_max, from.connect(self.flow.remote)) => match connected {
                Ok(connected) => connected.map_err(|error| error.to_string()),
                Err(_) => Err(String::from("no answer to the attempt to connect")),
            },
            why = &mut self.closing => Err(reason(why)),
        };
        match connected {
            Ok(stream) => self.run(stream, false).await,
            Err(why) => {
                self.connections.lock().forget(self.number);
                let _ = self.events.send(NetEvent::Failed { flow: self.flow, why }).await;
            }
        }
    }

    /// From open to closed.
    async fn run(mut self, stream: TcpStream, inbound: bool) {
        // Without these options it works, only later.
        let _ = socket::prepare(&stream);
        let (number, flow) = (self.number, self.flow);
        let (mut from, mut to) = stream.into_split();
        let reading =
            Reading { number, flow, connections: &self.connections, events: &self.events };
        let why = if self.events.send(NetEvent::Opened { flow, inbound }).await.is_ok() {
            tokio::select! {
                why = reading.read(&mut from, self.split.as_mut(), self.first_message_by) => why,
                why = write(&mut to, &mut self.inbox, number, &self.connections) => why,
                why = &mut self.closing => reason(why),
            }
        } else {
            String::from(NOBODY)
        };
        let last = self.connections.lock().forget(number);
        if last.is_some_and(|connection| connection.queued > 0) {
            let _ = self.events.send(NetEvent::Failed { flow, why: why.clone() }).await;
        }
        let _ = self.events.send(NetEvent::Closed { flow, why }).await;
    }
}

/// Why somebody on our side closed the connection.
fn reason(why: Result<&'static str, oneshot::error::RecvError>) -> String {
    String::from(why.unwrap_or(NOBODY))
}

/// The server's loop ended before its connections did.
const NOBODY: &str = "the server stops";

struct Reading<'a> {
    number: u64,
    flow: Flow,
    connections: &'a Connections,
    events: &'a mpsc::Sender<NetEvent>,
}

impl Reading<'_> {
    /// Reads until something ends the connection; says what.
    async fn read(
        &self,
        from: &mut OwnedReadHalf,
        split: &mut dyn Split,
        mut first_message_by: Option<Instant>,
    ) -> String {
        let mut buffer = vec![0; READ_BYTES];
        let mut pieces = Vec::new();
        loop {
            let read = match first_message_by {
                Some(by) => match timeout_at(by, from.read(&mut buffer)).await {
                    Ok(read) => read,
                    Err(_) => return String::from("no message in time"),
                },
                None => from.read(&mut buffer).await,
            };
            match read {
                Ok(0) => return String::from("closed by the other side"),
                Ok(length) => split.split(&buffer[..length], &mut pieces),
                Err(error) => return error.to_string(),
            }
            for piece in pieces.drain(..) {
                match piece {
                    Piece::Message(bytes) => {
                        first_message_by = None;
                        let event = NetEvent::Bytes { flow: self.flow, bytes };
                        if self.events.send(event).await.is_err() {
                            return String::from(NOBODY);
                        }
                    }
                    Piece::Reply(bytes) => {
                        let max = self.connections.limits.queue_bytes;
                        let queued = self.connections.lock().queue(self.number, bytes, max);
                        if let Err(error) = queued {
                            return error.to_string();
                        }
                    }
                    Piece::Broken(why) => return why.to_owned(),
                }
            }
        }
    }
}

/// Writes what is queued until something ends the connection; says what.
async fn write(
    to: &mut OwnedWriteHalf,
    inbox: &mut mpsc::UnboundedReceiver<Vec<u8>>,
    number: u64,
    connections: &Connections,
) -> String {
    while let Some(bytes) = inbox.recv().await {
        if let Err(error) = to.write_all(&bytes).await {
            return error.to_string();
        }
        if let Some(connection) = connections.lock().open.get_mut(&number) {
            connection.queued -= bytes.len();
        }
    }
    // Taken out of the table: the reason comes by the other channel.
    std::future::pending().await
}
