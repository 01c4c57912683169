//! What the administrator of a witness does: add pairs, look. And of a pair: read its key.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use tandem_os::clock;
use tandem_witness::{Counters, PairStatus, Witness};

use super::file::{DEFAULT_WITNESS_PATH, WitnessFile, add};
use crate::cli::{Failure, Json};
use crate::commands::{Table, print_json};
use crate::config::Config;
use crate::control;

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    /// At a witness: serve one more pair (then: systemctl reload tandem-witness)
    Add {
        /// Any name for the pair: letters, digits, dashes, underscores
        name: String,
        /// What `tandem witness key` printed there; `-` reads it from the standard input
        key: String,
    },
    /// At a witness: show who has the vote of each pair, and what else came
    Status(Json),
    /// On a machine of a pair: print the key that its witness must know
    Key,
}

/// Connections that are being answered at a time; further ones are closed.
const ANSWERS_MAX: usize = 8;
/// How long one who asks may take to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a question that are read.
const QUESTION_MAX: u64 = 64;

static ANSWERS: AtomicUsize = AtomicUsize::new(0);

/// What `tandem witness status` shows.
#[derive(Debug, Deserialize, Serialize)]
struct Status {
    pairs: Vec<PairStatus>,
    counters: Counters,
}

/// `tandem witness` with one of its commands; without one it is the service itself.
pub(crate) fn command(config: &Path, command: Option<WitnessCommand>) -> Result<(), Failure> {
    // A witness has a file of its own, with a place of its own where none is named.
    let usual = config == Path::new(crate::config::DEFAULT_PATH);
    let file = if usual { Path::new(DEFAULT_WITNESS_PATH) } else { config };
    match command {
        None => Ok(super::run(file)?),
        Some(WitnessCommand::Add { name, key }) => {
            let code = if key == "-" { read_code()? } else { key };
            add(file, &name, &code)?;
            println!(
                "{name} added to {}\n\nLet the witness read it: systemctl reload tandem-witness",
                file.display()
            );
            Ok(())
        }
        Some(WitnessCommand::Status(json)) => status(file, json),
        Some(WitnessCommand::Key) => {
            let config = Config::load(config).map_err(Failure::Config)?;
            let key = config.pair_secret().map_err(Failure::Config)?.witness_key().to_code();
            println!(
                "Witness key of this pair (with it one can only vote, or forge votes):\n\n    {key}\n\n\
                 On the witness's machine run:\n\n    tandem witness add NAME {key}"
            );
            Ok(())
        }
    }
}

fn read_code() -> anyhow::Result<String> {
    let mut code = String::new();
    std::io::stdin().lock().take(1024).read_to_string(&mut code).context("cannot read the key")?;
    Ok(code)
}

/// Opens the socket of the status; its folder is made where that is possible.
pub(super) fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        // Whether it is there shows in the next line.
        let _ = std::fs::create_dir(folder);
    }
    control::listen(socket)
}

/// Answers whoever knocks, in a thread of its own: a reader that stands still holds up nobody.
pub(super) fn accept(door: &UnixListener, witness: &Witness) {
    while let Ok((stream, _)) = door.accept() {
        if ANSWERS.fetch_add(1, Ordering::Relaxed) >= ANSWERS_MAX {
            ANSWERS.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let status = Status { pairs: witness.status(clock::now()), counters: witness.counters() };
        let thread = std::thread::Builder::new().name(String::from("status"));
        let started = thread.spawn(move || {
            // Who does not read the answer loses it.
            let _ = tell(stream, &status);
            ANSWERS.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            ANSWERS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn tell(mut stream: UnixStream, status: &Status) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // There is one question only; but who closes without having read it breaks the connection.
    let mut question = String::new();
    BufReader::new((&mut stream).take(QUESTION_MAX)).read_line(&mut question)?;
    let mut line = serde_json::to_vec(status)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn status(file: &Path, json: Json) -> Result<(), Failure> {
    let file = WitnessFile::load(file).map_err(Failure::Config)?;
    let status: Status = control::ask(&file.socket, "witness", &"status")?;
    if json.json {
        return print_json(&status);
    }
    let mut table =
        Table::new(&["PAIR", "VOTE", "LEFT", "HIGHEST REIGN", "MASTER HEARD", "STANDBY HEARD"]);
    for row in status.pairs {
        let ago = |heard: Option<Duration>| {
            heard.map_or_else(|| String::from("never"), |ago| format!("{} s ago", ago.as_secs()))
        };
        let free = || (String::from("free"), String::new());
        let held = |seat| (format!("{seat}"), format!("{} ms", row.left.as_millis()));
        let (holder, left) = row.holder.map_or_else(free, held);
        let reign = row.highest.to_string();
        table.row([row.name, holder, left, reign, ago(row.master_heard), ago(row.standby_heard)]);
    }
    print!("{table}");
    let Counters { hellos, granted, refused, released, repeated, strangers, forged, garbage } =
        status.counters;
    println!(
        "\nSince the start: {hellos} hellos, {granted} granted, {refused} refused, {released} given \
         back, {repeated} repeated; not answered: {strangers} of strangers, {forged} forged, \
         {garbage} garbage"
    );
    Ok(())
}
