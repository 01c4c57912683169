//! How commands talk to the services: one JSON line there, one JSON line back, on a unix socket.
//!
//! `keeper.sock` takes a [`tandem_keeper::OperatorRequest`], `server.sock` a
//! [`tandem_node::Request`]. Who may open the socket may do anything: its file has mode 660 and
//! belongs to the account of the services.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Failure;

/// Bytes of a request, at most; a longer one is refused. The configuration of ten thousand users has some
/// two million.
pub(crate) const REQUEST_MAX: usize = 8 * 1024 * 1024;
/// Requests that wait for their answer at one service, at most; further ones are refused.
pub(crate) const WAITING_MAX: usize = 64;
/// Bytes of an answer, at most: a list of ten thousand users has some three million.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;
/// How long a command waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a service and waits for its answer.
pub(crate) fn ask<A: DeserializeOwned>(
    socket: &Path,
    service: &str,
    question: &impl Serialize,
) -> Result<A, Failure> {
    let line = exchange(socket, question).map_err(|error| unreachable(socket, service, &error))?;
    if let Ok(Refusal { error }) = serde_json::from_str(&line) {
        return Err(Failure::Other(anyhow!("{error}")));
    }
    let answer = serde_json::from_str(&line).with_context(|| {
        format!(
            "the {service} gave an answer that this program cannot read: is it the same version?"
        )
    });
    Ok(answer?)
}

/// What a service says to a line that it cannot take.
#[derive(Debug, serde::Deserialize, Serialize)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) error: String,
}

fn exchange(socket: &Path, question: &impl Serialize) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer)?;
    if answer.ends_with('\n') { Ok(answer) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

// The system's kinds of errors are not our enum, and have no end.
#[allow(clippy::wildcard_enum_match_arm)]
pub(crate) fn unreachable(socket: &Path, service: &str, error: &std::io::Error) -> Failure {
    let socket = socket.display();
    let why = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            let advice = match service {
                "witness" => "start it with `systemctl start tandem-witness` or `tandem witness`",
                "keeper" => "start it with `systemctl start tandem-keeper` or `tandem keeper`",
                _ => {
                    "`tandem status` shows whether the keeper is about to start it; \
                      the command works on the other machine too"
                }
            };
            format!("it is not running: {advice}")
        }
        ErrorKind::PermissionDenied => String::from(
            "you may not talk to it: run the command as root or as the services' account",
        ),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("it has not answered within {} s", PATIENCE.as_secs())
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => String::from(
            "it went away before it answered: look with `tandem status`, then try again",
        ),
        _ => error.to_string(),
    };
    Failure::Unreachable(anyhow!("the {service} of this machine ({socket}) does not answer: {why}"))
}

/// Opens the socket of a service for commands; one that an earlier life left behind is replaced.
pub(crate) fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("cannot open the socket for commands {}", socket.display());
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(what),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket).with_context(what)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660)).with_context(what)?;
    listener.set_nonblocking(true).with_context(what)?;
    Ok(listener)
}
