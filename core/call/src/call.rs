//! The call as a state machine.
//!
//! ```text
//!             all refused / time / cancelled
//!   Ringing ----------------------------------> Ended
//!      | a leg answers                            ^
//!      v                                          |
//!   Answered -------------------------------------+
//!             BYE of either side / a side vanished
//! ```

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tandem_types::{Duration, Epoch, Instant};

use crate::cdr::{Cdr, Ending, Outcome, cause_of_status};
use crate::names::{LegId, Lost, Method, RequestId, Side};
use crate::passing::Passing;
use crate::trail::{CallEvent, Trail};

/// What happened on one of the sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A device sent a provisional response above 100.
    Progress {
        /// The device.
        leg: LegId,
        /// 101 to 199.
        status: u16,
        /// What it carries.
        passing: Passing,
    },
    /// A device answered the INVITE with 2xx.
    Answered {
        /// The device.
        leg: LegId,
        /// What it carries.
        passing: Passing,
    },
    /// A device refused: 3xx to 6xx, or 408 after silence, or 503 where it cannot be reached.
    Refused {
        /// The device.
        leg: LegId,
        /// 300 to 699.
        status: u16,
        /// What it carries.
        passing: Passing,
    },
    /// The caller cancelled.
    Cancelled,
    /// ACK for the 200 to the first INVITE (`request` is `None`) or to a re-INVITE.
    Acked {
        /// The re-INVITE.
        request: Option<RequestId>,
        /// What it carries: an answer where the offer came with the 200.
        passing: Passing,
    },
    /// A request inside the dialog of `leg`, received on `side`.
    Requested {
        /// The leg.
        leg: LegId,
        /// Where it came from.
        side: Side,
        /// Its name from here on.
        request: RequestId,
        /// Its kind.
        method: Method,
        /// What it carries.
        passing: Passing,
    },
    /// The re-INVITE `request` was cancelled by who sent it.
    RequestCancelled {
        /// The request.
        request: RequestId,
    },
    /// A response to [`Output::Request`]; 408 after silence.
    Responded {
        /// The request.
        request: RequestId,
        /// 101 to 699.
        status: u16,
        /// What it carries.
        passing: Passing,
    },
    /// BYE received on `side`; the layer above answers it.
    HungUp {
        /// The leg.
        leg: LegId,
        /// Where it came from.
        side: Side,
        /// What it carries (a Reason).
        passing: Passing,
    },
    /// The record of this call was closed elsewhere, as saying this.
    Closed {
        /// What the caller was told; 200 where somebody answered.
        status: u16,
        /// The Q.850 cause.
        cause: u8,
        /// Who ended it there.
        ending: Ending,
    },
    /// A side is gone.
    Gone {
        /// The leg.
        leg: LegId,
        /// Which side.
        side: Side,
        /// Why.
        why: Lost,
    },
}

/// What to say on one of the sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Cancel the INVITE to this device.
    Cancel(LegId),
    /// Acknowledge the device's 2xx (`request` is `None`), or its 2xx to a re-INVITE.
    Ack {
        /// The leg.
        leg: LegId,
        /// The re-INVITE this acknowledges.
        request: Option<RequestId>,
        /// What it carries.
        passing: Passing,
    },
    /// End the dialog with the caller, once the 200 to its INVITE is acknowledged or given up: no
    /// BYE may come before (RFC 3261 §15).
    ByeAfterAck {
        /// The leg.
        leg: LegId,
        /// What it carries (a Reason).
        passing: Passing,
    },
    /// End the dialog on this side.
    Bye {
        /// The leg.
        leg: LegId,
        /// Which side.
        side: Side,
        /// What it carries (a Reason).
        passing: Passing,
    },
    /// A provisional response to the caller, in the near dialog of this leg.
    Progress {
        /// The leg.
        leg: LegId,
        /// 101 to 199.
        status: u16,
        /// What it carries.
        passing: Passing,
    },
    /// 200 to the caller's INVITE, in the near dialog of this leg.
    Answer {
        /// The leg.
        leg: LegId,
        /// What it carries.
        passing: Passing,
    },
    /// The final refusal of the caller's INVITE.
    Refuse {
        /// 300 to 699.
        status: u16,
        /// Q.850 cause for the Reason header (RFC 3326).
        cause: u8,
        /// What it carries.
        passing: Passing,
    },
    /// Send a request on this side; report the responses as [`Input::Responded`].
    Request {
        /// The leg.
        leg: LegId,
        /// Which side.
        side: Side,
        /// Its name.
        request: RequestId,
        /// Its kind.
        method: Method,
        /// What it carries.
        passing: Passing,
    },
    /// Cancel a re-INVITE sent by [`Output::Request`].
    CancelRequest {
        /// Its name.
        request: RequestId,
    },
    /// Answer a request that was received.
    Respond {
        /// The request.
        request: RequestId,
        /// 101 to 699.
        status: u16,
        /// What it carries.
        passing: Passing,
    },
    /// The call is over and its record closed.
    Ended,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum State {
    Ringing,
    Answered { leg: LegId, acked: bool },
    Ended,
}

