use super::{Algorithm, parse_pairs, push_plain_pair, push_quoted_pair};

/// The question who asks: the value of WWW-Authenticate or Proxy-Authenticate (RFC 7616 §3.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// For whom the password is; shown to people.
    pub realm: Vec<u8>,
    /// To be hashed in; see [`NonceKey`](super::NonceKey).
    pub nonce: Vec<u8>,
    /// How to compute the proof.
    pub algorithm: Algorithm,
    /// Whether `qop="auth"` is offered; without it, the proof is that of RFC 2069.
    pub has_qop: bool,
    /// The password was right but the nonce too old: try again without asking the person.
    pub is_stale: bool,
    /// To be sent back as it is.
    pub opaque: Option<Vec<u8>>,
}

impl Challenge {
    /// With `qop="auth"`, not stale.
    pub fn new(realm: impl Into<Vec<u8>>, nonce: impl Into<Vec<u8>>, algorithm: Algorithm) -> Self {
        Self {
            realm: realm.into(),
            nonce: nonce.into(),
            algorithm,
            has_qop: true,
            is_stale: false,
            opaque: None,
        }
    }

    /// `None` for another scheme, an algorithm or qop this crate does not know, or when it is
    /// malformed.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let pairs = parse_pairs(value)?;
        let get = |wanted: &str| {
            let named =
                |(name, _): &&(&[u8], Vec<u8>)| name.eq_ignore_ascii_case(wanted.as_bytes());
            pairs.iter().find(named).map(|(_, value)| value.as_slice())
        };
        let algorithm = match get("algorithm") {
            Some(name) => Algorithm::from_bytes(name)?,
            None => Algorithm::Md5,
        };
        let has_qop = match get("qop") {
            Some(offered) => {
                let mut words = offered.split(|byte| *byte == b',').map(crate::bytes::trim);
                // Only auth-int offered: nothing this side can do.
                words.find(|word| word.eq_ignore_ascii_case(b"auth"))?;
                true
            }
            None => false,
        };
        Some(Self {
            realm: get("realm")?.to_vec(),
            nonce: get("nonce")?.to_vec(),
            algorithm,
            has_qop,
            is_stale: get("stale").is_some_and(|value| value.eq_ignore_ascii_case(b"true")),
            opaque: get("opaque").map(<[u8]>::to_vec),
        })
    }

    /// As it prints in the header.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"Digest".to_vec();
        push_quoted_pair("realm", &self.realm, &mut out);
        push_quoted_pair("nonce", &self.nonce, &mut out);
        if let Some(opaque) = &self.opaque {
            push_quoted_pair("opaque", opaque, &mut out);
        }
        if self.is_stale {
            push_plain_pair("stale", "true", &mut out);
        }
        push_plain_pair("algorithm", self.algorithm.as_str(), &mut out);
        if self.has_qop {
            push_quoted_pair("qop", b"auth", &mut out);
        }
        out
    }
}

impl From<Challenge> for Vec<u8> {
    fn from(challenge: Challenge) -> Self {
        challenge.to_bytes()
    }
}
