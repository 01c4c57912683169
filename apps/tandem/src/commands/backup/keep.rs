//! Which backups there are, which are old, and how the last one went.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tandem_os::durable;

use super::make::{remove_folder, sync_folder};
use super::manifest::{MANIFEST, Manifest};

/// In the state folder: how the last backup of this machine went.
const LAST: &str = "backup.last";

/// How the last backup of this machine went.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Last {
    /// When it was tried: microseconds since 1970 UTC.
    pub(crate) tried_micros: i64,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
    /// The last one that is complete.
    pub(crate) good: Option<Good>,
}

/// A backup that is complete.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Good {
    /// When it was begun: microseconds since 1970 UTC.
    pub(crate) micros: i64,
    /// Where it was put.
    pub(crate) path: String,
    /// Length of its files.
    pub(crate) bytes: u64,
}

impl Last {
    /// `None` where there was none, or what is there cannot be read.
    pub(crate) fn read(state: &Path) -> Option<Self> {
        let text = fs::read_to_string(state.join(LAST)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(super) fn write(&self, state: &Path) -> io::Result<()> {
        let path = state.join(LAST);
        durable::replace(&path, &serde_json::to_vec(self)?)?;
        // A command of root leaves nothing that the services cannot read.
        super::give_like(&path, state)
    }
}

/// The complete backups of the machine and the pair of `like`, oldest first.
fn of_this_machine(folder: &Path, like: &Manifest) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link is not followed: what it leads to is somebody else's.
        if hidden || !entry.file_type()?.is_dir() {
            continue;
        }
        if let Ok(manifest) = Manifest::read(&entry.path())
            && (&manifest.pair, manifest.seat) == (&like.pair, like.seat)
        {
            found.push((manifest.made_micros, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes all but the newest `keep`, of which `new` is one; never anything that is no complete backup of this
/// machine. What says that it was made after `new` stays, and is not counted: one of the two times is wrong.
pub(super) fn remove_old(
    folder: &Path,
    new: &Path,
    like: &Manifest,
    keep: usize,
) -> io::Result<Vec<PathBuf>> {
    if keep == usize::MAX {
        return Ok(Vec::new());
    }
    let mut all = of_this_machine(folder, like)?;
    all.retain(|(made, path)| *made <= like.made_micros && path != new);
    all.truncate(all.len().saturating_sub(keep.saturating_sub(1)));
    let mut removed = Vec::new();
    for (_, path) in all {
        // The list goes first: what is left where this is cut off is no backup any more.
        fs::remove_file(path.join(MANIFEST))
            .and_then(|()| sync_folder(&path))
            .and_then(|()| remove_folder(&path))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        removed.push(path);
    }
    Ok(removed)
}
