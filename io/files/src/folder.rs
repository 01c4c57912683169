//! The folder with the contents: what is added, read, set aside, deleted.
//!
//! Nothing here is remembered: every call looks at the disk. Several threads may use one folder, as long
//! as only one of them gives contents their names ([`Folder::adopt`], [`Folder::finish`]) and takes them away.

use core::fmt;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::content::{ContentId, Hasher};
use crate::recipe::Cuts;

/// Bytes of one file, at most; a longer one is refused.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// So many bytes of the disk are left to others: the databases lie on it too. Beyond, files are refused.
pub const ROOM_KEPT_BYTES: u64 = 256 * 1024 * 1024;

/// Read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Folders beside the contents.
pub(crate) const INCOMING: &str = "incoming";
pub(crate) const DAMAGED: &str = "damaged";

/// Begins the names of files that users are sending.
const STAGED: &str = "add-";

/// Why a file was not taken, or cannot be read.
#[derive(Debug)]
pub enum FileError {
    /// Longer than [`FILE_BYTES_MAX`].
    TooLong,
    /// The disk is full, or nearly so.
    NoRoom {
        /// What is free.
        free_bytes: u64,
    },
    /// There is no such content here.
    Missing,
    /// What lies under the name is something else.
    Damaged,
    /// The disk.
    Disk(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::TooLong => write!(f, "longer than {} MiB", FILE_BYTES_MAX / MIB),
            Self::NoRoom { free_bytes } => write!(
                f,
                "no room: {} MiB of the disk are free, {} MiB are kept for the databases",
                free_bytes / MIB,
                ROOM_KEPT_BYTES / MIB
            ),
            Self::Missing => f.write_str("its content is not on this machine"),
            Self::Damaged => f.write_str("its content is damaged on this machine"),
            Self::Disk(error) => write!(f, "the disk: {error}"),
        }
    }
}

impl std::error::Error for FileError {}

// The system's kinds of errors are not our enum, and have no end.
#[allow(clippy::wildcard_enum_match_arm)]
impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoRoom { free_bytes: 0 },
            _ => Self::Disk(error),
        }
    }
}

/// A user's file that is on disk and has not got its name yet.
#[derive(Debug, Eq, PartialEq)]
pub struct Staged {
    pub(crate) path: PathBuf,
    /// What it is.
    pub content: ContentId,
    /// Its length.
    pub bytes: u64,
}

/// Says how many bytes of the disk are free.
type Free = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;

/// Has the disk take what was written to a file or a folder.
type SyncFile = dyn Fn(&File, &Path) -> io::Result<()> + Send + Sync;

