//! One service: started, watched, killed when it hangs, restarted with a pause that grows.
//!
//! ```text
//!            ready               no progress, no channel
//! Starting ─────────> Up ────────────────────────────────> Dying
//!  ▲    └──too late──────────────────────────────────────>   │
//!  │                   └──────────exit──────> Resting <──exit┘
//!  └──────────────────────────────pause over─────┘            (asked to stop: Stopping, then Off)
//! ```
//!
//! It is never given up for good: a lone server that could serve again after an hour must be tried.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tandem_pair::Timings;
use tandem_types::{Duration, Instant};

/// How a service ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started.
    NotStarted(String),
}

impl core::fmt::Display for Exit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted(why) => write!(f, "not started: {why}"),
        }
    }
}

/// More failures of the server than this within [`RESTARTS_WINDOW`], and it rests for long: its twin
/// serves meanwhile, and a lone server that fails so often is no service either.
pub const RESTARTS_MAX: u32 = 5;

/// The time in which failures of the server count.
pub const RESTARTS_WINDOW: Duration = Duration::from_secs(60);

/// The most failures that may be allowed within a window: pauses double with each, and must fit.
pub const FAILURES_MAX: u32 = 20;

/// When a service that ended starts again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restart {
    /// However it ended.
    Always,
    /// Unless it exited with code 0.
    OnFailure,
    /// Never.
    Never,
}

/// What a service is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// From its start until it is ready.
    pub ready: Duration,
    /// Without progress; `None`: nothing counts its progress.
    pub hung: Option<Duration>,
    /// From the wish that it stops to its end; then it is killed.
    pub stop: Duration,
    /// When it starts again.
    pub restart: Restart,
    /// Pause after the second failure in the window; doubled with each further one. The first
    /// restart is at once.
    pub pause: Duration,
    /// More failures than this within the window, and it rests for long; at most [`FAILURES_MAX`].
    pub failures_max: u32,
    /// The time in which failures count.
    pub window: Duration,
    /// Pause when there were too many failures.
    pub rest: Duration,
}

impl Limits {
    /// Those of the server.
    pub const fn of_server(timings: &Timings) -> Self {
        Self {
            ready: timings.ready,
            hung: Some(timings.hung),
            stop: timings.stop,
            restart: Restart::Always,
            pause: Duration::from_millis(100),
            failures_max: RESTARTS_MAX,
            window: RESTARTS_WINDOW,
            rest: Duration::from_secs(30),
        }
    }
}

/// A killed service that is still there is killed again after this.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What the keeper must do or tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    Start,
    /// Ask it to stop, by message and signal.
    Stop,
    Kill,
    /// It is ready, so long after its start.
    Ready(Duration),
    /// It made no progress, or was not ready, for so long.
    Hung(Duration),
    /// It failed and starts again after this pause.
    Restarts(Duration),
    /// It failed too often and rests for this pause.
    Failing(Duration),
    /// It ended and is not started again.
    Ended,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Not wanted.
    Off,
    Starting {
        since: Instant,
    },
    Up {
        since: Instant,
        counter: u64,
        progress_at: Instant,
    },
    /// Killed; its end is not confirmed.
    Dying {
        kill_again: Instant,
    },
    /// Asked to stop.
    Stopping {
        until: Instant,
    },
    /// Ended; starts again.
    Resting {
        until: Instant,
    },
}

/// Watches one service, the server or a further one.
#[derive(Debug)]
pub(crate) struct Supervisor {
    limits: Limits,
    phase: Phase,
    pid: Option<u32>,
    last_exit: Option<Exit>,
    starts: u64,
    restarts: u64,
    failed: u64,
    failures: VecDeque<Instant>,
    /// It failed too often, and has not held since.
    failing: bool,
    wanted: bool,
    orders: VecDeque<Order>,
}

impl Supervisor {
    /// Starts the service.
    pub(crate) fn new(now: Instant, limits: Limits) -> Self {
        let mut supervisor = Self::off(limits);
        supervisor.start(now);
        supervisor
    }

