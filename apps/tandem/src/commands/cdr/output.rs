//! Where an export goes: to the standard output, or to a file that is the old one or the new one and never
//! a part of it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// What is written to.
pub(super) enum Output {
    Stdout(BufWriter<StdoutLock<'static>>),
    File(Beside),
}

/// A file beside the wanted one, locked. It takes the other's place when it is whole; a part that a killed
/// export left behind is written over by the next one.
pub(super) struct Beside {
    part: PathBuf,
    path: PathBuf,
    file: BufWriter<File>,
    done: bool,
}

/// Records are people's business: nobody but the owner reads a new file.
const MODE: u32 = 0o600;

impl Output {
    /// To `path`; `None`: to the standard output.
    pub(super) fn to(path: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match path {
            None => Self::Stdout(BufWriter::new(io::stdout().lock())),
            Some(path) => Self::File(Beside::open(path)?),
        })
    }

    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Stdout(out) => out.write_all(text.as_bytes()).context("cannot write"),
            Self::File(beside) => {
                let written = beside.file.write_all(text.as_bytes());
                written.with_context(|| beside.failed())
            }
        }
    }

    /// Everything is written: it counts.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush().context("cannot write"),
            Self::File(beside) => beside.finish(),
        }
    }
}

impl Beside {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let Some(name) = path.file_name() else {
            bail!("{}: not the name of a file", path.display())
        };
        let mut part_name = name.to_owned();
        part_name.push(".part");
        let part = path.with_file_name(part_name);
        let what = || format!("cannot write {}", part.display());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(MODE).open(&part);
        let file = file.with_context(what)?;
        let in_use = || format!("another export writes {}", part.display());
        file.try_lock().with_context(in_use)?;
        // Who had the lock before us may have put the file in its place meanwhile.
        let there = std::fs::metadata(&part).with_context(in_use)?;
        anyhow::ensure!(there.ino() == file.metadata().with_context(what)?.ino(), in_use());
        file.set_len(0).with_context(what)?;
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions()).with_context(what)?;
        }
        Ok(Self { part, path: path.to_owned(), file: BufWriter::new(file), done: false })
    }

    fn failed(&self) -> String {
        format!("cannot write {}; {} is as it was", self.part.display(), self.path.display())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.with_context(|| self.failed())?;
        std::fs::rename(&self.part, &self.path).with_context(|| self.failed())?;
        self.done = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot sync {}", folder.display()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.done {
            // A full disk has the room back; where that fails the next export writes over it.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Whether nobody reads any more, as with `| head`.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let found = error.root_cause().downcast_ref::<io::Error>();
    found.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
