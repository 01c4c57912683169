//! The oracle's rule of the planned switch: where both machines are well and the network loses nothing, no
//! phone has to repeat anything because of it, and none hears anything twice.

use tandem_keeper::Fact as KeeperFact;
use tandem_types::{Duration, Instant};

use crate::network::Weather;
use crate::world::World;

/// A phone repeats at the latest so long after it was not answered (RFC 3261 §17.1.2.2, T2); what it
/// repeats sooner than this after a fault may be because of the fault.
const REPEATS_WITHIN: Duration = Duration::from_millis(4_500);

/// When something was disturbed last, and when a switch was begun since then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calm {
    disturbed: Option<Instant>,
    switched: Option<Instant>,
}

impl World {
    /// Something went wrong, or was put right again.
    pub(crate) fn disturb(&mut self) {
        self.calm = Calm { disturbed: Some(self.now), switched: None };
    }

    /// The weather changes.
    pub fn set_weather(&mut self, weather: Weather) {
        self.disturb();
        self.network.weather = weather;
    }

    /// A keeper tells something: perhaps that a planned switch begins.
    pub(crate) fn watch_switch(&mut self, fact: &KeeperFact) {
        let KeeperFact::SwitchOrdered { force: false } = fact else { return };
        self.oracle.seen.switches += 1;
        let Weather { loss_percent, twice_percent, .. } = self.network.weather;
        let recently = self.calm.disturbed.is_some_and(|at| self.now < at + REPEATS_WITHIN);
        if (loss_percent, twice_percent) == (0, 0) && !recently && self.is_healthy() {
            self.calm.switched = Some(self.now);
            self.oracle.seen.clean_switches += 1;
        }
    }

    /// A phone repeats something, or hears something again. `call`: it is the answer to this call's INVITE.
    pub(crate) fn repeated(&mut self, phone: usize, call: Option<u32>, what: &str) {
        // Who puts the other side on hold and hangs up before that is answered sends no ACK.
        let call = call.and_then(|call| self.oracle.calls.get(&call));
        // Nor is one in order of which a server knew that is gone: it is repeated until it runs out.
        if call.is_some_and(|call| call.is_left() || call.excused) {
            return;
        }
        self.oracle.seen.repeated += 1;
        let device = self.oracle.name(phone).to_owned();
        let after = self.calm.switched.filter(|at| self.now < *at + REPEATS_WITHIN);
        if let Some(at) = after {
            let millis = at.elapsed_until(self.now).as_millis();
            let what = format!("{device} {what}, {millis} ms after a planned switch");
            self.oracle.broken(self.now, &what);
        }
    }
}
