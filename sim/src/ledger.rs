//! One record for each call, on both machines, whatever befell them.
//!
//! A call owes a record from the moment in which a server that served answered its first INVITE with more than
//! 100: what the *server* said counts, also where the network lost it. A question who one is (401, 407) is no
//! answer, and neither is 503, with which a server that does not serve sends phones on.
//!
//! A record may be missing for one of two reasons only. The caller had heard no more than that it rings, and the
//! server that said so was alone, shown as unprotected, and died before its disk had it, for which it waits 20 ms. Or
//! the servers of both machines died within [`AT_ONCE`]. Neither excuses a call that was safe on a disk. Such records
//! are counted apart, by what their callers had heard; the test limits how many. A final answer whose record is lost in any other way breaks a promise.

use std::collections::{BTreeMap, BTreeSet};

use tandem_call::{Cdr, Ending};
use tandem_node::{CDR_PREFIX, read_cdr};
use tandem_types::{Duration, Instant};

use crate::judge::call_of;
use crate::world::World;

/// Records counted at the end of a run. Each machine is counted by itself: two records a call are right.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ledger {
    /// Calls that owe a record.
    pub owed: u64,
    /// Records of these that are there, on the machine that has fewer.
    pub found: u64,
    /// Calls that owe a record and have none on one of the machines.
    pub lost: u64,
    /// The same, of those whose state went with both machines, or with one that was alone, before a disk had it.
    pub lost_with_both: u64,
    /// Of these, the calls that were answered, as the server told the caller.
    pub lost_answered: u64,
    /// Of these, the calls whose callers had their last answer: refused, or 200 to their BYE.
    pub lost_over: u64,
    /// Calls with more than one record on one of the machines.
    pub doubled: u64,
    /// The same, of those that were taken by a server which died before it said a word; their callers were asked
    /// anew who they are, and so began once more.
    pub begun_twice: u64,
    /// Calls with a record to which no server said anything.
    pub unsaid: u64,
}

impl Ledger {
    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.owed += other.owed;
        self.found += other.found;
        self.lost += other.lost;
        self.lost_with_both += other.lost_with_both;
        self.lost_answered += other.lost_answered;
        self.lost_over += other.lost_over;
        self.doubled += other.doubled;
        self.begun_twice += other.begun_twice;
        self.unsaid += other.unsaid;
    }
}

/// What a server has said to a caller, the most of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Said {
    /// It rings.
    Provisional,
    /// Somebody answered.
    Answered,
    /// The last answer: the call is refused, or the caller's BYE is answered.
    Over,
}

/// The records that calls owe, and what their callers were told.
#[derive(Debug, Default)]
pub(crate) struct Owed(BTreeMap<u32, Said>);

impl Owed {
    /// Whether this call owes one, and what its caller was told.
    pub(crate) fn of(&self, call: u32) -> Option<Said> {
        self.0.get(&call).copied()
    }

