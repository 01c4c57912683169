//! What administrators asked for at this server while it was passive, until somebody answers.
//!
//! The active server answers over the link. Where the link breaks first, the question stays for whoever serves
//! when it is back: the twin is asked again, and does nothing twice; or this server takes over, and
//! decides itself.

use std::collections::{BTreeMap, VecDeque};

use tandem_types::{Duration, Instant};

use crate::admin::Aside;
use crate::node::Node;
use crate::outbox::Parcel;
use crate::ports::{Output, Reply, Request};
use crate::record;

/// Questions that are not answered yet, at most. As many answers are kept for a twin that asks again.
const QUESTIONS_MAX: usize = 64;

/// How long a question waits where nobody is there to answer it: longer than a takeover, shorter
/// than the patience of a command.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) const NO_TWIN: &str =
    "this server is passive and cannot reach the active one; try there, or when the link is back";

const GONE: &str = "the active server went away; whether it was done shows there";

const MAYBE_DONE: &str =
    " (the active server that went away had been asked too, and may have done it)";

const TOO_MANY: &str = "too many requests wait for the active server; try again in a second";

/// One question.
#[derive(Debug)]
struct Question {
    /// The number by which it is answered.
    id: u64,
    request: Request,
    by: String,
    /// How often it was sent to the twin.
    sent: u32,
    /// Until when it waits for somebody who can answer; `None`: the twin has it.
    until: Option<Instant>,
}

impl Question {
    fn wait(&mut self, now: Instant) {
        self.until = Some(now + PATIENCE);
    }

    /// Its answer. A refusal may come from what an earlier server did of it.
    fn answered(&self, mut reply: Reply, asked_before: bool) -> Reply {
        if let Reply::Refused { why } = &mut reply
            && asked_before
            && self.request.changes()
        {
            why.push_str(MAYBE_DONE);
        }
        reply
    }

    /// Nobody has come.
    fn in_vain(&self) -> Output {
        let why = if self.sent == 0 { NO_TWIN } else { GONE };
        Output::Answer { id: self.id, reply: Reply::Refused { why: why.to_owned() } }
    }
}

/// Our questions to the twin, and our answers to its questions.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: BTreeMap<u64, Question>,
    /// The number of the last one: the twin tells our questions in this life from those in an earlier one.
    last: Option<u64>,
    /// What the twin asked us to change lately, and our answer once it was given.
    heard: VecDeque<(u64, Option<Reply>)>,
}

impl Questions {
    /// The twin's answer. That it does not serve is none: whoever takes over now answers.
    pub(crate) fn answer(&mut self, now: Instant, number: u64, reply: Reply) -> Option<Output> {
        if matches!(&reply, Reply::Refused { why } if why == NO_TWIN) {
            let question = self.waiting.get_mut(&number)?;
            question.sent = question.sent.saturating_sub(1);
            question.wait(now);
            return None;
        }
        let question = self.waiting.remove(&number)?;
        let reply = question.answered(reply, question.sent > 1);
        Some(Output::Answer { id: question.id, reply })
    }

    /// The twin asks us to change something. What to tell it where it had asked that before.
    pub(crate) fn hear(&mut self, number: u64) -> Heard {
        if let Some((_, told)) = self.heard.iter().find(|(heard, _)| *heard == number) {
            return told.clone().map_or(Heard::Pending, Heard::Told);
        }
        if self.heard.len() >= QUESTIONS_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back((number, None));
        Heard::New
    }

    /// We tell the twin the answer.
    pub(crate) fn told(&mut self, number: u64, reply: &Reply) {
        let heard = self.heard.iter_mut().find(|(heard, _)| *heard == number);
        heard.into_iter().for_each(|(_, told)| *told = Some(reply.clone()));
    }

    /// When one has waited in vain.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|question| question.until).min()
    }
}

/// Whether the twin asked the same before.
pub(crate) enum Heard {
    New,
    /// Yes; it is being done.
    Pending,
    /// Yes, and this was told.
    Told(Reply),
}

impl Node {
    /// Hands a question to the active server, or keeps it until one is there.
    pub(crate) fn ask(&mut self, now: Instant, id: u64, request: Request, by: String) {
        if self.questions.waiting.len() >= QUESTIONS_MAX {
            let reply = Reply::Refused { why: TOO_MANY.to_owned() };
            self.outputs.push_back(Output::Answer { id, reply });
            return;
        }
        let last = self.questions.last.unwrap_or_else(|| self.dice.next_u64());
        let number = last.wrapping_add(1);
        self.questions.last = Some(number);
        let mut question = Question { id, request, by, sent: 0, until: None };
        question.wait(now);
        self.questions.waiting.insert(number, question);
        if self.journal.is_linked() {
            self.send_questions();
        }
    }

    /// The link is there: everything that waits goes to the twin.
    pub(crate) fn send_questions(&mut self) {
        for (number, question) in &mut self.questions.waiting {
            if question.until.take().is_some() {
                question.sent = question.sent.saturating_add(1);
                let ask = Aside::Ask { id: *number, request: question.request.clone() };
                // Behind the question, where the version before does not look.
                self.journal.send_aside(record::encode_with(&ask, &question.by));
            }
        }
    }

    /// The link is gone, and with it what the twin would have answered.
    pub(crate) fn lose_questions(&mut self, now: Instant) {
        let with_twin = self.questions.waiting.values_mut().filter(|one| one.until.is_none());
        with_twin.for_each(|question| question.wait(now));
    }

    /// We serve: what the twin has not answered is decided here.
    pub(crate) fn decide_questions(&mut self, now: Instant) {
        for question in core::mem::take(&mut self.questions.waiting).into_values() {
            let reply = self.decide(now, question.request.clone(), question.by.clone());
            let reply = question.answered(reply, question.sent > 0);
            self.stage_edit(Parcel::Answer { id: question.id, reply });
        }
    }

    /// Nobody came for these.
    pub(crate) fn end_questions(&mut self, now: Instant) {
        let in_vain = |question: &Question| question.until.is_some_and(|until| until <= now);
        for (_, question) in self.questions.waiting.extract_if(.., |_, one| in_vain(one)) {
            self.outputs.push_back(question.in_vain());
        }
    }
}
