//! Every time-out of the pair and of supervision, and the arithmetic between them, in one place.
//!
//! Nobody else in the tree adds or compares them: a rule between two time-outs is a line of
//! [`Timings::check`], and `docs/internals/timeouts.md` is printed from here.

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Seat};

use crate::address::REFRESH_AT;

/// By how much the limits grow where the kernel refuses real-time priority: ordinary scheduling was
/// seen to be late by up to 189 ms under load, real-time by 15 ms.
pub const RELAX: u32 = 4;

/// A named set of time-outs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// For every network.
    #[default]
    Default,
    /// For two machines on a quiet LAN with real-time priority.
    Fast,
}

/// The time-outs. All of them are used; see [`Timings::check`] for how they hang together.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Timings {
    /// Pause between heartbeats to the twin, and between renewals of the server's lease.
    pub beat: Duration,
    /// A keeper that was not heard for so long is silent; a journal link likewise.
    pub silence: Duration,
    /// How long an answer at the virtual address is waited for. Asked six times in it.
    pub probe: Duration,
    /// Pause until it is asked again after somebody answered.
    pub probe_again: Duration,
    /// How long the server may serve after its keeper spoke to it last.
    pub lease: Duration,
    /// Pause between signs of life on the journal link.
    pub link_beat: Duration,
    /// Pause between progress reports of the server to its keeper.
    pub progress: Duration,
    /// A server without progress for so long hangs and is killed.
    pub hung: Duration,
    /// How long a cold server listens for the twin.
    pub cold: Duration,
    /// How much longer a cold standby listens.
    pub standby_grace: Duration,
    /// How long a twin that knows more than we do may take to come back.
    pub revive: Duration,
    /// How long the disk may take for an epoch.
    pub save: Duration,
    /// How long the kernel may take for the virtual address.
    pub claim: Duration,
    /// How long the twin may take to take over when ordered.
    pub switchover: Duration,
    /// How long the virtual address is still heard after it was handed over to the twin.
    pub linger: Duration,
    /// How long the third voter promises its vote, each time it is asked.
    pub vote: Duration,
    /// Pause before a server that was stopped by its disk or address tries again.
    pub retry: Duration,
    /// How long a server may take from start to ready.
    pub ready: Duration,
    /// How long a server may take to stop when asked.
    pub stop: Duration,
}

/// Questions asked within [`Timings::probe`]: one lost packet is not an answer.
pub(crate) const PROBE_QUESTIONS: u32 = 6;

/// A long probe is so many usual ones.
const LONG_PROBE: u32 = 3;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Default for Timings {
    fn default() -> Self {
        Self::of(Profile::Default)
    }
}

impl Timings {
    /// The time-outs of a profile.
    pub const fn of(profile: Profile) -> Self {
        let usual = Self {
            beat: millis(10),
            silence: millis(100),
            probe: millis(24),
            probe_again: millis(200),
            lease: millis(80),
            link_beat: millis(20),
            progress: millis(20),
            hung: millis(360),
            cold: millis(1_000),
            standby_grace: millis(10_000),
            revive: millis(3_000),
            save: millis(2_000),
            claim: millis(2_000),
            switchover: millis(2_000),
            linger: millis(60),
            vote: millis(1_000),
            retry: millis(5_000),
            ready: millis(10_000),
            stop: millis(3_000),
        };
        match profile {
            Profile::Default => usual,
            Profile::Fast => Self {
                beat: millis(4),
                silence: millis(36),
                probe: millis(12),
                lease: millis(28),
                link_beat: millis(8),
                progress: millis(8),
                hung: millis(180),
                ..usual
            },
        }
    }

    /// The same where the kernel refuses real-time priority: every limit that judges somebody grows
    /// by [`RELAX`]; what is done regularly stays as often as it was.
    #[must_use]
    pub fn relaxed(self) -> Self {
        Self {
            silence: self.silence * RELAX,
            probe: self.probe * RELAX,
            lease: self.lease * RELAX,
            hung: self.hung * RELAX,
            ..self
        }
    }

