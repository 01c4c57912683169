//! A pair that belongs to a run: two machines, each with a configuration, a keeper and (started by
//! the keeper) a server, as on two real ones.
//!
//! Invariant: the keepers end with this value, and their servers with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
pub use tandem_keeper::Status;
use tandem_keeper::{OperatorAnswer, OperatorRequest};
use tandem_node::{Reply, Request};
use tandem_types::{Role, Seat};

use super::child::{Child, signal};
use super::place::{MASTER, Place, SIP_PORT, STANDBY, VIRTUAL};
use super::space::Space;
use super::wait;
use crate::cli::Failure;
use crate::config::{Config, Prefix};
use crate::control::ask;
use crate::init::{InitArgs, SeatArg, set_up};

/// The realm of a run's users.
const REALM: &str = "demo.example";

/// A killed process has ended by then.
const END_LIMIT: Duration = Duration::from_secs(10);

/// One of the two machines.
#[derive(Debug)]
pub struct Machine {
    /// Its place in the pair.
    pub seat: Seat,
    /// Its configuration file.
    pub config_path: PathBuf,
    /// What that says.
    pub config: Config,
    /// Its namespace.
    pub space: Option<Space>,
    /// Where its keeper and server write their log.
    pub log: PathBuf,
    keeper: Option<Child>,
}

/// The pair.
#[derive(Debug)]
pub struct Twins {
    program: PathBuf,
    /// The master, then the standby.
    pub machines: [Machine; 2],
    /// What phones know.
    pub virtual_address: SocketAddr,
}

/// Who serves.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Position in [`Twins::machines`].
    pub index: usize,
    /// Its server process.
    pub pid: u32,
    /// All that its keeper knows.
    pub status: Status,
}

impl Serving {
    /// Where this status is of a machine that serves.
    fn of(index: usize, status: Status) -> Option<Self> {
        let pid = status.services.first().and_then(|service| service.pid)?;
        let serves = status.server.as_ref().is_some_and(|report| report.what.serving);
        (status.role == Role::Active && serves).then_some(Self { index, pid, status })
    }
}