/// A device's part in the call while it rings.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum Leg {
    Ringing,
    /// We cancelled it, or it answered too late; it does not count any more.
    Dropped,
    Refused {
        status: u16,
        passing: Passing,
    },
    Answered,
}

/// A request that passes through and is not answered yet, or a re-INVITE that waits for its ACK.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Pending {
    leg: LegId,
    /// Where the answer goes: the side it came from. `None`: the server's own question.
    from: Option<Side>,
    /// Where it was sent.
    to: Side,
    method: Method,
    answered: bool,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    state: State,
    legs: BTreeMap<LegId, Leg>,
    pending: BTreeMap<RequestId, Pending>,
    /// While ringing: when the server gives up. While answered: when it asks both sides whether
    /// they are still there.
    deadline: Instant,
    /// Own requests count down from the top, so they never meet the numbers of the layer above.
    next_own: u32,
    /// Whether both sides are asked soon after an answer: it may be an old one.
    doubted: bool,
    /// Questions in a row that each side left without any answer.
    misses: BTreeMap<Side, u8>,
    cdr: Cdr,
    trail: Trail,
    outputs: VecDeque<Output>,
}

/// A call as it is stored; the time is what remained.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CallCheckpoint {
    state: State,
    legs: BTreeMap<LegId, Leg>,
    pending: BTreeMap<RequestId, Pending>,
    deadline: Duration,
    next_own: u32,
    misses: BTreeMap<Side, u8>,
    cdr: Cdr,
    trail: Trail,
}

impl CallCheckpoint {
    /// Without requests that are under way: for a call whose transactions are lost.
    #[must_use]
    pub fn without_requests(self) -> Self {
        Self { pending: BTreeMap::new(), ..self }
    }

    /// The record and the events of the call as of the checkpoint.
    pub fn into_cdr(self) -> (Cdr, Trail) {
        (self.cdr, self.trail)
    }
}

/// Ringing longer than this is no answer.
pub const RING_MAX: Duration = Duration::from_secs(180);

/// Pause between two questions whether both sides of an answered call are still there.
pub const AUDIT_PAUSE: Duration = Duration::from_secs(15 * 60);

/// After a takeover, and after both servers have served, the first such question comes this soon: a side may have
/// hung up in between.
pub const AUDIT_AFTER_TAKEOVER: Duration = Duration::from_secs(20);

/// The questions after a takeover are spread over this much more time, lest all calls ask at once.
pub const AUDIT_SPREAD: Duration = Duration::from_secs(40);

/// Requests of the two sides that may be under way in one call; further ones are answered 500 with
/// Retry-After, as RFC 3261 §14.2 has it for one INVITE too many.
pub const REQUESTS_MAX: usize = 16;

/// So many questions in a row without any answer, and the side is taken for gone.
pub const AUDIT_MISSES_MAX: u8 = 3;

impl Call {
    /// A call that rings at `legs`, which must not be empty.
    pub fn new(now: Instant, legs: impl IntoIterator<Item = LegId>, cdr: Cdr) -> Self {
        let legs: BTreeMap<LegId, Leg> = legs.into_iter().map(|leg| (leg, Leg::Ringing)).collect();
        let mut trail = Trail::default();
        for leg in legs.keys() {
            trail.note(cdr.start, cdr.start, CallEvent::Attempt { leg: *leg });
        }
        Self {
            state: State::Ringing,
            legs,
            pending: BTreeMap::new(),
            deadline: now + RING_MAX,
            next_own: u32::MAX,
            doubted: false,
            misses: BTreeMap::new(),
            cdr,
            trail,
            outputs: VecDeque::new(),
        }
    }

