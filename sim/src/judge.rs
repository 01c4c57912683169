//! The judgement at the end of a run, in peace.

use std::collections::BTreeMap;

use tandem_call::{CallEvent, Cdr, Ending, Outcome as Record};
use tandem_node::{CDR_PREFIX, CallEvents, Request, read_cdr, read_events};
use tandem_store::tables::Tables;
use tandem_types::Duration;

use crate::ledger::is_unheard;
use crate::oracle::{Call, Outcome};
use crate::world::World;

/// After all faults have ended, and no keeper lets a server that failed too often rest, the pair is
/// whole again within this time.
const HEALING_MAX: Duration = Duration::from_secs(20);

/// A call under way on disk.
pub(crate) const CALL_PREFIX: &[u8] = b"call/";

/// A device that was cancelled and never says so keeps its call on disk for 64*T1, twice where the
/// server changes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(70);

/// After so many pauses of so long no call is left, whatever was lost: one rings for three minutes at most.
const CALLS_END_TURNS: usize = 20;
const CALLS_END_PAUSE: Duration = Duration::from_secs(10);

/// Numbers that pass every block.
const EMERGENCY: [&str; 2] = ["110", "112"];

impl World {
    /// Peace, then every phone hangs up, then all promises are checked.
    pub fn judge(&mut self) {
        if !self.heals() {
            return;
        }
        // Lost messages are repeated after four seconds at most.
        self.advance(Duration::from_millis(4_500));
        self.call_everybody();
        self.hang_up_everything();
        if self.has_calls_left() {
            self.advance(FORGOTTEN_AFTER);
        }
        self.judge_calls();
        self.judge_records();
        self.judge_users();
        self.judge_replicas();
    }

    /// Peace; and whether the pair is whole again in time.
    pub(crate) fn heals(&mut self) -> bool {
        self.make_peace();
        let rests = self.machines.iter().map(|machine| machine.rests_until).max();
        let rest = rests.unwrap_or(self.now).remaining_from(self.now);
        let heals = self.advance_until(rest + HEALING_MAX, Self::is_healthy);
        if !heals {
            let states = [0, 1].map(|at| self.describe(at));
            let what = format!("the pair does not heal: {} / {}", states[0], states[1]);
            self.oracle.broken(self.now, &what);
        }
        heals
    }

    /// What a machine looks like from outside.
    fn describe(&self, at: usize) -> String {
        let machine = &self.machines[at];
        let state = machine.keeper.as_ref().map(|keeper| keeper.keeper.state().to_string());
        let server = machine.server.as_ref().map(|server| {
            let standing = server.node.standing();
            format!("{} serving={} in_sync={}", standing.role, standing.serving, standing.in_sync)
        });
        let none = || String::from("none");
        format!("keeper {}, server {}", state.unwrap_or_else(none), server.unwrap_or_else(none))
    }

    /// Each user who was promised to be found is called.
    fn call_everybody(&mut self) {
        let users: Vec<(usize, String)> = self
            .phones()
            .iter()
            .enumerate()
            .filter(|(_, phone)| phone.config().device == phone.config().user)
            .map(|(number, phone)| (number, phone.config().user.clone()))
            .collect();
        for number in 0..self.phones().len() {
            self.use_phone(number, |phone, now| {
                phone.habits = crate::phone::Habits {
                    answer_millis: Some((300, 320)),
                    ..crate::phone::Habits::PATIENT
                };
                phone.hang_up_all(now);
            });
        }
        self.advance(Duration::from_millis(700));
        let callers: Vec<usize> = users.iter().map(|(caller, _)| *caller).collect();
        for ((_, to), caller) in users.iter().zip(callers.iter().cycle().skip(1)) {
            if self.oracle.is_reachable(self.now, to) {
                let call = self.call(*caller, to);
                self.oracle.is_proof(call);
                self.advance(Duration::from_millis(10));
            }
        }
        self.advance(Duration::from_millis(1_200));
    }

