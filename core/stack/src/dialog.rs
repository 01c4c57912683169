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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{make_response, reread};
    use expect_test::{Expect, expect};
    use tandem_sip::Message;

    fn invite(more: &str) -> Request {
        let text = format!(
            "INVITE sip:bob@pbx.example SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\n\
             From: \"Alice\" <sip:alice@a.example>;tag=a\nTo: sip:bob@b.example\nCall-ID: call\n\
             CSeq: 5 INVITE\nContact: <sip:alice@192.0.2.9;transport=tcp>\n{more}\n"
        );
        match reread(text.replace('\n', "\r\n").as_bytes()) {
            Some(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn answer(status: u16, contact: &str, record_route: &str) -> Response {
        let mut response = make_response(&invite(""), status, None);
        response.headers.set(HeaderName::To, "<sip:bob@b.example>;tag=b");
        if !contact.is_empty() {
            response.headers.set(HeaderName::Contact, contact);
        }
        if !record_route.is_empty() {
            response.headers.set(HeaderName::RecordRoute, record_route);
        }
        response
    }

    const BOB: &str = "<sip:bob@192.0.2.7>";

    #[track_caller]
    fn check(request: &Request, want: &Expect) {
        want.assert_eq(&String::from_utf8_lossy(&request.to_bytes()).replace("\r\n", "\n"));
    }

    #[test]
    fn the_side_that_is_called_takes_the_route_as_it_came() {
        let request = invite("Record-Route: <sip:p1;lr>, <sip:p2;lr>\nRecord-Route: <sip:p3;lr>\n");
        let mut dialog = Dialog::uas(&request, "us").unwrap();
        assert_eq!(dialog.remote_cseq, Some(5));
        assert_eq!(dialog.next_hop().to_string(), "sip:p1;lr");
        check(
            &dialog.make_request(Method::Bye),
            &expect![[r#"
            BYE sip:alice@192.0.2.9;transport=tcp SIP/2.0
            Route: <sip:p1;lr>
            Route: <sip:p2;lr>
            Route: <sip:p3;lr>
            From: <sip:bob@b.example>;tag=us
            To: "Alice" <sip:alice@a.example>;tag=a
            Call-ID: call
            CSeq: 1 BYE
            Content-Length: 0

        "#]],
        );
    }

    #[test]
    fn the_side_that_calls_takes_the_route_backwards() {
        let answer = answer(200, BOB, "<sip:p1;lr>, <sip:p2;lr>");
        let mut dialog = Dialog::uac(&invite(""), &answer).unwrap();
        assert_eq!(dialog.remote_cseq, None);
        check(
            &dialog.make_ack(5),
            &expect![[r#"
            ACK sip:bob@192.0.2.7 SIP/2.0
            Route: <sip:p2;lr>
            Route: <sip:p1;lr>
            From: "Alice" <sip:alice@a.example>;tag=a
            To: <sip:bob@b.example>;tag=b
            Call-ID: call
            CSeq: 5 ACK
            Content-Length: 0

        "#]],
        );
        check(
            &dialog.make_request(Method::Info),
            &expect![[r#"
            INFO sip:bob@192.0.2.7 SIP/2.0
            Route: <sip:p2;lr>
            Route: <sip:p1;lr>
            From: "Alice" <sip:alice@a.example>;tag=a
            To: <sip:bob@b.example>;tag=b
            Call-ID: call
            CSeq: 6 INFO
            Content-Length: 0

        "#]],
        );
        assert_eq!(dialog.make_request(Method::Bye).headers.cseq(), Ok((7, Method::Bye)));
    }

    #[test]
    fn without_a_route_requests_go_to_the_contact() {
        let mut dialog = Dialog::uac(&invite(""), &answer(200, BOB, "")).unwrap();
        assert_eq!(dialog.next_hop().to_string(), "sip:bob@192.0.2.7");
        let bye = dialog.make_request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.7");
        assert!(!bye.headers.contains(&HeaderName::Route));
    }

    #[test]
    fn a_strict_router_gets_its_own_address_and_ours_at_the_end() {
        let mut dialog =
            Dialog::uac(&invite(""), &answer(200, BOB, "<sip:p1;lr>, <sip:p2?x=y>")).unwrap();
        assert_eq!(dialog.next_hop().to_string(), "sip:p2?x=y");
        let bye = dialog.make_request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:p2");
        let routes: Vec<_> =
            bye.headers.routes().unwrap().iter().map(|route| route.uri.to_string()).collect();
        assert_eq!(routes, ["sip:p1;lr", "sip:bob@192.0.2.7"]);
    }

    #[test]
    fn the_final_answer_has_the_last_word_on_route_and_target() {
        let early = answer(183, "", "<sip:p1;lr>");
        let mut dialog = Dialog::uac(&invite(""), &early).unwrap();
        assert_eq!(dialog.remote_target.to_string(), "sip:bob@pbx.example");
        dialog.make_request(Method::Prack);
        dialog.confirm(&answer(200, BOB, "<sip:p9;lr>")).unwrap();
        let bye = dialog.make_request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.7");
        assert_eq!(bye.headers.get(&HeaderName::Route), Some(b"<sip:p9;lr>".as_slice()));
        assert_eq!(bye.headers.cseq(), Ok((7, Method::Bye)));
    }

    #[test]
    fn what_makes_no_dialog_is_refused() {
        let uac = |response: &Response| Dialog::uac(&invite(""), response).unwrap_err();
        assert_eq!(uac(&answer(200, "", "")), DialogError::NoContact);
        assert_eq!(uac(&answer(200, "<mailto:bob@b.example>", "")), DialogError::NoContact);
        assert_eq!(uac(&answer(200, BOB, "<sip:p")), DialogError::Malformed);
        let mut untagged = answer(200, BOB, "");
        untagged.headers.set(HeaderName::To, "<sip:bob@b.example>");
        assert_eq!(uac(&untagged), DialogError::NoTag);
        let mut request = invite("");
        request.headers.remove(&HeaderName::Contact);
        assert_eq!(Dialog::uas(&request, "us"), Err(DialogError::NoContact));
    }

    #[test]
    fn both_sides_and_their_messages_name_the_dialog_alike() {
        let response = answer(200, BOB, "");
        let mut caller = Dialog::uac(&invite(""), &response).unwrap();
        let mut callee = Dialog::uas(&invite(""), "b").unwrap();
        assert_eq!(DialogId::of_response(&response), Some(caller.id.clone()));
        assert_eq!(
            DialogId::of_request(&caller.make_request(Method::Bye)),
            Some(callee.id.clone())
        );
        assert_eq!(DialogId::of_request(&callee.make_request(Method::Bye)), Some(caller.id));
        assert_eq!(DialogId::of_request(&invite("")), None);
    }

    #[test]
    fn a_request_with_a_lower_number_is_out_of_order() {
        let mut dialog = Dialog::uas(&invite(""), "us").unwrap();
        let mut check = |number: u32, method: &str| {
            let request = invite("").with(HeaderName::Subject, "x");
            let mut request =
                Request { method: Method::from_bytes(method.as_bytes()).unwrap(), ..request };
            request.headers.set(HeaderName::CSeq, format!("{number} {method}"));
            dialog.check_remote_cseq(&request)
        };
        assert_eq!(check(4, "INFO"), Err(DialogError::OutOfOrder));
        assert_eq!(check(5, "INFO"), Ok(()));
        assert_eq!(check(9, "INVITE"), Ok(()));
        assert_eq!(check(8, "BYE"), Err(DialogError::OutOfOrder));
        assert_eq!(check(5, "ACK"), Ok(()));
        assert_eq!(check(5, "CANCEL"), Ok(()));
        assert_eq!(check(9, "BYE"), Ok(()));
    }

    #[test]
    fn the_target_moves_with_the_contact_and_the_route_stays() {
        let mut dialog = Dialog::uac(&invite(""), &answer(200, BOB, "<sip:p1;lr>")).unwrap();
        let moved = answer(200, "<sip:bob@198.51.100.7>", "<sip:p9;lr>");
        assert!(dialog.refresh_target(&moved.headers));
        assert!(!dialog.refresh_target(&moved.headers));
        assert!(!dialog.refresh_target(&answer(200, "", "").headers));
        assert_eq!(dialog.remote_target.to_string(), "sip:bob@198.51.100.7");
        assert_eq!(dialog.next_hop().to_string(), "sip:p1;lr");
    }

    #[test]
    fn after_a_takeover_the_number_leaps_and_never_beyond_the_largest() {
        let mut dialog = Dialog::uas(&invite(""), "us").unwrap();
        let stored = postcard::to_stdvec(&dialog).unwrap();
        assert_eq!(postcard::from_bytes(&stored), Ok(dialog.clone()));
        dialog.leap_cseq(100);
        assert_eq!(dialog.make_request(Method::Bye).headers.cseq(), Ok((101, Method::Bye)));
        dialog.leap_cseq(u32::MAX);
        assert_eq!(dialog.make_request(Method::Bye).headers.cseq(), Ok((CSEQ_MAX, Method::Bye)));
    }
}
