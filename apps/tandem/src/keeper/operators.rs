//! The keeper's socket for commands: a few connections, one question each, never waited for.
//!
//! Invariant: nobody is told that an order is done before what was ordered is on disk.

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
    /// Orders that are on their way to the disk.
    saving: usize,
    /// What is answered when they are there. Who asked is in `open`, so they are not more.
    held: BTreeMap<u64, OperatorAnswer>,
}

/// One connection.
struct Operator {
    stream: UnixStream,
    line: Vec<u8>,
}

impl Operators {
    /// Opens the socket.
    pub(super) fn listen(socket: &Path) -> anyhow::Result<Self> {
        let (open, held) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { listener: control::listen(socket)?, open, last: 0, saving: 0, held })
    }

    /// Takes new connections.
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.open.len() >= OPERATORS_MAX
                && let Some((id, _)) = self.open.pop_first()
            {
                self.held.remove(&id);
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
        self.held.remove(&id);
        None
    }

    /// Answers, and is done with that connection; what is done while orders are on their way to the
    /// disk is answered when they are there.
    pub(super) fn answer(&mut self, id: u64, answer: OperatorAnswer) {
        match answer {
            OperatorAnswer::Done if self.saving > 0 && self.open.contains_key(&id) => {
                self.held.insert(id, answer);
            }
            OperatorAnswer::Done | OperatorAnswer::Status(_) | OperatorAnswer::Refused(_) => {
                self.reply(id, &answer);
            }
        }
    }

    /// Orders are on their way to the disk.
    pub(super) fn saving(&mut self) {
        self.saving += 1;
    }

    /// They are there, or could not be saved because of this.
    pub(super) fn saved(&mut self, refused: Option<&str>) {
        self.saving = self.saving.saturating_sub(1);
        if let Some(why) = refused {
            for answer in self.held.values_mut() {
                *answer = OperatorAnswer::Refused(why.to_owned());
            }
        }
        if self.saving == 0 {
            for (id, answer) in core::mem::take(&mut self.held) {
                self.reply(id, &answer);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::path::PathBuf;

    struct Desk {
        operators: Operators,
        socket: PathBuf,
    }

    impl Desk {
        fn open(name: &str) -> Self {
            let name = format!("tandem-operators-{name}-{}", std::process::id());
            let socket = std::env::temp_dir().join(name);
            Self { operators: Operators::listen(&socket).unwrap(), socket }
        }

        /// Somebody who asks, and the number of the connection.
        fn ask(&mut self) -> (UnixStream, u64) {
            let stream = UnixStream::connect(&self.socket).unwrap();
            self.operators.accept();
            (stream, self.operators.last)
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            std::fs::remove_file(&self.socket).unwrap();
        }
    }

    fn has_answer(stream: &UnixStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        let mut byte = [0];
        rustix::net::recv(stream, &mut byte, rustix::net::RecvFlags::PEEK).is_ok()
    }

    fn answer(stream: UnixStream) -> OperatorAnswer {
        stream.set_nonblocking(false).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn done_is_said_when_it_is_on_disk() {
        let mut desk = Desk::open("done");
        let ((one, first), (other, second)) = (desk.ask(), desk.ask());
        desk.operators.saving();
        desk.operators.answer(first, OperatorAnswer::Done);
        assert!(!has_answer(&one));
        desk.operators.answer(second, OperatorAnswer::Refused(String::from("no")));
        assert_eq!(answer(other), OperatorAnswer::Refused(String::from("no")), "waits for nothing");
        desk.operators.saved(None);
        assert_eq!(answer(one), OperatorAnswer::Done);
        let (later, third) = desk.ask();
        desk.operators.answer(third, OperatorAnswer::Done);
        assert_eq!(answer(later), OperatorAnswer::Done);
    }

    #[test]
    fn what_could_not_be_saved_is_not_done() {
        let mut desk = Desk::open("refused");
        let (one, first) = desk.ask();
        desk.operators.saving();
        desk.operators.saving();
        desk.operators.answer(first, OperatorAnswer::Done);
        desk.operators.saved(Some("the disk is full"));
        assert!(!has_answer(&one), "another one is on its way");
        desk.operators.saved(None);
        assert_eq!(answer(one), OperatorAnswer::Refused(String::from("the disk is full")));
    }

    #[test]
    fn who_had_to_make_room_is_not_remembered() {
        let mut desk = Desk::open("room");
        let (_gone, first) = desk.ask();
        desk.operators.saving();
        desk.operators.answer(first, OperatorAnswer::Done);
        let _others: Vec<_> = (0..OPERATORS_MAX).map(|_| desk.ask()).collect();
        assert!(desk.operators.held.is_empty());
        desk.operators.answer(first, OperatorAnswer::Done);
        assert!(desk.operators.held.is_empty());
    }
}
