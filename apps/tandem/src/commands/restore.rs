//! `tandem restore`: a backup in place of what is here, or the configuration of that day as one change.
//!
//! ```text
//!   backup ── every hash ──> state/.restore/ ── prepared, checked ──┐ rename
//!   what was here ──rename──> state/before-restore-TIME/            └──> state/
//! ```
//!
//! What is put in place claims nothing of what came after it: its journal knows nothing, its configuration is
//! written under a new name, and its reigns begin far above those of then. So whatever the twin has that is
//! newer comes back, and nothing that the twin has is ever outvoted by a backup.

mod configuration;
mod fresh;

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use tandem_node::BINDING_PREFIX;
use tandem_oplog::Origin;
use tandem_os::{durable, entropy};
use tandem_store::backup::{self, Kind, Prepared};
use tandem_types::Epoch;

use super::backup::{
    CONTENTS, Manifest, give_file_like, give_like, hash, remove_folder, sync_folder, unpack,
    write_file,
};
use crate::cli::Failure;
use crate::config::Config;
use crate::keeper;
use crate::logging::Time;

/// In the state folder while a restore is under way: a server does not begin with half of one.
const UNFINISHED: &str = "restore.unfinished";
/// Folders of what was here before begin so.
const BEFORE: &str = "before-restore-";
/// In the mark behind the name of that folder: all that was here is in it.
const ALL: &str = "complete";
/// What may lie beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", ".suspect"];

/// The options of `tandem restore`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup: a folder or a file that `tandem backup` made
    #[arg(value_name = "BACKUP", required_unless_present = "empty")]
    backup: Option<PathBuf>,
    /// Only users, numbers and settings as they were, as one change, on a pair that runs; shows the
    /// difference
    #[arg(long)]
    configuration: bool,
    /// Make that change
    #[arg(long, requires = "configuration")]
    apply: bool,
    /// Also a backup of another pair, or one of this pair before its secret was made anew
    #[arg(long)]
    other_pair: bool,
    /// There is no backup: begin with an empty configuration where the configuration is lost
    #[arg(long, conflicts_with_all = ["backup", "configuration", "other_pair"])]
    empty: bool,
}

/// `tandem restore`.
pub(crate) fn restore(path: &Path, args: &RestoreArgs) -> Result<(), Failure> {
    let load = || Config::load(path).map_err(Failure::Config);
    let Some(from) = &args.backup else { return Ok(begin_empty(&load()?)?) };
    let opened = Opened::open(from)?;
    if args.configuration {
        let config = load()?;
        opened.check_pair(&config, args.other_pair)?;
        return configuration::restore(&config, &opened, args.apply);
    }
    let config = if path.exists() { load()? } else { fresh::set_up(path, &opened)? };
    opened.check_pair(&config, args.other_pair)?;
    Ok(put_in_place(&config, &opened)?)
}

/// Refused where a restore was cut off: what is here may be half of it.
///
/// # Errors
///
/// Says what to do.
pub(crate) fn check_finished(config: &Config) -> anyhow::Result<()> {
    let mark = config.state.join(UNFINISHED);
    ensure!(
        !mark.exists(),
        "a restore was cut off here ({}): run `tandem restore` again",
        mark.display()
    );
    Ok(())
}

/// A backup that is as it was written.
pub(crate) struct Opened {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    /// It was one file: what it was taken apart into goes with this.
    apart: bool,
}

impl Opened {
    /// Reads all of it.
    pub(crate) fn open(from: &Path) -> anyhow::Result<Self> {
        let apart = from.is_file();
        let mut folder = from.to_owned();
        if apart {
            let mut beside = from.as_os_str().to_owned();
            beside.push(".apart");
            folder = PathBuf::from(beside);
            let what = || format!("cannot take {} apart", from.display());
            remove_folder(&folder).with_context(what)?;
            if let Err(error) = unpack(from, &folder) {
                let _ = remove_folder(&folder);
                return Err(error).with_context(what);
            }
        }
        // From here on it is removed whatever happens.
        let mut opened = Self { folder, manifest: Manifest::none(), apart };
        opened.manifest = Manifest::read(&opened.folder)?;
        let mut faults = opened.manifest.faults(&opened.folder);
        let are_there = faults.is_empty();
        for (name, kind) in DATABASES.into_iter().filter(|_| are_there) {
            ensure!(opened.manifest.has(name), "{} has no {name}", opened.folder.display());
            faults.extend(backup::check(kind, &opened.folder.join(name))?);
        }
        ensure!(
            faults.is_empty(),
            "{} is damaged; nothing is changed:\n{}",
            from.display(),
            faults.join("\n")
        );
        Ok(opened)
    }

