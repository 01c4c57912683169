//! A content that is on its way here: a file of its full length with the chunks that have come, and beside
//! it the list of its chunks.
//!
//! Which of them have come is not written down: they are, where they are what the list says. So whatever
//! a crash or a power cut leaves here, the rest is fetched and no more.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::content::ContentId;
use crate::folder::{FileError, Folder, INCOMING, create, name_of};
use crate::recipe::{CHUNK_BYTES_MAX, Chunk, cut, is_sound};

/// Ends of names in `incoming/`.
pub(crate) const PART: &str = ".part";
const LIST: &str = ".list";

/// What of a content is here and what is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Where each chunk belongs.
    chunks: BTreeMap<u64, Chunk>,
    /// Places of those that lack, in their order.
    pub lacking: Vec<(u64, u32)>,
    /// Bytes that were here already.
    pub here_bytes: u64,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// It is in its place.
    Good,
    /// It is not what was asked for.
    Garbage,
}

/// What became of a content all of whose chunks have come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finished {
    /// It has its name.
    Whole,
    /// It is not what was asked for: nothing of it is here any more.
    Garbage,
}

impl Folder {
    /// What of a content that was on its way is here; `None` where it has not begun.
    ///
    /// # Errors
    ///
    /// No room, so that nothing is asked for; the disk.
    pub fn resume(&self, content: ContentId, bytes: u64) -> Result<Option<Plan>, FileError> {
        let list = match fs::read(self.incoming(content, LIST)) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        // One that was cut off is made anew.
        let chunks: Vec<Chunk> = postcard::from_bytes(&list).unwrap_or_default();
        if !is_sound(&chunks, bytes) {
            self.check_room(bytes)?;
            return Ok(None);
        }
        let plan = self.plan(content, &chunks, &[])?;
        self.check_room(bytes.saturating_sub(plan.here_bytes))?;
        Ok(Some(plan))
    }

    /// Begins to take a content of these chunks. What is here of them already, in what came before or in
    /// `similar` contents, is not asked for.
    ///
    /// # Errors
    ///
    /// No room; the disk.
    pub fn begin(
        &self,
        content: ContentId,
        chunks: &[Chunk],
        similar: &[ContentId],
    ) -> Result<Plan, FileError> {
        let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        self.check_room(bytes)?;
        // Only what cannot be written at all can fail; ours is a list.
        let list = postcard::to_stdvec(chunks).unwrap_or_default();
        create(&self.incoming(content, LIST))?.write_all(&list)?;
        self.plan(content, chunks, similar)
    }

    fn plan(
        &self,
        content: ContentId,
        chunks: &[Chunk],
        similar: &[ContentId],
    ) -> Result<Plan, FileError> {
        let path = self.incoming(content, PART);
        let is_new = !path.exists();
        let part = if is_new { create(&path)? } else { open(&path)? };
        let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        part.set_len(bytes)?;
        let elsewhere = self.chunks_of(similar);
        let mut plan = Plan { chunks: BTreeMap::new(), lacking: Vec::new(), here_bytes: 0 };
        let mut offset = 0;
        let mut buffer = Vec::new();
        for chunk in chunks {
            buffer.resize(chunk.bytes as usize, 0);
            plan.chunks.insert(offset, *chunk);
            // What the disk does not read has not come: writing it again may mend it.
            let came = !is_new
                && part.read_exact_at(&mut buffer, offset).is_ok()
                && ContentId::of(&buffer) == chunk.id;
            if came || copy(&elsewhere, chunk, &mut buffer, &part, offset)? {
                plan.here_bytes += u64::from(chunk.bytes);
            } else {
                plan.lacking.push((offset, chunk.bytes));
            }
            offset += u64::from(chunk.bytes);
        }
        Ok(plan)
    }

