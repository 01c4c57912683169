//! A file that was found damaged while it was in use: a mark beside it, so that the next start reads all of
//! it, however big it is. The mark goes when that finds nothing, or with the file.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::file::keep_name;

/// What the name of the mark adds to that of its file.
const MARK: &str = ".suspect";

fn mark_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(MARK);
    PathBuf::from(name)
}

/// What was found, where a file was found damaged while it was in use and was not read as a whole since.
pub fn suspected(path: &Path) -> Option<String> {
    let found = std::fs::read(mark_of(path)).ok()?;
    Some(String::from_utf8_lossy(&found).into_owned())
}

/// Marks a file; what was found first stays. Whether it was marked now. A disk that does not take the mark keeps
/// nobody from going on.
pub(crate) fn mark(path: &Path, what: &str) -> bool {
    let write = || -> io::Result<()> {
        let mut mark = File::options().write(true).create_new(true).open(mark_of(path))?;
        mark.write_all(what.as_bytes())?;
        mark.sync_all()
    };
    // Without it the start still reads what is not too big.
    let is_first = write().is_ok();
    if is_first {
        let _ = keep_name(path);
    }
    is_first
}

/// Which file has this name at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity(Option<(u64, u64)>);

impl Identity {
    pub(crate) fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino())))
    }
}

/// Marks the file that was examined, unless the server has moved it aside meanwhile: false where it has.
pub(crate) fn mark_examined(path: &Path, examined: Identity, what: &str) -> bool {
    let is_first = mark(path, what);
    let is_there = Identity::of(path) == examined;
    // The mark is compared after it is made: who moves the file aside removes marks after that.
    if is_first && !is_there {
        clear(path);
    }
    is_there
}

/// Nothing is wrong with the file, or it is gone.
pub(crate) fn clear(path: &Path) {
    // Where it stays, the file is read as a whole once more.
    let _ = std::fs::remove_file(mark_of(path));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::file::move_aside;

    #[test]
    fn a_file_that_took_the_place_of_the_examined_one_is_not_marked() {
        let folder = std::env::temp_dir().join(format!("tandem-marks-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal.db");
        std::fs::write(&path, "bad").unwrap();
        let examined = Identity::of(&path);
        assert!(mark_examined(&path, examined, "page 3"));
        assert_eq!(suspected(&path).as_deref(), Some("page 3"));
        move_aside(&path).unwrap();
        assert!(!mark_examined(&path, examined, "page 3"), "nothing is there");
        assert_eq!(suspected(&path), None);
        std::fs::write(&path, "good").unwrap();
        assert!(!mark_examined(&path, examined, "page 3"));
        assert_eq!(suspected(&path), None);
        // What the server found in the new one stays.
        assert!(mark(&path, "page 7"));
        assert!(!mark_examined(&path, examined, "page 3"));
        assert_eq!(suspected(&path).as_deref(), Some("page 7"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
