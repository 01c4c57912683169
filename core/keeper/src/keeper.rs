//! The keeper: passes between pair, supervisor, server, twin and operator, and keeps the lease.

mod orders;
mod show;

use std::collections::VecDeque;

use tandem_pair::{
    Beat, Change, Config as PairConfig, Dropped, Input as PairInput, Link, Notice,
    Output as PairOutput, Own, Pair, Server, Start, State, Timings,
};
use tandem_types::{Duration, Epoch, Instant, Role, Stamp};

use crate::conflict::{Conflict, Conflicts};
use crate::contract::{Config, Input, Output, PATHS_MAX};
use crate::fact::Fact;
use crate::messages::{KeeperMessage, OperatorAnswer, OperatorRequest, Progress, ServerMessage};
use crate::reach::Asking;
use crate::reign::Beginning;
use crate::seal::{BadBeat, Seal};
use crate::status::{Counters, HISTORY_MAX};
use crate::supervisor::{Exit, Limits, Order, Phase, Supervisor};
use crate::word::{Letter, Want};
use orders::Orders;

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    No,
    HandingOver,
    Stopping,
    /// The twin is being told; done at that time.
    Telling(Instant),
    Done,
}

/// The last heartbeats of a shutdown are out by then.
const FAREWELL: Duration = Duration::from_millis(12);

/// Strangers at the heartbeat port are told about at most this often.
const STRANGERS_EVERY: Duration = Duration::from_secs(10);

/// The keeper of one machine.
#[derive(Debug)]
pub struct Keeper {
    config: Config,
    timings: Timings,
    pair: Pair,
    server: Supervisor,
    /// The newest report of the server that is up, and when it came.
    progress: Option<(Instant, Progress)>,
    /// What the newest server that died had.
    died: Option<Stamp>,
    /// Whether that was active, and everything that it promised was on the twin too.
    died_protected: bool,
    own: Own,
    /// The server may serve until then.
    lease_until: Instant,
    /// Since when the server has the role and does not serve.
    idle_since: Option<Instant>,
    seal: Seal,
    paths: Vec<Option<Instant>>,
    counters: Counters,
    strangers_told: Option<Instant>,
    /// When the last of them came.
    stranger: Option<Instant>,
    other_version: Option<u8>,
    history: VecDeque<(Instant, Change)>,
    /// The reign that is about to begin here.
    beginning: Option<Beginning>,
    orders: Orders,
    conflicts: Conflicts,
    asking: Asking,
    ending: Ending,
    outputs: VecDeque<Output>,
}