    /// Where the chunks of some contents lie. One that cannot be read has none.
    fn chunks_of(&self, contents: &[ContentId]) -> BTreeMap<ContentId, (PathBuf, u64)> {
        let mut found = BTreeMap::new();
        for content in contents {
            let path = self.path(*content);
            let Ok((_, chunks)) = File::open(&path).and_then(|file| cut(file, self.cuts)) else {
                continue;
            };
            let mut offset = 0;
            for chunk in chunks {
                found.insert(chunk.id, (path.clone(), offset));
                offset += u64::from(chunk.bytes);
            }
        }
        found
    }

    /// Writes a chunk that has come.
    ///
    /// # Errors
    ///
    /// No room; the disk.
    pub fn keep(
        &self,
        content: ContentId,
        plan: &Plan,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Kept, FileError> {
        let due = plan.chunks.get(&offset);
        let is_due = due.is_some_and(|chunk| chunk.id == ContentId::of(bytes));
        if !is_due && !self.trusts {
            // It may be the list that is wrong: it is asked for anew, and what has come is compared with it.
            self.remove(content, LIST)?;
            return Ok(Kept::Garbage);
        }
        self.check_room(bytes.len() as u64)?;
        open(&self.incoming(content, PART))?.write_all_at(bytes, offset)?;
        Ok(Kept::Good)
    }

    /// Gives a content its name, all of whose chunks have come.
    ///
    /// # Errors
    ///
    /// The disk. What it did not take may still be read, from memory: nothing of it stays.
    pub fn finish(&self, content: ContentId) -> Result<Finished, FileError> {
        let path = self.incoming(content, PART);
        let named = open(&path).and_then(|mut part| {
            self.sync(&part, &path)?;
            name_of(&mut part)
        });
        let found = match named {
            Ok((found, _)) => found,
            Err(error) => {
                self.discard(content)?;
                return Err(error.into());
            }
        };
        if found != content && !self.trusts {
            self.discard(content)?;
            return Ok(Finished::Garbage);
        }
        self.give_name(&path, content)?;
        self.discard(content)?;
        Ok(Finished::Whole)
    }

    /// Writes a short content that came whole.
    ///
    /// # Errors
    ///
    /// No room; the disk.
    pub fn keep_whole(&self, content: ContentId, bytes: &[u8]) -> Result<Finished, FileError> {
        if ContentId::of(bytes) != content && !self.trusts {
            return Ok(Finished::Garbage);
        }
        self.check_room(bytes.len() as u64)?;
        let path = self.incoming(content, PART);
        let mut file = create(&path)?;
        file.write_all(bytes)?;
        self.sync(&file, &path)?;
        self.give_name(&path, content)?;
        Ok(Finished::Whole)
    }

    /// Removes what has come of a content that is not wanted any more.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn discard(&self, content: ContentId) -> Result<(), FileError> {
        self.remove(content, PART)?;
        self.remove(content, LIST)
    }

    fn remove(&self, content: ContentId, end: &str) -> Result<(), FileError> {
        match fs::remove_file(self.incoming(content, end)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => Ok(done?),
        }
    }

    /// Contents that are on their way here.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn partial(&self) -> Result<Vec<ContentId>, FileError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join(INCOMING))? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let content = name.strip_suffix(PART).or_else(|| name.strip_suffix(LIST));
            found.extend(content.and_then(|name| name.parse::<ContentId>().ok()));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn incoming(&self, content: ContentId, end: &str) -> PathBuf {
        self.root.join(INCOMING).join(format!("{content}{end}"))
    }
}

/// Copies a chunk from another content, if one has it.
fn copy(
    elsewhere: &BTreeMap<ContentId, (PathBuf, u64)>,
    chunk: &Chunk,
    buffer: &mut [u8],
    part: &File,
    offset: u64,
) -> Result<bool, FileError> {
    let Some((path, from)) = elsewhere.get(&chunk.id) else { return Ok(false) };
    let read = File::open(path).and_then(|file| file.read_exact_at(buffer, *from));
    if read.is_err() || ContentId::of(buffer) != chunk.id {
        return Ok(false);
    }
    part.write_all_at(buffer, offset)?;
    Ok(true)
}

fn open(path: &std::path::Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

const _: () = assert!(CHUNK_BYTES_MAX as usize <= 16 * 1024 * 1024 - 1024, "a frame of the link");
