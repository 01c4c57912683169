//! What administrators asked for at this server while it was passive, until somebody answers.
//!
//! The active server answers over the link. Where it goes away first, the question waits for whoever
//! serves next: the twin, which is asked again and remembers what it was asked, or this server, when it
//! takes over.

use std::collections::{BTreeMap, VecDeque};

use tandem_types::{Duration, Instant};

use crate::admin::Aside;
use crate::node::Node;
use crate::outbox::Parcel;
use crate::ports::{Output, Reply, Request};
use crate::record;

/// Questions that are not answered yet, at most. As many answers are kept for a twin that asks again.
const QUESTIONS_MAX: usize = 64;

/// How long after it was asked a question may still be answered: longer than a takeover, shorter
/// than the patience of a command, so that nothing is done for which nobody waits any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the twin remembers what it was asked: longer than it may be asked again.
const MEMORY: Duration = Duration::from_secs(7);

/// A twin that says nothing for so long, though the link is up, does not answer any more.
const SILENCE: Duration = Duration::from_millis(100);

/// Numbers from here on are drawn. A server of the version before counts from one in each life, so
/// that its numbers do not tell a question from an older one.
const DRAWN: u64 = 1 << 32;

/// Also how a passive server answers the twin, which takes it for no answer.
const NO_TWIN: &str =
    "this server is passive and cannot reach the active one; try there, or when the link is back";

const SILENT: &str = "the active server has not answered; whether it was done shows there";

const ASKED_TWICE: &str =
    " (it was asked twice, because the active server or the link to it went away: it may be done)";

const TOO_MANY: &str = "too many requests wait for the active server; try again in a second";

/// One question.
#[derive(Debug)]
struct Question {
    /// The number by which it is answered.
    id: u64,
    request: Request,
    by: String,
    until: Instant,
    /// How often it was sent to the twin, less how often that said that it does not serve.
    sent: u32,
    /// Whether the twin is still to answer.
    with_twin: bool,
}

impl Question {
    /// Its answer. A refusal may come from what was done of it before.
    fn answer(&self, mut reply: Reply, asked_before: bool) -> Reply {
        if let Reply::Refused { why } = &mut reply
            && asked_before
            && self.request.changes()
        {
            why.push_str(ASKED_TWICE);
        }
        reply
    }
}

/// Our questions to the twin, and the twin's questions to us.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: BTreeMap<u64, Question>,
    /// The number of the last one.
    last: Option<u64>,
    /// What the twin asked us to change, oldest first.
    heard: VecDeque<Heard>,
}

/// A question of the twin.
#[derive(Debug)]
struct Heard {
    number: u64,
    until: Instant,
    /// What the twin was told.
    told: Option<Reply>,
}

impl Questions {
    /// Whether the twin asked this before; it is done once.
    fn hear(&mut self, now: Instant, number: u64) -> bool {
        if number < DRAWN {
            return false;
        }
        if self.heard.iter().any(|heard| heard.number == number) {
            return true;
        }
        if self.heard.len() >= QUESTIONS_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(Heard { number, until: now + MEMORY, told: None });
        false
    }

    /// The link is gone, or the twin, and with it what it would have answered.
    pub(crate) fn lose(&mut self) {
        self.waiting.values_mut().for_each(|question| question.with_twin = false);
    }

