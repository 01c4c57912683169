//! The loop of the keeper: wait, hand in what has happened, do what follows.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use tandem_keeper::{
    Event, Fact, Input, Keeper, OperatorAnswer, OperatorRequest, Output, Status, is_parcel,
};
use tandem_os::clock;
use tandem_os::notify::Notify;
use tandem_os::poll::{Want, poll};
use tandem_os::signals::{Signals, Wish};
use tandem_pair::State;
use tandem_types::{Instant, Seat};

use super::metrics::Exhibit;
use super::network::Network;
use super::operators::Operators;
use super::recorder::Recorder;
use super::saver::{Outcome, Saver};
use super::service::{Heard, Service};
use super::services::{Extras, TAKES_MAX, Told};
use super::voter::Voter;
use crate::logging::Log;

/// The value, and everything it works with.
pub(super) struct Turner {
    pub(super) keeper: Keeper,
    pub(super) seat: Seat,
    pub(super) log: Arc<Log>,
    pub(super) recorder: Recorder,
    pub(super) notify: Notify,
    pub(super) signals: Signals,
    pub(super) saver: Saver,
    pub(super) network: Network,
    pub(super) service: Service,
    pub(super) operators: Operators,
    pub(super) voter: Voter,
    pub(super) exhibit: Exhibit,
    /// `None`: the server is the only service.
    pub(super) extras: Option<Extras>,
    /// A second wish to stop is taken at its word.
    pub(super) stopping: bool,
}

/// What is waited for.
#[derive(Clone, Copy)]
enum Source {
    Path(u8),
    Network,
    Saver,
    Voter,
    ServiceEnd,
    ServiceLine,
    ServiceDoor,
    OperatorDoor,
    Operator(u64),
    Signals,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Going {
    On,
    Done,
}

impl Turner {
    /// Turns until the keeper has finished.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        let now = clock::now();
        if let Some(works) = self.network.wire_works() {
            self.keeper.handle(now, Input::LinkState(works));
        }
        self.notify.ready("cold: listens for the twin");
        self.keep(
            "keeper_started",
            concat!("the keeper starts, version ", env!("CARGO_PKG_VERSION")),
        );
        let mut next_alive = now;
        loop {
            if self.deliver() == Going::Done {
                break;
            }
            self.say_refused(|network| network.keep(clock::now()));
            self.reached();
            let until = self.watchdog(&mut next_alive);
            for source in self.wait(until)? {
                if self.take(source) == Going::Done {
                    self.log.say("told twice to stop: stops at once");
                    return Ok(());
                }
            }
            self.hear_extras();
            let now = clock::now();
            if self.keeper.next_timeout().is_some_and(|due| due <= now) {
                self.keeper.handle_timeout(now);
            }
            if self.exhibit.is_due(now) {
                let status = self.status(now);
                self.exhibit.lay_down(now, status);
            }
        }
        self.notify.stopping();
        if let Some(extras) = self.extras.take() {
            // The role is gone already: nothing waits for them but our own end.
            extras.finish(|told| self.told(told));
        }
        self.log.say("stopped");
        self.keep("keeper_stopped", "the keeper has stopped in good order");
        Ok(())
    }

    /// Feeds systemd's watchdog from the loop itself. When to wake up at the latest.
    fn watchdog(&self, next_alive: &mut Instant) -> Option<Instant> {
        let due = [self.keeper.next_timeout(), self.network.next_timeout()];
        let due = due.into_iter().flatten().min();
        let Some(limit) = self.notify.watchdog() else { return due };
        let now = clock::now();
        if *next_alive <= now {
            self.notify.alive();
            *next_alive = now + limit / 3;
        }
        Some(due.map_or(*next_alive, |due| due.min(*next_alive)))
    }