    /// How long a cold server with this seat listens before it believes that nobody is there.
    pub fn cold_wait(&self, seat: Seat) -> Duration {
        match seat {
            Seat::Master => self.cold,
            Seat::Standby => self.cold + self.standby_grace,
        }
    }

    /// Own lateness from which on nobody else is judged until a fresh silence limit has passed.
    pub fn stall(&self) -> Duration {
        self.silence / 2
    }

    /// Own lateness from which on this keeper counts as restarted: its lease has ended meanwhile, and
    /// as soon as the silence is over the twin may reign.
    pub fn sleep(&self) -> Duration {
        self.lease
    }

    /// Where heartbeats pass, they have come and been echoed within this time.
    pub fn both_ways(&self) -> Duration {
        self.beat * 4
    }

    /// How long the link must say without a break that the twin's server does not serve before that is
    /// believed of a keeper that is silent: it may have been late with a lease only, and what the link
    /// held back during a cut is old when it comes, all at once.
    pub fn idle_settles(&self) -> Duration {
        self.beat * 2
    }

    /// Pause between the questions at the virtual address.
    pub fn probe_pause(&self) -> Duration {
        self.probe / PROBE_QUESTIONS
    }

    /// How long an answer is waited for where somebody had answered before. If that server is gone
    /// it may be restarting beside us, cut off from us only, and ask as well: we must still be asking
    /// when it has begun to serve again.
    pub fn long_probe(&self) -> Duration {
        self.probe * LONG_PROBE
    }

    /// From the death of the active machine to the order to serve, without disk and kernel.
    pub fn machine_death(&self) -> Duration {
        self.silence + self.probe
    }

    /// From the hang of the active server to the word that it is dead, without the kill itself.
    pub fn server_hang(&self) -> Duration {
        self.progress + self.hung
    }

    /// Every rule: what it says, whether it holds, and why it must.
    pub(crate) fn rules(&self) -> [(&'static str, bool, &'static str); RULES] {
        [
            (
                "4 x beat <= silence",
                self.beat * 4 <= self.silence,
                "a few lost heartbeats are not a death",
            ),
            (
                "3 x beat <= lease",
                self.beat * 3 <= self.lease,
                "a lease is renewed with every heartbeat and must bear two late ones",
            ),
            (
                "lease + beat <= silence",
                self.lease + self.beat <= self.silence,
                "a server without its keeper has stopped serving before the twin may judge it gone; and a keeper held up no longer than its lease is heard again in time",
            ),
            (
                "2 x (link_beat + progress) <= silence",
                (self.link_beat + self.progress) * 2 <= self.silence,
                "what the servers hear on the link reaches the keeper twice before it counts as silent",
            ),
            (
                "4 x progress <= hung",
                self.progress * 4 <= self.hung,
                "a few late reports are not a hang",
            ),
            (
                "silence <= hung",
                self.silence <= self.hung,
                "a keeper that stalled may not find its own server hanging before it knows that it stalled itself",
            ),
            (
                "6 ms <= probe",
                millis(6) <= self.probe,
                "an answer from the LAN needs a moment, six times",
            ),
            (
                "2 x silence <= cold",
                self.silence * 2 <= self.cold,
                "a server that starts cold hears the twin, or outlives the lease of a silent one",
            ),
            (
                "hung <= revive",
                self.hung <= self.revive,
                "a twin that comes back from a hang is not overtaken by one that knows less",
            ),
            (
                "silence <= switchover",
                self.silence <= self.switchover,
                "a switchover is given up by its own limit or by the silence of the twin, the latter first",
            ),
            (
                "beat + linger <= 100 ms",
                self.beat + self.linger <= REFRESH_AT[2],
                "whoever took the address over announces it again after the other one has let go of it",
            ),
            (
                "2 x silence <= vote",
                self.silence * 2 <= self.vote,
                "the third vote is asked for again when a quarter of it is over, and must bear late answers",
            ),
            (
                "every time-out >= 1 ms and <= 10 min",
                self.all().iter().all(|(_, is)| (LEAST..=MOST).contains(is)),
                "zero would spin, and hours would be a typing error",
            ),
        ]
    }

