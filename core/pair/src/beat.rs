//! The heartbeat: what one keeper tells the other, a hundred times a second.

use serde::{Deserialize, Serialize};
use tandem_types::{Epoch, Seat, Stamp};

use crate::table::State;

/// One uninterrupted life of a keeper. Later lives compare greater.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Life {
    /// Greater than at every earlier start of this machine's keeper.
    pub boot: u64,
    /// Raised by one each time the process was held up so long that it counts as restarted.
    pub sleeps: u32,
}

/// What of the receiver the sender heard last: proof that the heartbeat is fresh.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Echo {
    /// The life of the receiver that was heard.
    pub life: Life,
    /// [`Beat::sent_micros`] of the heartbeat that was heard.
    pub sent_micros: u64,
}

/// State of the server process beside a keeper.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// Being started; was not up before under this keeper.
    Starting,
    /// Up.
    Up,
    /// Died, or was killed because it hung; its newest entry as far as the keeper knows.
    Died(Stamp),
}

/// One heartbeat.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Beat {
    /// Seat of the sender.
    pub seat: Seat,
    /// Life of the sender.
    pub life: Life,
    /// Raised by one with every heartbeat of this life.
    pub seq: u64,
    /// The sender's clock; means nothing to the receiver, which sends it back in its echo.
    pub sent_micros: u64,
    /// The receiver's heartbeat that the sender heard last.
    pub echo: Option<Echo>,
    /// What the sender does.
    pub state: State,
    /// The sender's own last reign; the present one while it is active.
    pub reign: Epoch,
    /// The highest epoch the sender has seen.
    pub highest: Epoch,
    /// Whether it could lead: server up, network there, disk willing, not locked.
    pub fit: bool,
    /// Whether it knows all of the newest reign, in memory: its present server process reigned, or
    /// was in sync with the one who did.
    pub whole: bool,
    /// The newest entry its server has; `None` as long as that has not told.
    pub holds: Option<Stamp>,
    /// Its server process.
    pub server: Server,
    /// Whether its server serves phones at this moment.
    pub serving: bool,
    /// Active: whether all that it promised is on the twin too; also of a server that died active.
    pub protected: bool,
    /// Calls that are up at its server.
    pub calls: u32,
    /// Whether a phone was heard since we were heard last before the present or latest silence: a
    /// server that was cut off from everybody carries no call, whatever it holds.
    pub reached: bool,
    /// The sender must be silent so long, at least, before it may be judged gone: its lease is
    /// shorter.
    pub silence_micros: u32,
    /// How late the sender's own timers were of late.
    pub late_micros: u32,
    /// Maintenance lock: it does not promote itself.
    pub locked: bool,
    /// Whether its network has a carrier.
    pub carrier: bool,
}
