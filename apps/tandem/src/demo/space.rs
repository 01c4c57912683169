//! Machines made of network namespaces: each with its own address, all on one switch.
//!
//! ```text
//!              hub (a bridge)
//!       ┌─────┬─────┼─────┬──────┐          tandem<pid>-<name>, eth0 10.87.0.<n>/24
//!    master standby alice bob  client
//! ```
//!
//! Invariant: nothing outside the namespaces is changed, and they are gone when [`Network`] is
//! dropped. What a run left behind that was killed is removed by the next one.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps the namespaces.
const FOLDER: &str = "/run/netns";

/// All namespaces of a run begin with this and the process id.
const PREFIX: &str = "tandem";

/// The network of all machines; it exists inside the namespaces only.
const NETWORK: [u8; 3] = [10, 87, 0];

/// Length of the network's prefix in bits.
pub const PREFIX_BITS: u8 = 24;

/// Where the switch itself is reachable: the default route of all machines, so that phones find
/// the address for their audio.
const HUB: u8 = 254;

/// The interface of each machine.
pub const INTERFACE: &str = "eth0";

/// The namespace of one machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Space {
    name: String,
}

impl Space {
    /// The file that stands for it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs `work` inside it on a thread of its own; sockets that it makes stay inside.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered; what `work` fails with.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter = || {
            let file = File::open(self.file())?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network)
                .with_context(|| format!("cannot enter the namespace {}", self.name))?;
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .map_err(|_| anyhow!("the work inside {} panicked", self.name))?
    }
}

/// Runs `work` inside `space`, or here where there is none.
///
/// # Errors
///
/// As [`Space::inside`].
pub fn inside<T: Send>(
    space: Option<&Space>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    match space {
        Some(space) => space.inside(work),
        None => work(),
    }
}

/// The machines of one run.
#[derive(Debug)]
pub struct Network {
    run: String,
    hosts: Vec<String>,
}

impl Network {
    /// Makes a switch and the machines `(name, last number of the address)`.
    ///
    /// # Errors
    ///
    /// Not root, no `ip` command, or the kernel refuses.
    pub fn new(hosts: &[(&str, u8)]) -> Result<Self> {
        ensure!(is_root(), "network namespaces need root");
        remove_stale();
        let run = format!("{PREFIX}{}", std::process::id());
        // From here on, whatever fails, drop removes what there is.
        let mut network = Self { run, hosts: vec![String::from("hub")] };
        ip(None, &format!("netns add {}", network.space("hub").name))?;
        let [a, b, c] = NETWORK;
        ip(
            Some(&network.space("hub")),
            &format!(
                "link set lo up\nlink add hub type bridge\nlink set hub up\n\
                 address add {a}.{b}.{c}.{HUB}/{PREFIX_BITS} dev hub\n"
            ),
        )?;
        for (name, number) in hosts {
            network.add(name, Ipv4Addr::new(a, b, c, *number))?;
        }
        Ok(network)
    }

    fn add(&mut self, name: &str, address: Ipv4Addr) -> Result<()> {
        self.hosts.push(name.to_owned());
        let (hub, space) = (self.space("hub"), self.space(name));
        ip(None, &format!("netns add {}", space.name))?;
        ip(
            Some(&hub),
            &format!(
                "link add name to-{name} type veth peer name {INTERFACE} netns {}\n\
                 link set dev to-{name} master hub\nlink set dev to-{name} up\n",
                space.name
            ),
        )?;
        let router = address_of(HUB);
        ip(
            Some(&space),
            &format!(
                "link set lo up\naddress add {address}/{PREFIX_BITS} dev {INTERFACE}\n\
                 link set {INTERFACE} up\nroute add default via {router}\n"
            ),
        )
    }

    /// The namespace of a machine.
    #[must_use]
    pub fn space(&self, name: &str) -> Space {
        Space { name: format!("{}-{name}", self.run) }
    }

    /// Takes the cable of a machine out, or puts it back.
    ///
    /// # Errors
    ///
    /// There is no such machine.
    pub fn set_link(&self, name: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        ip(Some(&self.space("hub")), &format!("link set dev to-{name} {state}\n"))
    }

    /// Lets everything that a machine sends and receives vanish, or no longer.
    ///
    /// # Errors
    ///
    /// There is no `iptables`.
    pub fn set_blackhole(&self, name: &str, on: bool) -> Result<()> {
        let change = if on { "-I" } else { "-D" };
        for (chain, direction) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            let arguments = [change, chain, direction, INTERFACE, "-j", "DROP"];
            let status = Command::new("nsenter")
                .arg(format!("--net={}", self.space(name).file().display()))
                .arg("iptables")
                .args(arguments)
                .status()
                .context("cannot run iptables")?;
            ensure!(status.success(), "iptables {} failed", arguments.join(" "));
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.iter().rev() {
            if let Err(error) = ip(None, &format!("netns del {}", self.space(host).name)) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The address with this last number.
#[must_use]
pub fn address_of(number: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, number)
}

/// Whether this process may make namespaces.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Removes the namespaces of runs that no longer run.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if run_of(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another run may be removing it just now: then it is gone, which is what we want.
            let _ = ip(None, &format!("netns del {name}"));
        }
    }
}

/// The process id in the name of one of our namespaces.
fn run_of(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Runs `ip` with one command a line.
fn ip(space: Option<&Space>, commands: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(space) = space {
        command.args(["-netns", &space.name]);
    }
    let mut process = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip` (Debian: apt-get install iproute2)")?;
    if let Some(mut input) = process.stdin.take() {
        input.write_all(commands.as_bytes())?;
    }
    let output = process.wait_with_output()?;
    if !output.status.success() {
        bail!("ip {}: {}", commands.trim_end(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_the_run_it_belongs_to() {
        assert_eq!(run_of("tandem123-alice"), Some(123));
        assert_eq!(run_of("tandem-alice"), None);
        assert_eq!(run_of("tandem12x-alice"), None);
        assert_eq!(run_of("other123-alice"), None);
    }
}
