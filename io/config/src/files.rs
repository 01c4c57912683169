//! Files as rows: what a content is for and what it is called. The contents themselves lie elsewhere.
//!
//! Every version of a file is a row of its own that nobody changes; it names the rows that it replaces. In
//! force is what no other row replaces. Where that is more than one, they were added while the two servers
//! were apart: the latest is in force, the others wait in the drawer of conflicts.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use tandem_oplog::{OpId, Value};
use tandem_store::tables::{Batch, By, ChangeError, Touched};

use crate::asks::{ConflictRow, ValueRow};
use crate::hex::{hex, unhex};
use crate::schema::FILES;

/// What files are there for.
pub const FILE_CLASSES: [&str; 6] =
    ["announcements", "voicemail", "recordings", "fax", "firmware", "certificates"];

/// Versions of one file that are kept; with a further one the oldest goes.
pub const FILE_VERSIONS_MAX: usize = 10;

/// Bytes of a file's name.
pub const FILE_NAME_MAX: usize = 255;

/// Bytes of a media type.
const MEDIA_TYPE_MAX: usize = 127;

/// The key of a row: a UUID of version 7.
pub type FileId = [u8; 16];

/// A row for who keeps the contents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileNamed {
    /// What it is for.
    pub class: String,
    /// What it is called.
    pub name: String,
    /// BLAKE3 of what is in it.
    pub content: [u8; 32],
    /// Its length.
    pub bytes: u64,
}

/// How a version stands to the others.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStanding {
    /// It is what its name means.
    InForce,
    /// It was added while the two servers were apart, and another one is in force.
    Undecided,
    /// Another one replaced it.
    Older,
}

/// A version of a file as listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileRow {
    /// Its key, hexadecimal.
    pub id: String,
    /// What it is for.
    pub class: String,
    /// What it is called.
    pub name: String,
    /// What kind of content it is (RFC 6838).
    pub media_type: String,
    /// BLAKE3 of the content, hexadecimal.
    pub content: String,
    /// Its length.
    pub bytes: u64,
    /// When it was added: milliseconds since 1970.
    pub added: u64,
    /// How it stands to the others of its name.
    pub standing: FileStanding,
}

/// A file that is to be added.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NewFile {
    /// Its key: a UUID of version 7, hexadecimal. The same one again changes nothing.
    pub id: String,
    /// What it is for, of [`FILE_CLASSES`].
    pub class: String,
    /// What it is called.
    pub name: String,
    /// What kind of content it is.
    pub media_type: String,
    /// BLAKE3 of the content, hexadecimal.
    pub content: String,
    /// Its length.
    pub bytes: u64,
}

/// A version as its row has it.
struct Version {
    id: FileId,
    media_type: String,
    content: [u8; 32],
    bytes: u64,
    added: u64,
    replaces: Vec<u8>,
}

/// What an order does, or why it does not.
type Done = Result<Option<OpId>, ChangeError<rusqlite::Error>>;

fn unfit<T>(why: String) -> Result<T, ChangeError<rusqlite::Error>> {
    Err(ChangeError::Unfit(why))
}

