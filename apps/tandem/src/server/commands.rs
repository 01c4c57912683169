//! The server's socket for commands: a task for each connection, one question each.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tandem_config::{Ask, Told};
use tandem_node::{Reply, Request};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};

use super::postgres::{StoreAsk, StoreTold};
use super::twins::{TwinAsk, TwinTold};
use crate::control::{self, REQUEST_MAX, Refusal, WAITING_MAX};

/// How long a request may take to arrive, and its answer to be made.
const PATIENCE: Duration = Duration::from_secs(9);
/// Pause after the system refused to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a command may want.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Wanted {
    /// Of the node.
    Node(Request),
    /// Of the configuration.
    Config(Ask),
    /// About the twin.
    Twin(TwinAsk),
    /// About the database.
    Store(StoreAsk),
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Node(Reply),
    Config(Told),
    Twin(TwinTold),
    Store(StoreTold),
}

/// A request with the way back.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) wanted: Wanted,
    /// Whose command it is.
    pub(super) author: String,
    pub(super) back: oneshot::Sender<Answer>,
}

/// Opens the socket; requests arrive at the receiver.
pub(super) fn listen(socket: &Path) -> anyhow::Result<mpsc::Receiver<Question>> {
    let listener = UnixListener::from_std(control::listen(socket)?)
        .with_context(|| format!("cannot wait on {}", socket.display()))?;
    let (sender, questions) = mpsc::channel(WAITING_MAX);
    tokio::spawn(accept(listener, sender));
    Ok(questions)
}

async fn accept(listener: UnixListener, sender: mpsc::Sender<Question>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sender = sender.clone();
                tokio::spawn(async move {
                    // Who goes away while asking needs no answer.
                    let _ = timeout(PATIENCE * 2, answer(stream, sender)).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn answer(stream: UnixStream, sender: mpsc::Sender<Question>) -> std::io::Result<()> {
    let author = author(stream.peer_cred()?.uid());
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let most = u64::try_from(REQUEST_MAX).unwrap_or(u64::MAX);
    BufReader::new(read.take(most)).read_line(&mut line).await?;
    let mut answer = match ask(&line, author, &sender).await {
        Ok(reply) => serde_json::to_vec(&reply)?,
        Err(error) => serde_json::to_vec(&Refusal { error })?,
    };
    answer.push(b'\n');
    write.write_all(&answer).await
}

/// The name of a user of this machine.
fn author(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    };
    users.lines().find_map(of).unwrap_or_else(|| format!("uid {uid}"))
}

async fn ask(
    line: &str,
    author: String,
    sender: &mpsc::Sender<Question>,
) -> Result<Answer, String> {
    let wanted = serde_json::from_str(line)
        .map_err(|error| format!("the server does not know this request: {error}"))?;
    let (back, reply) = oneshot::channel();
    sender
        .try_send(Question { wanted, author, back })
        .map_err(|_| format!("{WAITING_MAX} requests wait already: try again in a moment"))?;
    match timeout(PATIENCE, reply).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) | Err(_) => Err(String::from(
            "no answer: neither this server nor its twin is active, or the link between them is \
             down; look with `tandem status`",
        )),
    }
}
