//! A file that is damaged when the server begins: it is moved aside and made anew from the twin.
//!
//! ```text
//!   config.db damaged ──mark──> config.lost ──move aside──> an empty one ──> the keeper hears "waiting":
//!   nothing is served ── the twin's users come, both are equal ──> the mark goes ──> served as ever
//!                     └─ or all that the database of the pair has ─┘
//! ```
//!
//! A server without users would answer "no such user" to every phone, which is worse than no answer: phones try
//! the other server then. So it does not serve before it has heard its twin or the database; where these have none
//! either, an administrator has to say what is to be ([`crate::commands`]: `restore`).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tandem_config::Output;
use tandem_dialplan::Edit;
use tandem_oplog::Fact;
use tandem_os::durable;
use tandem_store::{OpenError, move_aside};

use super::backup::Said;

/// In the state folder as long as the configuration is lost.
pub(crate) const LOST: &str = "config.lost";

/// Opens the journal; a damaged one is moved aside. Its records come back from the twin, and until then the
/// keeper prefers whoever has more.
pub(super) fn journal<T>(
    said: &mut Vec<Said>,
    open: impl Fn() -> Result<T, OpenError>,
) -> anyhow::Result<T> {
    match open() {
        Err(OpenError::Broken { path, what }) => {
            let aside = aside(&path)?;
            said.push((
                "journal_lost",
                format!(
                    "the journal was damaged ({what}) and is in {} now: records of calls come back from the \
                     other machine, or from a backup by `tandem restore`",
                    aside.display()
                ),
            ));
            open().map_err(|error| anyhow!("{error}"))
        }
        result => result.map_err(|error| anyhow!("{error}")),
    }
}

/// Opens the configuration; a damaged one is moved aside, and is lost until the twin has brought it.
pub(super) fn configuration<T>(
    state: &Path,
    said: &mut Vec<Said>,
    open: impl Fn() -> Result<T, OpenError>,
) -> anyhow::Result<T> {
    match open() {
        Err(OpenError::Broken { path, what }) => {
            // First the mark: whoever is killed here finds it lost, or still damaged.
            let mark = state.join(LOST);
            durable::replace(&mark, what.as_bytes())
                .with_context(|| format!("cannot write {}", mark.display()))?;
            let aside = aside(&path)?;
            said.push((
                "config_lost",
                format!(
                    "the configuration was damaged ({what}) and is in {} now: nothing is served here before \
                     the other machine, or the database of the pair, has brought it back; where none can, put a \
                     backup in place with `tandem restore`",
                    aside.display()
                ),
            ));
            open().map_err(|error| anyhow!("{error}"))
        }
        result => result.map_err(|error| anyhow!("{error}")),
    }
}

fn aside(path: &Path) -> anyhow::Result<PathBuf> {
    move_aside(path).with_context(|| format!("cannot move {} aside", path.display()))
}

/// Whether the configuration is lost.
#[derive(Debug)]
pub(super) struct Lost {
    mark: PathBuf,
    is: bool,
    /// Something of it is here.
    any: bool,
    /// Who has no more of it than is here: that may be told before what came is.
    equal_to: Option<&'static str>,
}

impl Lost {
    /// As the state folder says.
    pub(super) fn find(state: &Path) -> Self {
        let mark = state.join(LOST);
        let is = mark.exists();
        Self { mark, is, any: false, equal_to: None }
    }

    /// Whether nothing may be served because of it.
    pub(super) const fn is(&self) -> bool {
        self.is
    }

    /// Takes what the configuration says. Something to tell when it is there again: all that the twin or the
    /// database has is here, and that is not nothing.
    pub(super) fn hear(&mut self, output: &Output) -> Option<io::Result<Said>> {
        if !self.is {
            return None;
        }
        match output {
            Output::Changed(edits) => {
                self.any |= edits.iter().any(|edit| matches!(edit, Edit::User { .. }));
            }
            Output::Fact(Fact::Equal) => self.equal_to = Some("the other machine"),
            Output::Fact(Fact::AsDatabase) => self.equal_to = Some("the database"),
            // It is still lost.
            Output::Fact(_)
            | Output::Send(_)
            | Output::Files(_)
            | Output::Told { .. }
            | Output::Edited { .. }
            | Output::Standing(_)
            | Output::Unreadable(_)
            | Output::Failed(_)
            | Output::Damaged(_) => {}
        }
        let whence = self.equal_to.filter(|_| self.any)?;
        Some(self.found(whence))
    }

    fn found(&mut self, whence: &str) -> io::Result<Said> {
        std::fs::remove_file(&self.mark)?;
        self.is = false;
        Ok((
            "config_found",
            format!("{whence} has brought back the configuration: this one serves again"),
        ))
    }
}
