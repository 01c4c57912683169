//! Since when nobody names a content: written down, so that a restart does not begin to count anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::content::ContentId;
use crate::folder::replace;

/// Name of the file.
const NAME: &str = "unnamed";

/// Contents that no row names, and since when: wall time, milliseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Unnamed {
    since: BTreeMap<ContentId, u64>,
    /// As it is on disk.
    saved: BTreeMap<ContentId, u64>,
}

impl Unnamed {
    /// Reads what an earlier life has written. Lines that are none are left out: those contents are
    /// counted from now on.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(root.join(NAME)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let line = |line: &str| {
            let (content, millis) = line.split_once(' ')?;
            Some((content.parse().ok()?, millis.parse().ok()?))
        };
        let since: BTreeMap<_, _> = text.lines().filter_map(line).collect();
        Ok(Self { saved: since.clone(), since })
    }

    /// Somebody is about to name it, or has done so: it is counted anew.
    pub(crate) fn touch(&mut self, content: ContentId) {
        self.since.remove(&content);
    }

    /// Notes which are unnamed now, and returns those that have been for `millis`.
    pub(crate) fn note(
        &mut self,
        unnamed: &BTreeSet<ContentId>,
        wall_millis: u64,
        millis: u64,
    ) -> Vec<ContentId> {
        self.since.retain(|content, _| unnamed.contains(content));
        for content in unnamed {
            let since = self.since.entry(*content).or_insert(wall_millis);
            // A clock that was ahead is not believed any more.
            *since = (*since).min(wall_millis);
        }
        let long = |since: u64| since.saturating_add(millis) <= wall_millis;
        self.since.iter().filter(|(_, since)| long(**since)).map(|(one, _)| *one).collect()
    }

    /// Whether it has been unnamed for `millis`.
    pub(crate) fn is_long(&self, content: ContentId, wall_millis: u64, millis: u64) -> bool {
        let since = self.since.get(&content);
        since.is_some_and(|since| since.saturating_add(millis) <= wall_millis)
    }

    /// Writes it down, if it is different.
    pub(crate) fn save(&mut self, root: &Path) -> io::Result<()> {
        if self.since == self.saved {
            return Ok(());
        }
        let lines = self.since.iter().map(|(content, millis)| format!("{content} {millis}\n"));
        replace(root, NAME, lines.collect::<String>().as_bytes())?;
        self.saved.clone_from(&self.since);
        Ok(())
    }
}
