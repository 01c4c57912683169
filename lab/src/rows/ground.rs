//! Where a scenario is played: a pair of its own, configured as the scenario wants it, and what is done
//! to it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tandem::demo::child::{Child, signal};
use tandem::demo::place::{FIRST_PHONE, Folder, Place};
use tandem::demo::twins::{Serving, Status, Twins};
use tandem::demo::wait;

use super::watch::{Seen, Watch};
use crate::stage::{CALLERS, PHONES, PROTECTED_LIMIT, Stage, program};

/// When to give up waiting for something that takes a moment.
pub(super) const LIMIT: Duration = Duration::from_secs(15);

/// So long nothing is done, so that what should not happen had its time.
pub(super) const CALM: Duration = Duration::from_millis(500);

/// The machine of the third voter, and the last number of its address.
const THIRD: &str = "witness";
const THIRD_NUMBER: u8 = FIRST_PHONE + 2;
/// The port of a witness.
const WITNESS_PORT: u16 = 5072;
/// After its start it grants nothing for 3.1 s.
const WITNESS_SILENCE: Duration = Duration::from_millis(3_200);
/// The ports of an etcd.
const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;

/// The third voter of a pair.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Third {
    #[default]
    Nobody,
    /// `tandem witness`.
    Witness,
    /// A real etcd of one member.
    Etcd,
}

/// How the pair is configured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    /// Further lines of both configuration files.
    pub(super) lines: &'static str,
    /// The third voter.
    pub(super) third: Third,
}

/// The pair and what belongs to it. Fields end in this order.
#[derive(Debug)]
pub(super) struct Ground {
    third: Option<Child>,
    witness_since: Option<Instant>,
    /// The pair and its place.
    pub(super) stage: Stage,
}

/// Processes that are stopped (SIGSTOP) for as long as this value lives.
#[derive(Debug)]
pub(super) struct Stopped(Vec<u32>);

impl Stopped {
    pub(super) fn begin(pids: Vec<u32>) -> Result<Self> {
        // Whatever fails: those that are stopped go on when it is dropped.
        let stopped = Self(pids);
        stopped.0.iter().try_for_each(|pid| signal(*pid, Signal::STOP))?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that was killed meanwhile cannot go on.
            let _ = signal(*pid, Signal::CONT);
        }
    }
}

/// Plays `story` on a pair that is configured and not started. Where it fails its logs are kept.
pub(super) fn on(plan: Plan, story: impl FnOnce(&mut Ground) -> Result<String>) -> Result<String> {
    let mut ground = Ground::lay(plan)?;
    let told = story(&mut ground);
    if told.is_err() && !wait::asked_to_stop() {
        ground.stage.folder.keep();
        let path = ground.stage.folder.path().display().to_string();
        return told.with_context(|| format!("(logs in {path})"));
    }
    told
}

/// As [`on`], with the pair started and protected; `story` gets who serves.
pub(super) fn on_pair(
    plan: Plan,
    story: impl FnOnce(&mut Ground, &Serving) -> Result<String>,
) -> Result<String> {
    on(plan, |ground| {
        ground.stage.twins.start()?;
        let serving = ground.protected()?;
        if let Some(since) = ground.witness_since {
            let left = WITNESS_SILENCE.saturating_sub(since.elapsed());
            wait::pass("the silence of the witness", left)?;
        }
        story(ground, &serving)
    })
}

impl Ground {
    fn lay(plan: Plan) -> Result<Self> {
        let place = Place::machines(&[CALLERS, PHONES, THIRD])?;
        let folder = Folder::new(None)?;
        let twins = Twins::set_up(&program()?, folder.path(), &place)?;
        let stage = Stage { twins, folder, place };
        let mut ground = Self { third: None, witness_since: None, stage };
        let at = ground.stage.place.address(THIRD_NUMBER);
        let vote = match plan.third {
            Third::Nobody => String::new(),
            Third::Witness => format!("witness = \"{at}:{WITNESS_PORT}\"\n"),
            Third::Etcd => format!("etcd = [\"http://{at}:{ETCD_PORT}\"]\n"),
        };
        for machine in &ground.stage.twins.machines {
            let mut file = std::fs::OpenOptions::new().append(true).open(&machine.config_path)?;
            write!(file, "{vote}{}", plan.lines)?;
        }
        match plan.third {
            Third::Nobody => {}
            Third::Witness => {
                ground.set_up_witness()?;
                ground.start_witness()?;
            }
            Third::Etcd => ground.start_etcd()?,
        }
        Ok(ground)
    }

    fn witness_file(&self) -> PathBuf {
        self.stage.folder.path().join("witness.toml")
    }

    /// As an administrator does it: the key from a machine of the pair, then `add` at the witness.
    fn set_up_witness(&self) -> Result<()> {
        let printed = self.tandem(0, &["witness", "key"])?;
        let key = printed.split_whitespace().last().context("no key was printed")?;
        let file = self.witness_file();
        let mut add = Command::new(program()?);
        add.arg("--config").arg(&file).args(["witness", "add", "lab", key]);
        ensure!(add.output()?.status.success(), "`tandem witness add` failed");
        let text = std::fs::read_to_string(&file)?;
        let at = self.stage.place.address(THIRD_NUMBER);
        let socket = self.stage.folder.path().join("witness.sock");
        let listen = format!("socket = {socket:?}\nlisten = [\"{at}:{WITNESS_PORT}\"]");
        let usual = format!("listen = [\"[::]:{WITNESS_PORT}\"]");
        ensure!(text.contains(&usual), "the file of the witness has no line {usual}");
        std::fs::write(&file, text.replace(&usual, &listen))?;
        Ok(())
    }

