//! One record for each call, on both machines, whatever befell them.
//!
//! A call owes a record from the moment in which a server that served answered its first INVITE with more than
//! 100: what the *server* said counts, also where the network lost it. A question who one is (401, 407) is no
//! answer, and neither is 503, with which a server that does not serve sends phones on.
//!
//! A record may be missing for one reason only: the server that gave the answer was alone, shown as unprotected,
//! and died within the 20 ms in which neither its disk nor its twin had what the answer rests on. Such records
//! are counted apart; the test limits how many.

use std::collections::{BTreeMap, BTreeSet};

use tandem_call::{Cdr, Ending};
use tandem_node::{CDR_PREFIX, read_cdr};

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
        self.doubled += other.doubled;
        self.begun_twice += other.begun_twice;
        self.unsaid += other.unsaid;
    }
}

/// The records that calls owe.
#[derive(Debug, Default)]
pub(crate) struct Owed(BTreeSet<u32>);

impl Owed {
    /// Whether this call owes one.
    pub(crate) fn has(&self, call: u32) -> bool {
        self.0.contains(&call)
    }

    /// A server that serves says this to a phone.
    pub(crate) fn hears(&mut self, bytes: &[u8]) {
        let says = |status: &str| bytes.starts_with(format!("SIP/2.0 {status}").as_bytes());
        if !says("") || ["100", "401", "407", "503"].into_iter().any(says) {
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let is_invite = field("CSeq: ").is_some_and(|cseq| cseq.ends_with("INVITE"));
        // A phone calls in the name of its call; devices are called in the server's own.
        let (nonce, number) =
            field("Call-ID: ").and_then(|id| id.split_once('-')).unwrap_or_default();
        if is_invite && nonce.len() == CALLERS_NONCE {
            self.0.extend(number.parse::<u32>());
        }
    }
}

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
            if !self.oracle.owed.0.contains(number) {
                ledger.unsaid += u64::from(least > 0);
            } else {
                ledger.owed += 1;
                ledger.found += u64::from(least > 0);
                if least == 0 && call.excused {
                    ledger.lost_with_both += 1;
                    alone.push((*number, cdrs.map(<[Cdr]>::len)));
                } else if least == 0 {
                    ledger.lost += 1;
                    found.push(format!("call {number} owes a record and has none"));
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
        self.oracle.seen.ledger = ledger;
        self.say(|| format!("records are gone with both servers: {alone:?}"));
        for what in found {
            self.oracle.broken(self.now, &what);
        }
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
