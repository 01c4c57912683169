//! The programs beside the server, on a thread of their own: whatever they do (crash in a loop, print
//! without end, hang) the loop of the keeper has no part in it but a few facts.
//!
//! ```text
//!          role, stop                start, stop, kill, probe
//! loop ─────────────────> Services ─────────────────────────> processes
//!      <───────────────── (thread) <───────────────────────── end, lines, answers to probes
//!        facts, hand over
//! ```
//!
//! Each has a process group of its own; what is left of it when its first process has ended is killed.
//! They die with the keeper. They do not inherit its rights.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use tandem_keeper::{Exit, ServiceFact, ServiceInput, ServiceOutput, ServiceStatus, Services};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_types::{Duration, Instant};

use super::process::{Outcome, Process};
use crate::config::ServiceTable;
use crate::logging::Log;

/// Facts that wait for the loop, at most; the thread waits with further ones.
const TOLD_MAX: usize = 256;

/// Facts that the loop takes in one turn, at most.
pub(super) const TAKES_MAX: usize = 8;

/// What is shown is not older than this.
const SHOW_PAUSE: Duration = Duration::from_secs(1);

/// What the loop hears.
pub(super) enum Told {
    /// Something happened to a service.
    Fact(ServiceFact),
    /// This one failed for good, and the machine is not to lead without it.
    HandOver(String),
}

/// The loop's end.
pub(super) struct Extras {
    orders: Sender<ServiceInput>,
    told: Receiver<Told>,
    bell: Arc<OwnedFd>,
    shown: Arc<Mutex<Vec<ServiceStatus>>>,
    thread: JoinHandle<()>,
}

impl Extras {
    /// Starts the thread, if there are services. Call this before the caller raises its priority.
    pub(super) fn start(tables: &[ServiceTable], log: &Arc<Log>) -> anyhow::Result<Option<Self>> {
        if tables.is_empty() {
            return Ok(None);
        }
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .context("cannot make an event descriptor")?;
        let bell = Arc::new(bell);
        let (orders, inbox) = channel();
        let (outbox, told) = sync_channel(TOLD_MAX);
        let shown = Arc::default();
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        let plans = tables.iter().map(|table| table.plan(&names)).collect();
        let process =
            |table: &ServiceTable| Process::new(clock::now(), table.clone(), Arc::clone(log));
        let work = Work {
            services: Services::new(clock::now(), plans),
            processes: tables.iter().map(process).collect(),
            inbox,
            outbox,
            bell: Arc::clone(&bell),
            shown: Arc::clone(&shown),
        };
        let thread = std::thread::Builder::new().name(String::from("services"));
        let thread = thread.spawn(move || work.run()).context("cannot start a thread")?;
        Ok(Some(Self { orders, told, bell, shown, thread }))
    }

    /// This machine became active, or passive.
    pub(super) fn active(&self, active: bool) {
        self.order(ServiceInput::Active(active));
    }

    /// Begins to stop everything.
    pub(super) fn shut_down(&self) {
        self.order(ServiceInput::Shutdown);
    }

    /// What happened, if anything did.
    pub(super) fn told(&self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    /// Each as it was a moment ago; `None` while the thread is just writing it.
    pub(super) fn status(&self) -> Option<Vec<ServiceStatus>> {
        self.shown.try_lock().ok().map(|shown| shown.clone())
    }

    /// Waits until everything is off; the limits of the services bound that.
    pub(super) fn finish(self, mut tell: impl FnMut(Told)) {
        self.shut_down();
        while let Ok(told) = self.told.recv() {
            tell(told);
        }
        // One that panicked has said so already.
        let _ = self.thread.join();
    }

    fn order(&self, order: ServiceInput) {
        // The thread ends after us.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// The thread's own.
struct Work {
    services: Services,
    processes: Vec<Process>,
    inbox: Receiver<ServiceInput>,
    outbox: SyncSender<Told>,
    bell: Arc<OwnedFd>,
    shown: Arc<Mutex<Vec<ServiceStatus>>>,
}

impl Work {
    fn run(mut self) {
        // What the keeper may do (addresses, raw sockets, priority) is not for them. Refused where
        // there is nothing to give up.
        let _ = rustix::thread::clear_ambient_capability_set();
        loop {
            if self.deliver() {
                return;
            }
            self.show();
            let now = clock::now();
            let paused =
                self.processes.iter().filter_map(|process| process.paused_until(now)).min();
            let until = [self.services.next_timeout(), paused].into_iter().flatten().min();
            let until = until.map_or(now + SHOW_PAUSE, |until| until.min(now + SHOW_PAUSE));
            for input in self.wait(now, until) {
                self.services.handle(clock::now(), input);
            }
            let now = clock::now();
            if self.services.next_timeout().is_some_and(|due| due <= now) {
                self.services.handle_timeout(now);
            }
        }
    }

    /// Waits; what has happened.
    fn wait(&mut self, now: Instant, until: Instant) -> Vec<ServiceInput> {
        let mut wants = vec![(self.bell.as_fd(), Want::Read)];
        wants.extend(self.processes.iter().flat_map(|process| process.wants(now)));
        // Fails only where the kernel has no memory: then nothing is heard this time.
        let _ = poll(&wants, Some(until));
        drop(wants);
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.bell, &mut count);
        let mut inputs: Vec<_> = self.inbox.try_iter().collect();
        if matches!(self.inbox.try_recv(), Err(TryRecvError::Disconnected)) {
            inputs.push(ServiceInput::Shutdown);
        }
        let now = clock::now();
        for (at, process) in self.processes.iter_mut().enumerate() {
            for outcome in process.look(now) {
                inputs.push(match outcome {
                    Outcome::Ready => ServiceInput::Line(at),
                    Outcome::Probed(number, works) => ServiceInput::Probed(at, number, works),
                    Outcome::Ended(exit) => ServiceInput::Exited(at, exit),
                });
            }
        }
        inputs
    }

    /// Does what the services want. True when all are off for good.
    fn deliver(&mut self) -> bool {
        while let Some(output) = self.services.poll_output() {
            let now = clock::now();
            match output {
                ServiceOutput::Start(at) => {
                    let input = match self.processes[at].start() {
                        Ok(pid) => ServiceInput::Started(at, pid),
                        Err(why) => ServiceInput::Exited(at, Exit::NotStarted(why)),
                    };
                    self.services.handle(now, input);
                }
                ServiceOutput::Stop(at) => self.processes[at].stop(),
                ServiceOutput::Kill(at) => self.processes[at].kill(),
                ServiceOutput::Probe(at, number) => self.processes[at].probe(number),
                ServiceOutput::Fact(fact) => self.tell(Told::Fact(fact)),
                ServiceOutput::HandOver(at) => {
                    let name = self.processes[at].name().to_owned();
                    self.tell(Told::HandOver(name));
                }
                ServiceOutput::Finished => return true,
            }
        }
        false
    }

    fn tell(&self, told: Told) {
        // The loop is gone only when the process ends.
        let _ = self.outbox.send(told);
    }

    fn show(&self) {
        let mut status = self.services.status(clock::now());
        for (status, process) in status.iter_mut().zip(&self.processes) {
            status.lines_dropped = process.lines_dropped();
        }
        if let Ok(mut shown) = self.shown.lock() {
            *shown = status;
        }
    }
}
