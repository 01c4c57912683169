//! One machine: power, clock, disk, and the two processes with what waits for them.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;

use rusqlite::Connection;
use tandem_config::Config;
use tandem_journal::{Known, Record};
use tandem_keeper::pair::{Healing, Profile, Sabotage as PairSabotage, Start, Timings};
use tandem_keeper::{Keeper, Progress};
use tandem_node::{Node, Standing};
use tandem_store::tables::Tables;
use tandem_types::{Dice, Duration, Epoch, Instant, Seat};
use tandem_witness::Side;

use crate::disk::Disk;
use crate::operator::Orders;
use crate::voter::Asker;

/// What the world lays down for every run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who stays after a split.
    pub healing: Healing,
    /// Whether there is a third voter: then two of three votes are needed to serve.
    pub votes: bool,
    /// Whether there is a gateway that a machine can ask whether it reaches anybody.
    pub gateway: bool,
    /// The third voter's promises end before the rights that rest on them.
    pub hasty_voter: bool,
    /// Which rule the servers break on purpose.
    pub node_sabotage: Option<tandem_node::Sabotage>,
    /// Which rules the keepers break on purpose.
    pub pair_sabotage: PairSabotage,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            healing: Healing::LiveCalls,
            votes: false,
            gateway: false,
            hasty_voter: false,
            node_sabotage: None,
            pair_sabotage: PairSabotage {
                skip_saving_epochs: false,
                accept_late_heartbeats: false,
            },
        }
    }
}

/// The addresses of the world.
pub(crate) const REALM: &str = "tandem.example";
/// Shared by both machines' keepers.
const HEARTBEAT_KEY: [u8; 32] = [7; 32];
/// Shared by both servers.
const NONCE_KEY: [u8; 32] = [9; 32];
/// Devices one user may log in.
const DEVICES_MAX: usize = 4;
/// 2026-11-22, in microseconds since 1970: when every run begins.
const WALL_START: i64 = 1_795_000_000_000_000;

/// Where phones find the active server.
pub(crate) fn virtual_address() -> SocketAddr {
    ([10, 0, 0, 10], 5060).into()
}

/// Where a machine's server is, whatever its role.
pub(crate) fn own_address(machine: usize) -> SocketAddr {
    ([10, 0, 0, if machine == 0 { 11 } else { 12 }], 5060).into()
}

/// Where a machine's keeper asks from.
pub(crate) fn probe_address(machine: usize) -> SocketAddr {
    (own_address(machine).ip(), 5099).into()
}

/// The keeper process.
#[derive(Debug)]
pub(crate) struct KeeperProcess {
    pub(crate) keeper: Keeper,
    /// Tells it from those before it.
    pub(crate) life: u64,
    /// Held up: what comes waits.
    pub(crate) stalled: bool,
    pub(crate) inbox: VecDeque<tandem_keeper::Input>,
    /// Its end of the road to the third voter, where there is one.
    pub(crate) asker: Option<Asker>,
}

/// What waits for a server process.
#[derive(Clone, Debug)]
pub(crate) enum ServerInput {
    Node(tandem_node::Input),
    /// What the twin says of the configuration.
    Config(Vec<u8>),
    /// Asked to stop.
    Stop,
}

/// The server process.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pub(crate) node: Node,
    pub(crate) config: Config,
    pub(crate) life: u64,
    /// Held up or hanging: what comes waits.
    pub(crate) stalled: bool,
    pub(crate) inbox: VecDeque<ServerInput>,
    /// Whether the virtual address is bound.
    pub(crate) bound: bool,
    pub(crate) turns: u64,
    pub(crate) next_progress: Instant,
    pub(crate) next_wall: Instant,
    pub(crate) next_phones: Instant,
    pub(crate) told: Option<Standing>,
    /// The end of the newest lease it was given, by this machine's clock.
    pub(crate) lease_until: Instant,
}

/// One machine of the pair.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) seat: Seat,
    pub(crate) powered: bool,
    /// This machine's clock shows more than the world's.
    pub(crate) clock_ahead: Duration,
    /// Its wall clock is off by so many microseconds.
    pub(crate) wall_error: i64,
    pub(crate) disk: Disk,
    /// The configuration on its disk, while no process has it.
    tables: Option<Tables>,
    /// On disk.
    pub(crate) saved_epoch: Epoch,
    /// On disk, too.
    pub(crate) orders: Orders,
    boot: u64,
    pub(crate) keeper: Option<KeeperProcess>,
    pub(crate) server: Option<ServerProcess>,
    /// Counts processes of this machine.
    pub(crate) lives: u64,
    /// The life of the server process that is being started.
    pub(crate) starting: Option<u64>,
    /// It is held up until then, or its keeper lets the server rest because it failed too often.
    pub(crate) rests_until: Instant,
    /// Whether the kernel has the virtual address.
    pub(crate) holds_address: bool,
    pub(crate) carrier: bool,
    pub(crate) dice: Dice,
}

/// The configuration of a machine that was never started: the real tables, in memory.
fn tables(seat: Seat, dice: &mut Dice) -> Tables {
    let setup = Config::setup(seat, dice);
    let connection = Connection::open_in_memory().expect("there is memory");
    Tables::on(connection, Path::new("config.db"), &setup)
        .expect("an empty database is one of ours")
}