    /// The record as of now.
    pub fn cdr(&self) -> &Cdr {
        &self.cdr
    }

    /// What happened so far.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// This server goes on with the call, in this reign; `wall` is microseconds since 1970 UTC.
    pub fn taken_over(&mut self, wall: i64, epoch: Epoch) {
        self.note(wall, CallEvent::TakenOver { epoch });
    }

    /// Both sides of an answered call are asked soon whether they are still there: who hung up may have been heard
    /// by the twin alone. Where it still rings here, that is once it is answered: it may have been answered there, and
    /// be over.
    pub fn ask_soon(&mut self, now: Instant) {
        match self.state {
            State::Ringing => self.doubted = true,
            State::Answered { .. } => {
                let soon = now + AUDIT_AFTER_TAKEOVER + spread(&self.cdr.call_id);
                self.deadline = self.deadline.min(soon);
            }
            State::Ended => {}
        }
    }

    /// The device's number, name and contact, once it is known who answered.
    pub fn set_destination_device(&mut self, device: String) {
        self.cdr.destination_device = device;
    }

    /// The leg that answered.
    pub fn answered_by(&self) -> Option<LegId> {
        match self.state {
            State::Answered { leg, .. } => Some(leg),
            State::Ringing | State::Ended => None,
        }
    }

