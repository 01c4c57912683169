//! `tandem backup`: everything of this machine in one folder or file, while calls go on.

mod keep;
mod make;
mod manifest;
mod pack;

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::size::size;
use crate::cli::Failure;
use crate::config::Config;

pub(crate) use keep::{Good, Last};
pub(crate) use make::{
    CONTENTS, MACHINE_FILE, Made, Order, SECRET_FILE, make, make_file, remove_folder, sync_folder,
    write_file,
};
pub(crate) use manifest::{Manifest, hash};
pub(crate) use pack::unpack;

/// The options of `tandem backup`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BackupArgs {
    /// Folder in which a new folder is made, named by time and seat
    #[arg(value_name = "DIR", required_unless_present = "file", conflicts_with = "file")]
    dir: Option<PathBuf>,
    /// One file (tar) instead
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// With the pair secret: enough to set up a machine anew, and to pretend to be one. Keep it secret
    #[arg(long)]
    with_secret: bool,
    /// Remove older backups of this machine in DIR, so that so many are left
    #[arg(long, value_name = "NUMBER", requires = "dir")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keep: Option<u32>,
}

/// `tandem backup`.
pub(crate) fn backup(path: &Path, config: &Config, args: &BackupArgs) -> Result<(), Failure> {
    let keep = args.keep.and_then(|keep| usize::try_from(keep).ok());
    let order = Order { config, path, with_secret: args.with_secret, keep };
    let mut shown = Shown::on_terminal();
    let mut go_on = |name: &str, done: u64, all: u64| {
        shown.show(&format!("{name}: {} of {}", size(done), size(all)));
        true
    };
    let made = match (&args.dir, &args.file) {
        (_, Some(file)) => make_file(order, file, &mut go_on),
        (Some(dir), None) => make(order, dir, &mut go_on),
        (None, None) => return Err(Failure::Other(anyhow!("where to: name a folder"))),
    };
    shown.clear();
    print(&made?);
    Ok(())
}

fn print(made: &Made) {
    let contents = format!("{CONTENTS}/");
    let is_content = |name: &str| name.starts_with(&contents);
    let line = |name: &str, bytes| println!("{name:<12} {:>10}", size(bytes));
    for entry in made.manifest.files.iter().filter(|entry| !is_content(&entry.name)) {
        line(&entry.name, entry.bytes);
    }
    let of_contents = made.manifest.files.iter().filter(|entry| is_content(&entry.name));
    let (count, bytes) = of_contents.fold((0, 0), |sum, entry| (sum.0 + 1, sum.1 + entry.bytes));
    if count > 0 {
        println!("{:<12} {:>10}  ({count} contents)", CONTENTS, size(bytes));
    }
    println!("complete: {} ({})", made.path.display(), size(made.manifest.bytes()));
    if !made.manifest.has(SECRET_FILE) {
        println!("the pair secret is not in it; --with-secret adds it");
    }
    for old in &made.removed {
        println!("removed: {}", old.display());
    }
    if let Some(stays) = &made.stays {
        println!("{stays}");
    }
}

/// One line on a terminal that changes.
pub(crate) struct Shown {
    on: bool,
    wide: usize,
}

impl Shown {
    /// Nothing is shown anywhere else.
    pub(crate) fn on_terminal() -> Self {
        Self { on: std::io::stderr().is_terminal(), wide: 0 }
    }

    pub(crate) fn show(&mut self, text: &str) {
        if self.on {
            eprint!("\r{text:<wide$}", wide = self.wide);
            self.wide = text.len();
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.on && self.wide > 0 {
            eprint!("\r{:wide$}\r", "", wide = self.wide);
            self.wide = 0;
        }
    }
}

/// Gives a file to the owner of a folder, where this user may do that.
pub(crate) fn give_like(path: &Path, folder: &Path) -> std::io::Result<()> {
    match owner_to_be(folder)? {
        Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// As [`give_like`], of a file that is open.
pub(crate) fn give_file_like(file: &File, folder: &Path) -> std::io::Result<()> {
    match owner_to_be(folder)? {
        Some((user, group)) => std::os::unix::fs::fchown(file, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// User and group of a folder; `None`: only root gives files away.
fn owner_to_be(folder: &Path) -> std::io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let owner = std::fs::metadata(folder)?;
    Ok(Some((owner.uid(), owner.gid())))
}