/// Adds a version that replaces those in force.
pub(crate) fn add(batch: &mut Batch<'_>, by: &By, new: &NewFile) -> Done {
    if let Err(why) = check(new) {
        return unfit(why);
    }
    let (Some(id), Some(content)) = (unhex::<16>(&new.id), unhex::<32>(&new.content)) else {
        return unfit(format!("{}: expected hexadecimal digits", new.name));
    };
    let versions = versions(batch.reader(), &new.class, &new.name).map_err(ChangeError::Disk)?;
    let replaces: Vec<u8> = heads(&versions).iter().flat_map(|head| head.id).collect();
    let added = after(&versions, by);
    let surplus: Vec<FileId> =
        versions.iter().skip(FILE_VERSIONS_MAX - 1).map(|version| version.id).collect();
    let write = |connection: &Connection| {
        let mut put = connection.prepare_cached(
            "INSERT INTO files (id, class, name, media_type, content, bytes, added, replaces)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )?;
        let bytes = i64::try_from(new.bytes).unwrap_or(i64::MAX);
        let NewFile { class, name, media_type, .. } = new;
        put.execute(params![id, class, name, media_type, content, bytes, added, replaces])?;
        surplus.iter().try_for_each(|id| delete(connection, id))
    };
    batch.change(by, write).map(|((), op)| op)
}

/// Removes a file with all its versions.
pub(crate) fn remove(batch: &mut Batch<'_>, by: &By, class: &str, name: &str) -> Done {
    let versions = versions(batch.reader(), class, name).map_err(ChangeError::Disk)?;
    if versions.is_empty() {
        return unfit(format!("{class}/{name}: there is no such file"));
    }
    let write =
        |connection: &Connection| versions.iter().try_for_each(|one| delete(connection, &one.id));
    batch.change(by, write).map(|((), op)| op)
}

/// When a version is added, in milliseconds since 1970: later than those before, whatever the clock says.
fn after(versions: &[Version], by: &By) -> i64 {
    let latest = versions.first().map_or(0, |version| version.added + 1);
    i64::try_from(by.wall_millis.max(latest)).unwrap_or(i64::MAX)
}

fn delete(connection: &Connection, id: &FileId) -> rusqlite::Result<()> {
    let sql = "UPDATE files SET deleted = 1 WHERE id = ? AND deleted = 0";
    connection.prepare_cached(sql)?.execute([id]).map(|_| ())
}

/// What is wrong with a new file.
fn check(new: &NewFile) -> Result<(), String> {
    let NewFile { class, name, media_type, .. } = new;
    if !FILE_CLASSES.contains(&class.as_str()) {
        return Err(format!("{class:?}: expected one of {}", FILE_CLASSES.join(", ")));
    }
    let is_name = !name.is_empty()
        && name.len() <= FILE_NAME_MAX
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c.is_control());
    if !is_name {
        return Err(format!(
            "{name:?}: expected a name of 1 to {FILE_NAME_MAX} bytes without a slash, not beginning \
             with a dot"
        ));
    }
    let is_type = media_type.len() <= MEDIA_TYPE_MAX
        && media_type.split('/').count() == 2
        && media_type.bytes().all(|byte| byte.is_ascii_graphic());
    if is_type { Ok(()) } else { Err(format!("{media_type:?}: expected a type as audio/wav")) }
}

/// Every version of a file, the latest first.
fn versions(connection: &Connection, class: &str, name: &str) -> rusqlite::Result<Vec<Version>> {
    let mut read = connection.prepare_cached(
        "SELECT id, media_type, content, bytes, added, replaces FROM files
         WHERE class = ? AND name = ? AND deleted = 0 ORDER BY added DESC, id DESC",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Version {
            id: row.get(0)?,
            media_type: row.get(1)?,
            content: row.get(2)?,
            bytes: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            added: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            replaces: row.get(5)?,
        })
    };
    read.query_map([class, name], row)?.collect()
}

/// Those that no other one replaces, the latest first: that is in force.
fn heads(versions: &[Version]) -> Vec<&Version> {
    let replaced: BTreeSet<&[u8]> =
        versions.iter().flat_map(|version| version.replaces.chunks(16)).collect();
    versions.iter().filter(|version| !replaced.contains(version.id.as_slice())).collect()
}