    fn hang_up_everything(&mut self) {
        for number in 0..self.phones().len() {
            self.use_phone(number, |phone, now| phone.hang_up_all(now));
        }
        let idle = |world: &Self| world.phones().iter().all(crate::phone::Phone::is_idle);
        self.advance_until(Duration::from_secs(10), idle);
        self.advance_until(Duration::from_secs(2), |world| {
            world.machines.iter().all(|machine| machine.disk.is_idle())
        });
        self.advance(Duration::from_millis(300));
    }

    /// A call whose answer went with a server rings on at its twin for as long as a call may ring; one whose end did
    /// is ended by asking both sides. Then their records are closed too.
    pub(crate) fn let_calls_end(&mut self) {
        for _ in 0..CALLS_END_TURNS {
            if !self.has_calls_left() {
                break;
            }
            self.advance(CALLS_END_PAUSE);
        }
    }

    fn has_calls_left(&self) -> bool {
        let mut keys = self.machines.iter().flat_map(|machine| machine.disk.records().keys());
        keys.any(|key| key.starts_with(CALL_PREFIX))
    }

    fn judge_calls(&mut self) {
        let mut found = Vec::new();
        for (number, call) in &self.oracle.calls {
            if !call.excused
                && !self.oracle.died_trying(call)
                && let Err(what) = judge_call(call, |phone| self.oracle.name(phone))
            {
                let caller = self.oracle.name(call.caller);
                found.push(format!("call {number}, {caller} to {}: {what}", call.to));
            }
        }
        for what in found {
            self.oracle.broken(self.now, &what);
        }
    }

    /// Every call has one record, closed, which says what the caller heard. (A server that died with
    /// an answer unsaid may have closed it before; the twin's record is the later one and stays.)
    fn judge_records(&mut self) {
        let mut found = Vec::new();
        let mut by_call: BTreeMap<u32, Vec<Cdr>> = BTreeMap::new();
        let mut events: BTreeMap<String, CallEvents> = BTreeMap::new();
        let mut cdrs = Vec::new();
        for (key, kept) in self.machines[0].disk.logs() {
            let body = kept.body.as_deref();
            let name = String::from_utf8_lossy(key);
            if let (Some(call), Some(read)) =
                (name.strip_prefix("cev/"), body.and_then(read_events))
            {
                events.insert(call.to_owned(), read);
            } else if let Some(cdr) =
                body.filter(|_| key.starts_with(CDR_PREFIX)).and_then(read_cdr)
            {
                cdrs.push(cdr);
            } else {
                found.push(format!("{name} cannot be read"));
            }
        }
        for cdr in cdrs {
            if let Err(what) = judge_events(&cdr, events.remove(&cdr.call_id).as_ref()) {
                found.push(format!("record {}: {what}", cdr.call_id));
            }
            if let Some(call) = call_of(&cdr) {
                by_call.entry(call).or_default().push(cdr);
            }
        }
        found.extend(events.keys().map(|call| format!("{call} has events and no record")));
        let mut compared = 0;
        for (number, call) in self.oracle.calls.iter().filter(|(_, call)| !call.excused) {
            let cdrs = by_call.get(number).map_or(&[][..], Vec::as_slice);
            compared += cdrs.len() as u64;
            if cdrs.iter().all(is_unheard) && self.oracle.died_trying(call) {
                continue;
            }
            if let Err(what) = judge_record(call, cdrs, self.oracle.strict) {
                found.push(format!("call {number}: {what}"));
            }
        }
        self.oracle.seen.records += compared;
        for what in found {
            self.oracle.broken(self.now, &what);
        }
    }

