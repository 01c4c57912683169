//! What the keeper shows to Prometheus: counters over its own life, and the state at a moment.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tandem_keeper::{DatabaseState, Fact, ServiceState, ServiceStatus, Status, case_name};
use tandem_pair::State;
use tandem_types::{Duration, Instant, Role};

use super::http::{self, Shared};
use crate::commands::LastBackup;
use crate::logging::{Log, Time};

/// Upper ends of the takeover histogram, in milliseconds.
const TAKEOVER_BUCKETS_MS: [u32; 11] = [10, 20, 50, 100, 150, 200, 300, 500, 1_000, 3_000, 10_000];

/// What is counted from the facts that pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    facts: BTreeMap<String, u64>,
    /// Reigns begun here, by the case that led to them.
    reigns: BTreeMap<String, u64>,
    /// Takeovers by the bucket they fall into, and those beyond the last.
    takeovers: [u64; TAKEOVER_BUCKETS_MS.len() + 1],
    takeover_sum: Duration,
}

impl Tally {
    /// Counts a fact.
    pub(super) fn note(&mut self, fact: &Fact) {
        *self.facts.entry(fact.kind().to_owned()).or_default() += 1;
        if let Fact::Begun(begun) = fact {
            *self.reigns.entry(case_name(begun.case)).or_default() += 1;
            if begun.unserved.is_some() {
                let total = begun.total();
                let fits = |most: &u32| total.as_millis() <= u128::from(*most);
                let bucket = TAKEOVER_BUCKETS_MS.iter().position(fits);
                self.takeovers[bucket.unwrap_or(TAKEOVER_BUCKETS_MS.len())] += 1;
                self.takeover_sum += total;
            }
        }
    }
}

/// The loop's end: counts facts, and lays the figures down for the thread that shows them.
pub(super) struct Exhibit {
    /// `None`: nobody wants to see them.
    shown: Option<Shared>,
    next: Instant,
    tally: Tally,
    /// Where the server says how its backups go.
    state: Arc<Path>,
}

impl Exhibit {
    /// Starts the thread, if there is an address.
    pub(super) fn open(
        address: Option<SocketAddr>,
        state: &Path,
        log: &Arc<Log>,
    ) -> anyhow::Result<Self> {
        let shown = address.map(|address| {
            let shown = Shared::default();
            http::start(address, Arc::clone(&shown), log).map(|()| shown)
        });
        let (next, tally) = (Instant::ZERO, Tally::default());
        Ok(Self { shown: shown.transpose()?, next, tally, state: state.into() })
    }

    /// Counts a fact.
    pub(super) fn note(&mut self, fact: &Fact) {
        self.tally.note(fact);
    }

    /// Whether it is time to lay new figures down.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.shown.is_some() && self.next <= now
    }

    /// Lays them down, unless the thread is just looking: then the next turn does.
    pub(super) fn lay_down(&mut self, now: Instant, status: Status) {
        let Some(shown) = &self.shown else { return };
        if let Ok(mut place) = shown.try_lock() {
            let (tally, state) = (self.tally.clone(), Arc::clone(&self.state));
            *place = Some(Snapshot { at: now, status, tally, state });
            self.next = now + LAY_DOWN_PAUSE;
        }
    }
}

/// Pause between two snapshots.
const LAY_DOWN_PAUSE: Duration = Duration::from_secs(1);

/// Everything that is shown, as it was at a moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) tally: Tally,
    /// The state folder.
    pub(super) state: Arc<Path>,
}

/// A snapshot older than this tells that the loop stands still.
pub(super) const FRESH: Duration = Duration::from_secs(5);

