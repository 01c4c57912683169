//! Two machines with keepalived and Kamailio, as a careful administrator sets them up: both begin as
//! BACKUP with `nopreempt`, so the role does not go back by itself, and Kamailio is checked.
//!
//! | check | with keepalived's defaults | with ten adverts a second |
//! | --- | --- | --- |
//! | does its process live? | a script with `kill -0`, every second | told at once (`track_file`) |
//! | does it answer? | a script with `sipsak`, every second | the same |
//!
//! A second is keepalived's default for scripts, and the shortest pause and time limit that it has.
//!
//! Invariant: the address is never left behind: it is on interfaces that go with their namespaces.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tandem::demo::child::Child;
use tandem::demo::place::SIP_PORT;
use tandem::demo::space::{INTERFACE, PREFIX_BITS, Space};

use super::kamailio::Kamailio;
pub(crate) use super::vrrp_log::State;
use super::vrrp_log::{newest, role_changes};

/// How often the master says that it is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Adverts {
    /// Once a second: keepalived's default.
    Defaults,
    /// Ten times a second.
    Tenth,
}

/// Where a machine is and what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its name; its files are in a folder of that name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) space: Space,
    /// Its own address.
    pub(crate) address: IpAddr,
    /// The address that moves.
    pub(crate) virtual_ip: IpAddr,
    /// The number that both machines of a couple share (RFC 5798 §5.2.3).
    pub(crate) router: u8,
    /// The higher one becomes master where both begin at once.
    pub(crate) priority: u8,
    /// How often the master says that it is there.
    pub(crate) adverts: Adverts,
}

/// One machine. Fields end in this order.
#[derive(Debug)]
pub(crate) struct Machine {
    plan: Plan,
    folder: PathBuf,
    keepalived: Option<Child>,
    kamailio: Option<Kamailio>,
}

impl Machine {
    /// Starts Kamailio and keepalived; `base` is the folder of the run.
    ///
    /// # Errors
    ///
    /// They are not installed; a file cannot be written.
    pub(crate) fn start(plan: Plan, base: &Path) -> Result<Self> {
        let folder = base.join(&plan.name);
        std::fs::create_dir(&folder)?;
        // Kamailio listens on the virtual address before it is there.
        plan.space.inside(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1\n")?))?;
        let mut machine = Self { plan, folder, keepalived: None, kamailio: None };
        machine.start_kamailio()?;
        machine.write_files()?;
        machine.start_keepalived()?;
        Ok(machine)
    }

    fn write_files(&self) -> Result<()> {
        let own = self.own_sip();
        let pid = self.folder.join("kamailio.pid");
        // A file that is not there yet is a process that is not there yet.
        let lives = format!("#!/bin/sh\nkill -0 \"$(cat {})\"\n", pid.display());
        let answers = format!("#!/bin/sh\nexec sipsak -s sip:ping@{own}\n");
        for (name, text) in [("lives.sh", lives), ("answers.sh", answers)] {
            let path = self.folder.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        std::fs::write(
            self.folder.join("keepalived.conf"),
            configuration(&self.plan, &self.folder),
        )?;
        Ok(())
    }

    /// Starts Kamailio, where it does not run.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub(crate) fn start_kamailio(&mut self) -> Result<()> {
        if self.kamailio.is_none() {
            let addresses = [self.plan.virtual_ip, self.plan.address];
            self.kamailio = Some(Kamailio::start(&self.plan.space, &self.folder, addresses)?);
        }
        Ok(())
    }

    /// Starts keepalived, where it does not run.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub(crate) fn start_keepalived(&mut self) -> Result<()> {
        if self.keepalived.is_some() {
            return Ok(());
        }
        ensure!(program("sipsak")?.is_file(), "no sipsak");
        let show = |name: &str| self.folder.join(name).display().to_string();
        let files = [show("keepalived.conf"), show("keepalived.pid"), show("vrrp.pid")];
        let mut arguments = vec!["--dont-fork", "--log-console", "--log-detail", "--vrrp"];
        for (option, value) in ["-f", "-p", "-r"].iter().zip(&files) {
            arguments.extend([option, value.as_str()]);
        }
        let (program, space) = (program("keepalived")?, Some(&self.plan.space));
        let log = self.log();
        self.keepalived = Some(Child::start("keepalived", &program, &arguments, space, &log)?);
        Ok(())
    }

