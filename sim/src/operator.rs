//! What an operator orders, how it lies on a machine's disk, and what the oracle demands of it: a locked
//! machine does not promote itself, and a switchover that waits for the calls to end waits.

use tandem_keeper::pair::State;
use tandem_keeper::{
    Fact as KeeperFact, Input as KeeperInput, OperatorAnswer, OperatorRequest, Standing,
};
use tandem_types::{Duration, Instant};

use crate::world::World;

/// A call that was answered so long ago is known to the keeper.
const KNOWN_AFTER: Duration = Duration::from_millis(100);

/// An order at one machine reaches the other within this time, or not at all.
const ORDER_UNDER_WAY: Duration = Duration::from_millis(1_500);

/// Orders on a machine's disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    locked: bool,
    /// When the lock ends, by the clock on this machine's wall.
    lock_until: Option<i64>,
    switch_when_idle: bool,
    /// Whether the keeper that runs has the lock: one that had run out when it started has not.
    in_force: bool,
    /// The keeper had the lock while it was not on its way to be active.
    holds: bool,
}

impl Orders {
    /// As a keeper finds them that starts at this time of the wall.
    pub(crate) fn read(&mut self, wall: i64) -> Standing {
        let left = self.lock_until.map(|until| u64::try_from(until - wall).unwrap_or(0));
        self.in_force = self.locked && left != Some(0);
        self.holds = self.in_force;
        Standing {
            locked: self.in_force,
            lock_left: left.map(Duration::from_micros),
            switch_when_idle: self.switch_when_idle,
        }
    }
}

/// Whether a keeper in this state may not promote itself once it is locked.
fn is_at_rest(state: State) -> bool {
    match state {
        State::Cold | State::Passive | State::Stopped => true,
        State::Probing | State::Claiming | State::Active | State::Yielding => false,
    }
}

impl World {
    /// An operator asks a machine's keeper for something.
    pub fn operate(&mut self, at: usize, request: OperatorRequest) {
        if let OperatorRequest::Switch { .. } = request {
            self.switch_ordered = Some(self.now);
        }
        self.keeper_turn(at, KeeperInput::Operator { id: 0, request });
    }

    /// Locks are taken off, and nothing waits any more.
    pub(crate) fn forget_orders(&mut self, at: usize) {
        self.operate(at, OperatorRequest::Lock { on: false, seconds: None });
        if self.machines[at].orders.switch_when_idle {
            self.operate(at, OperatorRequest::CancelSwitch);
        }
        if self.machines[at].keeper.is_none() {
            self.machines[at].orders = Orders::default();
        }
    }

    pub(crate) fn operator_hears(&mut self, at: usize, answer: OperatorAnswer) {
        if let OperatorAnswer::Refused(why) = answer {
            let seat = self.machines[at].seat;
            self.say(|| format!("the operator hears of the {seat}: {why}"));
        }
    }

    pub(crate) fn save_orders(&mut self, at: usize, orders: Standing) {
        let wall = self.machines[at].wall(self.now);
        let machine = &mut self.machines[at];
        let lock_until = orders
            .lock_left
            .map(|left| wall.saturating_add(i64::try_from(left.as_micros()).unwrap_or(i64::MAX)));
        let state = machine.keeper.as_ref().map(|keeper| keeper.keeper.state());
        let rests = state.is_some_and(is_at_rest);
        let Standing { locked, switch_when_idle, .. } = orders;
        let holds = locked && (rests || machine.orders.holds);
        self.oracle.seen.locks += u64::from(holds && !machine.orders.holds);
        machine.orders = Orders { locked, lock_until, switch_when_idle, in_force: locked, holds };
    }

    /// What a keeper tells is compared with what it was ordered.
    pub(crate) fn watch_orders(&mut self, at: usize, fact: &KeeperFact) {
        let orders = self.machines[at].orders;
        let now = self.now;
        if let KeeperFact::Role(change) = fact {
            if orders.holds && change.to == State::Claiming {
                let seat = self.machines[at].seat;
                self.oracle.broken(now, &format!("the {seat} is locked and promotes itself"));
            }
            self.machines[at].orders.holds =
                orders.in_force && (orders.holds || is_at_rest(change.to));
        }
        if let KeeperFact::SwitchOrdered { .. } = fact
            && orders.switch_when_idle
            && self.switch_ordered.is_none_or(|at| at + ORDER_UNDER_WAY < now)
        {
            self.oracle.seen.idle_switches += 1;
            self.judge_idle(now);
        }
    }

    /// A switchover that waited for the calls to end begins: nobody talks.
    fn judge_idle(&mut self, now: Instant) {
        let then = now - KNOWN_AFTER;
        let talks = |call: &&crate::oracle::Call| !call.excused && call.is_talked_in(then);
        let up = self.oracle.calls.values().filter(talks).count();
        if up > 0 {
            self.oracle.broken(now, &format!("switches as if idle while {up} calls are up"));
        }
    }
}
