use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{from_hex, to_hex};

/// How long a nonce is good for, in seconds. Afterwards: [`NonceCheck::Stale`].
pub const NONCE_LIFE_SECONDS: u64 = 300;
/// How far the clock of the server that issued a nonce may be ahead of ours, in seconds: the two
/// servers of a pair take each other's nonces. Beyond: [`NonceCheck::Stale`].
const CLOCK_SKEW_SECONDS: u64 = 60;
/// How many nonces in use are counted. Beyond: the oldest one is dropped and it and all older ones
/// are [`NonceUse::Stale`] from then on, so their owners are asked again.
pub const MAX_NONCE_COUNTS: usize = 16_384;

const TIME_BYTES: usize = 8;
const SALT_BYTES: usize = 8;
const MARK_BYTES: usize = 8;
const CODE_BYTES: usize = 16;
const NAME_BYTES: usize = 16;

/// The key both servers of a pair make and check nonces with.
#[derive(Clone)]
pub struct NonceKey([u8; 32]);

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NonceCheck {
    /// Ours, for this client, in time.
    Fresh(NonceId),
    /// Ours, for this client, too old: ask again with `stale=true`.
    Stale,
    /// Not ours, or for a client at another address: ask again.
    Forged,
}

/// Which nonce: its time in seconds, and its salt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct NonceId {
    seconds: u64,
    salt: u64,
}

impl NonceKey {
    /// From key material that is used for nothing else.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A nonce for the client at `address`, valid from `now_seconds` of the wall clock. `salt` is
    /// random, so that two clients behind one address get two nonces.
    pub fn issue(&self, now_seconds: u64, address: IpAddr, salt: u64) -> String {
        let mut nonce = now_seconds.to_be_bytes().to_vec();
        nonce.extend(salt.to_be_bytes());
        self.seal(nonce, address)
    }

    /// The same, for a client that is asked for a newer proof: it carries the mark of the request that came with
    /// the old one.
    pub fn issue_again(&self, now_seconds: u64, address: IpAddr, salt: u64, mark: u64) -> String {
        let mut nonce = now_seconds.to_be_bytes().to_vec();
        nonce.extend(salt.to_be_bytes());
        nonce.extend(mark.to_be_bytes());
        self.seal(nonce, address)
    }

    fn seal(&self, mut nonce: Vec<u8>, address: IpAddr) -> String {
        let Some(mac) = self.code(&nonce, address) else { return String::new() };
        nonce.extend_from_slice(&mac.finalize().into_bytes()[..CODE_BYTES]);
        to_hex(&nonce)
    }

    /// Whether `nonce` is ours, for the client at `address`, and still good at `now_seconds` of the
    /// wall clock.
    pub fn check(&self, nonce: &[u8], now_seconds: u64, address: IpAddr) -> NonceCheck {
        match self.open(nonce, address) {
            None => NonceCheck::Forged,
            Some((id, _))
                if id.seconds > now_seconds.saturating_add(CLOCK_SKEW_SECONDS)
                    || now_seconds.saturating_sub(id.seconds) > NONCE_LIFE_SECONDS =>
            {
                NonceCheck::Stale
            }
            Some((id, _)) => NonceCheck::Fresh(id),
        }
    }

    /// The mark that a nonce of ours carries, however old it is ([`NonceKey::issue_again`]).
    pub fn carried(&self, nonce: &[u8], address: IpAddr) -> Option<u64> {
        self.open(nonce, address)?.1
    }

    fn open(&self, nonce: &[u8], address: IpAddr) -> Option<(NonceId, Option<u64>)> {
        if nonce.len() > 2 * (TIME_BYTES + SALT_BYTES + MARK_BYTES + CODE_BYTES) {
            return None;
        }
        let nonce = from_hex(nonce)?;
        let (content, code) = nonce.split_at_checked(nonce.len().checked_sub(CODE_BYTES)?)?;
        self.code(content, address)?.verify_truncated_left(code).ok()?;
        let (seconds, rest) = content.split_first_chunk::<TIME_BYTES>()?;
        let (salt, mark) = rest.split_first_chunk::<SALT_BYTES>()?;
        let id = NonceId { seconds: u64::from_be_bytes(*seconds), salt: u64::from_be_bytes(*salt) };
        let mark = mark.first_chunk::<MARK_BYTES>().map(|mark| u64::from_be_bytes(*mark));
        Some((id, mark))
    }

