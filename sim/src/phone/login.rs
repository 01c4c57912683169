//! REGISTER, and again before it runs out (RFC 3261 §10).

use tandem_sip::{ContactValue, HeaderName, Method, NameAddr, Response};
use tandem_types::{Dice, Duration, Instant};

use super::transaction::What;
use super::{News, Phone};

#[derive(Debug)]
pub(super) struct Login {
    call_id: String,
    tag: String,
    cseq: u32,
    /// When to send REGISTER.
    due: Option<Instant>,
    /// Whether one is under way.
    pending: bool,
    /// Until when the server promised to find us.
    until: Option<Instant>,
}

impl Login {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            call_id: dice.hex(8),
            tag: dice.hex(4),
            cseq: 0,
            due: None,
            pending: false,
            until: None,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| !self.pending)
    }
}

impl Phone {
    /// Logs in now, and stays logged in.
    pub fn log_in(&mut self, now: Instant) {
        self.login.due = Some(now);
        self.run_login(now);
    }

    /// Whether the server promised to find this phone.
    pub fn is_logged_in(&self, now: Instant) -> bool {
        self.login.until.is_some_and(|until| now < until)
    }

    pub(super) fn run_login(&mut self, now: Instant) {
        if self.login.pending || self.login.due.is_none_or(|due| now < due) {
            return;
        }
        self.login.due = None;
        self.login.pending = true;
        self.login.cseq += 1;
        let server = tandem_sip::Uri::sip(
            None,
            &tandem_sip::Host::parse(self.config.realm.as_bytes())
                .unwrap_or(self.config.server.ip().into()),
            None,
        );
        let own = NameAddr::new(self.own_address());
        let from = own.clone().with_tag(self.login.tag.as_bytes());
        let (call_id, cseq) = (self.login.call_id.clone(), self.login.cseq);
        let mut request = self.plain_request(Method::Register, server, &from, &own, &call_id, cseq);
        request.headers.push(HeaderName::Contact, self.contact());
        request.headers.push(HeaderName::Expires, self.config.expires.to_string());
        self.prove_eagerly(&mut request);
        self.start(now, request, self.config.server, What::Register);
    }

    /// The CSeq of the next REGISTER.
    pub(super) fn next_login_cseq(&mut self) -> u32 {
        self.login.cseq += 1;
        self.login.cseq
    }

    /// The final response to REGISTER; `None`: there was none.
    pub(super) fn logged_in(&mut self, now: Instant, response: Option<&Response>) {
        self.login.pending = false;
        let status = response.map_or(408, |response| response.status);
        let Some(response) = response.filter(|response| response.is_success()) else {
            let after = response.and_then(|r| r.headers.retry_after().ok().flatten()).unwrap_or(2);
            self.login.due = Some(now + Duration::from_secs(after.into()));
            self.tell(News::LoginFailed { status });
            return;
        };
        let Some(seconds) = self.granted(response) else {
            self.complain(String::from("200 to REGISTER does not name our contact"));
            self.login.due = Some(now + Duration::from_secs(2));
            return;
        };
        let life = Duration::from_secs(seconds.into());
        self.login.until = Some(now + life);
        self.login.due = Some(now + life / 2);
        self.tell(News::LoggedIn { seconds });
    }

    /// For how long the server took our contact.
    fn granted(&self, response: &Response) -> Option<u32> {
        let own = self.contact();
        let contacts = response.headers.contacts().ok()?;
        let ours = contacts.into_iter().find_map(|contact| match contact {
            ContactValue::Addr(address) if address.uri.is_equivalent(&own.uri) => Some(address),
            ContactValue::Addr(_) | ContactValue::Star => None,
        })?;
        let own = ours
            .params
            .value("expires")
            .and_then(|value| core::str::from_utf8(value).ok()?.parse().ok());
        own.or_else(|| response.headers.expires().ok().flatten())
    }
}
