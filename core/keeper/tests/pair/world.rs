//! Two machines in made-up time: two keepers, two servers of the simplest kind, bad wires, bad luck.
//!
//! The simulator in `sim/` has real servers and phones; this one is here so that the keeper is
//! proven where it is written, in seconds. The same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet};

use crate::voter::{Question, VOTER_AWAY, VOTER_PATIENCE, Voter};
use tandem_keeper::pair::{Config as PairConfig, Healing, Start, State, Timings};
use tandem_keeper::{
    Config, Exit, Fact, Input, Keeper, KeeperMessage, OperatorAnswer, OperatorRequest, Output,
    Progress, Reach, ServerMessage, Standing, Status,
};
use tandem_types::{Dice, Duration, Epoch, Instant, Role, Seat, Seq, Stamp};

/// Index of a machine: the master's and the standby's.
pub(crate) const MASTER: usize = 0;
pub(crate) const STANDBY: usize = 1;

/// Pause between the turns of a server's event loop.
const TURN: Duration = Duration::from_millis(10);

/// How long a server needs to fetch what it missed.
const CATCH_UP: Duration = Duration::from_millis(200);

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What connects the two machines, and how bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wires {
    /// Heartbeat paths that work, from master to standby and back.
    pub(crate) beats: [[bool; 2]; 2],
    /// The journal link works.
    pub(crate) link: bool,
    /// The network of the phones connects both: a question at the virtual address gets there.
    pub(crate) phones: bool,
    /// Lost heartbeats and probes, in percent.
    pub(crate) loss: u64,
    /// Longest delay of a heartbeat, in microseconds.
    pub(crate) delay: u64,
    /// Heartbeats that come twice, in percent.
    pub(crate) twice: u64,
    /// The third voter is heard by the master, and by the standby.
    pub(crate) voter: [bool; 2],
    /// The gateway answers the master, and the standby; `None`: none is known.
    pub(crate) gateway: [Option<bool>; 2],
}

impl Wires {
    pub(crate) const GOOD: Self = Self {
        beats: [[true; 2]; 2],
        link: true,
        phones: true,
        loss: 0,
        delay: 200,
        twice: 0,
        voter: [true; 2],
        gateway: [None; 2],
    };

    pub(crate) const CUT: Self =
        Self { beats: [[false; 2]; 2], link: false, phones: false, ..Self::GOOD };

    /// Whether each can learn of the other. The network of the phones does not count: it tells who
    /// asks before a takeover, not who serves already.
    pub(crate) fn connect(&self) -> bool {
        self.link || self.beats.contains(&[true, true])
    }
}

#[derive(Clone, Copy, Debug)]
struct LinkWord {
    serving: bool,
    in_sync: bool,
    holds: Stamp,
}

/// The simplest server: it holds a number of entries, and says so.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) pid: Option<u32>,
    ready_at: Instant,
    said_ready: bool,
    pub(crate) hung_until: Instant,
    role: Role,
    epoch: Epoch,
    lease_until: Instant,
    backlog: Vec<KeeperMessage>,
    counter: u64,
    holds: Stamp,
    in_sync: bool,
    linked_since: Option<Instant>,
    heard: Option<(Instant, LinkWord)>,
    pub(crate) calls: u32,
    /// It takes the role and never serves.
    pub(crate) refuses: bool,
}

impl Server {
    fn serving(&self, now: Instant) -> bool {
        self.pid.is_some()
            && self.said_ready
            && !self.refuses
            && self.role == Role::Active
            && now < self.lease_until
            && self.hung_until <= now
    }
}

pub(crate) struct Machine {
    pub(crate) seat: Seat,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) stalled_until: Instant,
    inbox: Vec<Input>,
    pub(crate) disk_broken: bool,
    pub(crate) address_broken: bool,
    pub(crate) disk: Epoch,
    orders: Standing,
    disk_busy_until: Instant,
    pub(crate) boot: u64,
    pub(crate) server: Server,
    pub(crate) facts: Vec<(Instant, Fact)>,
    pub(crate) probes: usize,
    /// Every heartbeat it ever sent, where that is wanted.
    pub(crate) recorded: Option<Vec<Vec<u8>>>,
    pub(crate) refreshes: Vec<Instant>,
    pub(crate) holds_address: bool,
    answer: Option<OperatorAnswer>,
    pub(crate) finished: bool,
    /// A server needs so long from start to ready.
    pub(crate) start_time: Duration,
}

