//! What the callers were promised, and whether it is kept.
//!
//! ```text
//!   News of every phone ──┐
//!   what servers send ────┼─> Oracle ──> violations
//!   who serves when ──────┤
//!   both disks at the end ┘   (judge.rs)
//! ```
//!
//! A promise is what a phone was told. It may be broken for one reason only: the server that gave it
//! was alone (shown as unprotected) and is gone, and the other had to go on without its state. Such
//! moments are found by comparing positions in the journal; calls and logins of before are then
//! *excused*, and counted. Saved users and closed call records are never excused.
//!
//! The oracle counts what it saw, so that a run in which nothing happened proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use tandem_journal::Known;
use tandem_node::{Blockable, Fact, Request};
use tandem_types::{Duration, Epoch, Instant, Role, Stamp};

use crate::ledger::{Deaths, Ledger, Owed, caller_hears};
use crate::phone::{Config, News};

/// What was seen, to prove that something was.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Calls begun.
    pub calls: u64,
    /// Calls answered, as the caller heard it.
    pub answered: u64,
    /// Calls ended with a BYE that was answered.
    pub hung_up: u64,
    /// Calls that were up when the role moved from one server to the other.
    pub carried: u64,
    /// Calls that rang at such a moment.
    pub carried_ringing: u64,
    /// Reigns begun.
    pub reigns: u64,
    /// Answers by a passive server.
    pub refused_by_passive: u64,
    /// Call records compared with what the caller heard.
    pub records: u64,
    /// Calls and logins excused, because the state was with a server that is gone.
    pub excused: u64,
    /// Moments at which that happened.
    pub losses: u64,
    /// Of these, in fair runs, when a split was healed and the side that spoke to phones gave up.
    pub healing_losses: u64,
    /// Times both served for a moment that no question could have prevented.
    pub races: u64,
    /// Users saved.
    pub users: u64,
    /// Planned switches of a pair that was well.
    pub clean_switches: u64,
    /// Messages that phones repeated or heard again.
    pub repeated: u64,
    /// Partitions.
    pub partitions: u64,
    /// How long both servers served at once in these, in microseconds.
    pub together_micros: u64,
    /// Switchovers that waited for the calls to end, and were begun.
    pub idle_switches: u64,
    /// Maintenance locks that were set on a machine which was not active.
    pub locks: u64,
    /// Active machines that were cut off from everybody, with a gateway to tell them.
    pub isolated: u64,
    /// Promises that the third voter gave and renewed.
    pub granted: u64,
    /// Server processes and keepers that were killed.
    pub kills: u64,
    /// Machines that lost their power.
    pub power_cuts: u64,
    /// Cuts of roads.
    pub cuts: u64,
    /// Planned switches that were begun.
    pub switches: u64,
    /// What became of the records, where they are counted.
    pub ledger: Ledger,
    /// Runs.
    pub runs: u64,
}

impl Seen {
    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.hung_up += other.hung_up;
        self.carried += other.carried;
        self.carried_ringing += other.carried_ringing;
        self.reigns += other.reigns;
        self.refused_by_passive += other.refused_by_passive;
        self.records += other.records;
        self.excused += other.excused;
        self.losses += other.losses;
        self.healing_losses += other.healing_losses;
        self.races += other.races;
        self.users += other.users;
        self.granted += other.granted;
        self.isolated += other.isolated;
        self.partitions += other.partitions;
        self.together_micros += other.together_micros;
        self.clean_switches += other.clean_switches;
        self.repeated += other.repeated;
        self.idle_switches += other.idle_switches;
        self.locks += other.locks;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.cuts += other.cuts;
        self.switches += other.switches;
        self.ledger.add(&other.ledger);
        self.runs += other.runs;
    }
}

/// How a call ended for its caller, or that it was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Answered { device: String },
    Refused(u16),
    Nothing,
}

