//! Requests and answers as datagrams of fixed length, with a MAC under the pair's witness key.
//!
//! ```text
//! request  | version kind seat epoch-seat | pair | witness life | life | serial | epoch | term | MAC |
//! answer   | version kind seat epoch-seat | pair | witness life | life | serial | epoch | time | MAC |
//! bytes      1       1    1    1            8      8              8      8        4       4      16
//! ```
//!
//! All numbers are big-endian, times in microseconds. An answer is as long as its request, so a forged
//! sender gains nothing; kinds of requests and answers differ, so neither can be sent back as the
//! other. The life of the witness is in both: what was recorded before it was restarted is worthless.

use core::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tandem_types::{Duration, Epoch, Seat};

use crate::ledger::Side;

/// Version of the datagrams.
pub const VERSION: u8 = 1;
/// Bytes of a request.
pub const REQUEST_LENGTH: usize = 60;
/// Bytes of an answer.
pub const ANSWER_LENGTH: usize = REQUEST_LENGTH;
const MAC_LENGTH: usize = 16;
const SIGNED_LENGTH: usize = REQUEST_LENGTH - MAC_LENGTH;

/// The public name of a pair, made from its witness key. Tells nothing about the key.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PairId(pub [u8; 8]);

impl fmt::Debug for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// From a keeper to the witness.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// The life of the witness, as it said; zero where it is not known yet.
    pub witness: u64,
    /// Who asks.
    pub side: Side,
    /// Rises with every datagram of this life.
    pub serial: u64,
    /// What is asked.
    pub kind: Kind,
}

/// What is asked of the witness.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Only whether it is there and in which life.
    Hello,
    /// A promise for this reign.
    Ask {
        /// The reign.
        epoch: Epoch,
        /// How long, at most [`crate::TERM_MAX`].
        term: Duration,
    },
    /// The promise is not needed any more.
    Release {
        /// The reign it was for.
        epoch: Epoch,
    },
}

/// From the witness to a keeper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The life of the witness.
    pub witness: u64,
    /// As in the request.
    pub side: Side,
    /// As in the request.
    pub serial: u64,
    /// What it says.
    pub said: Witnessed,
}

/// What the witness says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Witnessed {
    /// It is there. To anything but a Hello: the request named another life of the witness and
    /// changed nothing; ask again.
    Here,
    /// The promise is given for this term.
    Granted {
        /// The right lasts so long from the sending of the request.
        term: Duration,
    },
    /// It is not given.
    Refused {
        /// How long the reason will last; zero: until the epoch is higher than `highest`.
        left: Duration,
        /// The highest epoch that was granted: mint above it.
        highest: Epoch,
    },
    /// The release was taken.
    Released,
    /// A later life of this seat was heard before.
    Older,
}

/// Why a datagram is not one of the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bad {
    /// Not as long as it must be.
    Length,
    /// Another version, signed or not.
    Version(u8),
    /// Of another pair.
    Stranger,
    /// Not signed with the pair's key.
    Forged,
    /// Signed, and nevertheless without meaning.
    Garbled,
}

/// Signs and checks the messages of one pair.
#[derive(Clone)]
pub struct Seal {
    pair: PairId,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Seal {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({:?})", self.pair)
    }
}

impl Seal {
    /// With the pair's witness key.
    pub fn new(key: &[u8; 32]) -> Self {
        // HMAC takes keys of any length (RFC 2104 §3).
        #[allow(clippy::expect_used)]
        let mac = Hmac::new_from_slice(key).expect("any length");
        let name = Sha256::new().chain_update(b"tandem witness pair").chain_update(key).finalize();
        let mut pair = PairId([0; 8]);
        pair.0.copy_from_slice(&name[..8]);
        Self { pair, mac }
    }

    /// The public name of the pair.
    pub fn pair(&self) -> PairId {
        self.pair
    }

    /// The datagram of a request.
    pub fn request(&self, request: &Request) -> Vec<u8> {
        let (kind, epoch, time) = match request.kind {
            Kind::Hello => (HELLO, Epoch::NEVER, Duration::ZERO),
            Kind::Ask { epoch, term } => (ASK, epoch, term),
            Kind::Release { epoch } => (RELEASE, epoch, Duration::ZERO),
        };
        let Request { witness, side, serial, .. } = *request;
        self.close(&Plain { kind, witness, side, serial, epoch, time })
    }

