//! What the two programs do around their values: inputs in, outputs out, as in `apps/tandem`.

use tandem_config::{Order, Output as ConfigOutput, Work};
use tandem_keeper::{
    Exit, Fact as KeeperFact, Input as KeeperInput, KeeperMessage, Output as KeeperOutput,
    ServerMessage,
};
use tandem_node::{Input as NodeInput, Output as NodeOutput};
use tandem_store::tables::By;
use tandem_types::{Duration, Flow, Instant, Transport};

use crate::disk::{Done, Fetch, Fetched};
use crate::link::{Cargo, HELD_UP, LOOK};
use crate::machine::{ServerInput, ServerProcess, own_address, probe_address, virtual_address};
use crate::network::{Port, Road, Way};
use crate::world::{Event, World, machine_at};

/// A process that is held up hears no more than this later on: its buffers are full. What comes over the link, and
/// what its own disk says, waits where it is: nothing of it is lost.
const INBOX_MAX: usize = 512;

/// A full disk is tried again after this pause.
const DISK_RETRY: Duration = Duration::from_millis(50);

/// The server looks at the clock on the wall this often.
const WALL_PAUSE: Duration = Duration::from_secs(1);

impl World {
    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Heartbeat { to, bytes } => {
                self.keeper_turn(to, KeeperInput::Datagram { path: 0, bytes });
            }
            Event::ToKeeper { at, life, input } => {
                if self.machines[at].keeper.as_ref().is_some_and(|keeper| keeper.life == life) {
                    self.keeper_turn(at, input);
                }
            }
            Event::ToServer { at, life, message } => {
                if self.is_server(at, life) {
                    self.keeper_said(at, message);
                }
            }
            Event::ToWitness { from, life, bytes } => self.witness_hears(from, life, &bytes),
            Event::FromWitness { to, life, bytes } => self.witness_heard(to, life, bytes),
            Event::SipToMachine { at, from, to, bytes } => self.sip_arrives(at, from, to, bytes),
            Event::SipToPhone { at, from, bytes } => self.phone_hears(at, from, &bytes),
            Event::SendFailed { at, flow } => {
                self.server_turn(at, ServerInput::Node(NodeInput::FlowFailed(flow)));
            }
            Event::ServerStarts { at, life } => self.server_starts(at, life),
            Event::ServerDies { at, life } => {
                if self.is_server(at, life) || self.machines[at].starting == Some(life) {
                    self.server_ends(at, Exit::Signal(9));
                }
            }
            Event::KeeperStarts { at } => self.keeper_starts(at),
            Event::ServerGoesOn { at, life } => {
                if self.is_server(at, life) {
                    self.resume_server(at);
                }
            }
            Event::KeeperGoesOn { at, life } => {
                if self.machines[at].keeper.as_ref().is_some_and(|keeper| keeper.life == life) {
                    self.resume_keeper(at);
                }
            }
            Event::DiskWrote { at, life } => {
                if self.is_server(at, life) {
                    self.machines[at].disk.wrote();
                }
            }
            Event::DiskDone { at, life } => {
                if self.is_server(at, life) {
                    self.disk_done(at);
                }
            }
            Event::EpochWritten { at, life, epoch } => {
                let machine = &mut self.machines[at];
                if machine.keeper.as_ref().is_some_and(|keeper| keeper.life == life) {
                    let input = if machine.disk.full {
                        KeeperInput::EpochNotSaved(epoch, String::from("no space left"))
                    } else {
                        machine.saved_epoch = machine.saved_epoch.max(epoch);
                        KeeperInput::EpochSaved(epoch)
                    };
                    self.keeper_turn(at, input);
                }
            }
            Event::Claimed { at, claim } => {
                if self.claims[at] == claim && self.machines[at].keeper.is_some() {
                    self.machines[at].holds_address = true;
                    self.keeper_turn(at, KeeperInput::AddressClaimed);
                }
            }
            Event::Announced { at } => self.switch = Some(at),
            Event::LinkFrame { to, generation } => self.frame_arrives(to, generation),
            Event::LinkLook => self.look_at_link(),
        }
    }
}

/// The keeper.
impl World {
    pub(crate) fn keeper_starts(&mut self, at: usize) {
        let (now, rules) = (self.now, self.rules);
        if self.machines[at].powered && self.machines[at].keeper.is_none() {
            self.machines[at].start_keeper(now, &rules);
            let carrier = self.machines[at].carrier;
            self.keeper_turn(at, KeeperInput::LinkState(carrier));
        }
    }