/// Names of all files, or of one class.
fn names(connection: &Connection, class: Option<&str>) -> rusqlite::Result<Vec<(String, String)>> {
    let mut read = connection.prepare_cached(
        "SELECT DISTINCT class, name FROM files
         WHERE deleted = 0 AND (?1 IS NULL OR class = ?1) ORDER BY class, name",
    )?;
    read.query_map([class], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Every version of every file, by class and name, the latest first.
pub(crate) fn list(connection: &Connection, class: Option<&str>) -> rusqlite::Result<Vec<FileRow>> {
    let mut rows = Vec::new();
    for (class, name) in names(connection, class)? {
        let versions = versions(connection, &class, &name)?;
        let heads: Vec<FileId> = heads(&versions).iter().map(|head| head.id).collect();
        for version in &versions {
            let standing = match heads.iter().position(|id| *id == version.id) {
                Some(0) => FileStanding::InForce,
                Some(_) => FileStanding::Undecided,
                None => FileStanding::Older,
            };
            rows.push(FileRow {
                id: hex(&version.id),
                class: class.clone(),
                name: name.clone(),
                media_type: version.media_type.clone(),
                content: hex(&version.content),
                bytes: version.bytes,
                added: version.added,
                standing,
            });
        }
    }
    Ok(rows)
}

/// Files of which both servers added a version while they were apart.
pub(crate) fn conflicts(connection: &Connection) -> rusqlite::Result<Vec<ConflictRow>> {
    let mut found = Vec::new();
    for (class, name) in names(connection, None)? {
        let versions = versions(connection, &class, &name)?;
        let mut heads = heads(&versions).into_iter().map(|head| ValueRow {
            value: format!("{} bytes, {}", head.bytes, &hex(&head.content)[..16]),
            millis: head.added,
            author: String::new(),
        });
        let (Some(in_force), lost) = (heads.next(), heads.collect::<Vec<_>>()) else { continue };
        if !lost.is_empty() {
            found.push(ConflictRow { name: conflict_name(&class, &name), in_force, lost });
        }
    }
    Ok(found)
}

fn conflict_name(class: &str, name: &str) -> String {
    format!("{}/{class}/{name}", FILES.name)
}

/// Decides about a conflict of this name: what is in force stays, or one that lost comes back as the
/// latest version. `None` where it is no file's.
pub(crate) fn decide(
    batch: &mut Batch<'_>,
    by: &By,
    conflict: &str,
    which: Option<usize>,
    new_id: impl FnOnce() -> FileId,
) -> Option<Done> {
    let (class, name) = conflict.strip_prefix(FILES.name)?.strip_prefix('/')?.split_once('/')?;
    let versions = match versions(batch.reader(), class, name) {
        Ok(versions) => versions,
        Err(error) => return Some(Err(ChangeError::Disk(error))),
    };
    let heads = heads(&versions);
    if heads.len() < 2 {
        return None;
    }
    let Some(chosen) = which.map_or(Some(0), Some).and_then(|which| heads.get(which)) else {
        let most = heads.len() - 1;
        return Some(unfit(format!("{conflict}: expected a number from 1 to {most}")));
    };
    if which == Some(0) {
        return Some(unfit(format!("{conflict}: expected a number from 1 on")));
    }
    let (id, added) = (new_id(), after(&versions, by));
    let replaces: Vec<u8> = heads.iter().flat_map(|head| head.id).collect();
    let write = |connection: &Connection| {
        let mut put = connection.prepare_cached(
            "INSERT INTO files (id, class, name, media_type, content, bytes, added, replaces)
             SELECT ?, class, name, media_type, content, bytes, ?, ? FROM files WHERE id = ?",
        )?;
        put.execute(params![id, added, replaces, chosen.id]).map(|_| ())
    };
    Some(batch.change(by, write).map(|((), op)| op))
}

/// What files are called, by their keys, also those of the past: `announcements/welcome.wav`.
pub(crate) fn called(connection: &Connection) -> rusqlite::Result<BTreeMap<Vec<u8>, String>> {
    let mut read = connection.prepare_cached("SELECT id, class, name FROM files")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, format!("{}/{}", row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
    };
    read.query_map([], row)?.collect()
}

/// Rows that name contents, as they are now; `None`: deleted.
pub(crate) fn named(
    connection: &Connection,
    touched: &Touched,
) -> rusqlite::Result<Vec<(FileId, Option<FileNamed>)>> {
    let ids = touched.iter().filter_map(|(table, key)| match key.first() {
        Some(Value::Blob(id)) if *table == FILES.id => FileId::try_from(id.as_slice()).ok(),
        Some(_) | None => None,
    });
    let mut read = connection.prepare_cached(
        "SELECT class, name, content, bytes FROM files WHERE id = ? AND deleted = 0",
    )?;
    ids.map(|id| Ok((id, read.query_row([id], named_of).optional()?))).collect()
}

/// All of them.
pub(crate) fn all_named(
    connection: &Connection,
) -> rusqlite::Result<Vec<(FileId, Option<FileNamed>)>> {
    let mut read = connection
        .prepare_cached("SELECT class, name, content, bytes, id FROM files WHERE deleted = 0")?;
    read.query_map([], |row| Ok((row.get(4)?, Some(named_of(row)?))))?.collect()
}

fn named_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<FileNamed> {
    let bytes = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
    Ok(FileNamed { class: row.get(0)?, name: row.get(1)?, content: row.get(2)?, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(class: &str, name: &str, media_type: &str) -> NewFile {
        NewFile {
            id: "0".repeat(32),
            class: class.to_owned(),
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            content: "0".repeat(64),
            bytes: 1,
        }
    }

    #[test]
    fn a_name_that_no_folder_would_take_is_refused() {
        let wav = "audio/wav";
        assert_eq!(check(&new("fax", "a b.wav", wav)), Ok(()));
        assert_eq!(check(&new("fax", &"n".repeat(FILE_NAME_MAX), wav)), Ok(()));
        for name in ["", ".", "..", ".hidden", "a/b", "a\nb", &"n".repeat(FILE_NAME_MAX + 1)] {
            assert!(check(&new("fax", name, wav)).is_err(), "{name:?}");
        }
        assert!(check(&new("songs", "a", wav)).unwrap_err().contains("announcements"));
        for media_type in ["", "audio", "audio/wav/x", "audio/w v", &"a/".repeat(64)] {
            assert!(check(&new("fax", "a", media_type)).is_err(), "{media_type:?}");
        }
    }
}