/// A device in a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Device {
    pub(crate) stopped: bool,
    pub(crate) picked_up: bool,
    pub(crate) acked: bool,
    pub(crate) refused: Option<u16>,
    pub(crate) left: bool,
    pub(crate) hung_up: bool,
}

/// One call, as its phones tell.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: usize,
    pub(crate) to: String,
    /// Devices that were promised to be found when it began.
    pub(crate) reachable: BTreeSet<usize>,
    pub(crate) trying: bool,
    /// When a server that was alone said 100 to it last, and which.
    tried: Option<(Instant, usize)>,
    pub(crate) rang: bool,
    pub(crate) gave_up: bool,
    pub(crate) began: Instant,
    /// It was refused, after it had rung as long as a server lets it.
    pub(crate) rang_out: bool,
    pub(crate) outcome: Option<Outcome>,
    /// When it was answered.
    since: Option<Instant>,
    pub(crate) devices: BTreeMap<usize, Device>,
    /// The caller hung up.
    pub(crate) left: bool,
    /// The caller was hung up.
    pub(crate) hung_up: bool,
    pub(crate) excused: bool,
    /// Meant to ring every device in peace.
    pub(crate) proof: bool,
    /// New calls were blocked when it began.
    pub(crate) blocked: bool,
}

impl Call {
    fn was_hung_up_by_other(&self, phone: usize) -> bool {
        let device = self.devices.get(&phone).copied().unwrap_or_default();
        let left = |device: &Device| device.left;
        if self.caller == phone {
            self.hung_up || self.devices.values().any(left)
        } else {
            device.hung_up || self.left
        }
    }

    fn is_answered_by(&self, name: &str) -> bool {
        matches!(&self.outcome, Some(Outcome::Answered { device }) if device == name)
    }

    /// Whether either side has hung up, or was.
    pub(crate) fn is_left(&self) -> bool {
        let gone = |device: &Device| device.left || device.hung_up;
        self.left || self.hung_up || self.devices.values().any(gone)
    }

    /// Whether both sides talk, and did before `then`.
    pub(crate) fn is_talked_in(&self, then: Instant) -> bool {
        self.is_up() && !self.is_left() && self.since.is_some_and(|since| since < then)
    }

    /// Whether it is up, as the caller knows.
    fn is_up(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Answered { .. })) && !self.left && !self.hung_up
    }
}

/// The server that sends something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker {
    pub(crate) at: usize,
    pub(crate) role: Role,
    /// Whether its lease holds.
    pub(crate) leased: bool,
    /// Whether its twin has everything.
    pub(crate) protected: bool,
    /// Its newest entry.
    pub(crate) tip: Stamp,
}

/// Remembers what was promised.
#[derive(Debug)]
pub struct Oracle {
    phones: Vec<Config>,
    pub(crate) calls: BTreeMap<u32, Call>,
    /// Until when each device is promised to be found.
    logins: BTreeMap<usize, Instant>,
    pub(crate) users: BTreeSet<String>,
    /// Calls that owe a record.
    pub(crate) owed: Owed,
    pub(crate) deaths: Deaths,
    /// An administrator was told that new calls are blocked.
    blocked: bool,
    /// For each machine: the newest entry on which a promise rests that only this machine can keep.
    sole: [Option<Stamp>; 2],
    /// When a question at the virtual address was lost by chance last.
    probe_lost: Option<Instant>,
    /// Since when the two have shared anything; `None`: they do not.
    shared_since: Option<Instant>,
    both_serve: bool,
    /// Whether a third voter forbids two at once.
    votes: bool,
    /// Since when heartbeats pass both ways.
    hear_since: Option<Instant>,
    /// A while after both served last.
    both_until: Option<Instant>,
    /// When each server began its last reign.
    began: [Instant; 2],
    /// When a server was held up last.
    stalled: Option<Instant>,
    reigns: BTreeSet<Epoch>,
    /// Whether faults came one by one.
    pub(crate) strict: bool,
    /// What was broken.
    pub violations: Vec<String>,
    /// What was seen.
    pub seen: Seen,
}