    fn check_pair(&self, config: &Config, other: bool) -> anyhow::Result<()> {
        let same = self.manifest.is_of(config)?;
        ensure!(
            same || other,
            "this backup is of another pair, or of this one before its secret was made anew; nothing is \
             changed. If it is what you want, add --other-pair"
        );
        Ok(())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.apart {
            let _ = remove_folder(&self.folder);
        }
    }
}

/// The databases of a machine, and what they are.
pub(crate) const DATABASES: [(&str, Kind); 2] =
    [(tandem_config::FILE_NAME, Kind::Tables), (tandem_store::FILE_NAME, Kind::Journal)];

fn put_in_place(config: &Config, opened: &Opened) -> anyhow::Result<()> {
    let state = &config.state;
    let _lock = stopped(config)?;
    let staged = state.join(".restore");
    remove_folder(&staged)?;
    DirBuilder::new().mode(0o700).create(&staged).with_context(|| cannot_write(&staged))?;
    let staging = stage(opened, &staged).and_then(|it| Ok((it, contents(opened, state)?)));
    let (prepared, counts) = match staging {
        Ok(staged) => staged,
        Err(error) => {
            let _ = remove_folder(&staged);
            return Err(error.context("nothing is changed"));
        }
    };
    let aside = change(config, &staged, prepared.reign).context(
        "the restore is cut off: run `tandem restore` again; no server begins here before that",
    )?;
    remove_folder(&staged)?;
    sync_folder(state)?;
    tell(config, opened, prepared, counts, aside.as_deref());
    Ok(())
}

/// Everything that must not be half: a server does not begin between the first step and the last.
fn change(config: &Config, staged: &Path, reign: Option<Epoch>) -> anyhow::Result<Option<PathBuf>> {
    let state = &config.state;
    let aside = swap(state, staged)?;
    keeper::leap_epoch(&config.epoch_file(), config.seat, reign)?;
    give_like(&config.epoch_file(), state)?;
    for mark in [crate::server::LOST, UNFINISHED].map(|name| state.join(name)) {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result.with_context(|| cannot_write(&mark))?,
        }
    }
    Ok(aside)
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Nothing of this machine runs, and no server begins until the lock is dropped.
fn stopped(config: &Config) -> anyhow::Result<File> {
    let stop = "stop it first with `systemctl stop tandem-keeper` (or end `tandem keeper`)";
    if UnixStream::connect(config.keeper_socket()).is_ok() {
        bail!("the keeper of this machine runs: {stop}; nothing is changed");
    }
    let lock = backup::lock(&config.state)
        .map_err(|error| anyhow!("{error}: a server runs here: {stop}; nothing is changed"))?;
    // Made by root, where no server ever began here.
    give_file_like(&lock, &config.state)?;
    Ok(lock)
}

/// Copies the databases and makes them fit to begin with.
fn stage(opened: &Opened, staged: &Path) -> anyhow::Result<Prepared> {
    for (name, _) in DATABASES {
        let (from, to) = (opened.folder.join(name), staged.join(name));
        let mut file =
            File::open(&from).with_context(|| format!("cannot read {}", from.display()))?;
        write_file(&to, &mut file).with_context(|| cannot_write(&to))?;
    }
    let mut origin = [0; 8];
    entropy::fill(&mut origin).context("the system gives no random numbers")?;
    let origin = Origin(u64::from_le_bytes(origin));
    backup::prepare_tables(&staged.join(tandem_config::FILE_NAME), origin)?;
    let journal = staged.join(tandem_store::FILE_NAME);
    let prepared = backup::prepare_journal(&journal, &[BINDING_PREFIX])?;
    for (name, kind) in DATABASES {
        let faults = backup::check(kind, &staged.join(name))?;
        ensure!(faults.is_empty(), "the copy of {name} is damaged: {}", faults.join("; "));
    }
    Ok(prepared)
}

/// Puts contents that are not here in place: how many, and how many were here. They never change, so
/// nothing has to be moved aside.
fn contents(opened: &Opened, state: &Path) -> anyhow::Result<(usize, usize)> {
    let (mut put, mut were_here) = (0, 0);
    let prefix = format!("{CONTENTS}/");
    for entry in opened.manifest.files.iter().filter(|entry| entry.name.starts_with(&prefix)) {
        let (from, to) = (opened.folder.join(&entry.name), state.join(&entry.name));
        if hash(&to).is_ok_and(|(_, sha256)| sha256 == entry.sha256) {
            were_here += 1;
            continue;
        }
        let Some(folder) = to.parent() else { continue };
        let what = || cannot_write(&to);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(what)?;
        for folder in [folder, &state.join(CONTENTS)] {
            give_like(folder, state).with_context(what)?;
        }
        let partial = state.join(".restore").join("content");
        write_file(&partial, &mut File::open(&from)?).with_context(what)?;
        give_like(&partial, state).with_context(what)?;
        fs::rename(&partial, &to).and_then(|()| sync_folder(folder)).with_context(what)?;
        put += 1;
    }
    Ok((put, were_here))
}

