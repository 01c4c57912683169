//! The file of what must survive the keeper: the epoch, the count of its lives, the operator's orders.
//!
//! A thread of its own writes it, so that the loop never waits for the disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, anyhow};
use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};
use tandem_keeper::Standing;
use tandem_os::clock;
use tandem_os::durable::SlotFile;
use tandem_types::{Duration, Epoch, Seat};

/// What the file holds, after a version byte.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Saved {
    /// Which life of the keeper this is; greater than every earlier one.
    pub(super) boot: u64,
    /// The last epoch that was minted here.
    pub(super) epoch: Epoch,
    /// The maintenance lock.
    locked: bool,
    /// When that ends by itself: microseconds since 1970 UTC.
    lock_until: Option<u64>,
    /// A switchover waits for the calls to end.
    switch_when_idle: bool,
}

impl Saved {
    /// The operator's orders, as the clock on the wall has it now.
    pub(super) fn orders(&self) -> Standing {
        let now = clock::wall_micros();
        let over = self.lock_until.is_some_and(|until| until <= now);
        Standing {
            locked: self.locked && !over,
            lock_left: self
                .lock_until
                .map(|until| Duration::from_micros(until.saturating_sub(now))),
            switch_when_idle: self.switch_when_idle,
        }
    }

    fn with(self, orders: Standing) -> Self {
        let until = |left: Duration| {
            let left = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
            clock::wall_micros().saturating_add(left)
        };
        Self {
            locked: orders.locked,
            lock_until: orders.lock_left.map(until),
            switch_when_idle: orders.switch_when_idle,
            ..self
        }
    }
}

const VERSION: u8 = 2;

/// What a new file holds.
const FRESH: Saved = Saved {
    boot: 0,
    epoch: Epoch::NEVER,
    locked: false,
    lock_until: None,
    switch_when_idle: false,
};

/// What the thread is to write.
enum Order {
    Epoch(Epoch),
    Orders(Standing),
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This epoch is on disk, or is not, because.
    Epoch(Epoch, Result<(), String>),
    /// The operator's orders are on disk, or are not, because.
    Orders(Result<(), String>),
}

/// The loop's end of the thread.
pub(super) struct Saver {
    orders: Sender<Order>,
    outcomes: Receiver<Outcome>,
    bell: Arc<OwnedFd>,
}

impl Saver {
    /// Opens the file, begins a new life in it, and starts the thread.
    pub(super) fn start(path: &Path) -> anyhow::Result<(Self, Saved)> {
        let what = || format!("cannot use the epoch file {}", path.display());
        let mut file = SlotFile::open(path, &encode(&FRESH)).with_context(what)?;
        let before = decode(file.value()).ok_or_else(|| {
            anyhow!("{}: it was written by another version of Tandem", path.display())
        })?;
        // Greater than before even where the clock on the wall went back.
        let boot = (before.boot + 1).max(clock::wall_micros() / 1_000);
        let saved = Saved { boot, ..before };
        file.save(&encode(&saved)).with_context(what)?;
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .context("cannot make an event descriptor")?;
        let bell = Arc::new(bell);
        let (orders, inbox) = channel();
        let (outbox, outcomes) = channel();
        let ringing = Arc::clone(&bell);
        let thread = std::thread::Builder::new().name(String::from("epoch"));
        thread
            .spawn(move || work(file, saved, &inbox, &outbox, &ringing))
            .context("cannot start a thread")?;
        Ok((Self { orders, outcomes, bell }, saved))
    }

    /// Saves an epoch; the outcome follows.
    pub(super) fn save_epoch(&self, epoch: Epoch) {
        // The thread ends only with us.
        let _ = self.orders.send(Order::Epoch(epoch));
    }

    /// Saves the operator's orders; the outcome follows.
    pub(super) fn save_orders(&self, orders: Standing) {
        let _ = self.orders.send(Order::Orders(orders));
    }

    /// What became of an order, if anything did.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let mut count = [0; 8];
        // Silences the bell before looking, so that what comes after rings again.
        let _ = rustix::io::read(&self.bell, &mut count);
        self.outcomes.try_recv().ok()
    }
}

