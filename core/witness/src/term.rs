//! How long a promise runs compared with the right that rests on it: the arithmetic, in one place.

use tandem_types::Duration;

/// The longest promise that is given. A longer one is granted as this.
pub const TERM_MAX: Duration = Duration::from_secs(3);

/// One part in so many is added to every promise, because two clocks do not run alike. Good for two
/// clocks that are each wrong by 1.5 %; those of computers are wrong by 0.01 %.
const DRIFT_PART: u32 = 32;

/// How long the voter keeps a promise, on its own clock and from the receipt, if the holder counts
/// its right as `term`, on its own clock and from the sending.
pub fn promised(term: Duration) -> Duration {
    term + term / DRIFT_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_outlasts_the_right_on_clocks_that_run_apart() {
        for term in [Duration::from_millis(20), Duration::from_secs(1), TERM_MAX] {
            // The holder's clock is slow, so its right lasts longer; the voter's clock is fast.
            let (right, promise) = (term.mul_f64(1.015), promised(term).div_f64(1.015));
            assert!(right < promise, "{right:?} {promise:?}");
        }
    }
}
