//! The thread that speaks with etcd: takes the newest order, tries the endpoints in turn.

use std::sync::mpsc::{Receiver, RecvTimeoutError};

use tandem_os::clock;
use tandem_types::{Duration, Epoch, Instant, Seat};
use tandem_witness::{Standing, Voted};

use super::gateway::{Failed, Gateway, Stored};
use super::{EtcdConfig, MARGIN_PART, Order, TTL};
use crate::Ask;

/// A request that could not be settled within this is given up: what is left of the lease would
/// hardly be worth it.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// So often etcd is asked whether it is there while nothing else is asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a write is tried again because somebody else wrote meanwhile.
const RACES_MAX: u32 = 3;

/// What we hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Held {
    lease: i64,
    epoch: Epoch,
}

/// Speaks with etcd.
pub(super) struct Clerk {
    gateway: Gateway,
    prefix: String,
    /// Seat and life: how we are known in the key.
    name: String,
    held: Option<Held>,
    standing: Standing,
}

/// The keys of the pair, as they are.
#[derive(Debug, Default)]
struct Keys {
    holder: Option<Stored>,
    highest: Option<Stored>,
}

impl Keys {
    fn of(stored: Vec<Stored>, prefix: &str) -> Self {
        let mut keys = Self::default();
        for row in stored {
            match row.key.strip_prefix(prefix) {
                Some(HOLDER) => keys.holder = Some(row),
                Some(HIGHEST) => keys.highest = Some(row),
                Some(_) | None => {}
            }
        }
        keys
    }

    fn epoch(&self) -> Epoch {
        let text = self.highest.as_ref().map(|row| row.value.as_str());
        text.and_then(read_epoch).unwrap_or(Epoch::NEVER)
    }
}

const HOLDER: &str = "holder";
const HIGHEST: &str = "highest";

/// What came of a request, if etcd said anything.
enum Outcome {
    Granted { ttl: Duration },
    Refused { left: Duration, highest: Epoch },
}

impl Clerk {
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, String> {
        let mut prefix = config.prefix.clone();
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        Ok(Self {
            gateway: Gateway::new(config)?,
            prefix,
            name: format!("{} {}", config.side.seat, config.side.life),
            held: None,
            standing: Standing::default(),
        })
    }

    /// Works until nobody gives orders any more. `report` tells whether somebody still listens.
    pub(super) fn work(
        &mut self,
        orders: &Receiver<Order>,
        report: &dyn Fn(Option<(Instant, Voted)>, Standing) -> bool,
    ) {
        self.look();
        while report(None, self.standing.clone()) {
            let mut order = match orders.recv_timeout(LOOK_EVERY) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Only the newest order counts; but a release of what is held is never skipped.
            for later in orders.try_iter() {
                if matches!(order, Order::Release) {
                    self.release();
                }
                order = later;
            }
            let voted = match order {
                Order::Release => {
                    self.release();
                    None
                }
                Order::Ask(since, ask) => Some((since, self.ask(since, ask))),
            };
            if !report(voted, self.standing.clone()) {
                return;
            }
        }
    }

    fn ask(&mut self, since: Instant, ask: Ask) -> Voted {
        let number = ask.number;
        let result = self.try_all(since + PATIENCE, |clerk| clerk.ask_once(ask.epoch));
        match result {
            Ok(Outcome::Granted { ttl }) => {
                Voted::Granted { number, term: ttl - ttl / MARGIN_PART }
            }
            Ok(Outcome::Refused { left, highest }) => Voted::Refused { number, left, highest },
            Err(why) => Voted::Unreachable { number, why },
        }
    }

