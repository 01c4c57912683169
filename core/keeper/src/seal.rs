//! Heartbeats as datagrams: a version byte, postcard, and a MAC under the pair's heartbeat key.
//!
//! ```text
//! | version | Beat ...                | HMAC-SHA256 of all before, first 16 bytes |
//! ```
//!
//! The MAC proves who sent it; that it is no repetition is the pair's business (life, seq, echo).

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tandem_pair::Beat;

/// Version of the datagrams.
const VERSION: u8 = 1;

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
    pub fn close(&self, beat: &Beat) -> Vec<u8> {
        // Writing plain data to a growing vector cannot fail in postcard.
        #[allow(clippy::expect_used)]
        let mut bytes = postcard::to_extend(beat, vec![VERSION]).expect("plain data");
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_LENGTH]);
        bytes
    }

    /// The heartbeat in a datagram.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn open(&self, datagram: &[u8]) -> Result<Beat, BadBeat> {
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
            Ok((beat, [])) => Ok(beat),
            Ok(_) | Err(_) => Err(BadBeat::Garbled),
        }
    }
}
