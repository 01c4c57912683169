//! `tandem keeper`: one real-time thread that drives the keeper of this machine.
//!
//! ```text
//!  twin's keeper ── UDP, each path ──┐            ┌── UDP ──> twin's keeper
//!  server ── seqpacket socket, end ──┤            ├── leases, start, kill ──> server
//!  commands ── unix socket ──────────┼─> Keeper ──┼── answers
//!  interface ── netlink ─────────────┤            ├── claim, announce, release, OPTIONS
//!  epoch file ── its thread ─────────┘            └── epochs, events, figures ──> their threads
//! ```
//!
//! Nothing in the loop waits but `poll`: the epoch file (it is synced), the events, the log (a
//! terminal may be stopped), the figures (strangers ask for them) and the services beside the server
//! have threads of their own. So heartbeats leave on time whatever the disk and they do.

mod holder;
mod http;
mod left_over;
mod metrics;
mod network;
mod operators;
mod probe;
mod process;
mod reach;
mod recorder;
mod saver;
mod service;
mod services;
mod turn;
mod voter;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tandem_keeper::Config as KeeperConfig;
use tandem_os::notify::Notify;
use tandem_os::realtime::{go_first, lock_memory};
use tandem_os::signals::Signals;
use tandem_os::{clock, realtime::Refusal};
use tandem_pair::{Config as PairConfig, Start};

use crate::config::Config;
use crate::logging::Log;
use metrics::Exhibit;
use network::Network;
use operators::Operators;
use recorder::Recorder;
use saver::Saver;
pub(crate) use saver::leap_epoch;
use service::Service;
use services::Extras;
use turn::Turner;
use voter::Voter;

/// Real-time priority of the loop: above what ordinary real-time programs take, below the kernel's.
const PRIORITY: u8 = 50;

/// Keeps until it is told to stop.
pub(crate) fn run(path: &Path, config: &Config) -> anyhow::Result<()> {
    // What `ps` and `top` call it; a refusal costs nothing else.
    let _ = rustix::thread::set_name(c"tandem-keeper");
    // Before the first thread: threads inherit what is blocked.
    let signals = Signals::open().context("cannot wait for signals")?;
    let secret = config.pair_secret()?;
    let timings = config.timings();
    timings.check().map_err(|why| anyhow!("the time-outs of this profile: {why}"))?;
    let log = Arc::new(Log::start("keeper", config.seat).context("cannot start a thread")?);
    let notify = Notify::from_environment().context("cannot talk to systemd")?;
    let (saver, saved) = Saver::start(&config.epoch_file())?;
    let network = Network::open(config, &log)?;
    let (seat, events, key) = (config.seat, config.events_folder(), secret.heartbeat_key());
    let recorder = Recorder::start(&events, seat, &key, network.ways()?, &log)?;
    let service = Service::listen(std::path::absolute(path)?, &service_socket(config))?;
    let operators = Operators::listen(&config.keeper_socket())?;
    let exhibit = Exhibit::open(config.metrics, &config.state, &log)?;
    let extras = Extras::start(&config.services, &log)?;

    let voter = Voter::start(config, &secret.witness_key(), saved.boot)?;
    let real_time = prepare(&log);
    let config = KeeperConfig {
        pair: PairConfig {
            seat: config.seat,
            timings,
            healing: config.healing,
            probe: config.interface.is_some(),
            votes: config.third.is_configured(),
            locked: saved.orders().locked,
        },
        profile: config.profile,
        real_time,
        heartbeat_key: key,
        paths: network.paths(),
        orders: saved.orders(),
    };
    let start = Start { boot: saved.boot, saved: saved.epoch };
    let keeper = tandem_keeper::Keeper::new(clock::now(), config, start);
    let turner = Turner {
        keeper,
        seat,
        log,
        recorder,
        notify,
        signals,
        saver,
        network,
        service,
        operators,
        voter,
        exhibit,
        extras,
        stopping: false,
    };
    turner.run()
}

fn service_socket(config: &Config) -> PathBuf {
    config.state.join("service.sock")
}

/// Asks the kernel for what keeps heartbeats on time, and says where it refuses. True for real time.
fn prepare(log: &Log) -> bool {
    let say = |refusal: &Refusal| log.say(&refusal.to_string());
    if let Err(refusal) = lock_memory() {
        say(&refusal);
    }
    let first = go_first(PRIORITY);
    if let Err(refusal) = &first {
        say(refusal);
        log.say("without real-time priority the time-outs are longer: a takeover takes longer");
    }
    first.is_ok()
}
