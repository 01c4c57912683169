//! Logging in: REGISTER, and where a user's devices are.

use tandem_dialplan::UserName;
use tandem_registrar::{Admit, Aor, Refused};
use tandem_sip::{HeaderName, Request, Uri};
use tandem_stack::{ServerId, make_response};
use tandem_types::{Flow, Instant, Transport};

use crate::facts::Fact;
use crate::node::Node;
use crate::outbox::Promise;
use crate::talk;
use tandem_dialplan::Blockable;

impl Node {
    pub(crate) fn register(&mut self, now: Instant, id: ServerId, flow: Flow, request: &Request) {
        let Some(user) = self.authenticate(now, id, flow, request) else { return };
        if self.refuse_unsupported(now, id, request) {
            return;
        }
        let aor = Aor::new(user.as_str());
        let known = |node: &Self| node.registrar.bindings(now, &aor).any(|b| b.flow == flow);
        let (was_known, before) = (known(self), self.registrar.bindings(now, &aor).count());
        let blocked = self.is_blocked(now, Blockable::Logins);
        let admit = if blocked { Admit::Known } else { Admit::All };
        let response = match self.registrar.register(now, &aor, flow, request, admit) {
            Ok(registered) => {
                self.promises(Promise::Final);
                let mut response = make_response(request, 200, None);
                for binding in &registered.bindings {
                    response.headers.push(HeaderName::Contact, binding.to_contact(now));
                }
                response
            }
            Err(Refused::NotAdmitted) => {
                self.refuse_login(now, id, flow, request, &user);
                return;
            }
            Err(refused) => {
                let mut response = make_response(request, refused.status(), None);
                if let Refused::TooBrief(least) = refused {
                    response.headers.push(HeaderName::MinExpires, least.to_string());
                }
                response.headers.push(HeaderName::Warning, warning(&refused));
                response
            }
        };
        if !was_known && known(self) {
            self.fact(Fact::LoggedIn { user: user.to_string(), source: flow });
        } else if self.registrar.bindings(now, &aor).count() < before {
            self.fact(Fact::LoggedOut { user: user.to_string() });
        }
        let mut response = response;
        response.headers.push(HeaderName::Server, talk::PRODUCT);
        self.answer(now, &id, response);
    }

    /// New logins are blocked, and this is one.
    fn refuse_login(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Request,
        user: &UserName,
    ) {
        let reason = self.refusal(now, Blockable::Logins).unwrap_or_default();
        self.answer_blocked(now, id, request, Blockable::Logins, &reason);
        self.fact(Fact::LoginBlocked { user: user.to_string(), source: flow, reason });
    }

    /// Logins that ran out.
    pub(crate) fn expire_bindings(&mut self, now: Instant) {
        for aor in self.registrar.expire(now) {
            self.fact(Fact::LoggedOut { user: aor.to_string() });
        }
    }

    /// Where to send to a phone at `uri` that was last heard on `seen`.
    ///
    /// Where its connection is gone (with the twin, say), how it logged in tells more than `uri`,
    /// which may name the port of that very connection: it is reached on the connection of its
    /// last login, or where its login says that it listens.
    pub(crate) fn reach(&self, uri: &Uri, seen: Flow) -> Flow {
        let open = self.connections.contains(&seen);
        let by_uri = talk::next_hop(uri, seen, open);
        if open || seen.transport == Transport::Udp {
            return by_uri;
        }
        let logins = self.registrar.at(seen.remote.ip(), uri);
        let by_stream = logins.filter(|binding| binding.flow.transport == Transport::Tcp);
        match by_stream.max_by_key(|binding| binding.renewed) {
            Some(login) if self.connections.contains(&login.flow) => login.flow,
            Some(login) => self.rehome(login.fallback().unwrap_or(by_uri)),
            None => by_uri,
        }
    }

    /// The devices of a user, by contact, and where each is reached.
    pub(crate) fn devices(&self, now: Instant, user: &UserName) -> Vec<(Uri, Flow)> {
        let aor = Aor::new(user.as_str());
        let place = |binding: &tandem_registrar::Binding| {
            let mut flow = binding.target();
            if flow.transport == Transport::Tcp && !self.connections.contains(&flow) {
                // Its connection ended with the twin: the phone's own port is the second choice.
                flow = binding.fallback().unwrap_or(flow);
            }
            (binding.contact.clone(), self.rehome(flow))
        };
        self.registrar.bindings(now, &aor).map(place).collect()
    }
}

/// Why, for people (RFC 3261 §20.43; 399: miscellaneous).
fn warning(refused: &Refused) -> String {
    format!("399 {} \"{refused}\"", talk::PRODUCT)
}