    /// Starts the witness; it grants nothing for a while.
    fn start_witness(&mut self) -> Result<()> {
        let file = self.witness_file();
        let arguments = ["--config".as_ref(), file.as_os_str(), "witness".as_ref()];
        let space = self.stage.place.space(THIRD);
        let log = self.stage.folder.path().join("witness.log");
        let child = Child::start("the witness", &program()?, &arguments, space.as_ref(), &log)?;
        self.third = Some(child);
        self.witness_since = Some(Instant::now());
        Ok(())
    }

    /// Starts an etcd and waits until it serves.
    fn start_etcd(&mut self) -> Result<()> {
        let at = self.stage.place.address(THIRD_NUMBER);
        let (url, peer) =
            (format!("http://{at}:{ETCD_PORT}"), format!("http://{at}:{ETCD_PEER_PORT}"));
        let data = self.stage.folder.path().join("etcd");
        let options = [
            ("--data-dir", data.display().to_string()),
            ("--listen-client-urls", url.clone()),
            ("--advertise-client-urls", url),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-cluster", format!("default={peer}")),
            ("--initial-advertise-peer-urls", peer),
        ];
        let arguments: Vec<&OsStr> =
            options.iter().flat_map(|(key, value)| [OsStr::new(key), OsStr::new(value)]).collect();
        let space = self.stage.place.space(THIRD);
        let log = self.stage.folder.path().join("etcd.log");
        let child = Child::start("etcd", Path::new("etcd"), &arguments, space.as_ref(), &log)?;
        self.third = Some(child);
        wait::until("etcd", LIMIT, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            Ok(text.contains("ready to serve client requests").then_some(()))
        })
    }

    /// Ends the third voter.
    pub(super) fn stop_third(&mut self) {
        self.third = None;
    }

    /// Waits until one server serves and the other could take over at once and without loss.
    pub(super) fn protected(&mut self) -> Result<Serving> {
        self.stage.twins.wait_protected(PROTECTED_LIMIT)
    }

    /// Begins to watch who serves.
    pub(super) fn watch(&self) -> Result<Watch> {
        Watch::begin(&self.stage)
    }

    /// Waits until it is protected, and lets a moment pass; then tells who serves and what was seen.
    pub(super) fn settle(&mut self, watch: Watch) -> Result<(Serving, Seen)> {
        let serving = self.protected()?;
        self.calm()?;
        Ok((serving, watch.end()?))
    }

    /// Lets a moment pass.
    pub(super) fn calm(&self) -> Result<()> {
        wait::pass("nothing to happen", CALM)
    }

    /// The processes of a machine: its keeper, then its server.
    pub(super) fn processes(&mut self, index: usize) -> Result<[u32; 2]> {
        let keeper = self.stage.twins.keeper_pid(index).context("no keeper")?;
        Ok([keeper, self.server(index)?])
    }

    /// The server process of a machine.
    pub(super) fn server(&mut self, index: usize) -> Result<u32> {
        let status = self.status(index)?;
        let pid = status.services.first().and_then(|service| service.pid);
        pid.context("the server is not up")
    }

    /// What the keeper of a machine says.
    pub(super) fn status(&mut self, index: usize) -> Result<Status> {
        self.stage.twins.status(index)?.context("the keeper does not answer")
    }

    /// Runs a command of an administrator on a machine; returns what it prints.
    ///
    /// # Errors
    ///
    /// It is refused; the error is its reason.
    pub(super) fn tandem(&self, index: usize, words: &[&str]) -> Result<String> {
        let mut command = Command::new(program()?);
        command.arg("--config").arg(&self.stage.twins.machines[index].config_path).args(words);
        let output = command.output().context("cannot run `tandem`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim_end());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that must be refused with these words in the reason; returns the reason.
    pub(super) fn refused(&self, index: usize, words: &[&str], reason: &str) -> Result<String> {
        let shown = words.join(" ");
        match self.tandem(index, words) {
            Ok(_) => anyhow::bail!("`tandem {shown}` was not refused"),
            Err(error) => {
                let said = error.to_string();
                ensure!(said.contains(reason), "`tandem {shown}` was refused otherwise: {said}");
                Ok(said)
            }
        }
    }
}

/// Reigns that have begun between two looks at who serves.
pub(super) fn reigns(before: &Serving, after: &Serving) -> u32 {
    after.status.highest.number.saturating_sub(before.status.highest.number)
}

/// That the role is where it was, in the same reign.
pub(super) fn stayed(before: &Serving, after: &Serving) -> Result<()> {
    ensure!(after.index == before.index, "the role went to the other machine");
    let reigns = reigns(before, after);
    ensure!(reigns == 0, "{reigns} new reigns have begun");
    Ok(())
}

/// That the other machine has the role, and got it at once.
pub(super) fn went_over(before: &Serving, after: &Serving) -> Result<()> {
    ensure!(after.index != before.index, "the role is where it was");
    let reigns = reigns(before, after);
    ensure!(reigns == 1, "{reigns} new reigns have begun: expected one");
    Ok(())
}