impl Keeper {
    /// Starts cold: gives up a left-over address and starts the server. `now` is this machine's
    /// boot-time clock, which the server reads too (leases end by it).
    pub fn new(now: Instant, config: Config, start: Start) -> Self {
        let profile = config.pair.timings;
        let timings = if config.real_time { profile } else { profile.relaxed() };
        let paths = config.paths.min(PATHS_MAX);
        let mut keeper = Self {
            config,
            timings,
            pair: Pair::new(now, PairConfig { timings, ..config.pair }, start),
            server: Supervisor::new(now, Limits::of_server(&timings)),
            progress: None,
            died: None,
            died_protected: false,
            own: Own::default(),
            lease_until: now,
            idle_since: None,
            seal: Seal::new(&config.heartbeat_key),
            paths: vec![None; usize::from(paths)],
            counters: Counters::default(),
            strangers_told: None,
            stranger: None,
            other_version: None,
            history: VecDeque::new(),
            beginning: None,
            orders: Orders::new(now, config.orders, start.boot),
            conflicts: Conflicts::default(),
            asking: Asking::new(now),
            ending: Ending::No,
            outputs: VecDeque::new(),
        };
        keeper.run(now);
        keeper
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        // Before anything else it must be noticed if this process was held up; but nobody is judged
        // silent while what they said may still wait to be read.
        self.pair.wake(now);
        self.forward_pair(now);
        match input {
            Input::Datagram { path, bytes } => self.datagram(now, path, &bytes),
            Input::ServiceStarted { pid } => {
                self.server.started(pid);
                self.fact(Fact::ServiceStarted { pid });
            }
            Input::ServiceExited { how } => self.exited(now, how),
            Input::ServiceSaid(message) => self.said(now, message),
            Input::ServiceChannelClosed => self.server.channel_closed(now),
            Input::EpochSaved(epoch) => self.pair.handle(now, PairInput::EpochSaved(epoch)),
            Input::EpochNotSaved(epoch, why) => {
                self.fact(Fact::DiskRefused { why });
                self.pair.handle(now, PairInput::EpochNotSaved(epoch));
            }
            Input::AddressClaimed => {
                self.beginning = self.beginning.map(|begins| begins.claimed(now));
                self.pair.handle(now, PairInput::Claimed);
                self.lend(now);
            }
            Input::ClaimFailed(why) => {
                self.fact(Fact::AddressRefused { why });
                self.pair.handle(now, PairInput::ClaimFailed);
            }
            Input::ProbeAnswered(serves) => self.pair.handle(now, PairInput::Probe(serves)),
            Input::Voted(voted) => self.pair.handle(now, PairInput::Voted(voted)),
            Input::AddressConflict(conflict) => self.conflicting(now, conflict),
            Input::Reach(reach) => {
                self.asking.take_reach(now, reach, self.own.phone_heard);
                let isolated = self.asking.is_isolated();
                self.pair.handle(now, PairInput::Isolated(isolated));
            }
            Input::LinkState(there) => {
                self.asking.take_carrier(there);
                self.pair.handle(now, PairInput::Carrier(there));
            }
            Input::Slept(long) => self.pair.handle(now, PairInput::Slept(long)),
            Input::Operator { id, request } => self.operator(now, id, request),
            Input::Shutdown => self.shut_down(now),
        }
        self.run(now);
    }

    /// Does everything that is due at `now`. Hand over everything that can be read before.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.pair.handle_timeout(now);
        // A keeper that was held up could not hear its server: forgive before judging.
        self.forward_pair(now);
        self.server.handle_timeout(now);
        if let Some(since) = self.idle_since
            && since + self.timings.ready <= now
        {
            self.idle_since = None;
            self.server.useless(now, self.timings.ready);
        }
        self.run(now);
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Keeper::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let dying =
            matches!(self.server.phase(), Phase::Dying { .. }) && self.own.server == Server::Up;
        let lease = dying.then_some(self.lease_until);
        let farewell = match self.ending {
            Ending::Telling(until) => Some(until),
            Ending::No | Ending::HandingOver | Ending::Stopping | Ending::Done => None,
        };
        let idle = self.idle_since.map(|since| since + self.timings.ready);
        let orders = self.orders.next_timeout();
        let asking = Some(self.asking.next_timeout());
        [
            self.pair.next_timeout(),
            self.server.next_timeout(),
            lease,
            idle,
            farewell,
            orders,
            asking,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Active or passive.
    pub fn role(&self) -> Role {
        role(self.pair.state())
    }

    /// What the pair does.
    pub fn state(&self) -> State {
        self.pair.state()
    }

    /// Our own last reign; the present one while active.
    pub fn reign(&self) -> Epoch {
        self.pair.reign()
    }

    /// The time-outs in force.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Breaks rules on purpose.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, sabotage: tandem_pair::Sabotage) {
        self.pair.sabotage(sabotage);
    }
}

