//! What kinds of frames there are: each has a stream of its own, so that none waits behind another.
//!
//! ```text
//!   hot   ━━━━━━━━▶  whatever the serving of calls waits for; always first
//!   ops   ━━━━━━━━▶  changes of the configuration; before bulk
//!   bulk  ━━━━━━━━▶  snapshots, files; what the line has left
//! ```
//!
//! The first bytes of a stream say which class it is for and how its frames are written.

use std::fmt;

/// Which stream of the link a frame travels on. Frames of one class arrive in order; between two
/// classes nothing is promised.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// What the serving of calls waits for: the frames of the journal.
    Hot,
    /// Changes of the configuration.
    Ops,
    /// Snapshots and files.
    Bulk,
}

impl Class {
    /// All of them, the most urgent first. Their streams are opened in this order.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Ops, Self::Bulk];

    /// What may wait to be sent, in bytes. Beyond, a hot frame closes the link, which comes back with a
    /// catch-up; a frame of the others is refused and nothing else happens.
    pub const fn queued_bytes_max(self) -> usize {
        match self {
            Self::Hot => 64 * MIB,
            Self::Ops | Self::Bulk => 32 * MIB,
        }
    }

    /// What may have arrived without being taken by [`Events::recv`](crate::Events::recv), in bytes.
    /// Beyond, the peer has to wait (the transport's flow control), never the memory of this process.
    pub const fn waiting_bytes_max(self) -> usize {
        match self {
            // One frame of the longest with its cost, and another.
            Self::Hot | Self::Ops | Self::Bulk => 32 * MIB,
        }
    }

    /// Of the stream: a higher one is sent first.
    pub(crate) const fn priority(self) -> i32 {
        match self {
            Self::Hot => 2,
            Self::Ops => 1,
            Self::Bulk => 0,
        }
    }

    /// Whether long frames are compressed. Hot ones are small, and nothing shall delay them.
    pub(crate) const fn compresses(self) -> bool {
        match self {
            Self::Hot => false,
            Self::Ops | Self::Bulk => true,
        }
    }

    /// Its place in [`Class::ALL`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Hot => 0,
            Self::Ops => 1,
            Self::Bulk => 2,
        }
    }

    /// The first bytes of its stream.
    pub(crate) const fn opening(self) -> [u8; OPENING_BYTES] {
        let [t, d, m] = MARK;
        [t, d, m, VERSION, self.letter()]
    }

    /// Whether a stream that begins so is for this class.
    ///
    /// # Errors
    /// Says what is wrong, for the log of both sides.
    pub(crate) fn check(self, opening: [u8; OPENING_BYTES]) -> Result<(), String> {
        let [t, d, m, version, letter] = opening;
        if [t, d, m] != MARK {
            Err(format!("a stream that begins with {}", opening.escape_ascii()))
        } else if version != VERSION {
            Err(format!("version {} of the link", version.escape_ascii()))
        } else if letter != self.letter() {
            match Self::ALL.into_iter().find(|class| class.letter() == letter) {
                Some(other) => Err(format!("a stream for {other} where {self} is due")),
                None => Err(format!("a stream of the class {}", letter.escape_ascii())),
            }
        } else {
            Ok(())
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Hot => b'h',
            Self::Ops => b'o',
            Self::Bulk => b'b',
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hot => "hot",
            Self::Ops => "ops",
            Self::Bulk => "bulk",
        })
    }
}

/// Length of a stream's first bytes.
pub(crate) const OPENING_BYTES: usize = 5;
const MARK: [u8; 3] = *b"TDM";
/// How the frames of a stream are written.
const VERSION: u8 = b'2';
const MIB: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_FRAME_BYTES;

    #[test]
    fn a_stream_is_known_by_its_first_bytes() {
        for class in Class::ALL {
            for other in Class::ALL {
                assert_eq!(class.check(other.opening()).is_ok(), class == other, "{class} {other}");
            }
        }
        assert_eq!(Class::Hot.opening(), *b"TDM2h");
    }

    #[test]
    fn other_first_bytes_are_refused_by_what_is_wrong_with_them() {
        let wrong = |bytes: &[u8; OPENING_BYTES]| Class::Ops.check(*bytes).unwrap_err();
        assert_eq!(wrong(b"GET /"), "a stream that begins with GET /");
        assert_eq!(wrong(b"TDM3o"), "version 3 of the link");
        assert_eq!(wrong(b"TDM2\xff"), "a stream of the class \\xff");
        assert_eq!(wrong(b"TDM2h"), "a stream for hot where ops is due");
    }

    #[test]
    fn every_class_has_room_for_the_longest_frame() {
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), place);
            assert!(class.queued_bytes_max() > MAX_FRAME_BYTES + 1024, "{class}");
            assert!(class.waiting_bytes_max() > MAX_FRAME_BYTES + 1024, "{class}");
        }
    }
}