    /// A server that serves says this to a phone.
    pub(crate) fn hears(&mut self, bytes: &[u8]) {
        let says = |status: &str| bytes.starts_with(format!("SIP/2.0 {status}").as_bytes());
        if !says("") || ["100", "401", "407", "503"].into_iter().any(says) {
            return;
        }
        let Some(call) = caller_hears(bytes) else { return };
        let text = String::from_utf8_lossy(bytes);
        let answers = |method: &str| field(&text, "CSeq: ").is_some_and(|it| it.ends_with(method));
        let said = match self.of(call) {
            before if answers("INVITE") => {
                // Once it is answered, further INVITEs put it on hold.
                let now = match (says("1"), says("2")) {
                    (true, _) => Said::Provisional,
                    (_, true) => Said::Answered,
                    (false, false) if before == Some(Said::Answered) => Said::Answered,
                    (false, false) => Said::Over,
                };
                before.max(Some(now))
            }
            Some(_) if answers("BYE") && says("2") => Some(Said::Over),
            before => before,
        };
        if let Some(said) = said {
            self.0.insert(call, said);
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// In which call this message is for the caller, if it is: a phone calls in the name of its call; devices are called in
/// the server's own.
pub(crate) fn caller_hears(bytes: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(bytes);
    let (nonce, number) = field(&text, "Call-ID: ")?.split_once('-')?;
    number.parse::<u32>().ok().filter(|_| nonce.len() == CALLERS_NONCE)
}

/// When the servers of both machines ended.
#[derive(Debug, Default)]
pub(crate) struct Deaths(Vec<(Instant, usize)>);

impl Deaths {
    /// The server of machine `at` is gone.
    pub(crate) fn note(&mut self, now: Instant, at: usize) {
        self.0.push((now, at));
    }

    /// Whether the server of machine `at` ended within [`AT_ONCE`] from then.
    pub(crate) fn soon_after(&self, when: Instant, at: usize) -> bool {
        let soon = when..when + AT_ONCE;
        self.0.iter().any(|(died, machine)| *machine == at && soon.contains(died))
    }

    /// The shortest time between the deaths of one and the other since then.
    fn nearest(&self, since: Instant) -> Option<Duration> {
        let later = self.0.iter().filter(|(when, _)| *when >= since);
        let pairs = later.clone().zip(later.skip(1));
        let other = pairs.filter(|((_, one), (_, two))| one != two);
        other.map(|((first, _), (second, _))| first.elapsed_until(*second)).min()
    }
}

/// Both machines die at once where not more than so long is between their deaths: the one left alone notices
/// silence after 100 ms, and then brings what it holds to a disk that may take 110 ms for what it is at, and as long again.
const AT_ONCE: Duration = Duration::from_millis(350);

/// Letters before the dash in the Call-ID of a phone.
const CALLERS_NONCE: usize = 12;

impl World {
    /// Compares what is owed with what both machines have.
    pub(crate) fn judge_ledger(&mut self) {
        let there = [0, 1].map(|at| self.records_by_call(at));
        let mut ledger = Ledger::default();
        let (mut found, mut alone) = (Vec::new(), Vec::new());
        for (number, call) in &self.oracle.calls {
            let cdrs = [0, 1].map(|at| there[at].get(number).map_or(&[][..], Vec::as_slice));
            let least = cdrs.iter().map(|cdrs| cdrs.len()).min().unwrap_or(0);
            match self.oracle.owed.of(*number) {
                None => ledger.unsaid += u64::from(least > 0),
                Some(_) if least > 0 => {
                    ledger.owed += 1;
                    ledger.found += 1;
                }
                Some(said) => {
                    ledger.owed += 1;
                    let apart = self.oracle.deaths.nearest(call.began);
                    let at_once = apart.is_some_and(|apart| apart <= AT_ONCE);
                    if call.excused && (said == Said::Provisional || at_once) {
                        ledger.lost_with_both += 1;
                        ledger.lost_answered += u64::from(said == Said::Answered);
                        ledger.lost_over += u64::from(said == Said::Over);
                        alone.push((*number, said, apart, cdrs.map(<[Cdr]>::len)));
                    } else {
                        ledger.lost += 1;
                        let what = format!(
                            "call {number} ({said:?}) owes a record and has none; the two died {apart:?} apart"
                        );
                        found.push(what);
                    }
                }
            }
            let Some(most) = cdrs.into_iter().find(|cdrs| cdrs.len() > 1) else { continue };
            if most.iter().filter(|cdr| !is_unheard(cdr)).count() <= 1 {
                ledger.begun_twice += 1;
            } else {
                ledger.doubled += 1;
                found.push(format!("call {number} has {} records: {most:?}", most.len()));
            }
        }
        found.extend(self.gone_from_disk());
        self.oracle.seen.ledger = ledger;
        self.say(|| format!("records are gone with both servers: {alone:?}"));
        for what in found {
            self.oracle.broken(self.now, &what);
        }
    }

    /// Calls that were safe on a disk at some time, under way or closed, and have no record on one of the machines:
    /// nothing excuses that.
    fn gone_from_disk(&self) -> Vec<String> {
        let disks = [0, 1].map(|at| &self.machines[at].disk);
        let safe: BTreeSet<&String> = disks.iter().flat_map(|disk| disk.safe_calls()).collect();
        let key = |number: &str| [CDR_PREFIX, number.as_bytes()].concat();
        let gone = |number: &&&String| {
            // What is set aside has its record under the number that it had before.
            !number.contains('~')
                && !disks.iter().all(|disk| disk.logs().contains_key(&key(number)))
        };
        let gone = safe.iter().filter(gone);
        gone.map(|number| format!("the call {number} was safe on a disk and has no record"))
            .collect()
    }

    /// The closed records on the disk of a machine.
    fn records_by_call(&self, at: usize) -> BTreeMap<u32, Vec<Cdr>> {
        let mut by_call: BTreeMap<u32, Vec<Cdr>> = BTreeMap::new();
        for (key, kept) in self.machines[at].disk.logs() {
            let cdr =
                kept.body.as_deref().filter(|_| key.starts_with(CDR_PREFIX)).and_then(read_cdr);
            if let Some(cdr) = cdr.filter(|cdr| cdr.end.is_some())
                && let Some(call) = call_of(&cdr)
            {
                by_call.entry(call).or_default().push(cdr);
            }
        }
        by_call
    }
}

/// Whether no server said anything in this call.
pub(crate) fn is_unheard(cdr: &Cdr) -> bool {
    cdr.ending == Some(Ending::Failover) && (cdr.sip_status, cdr.delivered) == (0, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(owed: &mut Owed, status: &str, method: &str) -> Option<Said> {
        let text =
            format!("SIP/2.0 {status} X\r\nCall-ID: 0123456789ab-7\r\nCSeq: 2 {method}\r\n\r\n");
        owed.hears(text.as_bytes());
        owed.of(7)
    }

    #[test]
    fn what_a_caller_was_told_is_the_most_of_it() {
        let mut owed = Owed::default();
        for nothing in ["100", "401", "407", "503"] {
            assert_eq!(says(&mut owed, nothing, "INVITE"), None);
        }
        assert_eq!(says(&mut owed, "200", "BYE"), None, "of a call that nobody owes");
        assert_eq!(says(&mut owed, "180", "INVITE"), Some(Said::Provisional));
        assert_eq!(says(&mut owed, "200", "CANCEL"), Some(Said::Provisional));
        assert_eq!(says(&mut owed, "200", "INVITE"), Some(Said::Answered));
        assert_eq!(says(&mut owed, "180", "INVITE"), Some(Said::Answered));
        assert_eq!(says(&mut owed, "491", "INVITE"), Some(Said::Answered), "a hold was refused");
        assert_eq!(says(&mut owed, "481", "BYE"), Some(Said::Answered));
        assert_eq!(says(&mut owed, "200", "BYE"), Some(Said::Over));
        let mut owed = Owed::default();
        says(&mut owed, "180", "INVITE");
        assert_eq!(says(&mut owed, "486", "INVITE"), Some(Said::Over));
    }

    #[test]
    fn two_machines_die_at_once_where_one_death_follows_that_of_the_other() {
        let at = |millis: u64| Instant::from_micros(millis * 1_000);
        let mut deaths = Deaths::default();
        for (millis, machine) in [(100, 0), (150, 0), (400, 1), (9_000, 1), (9_900, 0)] {
            deaths.note(at(millis), machine);
        }
        assert_eq!(deaths.nearest(at(0)), Some(Duration::from_millis(250)));
        assert_eq!(deaths.nearest(at(200)), Some(Duration::from_millis(900)));
        assert_eq!(deaths.nearest(at(9_500)), None);
        assert!(deaths.soon_after(at(100), 1) && !deaths.soon_after(at(40), 1));
        assert!(!deaths.soon_after(at(401), 1) && !deaths.soon_after(at(9_700), 1));
    }
}