/// Inputs.
impl Keeper {
    fn datagram(&mut self, now: Instant, path: u8, bytes: &[u8]) {
        match self.seal.open(bytes) {
            Ok(letter) => {
                self.other_version = None;
                self.heard(now, path, letter);
            }
            Err(BadBeat::Version(theirs)) => {
                self.counters.other_version += 1;
                if self.other_version.replace(theirs) != Some(theirs) {
                    self.fact(Fact::OtherVersion { theirs });
                }
            }
            Err(BadBeat::Length | BadBeat::Forged | BadBeat::Garbled) => {
                self.counters.strange += 1;
                self.stranger = Some(now);
                if self.strangers_told.is_none_or(|at| at + STRANGERS_EVERY <= now) {
                    self.strangers_told = Some(now);
                    self.fact(Fact::Strangers { count: self.counters.strange });
                }
            }
        }
    }

    fn heard(&mut self, now: Instant, path: u8, letter: Letter) {
        let Letter { beat, word } = letter;
        match self.pair.hear(now, beat) {
            Ok(()) => {
                self.counters.taken += 1;
                self.take_word(now, beat.life, word);
            }
            Err(Dropped::Late) => self.counters.late += 1,
            Err(Dropped::Stale) => self.counters.stale += 1,
            Err(Dropped::SameSeat) => {
                self.counters.same_seat += 1;
                return;
            }
        }
        if let Some(heard) = self.paths.get_mut(usize::from(path)) {
            *heard = Some(now);
        }
    }

    fn conflicting(&mut self, now: Instant, conflict: Conflict) {
        let verdict = self.conflicts.heard(now, conflict, self.pair.holds_address());
        if verdict.defend {
            self.outputs.push_back(Output::RefreshAddress);
        }
        if verdict.tell {
            self.fact(Fact::AddressConflict(conflict));
        }
    }

    fn exited(&mut self, now: Instant, exit: Exit) {
        self.fact(Fact::ServiceExited { exit: exit.clone() });
        self.server.exited(now, exit);
        self.died = self.own.holds.or(self.died);
        self.died_protected = self.own.protected;
        self.progress = None;
    }

    fn said(&mut self, now: Instant, message: ServerMessage) {
        match message {
            ServerMessage::Ready => {
                self.server.ready(now);
                self.lend(now);
            }
            ServerMessage::Progress(progress) => {
                self.server.progressed(now, progress.counter);
                self.progress = Some((now, progress));
            }
            // It is as good as one that is still starting: it has not told what it holds.
            ServerMessage::Waiting(counter) => self.server.progressed(now, counter),
            // It says why it will be gone; that it is gone tells its exit.
            ServerMessage::Stopping => {}
            ServerMessage::Fact(fact) => self.fact(Fact::Server(fact)),
            ServerMessage::Phones(phones) => self.asking.take_phones(phones),
        }
    }

    fn operator(&mut self, now: Instant, id: u64, request: OperatorRequest) {
        let answer = match request {
            OperatorRequest::Status => OperatorAnswer::Status(Box::new(self.status(now))),
            OperatorRequest::Switch { force } => {
                return self.order(now, id, Want::Switch { force });
            }
            OperatorRequest::SwitchWhenIdle => return self.order(now, id, Want::SwitchWhenIdle),
            OperatorRequest::CancelSwitch => return self.order(now, id, Want::CancelSwitch),
            OperatorRequest::Lock { on, seconds } => {
                self.lock(now, on, seconds.map(Duration::from_secs));
                OperatorAnswer::Done
            }
        };
        self.outputs.push_back(Output::Answer { id, answer });
    }

    fn shut_down(&mut self, now: Instant) {
        if self.ending == Ending::No {
            // Without a twin that can serve there is nothing to hand over.
            let _ = self.pair.order_switch(now, false);
            self.ending = Ending::HandingOver;
        }
    }
}

