//! The timer values of RFC 3261 table 4, and the pace of repeated messages.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use tandem_types::{Duration, Instant};

/// Round-trip time estimate: the first pause before a message is repeated.
pub const T1: Duration = Duration::from_millis(500);
/// The longest pause between repeated requests other than INVITE, and between repeated responses.
pub const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub const T4: Duration = Duration::from_secs(5);
/// Timers B, F, H, J, L and M: how long one side goes on repeating, so the other may forget.
pub const LIFE: Duration = Duration::from_secs(32);
/// Timer D on unreliable transports.
pub(crate) const TIMER_D: Duration = Duration::from_secs(32);

/// A message that is repeated at doubling pauses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Repeat {
    /// When the next repetition is due.
    pub(crate) next: Instant,
    pause: Duration,
    longest: Duration,
}

impl Repeat {
    /// The message was sent at `now`; pauses start at T1 and double up to `longest`.
    pub(crate) fn new(now: Instant, longest: Duration) -> Self {
        Self { next: now + T1, pause: T1, longest }
    }

    /// From now on the longest pause (timer E in the state Proceeding).
    pub(crate) fn slow_down(&mut self) {
        self.pause = self.longest;
    }

    /// If a repetition is due, plans the next and says so.
    pub(crate) fn fire(&mut self, now: Instant) -> bool {
        if self.next > now {
            return false;
        }
        self.pause = (2 * self.pause).min(self.longest);
        self.next = now + self.pause;
        true
    }
}

/// The bytes of a message; serialised as one run, not byte by byte.
#[derive(Clone, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl From<Vec<u8>> for Octets {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People's numbers are in there: only the size is fit for a log.
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(OctetsVisitor)
    }
}

struct OctetsVisitor;

impl<'de> serde::de::Visitor<'de> for OctetsVisitor {
    type Value = Octets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a message")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
        Ok(Octets(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Octets, E> {
        Ok(Octets(bytes))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Octets, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(Octets(bytes))
    }
}
