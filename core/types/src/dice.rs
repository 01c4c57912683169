use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Random numbers that depend on the seed alone and cannot be guessed without it (ChaCha12).
///
/// The operating system's randomness seeds it once per process; a simulation seeds it by number.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha12Rng);

impl Dice {
    /// From 32 bytes of true randomness.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// For simulations: the same number gives the same throws on every machine.
    pub fn from_number(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`; zero when `limit` is zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next_u64() % limit }
    }

    /// True in `percent` of a hundred throws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// `bytes` random bytes as lower-case hexadecimal digits, two for each byte.
    pub fn hex(&mut self, bytes: usize) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut raw = vec![0; bytes];
        self.fill(&mut raw);
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        raw.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let (mut one, mut two) = (Dice::from_number(7), Dice::from_number(7));
        assert_eq!(one.hex(8), two.hex(8));
        assert_ne!(one.hex(8), Dice::from_number(8).hex(8));
        assert_eq!(two.hex(5).len(), 10);
    }
}
