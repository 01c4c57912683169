//! Limits, strangers, and two keepers that never have the vote at once, whatever the network does.

use super::*;
use crate::holder::{Holder, Voted};
use crate::message::REQUEST_LENGTH;
use tandem_types::Dice;

const KEY: [u8; 32] = [5; 32];
const LIFE: u64 = 77;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn epoch(number: u32) -> Epoch {
    Epoch { number, seat: Seat::Master }
}

fn key_of(number: usize) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

fn pairs(count: usize) -> Vec<(String, [u8; 32])> {
    (0..count).map(|number| (format!("pair-{number}"), key_of(number))).collect()
}

fn ask(seat: Seat, serial: u64, number: u32) -> Request {
    let side = Side { seat, life: 1 };
    let kind = Kind::Ask { epoch: epoch(number), term: Duration::from_secs(1) };
    Request { witness: LIFE, side, serial, kind }
}

/// What the witness says to a request of the pair with this key.
fn say(
    witness: &mut Witness,
    now: Instant,
    key: &[u8; 32],
    request: &Request,
) -> Option<Witnessed> {
    let seal = Seal::new(key);
    let answer = witness.handle(now, &seal.request(request))?;
    assert!(answer.len() <= REQUEST_LENGTH, "nobody is hit harder through the witness");
    seal.open_answer(&answer).ok().map(|answer| answer.said)
}

#[test]
fn after_its_start_it_grants_nothing_as_long_as_an_earlier_promise_may_run() {
    let mut witness = Witness::new(at(500), LIFE, &pairs(1)).unwrap();
    let until = at(500) + promised(TERM_MAX);
    let early = say(&mut witness, at(501), &key_of(0), &ask(Seat::Master, 1, 1));
    let left = until.remaining_from(at(501));
    assert_eq!(early, Some(Witnessed::Refused { left, highest: Epoch::NEVER }));
    let granted = say(&mut witness, until, &key_of(0), &ask(Seat::Master, 2, 1));
    assert!(matches!(granted, Some(Witnessed::Granted { .. })));
}

#[test]
fn a_request_that_names_another_life_of_the_witness_changes_nothing() {
    let mut witness = Witness::new(at(0), LIFE, &pairs(1)).unwrap();
    let recorded = Request { witness: LIFE - 1, ..ask(Seat::Master, 9, 1) };
    let said = say(&mut witness, at(10_000), &key_of(0), &recorded);
    assert_eq!(said, Some(Witnessed::Here));
    assert_eq!(witness.status(at(10_000))[0].holder, None);
    let fresh = say(&mut witness, at(10_000), &key_of(0), &ask(Seat::Master, 1, 1));
    assert!(matches!(fresh, Some(Witnessed::Granted { .. })), "its serial was not spent");
}

#[test]
fn a_term_beyond_the_limit_is_granted_as_the_limit() {
    let mut witness = Witness::new(at(0), LIFE, &pairs(1)).unwrap();
    let kind = Kind::Ask { epoch: epoch(1), term: TERM_MAX * 10 };
    let long = Request { kind, ..ask(Seat::Master, 1, 1) };
    let said = say(&mut witness, at(10_000), &key_of(0), &long);
    assert_eq!(said, Some(Witnessed::Granted { term: TERM_MAX }));
    assert_eq!(witness.status(at(10_000))[0].left, promised(TERM_MAX));
}

#[test]
fn pairs_do_not_stand_in_each_others_way_and_their_number_is_limited() {
    let mut witness = Witness::new(at(0), LIFE, &pairs(PAIRS_MAX)).unwrap();
    for (number, seat) in [(0, Seat::Master), (PAIRS_MAX - 1, Seat::Standby)] {
        let said = say(&mut witness, at(10_000), &key_of(number), &ask(seat, 1, 1));
        assert!(matches!(said, Some(Witnessed::Granted { .. })), "{number}");
    }
    let beyond = Witness::new(at(0), LIFE, &pairs(PAIRS_MAX + 1)).err();
    assert_eq!(beyond, Some(TooManyPairs::Length(PAIRS_MAX + 1)));
    let twice = [("a".into(), KEY), ("b".into(), KEY)];
    let same = Witness::new(at(0), LIFE, &twice).err();
    assert_eq!(same, Some(TooManyPairs::SameKey("a".into(), "b".into())));
}

