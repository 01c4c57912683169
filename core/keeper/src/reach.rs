//! Whom this machine reaches on the phones' network: its gateway, and a few phones. Evidence for the case
//! that the twin is silent: is it gone, or are we?
//!
//! ```text
//!   at the start, then every 5 s .................... for `status`, and to have something to compare
//!   the twin fell silent, or the wire changed: at once, then every 200 ms for 3 s
//!   nobody answers ................................... every 200 ms until somebody does
//! ```
//!
//! Silence of a phone proves nothing (it may sleep, or sit behind a router that lets only the server's
//! packets in); an answer does. A gateway that has answered before and does not answer, twice in a row,
//! while no phone does either and none has sent anything: then we are the one that is cut off.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

/// Phones that are asked at a time; what the server names beyond that is not used.
pub const PHONES_MAX: usize = 8;

/// Pause between two questions while all is well.
const CALM: Duration = Duration::from_secs(5);
/// Pause between two questions while somebody must decide.
const URGENT: Duration = Duration::from_millis(200);
/// So long it is urgent. What is not decided by then needs no haste.
const URGENT_FOR: Duration = Duration::from_secs(3);

/// One round without an answer may be lost; so many in a row are not.
const EMPTY_ROUNDS: u32 = 2;

/// Whom this machine has reached with one round of questions.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reach {
    /// Whether a gateway has answered; `None`: there is none to ask.
    pub gateway: Option<bool>,
    /// How many phones were asked, at most [`PHONES_MAX`].
    pub phones_asked: u8,
    /// How many of them have answered.
    pub phones_answered: u8,
}

/// When to ask, whom, and what was answered last.
#[derive(Debug)]
pub(crate) struct Asking {
    next: Instant,
    urgent_until: Instant,
    /// The wire works, as far as is known.
    carrier: bool,
    /// Whether the twin was heard and the wire worked, when somebody looked last.
    before: Option<(bool, bool)>,
    phones: Vec<SocketAddr>,
    newest: Option<(Instant, Reach)>,
    /// Rounds in a row in which nobody answered.
    empty: u32,
    /// The gateway has answered once: before that its silence may be its way.
    gateway_seen: bool,
}

impl Asking {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: now,
            urgent_until: now,
            carrier: true,
            before: None,
            phones: Vec::new(),
            newest: None,
            empty: 0,
            gateway_seen: false,
        }
    }

    /// The server has named phones.
    pub(crate) fn take_phones(&mut self, mut phones: Vec<SocketAddr>) {
        phones.truncate(PHONES_MAX);
        self.phones = phones;
    }

    /// Somebody has answered, or nobody.
    pub(crate) fn take_reach(&mut self, now: Instant, reach: Reach, phone_heard: Option<Instant>) {
        self.newest = Some((now, reach));
        let heard = phone_heard.is_some_and(|at| now < at + URGENT * EMPTY_ROUNDS);
        self.gateway_seen |= reach.gateway == Some(true);
        let gone = self.gateway_seen && reach.gateway == Some(false);
        let empty = gone && reach.phones_answered == 0 && !heard;
        self.empty = if empty { self.empty.saturating_add(1) } else { 0 };
        if empty {
            self.next = self.next.min(now + URGENT);
        }
    }

    /// Whether neither the gateway nor any phone is reached.
    pub(crate) fn is_isolated(&self) -> bool {
        self.empty >= EMPTY_ROUNDS
    }

    /// The wire works, or does not.
    pub(crate) fn take_carrier(&mut self, works: bool) {
        self.carrier = works;
    }

    /// Whom to ask, if it is time to. A twin that falls silent, and a wire that changes, make it urgent.
    pub(crate) fn due(&mut self, now: Instant, twin_heard: bool) -> Option<Vec<SocketAddr>> {
        let is = (twin_heard, self.carrier);
        let is_news = is != (true, true) && self.before.is_some_and(|before| before != is);
        self.before = Some(is);
        if is_news {
            self.next = now;
            self.urgent_until = now + URGENT_FOR;
        }
        if now < self.next {
            return None;
        }
        self.next = now + if now < self.urgent_until { URGENT } else { CALM };
        Some(self.phones.clone())
    }

    /// When the next question is due.
    pub(crate) fn next_timeout(&self) -> Instant {
        self.next
    }

    /// The newest answer, and when it came.
    pub(crate) fn newest(&self) -> Option<(Instant, Reach)> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(asking: &mut Asking, from: Instant, twin: bool) -> Vec<u128> {
        let mut at = from;
        let mut asked = Vec::new();
        while at < from + 4 * CALM {
            if asking.due(at, twin).is_some() {
                asked.push((at - Duration::from_micros(from.as_micros())).as_micros().into());
            }
            at = at + Duration::from_millis(10);
        }
        asked
    }

    #[test]
    fn it_asks_seldom_and_at_once_when_the_twin_falls_silent() {
        let start = Instant::from_micros(1_000_000);
        let mut asking = Asking::new(start);
        let calm = asked(&mut asking, start, true);
        assert_eq!(calm, [0, 5_000_000, 10_000_000, 15_000_000]);
        let urgent = asked(&mut asking, start + 4 * CALM, false);
        assert_eq!(urgent[..3], [0, 200_000, 400_000]);
        assert_eq!(urgent.iter().filter(|at| **at <= 3_000_000).count(), 16);
        assert_eq!(urgent.len(), 16 + 3, "then as seldom as before: a twin may be away for days");
    }

    #[test]
    fn a_wire_that_comes_back_makes_nothing_urgent_and_one_that_goes_does() {
        let start = Instant::from_micros(1_000_000);
        let mut asking = Asking::new(start);
        assert!(asking.due(start, true).is_some(), "the first question");
        assert_eq!(asking.due(start, true), None);
        asking.take_carrier(false);
        assert!(asking.due(start, true).is_some());
        asking.take_carrier(true);
        assert_eq!(asking.due(start, true), None);
    }

    #[test]
    fn no_more_phones_are_asked_than_the_limit() {
        let start = Instant::from_micros(1_000_000);
        let mut asking = Asking::new(start);
        let phone = |number| SocketAddr::from(([192, 0, 2, 1], number));
        asking.take_phones((1..=PHONES_MAX as u16).map(phone).collect());
        assert_eq!(asking.phones.len(), PHONES_MAX);
        asking.take_phones((1..=1 + PHONES_MAX as u16).map(phone).collect());
        assert_eq!(asking.due(start + CALM, true).unwrap().len(), PHONES_MAX);
    }
}
