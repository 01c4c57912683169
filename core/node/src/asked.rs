//! What administrators asked for at this server while it was passive, until somebody answers.
//!
//! The active server answers over the link. Where it goes away first, the question stays for whoever
//! serves next: the twin, when the link is back, or this server, when it takes over.

use std::collections::BTreeMap;

use tandem_types::{Duration, Instant};

use crate::admin::Aside;
use crate::node::Node;
use crate::outbox::Parcel;
use crate::ports::{Output, Reply, Request};
use crate::record;

/// Questions that are not answered yet, at most.
const QUESTIONS_MAX: usize = 64;

/// How long a question waits where nobody is there to answer it: longer than a takeover, shorter
/// than the patience of a command.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) const NO_TWIN: &str =
    "this server is passive and cannot reach the active one; try there, or when the link is back";

const GONE: &str = "the active server went away; whether it was done shows there";

const TOO_MANY: &str = "too many requests wait for the active server; try again in a second";

/// Who can answer a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// The twin: it has it.
    Twin,
    /// Nobody at the moment. It never left here.
    Here { until: Instant },
    /// Nobody at the moment. The twin had it, and may have done it.
    Lost { until: Instant },
}

/// One question.
#[derive(Debug)]
struct Question {
    /// The number by which it is answered.
    id: u64,
    request: Request,
    by: String,
    place: Place,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: BTreeMap<u64, Question>,
    next: u64,
}

impl Questions {
    /// The twin's answer. That it does not serve is none: whoever takes over now answers.
    pub(crate) fn answer(&mut self, now: Instant, number: u64, reply: Reply) -> Option<Output> {
        if matches!(&reply, Reply::Refused { why } if why == NO_TWIN) {
            self.waiting.get_mut(&number)?.place = Place::Here { until: now + PATIENCE };
            return None;
        }
        let id = self.waiting.remove(&number)?.id;
        Some(Output::Answer { id, reply })
    }

    /// When one has waited in vain.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().filter_map(Question::until).min()
    }
}

impl Question {
    const fn until(&self) -> Option<Instant> {
        match self.place {
            Place::Twin => None,
            Place::Here { until } | Place::Lost { until } => Some(until),
        }
    }

    /// Nobody has come.
    fn in_vain(&self) -> Output {
        let why = match self.place {
            Place::Here { .. } => NO_TWIN,
            Place::Twin | Place::Lost { .. } => GONE,
        };
        Output::Answer { id: self.id, reply: Reply::Refused { why: why.to_owned() } }
    }
}

impl Node {
    /// Hands a question to the active server, or keeps it until one is there.
    pub(crate) fn ask(&mut self, now: Instant, id: u64, request: Request, by: String) {
        if self.questions.waiting.len() >= QUESTIONS_MAX {
            let reply = Reply::Refused { why: TOO_MANY.to_owned() };
            self.outputs.push_back(Output::Answer { id, reply });
            return;
        }
        self.questions.next += 1;
        let place = Place::Here { until: now + PATIENCE };
        self.questions.waiting.insert(self.questions.next, Question { id, request, by, place });
        if self.journal.is_linked() {
            self.send_questions();
        }
    }

    /// The link is there: what never left goes to the twin. What it had before is not answered any
    /// more; asked again, it might be done twice.
    pub(crate) fn send_questions(&mut self) {
        for (number, question) in &mut self.questions.waiting {
            match question.place {
                Place::Twin => {}
                Place::Here { .. } => {
                    question.place = Place::Twin;
                    let ask = Aside::Ask { id: *number, request: question.request.clone() };
                    // Behind the question, where the version before does not look.
                    self.journal.send_aside(record::encode_with(&ask, &question.by));
                }
                Place::Lost { .. } => self.outputs.push_back(question.in_vain()),
            }
        }
        self.questions.waiting.retain(|_, question| question.place == Place::Twin);
    }

    /// The link is gone, and with it the answers of the twin.
    pub(crate) fn lose_questions(&mut self, now: Instant) {
        for question in self.questions.waiting.values_mut() {
            if question.place == Place::Twin {
                question.place = Place::Lost { until: now + PATIENCE };
            }
        }
    }

    /// We serve: what the twin has not answered is decided here.
    pub(crate) fn decide_questions(&mut self, now: Instant) {
        for (_, question) in core::mem::take(&mut self.questions.waiting) {
            let Question { id, request, by, place } = question;
            let changes = request.changes();
            let mut reply = self.decide(now, request, by);
            if let (Reply::Refused { why }, true) = (&mut reply, changes)
                && !matches!(place, Place::Here { .. })
            {
                why.push_str(
                    " (the server that was active had this request too, and may have done it)",
                );
            }
            self.stage_edit(Parcel::Answer { id, reply });
        }
    }

    /// Nobody came for these.
    pub(crate) fn end_questions(&mut self, now: Instant) {
        let outputs = &mut self.outputs;
        self.questions.waiting.retain(|_, question| {
            let ends = question.until().is_some_and(|until| until <= now);
            if ends {
                outputs.push_back(question.in_vain());
            }
            !ends
        });
    }
}
