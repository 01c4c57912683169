//! Everything there is, and what happens next.
//!
//! ```text
//!   agenda (packets on their way, disks at work, signals) ┐
//!   next_timeout of keepers, servers, phones ─────────────┴─> earliest first ─> one value handles it
//!                                                                 └─> its outputs become deeds
//! ```
//!
//! Invariant: what happens at one moment happens in the order in which it was planned, so a run
//! depends on nothing but its seed and its orders.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_keeper::KeeperMessage;
use tandem_node::{Reply, Request};
use tandem_types::{Dice, Duration, Epoch, Instant, Seat};

use crate::clean::Calm;
use crate::link::{LOOK, Link};
use crate::machine::{Machine, REALM, Rules, ServerInput, own_address, virtual_address};
use crate::network::{Network, Weather};
use crate::oracle::Oracle;
use crate::phone::{Config, Habits, News, Phone};
use crate::reach::Surroundings;
use crate::voter::Voter;
use crate::watch::Glance;

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A heartbeat arrives.
    Heartbeat { to: usize, bytes: Vec<u8> },
    /// Something reaches this life of a keeper.
    ToKeeper { at: usize, life: u64, input: tandem_keeper::Input },
    /// The keeper's word reaches this life of a server.
    ToServer { at: usize, life: u64, message: KeeperMessage },
    /// A datagram arrives at a machine.
    SipToMachine { at: usize, from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    /// A datagram arrives at a phone.
    SipToPhone { at: usize, from: SocketAddr, bytes: Vec<u8> },
    /// A datagram arrives at the witness.
    ToWitness { from: usize, life: u64, bytes: Vec<u8> },
    /// The answer arrives at this life of a keeper.
    FromWitness { to: usize, life: u64, bytes: Vec<u8> },
    /// A server learns that it cannot send.
    SendFailed { at: usize, flow: tandem_types::Flow },
    /// The server process is ready to run.
    ServerStarts { at: usize, life: u64 },
    /// A signal ends the server process.
    ServerDies { at: usize, life: u64 },
    /// The system starts the keeper.
    KeeperStarts { at: usize },
    /// A process that was held up goes on.
    ServerGoesOn { at: usize, life: u64 },
    /// As above.
    KeeperGoesOn { at: usize, life: u64 },
    /// The disk has written a batch, and syncs it.
    DiskWrote { at: usize, life: u64 },
    /// The disk has done a batch.
    DiskDone { at: usize, life: u64 },
    /// The disk has, or has not, taken an epoch.
    EpochWritten { at: usize, life: u64, epoch: Epoch },
    /// The kernel has taken the virtual address.
    Claimed { at: usize, claim: u64 },
    /// The switch hears where the virtual address is.
    Announced { at: usize },
    /// A frame may be there.
    LinkFrame { to: usize, generation: u64 },
    /// The servers look for each other.
    LinkLook,
}

/// Two machines, the network, the phones.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Instant,
    agenda: BTreeMap<(Instant, u64), Event>,
    planned: u64,
    /// When each keeper, server, end of the road to the witness, and phone has something to do, in
    /// this order.
    wakes: Vec<Option<Instant>>,
    pub(crate) rules: Rules,
    /// The roads.
    pub network: Network,
    pub(crate) link: Link,
    pub(crate) machines: [Machine; 2],
    /// The third voter, where there is one.
    pub(crate) voter: Option<Voter>,
    /// How long both servers served at once.
    pub(crate) together: Duration,
    pub(crate) surroundings: Surroundings,
    pub(crate) calm: Calm,
    /// When an operator ordered a switchover at once, last.
    pub(crate) switch_ordered: Option<Instant>,
    phones: Vec<Phone>,
    by_address: BTreeMap<SocketAddr, usize>,
    /// Which machine the switch sends packets for the virtual address to.
    pub(crate) switch: Option<usize>,
    /// Counts claims of the virtual address, so that a late one is known.
    pub(crate) claims: [u64; 2],
    pub(crate) glances: [Option<Glance>; 2],
    /// What was promised, and whether it was kept.
    pub oracle: Oracle,
    pub(crate) replies: BTreeMap<u64, Reply>,
    asked: BTreeMap<u64, Request>,
    next_call: u32,
    /// What is set off by a message of a server.
    pub(crate) triggers: Vec<crate::orders::Trigger>,
    /// What is done when the present turn is over.
    pub(crate) late_orders: Vec<crate::orders::Order>,
    /// The story of the run, where it is wanted.
    log: Option<Vec<String>>,
    pub(crate) dice: Dice,
}

/// The witness has luck of its own, so that a run without it is the same as before there was one.
const VOTER_SEED: u64 = 0x3f0a_11b7;

const KEEPERS: usize = 0;
const SERVERS: usize = 2;
const HOLDERS: usize = 4;
const PHONES: usize = 6;

