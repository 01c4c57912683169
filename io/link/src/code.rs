//! 32 secret bytes as a person carries them: eight groups of seven letters and digits.
//!
//! Crockford's base 32 (no I, L, O, U), the secret followed by a 24-bit checksum. The checksum depends
//! on what the code is for, so that one code is not taken for another.

use std::fmt;

use sha2::{Digest, Sha256};

/// What a code is for.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// What people call it.
    pub(crate) name: &'static str,
    /// Goes into the checksum.
    pub(crate) label: &'static [u8],
}

/// The code of a secret.
pub(crate) fn write(secret: &[u8; SECRET_BYTES], purpose: &Purpose) -> String {
    let mut bytes = secret.to_vec();
    bytes.extend_from_slice(&checksum(secret, purpose));
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

/// Reads a code as a person types it: any case, spaces or dashes anywhere, O for 0, I and L for 1.
///
/// # Errors
/// Says which letter is wrong, how many are missing, or that two were mixed up.
pub(crate) fn read(text: &str, purpose: &Purpose) -> Result<[u8; SECRET_BYTES], CodeError> {
    let name = purpose.name;
    let mut bytes = Vec::with_capacity(SECRET_BYTES + CHECKSUM_BYTES);
    let (mut bits, mut held, mut letters) = (0_u16, 0_u8, 0);
    for letter in text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
        letters += 1;
        let value =
            value_of(letter).ok_or(CodeError::Letter { name, position: letters, found: letter })?;
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
        return Err(CodeError::Length { name, found: letters });
    }
    let mut secret = [0; SECRET_BYTES];
    secret.copy_from_slice(&bytes[..SECRET_BYTES]);
    if bytes[SECRET_BYTES..] != checksum(&secret, purpose) {
        return Err(CodeError::Checksum { name });
    }
    Ok(secret)
}

/// What is wrong with a code. `name` says what it should have been.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodeError {
    /// Too few or too many letters.
    Length {
        /// What was expected.
        name: &'static str,
        /// Letters and digits found.
        found: usize,
    },
    /// A letter that codes do not use.
    Letter {
        /// What was expected.
        name: &'static str,
        /// Which one, counted from 1 without dashes and spaces.
        position: usize,
        /// The letter.
        found: char,
    },
    /// All letters are possible, together they are not such a code: one was misread, two were
    /// swapped, or it is a code for something else.
    Checksum {
        /// What was expected.
        name: &'static str,
    },
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { name, found } => {
                write!(f, "a {name} has {CODE_LETTERS} letters and digits, this has {found}")
            }
            Self::Letter { name, position, found } => {
                write!(f, "`{found}` (letter {position}) does not occur in a {name}")
            }
            Self::Checksum { name } => {
                write!(f, "a letter of the {name} is wrong, or it is a code for something else")
            }
        }
    }
}

impl std::error::Error for CodeError {}

fn checksum(secret: &[u8; SECRET_BYTES], purpose: &Purpose) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(purpose.label).chain_update(secret).finalize();
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

/// Bytes of a secret.
pub(crate) const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 3;
/// (32 + 3) * 8 bits, five in each letter.
const CODE_LETTERS: usize = 56;
const GROUP_LETTERS: usize = 7;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: &Purpose = &Purpose { name: "code", label: b"test" };

    fn secret() -> [u8; SECRET_BYTES] {
        std::array::from_fn(|index| (index as u8).wrapping_mul(37))
    }

    #[test]
    fn a_code_reads_back_as_it_was() {
        let code = write(&secret(), PURPOSE);
        assert_eq!(code.len(), 63, "{code}");
        assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [7; 8]);
        assert_eq!(read(&code, PURPOSE), Ok(secret()));
        for byte in [0, 0xff, 0xa5] {
            let same = [byte; 32];
            assert_eq!(read(&write(&same, PURPOSE), PURPOSE), Ok(same));
        }
    }

    #[test]
    fn a_code_may_be_typed_as_people_type() {
        let typed = write(&secret(), PURPOSE).to_lowercase().replace('-', " ").replace('0', "o");
        assert_eq!(read(&typed.replace('1', "l"), PURPOSE), Ok(secret()));
    }

    #[test]
    fn every_single_wrong_letter_is_noticed() {
        let code = write(&secret(), PURPOSE);
        for (position, right) in code.char_indices().filter(|(_, letter)| *letter != '-') {
            let wrong = if right == 'Z' { 'Y' } else { 'Z' };
            let mut typed = code.clone();
            typed.replace_range(position..=position, &wrong.to_string());
            assert_eq!(read(&typed, PURPOSE), Err(CodeError::Checksum { name: "code" }));
        }
    }

    #[test]
    fn a_cut_or_foreign_code_says_what_is_wrong() {
        let (code, name) = (write(&secret(), PURPOSE), "code");
        assert_eq!(read("", PURPOSE), Err(CodeError::Length { name, found: 0 }));
        assert_eq!(read(&code[1..], PURPOSE), Err(CodeError::Length { name, found: 55 }));
        let long = format!("{code}0");
        assert_eq!(read(&long, PURPOSE), Err(CodeError::Length { name, found: 57 }));
        let foreign = code.replacen(&code[8..9], "ü", 1);
        assert!(matches!(read(&foreign, PURPOSE), Err(CodeError::Letter { found: 'ü', .. })));
    }
}