impl Oracle {
    /// Nothing was promised. `votes`: there is a third voter.
    pub fn new(phones: Vec<Config>, votes: bool) -> Self {
        Self {
            phones,
            calls: BTreeMap::new(),
            logins: BTreeMap::new(),
            users: BTreeSet::new(),
            owed: Owed::default(),
            deaths: Deaths::default(),
            blocked: false,
            sole: [None; 2],
            probe_lost: None,
            shared_since: Some(Instant::ZERO),
            both_serve: false,
            votes,
            hear_since: None,
            both_until: None,
            began: [Instant::ZERO; 2],
            stalled: None,
            reigns: BTreeSet::new(),
            strict: true,
            violations: Vec::new(),
            seen: Seen { runs: 1, ..Seen::default() },
        }
    }

    pub(crate) fn name(&self, phone: usize) -> &str {
        &self.phones[phone].device
    }

    pub(crate) fn broken(&mut self, now: Instant, what: &str) {
        self.violations.push(format!("{now} {what}"));
    }

    /// A call is about to begin.
    pub(crate) fn begins(&mut self, now: Instant, call: u32, caller: usize, to: &str) {
        self.seen.calls += 1;
        let known = |(phone, until): (&usize, &Instant)| {
            (self.phones[*phone].user == to && now < *until).then_some(*phone)
        };
        let reachable = self.logins.iter().filter_map(known).collect();
        let call_state = Call {
            caller,
            to: to.to_owned(),
            reachable,
            trying: false,
            tried: None,
            rang: false,
            gave_up: false,
            began: now,
            rang_out: false,
            outcome: None,
            since: None,
            devices: BTreeMap::new(),
            left: false,
            hung_up: false,
            excused: false,
            proof: false,
            blocked: self.blocked,
        };
        self.calls.insert(call, call_state);
    }

    /// Whether a device of this user is promised to be found.
    pub(crate) fn is_reachable(&self, now: Instant, user: &str) -> bool {
        self.logins.iter().any(|(phone, until)| self.phones[*phone].user == user && now < *until)
    }

