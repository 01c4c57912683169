//! One phone's login.

use core::fmt;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tandem_sip::{NameAddr, Params, Uri};
use tandem_types::{Duration, Flow, Instant, Transport};

/// Whose bindings: the user's name in the pair's domain.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Aor(String);

impl Aor {
    /// The address of record of this user.
    pub fn new(user: impl Into<String>) -> Self {
        Self(user.into())
    }

    /// The user's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where one phone of a user is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The phone's own address: the Request-URI of requests to it.
    pub contact: Uri,
    /// Where its REGISTER came from.
    pub flow: Flow,
    /// Call-ID of its registrations.
    pub call_id: Vec<u8>,
    /// CSeq number of the last one.
    pub cseq: u32,
    /// Preference in thousandths, 0 to 1,000 (RFC 3261 §20.10); 1,000 where none was given.
    pub q: u16,
    /// When it ends.
    pub expires: Instant,
    /// What was granted, in seconds.
    pub granted_seconds: u32,
    /// When it was made or last renewed.
    pub renewed: Instant,
    /// What the phone calls itself; empty where it does not say.
    pub user_agent: Vec<u8>,
    /// Parameters of its Contact value, but expires and q: `+sip.instance`, `reg-id`, ...
    pub params: Params,
}

impl Binding {
    /// Names the device, whatever its address (RFC 5626 §4.1).
    pub fn instance(&self) -> Option<&[u8]> {
        self.params.value("+sip.instance")
    }

    /// Numbers the device's flows (RFC 5626 §4.2).
    pub fn reg_id(&self) -> Option<&[u8]> {
        self.params.value("reg-id")
    }

    /// Where to send requests for this phone.
    ///
    /// * Registered over TCP: on the connection it registered with.
    /// * Registered over UDP, and the Contact names the very address the packet came from: to the
    ///   Contact's port, which may differ from the one the phone sends from.
    /// * Otherwise (a name, or a private address behind a NAT): back to where the packet came from.
    pub fn target(&self) -> Flow {
        match self.flow.transport {
            Transport::Tcp => self.flow,
            Transport::Udp => self.by_contact().unwrap_or(self.flow),
        }
    }

    /// Where to try next when the connection of [`Binding::target`] is gone (after a takeover, say):
    /// the phone's own listening port, if it is at the address it registered from.
    pub fn fallback(&self) -> Option<Flow> {
        self.by_contact().filter(|flow| *flow != self.target())
    }

    /// The Contact's address and port, where a packet from there proved that it can be reached.
    fn by_contact(&self) -> Option<Flow> {
        let ip = self.contact.host()?.ip()?;
        let port = self.contact.port().unwrap_or(DEFAULT_PORT);
        (ip == self.flow.remote.ip())
            .then(|| Flow { remote: SocketAddr::new(ip, port), ..self.flow })
    }

    /// As it stands in the Contact list of the answer, with the seconds that are left.
    pub fn to_contact(&self, now: Instant) -> NameAddr {
        let mut value = NameAddr::new(self.contact.clone());
        value.params = self.params.clone();
        if self.q < Q_MAX {
            let q = format!("{}.{:03}", self.q / Q_MAX, self.q % Q_MAX);
            value.params.set("q", Some(q.as_bytes()));
        }
        let seconds = self.expires.remaining_from(now).as_secs_f64().ceil();
        value.params.set("expires", Some(format!("{seconds:.0}").as_bytes()));
        value
    }
}

/// The highest preference.
pub(crate) const Q_MAX: u16 = 1_000;

/// SIP without TLS (RFC 3261 §19.1.2).
const DEFAULT_PORT: u16 = 5060;

/// The bindings of one AoR as they are stored: with time left in place of points in time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AorCheckpoint {
    bindings: Vec<Saved>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Saved {
    contact: Uri,
    flow: Flow,
    call_id: Vec<u8>,
    cseq: u32,
    q: u16,
    remaining: Duration,
    granted_seconds: u32,
    renewed_ago: Duration,
    user_agent: Vec<u8>,
    params: Params,
}

impl AorCheckpoint {
    /// Where the devices registered from.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.bindings.iter().map(|binding| binding.flow)
    }

    pub(crate) fn of(now: Instant, bindings: &[Binding]) -> Self {
        let save = |binding: &Binding| Saved {
            contact: binding.contact.clone(),
            flow: binding.flow,
            call_id: binding.call_id.clone(),
            cseq: binding.cseq,
            q: binding.q,
            remaining: binding.expires.remaining_from(now),
            granted_seconds: binding.granted_seconds,
            renewed_ago: binding.renewed.elapsed_until(now),
            user_agent: binding.user_agent.clone(),
            params: binding.params.clone(),
        };
        Self { bindings: bindings.iter().map(save).collect() }
    }

    /// The bindings that are still good `age` after they were saved; and whether all are.
    pub(crate) fn restore(self, now: Instant, age: Duration) -> (Vec<Binding>, bool) {
        let before = self.bindings.len();
        let load = |saved: Saved| Binding {
            contact: saved.contact,
            flow: saved.flow,
            call_id: saved.call_id,
            cseq: saved.cseq,
            q: saved.q,
            expires: now + saved.remaining.saturating_sub(age),
            granted_seconds: saved.granted_seconds,
            renewed: now - saved.renewed_ago.saturating_add(age),
            user_agent: saved.user_agent,
            params: saved.params,
        };
        let bindings: Vec<Binding> =
            self.bindings.into_iter().filter(|saved| saved.remaining > age).map(load).collect();
        let all = bindings.len() == before;
        (bindings, all)
    }
}
