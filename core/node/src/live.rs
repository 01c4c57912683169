//! A call with everything that ties it to messages: dialogs, transactions, pending requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_call::{Call, CallCheckpoint, LegId, Passing, RequestId, Side, Trail};
use tandem_sip::{HeaderName, Method, Request, Uri};
use tandem_stack::{ClientId, Dialog, ServerId};
use tandem_types::{Duration, Flow, Instant};

use crate::record::{self, CallEvents};

/// What belongs to a call besides its state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Ties {
    /// The caller's INVITE.
    pub(crate) invite: ServerId,
    /// Its header fields, without the body: responses and dialogs are made from it.
    pub(crate) request: Request,
    /// How the caller was last heard.
    pub(crate) flow: Flow,
    /// The number dialled: the user part of our Contact towards the caller.
    pub(crate) dialled: String,
    /// The caller's number: the user part of our Contact towards the devices.
    pub(crate) caller: String,
    /// The devices.
    pub(crate) ports: BTreeMap<LegId, Port>,
    /// Requests that pass through.
    pub(crate) through: BTreeMap<RequestId, Through>,
    /// The BYE that the caller gets when its ACK is there.
    pub(crate) farewell: Option<(LegId, Passing)>,
    /// The next [`RequestId`].
    pub(crate) next_request: u32,
}

impl Ties {
    /// What is kept for good of a call's events.
    pub(crate) fn events(&self, trail: Trail) -> CallEvents {
        let device = |(leg, port): (&LegId, &Port)| (*leg, format!("{} {}", port.uri, port.flow));
        CallEvents { devices: self.ports.iter().map(device).collect(), trail }
    }
}

/// The two dialogs of a leg.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Port {
    /// The device's contact.
    pub(crate) uri: Uri,
    /// How the device was last heard.
    pub(crate) flow: Flow,
    /// Our INVITE to it.
    pub(crate) invite: ClientId,
    /// That INVITE, without the body.
    pub(crate) request: Request,
    /// Whether its final response is still to come.
    pub(crate) waiting: bool,
    /// With the device, from its first response with a tag.
    pub(crate) far: Option<Dialog>,
    /// Our tag towards the caller for this leg.
    pub(crate) near_tag: String,
    /// With the caller, from our first response with that tag.
    pub(crate) near: Option<Dialog>,
}

impl Port {
    pub(crate) fn dialog(&mut self, side: Side) -> Option<&mut Dialog> {
        match side {
            Side::Near => self.near.as_mut(),
            Side::Far => self.far.as_mut(),
        }
    }
}

/// A request on its way from one side to the other, or a re-INVITE that waits for its ACK.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Through {
    /// The leg.
    pub(crate) leg: LegId,
    /// As it came in, without the body; `None`: our own.
    pub(crate) received: Option<(ServerId, Side, Request)>,
    /// As it went out, and its CSeq number.
    pub(crate) sent: Option<(ClientId, Side, u32)>,
}

/// A call and its ties.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) call: Call,
    pub(crate) ties: Ties,
    /// The closed record is written once.
    pub(crate) recorded: bool,
}

/// How a live call is stored.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct LiveRecord {
    pub(crate) call: CallCheckpoint,
    pub(crate) ties: Ties,
    pub(crate) recorded: bool,
}

/// After a takeover our CSeq numbers go on this far ahead: the dead server may have used some that
/// we never heard of. Gaps are allowed, going back is not (RFC 3261 §12.2.1.1).
pub(crate) const CSEQ_LEAP: u32 = 100;

impl LiveRecord {
    /// The transactions of this call are lost: nothing that they would bring is waited for.
    pub(crate) fn without_transactions(&mut self) {
        self.call = self.call.clone().without_requests();
        self.ties.through.clear();
        self.ties.farewell = None;
        self.ties.ports.values_mut().for_each(|port| port.waiting = false);
    }
}

/// As [`LiveRecord`], and encoded the same, without a copy of the ties.
#[derive(Serialize)]
struct LiveView<'a> {
    call: CallCheckpoint,
    ties: &'a Ties,
    recorded: bool,
}

impl Live {
    /// For the twin.
    pub(crate) fn encode(&self, now: Instant) -> Vec<u8> {
        let call = self.call.checkpoint(now);
        record::encode(&LiveView { call, ties: &self.ties, recorded: self.recorded })
    }

    /// On takeover.
    pub(crate) fn restore(now: Instant, record: LiveRecord, age: Duration) -> Self {
        let LiveRecord { call, mut ties, recorded } = record;
        for port in ties.ports.values_mut() {
            for dialog in [port.near.as_mut(), port.far.as_mut()].into_iter().flatten() {
                dialog.leap_cseq(CSEQ_LEAP);
            }
        }
        Self { call: Call::restore(now, call, age), ties, recorded }
    }

    /// Whether nothing more can come: the call is over, and neither does a device owe us a final
    /// response, nor do we owe the caller a BYE.
    pub(crate) fn is_finished(&self) -> bool {
        let owed = self.ties.farewell.is_some() || self.ties.ports.values().any(|it| it.waiting);
        self.call.is_over() && !owed
    }

    /// A name for a request that passes through.
    pub(crate) fn name_request(&mut self) -> RequestId {
        let id = RequestId(self.ties.next_request);
        self.ties.next_request = self.ties.next_request.wrapping_add(1);
        id
    }
}

/// The header fields that responses and dialogs are made from, without the rest and the body.
pub(crate) fn head(request: &Request) -> Request {
    let mut head = Request {
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: request.headers.clone(),
        body: Vec::new(),
    };
    head.headers.retain(|header| {
        matches!(
            header.name(),
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::Contact
                | HeaderName::RecordRoute
                | HeaderName::Route
        )
    });
    head
}

/// What a transaction is to its call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// The caller's INVITE.
    Caller,
    /// Our INVITE to a device.
    Device(LegId),
    /// A request that passes through, on either side.
    Through(RequestId),
    /// BYE: the call is over, whatever comes of it.
    Farewell,
}

/// Which requests end with their final response; an INVITE goes on until its ACK.
pub(crate) fn ends_with_response(method: &Method) -> bool {
    *method != Method::Invite
}