    /// This call must ring every device that may be found, and be answered.
    pub(crate) fn is_proof(&mut self, call: u32) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.proof = true;
        }
    }

    /// An administrator was told that this is done.
    pub(crate) fn saved(&mut self, request: &Request) {
        match request {
            Request::UserAdd { name, .. } => {
                self.users.insert(name.clone());
                self.seen.users += 1;
            }
            Request::UserRemove { name } => {
                self.users.remove(name);
            }
            Request::Block { what: Blockable::Calls, .. } => self.blocked = true,
            Request::Unblock { what: Blockable::Calls } => self.blocked = false,
            Request::UserSet { .. }
            | Request::UserList
            | Request::CallList
            | Request::BlockList { .. }
            | Request::Block { what: Blockable::Logins, .. }
            | Request::Unblock { what: Blockable::Logins }
            | Request::EmergencySet { .. }
            | Request::EmergencyList
            | Request::RetentionSet { .. }
            | Request::Retention => {}
        }
    }

    /// What a phone tells.
    pub(crate) fn heard(&mut self, now: Instant, phone: usize, news: &News) {
        match news {
            News::LoggedIn { seconds } => {
                self.logins.insert(phone, now + Duration::from_secs(u64::from(*seconds)));
            }
            News::LoginFailed { .. } | News::IsAsked { .. } | News::IsHeld { .. } => {}
            News::Complaint(what) => {
                let who = self.name(phone).to_owned();
                if self.seen.losses == 0 && self.both_until.is_none_or(|until| until <= now) {
                    self.broken(now, &format!("{who} complains: {what}"));
                }
            }
            News::Calls { call, .. }
            | News::HearsTrying { call }
            | News::HearsRinging { call, .. }
            | News::HearsAnswer { call, .. }
            | News::HearsRefusal { call, .. }
            | News::HearsNothing { call }
            | News::GivesUp { call }
            | News::Rings { call }
            | News::StopsRinging { call }
            | News::PicksUp { call }
            | News::Refuses { call, .. }
            | News::HearsAck { call }
            | News::HearsNoAck { call }
            | News::HangsUp { call }
            | News::HangUpAnswered { call, .. }
            | News::IsHungUp { call }
            | News::Holds { call }
            | News::HoldAnswered { call, .. } => self.heard_of_call(now, phone, *call, news),
        }
    }

    fn heard_of_call(&mut self, now: Instant, phone: usize, number: u32, news: &News) {
        let who = self.phones[phone].device.clone();
        let Some(call) = self.calls.get_mut(&number) else { return };
        let excused = call.excused;
        let calls = call.caller == phone;
        let mut broken = None;
        match news {
            News::HearsTrying { .. } => call.trying = true,
            News::HearsRinging { .. } => call.rang = true,
            News::HearsAnswer { device, .. } => {
                self.seen.answered += 1;
                call.outcome = Some(Outcome::Answered { device: device.clone() });
                call.since = Some(now);
            }
            News::HearsRefusal { status, .. } => {
                call.outcome = Some(Outcome::Refused(*status));
                call.rang_out = call.began + RING_MAX <= now;
            }
            News::HearsNothing { .. } => call.outcome = Some(Outcome::Nothing),
            News::GivesUp { .. } => call.gave_up = true,
            News::Rings { .. } => drop(call.devices.entry(phone).or_default()),
            News::StopsRinging { .. } => call.devices.entry(phone).or_default().stopped = true,
            News::PicksUp { .. } => call.devices.entry(phone).or_default().picked_up = true,
            News::Refuses { status, .. } => {
                call.devices.entry(phone).or_default().refused = Some(*status);
            }
            News::HearsAck { .. } => call.devices.entry(phone).or_default().acked = true,
            News::HearsNoAck { .. } => {
                broken = Some(String::from("its 200 was never acknowledged"))
            }
            News::HangsUp { .. } if calls => call.left = true,
            News::HangsUp { .. } => call.devices.entry(phone).or_default().left = true,
            News::HangUpAnswered { status: 200, .. } => self.seen.hung_up += 1,
            // Two servers serve for a moment, and the one that is about to give up was asked.
            News::HangUpAnswered { status: 481, .. } | News::HoldAnswered { status: 481, .. }
                if self.both_until.is_some_and(|until| now < until) => {}
            // The other side's BYE came first, though it may not have reached this phone: its own is
            // late.
            News::HangUpAnswered { status: 481, .. } if call.was_hung_up_by_other(phone) => {}
            News::HangUpAnswered { status: 481, .. } if !calls && !call.is_answered_by(&who) => {}
            News::HangUpAnswered { status, .. } => {
                broken = Some(format!("its BYE was answered with {status}"));
            }
            News::IsHungUp { .. } if calls => call.hung_up = true,
            News::IsHungUp { .. } => call.devices.entry(phone).or_default().hung_up = true,
            News::HoldAnswered { status: 200 | 491 | 500 | 487, .. } => {}
            // It was on its way when the call ended.
            News::HoldAnswered { .. } if call.is_left() => {}
            // It answered too late, another device had the call: it is about to be hung up.
            News::HoldAnswered { .. } if !calls && !call.is_answered_by(&who) => {}
            News::HoldAnswered { status, .. } => {
                broken = Some(format!("its re-INVITE was answered with {status}"));
            }
            News::Calls { .. }
            | News::Holds { .. }
            | News::LoggedIn { .. }
            | News::LoginFailed { .. }
            | News::IsAsked { .. }
            | News::IsHeld { .. }
            | News::Complaint(_) => {}
        }
        if let Some(what) = broken.filter(|_| !excused) {
            self.broken(now, &format!("{who}, call {number}: {what}"));
        }
    }
}