impl World {
    /// Both machines off. `users`: names and how many devices each has.
    pub fn new(seed: u64, rules: Rules, weather: Weather, users: &[(&str, usize)]) -> Self {
        let mut dice = Dice::from_number(seed);
        let mut split = || Dice::from_number(dice.next_u64());
        let network = Network::new(weather, split());
        let machines = [Seat::Master, Seat::Standby].map(|seat| Machine::new(seat, split()));
        let mut phones = Vec::new();
        for (number, (user, devices)) in users.iter().enumerate() {
            for device in 1..=*devices {
                let address = phone_address(number, device);
                let config = Config {
                    user: (*user).to_owned(),
                    password: password_of(user),
                    device: if device == 1 {
                        (*user).to_owned()
                    } else {
                        format!("{user}-{device}")
                    },
                    realm: REALM.to_owned(),
                    address,
                    server: virtual_address(),
                    expires: 600,
                    eager: (number + device) % 2 == 0,
                };
                phones.push(Phone::new(config, Habits::PATIENT, split()));
            }
        }
        let by_address =
            phones.iter().enumerate().map(|(i, phone)| (phone.config().address, i)).collect();
        let names = phones.iter().map(|phone| phone.config().clone()).collect();
        let voter_dice = Dice::from_number(seed ^ VOTER_SEED);
        let voter = rules.votes.then(|| Voter::new(voter_dice, &rules));
        let mut world = Self {
            now: Instant::ZERO,
            agenda: BTreeMap::new(),
            planned: 0,
            wakes: vec![None; PHONES + phones.len()],
            rules,
            network,
            link: Link::default(),
            machines,
            voter,
            together: Duration::ZERO,
            surroundings: Surroundings::default(),
            calm: Calm::default(),
            switch_ordered: None,
            phones,
            by_address,
            switch: None,
            claims: [0; 2],
            glances: [None; 2],
            oracle: Oracle::new(names, rules.votes),
            replies: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_call: 0,
            triggers: Vec::new(),
            late_orders: Vec::new(),
            log: None,
            dice: split(),
        };
        world.plan(LOOK, Event::LinkLook);
        world.start_voter();
        world
    }

    /// Keeps the story of the run from here on.
    pub fn record(&mut self) {
        self.log = Some(Vec::new());
    }

