//! A user and the texts a user is made of, checked once where they come in.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest user name in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest display name in characters.
pub const DISPLAY_CHARS_MAX: usize = 64;

/// Most digits of an internal number; longer ones are external (E.164 has 15).
pub const NUMBER_DIGITS_MAX: usize = 15;

/// Internal numbers that one user may have.
pub const NUMBERS_PER_USER_MAX: usize = 16;

/// What was given does not have the expected form. Prints as one sentence for the administrator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// The field it was given for.
    pub field: &'static str,
    /// What was given.
    pub given: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: expected {}", self.field, self.given, self.expected)
    }
}

impl std::error::Error for Invalid {}

/// The name somebody logs in with and can be dialled by: lower case, unique.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    /// Takes a name that has the form of one.
    ///
    /// # Errors
    ///
    /// On upper case (logging in compares letter by letter), on characters that would need an escape
    /// in a SIP address, and beyond [`NAME_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        if starts_well && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid {
            field: "name",
            given: text.to_owned(),
            expected: "1 to 64 of a-z, 0-9, '.', '_' and '-', starting with a letter or a digit",
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An internal number: digits only.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Number(String);

impl Number {
    /// Takes a number that has the form of one.
    ///
    /// # Errors
    ///
    /// On anything but digits, and beyond [`NUMBER_DIGITS_MAX`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits_only && text.len() <= NUMBER_DIGITS_MAX {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid {
            field: "number",
            given: text.to_owned(),
            expected: "1 to 15 digits without spaces or signs (an internal number)",
        })
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Number {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the other side's phone shows: any letters, no control characters, may be empty.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

impl DisplayName {
    /// Takes a name that can stand in a header.
    ///
    /// # Errors
    ///
    /// On control characters (a line break would end the header), and beyond
    /// [`DISPLAY_CHARS_MAX`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().count() <= DISPLAY_CHARS_MAX && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid {
            field: "display name",
            given: text.to_owned(),
            expected: "at most 64 characters and no control characters",
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DisplayName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<DisplayName> for String {
    fn from(display: DisplayName) -> Self {
        display.0
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Somebody who can log in, call and be called.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct User {
    /// Unique; also the user part of the SIP address.
    pub name: UserName,
    /// What others see.
    pub display: DisplayName,
    /// Internal numbers; the first is shown to whom the user calls.
    pub numbers: Vec<Number>,
    /// Whether the user can log in and call.
    pub enabled: bool,
}

/// What is kept instead of a password: HA1 of RFC 7616 §3.4.2, for each algorithm.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
pub struct Credentials {
    /// `MD5(name:realm:password)`.
    pub md5: [u8; 16],
    /// `SHA-256(name:realm:password)`.
    pub sha256: [u8; 32],
}

impl fmt::Debug for Credentials {
    /// As good as a password, so it does not print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A user with the credentials to log in: one record of the directory.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Account {
    /// Everything that may be shown.
    pub user: User,
    /// What may not.
    pub credentials: Credentials,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_plain() {
        for good in ["anna", "201", "a.b_c-d", "a"] {
            assert_eq!(UserName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Anna", "anna b", ".anna", "-", "anna@example", "jörg", "a;b", "a%62"] {
            assert!(UserName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_limits_are_the_last_length_taken() {
        assert!(UserName::parse(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(UserName::parse(&"a".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(Number::parse(&"1".repeat(NUMBER_DIGITS_MAX)).is_ok());
        assert!(Number::parse(&"1".repeat(NUMBER_DIGITS_MAX + 1)).is_err());
        assert!(DisplayName::parse(&"ß".repeat(DISPLAY_CHARS_MAX)).is_ok());
        assert!(DisplayName::parse(&"ß".repeat(DISPLAY_CHARS_MAX + 1)).is_err());
    }

    #[test]
    fn a_refusal_names_the_field_and_the_expected_form() {
        let error = Number::parse("+49 231").unwrap_err();
        assert_eq!(
            error.to_string(),
            "number \"+49 231\": expected 1 to 15 digits without spaces or signs (an internal number)"
        );
        assert!(UserName::parse("Anna").unwrap_err().to_string().starts_with("name \"Anna\": "));
        assert!(DisplayName::parse("a\r\nVia: x").is_err());
    }

    #[test]
    fn credentials_never_print() {
        let credentials = Credentials { md5: [7; 16], sha256: [7; 32] };
        assert_eq!(format!("{credentials:?}"), "Credentials(…)");
    }
}
