//! What is shown: the state of everything, for `tandem status`.

use tandem_types::{Duration, Instant, Role};

use super::{Keeper, role};
use crate::contract::PATHS_MAX;
use crate::services;
use crate::status::{PathStatus, Status, SwitchStatus, TwinStatus, VoteStatus, When};

impl Keeper {
    /// Everything about this machine.
    pub fn status(&self, now: Instant) -> Status {
        let beat = self.pair.own_beat(now);
        let ago = |at: Instant| millis(at.elapsed_until(now));
        Status {
            seat: beat.seat,
            role: self.role(),
            state: beat.state,
            since_ms: ago(self.pair.since()),
            why: self.pair.why().into(),
            standing: self.pair.standing(now).into(),
            reign: beat.reign,
            highest: beat.highest,
            protected: self.role() == Role::Active && beat.protected,
            whole: beat.whole,
            fit: beat.fit,
            twin_ready: self.pair.is_twin_ready(now),
            locked: beat.locked,
            lock_left_ms: self.orders.lock_left(now).map(millis),
            switch: self.switch_status(now),
            votes: self.vote_status(now),
            carrier: beat.carrier,
            conflicts: self
                .conflicts
                .seen()
                .iter()
                .map(|seen| When { ago_ms: ago(seen.last), what: seen.conflict })
                .collect(),
            reach: self.asking.newest().map(|(at, what)| When { ago_ms: ago(at), what }),
            twin: self.twin_status(now),
            same_seat: self.pair.has_same_seat(now),
            stranger_ms_ago: self.stranger.map(ago),
            server: self.progress.map(|(at, what)| When { ago_ms: ago(at), what }),
            services: vec![services::status("server", &self.server, now)],
            timings: self.timings,
            profile: self.config.profile,
            real_time: self.config.real_time,
            late_ms: millis(self.pair.lateness()),
            paths: self.path_status(now),
            probe: self.config.pair.probe,
            heartbeats: self.counters,
            events_lost: 0,
            history: self
                .history
                .iter()
                .map(|(at, change)| When { ago_ms: ago(*at), what: change.clone() })
                .collect(),
        }
    }

    fn vote_status(&self, now: Instant) -> Option<VoteStatus> {
        let (twin, third_until, third) = self.pair.ballot();
        let left = |until: Option<Instant>| until.map_or(0, |at| millis(now.elapsed_until(at)));
        let (twin_ms, third_ms) = (left(twin), left(third_until));
        self.pair.needs_votes().then_some(VoteStatus { twin_ms, third_ms, third })
    }

    fn switch_status(&self, now: Instant) -> Option<SwitchStatus> {
        if let Some(since) = self.orders.idle_since {
            return Some(SwitchStatus {
                here: true,
                waits_ms: Some(millis(since.elapsed_until(now))),
                calls: self.own.calls,
                twin_ready: self.pair.is_twin_ready(now),
            });
        }
        let beat = self.pair.twin().beat().filter(|_| self.pair.is_twin_heard(now))?;
        self.orders.twin.waits_for_idle.then(|| SwitchStatus {
            here: false,
            waits_ms: None,
            calls: beat.calls,
            twin_ready: self.pair.is_ready(now),
        })
    }

    fn twin_status(&self, now: Instant) -> Option<TwinStatus> {
        let twin = self.pair.twin();
        let (beat, heard_at) = (twin.beat()?, twin.heard_at()?);
        Some(TwinStatus {
            heard: self.pair.is_twin_heard(now),
            heard_ms_ago: millis(heard_at.elapsed_until(now)),
            role: role(beat.state),
            state: beat.state,
            reign: beat.reign,
            server: beat.server,
            serving: beat.serving,
            fit: beat.fit,
            whole: beat.whole,
            protected: beat.protected,
            calls: beat.calls,
            locked: beat.locked,
            carrier: beat.carrier,
            late_ms: u64::from(beat.late_micros / 1_000),
            round_trip_micros: twin
                .round_trip()
                .map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
        })
    }

    fn path_status(&self, now: Instant) -> Vec<PathStatus> {
        (0..PATHS_MAX)
            .zip(&self.paths)
            .map(|(path, heard)| PathStatus {
                path,
                heard_ms_ago: heard.map(|at| millis(at.elapsed_until(now))),
            })
            .collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