/// What follows.
impl Keeper {
    /// Brings pair, server and shutdown up to date with each other.
    fn run(&mut self, now: Instant) {
        self.forward_server();
        let own = self.look_at_server(now);
        if own != self.own {
            self.own = own;
            self.pair.handle(now, PairInput::Own(own));
        }
        if let Some(begun) = self.beginning.filter(|_| own.serving).and_then(|b| b.serves(now)) {
            self.beginning = None;
            self.fact(Fact::Begun(begun));
        }
        self.go_on_with_orders(now);
        self.forward_pair(now);
        self.go_on_ending(now);
        self.forward_server();
        if let Some(phones) = self.asking.due(now, self.pair.is_twin_heard(now)) {
            self.outputs.push_back(Output::AskReach { phones });
        }
        let idle = self.pair.state() == State::Active && self.server.is_up() && !self.own.serving;
        self.idle_since = idle.then(|| self.idle_since.unwrap_or(now));
    }

    /// The server as the pair must see it.
    fn look_at_server(&self, now: Instant) -> Own {
        let progress = self.progress.map(|(_, progress)| progress);
        let holds = progress.map(|p| Stamp { epoch: p.epoch, seq: p.last_seq });
        let server = match self.server.phase() {
            // Ready, and it has told what it holds: the next epoch must be above that.
            Phase::Up { .. } | Phase::Stopping { .. } if progress.is_some() => Server::Up,
            // Killed: it may serve until its end is confirmed or its lease has run out.
            Phase::Dying { .. } if self.own.server == Server::Up && now < self.lease_until => {
                Server::Up
            }
            Phase::Off
            | Phase::Starting { .. }
            | Phase::Up { .. }
            | Phase::Dying { .. }
            | Phase::Stopping { .. }
            | Phase::Resting { .. } => match self.died {
                Some(stamp) => Server::Died(stamp),
                None => Server::Starting,
            },
        };
        if server != Server::Up {
            let protected = self.died_protected;
            return Own { server, holds: self.died, protected, ..Own::default() };
        }
        let link = self.progress.map_or_else(Link::default, |(at, progress)| Link {
            heard_at: progress.link_heard.map(|ago| at - ago),
            serving: progress.peer_serving,
            epoch: progress.peer_epoch,
        });
        Own {
            server,
            serving: progress.is_some_and(|p| p.serving),
            in_sync: progress.is_some_and(|p| p.in_sync),
            protected: progress.is_some_and(|p| p.protected),
            holds: holds.or(self.died),
            calls: progress.map_or(0, |p| p.calls),
            phone_heard: self.progress.and_then(|(at, p)| Some(at - p.phone_heard?)),
            link,
        }
    }

    fn forward_server(&mut self) {
        while let Some(order) = self.server.poll_order() {
            match order {
                Order::Start => self.outputs.push_back(Output::StartService),
                Order::Stop => {
                    self.outputs.push_back(Output::TellService(KeeperMessage::Stop));
                    self.outputs.push_back(Output::KillService { hard: false });
                }
                Order::Kill => self.outputs.push_back(Output::KillService { hard: true }),
                Order::Ready(after) => self.fact(Fact::ServiceReady { after }),
                Order::Hung(silent) => self.fact(Fact::ServiceHung { silent }),
                Order::Restarts(pause) => self.fact(Fact::ServiceRestarts { pause }),
                Order::Failing(pause) => self.fact(Fact::ServiceFailing { pause }),
                // The server is started again however it ended.
                Order::Ended => {}
            }
        }
    }

    fn forward_pair(&mut self, now: Instant) {
        while let Some(output) = self.pair.poll_output() {
            match output {
                PairOutput::Beat(beat) => {
                    self.renew(now);
                    self.send(&beat);
                }
                PairOutput::SaveEpoch(epoch) => self.outputs.push_back(Output::SaveEpoch(epoch)),
                PairOutput::Claim => self.outputs.push_back(Output::ClaimAddress),
                PairOutput::Release => self.outputs.push_back(Output::ReleaseAddress),
                PairOutput::Refresh => self.outputs.push_back(Output::RefreshAddress),
                PairOutput::Probe => self.outputs.push_back(Output::Probe),
                PairOutput::AskVote { number, epoch, term } => {
                    self.outputs.push_back(Output::AskVote { number, epoch, term });
                }
                PairOutput::ReleaseVote { epoch } => {
                    self.outputs.push_back(Output::ReleaseVote { epoch });
                }
                PairOutput::Changed(change) => {
                    self.lend(now);
                    self.beginning = Beginning::changed(self.beginning, now, &change);
                    self.history.push_front((now, change.clone()));
                    self.history.truncate(HISTORY_MAX);
                    self.fact(Fact::Role(change));
                }
                PairOutput::Notice(notice) => {
                    if matches!(notice, Notice::Stalled(_) | Notice::Slept(_)) {
                        self.server.forgive(now);
                    }
                    self.fact(Fact::Pair(notice));
                }
            }
        }
    }

