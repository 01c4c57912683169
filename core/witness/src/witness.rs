//! The witness as one value: a ledger for each pair it serves, and the datagrams.
//!
//! What a stranger can send costs a look-up, and with the name of a real pair one HMAC; it is never
//! answered, never stored and only counted.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Instant, Seat};

use crate::ledger::{Ledger, Side, Verdict};
use crate::message::{Answer, Bad, Kind, PairId, Request, Seal, Witnessed, pair_of};
use crate::term::{TERM_MAX, promised};

/// Pairs that one witness serves, at most; more are refused at the start.
pub const PAIRS_MAX: usize = 4096;

/// A pair tells a change of its holder at most once in so long; what it hides shows in the status.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The list of pairs is too long, or has a key twice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TooManyPairs {
    /// More than [`PAIRS_MAX`].
    Length(usize),
    /// These two have the same key.
    SameKey(String, String),
}

/// One pair that is served.
#[derive(Debug)]
struct Pair {
    name: String,
    seal: Seal,
    ledger: Ledger,
    /// The holder that was told last, and when.
    told: (Option<Side>, Option<Instant>),
    /// When each seat was heard last.
    heard: [Option<Instant>; 2],
}

/// The voter for many pairs.
#[derive(Debug)]
pub struct Witness {
    life: u64,
    pairs: BTreeMap<PairId, Pair>,
    counters: Counters,
    facts: VecDeque<Fact>,
}

/// What came, by what it was.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Questions whether the witness is there.
    pub hellos: u64,
    /// Promises given and renewed.
    pub granted: u64,
    /// Promises refused.
    pub refused: u64,
    /// Promises given back.
    pub released: u64,
    /// Messages that had come before, or of an older life of the keeper or of the witness.
    pub repeated: u64,
    /// Of a pair that is not served here.
    pub strangers: u64,
    /// Signed with a wrong key.
    pub forged: u64,
    /// Of another length or version, or without meaning.
    pub garbage: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fact {
    /// A pair's promise went to this side; `None`: it is free again.
    Holder {
        /// The pair.
        pair: String,
        /// Who may serve.
        seat: Option<Seat>,
        /// The reign it was asked for.
        epoch: Epoch,
    },
}

impl core::fmt::Display for Fact {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Holder { pair, seat: Some(seat), epoch } => {
                write!(f, "{pair}: the vote goes to the {seat}, reign {epoch}")
            }
            Self::Holder { pair, seat: None, epoch } => {
                write!(f, "{pair}: the vote is free again, last reign {epoch}")
            }
        }
    }
}

/// How one pair stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PairStatus {
    /// Its name in the configuration of the witness.
    pub name: String,
    /// Who has the promise.
    pub holder: Option<Seat>,
    /// How long the promise runs yet.
    pub left: Duration,
    /// The highest epoch that was granted.
    pub highest: Epoch,
    /// How long ago the master was heard.
    pub master_heard: Option<Duration>,
    /// How long ago the standby was heard.
    pub standby_heard: Option<Duration>,
}

impl Witness {
    /// A witness that remembers nothing. `life` must differ from every earlier one and from zero:
    /// 64 random bits do. Pairs are a name and the witness key each.
    ///
    /// # Errors
    ///
    /// The list of pairs breaks a limit.
    pub fn new(
        now: Instant,
        life: u64,
        pairs: &[(String, [u8; 32])],
    ) -> Result<Self, TooManyPairs> {
        let mut witness = Self {
            life: life.max(1),
            pairs: BTreeMap::new(),
            counters: Counters::default(),
            facts: VecDeque::new(),
        };
        witness.serve(now, pairs)?;
        Ok(witness)
    }

    /// Serves these pairs from now on and no others. Those that were served before keep their
    /// promises; a new one waits as after a start: it may have been served before it was removed.
    ///
    /// # Errors
    ///
    /// The list of pairs breaks a limit; nothing has changed.
    pub fn serve(
        &mut self,
        now: Instant,
        pairs: &[(String, [u8; 32])],
    ) -> Result<(), TooManyPairs> {
        if pairs.len() > PAIRS_MAX {
            return Err(TooManyPairs::Length(pairs.len()));
        }
        let mut next: BTreeMap<PairId, Pair> = BTreeMap::new();
        for (name, key) in pairs {
            let seal = Seal::new(key);
            let id = seal.pair();
            if let Some(other) = next.get(&id) {
                return Err(TooManyPairs::SameKey(other.name.clone(), name.clone()));
            }
            let ledger = Ledger::new(now + promised(TERM_MAX));
            let told = (None, None);
            next.insert(id, Pair { name: name.clone(), seal, ledger, told, heard: [None; 2] });
        }
        for (id, pair) in &mut next {
            if let Some(before) = self.pairs.remove(id) {
                *pair = Pair { name: core::mem::take(&mut pair.name), ..before };
            }
        }
        self.pairs = next;
        Ok(())
    }

