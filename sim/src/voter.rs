//! The third voter: a real witness on a third machine, at the end of a road of its own, with a clock of its
//! own; and the end of each keeper that asks it, as `io/vote` has it.
//!
//! ```text
//!   keeper ── AskVote ──> Holder ── road to the witness ──> Witness
//!     ^                     │  <─────────────────────────────┘
//!     └───── Voted ─────────┘
//! ```

use tandem_keeper::Input as KeeperInput;
use tandem_keeper::pair::Voted as PairVoted;
use tandem_types::{Dice, Duration, Instant};
use tandem_witness::{Holder, Side, Voted, Witness};

use crate::machine::Rules;
use crate::network::{Port, Road, Way};
use crate::world::{Event, World};

/// Shared by both keepers and the witness.
const WITNESS_KEY: [u8; 32] = [5; 32];

/// The clock of the witness is wrong by at most so many millionths: 0.5 %.
const DRIFT_MAX: i64 = 5_000;

/// The sabotaged witness has a clock that runs away: twice as fast as time.
const DRIFT_RUNAWAY: i64 = 1_000_000;

/// The clock of the witness shows so much when the world begins.
const CLOCK_START: Duration = Duration::from_secs(1_000);

/// A datagram takes so much longer than in the LAN, in microseconds.
const FAR_MICROS: u64 = 3_000;

/// Datagrams from the witness that a keeper which is held up finds later.
const LETTERS_MAX: usize = 64;

/// The third machine.
#[derive(Debug)]
pub(crate) struct Voter {
    /// `None`: the process does not run.
    witness: Option<Witness>,
    drift_millionths: i64,
    lives: u64,
    dice: Dice,
    /// What earlier lives of the process granted.
    granted_before: u64,
}

impl Voter {
    pub(crate) fn new(mut dice: Dice, rules: &Rules) -> Self {
        let span = u64::try_from(2 * DRIFT_MAX + 1).unwrap_or(1);
        let drift = i64::try_from(dice.below(span)).unwrap_or(0) - DRIFT_MAX;
        let drift_millionths = if rules.hasty_voter { DRIFT_RUNAWAY } else { drift };
        Self { witness: None, drift_millionths, lives: 0, dice, granted_before: 0 }
    }

    /// What its clock shows.
    fn local(&self, now: Instant) -> Instant {
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let off = micros / 1_000_000 * self.drift_millionths
            + micros % 1_000_000 * self.drift_millionths / 1_000_000;
        Instant::from_micros(u64::try_from(micros + off).unwrap_or(0)) + CLOCK_START
    }

    /// The process begins, and knows nothing of earlier lives.
    fn start(&mut self, now: Instant) {
        self.stop();
        self.lives += 1;
        let pairs = [(String::from("pair"), WITNESS_KEY)];
        // One pair breaks no limit.
        self.witness = Witness::new(self.local(now), self.lives, &pairs).ok();
    }

    fn stop(&mut self) {
        self.granted_before = self.granted();
        self.witness = None;
    }

    /// Promises given and renewed so far.
    pub(crate) fn granted(&self) -> u64 {
        let now = self.witness.as_ref().map_or(0, |witness| witness.counters().granted);
        self.granted_before + now
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.dice.below(FAR_MICROS))
    }
}

/// One keeper's end.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) holder: Holder,
    /// What came while the keeper was held up.
    letters: Vec<Vec<u8>>,
}

impl Asker {
    /// Of this life of a keeper, by its machine's clock.
    pub(crate) fn new(local: Instant, side: Side) -> Self {
        Self { holder: Holder::new(local, &WITNESS_KEY, side), letters: Vec::new() }
    }
}

impl World {
    /// Starts the witness (again): it has forgotten what it promised.
    pub fn start_voter(&mut self) {
        let now = self.now;
        if let Some(voter) = &mut self.voter {
            voter.start(now);
            self.say(|| String::from("the witness starts"));
        }
    }

    /// The witness runs.
    pub(crate) fn ensure_voter(&mut self) {
        if self.voter.as_ref().is_some_and(|voter| voter.witness.is_none()) {
            self.start_voter();
        }
    }

    /// Ends the witness.
    pub fn stop_voter(&mut self) {
        if let Some(voter) = &mut self.voter {
            voter.stop();
            self.say(|| String::from("the witness ends"));
        }
    }

    /// Promises that the witness gave and renewed so far.
    pub(crate) fn granted(&self) -> u64 {
        self.voter.as_ref().map_or(0, Voter::granted)
    }