impl Snapshot {
    /// Whether the loop of the keeper turns.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.at.elapsed_until(now) <= FRESH
    }

    /// Whether this machine serves phones.
    pub(super) fn is_serving(&self) -> bool {
        let serving = self.status.server.as_ref().is_some_and(|server| server.what.serving);
        self.status.state == State::Active && serving
    }

    /// The page, in the text format of Prometheus (version 0.0.4).
    pub(super) fn page(&self, now: Instant) -> String {
        let mut page = Page(String::new());
        self.pair(&mut page);
        self.server(&mut page);
        self.database(&mut page);
        self.keeper(&mut page, now);
        self.disk(&mut page);
        for (name, kind, what, figure) in SERVICE_COLUMNS {
            page.kind(name, kind, what);
            for service in &self.status.services {
                page.line(name, &[("service", &service.name)], figure(service));
            }
        }
        page.0
    }

    fn pair(&self, page: &mut Page) {
        let status = &self.status;
        let twin = status.twin.as_ref();
        page.gauge(
            "role",
            "1 on the active machine, 0 on the passive.",
            flag(status.role == Role::Active),
        );
        page.kind("state", "gauge", "What this machine does in the pair: 1 at the state it is in.");
        for state in State::ALL {
            page.line("state", &[("state", &state)], flag(state == status.state));
        }
        page.gauge("epoch", "Number of the highest epoch seen.", status.highest.number);
        let reachable = twin.is_some_and(|twin| twin.heard);
        page.gauge("peer_reachable", "The keeper of the other machine is heard.", flag(reachable));
        page.gauge("protected", "A takeover now would lose nothing.", flag(status.is_protected()));
        let ready = "The other machine would serve at once if this one died.";
        page.gauge("peer_ready", ready, flag(status.twin_ready));
        page.gauge("fit", "This machine could serve.", flag(status.fit));
        page.gauge("locked", "The maintenance lock is set here.", flag(status.locked));
        page.gauge("carrier", "The network of this machine has a carrier.", flag(status.carrier));
        let reigns = "Reigns begun on this machine, by the case that led to them.";
        page.kind("switchovers_total", "counter", reigns);
        for (reason, count) in &self.tally.reigns {
            page.line("switchovers_total", &[("reason", reason)], count);
        }
        self.takeovers(page);
    }

    fn takeovers(&self, page: &mut Page) {
        let name = "takeover_seconds";
        let what = "From the last sign that the other machine served until this one did.";
        page.kind(name, "histogram", what);
        let mut count = 0;
        for (bucket, most) in self.tally.takeovers.iter().zip(TAKEOVER_BUCKETS_MS) {
            count += bucket;
            page.line("takeover_seconds_bucket", &[("le", &(f64::from(most) / 1_000.0))], count);
        }
        count += self.tally.takeovers[TAKEOVER_BUCKETS_MS.len()];
        page.line("takeover_seconds_bucket", &[("le", &"+Inf")], count);
        page.line("takeover_seconds_sum", &[], self.tally.takeover_sum.as_secs_f64());
        page.line("takeover_seconds_count", &[], count);
    }

    fn server(&self, page: &mut Page) {
        page.gauge("serving", "The server of this machine serves phones.", flag(self.is_serving()));
        let Some(report) = self.status.server.as_ref().map(|server| &server.what) else { return };
        page.gauge("calls_active", "Calls that are up.", report.calls);
        page.gauge("registrations_active", "Contacts that are registered.", report.bindings);
        page.gauge("journal_seq", "Newest entry of the server's journal.", report.last_seq.0);
        let compared = "The configuration is compared with that of the other machine.";
        page.gauge("config_compared", compared, flag(report.config.is_some()));
        let Some(config) = report.config else { return };
        let behind = "Changes of the configuration that the other machine has not on its disk.";
        page.gauge("config_behind", behind, config.twin_lacks);
        let lacking = "Changes of the configuration that the other machine has and this one lacks.";
        page.gauge("config_lacking", lacking, config.here_lacks);
        let lag = Duration::from_millis(config.late_ms).as_secs_f64();
        let what = "How long the other machine has lacked the oldest change that it lacks.";
        page.gauge("replication_lag_seconds", what, lag);
    }

    fn database(&self, page: &mut Page) {
        let report = self.status.server.as_ref().map(|server| &server.what);
        let Some(database) = report.and_then(|report| report.database) else { return };
        let what = "How the database of the pair stands: 1 at the state it is in.";
        page.kind("database_state", "gauge", what);
        for state in DatabaseState::ALL {
            let is = flag(state == database.state);
            page.line("database_state", &[("state", &state.name())], is);
        }
        if let Some(waiting) = database.waiting {
            let what =
                "Call records of this machine that wait for the database, counted to 100000.";
            page.gauge("database_records_waiting", what, waiting);
        }
        if let Some(heard) = database.heard {
            let what = "How long ago the database answered.";
            page.gauge("database_heard_seconds", what, heard.as_secs_f64());
        }
    }

    /// What is looked up when somebody asks, by the thread that answers.
    fn disk(&self, page: &mut Page) {
        let lost = self.state.join(crate::server::LOST).exists();
        let what = "The configuration of this machine was damaged and has not come back.";
        page.gauge("configuration_lost", what, flag(lost));
        let Some(last) = LastBackup::read(&self.state) else { return };
        let what = "The last try to make a backup of this machine failed.";
        page.gauge("backup_failed", what, flag(last.error.is_some()));
        if let Some(good) = &last.good {
            let age = Time::now().micros().saturating_sub(good.micros).max(0).unsigned_abs();
            let age = Duration::from_micros(age).as_secs();
            page.gauge("backup_age_seconds", "Age of the last complete backup.", age);
            page.gauge("backup_bytes", "Length of the files in it.", good.bytes);
        }
    }

    fn keeper(&self, page: &mut Page, now: Instant) {
        let (status, beats) = (&self.status, self.status.heartbeats);
        page.kind("heartbeats_total", "counter", "Heartbeats by what became of them.");
        let counters = [
            ("sent", beats.sent),
            ("taken", beats.taken),
            ("late", beats.late),
            ("stale", beats.stale),
            ("strange", beats.strange),
            ("other_version", beats.other_version),
            ("same_seat", beats.same_seat),
        ];
        for (result, count) in counters {
            page.line("heartbeats_total", &[("result", &result)], count);
        }
        let late = Duration::from_millis(status.late_ms).as_secs_f64();
        page.gauge("keeper_late_seconds", "How late the keeper's timers were of late.", late);
        let real_time = "The kernel gave real-time priority.";
        page.gauge("keeper_real_time", real_time, flag(status.real_time));
        let trip = status.twin.as_ref().and_then(|twin| twin.round_trip_micros);
        if let Some(micros) = trip {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            page.gauge("heartbeat_round_trip_seconds", "From a heartbeat to its answer.", seconds);
        }
        page.kind("facts_total", "counter", "Facts of keeper and server, by kind.");
        for (kind, count) in &self.tally.facts {
            page.line("facts_total", &[("kind", kind)], count);
        }
        page.kind("events_lost_total", "counter", "Events that this machine's disk did not take.");
        page.line("events_lost_total", &[], status.events_lost);
        let age = self.at.elapsed_until(now).as_secs_f64();
        page.gauge("snapshot_age_seconds", "How old these figures are.", age);
    }
}

