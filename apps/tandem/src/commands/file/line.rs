//! A connection to the server's socket for contents.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::cli::Failure;
use crate::config::Config;
use crate::control::{Refusal, unreachable};
use crate::server::files::talk::{FilesAnswer, FilesRequest};

/// How long the server may be silent: it waits for the twin meanwhile, and for its disk.
const PATIENCE: Duration = Duration::from_secs(3_700);

/// One question, and what belongs to it.
pub(super) struct Line {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Line {
    /// Connects to the server of this machine.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        Self::open_for(config, PATIENCE)
    }

    /// The same for a command that waits so long at each step, at most.
    pub(super) fn open_for(config: &Config, patience: Duration) -> Result<Self, Failure> {
        let socket = config.files_socket();
        let connect = || {
            let stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(BufReader::new(stream))
        };
        let stream = connect().map_err(|error| unreachable(&socket, "server", &error))?;
        Ok(Self { socket, stream })
    }

    /// Asks, and reads the line that comes back.
    pub(super) fn ask(&mut self, question: &FilesRequest) -> Result<FilesAnswer, Failure> {
        let mut line = serde_json::to_vec(question).context("cannot write JSON")?;
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        sent.map_err(|error| unreachable(&self.socket, "server", &error))?;
        self.answer()
    }

    /// Reads a line.
    pub(super) fn answer(&mut self) -> Result<FilesAnswer, Failure> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        let read = read.and_then(|bytes| match bytes {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        });
        read.map_err(|error| unreachable(&self.socket, "server", &error))?;
        if let Ok(Refusal { error }) = serde_json::from_str(&line) {
            return Err(Failure::Other(anyhow!("{error}")));
        }
        let answer = serde_json::from_str(&line).context(
            "the server gave an answer that this program cannot read: is it the same version?",
        );
        Ok(answer?)
    }

    /// Sends a content of so many bytes. One that becomes shorter meanwhile the server refuses.
    pub(super) fn send(&mut self, from: &mut dyn Read, bytes: u64) -> Result<(), Failure> {
        let to = self.stream.get_mut();
        std::io::copy(&mut from.take(bytes), to).context("cannot send the file to the server")?;
        let ended = to.shutdown(std::net::Shutdown::Write);
        Ok(ended.context("cannot send the file to the server")?)
    }

    /// What follows an answer.
    pub(super) const fn body(&mut self) -> &mut BufReader<UnixStream> {
        &mut self.stream
    }
}
