//! Hiding the numbers of people outside: in full, the last digits hidden, or hidden.
//!
//! Outside is every number that no user has. That is all the system can tell as long as there is no
//! trunk; a number that a user gave up counts as outside too, which hides too much rather than too little.

use std::collections::BTreeSet;

use tandem_call::Cdr;
use tandem_types::Pii;

/// What is shown of a number from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Numbers {
    /// All of it.
    Full,
    /// All but so many digits at its end.
    LastHidden(usize),
    /// Nothing.
    Hidden,
}

/// Stands in the place of a hidden number.
const HIDDEN: &str = "hidden";

/// Digits that can be hidden one by one, at most: the longest number of ITU-T E.164 has 15.
const DIGITS_MAX: usize = 15;

/// Reads `full`, `last-3-hidden`, `hidden`.
pub(crate) fn numbers(text: &str) -> Result<Numbers, String> {
    let last = |text: &str| {
        let count = text.strip_prefix("last-")?.strip_suffix("-hidden")?.parse().ok()?;
        (1..=DIGITS_MAX).contains(&count).then_some(Numbers::LastHidden(count))
    };
    match text {
        "full" => Ok(Numbers::Full),
        "hidden" => Ok(Numbers::Hidden),
        other => last(other).ok_or_else(|| {
            format!("expected full, hidden or last-N-hidden with N from 1 to {DIGITS_MAX}")
        }),
    }
}

/// What hides numbers in records.
#[derive(Clone, Debug)]
pub(super) struct Mask {
    numbers: Numbers,
    internal: BTreeSet<String>,
}

impl Mask {
    /// `internal`: the numbers and login names of users.
    pub(super) const fn new(numbers: Numbers, internal: BTreeSet<String>) -> Self {
        Self { numbers, internal }
    }

    /// Hides what is to be hidden in this record.
    pub(super) fn apply(&self, cdr: &mut Cdr) {
        let shown = [&cdr.origination_number, &cdr.called_number, &cdr.destination_number]
            .map(|number| self.outside(number.reveal()));
        let devices = [&mut cdr.origination_device, &mut cdr.destination_device];
        for device in devices {
            *device = shown.iter().flatten().fold(device.clone(), |text, (number, masked)| {
                hide_in_address(&text, number, masked)
            });
        }
        let people = [
            (&mut cdr.origination_number, &mut cdr.origination_name),
            (&mut cdr.called_number, &mut cdr.called_name),
            (&mut cdr.destination_number, &mut cdr.destination_name),
        ];
        for ((number, name), shown) in people.into_iter().zip(shown) {
            let Some((full, masked)) = shown else { continue };
            // Where nobody knew a name the number may stand there.
            if name.reveal().contains(&full) {
                *name = Pii::new(name.reveal().replace(&full, &masked));
            }
            *number = Pii::new(masked);
        }
    }

    /// A number from outside, and what is shown of it; `None` where all of it is.
    fn outside(&self, number: &str) -> Option<(String, String)> {
        if number.is_empty() || self.internal.contains(number) {
            return None;
        }
        let masked = match self.numbers {
            Numbers::Full => return None,
            Numbers::Hidden => HIDDEN.to_owned(),
            Numbers::LastHidden(count) => hide_last(number, count),
        };
        Some((number.to_owned(), masked))
    }
}

/// The last letters and digits become `x`; signs between them stay.
fn hide_last(number: &str, count: usize) -> String {
    let mut left = count;
    let mut letters: Vec<char> = number.chars().collect();
    for letter in letters.iter_mut().rev() {
        if left > 0 && letter.is_alphanumeric() {
            *letter = 'x';
            left -= 1;
        }
    }
    letters.into_iter().collect()
}

/// Hides the number where it stands as the user of an address.
fn hide_in_address(text: &str, number: &str, masked: &str) -> String {
    ["sip:", "sips:", "tel:"].iter().fold(text.to_owned(), |text, scheme| {
        let text = text.replace(&format!("{scheme}{number}@"), &format!("{scheme}{masked}@"));
        if *scheme == "tel:" {
            text.replace(&format!("tel:{number}"), &format!("tel:{masked}"))
        } else {
            text
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::cdr::formats::tests::cdr;

    fn masked(how: &str, called: &str) -> Cdr {
        let internal = ["10", "20"].map(String::from).into();
        let mut cdr = cdr();
        cdr.called_number = Pii::new(called.into());
        cdr.called_name = Pii::new(called.into());
        cdr.destination_device = format!("sip:{called}@192.0.2.7 udp 192.0.2.7:5060");
        Mask::new(numbers(how).unwrap(), internal).apply(&mut cdr);
        cdr
    }

    #[test]
    fn only_numbers_from_outside_are_hidden() {
        for how in ["full", "hidden", "last-3-hidden"] {
            let cdr = masked(how, "20");
            let shown = [&cdr.origination_number, &cdr.called_number, &cdr.destination_number];
            assert_eq!(shown.map(|number| number.reveal().as_str()), ["10", "20", "20"], "{how}");
        }
        assert_eq!(masked("full", "+49231123456").called_number.reveal(), "+49231123456");
        let hidden = masked("hidden", "+49231123456");
        assert_eq!(
            (hidden.called_number.reveal().as_str(), hidden.called_name.reveal().as_str()),
            ("hidden", "hidden")
        );
        let part = masked("last-3-hidden", "+49231123456");
        assert_eq!(part.called_number.reveal(), "+49231123xxx");
        assert!(part.destination_device.starts_with("sip:+49231123xxx@"), "{part:?}");
        assert_eq!(masked("last-9-hidden", "4711").called_number.reveal(), "xxxx");
    }

    #[test]
    fn nothing_of_a_hidden_number_is_left_anywhere_in_the_record() {
        let cdr = masked("hidden", "+49231123456");
        assert!(!serde_json::json!(cdr).to_string().contains("49231123456"));
    }

    #[test]
    fn ways_to_hide_are_read() {
        assert_eq!(numbers("last-15-hidden"), Ok(Numbers::LastHidden(15)));
        for text in ["", "last-0-hidden", "last-16-hidden", "last--1-hidden", "none"] {
            assert!(numbers(text).is_err(), "{text}");
        }
    }
}