    /// The request in a datagram.
    ///
    /// # Errors
    ///
    /// Why it is none of this pair.
    pub fn open_request(&self, datagram: &[u8]) -> Result<Request, Bad> {
        let Plain { kind, witness, side, serial, epoch, time } = self.open(datagram)?;
        let kind = match kind {
            HELLO => Kind::Hello,
            ASK => Kind::Ask { epoch, term: time },
            RELEASE => Kind::Release { epoch },
            _ => return Err(Bad::Garbled),
        };
        Ok(Request { witness, side, serial, kind })
    }

    /// The datagram of an answer.
    pub fn answer(&self, answer: &Answer) -> Vec<u8> {
        let (kind, epoch, time) = match answer.said {
            Witnessed::Here => (HERE, Epoch::NEVER, Duration::ZERO),
            Witnessed::Granted { term } => (GRANTED, Epoch::NEVER, term),
            Witnessed::Refused { left, highest } => (REFUSED, highest, left),
            Witnessed::Released => (RELEASED, Epoch::NEVER, Duration::ZERO),
            Witnessed::Older => (OLDER, Epoch::NEVER, Duration::ZERO),
        };
        let Answer { witness, side, serial, .. } = *answer;
        self.close(&Plain { kind, witness, side, serial, epoch, time })
    }

    /// The answer in a datagram.
    ///
    /// # Errors
    ///
    /// Why it is none for this pair.
    pub fn open_answer(&self, datagram: &[u8]) -> Result<Answer, Bad> {
        let Plain { kind, witness, side, serial, epoch, time } = self.open(datagram)?;
        let said = match kind {
            HERE => Witnessed::Here,
            GRANTED => Witnessed::Granted { term: time },
            REFUSED => Witnessed::Refused { left: time, highest: epoch },
            RELEASED => Witnessed::Released,
            OLDER => Witnessed::Older,
            _ => return Err(Bad::Garbled),
        };
        Ok(Answer { witness, side, serial, said })
    }

    fn close(&self, plain: &Plain) -> Vec<u8> {
        // More than an hour is no time of this protocol; it is told as the longest there is.
        let micros = u32::try_from(plain.time.as_micros()).unwrap_or(u32::MAX);
        let head = [VERSION, plain.kind, seat_byte(plain.side.seat), seat_byte(plain.epoch.seat)];
        let mut bytes = Vec::with_capacity(REQUEST_LENGTH);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.pair.0);
        for number in [plain.witness, plain.side.life, plain.serial] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&plain.epoch.number.to_be_bytes());
        bytes.extend_from_slice(&micros.to_be_bytes());
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_LENGTH]);
        bytes
    }

    fn open(&self, datagram: &[u8]) -> Result<Plain, Bad> {
        if pair_of(datagram)? != self.pair {
            return Err(Bad::Stranger);
        }
        let (signed, mac) = datagram.split_last_chunk::<MAC_LENGTH>().ok_or(Bad::Length)?;
        let expected = self.mac.clone().chain_update(signed);
        expected.verify_truncated_left(mac).map_err(|_| Bad::Forged)?;
        let signed: &[u8; SIGNED_LENGTH] = signed.try_into().map_err(|_| Bad::Length)?;
        Ok(Plain {
            kind: signed[1],
            side: Side { seat: seat_of(signed[2])?, life: long(signed, 20) },
            witness: long(signed, 12),
            serial: long(signed, 28),
            epoch: Epoch { number: short(signed, 36), seat: seat_of(signed[3])? },
            time: Duration::from_micros(short(signed, 40).into()),
        })
    }
}

/// Whose a datagram says that it is; not proved yet.
///
/// # Errors
///
/// It has another length or version.
pub(crate) fn pair_of(datagram: &[u8]) -> Result<PairId, Bad> {
    if datagram.len() != REQUEST_LENGTH {
        return Err(Bad::Length);
    }
    if datagram[0] != VERSION {
        return Err(Bad::Version(datagram[0]));
    }
    let mut pair = PairId([0; 8]);
    pair.0.copy_from_slice(&datagram[4..12]);
    Ok(pair)
}

/// The fields that both directions have.
struct Plain {
    kind: u8,
    witness: u64,
    side: Side,
    serial: u64,
    epoch: Epoch,
    time: Duration,
}