    /// Asks the endpoints in turn until one answers or it is too late.
    fn try_all<T>(
        &mut self,
        until: Instant,
        mut once: impl FnMut(&mut Self) -> Result<T, Failed>,
    ) -> Result<T, String> {
        let mut whys: Vec<String> = Vec::new();
        // Twice: a connection that was kept open may turn out to be dead.
        for _ in 0..self.gateway.endpoints() * 2 {
            match once(self) {
                Ok(value) => {
                    self.standing = Standing { heard_at: Some(clock::now()), trouble: None };
                    return Ok(value);
                }
                Err(Failed::Away(why)) => {
                    self.gateway.at += 1;
                    whys.push(why);
                }
                Err(Failed::Login(why) | Failed::Said(why)) => {
                    whys.push(why);
                    break;
                }
            }
            if until <= clock::now() {
                break;
            }
        }
        whys.dedup();
        let why = whys.join("; ");
        self.standing.trouble = Some(why.clone());
        Err(why)
    }

    fn ask_once(&mut self, epoch: Epoch) -> Result<Outcome, Failed> {
        if let Some(held) = self.held {
            let ttl = self.gateway.keep_alive(held.lease)?;
            if ttl.is_zero() {
                self.held = None;
            } else if held.epoch == epoch {
                return Ok(Outcome::Granted { ttl });
            }
        }
        let mut keys = Keys::of(self.gateway.range(&self.prefix)?, &self.prefix);
        for _ in 0..RACES_MAX {
            if let Some(refused) = self.refusal(&keys, epoch)? {
                return Ok(refused);
            }
            match self.take(&keys, epoch)? {
                Ok(ttl) => return Ok(Outcome::Granted { ttl }),
                Err(now) => keys = now,
            }
        }
        Err(Failed::Away(String::from("others write to our keys all the time")))
    }

    /// Why the vote is not ours to take.
    fn refusal(&mut self, keys: &Keys, epoch: Epoch) -> Result<Option<Outcome>, Failed> {
        let highest = keys.epoch();
        if epoch < highest {
            return Ok(Some(Outcome::Refused { left: Duration::ZERO, highest }));
        }
        match &keys.holder {
            Some(holder) if !self.is_ours(holder) => {
                // Rounded down there; and what it takes to notice the end.
                let left = self.gateway.left(holder.lease)? + Duration::from_secs(1);
                Ok(Some(Outcome::Refused { left, highest }))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn is_ours(&self, holder: &Stored) -> bool {
        holder.value.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with(' '))
    }

    /// Writes the keys, unless somebody else wrote since they were read.
    fn take(&mut self, keys: &Keys, epoch: Epoch) -> Result<Result<Duration, Keys>, Failed> {
        let (lease, ttl) = match self.held {
            // Kept alive a moment ago.
            Some(held) => (held.lease, TTL),
            None => self.gateway.grant(TTL)?,
        };
        let revision = |row: &Option<Stored>| row.as_ref().map_or(0, |row| row.revision);
        let (holder, highest) = (self.key(HOLDER), self.key(HIGHEST));
        let (value, reign) = (format!("{} {epoch}", self.name), epoch.to_string());
        let written = self.gateway.write(
            &[(&holder, revision(&keys.holder)), (&highest, revision(&keys.highest))],
            &[(&holder, &value, lease), (&highest, &reign, 0)],
            &self.prefix,
        )?;
        match written {
            Ok(()) => {
                self.held = Some(Held { lease, epoch });
                Ok(Ok(ttl))
            }
            Err(now) => Ok(Err(Keys::of(now, &self.prefix))),
        }
    }

    fn release(&mut self) {
        let Some(held) = self.held.take() else { return };
        let until = clock::now() + TTL;
        // If it does not arrive the lease ends by itself.
        let _ = self.try_all(until, |clerk| clerk.gateway.revoke(held.lease));
    }

    /// Whether etcd is there and knows us.
    fn look(&mut self) {
        let until = clock::now() + PATIENCE;
        let _ = self.try_all(until, |clerk| clerk.gateway.range(&clerk.prefix));
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// As [`Epoch`] prints: a number and the first letter of the seat.
fn read_epoch(text: &str) -> Option<Epoch> {
    let seat = match text.chars().last()? {
        'M' => Seat::Master,
        'S' => Seat::Standby,
        _ => return None,
    };
    let number = text[..text.len() - 1].parse().ok()?;
    Some(Epoch { number, seat })
}
