//! How each machine gets the other one's events: it asks for what comes after the newest it has.
//!
//! ```text
//! here                              twin
//!   │ <──────── Have(after 7: 8) ───── │   a new event is told at once, unasked
//!   │ ───────── Want(after 8) ───────> │   also every two seconds, so a lost word costs time only
//!   │ <── Have(after 8: 9, 10, 11) ─── │   what came meanwhile, a datagram full
//! ```
//!
//! Nothing here is confirmed or counted: a word that is lost is asked for again, and one that comes
//! twice, late or from a stranger does not fit behind the newest event and is dropped. What an event
//! says is not read here.

use std::collections::VecDeque;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tandem_types::{Duration, Instant, Seat};

/// The first byte of these datagrams; no version of the heartbeat has it.
const MARK: u8 = 0xE1;

/// The longest datagram in bytes: fits into one packet of any LAN.
pub const PARCEL_MAX: usize = 1_400;

/// The longest event in bytes; a longer one is not given to the twin.
pub const LINE_MAX: usize = 1_300;

/// Bytes of own events that are kept at hand for the twin; of more, the newest.
pub const AT_HAND_MAX: usize = 2 * 1024 * 1024;

/// Pause between two questions while nothing is known to lack.
const ASK_PAUSE: Duration = Duration::from_secs(2);

/// Pause between two questions while more may be there: a long absence must not become a flood.
const MORE_PAUSE: Duration = Duration::from_millis(5);

/// Bytes of the MAC.
const MAC_LENGTH: usize = 16;

/// What the keepers say to each other about events.
#[derive(Debug, Deserialize, Serialize)]
enum Word {
    /// Give me what comes after this number.
    Want { from: Seat, after: u64 },
    /// My events that come next after this number, in their order.
    Have { from: Seat, after: u64, lines: Vec<(u64, Vec<u8>)> },
}

/// What the caller must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parcel {
    /// Send to the twin's keeper.
    Send(Vec<u8>),
    /// Keep this event of the twin.
    Keep(Vec<u8>),
}

/// One machine's half of the exchange.
pub struct Exchange {
    seat: Seat,
    mac: Hmac<Sha256>,
    /// The newest event of the twin that is kept here.
    newest: u64,
    /// Own events, oldest first.
    own: VecDeque<(u64, Vec<u8>)>,
    own_bytes: usize,
    next_want: Instant,
    outputs: VecDeque<Parcel>,
}

/// Whether a datagram is for the exchange and not a heartbeat.
pub fn is_parcel(datagram: &[u8]) -> bool {
    datagram.first() == Some(&MARK)
}

impl Exchange {
    /// With the pair's heartbeat key, and the number of the newest event of the twin kept here.
    pub fn new(now: Instant, seat: Seat, key: &[u8; 32], newest: u64) -> Self {
        // HMAC takes keys of any length (RFC 2104 §3).
        #[allow(clippy::expect_used)]
        let mac = Hmac::new_from_slice(key).expect("any length");
        let (own, outputs) = (VecDeque::new(), VecDeque::new());
        Self { seat, mac, newest, own, own_bytes: 0, next_want: now, outputs }
    }

    /// An own event that was kept before this start. In the order of their numbers.
    pub fn remember(&mut self, seq: u64, line: Vec<u8>) {
        if line.len() > LINE_MAX || self.own.back().is_some_and(|(last, _)| *last >= seq) {
            return;
        }
        self.own_bytes += line.len();
        self.own.push_back((seq, line));
        while self.own_bytes > AT_HAND_MAX
            && let Some((_, oldest)) = self.own.pop_front()
        {
            self.own_bytes -= oldest.len();
        }
    }

    /// A new own event: it is told at once.
    pub fn tell(&mut self, seq: u64, line: Vec<u8>) {
        let after = self.own.back().map_or(0, |(seq, _)| *seq);
        self.remember(seq, line);
        self.give(after);
    }

    /// Takes a datagram for which [`is_parcel`] holds.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) {
        match self.open(datagram) {
            Some(Word::Want { from, after }) if from != self.seat => self.give(after),
            Some(Word::Have { from, after, lines }) if from != self.seat => {
                self.take(now, after, lines);
            }
            Some(Word::Want { .. } | Word::Have { .. }) | None => {}
        }
    }

    /// Asks, if it is time to.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_want <= now {
            self.next_want = now + ASK_PAUSE;
            self.send(&Word::Want { from: self.seat, after: self.newest });
        }
    }

    /// When to call [`Exchange::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Instant {
        self.next_want
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Parcel> {
        self.outputs.pop_front()
    }

    fn take(&mut self, now: Instant, after: u64, lines: Vec<(u64, Vec<u8>)>) {
        if after > self.newest {
            // One was lost between.
            self.next_want = self.next_want.min(now + MORE_PAUSE);
        }
        if after != self.newest {
            return;
        }
        for (seq, line) in lines {
            if seq > self.newest && line.len() <= LINE_MAX {
                self.newest = seq;
                self.outputs.push_back(Parcel::Keep(line));
                self.next_want = self.next_want.min(now + MORE_PAUSE);
            }
        }
    }

    /// Gives the events after this number, as many as fit.
    fn give(&mut self, after: u64) {
        let first = self.own.partition_point(|(seq, _)| *seq <= after);
        let mut room = PARCEL_MAX - MAC_LENGTH - OVERHEAD;
        let mut lines = Vec::new();
        for (seq, line) in self.own.range(first..) {
            match room.checked_sub(line.len() + OVERHEAD) {
                Some(left) => room = left,
                None => break,
            }
            lines.push((*seq, line.clone()));
        }
        if !lines.is_empty() {
            self.send(&Word::Have { from: self.seat, after, lines });
        }
    }

    fn send(&mut self, word: &Word) {
        // Writing plain data to a growing vector cannot fail in postcard.
        #[allow(clippy::expect_used)]
        let mut bytes = postcard::to_extend(word, vec![MARK]).expect("plain data");
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_LENGTH]);
        self.outputs.push_back(Parcel::Send(bytes));
    }

    fn open(&self, datagram: &[u8]) -> Option<Word> {
        if datagram.len() > PARCEL_MAX {
            return None;
        }
        let (signed, mac) = datagram.split_last_chunk::<MAC_LENGTH>()?;
        self.mac.clone().chain_update(signed).verify_truncated_left(mac).ok()?;
        let body = signed.strip_prefix(&[MARK])?;
        match postcard::take_from_bytes(body) {
            Ok((word, [])) => Some(word),
            Ok(_) | Err(_) => None,
        }
    }
}

