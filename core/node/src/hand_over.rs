//! The planned switch, so that no message is lost and none has to be repeated.
//!
//! ```text
//!   active, told to hand over                          passive
//!   writes what changed      ── entries ──────────────> keeps them
//!   closes its mouth         ── what waited to leave ─> keeps it
//!                            ── "that was all" ───────>
//!                            <─ "taken" ──────────────
//!   says to its keeper: does not serve                  (the keepers: the other one's reign begins)
//!   hears on, answers nothing ── what still comes ────> takes it as if it had come there
//!   until phones have learned where the address is
//! ```
//!
//! The link keeps the order, so the twin has every entry that a message rests on before the message.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Flow, Instant};

use crate::admin::Aside;
use crate::facts::Fact;
use crate::node::Node;
use crate::outbox::{Parcel, Promise};
use crate::ports::Output;
use crate::record;

/// What the two nodes say to each other during a planned switch.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Handing {
    /// Say this to a phone once you serve.
    Say {
        /// Whether it must wait for a disk where there is no twin.
        durable: bool,
        flow: Flow,
        bytes: Vec<u8>,
    },
    /// This came for whoever serves.
    Pass { flow: Flow, bytes: Vec<u8> },
    /// Everything that waited to leave has been handed over.
    All,
    /// Everything was taken.
    Taken,
}

/// How far this server is in handing over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Parting {
    /// It is not.
    #[default]
    No,
    /// Its mouth is closed; the twin has not said yet that it has everything.
    Telling { until: Instant },
    /// It does not serve any more, and passes on what phones still send here.
    Passing { until: Instant },
}

/// What the twin handed over, until our reign begins.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The reign that ends. What was handed over in another one is of no use: it went on without us.
    reign: Epoch,
    waiting: VecDeque<(Instant, Handing)>,
    /// When the twin said that this is all.
    complete: Option<Instant>,
    /// Something did not fit, so that it must be repeated.
    overflown: bool,
}

impl Inherited {
    pub(crate) fn of(reign: Epoch) -> Self {
        Self { reign, waiting: VecDeque::new(), complete: None, overflown: false }
    }

    fn push(&mut self, now: Instant, what: Handing) {
        while self.waiting.front().is_some_and(|(at, _)| *at + INHERITED_VALID <= now) {
            self.waiting.pop_front();
        }
        if self.waiting.len() < INHERITED_MAX {
            self.waiting.push_back((now, what));
        } else {
            self.overflown = true;
        }
    }

    /// Forgets what was handed over in another reign.
    pub(crate) fn keep(&mut self, reign: Epoch) {
        if self.reign != reign {
            *self = Self::of(reign);
        }
    }

    /// Whether the twin has said a moment ago that it gave us everything: then nothing of what it
    /// said before is lost, and nothing needs to be repeated.
    pub(crate) fn is_complete(&self, now: Instant) -> bool {
        !self.overflown && self.complete.is_some_and(|at| now < at + INHERITED_VALID)
    }

    /// Everything that is not too old.
    fn take(&mut self, now: Instant) -> Vec<Handing> {
        let all = core::mem::replace(self, Self::of(self.reign)).waiting;
        let fresh = all.into_iter().filter(|(at, _)| now < *at + INHERITED_VALID);
        fresh.map(|(_, what)| what).collect()
    }
}

/// The twin takes what waited to leave within so long, or it is left to repetition.
const TELLING_MAX: Duration = Duration::from_millis(100);

/// So long what phones still send here is passed on.
const PASSING_FOR: Duration = Duration::from_millis(500);

/// Messages handed over that wait for our reign, at most; further ones are lost, as on the wire.
const INHERITED_MAX: usize = 8192;

/// A message that was handed over longer ago has been repeated meanwhile.
const INHERITED_VALID: Duration = Duration::from_secs(2);

impl Node {
    fn say_handing(&mut self, what: Handing) {
        // Where the link has gone nothing is heard, and the time-out breaks it off.
        self.journal.send_aside(record::encode(&Aside::Handing(what)));
    }

    /// The keeper says: hand over to the twin.
    pub(crate) fn hand_over(&mut self, now: Instant) {
        match self.parting {
            Parting::Telling { .. } => return,
            Parting::No | Parting::Passing { .. } => {}
        }
        if !self.is_serving() || !self.journal.is_linked() || !self.journal.is_followed() {
            // Ordered by force, or not serving anyway: there is nobody to hand over to. A twin that is late may be handed
            // over to: what it says to have taken comes after everything else on the link.
            return self.end(now, self.epoch());
        }
        self.write(now);
        let waiting = self.outbox.take_messages();
        let messages = waiting.len();
        for (durable, flow, bytes) in waiting {
            self.say_handing(Handing::Say { durable, flow, bytes });
        }
        self.say_handing(Handing::All);
        self.parting = Parting::Telling { until: now + TELLING_MAX };
        self.fact(Fact::HandedOver { messages });
    }

