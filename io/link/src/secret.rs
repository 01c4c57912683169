//! The pair secret: 32 bytes both servers know, and the only thing an administrator carries over.
//!
//! Every key of the pair is derived from it with HKDF-SHA256 (RFC 5869), each for one purpose, so a
//! key that leaks says nothing about the others.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;

use crate::code::{self, CodeError, Purpose, SECRET_BYTES};

/// The secret of one pair. It does not print.
#[derive(Clone, Eq, PartialEq)]
pub struct PairSecret([u8; SECRET_BYTES]);

impl PairSecret {
    /// From 32 bytes of true randomness.
    pub const fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, to be kept in a file that only the service may read.
    pub const fn reveal(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The key that authenticates heartbeats between the keepers (HMAC-SHA256).
    pub fn heartbeat_key(&self) -> [u8; 32] {
        self.derive("heartbeat")
    }

    /// The key of the digest nonces, so that a nonce of one server is good at the other.
    pub fn nonce_key(&self) -> [u8; 32] {
        self.derive("digest nonce")
    }

    /// A name of the pair that anybody may read: 16 hexadecimal digits. Nothing follows from it.
    pub fn public_name(&self) -> String {
        self.derive("public name").iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key for `purpose`: HKDF-SHA256 with the purpose as its info.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        // Fails only for outputs beyond 255 hash lengths (RFC 5869 §2.3); this is one.
        let filled = Hkdf::<Sha256>::new(Some(SALT), &self.0).expand(purpose.as_bytes(), &mut key);
        assert!(filled.is_ok(), "one hash length is never too long for HKDF");
        key
    }

    /// The key of the witness's messages. It is all that a witness gets to know of the pair, and no
    /// other key follows from it.
    pub fn witness_key(&self) -> WitnessKey {
        WitnessKey(self.derive("witness"))
    }

    /// The pairing code, see the module `code`.
    pub fn to_code(&self) -> String {
        code::write(&self.0, PAIRING)
    }

    /// Reads a pairing code as a person types it.
    ///
    /// # Errors
    /// Says which letter is wrong, how many are missing, or that two were mixed up.
    pub fn from_code(text: &str) -> Result<Self, CodeError> {
        code::read(text, PAIRING).map(Self)
    }
}

impl fmt::Debug for PairSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairSecret(…)")
    }
}

/// The key that a pair shares with its witness. It does not print.
#[derive(Clone, Eq, PartialEq)]
pub struct WitnessKey([u8; SECRET_BYTES]);

impl WitnessKey {
    /// The 32 bytes.
    pub const fn reveal(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The key as letters and digits, to be entered at the witness. It reads back as a witness key
    /// only: a pairing code that was entered there by mistake is noticed.
    pub fn to_code(&self) -> String {
        code::write(&self.0, WITNESS)
    }

    /// Reads the key as a person types it.
    ///
    /// # Errors
    /// As for [`PairSecret::from_code`].
    pub fn from_code(text: &str) -> Result<Self, CodeError> {
        code::read(text, WITNESS).map(Self)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WitnessKey(…)")
    }
}

const PAIRING: &Purpose = &Purpose { name: "pairing code", label: b"tandem pairing code" };
const WITNESS: &Purpose = &Purpose { name: "witness key", label: b"tandem witness key" };
const SALT: &[u8] = b"tandem pair secret 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> PairSecret {
        PairSecret::from_bytes(std::array::from_fn(|index| (index as u8).wrapping_mul(37)))
    }

    #[test]
    fn keys_are_fixed_by_the_secret_and_differ_by_purpose() {
        assert_eq!(secret().heartbeat_key(), secret().heartbeat_key());
        assert_ne!(secret().heartbeat_key(), secret().nonce_key());
        assert_ne!(&secret().heartbeat_key(), secret().witness_key().reveal());
        assert_ne!(secret().nonce_key(), PairSecret::from_bytes([1; 32]).nonce_key());
    }

    #[test]
    fn a_pairing_code_is_no_witness_key_and_the_other_way_round() {
        let (secret, key) = (secret(), secret().witness_key());
        assert_eq!(PairSecret::from_code(&secret.to_code()), Ok(secret.clone()));
        assert_eq!(WitnessKey::from_code(&key.to_code()), Ok(key.clone()));
        assert!(WitnessKey::from_code(&secret.to_code()).is_err());
        assert!(PairSecret::from_code(&key.to_code()).is_err());
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", secret()), "PairSecret(…)");
        assert_eq!(format!("{:?}", secret().witness_key()), "WitnessKey(…)");
    }
}