/// The folder.
#[derive(Clone)]
pub struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) cuts: Cuts,
    free: Arc<Free>,
    sync: Arc<SyncFile>,
    /// For tests of the tests: what comes is not compared with its name.
    pub(crate) trusts: bool,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Folder {
    /// Opens the folder, made where it is missing. What users were sending when an earlier life ended is
    /// removed: nobody was told that it is safe.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn open(root: &Path) -> io::Result<Self> {
        let (free, sync) = (Arc::new(free), Arc::new(|file: &File, _: &Path| file.sync_all()));
        let (kept, cuts) = (root.to_owned(), Cuts::default());
        let folder = Self { root: kept, cuts, free, sync, trusts: false };
        for path in [root.to_owned(), root.join(INCOMING), root.join(DAMAGED)] {
            make_folder(&path)?;
        }
        for entry in fs::read_dir(root.join(INCOMING))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(STAGED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(folder)
    }

    /// For tests: other lengths, and another word for what is free.
    #[must_use]
    pub fn with(
        self,
        cuts: Cuts,
        free: impl Fn(&Path) -> io::Result<u64> + Send + Sync + 'static,
    ) -> Self {
        Self { cuts, free: Arc::new(free), ..self }
    }

    /// For tests: a disk that takes what was written, or fails to, when it is told by path.
    #[must_use]
    pub fn with_sync(
        self,
        sync: impl Fn(&File, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { sync: Arc::new(sync), ..self }
    }

    /// For tests: what comes from the twin is not compared with its name. Tests must notice.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(self) -> Self {
        Self { trusts: true, ..self }
    }

    /// Where a content lies.
    pub fn path(&self, content: ContentId) -> PathBuf {
        let name = content.to_string();
        self.root.join(&name[..2]).join(&name)
    }

    /// Every content that has its name here, with its length; not verified.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn list(&self) -> io::Result<BTreeMap<ContentId, u64>> {
        let mut found = BTreeMap::new();
        for (content, path) in contents(&self.root)? {
            found.insert(content, fs::metadata(path)?.len());
        }
        Ok(found)
    }

    /// Takes a user's file; it has no name yet. `number` is another one for each.
    ///
    /// # Errors
    ///
    /// Nothing of it is left here.
    pub fn stage(&self, number: u64, from: &mut dyn Read) -> Result<Staged, FileError> {
        let path = self.root.join(INCOMING).join(format!("{STAGED}{number}"));
        let staged = self.write_staged(&path, from);
        if staged.is_err() {
            // Why it failed is told; what is left here the next start removes.
            let _ = fs::remove_file(&path);
        }
        staged.map(|(content, bytes)| Staged { path, content, bytes })
    }

    fn write_staged(
        &self,
        path: &Path,
        from: &mut dyn Read,
    ) -> Result<(ContentId, u64), FileError> {
        let mut file = create(path)?;
        let (mut hasher, mut bytes) = (Hasher::default(), 0);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(FileError::Disk(error)),
            };
            bytes += read.len() as u64;
            check_length(bytes)?;
            self.check_room(read.len() as u64)?;
            hasher.update(read);
            file.write_all(read)?;
        }
        self.sync(&file, path)?;
        Ok((hasher.finish(), bytes))
    }

    /// Gives a user's file its name. What was there under it was the same, or damaged.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn adopt(&self, staged: &Staged) -> Result<(), FileError> {
        self.give_name(&staged.path, staged.content)
    }

    /// Removes a user's file that is not wanted.
    pub fn unstage(&self, staged: &Staged) {
        // What is left here the next start removes.
        let _ = fs::remove_file(&staged.path);
    }

    pub(crate) fn give_name(&self, from: &Path, content: ContentId) -> Result<(), FileError> {
        let to = self.path(content);
        let folder = to.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        fs::rename(from, &to)?;
        self.sync(&File::open(folder)?, folder)?;
        Ok(self.sync(&File::open(&self.root)?, &self.root)?)
    }

    pub(crate) fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        (self.sync)(file, path)
    }

    /// Whether a content is here and what its name says. What the disk does not read is damaged.
    ///
    /// # Errors
    ///
    /// It is not, or it is not.
    pub fn verify(&self, content: ContentId) -> Result<u64, FileError> {
        let mut file = File::open(self.path(content))?;
        match name_of(&mut file) {
            Ok((found, bytes)) if found == content => Ok(bytes),
            Ok(_) | Err(_) => Err(FileError::Damaged),
        }
    }

    /// Opens a content that was verified just now.
    ///
    /// # Errors
    ///
    /// It is not here, or damaged.
    pub fn read(&self, content: ContentId) -> Result<File, FileError> {
        self.verify(content)?;
        Ok(File::open(self.path(content))?)
    }

    /// A part of a content; not verified, because a part has no name: its reader does that.
    ///
    /// # Errors
    ///
    /// It is not here, or shorter.
    pub fn read_part(
        &self,
        content: ContentId,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, FileError> {
        let mut part = vec![0; bytes];
        match File::open(self.path(content))?.read_exact_at(&mut part, offset) {
            Ok(()) => Ok(part),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(FileError::Damaged),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the name from what is not what it says; it is kept for whoever looks why.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn set_aside(&self, content: ContentId) -> Result<(), FileError> {
        let to = self.root.join(DAMAGED).join(content.to_string());
        match fs::rename(self.path(content), to) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => Ok(done?),
        }
    }

    /// Deletes a content.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn delete(&self, content: ContentId) -> Result<(), FileError> {
        match fs::remove_file(self.path(content)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => Ok(done?),
        }
    }

    /// Whether so many more bytes may be written.
    ///
    /// # Errors
    ///
    /// They may not, or the disk does not say.
    pub fn check_room(&self, bytes: u64) -> Result<(), FileError> {
        let free_bytes = (self.free)(&self.root)?;
        if free_bytes < ROOM_KEPT_BYTES.saturating_add(bytes) {
            return Err(FileError::NoRoom { free_bytes });
        }
        Ok(())
    }
}

/// Whether a file of this length is taken.
///
/// # Errors
///
/// It is not.
pub const fn check_length(bytes: u64) -> Result<(), FileError> {
    if bytes > FILE_BYTES_MAX { Err(FileError::TooLong) } else { Ok(()) }
}

/// What the disk of this path has left for us.
fn free(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The name and the length of what is in a file.
pub(crate) fn name_of(file: &mut File) -> io::Result<(ContentId, u64)> {
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), bytes)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Every file that has a content's name, in its place.
pub(crate) fn contents(root: &Path) -> io::Result<Vec<(ContentId, PathBuf)>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        let short = folder.file_name();
        let is_ours = short.len() == 2 && folder.file_type()?.is_dir();
        if !is_ours {
            continue;
        }
        for entry in fs::read_dir(folder.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Ok(content) = name.parse()
                && Some(&name[..2]) == short.to_str()
                // What a link leads to is not ours, and may change.
                && entry.file_type()?.is_file()
            {
                found.push((content, entry.path()));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A new file that only this account reads.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Writes a small file beside the contents: a power cut leaves the old one or the new one.
pub(crate) fn replace(root: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(format!("{name}.new"));
    let mut file = create(&path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&path, root.join(name))?;
    File::open(root)?.sync_all()
}