    /// Every time-out with its name.
    pub fn all(&self) -> [(&'static str, Duration); 19] {
        [
            ("beat", self.beat),
            ("silence", self.silence),
            ("probe", self.probe),
            ("probe_again", self.probe_again),
            ("lease", self.lease),
            ("link_beat", self.link_beat),
            ("progress", self.progress),
            ("hung", self.hung),
            ("cold", self.cold),
            ("standby_grace", self.standby_grace),
            ("revive", self.revive),
            ("save", self.save),
            ("claim", self.claim),
            ("switchover", self.switchover),
            ("linger", self.linger),
            ("vote", self.vote),
            ("retry", self.retry),
            ("ready", self.ready),
            ("stop", self.stop),
        ]
    }

    /// Whether the time-outs fit together.
    ///
    /// # Errors
    ///
    /// The first inequality that does not hold, with its reason, for the administrator.
    pub fn check(&self) -> Result<(), String> {
        match self.rules().into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((rule, _, why)) => Err(format!("the time-outs break the rule {rule}: {why}")),
        }
    }
}

const RULES: usize = 13;

/// The shortest time-out that is accepted.
const LEAST: Duration = millis(1);

/// The longest.
const MOST: Duration = millis(600_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_fits_together_relaxed_or_not() {
        for profile in [Profile::Default, Profile::Fast] {
            assert_eq!(Timings::of(profile).check(), Ok(()));
            assert_eq!(Timings::of(profile).relaxed().check(), Ok(()));
        }
    }

    #[test]
    fn a_broken_rule_is_named_with_its_reason() {
        let lease = Timings { lease: millis(95), ..Timings::default() };
        let words = lease.check().unwrap_err();
        assert!(words.contains("lease + beat <= silence"), "{words}");
        assert!(words.contains("stopped serving before"), "{words}");
    }

    #[test]
    fn every_rule_can_be_broken_and_holds_at_its_limit() {
        let usual = Timings::default();
        let (short, long) = (Duration::from_micros(900), MOST + millis(1));
        let broken = [
            Timings { beat: millis(26), ..usual },
            Timings { lease: millis(29), ..usual },
            Timings { lease: millis(91), ..usual },
            Timings { link_beat: millis(31), ..usual },
            Timings { progress: millis(23), hung: millis(91), silence: millis(91), ..usual },
            Timings { hung: millis(99), ..usual },
            Timings { probe: Duration::from_micros(5_999), ..usual },
            Timings { cold: millis(199), ..usual },
            Timings { revive: millis(359), ..usual },
            Timings { switchover: millis(99), ..usual },
            Timings { linger: millis(91), ..usual },
            Timings { vote: millis(199), ..usual },
            Timings { claim: short, ..usual },
            Timings { standby_grace: long, ..usual },
        ];
        let mut named: Vec<_> =
            broken.iter().map(|timings| timings.check().expect_err("broken")).collect();
        named.dedup();
        assert!(named.len() >= RULES, "{named:#?}");
        for timings in [
            Timings { beat: millis(25), lease: millis(75), ..usual },
            Timings { lease: millis(90), ..usual },
            Timings { hung: millis(100), ..usual },
            Timings { claim: LEAST, standby_grace: MOST, ..usual },
        ] {
            assert_eq!(timings.check(), Ok(()));
        }
    }

    #[test]
    fn the_defaults_leave_room_for_the_goals() {
        // 200 ms and 600 ms as a client sees it; disk, kernel and server need the rest.
        assert!(Timings::default().machine_death() <= millis(130));
        assert!(Timings::default().server_hang() <= millis(400));
        // 80 ms and 300 ms.
        assert!(Timings::of(Profile::Fast).machine_death() <= millis(50));
        assert!(Timings::of(Profile::Fast).server_hang() <= millis(200));
    }
}
