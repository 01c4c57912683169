//! What was promised to one pair: the rules of the voter.
//!
//! Invariant: at no moment is there more than one promise, and none is taken back or shortened but by
//! the one who holds it.

use tandem_types::{Duration, Epoch, Instant, Seat};

use crate::term::promised;

/// One life of one machine's keeper. A keeper that was started again is somebody else: two machines
/// with the same seat, made by copying one, are not served both.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Side {
    /// Its place in the pair.
    pub seat: Seat,
    /// Which life of its keeper; rises.
    pub life: u64,
}

/// A promise to promise nothing to anybody else.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Promise {
    /// Who has it.
    pub side: Side,
    /// Until when, on the voter's clock.
    pub until: Instant,
}

/// What was promised to one pair.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ledger {
    /// Before that nothing is granted: an earlier life of the voter may have promised.
    pub grants_from: Instant,
    /// The newest promise; it may have run out.
    pub promise: Option<Promise>,
    /// The highest epoch that was granted.
    pub highest: Epoch,
    /// The newest message of each seat (master, standby): life and serial.
    pub newest: [Option<(u64, u64)>; 2],
}

/// What follows from a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The promise is given, for this term.
    Granted(Duration),
    /// It is not.
    Refused {
        /// How long the reason will last, as far as is known; zero: until the epoch is higher.
        left: Duration,
    },
    /// A release was taken; there may have been nothing to release.
    Released,
    /// The same message was taken before, or a later one of the same life. It changes nothing.
    Repeated,
    /// A later life of the same seat was heard before.
    Older,
}

impl Ledger {
    /// Of a voter that remembers nothing and grants from `grants_from` on.
    pub fn new(grants_from: Instant) -> Self {
        Self { grants_from, promise: None, highest: Epoch::NEVER, newest: [None; 2] }
    }

    /// A request for a promise of `term` (already limited), for a reign in `epoch`.
    pub fn ask(
        &mut self,
        now: Instant,
        (side, serial): (Side, u64),
        epoch: Epoch,
        term: Duration,
    ) -> Verdict {
        if let Some(verdict) = self.take_in_order(side, serial) {
            return verdict;
        }
        if epoch < self.highest {
            return Verdict::Refused { left: Duration::ZERO };
        }
        let bars = [Some(self.grants_from), self.bar_against(now, side)];
        let left = bars.into_iter().flatten().max().unwrap_or(now).remaining_from(now);
        if !left.is_zero() {
            return Verdict::Refused { left };
        }
        let earlier = self.holder(now).map(|promise| promise.until);
        // A shorter promise to the same side does not end the longer one it still counts on.
        let until = earlier.unwrap_or(now).max(now + promised(term));
        self.promise = Some(Promise { side, until });
        self.highest = epoch;
        Verdict::Granted(term)
    }

    /// The side needs no promise any more.
    pub fn release(&mut self, (side, serial): (Side, u64)) -> Verdict {
        if let Some(verdict) = self.take_in_order(side, serial) {
            return verdict;
        }
        if self.promise.is_some_and(|promise| promise.side == side) {
            self.promise = None;
        }
        Verdict::Released
    }

    /// The promise that runs at `now`.
    pub fn holder(&self, now: Instant) -> Option<Promise> {
        self.promise.filter(|promise| now < promise.until)
    }

    /// Until when a promise to somebody else stands in the way.
    fn bar_against(&self, now: Instant, side: Side) -> Option<Instant> {
        self.holder(now).filter(|promise| promise.side != side).map(|promise| promise.until)
    }

