//! A database that is found damaged while it is in use.
//!
//! ```text
//!   found ──told, marked on disk──> ends in good order, as soon as the other machine carries on without it
//!   started again ──reads all of it──> damaged: moved aside, comes back from the twin ([`super::lost`])
//!                                      right:   the mark goes; found again, it is no reason to end again
//! ```
//!
//! Without the other machine it goes on: calls that are up are worth more than a file that nobody could bring back.

use std::path::Path;

use tandem_keeper::Likeness;
use tandem_node::Status;
use tandem_store::suspected;
use tandem_types::{Duration, Instant, Role};

use super::backup::Said;

/// So long the configuration waits until it is known that the twin lacks nothing of it: where the damage keeps the
/// two from comparing, they never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// So long after the damage was found nothing ends: a twin that has just died still looks as if it had everything.
const SETTLE: Duration = Duration::from_secs(3);

/// A database, and the names of what is told of it.
struct Names {
    file: &'static str,
    damaged: &'static str,
    read: &'static str,
    lost: &'static str,
}

const FILES: [Names; 2] = [
    Names {
        file: tandem_config::FILE_NAME,
        damaged: "config_damaged",
        read: "config_read",
        lost: "config_lost",
    },
    Names {
        file: tandem_store::FILE_NAME,
        damaged: "journal_damaged",
        read: "journal_read",
        lost: "journal_lost",
    },
];

/// Which files are suspected, and whether to end because of them.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// What was found before this process began.
    before: Vec<(&'static str, String)>,
    /// When it was found that this process should end, and whether the configuration is why.
    ends: Option<(Instant, bool)>,
}

impl Suspects {
    /// Those of an earlier process. To be asked before the files are opened.
    pub(super) fn find(state: &Path) -> Self {
        let found =
            FILES.iter().map(|names| Some((names.file, suspected(&state.join(names.file))?)));
        Self { before: found.flatten().collect(), ends: None }
    }

    /// Tells of those that were read as a whole since, and are right.
    pub(super) fn cleared(&self, said: &mut Vec<Said>) {
        for (name, found) in &self.before {
            let Some(names) = FILES.iter().find(|names| names.file == *name) else { continue };
            if !said.iter().any(|(kind, _)| *kind == names.lost) {
                said.push((
                    names.read,
                    format!(
                        "{name} was found damaged while it was in use ({found}); it was read as a whole now, and \
                         is used: look at the disk and the memory of this machine"
                    ),
                ));
            }
        }
    }

    /// A file was found damaged. What to tell.
    pub(super) fn found(&mut self, now: Instant, name: &str, what: &str, status: &Status) -> Said {
        let again = self.before.iter().any(|(file, _)| *file == name);
        let is_config = name == tandem_config::FILE_NAME;
        let then = if again {
            "it was read as a whole when this server began, and nothing was found: LOOK AT THE DISK AND \
             THE MEMORY of this machine"
        } else {
            let (since, config) = self.ends.unwrap_or((now, false));
            self.ends = Some((since, config || is_config));
            if has_twin(status) {
                "if the other machine stays in sync, this server ends in a moment, is started again, and takes \
                 all of it from there"
            } else {
                "THIS MUST BE LOOKED AT: the other machine does not have everything, so this one goes on \
                 as long as the disk takes writes, and ends when the other one is in sync"
            }
        };
        let names = FILES.iter().find(|names| names.file == name);
        let kind = names.map_or("damaged", |names| names.damaged);
        (kind, format!("{name} was found damaged while in use ({what}): {then}"))
    }

    /// Whether to end now.
    pub(super) fn should_end(
        &self,
        now: Instant,
        status: impl FnOnce() -> Status,
        likeness: Option<Likeness>,
    ) -> bool {
        let Some((since, config)) = self.ends else { return false };
        let is_there = likeness.is_some_and(|likeness| likeness.twin_lacks == 0);
        let has_settled = now >= since + SETTLE;
        let may = has_settled && (!config || is_there || now >= since + PATIENCE);
        may && has_twin(&status())
    }
}

/// Whether the other machine carries on without this one: it serves, or has everything and takes over.
fn has_twin(status: &Status) -> bool {
    match status.role {
        Role::Active => status.in_sync,
        Role::Passive => status.linked && status.peer_serving == Some(true),
    }
}