/// Moves what is here aside, and what is staged here. The folder of what was here; `None`: nothing was.
///
/// The mark says where, and whether all of it is there: a restore that goes on after one that was cut off
/// neither leaves half of it behind nor takes what that one put here for it.
fn swap(state: &Path, staged: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mark = state.join(UNFINISHED);
    let begun = fs::read_to_string(&mark).unwrap_or_default();
    let mut words = begun.split(' ').filter(|word| !word.contains('/'));
    let cut_off = words.next().filter(|name| name.starts_with(BEFORE));
    let is_aside = words.next() == Some(ALL);
    let name = cut_off.map_or_else(name_of_aside, str::to_owned);
    let aside = state.join(&name);
    let say =
        |text: &str| durable::replace(&mark, text.as_bytes()).with_context(|| cannot_write(&mark));
    if !is_aside {
        say(&name)?;
        move_aside(state, &aside)?;
        say(&format!("{name} {ALL}"))?;
    }
    for (name, _) in DATABASES {
        let (from, to) = (staged.join(name), state.join(name));
        // What a command left that looked at the one of the restore before.
        for end in BESIDE {
            let beside = state.join(format!("{name}{end}"));
            if beside.exists() {
                fs::remove_file(&beside).with_context(|| cannot_write(&beside))?;
            }
        }
        give_like(&from, state)?;
        fs::rename(&from, &to).with_context(|| cannot_write(&to))?;
    }
    sync_folder(state)?;
    Ok(aside.exists().then_some(aside))
}

fn name_of_aside() -> String {
    let time = Time::now().to_string();
    let time: String = time.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{BEFORE}{time}")
}

fn move_aside(state: &Path, aside: &Path) -> anyhow::Result<()> {
    for (name, _) in DATABASES {
        // The log goes after its database: alone it means nothing, beside another one it would.
        for end in [""].into_iter().chain(BESIDE) {
            let from = state.join(format!("{name}{end}"));
            if !from.exists() {
                continue;
            }
            let mut folder = DirBuilder::new();
            folder
                .recursive(true)
                .mode(0o700)
                .create(aside)
                .with_context(|| cannot_write(aside))?;
            give_like(aside, state)?;
            let to = aside.join(format!("{name}{end}"));
            fs::rename(&from, &to).with_context(|| cannot_write(&to))?;
        }
    }
    if aside.exists() {
        sync_folder(aside)?;
    }
    Ok(sync_folder(state)?)
}

fn tell(
    config: &Config,
    opened: &Opened,
    prepared: Prepared,
    (put, were_here): (usize, usize),
    aside: Option<&Path>,
) {
    let manifest = &opened.manifest;
    let made = Time::from_micros(manifest.made_micros).to_seconds();
    let line = |name: &str, text: &str| println!("{name:<14}{text}");
    let count = manifest.files.len();
    line(
        "backup",
        &format!("of the {}, made {made} UTC; all {count} files are good", manifest.seat),
    );
    line("machine", &format!("{}, {}", config.seat, config.state.display()));
    let Prepared { logs, kept, dropped, .. } = prepared;
    line(
        "journal",
        &format!(
            "{logs} records of calls; {kept} users' logins, as far as they have not run out; {dropped} records \
             of calls that were up then are left out"
        ),
    );
    if put + were_here > 0 {
        line("contents", &format!("{put} put in place, {were_here} were here"));
    }
    match aside {
        Some(aside) => line("before", &format!("what was here is in {}", aside.display())),
        None => line("before", "nothing was here"),
    }
    println!(
        "restored; start it with `systemctl start tandem-keeper`. What the other machine has that is newer \
         comes back from there: to undo a change on both, use --configuration on the running pair"
    );
}

/// Where the configuration is lost, on both machines, and there is no backup.
fn begin_empty(config: &Config) -> anyhow::Result<()> {
    let lost = config.state.join(crate::server::LOST);
    match fs::remove_file(&lost) {
        Ok(()) => {
            println!(
                "this machine begins with an empty configuration, and takes what the other one has; \
                 restart it with `systemctl restart tandem-keeper`"
            );
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("the configuration of this machine is not lost; nothing is changed")
        }
        Err(error) => Err(error).with_context(|| cannot_write(&lost)),
    }
}