#[test]
fn a_pair_that_was_served_before_keeps_its_promise_and_a_new_one_waits() {
    let mut witness = Witness::new(at(0), LIFE, &pairs(1)).unwrap();
    say(&mut witness, at(10_000), &key_of(0), &ask(Seat::Master, 1, 1));
    witness.serve(at(10_100), &pairs(2)).unwrap();
    assert_eq!(witness.status(at(10_100))[0].holder, Some(Seat::Master));
    let other = say(&mut witness, at(10_200), &key_of(1), &ask(Seat::Master, 1, 1));
    assert!(matches!(other, Some(Witnessed::Refused { .. })), "{other:?}");
    // Away and back: what was promised meanwhile is not known.
    witness.serve(at(10_300), &[]).unwrap();
    witness.serve(at(10_400), &pairs(1)).unwrap();
    let back = say(&mut witness, at(10_500), &key_of(0), &ask(Seat::Standby, 1, 1));
    assert!(matches!(back, Some(Witnessed::Refused { .. })), "{back:?}");
}

#[test]
fn what_a_stranger_sends_is_counted_and_never_answered() {
    let mut witness = Witness::new(at(0), LIFE, &pairs(1)).unwrap();
    let mut dice = Dice::from_number(4);
    for length in 0..200 {
        let mut bytes = vec![0; length];
        dice.fill(&mut bytes);
        assert_eq!(witness.handle(at(10_000), &bytes), None);
    }
    let stranger = Seal::new(&KEY).request(&ask(Seat::Master, 1, 1));
    assert_eq!(witness.handle(at(10_000), &stranger), None);
    let mut forged = Seal::new(&key_of(0)).request(&ask(Seat::Master, 1, 1));
    forged[30] ^= 1;
    assert_eq!(witness.handle(at(10_000), &forged), None);
    let Counters { strangers, forged, garbage, granted, .. } = witness.counters();
    assert_eq!((strangers, forged, garbage, granted), (1, 1, 200, 0));
}

#[test]
fn a_holder_that_changes_is_told_once_and_not_in_every_packet() {
    let mut witness = Witness::new(at(0), LIFE, &pairs(1)).unwrap();
    for serial in 1..=100 {
        say(&mut witness, at(10_000 + serial), &key_of(0), &ask(Seat::Master, serial * 2, 1));
        let release = Kind::Release { epoch: epoch(1) };
        let release = Request { kind: release, ..ask(Seat::Master, serial * 2 + 1, 1) };
        say(&mut witness, at(10_000 + serial), &key_of(0), &release);
    }
    let facts: Vec<_> = core::iter::from_fn(|| witness.poll_fact()).collect();
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert_eq!(facts[0].to_string(), "pair-0: the vote goes to the master, reign 1M");
}

