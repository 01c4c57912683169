//! Somebody else says that a virtual address is his: remembered, told, answered (RFC 5227 §2.4).
//!
//! Such a one is a misconfigured device, or an attacker. No role changes because of it: whoever can
//! send one ARP frame could then switch the pair. What is done is what the RFC calls to defend: the
//! address is announced again, so that phones that believed the other come back; at most once in
//! [`DEFEND_EVERY`], so that two who defend do not fill the network.

use core::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Instant};

/// Pause between two defences (RFC 5227 §1.1, DEFEND_INTERVAL).
pub const DEFEND_EVERY: Duration = Duration::from_secs(10);

/// A conflict that goes on is told so often.
pub const CONFLICT_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Conflicts that are remembered: the oldest makes room. Who invents hardware addresses gets one line
/// of the log in [`DEFEND_EVERY`] beyond that.
pub const CONFLICTS_MAX: usize = 8;

/// Somebody who says that a virtual address is his.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Conflict {
    /// The virtual address.
    pub address: IpAddr,
    /// His Ethernet address.
    pub hardware: [u8; 6],
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.hardware;
        write!(f, "{} by {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}", self.address)
    }
}

/// All conflicts of late.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    /// Oldest first.
    seen: Vec<Seen>,
    defended: Option<Instant>,
    told: Option<Instant>,
}

/// One conflict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) conflict: Conflict,
    /// Heard last.
    pub(crate) last: Instant,
    told: Instant,
}

/// What follows from a conflict that was heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Verdict {
    /// It is to be told.
    pub(crate) tell: bool,
    /// Who holds the address announces it again.
    pub(crate) defend: bool,
}

impl Conflicts {
    /// Takes one; `held`: the address is ours at the moment.
    pub(crate) fn heard(&mut self, now: Instant, conflict: Conflict, held: bool) -> Verdict {
        let tell = self.remember(now, conflict);
        let defend = held && self.defended.is_none_or(|at| at + DEFEND_EVERY <= now);
        if defend {
            self.defended = Some(now);
        }
        Verdict { tell, defend }
    }

    fn remember(&mut self, now: Instant, conflict: Conflict) -> bool {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.conflict == conflict) {
            seen.last = now;
            let tell = seen.told + CONFLICT_TOLD_EVERY <= now;
            if tell {
                seen.told = now;
            }
            return tell;
        }
        let full = self.seen.len() >= CONFLICTS_MAX;
        if full {
            self.seen.remove(0);
        }
        self.seen.push(Seen { conflict, last: now, told: now });
        let tell = !full || self.told.is_none_or(|at| at + DEFEND_EVERY <= now);
        if tell {
            self.told = Some(now);
        }
        tell
    }

    /// What is remembered, oldest first.
    pub(crate) fn seen(&self) -> &[Seen] {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(number: u8) -> Conflict {
        Conflict { address: [192, 0, 2, 10].into(), hardware: [2, 0, 0, 0, 0, number] }
    }

    #[test]
    fn a_conflict_is_told_once_and_again_after_a_while() {
        let mut conflicts = Conflicts::default();
        let start = Instant::from_micros(7_000_000);
        let told = |conflicts: &mut Conflicts, after| conflicts.heard(start + after, by(1), false);
        assert!(told(&mut conflicts, Duration::ZERO).tell);
        assert!(!told(&mut conflicts, CONFLICT_TOLD_EVERY - Duration::from_micros(1)).tell);
        assert!(told(&mut conflicts, CONFLICT_TOLD_EVERY).tell);
        assert!(!told(&mut conflicts, CONFLICT_TOLD_EVERY).tell);
        assert_eq!(conflicts.seen()[0].last, start + CONFLICT_TOLD_EVERY);
    }

    #[test]
    fn only_who_holds_the_address_defends_it_and_not_more_often_than_the_rfc_says() {
        let mut conflicts = Conflicts::default();
        let start = Instant::from_micros(1);
        assert!(!conflicts.heard(start, by(1), false).defend);
        assert!(conflicts.heard(start, by(1), true).defend);
        let soon = start + DEFEND_EVERY - Duration::from_micros(1);
        assert!(!conflicts.heard(soon, by(2), true).defend, "whoever it is");
        assert!(conflicts.heard(start + DEFEND_EVERY, by(2), true).defend);
    }

    #[test]
    fn who_invents_addresses_fills_neither_memory_nor_log() {
        let mut conflicts = Conflicts::default();
        let start = Instant::from_micros(1);
        let told = (0..=255).filter(|n| conflicts.heard(start, by(*n), true).tell).count();
        assert_eq!((told, conflicts.seen().len()), (CONFLICTS_MAX, CONFLICTS_MAX));
        assert!(conflicts.heard(start + DEFEND_EVERY, by(7), true).tell);
    }

    #[test]
    fn a_conflict_names_address_and_offender() {
        assert_eq!(by(0xab).to_string(), "192.0.2.10 by 02:00:00:00:00:ab");
    }
}
