//! Dialogs, RFC 3261 §12: what two telephones agreed on so that later requests find their way.
//!
//! ```text
//!  UAS: request + our tag ---\                    /--- make_request, make_ack
//!                             > Dialog (plain) ---
//!  UAC: request + response --/                    \--- check_remote_cseq, refresh_target, confirm
//! ```
//!
//! A dialog is stored in its call's record. After a takeover CSeq leaps, because the lost server
//! may have sent more than the record knows: gaps are legal, going back is not.
//!
//! Invariant: the numbers of the requests that [`Dialog::make_request`] makes rise.

use serde::{Deserialize, Serialize};
use tandem_sip::{ContactValue, HeaderName, Headers, Method, NameAddr, Request, Response, Uri};

/// The largest CSeq number (RFC 3261 §8.1.1.5).
pub const CSEQ_MAX: u32 = (1 << 31) - 1;

/// Names a dialog on our side (RFC 3261 §12).
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Our tag.
    pub local_tag: Vec<u8>,
    /// The other side's tag; empty where it has none (RFC 2543).
    pub remote_tag: Vec<u8>,
}

/// One dialog, seen from our side.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dialog {
    /// Its name.
    pub id: DialogId,
    /// Our address as it stands in From of our requests, tag included.
    local: Vec<u8>,
    /// Their address as it stands in To of our requests, tag included.
    remote: Vec<u8>,
    /// Where requests go in the end: their Contact.
    pub remote_target: Uri,
    /// What requests must pass, nearest first.
    route_set: Vec<NameAddr>,
    /// The number of our last request; zero before the first.
    pub local_cseq: u32,
    /// The number of their last request, if there was one.
    pub remote_cseq: Option<u32>,
}

/// Why a message makes no dialog, or does not fit into it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DialogError {
    /// A header that a dialog is made of is missing or malformed: 400.
    Malformed,
    /// No Contact with a SIP address: 400.
    NoContact,
    /// The response has no To tag.
    NoTag,
    /// The number of the request is lower than one before: 500 (RFC 3261 §12.2.2).
    OutOfOrder,
}

impl DialogId {
    /// The dialog a request says it belongs to; `None` without a To tag.
    pub fn of_request(request: &Request) -> Option<Self> {
        let local_tag = request.headers.to().ok()?.tag()?.to_vec();
        let remote_tag = request.headers.from().ok()?.tag().unwrap_or_default().to_vec();
        let call_id = request.headers.call_id().ok()?.to_vec();
        Some(Self { call_id, local_tag, remote_tag })
    }

    /// The dialog a response to our request belongs to; `None` without a To tag.
    pub fn of_response(response: &Response) -> Option<Self> {
        let remote_tag = response.headers.to().ok()?.tag()?.to_vec();
        let local_tag = response.headers.from().ok()?.tag().unwrap_or_default().to_vec();
        let call_id = response.headers.call_id().ok()?.to_vec();
        Some(Self { call_id, local_tag, remote_tag })
    }
}

impl Dialog {
    /// The dialog that answering `request` with `local_tag` makes (RFC 3261 §12.1.1).
    ///
    /// # Errors
    ///
    /// When the request has no usable Contact.
    pub fn uas(request: &Request, local_tag: &str) -> Result<Self, DialogError> {
        let headers = &request.headers;
        let from = headers.from().map_err(|_| DialogError::Malformed)?;
        let to = headers.to().map_err(|_| DialogError::Malformed)?.with_tag(local_tag.as_bytes());
        let (cseq, _) = headers.cseq().map_err(|_| DialogError::Malformed)?;
        let id = DialogId {
            call_id: headers.call_id().map_err(|_| DialogError::Malformed)?.to_vec(),
            local_tag: local_tag.into(),
            remote_tag: from.tag().unwrap_or_default().to_vec(),
        };
        Ok(Self {
            id,
            local: to.to_bytes(),
            remote: from.to_bytes(),
            remote_target: contact(headers).ok_or(DialogError::NoContact)?,
            route_set: headers.record_routes().map_err(|_| DialogError::Malformed)?,
            local_cseq: 0,
            remote_cseq: Some(cseq),
        })
    }

    /// The dialog that `response` to our `request` makes (RFC 3261 §12.1.2). A provisional response
    /// without Contact leaves the address the request went to.
    ///
    /// # Errors
    ///
    /// When the response has no To tag, or a 2xx no usable Contact.
    pub fn uac(request: &Request, response: &Response) -> Result<Self, DialogError> {
        let id = DialogId::of_response(response).ok_or(DialogError::NoTag)?;
        let from = request.headers.from().map_err(|_| DialogError::Malformed)?;
        let to = response.headers.to().map_err(|_| DialogError::Malformed)?;
        let (cseq, _) = request.headers.cseq().map_err(|_| DialogError::Malformed)?;
        let mut dialog = Self {
            id,
            local: from.to_bytes(),
            remote: to.to_bytes(),
            remote_target: request.uri.clone(),
            route_set: Vec::new(),
            local_cseq: cseq,
            remote_cseq: None,
        };
        dialog.confirm(response)?;
        Ok(dialog)
    }