    /// The twin says something about a planned switch.
    pub(crate) fn handing(&mut self, now: Instant, what: Handing) {
        match what {
            Handing::Taken => {
                if matches!(self.parting, Parting::Telling { .. }) {
                    self.retire(now, self.epoch());
                    self.parting = Parting::Passing { until: now + PASSING_FOR };
                    if !self.config.lingers {
                        self.break_off(now);
                    }
                }
            }
            Handing::Pass { .. } if self.is_serving() => self.inherit(now, what),
            // Too late: the entries that it rests on were refused here, or came as an older reign's.
            Handing::Say { .. } | Handing::All if self.is_serving() => {}
            Handing::All => {
                self.inherited.keep(self.journal.epoch());
                self.inherited.complete = Some(now);
                self.say_handing(Handing::Taken);
            }
            Handing::Say { .. } | Handing::Pass { .. } => {
                self.inherited.keep(self.journal.epoch());
                self.inherited.push(now, what);
            }
        }
    }

    /// Our reign begins: what the twin handed over is said and done.
    pub(crate) fn inherit_all(&mut self, now: Instant) {
        let inherited = self.inherited.take(now);
        if inherited.is_empty() {
            return;
        }
        // What waited there rests here on the first entry of this reign, which the store writes
        // after all that came before.
        self.journal.append(now, Vec::new());
        for what in inherited {
            self.inherit(now, what);
        }
    }

    fn inherit(&mut self, now: Instant, what: Handing) {
        match what {
            Handing::Say { durable, flow, bytes } => {
                let flow = self.rehome(flow);
                let parcel = Parcel::Message { flow, bytes, transaction: None };
                let promise = if durable { Promise::Durable } else { Promise::Passing };
                self.outbox.stage(promise, parcel);
            }
            Handing::Pass { flow, bytes } => self.bytes(now, self.rehome(flow), &bytes),
            Handing::All | Handing::Taken => {}
        }
    }

    /// Passes on what came for whoever serves. False where that is not our business.
    pub(crate) fn pass_on(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        let parting = match self.parting {
            Parting::No => false,
            Parting::Telling { .. } | Parting::Passing { .. } => true,
        };
        let passes = parting && self.config.virtual_addresses.contains(&flow.local);
        if passes {
            self.say_handing(Handing::Pass { flow, bytes: bytes.to_vec() });
        }
        passes
    }

    /// Whether the mouth is closed although the role is still ours.
    pub(crate) fn is_telling(&self) -> bool {
        match self.parting {
            Parting::Telling { .. } => true,
            Parting::No | Parting::Passing { .. } => false,
        }
    }

    /// When the switch goes on by itself.
    pub(crate) fn parting_timeout(&self) -> Option<Instant> {
        match self.parting {
            Parting::No => None,
            Parting::Telling { until } | Parting::Passing { until } => Some(until),
        }
    }

    /// Goes on where the twin does not answer, or nothing is passed on any more.
    pub(crate) fn part(&mut self, now: Instant) {
        if self.parting_timeout().is_some_and(|until| until <= now) {
            self.break_off(now);
        }
    }

    /// The link is down, or the time is over.
    pub(crate) fn break_off(&mut self, now: Instant) {
        match self.parting {
            Parting::No => {}
            Parting::Telling { .. } => self.end(now, self.epoch()),
            Parting::Passing { .. } => {
                self.parting = Parting::No;
                self.outputs.push_back(Output::Serve(false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Transport;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn passed() -> Handing {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], 5060));
        let flow = Flow { transport: Transport::Udp, local: address, remote: address };
        Handing::Pass { flow, bytes: Vec::new() }
    }

    #[test]
    fn what_does_not_fit_is_left_to_repetition() {
        let mut inherited = Inherited::of(Epoch::NEVER);
        (0..INHERITED_MAX).for_each(|_| inherited.push(at(0), passed()));
        inherited.complete = Some(at(0));
        assert!(inherited.is_complete(at(1)));
        inherited.push(at(1), passed());
        assert!(!inherited.is_complete(at(1)), "one is lost: what may be lost is repeated");
        assert_eq!(inherited.take(at(1)).len(), INHERITED_MAX);
    }

    #[test]
    fn what_is_too_old_makes_room() {
        let mut inherited = Inherited::of(Epoch::NEVER);
        (0..INHERITED_MAX).for_each(|_| inherited.push(at(0), passed()));
        inherited.push(at(2_000), passed());
        inherited.complete = Some(at(2_000));
        assert!(inherited.is_complete(at(2_001)));
        assert_eq!(inherited.take(at(2_001)).len(), 1);
    }
}
