//! All bindings, and what a REGISTER does to them.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use tandem_sip::{Request, Uri};
use tandem_types::{Duration, Flow, Instant};

use crate::binding::{Aor, AorCheckpoint, Binding};
use crate::contacts::{self, Contact, Refused, Wish};

/// What may be set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Devices that one user may have logged in at once; one more is refused.
    pub bindings_per_aor_max: usize,
    /// Granted to who does not ask for a time, in seconds.
    pub expires_default_seconds: u32,
    /// Who asks for less is refused with 423 and told so, in seconds.
    pub expires_min_seconds: u32,
    /// Who asks for more gets this, in seconds.
    pub expires_max_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bindings_per_aor_max: 4,
            expires_default_seconds: 3_600,
            expires_min_seconds: 60,
            expires_max_seconds: 7_200,
        }
    }
}

/// Who may be logged in by a REGISTER.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admit {
    /// Every device.
    All,
    /// Devices that are logged in: they may renew, move and log out.
    Known,
}

/// What a REGISTER led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// All bindings of the AoR, the last renewed first: for the Contact list of the 200.
    pub bindings: Vec<Binding>,
    /// Whether it changed anything.
    pub changed: bool,
}

/// All bindings of all users.
#[derive(Clone, Debug)]
pub struct Registrar {
    config: Config,
    aors: BTreeMap<Aor, Bound>,
    /// The earliest end of each AoR's bindings.
    ends: BTreeSet<(Instant, Aor)>,
    changes: BTreeSet<Aor>,
    /// Who registered from an address with this user part in a Contact.
    places: BTreeMap<Place, BTreeSet<Aor>>,
    /// How many bindings there are.
    total: usize,
}

/// The address that a REGISTER came from, and the user part of its Contact.
type Place = (IpAddr, Vec<u8>);

fn place(ip: IpAddr, contact: &Uri) -> Place {
    (ip, contact.user().unwrap_or_default().to_vec())
}

/// The bindings of one AoR: never empty.
#[derive(Clone, Debug)]
struct Bound {
    bindings: Vec<Binding>,
    first_end: Instant,
}

/// A binding while a request is worked on.
struct Draft {
    binding: Binding,
    /// Made or renewed by this request.
    fresh: bool,
}

