//! A file that was found damaged while it was in use: a mark beside it, so that the next start reads all of
//! it, however big it is. The mark goes when that finds nothing, or with the file.

use std::fs::File;
use std::io::{self, Write as _};
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

/// Marks a file; what was found first stays. A disk that does not take the mark keeps nobody from going on.
pub(crate) fn mark(path: &Path, what: &str) {
    let write = || -> io::Result<()> {
        let mut mark = File::options().write(true).create_new(true).open(mark_of(path))?;
        mark.write_all(what.as_bytes())?;
        mark.sync_all()
    };
    // Without it the start still reads what is not too big.
    if write().is_ok() {
        let _ = keep_name(path);
    }
}

/// Nothing is wrong with the file, or it is gone.
pub(crate) fn clear(path: &Path) {
    // Where it stays, the file is read as a whole once more.
    let _ = std::fs::remove_file(mark_of(path));
}
