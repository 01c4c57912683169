//! The name of a content: its BLAKE3 hash.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is in a file, as 32 bytes that nothing else has.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Nothing is before it.
    pub const MIN: Self = Self([0; 32]);
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ContentId {
    type Err = ();

    /// From 64 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(());
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(()),
        };
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

/// Names what is too long to be in memory.
#[derive(Clone, Debug, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The name of all of them.
    pub fn finish(&self) -> ContentId {
        ContentId(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let id = ContentId::of(b"tandem");
        assert_eq!(id.to_string().parse(), Ok(id));
        let text = id.to_string();
        for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
            assert_eq!(ContentId::from_str(wrong), Err(()), "{wrong}");
        }
        // As the authors of BLAKE3 have it for no bytes at all.
        assert!(ContentId::of(b"").to_string().starts_with("af1349b9f5f9a1a6a0404dea36dcc949"));
    }

    #[test]
    fn parts_have_the_name_of_the_whole() {
        let mut hasher = Hasher::default();
        hasher.update(b"tan");
        hasher.update(b"dem");
        assert_eq!(hasher.finish(), ContentId::of(b"tandem"));
    }
}