impl Registrar {
    /// Without bindings.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            aors: BTreeMap::new(),
            ends: BTreeSet::new(),
            changes: BTreeSet::new(),
            places: BTreeMap::new(),
            total: 0,
        }
    }

    /// Does what a REGISTER asks for (RFC 3261 §10.3 steps 6 to 8). The caller has authenticated it
    /// and found that it may change the bindings of `aor`.
    ///
    /// # Errors
    ///
    /// When it is refused; then nothing has changed.
    pub fn register(
        &mut self,
        now: Instant,
        aor: &Aor,
        flow: Flow,
        request: &Request,
        admit: Admit,
    ) -> Result<Registered, Refused> {
        let call_id = contacts::call_id(request)?;
        let (cseq, _) = request.headers.cseq()?;
        let before: Vec<Binding> = self.bindings(now, aor).cloned().collect();
        let after = match contacts::read(request, &self.config)? {
            Wish::Query => before.clone(),
            Wish::Clear => {
                let is_newer = |old: &Binding| old.call_id != call_id || cseq > old.cseq;
                if !before.iter().all(is_newer) {
                    return Err(Refused::OutOfOrder);
                }
                Vec::new()
            }
            Wish::Change(contacts) => {
                let proto = Proto { now, flow, call_id, cseq, request, admit };
                self.changed_by(&before, contacts, &proto)?
            }
        };
        let changed = after != before;
        if changed {
            self.put(aor, after.clone());
            self.changes.insert(aor.clone());
        }
        Ok(Registered { bindings: after, changed })
    }

    /// Where a user is reached, the last renewed first.
    pub fn bindings(&self, now: Instant, aor: &Aor) -> impl Iterator<Item = &Binding> + use<'_> {
        let bound = self.aors.get(aor).into_iter();
        bound.flat_map(|bound| &bound.bindings).filter(move |binding| binding.expires > now)
    }

    /// Every binding, by AoR.
    pub fn all(&self) -> impl Iterator<Item = (&Aor, &Binding)> {
        self.aors
            .iter()
            .flat_map(|(aor, bound)| bound.bindings.iter().map(move |binding| (aor, binding)))
    }

    /// The bindings made from `ip` whose Contact has the user part of `contact`, whosever they are.
    pub fn at(&self, ip: IpAddr, contact: &Uri) -> impl Iterator<Item = &Binding> {
        let user = contact.user().map(<[u8]>::to_vec);
        let aors = self.places.get(&place(ip, contact)).into_iter().flatten();
        let bounds = aors.filter_map(|aor| self.aors.get(aor));
        bounds.flat_map(|bound| &bound.bindings).filter(move |binding| {
            binding.flow.remote.ip() == ip && binding.contact.user() == user.as_deref()
        })
    }

    /// How many bindings there are.
    pub const fn bindings_total(&self) -> usize {
        self.total
    }

    /// Logs a user out everywhere (removed, or switched off).
    pub fn remove(&mut self, aor: &Aor) {
        if self.aors.contains_key(aor) {
            self.put(aor, Vec::new());
            self.changes.insert(aor.clone());
        }
    }

    /// When the next binding ends.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Forgets what has ended; whose bindings changed by that.
    pub fn expire(&mut self, now: Instant) -> Vec<Aor> {
        let mut expired = Vec::new();
        while let Some((end, aor)) = self.ends.first()
            && *end <= now
        {
            let aor = aor.clone();
            let left: Vec<Binding> = self.bindings(now, &aor).cloned().collect();
            self.put(&aor, left);
            self.changes.insert(aor.clone());
            expired.push(aor);
        }
        expired
    }

    /// Whose bindings changed since this was last asked, each once.
    pub fn take_changes(&mut self) -> Vec<Aor> {
        core::mem::take(&mut self.changes).into_iter().collect()
    }

    /// The bindings of one AoR, to be stored; `None` where there are none (any more).
    pub fn checkpoint(&self, now: Instant, aor: &Aor) -> Option<AorCheckpoint> {
        self.aors.get(aor).map(|bound| AorCheckpoint::of(now, &bound.bindings))
    }

    /// Takes the bindings of one AoR as they were stored `age` ago. Where one has ended meanwhile,
    /// that is a change.
    pub fn restore(&mut self, now: Instant, aor: Aor, saved: AorCheckpoint, age: Duration) {
        let (bindings, all) = saved.restore(now, age);
        self.put(&aor, bindings);
        if !all {
            self.changes.insert(aor);
        }
    }

    /// Forgets everything; nothing of that is a change.
    pub fn clear(&mut self) {
        *self = Self::new(self.config);
    }

    /// The bindings as a request wants them.
    fn changed_by(
        &self,
        before: &[Binding],
        contacts: Vec<Contact>,
        proto: &Proto<'_>,
    ) -> Result<Vec<Binding>, Refused> {
        let only_one = contacts.len() == 1;
        let draft = |binding: &Binding| Draft { binding: binding.clone(), fresh: false };
        let mut drafts: Vec<Draft> = before.iter().map(draft).collect();
        for contact in contacts {
            let at = drafts.iter().position(|old| proto.is_same_phone(old, &contact, only_one));
            let is_new = at.is_none() && contact.seconds > 0;
            if is_new && proto.admit == Admit::Known {
                return Err(Refused::NotAdmitted);
            }
            if let Some(old) = at.map(|at| &drafts[at])
                && !old.fresh
                && old.binding.call_id == proto.call_id
            {
                if proto.is_repeated(&old.binding, &contact) {
                    continue;
                }
                if proto.cseq <= old.binding.cseq {
                    return Err(Refused::OutOfOrder);
                }
            }
            if let Some(at) = at {
                drafts.remove(at);
            }
            if contact.seconds > 0 {
                drafts.insert(0, Draft { binding: proto.binding(contact), fresh: true });
            }
        }
        if drafts.len() > self.config.bindings_per_aor_max && drafts.len() > before.len() {
            return Err(Refused::TooManyDevices);
        }
        Ok(drafts.into_iter().map(|draft| draft.binding).collect())
    }

    /// The only place where bindings change.
    fn put(&mut self, aor: &Aor, bindings: Vec<Binding>) {
        if let Some(bound) = self.aors.remove(aor) {
            self.ends.remove(&(bound.first_end, aor.clone()));
            self.total -= bound.bindings.len();
            for place in bound.bindings.iter().map(Binding::place) {
                if let Some(aors) = self.places.get_mut(&place) {
                    aors.remove(aor);
                    if aors.is_empty() {
                        self.places.remove(&place);
                    }
                }
            }
        }
        if let Some(first_end) = bindings.iter().map(|binding| binding.expires).min() {
            self.ends.insert((first_end, aor.clone()));
            self.total += bindings.len();
            for place in bindings.iter().map(Binding::place) {
                self.places.entry(place).or_default().insert(aor.clone());
            }
            self.aors.insert(aor.clone(), Bound { bindings, first_end });
        }
    }
}

impl Binding {
    fn place(&self) -> Place {
        place(self.flow.remote.ip(), &self.contact)
    }
}

/// What all bindings made by one request share.
struct Proto<'a> {
    now: Instant,
    flow: Flow,
    call_id: &'a [u8],
    cseq: u32,
    request: &'a Request,
    admit: Admit,
}

impl Proto<'_> {
    /// Whether a contact is the phone of an existing binding, which it then replaces: the same
    /// instance; or else the same address; or else the only address that comes under the same
    /// Call-ID, so a phone whose address has changed. Two addresses in one request are two.
    fn is_same_phone(&self, old: &Draft, contact: &Contact, only_one: bool) -> bool {
        let (binding, params) = (&old.binding, &contact.params);
        if old.fresh {
            return binding.contact.is_equivalent(&contact.uri);
        }
        match (binding.instance(), params.value("+sip.instance")) {
            (Some(one), Some(two)) => one == two && binding.reg_id() == params.value("reg-id"),
            (Some(_) | None, Some(_) | None) => {
                binding.contact.is_equivalent(&contact.uri)
                    || (only_one && contact.seconds > 0 && binding.call_id == self.call_id)
            }
        }
    }

    /// Whether this very request made the binding before: it came twice.
    fn is_repeated(&self, old: &Binding, contact: &Contact) -> bool {
        old.cseq == self.cseq
            && old.granted_seconds == contact.seconds
            && old.contact == contact.uri
            && old.q == contact.q
            && old.params == contact.params
    }

    fn binding(&self, contact: Contact) -> Binding {
        Binding {
            contact: contact.uri,
            flow: self.flow,
            call_id: self.call_id.to_vec(),
            cseq: self.cseq,
            q: contact.q,
            expires: self.now + Duration::from_secs(contact.seconds.into()),
            granted_seconds: contact.seconds,
            renewed: self.now,
            user_agent: contacts::user_agent(self.request),
            params: contact.params,
        }
    }
}
