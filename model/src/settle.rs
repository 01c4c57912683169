//! Where a state leads once the faults stop: a fair run without luck, the same every time.

use crate::keeper::{Keeper, Role};
use crate::world::{Act, Datagram, Rules, World};

/// What works again, and what never will.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Suffix {
    /// Everything.
    Whole,
    /// This keeper's machine is dead for good.
    Alone(usize),
    /// The two do not hear each other; both hear the witness.
    Cut,
    /// The witness is gone.
    NoWitness,
}

type Condition = fn(&Rules, &World) -> bool;

impl Suffix {
    /// Each with the name of its property.
    pub(crate) const ALL: [(&'static str, Condition); 5] = [
        ("settles when all is well", |rules, world| settles(rules, world, Self::Whole)),
        ("settles when the master is dead", |rules, world| settles(rules, world, Self::Alone(0))),
        ("settles when the standby is dead", |rules, world| settles(rules, world, Self::Alone(1))),
        ("settles when the two are cut", |rules, world| settles(rules, world, Self::Cut)),
        ("settles without the witness", |rules, world| settles(rules, world, Self::NoWitness)),
    ];

    fn arrives(self, datagram: &Datagram) -> bool {
        let is_beat = matches!(datagram, Datagram::Beat(..));
        match self {
            Self::Whole | Self::Alone(_) => true,
            Self::Cut => !is_beat,
            Self::NoWitness => is_beat,
        }
    }

    /// Whether a keeper can learn from the twin itself that it is idle.
    fn hears_the_twin(self) -> bool {
        match self {
            Self::Whole | Self::NoWitness => true,
            Self::Alone(_) | Self::Cut => false,
        }
    }
}

/// Rounds until one must serve: the longest wait, the start of the witness, and a few claims.
const ROUNDS: usize = 16;

/// Rounds in which the same one then serves.
const STEADY: usize = 4;

/// Whether exactly one comes to serve and goes on.
pub(crate) fn settles(rules: &Rules, world: &World, suffix: Suffix) -> bool {
    let mut rules = *rules;
    rules.limits.datagrams = usize::MAX;
    let mut world = world.clone();
    for k in 0..2 {
        match (suffix, world.keepers[k].role) {
            (Suffix::Alone(dead), role) if dead == k => {
                if role != Role::Down {
                    world = rules.act(&world, Act::Crash(k));
                }
            }
            (_, Role::Down) => world = rules.act(&world, Act::Restart(k)),
            (_, Role::Idle | Role::Claiming | Role::Active) => {}
        }
    }
    let (mut server, mut steady) = (None, 0);
    let mut claims = [0; 2];
    for _ in 0..ROUNDS + STEADY {
        world = round(&rules, world, suffix);
        for k in 0..2 {
            // A claim that got no vote in time is given up (`Votes::is_hopeless`).
            let claims = &mut claims[k];
            *claims = if world.keepers[k].role == Role::Claiming { *claims + 1 } else { 0 };
            if *claims > rules.limits.silence {
                world = rules.act(&world, Act::SitDown(k));
            }
        }
        let serving: Vec<usize> =
            (0..2).filter(|k| world.keepers[*k].role == Role::Active).collect();
        match (serving.as_slice(), server) {
            ([one], Some(before)) if *one == before => steady += 1,
            ([one], _) => (server, steady) = (Some(*one), 0),
            _ => (server, steady) = (None, 0),
        }
        if steady == STEADY {
            return true;
        }
    }
    false
}

/// One tick in which everybody does what the rules say, the master first.
fn round(rules: &Rules, mut world: World, suffix: Suffix) -> World {
    for k in 0..2 {
        if world.keepers[k].role != Role::Down {
            world = rules.act(&world, Act::Beat(k));
            world = arrive(rules, world, suffix);
        }
    }
    for k in 0..2 {
        world = arrive(rules, decide(rules, world, k, suffix), suffix);
    }
    // The votes for those that stand.
    for k in [0, 1, 0, 1] {
        if world.keepers[k].role != Role::Down {
            world = rules.act(&world, Act::Beat(k));
            world = arrive(rules, world, suffix);
        }
    }
    rules.act(&world, Act::Tick)
}

/// What one keeper does, besides sending heartbeats.
fn decide(rules: &Rules, world: World, k: usize, suffix: Suffix) -> World {
    let keeper = &world.keepers[k];
    // The twin's vote is there, or the third is not needed.
    let release = keeper.third_right > 0 && (keeper.twin_right > 1 || keeper.is_idle());
    if keeper.stands() {
        if release {
            return rules.act(&world, Act::Release(k));
        }
        return if keeper.twin_right > 1 { world } else { rules.act(&world, Act::Ask(k)) };
    }
    if !keeper.may_claim() {
        return world;
    }
    if suffix.hears_the_twin() {
        // `WeLead`, `BothCold`: who reigned last, else the master.
        let leads = leads(keeper, &world.keepers[1 - k]);
        return if leads { rules.act(&world, Act::Claim(k)) } else { world };
    }
    // `Silent`: the third vote first, then the claim.
    let world = arrive(rules, rules.act(&world, Act::Ask(k)), suffix);
    if world.keepers[k].third_right > 0 { rules.act(&world, Act::Claim(k)) } else { world }
}

fn leads(keeper: &Keeper, twin: &Keeper) -> bool {
    twin.is_idle()
        && (keeper.highest.seat == keeper.seat
            || keeper.highest.number == 0 && keeper.seat == tandem_types::Seat::Master)
}

/// Everything that is on its way arrives, the oldest first; what the suffix cuts is lost.
fn arrive(rules: &Rules, mut world: World, suffix: Suffix) -> World {
    while let Some(datagram) = world.datagrams.first() {
        let act = if suffix.arrives(datagram) { Act::Deliver(0) } else { Act::Lose(0) };
        world = rules.act(&world, act);
    }
    world
}