    /// Whether the caller has acknowledged an answer: he does not repeat his INVITE any more.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.state, State::Answered { acked: true, .. })
    }

    /// Whether the call is over.
    pub fn is_over(&self) -> bool {
        self.state == State::Ended
    }

    /// One change; `wall` is microseconds since 1970 UTC. Then drain [`Call::poll_output`].
    pub fn handle(&mut self, now: Instant, wall: i64, input: Input) {
        match input {
            Input::Progress { leg, status, passing } => self.progress(wall, leg, status, passing),
            Input::Answered { leg, passing } => self.answered(now, wall, leg, passing),
            Input::Refused { leg, status, passing } => self.refused(wall, leg, status, passing),
            Input::Cancelled => self.cancelled(wall),
            Input::Acked { request, passing } => self.acked(request, passing),
            Input::Requested { leg, side, request, method, passing } => {
                self.requested(leg, side, request, method, passing);
            }
            Input::RequestCancelled { request } => self.request_cancelled(request),
            Input::Responded { request, status, passing } => {
                self.responded(wall, request, status, passing);
            }
            Input::HungUp { leg, side, passing } => self.hung_up(wall, leg, side, passing),
            Input::Closed { status, cause, ending } => self.closed(wall, status, cause, ending),
            Input::Gone { leg, side, why } => self.gone(wall, leg, side, why),
        }
    }

    /// The next thing to say, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Call::handle_timeout`], if ever.
    pub fn next_timeout(&self) -> Option<Instant> {
        (!self.is_over()).then_some(self.deadline)
    }

    /// Does what is due. Whether anything was.
    pub fn handle_timeout(&mut self, now: Instant, wall: i64) -> bool {
        if self.is_over() || self.deadline > now {
            return false;
        }
        match self.state {
            State::Ringing => {
                self.drop_ringing(wall, None);
                self.refuse(wall, 480, 19, Passing::default(), Outcome::NoAnswer, Ending::Server);
            }
            State::Answered { leg, .. } => {
                self.deadline = now + AUDIT_PAUSE;
                self.ask(leg, Side::Near);
                self.ask(leg, Side::Far);
            }
            State::Ended => {}
        }
        true
    }

    /// For the twin.
    pub fn checkpoint(&self, now: Instant) -> CallCheckpoint {
        CallCheckpoint {
            state: self.state,
            legs: self.legs.clone(),
            pending: self.pending.clone(),
            deadline: self.deadline.remaining_from(now),
            next_own: self.next_own,
            misses: self.misses.clone(),
            cdr: self.cdr.clone(),
            trail: self.trail.clone(),
        }
    }

    /// On takeover: `age` has passed since the checkpoint.
    pub fn restore(now: Instant, checkpoint: CallCheckpoint, age: Duration) -> Self {
        let CallCheckpoint { state, legs, pending, deadline, next_own, misses, cdr, trail } =
            checkpoint;
        let mut remaining = deadline.saturating_sub(age);
        if matches!(state, State::Answered { .. }) {
            remaining = remaining.min(AUDIT_AFTER_TAKEOVER + spread(&cdr.call_id));
        }
        Self {
            state,
            legs,
            pending,
            deadline: now + remaining,
            next_own,
            // The twin may have had more of it than we have.
            doubted: true,
            misses,
            cdr,
            trail,
            outputs: VecDeque::new(),
        }
    }

    fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn note(&mut self, wall: i64, event: CallEvent) {
        self.trail.note(self.cdr.start, wall, event);
    }

    fn progress(&mut self, wall: i64, leg: LegId, status: u16, passing: Passing) {
        if self.state == State::Ringing && self.legs.get(&leg) == Some(&Leg::Ringing) {
            if status >= 180 {
                self.cdr.delivered_at(wall);
                let rings = CallEvent::Ringing { leg };
                if !self.trail.has(rings) {
                    self.note(wall, rings);
                }
            }
            self.say(Output::Progress { leg, status, passing });
        }
    }

    fn answered(&mut self, now: Instant, wall: i64, leg: LegId, passing: Passing) {
        let rang = self.legs.get(&leg) == Some(&Leg::Ringing);
        if self.state == State::Ringing && rang {
            self.note(wall, CallEvent::Answered { leg });
            self.drop_ringing(wall, Some(leg));
            self.legs.insert(leg, Leg::Answered);
            self.state = State::Answered { leg, acked: false };
            self.deadline = now + AUDIT_PAUSE;
            if self.doubted {
                self.ask_soon(now);
            }
            self.cdr.connected_at(wall);
            self.cdr.sip_status = 200;
            self.say(Output::Answer { leg, passing });
        } else if self.legs.get(&leg) != Some(&Leg::Answered) {
            // Answered while our CANCEL was under way: it must be acknowledged, then ended.
            self.say(Output::Ack { leg, request: None, passing: Passing::default() });
            self.say(Output::Bye { leg, side: Side::Far, passing: Passing::default() });
        }
    }

    fn refused(&mut self, wall: i64, leg: LegId, status: u16, passing: Passing) {
        if self.state != State::Ringing || self.legs.get(&leg) != Some(&Leg::Ringing) {
            return;
        }
        self.note(wall, CallEvent::Refused { leg, status });
        self.legs.insert(leg, Leg::Refused { status, passing });
        if status >= 600 {
            self.drop_ringing(wall, None);
        }
        if self.legs.values().any(|leg| *leg == Leg::Ringing) {
            return;
        }
        let (status, passing) = self.best_refusal();
        let (status, outcome) = match status {
            // A device that asks for a proof asks the server, not the caller; one that says
            // "cancelled" was not cancelled by the caller.
            401 | 407 | 487 => (480, Outcome::Refused),
            486 | 600 => (status, Outcome::Busy),
            408 => (480, Outcome::Failed),
            503 => (480, Outcome::Failed),
            480 => (status, Outcome::NoAnswer),
            300..=399 => (480, Outcome::Refused),
            _ => (status, Outcome::Refused),
        };
        self.refuse(wall, status, cause_of_status(status), passing, outcome, Ending::Callee);
    }

    /// Of several refusals the one that says most: 6xx, busy, then the lowest other than "not
    /// reached" (in the spirit of RFC 3261 §16.7 step 6).
    fn best_refusal(&self) -> (u16, Passing) {
        let rank = |status: u16| match status {
            600..=699 => (0, status),
            486 => (1, status),
            408 | 503 => (3, status),
            _ => (2, status),
        };
        self.legs
            .values()
            .filter_map(|leg| match leg {
                Leg::Refused { status, passing } => Some((*status, passing.clone())),
                Leg::Ringing | Leg::Dropped | Leg::Answered => None,
            })
            .min_by_key(|(status, _)| rank(*status))
            .unwrap_or((480, Passing::default()))
    }

    fn cancelled(&mut self, wall: i64) {
        if self.state == State::Ringing {
            self.drop_ringing(wall, None);
            let passing = Passing::default();
            self.refuse(wall, 487, 16, passing, Outcome::Cancelled, Ending::Caller);
        }
    }

    fn acked(&mut self, request: Option<RequestId>, passing: Passing) {
        match (request, self.state) {
            (None, State::Answered { leg, acked: false }) => {
                self.state = State::Answered { leg, acked: true };
                self.say(Output::Ack { leg, request: None, passing });
            }
            (Some(id), State::Answered { .. }) => {
                if let Some(pending) = self.pending.remove(&id) {
                    self.say(Output::Ack { leg: pending.leg, request: Some(id), passing });
                }
            }
            (None | Some(_), State::Ringing | State::Answered { .. } | State::Ended) => {}
        }
    }

    fn requested(
        &mut self,
        leg: LegId,
        side: Side,
        request: RequestId,
        method: Method,
        passing: Passing,
    ) {
        let alive = matches!(self.legs.get(&leg), Some(Leg::Ringing | Leg::Answered));
        if self.is_over() || !alive {
            self.say(Output::Respond { request, status: 481, passing: Passing::default() });
            return;
        }
        if method == Method::Options {
            self.say(Output::Respond { request, status: 200, passing: Passing::default() });
            return;
        }
        if self.pending.len() >= REQUESTS_MAX {
            self.say(Output::Respond { request, status: 500, passing: Passing::default() });
            return;
        }
        if method == Method::Invite {
            // RFC 3261 §14.2: one INVITE at a time in each direction.
            let open = |from: Side| {
                self.pending.values().any(|pending| {
                    pending.method == Method::Invite
                        && !pending.answered
                        && pending.leg == leg
                        && pending.from == Some(from)
                })
            };
            let refusal = match (open(side), open(side.other())) {
                (true, _) => Some(500),
                (false, true) => Some(491),
                (false, false) => None,
            };
            if let Some(status) = refusal {
                self.say(Output::Respond { request, status, passing: Passing::default() });
                return;
            }
        }
        let to = side.other();
        let pending = Pending { leg, from: Some(side), to, method, answered: false };
        self.pending.insert(request, pending);
        self.say(Output::Request { leg, side: to, request, method, passing });
    }

    /// RFC 3261 §9: CANCEL goes hop by hop; the answer to the re-INVITE itself comes from the other
    /// side, 487 or, where the CANCEL came too late, 200.
    fn request_cancelled(&mut self, request: RequestId) {
        let open = self.pending.get(&request).is_some_and(|pending| !pending.answered);
        if open {
            self.say(Output::CancelRequest { request });
        }
    }

    fn responded(&mut self, wall: i64, request: RequestId, status: u16, passing: Passing) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        let (leg, to, from, method) = (pending.leg, pending.to, pending.from, pending.method);
        // A question for a password is not for the other side, which could not answer it.
        let status = if matches!(status, 401 | 407) { 403 } else { status };
        if status < 200 {
            if from.is_some() {
                self.say(Output::Respond { request, status, passing });
            }
            return;
        }
        if pending.method == Method::Invite && status < 300 {
            pending.answered = true;
        } else {
            self.pending.remove(&request);
        }
        if from.is_some() {
            self.say(Output::Respond { request, status, passing });
            // RFC 5057 §5.1: that side knows the call no more. (A PRACK may fail so by itself.)
            if status == 481 && matches!(method, Method::Invite | Method::Update) {
                self.gone(wall, leg, to, Lost::Unknown);
            }
        } else if self.is_lost(to, status) {
            self.gone(wall, leg, to, Lost::Unknown);
        }
    }

    fn hung_up(&mut self, wall: i64, leg: LegId, side: Side, passing: Passing) {
        match self.state {
            State::Answered { leg: winner, acked } if winner == leg => {
                if !acked {
                    // Hung up before the caller's ACK came: the device still waits for one.
                    self.say(Output::Ack { leg, request: None, passing: Passing::default() });
                }
                let ending = match side {
                    Side::Near => Ending::Caller,
                    Side::Far => Ending::Callee,
                };
                self.bye(leg, side.other(), acked, passing);
                self.end(wall, Outcome::Answered, ending, 16);
            }
            // A caller may end one early dialog (RFC 3261 §15): that device rings no longer.
            State::Ringing if self.legs.get(&leg) == Some(&Leg::Ringing) => {
                self.say(Output::Cancel(leg));
                self.refused(wall, leg, 480, Passing::default());
                if self.is_over() && side == Side::Near {
                    self.cdr.close(wall, Outcome::Cancelled, Ending::Caller, 16);
                }
            }
            State::Ringing | State::Answered { .. } | State::Ended => {}
        }
    }

    /// The caller hears what the record says. Where that is an answer that never came here, or
    /// nothing, the call was as good as cancelled. Where it was answered here, both sides are hung up.
    fn closed(&mut self, wall: i64, status: u16, cause: u8, ending: Ending) {
        match self.state {
            State::Ringing if status >= 300 => {
                self.drop_ringing(wall, None);
                let passing = Passing::default();
                self.refuse(wall, status, cause, passing, Outcome::Refused, Ending::Server);
            }
            State::Ringing => self.cancelled(wall),
            State::Answered { leg, acked } => {
                self.leave(leg, acked, Side::Near, Lost::NoAck);
                self.end(wall, Outcome::Answered, ending, 16);
            }
            State::Ended => {}
        }
    }

    fn gone(&mut self, wall: i64, leg: LegId, side: Side, why: Lost) {
        let State::Answered { leg: winner, acked } = self.state else { return };
        if winner != leg {
            return;
        }
        self.leave(leg, acked, side, why);
        // Q.850 27: destination out of order.
        self.end(wall, Outcome::Answered, Ending::Lost, 27);
    }

    /// Says to both sides that it is over; to this one only where it may still listen.
    fn leave(&mut self, leg: LegId, acked: bool, side: Side, why: Lost) {
        if !acked {
            self.say(Output::Ack { leg, request: None, passing: Passing::default() });
        }
        if why == Lost::NoAck {
            self.say(Output::Bye { leg, side, passing: Passing::default() });
        }
        self.bye(leg, side.other(), acked, Passing::default());
    }

    fn bye(&mut self, leg: LegId, side: Side, acked: bool, passing: Passing) {
        self.say(match side {
            Side::Near if !acked => Output::ByeAfterAck { leg, passing },
            Side::Near | Side::Far => Output::Bye { leg, side, passing },
        });
    }

    /// Whether this answer to the server's own question means that the side is gone: it knows the
    /// call no more (RFC 5057 §5), or was silent too often. Some phones never answer OPTIONS in a
    /// dialog; a call is not ended for a single silence.
    fn is_lost(&mut self, side: Side, status: u16) -> bool {
        if status == 408 || status == 503 {
            let misses = self.misses.entry(side).or_default();
            *misses = misses.saturating_add(1);
            return *misses >= AUDIT_MISSES_MAX;
        }
        self.misses.remove(&side);
        matches!(status, 404 | 410 | 481 | 604)
    }

    /// The server's own question whether a side still knows the call.
    fn ask(&mut self, leg: LegId, side: Side) {
        let request = RequestId(self.next_own);
        self.next_own = self.next_own.wrapping_sub(1);
        let method = Method::Options;
        let pending = Pending { leg, from: None, to: side, method, answered: false };
        self.pending.insert(request, pending);
        self.say(Output::Request { leg, side, request, method, passing: Passing::default() });
    }

    /// Stops every device that still rings, but `keep`.
    fn drop_ringing(&mut self, wall: i64, keep: Option<LegId>) {
        for (leg, state) in &mut self.legs {
            if *state == Leg::Ringing && Some(*leg) != keep {
                *state = Leg::Dropped;
                self.trail.note(self.cdr.start, wall, CallEvent::Cancelled { leg: *leg });
                self.outputs.push_back(Output::Cancel(*leg));
            }
        }
    }

    fn refuse(
        &mut self,
        wall: i64,
        status: u16,
        cause: u8,
        passing: Passing,
        outcome: Outcome,
        ending: Ending,
    ) {
        self.cdr.sip_status = status;
        self.say(Output::Refuse { status, cause, passing });
        self.end(wall, outcome, ending, cause);
    }

    /// Requests that are still open get 487 (RFC 3261 §15.1.2); the record is closed.
    fn end(&mut self, wall: i64, outcome: Outcome, ending: Ending, cause: u8) {
        for (request, pending) in core::mem::take(&mut self.pending) {
            if pending.from.is_some() && !pending.answered {
                if pending.method == Method::Invite {
                    // Lest the other side leave it open for ever.
                    self.say(Output::CancelRequest { request });
                }
                self.say(Output::Respond { request, status: 487, passing: Passing::default() });
            }
        }
        self.state = State::Ended;
        self.cdr.close(wall, outcome, ending, cause);
        self.say(Output::Ended);
    }
}

/// The part of [`AUDIT_SPREAD`] that falls to this call.
fn spread(call_id: &str) -> Duration {
    let sum = call_id.bytes().fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000_003);
    AUDIT_SPREAD * u32::try_from(sum % 1_000).unwrap_or(0) / 1_000
}
