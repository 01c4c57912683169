//! The services beside the server: started in order, probed, restarted, stopped in the reverse order.
//!
//! ```text
//! Off ──wanted, and all it comes after are ready──> (Supervisor: Starting, Up, Resting ...)
//!  ▲                                                          │ not wanted any more, and all that
//!  └──────────────────────── Stopping <───────────────────────┘ come after it are off
//! ```
//!
//! A value of its own beside the keeper: what becomes of a service never waits for the pair and never
//! holds it up. All that a service can do to the pair is to ask it to hand over, where that is
//! configured.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

use crate::status::{ServiceState, ServiceStatus};
use crate::supervisor::{Exit, Limits, Order, Phase, Supervisor};

/// The most services.
pub const SERVICES_MAX: usize = 15;

/// When a started service counts as ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// As soon as its process exists.
    Started,
    /// When it has written a certain line.
    Line,
    /// When its probe succeeds.
    Probe,
}

/// How often a service is asked whether it works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbePlan {
    /// Pause between two questions.
    pub pause: Duration,
    /// How long the answer may take.
    pub limit: Duration,
    /// It hangs after so many failures in a row.
    pub failures: u32,
}

/// Where a service runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Runs {
    /// On both machines.
    Always,
    /// On the active machine only.
    Active,
}

/// A service, as it is configured. Its command is the caller's business.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// The services, by their place in the list, that must be ready before it starts. Without circles.
    pub after: Vec<usize>,
    /// Where it runs.
    pub runs: Runs,
    /// When it is ready.
    pub readiness: Readiness,
    /// How it is asked whether it works; must be there where its readiness is a probe.
    pub probe: Option<ProbePlan>,
    /// What it is allowed.
    pub limits: Limits,
    /// A permanent failure is told to operators.
    pub alarm: bool,
    /// A permanent failure on the active machine asks for a switchover.
    pub stop_leading: bool,
}

/// What has happened. Services are named by their place in the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServiceInput {
    /// Its process exists.
    Started(usize, u32),
    /// Its process has ended, or could not be started.
    Exited(usize, Exit),
    /// It wrote the line that it is ready.
    Line(usize),
    /// What came of the probe with this number.
    Probed(usize, u64, bool),
    /// This machine became active, or passive.
    Active(bool),
    /// Stop everything, then [`ServiceOutput::Finished`].
    Shutdown,
}

/// What the caller must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServiceOutput {
    /// Start its process.
    Start(usize),
    /// Ask it to end.
    Stop(usize),
    /// Kill it.
    Kill(usize),
    /// Begin the probe with this number, and drop the one before.
    Probe(usize, u64),
    /// Tell.
    Fact(ServiceFact),
    /// A service that this machine cannot lead without has failed: hand over, if the twin can serve.
    HandOver(usize),
    /// Everything is off.
    Finished,
}

/// What happened to a service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceFact {
    /// Its name.
    pub service: String,
    /// What.
    pub what: ServiceEvent,
}

/// See [`ServiceFact`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceEvent {
    /// Runs as this process.
    Started(u32),
    /// Ready, so long after its start.
    Ready(Duration),
    /// Not ready in time, or its probe failed again and again; killed.
    Hung(Duration),
    /// Ended.
    Exited(Exit),
    /// Starts again after this pause.
    Restarts(Duration),
    /// Failed too often; tried again after this pause.
    Failing(Duration),
    /// Is not started again.
    Ended,
}

/// One of them.
#[derive(Debug)]
struct Service {
    plan: Plan,
    supervisor: Supervisor,
    /// Number and end of the question that is out.
    asked: Option<(u64, Instant)>,
    next_probe: Instant,
    probes: u64,
    /// Failures in a row.
    failures: u32,
    /// Since when the probe fails.
    failing_since: Option<Instant>,
    /// It ended for good and waits until it is wanted anew.
    over: bool,
}

/// All services of a machine but the server.
#[derive(Debug)]
pub struct Services {
    list: Vec<Service>,
    active: bool,
    ending: bool,
    finished: bool,
    outputs: VecDeque<ServiceOutput>,
}

