//! What the keeper is told of the configuration: what the twin lacks and since when, what is lacking here.

use std::collections::VecDeque;

use tandem_config::Standing;
use tandem_keeper::Likeness;
use tandem_types::Instant;

/// Moments that are kept of changes the twin lacks; beyond it several count as the first of them.
const MOMENTS_MAX: usize = 4_096;

/// Follows what the configuration says of itself.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// `None`: the two were not compared on this link.
    standing: Option<Standing>,
    /// What was lacking here when the catch-up began.
    of: u64,
    /// How many changes were here, and since when.
    made: VecDeque<(u64, Instant)>,
    most: u64,
}

impl Follower {
    /// It stands like this now.
    pub(super) fn note(&mut self, now: Instant, standing: Option<Standing>) {
        let Some(new) = standing else {
            *self = Self { most: self.most, ..Self::default() };
            return;
        };
        self.of = if new.here_lacks == 0 { 0 } else { self.of.max(new.here_lacks) };
        if new.here > self.most {
            self.most = new.here;
            if self.made.len() < MOMENTS_MAX {
                self.made.push_back((new.here, now));
            }
        }
        let there = new.here - new.twin_lacks.min(new.here);
        if new.twin_lacks == 0 {
            self.made.clear();
        }
        while self.made.front().is_some_and(|(here, _)| *here <= there) {
            self.made.pop_front();
        }
        if new.twin_lacks > 0 && self.made.is_empty() {
            // Made before the two met.
            self.made.push_back((new.here, now));
        }
        self.standing = Some(new);
    }

    /// For the keeper.
    pub(super) fn likeness(&self, now: Instant) -> Option<Likeness> {
        let Standing { twin_lacks, here_lacks, .. } = self.standing?;
        let late = self.made.front().map(|(_, since)| since.elapsed_until(now).as_millis());
        let late_ms = u64::try_from(late.unwrap_or(0)).unwrap_or(u64::MAX);
        Some(Likeness { twin_lacks, here_lacks, of: self.of, late_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Duration;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn standing(here: u64, twin_lacks: u64, here_lacks: u64) -> Option<Standing> {
        Some(Standing { here, twin_lacks, here_lacks })
    }

    #[test]
    fn how_late_the_twin_is_counts_from_the_oldest_change_it_lacks() {
        let mut follower = Follower::default();
        assert_eq!(follower.likeness(at(0)), None);
        follower.note(at(0), standing(10, 0, 0));
        follower.note(at(100), standing(11, 1, 0));
        follower.note(at(200), standing(12, 2, 0));
        assert_eq!(follower.likeness(at(250)).unwrap().late_ms, 150);
        follower.note(at(300), standing(12, 1, 0));
        assert_eq!(follower.likeness(at(350)).unwrap().late_ms, 150);
        follower.note(at(400), standing(12, 0, 0));
        let likeness = follower.likeness(at(450)).unwrap();
        assert!(likeness.is_equal() && likeness.late_ms == 0, "{likeness:?}");
        follower.note(at(500), None);
        assert_eq!(follower.likeness(at(500)), None);
        // What was made while they were apart.
        follower.note(at(600), standing(20, 8, 0));
        assert_eq!(follower.likeness(at(650)).unwrap().late_ms, 50);
    }

    #[test]
    fn a_catch_up_is_of_what_was_lacking_when_it_began() {
        let mut follower = Follower::default();
        follower.note(at(0), standing(10, 0, 100));
        follower.note(at(1), standing(50, 0, 60));
        let Likeness { here_lacks, of, .. } = follower.likeness(at(2)).unwrap();
        assert_eq!((here_lacks, of), (60, 100));
        follower.note(at(3), standing(110, 0, 0));
        assert_eq!(follower.likeness(at(4)).unwrap().of, 0);
    }
}
