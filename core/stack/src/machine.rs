//! What the four state machines have in common: what they ask their owner, the stack, to do.

use crate::timing::Octets;
use serde::{Deserialize, Serialize};
use tandem_types::Flow;

/// One thing the stack must do for a machine, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Output {
    /// Send to the transaction's peer.
    Send { bytes: Octets, repeat: bool },
    /// Send somewhere else: the ACK for a 2xx follows the route set of its dialog.
    SendTo { flow: Flow, bytes: Octets, repeat: bool },
    /// Pass the message that is being handled to the transaction user.
    Deliver,
    /// Start a CANCEL for this INVITE request.
    Cancel { request: Octets },
    /// Tell the transaction user that no final response will come.
    Failed(FailReason),
    /// Tell the transaction user that its 2xx was never acknowledged.
    NoAck,
}

/// Why a client transaction ended without a final response.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FailReason {
    /// Nobody answered in time (timers B and F; to be treated as 408, RFC 3261 §8.1.3.1).
    Timeout,
    /// The message could not be sent, or the stack is at its limit (to be treated as 503).
    Transport,
}

/// The transaction user answered when it may not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RespondError {
    /// No such server transaction: it has ended.
    Unknown,
    /// A final response was sent before; the RFC says to discard the new one.
    AlreadyCompleted,
    /// The status is not between 100 and 699.
    BadStatus,
}

/// How the machines understand a status code (RFC 3261 §7.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// 1xx.
    Provisional,
    /// 2xx.
    Success,
    /// 3xx to 6xx.
    Failure,
}

impl Class {
    /// The class of `status`, if it is one.
    pub(crate) fn of(status: u16) -> Option<Self> {
        match status {
            100..=199 => Some(Self::Provisional),
            200..=299 => Some(Self::Success),
            300..=699 => Some(Self::Failure),
            0..=99 | 700.. => None,
        }
    }
}

/// Plays a script on one machine and compares what it does with a transcript.
#[cfg(test)]
pub(crate) mod script {
    use super::Output;
    use crate::timing::Octets;
    use expect_test::Expect;
    use tandem_types::{Duration, Instant};

    /// What the scripts need of a machine.
    pub(crate) trait Machine {
        /// Does what the script says; a line for the transcript if there is something to say.
        fn step(&mut self, now: Instant, verb: &str, word: &str, out: &mut Vec<Output>) -> String;
        fn timeout(&mut self, now: Instant, out: &mut Vec<Output>);
        fn next(&self) -> Option<Instant>;
        fn over(&self) -> bool;
        /// Whether the twin keeps a record, and whether the machine says so.
        fn kept(&self, now: Instant) -> (bool, bool);
        /// Replaces the machine by what the twin makes of its record; false: there is none.
        fn twin(&mut self, now: Instant, age: Duration, out: &mut Vec<Output>) -> bool;
    }

    pub(crate) fn octets(text: &str) -> Octets {
        text.as_bytes().to_vec().into()
    }

    struct Player<'a, M> {
        machine: &'a mut M,
        now: Instant,
        over: bool,
        seen: String,
    }

    /// Steps are set apart by semicolons. `wait 4` passes 4 seconds, timer by timer; `twin 4` has
    /// the twin take over, 4 seconds after the record was written; the others are the machine's.
    #[track_caller]
    pub(crate) fn check<M: Machine>(
        machine: &mut M,
        first: Vec<Output>,
        script: &str,
        want: &Expect,
    ) {
        let mut player = Player { machine, now: Instant::ZERO, over: false, seen: String::new() };
        player.note(first);
        for step in script.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            let (verb, word) = step.split_once(' ').unwrap_or((step, ""));
            player.step(verb, word);
        }
        want.assert_eq(&player.seen);
    }

    impl<M: Machine> Player<'_, M> {
        fn step(&mut self, verb: &str, word: &str) {
            let mut out = Vec::new();
            match verb {
                "wait" => return self.wait(Duration::from_secs_f64(word.parse().unwrap())),
                "twin" => {
                    let age = Duration::from_secs(word.parse().unwrap_or_default());
                    let known = self.machine.twin(self.now, age, &mut out);
                    self.seen += &format!(
                        "{} twin {}\n",
                        self.now,
                        ["knows nothing", "takes over"][usize::from(known)]
                    );
                }
                _ => self.seen += &self.machine.step(self.now, verb, word, &mut out),
            }
            self.note(out);
        }

        fn wait(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(due) = self.machine.next().filter(|due| *due <= end) {
                assert!(due >= self.now, "a timer in the past");
                self.now = due;
                let mut out = Vec::new();
                self.machine.timeout(due, &mut out);
                self.note(out);
                assert_ne!(self.machine.next(), Some(due), "a timer that does not end");
            }
            self.now = end;
        }

        fn note(&mut self, out: Vec<Output>) {
            let now = self.now;
            let text = |bytes: Octets| String::from_utf8(bytes.0).unwrap();
            for output in out {
                self.seen += &match output {
                    Output::Send { bytes, repeat } => {
                        format!("{now} -> {}{}\n", text(bytes), if repeat { " again" } else { "" })
                    }
                    Output::SendTo { flow, bytes, repeat } => {
                        let again = if repeat { " again" } else { "" };
                        format!("{now} -> {}{again} to {flow}\n", text(bytes))
                    }
                    Output::Deliver => format!("{now} to the user\n"),
                    Output::Cancel { request } => format!("{now} cancel {}\n", text(request)),
                    Output::Failed(reason) => format!("{now} failed: {reason:?}\n"),
                    Output::NoAck => format!("{now} no ACK\n"),
                };
            }
            let (kept, said) = self.machine.kept(now);
            assert_eq!(kept, said, "save() and is_kept() disagree");
            if self.machine.over() && !self.over {
                self.over = true;
                self.seen += &format!("{now} terminated\n");
                assert_eq!(self.machine.next(), None);
            }
        }
    }
}
