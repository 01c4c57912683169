//! The keeper's socket for commands: a few connections, one question each, never waited for.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use tandem_keeper::{OperatorAnswer, OperatorRequest};

use crate::control::{self, REQUEST_MAX, Refusal};

/// Connections at a time; the oldest makes room for a new one.
pub(super) const OPERATORS_MAX: usize = 16;

/// Everybody who asks.
pub(super) struct Operators {
    listener: UnixListener,
    open: BTreeMap<u64, Operator>,
    last: u64,
}

/// One connection.
struct Operator {
    stream: UnixStream,
    line: Vec<u8>,
}

impl Operators {
    /// Opens the socket.
    pub(super) fn listen(socket: &Path) -> anyhow::Result<Self> {
        Ok(Self { listener: control::listen(socket)?, open: BTreeMap::new(), last: 0 })
    }

    /// Takes new connections.
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.open.len() >= OPERATORS_MAX {
                self.open.pop_first();
            }
            self.last += 1;
            self.open.insert(self.last, Operator { stream, line: Vec::new() });
        }
    }

    /// Reads from one connection; its question, once that is whole.
    pub(super) fn read(&mut self, id: u64) -> Option<OperatorRequest> {
        let operator = self.open.get_mut(&id)?;
        let mut bytes = [0; 4096];
        loop {
            match operator.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => operator.line.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => break,
            }
            if operator.line.len() > REQUEST_MAX {
                break;
            }
            if operator.line.ends_with(b"\n") {
                return match serde_json::from_slice(&operator.line) {
                    Ok(request) => Some(request),
                    Err(error) => {
                        let error = format!("the keeper does not know this request: {error}");
                        self.reply(id, &Refusal { error });
                        None
                    }
                };
            }
        }
        self.open.remove(&id);
        None
    }

    /// Answers, and is done with that connection.
    pub(super) fn answer(&mut self, id: u64, answer: &OperatorAnswer) {
        self.reply(id, answer);
    }

    fn reply(&mut self, id: u64, answer: &impl serde::Serialize) {
        let Some(mut operator) = self.open.remove(&id) else { return };
        if let Ok(mut line) = serde_json::to_vec(answer) {
            line.push(b'\n');
            // An answer is smaller than the socket's buffer; who does not take it loses it.
            let _ = operator.stream.write_all(&line);
        }
    }

    /// Where connections arrive.
    pub(super) fn door(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The connections.
    pub(super) fn sources(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.open.iter().map(|(id, operator)| (*id, operator.stream.as_fd()))
    }
}