    /// Users that an administrator was told to be saved are there.
    fn judge_users(&mut self) {
        let Some(active) = self.active() else { return };
        let id = self.ask(active, Request::UserList);
        self.advance_until(Duration::from_secs(1), |world| world.reply(id).is_some());
        let mut found = Vec::new();
        let there: Vec<String> = match self.reply(id) {
            Some(tandem_node::Reply::Users { users }) => {
                users.iter().map(|user| user.name.clone()).collect()
            }
            other => {
                found.push(format!("the list of users cannot be had: {other:?}"));
                Vec::new()
            }
        };
        let on_disk = [0, 1].map(|at| self.machines[at].users_on_disk());
        let digests = [0, 1].map(|at| self.machines[at].tables().map(Tables::digests));
        if let [Some(Ok(one)), Some(Ok(other))] = &digests
            && one != other
        {
            found.push("the two machines have different configurations".to_owned());
        }
        for user in &self.oracle.users {
            if !there.contains(user) || !on_disk.iter().all(|disk| disk.contains(user)) {
                found.push(format!("the saved user {user} is lost"));
            }
        }
        for what in found {
            self.oracle.broken(self.now, &what);
        }
    }

    /// Both disks hold the same, and nothing of calls that are over.
    fn judge_replicas(&mut self) {
        let mut found = Vec::new();
        let [one, two] = &self.machines;
        let maps = [(one.disk.records(), two.disk.records()), (one.disk.logs(), two.disk.logs())];
        for (ours, theirs) in maps {
            let keys: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                let same = match (ours.get(key), theirs.get(key)) {
                    (Some(one), Some(two)) => one.stamp == two.stamp && one.body == two.body,
                    (None | Some(_), _) => false,
                };
                if !same {
                    found.push(format!("{} differs", String::from_utf8_lossy(key)));
                }
                // A call whose state was lost ends when the server asks after it, minutes later.
                if key.starts_with(CALL_PREFIX) && self.oracle.seen.losses == 0 {
                    found.push(format!("{} is left over", String::from_utf8_lossy(key)));
                }
            }
        }
        found.truncate(10);
        for what in found {
            self.oracle.broken(self.now, &what);
        }
    }
}

/// Whether what a caller was promised was kept.
fn judge_call<'a>(call: &Call, name: impl Fn(usize) -> &'a str) -> Result<(), String> {
    let ringing = |device: &crate::oracle::Device| {
        !device.stopped && !device.picked_up && device.refused.is_none()
    };
    if let Some((phone, _)) = call.devices.iter().find(|(_, device)| ringing(device)) {
        return Err(format!("{} still rings", name(*phone)));
    }
    let passes = EMERGENCY.contains(&call.to.as_str());
    if call.blocked && !passes && call.outcome != Some(Outcome::Refused(503)) {
        return Err(format!("was let in although new calls are blocked: {:?}", call.outcome));
    }
    let answering = match &call.outcome {
        None => return Err(String::from("the caller still waits")),
        Some(Outcome::Nothing) => return Err(String::from("the caller got no answer")),
        Some(Outcome::Refused(status)) => return judge_refusal(call, *status),
        Some(Outcome::Answered { device }) => {
            call.devices.iter().find(|(phone, _)| name(**phone) == device)
        }
    };
    let Some((_, device)) = answering else {
        return Err(String::from("was answered by nobody who rang"));
    };
    if !device.picked_up || !(device.acked || device.hung_up) {
        return Err(String::from("the device that answered does not know that it was heard"));
    }
    if call.hung_up && !(device.left || call.left) {
        return Err(String::from("the caller was hung up by nobody"));
    }
    if device.hung_up && !(call.left || device.left) {
        return Err(String::from("the called side was hung up by nobody"));
    }
    // Where both hung up at once, their BYEs crossed.
    if !(call.hung_up || device.hung_up || call.left && device.left) {
        return Err(String::from("one side hung up and the other never heard of it"));
    }
    let missed = call.reachable.iter().find(|phone| !call.devices.contains_key(phone));
    match missed.filter(|_| call.proof) {
        Some(phone) => Err(format!("{} is logged in and did not ring", name(*phone))),
        None => Ok(()),
    }
}