impl Services {
    /// Starts those that are wanted on a passive machine.
    pub fn new(now: Instant, plans: Vec<Plan>) -> Self {
        let service = |plan: Plan| Service {
            supervisor: Supervisor::off(plan.limits),
            plan,
            asked: None,
            next_probe: now,
            probes: 0,
            failures: 0,
            failing_since: None,
            over: false,
        };
        let list = plans.into_iter().take(SERVICES_MAX).map(service).collect();
        let outputs = VecDeque::new();
        let mut services = Self { list, active: false, ending: false, finished: false, outputs };
        services.run(now);
        services
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, input: ServiceInput) {
        match input {
            ServiceInput::Started(at, pid) => {
                if let Some(service) = self.list.get_mut(at) {
                    service.supervisor.started(pid);
                    if service.plan.readiness == Readiness::Started {
                        service.ready(now);
                    }
                }
                self.fact(at, ServiceEvent::Started(pid));
            }
            ServiceInput::Exited(at, exit) => {
                self.fact(at, ServiceEvent::Exited(exit.clone()));
                if let Some(service) = self.list.get_mut(at) {
                    service.forget_probe(now);
                    service.supervisor.exited(now, exit);
                }
            }
            ServiceInput::Line(at) => {
                if let Some(service) = self.list.get_mut(at)
                    && service.plan.readiness == Readiness::Line
                {
                    service.ready(now);
                }
            }
            ServiceInput::Probed(at, number, works) => {
                if let Some(service) = self.list.get_mut(at)
                    && service.asked.is_some_and(|(asked, _)| asked == number)
                {
                    service.probed(now, works);
                }
            }
            ServiceInput::Active(active) => self.turn(active),
            ServiceInput::Shutdown => self.ending = true,
        }
        self.run(now);
    }

    /// Does everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for service in &mut self.list {
            service.supervisor.handle_timeout(now);
        }
        self.run(now);
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<ServiceOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Services::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.list.iter().filter_map(Service::next_timeout).min()
    }

    /// Each as it is now.
    pub fn status(&self, now: Instant) -> Vec<ServiceStatus> {
        self.list
            .iter()
            .map(|service| status(&service.plan.name, &service.supervisor, now))
            .collect()
    }

    fn turn(&mut self, active: bool) {
        if active != self.active {
            self.active = active;
            for service in &mut self.list {
                service.over &= service.plan.runs == Runs::Always;
            }
        }
    }

    fn run(&mut self, now: Instant) {
        // What one thing leads to for the others is settled in as many rounds as there are services.
        for _ in 0..=self.list.len() {
            for at in 0..self.list.len() {
                self.list[at].probe(now, at, &mut self.outputs);
                // One that has ended for good is known before it is asked who is to start.
                self.forward(at);
                self.start_or_stop(now, at);
                self.forward(at);
            }
        }
        if self.ending && !self.finished && self.list.iter().all(Service::is_off) {
            self.finished = true;
            self.outputs.push_back(ServiceOutput::Finished);
        }
    }

    fn start_or_stop(&mut self, now: Instant, at: usize) {
        let service = &self.list[at];
        let here = service.plan.runs == Runs::Always || self.active;
        if here && !self.ending {
            let ready = |before: &usize| {
                self.list.get(*before).is_none_or(|before| before.supervisor.is_up())
            };
            if service.is_off() && !service.over && service.plan.after.iter().all(ready) {
                self.list[at].supervisor.start(now);
            }
            return;
        }
        // Only those that are to stop as well are waited for.
        let holds = |later: &Service| {
            later.plan.after.contains(&at)
                && !later.is_off()
                && (self.ending || later.plan.runs == Runs::Active)
        };
        if !self.list.iter().any(holds) {
            self.list[at].supervisor.stop(now);
        }
    }

    fn forward(&mut self, at: usize) {
        while let Some(order) = self.list[at].supervisor.poll_order() {
            match order {
                Order::Start => self.outputs.push_back(ServiceOutput::Start(at)),
                Order::Stop => self.outputs.push_back(ServiceOutput::Stop(at)),
                Order::Kill => self.outputs.push_back(ServiceOutput::Kill(at)),
                Order::Ready(after) => self.fact(at, ServiceEvent::Ready(after)),
                Order::Hung(long) => self.fact(at, ServiceEvent::Hung(long)),
                Order::Restarts(pause) => self.fact(at, ServiceEvent::Restarts(pause)),
                Order::Failing(pause) => {
                    if self.list[at].plan.alarm {
                        self.fact(at, ServiceEvent::Failing(pause));
                    }
                    self.hand_over(at);
                }
                Order::Ended => {
                    self.list[at].over = true;
                    self.fact(at, ServiceEvent::Ended);
                    if self.list[at].supervisor.last_exit() != Some(&Exit::Code(0)) {
                        self.hand_over(at);
                    }
                }
            }
        }
    }

    fn hand_over(&mut self, at: usize) {
        if self.list[at].plan.stop_leading && self.active {
            self.outputs.push_back(ServiceOutput::HandOver(at));
        }
    }

    fn fact(&mut self, at: usize, what: ServiceEvent) {
        if let Some(service) = self.list.get(at) {
            let service = service.plan.name.clone();
            self.outputs.push_back(ServiceOutput::Fact(ServiceFact { service, what }));
        }
    }
}