impl Twins {
    /// Sets both machines up in `folder`, as `tandem init` does; `program` is the binary to run.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn set_up(program: &Path, folder: &Path, place: &Place) -> Result<Self> {
        Self::set_up_with(program, folder, place, &[])
    }

    /// As [`Twins::set_up`], with more virtual addresses.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn set_up_with(
        program: &Path,
        folder: &Path,
        place: &Place,
        more: &[Prefix],
    ) -> Result<Self> {
        let (interface, length) = place.interface();
        let first = Prefix { ip: place.address(VIRTUAL), length };
        let blank = InitArgs {
            seat: SeatArg::Master,
            address: Vec::new(),
            peer: Vec::new(),
            virtual_addresses: Vec::new(),
            interface: interface.clone(),
            realm: None,
            join: None,
            dir: Some(folder.join("master")),
            owner: None,
        };
        let master = set_up(InitArgs {
            address: vec![place.address(MASTER)],
            peer: vec![place.address(STANDBY)],
            virtual_addresses: [&[first], more].concat(),
            realm: Some(REALM.to_owned()),
            ..blank.clone()
        })?;
        let standby = set_up(InitArgs {
            seat: SeatArg::Standby,
            join: Some(master.pairing.to_code()),
            dir: Some(folder.join("standby")),
            ..blank
        })?;
        let machine = |made: crate::init::Made, name: &str| Machine {
            seat: made.config.seat,
            config_path: made.path,
            config: made.config,
            space: place.space(name),
            log: folder.join(format!("{name}.log")),
            keeper: None,
        };
        Ok(Self {
            program: program.to_owned(),
            machines: [machine(master, "master"), machine(standby, "standby")],
            virtual_address: SocketAddr::new(place.address(VIRTUAL), SIP_PORT),
        })
    }

    /// Starts both keepers.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start(&mut self) -> Result<()> {
        (0..self.machines.len()).try_for_each(|index| self.start_keeper(index))
    }

    /// Starts the keeper of one machine.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start_keeper(&mut self, index: usize) -> Result<()> {
        let machine = &mut self.machines[index];
        let name = format!("the {}'s keeper", machine.seat);
        let config = machine.config_path.as_os_str();
        let arguments = ["--config".as_ref(), config, "keeper".as_ref()];
        let space = machine.space.as_ref();
        let keeper = Child::start(&name, &self.program, &arguments, space, &machine.log)?;
        machine.keeper = Some(keeper);
        Ok(())
    }

    /// Stops the keeper of one machine, in good order.
    pub fn stop_keeper(&mut self, index: usize) {
        self.machines[index].keeper = None;
    }

    /// The keeper process of a machine, where it was started and neither stopped nor killed.
    #[must_use]
    pub fn keeper_pid(&self, index: usize) -> Option<u32> {
        self.machines[index].keeper.as_ref().map(Child::pid)
    }

    /// Kills the keeper of one machine (SIGKILL), and with it its server; it can be started again.
    ///
    /// # Errors
    ///
    /// It does not run, or does not end.
    pub fn kill_keeper(&mut self, index: usize) -> Result<()> {
        let keeper = self.machines[index].keeper.as_mut().context("the keeper does not run")?;
        signal(keeper.pid(), Signal::KILL)?;
        keeper.wait(END_LIMIT)?;
        self.machines[index].keeper = None;
        Ok(())
    }

    /// What the keeper of a machine says; `None` while it does not answer.
    ///
    /// # Errors
    ///
    /// The keeper has ended.
    pub fn status(&mut self, index: usize) -> Result<Option<Status>> {
        let machine = &mut self.machines[index];
        if let Some(keeper) = &mut machine.keeper {
            keeper.still_runs()?;
        }
        let socket = machine.config.keeper_socket();
        match ask(&socket, "keeper", &OperatorRequest::Status) {
            Ok(OperatorAnswer::Status(status)) => Ok(Some(*status)),
            Ok(OperatorAnswer::Done | OperatorAnswer::Refused(_)) | Err(_) => Ok(None),
        }
    }

    /// Who serves, where that is exactly one.
    ///
    /// # Errors
    ///
    /// A keeper has ended.
    pub fn serving(&mut self) -> Result<Option<Serving>> {
        let mut found = None;
        for index in 0..self.machines.len() {
            let Some(status) = self.status(index)? else { continue };
            let Some(serving) = Serving::of(index, status) else { continue };
            if found.is_some() {
                return Ok(None);
            }
            found = Some(serving);
        }
        Ok(found)
    }

    /// Waits until one server serves and the other could take over at once and without loss.
    ///
    /// # Errors
    ///
    /// That is not so within `limit`; what is so instead is told.
    pub fn wait_protected(&mut self, limit: Duration) -> Result<Serving> {
        let seen = wait::until("a protected pair", limit, || {
            Ok(self.serving()?.filter(|s| s.status.protected && s.status.twin_ready))
        });
        seen.map_err(|error| error.context(self.describe()))
    }

    /// Waits until the other machine than `before` serves (where the two are cut off from each
    /// other, `before` may do so as well).
    ///
    /// # Errors
    ///
    /// It does not within `limit`.
    pub fn wait_takeover(&mut self, before: usize, limit: Duration) -> Result<Serving> {
        let other = 1 - before;
        let seen = wait::until("a takeover", limit, || {
            let status = self.status(other)?;
            Ok(status.and_then(|status| Serving::of(other, status)))
        });
        seen.map_err(|error| error.context(self.describe()))
    }

    /// Both machines in a sentence each.
    pub fn describe(&mut self) -> String {
        let line = |twins: &mut Self, index: usize| {
            let seat = twins.machines[index].seat;
            match twins.status(index) {
                Ok(Some(s)) => format!(
                    "{seat}: {} ({}; {}), protected {}, twin ready {}",
                    s.role, s.state, s.standing, s.protected, s.twin_ready
                ),
                Ok(None) => format!("{seat}: its keeper does not answer"),
                Err(error) => format!("{seat}: {error:#}"),
            }
        };
        format!("{}\n{}", line(self, 0), line(self, 1))
    }

    /// Adds a user at the machine that serves and returns the password.
    ///
    /// # Errors
    ///
    /// Nobody serves; the server refuses.
    pub fn add_user(&mut self, index: usize, name: &str, number: &str) -> Result<String> {
        let request = Request::UserAdd {
            name: name.to_owned(),
            display: String::new(),
            numbers: vec![number.to_owned()],
            password: None,
        };
        match self.ask_server(index, &request)? {
            Reply::Done { password } => password.context("the server made no password"),
            Reply::Refused { why } => Err(anyhow!("{why}")),
            Reply::Users { .. }
            | Reply::Calls { .. }
            | Reply::Blocks { .. }
            | Reply::Emergency { .. }
            | Reply::Retention { .. } => {
                bail!("the server answered something else")
            }
        }
    }

    /// How many calls ring and how many are answered, by the server of a machine.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn calls(&self, index: usize) -> Result<(usize, usize)> {
        match self.ask_server(index, &Request::CallList)? {
            Reply::Calls { calls } => {
                let answered = calls.iter().filter(|call| call.state == "answered").count();
                Ok((calls.len() - answered, answered))
            }
            Reply::Refused { why } => Err(anyhow!("{why}")),
            Reply::Users { .. }
            | Reply::Done { .. }
            | Reply::Blocks { .. }
            | Reply::Emergency { .. }
            | Reply::Retention { .. } => bail!("the server answered something else"),
        }
    }

    fn ask_server<A: DeserializeOwned>(&self, index: usize, request: &Request) -> Result<A> {
        let socket = self.machines[index].config.server_socket();
        ask(&socket, "server", request).map_err(|failure| match failure {
            Failure::Config(error) | Failure::Unreachable(error) | Failure::Other(error) => error,
        })
    }

    /// Runs a command of the program for one machine and reads the JSON that it prints.
    ///
    /// # Errors
    ///
    /// The command fails or prints something else.
    pub fn command(&self, index: usize, words: &[&str]) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.machines[index].config_path).args(words);
        let output = command.output().context("cannot run the program")?;
        let shown = words.join(" ");
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`tandem {shown}` failed: {}", said.trim_end());
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`tandem {shown}` did not print JSON"))
    }

    /// All call records of one machine, by `tandem cdr list`, oldest first.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn records(&self, index: usize) -> Result<Vec<serde_json::Value>> {
        let all = self.command(index, &["cdr", "list", "--json", "--limit", "1000000"])?;
        let serde_json::Value::Array(mut records) = all else {
            bail!("`tandem cdr list --json` did not print a list");
        };
        records
            .sort_by_key(|record| (record["start"].as_i64(), word(record, "call_id").to_owned()));
        Ok(records)
    }
}

/// A word in a call record; empty where it is none.
#[must_use]
pub fn word<'a>(record: &'a serde_json::Value, field: &str) -> &'a str {
    record.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
}