impl Machine {
    pub(crate) fn new(seat: Seat, mut dice: Dice) -> Self {
        let disk_dice = Dice::from_number(dice.next_u64());
        let wall_error = i64::try_from(dice.below(80_000)).unwrap_or(0) - 40_000;
        Self {
            seat,
            powered: false,
            clock_ahead: Duration::ZERO,
            wall_error,
            disk: Disk::new(disk_dice),
            tables: None,
            saved_epoch: Epoch::NEVER,
            orders: Orders::default(),
            boot: 0,
            keeper: None,
            server: None,
            lives: 0,
            starting: None,
            rests_until: Instant::ZERO,
            holds_address: false,
            carrier: true,
            dice,
        }
    }

    /// What this machine's monotonic clock shows.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        now + self.clock_ahead
    }

    /// What this machine's wall clock shows, in microseconds since 1970.
    pub(crate) fn wall(&self, now: Instant) -> i64 {
        let since = i64::try_from(now.as_micros()).unwrap_or(0);
        WALL_START + since + self.wall_error
    }

    /// The machine starts: its clock begins anew.
    pub(crate) fn power_on(&mut self) {
        self.powered = true;
        self.clock_ahead = Duration::from_micros(5_000_000 + self.dice.below(90_000_000));
    }

    /// The keeper process starts.
    pub(crate) fn start_keeper(&mut self, now: Instant, rules: &Rules) {
        self.boot += 1;
        self.lives += 1;
        let timings = Timings::of(Profile::Default);
        let orders = self.orders.read(self.wall(now));
        let pair = tandem_keeper::pair::Config {
            seat: self.seat,
            timings,
            healing: rules.healing,
            probe: true,
            votes: rules.votes,
            locked: orders.locked,
        };
        let config = tandem_keeper::Config {
            pair,
            profile: Profile::Default,
            real_time: true,
            heartbeat_key: HEARTBEAT_KEY,
            paths: 1,
            orders,
        };
        let start = Start { boot: self.boot, saved: self.saved_epoch };
        let mut keeper = Keeper::new(self.local(now), config, start);
        keeper.sabotage(rules.pair_sabotage);
        let side = Side { seat: self.seat, life: self.boot };
        let asker = rules.votes.then(|| Asker::new(self.local(now), side));
        self.keeper = Some(KeeperProcess {
            keeper,
            life: self.lives,
            stalled: false,
            inbox: VecDeque::new(),
            asker,
        });
    }

    /// The server process has read its disk.
    pub(crate) fn start_server(&mut self, now: Instant, life: u64, index: usize, rules: &Rules) {
        let config = tandem_node::Config {
            seat: self.seat,
            realm: REALM.to_owned(),
            virtual_addresses: vec![virtual_address()],
            own_addresses: vec![own_address(index)],
            retry_after_seconds: 1,
            nonce_key: NONCE_KEY,
            digest: tandem_node::Digest::Both,
            devices_per_user_max: DEVICES_MAX,
            lingers: true,
        };
        let (records, known): (Vec<Record>, Known) = self.disk.load(self.wall(now));
        let dice = Dice::from_number(self.dice.next_u64());
        let local = self.local(now);
        let mut node = Node::new(local, config, dice, records, known);
        node.sabotage(rules.node_sabotage);
        let tables = self.tables.take().unwrap_or_else(|| tables(self.seat, &mut self.dice));
        let config = Config::on(tables, Dice::from_number(self.dice.next_u64()));
        let config = config.expect("a database in memory can be read");
        self.server = Some(ServerProcess {
            node,
            config,
            life,
            stalled: false,
            inbox: VecDeque::new(),
            bound: false,
            turns: 0,
            next_progress: local,
            next_wall: local,
            next_phones: local,
            told: None,
            lease_until: Instant::ZERO,
        });
    }

    /// The configuration on its disk; `None`: there never was one.
    pub(crate) fn tables(&self) -> Option<&Tables> {
        match &self.server {
            Some(server) => Some(server.config.tables()),
            None => self.tables.as_ref(),
        }
    }

    /// The names that somebody can log in with.
    pub(crate) fn users_on_disk(&self) -> BTreeSet<String> {
        let read = |tables: &Tables| -> rusqlite::Result<BTreeSet<String>> {
            let mut names = tables.reader().prepare(
                "SELECT name FROM logins JOIN users ON users.id = logins.user_id
                 WHERE logins.deleted = 0 AND users.deleted = 0",
            )?;
            names.query_map([], |row| row.get(0))?.collect()
        };
        self.tables().and_then(|tables| read(tables).ok()).unwrap_or_default()
    }

    /// The server's process is gone.
    pub(crate) fn end_server(&mut self) {
        // What is committed is on disk, whatever ends the process.
        if let Some(server) = self.server.take() {
            self.tables = Some(server.config.into_tables());
        }
        self.starting = None;
    }
}

impl ServerProcess {
    /// When it has something to do by itself.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.stalled {
            return None;
        }
        let own = self.next_progress.min(self.next_wall);
        let others = [self.node.next_timeout(), self.config.next_timeout()];
        Some(others.into_iter().flatten().fold(own, Instant::min))
    }

    /// What it tells its keeper.
    pub(crate) fn progress(&self, local: Instant) -> Progress {
        let status = self.node.status(local);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Progress {
            counter: self.turns,
            role: status.role,
            epoch: status.newest.epoch,
            last_seq: status.newest.seq,
            in_sync: status.role == tandem_types::Role::Passive && status.in_sync,
            protected: status.role == tandem_types::Role::Active && status.in_sync,
            serving: status.serving,
            calls: count(status.calls),
            phone_heard: status.phone_heard,
            bindings: count(status.bindings),
            link_heard: status.link_heard,
            peer_serving: status.peer_serving,
            peer_epoch: status.peer_epoch,
            config: None,
            damaged: None,
            database: None,
        }
    }
}
