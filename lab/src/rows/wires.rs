//! Wires that are cut and come back: which packets pass between which machines.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tandem::config::{HEARTBEAT_PORT, LINK_PORT};
use tandem::demo::child::command_in;
use tandem::demo::space::{INTERFACE, Space};

use crate::stage::Stage;

/// Packets that a machine throws away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// All from the own address to the other machine's own one, and back. The virtual one is reached.
    Twin,
    /// The heartbeats to the other machine.
    HeartbeatsOut,
    /// The journal link to and from the other machine.
    Link,
}

/// Puts it in place at a machine, or takes it away.
pub(super) fn cut(stage: &Stage, index: usize, what: Cut, on: bool) -> Result<()> {
    let address = |index: usize| {
        let machine = &stage.twins.machines[index];
        machine.config.address.first().copied().context("no own address")
    };
    let (own, twin) = (address(index)?, address(1 - index)?);
    let out = format!("OUTPUT -s {own} -d {twin}");
    let into = format!("INPUT -s {twin} -d {own}");
    let rules = match what {
        Cut::Twin => vec![out, into],
        Cut::HeartbeatsOut => vec![format!("{out} -p udp --dport {HEARTBEAT_PORT}")],
        Cut::Link => vec![
            format!("{out} -p udp --dport {LINK_PORT}"),
            format!("{out} -p udp --sport {LINK_PORT}"),
            format!("{into} -p udp --dport {LINK_PORT}"),
            format!("{into} -p udp --sport {LINK_PORT}"),
        ],
    };
    let space = stage.twins.machines[index].space.as_ref();
    let change = if on { "-I" } else { "-D" };
    let run = |rule: String| run(space, "iptables", &format!("-w {change} {rule} -j DROP"));
    rules.into_iter().try_for_each(|rule| run(rule).map(drop))
}

/// Takes a machine off the switch, or puts it back. Its wire still has a carrier, but leads nowhere.
pub(super) fn unplug(stage: &Stage, index: usize, off: bool) -> Result<()> {
    let to = if off { "nomaster" } else { "master hub" };
    at_hub(stage, index, to)
}

/// Lets the switch pass nothing from one machine of the pair to the other, not even the question who
/// has an address; all others reach both.
pub(super) fn part(stage: &Stage, on: bool) -> Result<()> {
    let isolated = if on { "on" } else { "off" };
    (0..2).try_for_each(|index| {
        at_hub(stage, index, &format!("type bridge_slave isolated {isolated}"))
    })
}

fn at_hub(stage: &Stage, index: usize, change: &str) -> Result<()> {
    let hub = stage.network()?.space("hub");
    let seat = stage.twins.machines[index].seat;
    run(Some(&hub), "ip", &format!("link set dev to-{seat} {change}")).map(drop)
}

/// Whether the virtual address is on a machine's interface.
pub(super) fn has_virtual(stage: &Stage, index: usize) -> Result<bool> {
    let space = stage.twins.machines[index].space.as_ref();
    let text = run(space, "ip", &format!("-o address show dev {INTERFACE}"))?;
    let wanted = format!(" {}/", stage.twins.virtual_address.ip());
    ensure!(text.contains(INTERFACE), "{INTERFACE} has no address at all");
    Ok(text.contains(&wanted))
}

fn run(space: Option<&Space>, program: &str, words: &str) -> Result<String> {
    let output = command_in(space, Path::new(program)).args(words.split(' ')).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {words}: {}", said.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