    /// Takes target and route set from a response to our INVITE: the 2xx has the last word
    /// (RFC 3261 §13.2.2.4).
    ///
    /// # Errors
    ///
    /// When a 2xx has no usable Contact. The dialog stays as it was.
    pub fn confirm(&mut self, response: &Response) -> Result<(), DialogError> {
        let target = contact(&response.headers);
        if target.is_none() && response.is_success() {
            return Err(DialogError::NoContact);
        }
        let mut routes = response.headers.record_routes().map_err(|_| DialogError::Malformed)?;
        routes.reverse();
        self.route_set = routes;
        if let Some(target) = target {
            self.remote_target = target;
        }
        Ok(())
    }

    /// A request within the dialog, with the next number (RFC 3261 §12.2.1.1). Contact, if the
    /// method wants one, body and the like are the caller's to add.
    pub fn make_request(&mut self, method: Method) -> Request {
        self.local_cseq = self.local_cseq.saturating_add(1).min(CSEQ_MAX);
        self.build(method, self.local_cseq)
    }

    /// The ACK for the 2xx to the INVITE that had the number `invite_cseq` (RFC 3261 §13.2.2.4).
    pub fn make_ack(&self, invite_cseq: u32) -> Request {
        self.build(Method::Ack, invite_cseq)
    }

    fn build(&self, method: Method, cseq: u32) -> Request {
        let mut routes = self.route_set.clone();
        let strict = routes.first().is_some_and(|first| !first.uri.is_loose_router());
        let uri = if strict {
            // The next server is of RFC 2543: it finds its own address where ours should be, and
            // ours at the end of the list.
            let first = routes.remove(0);
            routes.push(NameAddr::new(self.remote_target.clone()));
            first.uri.without_headers()
        } else {
            self.remote_target.clone()
        };
        let mut request = Request::new(method, uri);
        for route in routes {
            request.headers.push(HeaderName::Route, route);
        }
        request.headers.push(HeaderName::From, self.local.as_slice());
        request.headers.push(HeaderName::To, self.remote.as_slice());
        request.headers.push(HeaderName::CallId, self.id.call_id.as_slice());
        let cseq = format!("{cseq} {}", request.method);
        request.headers.push(HeaderName::CSeq, cseq);
        request
    }

    /// Where a request must be sent: the first route, or the remote target (RFC 3261 §8.1.2).
    pub fn next_hop(&self) -> &Uri {
        self.route_set.first().map_or(&self.remote_target, |first| &first.uri)
    }

    /// Our address, as in From of our requests.
    pub fn local(&self) -> &[u8] {
        &self.local
    }

    /// Their address, as in To of our requests.
    pub fn remote(&self) -> &[u8] {
        &self.remote
    }

    /// Whether a request of the other side is in order, and takes its number if so. ACK and CANCEL
    /// have the number of their INVITE and always are.
    ///
    /// # Errors
    ///
    /// When a later request came before: answer 500.
    pub fn check_remote_cseq(&mut self, request: &Request) -> Result<(), DialogError> {
        let (number, method) = request.headers.cseq().map_err(|_| DialogError::Malformed)?;
        if method == Method::Ack || method == Method::Cancel {
            return Ok(());
        }
        if self.remote_cseq.is_some_and(|last| number < last) {
            return Err(DialogError::OutOfOrder);
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// Takes the Contact of a target refresh: a re-INVITE or UPDATE of the other side, or a 2xx to
    /// one of ours (RFC 3261 §12.2). The route set stays. Says whether the target is another now.
    pub fn refresh_target(&mut self, headers: &Headers) -> bool {
        match contact(headers) {
            Some(target) if target != self.remote_target => {
                self.remote_target = target;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Leaves a gap of `by` numbers, after a takeover.
    pub fn leap_cseq(&mut self, by: u32) {
        self.local_cseq = self.local_cseq.saturating_add(by).min(CSEQ_MAX);
    }
}

/// The one address in Contact.
fn contact(headers: &Headers) -> Option<Uri> {
    match headers.contacts().ok()?.into_iter().next()? {
        ContactValue::Addr(address) if address.uri.is_sip() => Some(address.uri),
        ContactValue::Addr(_) | ContactValue::Star => None,
    }
}
