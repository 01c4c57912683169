//! What is known of the twin's keeper: its newest heartbeat, and how good that is.

use tandem_types::{Duration, Epoch, Instant, Seat};

use crate::beat::{Beat, Echo, Life, Server};
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
    /// The newest heartbeat of another machine with our own seat, when it came and when one came that
    /// proved to be sent of late.
    alike: Option<(Echo, Instant)>,
    alike_proven: Option<Instant>,
}

/// So long after its last heartbeat another machine with our seat is still reckoned with.
const ALIKE_HOLD: Duration = Duration::from_secs(2);

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
            self.take_alike(now, life, silence, &beat);
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
        let died = matches!(beat.server, Server::Died(_));
        if died && self.served.is_some_and(|(.., reign)| reign == beat.reign) {
            // Its last word may be later than the last heartbeat of its reign.
            self.protected |= beat.protected;
        }
        self.round_trip = age.or(self.round_trip);
        self.fresh = fresh;
        self.heard_at = Some(now);
        self.beat = Some(beat);
        Ok(())
    }

    /// A heartbeat with our own seat. Our own ones may come back to us, and those of our former lives may
    /// be sent again by anybody: it must answer one of this life.
    fn take_alike(&mut self, now: Instant, life: Life, silence: Duration, beat: &Beat) {
        if beat.life == life {
            return;
        }
        self.alike = Some((Echo { life: beat.life, sent_micros: beat.sent_micros }, now));
        let echo = beat.echo.filter(|echo| echo.life == life);
        let age = echo.map(|echo| Instant::from_micros(echo.sent_micros).elapsed_until(now));
        if age.is_some_and(|age| age <= silence) {
            self.alike_proven = Some(now);
        }
    }

    /// Whether another machine with our own seat is there.
    pub(crate) fn has_alike(&self, now: Instant) -> bool {
        self.alike_proven.is_some_and(|at| now < at + ALIKE_HOLD)
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

    /// What to send back of its newest heartbeat. Where it is not heard, another machine with our own seat
    /// gets its answer, so that it hears of its mistake.
    pub(crate) fn echo(&self, now: Instant) -> Option<Echo> {
        let is_heard = self.heard_at.is_some_and(|at| now < at + ALIKE_HOLD);
        let alike = self.alike.filter(|(_, at)| !is_heard && now < *at + ALIKE_HOLD);
        alike.map(|(echo, _)| echo).or(self.echo)
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

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_millis(100);
    const US: (Seat, Life) = (Seat::Standby, Life { boot: 5, sleeps: 1 });

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    /// A heartbeat of the master that answers ours of `answers`, in milliseconds.
    fn beat(boot: u64, seq: u64, state: State, answers: u64) -> Beat {
        Beat {
            seat: Seat::Master,
            life: Life { boot, sleeps: 0 },
            seq,
            sent_micros: 77,
            echo: Some(Echo { life: US.1, sent_micros: answers * 1_000 }),
            state,
            reign: Epoch::NEVER.next(Seat::Master),
            highest: Epoch::NEVER.next(Seat::Master),
            fit: true,
            whole: true,
            holds: None,
            server: Server::Up,
            serving: state == State::Active,
            protected: true,
            calls: 0,
            reached: false,
            silence_micros: 100_000,
            late_micros: 0,
            locked: false,
            carrier: true,
        }
    }

    #[test]
    fn a_repeated_a_late_and_a_former_heartbeat_are_dropped() {
        let mut twin = Twin::default();
        let mut take = |beat| twin.take(at(1_000), US, SILENCE, beat, false);
        assert_eq!(take(beat(3, 7, State::Active, 995)), Ok(()));
        assert_eq!(take(beat(3, 7, State::Active, 995)), Err(Dropped::Late));
        assert_eq!(take(beat(3, 6, State::Passive, 995)), Err(Dropped::Late));
        assert_eq!(take(beat(2, 99, State::Passive, 995)), Err(Dropped::Late));
        assert_eq!(take(beat(4, 1, State::Cold, 995)), Ok(()), "a later life begins at one");
        let mine = Beat { seat: Seat::Standby, ..beat(9, 9, State::Active, 995) };
        assert_eq!(take(mine), Err(Dropped::SameSeat));
    }

    #[test]
    fn another_machine_with_our_seat_is_known_by_answering_us_now() {
        let alike = |life: Life, answers: u64| {
            let echo = Some(Echo { life: US.1, sent_micros: answers * 1_000 });
            Beat { seat: US.0, life, echo, ..beat(9, 9, State::Active, 0) }
        };
        let other = Life { boot: 8, sleeps: 0 };
        let hear = |twin: &mut Twin, beat: Beat| {
            assert_eq!(twin.take(at(1_000), US, SILENCE, beat, false), Err(Dropped::SameSeat));
            twin.has_alike(at(1_000))
        };
        let mut twin = Twin::default();
        assert!(!hear(&mut twin, alike(US.1, 995)), "our own");
        assert_eq!(twin.echo(at(1_000)), None);
        assert!(!hear(&mut twin, Beat { echo: None, ..alike(other, 0) }), "one sent again");
        assert_eq!(twin.echo(at(1_000)).map(|echo| echo.life), Some(other), "it gets its answer");
        assert!(!hear(&mut twin, alike(other, 899)), "too old an answer");
        assert!(hear(&mut twin, alike(other, 995)));
        assert!(!twin.has_alike(at(3_001)), "it is gone");
        let twins = Echo { life: Life { boot: 3, sleeps: 0 }, sent_micros: 77 };
        twin.take(at(1_001), US, SILENCE, beat(3, 7, State::Active, 995), false).unwrap();
        assert_eq!(twin.echo(at(1_001)), Some(twins), "the twin comes first");
    }

    #[test]
    fn who_says_that_it_does_not_serve_must_prove_that_it_says_so_now() {
        let mut twin = Twin::default();
        let mut take = |beat| twin.take(at(1_000), US, SILENCE, beat, false);
        assert_eq!(take(beat(3, 1, State::Passive, 900)), Ok(()), "just within the limit");
        assert_eq!(take(beat(3, 2, State::Passive, 899)), Err(Dropped::Stale));
        assert_eq!(take(Beat { echo: None, ..beat(3, 3, State::Cold, 0) }), Err(Dropped::Stale));
        let former = Echo { life: Life { boot: 5, sleeps: 0 }, sent_micros: 999_000 };
        let to_former = Beat { echo: Some(former), ..beat(3, 4, State::Passive, 0) };
        assert_eq!(take(to_former), Err(Dropped::Stale), "it answers our former life");
        assert_eq!(take(beat(3, 5, State::Active, 1)), Ok(()), "who serves is believed at once");
    }

    #[test]
    fn it_is_given_the_longer_limit_of_both_and_more_while_it_is_late() {
        let mut twin = Twin::default();
        assert_eq!(twin.patience(SILENCE), SILENCE);
        let relaxed = Beat { silence_micros: 400_000, ..beat(3, 1, State::Active, 995) };
        twin.take(at(1_000), US, SILENCE, relaxed, false).unwrap();
        assert_eq!(twin.patience(SILENCE), SILENCE * 4);
        let late = Beat { late_micros: 30_000, ..beat(3, 2, State::Active, 995) };
        twin.take(at(1_000), US, SILENCE, late, false).unwrap();
        assert_eq!(twin.silent_at(SILENCE), Some(at(1_130)));
        let absurd = Beat { late_micros: u32::MAX, ..beat(3, 3, State::Active, 995) };
        twin.take(at(1_000), US, SILENCE, absurd, false).unwrap();
        assert_eq!(twin.patience(SILENCE), SILENCE * 2, "no more than twice");
    }
}
