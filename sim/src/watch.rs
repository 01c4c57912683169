//! Looks at both servers after every turn, for the oracle: who serves, who begins or ends a reign,
//! what the two share.

use tandem_types::{Role, Stamp};

use crate::deeds::tip;
use crate::disk::Crash;
use crate::network::{Port, Road, Way};
use crate::world::World;

/// What was seen of a server at the end of its last turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    life: u64,
    role: Role,
    tip: Stamp,
}

impl World {
    /// After a turn of the server of `at`.
    pub(crate) fn watch(&mut self, at: usize) {
        let Some(server) = &self.machines[at].server else { return };
        let standing = server.node.standing();
        let glance = Glance { life: server.life, role: standing.role, tip: tip(server) };
        let before = self.glances[at].replace(glance).filter(|before| before.life == glance.life);
        let was_active = before.is_some_and(|before| before.role == Role::Active);
        let lost = match (was_active, standing.role) {
            (false, Role::Active) => {
                let known = before.map_or(glance.tip, |before| before.tip);
                let other_serves = self.serves(1 - at) && self.reaches_phones(1 - at);
                let known = (known, self.machines[at].disk.known());
                self.oracle.begins_reign(self.now, at, known, other_serves)
            }
            (true, Role::Passive) => {
                let other_serves = self.serves(1 - at);
                self.oracle.gave_up_reign(self.now, at, other_serves)
            }
            (true, Role::Active) => {
                // It may believe so for a moment after its twin died with what it had not written.
                if standing.in_sync && self.machines[1 - at].server.is_some() {
                    self.oracle.is_protected(at);
                }
                false
            }
            (false, Role::Passive) => false,
        };
        self.say_lost(lost);
        let shared = self.share_anything();
        self.oracle.share(self.now, shared);
        let both = self.serves(0) && self.serves(1);
        let both_ways = [0, 1].iter().all(|from| self.network.passes(*from, Road::Heartbeat));
        self.oracle.serving(self.now, both, both_ways);
        self.watch_isolation();
    }

    fn say_lost(&mut self, lost: bool) {
        if lost {
            self.say(|| String::from("STATE LOST: what only the other server knew is excused"));
        }
    }

    /// The server process of `at` is gone.
    pub(crate) fn watch_end(&mut self, at: usize, crash: Crash) {
        self.oracle.deaths.note(self.now, at);
        if crash.lost {
            self.lost_unwritten(at);
        }
        if self.serves(1 - at) {
            let lost = self.oracle.ends_beside_another(self.now, at);
            self.say_lost(lost);
        }
    }

    /// The server of `at` died with entries that were acknowledged and not on its disk.
    fn lost_unwritten(&mut self, at: usize) {
        let other = self.machines[1 - at].server.as_ref().map(tip);
        if self.oracle.lost_unwritten(self.now, at, other) {
            self.say(|| String::from("STATE LOST: both are gone and the disk had not written"));
        }
    }

    fn reaches_phones(&self, machine: usize) -> bool {
        let open = |way: Way| self.network.is_open(Port { machine, road: Road::Lan, way });
        open(Way::In) && open(Way::Out)
    }

    /// Whether the two machines can learn of each other by any path.
    fn share_anything(&self) -> bool {
        let both_ways = |road: Road| self.network.passes(0, road) && self.network.passes(1, road);
        let keepers = self
            .machines
            .iter()
            .all(|machine| machine.keeper.as_ref().is_some_and(|keeper| !keeper.stalled));
        (keepers && both_ways(Road::Heartbeat))
            || (self.link.up == [true; 2] && both_ways(Road::Link))
            || both_ways(Road::Lan)
    }
}
