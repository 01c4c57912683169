//! Making a backup: aside under another name, everything synced, the list last, then renamed.
//!
//! ```text
//!   config.db, journal.db, files, tandem.toml ──> .tandem-SEAT.partial/ ──rename──> 20261123T031500Z-master/
//! ```
//!
//! Each database is copied as it is at one moment. The configuration goes first: a call of a user who was
//! added in between has its record in the backup; the other way round calls would be missing that
//! somebody may ask about. Contents of files go last: what the configuration names was there then, and
//! nothing is deleted before a week has passed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use tandem_store::backup::{self, Kind};

use super::keep::{self, Last};
use super::manifest::{Entry, MANIFEST, Manifest, hash};
use super::{give_file_like, give_like};
use crate::config::Config;
use crate::logging::Time;
use crate::server::LOST;

/// The name of the configuration's file in a backup: that of this machine.
pub(crate) const MACHINE_FILE: &str = "tandem.toml";
/// The name of the pair secret in a backup that has it.
pub(crate) const SECRET_FILE: &str = "pair.secret";
/// The folder of contents, here and in a backup.
pub(crate) const CONTENTS: &str = "files";

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// Of the machine.
    pub(crate) config: &'a Config,
    /// Its file.
    pub(crate) path: &'a Path,
    /// The pair secret too.
    pub(crate) with_secret: bool,
    /// How many complete ones of this machine are left afterwards.
    pub(crate) keep: Option<usize>,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Where.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) manifest: Manifest,
    /// Older ones that are removed.
    pub(crate) removed: Vec<PathBuf>,
    /// Why an older one could not be removed.
    pub(crate) stays: Option<String>,
}

/// Asked after every part that is copied: the file, its bytes so far, all of them. False: do not go on.
pub(crate) type GoOn<'a> = dyn FnMut(&str, u64, u64) -> bool + 'a;

/// Makes a folder in `into`, and keeps in mind how it went for `tandem status`.
///
/// # Errors
///
/// Nothing of it is left then.
pub(crate) fn make(order: Order<'_>, into: &Path, go_on: &mut GoOn<'_>) -> anyhow::Result<Made> {
    let made = make_folder(order, into, go_on);
    note(order.config, made.as_ref());
    made
}

/// As [`make`], as one file.
///
/// # Errors
///
/// As there.
pub(crate) fn make_file(
    order: Order<'_>,
    file: &Path,
    go_on: &mut GoOn<'_>,
) -> anyhow::Result<Made> {
    let mut pack = || {
        ensure!(!file.exists(), "{} is already there: name another file", file.display());
        let into = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let place = Place::open(into, order.config)?;
        let manifest = fill(order, &place.partial, go_on)?;
        let packed = super::pack::pack(&place.partial, &manifest, file);
        packed.with_context(|| format!("cannot write {}", file.display()))?;
        give_like(file, into)?;
        Ok(Made { path: file.to_owned(), manifest, removed: Vec::new(), stays: None })
    };
    let made: anyhow::Result<Made> = pack();
    note(order.config, made.as_ref());
    made
}

fn make_folder(order: Order<'_>, into: &Path, go_on: &mut GoOn<'_>) -> anyhow::Result<Made> {
    let place = Place::open(into, order.config)?;
    let manifest = fill(order, &place.partial, go_on)?;
    give_all_like(&place.partial, &manifest, into)
        .with_context(|| format!("cannot give it to the owner of {}", into.display()))?;
    let path = free_name(into, &manifest);
    fs::rename(&place.partial, &path)
        .and_then(|()| sync_folder(into))
        .with_context(|| format!("cannot rename what was made to {}", path.display()))?;
    let keep = order.keep.unwrap_or(usize::MAX);
    let (removed, stays) = match keep::remove_old(into, &path, &manifest, keep) {
        Ok(removed) => (removed, None),
        // What was made is complete all the same, and is not made again for that.
        Err(error) => (Vec::new(), Some(format!("an older one stays: {error}"))),
    };
    Ok(Made { path, manifest, removed, stays })
}

/// Whoever removes old backups there can read this one: also where root made it.
fn give_all_like(made: &Path, manifest: &Manifest, folder: &Path) -> io::Result<()> {
    for entry in &manifest.files {
        for part in Path::new(&entry.name).ancestors() {
            give_like(&made.join(part), folder)?;
        }
    }
    give_like(&made.join(MANIFEST), folder)
}

/// Where a backup is made: one at a time for each seat. What is there when this is dropped goes.
struct Place {
    partial: PathBuf,
    /// Locked as long as this lives.
    _lock: File,
}

impl Place {
    fn open(into: &Path, config: &Config) -> anyhow::Result<Self> {
        let what = || format!("cannot make a backup in {}", into.display());
        if !into.exists() {
            fs::create_dir_all(into.parent().unwrap_or(into)).with_context(what)?;
            DirBuilder::new().mode(0o700).create(into).with_context(what)?;
            give_like(into, &config.state).with_context(what)?;
        }
        let lock = into.join(format!(".tandem-{}.lock", config.seat));
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(&lock).with_context(what)?;
        // Root's would keep out the server that makes one every day.
        give_file_like(&lock, into).with_context(what)?;
        if lock.try_lock().is_err() {
            return Err(anyhow!("another backup is being made in {}", into.display()));
        }
        let partial = into.join(format!(".tandem-{}.partial", config.seat));
        // What an earlier one left that was killed: nobody else may be writing it now.
        remove_folder(&partial).with_context(what)?;
        DirBuilder::new().mode(0o700).create(&partial).with_context(what)?;
        Ok(Self { partial, _lock: lock })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one.
        let _ = remove_folder(&self.partial);
    }
}