    pub(crate) fn keeper_turn(&mut self, at: usize, input: KeeperInput) {
        let machine = &mut self.machines[at];
        let local = machine.local(self.now);
        let Some(process) = &mut machine.keeper else { return };
        if process.stalled {
            if process.inbox.len() < INBOX_MAX {
                process.inbox.push_back(input);
            }
            return;
        }
        process.keeper.handle(local, input);
        self.drain_keeper(at);
    }

    pub(crate) fn keeper_timeout(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let local = machine.local(self.now);
        if let Some(process) = &mut machine.keeper {
            process.keeper.handle_timeout(local);
        }
        self.drain_keeper(at);
    }

    pub(crate) fn resume_keeper(&mut self, at: usize) {
        self.disturb();
        let Some(process) = &mut self.machines[at].keeper else { return };
        process.stalled = false;
        for input in core::mem::take(&mut process.inbox) {
            self.keeper_turn(at, input);
        }
        self.read_letters(at);
        self.keeper_timeout(at);
    }

    fn drain_keeper(&mut self, at: usize) {
        while let Some(process) = &mut self.machines[at].keeper
            && let Some(output) = process.keeper.poll_output()
        {
            let life = process.life;
            self.keeper_wants(at, life, output);
        }
        self.set_keeper_wake(at);
    }

    fn keeper_wants(&mut self, at: usize, life: u64, output: KeeperOutput) {
        match output {
            KeeperOutput::Datagram { bytes, .. } => self.send_heartbeat(at, &bytes),
            KeeperOutput::StartService => {
                let machine = &mut self.machines[at];
                machine.lives += 1;
                let server = machine.lives;
                machine.starting = Some(server);
                let pid = u32::try_from(server).unwrap_or(u32::MAX);
                let input = KeeperInput::ServiceStarted { pid };
                self.plan(Duration::from_millis(1), Event::ToKeeper { at, life, input });
                let wait = self.micros(20_000, 60_000);
                self.plan(wait, Event::ServerStarts { at, life: server });
            }
            KeeperOutput::KillService { hard: true } => {
                let machine = &self.machines[at];
                let server = machine.server.as_ref().map(|server| server.life);
                if let Some(life) = server.or(machine.starting) {
                    self.plan(Duration::from_micros(200), Event::ServerDies { at, life });
                }
            }
            KeeperOutput::KillService { hard: false } => self.server_turn(at, ServerInput::Stop),
            KeeperOutput::TellService(message) => {
                if let Some(server) = &self.machines[at].server {
                    let life = server.life;
                    let wait = self.micros(20, 100);
                    self.plan(wait, Event::ToServer { at, life, message });
                }
            }
            KeeperOutput::SaveEpoch(epoch) => {
                let wait = self.micros(300, 3_000);
                self.plan(wait, Event::EpochWritten { at, life, epoch });
            }
            KeeperOutput::ClaimAddress => {
                self.claims[at] += 1;
                let (claim, wait) = (self.claims[at], self.micros(300, 3_000));
                self.plan(wait, Event::Claimed { at, claim });
            }
            KeeperOutput::ReleaseAddress => {
                self.claims[at] += 1;
                self.machines[at].holds_address = false;
            }
            KeeperOutput::RefreshAddress => {
                let out = Port { machine: at, road: Road::Lan, way: Way::Out };
                // A copy that comes much later would have to come from a broken switch.
                if let [Some(delay), _] = self.network.carry(&[out]) {
                    self.plan(delay, Event::Announced { at });
                }
            }
            KeeperOutput::Probe => self.probe(at),
            KeeperOutput::AskReach { phones } => self.ask_reach(at, life, &phones),
            KeeperOutput::Fact(fact) => self.keeper_tells(at, &fact),
            KeeperOutput::AskVote { number, epoch, term } => {
                self.with_holder(at, |holder, now| holder.ask(now, number, epoch, term));
            }
            KeeperOutput::ReleaseVote { epoch } => {
                self.with_holder(at, |holder, _| holder.release(epoch));
            }
            KeeperOutput::SaveOrders(orders) => self.save_orders(at, orders),
            KeeperOutput::Answer { answer, .. } => self.operator_hears(at, answer),
            KeeperOutput::Finished => {}
        }
    }

    fn keeper_tells(&mut self, at: usize, fact: &KeeperFact) {
        let seat = self.machines[at].seat;
        self.say(|| format!("{seat} keeper: {fact}"));
        if let KeeperFact::ServiceFailing { pause } = fact {
            self.machines[at].rests_until = self.now + *pause;
        }
        self.watch_orders(at, fact);
        self.watch_switch(fact);
    }