    /// Waits; what has something, in the order of its urgency.
    fn wait(&self, until: Option<Instant>) -> anyhow::Result<Vec<Source>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>)> = Vec::new();
        sources.extend(self.service.end().map(|fd| (Source::ServiceEnd, fd)));
        sources.extend(self.service.line().map(|fd| (Source::ServiceLine, fd)));
        sources.extend((0..).zip(self.network.path_sources()).map(|(n, fd)| (Source::Path(n), fd)));
        sources.push((Source::Saver, self.saver.as_fd()));
        sources.extend(self.voter.source().map(|fd| (Source::Voter, fd)));
        sources.extend(self.network.other_sources().map(|fd| (Source::Network, fd)));
        sources.push((Source::ServiceDoor, self.service.door()));
        sources.push((Source::Signals, self.signals.as_fd()));
        sources.push((Source::OperatorDoor, self.operators.door()));
        sources.extend(self.operators.sources().map(|(id, fd)| (Source::Operator(id), fd)));
        let wants: Vec<_> = sources.iter().map(|(_, fd)| (*fd, Want::Read)).collect();
        let ready = poll(&wants, until)?;
        let ready = sources.iter().enumerate().filter(|(index, _)| ready.has(*index));
        Ok(ready.map(|(_, (source, _))| *source).collect())
    }

    /// Hands in what one source has.
    fn take(&mut self, source: Source) -> Going {
        let now = clock::now();
        match source {
            Source::Path(path) => {
                for bytes in self.network.receive(path) {
                    if is_parcel(&bytes) {
                        self.recorder.heard(bytes);
                    } else {
                        self.keeper.handle(now, Input::Datagram { path, bytes });
                    }
                }
            }
            Source::Network => self.network_news(now),
            Source::Saver => self.saved(now),
            Source::Voter => self.voted(now),
            Source::ServiceEnd => {
                // What it said before its end comes first.
                self.service_said(now);
                if let Some(how) = self.service.ended() {
                    self.keeper.handle(now, Input::ServiceExited { how });
                }
            }
            Source::ServiceLine => self.service_said(now),
            Source::ServiceDoor => self.service.accept(),
            Source::OperatorDoor => self.operators.accept(),
            Source::Operator(id) => {
                if let Some(request) = self.operators.read(id) {
                    self.keeper.handle(now, Input::Operator { id, request });
                }
            }
            Source::Signals => return self.signalled(now),
        }
        Going::On
    }

    /// Hands in what a round of questions has found out, when it is over.
    fn reached(&mut self) {
        let now = clock::now();
        if let Some(reach) = self.network.reached(now) {
            self.keeper.handle(now, Input::Reach(reach));
        }
    }

    fn network_news(&mut self, now: Instant) {
        if self.network.answered() {
            self.keeper.handle(now, Input::ProbeAnswered(true));
        }
        for conflict in self.network.conflicts(now) {
            self.keeper.handle(now, Input::AddressConflict(conflict));
        }
        match self.network.news() {
            Ok(None) => {}
            Ok(Some(works)) => self.keeper.handle(now, Input::LinkState(works)),
            Err(why) => self.log.say(&why),
        }
    }

    fn saved(&mut self, now: Instant) {
        while let Some(outcome) = self.saver.outcome() {
            match outcome {
                Outcome::Epoch(epoch, Ok(())) => {
                    self.keeper.handle(now, Input::EpochSaved(epoch));
                }
                Outcome::Epoch(epoch, Err(why)) => {
                    self.keeper.handle(now, Input::EpochNotSaved(epoch, why));
                }
                Outcome::Orders(Ok(())) => self.operators.saved(None),
                Outcome::Orders(Err(why)) => {
                    let why = format!(
                        "the operator's orders hold until the keeper is restarted, they could not \
                         be saved: {why}"
                    );
                    self.log.say(&why);
                    self.operators.saved(Some(&why));
                }
            }
        }
    }

    fn voted(&mut self, now: Instant) {
        for input in self.voter.answers() {
            self.keeper.handle(now, input);
        }
        if let Some(news) = self.voter.news() {
            self.log.say(&news);
        }
    }

    fn service_said(&mut self, now: Instant) {
        for heard in self.service.heard() {
            match heard {
                Heard::Said(message) => self.keeper.handle(now, Input::ServiceSaid(message)),
                Heard::Closed => self.keeper.handle(now, Input::ServiceChannelClosed),
            }
        }
    }

    fn signalled(&mut self, now: Instant) -> Going {
        while let Ok(Some(wish)) = self.signals.read() {
            match wish {
                Wish::Terminate | Wish::Interrupt if self.stopping => return Going::Done,
                Wish::Terminate | Wish::Interrupt => {
                    self.stopping = true;
                    self.log.say("told to stop: hands over, then stops the server");
                    if let Some(extras) = &self.extras {
                        extras.shut_down();
                    }
                    self.keeper.handle(now, Input::Shutdown);
                }
                Wish::Reload => {
                    self.log.say("the configuration is read at the start only: restart the keeper");
                }
            }
        }
        Going::On
    }

    /// Does what the keeper wants, until it wants no more.
    fn deliver(&mut self) -> Going {
        while let Some(output) = self.keeper.poll_output() {
            match output {
                Output::Datagram { path, bytes } => self.network.send(path, &bytes),
                Output::TellService(message) => self.service.tell(&message),
                Output::StartService => self.start_service(),
                Output::KillService { hard } => self.service.kill(hard),
                Output::SaveEpoch(epoch) => self.saver.save_epoch(epoch),
                Output::SaveOrders(orders) => {
                    self.operators.saving();
                    self.saver.save_orders(orders);
                }
                Output::ClaimAddress => {
                    let input = match self.network.claim() {
                        Ok(()) => Input::AddressClaimed,
                        Err(why) => Input::ClaimFailed(why),
                    };
                    self.keeper.handle(clock::now(), input);
                }
                Output::ReleaseAddress => self.say_refused(|network| network.release()),
                Output::RefreshAddress => self.say_refused(|network| network.announce()),
                Output::Probe => self.network.ask(),
                Output::AskReach { phones } => self.network.ask_reach(clock::now(), phones),
                Output::Answer { id, answer } => self.answer(id, answer),
                Output::Fact(fact) => self.tell(&fact),
                Output::AskVote { number, epoch, term } => {
                    self.voter.ask(clock::now(), number, epoch, term);
                }
                Output::ReleaseVote { epoch } => self.voter.release(epoch),
                Output::Finished => return Going::Done,
            }
        }
        Going::On
    }

    /// Answers an operator.
    fn answer(&mut self, id: u64, mut answer: OperatorAnswer) {
        if let OperatorAnswer::Status(status) = &mut answer {
            self.complete(status);
        }
        self.operators.answer(id, answer);
    }

    fn status(&self, now: Instant) -> Status {
        let mut status = self.keeper.status(now);
        self.complete(&mut status);
        status
    }

    /// Adds what only this program knows.
    fn complete(&self, status: &mut Status) {
        status.events_lost = self.recorder.lost();
        status.services.extend(self.extras.as_ref().and_then(Extras::status).unwrap_or_default());
    }

    /// What the services beside the server had to tell since the last turn. The next heartbeat is
    /// never far, so nothing has to wake this loop for it.
    fn hear_extras(&mut self) {
        for _ in 0..TAKES_MAX {
            let Some(told) = self.extras.as_ref().and_then(Extras::told) else { return };
            self.told(told);
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Fact(fact) => self.tell(&Fact::Service(fact)),
            Told::HandOver(name) => {
                self.log.say(&format!("service {name} failed for good: hands over if it can"));
                // Nobody waits for the answer; a refusal is a fact.
                let (id, request) = (0, OperatorRequest::Switch { force: false });
                self.keeper.handle(clock::now(), Input::Operator { id, request });
            }
        }
    }

    fn start_service(&mut self) {
        let input = match self.service.start() {
            Ok(pid) => Input::ServiceStarted { pid },
            Err(how) => Input::ServiceExited { how },
        };
        self.keeper.handle(clock::now(), input);
    }

    fn say_refused(&mut self, deed: impl FnOnce(&mut Network) -> Result<(), String>) {
        if let Err(why) = deed(&mut self.network) {
            self.log.say(&why);
        }
    }

    /// Keeps an event of this program's own.
    fn keep(&mut self, kind: &str, sentence: &str) {
        let event = Event::new(self.seat, wall_millis(), kind, sentence);
        self.recorder.keep(clock::now(), event);
    }

    fn tell(&mut self, fact: &Fact) {
        self.exhibit.note(fact);
        self.recorder.keep(clock::now(), Event::of(self.seat, wall_millis(), fact));
        // What the server tells is in its own log.
        if !matches!(fact, Fact::Server(_)) {
            self.log.fact(fact);
        }
        if let Fact::Role(change) = fact {
            if let Some(extras) = &self.extras {
                extras.active(change.to == State::Active);
            }
            self.notify.status(&format!("{}: {}", change.to, change.why));
        }
    }
}

/// Milliseconds since 1970.
fn wall_millis() -> u64 {
    clock::wall_micros() / 1_000
}
