//! One connection after the other: adopt it, carry frames, say what ended it.

use std::sync::Arc;

use quinn::{Connection, Endpoint};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::class::Class;
use crate::connect::{Established, code};
use crate::event::{Announcer, DownReason, LinkEvent};
use crate::queue::{Closing, Queue, Work};
use crate::stream::{FAREWELL, Incoming, Outgoing, reason};

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
                // Without a connection nothing waits to be written.
                work = self.queue.work(Class::Hot) => match work {
                    Work::Stop(why) => break why,
                    Work::Write(_) | Work::Long(_) => continue,
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
        while let Some(established) = newest.take() {
            let Established { connection, hot_out, hot_in } = *established;
            // At once, but with a peer that allows fewer streams.
            let opened = timeout(FAREWELL, Outgoing::open(&connection, hot_out)).await;
            let Ok(Ok(mut outgoing)) = opened else {
                connection.close(code::PROTOCOL, b"the streams cannot be opened");
                break;
            };
            let mut incoming = Incoming::new(hot_in);
            self.generation += 1;
            let generation = self.generation;
            self.queue.open(Some(generation));
            self.announcer.say(LinkEvent::Up { generation });
            let end = self.carry(&connection, &mut outgoing, &mut incoming).await;
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
    async fn carry(
        &mut self,
        connection: &Connection,
        outgoing: &mut Outgoing,
        incoming: &mut Incoming,
    ) -> End {
        tokio::select! {
            // First what has arrived, then that the connection is gone.
            biased;
            why = incoming.carry(connection, &self.announcer) => End::Down(why),
            closing = self.queue.closing() => End::Down(match closing {
                Closing::Overflow => DownReason::Overflow,
                Closing::Reset(why) => DownReason::Closed(why),
            }),
            written = outgoing.carry(&self.queue) => match written {
                Ok(why) => End::Stop(why),
                Err(why) => End::Down(why),
            },
            error = connection.closed() => End::Down(reason(error)),
            Some(next) = self.arrivals.recv() => End::Replaced(Box::new(next)),
        }
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
