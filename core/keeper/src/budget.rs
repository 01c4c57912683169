//! How often something may be told: a burst at once, then one for each pause; what is beyond is counted.

use tandem_types::{Duration, Instant};

/// Allows, and counts what it does not allow.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    burst: u32,
    pause: Duration,
    left: u32,
    /// When the next one is added.
    next: Instant,
    dropped: u64,
}

impl Budget {
    /// `burst` at once, then one in each `pause`.
    pub fn new(now: Instant, burst: u32, pause: Duration) -> Self {
        Self { burst, pause, left: burst, next: now + pause, dropped: 0 }
    }

    /// Whether one more is allowed.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.next <= now && self.left < self.burst {
            self.left += 1;
            self.next = self.next + self.pause;
        }
        if self.left == self.burst {
            // The first pause begins with what is taken first.
            self.next = now + self.pause;
        }
        let allowed = self.left > 0;
        if allowed {
            self.left -= 1;
        } else {
            self.dropped += 1;
        }
        allowed
    }

    /// How many were not allowed since this was asked last.
    pub fn dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_passes_then_one_for_each_pause_and_the_rest_is_counted() {
        let mut budget = Budget::new(at(0), 3, Duration::from_secs(10));
        let taken = |budget: &mut Budget, now| (0..5).filter(|_| budget.take(now)).count();
        assert_eq!((taken(&mut budget, at(1)), budget.dropped()), (3, 2));
        assert_eq!((taken(&mut budget, at(10)), budget.dropped()), (0, 5), "9 s after the first");
        assert_eq!(taken(&mut budget, at(11)), 1);
        assert_eq!(taken(&mut budget, at(35)), 2);
        assert_eq!(taken(&mut budget, at(100_000)), 3, "never more than a burst");
    }
}
