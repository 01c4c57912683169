//! Turns `host:port` into addresses, in a thread: a name server may take seconds.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::bell::Bell;

/// Looks one name up, again and again.
#[derive(Debug)]
pub(crate) struct Resolver {
    orders: SyncSender<()>,
    found: Receiver<Result<Vec<SocketAddr>, String>>,
    bell: Bell,
}

impl Resolver {
    /// Looks up at once, and rings when done.
    pub(crate) fn start(name: String, bell: Bell) -> io::Result<Self> {
        let (orders, inbox) = sync_channel::<()>(1);
        let (outbox, found) = sync_channel(1);
        let rings = bell.clone();
        let look_up = move || {
            loop {
                let result = name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
                let result = result.map_err(|error| format!("{name} is not found: {error}"));
                if outbox.send(result).is_err() {
                    return;
                }
                rings.ring();
                if inbox.recv().is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(String::from("resolver")).spawn(look_up)?;
        Ok(Self { orders, found, bell })
    }

    /// Looks up once more; nothing where it is at it.
    pub(crate) fn again(&self) {
        match self.orders.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// What was found, if something was since the last call.
    pub(crate) fn found(&self) -> Option<Result<Vec<SocketAddr>, String>> {
        self.bell.silence();
        self.found.try_recv().ok()
    }
}
