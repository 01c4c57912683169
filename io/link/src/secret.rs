//! The pair secret: 32 bytes both servers know, and the only thing an administrator carries over.
//!
//! Every key of the pair is derived from it with HKDF-SHA256 (RFC 5869), each for one purpose, so a
//! key that leaks says nothing about the others.

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};

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

    /// The key for `purpose`: HKDF-SHA256 with the purpose as its info.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        // Fails only for outputs beyond 255 hash lengths (RFC 5869 §2.3); this is one.
        let filled = Hkdf::<Sha256>::new(Some(SALT), &self.0).expand(purpose.as_bytes(), &mut key);
        assert!(filled.is_ok(), "one hash length is never too long for HKDF");
        key
    }

    /// The pairing code: eight groups of seven letters and digits (Crockford's base 32: no I, L, O, U),
    /// the secret followed by a 24-bit checksum.
    pub fn to_code(&self) -> String {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(&checksum(&self.0));
        let mut code = String::with_capacity(CODE_LETTERS + CODE_LETTERS / GROUP_LETTERS);
        let (mut bits, mut held) = (0_u16, 0_u8);
        let mut written = 0;
        for byte in bytes {
            bits = (bits << 8) | u16::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                if written > 0 && written % GROUP_LETTERS == 0 {
                    code.push('-');
                }
                code.push(char::from(ALPHABET[usize::from(bits >> held) & 31]));
                written += 1;
            }
        }
        code
    }

    /// Reads a pairing code as a person types it: any case, spaces or dashes anywhere, O for 0, I and
    /// L for 1.
    ///
    /// # Errors
    /// Says which letter is wrong, how many are missing, or that two were mixed up.
    pub fn from_code(code: &str) -> Result<Self, PairingCodeError> {
        let mut bytes = Vec::with_capacity(SECRET_BYTES + CHECKSUM_BYTES);
        let (mut bits, mut held, mut letters) = (0_u16, 0_u8, 0);
        for letter in code.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
            letters += 1;
            let value = value_of(letter)
                .ok_or(PairingCodeError::Letter { position: letters, found: letter })?;
            if letters > CODE_LETTERS {
                continue; // only counted
            }
            bits = (bits << 5) | u16::from(value);
            held += 5;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held).to_be_bytes()[1]);
                bits &= (1 << held) - 1;
            }
        }
        if letters != CODE_LETTERS {
            return Err(PairingCodeError::Length { found: letters });
        }
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&bytes[..SECRET_BYTES]);
        if bytes[SECRET_BYTES..] != checksum(&secret) {
            return Err(PairingCodeError::Checksum);
        }
        Ok(Self(secret))
    }
}

impl fmt::Debug for PairSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairSecret(…)")
    }
}

/// What is wrong with a pairing code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairingCodeError {
    /// Too few or too many letters.
    Length {
        /// Letters and digits found.
        found: usize,
    },
    /// A letter that pairing codes do not use.
    Letter {
        /// Which one, counted from 1 without dashes and spaces.
        position: usize,
        /// The letter.
        found: char,
    },
    /// All letters are possible, together they are not a code: one was misread or two swapped.
    Checksum,
}

impl fmt::Display for PairingCodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => {
                write!(f, "a pairing code has {CODE_LETTERS} letters and digits, this has {found}")
            }
            Self::Letter { position, found } => {
                write!(f, "`{found}` (letter {position}) does not occur in pairing codes")
            }
            Self::Checksum => f.write_str("a letter of the pairing code is wrong"),
        }
    }
}

impl std::error::Error for PairingCodeError {}

fn checksum(secret: &[u8; SECRET_BYTES]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(b"tandem pairing code").chain_update(secret).finalize();
    [digest[0], digest[1], digest[2]]
}

fn value_of(letter: char) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|known| char::from(*known) == letter).map(|index| index as u8)
}

const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 3;
/// (32 + 3) * 8 bits, five in each letter.
const CODE_LETTERS: usize = 56;
const GROUP_LETTERS: usize = 7;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SALT: &[u8] = b"tandem pair secret 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> PairSecret {
        PairSecret::from_bytes(std::array::from_fn(|index| (index as u8).wrapping_mul(37)))
    }

    #[test]
    fn a_code_reads_back_as_it_was() {
        let code = secret().to_code();
        assert_eq!(code.len(), 63, "{code}");
        assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [7; 8]);
        assert_eq!(PairSecret::from_code(&code), Ok(secret()));
        for byte in [0, 0xff, 0xa5] {
            let same = PairSecret::from_bytes([byte; 32]);
            assert_eq!(PairSecret::from_code(&same.to_code()), Ok(same));
        }
    }

    #[test]
    fn a_code_may_be_typed_as_people_type() {
        let typed = secret().to_code().to_lowercase().replace('-', " ").replace('0', "o");
        assert_eq!(PairSecret::from_code(&typed.replace('1', "l")), Ok(secret()));
    }

    #[test]
    fn every_single_wrong_letter_is_noticed() {
        let code = secret().to_code();
        for (position, right) in code.char_indices().filter(|(_, letter)| *letter != '-') {
            let wrong = if right == 'Z' { 'Y' } else { 'Z' };
            let mut typed = code.clone();
            typed.replace_range(position..=position, &wrong.to_string());
            assert_eq!(PairSecret::from_code(&typed), Err(PairingCodeError::Checksum));
        }
    }

    #[test]
    fn a_cut_or_foreign_code_says_what_is_wrong() {
        let code = secret().to_code();
        assert_eq!(PairSecret::from_code(""), Err(PairingCodeError::Length { found: 0 }));
        assert_eq!(PairSecret::from_code(&code[1..]), Err(PairingCodeError::Length { found: 55 }));
        let long = format!("{code}0");
        assert_eq!(PairSecret::from_code(&long), Err(PairingCodeError::Length { found: 57 }));
        let foreign = code.replacen(&code[8..9], "ü", 1);
        assert!(matches!(
            PairSecret::from_code(&foreign),
            Err(PairingCodeError::Letter { found: 'ü', .. })
        ));
    }

    #[test]
    fn keys_are_fixed_by_the_secret_and_differ_by_purpose() {
        assert_eq!(secret().heartbeat_key(), secret().heartbeat_key());
        assert_ne!(secret().heartbeat_key(), secret().nonce_key());
        assert_ne!(secret().nonce_key(), PairSecret::from_bytes([1; 32]).nonce_key());
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", secret()), "PairSecret(…)");
    }
}
