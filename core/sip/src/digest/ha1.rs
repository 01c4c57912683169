use core::fmt;

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::to_hex;

/// How the proof is computed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Algorithm {
    /// What every telephone understands. The default when none is named.
    Md5,
    /// RFC 8760.
    Sha256,
}

impl Algorithm {
    /// Those to offer, in the order in which to offer them: the client takes the first it knows
    /// (RFC 8760 §2.4).
    pub const OFFERED: [Self; 2] = [Self::Sha256, Self::Md5];

    /// As it prints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// `None` for algorithms not offered here.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::OFFERED.into_iter().find(|this| bytes.eq_ignore_ascii_case(this.as_str().as_bytes()))
    }

    /// The hash of `parts` with colons between them, as hexadecimal digits.
    pub(crate) fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Self::Md5 => to_hex(&joined::<Md5>(parts)),
            Self::Sha256 => to_hex(&joined::<Sha256>(parts)),
        }
    }
}

fn joined<D: md5::Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hash = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize()
}

/// What is stored in place of a password: hashes of `user:realm:password`, one for each algorithm.
///
/// As good as the password for this realm, so it prints as dots.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ha1 {
    md5: [u8; 16],
    sha256: [u8; 32],
}

impl Ha1 {
    /// Of a new password.
    pub fn new(user: &[u8], realm: &[u8], password: &[u8]) -> Self {
        let parts = [user, realm, password];
        Self { md5: joined::<Md5>(&parts).into(), sha256: joined::<Sha256>(&parts).into() }
    }

    /// From stored hashes.
    pub const fn from_hashes(md5: [u8; 16], sha256: [u8; 32]) -> Self {
        Self { md5, sha256 }
    }

    /// The hashes, to be stored: MD5 and SHA-256.
    pub const fn hashes(&self) -> ([u8; 16], [u8; 32]) {
        (self.md5, self.sha256)
    }

    /// The hash for `algorithm` as hexadecimal digits.
    pub(crate) fn hex(&self, algorithm: Algorithm) -> String {
        match algorithm {
            Algorithm::Md5 => to_hex(&self.md5),
            Algorithm::Sha256 => to_hex(&self.sha256),
        }
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(...)")
    }
}
