//! Flows on which nothing can be sent, and whose fault that is.
//!
//! A datagram that the system refuses says nothing about the phone: where the keeper has given the virtual address
//! up, or the cable is out, every one is refused until this server hears that it serves no more. A call that failed
//! then would be closed here while it rings on at the twin. So it is the phone's fault only when it lasts: the
//! message is repeated after T1, and refused again.

use std::collections::BTreeMap;

use tandem_types::{Duration, Flow, Instant};

/// Flows that were refused once, and when.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    since: BTreeMap<Flow, Instant>,
}

/// A keeper that gives up its address tells its server within this time; messages are repeated later (T1).
const LASTS: Duration = Duration::from_millis(200);

/// What was refused longer ago has nothing to do with what is refused now. Longer than the longest pause between
/// two repetitions (T2).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// Flows remembered at most; one more is lost at once.
const FLOWS_MAX: usize = 16_384;

impl Failing {
    /// Something could not be sent on this flow. Whether nobody is reached there.
    pub(crate) fn is_lost(&mut self, now: Instant, flow: Flow) -> bool {
        // A connection that is gone is gone.
        if flow.transport.is_reliable() {
            return true;
        }
        match self.since.get(&flow) {
            Some(first) if now < *first + LASTS => false,
            Some(first) if now < *first + FORGOTTEN_AFTER => {
                self.since.remove(&flow);
                true
            }
            Some(_) | None => {
                if self.since.len() >= FLOWS_MAX {
                    self.since.retain(|_, first| now < *first + FORGOTTEN_AFTER);
                }
                let is_full = self.since.len() >= FLOWS_MAX;
                if !is_full {
                    self.since.insert(flow, now);
                }
                is_full
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Transport;

    fn flow(transport: Transport, port: u16) -> Flow {
        let local = ([10, 0, 0, 10], 5060).into();
        Flow { transport, local, remote: ([10, 0, 1, 1], port).into() }
    }

    const START: Instant = Instant::from_micros(1_000_000);

    #[test]
    fn a_datagram_counts_when_it_is_refused_again_after_a_while_and_a_connection_at_once() {
        let mut failing = Failing::default();
        let phone = flow(Transport::Udp, 5060);
        assert!(!failing.is_lost(START, phone));
        assert!(!failing.is_lost(START + LASTS - Duration::from_millis(1), phone));
        assert!(!failing.is_lost(START + LASTS, flow(Transport::Udp, 5061)), "another phone");
        assert!(failing.is_lost(START + LASTS, phone));
        assert!(!failing.is_lost(START + LASTS, phone), "it begins anew");
        assert!(!failing.is_lost(START + LASTS + FORGOTTEN_AFTER, phone), "that was long ago");
        assert!(failing.is_lost(START, flow(Transport::Tcp, 5060)));
    }

    #[test]
    fn beyond_the_limit_a_flow_is_lost_at_once_until_others_are_forgotten() {
        let mut failing = Failing::default();
        let last = u16::try_from(FLOWS_MAX).unwrap_or(0);
        for port in 0..last {
            assert!(!failing.is_lost(START, flow(Transport::Udp, port)));
        }
        assert!(failing.is_lost(START, flow(Transport::Udp, last)));
        assert!(!failing.is_lost(START + FORGOTTEN_AFTER, flow(Transport::Udp, last)));
        assert_eq!(failing.since.len(), 1);
    }
}
