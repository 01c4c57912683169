//! Whether both machines hold the same, of what both may change.

use core::fmt;

use serde::{Deserialize, Serialize};

/// How far the two are apart, as one server knows it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Likeness {
    /// Changes that are here, and not on the twin's disk as far as it has said.
    pub twin_lacks: u64,
    /// Changes that the twin has, and that are not on the disk here yet.
    pub here_lacks: u64,
    /// Of so many that were lacking here when this catch-up began.
    pub of: u64,
    /// How long the twin has lacked the oldest of what it lacks, in milliseconds.
    pub late_ms: u64,
}

impl Likeness {
    /// Both hold the same.
    pub const fn is_equal(&self) -> bool {
        self.twin_lacks == 0 && self.here_lacks == 0
    }
}

impl fmt::Display for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_equal() {
            return f.write_str("equal on both machines");
        }
        if self.here_lacks > 0 {
            let of = self.of.max(self.here_lacks);
            write!(f, "catching up, {} of {of} changes are here", of - self.here_lacks)?;
        }
        if self.twin_lacks > 0 {
            let and = if self.here_lacks > 0 { "; " } else { "" };
            write!(f, "{and}{} not on the other machine yet", changes(self.twin_lacks))?;
        }
        Ok(())
    }
}

/// `1 change`, `2 changes`.
pub fn changes(count: u64) -> String {
    if count == 1 { String::from("1 change") } else { format!("{count} changes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_they_are_apart_is_a_sentence() {
        let words = |twin_lacks, here_lacks, of| {
            Likeness { twin_lacks, here_lacks, of, late_ms: 0 }.to_string()
        };
        assert_eq!(words(0, 0, 0), "equal on both machines");
        assert_eq!(words(1, 0, 0), "1 change not on the other machine yet");
        assert_eq!(words(0, 40, 100), "catching up, 60 of 100 changes are here");
        assert_eq!(
            words(2, 40, 0),
            "catching up, 0 of 40 changes are here; 2 changes not on the other machine yet"
        );
    }
}