/// A refusal is in order when the caller gave up, nobody was there, or all refused.
fn judge_refusal(call: &Call, status: u16) -> Result<(), String> {
    if call.gave_up && matches!(status, 487 | 407) {
        return Ok(());
    }
    if call.reachable.is_empty() && call.devices.is_empty() {
        return Ok(());
    }
    if call.blocked && status == 503 {
        return Ok(());
    }
    if call.rang_out && status == 480 {
        return Ok(());
    }
    let all_refused =
        !call.devices.is_empty() && call.devices.values().all(|device| device.refused.is_some());
    if all_refused {
        return Ok(());
    }
    Err(format!("was refused with {status} although somebody could have answered"))
}

/// The events of a call tell what its record does.
fn judge_events(cdr: &Cdr, events: Option<&CallEvents>) -> Result<(), String> {
    let steps = events.map_or(&[][..], |events| &events.trail.steps);
    let has = |wanted: fn(&CallEvent) -> bool| steps.iter().any(|step| wanted(&step.event));
    let rang = has(|event| matches!(event, CallEvent::Ringing { .. }));
    let answered = has(|event| matches!(event, CallEvent::Answered { .. }));
    let right = rang == cdr.delivered.is_some()
        && answered == cdr.connect.is_some()
        && steps.is_sorted_by_key(|step| step.after_us);
    if right { Ok(()) } else { Err(format!("{cdr:?} has other events: {events:?}")) }
}

fn judge_record(call: &Call, cdrs: &[Cdr], strict: bool) -> Result<(), String> {
    let due = match &call.outcome {
        Some(Outcome::Answered { .. }) => true,
        Some(Outcome::Refused(status)) => !matches!(status, 401 | 407 | 503),
        Some(Outcome::Nothing) | None => call.rang,
    };
    let cdr = match cdrs {
        [] if due => return Err(String::from("has no record")),
        [] => return Ok(()),
        [cdr] => cdr,
        // One server took the INVITE, was cut off or died before it said a word, and the other one was
        // sent the repetition: it cannot know that the first took it.
        [unheard, cdr] | [cdr, unheard] if is_unheard(unheard) => cdr,
        _ => return Err(format!("has {} records: {cdrs:?}", cdrs.len())),
    };
    let (Some(outcome), Some(ending), Some(end)) = (cdr.outcome, cdr.ending, cdr.end) else {
        return Err(format!("its record is not closed: {cdr:?}"));
    };
    let answered = matches!(call.outcome, Some(Outcome::Answered { .. }));
    let says_answered = outcome == Record::Answered && cdr.connect.is_some();
    if answered != says_answered {
        return Err(format!("its record tells another story: {cdr:?}"));
    }
    if cdr.connect.is_some_and(|connect| connect > end) || cdr.start > end {
        return Err(format!("its record ends before it begins: {cdr:?}"));
    }
    if let Some(Outcome::Refused(status)) = &call.outcome
        && cdr.sip_status != *status
    {
        return Err(format!("the caller heard {status}, its record says {cdr:?}"));
    }
    let callee_left = call.devices.values().any(|device| device.left);
    let wrong = match ending {
        Ending::Caller => answered && !call.left,
        Ending::Callee => answered && !callee_left,
        Ending::Server => answered,
        // A server that was away when the call ended, and comes back after the other one was
        // restarted, may bring the call back; it is then ended by asking after it.
        Ending::Lost => strict,
        Ending::Failover => true,
    };
    if wrong { Err(format!("nobody ended it so: {cdr:?}")) } else { Ok(()) }
}

/// The number of the call, which its caller wrote into the User-Agent.
pub(crate) fn call_of(cdr: &Cdr) -> Option<u32> {
    let rest = cdr.origination_device.split("sim-phone/call-").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