impl Service {
    fn is_off(&self) -> bool {
        self.supervisor.phase() == Phase::Off
    }

    fn ready(&mut self, now: Instant) {
        self.supervisor.ready(now);
        if let Some(plan) = self.plan.probe {
            self.next_probe = now + plan.pause;
        }
    }

    fn is_probed(&self) -> Option<ProbePlan> {
        let plan = self.plan.probe?;
        match self.supervisor.phase() {
            Phase::Up { .. } => Some(plan),
            Phase::Starting { .. } if self.plan.readiness == Readiness::Probe => Some(plan),
            Phase::Off
            | Phase::Starting { .. }
            | Phase::Dying { .. }
            | Phase::Stopping { .. }
            | Phase::Resting { .. } => None,
        }
    }

    /// Asks if it is time to, and judges what was not answered in time.
    fn probe(&mut self, now: Instant, at: usize, outputs: &mut VecDeque<ServiceOutput>) {
        let Some(plan) = self.is_probed() else { return self.forget_probe(now) };
        match self.asked {
            Some((_, until)) if until <= now => self.probed(now, false),
            Some(_) => {}
            // A process that does not exist yet cannot answer.
            None if self.next_probe <= now && self.supervisor.pid().is_some() => {
                self.probes += 1;
                self.asked = Some((self.probes, now + plan.limit));
                outputs.push_back(ServiceOutput::Probe(at, self.probes));
            }
            None => {}
        }
    }

    fn probed(&mut self, now: Instant, works: bool) {
        self.asked = None;
        let Some(plan) = self.is_probed() else { return };
        self.next_probe = now + plan.pause;
        if works {
            (self.failures, self.failing_since) = (0, None);
            self.ready(now);
            return;
        }
        if !self.supervisor.is_up() {
            // Not ready yet; it has the time of its limit.
            return;
        }
        self.failures += 1;
        let since = *self.failing_since.get_or_insert(now);
        if self.failures >= plan.failures {
            (self.failures, self.failing_since) = (0, None);
            self.supervisor.useless(now, since.elapsed_until(now) + plan.limit);
        }
    }

    fn forget_probe(&mut self, now: Instant) {
        (self.asked, self.failures, self.failing_since) = (None, 0, None);
        self.next_probe = now;
    }

    fn next_timeout(&self) -> Option<Instant> {
        let probe = self.is_probed().map(|_| match self.asked {
            Some((_, until)) => until,
            None => self.next_probe,
        });
        // Before its process exists there is nothing to ask.
        let probe = probe.filter(|_| self.supervisor.pid().is_some());
        [probe, self.supervisor.next_timeout()].into_iter().flatten().min()
    }
}

/// A supervised service as it is shown.
pub(crate) fn status(name: &str, supervisor: &Supervisor, now: Instant) -> ServiceStatus {
    let (state, up_ms, next_start_ms) = match supervisor.phase() {
        Phase::Off => (ServiceState::Off, None, None),
        Phase::Starting { .. } => (ServiceState::Starting, None, None),
        Phase::Up { since, .. } => (ServiceState::Up, Some(millis(since.elapsed_until(now))), None),
        Phase::Dying { .. } => (ServiceState::Dying, None, None),
        Phase::Stopping { .. } => (ServiceState::Stopping, None, None),
        Phase::Resting { until } => {
            (ServiceState::Resting, None, Some(millis(until.remaining_from(now))))
        }
    };
    ServiceStatus {
        name: name.into(),
        state,
        pid: supervisor.pid(),
        up_ms,
        next_start_ms,
        starts: supervisor.starts(),
        restarts: supervisor.restarts(),
        failures: supervisor.failed(),
        failing: supervisor.is_failing(),
        lines_dropped: 0,
        last_exit: supervisor.last_exit().cloned(),
    }
}

fn millis(long: Duration) -> u64 {
    u64::try_from(long.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
