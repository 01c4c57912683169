//! Callers who were asked for another proof although theirs was right.
//!
//! A proof grows old, and clocks of two servers run apart. Where a server took an INVITE and died or was cut off
//! before it said a word, the caller repeats it to the twin; if the twin asks for a newer proof, the caller sends
//! another INVITE. Both are one call, so the second goes on under the number of the first: then what the first server
//! has on record of it is not another record.

use std::collections::BTreeMap;

use tandem_dialplan::UserName;
use tandem_sip::{HeaderName, Request};
use tandem_types::{Duration, Instant};

/// Who asks, and what stays the same when he is asked again (RFC 3261 §22.2): user, Call-ID, From.
type Who = (String, Vec<u8>, Vec<u8>);

/// The numbers that their first INVITEs had.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    numbers: BTreeMap<Who, (String, Instant)>,
}

/// An INVITE is repeated for 64*T1, and so is what follows it.
const ASKED_FOR: Duration = Duration::from_secs(32);

/// Callers remembered at most; one more begins a call of another number.
const ASKED_MAX: usize = 4_096;

fn who(user: &UserName, request: &Request) -> Option<Who> {
    let field = |name: HeaderName| request.headers.get(&name).map(<[u8]>::to_vec);
    Some((user.to_string(), field(HeaderName::CallId)?, field(HeaderName::From)?))
}

impl Asked {
    /// This user is asked again for an INVITE that would have begun the call `number`.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        user: &UserName,
        request: &Request,
        number: String,
    ) {
        let Some(who) = who(user, request) else { return };
        self.numbers.retain(|_, (_, until)| now < *until);
        if self.numbers.len() < ASKED_MAX {
            // Asked twice: it is the first INVITE that may be on record.
            self.numbers.entry(who).or_insert((number, now + ASKED_FOR));
        }
    }

    /// The number of the call that this INVITE goes on with, if he was asked again for it.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        user: &UserName,
        request: &Request,
    ) -> Option<String> {
        let (number, until) = self.numbers.remove(&who(user, request)?)?;
        (now < until).then_some(number)
    }
}
