//! `tandem server`: SIP, the link to the twin, the store, and the value that connects them.
//!
//! ```text
//!  phones ── Net ─────┐                    ┌── Net ──> phones
//!  twin ──── Link ────┤  at most 256 each  ├── Link ─> twin
//!  disk ──── Store ───┼──> Node ── outputs ┼── Store > disk
//!  keeper ── leases ──┤                    ├── progress, every 20 ms, from this very loop
//!  commands ──────────┘                    └── answers
//! ```
//!
//! One thread owns the value and never waits for anything but the next event: the disk has threads
//! of its own, and sending is now or never. A loop that hangs stops telling its progress; the
//! keeper then kills the process and the twin takes over.

mod backup;
mod commands;
mod endpoints;
mod events;
pub(crate) mod files;
mod keeper_line;
mod likeness;
mod lost;
mod postgres;
mod settings;
mod suspect;
mod told;
mod turn;
mod twins;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use tandem_files::{FOLDER_NAME, Files, Folder};
use tandem_link::{Link, PairSecret};
use tandem_net::{Limits, Net};
use tandem_node::{Input, Node};
use tandem_os::{clock, entropy, signals::Signals};
use tandem_store::{Elsewhere, Loaded, Retention, Settings, Store, StoreEvent};
use tandem_types::{Dice, Duration};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::logging::Log;
use backup::BackupThread;
use endpoints::{Endpoints, SipSplit};
use events::{Disks, Events};
use keeper_line::KeeperLine;
pub(crate) use lost::LOST;
use lost::Lost;
use postgres::DatabaseThread;
pub(crate) use postgres::{
    COUNT_MAX as RECORDS_COUNTED_MAX, DatabaseTold, Journal, StoreAsk, StoreTold,
    setup as database_setup,
};
use settings::ConfigThread;
use suspect::Suspects;
use turn::{Parts, Server};
use twins::{Aside, Twins};
pub(crate) use twins::{Records as TwinRecords, TwinAsk, TwinTold};

/// Messages that wait between the sockets and the loop, at most; then the kernel's buffers fill.
const NET_EVENTS_MAX: usize = 4096;

/// The options of `tandem server`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The keeper's socket
    #[arg(long, value_name = "FILE")]
    keeper: PathBuf,
}

/// Serves until the keeper says to stop, or is gone. `path` is the file of this machine.
pub(crate) fn run(path: &Path, config: &Config, args: &ServerArgs) -> anyhow::Result<()> {
    // What `ps` and `top` call it; a refusal costs nothing else.
    let _ = rustix::thread::set_name(c"tandem-server");
    // Before the first thread: threads inherit what is blocked.
    let signals = Signals::open().context("cannot wait for signals")?;
    let log = Log::start("server", config.seat).context("cannot start a thread")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result = runtime.block_on(serve(path, config, args, signals, &log));
    if let Err(error) = &result {
        log.say(&format!("the server stops: {error:#}"));
    }
    result
}

/// How long closed calls stay on record, for the store.
fn keep_for(days: Option<u32>) -> Retention {
    Retention(days.map(|days| Duration::from_secs(u64::from(days) * 86_400)))
}

/// What the node needs of the file of this machine.
fn node_config(config: &Config, secret: &PairSecret) -> tandem_node::Config {
    tandem_node::Config {
        seat: config.seat,
        realm: config.realm.clone(),
        virtual_addresses: config.virtual_sip(),
        own_addresses: config.own_sip(),
        retry_after_seconds: config.retry_after_seconds,
        nonce_key: secret.nonce_key(),
        digest: config.digest,
        devices_per_user_max: config.devices_per_user,
        lingers: config.interface.is_some(),
    }
}

/// All of it is known before the first lease: nobody is told that there is no such user.
fn know_all(
    tables: &mut tandem_config::Config,
    node: &mut Node,
    files: &mut Files,
    lost: &mut Lost,
) {
    let now = clock::now();
    while let Some(output) = tables.poll_output() {
        // There is nobody yet to whom it could be equal.
        let _ = lost.hear(&output);
        if let tandem_config::Output::Files(rows) = &output {
            files.handle_rows(now, files::named(rows.clone()));
        }
        if let tandem_config::Output::Changed(edits) = output {
            node.handle(now, Input::Changed(edits));
        }
    }
}

