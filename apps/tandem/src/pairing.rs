//! The pairing code: one line that carries everything the standby must know of its pair.
//!
//! ```text
//! letters = base 32 ( version | postcard(Pairing) | CRC-32 of both )     in groups of seven
//! ```
//!
//! Crockford's alphabet (no I, L, O, U), read in any case, O taken for 0, I and L for 1. One wrong
//! letter changes at most five neighbouring bits, and a CRC-32 notices every burst up to 32 bits:
//! so not most but every single mistyped letter is refused.
//!
//! Invariant: the code contains the pair secret. It is shown once and never logged.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Prefix, Profile};

/// What the two machines of a pair have in common.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pairing {
    /// The pair secret.
    pub secret: [u8; 32],
    /// Domain of the users.
    pub realm: String,
    /// The master's own addresses.
    pub master: Vec<IpAddr>,
    /// The standby's own addresses.
    pub standby: Vec<IpAddr>,
    /// The virtual addresses.
    pub virtual_addresses: Vec<Prefix>,
    /// The ports of SIP, the heartbeats and the link.
    pub ports: [u16; 3],
    /// How fast the pair reacts.
    pub profile: Profile,
}

impl Pairing {
    /// The code as it is printed.
    pub fn to_code(&self) -> String {
        // Only a serialiser that refuses (maps of unknown length) can fail; a Pairing has none.
        let mut bytes = postcard::to_extend(self, vec![VERSION]).unwrap_or_default();
        bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
        let letters = encode(&bytes);
        let groups: Vec<&str> = letters.as_bytes().chunks(GROUP).map(ascii).collect();
        groups.join("-")
    }

    /// Reads a code as a person typed or pasted it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn from_code(code: &str) -> Result<Self, CodeError> {
        let bytes = decode(code)?;
        let (head, sum) = bytes.split_last_chunk::<4>().ok_or(CodeError::Checksum)?;
        if crc32(head) != u32::from_be_bytes(*sum) {
            return Err(CodeError::Checksum);
        }
        match head.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| CodeError::Checksum),
            Some((&other, _)) => Err(CodeError::Version(other)),
            None => Err(CodeError::Checksum),
        }
    }
}

impl fmt::Debug for Pairing {
    /// Contains the secret, so it does not print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pairing(…)")
    }
}

/// What is wrong with a pairing code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodeError {
    /// A letter that pairing codes do not use.
    Letter {
        /// Which one, counted from 1 without dashes and spaces.
        position: usize,
        /// The letter.
        found: char,
    },
    /// Every letter is possible, together they are no code.
    Checksum,
    /// Made by another version of Tandem.
    Version(u8),
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letter { position, found } => write!(
                f,
                "the pairing code is wrong: {found:?} (letter {position}) does not occur in one; \
                 copy the whole line that `tandem init --seat master` printed"
            ),
            Self::Checksum => f.write_str(
                "the pairing code is wrong: a letter is missing or mistyped; \
                 copy the whole line that `tandem init --seat master` printed",
            ),
            Self::Version(version) => write!(
                f,
                "the pairing code has version {version}, this program reads {VERSION}: \
                 install the same version of Tandem on both machines"
            ),
        }
    }
}

impl std::error::Error for CodeError {}

fn encode(bytes: &[u8]) -> String {
    let bit = |index: usize| -> usize {
        bytes.get(index / 8).map_or(0, |byte| usize::from(byte >> (7 - index % 8) & 1))
    };
    let letters = (bytes.len() * 8).div_ceil(5);
    (0..letters)
        .map(|letter| (0..5).fold(0, |value, place| value << 1 | bit(letter * 5 + place)))
        .map(|value| char::from(ALPHABET[value]))
        .collect()
}

fn decode(code: &str) -> Result<Vec<u8>, CodeError> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    let letters = code.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
    for (index, found) in letters.enumerate() {
        let plain = match found.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let value = (0_u32..).zip(ALPHABET).find(|(_, letter)| char::from(**letter) == plain);
        let (value, _) = value.ok_or(CodeError::Letter { position: index + 1, found })?;
        bits = bits << 5 | value;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.extend((bits >> held).to_be_bytes().last());
            bits &= (1 << held) - 1;
        }
    }
    // What is left of the last letter was filled with zeros, and is less than a letter.
    if bits != 0 || held >= 5 { Err(CodeError::Checksum) } else { Ok(bytes) }
}

/// The CRC of Ethernet and zip (IEEE 802.3), bit by bit: a code is short.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// The alphabet is ASCII, so every cut lies between letters.
fn ascii(letters: &[u8]) -> &str {
    std::str::from_utf8(letters).unwrap_or_default()
}

const VERSION: u8 = 1;
const GROUP: usize = 7;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    fn pairing(length: usize) -> Pairing {
        Pairing {
            secret: std::array::from_fn(|index| (index as u8).wrapping_mul(37)),
            realm: "r".repeat(length),
            master: vec!["192.0.2.2".parse().unwrap()],
            standby: vec!["2001:db8::3".parse().unwrap()],
            virtual_addresses: vec![Prefix::parse("192.0.2.10/24").unwrap()],
            ports: [5060, 5070, 5071],
            profile: Profile::Default,
        }
    }

    #[test]
    fn a_code_reads_back_at_every_length_of_its_tail() {
        for length in 1..12 {
            let code = pairing(length).to_code();
            assert_eq!(Pairing::from_code(&code), Ok(pairing(length)), "{code}");
        }
    }

    #[test]
    fn a_code_may_be_typed_as_people_type() {
        let typed = pairing(7).to_code().to_lowercase().replace('-', " ").replace('0', "o");
        assert_eq!(Pairing::from_code(&typed.replace('1', "l")), Ok(pairing(7)));
        assert_eq!(Pairing::from_code(&format!("  {}\n", pairing(7).to_code())), Ok(pairing(7)));
    }

    #[test]
    fn every_single_mistyped_letter_is_refused() {
        let mut tried = 0;
        for length in 1..6 {
            let code = pairing(length).to_code();
            for (place, right) in code.char_indices().filter(|(_, letter)| *letter != '-') {
                for wrong in ALPHABET.iter().map(|letter| char::from(*letter)) {
                    let mut typed = code.clone();
                    typed.replace_range(place..=place, &wrong.to_string());
                    assert_eq!(Pairing::from_code(&typed).is_ok(), wrong == right, "{typed}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 10_000, "{tried}");
    }

    #[test]
    fn a_missing_swapped_or_added_letter_is_refused() {
        let code = pairing(7).to_code().replace('-', "");
        for place in 0..code.len() {
            let mut cut = code.clone();
            cut.remove(place);
            assert!(Pairing::from_code(&cut).is_err(), "{cut}");
        }
        assert!(Pairing::from_code(&format!("{code}0")).is_err());
        assert!(Pairing::from_code("").is_err());
        let letter = Pairing::from_code("ABü").unwrap_err();
        assert_eq!(letter, CodeError::Letter { position: 3, found: 'ü' });
    }

    #[test]
    fn a_code_of_another_version_says_so() {
        let mut bytes = vec![9];
        bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
        assert_eq!(Pairing::from_code(&encode(&bytes)), Err(CodeError::Version(9)));
    }

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_pairing_does_not_print_its_secret() {
        assert_eq!(format!("{:?}", pairing(3)), "Pairing(…)");
    }
}
