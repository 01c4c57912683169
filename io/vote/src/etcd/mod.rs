//! The vote of an etcd cluster: a key under a lease. Whoever wrote the key has the vote.
//!
//! ```text
//!  PREFIX/holder    "master 1763000000000 5M"   gone when its lease ends
//!  PREFIX/highest   "5M"                        stays
//! ```
//!
//! etcd counts a lease from the receipt of a request and never shortens it (a new leader begins it
//! afresh); the right is counted from the sending, and ends a margin earlier for clocks that run
//! apart. A thread speaks with etcd: a disk there may take seconds.

mod clerk;
mod gateway;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tandem_types::{Duration, Epoch, Instant};
use tandem_witness::{Side, Standing, Voted};

use crate::bell::Bell;
use crate::{Ask, Lease};
use clerk::Clerk;
pub use gateway::{Login, Tls};

/// The shortest lease that etcd gives with its usual settings.
pub const TTL: Duration = Duration::from_secs(2);

/// The right is shorter than the lease by one part in so many, for clocks that run apart.
pub const MARGIN_PART: u32 = 32;

/// Where the cluster is and who asks.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`, tried in turn.
    pub endpoints: Vec<String>,
    /// The keys of this pair start with it. The same on both machines, different for each pair.
    pub prefix: String,
    /// This keeper.
    pub side: Side,
    /// Where etcd asks for a name and a password.
    pub login: Option<Login>,
    /// For `https`.
    pub tls: Tls,
}

impl EtcdConfig {
    /// Reads the files that are named.
    ///
    /// # Errors
    ///
    /// A sentence for the administrator.
    pub fn check(&self) -> Result<(), String> {
        gateway::Gateway::new(self).map(drop)
    }
}

/// What the thread is to do.
#[derive(Debug)]
enum Order {
    Ask(Instant, Ask),
    Release,
}

/// The vote of an etcd cluster.
#[derive(Debug)]
pub struct EtcdLease {
    orders: Sender<Order>,
    answers: Receiver<(Instant, Voted)>,
    standing: Arc<Mutex<Standing>>,
    bell: Bell,
    /// The newest request: when it was handed in, and which. `None`: it is answered or given up.
    newest: Option<(Instant, Ask)>,
    /// The number of the newest request, answered or not.
    last: u64,
    /// Requests up to this number came before a release: what they were granted is gone.
    void: u64,
}

impl EtcdLease {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The configuration names files that cannot be used, or the system gives no descriptor or
    /// thread.
    pub fn start(config: &EtcdConfig) -> io::Result<Self> {
        let bell = Bell::new()?;
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        let standing = Arc::new(Mutex::new(Standing::default()));
        let shown = Arc::clone(&standing);
        let rings = bell.clone();
        let mut clerk = Clerk::new(config).map_err(io::Error::other)?;
        let report = move |voted: Option<(Instant, Voted)>, standing: Standing| {
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = standing;
            let sent = voted.is_none_or(|voted| outbox.send(voted).is_ok());
            rings.ring();
            sent
        };
        let thread = std::thread::Builder::new().name(String::from("etcd"));
        thread.spawn(move || clerk.work(&inbox, &report))?;
        Ok(Self { orders, answers, standing, bell, newest: None, last: 0, void: 0 })
    }
}

impl Lease for EtcdLease {
    fn ask(&mut self, now: Instant, ask: Ask) {
        (self.newest, self.last) = (Some((now, ask)), ask.number);
        // The thread ends only with us.
        let _ = self.orders.send(Order::Ask(now, ask));
    }

    fn release(&mut self, _: Epoch) {
        (self.newest, self.void) = (None, self.last);
        let _ = self.orders.send(Order::Release);
    }

    fn answers(&mut self) -> Vec<Voted> {
        self.bell.silence();
        let mut told = Vec::new();
        while let Ok((since, voted)) = self.answers.try_recv() {
            let Some((now, ask)) = self.newest else { continue };
            if let Some(voted) = carried(self.void, (now, ask.number), since, voted) {
                self.newest = None;
                told.push(voted);
            }
        }
        told
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsFd for EtcdLease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// What an answer says to the newest request. An etcd that takes longer than a keeper waits before it
/// asks anew would never be heard otherwise: a grant of an earlier request is one of the newest, less
/// the time between the two.
fn carried(void: u64, newest: (Instant, u64), since: Instant, voted: Voted) -> Option<Voted> {
    let (now, newest) = newest;
    match voted {
        Voted::Granted { number, term } if number > void => {
            let left = (since + term).remaining_from(now);
            (!left.is_zero()).then_some(Voted::Granted { number: newest, term: left })
        }
        Voted::Refused { number, .. } | Voted::Unreachable { number, .. } if number == newest => {
            Some(voted)
        }
        Voted::Granted { .. } | Voted::Refused { .. } | Voted::Unreachable { .. } => None,
    }
}

/// Reads a file of the configuration.
fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn granted(number: u64, millis: u64) -> Voted {
        Voted::Granted { number, term: Duration::from_millis(millis) }
    }

    #[test]
    fn a_late_grant_counts_for_the_newest_request_less_the_time_between() {
        let newest = (at(1_250), 6);
        let carry = |void, since, voted| carried(void, newest, at(since), voted);
        assert_eq!(carry(0, 1_250, granted(6, 2_000)), Some(granted(6, 2_000)));
        assert_eq!(carry(0, 1_000, granted(5, 2_000)), Some(granted(6, 1_750)));
        assert_eq!(carry(0, 1_000, granted(5, 250)), None, "over already");
        assert_eq!(carry(5, 1_000, granted(5, 2_000)), None, "released since");
        let refused =
            |number| Voted::Refused { number, left: Duration::ZERO, highest: Epoch::NEVER };
        assert_eq!(carry(0, 1_000, refused(5)), None, "it may have become free");
        assert_eq!(carry(0, 1_250, refused(6)), Some(refused(6)));
    }
}
