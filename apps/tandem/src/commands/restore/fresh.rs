//! A machine of which nothing is left but a backup.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::Opened;
use crate::cli::Failure;
use crate::commands::backup::{MACHINE_FILE, SECRET_FILE};
use crate::config::Config;
use crate::init;

/// Puts the machine's file and, where the backup has it, the pair secret in place.
pub(super) fn set_up(path: &Path, opened: &Opened) -> Result<Config, Failure> {
    let path = std::path::absolute(path).context("there is no current folder")?;
    let from = opened.folder.join(MACHINE_FILE);
    let read = |from: &Path| {
        std::fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))
    };
    let text = read(&from)?;
    let config = Config::parse(&path, &text).map_err(|error| Failure::Config(error.into()))?;
    let secret = match opened.manifest.has(SECRET_FILE) {
        true if !config.secret.exists() => Some(read(&opened.folder.join(SECRET_FILE))?),
        true | false => None,
    };
    if secret.is_none() && !config.secret.exists() {
        let (seat, place) = (config.seat, config.secret.display());
        return Err(Failure::Other(anyhow!(
            "there is no {} here, and the backup has no pair secret. To set this machine up as {seat} again, copy \
             the file of the pair secret of the other machine (it is the same) to {place}, with mode 600, and run \
             this again. Where the other machine is gone too, set both up with `tandem init`, and add \
             --other-pair",
            path.display()
        )));
    }
    init::put_back(&path, &text, &config, secret.as_deref())?;
    println!("{:<14}{} and the state folder are made anew", "set up", path.display());
    Ok(config)
}
