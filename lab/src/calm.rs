//! False takeovers: a healthy pair under conditions in which a careless one would change its roles,
//! with keepalived beside it on the same machine at the same time.
//!
//! ```text
//!   master  standby     ka-one  ka-two              kb-one  kb-two
//!      └─ tandem ─┘        └─ keepalived, defaults ─┘  └─ keepalived, 100 ms adverts ─┘
//! ```
//!
//! A change of role is that a machine begins or ceases to serve, wherever it comes from. Tandem must
//! show none; keepalived's are only counted.
//!
//! Invariant: a condition that was not really there fails the run.

mod stress;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem::config::Profile;
use tandem::demo::place::{CLIENT, CLIENT_NAME, MASTER, Place, STANDBY};
use tandem::demo::report::{Report, Voice};
use tandem::demo::space::{Network, address_of};
use tandem::demo::twins::Serving;
use tandem::demo::wait;

use crate::peers::System;
use crate::peers::keepalived::{Adverts, Machine, Plan, serving};
use crate::stage::{PROTECTED_LIMIT, Stage};
use crate::table::Table;
pub(crate) use stress::{Stress, lose, lose_nothing, lost};

/// When to give up waiting for keepalived.
const LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at the keepers while nothing should happen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Two machines with keepalived.
#[derive(Clone, Copy, Debug)]
struct Couple {
    system: System,
    adverts: Adverts,
    /// Their names and the last numbers of their addresses.
    machines: [(&'static str, u8); 2],
    /// The last number of the address that moves.
    number: u8,
    /// The number of their virtual router.
    router: u8,
}

const COUPLES: [Couple; 2] = [
    Couple {
        system: System::Keepalived,
        adverts: Adverts::Defaults,
        machines: [("ka-one", 3), ("ka-two", 4)],
        number: 11,
        router: 51,
    },
    Couple {
        system: System::Keepalived100ms,
        adverts: Adverts::Tenth,
        machines: [("kb-one", 5), ("kb-two", 6)],
        number: 12,
        router: 52,
    },
];

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calm<'a> {
    /// How long each condition lasts.
    pub(crate) time: Duration,
    /// Tandem's profile.
    pub(crate) profile: Profile,
    /// Only these; empty: all.
    pub(crate) only: &'a [Stress],
}

impl Calm<'_> {
    /// Makes each condition; returns the report and the table.
    #[must_use]
    pub(crate) fn watch(self, voice: Voice) -> (Report, Table) {
        let mut report = Report::new("Roles of healthy pairs", voice);
        let mut table = Table::new(&COLUMNS);
        let wanted = |stress: &Stress| self.only.is_empty() || self.only.contains(stress);
        for stress in Stress::ALL.into_iter().filter(wanted) {
            if wait::asked_to_stop() {
                break;
            }
            if let Err(error) = self.under(stress, &mut report, &mut table) {
                report.check(stress.name(), false, &format!("{error:#}"));
            }
        }
        (report, table)
    }

    fn under(self, stress: Stress, report: &mut Report, table: &mut Table) -> Result<()> {
        let mut scene = Scene::new(self.profile)?;
        let watched = scene.watch(stress, self.time);
        if watched.is_err() && !wait::asked_to_stop() {
            scene.stage.folder.keep();
        }
        let path = scene.stage.folder.path().display().to_string();
        let seen = watched.with_context(|| format!("logs are in {path}"))?;
        let seconds = self.time.as_secs();
        report.check(
            &format!("{}: it was really there", stress.name()),
            seen.evidence.is_real,
            &seen.evidence.text,
        );
        let [tandem, rest @ ..] = seen.changes;
        let text = format!(
            "{tandem} changes of role in {seconds} s; {} heartbeats taken",
            seen.heartbeats
        );
        let calm = tandem == 0 && seen.heartbeats > 0;
        report.check(&format!("{}: Tandem's roles stayed", stress.name()), calm, &text);
        if !calm {
            scene.stage.folder.keep();
            report.voice().say(&format!("  logs are kept in {path}"));
        }
        let ours = match self.profile {
            Profile::Default => System::Tandem,
            Profile::Fast => System::TandemFast,
        };
        let couples = COUPLES.map(|couple| couple.system).into_iter().zip(rest);
        for (system, changes) in [(ours, tandem)].into_iter().chain(couples) {
            let words = [stress.name(), system.name()].map(Value::from);
            let [stress, system] = words;
            table.row([stress, system, json!(changes), json!(seconds)]);
        }
        Ok(())
    }
}

/// The columns of the table.
const COLUMNS: [&str; 4] = ["condition", "system", "role changes", "seconds"];

/// What was seen under a condition.
struct Seen {
    /// Changes of role of Tandem and of each couple.
    changes: [usize; 1 + COUPLES.len()],
    /// Heartbeats that Tandem's keepers took meanwhile.
    heartbeats: u64,
    evidence: stress::Evidence,
}

/// All three pairs on one switch. Fields end in this order.
struct Scene {
    couples: [[Machine; 2]; COUPLES.len()],
    stage: Stage,
}

impl Scene {
    /// Starts all of them and waits until all are well.
    fn new(profile: Profile) -> Result<Self> {
        let mut hosts = vec![("master", MASTER), ("standby", STANDBY), (CLIENT_NAME, CLIENT)];
        hosts.extend(COUPLES.iter().flat_map(|couple| couple.machines));
        let place = Place::Machines(Network::new(&hosts)?);
        let (stage, _) = Stage::on(place, profile)?;
        let [one, two] = COUPLES.map(|plan| couple(plan, stage.network()?, stage.folder.path()));
        let mut scene = Self { couples: [one?, two?], stage };
        scene.wait_well()?;
        Ok(scene)
    }

