//! Which transaction a message belongs to: RFC 3261 §17.1.3, §17.2.3, §8.2.2.2, §13.3.1.4.
//!
//! Keys are strings of bytes whose parts are set apart by line feeds, which no parsed header value
//! holds. They are part of records, so both servers of a pair must make them alike.

use crate::id::ClientId;
use crate::timing::Octets;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};
use tandem_sip::{HeaderName, Headers, Method, Request, Uri, Via};
use tandem_types::Flow;

/// What the stack must know of a message, taken out once.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) via: Via,
    pub(crate) method: Method,
    pub(crate) cseq: u32,
    pub(crate) call_id: Vec<u8>,
    /// Empty where there is none, as RFC 2543 allowed.
    pub(crate) from_tag: Vec<u8>,
    pub(crate) to_tag: Option<Vec<u8>>,
}

impl Facts {
    /// `None` when a header is missing that every parsed message has.
    pub(crate) fn of(headers: &Headers) -> Option<Self> {
        let (cseq, method) = headers.cseq().ok()?;
        Some(Self {
            via: headers.via().ok()?,
            method,
            cseq,
            call_id: headers.call_id().ok()?.to_vec(),
            from_tag: headers.from().ok()?.tag().unwrap_or_default().to_vec(),
            to_tag: headers.to().ok()?.tag().map(<[u8]>::to_vec),
        })
    }
}

/// Names a server transaction: what repeated requests, CANCEL and the ACK for a non-2xx share.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct ServerKey(Octets);

impl ServerKey {
    /// The key of the transaction that `method` started. `facts` are those of the request as it
    /// came, before its Via was completed.
    pub(crate) fn new(uri: &Uri, facts: &Facts, method: &Method) -> Self {
        let cookie = Via::MAGIC_COOKIE;
        let unique = facts.via.branch().filter(|branch| branch.starts_with(cookie));
        let mut key = Vec::with_capacity(80);
        if let Some(branch) = unique {
            key.extend_from_slice(branch);
            let host = facts.via.host.to_string().to_ascii_lowercase();
            part(&mut key, host.as_bytes());
            part(&mut key, facts.via.port.unwrap_or_default().to_string().as_bytes());
        } else {
            // RFC 2543. The To tag is left out: the ACK has the one of the response.
            part(&mut key, uri.as_bytes());
            part(&mut key, &facts.from_tag);
            part(&mut key, &facts.call_id);
            part(&mut key, facts.cseq.to_string().as_bytes());
            part(&mut key, &facts.via.to_bytes());
        }
        part(&mut key, method.as_str().as_bytes());
        Self(Octets(key))
    }
}

/// Two requests with the same one are copies that took different ways (RFC 3261 §8.2.2.2).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct MergeKey(Vec<u8>);

impl MergeKey {
    /// From the request or a response to it.
    pub(crate) fn new(facts: &Facts) -> Self {
        let mut key = facts.call_id.clone();
        part(&mut key, &facts.from_tag);
        part(&mut key, facts.cseq.to_string().as_bytes());
        part(&mut key, facts.method.as_str().as_bytes());
        Self(key)
    }
}

/// What the ACK for a 2xx has in common with that 2xx, or with a refusal of the same INVITE.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct AckKey(Vec<u8>);

impl AckKey {
    /// From the 2xx or from the ACK.
    pub(crate) fn new(facts: &Facts) -> Self {
        let mut key = facts.call_id.clone();
        part(&mut key, &facts.from_tag);
        part(&mut key, facts.to_tag.as_deref().unwrap_or_default());
        part(&mut key, facts.cseq.to_string().as_bytes());
        Self(key)
    }

    /// The same, whatever the To tag is. From the refusal of an INVITE or from the ACK: who acknowledges a 2xx that
    /// the twin sent before it died or was cut off has his answer, and will never acknowledge ours.
    pub(crate) fn of_refused(facts: &Facts) -> Self {
        let mut key = facts.call_id.clone();
        part(&mut key, &facts.from_tag);
        part(&mut key, facts.cseq.to_string().as_bytes());
        Self(key)
    }
}

fn part(key: &mut Vec<u8>, bytes: &[u8]) {
    key.push(b'\n');
    key.extend_from_slice(bytes);
}

/// What all Via branches of the pair called `server_name` start with.
pub(crate) fn branch_prefix(server_name: &str) -> String {
    format!("z9hG4bK{:08x}", fnv(0, &[server_name.as_bytes()]) as u32)
}

/// The branch of a transaction of ours.
pub(crate) fn branch(prefix: &str, id: ClientId) -> String {
    format!("{prefix}{:016x}", id.branch)
}

/// The transaction of ours that has this branch.
pub(crate) fn parse_branch(prefix: &str, branch: &[u8], method: &Method) -> Option<ClientId> {
    let digits = branch.strip_prefix(prefix.as_bytes()).filter(|digits| digits.len() == 16)?;
    let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(ClientId { branch: number, cancel: *method == Method::Cancel })
}

/// Whether a request passed this pair before: a Via of ours, sent from the address it came to.
pub(crate) fn is_looped(prefix: &str, flow: Flow, request: &Request) -> bool {
    request.headers.values(&HeaderName::Via).any(|value| {
        let marked = value.windows(prefix.len()).any(|part| part == prefix.as_bytes());
        marked && Via::parse(value).is_ok_and(|via| via.host.ip() == Some(flow.local.ip()))
    })
}

/// What counts as one source for the limit: an IPv4 address, or the /64 that one IPv6 site has.
pub(crate) fn source_of(flow: Flow) -> IpAddr {
    match flow.remote.ip() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// FNV-1a: spreads, hides nothing.
pub(crate) fn fnv(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for part in parts {
        for byte in part.iter().chain(b"\n") {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