    /// Stops keepalived as `systemctl stop keepalived` does (SIGTERM) and waits for its end.
    pub(crate) fn stop_keepalived(&mut self) {
        self.keepalived = None;
    }

    /// Lets Kamailio hang (SIGSTOP).
    ///
    /// # Errors
    ///
    /// It does not run.
    pub(crate) fn stop_kamailio(&self) -> Result<()> {
        self.kamailio.as_ref().context("Kamailio does not run")?.stop()
    }

    /// Kills Kamailio.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub(crate) fn kill_kamailio(&mut self) -> Result<()> {
        self.kamailio.take().context("Kamailio does not run")?.kill()
    }

    /// Its state; `None` while keepalived does not run or has none yet.
    ///
    /// # Errors
    ///
    /// Something that should run has ended.
    pub(crate) fn state(&mut self) -> Result<Option<State>> {
        if let Some(kamailio) = &mut self.kamailio {
            kamailio.still_runs()?;
        }
        let Some(keepalived) = &mut self.keepalived else { return Ok(None) };
        keepalived.still_runs()?;
        Ok(newest(&self.read_log()?))
    }

    /// How often it began or ceased to serve, since the run began.
    ///
    /// # Errors
    ///
    /// There is no log.
    pub(crate) fn role_changes(&self) -> Result<usize> {
        Ok(role_changes(&self.read_log()?))
    }

    /// Where Kamailio is asked directly.
    #[must_use]
    pub(crate) fn own_sip(&self) -> SocketAddr {
        SocketAddr::new(self.plan.address, SIP_PORT)
    }

    /// The name of its machine.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    fn log(&self) -> PathBuf {
        self.folder.join("keepalived.log")
    }

    fn read_log(&self) -> Result<String> {
        let bytes = std::fs::read(self.log()).context("no log of keepalived")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Which machine serves, where the other one could take over at once.
///
/// # Errors
///
/// Something that should run has ended.
pub(crate) fn serving(machines: &mut [Machine; 2]) -> Result<Option<usize>> {
    let [one, two] = machines;
    Ok(match (one.state()?, two.state()?) {
        (Some(State::Master), Some(State::Backup)) => Some(0),
        (Some(State::Backup), Some(State::Master)) => Some(1),
        (Some(State::Master | State::Backup | State::Fault) | None, _) => None,
    })
}

/// keepalived.conf(5).
fn configuration(plan: &Plan, folder: &Path) -> String {
    let Plan { name, virtual_ip, router, priority, adverts, .. } = plan;
    let folder = folder.display();
    let script = |name: &str| {
        format!(
            "vrrp_script {name} {{\n\tscript \"{folder}/{name}.sh\"\n\tinterval 1\n\ttimeout 1\n}}\n"
        )
    };
    let answers = script("answers");
    // Version 2 of VRRP has whole seconds only.
    let (version, interval, lives, track) = match adverts {
        Adverts::Defaults => {
            ("", "1", script("lives"), "\ttrack_script {\n\t\tlives\n\t\tanswers\n\t}\n")
        }
        Adverts::Tenth => (
            "\tvrrp_version 3\n",
            "0.1",
            format!("track_file lives {{\n\tfile \"{folder}/kamailio.down\"\n\tweight 0\n}}\n"),
            "\ttrack_script {\n\t\tanswers\n\t}\n\ttrack_file {\n\t\tlives\n\t}\n",
        ),
    };
    format!(
        "global_defs {{\n\trouter_id {name}\n\tscript_user root\n{version}}}\n{lives}{answers}\
         vrrp_instance lab {{\n\tstate BACKUP\n\tnopreempt\n\tinterface {INTERFACE}\n\
         \tvirtual_router_id {router}\n\tpriority {priority}\n\tadvert_int {interval}\n\
         \tvirtual_ipaddress {{\n\t\t{virtual_ip}/{PREFIX_BITS}\n\t}}\n{track}}}\n"
    )
}

/// Where a program of another package is.
///
/// # Errors
///
/// It is not installed.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.with_context(|| {
        format!("{name} is not installed: run ./setup, or: apt-get install {name}")
    })
}
