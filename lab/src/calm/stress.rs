//! Conditions that must not move a role: every processor wanted by eight others, and heartbeats that
//! get lost on the way in, at both machines. Nothing else is lost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use tandem::demo::child::{Child, command_in};
use tandem::demo::space::Space;

use crate::bench::cpu_seconds_of;
use crate::stage::Stage;

/// Busy processes for each processor.
const BUSY_EACH: usize = 8;

/// A condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Stress {
    /// Eight busy processes for each processor, at normal priority.
    Cpu,
    /// A fifth of all heartbeats is lost, in each direction.
    Loss20,
    /// Two fifths of all heartbeats are lost, in each direction.
    Loss40,
}

impl Stress {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Cpu, Self::Loss20, Self::Loss40];

    /// In words.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU wanted 8 times over",
            Self::Loss20 => "20 % of heartbeats lost",
            Self::Loss40 => "40 % of heartbeats lost",
        }
    }
}

/// That a condition was there.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// As it was meant.
    pub(super) is_real: bool,
    /// In words.
    pub(super) text: String,
}

/// A condition that lasts until it is dropped.
#[derive(Debug)]
pub(super) enum Made {
    /// Busy processes.
    Busy(Vec<Child>),
    /// Rules of iptables, which go with their namespaces.
    Loss { share: f64, spaces: Vec<Space> },
}

impl Made {
    /// Makes it; `others` are the machines with keepalived.
    ///
    /// # Errors
    ///
    /// No `iptables`; no more processes.
    pub(super) fn make(stress: Stress, stage: &Stage, others: &[&str]) -> Result<Self> {
        let network = stage.network()?;
        let lose = |share: f64| {
            let port = stage.twins.machines[0].config.heartbeat_port.to_string();
            let mut spaces = Vec::new();
            for (names, what) in [
                (&["master", "standby"][..], &["-p", "udp", "--dport", &port][..]),
                // VRRP (RFC 5798 §5.1.1.4).
                (others, &["-p", "112"][..]),
            ] {
                for name in names {
                    let space = network.space(name);
                    lose(&space, what, share)?;
                    spaces.push(space);
                }
            }
            Ok(Self::Loss { share, spaces })
        };
        match stress {
            Stress::Cpu => busy(stage.folder.path()).map(Self::Busy),
            Stress::Loss20 => lose(0.2),
            Stress::Loss40 => lose(0.4),
        }
    }

    /// Ends it after `time` and says whether it was there.
    ///
    /// # Errors
    ///
    /// It is no longer there.
    pub(super) fn end(self, time: Duration) -> Result<Evidence> {
        match self {
            Self::Busy(mut children) => {
                children.iter_mut().try_for_each(Child::still_runs)?;
                let pids: Vec<_> = children.iter().map(Child::pid).collect();
                let used = cpu_seconds_of(&pids)?;
                // Counts are far below 2^52.
                let share = used / (time.as_secs_f64() * processors()? as f64);
                let text = format!(
                    "{} busy processes had {:.0} % of all processors",
                    pids.len(),
                    share * 100.0
                );
                Ok(Evidence { is_real: share > 0.5, text })
            }
            Self::Loss { share, spaces } => {
                let seen = spaces.iter().map(lost).collect::<Result<Vec<_>>>()?;
                let sum = |of: fn(&(u64, u64)) -> u64| seen.iter().map(of).sum::<u64>();
                // Counts are far below 2^52.
                let found = sum(|(_, lost)| *lost) as f64 / sum(|(came, _)| *came).max(1) as f64;
                let everywhere = seen.iter().all(|(_, lost)| *lost > 0);
                let is_real = everywhere && (found - share).abs() < share / 5.0;
                let list: Vec<_> =
                    seen.iter().map(|(came, lost)| format!("{lost} of {came}")).collect();
                Ok(Evidence { is_real, text: format!("lost {}", list.join(", ")) })
            }
        }
    }
}

fn processors() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// Processes that do nothing but compute. They share their terminal session with the servers, so the
/// kernel does not put them into a group that is given less.
fn busy(folder: &Path) -> Result<Vec<Child>> {
    let (shell, log) = (Path::new("sh"), folder.join("busy.log"));
    let start = |_| Child::start("busy", shell, &["-c", "while :; do :; done"], None, &log);
    (0..BUSY_EACH * processors()?).map(start).collect()
}

/// Lets this share of these packets get lost on their way into `space`; the rule before counts all.
///
/// # Errors
///
/// No `iptables`.
pub(crate) fn lose(space: &Space, what: &[&str], share: f64) -> Result<()> {
    let share = share.to_string();
    let random = ["-m", "statistic", "--mode", "random", "--probability", &share, "-j", "DROP"];
    iptables(space, &[&["-A", "INPUT"], what].concat())?;
    iptables(space, &[&["-A", "INPUT"], what, &random].concat()).map(drop)
}

/// Nothing gets lost on its way into `space` any more.
///
/// # Errors
///
/// No `iptables`.
pub(crate) fn lose_nothing(space: &Space) -> Result<()> {
    iptables(space, &["-F", "INPUT"]).map(drop)
}

/// How many of the packets came, and how many of them were lost.
///
/// # Errors
///
/// No `iptables`; other rules than those of [`lose`].
pub(crate) fn lost(space: &Space) -> Result<(u64, u64)> {
    let text = iptables(space, &["-L", "INPUT", "-n", "-v", "-x"])?;
    let counts = counts(&text);
    let [came, lost] = counts[..] else { anyhow::bail!("strange rules: {text}") };
    Ok((came, lost))
}

/// The packets of each rule.
fn counts(listing: &str) -> Vec<u64> {
    // Two lines of heads.
    let rules = listing.lines().skip(2);
    rules.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

fn iptables(space: &Space, arguments: &[&str]) -> Result<String> {
    let mut command = command_in(Some(space), Path::new("iptables"));
    let output = command.args(["-w"]).args(arguments).output().context("cannot run iptables")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "iptables {}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packets_of_each_rule_are_read() {
        let listing = "\
Chain INPUT (policy ACCEPT 55 packets, 4000 bytes)
    pkts      bytes target     prot opt in     out     source               destination
     120     9600            udp  --  *      *       0.0.0.0/0            0.0.0.0/0            udp dpt:5070
      25     2000 DROP       udp  --  *      *       0.0.0.0/0            0.0.0.0/0            udp dpt:5070 statistic mode random probability 0.20000000019
";
        assert_eq!(counts(listing), [120, 25]);
        assert!(counts("").is_empty());
    }
}
