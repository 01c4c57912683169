//! An event: a fact as it is kept, with its number, its time and what it rested on.
//!
//! Both machines keep the events of both. The number rises on each machine by itself, so an event is
//! named by seat and number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_pair::{Change, Evidence, Server};
use tandem_types::{Duration, Seat};

use crate::fact::Fact;
use crate::reign::Begun;

/// The longest sentence in bytes; a longer one is cut.
pub const SENTENCE_MAX: usize = 400;

/// The longest name of a kind in bytes; a longer one is cut.
pub const KIND_MAX: usize = 40;

/// One value of what an event rested on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Known {
    /// It is so, or is not.
    Yes(bool),
    /// A number; its name says of what.
    Number(u64),
    /// A word.
    Word(String),
}

/// Something that happened on one machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Event {
    /// Rises with every event of this machine, also across restarts; may leap.
    pub seq: u64,
    /// When, in milliseconds since 1970, UTC, by the clock of that machine.
    pub time_ms: u64,
    /// The machine.
    pub seat: Seat,
    /// What kind of thing: a name that stays.
    pub kind: String,
    /// For people.
    pub sentence: String,
    /// What it rested on. Names that end in `_ms_ago` or `_ms` count milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, Known>,
    /// How long its steps took, in microseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub took_us: BTreeMap<String, u64>,
}

impl Event {
    /// An event without evidence. Its number is given by whoever keeps it.
    pub fn new(seat: Seat, time_ms: u64, kind: &str, sentence: &str) -> Self {
        Self {
            seq: 0,
            time_ms,
            seat,
            kind: cut(kind, KIND_MAX),
            sentence: cut(sentence, SENTENCE_MAX),
            evidence: BTreeMap::new(),
            took_us: BTreeMap::new(),
        }
    }

    /// The event of a fact.
    pub fn of(seat: Seat, time_ms: u64, fact: &Fact) -> Self {
        let mut event = Self::new(seat, time_ms, fact.kind(), &fact.to_string());
        if let Fact::Role(change) = fact {
            event.evidence = change_evidence(change);
        }
        if let Fact::Begun(begun) = fact {
            event.took_us = begun_took(begun);
        }
        event
    }
}

fn change_evidence(change: &Change) -> BTreeMap<String, Known> {
    let Evidence { case, twin_heard, twin_said, twin_server, twin_served, .. } = change.evidence;
    let Evidence { link_heard, link_serving, probed, server, carrier, late, .. } = change.evidence;
    let ms = |long: Duration| Known::Number(micros(long) / 1_000);
    let values = [
        ("from", Some(word(change.from))),
        ("to", Some(word(change.to))),
        ("reign", Some(word(change.reign))),
        ("case", Some(Known::Word(case_name(case)))),
        ("twin_heard_ms_ago", twin_heard.map(ms)),
        ("twin_said", twin_said.map(word)),
        ("twin_server", twin_server.map(|server| Known::Word(server_name(server).into()))),
        ("twin_served_ms_ago", twin_served.map(ms)),
        ("link_heard_ms_ago", link_heard.map(ms)),
        ("link_serving", link_serving.map(Known::Yes)),
        ("probed_ms", probed.map(ms)),
        ("own_server", Some(Known::Word(server_name(server).into()))),
        ("carrier", Some(Known::Yes(carrier))),
        ("own_lateness_ms", Some(ms(late))),
    ];
    let known = values.into_iter().filter_map(|(name, value)| Some((name.into(), value?)));
    known.collect()
}

fn begun_took(begun: &Begun) -> BTreeMap<String, u64> {
    let steps = [
        ("unserved", begun.unserved),
        ("epoch_saved", Some(begun.saved)),
        ("address_claimed", Some(begun.claimed)),
        ("server_ready", Some(begun.ready)),
        ("total", Some(begun.total())),
    ];
    steps.into_iter().filter_map(|(name, long)| Some((name.into(), micros(long?)))).collect()
}

/// The name of a case, as in the table's page but in one word: `twin_yielded`.
pub fn case_name(case: tandem_pair::Event) -> String {
    let mut name = String::new();
    for letter in format!("{case:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn server_name(server: Server) -> &'static str {
    match server {
        Server::Starting => "starting",
        Server::Up => "up",
        Server::Died(_) => "died",
    }
}

fn word(value: impl core::fmt::Display) -> Known {
    Known::Word(value.to_string())
}

fn micros(long: Duration) -> u64 {
    u64::try_from(long.as_micros()).unwrap_or(u64::MAX)
}

/// The text on one line, and not longer than `most` bytes.
fn cut(text: &str, most: usize) -> String {
    let mut cut = String::new();
    for letter in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if cut.len() + letter.len_utf8() > most {
            break;
        }
        cut.push(letter);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_is_cut_between_letters_and_stays_on_one_line() {
        let event = Event::new(Seat::Master, 1, "kind", &"é\n".repeat(SENTENCE_MAX));
        assert!(event.sentence.len() <= SENTENCE_MAX && event.sentence.len() > SENTENCE_MAX - 3);
        assert!(event.sentence.starts_with("é é "), "{}", event.sentence);
    }

    #[test]
    fn cases_are_named_as_they_are_serialised() {
        assert_eq!(case_name(tandem_pair::Event::TwinYielded), "twin_yielded");
        assert_eq!(case_name(tandem_pair::Event::Cut), "cut");
    }
}
