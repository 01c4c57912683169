//! The stage of a run: a place, a folder, a pair on it, and users.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem::config::{Config, Profile};
use tandem::demo::place::{Folder, Place};
use tandem::demo::report::{Report, Voice};
use tandem::demo::space::Network;
use tandem::demo::story;
use tandem::demo::twins::{Serving, Twins};

/// The machine of the calling phones.
pub(crate) const CALLERS: &str = "callers";
/// The machine of the called phones.
pub(crate) const PHONES: &str = "phones";

/// When to give up waiting for a pair that is protected.
pub(crate) const PROTECTED_LIMIT: Duration = Duration::from_secs(60);

/// A pair with everything around it. Fields end in this order: the servers before their place.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The pair.
    pub(crate) twins: Twins,
    /// Configuration, logs, recordings.
    pub(crate) folder: Folder,
    /// The machines.
    pub(crate) place: Place,
}

/// Somebody who may log in.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Login name.
    pub(crate) name: String,
    /// Number.
    pub(crate) number: String,
    /// Password.
    pub(crate) password: String,
}

impl Stage {
    /// Starts a pair and waits until it is protected.
    ///
    /// # Errors
    ///
    /// Not root; the program is not built; the pair does not come up.
    pub(crate) fn new() -> Result<(Self, Serving)> {
        Self::with(Profile::Default)
    }

    /// As [`Stage::new`], in this profile.
    ///
    /// # Errors
    ///
    /// As [`Stage::new`].
    pub(crate) fn with(profile: Profile) -> Result<(Self, Serving)> {
        Self::on(Place::machines(&[CALLERS, PHONES])?, profile)
    }

    /// As [`Stage::with`], on these machines.
    ///
    /// # Errors
    ///
    /// As [`Stage::new`].
    pub(crate) fn on(place: Place, profile: Profile) -> Result<(Self, Serving)> {
        let folder = Folder::new(None)?;
        let mut twins = Twins::set_up(&program()?, folder.path(), &place)?;
        for machine in &mut twins.machines {
            machine.config = set_profile(&machine.config_path, profile)?;
        }
        twins.start()?;
        let serving = twins.wait_protected(PROTECTED_LIMIT)?;
        Ok((Self { twins, folder, place }, serving))
    }

    /// A pair that is set up and not started, with what `prepare` puts into its folders.
    ///
    /// # Errors
    ///
    /// Not root; the program is not built; what `prepare` says.
    pub(crate) fn prepared(prepare: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        let place = Place::machines(&[CALLERS, PHONES])?;
        let folder = Folder::new(None)?;
        let twins = Twins::set_up(&program()?, folder.path(), &place)?;
        let mut stage = Self { twins, folder, place };
        prepare(&mut stage)?;
        Ok(stage)
    }

    /// Adds users `<prefix>0` and on, with numbers from `first_number` on.
    ///
    /// # Errors
    ///
    /// The serving server refuses.
    pub(crate) fn add_users(
        &mut self,
        serving: &Serving,
        prefix: &str,
        first_number: usize,
        count: usize,
    ) -> Result<Vec<User>> {
        let mut users = Vec::new();
        for number in 0..count {
            let (name, number) = (format!("{prefix}{number}"), (first_number + number).to_string());
            let password = self.twins.add_user(serving.index, &name, &number)?;
            users.push(User { name, number, password });
        }
        Ok(users)
    }

    /// The network between the machines.
    ///
    /// # Errors
    ///
    /// None: a stage is always made of machines.
    pub(crate) fn network(&self) -> Result<&Network> {
        self.place.network().context("a stage without machines")
    }
}

/// Writes the profile into a configuration file as an administrator would; returns what it says then.
fn set_profile(path: &Path, profile: Profile) -> Result<Config> {
    let name = match profile {
        Profile::Default => "default",
        Profile::Fast => "fast",
    };
    let text = std::fs::read_to_string(path)?;
    let line = |line: &str| match line.starts_with("profile = ") {
        true => format!("profile = \"{name}\"\n"),
        false => format!("{line}\n"),
    };
    std::fs::write(path, text.lines().map(line).collect::<String>())?;
    let config = Config::load(path)?;
    ensure!(config.profile == profile, "{} has no line for the profile", path.display());
    Ok(config)
}

/// The program under test: it is built beside this one.
///
/// # Errors
///
/// It is not there.
pub(crate) fn program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tandem");
    ensure!(path.is_file(), "{} is missing: run `cargo build` first", path.display());
    Ok(path)
}

/// Tells the story once.
///
/// # Errors
///
/// What keeps it from being told at all.
pub(crate) fn story(voice: Voice) -> Result<Report> {
    let place = Place::machines(&["alice", "bob"])?;
    let folder = Folder::new(None)?;
    story::tell(&program()?, folder.path(), &place, voice)
}
