//! A backup as one file: a tar archive of the folder, the list at its end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::make::{sync_folder, write_file};
use super::manifest::{MANIFEST, Manifest};

/// Writes the files of a folder into one file; it has its name when all of it is on the disk.
///
/// # Errors
///
/// Nothing of it is left then.
pub(super) fn pack(folder: &Path, manifest: &Manifest, to: &Path) -> io::Result<()> {
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let result = write(folder, manifest, &partial).and_then(|()| fs::rename(&partial, to));
    if result.is_err() {
        // It says nothing more than the error does.
        let _ = fs::remove_file(&partial);
        return result;
    }
    match to.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        Some(_) | None => sync_folder(Path::new(".")),
    }
}

fn write(folder: &Path, manifest: &Manifest, to: &Path) -> io::Result<()> {
    // What one left that was killed. A new file, and no link of somebody else's.
    match fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut archive = tar::Builder::new(io::BufWriter::new(file));
    let names = manifest.files.iter().map(|entry| entry.name.as_str());
    for name in names.chain([MANIFEST]) {
        archive.append_path_with_name(folder.join(name), name)?;
    }
    let file = archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// Takes a backup that is one file apart, into a new folder.
///
/// # Errors
///
/// It is no such file, or there is no room.
pub(crate) fn unpack(from: &Path, into: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(into)?;
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(from)?));
    // Ours have names that are short enough for the plain form: what other forms say is not listened to.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !name.components().all(plain) || !entry.header().entry_type().is_file() {
            let what = format!("{}: this is no part of a backup", name.display());
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        let to = into.join(&name);
        if let Some(folder) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        write_file(&to, &mut entry)?;
    }
    Ok(())
}