    /// A name for a request that came with a proof, 32 hexadecimal digits, made of `parts` of it:
    /// the same on both servers, and another for every other proof where the proof is a part.
    pub fn name(&self, parts: &[&[u8]]) -> String {
        let hash = self.hash(b"the name of a request that came with a proof", parts);
        to_hex(&hash[..NAME_BYTES])
    }

    /// The mark of a request, made of `parts` of it, for [`NonceKey::issue_again`].
    pub fn mark(&self, parts: &[&[u8]]) -> u64 {
        let hash = self.hash(b"the mark of a request that came with a proof", parts);
        hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    /// What To tags are made of, the same on both servers. It tells nothing of this key.
    pub fn tag_secret(&self) -> u64 {
        let hash = self.hash(b"the secret that To tags are made of", &[]);
        hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    /// `title` is longer than anything that a nonce is made of, so that no hash tells of a nonce.
    fn hash(&self, title: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(title);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// `None` never happens: HMAC takes keys of any length.
    fn code(&self, content: &[u8], address: IpAddr) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(content);
        // One client may come as v4 or as the same v4 mapped into v6.
        match address.to_canonical() {
            IpAddr::V4(address) => mac.update(&address.octets()),
            IpAddr::V6(address) => mac.update(&address.octets()),
        }
        Some(mac)
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(...)")
    }
}

/// What a use of a nonce is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NonceUse {
    /// The first time that this count came.
    First,
    /// This count came before, or is too far behind: somebody repeats what he overheard.
    Replayed,
    /// Not counted any more: ask again with `stale=true`.
    Stale,
}

/// How often each nonce was used, so that nobody can use an overheard proof again.
///
/// Call it for proofs that are right only: a stranger must not be able to fill it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NonceCounts {
    used: BTreeMap<NonceId, Counts>,
    /// The latest nonce that was dropped while it was good.
    dropped: Option<NonceId>,
}

/// The highest count that came, and of the 64 up to it, which came: datagrams overtake each other.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Counts {
    highest: u32,
    came: u64,
}

impl NonceCounts {
    /// None.
    pub const fn new() -> Self {
        Self { used: BTreeMap::new(), dropped: None }
    }

    /// Notes that `nonce` was used for the `count`th time. Without qop there is no count: pass 0,
    /// which is good once.
    pub fn accept(&mut self, nonce: NonceId, count: u32) -> NonceUse {
        if self.dropped.is_some_and(|dropped| nonce <= dropped) {
            return NonceUse::Stale;
        }
        if let Some(counts) = self.used.get_mut(&nonce) {
            return if counts.note(count) { NonceUse::First } else { NonceUse::Replayed };
        }
        self.used.insert(nonce, Counts { highest: count, came: 1 });
        if self.used.len() > MAX_NONCE_COUNTS {
            self.dropped = self.used.pop_first().map(|(oldest, _)| oldest);
        }
        NonceUse::First
    }

    /// Forgets nonces that are too old to be used at `now_seconds` of the wall clock.
    pub fn expire(&mut self, now_seconds: u64) {
        let oldest = NonceId { seconds: now_seconds.saturating_sub(NONCE_LIFE_SECONDS), salt: 0 };
        self.used = self.used.split_off(&oldest);
    }

    /// How many nonces are counted.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

impl Counts {
    /// False when `count` came before or may have.
    fn note(&mut self, count: u32) -> bool {
        if count > self.highest {
            self.came = self.came.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        match 1_u64.checked_shl(self.highest - count) {
            Some(bit) if self.came & bit == 0 => {
                self.came |= bit;
                true
            }
            _ => false,
        }
    }
}
