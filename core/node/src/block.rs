//! Blocks: an administrator lets nobody log in anew, or lets no call begin, for a while.
//!
//! What is there goes on: devices that are logged in renew and log out, calls that are up go on to
//! their end. Emergency numbers always pass. Who is refused gets 503 with Retry-After, because it
//! is the house that is closed and not the person.
//!
//! A block is a table record, so it is on both servers before the administrator hears of it, and
//! outlives restarts and takeovers. Its time is stored as time remaining. Both servers read it at
//! once: unlike a call it does nothing by itself.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_journal::Class;
use tandem_sip::{HeaderName, Request};
use tandem_stack::{ServerId, make_response};
use tandem_types::{Duration, Instant};

use crate::facts::Fact;
use crate::node::Node;
use crate::record;
use crate::talk;

/// Letters of a reason, at most.
pub const BLOCK_REASON_MAX: usize = 120;

/// A block ends by itself after 30 days at the latest, where it was given a time; in seconds.
pub const BLOCK_SECONDS_MAX: u64 = 30 * 86_400;

/// What can be blocked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blockable {
    /// Logins of devices that are not logged in.
    Logins,
    /// Calls that are not up yet, but those to emergency numbers.
    Calls,
}

impl Blockable {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Logins, Self::Calls];

    const fn key(self) -> &'static [u8] {
        match self {
            Self::Logins => b"set/block/logins",
            Self::Calls => b"set/block/calls",
        }
    }
}

impl fmt::Display for Blockable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logins => "new logins",
            Self::Calls => "new calls",
        })
    }
}

/// A block as shown.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockRow {
    /// What is blocked.
    pub what: Blockable,
    /// Since when: microseconds since 1970 UTC.
    pub since: i64,
    /// Why, in the administrator's words; may be empty.
    pub reason: String,
    /// Until it ends by itself; `None`: never.
    pub seconds_left: Option<u64>,
    /// How many were refused, by this server since it became active; `None`: it is passive.
    pub refused: Option<u64>,
}

/// A block as it is stored.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    since: i64,
    reason: String,
    remaining: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Block {
    since: i64,
    reason: String,
    until: Option<Instant>,
    refused: u64,
}

impl Block {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The blocks that are on.
#[derive(Debug, Default)]
pub(crate) struct Blocks(BTreeMap<Blockable, Block>);

impl Blocks {
    /// When the next one ends by itself.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|block| block.until).min()
    }

    /// Counts one who is refused; the administrator's reason. `None`: nothing is blocked.
    fn refuse(&mut self, now: Instant, what: Blockable) -> Option<String> {
        let block = self.0.get_mut(&what).filter(|block| block.holds(now))?;
        block.refused += 1;
        Some(block.reason.clone())
    }
}

impl Node {
    /// Whether it is blocked: then one who is refused is counted, and the reason returned.
    pub(crate) fn refusal(&mut self, now: Instant, what: Blockable) -> Option<String> {
        self.blocks.refuse(now, what)
    }

    /// Whether it is blocked.
    pub(crate) fn is_blocked(&self, now: Instant, what: Blockable) -> bool {
        self.blocks.0.get(&what).is_some_and(|block| block.holds(now))
    }

    /// The answer to a request that is refused by a block.
    pub(crate) fn answer_blocked(
        &mut self,
        now: Instant,
        id: ServerId,
        request: &Request,
        what: Blockable,
        reason: &str,
    ) {
        let mut response = make_response(request, 503, None);
        response.headers.push(HeaderName::RetryAfter, self.retry_after());
        response.headers.push(HeaderName::Warning, warning(what, reason));
        if what == Blockable::Calls {
            response.headers.push(HeaderName::Reason, format!("Q.850;cause={BLOCKED_CAUSE}"));
        }
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        self.answer(now, &id, response);
    }

