//! What a story or bad luck may do to the world, as data.

use std::fmt;

use tandem_keeper::OperatorRequest;
use tandem_node::{Blockable, Request};
use tandem_types::Duration;

use crate::network::Road;
use crate::world::{World, new_user};

/// One deed. Machines are 0 (the master's) and 1 (the standby's).
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each reads as the sentence of a story")]
pub enum Order {
    KillServer(usize),
    KillKeeper(usize),
    /// For good, or for so long.
    HangServer(usize, Option<Duration>),
    HangKeeper(usize, Duration),
    HangMachine(usize, Duration),
    PowerOn(usize),
    PowerOff(usize),
    /// Pulls the network cable (true) or plugs it.
    Unplug(usize, bool),
    /// Cuts roads of a machine (true) or mends them.
    Cut(usize, Vec<Road>, bool),
    FillDisk(usize, bool),
    SlowDisk(usize, bool),
    /// An operator asks a keeper for something.
    Operate(usize, OperatorRequest),
    /// The gateway is there (true) or gone.
    Gateway(bool),
    /// The witness starts (true; it forgets what it promised) or ends.
    Voter(bool),
    /// The clock on a machine's wall goes on or back by so many milliseconds.
    JumpWall(usize, i64),
    AddUser(usize, String),
    /// Blocks (true) or lets in again, asked for on that machine.
    Block(usize, Blockable, bool),
    /// Emergency numbers ring at this user.
    Emergency(usize, String),
}

/// Something to do at a message of a server.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    /// Whether the message is lost with what is done, or leaves first.
    pub(crate) before: bool,
    /// What the message begins with, after the version: `200 OK`; or a method.
    pub(crate) status: String,
    /// The method in its CSeq.
    pub(crate) method: String,
    pub(crate) from: usize,
    /// Only while the twin of the server has everything.
    pub(crate) protected: bool,
    pub(crate) order: Order,
}

impl World {
    /// Does it.
    pub fn obey(&mut self, order: &Order) {
        match order {
            Order::KillServer(at) => self.kill_server(*at),
            Order::KillKeeper(at) => self.kill_keeper(*at),
            Order::HangServer(at, pause) => self.stall_server(*at, *pause),
            Order::HangKeeper(at, pause) => self.stall_keeper(*at, *pause),
            Order::HangMachine(at, pause) => self.stall_machine(*at, *pause),
            Order::PowerOn(at) => self.power_on(*at),
            Order::PowerOff(at) => self.power_off(*at),
            Order::Unplug(at, out) => self.unplug(*at, *out),
            Order::Cut(at, roads, cut) => self.cut(*at, roads, *cut),
            Order::FillDisk(at, full) => self.fill_disk(*at, *full),
            Order::SlowDisk(at, slow) => self.slow_disk(*at, *slow),
            Order::Operate(at, request) => self.operate(*at, *request),
            Order::Gateway(there) => self.stop_gateway(!*there),
            Order::Voter(true) => self.start_voter(),
            Order::Voter(false) => self.stop_voter(),
            Order::JumpWall(at, millis) => self.jump_wall(*at, *millis),
            Order::AddUser(at, name) => drop(self.ask(*at, new_user(name))),
            Order::Block(at, what, on) => drop(self.ask(*at, block(*what, *on))),
            Order::Emergency(at, to) => {
                let to = Some(to.clone());
                self.ask(*at, Request::EmergencySet { numbers: None, to });
            }
        }
    }

    /// Whether a message of a server sets off something; true where it is lost by that.
    pub(crate) fn set_off(&mut self, from: usize, protected: bool, bytes: &[u8]) -> bool {
        let meant = |it: &Trigger| it.from == from && (protected || !it.protected);
        let Some(at) = self.triggers.iter().position(|it| meant(it) && it.fits(bytes)) else {
            return false;
        };
        let trigger = self.triggers.remove(at);
        self.say(|| format!("at this moment: {}", trigger.order));
        if trigger.before {
            self.obey(&trigger.order);
            return true;
        }
        self.late_orders.push(trigger.order);
        false
    }
}

impl Trigger {
    fn fits(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().next().unwrap_or_default();
        let first = first.strip_prefix("SIP/2.0 ").unwrap_or(first);
        let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or_default();
        first.starts_with(&self.status) && cseq.ends_with(&self.method)
    }
}

fn block(what: Blockable, on: bool) -> Request {
    if on {
        Request::Block { what, reason: String::from("maintenance"), seconds: None }
    } else {
        Request::Unblock { what }
    }
}

fn seat(at: usize) -> &'static str {
    if at == 0 { "master" } else { "standby" }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pause = |pause: &Duration| pause.as_millis();
        match self {
            Self::KillServer(at) => write!(f, "kill server {}", seat(*at)),
            Self::KillKeeper(at) => write!(f, "kill keeper {}", seat(*at)),
            Self::HangServer(at, None) => write!(f, "hang server {}", seat(*at)),
            Self::HangServer(at, Some(long)) => {
                write!(f, "hang server {} for {}ms", seat(*at), pause(long))
            }
            Self::HangKeeper(at, long) => {
                write!(f, "hang keeper {} for {}ms", seat(*at), pause(long))
            }
            Self::HangMachine(at, long) => {
                write!(f, "hang machine {} for {}ms", seat(*at), pause(long))
            }
            Self::PowerOn(at) => write!(f, "power on {}", seat(*at)),
            Self::PowerOff(at) => write!(f, "power off {}", seat(*at)),
            Self::Unplug(at, true) => write!(f, "unplug {}", seat(*at)),
            Self::Unplug(at, false) => write!(f, "plug {}", seat(*at)),
            Self::Cut(at, roads, cut) => {
                let verb = if *cut { "cut" } else { "mend" };
                write!(f, "{verb} {roads:?} {}", seat(*at))
            }
            Self::FillDisk(at, true) => write!(f, "disk full {}", seat(*at)),
            Self::FillDisk(at, false) => write!(f, "disk free {}", seat(*at)),
            Self::SlowDisk(at, true) => write!(f, "disk slow {}", seat(*at)),
            Self::SlowDisk(at, false) => write!(f, "disk fast {}", seat(*at)),
            Self::Operate(at, request) => write!(f, "{request:?} at {}", seat(*at)),
            Self::Gateway(there) => write!(f, "gateway {}", if *there { "back" } else { "gone" }),
            Self::Voter(true) => f.write_str("witness starts"),
            Self::Voter(false) => f.write_str("witness ends"),
            Self::JumpWall(at, millis) => write!(f, "clock of {} by {millis}ms", seat(*at)),
            Self::AddUser(at, name) => write!(f, "add user {name} at {}", seat(*at)),
            Self::Block(at, what, true) => write!(f, "block {what} at {}", seat(*at)),
            Self::Block(at, what, false) => write!(f, "unblock {what} at {}", seat(*at)),
            Self::Emergency(at, to) => write!(f, "emergency rings {to} at {}", seat(*at)),
        }
    }
}