    /// What was recorded since the last time.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Adds a line to the story.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{} {}", self.now, line()));
        }
    }

    /// The time since the run began.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The phones, in the order of users and devices.
    pub fn phones(&self) -> &[Phone] {
        &self.phones
    }

    /// The phone with this device name.
    pub fn find_phone(&self, device: &str) -> Option<usize> {
        self.phones.iter().position(|phone| phone.config().device == device)
    }

    /// Somebody uses a phone.
    pub fn use_phone(&mut self, phone: usize, what: impl FnOnce(&mut Phone, Instant)) {
        what(&mut self.phones[phone], self.now);
        self.drain_phone(phone);
    }

    /// A phone calls a user; returns the number of the call.
    pub fn call(&mut self, phone: usize, to: &str) -> u32 {
        self.next_call += 1;
        let call = self.next_call;
        self.oracle.begins(self.now, call, phone, to);
        self.use_phone(phone, |phone, now| phone.call(now, call, to));
        call
    }

    /// Asks a server as an administrator; the answer is told by [`World::reply`].
    pub fn ask(&mut self, machine: usize, request: Request) -> u64 {
        self.planned += 1;
        let id = self.planned;
        self.asked.insert(id, request.clone());
        self.server_turn(
            machine,
            ServerInput::Node(tandem_node::Input::Admin { id, request, by: String::from("root") }),
        );
        id
    }

    /// The answer, if there is one yet.
    pub fn reply(&self, id: u64) -> Option<&Reply> {
        self.replies.get(&id)
    }

    pub(crate) fn replied(&mut self, id: u64, reply: Reply) {
        // A server whose disk is broken says "done" from memory alone, its own and its twin's.
        let memory_only = self.machines.iter().any(|machine| machine.disk.is_failing());
        let done = matches!(reply, Reply::Done { .. }) && !memory_only;
        if let (Some(request), true) = (self.asked.remove(&id), done) {
            self.oracle.saved(&request);
        }
        self.replies.insert(id, reply);
    }

    /// The machine whose server serves, if one does.
    pub fn active(&self) -> Option<usize> {
        (0..2).find(|at| self.serves(*at))
    }

    /// Whether the server of a machine serves phones.
    pub fn serves(&self, at: usize) -> bool {
        let machine = &self.machines[at];
        let local = machine.local(self.now);
        machine.server.as_ref().is_some_and(|server| {
            !server.stalled && server.node.standing().serving && local < server.lease_until
        })
    }

    /// Whether one serves, the other follows, and both hold the same.
    pub fn is_healthy(&self) -> bool {
        let in_sync = |at: usize| {
            let server = self.machines[at].server.as_ref();
            server.is_some_and(|server| !server.stalled && server.node.standing().in_sync)
        };
        (self.serves(0) != self.serves(1)) && in_sync(0) && in_sync(1)
    }

    /// Lets time pass.
    pub fn advance(&mut self, pause: Duration) {
        let end = self.now + pause;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds, at most so long. False where it never did.
    pub fn advance_until(&mut self, most: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        while !holds(self) {
            if !self.step(end) {
                self.now = end;
                return holds(self);
            }
        }
        true
    }

    /// The next thing that happens, if it happens by `end`.
    fn step(&mut self, end: Instant) -> bool {
        let event = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let wake = self.wakes.iter().flatten().min().copied();
        let Some(next) = [event, wake].into_iter().flatten().min() else { return false };
        if next > end {
            return false;
        }
        if self.serves(0) && self.serves(1) {
            self.together += self.now.elapsed_until(next);
        }
        self.now = self.now.max(next);
        if event == Some(next)
            && let Some((_, event)) = self.agenda.pop_first()
        {
            self.happen(event);
        } else if let Some(who) = self.wakes.iter().position(|wake| *wake == Some(next)) {
            self.wake(who);
        }
        for order in core::mem::take(&mut self.late_orders) {
            self.obey(&order);
        }
        true
    }

    pub(crate) fn plan(&mut self, after: Duration, event: Event) {
        self.plan_at(self.now + after, event);
    }

    pub(crate) fn plan_at(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), event);
    }

    /// A short time by chance.
    pub(crate) fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.dice.below(to - from + 1))
    }

    fn wake(&mut self, who: usize) {
        match who {
            KEEPERS..SERVERS => self.keeper_timeout(who),
            SERVERS..HOLDERS => self.server_timeout(who - SERVERS),
            HOLDERS..PHONES => {
                self.with_holder(who - HOLDERS, |holder, now| holder.handle_timeout(now))
            }
            phone => {
                let phone = phone - PHONES;
                self.phones[phone].handle_timeout(self.now);
                self.drain_phone(phone);
            }
        }
    }

    /// Notes when a keeper has something to do, and its end of the road to the witness.
    pub(crate) fn set_keeper_wake(&mut self, at: usize) {
        let machine = &self.machines[at];
        let keeper = machine.keeper.as_ref().filter(|keeper| !keeper.stalled);
        let own = keeper.and_then(|keeper| keeper.keeper.next_timeout());
        let asker = keeper.and_then(|keeper| keeper.asker.as_ref());
        let asker = asker.map(|asker| asker.holder.next_timeout());
        let wake = |local: Instant| self.now.max(local - machine.clock_ahead);
        (self.wakes[KEEPERS + at], self.wakes[HOLDERS + at]) = (own.map(wake), asker.map(wake));
    }

    /// Notes when a server has something to do.
    pub(crate) fn set_server_wake(&mut self, at: usize) {
        let machine = &self.machines[at];
        let local = machine.server.as_ref().and_then(crate::machine::ServerProcess::next_timeout);
        self.wakes[SERVERS + at] = local.map(|local| self.now.max(local - machine.clock_ahead));
    }

    pub(crate) fn phone_at(&self, address: SocketAddr) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    pub(crate) fn phone_hears(&mut self, phone: usize, from: SocketAddr, bytes: &[u8]) {
        self.phones[phone].handle_datagram(self.now, from, bytes);
        self.drain_phone(phone);
    }

    fn drain_phone(&mut self, phone: usize) {
        while let Some((to, bytes)) = self.phones[phone].poll_transmit() {
            let from = self.phones[phone].config().address;
            self.send_to_server(from, to, bytes);
        }
        for (call, what) in self.phones[phone].take_repeated() {
            self.repeated(phone, call, &what);
        }
        while let Some(news) = self.phones[phone].poll_news() {
            self.tell_news(phone, &news);
        }
        self.wakes[PHONES + phone] = self.phones[phone].next_timeout().map(|at| self.now.max(at));
    }

    fn tell_news(&mut self, phone: usize, news: &News) {
        self.oracle.heard(self.now, phone, news);
        if self.log.is_some() {
            let device = self.phones[phone].config().device.clone();
            self.say(|| format!("{device}: {news}"));
        }
    }
}

/// A phone's address, by the number of its user and its number among the user's.
fn phone_address(user: usize, device: usize) -> SocketAddr {
    let user = u8::try_from(user + 1).unwrap_or(u8::MAX);
    let device = u8::try_from(device).unwrap_or(u8::MAX);
    ([10, 0, user, device], 5060).into()
}

/// Every user's password.
pub(crate) fn password_of(user: &str) -> String {
    format!("{user}-knows-the-word")
}

/// The request that makes a user.
pub fn new_user(user: &str) -> Request {
    Request::UserAdd {
        name: user.to_owned(),
        display: String::new(),
        numbers: Vec::new(),
        password: Some(password_of(user)),
    }
}

/// Whether an address is one of the machines' own, and whose.
pub(crate) fn machine_at(address: SocketAddr) -> Option<usize> {
    (0..2).find(|at| own_address(*at).ip() == address.ip())
}
