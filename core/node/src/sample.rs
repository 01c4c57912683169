//! A few registered phones, to be asked whether this machine reaches them: evidence for the keeper in
//! the case that the twin is silent.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tandem_registrar::AorCheckpoint;
use tandem_types::{Instant, Transport};

use crate::node::Node;
use crate::record::{BINDING, decode};

impl Node {
    /// Where at most `most` phones are that registered over UDP, spread over all users; active or
    /// passive. For the passive this reads that many records; one that cannot be read counts as none.
    pub fn phones(&self, now: Instant, most: usize) -> Vec<SocketAddr> {
        let step = self.journal.count(BINDING).div_ceil(most.max(1)).max(1);
        let records = self.journal.records(now).filter(|(key, ..)| key.starts_with(BINDING));
        let mut phones = BTreeSet::new();
        for (.., body) in records.step_by(step).take(most) {
            let Some(bindings) = decode::<AorCheckpoint>(body) else { continue };
            // One phone of each user: several may be at one place.
            let mut flows = bindings.flows();
            phones.extend(flows.find(|flow| flow.transport == Transport::Udp).map(|it| it.remote));
        }
        phones.into_iter().collect()
    }
}
