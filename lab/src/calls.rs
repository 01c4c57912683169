//! Many calls through the pair: users who log in once, callers and phones (SIPp), and what became of
//! every call.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tandem::demo::place::FIRST_PHONE;
use tandem::demo::twins::{Serving, Twins, word};
use tandem::demo::wait;

use crate::sipp::{Order, SIP_PORT, Scenario, Seen, Sipp, first_errors, line};
use crate::sniffer::Sniffer;
use crate::stage::{CALLERS, PHONES, Stage, User};

/// Callers, and as many who are called.
const USERS: usize = 40;

/// Their first numbers.
const FIRST_CALLER: usize = 1000;
const FIRST_CALLED: usize = 2000;

/// The port from which logins are sent.
const LOGIN_PORT: u16 = 5080;

/// When to give up waiting for logins, records.
const LIMIT: Duration = Duration::from_secs(60);

/// How long each call rings and lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    /// Calls a second.
    pub(crate) rate: usize,
    /// Calls in all; `None`: until they are ended.
    pub(crate) calls: Option<usize>,
    /// From 180 to 200.
    pub(crate) ringing: Duration,
    /// From ACK to BYE.
    pub(crate) talking: Duration,
}

/// Calls that are made.
#[derive(Debug)]
pub(crate) struct Calls {
    callers: Sipp,
    phones: Sipp,
    rhythm: Rhythm,
    /// What passes the machine of the callers.
    pub(crate) callers_wire: Sniffer,
    /// What passes the machine of the phones.
    pub(crate) phones_wire: Sniffer,
}

/// What became of them.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// By those who called.
    pub(crate) callers: Seen,
    /// By those who were called.
    pub(crate) phones: Seen,
    /// What went wrong, in SIPp's words; empty where nothing did.
    pub(crate) errors: String,
}

/// Those who call and those who are called.
#[derive(Debug)]
pub(crate) struct People {
    /// Users `c0` and on.
    pub(crate) callers: Vec<User>,
    /// Users `p0` and on, logged in.
    pub(crate) called: Vec<User>,
}

impl People {
    /// Adds all users and logs in those who are called.
    ///
    /// # Errors
    ///
    /// Somebody could not log in.
    pub(crate) fn log_in(stage: &mut Stage, serving: &Serving) -> Result<Self> {
        let callers = stage.add_users(serving, "c", FIRST_CALLER, USERS)?;
        let called = stage.add_users(serving, "p", FIRST_CALLED, USERS)?;
        let seen = log_in(stage, &called, 200, 1)?;
        let all = u64::try_from(USERS)?;
        ensure!((seen.good, seen.failed) == (all, 0), "not all phones logged in: {seen:?}");
        Ok(Self { callers, called })
    }
}

/// Logs users in, `turns` times each, so many a second.
///
/// # Errors
///
/// SIPp does not run.
pub(crate) fn log_in(stage: &Stage, users: &[User], rate: usize, turns: usize) -> Result<Seen> {
    let host = address(stage, PHONES);
    let contact = format!("{}:{SIP_PORT}", host.1);
    let order = Order {
        scenario: Scenario::Register,
        host,
        port: LOGIN_PORT,
        rate: Some(rate),
        calls: Some(users.len() * turns),
        pause: Duration::ZERO,
        lines: users.iter().map(|user| line(user, &contact)).collect(),
    };
    Sipp::start(stage, &order)?.wait(LIMIT + Duration::from_secs(120))
}

impl Calls {
    /// Begins to call.
    ///
    /// # Errors
    ///
    /// SIPp does not start.
    pub(crate) fn begin(stage: &Stage, people: &People, rhythm: Rhythm) -> Result<Self> {
        let wire = |name: &str| {
            let space = stage.place.space(name);
            Sniffer::start(&space.ok_or_else(|| anyhow::anyhow!("{name} is no machine"))?)
        };
        let (callers_wire, phones_wire) = (wire(CALLERS)?, wire(PHONES)?);
        let phones = Order {
            scenario: Scenario::Phone,
            host: address(stage, PHONES),
            port: SIP_PORT,
            rate: None,
            calls: None,
            pause: rhythm.ringing,
            lines: Vec::new(),
        };
        let mut phones = Sipp::start(stage, &phones)?;
        phones.wait_ready()?;
        let pairs = people.callers.iter().zip(&people.called);
        let callers = Order {
            scenario: Scenario::Caller,
            host: address(stage, CALLERS),
            port: SIP_PORT,
            rate: Some(rhythm.rate),
            calls: rhythm.calls,
            pause: rhythm.talking,
            lines: pairs.map(|(caller, called)| line(caller, &called.number)).collect(),
        };
        let callers = Sipp::start(stage, &callers)?;
        Ok(Self { callers, phones, rhythm, callers_wire, phones_wire })
    }

