//! The line to the keeper: leases in, progress out.

use std::io::ErrorKind;
use std::path::Path;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use tandem_keeper::{KeeperMessage, ServerMessage, decode, encode};
use tandem_os::seqpacket::{Received, Stream};
use tokio::io::unix::AsyncFd;

use super::events::watch;

/// One end of the socket; the keeper listens at the other.
pub(super) struct KeeperLine(AsyncFd<Stream>);

/// What came from the keeper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// A message.
    Said(KeeperMessage),
    /// Nothing more will come: the keeper is gone, or speaks another version.
    Gone,
}

impl KeeperLine {
    /// Connects to the keeper that started us.
    pub(super) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let what = || {
            let socket = socket.display();
            format!("the keeper is not at {socket}: start `tandem keeper`, it starts the server")
        };
        let stream = Stream::connect(socket).with_context(what)?;
        watch(stream).map(Self).with_context(what)
    }

    /// The next message.
    pub(super) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            let Ok(mut ready) = ready!(self.0.poll_read_ready(cx)) else {
                return Poll::Ready(Heard::Gone);
            };
            match self.0.get_ref().receive() {
                Ok(Received::Message(bytes)) => match decode(&bytes) {
                    Ok(message) => return Poll::Ready(Heard::Said(message)),
                    Err(_) => return Poll::Ready(Heard::Gone),
                },
                Ok(Received::Nothing) => ready.clear_ready(),
                Ok(Received::Closed) | Err(_) => return Poll::Ready(Heard::Gone),
            }
        }
    }

    /// Tells the keeper. A keeper that does not read is about to be noticed by others.
    pub(super) fn say(&self, message: &ServerMessage) -> std::io::Result<()> {
        match self.0.get_ref().send(&encode(message)) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
