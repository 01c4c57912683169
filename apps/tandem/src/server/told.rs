//! What of the node's facts operators are told: the keeper keeps it with its own events.

use serde_json::json;
use tandem_keeper::{Budget, ServerFact};
use tandem_node::Fact;
use tandem_types::{Duration, Instant};

/// Facts that are told at once; then one in each [`PAUSE`]. A pair that flaps must not push out of the
/// files what led to that.
const BURST: u32 = 60;

/// See [`BURST`].
const PAUSE: Duration = Duration::from_secs(2);

/// Facts on their way to the keeper.
#[derive(Debug)]
pub(super) struct Told {
    budget: Budget,
    waiting: Vec<ServerFact>,
}

impl Told {
    /// Nothing is told yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { budget: Budget::new(now, BURST, PAUSE), waiting: Vec::new() }
    }

    /// Tells a fact, if it is one for operators.
    pub(super) fn fact(&mut self, now: Instant, fact: &Fact) {
        if is_for_operators(fact)
            && let Some(kind) = json!(fact)["fact"].as_str()
        {
            self.tell(now, &format!("server_{kind}"), fact.to_string());
        }
    }

    /// Tells something of this program's own.
    pub(super) fn tell(&mut self, now: Instant, kind: &str, sentence: String) {
        if !self.budget.take(now) {
            return;
        }
        let dropped = self.budget.dropped();
        if dropped > 0 {
            let sentence = format!("{dropped} facts were too many and are in the log only");
            self.waiting.push(ServerFact { kind: String::from("server_facts_dropped"), sentence });
        }
        self.waiting.push(ServerFact { kind: kind.to_owned(), sentence });
    }

    /// What is to go to the keeper.
    pub(super) fn take(&mut self) -> Vec<ServerFact> {
        core::mem::take(&mut self.waiting)
    }
}

/// Not what single phones and calls do: that would be a record of people, and there are call records.
fn is_for_operators(fact: &Fact) -> bool {
    match fact {
        Fact::RoleChanged { .. }
        | Fact::LeaseLost { .. }
        | Fact::LeaseBack
        | Fact::HandedOver { .. }
        | Fact::Protection { .. }
        | Fact::Blocked { .. }
        | Fact::Unblocked { .. }
        | Fact::Disk { .. }
        | Fact::DiskLate { .. }
        | Fact::RecordsDamaged { .. }
        | Fact::SameSeat
        | Fact::BadFrame { .. } => true,
        Fact::LoggedIn { .. }
        | Fact::LoggedOut { .. }
        | Fact::LoginRefused { .. }
        | Fact::LoginBlocked { .. }
        | Fact::CallBegan { .. }
        | Fact::CallAnswered { .. }
        | Fact::CallBlocked { .. }
        | Fact::CallEnded { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(told: &mut Told) -> Vec<String> {
        told.take().into_iter().map(|fact| fact.kind).collect()
    }

    #[test]
    fn a_fact_for_operators_is_told_under_its_name_and_one_of_a_call_is_not() {
        let mut told = Told::new(Instant::ZERO);
        told.fact(Instant::ZERO, &Fact::LeaseBack);
        told.fact(Instant::ZERO, &Fact::CallAnswered { call: String::from("1") });
        assert_eq!(kinds(&mut told), ["server_lease_back"]);
    }

    #[test]
    fn a_flood_is_counted_and_that_is_told() {
        let mut told = Told::new(Instant::ZERO);
        (0..BURST + 10).for_each(|_| told.fact(Instant::ZERO, &Fact::LeaseBack));
        assert_eq!(kinds(&mut told).len(), BURST as usize);
        told.fact(Instant::ZERO + PAUSE, &Fact::LeaseBack);
        assert_eq!(kinds(&mut told), ["server_facts_dropped", "server_lease_back"]);
    }
}
