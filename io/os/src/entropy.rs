//! True randomness, from the system.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `out` with random bytes. Waits only in the first moments after the machine's start.
///
/// # Errors
/// If the system has no source at all (no `getrandom`).
pub fn fill(out: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        match getrandom(&mut out[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// 32 random bytes: the seed of a process's dice, a pair secret.
///
/// # Errors
/// As [`fill`].
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