    /// A service that is not wanted yet.
    pub(crate) fn off(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Off,
            pid: None,
            last_exit: None,
            starts: 0,
            restarts: 0,
            failed: 0,
            failures: VecDeque::new(),
            failing: false,
            wanted: false,
            orders: VecDeque::new(),
        }
    }

    /// Starts a service that is off.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.phase == Phase::Off {
            self.wanted = true;
            self.begin(now);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub(crate) fn last_exit(&self) -> Option<&Exit> {
        self.last_exit.as_ref()
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(crate) fn starts(&self) -> u64 {
        self.starts
    }

    /// How often it ended unasked.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Whether it failed too often and has not held since.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    pub(crate) fn started(&mut self, pid: u32) {
        self.pid = Some(pid);
    }

    pub(crate) fn ready(&mut self, now: Instant) {
        if let Phase::Starting { since } = self.phase {
            self.phase = Phase::Up { since: now, counter: 0, progress_at: now };
            self.orders.push_back(Order::Ready(since.elapsed_until(now)));
        }
    }

    pub(crate) fn progressed(&mut self, now: Instant, reported: u64) {
        match &mut self.phase {
            Phase::Up { counter, progress_at, .. } if *counter != reported => {
                *counter = reported;
                *progress_at = now;
            }
            Phase::Up { .. }
            | Phase::Off
            | Phase::Starting { .. }
            | Phase::Dying { .. }
            | Phase::Stopping { .. }
            | Phase::Resting { .. } => {}
        }
    }

    /// The keeper itself was held up: the service could not be heard, so it gets a fresh limit.
    pub(crate) fn forgive(&mut self, now: Instant) {
        if let Phase::Up { progress_at, .. } = &mut self.phase {
            *progress_at = now;
        }
    }

    /// The channel to the service is gone: it is dead, or as good as.
    pub(crate) fn channel_closed(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting { .. } | Phase::Up { .. } => self.kill(now),
            Phase::Off | Phase::Dying { .. } | Phase::Stopping { .. } | Phase::Resting { .. } => {}
        }
    }

    /// It makes progress, but for so long has not done what it is for.
    pub(crate) fn useless(&mut self, now: Instant, long: Duration) {
        if self.is_up() {
            self.orders.push_back(Order::Hung(long));
            self.kill(now);
        }
    }

    pub(crate) fn exited(&mut self, now: Instant, exit: Exit) {
        self.pid = None;
        self.last_exit = Some(exit);
        match self.phase {
            Phase::Off | Phase::Resting { .. } => {}
            Phase::Stopping { .. } => self.phase = Phase::Off,
            Phase::Starting { .. } | Phase::Up { .. } | Phase::Dying { .. } if !self.wanted => {
                self.phase = Phase::Off;
            }
            Phase::Starting { .. } | Phase::Up { .. } | Phase::Dying { .. } => self.failed_now(now),
        }
    }

    fn failed_now(&mut self, now: Instant) {
        let done = self.last_exit == Some(Exit::Code(0));
        let again = match self.limits.restart {
            Restart::Always => true,
            Restart::OnFailure => !done,
            Restart::Never => false,
        };
        if !done || again {
            self.failed += 1;
        }
        if again {
            self.rest(now);
        } else {
            self.wanted = false;
            self.phase = Phase::Off;
            self.orders.push_back(Order::Ended);
        }
    }

    /// Ends the service for good.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.wanted = false;
        match self.phase {
            Phase::Starting { .. } | Phase::Up { .. } => {
                self.phase = Phase::Stopping { until: now + self.limits.stop };
                self.orders.push_back(Order::Stop);
            }
            Phase::Resting { .. } => self.phase = Phase::Off,
            Phase::Off | Phase::Dying { .. } | Phase::Stopping { .. } => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_none_or(|at| now < at) {
            return;
        }
        match self.phase {
            Phase::Off => {}
            Phase::Starting { since } | Phase::Up { progress_at: since, .. } => {
                self.orders.push_back(Order::Hung(since.elapsed_until(now)));
                self.kill(now);
            }
            Phase::Dying { .. } | Phase::Stopping { .. } => self.kill(now),
            Phase::Resting { .. } => {
                self.restarts += 1;
                self.begin(now);
            }
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Off => None,
            Phase::Starting { since } => Some(since + self.limits.ready),
            Phase::Up { progress_at, .. } => self.limits.hung.map(|hung| progress_at + hung),
            Phase::Dying { kill_again } => Some(kill_again),
            Phase::Stopping { until } | Phase::Resting { until } => Some(until),
        }
    }

    pub(crate) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn kill(&mut self, now: Instant) {
        self.phase = Phase::Dying { kill_again: now + KILL_AGAIN };
        self.orders.push_back(Order::Kill);
    }

    fn begin(&mut self, now: Instant) {
        self.phase = Phase::Starting { since: now };
        self.starts += 1;
        self.orders.push_back(Order::Start);
    }

    fn rest(&mut self, now: Instant) {
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|at| *at + self.limits.window <= now) {
            self.failures.pop_front();
        }
        // At most FAILURES_MAX + 1 failures are ever remembered, so the shift is small.
        let most = self.limits.failures_max.min(FAILURES_MAX) as usize;
        let pause = match self.failures.len() {
            0 | 1 => Duration::ZERO,
            failures if failures > most => self.limits.rest,
            failures => self.limits.pause * (1 << (failures - 2)),
        };
        self.failing = self.failures.len() > most;
        if self.failing {
            self.failures.pop_front();
            self.orders.push_back(Order::Failing(pause));
        } else {
            self.orders.push_back(Order::Restarts(pause));
        }
        self.phase = Phase::Resting { until: now + pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn orders(supervisor: &mut Supervisor) -> Vec<Order> {
        core::iter::from_fn(|| supervisor.poll_order()).collect()
    }

    fn up(now: u64) -> Supervisor {
        let mut supervisor = Supervisor::new(at(0), Limits::of_server(&Timings::default()));
        supervisor.started(42);
        supervisor.ready(at(now));
        orders(&mut supervisor);
        supervisor
    }

    #[test]
    fn a_service_that_is_not_ready_in_time_is_killed() {
        let mut supervisor = Supervisor::new(at(0), Limits::of_server(&Timings::default()));
        assert_eq!(orders(&mut supervisor), [Order::Start]);
        supervisor.handle_timeout(at(9_999));
        assert_eq!(orders(&mut supervisor), []);
        supervisor.handle_timeout(at(10_000));
        let late = Duration::from_secs(10);
        assert_eq!(orders(&mut supervisor), [Order::Hung(late), Order::Kill]);
    }

    #[test]
    fn a_counter_that_stands_still_is_a_hang_and_one_that_moves_is_not() {
        let mut supervisor = up(100);
        supervisor.progressed(at(300), 1);
        supervisor.progressed(at(500), 1);
        supervisor.handle_timeout(at(659));
        assert_eq!(orders(&mut supervisor), [], "360 ms are not over");
        supervisor.handle_timeout(at(660));
        let silent = Duration::from_millis(360);
        assert_eq!(orders(&mut supervisor), [Order::Hung(silent), Order::Kill]);
        supervisor.handle_timeout(at(1_660));
        assert_eq!(orders(&mut supervisor), [Order::Kill], "still there: once more");
    }

    #[test]
    fn a_service_is_forgiven_what_its_keeper_slept_through() {
        let mut supervisor = up(100);
        supervisor.forgive(at(5_000));
        supervisor.handle_timeout(at(5_359));
        assert_eq!(orders(&mut supervisor), []);
    }

    #[test]
    fn restarts_pause_longer_and_longer_and_never_end() {
        let mut supervisor = up(100);
        let (mut now, mut pauses) = (at(200), Vec::new());
        for _ in 0..RESTARTS_MAX + 2 {
            supervisor.exited(now, Exit::Code(1));
            let pause = orders(&mut supervisor).remove(0);
            let (Order::Restarts(long) | Order::Failing(long)) = pause else { panic!("{pause:?}") };
            pauses.push(u64::try_from(long.as_millis()).unwrap());
            now = now + long;
            supervisor.handle_timeout(now);
            assert_eq!(orders(&mut supervisor), [Order::Start]);
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 30_000, 30_000]);
        supervisor.exited(now + RESTARTS_WINDOW, Exit::Code(1));
        assert_eq!(orders(&mut supervisor), [Order::Restarts(Duration::ZERO)], "it held a minute");
        assert_eq!(supervisor.restarts(), 7);
    }

    #[test]
    fn a_service_that_is_stopped_stays_off() {
        let mut supervisor = up(100);
        supervisor.stop(at(200));
        assert_eq!(orders(&mut supervisor), [Order::Stop]);
        supervisor.handle_timeout(at(3_200));
        assert_eq!(orders(&mut supervisor), [Order::Kill], "it did not stop in time");
        supervisor.exited(at(3_201), Exit::Signal(9));
        assert_eq!(supervisor.phase(), Phase::Off);
        assert_eq!(supervisor.next_timeout(), None);
        assert_eq!(orders(&mut supervisor), []);
    }

    #[test]
    fn a_service_whose_channel_closed_is_as_good_as_dead() {
        let mut supervisor = up(100);
        supervisor.channel_closed(at(200));
        assert_eq!(orders(&mut supervisor), [Order::Kill]);
        supervisor.channel_closed(at(201));
        assert_eq!(orders(&mut supervisor), []);
    }

    fn limits(restart: Restart) -> Limits {
        Limits { restart, hung: None, ..Limits::of_server(&Timings::default()) }
    }

    #[test]
    fn whether_it_starts_again_depends_on_how_it_ended() {
        let cases = [
            (Restart::Always, Exit::Code(0), true),
            (Restart::OnFailure, Exit::Code(0), false),
            (Restart::OnFailure, Exit::Code(1), true),
            (Restart::OnFailure, Exit::Signal(9), true),
            (Restart::Never, Exit::Code(1), false),
        ];
        for (restart, exit, again) in cases {
            let mut supervisor = Supervisor::new(at(0), limits(restart));
            orders(&mut supervisor);
            supervisor.exited(at(5), exit.clone());
            let expected = if again { Order::Restarts(Duration::ZERO) } else { Order::Ended };
            assert_eq!(orders(&mut supervisor), [expected], "{restart:?} {exit:?}");
            supervisor.handle_timeout(at(5));
            assert_eq!(supervisor.starts(), if again { 2 } else { 1 });
        }
    }

    #[test]
    fn a_service_whose_progress_nobody_counts_does_not_hang() {
        let mut supervisor = Supervisor::new(at(0), limits(Restart::Always));
        supervisor.ready(at(1));
        assert_eq!(supervisor.next_timeout(), None);
    }

    #[test]
    fn the_longest_pause_before_the_rest_fits() {
        let most = Limits { failures_max: FAILURES_MAX + 5, ..limits(Restart::Always) };
        let mut supervisor = Supervisor::new(at(0), most);
        (0..FAILURES_MAX).for_each(|_| {
            supervisor.exited(at(1), Exit::Code(1));
            supervisor.phase = Phase::Starting { since: at(1) };
        });
        assert!(!supervisor.is_failing());
        supervisor.exited(at(1), Exit::Code(1));
        assert!(supervisor.is_failing());
    }
}