    fn send_heartbeat(&mut self, from: usize, bytes: &[u8]) {
        let ports = [
            Port { machine: from, road: Road::Heartbeat, way: Way::Out },
            Port { machine: 1 - from, road: Road::Heartbeat, way: Way::In },
        ];
        for delay in self.network.carry(&ports).into_iter().flatten() {
            self.plan(delay, Event::Heartbeat { to: 1 - from, bytes: bytes.to_vec() });
        }
    }

    /// Asks the server at the virtual address with SIP OPTIONS.
    fn probe(&mut self, at: usize) {
        let from = probe_address(at);
        let branch = self.dice.hex(8);
        let to = virtual_address();
        let text = format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{branch}\r\n\
             From: <sip:keeper@{from}>;tag={branch}\r\nTo: <sip:{to}>\r\nCall-ID: {branch}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 1\r\nContent-Length: 0\r\n\r\n"
        );
        // It asks the LAN who has the address, whatever was announced before.
        let owner = 1 - at;
        if !self.machines[owner].holds_address {
            return;
        }
        let ports = [
            Port { machine: at, road: Road::Lan, way: Way::Out },
            Port { machine: owner, road: Road::Lan, way: Way::In },
        ];
        let arrivals = self.network.carry(&ports);
        if arrivals == [None; 2] {
            self.oracle.probe_lost(self.now);
        }
        for delay in arrivals.into_iter().flatten() {
            let bytes = text.clone().into_bytes();
            self.plan(delay, Event::SipToMachine { at: owner, from, to, bytes });
        }
    }
}

/// The server.
impl World {
    fn is_server(&self, at: usize, life: u64) -> bool {
        self.machines[at].server.as_ref().is_some_and(|server| server.life == life)
    }

    fn server_starts(&mut self, at: usize, life: u64) {
        if self.machines[at].starting != Some(life) {
            return;
        }
        let (now, rules) = (self.now, self.rules);
        self.machines[at].starting = None;
        self.machines[at].start_server(now, life, at, &rules);
        self.tell_keeper(at, ServerMessage::Ready);
        self.server_timeout(at);
    }

    /// The server process is gone.
    pub(crate) fn server_ends(&mut self, at: usize, how: Exit) {
        let machine = &mut self.machines[at];
        if machine.server.is_none() && machine.starting.is_none() {
            return;
        }
        machine.end_server();
        let crash = machine.disk.kill();
        self.set_server_wake(at);
        self.link_end_died(at);
        self.watch_end(at, crash);
        if let Some(keeper) = &self.machines[at].keeper {
            let life = keeper.life;
            let closed = self.micros(50, 200);
            let input = KeeperInput::ServiceChannelClosed;
            self.plan(closed, Event::ToKeeper { at, life, input });
            let input = KeeperInput::ServiceExited { how };
            self.plan(Duration::from_micros(300), Event::ToKeeper { at, life, input });
        }
    }

    pub(crate) fn server_turn(&mut self, at: usize, input: ServerInput) {
        let machine = &mut self.machines[at];
        let local = machine.local(self.now);
        let Some(process) = &mut machine.server else { return };
        if process.stalled {
            let may_be_lost = matches!(input, ServerInput::Node(NodeInput::Bytes { .. }));
            if !may_be_lost || process.inbox.len() < INBOX_MAX {
                process.inbox.push_back(input);
            }
            return;
        }
        match input {
            ServerInput::Node(input) => {
                if matches!(input, NodeInput::LinkUp | NodeInput::LinkDown) {
                    process.config.handle_link(local, input == NodeInput::LinkUp);
                }
                process.node.handle(local, input);
            }
            ServerInput::Config(bytes) => process.config.handle_message(local, &bytes),
            ServerInput::Stop => {
                self.tell_keeper(at, ServerMessage::Stopping);
                self.server_ends(at, Exit::Code(0));
                return;
            }
        }
        self.drain_server(at);
    }

    fn keeper_said(&mut self, at: usize, message: KeeperMessage) {
        let input = match message {
            KeeperMessage::Lease { role, epoch, valid_until_micros } => {
                let until = Instant::from_micros(valid_until_micros);
                if let Some(server) = &mut self.machines[at].server {
                    server.lease_until = until;
                }
                ServerInput::Node(NodeInput::Lease { role, epoch, until })
            }
            KeeperMessage::HandOver { epoch, valid_until_micros } => {
                let until = Instant::from_micros(valid_until_micros);
                if let Some(server) = &mut self.machines[at].server {
                    server.lease_until = until;
                }
                ServerInput::Node(NodeInput::HandOver { epoch, until })
            }
            KeeperMessage::Stop => ServerInput::Stop,
        };
        self.server_turn(at, input);
    }

