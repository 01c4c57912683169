//! The configuration of a backup as one change of a pair that runs: both machines follow, and it can be
//! undone like any other.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use tandem_config::{Ask, FILE_NAME, Order, Output, Told, Work};
use tandem_os::{clock, entropy};
use tandem_store::tables::By;
use tandem_types::{Dice, Epoch};

use super::Opened;
use crate::cli::Failure;
use crate::commands::backup::{MACHINE_FILE, remove_folder, write_file};
use crate::commands::changes::import_document;
use crate::config::Config;

pub(super) fn restore(config: &Config, opened: &Opened, apply: bool) -> Result<(), Failure> {
    let then = opened.folder.join(MACHINE_FILE);
    if let Ok(text) = std::fs::read_to_string(&then)
        && let Ok(then) = Config::parse(&then, &text)
        && then.realm != config.realm
    {
        let (was, is) = (then.realm, &config.realm);
        eprintln!(
            "tandem: the realm was {was} then and is {is} now: the passwords of that day are void"
        );
    }
    let place = config.state.join(format!(".restore-{}", std::process::id()));
    let document = document(config, opened, &place);
    // What cannot be removed is for its owner's eyes only.
    let _ = remove_folder(&place);
    import_document(config, &document?, apply)
}

/// The configuration of the backup as a document, with what is kept of passwords. It is read from a copy,
/// because that may have to be brought up to date first.
fn document(config: &Config, opened: &Opened, place: &Path) -> anyhow::Result<String> {
    let what = || format!("cannot use {}", place.display());
    remove_folder(place).with_context(what)?;
    DirBuilder::new().mode(0o700).create(place).with_context(what)?;
    let mut file = File::open(opened.folder.join(FILE_NAME))?;
    write_file(&place.join(FILE_NAME), &mut file).with_context(what)?;
    let dice = Dice::from_seed(entropy::seed().context("the system gives no random numbers")?);
    let mut then = tandem_config::Config::open(place, config.seat, dice)?;
    let by = By { author: String::new(), wall_millis: 0, epoch: Epoch::NEVER };
    let work = Work::Ask(Ask::Export { passwords: true });
    then.handle_orders(clock::now(), vec![Order { id: 1, work, by }]);
    while let Some(output) = then.poll_output() {
        if let Output::Told { told: Told::Document(document), .. } = output {
            return Ok(document);
        }
    }
    Err(anyhow!("the configuration in {} cannot be read", opened.folder.display()))
}