/// Copies everything, and writes the list.
fn fill(order: Order<'_>, into: &Path, go_on: &mut GoOn<'_>) -> anyhow::Result<Manifest> {
    let Order { config, path, with_secret, .. } = order;
    check_whole(config)?;
    let mut manifest = Manifest::begin(config, Time::now())?;
    let databases =
        [(tandem_config::FILE_NAME, Kind::Tables), (tandem_store::FILE_NAME, Kind::Journal)];
    for (name, kind) in databases {
        let (from, to) = (config.state.join(name), into.join(name));
        ensure!(
            from.exists(),
            "{} is not there: the server makes it at its first start",
            from.display()
        );
        backup::copy(kind, &from, &to, &mut |done, all| go_on(name, done, all))?;
        let faults = backup::check(kind, &to)?;
        ensure!(
            faults.is_empty(),
            "{} is damaged ({}): run `tandem verify`",
            from.display(),
            faults.join("; ")
        );
        add(&mut manifest, into, name)?;
    }
    copy_contents(&config.state.join(CONTENTS), into, &mut manifest, go_on)?;
    copy_file(path, into, MACHINE_FILE)?;
    add(&mut manifest, into, MACHINE_FILE)?;
    if with_secret {
        copy_file(&config.secret, into, SECRET_FILE)?;
        add(&mut manifest, into, SECRET_FILE)?;
    }
    sync_folder(into)?;
    let text = manifest.to_bytes()?;
    write_file(&into.join(MANIFEST), &mut text.as_slice())?;
    sync_folder(into)?;
    Ok(manifest)
}

/// Refused where there is only half of a machine, or less: with time such backups would push out the good ones.
fn check_whole(config: &Config) -> anyhow::Result<()> {
    crate::commands::check_finished(config)?;
    let lost = config.state.join(LOST);
    ensure!(
        !lost.exists(),
        "the configuration of this machine is lost ({}): a backup of it would have no users",
        lost.display()
    );
    Ok(())
}

/// Contents lie under their hash in folders of two digits; what else is there is on its way or set aside.
fn copy_contents(
    from: &Path,
    into: &Path,
    manifest: &mut Manifest,
    go_on: &mut GoOn<'_>,
) -> anyhow::Result<()> {
    let is_hex = |name: &str, length| {
        name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut folders = names(from)?;
    folders.retain(|name| is_hex(name, 2));
    for folder in folders {
        let (here, there) = (from.join(&folder), format!("{CONTENTS}/{folder}"));
        let mut contents = names(&here)?;
        contents.retain(|name| is_hex(name, 64));
        if contents.is_empty() {
            continue;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(into.join(&there))?;
        for content in contents {
            let name = format!("{there}/{content}");
            match copy_file(&here.join(&content), into, &name) {
                Ok(()) => add(manifest, into, &name)?,
                // Nobody names it any more, and it was deleted just now.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot copy {name}")),
            }
            let so_far = manifest.bytes();
            ensure!(go_on(CONTENTS, so_far, so_far), "stopped before it was done");
        }
        sync_folder(&into.join(&there))?;
    }
    if into.join(CONTENTS).exists() {
        sync_folder(&into.join(CONTENTS))?;
    }
    Ok(())
}

/// What is in a folder, in order; nothing where there is none.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let what = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(what)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.with_context(what)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn add(manifest: &mut Manifest, folder: &Path, name: &str) -> anyhow::Result<()> {
    let (bytes, sha256) =
        hash(&folder.join(name)).with_context(|| format!("cannot read {name}"))?;
    manifest.files.push(Entry { name: name.to_owned(), bytes, sha256 });
    Ok(())
}

fn copy_file(from: &Path, into: &Path, name: &str) -> io::Result<()> {
    let to = into.join(name);
    write_file(&to, &mut File::open(from)?)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", to.display())))
}

/// Writes a new file for its owner's eyes only; it is on the disk when this returns.
pub(crate) fn write_file(to: &Path, from: &mut dyn io::Read) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    // A mask of the caller's may have taken away more, but never given more.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    io::copy(from, &mut file)?;
    file.flush()?;
    file.sync_all()
}

/// Names in a folder survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// `20261123T031500Z-master`; with a number where there is one of this second already.
fn free_name(into: &Path, manifest: &Manifest) -> PathBuf {
    let digits: String = manifest.made.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let time = digits.split('.').next().unwrap_or_default().to_owned();
    let name = format!("{time}Z-{}", manifest.seat);
    let numbered = |number: u32| match number {
        1 => into.join(&name),
        number => into.join(format!("{name}-{number}")),
    };
    (1..u32::MAX).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| into.join(&name))
}

/// For `tandem status` and the metrics. Whether that can be written changes nothing about the backup.
fn note(config: &Config, made: Result<&Made, &anyhow::Error>) {
    let mut last = Last::read(&config.state).unwrap_or_default();
    last.tried_micros = Time::now().micros();
    match made {
        Ok(Made { path, manifest, stays, .. }) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            last.error.clone_from(stays);
            last.good = Some(keep::Good {
                micros: manifest.made_micros,
                path: path.display().to_string(),
                bytes: manifest.bytes(),
            });
        }
        Err(error) => last.error = Some(format!("{error:#}")),
    }
    let _ = last.write(&config.state);
}