    pub(crate) fn server_timeout(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let (local, wall) = (machine.local(self.now), machine.wall(self.now));
        let Some(process) = &mut machine.server else { return };
        if process.next_wall <= local {
            process.next_wall = local + WALL_PAUSE;
            process.node.handle(local, NodeInput::Wall(wall));
        }
        if process.node.next_timeout().is_some_and(|due| due <= local) {
            process.node.handle_timeout(local);
        }
        process.config.handle_timeout(local);
        self.drain_server(at);
    }

    pub(crate) fn resume_server(&mut self, at: usize) {
        self.disturb();
        let Some(process) = &mut self.machines[at].server else { return };
        process.stalled = false;
        for input in core::mem::take(&mut process.inbox) {
            self.server_turn(at, input);
        }
        self.server_timeout(at);
    }

    fn drain_server(&mut self, at: usize) {
        // A reign is judged by what was known before anything is said in it.
        self.watch(at);
        let local = self.machines[at].local(self.now);
        while let Some(process) = &mut self.machines[at].server {
            if let Some(output) = process.config.poll_output() {
                self.config_wants(at, output);
            } else if let Some(output) = process.node.poll_output(local) {
                self.server_wants(at, output);
            } else {
                break;
            }
        }
        self.name_phones(at, local);
        self.tell_progress(at, local);
        self.set_server_wake(at);
        self.watch(at);
    }

    /// Tells the keeper that the server lives, and at once what the keeper decides by.
    fn tell_progress(&mut self, at: usize, local: Instant) {
        let Some(process) = &mut self.machines[at].server else { return };
        process.turns += 1;
        let standing = process.node.standing();
        if process.told == Some(standing) && local < process.next_progress {
            return;
        }
        process.told = Some(standing);
        process.next_progress = local + PROGRESS_PAUSE;
        let progress = process.progress(local);
        self.tell_keeper(at, ServerMessage::Progress(progress));
    }

    pub(crate) fn tell_keeper(&mut self, at: usize, message: ServerMessage) {
        if let Some(keeper) = &self.machines[at].keeper {
            let (life, input) = (keeper.life, KeeperInput::ServiceSaid(message));
            let wait = self.micros(20, 100);
            self.plan(wait, Event::ToKeeper { at, life, input });
        }
    }

    fn server_wants(&mut self, at: usize, output: NodeOutput) {
        let wall = self.machines[at].wall(self.now);
        match output {
            NodeOutput::Transmit { flow, bytes } => self.sip_leaves(at, flow, bytes),
            NodeOutput::Frame(frame) => self.link_carries(at, Cargo::Node(frame)),
            NodeOutput::Edit { id, edit, by: author } => {
                let machine = &mut self.machines[at];
                let local = machine.local(self.now);
                let wall_millis = u64::try_from(wall / 1_000).unwrap_or(0);
                if let Some(process) = &mut machine.server {
                    let epoch = process.node.standing().epoch;
                    let by = By { author, wall_millis, epoch };
                    process
                        .config
                        .handle_orders(local, vec![Order { id, work: Work::Edit(edit), by }]);
                }
            }
            NodeOutput::Store { write, sync, ticket } => {
                self.machines[at].disk.write(write, wall, sync, ticket);
                self.disk_begins(at);
            }
            NodeOutput::Fetch { lacking, after, read } => {
                self.machines[at].disk.fetch(Fetch::Lacking { lacking, after, read });
                self.disk_begins(at);
            }
            NodeOutput::Look { key } => {
                self.machines[at].disk.fetch(Fetch::One(key));
                self.disk_begins(at);
            }
            NodeOutput::Retain(days) => self.machines[at].disk.retain(days, wall),
            NodeOutput::Serve(serve) => {
                if let Some(process) = &mut self.machines[at].server {
                    process.bound = serve;
                }
            }
            NodeOutput::Answer { id, reply } => self.replied(id, reply),
            NodeOutput::Fact(fact) => {
                let seat = self.machines[at].seat;
                self.say(|| format!("{seat} server: {fact}"));
                let saved = self.machines[at].saved_epoch;
                self.oracle.fact(self.now, at, &fact, saved);
            }
        }
    }