    /// Waits until as many calls as begin in a second ring at this moment, and twice as many are
    /// answered; returns how many.
    ///
    /// # Errors
    ///
    /// They do not; SIPp has ended.
    pub(crate) fn wait_up(&mut self, twins: &Twins, index: usize) -> Result<(usize, usize)> {
        wait::until("ringing and answered calls", LIMIT, || {
            self.callers.still_runs()?;
            self.phones.still_runs()?;
            let (ringing, answered) = twins.calls(index)?;
            let enough = ringing >= self.rhythm.rate && answered >= 2 * self.rhythm.rate;
            Ok(enough.then_some((ringing, answered)))
        })
    }

    /// Ends: no further calls, those that are up end by themselves.
    ///
    /// # Errors
    ///
    /// SIPp does not end.
    pub(crate) fn finish(self) -> Result<Outcome> {
        let Self { callers, phones, rhythm, .. } = self;
        let errors = [callers.errors(), phones.errors()];
        let callers = match rhythm.calls {
            Some(calls) => {
                let seconds = u64::try_from(calls.div_ceil(rhythm.rate))?;
                callers.wait(Duration::from_secs(seconds) + 2 * LIMIT)?
            }
            None => callers.finish()?,
        };
        let phones = phones.finish()?;
        let errors = errors.map(|path| first_errors(&path)).join(" ").trim().to_owned();
        Ok(Outcome { callers, phones, errors })
    }
}

/// The records of `calls` calls on both machines, as soon as all of them are closed on both.
///
/// # Errors
///
/// They do not come to be; how many there are instead is told.
pub(crate) fn records(twins: &Twins, calls: usize) -> Result<[Vec<Value>; 2]> {
    let mut last = String::new();
    let both = wait::until("closed records of all calls on both machines", LIMIT, || {
        let both = [twins.records(0)?, twins.records(1)?];
        let open = both.each_ref().map(|all| all.iter().filter(|one| one["end"].is_null()).count());
        last = format!(
            "{calls} calls; records: master {} ({} open), standby {} ({} open)",
            both[0].len(),
            open[0],
            both[1].len(),
            open[1]
        );
        Ok((both.iter().all(|all| all.len() >= calls) && open == [0, 0]).then_some(both))
    });
    both.map_err(|error| error.context(last))
}

/// Records with this outcome.
#[must_use]
pub(crate) fn with_outcome(records: &[Value], outcome: &str) -> usize {
    records.iter().filter(|record| word(record, "outcome") == outcome).count()
}

/// How many records there are for each caller and called.
#[must_use]
pub(crate) fn by_pair(records: &[Value]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        let [from, to] =
            ["origination_number", "called_number"].map(|f| word(record, f).to_owned());
        *counts.entry((from, to)).or_default() += 1;
    }
    counts
}

/// How many calls SIPp has made from each caller to each called: it goes through the lines in turn.
#[must_use]
pub(crate) fn pairs_of(people: &People, calls: usize) -> BTreeMap<(String, String), usize> {
    let pairs: Vec<_> = people.callers.iter().zip(&people.called).collect();
    let mut counts = BTreeMap::new();
    for (index, (caller, called)) in pairs.iter().enumerate() {
        let count = (calls + pairs.len() - 1 - index) / pairs.len();
        if count > 0 {
            counts.insert((caller.number.clone(), called.number.clone()), count);
        }
    }
    counts
}

/// Name and address of a machine of phones.
fn address<'a>(stage: &Stage, name: &'a str) -> (&'a str, IpAddr) {
    let number = if name == CALLERS { FIRST_PHONE } else { FIRST_PHONE + 1 };
    (name, stage.place.address(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> User {
        User { name: String::new(), number: number.to_string(), password: String::new() }
    }

    #[test]
    fn calls_go_through_the_pairs_in_turn() {
        let people = People {
            callers: vec![user(1), user(2), user(3)],
            called: vec![user(11), user(12), user(13)],
        };
        let counts = |calls| pairs_of(&people, calls).into_values().collect::<Vec<_>>();
        assert_eq!(counts(0), Vec::<usize>::new());
        assert_eq!(counts(2), [1, 1]);
        assert_eq!(counts(7), [3, 2, 2]);
    }

    #[test]
    fn records_are_counted_by_who_called_whom() {
        let record = |from: &str, to: &str| serde_json::json!({ "origination_number": from, "called_number": to, "outcome": "busy" });
        let records = [record("1", "11"), record("2", "12"), record("1", "11")];
        let counts: Vec<_> = by_pair(&records).into_values().collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!((with_outcome(&records, "busy"), with_outcome(&records, "answered")), (3, 0));
    }
}