impl core::fmt::Debug for Exchange {
    /// Never the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Exchange({}, twin's newest {})", self.seat, self.newest)
    }
}

/// Mark, kind, seat, count and the longest numbers: more than they ever take.
const OVERHEAD: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Dice;

    const KEY: [u8; 32] = [7; 32];

    fn pair() -> [Exchange; 2] {
        [Seat::Master, Seat::Standby].map(|seat| Exchange::new(Instant::ZERO, seat, &KEY, 0))
    }

    /// Lets both talk until `end`; what each kept of the other.
    fn run(two: &mut [Exchange; 2], end: Instant, dice: &mut Dice, loss: u64) -> [Vec<Vec<u8>>; 2] {
        let mut kept = [Vec::new(), Vec::new()];
        let mut now = Instant::ZERO;
        while now <= end {
            let mut quiet = true;
            for at in 0..2 {
                two[at].handle_timeout(now);
                while let Some(output) = two[at].poll_output() {
                    quiet = false;
                    match output {
                        Parcel::Keep(line) => kept[at].push(line),
                        Parcel::Send(bytes) => {
                            assert!(bytes.len() <= PARCEL_MAX && is_parcel(&bytes));
                            if !dice.chance(loss) {
                                two[1 - at].handle(now, &bytes);
                            }
                        }
                    }
                }
            }
            if quiet {
                now = two[0].next_timeout().min(two[1].next_timeout()).max(now);
            }
        }
        kept
    }

    fn line(number: u64) -> Vec<u8> {
        format!("{number:0300}").into_bytes()
    }

    #[test]
    fn who_was_away_gets_everything_in_order_though_every_second_packet_is_lost() {
        for seed in 0..20 {
            let (mut two, mut dice) = (pair(), Dice::from_number(seed));
            (1..=50).for_each(|number| two[0].remember(number * 3, line(number)));
            two[1].remember(1_000, line(9));
            let end = Instant::ZERO + Duration::from_secs(200);
            let kept = run(&mut two, end, &mut dice, 50);
            assert_eq!(kept[0], [line(9)], "seed {seed}");
            assert_eq!(kept[1], (1..=50).map(line).collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    fn a_new_event_is_there_without_being_asked_for() {
        let mut two = pair();
        two[0].tell(5, line(1));
        let Some(Parcel::Send(bytes)) = two[0].poll_output() else { panic!("nothing sent") };
        two[1].handle(Instant::ZERO, &bytes);
        assert_eq!(two[1].poll_output(), Some(Parcel::Keep(line(1))));
        two[1].handle(Instant::ZERO, &bytes);
        assert_eq!(two[1].poll_output(), None, "a repetition is dropped");
        two[0].handle(Instant::ZERO, &bytes);
        assert_eq!(two[0].poll_output(), None, "what comes back is not the twin's");
    }

    #[test]
    fn what_is_not_signed_is_dropped() {
        let mut two = pair();
        two[0].tell(5, line(1));
        let Some(Parcel::Send(mut bytes)) = two[0].poll_output() else { panic!("nothing sent") };
        bytes[20] ^= 1;
        two[1].handle(Instant::ZERO, &bytes);
        two[1].handle(Instant::ZERO, &[MARK]);
        two[1].handle(Instant::ZERO, &[MARK; PARCEL_MAX + 1]);
        assert_eq!(two[1].poll_output(), None);
    }

    #[test]
    fn the_longest_event_fits_and_a_longer_one_is_not_given() {
        let mut two = pair();
        two[0].tell(u64::MAX - 1, vec![b'x'; LINE_MAX]);
        assert!(matches!(two[0].poll_output(), Some(Parcel::Send(b)) if b.len() <= PARCEL_MAX));
        two[0].tell(u64::MAX, vec![b'x'; LINE_MAX + 1]);
        assert_eq!(two[0].poll_output(), None);
    }

    #[test]
    fn own_events_at_hand_are_the_newest() {
        let mut exchange = pair().into_iter().next().expect("two");
        let each = LINE_MAX;
        let most = (AT_HAND_MAX / each) as u64;
        (1..=most + 1).for_each(|number| exchange.remember(number, vec![b'x'; each]));
        assert_eq!(exchange.own.front().map(|(seq, _)| *seq), Some(2));
        assert!(exchange.own_bytes <= AT_HAND_MAX);
    }
}
