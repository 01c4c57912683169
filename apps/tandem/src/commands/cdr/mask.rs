//! Hiding the numbers of people outside: in full, the last digits hidden, or hidden.
//!
//! Outside is every number that no user has. That is all the system can tell as long as there is no
//! trunk; a number that a user gave up counts as outside too, which hides too much rather than too little.

use std::collections::BTreeSet;

use tandem_call::Cdr;
use tandem_node::CallEvents;
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

    /// Hides what is to be hidden in this record and in its events.
    pub(super) fn apply(&self, cdr: &mut Cdr, events: Option<&mut CallEvents>) {
        let shown = [&cdr.origination_number, &cdr.called_number, &cdr.destination_number]
            .map(|number| self.outside(number.reveal()));
        let hide_all = |text: &str| {
            let hidden = shown.iter().flatten();
            hidden.fold(text.to_owned(), |text, (number, masked)| hide_in(&text, number, masked))
        };
        let devices = [&mut cdr.origination_device, &mut cdr.destination_device];
        let devices =
            devices.into_iter().chain(events.into_iter().flat_map(|it| it.devices.values_mut()));
        devices.for_each(|device| *device = hide_all(device));
        // Where nobody knew a name the number may stand there.
        for name in [&mut cdr.origination_name, &mut cdr.called_name, &mut cdr.destination_name] {
            *name = Pii::new(hide_all(name.reveal()));
        }
        let numbers =
            [&mut cdr.origination_number, &mut cdr.called_number, &mut cdr.destination_number];
        for (number, shown) in numbers.into_iter().zip(&shown) {
            let Some((_, masked)) = shown else { continue };
            *number = Pii::new(masked.clone());
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

/// From so many letters and digits on a number is hidden within longer ones too (`0049...` for `+49...`); a
/// shorter one only where it stands by itself.
const LONG: usize = 7;

/// Hides the number wherever it stands in a name or an address, with its `+` or without.
fn hide_in(text: &str, number: &str, masked: &str) -> String {
    let bare = number.trim_start_matches('+');
    if bare.is_empty() {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut from = 0;
    for (at, found) in text.match_indices(bare) {
        let before = &text[from..at];
        let is_whole = bare.len() >= LONG || stands_alone(&text[..at], &text[at + found.len()..]);
        if !is_whole {
            continue;
        }
        shown.push_str(before.strip_suffix('+').unwrap_or(before));
        let sign = if before.ends_with('+') && masked != HIDDEN { "+" } else { "" };
        shown.push_str(sign);
        shown.push_str(masked.trim_start_matches('+'));
        from = at + found.len();
    }
    shown + &text[from..]
}

/// Whether what stands between the two is no part of a longer word, of an IP address or of its port.
fn stands_alone(before: &str, after: &str) -> bool {
    let mut before = before.chars().rev();
    let (last, one_more) = (before.next(), before.next());
    let mut after = after.chars();
    let (first, second) = (after.next(), after.next());
    let is_word = |it: Option<char>| it.is_some_and(char::is_alphanumeric);
    let is_digit = |it: Option<char>| it.is_some_and(|c| c.is_ascii_digit());
    let in_address =
        (last == Some('.') && is_digit(one_more)) || (first == Some('.') && is_digit(second));
    let is_port = last == Some(':') && (is_digit(one_more) || one_more == Some(']'));
    !is_word(last) && !is_word(first) && !in_address && !is_port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::cdr::formats::tests::cdr;
    use tandem_call::{LegId, Trail};

    fn masked(how: &str, called: &str) -> Cdr {
        let internal = ["10", "20"].map(String::from).into();
        let mut cdr = cdr();
        cdr.called_number = Pii::new(called.into());
        cdr.called_name = Pii::new(called.into());
        cdr.destination_device = format!("sip:{called}@192.0.2.7 udp 192.0.2.7:5060");
        Mask::new(numbers(how).unwrap(), internal).apply(&mut cdr, None);
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
    fn nothing_of_a_hidden_number_is_left_anywhere_in_the_record_and_its_events() {
        let internal = || ["10", "20"].map(String::from).into();
        let mut said = 0;
        for device in [
            "sip:+49231123456@192.0.2.7 udp 192.0.2.7:5060",
            "sip:49231123456@192.0.2.7 udp 192.0.2.7:5060",
            "sips:0049231123456@192.0.2.7",
            "SIP:%2B49231123456:secret@192.0.2.7",
            "sip:+49231123456;phone-context=example.com@192.0.2.7",
            "tel:+49231123456",
            "<+49231123456> phone/1.0 of 49231123456",
        ] {
            for (how, left) in [("hidden", "49231"), ("last-6-hidden", "123456")] {
                let mut cdr = cdr();
                cdr.origination_number = Pii::new("+49231123456".into());
                cdr.called_name = Pii::new("Ben for +49231123456".into());
                cdr.origination_device = device.to_owned();
                let devices = [(LegId(1), device.to_owned())].into();
                let mut events = CallEvents { devices, trail: Trail::default() };
                let mask = Mask::new(numbers(how).unwrap(), internal());
                mask.apply(&mut cdr, Some(&mut events));
                let text = serde_json::json!([cdr, events]).to_string();
                assert!(!text.contains(left), "{how}: {text}");
                said +=
                    usize::from(text.contains(if how == "hidden" { "hidden" } else { "xxxxxx" }));
            }
        }
        assert_eq!(said, 14);
    }

    #[test]
    fn a_short_number_is_hidden_where_it_stands_by_itself_and_spoils_no_address() {
        let hidden = |text: &str| hide_in(text, "5060", HIDDEN);
        assert_eq!(
            hidden("sip:5060@192.0.2.7 udp 192.0.2.7:5060"),
            "sip:hidden@192.0.2.7 udp 192.0.2.7:5060"
        );
        assert_eq!(hidden("sip:5060;x=y@[2001:db8::7]:5060"), "sip:hidden;x=y@[2001:db8::7]:5060");
        assert_eq!(hidden("phone 5060, x5060, 15060"), "phone hidden, x5060, 15060");
        assert_eq!(hide_in("sip:7@192.0.2.7 at 7.0.0.1", "7", "x"), "sip:x@192.0.2.7 at 7.0.0.1");
        assert_eq!(hide_in("sip:+4711@a", "4711", "47xx"), "sip:+47xx@a");
        assert_eq!(hide_in("sip:4711@a", "+4711", "+47xx"), "sip:47xx@a");
        assert_eq!(hide_in("+", "+", "x"), "+");
    }

    #[test]
    fn ways_to_hide_are_read() {
        assert_eq!(numbers("last-15-hidden"), Ok(Numbers::LastHidden(15)));
        for text in ["", "last-0-hidden", "last-16-hidden", "last--1-hidden", "none"] {
            assert!(numbers(text).is_err(), "{text}");
        }
    }
}
