//! What the two servers say to each other about their ops.

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::copy::{CopyHeader, CopyPart, Staged};
use crate::op::{Chain, OpId, Origin, Seen};

/// Version of [`Message`]'s encoding: its first byte.
pub const SYNC_VERSION: u8 = 1;

/// What a server understands beyond the first messages of [`SYNC_VERSION`]: it says so in its greeting,
/// behind what every version reads. 1: copies, checks, clocks.
pub const ABLE_VERSION: u32 = 1;

/// What the two say to each other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// What is here. Begins the exchange anew.
    Hello {
        /// The speaker in its own log.
        origin: Origin,
        /// The last op of each origin, and what stands for all up to it.
        heads: Vec<(OpId, Chain)>,
        /// The speaker begins anew in the middle of a link: the other one shall too.
        anew: bool,
        /// What the speaker understands, see [`ABLE_VERSION`]; 0: the first messages. Behind the others, as
        /// a first version reads no further.
        #[serde(skip)]
        able: u32,
    },
    /// Ops that the other one lacks, encoded, in an order in which they can be taken.
    Ops(Vec<Vec<u8>>),
    /// All this is on disk here.
    Taken(Seen),
    /// What stands for the ops of one origin up to each of the last, newest first: they are not those
    /// that the other one has.
    Chains {
        /// The origin.
        origin: Origin,
        /// Number and chain.
        chains: Vec<(u64, Chain)>,
    },
    /// [`Message::Chains`] of our own origin, please.
    AskChains(Origin),
    /// What the other one lacks is not in the log here any more.
    TooOld,
    /// A copy of everything, please; with what is here of one already.
    AskCopy(Staged),
    /// It begins.
    CopyBegin {
        /// Of what.
        header: CopyHeader,
        /// What the other one has of it and keeps; nothing where it begins from its beginning.
        from: Staged,
    },
    /// A part of it.
    CopyPart(CopyPart),
    /// All parts up to this one are on disk here.
    CopyGot(u64),
    /// There are no more parts.
    CopyEnd,
    /// What time is it there?
    AskClock(u64),
    /// It is this, in milliseconds since 1970; the number comes from the question.
    Clock(u64, u64),
    /// Whether both hold the same rows.
    Check(Check),
}

impl Message {
    /// A version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        let bytes = postcard::to_extend(self, vec![SYNC_VERSION]).unwrap_or_default();
        match self {
            Self::Hello { able, .. } if *able > 0 => {
                postcard::to_extend(able, bytes).unwrap_or_default()
            }
            Self::Hello { .. }
            | Self::Ops(_)
            | Self::Taken(_)
            | Self::Chains { .. }
            | Self::AskChains(_)
            | Self::TooOld
            | Self::AskCopy(_)
            | Self::CopyBegin { .. }
            | Self::CopyPart(_)
            | Self::CopyGot(_)
            | Self::CopyEnd
            | Self::AskClock(_)
            | Self::Clock(..)
            | Self::Check(_) => bytes,
        }
    }

    /// Reads a message; `None` for another version or bytes that are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut message, rest) = match bytes.split_first() {
            Some((&SYNC_VERSION, rest)) => postcard::take_from_bytes(rest).ok()?,
            Some(_) | None => return None,
        };
        if let Self::Hello { able, .. } = &mut message
            && !rest.is_empty()
        {
            *able = postcard::from_bytes(rest).ok()?;
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of the version before, as it has them.
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    enum First {
        Hello { origin: Origin, heads: Vec<(OpId, Chain)>, anew: bool },
        Ops(Vec<Vec<u8>>),
        Taken(Seen),
        Chains { origin: Origin, chains: Vec<(u64, Chain)> },
        AskChains(Origin),
        TooOld,
    }

    fn first(message: &First) -> Vec<u8> {
        postcard::to_extend(message, vec![SYNC_VERSION]).unwrap()
    }

    const ORIGIN: Origin = Origin(7);

    #[test]
    fn a_greeting_is_read_by_the_version_before_and_its_own_is_read_here() {
        let heads = vec![(OpId { origin: ORIGIN, number: 300 }, Chain([9; 16]))];
        let theirs = First::Hello { origin: ORIGIN, heads: heads.clone(), anew: true };
        let hello =
            |able| Message::Hello { origin: ORIGIN, heads: heads.clone(), anew: true, able };
        assert_eq!(Message::decode(&first(&theirs)), Some(hello(0)));
        let ours = hello(ABLE_VERSION).encode();
        assert_eq!(Message::decode(&ours), Some(hello(ABLE_VERSION)));
        // It reads what it knows, and no further.
        assert_eq!(postcard::from_bytes::<First>(&ours[1..]), Ok(theirs));
        assert_eq!(hello(0).encode(), first(&First::Hello { origin: ORIGIN, heads, anew: true }));
    }

    #[test]
    fn what_the_version_before_says_means_the_same_here() {
        let seen: Seen = [OpId { origin: ORIGIN, number: 4 }].into_iter().collect();
        let chains = vec![(4, Chain([2; 16]))];
        for (theirs, ours) in [
            (First::Ops(vec![vec![1, 2]]), Message::Ops(vec![vec![1, 2]])),
            (First::Taken(seen.clone()), Message::Taken(seen)),
            (
                First::Chains { origin: ORIGIN, chains: chains.clone() },
                Message::Chains { origin: ORIGIN, chains },
            ),
            (First::AskChains(ORIGIN), Message::AskChains(ORIGIN)),
            (First::TooOld, Message::TooOld),
        ] {
            assert_eq!(Message::decode(&first(&theirs)), Some(ours.clone()));
            assert_eq!(ours.encode(), first(&theirs));
        }
    }
}