    fn config_wants(&mut self, at: usize, output: ConfigOutput) {
        let local = self.machines[at].local(self.now);
        let input = match output {
            ConfigOutput::Send(bytes) => return self.link_carries(at, Cargo::Config(bytes)),
            ConfigOutput::Edited { id, result } => NodeInput::Edited { id, result },
            ConfigOutput::Changed(edits) => NodeInput::Changed(edits),
            ConfigOutput::Fact(_)
            | ConfigOutput::Standing(_)
            | ConfigOutput::Unreadable(_)
            | ConfigOutput::Files(_)
            | ConfigOutput::Told { .. } => return,
            ConfigOutput::Failed(what) | ConfigOutput::Damaged(what) => {
                return self.oracle.broken(self.now, &format!("the configuration fails: {what}"));
            }
        };
        if let Some(process) = &mut self.machines[at].server {
            process.node.handle(local, input);
        }
    }

    fn link_carries(&mut self, from: usize, cargo: Cargo) {
        if self.link.up[from] {
            let arrival = self.now + self.network.reliable_delay();
            let due = self.link.send(1 - from, arrival, cargo);
            let generation = self.link.generation;
            self.plan_at(due, Event::LinkFrame { to: 1 - from, generation });
        }
    }

    fn disk_begins(&mut self, at: usize) {
        let life = self.machines[at].server.as_ref().map(|server| server.life);
        if let (Some(life), Some(takes)) = (life, self.machines[at].disk.begin()) {
            if let Some(writing) = takes.writing {
                self.plan(writing, Event::DiskWrote { at, life });
            }
            self.plan(takes.all, Event::DiskDone { at, life });
        }
    }

    fn disk_done(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let wall = machine.wall(self.now);
        match machine.disk.finish(wall) {
            None => {}
            Some(Done::Full { first }) => {
                let life = machine.server.as_ref().map_or(0, |server| server.life);
                self.plan(DISK_RETRY, Event::DiskDone { at, life });
                if first {
                    self.server_turn(at, ServerInput::Node(NodeInput::Disk(false)));
                }
            }
            Some(Done::Stored { ticket, recovered, fetched }) => {
                let disk = recovered.then_some(NodeInput::Disk(true));
                let stored = ticket.map(NodeInput::Stored);
                let fetched = fetched.map(|fetched| match fetched {
                    Fetched::Lacking(read, records, next) => {
                        NodeInput::Fetched { read, records, next }
                    }
                    Fetched::One(key, found) => NodeInput::Looked { key, found },
                });
                for input in [disk, stored, fetched].into_iter().flatten() {
                    self.server_turn(at, ServerInput::Node(input));
                }
                self.disk_begins(at);
            }
        }
    }
}

/// Packets.
impl World {
    /// A phone, or somebody else on the LAN, sends to one of the servers' addresses.
    pub(crate) fn send_to_server(
        &mut self,
        from: std::net::SocketAddr,
        to: std::net::SocketAddr,
        bytes: Vec<u8>,
    ) {
        let owner = if to == virtual_address() { self.switch } else { machine_at(to) };
        let Some(at) = owner else { return };
        let port = Port { machine: at, road: Road::Lan, way: Way::In };
        for delay in self.network.carry(&[port]).into_iter().flatten() {
            self.plan(delay, Event::SipToMachine { at, from, to, bytes: bytes.clone() });
        }
    }

    fn sip_arrives(
        &mut self,
        at: usize,
        from: std::net::SocketAddr,
        to: std::net::SocketAddr,
        bytes: Vec<u8>,
    ) {
        let machine = &self.machines[at];
        let Some(server) = &machine.server else { return };
        let there = to == own_address(at)
            || (to == virtual_address() && server.bound && machine.holds_address);
        if there {
            let flow = Flow { transport: Transport::Udp, local: to, remote: from };
            self.server_turn(at, ServerInput::Node(NodeInput::Bytes { flow, bytes }));
        }
    }

