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
    answers: Receiver<Voted>,
    standing: Arc<Mutex<Standing>>,
    bell: Bell,
    /// Requests up to this number count no more.
    void: Option<u64>,
    newest: Option<u64>,
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
        let report = move |voted: Option<Voted>, standing: Standing| {
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = standing;
            let Some(voted) = voted else { return true };
            let sent = outbox.send(voted).is_ok();
            rings.ring();
            sent
        };
        let thread = std::thread::Builder::new().name(String::from("etcd"));
        thread.spawn(move || clerk.work(&inbox, &report))?;
        Ok(Self { orders, answers, standing, bell, void: None, newest: None })
    }
}

impl Lease for EtcdLease {
    fn ask(&mut self, now: Instant, ask: Ask) {
        self.newest = Some(ask.number);
        // The thread ends only with us.
        let _ = self.orders.send(Order::Ask(now, ask));
    }

    fn release(&mut self, _: Epoch) {
        self.void = self.newest;
        let _ = self.orders.send(Order::Release);
    }

    fn answers(&mut self) -> Vec<Voted> {
        self.bell.silence();
        let counts = |voted: &Voted| {
            let number = match voted {
                Voted::Granted { number, .. }
                | Voted::Refused { number, .. }
                | Voted::Unreachable { number, .. } => *number,
            };
            self.newest == Some(number) && self.void != Some(number)
        };
        self.answers.try_iter().filter(counts).collect()
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

/// Reads a file of the configuration.
fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