    /// Notes the message. A verdict where it is not the newest: whoever repeats a recorded message
    /// reaches nothing.
    fn take_in_order(&mut self, side: Side, serial: u64) -> Option<Verdict> {
        let newest = match side.seat {
            Seat::Master => &mut self.newest[0],
            Seat::Standby => &mut self.newest[1],
        };
        match *newest {
            Some((life, _)) if side.life < life => Some(Verdict::Older),
            Some(newest) if (side.life, serial) <= newest => Some(Verdict::Repeated),
            Some(_) | None => {
                *newest = Some((side.life, serial));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_millis(1_000);
    const MASTER: Side = Side { seat: Seat::Master, life: 1 };
    const STANDBY: Side = Side { seat: Seat::Standby, life: 1 };

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn epoch(number: u32, seat: Seat) -> Epoch {
        Epoch { number, seat }
    }

    /// Asks for a reign that is as high as any.
    fn ask(ledger: &mut Ledger, millis: u64, side: Side, serial: u64) -> Verdict {
        ledger.ask(at(millis), (side, serial), epoch(9, side.seat), TERM)
    }

    fn refused(millis: u64) -> Verdict {
        Verdict::Refused { left: Duration::from_millis(millis) }
    }

    #[test]
    fn one_side_has_the_promise_until_it_has_run_out_with_the_room_for_drift() {
        let mut ledger = Ledger::new(at(0));
        let low = epoch(9, Seat::Master);
        assert_eq!(ledger.ask(at(0), (STANDBY, 1), low, TERM), Verdict::Granted(TERM));
        assert_eq!(ledger.ask(at(1_000), (MASTER, 1), low, TERM), {
            Verdict::Refused { left: TERM / 32 }
        });
        assert_eq!(ledger.holder(at(1_031)).map(|promise| promise.side), Some(STANDBY));
        assert_eq!(ledger.ask(at(1_032), (MASTER, 2), low, TERM), Verdict::Granted(TERM));
        assert_eq!(ledger.holder(at(1_032)).map(|promise| promise.side), Some(MASTER));
    }

    #[test]
    fn the_holder_renews_and_a_shorter_term_does_not_shorten_its_promise() {
        let mut ledger = Ledger::new(at(0));
        assert_eq!(ask(&mut ledger, 0, MASTER, 1), Verdict::Granted(TERM));
        let short = Duration::from_millis(10);
        let granted = ledger.ask(at(100), (MASTER, 2), epoch(9, Seat::Master), short);
        assert_eq!(granted, Verdict::Granted(short));
        assert_eq!(
            ask(&mut ledger, 800, STANDBY, 1),
            Verdict::Refused { left: TERM / 32 + TERM / 5 }
        );
        assert_eq!(ask(&mut ledger, 900, MASTER, 3), Verdict::Granted(TERM));
        assert_eq!(
            ask(&mut ledger, 1_500, STANDBY, 2),
            Verdict::Refused { left: TERM / 32 + Duration::from_millis(400) }
        );
    }

    #[test]
    fn a_release_frees_at_once_and_only_for_its_holder() {
        let mut ledger = Ledger::new(at(0));
        ask(&mut ledger, 0, MASTER, 1);
        assert_eq!(ledger.release((STANDBY, 1)), Verdict::Released);
        assert!(ledger.holder(at(0)).is_some());
        assert_eq!(ledger.release((MASTER, 2)), Verdict::Released);
        assert_eq!(ask(&mut ledger, 1, STANDBY, 2), Verdict::Granted(TERM));
    }

    #[test]
    fn an_ask_that_arrives_after_a_later_release_promises_nothing() {
        let mut ledger = Ledger::new(at(0));
        assert_eq!(ledger.release((MASTER, 2)), Verdict::Released);
        assert_eq!(ask(&mut ledger, 0, MASTER, 1), Verdict::Repeated);
        assert_eq!(ledger.holder(at(0)), None);
    }

    #[test]
    fn a_message_counts_once() {
        let mut ledger = Ledger::new(at(0));
        ask(&mut ledger, 0, MASTER, 7);
        assert_eq!(ask(&mut ledger, 500, MASTER, 7), Verdict::Repeated);
        assert_eq!(ledger.holder(at(1_100)), None, "the repetition did not renew");
    }

    #[test]
    fn a_restarted_keeper_waits_for_the_promise_of_its_earlier_life() {
        let mut ledger = Ledger::new(at(0));
        ask(&mut ledger, 0, MASTER, 9);
        let again = Side { life: 2, ..MASTER };
        assert!(matches!(ask(&mut ledger, 500, again, 1), Verdict::Refused { .. }));
        assert_eq!(ask(&mut ledger, 600, MASTER, 10), Verdict::Older);
        assert_eq!(ask(&mut ledger, 1_100, again, 2), Verdict::Granted(TERM));
    }

    #[test]
    fn an_epoch_below_one_that_was_granted_is_refused() {
        let mut ledger = Ledger::new(at(0));
        ledger.ask(at(0), (STANDBY, 1), epoch(6, Seat::Standby), TERM);
        ledger.release((STANDBY, 2));
        let low = ledger.ask(at(1), (MASTER, 1), epoch(6, Seat::Master), TERM);
        assert_eq!(low, refused(0));
        let high = ledger.ask(at(1), (MASTER, 2), epoch(7, Seat::Master), TERM);
        assert_eq!(high, Verdict::Granted(TERM));
    }

    #[test]
    fn a_refused_epoch_raises_nothing() {
        let mut ledger = Ledger::new(at(0));
        ledger.ask(at(0), (MASTER, 1), epoch(5, Seat::Master), TERM);
        ledger.ask(at(1), (STANDBY, 1), epoch(6, Seat::Standby), TERM);
        let renewed = ledger.ask(at(2), (MASTER, 2), epoch(5, Seat::Master), TERM);
        assert_eq!(renewed, Verdict::Granted(TERM));
    }

    #[test]
    fn nothing_is_granted_before_an_earlier_life_can_have_no_promise_left() {
        let mut ledger = Ledger::new(at(3_000));
        assert_eq!(ask(&mut ledger, 2_999, MASTER, 1), refused(1));
        assert_eq!(ask(&mut ledger, 3_000, MASTER, 2), Verdict::Granted(TERM));
    }
}
