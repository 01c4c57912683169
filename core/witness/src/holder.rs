//! The side that asks: one request at a time, repeated until it is answered or given up.
//!
//! Each datagram has a serial of its own, so that none is answered from what the witness knew before.
//! The right of a grant is counted from the moment the request was handed in, not from the repetition
//! that was answered: too short is safe.

use std::collections::VecDeque;

use tandem_types::{Duration, Epoch, Instant};

use crate::ledger::Side;
use crate::message::{Kind, Request, Seal, Witnessed};

/// A request goes out so long after it was handed in.
pub const REPEAT_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(70),
    Duration::from_millis(150),
];

/// A witness that has not answered within this is out of reach. Shorter than a keeper waits before it
/// asks anew.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// So often it is asked whether it is there while nothing else is asked.
pub const HELLO_EVERY: Duration = Duration::from_secs(5);

/// While that is not answered, so often.
const HELLO_AGAIN: Duration = Duration::from_secs(1);

/// So many questions in a row without an answer are trouble: one lost packet is none.
const HELLOS_LOST_MAX: u32 = 3;

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Voted {
    /// The vote is ours.
    Granted {
        /// Of the request.
        number: u64,
        /// The right lasts so long from the moment the request was handed in.
        term: Duration,
    },
    /// It is not.
    Refused {
        /// Of the request.
        number: u64,
        /// How long the reason will last, as far as is known.
        left: Duration,
        /// The highest epoch that the voter granted: a request below it is in vain.
        highest: Epoch,
    },
    /// Nobody said either.
    Unreachable {
        /// Of the request.
        number: u64,
        /// A sentence for people.
        why: String,
    },
}

/// Whether the voter is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// When it answered last.
    pub heard_at: Option<Instant>,
    /// Why it did not answer the last time; `None`: it did, or has not been asked yet.
    pub trouble: Option<String>,
}

/// A request on its way.
#[derive(Debug)]
struct Open {
    number: u64,
    kind: Kind,
    since: Instant,
    /// Datagrams that are out.
    sent: usize,
    /// Serials from here on belong to it.
    first_serial: u64,
}

/// One keeper's end of the conversation with its witness.
#[derive(Debug)]
pub struct Holder {
    seal: Seal,
    side: Side,
    /// Of the newest datagram.
    serial: u64,
    /// Of the newest datagram that was answered.
    answered: u64,
    /// The life of the witness; zero until it is known.
    witness: u64,
    open: Option<Open>,
    hello_at: Instant,
    hellos_lost: u32,
    standing: Standing,
    /// What the network said why nothing comes back.
    hint: Option<String>,
    outputs: VecDeque<Vec<u8>>,
    voted: VecDeque<Voted>,
}

impl Holder {
    /// For the keeper `side` of the pair with this witness key. Says hello first.
    pub fn new(now: Instant, key: &[u8; 32], side: Side) -> Self {
        Self {
            seal: Seal::new(key),
            side,
            serial: 0,
            answered: 0,
            witness: 0,
            open: None,
            hello_at: now,
            hellos_lost: 0,
            standing: Standing::default(),
            hint: None,
            outputs: VecDeque::new(),
            voted: VecDeque::new(),
        }
    }

    /// Asks for the vote. An earlier request that is not answered yet is forgotten.
    pub fn ask(&mut self, now: Instant, number: u64, epoch: Epoch, term: Duration) {
        let kind = Kind::Ask { epoch, term };
        let first_serial = self.serial + 1;
        self.open = Some(Open { number, kind, since: now, sent: 0, first_serial });
        self.handle_timeout(now);
    }

    /// Gives the vote back. An answer to an earlier request counts no more. Sent twice: if both are
    /// lost the promise runs out by itself.
    pub fn release(&mut self, epoch: Epoch) {
        self.open = None;
        self.voted.clear();
        self.send(Kind::Release { epoch });
        self.send(Kind::Release { epoch });
    }

