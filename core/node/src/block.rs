//! Blocks: an administrator lets nobody log in anew, or lets no call begin, for a while.
//!
//! What is there goes on: devices that are logged in renew and log out, calls that are up go on to
//! their end. Emergency numbers always pass. Who is refused gets 503 with Retry-After, because it
//! is the house that is closed and not the person.
//!
//! A block is part of the configuration, so it is on both servers before the administrator hears of
//! it, and outlives restarts and takeovers. Its end is a time of the day: both servers' clocks tell it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_dialplan::{BlockSetting, Blockable, Edit, Refused};
use tandem_sip::{HeaderName, Request};
use tandem_stack::{ServerId, make_response};
use tandem_types::{Duration, Instant, Seat};

use crate::facts::Fact;
use crate::node::Node;
use crate::talk;

/// Letters of a reason, at most.
pub const BLOCK_REASON_MAX: usize = 120;

/// A block ends by itself after 30 days at the latest, where it was given a time; in seconds.
pub const BLOCK_SECONDS_MAX: u64 = 30 * 86_400;

/// How many were refused is kept so often. Who was refused since is forgotten with a server that dies.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(10);

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
    /// How many were refused since it began, by both servers; the newest seconds of the twin may be missing.
    pub refused: u64,
}

#[derive(Clone, Debug)]
struct Block {
    setting: BlockSetting,
    /// Since it began, by each server.
    refused: BTreeMap<Seat, u64>,
    /// Of them, those of ours that are kept.
    kept: u64,
}

impl Block {
    /// Whether it is on; `wall` is the time now, microseconds since 1970.
    fn holds(&self, wall: i64) -> bool {
        self.setting.until.is_none_or(|until| wall < until)
    }

    fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// The blocks that are on.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    on: BTreeMap<Blockable, Block>,
    /// When to keep how many were refused.
    keep_at: Option<Instant>,
}

impl Node {
    /// Whether it is blocked: then one who is refused is counted, and the reason returned.
    pub(crate) fn refusal(&mut self, now: Instant, what: Blockable) -> Option<String> {
        let wall = self.wall(now);
        let block = self.blocks.on.get_mut(&what).filter(|block| block.holds(wall))?;
        *block.refused.entry(self.config.seat).or_default() += 1;
        self.blocks.keep_at.get_or_insert(now + REFUSED_PAUSE);
        Some(block.setting.reason.clone())
    }

    /// Whether it is blocked.
    pub(crate) fn is_blocked(&self, now: Instant, what: Blockable) -> bool {
        self.blocks.on.get(&what).is_some_and(|block| block.holds(self.wall(now)))
    }

    /// When the next one ends by itself, or how many were refused is to be kept.
    pub(crate) fn block_timeout(&self) -> Option<Instant> {
        let until = self.blocks.on.values().filter_map(|block| block.setting.until).min();
        let (read, wall) = self.wall;
        let end = |until| read + Duration::from_micros(u64::try_from(until - wall).unwrap_or(0));
        until.map(end).into_iter().chain(self.blocks.keep_at).min()
    }

    /// Keeps how many were refused, where that is due.
    pub(crate) fn keep_refused(&mut self, now: Instant) {
        if self.blocks.keep_at.is_none_or(|at| now < at) {
            return;
        }
        self.blocks.keep_at = None;
        let seat = self.config.seat;
        let mut counts = Vec::new();
        for (what, block) in &mut self.blocks.on {
            let count = block.refused.get(&seat).copied().unwrap_or(0);
            if count > block.kept {
                block.kept = count;
                counts.push(Refused { what: *what, since: block.setting.since, seat, count });
            }
        }
        for count in counts {
            self.edit(Edit::Refused(count));
            // Nobody waits for it.
            self.edited = None;
        }
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
        let wall = self.wall(now);
        let old = self.blocks.on.get(&what).filter(|block| block.holds(wall));
        let since = old.map_or(wall, |block| block.setting.since);
        let (refused, kept) =
            old.map_or_else(Default::default, |block| (block.refused.clone(), block.kept));
        let micros = seconds.map(|seconds| Duration::from_secs(seconds).as_micros());
        let until =
            micros.map(|micros| wall.saturating_add(i64::try_from(micros).unwrap_or(i64::MAX)));
        let setting = BlockSetting { since, reason: reason.clone(), until };
        self.edit(Edit::Block { what, block: Some(setting.clone()) });
        self.blocks.on.insert(what, Block { setting, refused, kept });
        self.fact(Fact::Blocked { what, reason, seconds });
        Ok(())
    }

    /// An administrator's order. What is not blocked stays so.
    pub(crate) fn unblock(&mut self, what: Blockable) {
        if let Some(block) = self.blocks.on.remove(&what) {
            self.edit(Edit::Block { what, block: None });
            self.fact(Fact::Unblocked { what, expired: false, refused: block.refused() });
        }
    }

    /// Blocks whose time is over.
    pub(crate) fn expire_blocks(&mut self, now: Instant) {
        let wall = self.wall(now);
        for what in Blockable::ALL {
            if let Some(block) = self.blocks.on.get(&what).filter(|block| !block.holds(wall)) {
                let refused = block.refused();
                self.blocks.on.remove(&what);
                self.edit(Edit::Block { what, block: None });
                // Nobody waits for it.
                self.edited = None;
                self.fact(Fact::Unblocked { what, expired: true, refused });
            }
        }
    }

    /// A block as the configuration says.
    pub(crate) fn set_block(&mut self, what: Blockable, setting: Option<BlockSetting>) {
        match setting {
            Some(setting) => {
                let same = |block: &Block| block.setting.since == setting.since;
                let old = self.blocks.on.remove(&what).filter(same);
                let (refused, kept) =
                    old.map_or_else(Default::default, |block| (block.refused, block.kept));
                self.blocks.on.insert(what, Block { setting, refused, kept });
            }
            None => drop(self.blocks.on.remove(&what)),
        }
    }

    /// How many one of the servers has refused, as the configuration says.
    pub(crate) fn set_refused(&mut self, kept: Refused) {
        let Some(block) = self.blocks.on.get_mut(&kept.what) else { return };
        if block.setting.since == kept.since {
            let count = block.refused.entry(kept.seat).or_default();
            *count = kept.count.max(*count);
            if kept.seat == self.config.seat {
                block.kept = kept.count.max(block.kept);
            }
        }
    }

    /// What is blocked.
    pub(crate) fn block_rows(&self, now: Instant) -> Vec<BlockRow> {
        let wall = self.wall(now);
        let held = self.blocks.on.iter().filter(|(_, block)| block.holds(wall));
        let left = |until: i64| u64::try_from(until - wall).unwrap_or(0).div_ceil(1_000_000);
        let row = |(what, block): (&Blockable, &Block)| BlockRow {
            what: *what,
            since: block.setting.since,
            reason: block.setting.reason.clone(),
            seconds_left: block.setting.until.map(left),
            refused: block.refused(),
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

/// Why, for people (RFC 3261 §20.43; 399: miscellaneous).
fn warning(what: Blockable, reason: &str) -> String {
    let reason = reason.replace('\\', "\\\\").replace('"', "\\\"");
    let colon = if reason.is_empty() { "" } else { ": " };
    format!("399 {} \"{what} are blocked{colon}{reason}\"", talk::PRODUCT)
}
