//! The call detail record: one a call, begun with its first INVITE.

use serde::{Deserialize, Serialize};
use tandem_types::Pii;

/// How a call went, as far as it got.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Somebody answered.
    Answered,
    /// Every device said it was busy.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// The caller hung up before anybody answered.
    Cancelled,
    /// The called side refused, or there is no such number, or nobody is logged in.
    Refused,
    /// No device could be reached.
    Failed,
}

/// Who or what ended a call.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The caller hung up.
    Caller,
    /// The called side hung up or refused.
    Callee,
    /// This server: nobody answered in time, no device, a limit.
    Server,
    /// One side vanished: it no longer answers, or knows nothing of the call.
    Lost,
    /// Both servers were away; the call was found unfinished on disk.
    Failover,
}

/// The record of one call. Times are microseconds since 1970-01-01 UTC.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cdr {
    /// The call number: the same in the log, the phone's header and the record.
    pub call_id: String,
    /// The caller's number.
    pub origination_number: Pii<String>,
    /// The caller's name.
    pub origination_name: Pii<String>,
    /// What was dialled.
    pub called_number: Pii<String>,
    /// Name of who was called, as far as known.
    pub called_name: Pii<String>,
    /// Number of who answered; before that as called.
    pub destination_number: Pii<String>,
    /// Name of who answered; before that as called.
    pub destination_name: Pii<String>,
    /// The first INVITE reached the server.
    pub start: i64,
    /// A device began to ring.
    pub delivered: Option<i64>,
    /// A device answered.
    pub connect: Option<i64>,
    /// The call ended; `None` while it is up.
    pub end: Option<i64>,
    /// How it went; `None` while it is up.
    pub outcome: Option<Outcome>,
    /// Who or what ended it; `None` while it is up.
    pub ending: Option<Ending>,
    /// The SIP status the caller was given (200 where answered).
    pub sip_status: u16,
    /// The Q.850 cause (ITU-T Q.850; 16 normal clearing, 17 busy, 19 no answer, 21 rejected).
    pub q850_cause: u8,
    /// User agent and address of the caller's device.
    pub origination_device: String,
    /// Contact of the device that answered.
    pub destination_device: String,
}

/// Times of one record never go back: the clock on the wall of a machine that took the call over
/// may be behind that of the one that had it.
impl Cdr {
    /// A device rings; the first time counts.
    pub fn delivered_at(&mut self, wall: i64) {
        self.delivered.get_or_insert(wall.max(self.start));
    }

    /// A device answered.
    pub fn connected_at(&mut self, wall: i64) {
        self.connect = Some(wall.max(self.latest()));
    }

    /// Closes the record.
    pub fn close(&mut self, wall: i64, outcome: Outcome, ending: Ending, q850_cause: u8) {
        self.end = Some(wall.max(self.latest()));
        self.outcome = Some(outcome);
        self.ending = Some(ending);
        self.q850_cause = q850_cause;
    }

    /// The latest time that stands in it.
    fn latest(&self) -> i64 {
        self.connect.or(self.delivered).unwrap_or(self.start).max(self.start)
    }

    /// Seconds between connect and end, rounded down; zero where nobody answered.
    pub fn talk_seconds(&self) -> i64 {
        match (self.connect, self.end) {
            (Some(connect), Some(end)) => (end - connect).max(0) / 1_000_000,
            (None | Some(_), _) => 0,
        }
    }
}

/// Q.850 cause for a SIP status (RFC 3398 §8.2.6.1, the common ones).
pub(crate) const fn cause_of_status(status: u16) -> u8 {
    match status {
        200 => 16,
        404 | 484 | 604 => 1,
        486 | 600 => 17,
        480 => 18,
        408 | 487 => 19,
        403 | 401 | 407 | 603 => 21,
        410 => 22,
        488 | 606 => 88,
        502 | 503 => 41,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdr() -> Cdr {
        Cdr {
            call_id: String::new(),
            origination_number: Pii::new(String::new()),
            origination_name: Pii::new(String::new()),
            called_number: Pii::new(String::new()),
            called_name: Pii::new(String::new()),
            destination_number: Pii::new(String::new()),
            destination_name: Pii::new(String::new()),
            start: 1_000,
            delivered: None,
            connect: None,
            end: None,
            outcome: None,
            ending: None,
            sip_status: 0,
            q850_cause: 0,
            origination_device: String::new(),
            destination_device: String::new(),
        }
    }

    #[test]
    fn a_record_taken_over_by_a_machine_whose_clock_is_behind_does_not_go_back() {
        let mut early = cdr();
        early.close(900, Outcome::Failed, Ending::Failover, 41);
        assert_eq!(early.end, Some(1_000));
        let mut answered = cdr();
        answered.delivered_at(1_100);
        answered.delivered_at(1_050);
        answered.connected_at(1_070);
        answered.close(1_080, Outcome::Answered, Ending::Caller, 16);
        let times = (answered.delivered, answered.connect, answered.end);
        assert_eq!(times, (Some(1_100), Some(1_100), Some(1_100)));
        assert_eq!(answered.talk_seconds(), 0);
    }
}