    /// When one has waited in vain, or need not be remembered any more.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.values().map(|question| question.until);
        waiting.chain(self.heard.front().map(|heard| heard.until)).min()
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
        let last = self.questions.last;
        let number = last.unwrap_or_else(|| self.dice.next_u64()).wrapping_add(1).max(DRAWN);
        self.questions.last = Some(number);
        let until = now + PATIENCE;
        let question = Question { id, request, by, until, sent: 0, with_twin: false };
        self.questions.waiting.insert(number, question);
        self.send_questions(now);
    }

    /// The link is there, or the twin serves now: it is asked what nobody else answers.
    pub(crate) fn send_questions(&mut self, now: Instant) {
        if !self.journal.is_linked() {
            return;
        }
        let waiting = self.questions.waiting.iter_mut();
        for (number, question) in waiting.filter(|(_, one)| !one.with_twin && now < one.until) {
            (question.with_twin, question.sent) = (true, question.sent.saturating_add(1));
            let ask = Aside::Ask { id: *number, request: question.request.clone() };
            // Behind the question, where the version before does not look.
            self.journal.send_aside(record::encode_with(&ask, &question.by));
        }
    }

    /// The twin's answer. That it does not serve is none: whoever takes over now answers.
    pub(crate) fn answered(&mut self, number: u64, reply: Reply) {
        let Some(mut question) = self.questions.waiting.remove(&number) else { return };
        if matches!(&reply, Reply::Refused { why } if why == NO_TWIN) {
            (question.with_twin, question.sent) = (false, question.sent.saturating_sub(1));
            self.questions.waiting.insert(number, question);
        } else {
            let reply = question.answer(reply, question.sent > 1);
            self.outputs.push_back(Output::Answer { id: question.id, reply });
        }
    }

    /// The twin asks.
    pub(crate) fn asked(&mut self, now: Instant, number: u64, request: Request, by: String) {
        if !self.decides(&request) {
            // Also where it was asked before: who serves then decides, and knows what was done.
            let reply = Reply::Refused { why: NO_TWIN.to_owned() };
            self.journal.send_aside(record::encode(&Aside::Tell { id: number, reply }));
        } else if request.changes() && self.questions.hear(now, number) {
            let heard = self.questions.heard.iter().find(|heard| heard.number == number);
            if let Some(reply) = heard.and_then(|heard| heard.told.clone()) {
                self.tell_aside(number, reply);
            }
        } else {
            let reply = self.decide(now, request, by);
            self.stage_edit(Parcel::Aside { id: number, reply });
        }
    }

    /// Answers what the twin asked.
    pub(crate) fn tell_aside(&mut self, number: u64, reply: Reply) {
        if let Some(heard) = self.questions.heard.iter_mut().find(|heard| heard.number == number) {
            heard.told = Some(reply.clone());
        }
        self.journal.send_aside(record::encode(&Aside::Tell { id: number, reply }));
    }

    /// Whether this is decided here. While we hand over, the twin decides what is to be changed.
    pub(crate) fn decides(&self, request: &Request) -> bool {
        self.is_serving() && !(self.is_telling() && request.changes())
    }

    /// We serve: what the twin does not answer any more is decided here.
    pub(crate) fn decide_questions(&mut self, now: Instant) {
        if !self.is_serving() || self.is_telling() {
            return;
        }
        // Where we come to it late: nobody waits for these any more.
        self.end_questions(now);
        // One that was active until now still answers what it was asked, if it lives.
        if self.journal.heard().is_some_and(|(heard, ..)| heard + SILENCE <= now) {
            self.questions.lose();
        }
        let ours = self.questions.waiting.extract_if(.., |_, question| !question.with_twin);
        for (_, question) in ours.collect::<Vec<_>>() {
            let reply = self.decide(now, question.request.clone(), question.by.clone());
            let reply = question.answer(reply, question.sent > 0);
            self.stage_edit(Parcel::Answer { id: question.id, reply });
        }
    }

    /// Nobody came for these.
    pub(crate) fn end_questions(&mut self, now: Instant) {
        while self.questions.heard.pop_front_if(|heard| heard.until <= now).is_some() {}
        let in_vain = self.questions.waiting.extract_if(.., |_, question| question.until <= now);
        for (_, question) in in_vain.collect::<Vec<_>>() {
            let why = if question.sent == 0 { NO_TWIN } else { SILENT };
            let reply = self.known(now, &question.request);
            let reply = reply.unwrap_or_else(|| Reply::Refused { why: why.to_owned() });
            self.outputs.push_back(Output::Answer { id: question.id, reply });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_begin_again_in_each_life_of_the_twin_tell_nothing() {
        let mut questions = Questions::default();
        let heard = |questions: &mut Questions, number| questions.hear(Instant::ZERO, number);
        assert!(!heard(&mut questions, 1) && !heard(&mut questions, 1));
        assert!(!heard(&mut questions, DRAWN) && heard(&mut questions, DRAWN));
        for number in 1..=64 {
            assert!(!heard(&mut questions, DRAWN + number));
        }
        assert!(!heard(&mut questions, DRAWN), "no more than so many are remembered");
        assert_eq!(questions.heard.len(), QUESTIONS_MAX);
    }
}
