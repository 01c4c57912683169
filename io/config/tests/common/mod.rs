//! What the tests of two configurations share: a database in memory, and the line between the two.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "shared by test files, not a crate's interface")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::path::Path;

use rusqlite::Connection;
use tandem_config::Config;
use tandem_store::tables::Tables;
use tandem_types::{Dice, Instant, Seat};

/// A configuration of a test, and what it has sent.
pub trait Side {
    fn config(&mut self) -> &mut Config;
    /// Messages for the other one.
    fn line(&mut self) -> &mut Vec<Vec<u8>>;
    /// Takes what the configuration puts out.
    fn drain(&mut self);
}

/// A number that differs between the two.
pub const fn number(seat: Seat) -> u64 {
    match seat {
        Seat::Master => 1,
        Seat::Standby => 2,
    }
}

/// An empty database.
pub fn memory(seat: Seat) -> Tables {
    on(seat, Connection::open_in_memory().unwrap())
}

pub fn on(seat: Seat, connection: Connection) -> Tables {
    let setup = Config::setup(seat, &mut Dice::from_number(number(seat)));
    Tables::on(connection, Path::new("memory"), &setup).unwrap()
}

/// The link comes up, with all that follows, or goes down.
pub fn link(one: &mut impl Side, other: &mut impl Side, up: bool) {
    link_at(one, other, Instant::ZERO, up);
}

pub fn link_at(one: &mut impl Side, other: &mut impl Side, now: Instant, up: bool) {
    link_one(one, now, up);
    link_one(other, now, up);
    exchange_at(one, other, now);
}

pub fn link_one(side: &mut impl Side, now: Instant, up: bool) {
    side.drain();
    side.line().clear();
    side.config().handle_link(now, up);
    side.drain();
}

/// Delivers everything; how many messages that were.
pub fn exchange(one: &mut impl Side, other: &mut impl Side) -> usize {
    exchange_at(one, other, Instant::ZERO)
}

pub fn exchange_at(one: &mut impl Side, other: &mut impl Side, now: Instant) -> usize {
    let mut count = 0;
    while !one.line().is_empty() || !other.line().is_empty() {
        count += deliver(one, other, now) + deliver(other, one, now);
    }
    count
}

/// As [`exchange_at`], where everything that one of them has sent is taken at once.
pub fn exchange_at_once(one: &mut impl Side, other: &mut impl Side, now: Instant) {
    while !one.line().is_empty() || !other.line().is_empty() {
        deliver_at_once(one, other, now);
        deliver_at_once(other, one, now);
    }
}

pub fn deliver_at_once(from: &mut impl Side, to: &mut impl Side, now: Instant) {
    let messages = core::mem::take(from.line());
    to.config().handle_messages(now, messages.iter().map(Vec::as_slice));
    to.drain();
}

fn deliver(from: &mut impl Side, to: &mut impl Side, now: Instant) -> usize {
    let messages = core::mem::take(from.line());
    for message in &messages {
        to.config().handle_message(now, message);
        to.drain();
    }
    messages.len()
}