    fn send(&mut self, beat: &Beat) {
        self.counters.sent += 1;
        let bytes = self.seal.close(&Letter { beat: *beat, word: self.orders.word() });
        for path in 0..self.paths.len() {
            let path = u8::try_from(path).unwrap_or(PATHS_MAX);
            self.outputs.push_back(Output::Datagram { path, bytes: bytes.clone() });
        }
    }

    /// With every heartbeat: prolongs the lease of an active server, and repeats to one that still
    /// serves without the role that it must not.
    fn renew(&mut self, now: Instant) {
        let serves = self.progress.is_some_and(|(_, progress)| progress.serving);
        if self.pair.state() == State::Active || serves {
            self.lend(now);
        }
    }

    /// A lease ends when the votes end that it rests on, at the latest.
    fn lease_end(&self, now: Instant) -> Instant {
        let end = now + self.timings.lease;
        match self.pair.right_until() {
            Some(right) => end.min(right),
            None if self.pair.needs_votes() => now,
            None => end,
        }
    }

    /// Tells the server its role.
    fn lend(&mut self, now: Instant) {
        if !self.server.is_up() {
            return;
        }
        if self.pair.state() == State::Active && !self.pair.holds_address() {
            // What a server repeats as soon as it has the role can not be sent without the address,
            // and it would take its phones for gone.
            return;
        }
        let serves = self.progress.is_some_and(|(_, progress)| progress.serving);
        let message = match self.pair.state() {
            State::Active => {
                self.lease_until = self.lease_end(now);
                KeeperMessage::Lease {
                    role: Role::Active,
                    epoch: self.pair.reign(),
                    valid_until_micros: self.lease_until.as_micros(),
                }
            }
            State::Yielding if serves => {
                self.lease_until = self.lease_end(now);
                KeeperMessage::HandOver {
                    epoch: self.pair.reign(),
                    valid_until_micros: self.lease_until.as_micros(),
                }
            }
            State::Cold
            | State::Passive
            | State::Probing
            | State::Claiming
            | State::Yielding
            | State::Stopped => KeeperMessage::Lease {
                role: Role::Passive,
                epoch: self.pair.highest(),
                valid_until_micros: 0,
            },
        };
        self.outputs.push_back(Output::TellService(message));
    }

    fn go_on_ending(&mut self, now: Instant) {
        match self.ending {
            // What phones still send here must be passed on to the twin.
            Ending::HandingOver if self.pair.leaves_address() => {}
            Ending::HandingOver if self.pair.state() != State::Yielding => {
                self.server.stop(now);
                self.ending = Ending::Stopping;
            }
            Ending::Stopping if self.server.phase() == Phase::Off => {
                self.ending = Ending::Telling(now + FAREWELL);
            }
            Ending::Telling(until) if until <= now => {
                self.ending = Ending::Done;
                self.outputs.push_back(Output::ReleaseAddress);
                self.outputs.push_back(Output::Finished);
            }
            Ending::No
            | Ending::HandingOver
            | Ending::Stopping
            | Ending::Telling(_)
            | Ending::Done => {}
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }
}

fn role(state: State) -> Role {
    match state {
        State::Active => Role::Active,
        State::Cold
        | State::Passive
        | State::Probing
        | State::Claiming
        | State::Yielding
        | State::Stopped => Role::Passive,
    }
}
