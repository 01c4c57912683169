//! Keeps the virtual addresses from lapsing for as long as the loop turns.
//!
//! ```text
//!   loop ── every 200 ms, while they are held ──▶ thread ── renew ──▶ kernel: for another second
//!     └── killed, stopped or hung: no more orders ──▶ the kernel removes the addresses by itself
//! ```
//!
//! A thread of its own, because the kernel may keep a renewal waiting while somebody else changes
//! interfaces, and the loop must not wait. It renews on orders only and none that is old: so it shows
//! that the loop turns, and not that a thread does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tandem_os::address::{LIFETIME, RENEW_EVERY, Renewal};
use tandem_os::{clock, realtime};
use tandem_types::Instant;

use super::PRIORITY;

/// The loop's end of the thread.
pub(super) struct Holder {
    shared: Arc<Mutex<Shared>>,
    orders: SyncSender<Instant>,
    refusals: Receiver<String>,
    /// When the addresses were claimed or renewed last.
    renewed: Instant,
    /// They may have lapsed: the loop was held up.
    suspected: bool,
}

/// What both ends know. Whoever changes addresses holds the lock: an order that waits in the kernel
/// cannot put back what the loop has released in between.
struct Shared {
    held: bool,
    /// They were released, and what is of no use without them is still on.
    rest: bool,
    /// `None` on loopback.
    renewal: Option<Renewal>,
}

/// What is to be done about the addresses now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    Nothing,
    /// The kernel has removed them, and still they are ours.
    ClaimAgain,
}

impl Holder {
    /// Starts the thread.
    pub(super) fn start(renewal: Option<Renewal>) -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared { held: false, rest: false, renewal }));
        // One order at a time: what is not taken at once is out of date.
        let (orders, inbox) = sync_channel(1);
        let (outbox, refusals) = sync_channel(1);
        let theirs = Arc::clone(&shared);
        let work = move || {
            // The loop has said so where this is refused.
            let _ = realtime::go_first(PRIORITY);
            work(&theirs, &inbox, &outbox);
        };
        let thread = std::thread::Builder::new().name(String::from("address"));
        thread.spawn(work).context("cannot start a thread")?;
        Ok(Self { shared, orders, refusals, renewed: Instant::ZERO, suspected: false })
    }

    /// Takes or gives up the addresses by `deed`, and keeps them from now on or no more.
    pub(super) fn change<T>(&mut self, held: bool, deed: impl FnOnce() -> T) -> T {
        let mut shared = lock(&self.shared);
        shared.held = held;
        shared.rest = !held;
        self.suspected = false;
        let outcome = deed();
        self.renewed = clock::now();
        drop(shared);
        if !held {
            // The thread does it: the twin is waiting to hear that the addresses are free. Where its
            // queue is full it will look soon anyway.
            let _ = self.orders.try_send(self.renewed);
        }
        outcome
    }

    /// From now on the addresses are renewed by this.
    pub(super) fn replace(&mut self, renewal: Option<Renewal>) {
        lock(&self.shared).renewal = renewal;
    }

    /// To be called in every turn of the loop while the addresses are held, after the keeper has
    /// judged and what it ordered is done.
    pub(super) fn keep(&mut self, now: Instant) -> Due {
        if now < self.renewed + RENEW_EVERY {
            return Due::Nothing;
        }
        if now < self.renewed + LIFETIME {
            self.renewed = now;
            let _ = self.orders.try_send(now);
            return Due::Nothing;
        }
        // Was it held up before the keeper judged or after? With the next turn this is certain.
        if !self.suspected {
            self.suspected = true;
            return Due::Nothing;
        }
        Due::ClaimAgain
    }

    /// When [`Holder::keep`] wants to be called at the latest.
    pub(super) fn next_timeout(&self) -> Instant {
        self.renewed + RENEW_EVERY
    }

    /// Why a renewal was refused, if one was.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusals.try_recv().ok()
    }
}

fn work(shared: &Mutex<Shared>, orders: &Receiver<Instant>, refusals: &SyncSender<String>) {
    while let Ok(ordered) = orders.recv() {
        let mut shared = lock(shared);
        if shared.rest
            && let Some(renewal) = &mut shared.renewal
        {
            let rested = renewal.rest();
            shared.rest = false;
            if let Err(refused) = rested {
                let _ = refusals.try_send(refused.to_string());
            }
        }
        // This thread was held up, and the loop with it perhaps: it must judge first.
        let is_old = ordered + RENEW_EVERY < clock::now();
        if is_old || !shared.held {
            continue;
        }
        if let Some(renewal) = &mut shared.renewal
            && let Err(refused) = renewal.renew()
        {
            let _ = refusals.try_send(refused.to_string());
        }
    }
}

/// What is behind the lock is whole whoever panicked.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_was_held_up_judges_before_it_claims_again() {
        let mut holder = Holder::start(None).unwrap();
        holder.change(true, || ());
        let claimed = holder.renewed;
        assert_eq!(holder.keep(claimed), Due::Nothing);
        assert_eq!(holder.renewed, claimed, "not due yet");
        let later = claimed + RENEW_EVERY;
        assert_eq!((holder.keep(later), holder.renewed), (Due::Nothing, later));
        let held_up = later + LIFETIME;
        assert_eq!(holder.keep(held_up), Due::Nothing, "the keeper has not judged yet");
        assert_eq!(holder.keep(held_up), Due::ClaimAgain, "and it is still ours");
        holder.change(true, || ());
        assert_eq!(holder.keep(holder.renewed), Due::Nothing);
    }
}