/// Two keepers, one witness, and everything that can go wrong between them.
struct Storm {
    dice: Dice,
    /// True time in microseconds.
    time: u64,
    witness: Witness,
    holders: [Holder; 2],
    /// Microseconds by which the clock of master, standby and witness gains in each second.
    drift: [i64; 3],
    /// Which request of each keeper is out: number, epoch, and when it was handed in.
    asked: [(u64, Epoch, Instant); 2],
    /// Until when each keeper may serve, on its clock.
    right: [Instant; 2],
    lives: [u64; 3],
    /// Requests and answers: when they arrive, at whom, from or for which keeper.
    wire: Vec<(u64, bool, usize, Vec<u8>)>,
    recorded: Vec<(bool, usize, Vec<u8>)>,
    highest: u32,
    grants: u64,
    restarts: u64,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::from_number(seed);
        let drift = [(); 3].map(|()| dice.below(20_001).cast_signed() - 10_000);
        let start = Instant::ZERO;
        let holder = |seat| Holder::new(start, &KEY, Side { seat, life: 1 });
        Self {
            time: 0,
            witness: Witness::new(start, 1, &[("pair".into(), KEY)]).unwrap(),
            holders: [holder(Seat::Master), holder(Seat::Standby)],
            drift,
            asked: [(0, Epoch::NEVER, start); 2],
            right: [start; 2],
            lives: [1; 3],
            wire: Vec::new(),
            recorded: Vec::new(),
            highest: 0,
            grants: 0,
            restarts: 0,
            dice,
        }
    }

    fn clock(&self, who: usize) -> Instant {
        let gained = i128::from(self.time) * i128::from(self.drift[who]) / 1_000_000;
        Instant::from_micros((i128::from(self.time) + gained) as u64)
    }

    /// Puts a datagram on the wire: lost, late, doubled or recorded for later.
    fn post(&mut self, to_witness: bool, keeper: usize, bytes: &[u8]) {
        for _ in 0..=u8::from(self.dice.chance(10)) {
            if self.dice.chance(75) {
                let late = if self.dice.chance(5) { 4_000_000 } else { 3_000 };
                let when = self.time + self.dice.below(late);
                self.wire.push((when, to_witness, keeper, bytes.to_vec()));
            }
        }
        if self.recorded.len() < 200 {
            self.recorded.push((to_witness, keeper, bytes.to_vec()));
        }
    }

    fn deliver(&mut self) {
        let due = self.wire.iter().position(|(when, ..)| *when <= self.time);
        let Some(index) = due else { return };
        let (_, to_witness, keeper, bytes) = self.wire.swap_remove(index);
        if to_witness {
            let now = self.clock(2);
            if let Some(answer) = self.witness.handle(now, &bytes) {
                self.post(false, keeper, &answer);
            }
        } else {
            let now = self.clock(keeper);
            self.holders[keeper].handle(now, &bytes);
        }
        self.deliver();
    }

    fn turn(&mut self, keeper: usize) {
        let now = self.clock(keeper);
        if self.holders[keeper].next_timeout() <= now {
            self.holders[keeper].handle_timeout(now);
        }
        while let Some(voted) = self.holders[keeper].poll_voted() {
            let (asked, epoch, since) = self.asked[keeper];
            match voted {
                Voted::Granted { number, term } if number == asked => {
                    self.right[keeper] = self.right[keeper].max(since + term);
                    self.highest = self.highest.max(epoch.number);
                    self.grants += 1;
                }
                Voted::Refused { highest, .. } => self.highest = self.highest.max(highest.number),
                Voted::Granted { .. } | Voted::Unreachable { .. } => {}
            }
        }
        while let Some(bytes) = self.holders[keeper].poll_output() {
            self.post(true, keeper, &bytes);
        }
    }

    fn mischief(&mut self) {
        let keeper = self.dice.below(2) as usize;
        let seat = Seat::ALL[keeper];
        let now = self.clock(keeper);
        match self.dice.below(1_000) {
            0..30 => {
                let serving = now < self.right[keeper];
                let number = self.asked[keeper].0 + 1;
                let above = u32::from(!serving);
                let epoch = Epoch { number: self.highest + above, seat };
                let term = Duration::from_micros(self.dice.below(4_000_000));
                self.asked[keeper] = (number, epoch, now);
                self.holders[keeper].ask(now, number, epoch, term);
            }
            30..33 => {
                self.right[keeper] = now;
                self.holders[keeper].release(epoch(self.highest));
            }
            33 => {
                // The keeper and its server die: what they may do ends with them.
                self.lives[keeper] += 1;
                self.right[keeper] = now;
                let side = Side { seat, life: self.lives[keeper] };
                self.holders[keeper] = Holder::new(now, &KEY, side);
                self.asked[keeper] = (0, Epoch::NEVER, now);
                self.restarts += 1;
            }
            34 => {
                self.lives[2] += 1;
                let now = self.clock(2);
                let pairs = [("pair".into(), KEY)];
                self.witness = Witness::new(now, self.lives[2], &pairs).unwrap();
                self.restarts += 1;
            }
            35..45 if !self.recorded.is_empty() => {
                let index = self.dice.below(self.recorded.len() as u64) as usize;
                let (to_witness, keeper, bytes) = self.recorded.swap_remove(index);
                self.wire.push((self.time, to_witness, keeper, bytes));
            }
            _ => {}
        }
    }

    /// Runs for so many steps of up to 10 ms. Whether both ever had the right at once.
    fn run(&mut self, steps: u64) -> bool {
        for _ in 0..steps {
            self.time += self.dice.below(10_000);
            self.mischief();
            self.deliver();
            self.turn(0);
            self.turn(1);
            if (0..2).all(|keeper| self.clock(keeper) < self.right[keeper]) {
                return true;
            }
        }
        false
    }
}

#[test]
fn never_do_both_have_the_vote_whatever_is_lost_late_doubled_recorded_or_restarted() {
    let (mut grants, mut restarts) = (0, 0);
    for seed in 0..60 {
        let mut storm = Storm::new(seed);
        assert!(!storm.run(6_000), "both may serve: seed {seed}, drift {:?}", storm.drift);
        grants += storm.grants;
        restarts += storm.restarts;
    }
    assert!(grants > 1_000 && restarts > 300, "{grants} grants, {restarts} restarts");
}
