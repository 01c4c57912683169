//! The server process of this machine, and the line to it.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tandem_keeper::{Exit, KeeperMessage, ServerMessage, decode, encode};
use tandem_os::child::{self, Child, Output, Stop};
use tandem_os::seqpacket::{Listener, Received, Stream};

/// Messages read before others get their turn.
const READS_MAX: usize = 64;

/// The server as a process.
pub(super) struct Service {
    config: PathBuf,
    socket: PathBuf,
    listener: Listener,
    child: Option<Child>,
    line: Option<Stream>,
}

/// What was heard on the line.
pub(super) enum Heard {
    Said(ServerMessage),
    Closed,
}

impl Service {
    /// Opens the socket that the server will connect to.
    pub(super) fn listen(config: PathBuf, socket: &Path) -> anyhow::Result<Self> {
        let listener = Listener::bind(socket).with_context(|| {
            format!("cannot listen at {}: is another keeper running?", socket.display())
        })?;
        let socket = socket.to_owned();
        Ok(Self { config, socket, listener, child: None, line: None })
    }

    /// Starts the process. Its id, or how it ended at once.
    pub(super) fn start(&mut self) -> Result<u32, Exit> {
        // What runs here and now, also where an upgrade has replaced the file.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("tandem").arg("--config").arg(&self.config);
        command.arg("server").arg("--keeper").arg(&self.socket).stdin(Stdio::null());
        self.line = None;
        match Child::spawn(&mut command, Output::Inherit) {
            Ok(child) => Ok(self.child.insert(child).id()),
            Err(error) => Err(Exit::NotStarted(error.to_string())),
        }
    }

    /// Ends the process.
    pub(super) fn kill(&self, hard: bool) {
        if let Some(child) = &self.child {
            // One that cannot be signalled has ended.
            let _ = child.stop(if hard { Stop::Kill } else { Stop::Ask });
        }
    }

    /// Tells the server, if it listens.
    pub(super) fn tell(&self, message: &KeeperMessage) {
        if let Some(line) = &self.line {
            let _ = line.send(&encode(message));
        }
    }

    /// How the process ended, if it has.
    pub(super) fn ended(&mut self) -> Option<Exit> {
        let exit = self.child.as_mut()?.reap().ok()??;
        self.child = None;
        self.line = None;
        Some(match exit {
            child::Exit::Code(code) => Exit::Code(code),
            child::Exit::Signal(signal) => Exit::Signal(signal),
        })
    }

    /// Takes the server's connection. Nobody else's.
    pub(super) fn accept(&mut self) {
        while let Ok(Some(stream)) = self.listener.accept() {
            let process = stream.peer().ok().and_then(|peer| u32::try_from(peer.process).ok());
            if process.is_some() && process == self.child.as_ref().map(Child::id) {
                self.line = Some(stream);
            }
        }
    }

    /// What the server said since the last call.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while heard.len() < READS_MAX
            && let Some(line) = &self.line
        {
            let said = match line.receive() {
                Ok(Received::Message(bytes)) => decode(&bytes).ok(),
                Ok(Received::Nothing) => break,
                Ok(Received::Closed) | Err(_) => None,
            };
            // A server that speaks another version is as good as gone: it is started anew.
            if said.is_none() {
                self.line = None;
            }
            heard.push(said.map_or(Heard::Closed, Heard::Said));
        }
        heard
    }

    /// Where connections arrive.
    pub(super) fn door(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Where the process's end is told.
    pub(super) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(Child::as_fd)
    }

    /// Where the server speaks.
    pub(super) fn line(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(Stream::as_fd)
    }
}
