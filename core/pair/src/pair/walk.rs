//! Two pairs taken for a long random walk, to see that every row of the table is needed.
//!
//! Nothing is consistent here: servers say what they like, time jumps, answers come unasked. So the
//! walk also shows that no order of inputs leads into a circle or a panic.

use std::collections::{BTreeSet, VecDeque};

use tandem_types::{Dice, Duration, Epoch, Instant, Seat, Seq, Stamp};

use super::Pair;
use crate::beat::{Beat, Server};
use crate::input::{Config, Healing, Input, Link, Own, Start};
use crate::output::Output;
use crate::table::{Event, ROWS, Row, State};
use crate::timings::Timings;
use crate::votes::Voted;

/// Rows that no walk reaches: the table is total, and these are never asked for.
const GUARDS: &[(&str, &str)] = &[
    ("a claim that was given up waits for no disk", "epoch_saved() forgets given-up claims"),
    ("an answer to a question that is settled", "probe_answered() and ask() look at the state"),
    ("not active: nothing to hand over", "order_switch() refuses with a reason"),
    ("not handing over", "the limit is set while yielding only"),
    ("both handed over: the master leads", "one hands over, to a passive twin: never both"),
    ("asked of a server that serves only", CASE),
    ("asked of a server that does not serve only", CASE),
    ("asked of a stopped server only", CASE),
    ("a twin that serves while we do is a rival", CASE),
    ("a server that does not serve has no rival", CASE),
    ("not cold", CASE),
    ("asked of a server that could begin to serve only", CASE),
    ("a stopped server is not fit, whoever else is silent", CASE),
];

const CASE: &str = "situation() does not raise it in these states";