/// What is shown of each service: name, kind, what it means, the figure. All lines of one name stand
/// together, as the format wants it.
type Column = (&'static str, &'static str, &'static str, fn(&ServiceStatus) -> u64);

const SERVICE_COLUMNS: [Column; 5] = [
    ("service_up", "gauge", "The service is ready.", |s| u64::from(s.state == ServiceState::Up)),
    ("service_restarts_total", "counter", "Restarts of the service.", |s| s.restarts),
    ("service_failures_total", "counter", "How often it ended unasked.", |s| s.failures),
    ("service_failing", "gauge", "It failed too often and rests for long.", |s| {
        u64::from(s.failing)
    }),
    ("service_lines_dropped_total", "counter", "Its lines that were too many for the log.", |s| {
        s.lines_dropped
    }),
];

fn flag(is: bool) -> u8 {
    u8::from(is)
}

/// The page while it is written. Writing to a String cannot fail.
struct Page(String);

impl Page {
    fn kind(&mut self, name: &str, kind: &str, what: &str) {
        let _ = writeln!(self.0, "# HELP tandem_{name} {what}\n# TYPE tandem_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, is)| format!("{name}=\"{is}\"")).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "tandem_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, what: &str, value: impl Display) {
        self.kind(name, "gauge", what);
        self.line(name, &[], value);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tandem_keeper::pair::{Event as Case, Healing, Start, Timings};
    use tandem_keeper::{Begun, Keeper};
    use tandem_types::{Epoch, Seat};

    pub(in crate::keeper) fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// Of a keeper that has just started, one second after.
    pub(in crate::keeper) fn snapshot(tally: Tally) -> Snapshot {
        let config = tandem_keeper::Config {
            pair: tandem_keeper::pair::Config {
                seat: Seat::Master,
                timings: Timings::default(),
                healing: Healing::default(),
                probe: false,
                votes: false,
                locked: false,
            },
            orders: tandem_keeper::Standing::default(),
            profile: tandem_keeper::pair::Profile::Default,
            real_time: true,
            heartbeat_key: [0; 32],
            paths: 1,
        };
        let keeper = Keeper::new(at(0), config, Start { boot: 1, saved: Epoch::NEVER });
        let state = Path::new("/nonexistent").into();
        Snapshot { at: at(1_000), status: keeper.status(at(1_000)), tally, state }
    }

    fn begun(unserved: Option<u64>) -> Fact {
        Fact::Begun(Begun {
            reign: Epoch::NEVER.next(Seat::Master),
            case: Case::ProbeQuiet,
            unserved: unserved.map(Duration::from_millis),
            saved: Duration::from_millis(1),
            claimed: Duration::ZERO,
            ready: Duration::ZERO,
        })
    }

    #[test]
    fn takeovers_are_counted_in_their_buckets_and_a_cold_start_is_none() {
        let mut tally = Tally::default();
        for unserved in [Some(130), Some(149), Some(60_000), None] {
            tally.note(&begun(unserved));
        }
        let page = snapshot(tally).page(at(1_500));
        let has = |line: &str| assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        has("tandem_switchovers_total{reason=\"probe_quiet\"} 4");
        has("tandem_takeover_seconds_bucket{le=\"0.1\"} 0");
        has("tandem_takeover_seconds_bucket{le=\"0.15\"} 2");
        has("tandem_takeover_seconds_bucket{le=\"10\"} 2");
        has("tandem_takeover_seconds_bucket{le=\"+Inf\"} 3");
        has("tandem_takeover_seconds_count 3");
        has("tandem_facts_total{kind=\"reign_begun\"} 4");
        has("tandem_snapshot_age_seconds 0.5");
        has("tandem_role 0");
        has("tandem_state{state=\"cold\"} 1");
        has("tandem_service_up{service=\"server\"} 0");
    }

    #[test]
    fn every_metric_is_described_once_and_before_its_lines() {
        let mut tally = Tally::default();
        tally.note(&begun(Some(1)));
        let page = snapshot(tally).page(at(1_000));
        let (mut described, mut lines) = (Vec::new(), 0);
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap().to_owned();
                assert!(!described.contains(&name), "{name} twice");
                described.push(name);
            } else if !line.starts_with('#') {
                lines += 1;
                let name = line.split(['{', ' ']).next().unwrap();
                let known = described.iter().any(|is| name.starts_with(is.as_str()));
                assert!(known, "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(lines > 40, "{lines}");
    }
}