/// The files of this machine.
struct Opened {
    store: Store,
    store_events: mpsc::UnboundedReceiver<StoreEvent>,
    elsewhere: Elsewhere,
    loaded: Loaded,
    tables: tandem_config::Config,
    files: Files,
    lost: Lost,
    suspects: Suspects,
    /// What was found to be wrong and has been moved aside.
    said: Vec<backup::Said>,
}

fn open_files(config: &Config) -> anyhow::Result<Opened> {
    let (stored, store_events) = mpsc::unbounded_channel();
    let report = move |event| {
        // The loop is gone only when the process ends.
        let _ = stored.send(event);
    };
    let mut said = Vec::new();
    let suspects = Suspects::find(&config.state);
    let elsewhere = Elsewhere::default();
    let (store, loaded) = lost::journal(&mut said, || {
        let settings = Settings {
            end_of: tandem_node::end_of_record,
            elsewhere: config.database.address.is_some().then(|| elsewhere.clone()),
            ..Settings::default()
        };
        Store::open(&config.state, settings, report.clone())
    })?;
    let seed = entropy::seed().context("the system gives no random numbers")?;
    let tables = lost::configuration(&config.state, &mut said, || {
        tandem_config::Config::open(&config.state, config.seat, Dice::from_seed(seed))
    })?;
    suspects.cleared(&mut said);
    let lost = Lost::find(&config.state);
    let files = config.state.join(FOLDER_NAME);
    let opened = Folder::open(&files).and_then(Files::open);
    let files = opened.with_context(|| format!("cannot use {}", files.display()))?;
    Ok(Opened { store, store_events, elsewhere, loaded, tables, files, lost, suspects, said })
}

async fn serve(
    path: &Path,
    config: &Config,
    args: &ServerArgs,
    signals: Signals,
    log: &Log,
) -> anyhow::Result<()> {
    let secret = config.pair_secret()?;
    crate::commands::check_finished(config)?;
    // Before the keeper knows us: what is wrong with a file is said before it puts an end to this process.
    let opened = open_files(config)?;
    let Opened { store, store_events, elsewhere, loaded, mut tables, mut files, mut lost, .. } =
        opened;
    let (own, peer) = config.link_ends();
    let link = tandem_link::Config::new(config.seat, own, peer, secret.clone());
    let (link, link_events) = Link::start(link).map_err(|error| anyhow!("{error}"))?;
    let (net_sender, net_events) = mpsc::channel(NET_EVENTS_MAX);
    let net = Net::new(Limits::default(), net_sender, || Box::new(SipSplit::default()));
    let endpoints = Endpoints::new(net, &config.own_sip(), &config.virtual_sip());
    let questions = commands::listen(&config.server_socket())?;
    let keeper = KeeperLine::connect(&args.keeper)?;

    let seed = entropy::seed().context("the system gives no random numbers")?;
    let now = clock::now();
    let damaged = loaded.damaged;
    let mut node = Node::new(
        now,
        node_config(config, &secret),
        Dice::from_seed(seed),
        loaded.records,
        loaded.known,
    );
    if !damaged.is_empty() {
        node.handle(now, Input::Damaged(damaged.iter().map(|one| one.stamp).collect()));
    }
    know_all(&mut tables, &mut node, &mut files, &mut lost);
    let (changed, config_events) = mpsc::unbounded_channel();
    let settings = ConfigThread::start(tables, move |output| {
        let _ = changed.send(output);
    });
    let settings = settings.context("cannot start a thread")?;
    let (files, files_events) = files::start(files, &config.files_socket())?;
    let (asides, aside_events) = mpsc::unbounded_channel();
    let twins = Twins::new(&config.state, asides.clone());
    let about_database = asides.clone();
    let database = DatabaseThread::start(config, &settings.line(), elsewhere, move |said| {
        let _ = about_database.send(Aside::Said(said));
    })?;
    let backup = BackupThread::start(config, path, move |said| {
        let _ = asides.send(Aside::Said(said));
    });
    let backup = backup.context("cannot start a thread")?;
    let disks = Disks {
        store: store_events,
        config: config_events,
        files: files_events,
        asides: aside_events,
    };
    let events = Events::new(net_events, link_events, disks, questions, keeper, signals)?;
    let parts = Parts {
        node,
        endpoints,
        link,
        store,
        settings,
        files,
        backup,
        twins,
        lost,
        suspects: opened.suspects,
        said: opened.said,
        database,
    };
    Server::new(parts, log, config.timings()).run(events).await
}