    /// Something of the asking end of a machine's keeper.
    pub(crate) fn with_holder(&mut self, at: usize, what: impl FnOnce(&mut Holder, Instant)) {
        let machine = &mut self.machines[at];
        let local = machine.local(self.now);
        if let Some(asker) = machine.keeper.as_mut().and_then(|keeper| keeper.asker.as_mut()) {
            what(&mut asker.holder, local);
        }
        self.drain_holder(at);
    }

    fn drain_holder(&mut self, at: usize) {
        let Some(process) = &mut self.machines[at].keeper else { return };
        let life = process.life;
        let Some(asker) = &mut process.asker else { return };
        let letters: Vec<_> = std::iter::from_fn(|| asker.holder.poll_output()).collect();
        let voted: Vec<_> = std::iter::from_fn(|| asker.holder.poll_voted()).collect();
        for bytes in letters {
            let port = Port { machine: at, road: Road::Witness, way: Way::Out };
            for delay in self.far_delays(port) {
                self.plan(delay, Event::ToWitness { from: at, life, bytes: bytes.clone() });
            }
        }
        for voted in voted {
            self.keeper_turn(at, KeeperInput::Voted(told(voted)));
        }
        self.set_keeper_wake(at);
    }

    /// When a datagram to or from the witness arrives.
    fn far_delays(&mut self, port: Port) -> Vec<Duration> {
        let carried = self.network.carry(&[port]);
        let Some(voter) = &mut self.voter else { return Vec::new() };
        carried.into_iter().flatten().map(|delay| delay + voter.delay()).collect()
    }

    /// The witness hears a keeper.
    pub(crate) fn witness_hears(&mut self, from: usize, life: u64, bytes: &[u8]) {
        let now = self.now;
        let Some(voter) = &mut self.voter else { return };
        let local = voter.local(now);
        let Some(witness) = &mut voter.witness else { return };
        let answer = witness.handle(local, bytes);
        let facts: Vec<_> = std::iter::from_fn(|| witness.poll_fact()).collect();
        for fact in facts {
            self.say(|| format!("witness: {fact}"));
        }
        let Some(bytes) = answer else { return };
        let port = Port { machine: from, road: Road::Witness, way: Way::In };
        for delay in self.far_delays(port) {
            self.plan(delay, Event::FromWitness { to: from, life, bytes: bytes.clone() });
        }
    }

    /// A keeper hears the witness.
    pub(crate) fn witness_heard(&mut self, at: usize, life: u64, bytes: Vec<u8>) {
        let Some(process) = &mut self.machines[at].keeper else { return };
        if process.life != life {
            return;
        }
        if process.stalled {
            if let Some(asker) = process.asker.as_mut()
                && asker.letters.len() < LETTERS_MAX
            {
                asker.letters.push(bytes);
            }
            return;
        }
        self.with_holder(at, |holder, now| holder.handle(now, &bytes));
    }

    /// A keeper that was held up reads what the witness said meanwhile.
    pub(crate) fn read_letters(&mut self, at: usize) {
        let asker = self.machines[at].keeper.as_mut().and_then(|keeper| keeper.asker.as_mut());
        let letters = asker.map(|asker| core::mem::take(&mut asker.letters)).unwrap_or_default();
        self.with_holder(at, |holder, now| {
            for bytes in letters {
                holder.handle(now, &bytes);
            }
            if holder.next_timeout() <= now {
                holder.handle_timeout(now);
            }
        });
    }
}

/// For the keeper.
fn told(voted: Voted) -> PairVoted {
    match voted {
        Voted::Granted { number, term } => PairVoted::Granted { number, term },
        Voted::Refused { number, left, highest } => PairVoted::Refused { number, left, highest },
        Voted::Unreachable { number, .. } => PairVoted::Unreachable { number },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_witness_runs_apart_by_half_a_percent_at_most() {
        let rules = Rules::default();
        let (mut fast, mut slow) = (false, false);
        for seed in 0..50 {
            let voter = Voter::new(Dice::from_number(seed), &rules);
            let hour = Duration::from_secs(3_600);
            let shown = voter.local(Instant::ZERO).elapsed_until(voter.local(Instant::ZERO + hour));
            let off = i128::try_from(shown.as_micros()).unwrap() - 3_600_000_000;
            assert!(off.abs() <= 18_000_000, "{off}");
            fast |= off > 9_000_000;
            slow |= off < -9_000_000;
        }
        assert!(fast && slow);
    }
}