    /// Takes a datagram; the answer goes back to where it came from.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Option<Vec<u8>> {
        let opened = pair_of(datagram).and_then(|id| {
            let pair = self.pairs.get_mut(&id).ok_or(Bad::Stranger)?;
            pair.seal.open_request(datagram).map(|request| (pair, request))
        });
        let (pair, request) = match opened {
            Ok(opened) => opened,
            Err(bad) => {
                self.counters.count_bad(bad);
                return None;
            }
        };
        let known = request.witness == self.life;
        let said = pair.take(now, &request, known, &mut self.counters)?;
        self.facts.extend(pair.news(now));
        let Request { side, serial, .. } = request;
        Some(pair.seal.answer(&Answer { witness: self.life, side, serial, said }))
    }

    /// The next thing that happened, oldest first.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// What came since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How each pair stands, by name.
    pub fn status(&self, now: Instant) -> Vec<PairStatus> {
        let mut rows: Vec<_> = self.pairs.values().map(|pair| pair.status(now)).collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        rows
    }
}

impl Pair {
    fn take(
        &mut self,
        now: Instant,
        request: &Request,
        known: bool,
        counters: &mut Counters,
    ) -> Option<Witnessed> {
        let who = (request.side, request.serial);
        let verdict = match request.kind {
            Kind::Hello => {
                counters.hellos += 1;
                self.heard(now, request.side);
                return Some(Witnessed::Here);
            }
            Kind::Ask { .. } | Kind::Release { .. } if !known => {
                counters.repeated += 1;
                return Some(Witnessed::Here);
            }
            Kind::Ask { epoch, term } => self.ledger.ask(now, who, epoch, term.min(TERM_MAX)),
            Kind::Release { .. } => self.ledger.release(who),
        };
        let (counter, said) = match verdict {
            Verdict::Granted(term) => (&mut counters.granted, Some(Witnessed::Granted { term })),
            Verdict::Refused { left } => {
                let highest = self.ledger.highest;
                (&mut counters.refused, Some(Witnessed::Refused { left, highest }))
            }
            Verdict::Released => (&mut counters.released, Some(Witnessed::Released)),
            Verdict::Older => (&mut counters.repeated, Some(Witnessed::Older)),
            Verdict::Repeated => (&mut counters.repeated, None),
        };
        *counter += 1;
        if !matches!(verdict, Verdict::Repeated) {
            self.heard(now, request.side);
        }
        said
    }

    fn heard(&mut self, now: Instant, side: Side) {
        match side.seat {
            Seat::Master => self.heard[0] = Some(now),
            Seat::Standby => self.heard[1] = Some(now),
        }
    }

    /// A new holder, unless the pair has told one a moment ago.
    fn news(&mut self, now: Instant) -> Option<Fact> {
        let holder = self.ledger.holder(now).map(|promise| promise.side);
        let (told, at) = self.told;
        if holder == told || at.is_some_and(|at| now < at + TELL_EVERY) {
            return None;
        }
        self.told = (holder, Some(now));
        let seat = holder.map(|side| side.seat);
        Some(Fact::Holder { pair: self.name.clone(), seat, epoch: self.ledger.highest })
    }

    fn status(&self, now: Instant) -> PairStatus {
        let holder = self.ledger.holder(now);
        let [master, standby] = self.heard;
        PairStatus {
            name: self.name.clone(),
            holder: holder.map(|promise| promise.side.seat),
            left: holder.map_or(Duration::ZERO, |promise| promise.until.remaining_from(now)),
            highest: self.ledger.highest,
            master_heard: master.map(|at| at.elapsed_until(now)),
            standby_heard: standby.map(|at| at.elapsed_until(now)),
        }
    }
}

impl Counters {
    fn count_bad(&mut self, bad: Bad) {
        let counter = match bad {
            Bad::Stranger => &mut self.strangers,
            Bad::Forged => &mut self.forged,
            Bad::Length | Bad::Version(_) | Bad::Garbled => &mut self.garbage,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests;
