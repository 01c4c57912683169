//! Everything in the folder, read and compared with its name: for backups, and for whoever doubts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::content::ContentId;
use crate::folder::{INCOMING, contents, name_of};
use crate::partial::PART;

/// What is in a folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Contents that are what their names say, with their lengths.
    pub whole: BTreeMap<ContentId, u64>,
    /// Contents that are not, or cannot be read.
    pub damaged: Vec<ContentId>,
    /// Contents that were asked for and have no file.
    pub missing: Vec<ContentId>,
    /// Contents of which a part is here: they were on their way.
    pub partial: Vec<ContentId>,
}

/// Reads every content below `root`, which is `<state>/files` or a copy of it, and compares it with its
/// name. `named` are those that should be there. The folder is only read; it may be in use.
///
/// # Errors
///
/// A folder cannot be read. A content that cannot be read is damaged.
pub fn verify_all(root: &Path, named: impl IntoIterator<Item = ContentId>) -> io::Result<Report> {
    let mut report = Report::default();
    for (content, path) in contents(root)? {
        match File::open(path).and_then(|mut file| name_of(&mut file)) {
            Ok((found, bytes)) if found == content => drop(report.whole.insert(content, bytes)),
            // Deleted or set aside since its folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) | Err(_) => report.damaged.push(content),
        }
    }
    let here = |content: &ContentId| {
        report.whole.contains_key(content) || report.damaged.contains(content)
    };
    let mut missing: Vec<ContentId> = named.into_iter().filter(|one| !here(one)).collect();
    missing.sort_unstable();
    missing.dedup();
    report.missing = missing;
    report.partial = match fs::read_dir(root.join(INCOMING)) {
        Ok(entries) => partial(entries)?,
        // A copy need not have it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(report)
}

fn partial(entries: fs::ReadDir) -> io::Result<Vec<ContentId>> {
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let content =
            name.to_str().and_then(|name| name.strip_suffix(PART)?.parse::<ContentId>().ok());
        found.extend(content);
    }
    found.sort_unstable();
    Ok(found)
}