impl AsFd for Saver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn work(
    mut file: SlotFile,
    mut saved: Saved,
    orders: &Receiver<Order>,
    outcomes: &Sender<Outcome>,
    bell: &OwnedFd,
) {
    while let Ok(order) = orders.recv() {
        let next = match order {
            Order::Epoch(epoch) => Saved { epoch, ..saved },
            Order::Orders(orders) => saved.with(orders),
        };
        let result = file.save(&encode(&next)).map_err(|error| error.to_string());
        if result.is_ok() {
            saved = next;
        }
        let outcome = match (order, result) {
            (Order::Epoch(epoch), result) => Outcome::Epoch(epoch, result),
            (Order::Orders(_), result) => Outcome::Orders(result),
        };
        if outcomes.send(outcome).is_err() {
            return;
        }
        let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        // The second copy, now that nobody waits; a refusal is seen with the next save.
        let _ = file.settle();
    }
}

/// A machine that was put back to an earlier day begins its next reign so far above every one that is known
/// of then: reigns that came after that day are not begun twice.
const EPOCH_LEAP: u32 = 10_000;

/// Leaps ahead of what is in the file and of `seen`.
pub(crate) fn leap_epoch(path: &Path, seat: Seat, seen: Option<Epoch>) -> anyhow::Result<()> {
    let what = || format!("cannot use the epoch file {}", path.display());
    let mut file = SlotFile::open(path, &encode(&FRESH)).with_context(what)?;
    let saved = decode(file.value()).with_context(what)?;
    let highest = seen.map_or(saved.epoch.number, |seen| seen.number.max(saved.epoch.number));
    let epoch = Epoch { number: highest.saturating_add(EPOCH_LEAP), seat };
    file.save(&encode(&Saved { epoch, ..saved })).with_context(what)?;
    file.settle().with_context(what)
}

fn encode(saved: &Saved) -> Vec<u8> {
    // Only a serialiser that refuses (maps of unknown length) can fail; this is plain data.
    postcard::to_extend(saved, vec![VERSION]).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<Saved> {
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).ok(),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_os::poll::{Want, poll};

    #[test]
    fn an_epoch_and_orders_are_found_again_and_lives_count_up() {
        let path = std::env::temp_dir().join(format!("tandem-epoch-{}", std::process::id()));
        let (saver, first) = Saver::start(&path).unwrap();
        assert_eq!((first.epoch, first.orders()), (Epoch::NEVER, Standing::default()));
        let epoch = Epoch { number: 7, seat: Seat::Standby };
        let hour = Duration::from_secs(3_600);
        let orders = Standing { locked: true, lock_left: Some(hour), switch_when_idle: true };
        saver.save_orders(orders);
        saver.save_epoch(epoch);
        let outcome = || loop {
            if let Some(outcome) = saver.outcome() {
                return outcome;
            }
            poll(&[(saver.as_fd(), Want::Read)], None).unwrap();
        };
        assert!(matches!(outcome(), Outcome::Orders(Ok(()))));
        assert!(matches!(outcome(), Outcome::Epoch(saved, Ok(())) if saved == epoch));
        let (_, second) = Saver::start(&path).unwrap();
        assert_eq!((second.epoch, second.orders().locked), (epoch, true));
        assert!(second.orders().switch_when_idle);
        let left = second.orders().lock_left.unwrap();
        assert!(left <= hour && left + Duration::from_secs(60) > hour, "{left:?}");
        let over = Saved { lock_until: Some(1), ..second };
        assert!(!over.orders().locked, "its time is over");
        leap_epoch(&path, Seat::Master, Some(Epoch { number: 9, seat: Seat::Standby })).unwrap();
        let (_, third) = Saver::start(&path).unwrap();
        let leapt = Epoch { number: 9 + EPOCH_LEAP, seat: Seat::Master };
        assert_eq!((third.epoch, third.orders().locked), (leapt, true));
        assert!(second.boot > first.boot);
        std::fs::remove_file(&path).unwrap();
    }
}
