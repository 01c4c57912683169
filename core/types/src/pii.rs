use core::fmt;
use serde::{Deserialize, Serialize};

/// A person's number or name. It prints in part only, so it cannot leak into a log by accident.
#[derive(Clone, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Pii<T>(T);

impl<T> Pii<T> {
    /// Wraps a private value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: for the wire, the record and the administration, not for logs.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: AsRef<str>> fmt::Display for Pii<T> {
    /// The first two characters, then an ellipsis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.as_ref().chars().take(2) {
            write!(f, "{letter}")?;
        }
        f.write_str("…")
    }
}

impl<T: AsRef<str>> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pii({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_prints_in_part() {
        let number = Pii::new(String::from("+49231123456"));
        assert_eq!(format!("{number} {number:?}"), "+4… Pii(+4…)");
        assert_eq!(number.reveal(), "+49231123456");
    }
}