/// What servers send, and which of them serves.
impl Oracle {
    /// A server sends a message to a phone or a stranger.
    pub(crate) fn speaks(&mut self, now: Instant, speaker: Speaker, bytes: &[u8]) {
        match speaker.role {
            Role::Passive if bytes.starts_with(b"SIP/2.0 503") => {
                self.seen.refused_by_passive += 1;
            }
            Role::Passive => {
                let line = first_line(bytes);
                self.broken(now, &format!("the passive server {} says {line}", speaker.at));
            }
            Role::Active if !speaker.leased => {
                let line = first_line(bytes);
                self.broken(now, &format!("server {} says without a lease: {line}", speaker.at));
            }
            Role::Active => {}
        }
    }

    /// What an active server said is on its way to a phone: a promise rests on it.
    pub(crate) fn reaches_phone(&mut self, now: Instant, speaker: Speaker, bytes: &[u8]) {
        let says = |status: &str| bytes.starts_with(format!("SIP/2.0 {status}").as_bytes());
        if !speaker.protected
            && says("100")
            && let Some(call) = caller_hears(bytes).and_then(|call| self.calls.get_mut(&call))
        {
            call.tried = Some((now, speaker.at));
        }
        // Whoever is refused for good stands in a record.
        let promises = !["1", "401", "407", "503"].into_iter().any(says) || says("18");
        if speaker.role == Role::Active && !speaker.protected && promises {
            self.sole[speaker.at] = Some(speaker.tip);
        }
    }

    /// Whether all that the caller ever heard was 100, said by a server that was alone and died then: nobody else
    /// knows of this call, and 100 promises nothing.
    pub(crate) fn died_trying(&self, call: &Call) -> bool {
        let mute = !call.rang && matches!(call.outcome, None | Some(Outcome::Nothing));
        mute && call.tried.is_some_and(|(when, at)| self.deaths.soon_after(when, at))
    }

    /// The twin of this machine has everything.
    pub(crate) fn is_protected(&mut self, at: usize) {
        self.sole[at] = None;
    }

    /// A server lost entries that were acknowledged and not yet on its disk: from now on only the
    /// other one has them, where it lives and knows them.
    pub(crate) fn lost_unwritten(&mut self, now: Instant, at: usize, other: Option<Stamp>) -> bool {
        match other {
            Some(tip) => {
                self.sole[1 - at] = self.sole[1 - at].max(Some(tip));
                false
            }
            None => {
                self.lose(now);
                true
            }
        }
    }

    /// A question at the virtual address, or its answer, was lost by chance.
    pub(crate) fn probe_lost(&mut self, now: Instant) {
        self.probe_lost = Some(now);
    }

    /// A server tells something. `saved`: the newest epoch on its machine's disk.
    pub(crate) fn fact(&mut self, now: Instant, at: usize, fact: &Fact, saved: Epoch) {
        if let Fact::RoleChanged { role: Role::Active, epoch, .. } = fact {
            if *epoch > saved {
                self.broken(now, &format!("{at} reigns in epoch {epoch}, on disk is {saved}"));
            }
            if !self.reigns.insert(*epoch) {
                self.broken(now, &format!("{at} reigns in epoch {epoch}, which was used before"));
            }
            self.seen.reigns += 1;
            self.seen.carried += self.calls.values().filter(|call| call.is_up()).count() as u64;
            let rings = |call: &&Call| call.rang && call.outcome.is_none();
            self.seen.carried_ringing += self.calls.values().filter(rings).count() as u64;
        }
    }

