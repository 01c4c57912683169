//! Heartbeats as datagrams: a version byte, postcard, and a MAC under the pair's heartbeat key.
//!
//! ```text
//! | version | Letter ...              | HMAC-SHA256 of all before, first 16 bytes |
//! ```
//!
//! The MAC proves who sent it; that it is no repetition is the pair's business (life, seq, echo).

use crate::word::Letter;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Version of the datagrams.
const VERSION: u8 = 2;

/// The longest heartbeat in bytes.
pub const BEAT_MAX: usize = 256;

/// Bytes of the MAC.
const MAC_LENGTH: usize = 16;

/// Why a datagram is not a heartbeat of the twin.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum BadBeat {
    /// Longer than [`BEAT_MAX`], or too short.
    Length,
    /// Another version, signed or not.
    Version(u8),
    /// Not signed with the pair's key.
    Forged,
    /// Signed, and not a heartbeat nevertheless.
    Garbled,
}

/// Signs and checks heartbeats.
#[derive(Clone)]
pub struct Seal {
    mac: Hmac<Sha256>,
}

impl core::fmt::Debug for Seal {
    /// Never the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// With the pair's heartbeat key.
    pub fn new(key: &[u8; 32]) -> Self {
        // HMAC takes keys of any length (RFC 2104 §3).
        #[allow(clippy::expect_used)]
        let mac = Hmac::new_from_slice(key).expect("any length");
        Self { mac }
    }

    /// The datagram of a heartbeat.
    pub fn close(&self, letter: &Letter) -> Vec<u8> {
        // Writing plain data to a growing vector cannot fail in postcard.
        #[allow(clippy::expect_used)]
        let mut bytes = postcard::to_extend(letter, vec![VERSION]).expect("plain data");
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_LENGTH]);
        bytes
    }

    /// The heartbeat in a datagram.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn open(&self, datagram: &[u8]) -> Result<Letter, BadBeat> {
        if datagram.len() > BEAT_MAX {
            return Err(BadBeat::Length);
        }
        let (signed, mac) = datagram.split_last_chunk::<MAC_LENGTH>().ok_or(BadBeat::Length)?;
        let (&version, body) = signed.split_first().ok_or(BadBeat::Length)?;
        if version != VERSION {
            return Err(BadBeat::Version(version));
        }
        let expected = self.mac.clone().chain_update(signed);
        expected.verify_truncated_left(mac).map_err(|_| BadBeat::Forged)?;
        match postcard::take_from_bytes(body) {
            Ok((letter, [])) => Ok(letter),
            Ok(_) | Err(_) => Err(BadBeat::Garbled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::{Answer, OrderRefused, Want, Wish, Word};
    use tandem_pair::{Beat, Echo, Life, Server, State, SwitchRefused};
    use tandem_types::{Dice, Epoch, Seat, Seq, Stamp};

    /// A heartbeat with the longest numbers there are.
    fn longest() -> Letter {
        let epoch = Epoch { number: u32::MAX, seat: Seat::Standby };
        let stamp = Stamp { epoch, seq: Seq(u64::MAX) };
        let life = Life { boot: u64::MAX, sleeps: u32::MAX };
        let beat = Beat {
            seat: Seat::Standby,
            life,
            seq: u64::MAX,
            sent_micros: u64::MAX,
            echo: Some(Echo { life, sent_micros: u64::MAX }),
            state: State::Stopped,
            reign: epoch,
            highest: epoch,
            fit: true,
            whole: true,
            holds: Some(stamp),
            server: Server::Died(stamp),
            serving: true,
            protected: true,
            calls: u32::MAX,
            reached: true,
            silence_micros: u32::MAX,
            late_micros: u32::MAX,
            locked: true,
            carrier: true,
        };
        let refused = Some(OrderRefused::Switch(SwitchRefused::TwinNotInSync));
        let word = Word {
            wish: Some(Wish { number: u32::MAX, want: Want::Switch { force: true } }),
            answer: Some(Answer { number: u32::MAX, refused }),
            waits_for_idle: true,
        };
        Letter { beat, word }
    }

    #[test]
    fn a_heartbeat_comes_out_as_it_went_in_and_the_longest_one_fits() {
        let seal = Seal::new(&[1; 32]);
        let bytes = seal.close(&longest());
        assert!(bytes.len() <= BEAT_MAX, "{} bytes", bytes.len());
        assert_eq!(seal.open(&bytes), Ok(longest()));
    }

    #[test]
    fn another_key_another_version_and_a_changed_bit_are_refused() {
        let seal = Seal::new(&[1; 32]);
        let good = seal.close(&longest());
        assert_eq!(Seal::new(&[2; 32]).open(&good), Err(BadBeat::Forged));
        let mut newer = good.clone();
        newer[0] = VERSION + 1;
        assert_eq!(seal.open(&newer), Err(BadBeat::Version(VERSION + 1)));
        for index in 1..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert_eq!(seal.open(&bad), Err(BadBeat::Forged), "byte {index}");
        }
    }

    #[test]
    fn garbage_of_every_length_is_refused() {
        let seal = Seal::new(&[1; 32]);
        let mut dice = Dice::from_number(1);
        for length in 0..=BEAT_MAX + 1 {
            let mut bytes = vec![0; length];
            dice.fill(&mut bytes);
            assert!(seal.open(&bytes).is_err(), "{length}");
        }
        assert_eq!(seal.open(&[VERSION; BEAT_MAX + 1]), Err(BadBeat::Length));
        assert_eq!(seal.open(&[VERSION; BEAT_MAX]), Err(BadBeat::Forged));
        assert_eq!(seal.open(&[VERSION; MAC_LENGTH]), Err(BadBeat::Length));
    }

    #[test]
    fn a_signed_heartbeat_with_something_behind_it_is_garbled() {
        let seal = Seal::new(&[1; 32]);
        let mut bytes = seal.close(&longest());
        bytes.truncate(bytes.len() - MAC_LENGTH);
        bytes.push(0);
        let mac = seal.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_LENGTH]);
        assert_eq!(seal.open(&bytes), Err(BadBeat::Garbled));
    }

    #[test]
    fn the_key_is_never_printed() {
        assert_eq!(format!("{:?}", Seal::new(&[1; 32])), "Seal(…)");
    }
}