    /// Takes a datagram.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) {
        // What is not the witness's, or answers another life of ours, is nothing; nor is what comes
        // again or was overtaken by a later answer.
        let Ok(answer) = self.seal.open_answer(datagram) else { return };
        let news = self.answered + 1..=self.serial;
        if answer.side != self.side || !news.contains(&answer.serial) {
            return;
        }
        let met = self.witness != answer.witness;
        self.witness = answer.witness;
        self.answered = answer.serial;
        self.standing = Standing { heard_at: Some(now), trouble: None };
        self.hint = None;
        (self.hello_at, self.hellos_lost) = (now + HELLO_EVERY, 0);
        let Some(open) = self.open.take_if(|open| open.first_serial <= answer.serial) else {
            return;
        };
        let number = open.number;
        match answer.said {
            Witnessed::Granted { term } => self.voted.push_back(Voted::Granted { number, term }),
            Witnessed::Refused { left, highest } => {
                self.voted.push_back(Voted::Refused { number, left, highest });
            }
            Witnessed::Older => self.give_up(number, String::from(OLDER)),
            Witnessed::Here | Witnessed::Released => {
                // It did not know us by its life: nothing was granted. Now we know it.
                let kind = open.kind;
                self.open = Some(open);
                if met {
                    self.send(kind);
                }
            }
        }
    }

    /// The network says that a datagram did not arrive, because. Only a word for the status: it may
    /// be forged.
    pub fn undelivered(&mut self, why: String) {
        self.hint = Some(why);
    }

    /// Repeats and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.open {
            Some(open) if open.since + PATIENCE <= now => {
                let number = open.number;
                self.open = None;
                let why = self.silence();
                self.give_up(number, why);
            }
            Some(open) => {
                let due = REPEAT_AT.get(open.sent).is_some_and(|after| open.since + *after <= now);
                if due {
                    open.sent += 1;
                    let kind = open.kind;
                    self.send(kind);
                }
            }
            None if self.hello_at <= now => {
                if self.hellos_lost >= HELLOS_LOST_MAX {
                    self.standing.trouble = Some(self.silence());
                }
                self.hellos_lost = self.hellos_lost.saturating_add(1);
                self.hello_at = now + HELLO_AGAIN;
                self.send(Kind::Hello);
            }
            None => {}
        }
    }

    /// When to call [`Holder::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Instant {
        let Some(open) = &self.open else { return self.hello_at };
        open.since + REPEAT_AT.get(open.sent).copied().unwrap_or(PATIENCE)
    }

    /// The next datagram to send.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        self.outputs.pop_front()
    }

    /// The next answer.
    pub fn poll_voted(&mut self) -> Option<Voted> {
        self.voted.pop_front()
    }

    /// Whether [`Holder::poll_voted`] has something.
    pub fn has_voted(&self) -> bool {
        !self.voted.is_empty()
    }

    /// Whether the witness is there.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    fn silence(&self) -> String {
        self.hint.clone().unwrap_or_else(|| String::from("the witness does not answer"))
    }

    fn give_up(&mut self, number: u64, why: String) {
        self.standing.trouble = Some(why.clone());
        self.voted.push_back(Voted::Unreachable { number, why });
    }

    fn send(&mut self, kind: Kind) {
        self.serial += 1;
        let Self { witness, side, serial, .. } = *self;
        self.outputs.push_back(self.seal.request(&Request { witness, side, serial, kind }));
    }
}

