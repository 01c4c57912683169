use subtle::ConstantTimeEq;

use super::{Algorithm, Challenge, Ha1, from_hex, parse_pairs, push_plain_pair, push_quoted_pair};
use crate::Method;

/// The proof who asks: the value of Authorization or Proxy-Authorization (RFC 7616 §3.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Who.
    pub username: Vec<u8>,
    /// For which realm.
    pub realm: Vec<u8>,
    /// The nonce of the challenge.
    pub nonce: Vec<u8>,
    /// The Request-URI as it was when the proof was computed.
    pub uri: Vec<u8>,
    /// How the proof was computed.
    pub algorithm: Algorithm,
    /// What `qop=auth` adds; `None` without qop (RFC 2069).
    pub qop: Option<QopAuth>,
    /// Sent back as it came.
    pub opaque: Option<Vec<u8>>,
    /// The proof, as hexadecimal digits.
    pub response: Vec<u8>,
}

/// What goes into the proof with `qop=auth`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QopAuth {
    /// The client's part of the randomness.
    pub cnonce: Vec<u8>,
    /// How often the client used this nonce, from 1.
    pub count: u32,
    /// The same as it stood: eight hexadecimal digits.
    count_digits: Vec<u8>,
}

impl Credentials {
    /// `None` for another scheme, an algorithm or qop this crate does not offer, or when it is
    /// malformed or a part that counts stands twice.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let pairs = parse_pairs(value)?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(before, _)| before.eq_ignore_ascii_case(name)) {
                return None;
            }
        }
        let get = |wanted: &str| {
            let named =
                |(name, _): &&(&[u8], Vec<u8>)| name.eq_ignore_ascii_case(wanted.as_bytes());
            pairs.iter().find(named).map(|(_, value)| value.clone())
        };
        let algorithm = match get("algorithm") {
            Some(name) => Algorithm::from_bytes(&name)?,
            None => Algorithm::Md5,
        };
        let qop = match get("qop") {
            Some(name) if name.eq_ignore_ascii_case(b"auth") => {
                Some(QopAuth::new(get("cnonce")?, get("nc")?)?)
            }
            Some(_) => return None,
            None => None,
        };
        Some(Self {
            username: get("username")?,
            realm: get("realm")?,
            nonce: get("nonce")?,
            uri: get("uri")?,
            algorithm,
            qop,
            opaque: get("opaque"),
            response: get("response")?,
        })
    }

    /// As it prints in the header.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"Digest".to_vec();
        push_quoted_pair("username", &self.username, &mut out);
        push_quoted_pair("realm", &self.realm, &mut out);
        push_quoted_pair("nonce", &self.nonce, &mut out);
        push_quoted_pair("uri", &self.uri, &mut out);
        push_quoted_pair("response", &self.response, &mut out);
        push_plain_pair("algorithm", self.algorithm.as_str(), &mut out);
        if let Some(qop) = &self.qop {
            push_quoted_pair("cnonce", &qop.cnonce, &mut out);
            push_plain_pair("qop", "auth", &mut out);
            push_plain_pair("nc", &format!("{:08x}", qop.count), &mut out);
        }
        if let Some(opaque) = &self.opaque {
            push_quoted_pair("opaque", opaque, &mut out);
        }
        out
    }

    /// The proof that belongs to these fields, as hexadecimal digits (RFC 7616 §3.4.1).
    fn proof(&self, method: &Method, ha1: &Ha1) -> String {
        let ha1 = ha1.hex(self.algorithm);
        let ha2 = self.algorithm.hash(&[method.as_str().as_bytes(), &self.uri]);
        let (ha1, ha2) = (ha1.as_bytes(), ha2.as_bytes());
        match &self.qop {
            Some(qop) => {
                let count = qop.count_digits.as_slice();
                self.algorithm.hash(&[ha1, &self.nonce, count, &qop.cnonce, b"auth", ha2])
            }
            None => self.algorithm.hash(&[ha1, &self.nonce, ha2]),
        }
    }
}

impl QopAuth {
    fn new(cnonce: Vec<u8>, count_digits: Vec<u8>) -> Option<Self> {
        if count_digits.len() != 8 || !count_digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let count = u32::from_str_radix(core::str::from_utf8(&count_digits).ok()?, 16).ok()?;
        Some(Self { cnonce, count, count_digits })
    }
}

impl From<Credentials> for Vec<u8> {
    fn from(credentials: Credentials) -> Self {
        credentials.to_bytes()
    }
}

/// Whether who sent `credentials` with a `method` request knows the password. In constant time.
///
/// The caller checks the nonce, realm, user and Request-URI.
pub fn verify(credentials: &Credentials, method: &Method, ha1: &Ha1) -> bool {
    let right = credentials.proof(method, ha1);
    match (from_hex(&credentials.response), from_hex(right.as_bytes())) {
        (Some(given), Some(right)) => given.ct_eq(&right).into(),
        _ => false,
    }
}

/// The client's side: the proof for `challenge`. `count`: how often this nonce was used, from 1.
pub fn respond(
    challenge: &Challenge,
    method: &Method,
    uri: &[u8],
    username: &[u8],
    password: &[u8],
    cnonce: &[u8],
    count: u32,
) -> Credentials {
    let count_digits = format!("{count:08x}").into_bytes();
    let qop = challenge.has_qop.then(|| QopAuth { cnonce: cnonce.to_vec(), count, count_digits });
    let mut credentials = Credentials {
        username: username.to_vec(),
        realm: challenge.realm.clone(),
        nonce: challenge.nonce.clone(),
        uri: uri.to_vec(),
        algorithm: challenge.algorithm,
        qop,
        opaque: challenge.opaque.clone(),
        response: Vec::new(),
    };
    let ha1 = Ha1::new(username, &challenge.realm, password);
    credentials.response = credentials.proof(method, &ha1).into_bytes();
    credentials
}
