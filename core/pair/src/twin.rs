//! What is known of the twin's keeper: its newest heartbeat, and how good that is.

use tandem_types::{Duration, Epoch, Instant, Seat};

use crate::beat::{Beat, Echo, Life};
use crate::table::State;

/// Why a heartbeat was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dropped {
    /// It carries our own seat.
    SameSeat,
    /// A later one, or the same, was taken before.
    Late,
    /// It says that the twin does not serve, but does not prove that it was sent of late.
    Stale,
}

/// The twin, as its heartbeats tell.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    newest: Option<(Life, u64)>,
    /// Of the newest heartbeat, taken or not: what we send back.
    echo: Option<Echo>,
    beat: Option<Beat>,
    heard_at: Option<Instant>,
    /// The newest heartbeat proves that it was sent of late, and that the twin hears us.
    fresh: bool,
    /// Since when it has said without a break that it does not serve.
    idle_since: Option<Instant>,
    /// When, in which life and in which reign it said last that it serves.
    served: Option<(Instant, Life, Epoch)>,
    /// What it said last about being protected while it served.
    protected: bool,
    /// Time between our heartbeat and the twin's that answers it.
    round_trip: Option<Duration>,
}

impl Twin {
    /// Takes a heartbeat. `life` is ours, `silence` our limit.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        (seat, life): (Seat, Life),
        silence: Duration,
        beat: Beat,
        accept_late: bool,
    ) -> Result<(), Dropped> {
        if beat.seat == seat {
            return Err(Dropped::SameSeat);
        }
        if self.newest >= Some((beat.life, beat.seq)) && !accept_late {
            return Err(Dropped::Late);
        }
        self.newest = self.newest.max(Some((beat.life, beat.seq)));
        self.echo = Some(Echo { life: beat.life, sent_micros: beat.sent_micros });
        let echo = beat.echo.filter(|echo| echo.life == life);
        let age = echo.map(|echo| Instant::from_micros(echo.sent_micros).elapsed_until(now));
        let fresh = age.is_some_and(|age| age <= silence) || accept_late;
        if beat.state.is_idle() && !fresh {
            return Err(Dropped::Stale);
        }
        if beat.state.is_idle() {
            self.idle_since = self.idle_since.or(Some(now));
        } else {
            self.idle_since = None;
        }
        if matches!(beat.state, State::Active | State::Yielding) {
            self.served = Some((now, beat.life, beat.reign));
            self.protected = beat.protected;
        }
        self.round_trip = age.or(self.round_trip);
        self.fresh = fresh;
        self.heard_at = Some(now);
        self.beat = Some(beat);
        Ok(())
    }

    /// Forgets what it said, not what must never be taken again.
    pub(crate) fn forget(&mut self) {
        *self = Self { newest: self.newest, ..Self::default() };
    }

    /// How long it must be silent before it may be judged: the longer limit of the two machines,
    /// and more if it said that it is late.
    pub(crate) fn patience(&self, own: Duration) -> Duration {
        let Some(beat) = self.beat else { return own };
        let agreed = own.max(Duration::from_micros(beat.silence_micros.into()));
        agreed + agreed.min(Duration::from_micros(beat.late_micros.into()))
    }

    /// When its silence counts, if it says nothing more.
    pub(crate) fn silent_at(&self, own: Duration) -> Option<Instant> {
        self.heard_at.map(|at| at + self.patience(own))
    }

    /// Its newest heartbeat, however old.
    pub fn beat(&self) -> Option<&Beat> {
        self.beat.as_ref()
    }

    /// When it was heard last.
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Time between one of our heartbeats and the newest of the twin's that answers it: the round
    /// trip, and up to one pause between heartbeats.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// What to send back of its newest heartbeat.
    pub(crate) fn echo(&self) -> Option<Echo> {
        self.echo
    }

    /// Whether it said last, within `valid`, that all it promised is on our side too. Later it may
    /// have gone on alone.
    pub(crate) fn was_protected(&self, now: Instant, valid: Duration) -> bool {
        self.protected && self.served.is_some_and(|(at, ..)| now < at + valid)
    }

    /// When it was heard to serve last.
    pub(crate) fn served_at(&self) -> Option<Instant> {
        self.served.map(|(at, ..)| at)
    }

    /// The reign in which it was heard to serve last.
    pub(crate) fn served_reign(&self) -> Option<Epoch> {
        self.served.map(|(_, _, reign)| reign)
    }

    /// Until when a server that an earlier life of the twin let serve may still hold its lease.
    pub(crate) fn lease_end(&self, own: Duration) -> Option<Instant> {
        let (at, life, _) = self.served?;
        (life != self.beat?.life).then(|| at + self.patience(own))
    }
}