const OLDER: &str = "the witness has heard a later life of this machine: another machine has its seat, \
                     or its state folder was lost and its clock went back (then restart the witness)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::Witness;
    use tandem_types::Seat;

    const KEY: [u8; 32] = [5; 32];
    const TERM: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn epoch() -> Epoch {
        Epoch { number: 4, seat: Seat::Master }
    }

    fn holder() -> Holder {
        Holder::new(at(0), &KEY, Side { seat: Seat::Master, life: 1 })
    }

    /// A witness that has been up for long.
    fn witness(life: u64) -> Witness {
        Witness::new(at(0), life, &[(String::from("one"), KEY)]).unwrap()
    }

    /// Everything that is on its way arrives; how many datagrams that were.
    fn exchange(holder: &mut Holder, witness: &mut Witness, now: Instant) -> usize {
        let mut count = 0;
        while let Some(datagram) = holder.poll_output() {
            count += 1;
            if let Some(answer) = witness.handle(now, &datagram) {
                holder.handle(now, &answer);
            }
        }
        count
    }

    /// A holder and a witness that know each other, at 10 s.
    fn met() -> (Holder, Witness) {
        let (mut holder, mut witness) = (holder(), witness(7));
        holder.handle_timeout(at(10_000));
        assert_eq!(exchange(&mut holder, &mut witness, at(10_000)), 1);
        assert_eq!(holder.standing().heard_at, Some(at(10_000)));
        (holder, witness)
    }

    #[test]
    fn who_said_hello_gets_the_vote_in_one_round_trip() {
        let (mut holder, mut witness) = met();
        holder.ask(at(10_001), 3, epoch(), TERM);
        assert_eq!(exchange(&mut holder, &mut witness, at(10_001)), 1);
        assert_eq!(holder.poll_voted(), Some(Voted::Granted { number: 3, term: TERM }));
        assert_eq!(holder.poll_voted(), None);
    }

    #[test]
    fn a_witness_that_was_restarted_is_met_again_within_one_request() {
        let (mut holder, _) = met();
        let mut later = witness(8);
        holder.ask(at(10_001), 3, epoch(), TERM);
        assert_eq!(exchange(&mut holder, &mut later, at(10_001)), 2);
        assert_eq!(holder.poll_voted(), Some(Voted::Granted { number: 3, term: TERM }));
    }

    #[test]
    fn a_refusal_tells_how_long_and_above_which_epoch() {
        let (mut holder, mut witness) = met();
        let twin = Side { seat: Seat::Standby, life: 1 };
        let mut other = Holder::new(at(10_000), &KEY, twin);
        let theirs = Epoch { number: 9, seat: Seat::Standby };
        other.ask(at(10_000), 1, theirs, TERM);
        exchange(&mut other, &mut witness, at(10_000));
        holder.ask(at(10_001), 1, Epoch { number: 10, seat: Seat::Master }, TERM);
        exchange(&mut holder, &mut witness, at(10_001));
        let Some(Voted::Refused { number: 1, left, highest }) = holder.poll_voted() else {
            panic!("refused")
        };
        assert_eq!((left > TERM, highest), (true, theirs));
    }

    #[test]
    fn a_lost_request_is_repeated_and_an_unanswered_one_given_up() {
        let (mut holder, _) = met();
        holder.ask(at(10_000), 3, epoch(), TERM);
        let (mut sent, mut now) = (0, at(10_000));
        while holder.standing().trouble.is_none() {
            sent += core::iter::from_fn(|| holder.poll_output()).count();
            now = holder.next_timeout();
            holder.handle_timeout(now);
        }
        assert_eq!((sent, now), (REPEAT_AT.len(), at(10_000) + PATIENCE));
        let why = String::from("the witness does not answer");
        assert_eq!(holder.poll_voted(), Some(Voted::Unreachable { number: 3, why }));
    }

    #[test]
    fn an_answer_to_an_earlier_request_does_not_count_for_a_later_one() {
        let (mut holder, mut witness) = met();
        holder.ask(at(10_000), 3, epoch(), TERM);
        let first = holder.poll_output().unwrap();
        let late = witness.handle(at(10_000), &first).unwrap();
        holder.ask(at(10_500), 4, epoch(), TERM);
        holder.handle(at(10_500), &late);
        assert_eq!(holder.poll_voted(), None, "its right would be counted from the wrong moment");
        exchange(&mut holder, &mut witness, at(10_500));
        assert_eq!(holder.poll_voted(), Some(Voted::Granted { number: 4, term: TERM }));
    }

    #[test]
    fn a_grant_that_comes_after_the_release_is_none() {
        let (mut holder, mut witness) = met();
        holder.ask(at(10_000), 3, epoch(), TERM);
        let ask = holder.poll_output().unwrap();
        let granted = witness.handle(at(10_000), &ask).unwrap();
        holder.release(epoch());
        holder.handle(at(10_001), &granted);
        assert_eq!(exchange(&mut holder, &mut witness, at(10_001)), 2);
        assert_eq!(holder.poll_voted(), None);
        assert_eq!(witness.status(at(10_001))[0].holder, None);
    }

    #[test]
    fn a_recorded_answer_reaches_nothing() {
        let (mut holder, mut witness) = met();
        holder.ask(at(10_000), 3, epoch(), TERM);
        let ask = holder.poll_output().unwrap();
        let granted = witness.handle(at(10_000), &ask).unwrap();
        holder.handle(at(10_000), &granted);
        assert!(holder.poll_voted().is_some());
        holder.ask(at(10_900), 4, epoch(), TERM);
        holder.handle(at(10_900), &granted);
        holder.handle(at(10_900), &ask);
        assert_eq!(holder.poll_voted(), None);
    }

    #[test]
    fn silence_is_trouble_after_several_questions_and_an_answer_ends_it() {
        let (mut holder, mut witness) = met();
        let mut now = at(10_000);
        for lost in 0..=HELLOS_LOST_MAX {
            assert_eq!(holder.standing().trouble, None, "{lost}");
            now = holder.next_timeout();
            holder.handle_timeout(now);
            assert!(holder.poll_output().is_some());
        }
        assert!(holder.standing().trouble.is_some());
        holder.undelivered(String::from("nobody listens there"));
        holder.handle_timeout(holder.next_timeout());
        assert_eq!(holder.standing().trouble.as_deref(), Some("nobody listens there"));
        exchange(&mut holder, &mut witness, now);
        assert_eq!(holder.standing().trouble, None);
    }
}