const HELLO: u8 = 1;
const ASK: u8 = 2;
const RELEASE: u8 = 3;
const HERE: u8 = 129;
const GRANTED: u8 = 130;
const REFUSED: u8 = 131;
const RELEASED: u8 = 132;
const OLDER: u8 = 133;

const fn seat_byte(seat: Seat) -> u8 {
    match seat {
        Seat::Master => 0,
        Seat::Standby => 1,
    }
}

fn seat_of(byte: u8) -> Result<Seat, Bad> {
    match byte {
        0 => Ok(Seat::Master),
        1 => Ok(Seat::Standby),
        _ => Err(Bad::Garbled),
    }
}

fn long(bytes: &[u8; SIGNED_LENGTH], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn short(bytes: &[u8; SIGNED_LENGTH], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Dice;

    fn seal() -> Seal {
        Seal::new(&[1; 32])
    }

    fn side() -> Side {
        Side { seat: Seat::Standby, life: u64::MAX - 1 }
    }

    fn epoch() -> Epoch {
        Epoch { number: 0x0102_0304, seat: Seat::Standby }
    }

    fn requests() -> Vec<Request> {
        let term = Duration::from_micros(1_234_567);
        [Kind::Hello, Kind::Ask { epoch: epoch(), term }, Kind::Release { epoch: epoch() }]
            .map(|kind| Request { witness: 7 << 60, side: side(), serial: 0x0908_0706, kind })
            .to_vec()
    }

    fn answers() -> Vec<Answer> {
        let time = Duration::from_micros(3_000_000);
        [
            Witnessed::Here,
            Witnessed::Granted { term: time },
            Witnessed::Refused { left: time, highest: epoch() },
            Witnessed::Released,
            Witnessed::Older,
        ]
        .map(|said| Answer { witness: 9, side: side(), serial: u64::MAX, said })
        .to_vec()
    }

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        for request in requests() {
            let bytes = seal().request(&request);
            assert_eq!(bytes.len(), REQUEST_LENGTH);
            assert_eq!(seal().open_request(&bytes), Ok(request));
            assert_eq!(seal().open_answer(&bytes), Err(Bad::Garbled), "sent back to its sender");
        }
        for answer in answers() {
            let bytes = seal().answer(&answer);
            assert_eq!(bytes.len(), ANSWER_LENGTH);
            assert_eq!(seal().open_answer(&bytes), Ok(answer));
            assert_eq!(seal().open_request(&bytes), Err(Bad::Garbled));
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let good = seal().request(&requests()[1]);
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            let expected = match index {
                0 => Bad::Version(VERSION ^ 1),
                4..12 => Bad::Stranger,
                _ => Bad::Forged,
            };
            assert_eq!(seal().open_request(&bad), Err(expected), "byte {index}");
        }
    }

    #[test]
    fn another_pair_is_a_stranger_and_a_borrowed_name_is_forged() {
        let other = Seal::new(&[2; 32]);
        let mut bytes = other.request(&requests()[0]);
        assert_eq!(seal().open_request(&bytes), Err(Bad::Stranger));
        bytes[4..12].copy_from_slice(&seal().pair().0);
        assert_eq!(seal().open_request(&bytes), Err(Bad::Forged));
    }

    #[test]
    fn garbage_of_every_length_is_refused() {
        let mut dice = Dice::from_number(3);
        for length in 0..=REQUEST_LENGTH * 2 {
            let mut bytes = vec![0; length];
            dice.fill(&mut bytes);
            assert!(seal().open_request(&bytes).is_err() && seal().open_answer(&bytes).is_err());
            if length > 0 {
                bytes[0] = VERSION;
            }
            assert!(seal().open_request(&bytes).is_err(), "{length}");
        }
    }

    #[test]
    fn a_time_beyond_the_field_is_the_longest_there_is() {
        let kind = Kind::Ask { epoch: epoch(), term: Duration::from_secs(1 << 40) };
        let request = Request { kind, ..requests()[0] };
        let Kind::Ask { term, .. } =
            seal().open_request(&seal().request(&request)).map(|read| read.kind).unwrap()
        else {
            panic!("an ask")
        };
        assert_eq!(term, Duration::from_micros(u32::MAX.into()));
    }

    #[test]
    fn the_key_is_never_printed() {
        assert_eq!(format!("{:?}", seal()), format!("Seal({:?})", seal().pair()));
    }
}