    /// Waits until all three pairs are well; returns who serves of Tandem.
    fn wait_well(&mut self) -> Result<Serving> {
        for couple in &mut self.couples {
            wait::until("a master and a backup", LIMIT, || serving(couple))?;
        }
        self.stage.twins.wait_protected(PROTECTED_LIMIT)
    }

    /// Makes a condition and counts.
    fn watch(&mut self, stress: Stress, time: Duration) -> Result<Seen> {
        let first = self.wait_well()?;
        let before = self.couple_changes()?;
        let (begun, old) = (Instant::now(), self.keepers()?);
        let names: Vec<_> =
            COUPLES.iter().flat_map(|couple| couple.machines).map(|(name, _)| name).collect();
        let made = stress::Made::make(stress, &self.stage, &names)?;
        while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            wait::pass("nothing to happen", left.min(LOOK_EVERY))?;
            // A keeper that has ended is an error.
            for index in 0..2 {
                self.stage.twins.status(index)?;
            }
        }
        let new = self.keepers()?;
        let watched = begun.elapsed();
        let evidence = made.end(watched)?;
        let after = self.couple_changes()?;
        let tandem = role_changes(&old, &new, watched);
        let last = self.stage.twins.wait_protected(PROTECTED_LIMIT)?;
        ensure!(tandem > 0 || last.index == first.index, "the role moved, and no history says so");
        let mut changes = [tandem, 0, 0];
        for (index, (before, after)) in before.iter().zip(after).enumerate() {
            changes[1 + index] = after - before;
        }
        let taken = |both: &[Keeper; 2]| both.iter().map(|keeper| keeper.heartbeats).sum::<u64>();
        Ok(Seen { changes, heartbeats: taken(&new).saturating_sub(taken(&old)), evidence })
    }

    fn couple_changes(&self) -> Result<[usize; COUPLES.len()]> {
        let count = |[one, two]: &[Machine; 2]| -> Result<usize> {
            Ok(one.role_changes()? + two.role_changes()?)
        };
        let [one, two] = self.couples.each_ref().map(count);
        Ok([one?, two?])
    }

    /// What both keepers say, as soon as both answer.
    fn keepers(&mut self) -> Result<[Keeper; 2]> {
        wait::until("both keepers' answers", LIMIT, || {
            let [one, two] = [self.keeper(0)?, self.keeper(1)?];
            Ok(one.zip(two).map(|(one, two)| [one, two]))
        })
    }

    fn keeper(&mut self, index: usize) -> Result<Option<Keeper>> {
        Ok(self.stage.twins.status(index)?.map(|status| Keeper {
            changes_ms_ago: status
                .history
                .iter()
                .filter(|change| change.what.from.is_idle() != change.what.to.is_idle())
                .map(|change| change.ago_ms)
                .collect(),
            highest: status.highest.number,
            heartbeats: status.heartbeats.taken,
        }))
    }
}

/// What a keeper of Tandem says.
struct Keeper {
    /// When it began or ceased to serve, newest first; it remembers a limited number.
    changes_ms_ago: Vec<u64>,
    /// The highest epoch's number.
    highest: u32,
    /// Heartbeats it took.
    heartbeats: u64,
}

/// Starts the two machines of a couple.
fn couple(couple: Couple, network: &Network, folder: &Path) -> Result<[Machine; 2]> {
    let Couple { adverts, machines, number, router, .. } = couple;
    let start = |(name, own): (&str, u8), priority| {
        let plan = Plan {
            name: name.to_owned(),
            space: network.space(name),
            address: address_of(own).into(),
            virtual_ip: address_of(number).into(),
            router,
            priority,
            adverts,
        };
        Machine::start(plan, folder)
    };
    let [one, two] = machines;
    Ok([start(one, 101)?, start(two, 100)?])
}

/// How often a machine of Tandem began or ceased to serve within the last `watched`. The histories are
/// of limited length, the epochs are not: so at least as often as there were new reigns.
fn role_changes(old: &[Keeper; 2], new: &[Keeper; 2], watched: Duration) -> usize {
    let limit = u64::try_from(watched.as_millis()).unwrap_or(u64::MAX);
    let ago = new.iter().flat_map(|keeper| &keeper.changes_ms_ago);
    let told = ago.filter(|ago| **ago <= limit).count();
    let highest = |both: &[Keeper; 2]| both.iter().map(|keeper| keeper.highest).max();
    let reigns = highest(new).unwrap_or(0).saturating_sub(highest(old).unwrap_or(0));
    told.max(usize::try_from(reigns).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepers(changes: &[u64], highest: u32) -> [Keeper; 2] {
        let one = Keeper { changes_ms_ago: changes.to_vec(), highest, heartbeats: 1 };
        [one, Keeper { changes_ms_ago: vec![], highest: 1, heartbeats: 1 }]
    }

    #[test]
    fn only_what_happened_meanwhile_is_counted() {
        let watched = Duration::from_secs(10);
        let old = keepers(&[3_000], 1);
        assert_eq!(role_changes(&old, &keepers(&[13_000], 1), watched), 0);
        assert_eq!(role_changes(&old, &keepers(&[10, 9_999, 13_000], 2), watched), 2);
    }

    #[test]
    fn what_a_history_has_forgotten_is_seen_by_the_epochs() {
        let (old, new) = (keepers(&[], 1), keepers(&[], 41));
        assert_eq!(role_changes(&old, &new, Duration::from_secs(10)), 40);
    }
}