struct Walk {
    now: Instant,
    dice: Dice,
    pairs: [Pair; 2],
    wire: [VecDeque<Beat>; 2],
    saving: [VecDeque<Epoch>; 2],
    /// Questions to the third voter.
    asked: [Option<(u64, Duration)>; 2],
    reigns: BTreeSet<Epoch>,
    /// Heartbeats of that side do not arrive.
    cut: [bool; 2],
    /// Nor does anything arrive on the journal link.
    link_cut: bool,
    /// Unusual inputs in a thousand.
    bad_luck: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::from_number(seed);
        let healing = if dice.chance(50) { Healing::LiveCalls } else { Healing::Master };
        let (probe, votes) = (dice.chance(50), dice.chance(40));
        let (short, long) = (Duration::from_millis(150), Duration::from_millis(400));
        let pair = |seat| {
            let timings = Timings {
                standby_grace: short,
                switchover: long,
                probe: long,
                ..Timings::default()
            };
            let config = Config { seat, timings, healing, probe, votes, locked: false };
            Pair::new(Instant::ZERO, config, Start { boot: 1, saved: Epoch::NEVER })
        };
        Self {
            now: Instant::ZERO,
            pairs: [pair(Seat::Master), pair(Seat::Standby)],
            wire: [VecDeque::new(), VecDeque::new()],
            saving: [VecDeque::new(), VecDeque::new()],
            asked: [None; 2],
            reigns: BTreeSet::new(),
            cut: [false; 2],
            link_cut: false,
            bad_luck: [5, 20, 100][usize::try_from(seed % 3).expect("small")],
            dice,
        }
    }

    fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        let index = self.dice.below(choice.len() as u64);
        choice[usize::try_from(index).expect("below the length")]
    }

    /// A server as it should be.
    fn sane_own(&mut self, at: usize) -> Own {
        let (own, twin) = (&self.pairs[at], &self.pairs[1 - at]);
        let seq = Seq(self.now.as_micros() / 50_000);
        let serves = |pair: &Pair| pair.state == State::Active;
        Own {
            server: Server::Up,
            serving: serves(own),
            in_sync: !serves(own) && serves(twin),
            protected: serves(own) && !serves(twin),
            holds: Some(Stamp { epoch: own.highest, seq }),
            calls: 1,
            phone_heard: Some(self.now),
            link: Link {
                heard_at: (!self.link_cut).then_some(self.now),
                serving: Some(serves(twin)),
                epoch: Some(twin.reign),
            },
        }
    }

    /// Any server.
    fn odd_own(&mut self) -> Own {
        let epoch = self.pairs[self.one_of(&[0, 1])].highest;
        let stamp = Stamp { epoch, seq: Seq(self.dice.below(3)) };
        let server = self.one_of(&[Server::Up, Server::Up, Server::Starting, Server::Died(stamp)]);
        let heard_at = self.one_of(&[None, Some(self.now)]);
        let serving = self.one_of(&[None, Some(true), Some(false)]);
        Own {
            server,
            serving: self.dice.chance(50),
            in_sync: self.dice.chance(50),
            protected: self.dice.chance(50),
            holds: self.one_of(&[None, Some(stamp)]),
            calls: self.one_of(&[0, 1, 2]),
            phone_heard: self.one_of(&[None, Some(self.now)]),
            link: Link { heard_at, serving, epoch: Some(epoch) },
        }
    }

    /// What happens on a good day.
    fn usual(&mut self, at: usize) {
        let input = match self.dice.below(20) {
            0 => Input::Own(self.sane_own(at)),
            10 => Input::Probe(true),
            1 => Input::Carrier(true),
            2 => Input::Claimed,
            3..=5 => match self.saving[at].pop_front() {
                Some(epoch) if self.dice.chance(90) => Input::EpochSaved(epoch),
                Some(epoch) => Input::EpochNotSaved(epoch),
                None => return,
            },
            12..=14 => match self.asked[at].take() {
                Some((number, term)) => Input::Voted(match self.dice.below(20) {
                    0 => Voted::Unreachable { number },
                    1..=6 => Voted::Refused { number, left: term / 2, highest: Epoch::NEVER },
                    _ => Voted::Granted { number, term },
                }),
                None => return,
            },
            11 if self.dice.chance(10) => {
                (self.cut, self.link_cut) = ([false; 2], false);
                return;
            }
            _ => match self.wire[at].pop_front() {
                Some(beat) => Input::Heard(beat),
                None => return,
            },
        };
        self.pairs[at].handle(self.now, input);
    }

    /// What happens on a bad one.
    fn unusual(&mut self, at: usize) {
        let input = match self.dice.below(16) {
            0..=2 => Input::Own(self.odd_own()),
            3 if self.dice.chance(50) => Input::Isolated(self.dice.chance(60)),
            3 => Input::Carrier(false),
            4 => Input::Probe(self.dice.chance(50)),
            5 => Input::ClaimFailed,
            6 => Input::Lock(self.dice.chance(20)),
            7 => Input::Slept(Duration::from_millis(self.dice.below(300))),
            8 | 9 => {
                let force = self.dice.chance(50);
                // A refusal is as good here.
                let _ = self.pairs[at].order_switch(self.now, force);
                return;
            }
            10 | 14 => match self.saving[at].pop_front() {
                Some(epoch) => Input::EpochNotSaved(epoch),
                None => return,
            },
            11 => return self.cut[at] = true,
            15 => {
                self.link_cut = self.dice.chance(60);
                self.cut = [true; 2];
                return;
            }
            12 => return self.restart(at),
            _ => {
                self.now = self.now + Duration::from_millis(self.dice.below(100));
                return;
            }
        };
        self.pairs[at].handle(self.now, input);
    }

    fn restart(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        let start = Start { boot: pair.life.boot + 1, saved: pair.highest };
        let asked = core::mem::take(&mut pair.asked);
        *pair = Pair::new(self.now, pair.config, start);
        pair.asked = asked;
    }

    /// One input to one of the two, and the time-outs that are due.
    fn step(&mut self) {
        let at = self.one_of(&[0, 1]);
        if self.dice.below(1_000) < self.bad_luck {
            self.unusual(at);
        } else {
            self.usual(at);
        }
        self.now = self.now + Duration::from_micros(self.dice.below(4_000));
        for at in [0, 1] {
            if self.pairs[at].next_timeout().is_some_and(|due| due <= self.now) {
                self.pairs[at].handle_timeout(self.now);
            }
            while let Some(output) = self.pairs[at].poll_output() {
                match output {
                    Output::Beat(_) if self.cut[at] => {}
                    Output::Beat(beat) => {
                        self.wire[1 - at].push_back(beat);
                        if self.wire[1 - at].len() > 8 {
                            self.wire[1 - at].pop_front();
                        }
                    }
                    Output::SaveEpoch(epoch) => self.saving[at].push_back(epoch),
                    Output::Changed(change) if change.to == State::Active => {
                        assert!(self.reigns.insert(change.reign), "{} twice", change.reign);
                    }
                    Output::AskVote { number, term, .. } => self.asked[at] = Some((number, term)),
                    Output::ReleaseVote { .. } => self.asked[at] = None,
                    Output::Claim
                    | Output::Release
                    | Output::Refresh
                    | Output::Probe
                    | Output::Changed(_)
                    | Output::Notice(_) => {}
                }
            }
        }
    }
}

fn is_hit(row: &Row, asked: &BTreeSet<(State, Event, Seat)>) -> bool {
    asked.iter().any(|(from, on, seat)| {
        row.from.contains(from) && row.on.contains(on) && row.seats.contains(seat)
    })
}

#[test]
fn every_row_is_needed_or_a_guard_with_a_reason() {
    let mut asked = BTreeSet::new();
    for seed in 0..1_500 {
        let mut walk = Walk::new(seed);
        for _ in 0..2_000 {
            walk.step();
        }
        for pair in walk.pairs {
            let seat = pair.config.seat;
            asked.extend(pair.asked.into_iter().map(|(from, on)| (from, on, seat)));
        }
    }
    for row in ROWS {
        let guard = GUARDS.iter().find(|(why, _)| *why == row.why);
        match (is_hit(row, &asked), guard) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => panic!("no guard: {row:?}"),
            (false, None) => panic!("never needed: {row:?}"),
        }
    }
}