    /// An administrator's order. A block that is on already takes the new reason and time.
    pub(crate) fn block(
        &mut self,
        now: Instant,
        what: Blockable,
        reason: String,
        seconds: Option<u64>,
    ) -> Result<(), String> {
        let plain =
            reason.chars().count() <= BLOCK_REASON_MAX && !reason.chars().any(char::is_control);
        if !plain {
            return Err(format!(
                "reason: expected at most {BLOCK_REASON_MAX} letters, in one line"
            ));
        }
        if seconds.is_some_and(|seconds| !(1..=BLOCK_SECONDS_MAX).contains(&seconds)) {
            return Err(String::from("for: expected 1 second to 30 days"));
        }
        let old = self.blocks.0.get(&what).filter(|block| block.holds(now));
        let since = old.map_or_else(|| self.wall(now), |block| block.since);
        let refused = old.map_or(0, |block| block.refused);
        let remaining = seconds.map(Duration::from_secs);
        let saved = Saved { since, reason: reason.clone(), remaining };
        self.change(Class::Table, what.key().to_vec(), Some(record::encode(&saved)));
        let until = remaining.map(|remaining| now + remaining);
        self.blocks.0.insert(what, Block { since, reason: reason.clone(), until, refused });
        self.fact(Fact::Blocked { what, reason, seconds });
        Ok(())
    }

    /// An administrator's order. What is not blocked stays so.
    pub(crate) fn unblock(&mut self, what: Blockable) {
        if let Some(block) = self.blocks.0.remove(&what) {
            self.change(Class::Table, what.key().to_vec(), None);
            self.fact(Fact::Unblocked { what, expired: false, refused: block.refused });
        }
    }

    /// Blocks whose time is over.
    pub(crate) fn expire_blocks(&mut self, now: Instant) {
        for what in Blockable::ALL {
            if let Some(block) = self.blocks.0.get(&what).filter(|block| !block.holds(now)) {
                let refused = block.refused;
                self.blocks.0.remove(&what);
                self.change(Class::Table, what.key().to_vec(), None);
                self.fact(Fact::Unblocked { what, expired: true, refused });
            }
        }
    }

    /// The blocks as the records say: at start, when the role is lost, when the twin's came.
    pub(crate) fn read_blocks(&mut self, now: Instant) {
        for what in Blockable::ALL {
            self.read_block(now, what);
        }
    }

    fn read_block(&mut self, now: Instant, what: Blockable) {
        let found = self.journal.find(now, what.key());
        let read = found.and_then(|(age, body)| Some((age, record::decode::<Saved>(body)?)));
        let Some((age, Saved { since, reason, remaining })) = read else {
            self.blocks.0.remove(&what);
            return;
        };
        let until = remaining.map(|remaining| now + remaining.saturating_sub(age));
        let refused = self.blocks.0.get(&what).map_or(0, |block| block.refused);
        self.blocks.0.insert(what, Block { since, reason, until, refused });
    }

    /// What is blocked.
    pub(crate) fn block_rows(&self, now: Instant) -> Vec<BlockRow> {
        let held = self.blocks.0.iter().filter(|(_, block)| block.holds(now));
        let row = |(what, block): (&Blockable, &Block)| BlockRow {
            what: *what,
            since: block.since,
            reason: block.reason.clone(),
            seconds_left: block.until.map(|until| until.remaining_from(now).as_secs()),
            refused: self.is_serving().then_some(block.refused),
        };
        held.map(row).collect()
    }

    /// How long who is refused 503 shall wait, in seconds: not all the same, lest they all come back
    /// at once.
    ///
    /// It is short for blocks too: a phone that is told to wait may keep quiet altogether (RFC 3261
    /// §21.5.4), and must not when somebody dials an emergency number on it.
    pub(crate) fn retry_after(&mut self) -> String {
        let least = u64::from(self.config.retry_after_seconds);
        (least + self.dice.below(least + 1)).to_string()
    }
}

/// Q.850 cause of a call refused by a block: temporary failure.
pub(crate) const BLOCKED_CAUSE: u8 = 41;

/// Keys of blocks begin so.
pub(crate) const BLOCK: &[u8] = b"set/block/";

/// Why, for people (RFC 3261 §20.43; 399: miscellaneous).
fn warning(what: Blockable, reason: &str) -> String {
    let reason = reason.replace('\\', "\\\\").replace('"', "\\\"");
    let colon = if reason.is_empty() { "" } else { ": " };
    format!("399 {} \"{what} are blocked{colon}{reason}\"", talk::PRODUCT)
}
