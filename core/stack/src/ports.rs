//! What goes into a stack when it is made, what comes out of it, and its limits.

use crate::id::{ClientId, ServerId, TransactionId};
use crate::machine::FailReason;
use tandem_sip::{Limits, Request, Response};
use tandem_types::{Duration, Flow};

/// Server transactions that requests from one address may hold ([`Config::per_source`]).
pub const MAX_PER_SOURCE: usize = 32_768;
/// Server transactions in all ([`Config::servers`]).
pub const MAX_SERVERS: usize = 131_072;
/// Client transactions in all ([`Config::clients`]).
pub const MAX_CLIENTS: usize = 262_144;
/// Answers a second to requests that get no transaction; further ones are dropped unanswered.
pub const MAX_STATELESS_PER_SECOND: u32 = 1_000;
/// What a 503 asks the other side to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a stack must know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the pair, the same on both servers: it marks our Via branches, so that a
    /// request that comes back is known (RFC 3261 §8.2.2.2).
    pub server_name: String,
    /// What To tags are made of, a secret: the same on both servers, so that a copy of a request that comes to each of
    /// them hears one answer, not two (RFC 3261 §8.2.7). `None`: one of this server alone.
    pub tag_secret: Option<u64>,
    /// What a message may hold.
    pub limits: Limits,
    /// Server transactions for one source: an IPv4 address or an IPv6 /64. Beyond: 503.
    pub per_source: usize,
    /// Server transactions in all. Beyond: 503.
    pub servers: usize,
    /// Client transactions in all. Beyond: they fail at once.
    pub clients: usize,
    /// Answers a second without a transaction. Beyond: silence.
    pub stateless_per_second: u32,
}

impl Config {
    /// The limits of this module.
    pub fn new(server_name: impl Into<String>) -> Self {
        Self {
            server_name: server_name.into(),
            tag_secret: None,
            limits: Limits::default(),
            per_source: MAX_PER_SOURCE,
            servers: MAX_SERVERS,
            clients: MAX_CLIENTS,
            stateless_per_second: MAX_STATELESS_PER_SECOND,
        }
    }
}

/// What the stack did, since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Datagrams and framed messages handed in.
    pub received: u64,
    /// Of these, empty ones that keep a NAT open.
    pub keep_alives: u64,
    /// Of these, not understood.
    pub malformed: u64,
    /// New server transactions.
    pub requests: u64,
    /// Requests that came again.
    pub repeated_requests: u64,
    /// Responses that match no request of ours.
    pub stray_responses: u64,
    /// ACKs that match no answered INVITE.
    pub stray_acks: u64,
    /// Requests refused because of a limit on transactions.
    pub over_limit: u64,
    /// Answers without a transaction: 400, 481, 482, 483, 503 and their like.
    pub stateless_answers: u64,
    /// Requests dropped because there were too many such answers.
    pub dropped: u64,
    /// New client transactions.
    pub sent_requests: u64,
    /// Client transactions that got no final response.
    pub failed: u64,
    /// Messages sent again.
    pub repeats: u64,
}

/// A message to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// Where to.
    pub flow: Flow,
    /// The message.
    pub bytes: Vec<u8>,
    /// Whose message it is; `None`: an answer that rests on no state.
    pub transaction: Option<TransactionId>,
    /// Whether this message was handed out before, or may have been by the twin.
    pub repeat: bool,
}

/// What the transaction user must know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A new request other than ACK and CANCEL. An INVITE gets no 100 by itself.
    Request {
        /// Answer by this.
        id: ServerId,
        /// How it came.
        flow: Flow,
        /// The request; its top Via says where it came from (RFC 3261 §18.2.1, RFC 3581).
        request: Request,
    },
    /// A CANCEL for an INVITE that has no final response. The CANCEL is answered; the INVITE is
    /// not: answer it 487.
    Cancelled {
        /// The INVITE.
        invite: ServerId,
        /// The CANCEL: known to the twin, it is answered the same there when it comes again.
        cancel: ServerId,
    },
    /// An ACK for a 2xx. Repeated ones are not reported again while the INVITE is known.
    Ack {
        /// The INVITE; `None`: it is not known (any more).
        invite: Option<ServerId>,
        /// How it came.
        flow: Flow,
        /// The ACK.
        request: Request,
    },
    /// A response: each provisional one, and one final one; for INVITE one 2xx for each To tag.
    Response {
        /// The request.
        id: ClientId,
        /// How it came.
        flow: Flow,
        /// The response.
        response: Response,
    },
    /// No final response will come.
    Failed {
        /// The request.
        id: ClientId,
        /// Why.
        reason: FailReason,
    },
    /// The 2xx to this INVITE was sent for 64*T1 and never acknowledged (RFC 3261 §13.3.1.4: end
    /// the call with BYE).
    NoAck {
        /// The INVITE.
        id: ServerId,
    },
}