    /// The server of `at` begins a reign, knowing entries up to `tip`, and of earlier reigns what its
    /// disk says: are all promises there? Where
    /// the other one serves on, it keeps them, until it gives up or ends.
    pub(crate) fn begins_reign(
        &mut self,
        now: Instant,
        at: usize,
        (tip, known): (Stamp, &Known),
        other_serves: bool,
    ) -> bool {
        self.began[at] = now;
        // Two reigns that knew nothing of each other are in no order: each entry counts.
        let lacks = |promised: Option<Stamp>| {
            promised.is_some_and(|promised| {
                if promised.epoch == tip.epoch {
                    promised.seq > tip.seq
                } else {
                    !known.covers(promised)
                }
            })
        };
        let lost = lacks(self.sole[at]) || (!other_serves && lacks(self.sole[1 - at]));
        if lost {
            self.lose(now);
        }
        lost
    }

    /// The server of `at` ended while the other one already served.
    pub(crate) fn ends_beside_another(&mut self, now: Instant, at: usize) -> bool {
        self.gave_up_reign(now, at, true)
    }

    /// The server of `at` gave up its reign. Where the other one serves, what was not handed over is
    /// lost; else it is here, and whoever begins the next reign must know it.
    pub(crate) fn gave_up_reign(&mut self, now: Instant, at: usize, other_serves: bool) -> bool {
        let lost = self.sole[at].is_some() && other_serves;
        if lost {
            self.lose(now);
            self.seen.healing_losses += 1;
        }
        lost
    }

    /// State on which promises rest is gone: excuses calls and logins.
    pub(crate) fn lose(&mut self, _now: Instant) {
        self.sole = [None; 2];
        self.seen.losses += 1;
        for call in self.calls.values_mut().filter(|call| !call.excused) {
            call.excused = true;
            self.seen.excused += 1;
        }
        self.seen.excused += self.logins.len() as u64;
        self.logins.clear();
    }

    /// Notes what the two machines share now.
    pub(crate) fn share(&mut self, now: Instant, shared: bool) {
        self.shared_since = match (shared, self.shared_since) {
            (false, _) => None,
            (true, since) => since.or(Some(now)),
        };
    }

    /// A server was held up: it could not answer whoever asked for it.
    pub(crate) fn was_stalled(&mut self, now: Instant) {
        self.stalled = Some(now);
    }

    /// Notes who serves now. `hear`: whether the keepers hear each other.
    ///
    /// Without heartbeats all rests on questions asked within milliseconds. Two servers that begin
    /// in the same moment, and one that could not answer because it was held up, are counted and
    /// tolerated: the test limits how often.
    pub(crate) fn serving(&mut self, now: Instant, both: bool, hear: bool) {
        self.hear_since = if hear { self.hear_since.or(Some(now)) } else { None };
        if both {
            self.both_until = Some(now + CONTACT);
        }
        if !both {
            self.both_serve = false;
            return;
        }
        if self.votes {
            if !core::mem::replace(&mut self.both_serve, true) {
                self.broken(now, "both servers serve although there is a third voter");
            }
            return;
        }
        let Some(since) = self.shared_since else { return };
        let excused = self.probe_lost.is_some_and(|at| now < at + PROBE_MEMORY);
        if self.both_serve || now <= since + CONTACT || excused {
            return;
        }
        self.both_serve = true;
        let hear = self.hear_since.is_some_and(|since| since + CONTACT < now);
        let [one, two] = self.began;
        let together = one.max(two) < one.min(two) + TOGETHER;
        let stalled = self.stalled.is_some_and(|at| now < at + CONTACT);
        if !hear && (together || stalled) {
            self.seen.races += 1;
        } else {
            self.broken(now, "both servers serve although they share something");
        }
    }
}

fn first_line(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// After contact is back both may serve for so long, until one has given up.
const CONTACT: Duration = Duration::from_millis(1_000);

/// Reigns that begin within this time begin in the same moment.
const TOGETHER: Duration = Duration::from_millis(60);

/// A server gives up ringing after so long.
const RING_MAX: Duration = tandem_call::RING_MAX;

/// A takeover within this time of a lost question may rest on its loss.
const PROBE_MEMORY: Duration = Duration::from_millis(300);
