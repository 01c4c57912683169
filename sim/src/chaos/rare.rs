//! What happens in some runs only: to the third voter, to the gateway, by an operator's orders, to clocks.

use tandem_keeper::OperatorRequest;
use tandem_types::Duration;

use super::{Chaos, Remedy, VOTER_SETTLES};
use crate::network::Road;

/// Of a hundred faults of such a run so many are of these kinds.
const RARE_PERCENT: u64 = 35;

/// A clock on the wall is set forward by less than so many milliseconds. What a server reads from its disk
/// after a longer jump is as old as its clock says: logins and transactions have run out.
const JUMP_FORWARD_MAX: u64 = 5_000;

/// And back.
const JUMP_BACK_MAX: u64 = 3_600_000;

/// Which kinds a run has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rare {
    /// An operator orders this and that.
    pub(super) orders: bool,
    /// Clocks on the wall jump, machines sleep for long.
    pub(super) clocks: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    CutFromVoter,
    CutButVoter,
    VoterForgets,
    VoterAway,
    Isolated,
    GatewayAway,
    SwitchWhenIdle,
    CancelSwitch,
    Lock,
    LockForAWhile,
    WallJumps,
    Sleeps,
}

impl Rare {
    /// Of this seed; in fair runs and others alike.
    pub(super) fn of(seed: u64) -> Self {
        Self { orders: seed % 5 == 2, clocks: seed % 7 == 3 }
    }

    fn kinds(self, votes: bool, gateway: bool) -> Vec<Kind> {
        use Kind::{
            CancelSwitch, CutButVoter, CutFromVoter, GatewayAway, Isolated, Lock, LockForAWhile,
            Sleeps, SwitchWhenIdle, VoterAway, VoterForgets, WallJumps,
        };
        let mut kinds = Vec::new();
        if votes {
            kinds.extend([CutFromVoter, CutButVoter, VoterForgets, VoterAway]);
        }
        if gateway {
            kinds.extend([Isolated, GatewayAway]);
        }
        if self.orders {
            kinds.extend([SwitchWhenIdle, SwitchWhenIdle, CancelSwitch, Lock, LockForAWhile]);
        }
        if self.clocks {
            kinds.extend([WallJumps, Sleeps]);
        }
        kinds
    }
}

impl Chaos {
    /// Perhaps one of the rare kinds befalls machine `at`. False: none did.
    pub(super) fn rare_fault(&mut self, at: usize) -> bool {
        let kinds = self.rare.kinds(self.world.rules.votes, self.world.rules.gateway);
        if kinds.is_empty() || !self.dice.chance(RARE_PERCENT) {
            return false;
        }
        let kind = kinds[self.pick(kinds.len())];
        self.world.say(|| format!("---- {kind:?} at {at}"));
        match kind {
            Kind::CutFromVoter => self.cut_for_a_while(at, &[Road::Witness]),
            Kind::CutButVoter => {
                self.cut_for_a_while(at, &[Road::Heartbeat, Road::Link, Road::Lan])
            }
            Kind::VoterForgets => {
                self.world.start_voter();
                let until = self.world.now() + VOTER_SETTLES;
                self.remedies.push((until, Remedy::Disarm));
            }
            Kind::VoterAway => {
                self.world.stop_voter();
                self.after(50, 2_500, Remedy::Voter);
            }
            Kind::Isolated => {
                // Long enough that it must have noticed.
                self.world.cut(at, &Road::ALL, true);
                self.after(1_200, 4_000, Remedy::Mend);
            }
            Kind::GatewayAway => {
                self.world.stop_gateway(true);
                self.after(50, 2_500, Remedy::Gateway);
            }
            Kind::SwitchWhenIdle => self.world.operate(at, OperatorRequest::SwitchWhenIdle),
            Kind::CancelSwitch => self.world.operate(at, OperatorRequest::CancelSwitch),
            Kind::Lock => {
                self.world.operate(at, OperatorRequest::Lock { on: true, seconds: None });
                self.after(50, 2_500, Remedy::Unlock(at));
            }
            Kind::LockForAWhile => {
                let seconds = 1 + self.dice.below(3);
                let lock = OperatorRequest::Lock { on: true, seconds: Some(seconds) };
                self.world.operate(at, lock);
                self.after(seconds * 1_000, seconds * 1_000 + 200, Remedy::Disarm);
            }
            Kind::WallJumps => {
                let forward = self.dice.chance(50);
                let most = if forward { JUMP_FORWARD_MAX } else { JUMP_BACK_MAX };
                let millis = i64::try_from(self.dice.below(most)).unwrap_or(0);
                self.world.jump_wall(at, if forward { millis } else { -millis });
            }
            Kind::Sleeps => {
                let most = [1_000, 5_000, 30_000][self.pick(3)];
                let millis = 100 + self.dice.below(most - 100);
                self.world.stall_machine(at, Duration::from_millis(millis));
                self.after(millis + 300, millis + 600, Remedy::Disarm);
            }
        }
        true
    }

    fn cut_for_a_while(&mut self, at: usize, roads: &[Road]) {
        self.world.cut(at, roads, true);
        self.after(50, 2_500, Remedy::Mend);
    }
}
