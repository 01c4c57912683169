//! A third voter in made-up time: it keeps one promise. (The real one is in `core/witness`.)

use tandem_keeper::pair::Voted;
use tandem_types::{Duration, Epoch, Instant};

/// One way to the voter and back takes so long, each.
pub(crate) const VOTER_AWAY: Duration = Duration::from_micros(700);

/// Who asks gives up after so long.
pub(crate) const VOTER_PATIENCE: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Ask { number: u64, epoch: Epoch, term: Duration },
    Release,
}

impl Question {
    /// What its sender learns when nobody hears it.
    pub(crate) fn unheard(self) -> Option<Voted> {
        match self {
            Self::Ask { number, .. } => Some(Voted::Unreachable { number }),
            Self::Release => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Voter {
    promise: Option<(usize, Instant)>,
    pub(crate) highest: Option<Epoch>,
    pub(crate) asked: usize,
    /// The shortest promise that it gives.
    pub(crate) term_min: Duration,
}

impl Voter {
    /// Who has its vote.
    pub(crate) fn promised(&self, now: Instant) -> Option<usize> {
        self.promise.filter(|(_, until)| now < *until).map(|(to, _)| to)
    }

    pub(crate) fn hear(&mut self, now: Instant, from: usize, question: Question) -> Option<Voted> {
        let (number, epoch, term) = match question {
            Question::Ask { number, epoch, term } => (number, epoch, term),
            Question::Release => {
                self.promise = self.promise.filter(|(to, _)| *to != from);
                return None;
            }
        };
        self.asked += 1;
        let highest = self.highest.unwrap_or(Epoch::NEVER);
        if let Some((_, until)) = self.promise.filter(|(to, until)| now < *until && *to != from) {
            let left = now.elapsed_until(until);
            return Some(Voted::Refused { number, left, highest });
        }
        if epoch < highest {
            return Some(Voted::Refused { number, left: Duration::ZERO, highest });
        }
        self.highest = self.highest.max(Some(epoch));
        let term = term.max(self.term_min);
        self.promise = Some((from, now + term));
        Some(Voted::Granted { number, term })
    }
}