enum Event {
    ToKeeper(u64, Input),
    ToServer(u32, KeeperMessage),
    Turn,
    Link(LinkWord),
    ToVoter(u64, Question),
    Exit(u32),
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) dice: Dice,
    pub(crate) wires: Wires,
    pub(crate) machines: [Machine; 2],
    events: BTreeMap<(Instant, u64), (usize, Event)>,
    next_id: u64,
    pids: u32,
    timings: Timings,
    /// Whether the kernel gave each machine real-time priority.
    real_time: [bool; 2],
    probe: bool,
    healing: Healing,
    /// The third voter, if there is one.
    pub(crate) voter: Option<Voter>,
    /// Every reign that began; none twice.
    pub(crate) reigns: BTreeSet<Epoch>,
    /// How long two servers served at once.
    pub(crate) overlap: Duration,
    /// The longest time both served without a break although something connected them.
    pub(crate) together: Duration,
    /// Since when they do.
    together_since: Option<Instant>,
    worst_at: Instant,
    /// The last time at which somebody served.
    pub(crate) served_at: Instant,
    /// The longest time nobody served, since it was set to zero.
    pub(crate) gap: Duration,
    #[cfg(feature = "sabotage")]
    pub(crate) sabotage: tandem_keeper::pair::Sabotage,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let machine = |seat| Machine {
            seat,
            keeper: None,
            stalled_until: Instant::ZERO,
            inbox: Vec::new(),
            disk_broken: false,
            address_broken: false,
            disk: Epoch::NEVER,
            orders: Standing::default(),
            disk_busy_until: Instant::ZERO,
            boot: 0,
            server: Server {
                pid: None,
                ready_at: Instant::ZERO,
                said_ready: false,
                hung_until: Instant::ZERO,
                role: Role::Passive,
                epoch: Epoch::NEVER,
                lease_until: Instant::ZERO,
                backlog: Vec::new(),
                counter: 0,
                holds: Stamp { epoch: Epoch::NEVER, seq: Seq::ZERO },
                in_sync: false,
                linked_since: None,
                heard: None,
                calls: 0,
                refuses: false,
            },
            facts: Vec::new(),
            probes: 0,
            recorded: None,
            refreshes: Vec::new(),
            holds_address: false,
            answer: None,
            finished: false,
            start_time: ms(80),
        };
        let start = Instant::from_micros(1_000_000);
        let mut world = Self {
            now: start,
            dice: Dice::from_number(seed),
            wires: Wires::GOOD,
            machines: [machine(Seat::Master), machine(Seat::Standby)],
            events: BTreeMap::new(),
            next_id: 0,
            pids: 0,
            timings: Timings::default(),
            real_time: [true; 2],
            probe: true,
            healing: Healing::default(),
            voter: None,
            reigns: BTreeSet::new(),
            overlap: Duration::ZERO,
            together: Duration::ZERO,
            together_since: None,
            worst_at: start,
            served_at: start,
            gap: Duration::ZERO,
            #[cfg(feature = "sabotage")]
            sabotage: tandem_keeper::pair::Sabotage::default(),
        };
        world.push(ms(1), MASTER, Event::Turn);
        world.push(ms(4), STANDBY, Event::Turn);
        world
    }

    /// Both machines switched on, and everything in sync, with the default time-outs.
    pub(crate) fn settled(seed: u64) -> Self {
        Self::new(seed).settle()
    }

    /// Switches both machines on and waits until everything is in sync.
    pub(crate) fn settle(mut self) -> Self {
        self.boot(MASTER);
        self.boot(STANDBY);
        self.run(ms(2_000));
        assert_eq!(self.states(), (State::Active, State::Passive), "{}", self.story());
        assert!(self.status(MASTER).protected && self.status(STANDBY).whole, "{}", self.story());
        self.gap = Duration::ZERO;
        self
    }

    pub(crate) fn with(mut self, timings: Timings, probe: bool, healing: Healing) -> Self {
        (self.timings, self.probe, self.healing) = (timings, probe, healing);
        self
    }

    pub(crate) fn with_voter(mut self) -> Self {
        self.voter = Some(Voter::default());
        self
    }

    pub(crate) fn without_real_time(mut self, at: &[usize]) -> Self {
        at.iter().for_each(|at| self.real_time[*at] = false);
        self
    }

    // ---- what befalls the machines ----

    /// Starts the keeper; what ran before is gone.
    pub(crate) fn boot(&mut self, at: usize) {
        self.stop_server(at);
        let (now, timings, real_time) = (self.now, self.timings, self.real_time[at]);
        let (probe, healing, votes) = (self.probe, self.healing, self.voter.is_some());
        let machine = &mut self.machines[at];
        machine.boot += 1;
        machine.inbox.clear();
        machine.stalled_until = now;
        machine.holds_address = false;
        let orders = machine.orders;
        let locked = orders.locked;
        let pair = PairConfig { seat: machine.seat, timings, healing, probe, votes, locked };
        let profile = tandem_keeper::pair::Profile::Default;
        let heartbeat_key = [7; 32];
        let config = Config { pair, profile, real_time, heartbeat_key, paths: 2, orders };
        let start = Start { boot: machine.boot, saved: machine.disk };
        #[allow(unused_mut)]
        let mut keeper = Keeper::new(now, config, start);
        #[cfg(feature = "sabotage")]
        keeper.sabotage(self.sabotage);
        self.machines[at].keeper = Some(keeper);
        self.do_outputs(at);
    }

    /// The keeper is gone; its server does not notice.
    pub(crate) fn kill_keeper(&mut self, at: usize) {
        self.machines[at].keeper = None;
    }

    /// The server's disk is empty when it comes back.
    pub(crate) fn lose_journal(&mut self, at: usize) {
        self.machines[at].server.holds = Stamp { epoch: Epoch::NEVER, seq: Seq::ZERO };
    }

    /// The whole machine is gone.
    pub(crate) fn kill_machine(&mut self, at: usize) {
        self.kill_keeper(at);
        self.stop_server(at);
    }

    /// SIGKILL to the server.
    pub(crate) fn kill_server(&mut self, at: usize) {
        if let Some(pid) = self.machines[at].server.pid {
            self.push(Duration::ZERO, at, Event::Exit(pid));
        }
    }

    /// SIGSTOP to the server, and SIGCONT after a while.
    pub(crate) fn hang_server(&mut self, at: usize, long: Duration) {
        self.machines[at].server.hung_until = self.now + long;
    }

    /// SIGSTOP to the keeper, and SIGCONT after a while.
    pub(crate) fn stall_keeper(&mut self, at: usize, long: Duration) {
        self.machines[at].stalled_until = self.now + long;
    }

    pub(crate) fn carrier(&mut self, at: usize, there: bool) {
        self.tell(at, Input::LinkState(there));
    }

    pub(crate) fn order(&mut self, at: usize, request: OperatorRequest) -> OperatorAnswer {
        self.tell(at, Input::Operator { id: 1, request });
        self.run_until(ms(1_500), |world| world.machines[at].answer.is_some());
        self.machines[at].answer.take().expect("an answer")
    }

    pub(crate) fn status(&mut self, at: usize) -> Status {
        match self.order(at, OperatorRequest::Status) {
            OperatorAnswer::Status(status) => *status,
            OperatorAnswer::Done | OperatorAnswer::Refused(_) => unreachable!("status was asked"),
        }
    }

    pub(crate) fn tell(&mut self, at: usize, input: Input) {
        if self.machines[at].now_stalled(self.now) {
            self.machines[at].inbox.push(input);
        } else if let Some(keeper) = &mut self.machines[at].keeper {
            keeper.handle(self.now, input);
            self.do_outputs(at);
        }
    }

    // ---- what can be seen ----

    pub(crate) fn states(&self) -> (State, State) {
        let state =
            |at: usize| self.machines[at].keeper.as_ref().map_or(State::Cold, Keeper::state);
        (state(MASTER), state(STANDBY))
    }

    pub(crate) fn serving(&self) -> Vec<usize> {
        [MASTER, STANDBY]
            .into_iter()
            .filter(|at| self.machines[*at].server.serving(self.now))
            .collect()
    }

    /// The facts of both, for messages of failing tests.
    pub(crate) fn story(&self) -> String {
        let mut lines: Vec<_> = self
            .machines
            .iter()
            .flat_map(|machine| {
                machine.facts.iter().map(|(at, fact)| (*at, format!("{} {fact}", machine.seat)))
            })
            .collect();
        lines.sort();
        let lines: Vec<_> = lines.into_iter().map(|(at, line)| format!("{at} {line}")).collect();
        let two = format!("two served for {:?} from {}", self.together, self.worst_at);
        format!("at {}, {:?}:\n{}\n{two}", self.now, self.wires, lines.join("\n"))
    }

    pub(crate) fn count(&self, at: usize, wanted: impl Fn(&Fact) -> bool) -> usize {
        self.machines[at].facts.iter().filter(|(_, fact)| wanted(fact)).count()
    }

    // ---- time ----

    /// Lets time pass.
    pub(crate) fn run(&mut self, long: Duration) {
        let end = self.now + long;
        while self.step(end) {}
    }

    /// Lets time pass until something is so; how long that took.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Self) -> bool,
    ) -> Duration {
        let (start, end) = (self.now, self.now + limit);
        while !wanted(self) {
            assert!(self.step(end), "did not happen within {limit:?}; {}", self.story());
        }
        start.elapsed_until(self.now)
    }

    fn step(&mut self, end: Instant) -> bool {
        let mut next = self.events.keys().next().map_or(end, |(at, _)| *at);
        for machine in &self.machines {
            if let Some(keeper) = &machine.keeper {
                let due = keeper.next_timeout().unwrap_or(end);
                next = next.min(due.max(machine.stalled_until));
            }
        }
        let next = next.max(self.now);
        if next > end {
            self.pass(end);
            return false;
        }
        self.pass(next);
        if let Some(entry) = self.events.first_entry()
            && entry.key().0 <= next
        {
            let (at, event) = entry.remove();
            self.happen(at, event);
            return true;
        }
        for at in [MASTER, STANDBY] {
            self.wake_keeper(at);
        }
        true
    }

    /// Nothing happens until `next`; the oracle looks at that time.
    fn pass(&mut self, next: Instant) {
        let long = self.now.elapsed_until(next);
        let serving = self.serving().len();
        if serving > 1 {
            self.overlap += long;
        }
        if serving > 1 && self.wires.connect() {
            let since = *self.together_since.get_or_insert(self.now);
            if since.elapsed_until(next) > self.together {
                self.together = since.elapsed_until(next);
                self.worst_at = since;
            }
        } else {
            self.together_since = None;
        }
        if serving > 0 {
            self.served_at = next;
        }
        self.now = next;
        self.gap = self.gap.max(self.served_at.elapsed_until(next));
    }

    fn wake_keeper(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        if machine.now_stalled(now) {
            return;
        }
        for input in core::mem::take(&mut machine.inbox) {
            self.tell(at, input);
        }
        let Some(keeper) = &mut self.machines[at].keeper else { return };
        if keeper.next_timeout().is_some_and(|due| due <= now) {
            keeper.handle_timeout(now);
            assert!(keeper.next_timeout().is_none_or(|due| due > now), "a time-out that stays due");
            self.do_outputs(at);
        }
    }

    // ---- what happens ----

    fn push(&mut self, after: Duration, at: usize, event: Event) {
        self.next_id += 1;
        self.events.insert((self.now + after, self.next_id), (at, event));
    }

    fn happen(&mut self, at: usize, event: Event) {
        match event {
            Event::ToKeeper(boot, input) => {
                if self.machines[at].boot == boot {
                    self.tell(at, input);
                }
            }
            Event::ToServer(pid, message) => {
                if self.machines[at].server.pid == Some(pid) {
                    self.machines[at].server.backlog.push(message);
                    self.read_backlog(at);
                }
            }
            Event::Turn => {
                self.push(TURN, at, Event::Turn);
                self.turn(at);
            }
            Event::Link(word) => self.hear_link(at, word),
            Event::ToVoter(boot, question) => self.ask_voter(at, boot, question),
            Event::Exit(pid) => {
                if self.machines[at].server.pid == Some(pid) {
                    self.stop_server(at);
                    let boot = self.machines[at].boot;
                    let after = Duration::from_micros(500 + self.dice.below(1_000));
                    let exited = Input::ServiceExited { how: Exit::Signal(9) };
                    self.push(after, at, Event::ToKeeper(boot, exited));
                }
            }
        }
    }

    fn stop_server(&mut self, at: usize) {
        let server = &mut self.machines[at].server;
        server.pid = None;
        server.said_ready = false;
        server.role = Role::Passive;
        server.in_sync = false;
        server.linked_since = None;
        server.heard = None;
        server.backlog.clear();
        server.hung_until = Instant::ZERO;
    }

    /// One turn of a server's event loop.
    fn turn(&mut self, at: usize) {
        let now = self.now;
        let server = &self.machines[at].server;
        if server.pid.is_none() || now < server.hung_until || now < server.ready_at {
            return;
        }
        self.read_backlog(at);
        let silence = self.timings.silence;
        let server = &mut self.machines[at].server;
        let mut words = Vec::new();
        if !core::mem::replace(&mut server.said_ready, true) {
            words.push(ServerMessage::Ready);
        }
        server.counter += 1;
        let serving = server.serving(now);
        if serving {
            if server.holds.epoch < server.epoch {
                server.holds = Stamp { epoch: server.epoch, seq: Seq::ZERO };
            }
            server.holds.seq = server.holds.seq.next();
        }
        let word = server.heard.filter(|(heard, _)| now < *heard + silence).map(|(_, word)| word);
        words.push(ServerMessage::Progress(Progress {
            counter: server.counter,
            role: server.role,
            epoch: server.holds.epoch,
            last_seq: server.holds.seq,
            in_sync: server.in_sync,
            protected: serving && word.is_some_and(|word| word.in_sync),
            serving,
            calls: server.calls,
            phone_heard: (serving && self.wires.gateway[at] != Some(false))
                .then_some(Duration::ZERO),
            bindings: 0,
            link_heard: server.heard.map(|(heard, _)| heard.elapsed_until(now)),
            peer_serving: server.heard.map(|(_, word)| word.serving),
            peer_epoch: server.heard.map(|(_, word)| word.holds.epoch),
            config: None,
            damaged: None,
            database: None,
        }));
        let word = LinkWord { serving, in_sync: server.in_sync, holds: server.holds };
        let boot = self.machines[at].boot;
        for message in words {
            let input = Input::ServiceSaid(message);
            self.push(Duration::from_micros(100), at, Event::ToKeeper(boot, input));
        }
        if self.wires.link {
            self.push(Duration::from_micros(300), 1 - at, Event::Link(word));
        }
    }

    fn hear_link(&mut self, at: usize, word: LinkWord) {
        let (now, silence) = (self.now, self.timings.silence);
        let server = &mut self.machines[at].server;
        if server.pid.is_none() || !server.said_ready {
            return;
        }
        let was_linked = server.heard.is_some_and(|(heard, _)| now < heard + silence);
        if !was_linked {
            server.linked_since = Some(now);
            server.in_sync &= !word.serving;
        }
        server.heard = Some((now, word));
        if word.serving && !server.serving(now) && word.holds > server.holds {
            let caught_up = server.linked_since.is_some_and(|since| since + CATCH_UP <= now);
            if server.in_sync || caught_up {
                server.in_sync = true;
                server.holds = word.holds;
            }
        }
    }

    fn read_backlog(&mut self, at: usize) {
        let now = self.now;
        let server = &mut self.machines[at].server;
        if now < server.hung_until {
            return;
        }
        let mut stop = None;
        for message in core::mem::take(&mut server.backlog) {
            match message {
                KeeperMessage::Lease { role, epoch, valid_until_micros } => {
                    let until = Instant::from_micros(valid_until_micros);
                    if role == Role::Active {
                        server.in_sync = false;
                    }
                    // A lease that was given is not shortened, as in the real server.
                    let goes_on = role == server.role && epoch == server.epoch;
                    let given = if goes_on { server.lease_until } else { until };
                    server.lease_until = until.max(given);
                    (server.role, server.epoch) = (role, epoch);
                }
                KeeperMessage::HandOver { epoch, valid_until_micros } => {
                    assert_eq!(epoch, server.epoch, "it hands over the reign that it has");
                    // What it has is on the twin at once in this world.
                    server.role = Role::Passive;
                    server.lease_until = Instant::from_micros(valid_until_micros);
                }
                KeeperMessage::Stop => stop = server.pid,
            }
        }
        if let Some(pid) = stop {
            self.push(ms(5), at, Event::Exit(pid));
        }
    }

    fn do_outputs(&mut self, at: usize) {
        while let Some(output) = self.machines[at].keeper.as_mut().and_then(Keeper::poll_output) {
            self.do_output(at, output);
        }
    }

    fn do_output(&mut self, at: usize, output: Output) {
        let (boot, now) = (self.machines[at].boot, self.now);
        let reply = |input| Event::ToKeeper(boot, input);
        match output {
            Output::Datagram { path, bytes } => self.send(at, path, bytes),
            Output::StartService => {
                self.stop_server(at);
                self.pids += 1;
                let machine = &mut self.machines[at];
                machine.server.pid = Some(self.pids);
                machine.server.ready_at = now + machine.start_time;
                self.push(ms(1), at, reply(Input::ServiceStarted { pid: self.pids }));
            }
            Output::KillService { hard: true } => self.kill_server(at),
            Output::KillService { hard: false } => {}
            Output::SaveOrders(orders) => self.machines[at].orders = orders,
            Output::TellService(message) => {
                if let Some(pid) = self.machines[at].server.pid {
                    self.push(Duration::from_micros(100), at, Event::ToServer(pid, message));
                }
            }
            Output::SaveEpoch(epoch) => self.save(at, epoch),
            Output::ClaimAddress => {
                let input = if self.machines[at].address_broken {
                    Input::ClaimFailed(String::from("no such device"))
                } else {
                    self.machines[at].holds_address = true;
                    Input::AddressClaimed
                };
                self.push(ms(2), at, reply(input));
            }
            Output::ReleaseAddress => self.machines[at].holds_address = false,
            Output::RefreshAddress => self.machines[at].refreshes.push(now),
            Output::Probe => {
                self.machines[at].probes += 1;
                let heard = self.wires.phones && !self.dice.chance(self.wires.loss);
                if heard && self.machines[1 - at].server.serving(now) {
                    let answer = reply(Input::ProbeAnswered(true));
                    self.push(Duration::from_micros(600), at, answer);
                }
            }
            Output::AskReach { .. } => {
                let gateway = self.wires.gateway[at];
                let input = Input::Reach(Reach { gateway, ..Reach::default() });
                self.push(ms(if gateway == Some(true) { 1 } else { 100 }), at, reply(input));
            }
            Output::AskVote { number, epoch, term } => {
                let question = Question::Ask { number, epoch, term };
                self.push(VOTER_AWAY, at, Event::ToVoter(boot, question));
            }
            Output::ReleaseVote { .. } => {
                self.push(VOTER_AWAY, at, Event::ToVoter(boot, Question::Release));
            }
            Output::Answer { answer, .. } => self.machines[at].answer = Some(answer),
            Output::Fact(fact) => {
                if let Fact::Role(change) = &fact
                    && change.to == State::Active
                {
                    let new = self.reigns.insert(change.reign);
                    assert!(new, "epoch {} reigns twice; {}", change.reign, self.story());
                }
                self.machines[at].facts.push((now, fact));
            }
            Output::Finished => self.machines[at].finished = true,
        }
    }

    fn save(&mut self, at: usize, epoch: Epoch) {
        let now = self.now;
        let takes = Duration::from_micros(200 + self.dice.below(3_000));
        let machine = &mut self.machines[at];
        machine.disk_busy_until = machine.disk_busy_until.max(now) + takes;
        let after = now.elapsed_until(machine.disk_busy_until);
        let input = if machine.disk_broken {
            Input::EpochNotSaved(epoch, String::from("read-only file system"))
        } else {
            // Written now, known later: a crash in between is the worse case.
            machine.disk = epoch;
            Input::EpochSaved(epoch)
        };
        self.push(after, at, Event::ToKeeper(self.machines[at].boot, input));
    }

    fn ask_voter(&mut self, at: usize, boot: u64, question: Question) {
        let heard = self.wires.voter[at] && !self.dice.chance(self.wires.loss);
        let voted = match (&mut self.voter, heard) {
            (Some(voter), true) => voter.hear(self.now, at, question),
            (Some(_), false) | (None, _) => question.unheard(),
        };
        let Some(voted) = voted else { return };
        let away = if heard { VOTER_AWAY } else { VOTER_PATIENCE };
        self.push(away, at, Event::ToKeeper(boot, Input::Voted(voted)));
    }

    fn send(&mut self, at: usize, path: u8, bytes: Vec<u8>) {
        if let Some(recorded) = &mut self.machines[at].recorded {
            recorded.push(bytes.clone());
        }
        if !self.wires.beats[usize::from(path)][at] || self.dice.chance(self.wires.loss) {
            return;
        }
        let boot = self.machines[1 - at].boot;
        let copies = 1 + u64::from(self.dice.chance(self.wires.twice));
        for _ in 0..copies {
            let after = Duration::from_micros(50 + self.dice.below(self.wires.delay));
            let input = Input::Datagram { path, bytes: bytes.clone() };
            self.push(after, 1 - at, Event::ToKeeper(boot, input));
        }
    }
}

impl Machine {
    fn now_stalled(&self, now: Instant) -> bool {
        now < self.stalled_until
    }
}
