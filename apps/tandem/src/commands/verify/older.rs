//! A backup that an older version made, as this version would make it: in a copy that goes again.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tandem_os::entropy;
use tandem_store::backup::{self, Kind};
use tandem_store::{Settings, Store};
use tandem_types::{Dice, Seat};

use crate::commands::backup::{remove_folder, write_file};
use crate::commands::restore::DATABASES;

/// The copy. It goes when this is dropped.
pub(super) struct Current(PathBuf);

impl Current {
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // What cannot be removed is for its owner's eyes only.
        let _ = remove_folder(&self.0);
    }
}

/// A copy of the databases in a folder, brought up to date; `None`: they are.
pub(super) fn bring_up_to_date(folder: &Path, seat: Seat) -> anyhow::Result<Option<Current>> {
    let seed = entropy::seed().context("the system gives no random numbers")?;
    let mut dice = Dice::from_seed(seed);
    let setup = tandem_config::Config::setup(seat, &mut dice);
    let is_older = |(name, kind): (&str, Kind)| {
        // What cannot be read is said when it is looked at.
        backup::is_older(kind, &folder.join(name), &setup).unwrap_or(false)
    };
    if !DATABASES.into_iter().any(is_older) {
        return Ok(None);
    }
    let place = std::env::temp_dir().join(format!("tandem-verify-{:016x}", dice.next_u64()));
    let what = || format!("cannot use {}", place.display());
    DirBuilder::new().mode(0o700).create(&place).with_context(what)?;
    let current = Current(place.clone());
    for (name, _) in DATABASES {
        let mut from = File::open(folder.join(name))?;
        write_file(&place.join(name), &mut from).with_context(what)?;
    }
    drop(tandem_config::Config::open(&place, seat, dice)?);
    let settings = Settings { end_of: tandem_node::end_of_record, ..Settings::default() };
    drop(Store::open(&place, settings, |_| {})?);
    Ok(Some(current))
}