    fn sip_leaves(&mut self, at: usize, flow: Flow, bytes: Vec<u8>) {
        let machine = &self.machines[at];
        let Some(server) = &machine.server else { return };
        let speaker = crate::oracle::Speaker {
            at,
            role: server.node.standing().role,
            leased: machine.local(self.now) < server.lease_until,
            protected: server.node.standing().in_sync,
            tip: tip(server),
        };
        if flow.local == virtual_address() && !server.bound {
            return;
        }
        if flow.local == virtual_address() && !machine.holds_address {
            // The kernel has no such address: the program hears that nothing can be sent.
            self.plan(Duration::ZERO, Event::SendFailed { at, flow });
            return;
        }
        let out = Port { machine: at, road: Road::Lan, way: Way::Out };
        if let Some(asker) = (0..2).find(|asker| probe_address(*asker) == flow.remote) {
            return self.probe_answered(at, asker, &bytes);
        }
        if !self.triggers.is_empty() && self.set_off(at, speaker.protected, &bytes) {
            return;
        }
        self.oracle.speaks(self.now, speaker, &bytes);
        let Some(phone) = self.phone_at(flow.remote) else { return };
        if speaker.role == tandem_types::Role::Active {
            self.oracle.owed.hears(&bytes);
        }
        for delay in self.network.carry(&[out]).into_iter().flatten() {
            let (from, bytes) = (flow.local, bytes.clone());
            self.oracle.reaches_phone(self.now, speaker, &bytes);
            self.plan(delay, Event::SipToPhone { at: phone, from, bytes });
        }
    }

    fn probe_answered(&mut self, from: usize, asker: usize, bytes: &[u8]) {
        let ports = [
            Port { machine: from, road: Road::Lan, way: Way::Out },
            Port { machine: asker, road: Road::Lan, way: Way::In },
        ];
        let arrivals = self.network.carry(&ports);
        if arrivals == [None; 2] {
            self.oracle.probe_lost(self.now);
        }
        let keeper = self.machines[asker].keeper.as_ref().map(|keeper| keeper.life);
        if let (true, Some(life)) = (bytes.starts_with(b"SIP/2.0 200"), keeper) {
            for delay in arrivals.into_iter().flatten() {
                let input = KeeperInput::ProbeAnswered(true);
                self.plan(delay, Event::ToKeeper { at: asker, life, input });
            }
        }
    }

    /// A server's process is gone: what it has not got across is lost.
    pub(crate) fn link_end_died(&mut self, at: usize) {
        let held_up = !self.network.passes(at, Road::Link);
        let most = if held_up { Duration::ZERO } else { self.network.weather.longest() };
        self.link.end_died(at, self.now + most);
    }

    fn frame_arrives(&mut self, to: usize, generation: u64) {
        if self.link.generation != generation || !self.link.waits(to) {
            return;
        }
        if !self.network.passes(1 - to, Road::Link) {
            self.plan(HELD_UP, Event::LinkFrame { to, generation });
            return;
        }
        match self.link.receive(self.now, to) {
            Some(Cargo::Node(frame)) => {
                self.server_turn(to, ServerInput::Node(NodeInput::Frame(frame)));
            }
            Some(Cargo::Config(bytes)) => self.server_turn(to, ServerInput::Config(bytes)),
            None => {}
        }
    }

    /// Connects the servers where that is possible, and gives up a connection that is dead.
    fn look_at_link(&mut self) {
        self.plan(LOOK, Event::LinkLook);
        let alive = |at: usize| self.machines[at].server.as_ref().filter(|s| !s.stalled);
        let lives = [alive(0).map(|s| s.life), alive(1).map(|s| s.life)];
        let passes = self.network.passes(0, Road::Link) && self.network.passes(1, Road::Link);
        let ours = |at: usize| self.link.up[at] && lives[at] == Some(self.link.lives[at]);
        let whole = ours(0) && ours(1) && passes;
        if let ([Some(one), Some(two)], true, false) = (lives, passes, ours(0) && ours(1)) {
            self.end_link([one, two]);
            self.link.connect([one, two]);
            for at in 0..2 {
                self.server_turn(at, ServerInput::Node(NodeInput::LinkUp));
            }
        } else if self.link.up != [false; 2] && self.link.is_over(self.now, whole) {
            let lives = self.link.lives;
            self.end_link(lives);
            self.link.close();
        }
    }

    /// Tells the processes that still believe in the old connection.
    fn end_link(&mut self, lives: [u64; 2]) {
        for (at, life) in lives.into_iter().enumerate() {
            let theirs = self.link.up[at] && self.link.lives[at] == life;
            if theirs && self.is_server(at, life) {
                self.server_turn(at, ServerInput::Node(NodeInput::LinkDown));
            }
        }
    }
}

/// The newest entry a server has.
pub(crate) fn tip(server: &ServerProcess) -> tandem_types::Stamp {
    server.node.status(Instant::ZERO).newest
}

/// Pause between two progress reports.
const PROGRESS_PAUSE: Duration = Duration::from_millis(20);
