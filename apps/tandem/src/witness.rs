//! `tandem witness`: the third vote for many pairs, on a machine of its own.
//!
//! ```text
//!  keepers ── UDP ──> one thread: poll > Witness > the answer goes back at once
//!  status ─── unix socket ──> a short thread that only writes
//! ```
//!
//! Nothing is written to disk: what a restart forgets is covered by the silence after it.

mod file;
mod operator;

use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use tandem_os::notify::Notify;
use tandem_os::poll::{Want, poll};
use tandem_os::signals::{Signals, Wish};
use tandem_os::{clock, entropy};
use tandem_types::Instant;
use tandem_witness::{REQUEST_LENGTH, TERM_MAX, TooManyPairs, Witness, promised};

use crate::logging::Log;
use file::WitnessFile;
pub(crate) use operator::{WitnessCommand, command};

/// Datagrams read from one socket before others get their turn.
const READS_MAX: usize = 256;

/// Answers until it is told to stop.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let _ = rustix::thread::set_name(c"tandem-witness");
    // Before the first thread: threads inherit what is blocked.
    let signals = Signals::open().context("cannot wait for signals")?;
    let file = WitnessFile::load(path)?;
    let log = Log::start("witness", None).context("cannot start a thread")?;
    let notify = Notify::from_environment().context("cannot talk to systemd")?;
    let sockets = file.listen.iter().map(|address| {
        UdpSocket::bind(address)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .with_context(|| {
                format!("cannot listen at {address}: expected a free address of this machine")
            })
    });
    let sockets = sockets.collect::<anyhow::Result<Vec<_>>>()?;
    let door = operator::listen(&file.socket)
        .inspect_err(|why| log.say(&format!("goes on without `tandem witness status`: {why:#}")))
        .ok();
    let life = life()?;
    let witness = Witness::new(clock::now(), life, &file.pairs).map_err(|bad| too_many(&bad))?;
    for socket in &sockets {
        let at = socket.local_addr().context("cannot ask for the own address")?;
        log.say(&format!("listens at {at}, for {} pairs", file.pairs.len()));
    }
    let silence = promised(TERM_MAX).as_millis();
    log.say(&format!("grants nothing for {silence} ms: a promise of an earlier life may run"));
    notify.ready(&format!("votes for {} pairs", file.pairs.len()));
    Turner { path, witness, sockets, door, signals, log, notify }.run()
}

/// 64 random bits: no two lives are the same.
fn life() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    entropy::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}

fn too_many(bad: &TooManyPairs) -> anyhow::Error {
    match bad {
        TooManyPairs::Length(count) => anyhow!(
            "{count} pairs: expected at most {}; start a second witness for the others",
            tandem_witness::PAIRS_MAX
        ),
        TooManyPairs::SameKey(one, other) => {
            anyhow!("the pairs {one} and {other} have the same key: expected one name for each key")
        }
    }
}

/// The value, and everything it works with.
struct Turner<'a> {
    path: &'a Path,
    witness: Witness,
    sockets: Vec<UdpSocket>,
    door: Option<UnixListener>,
    signals: Signals,
    log: Log,
    notify: Notify,
}

impl Turner<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        let mut next_alive = clock::now();
        loop {
            let until = self.watchdog(&mut next_alive);
            let doors = self.door.iter().map(UnixListener::as_fd);
            let sources = self.sockets.iter().map(UdpSocket::as_fd).chain(doors);
            let sources = sources.chain([self.signals.as_fd()]).map(|fd| (fd, Want::Read));
            let sources: Vec<_> = sources.collect();
            let ready = poll(&sources, until).context("cannot wait")?;
            for index in (0..self.sockets.len()).filter(|index| ready.has(*index)) {
                self.answer(index);
            }
            if let Some(door) = &self.door {
                operator::accept(door, &self.witness);
            }
            while let Some(fact) = self.witness.poll_fact() {
                self.log.fact(&fact);
            }
            while let Ok(Some(wish)) = self.signals.read() {
                match wish {
                    Wish::Terminate | Wish::Interrupt => {
                        self.notify.stopping();
                        self.log.say("stopped");
                        return Ok(());
                    }
                    Wish::Reload => self.reload(),
                }
            }
        }
    }

    /// Feeds systemd's watchdog from the loop itself. When to wake up at the latest.
    fn watchdog(&self, next_alive: &mut Instant) -> Option<Instant> {
        let limit = self.notify.watchdog()?;
        let now = clock::now();
        if *next_alive <= now {
            self.notify.alive();
            *next_alive = now + limit / 3;
        }
        Some(*next_alive)
    }

    fn answer(&mut self, index: usize) {
        // One byte more than a request, so that a longer one is seen to be too long.
        let mut bytes = [0; REQUEST_LENGTH + 1];
        for _ in 0..READS_MAX {
            let Ok((length, from)) = self.sockets[index].recv_from(&mut bytes) else { return };
            if let Some(answer) = self.witness.handle(clock::now(), &bytes[..length]) {
                // An answer that does not leave is as good as lost on the way: they ask again.
                let _ = self.sockets[index].send_to(&answer, from);
            }
        }
    }

    /// Reads the pairs again. Addresses stay as they are until the next start.
    fn reload(&mut self) {
        let read = WitnessFile::load(self.path).and_then(|file| {
            let served = self.witness.serve(clock::now(), &file.pairs);
            served.map(|()| file.pairs.len()).map_err(|bad| too_many(&bad))
        });
        match read {
            Ok(count) => {
                self.log.say(&format!("read the pairs again: {count}"));
                self.notify.status(&format!("votes for {count} pairs"));
            }
            Err(why) => self.log.say(&format!("goes on with the pairs it has: {why:#}")),
        }
    }
}
