//! The folder and the exchange as one value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;

use tandem_types::{Duration, Instant};

use crate::content::ContentId;
use crate::exchange::{Exchange, Fact as Said, Lacking, Named, Output as Wanted};
use crate::folder::{FileError, Folder, Staged};
use crate::message::{Message, RowId};
use crate::partial::Plan;
use crate::scrub::{Scrub, ScrubStatus, Step};
use crate::status::{ClassStatus, UnderWay};
use crate::unnamed::Unnamed;

/// A content that nobody names stays for so long: a removed file can be brought back.
pub const KEPT_UNNAMED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often it is looked for contents that may go.
pub const COLLECT_PAUSE: Duration = Duration::from_secs(3600);

/// What the caller must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send to the twin.
    Send(Vec<u8>),
    /// For the log.
    Fact(Fact),
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// Of the exchange.
    Exchange(Said),
    /// A content is missing here, or was not what its name says, or could not be read.
    Damaged {
        /// Which.
        content: ContentId,
        /// What it is, where a row names it.
        name: String,
    },
    /// That was so, and the twin has not got it either.
    Missing {
        /// What.
        name: String,
    },
    /// The disk.
    Disk(String),
    /// The twin says what is not known here.
    NotKnown,
    /// Contents that nobody named any more were deleted.
    Collected(u64),
    /// All contents on this disk were read again.
    Scrubbed(ScrubStatus),
}

impl Fact {
    /// Its name in lists of events.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exchange(Said::Equal { .. }) => "files_equal",
            Self::Exchange(Said::Refused { .. }) => "files_refused",
            Self::Exchange(Said::Taken) => "files_taken",
            Self::Exchange(Said::Garbage { .. }) => "files_garbage",
            Self::Damaged { .. } => "files_damaged",
            Self::Missing { .. } => "files_missing",
            Self::Disk(_) => "files_disk",
            Self::NotKnown => "files_not_known",
            Self::Collected(_) => "files_collected",
            Self::Scrubbed(_) => "files_scrubbed",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(Said::Equal { files }) => {
                write!(f, "both servers have the same files ({files})")
            }
            Self::Exchange(Said::Refused { name, why }) => {
                write!(f, "{name} cannot be kept on this machine: {why}; it is tried again")
            }
            Self::Exchange(Said::Taken) => f.write_str("files can be kept again"),
            Self::Exchange(Said::Garbage { name }) => {
                write!(f, "the other server sent something else for {name}; it looks at its own")
            }
            Self::Damaged { content, name } => write!(
                f,
                "{name} was damaged or gone on this disk ({content}); it is set aside, and fetched from \
                 the other server"
            ),
            Self::Missing { name } => write!(
                f,
                "{name} is whole on neither server: add it again, or restore a backup that has it"
            ),
            Self::Disk(what) => write!(f, "the folder of the files: {what}"),
            Self::NotKnown => f.write_str(
                "the other server says of files what is not known here: another version?",
            ),
            Self::Collected(count) => {
                write!(f, "{count} contents that nobody named any more were deleted")
            }
            Self::Scrubbed(ScrubStatus { files, bytes, damaged, .. }) => {
                let (all, mib) = (files + damaged, bytes / (1024 * 1024));
                write!(
                    f,
                    "{all} contents on this disk were read again: {files} are right ({mib} MiB), "
                )?;
                write!(f, "{damaged} damaged")
            }
        }
    }
}

/// The files of this server.
#[derive(Debug)]
pub struct Files {
    folder: Folder,
    exchange: Exchange,
    plans: BTreeMap<ContentId, Plan>,
    unnamed: Unnamed,
    scrub: Scrub,
    /// Set aside, and not back.
    damaged: BTreeSet<ContentId>,
    /// Wall time, milliseconds since 1970, as it was told last.
    wall_millis: u64,
    next_collect: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Files {
    /// On a folder that is open.
    ///
    /// # Errors
    ///
    /// The disk.
    pub fn open(folder: Folder) -> io::Result<Self> {
        let exchange = Exchange::new(folder.list()?);
        let unnamed = Unnamed::open(&folder.root)?;
        let scrub = Scrub::open(&folder.root)?;
        Ok(Self {
            folder,
            exchange,
            plans: BTreeMap::new(),
            unnamed,
            scrub,
            damaged: BTreeSet::new(),
            wall_millis: 0,
            next_collect: None,
            outputs: VecDeque::new(),
        })
    }

    /// The folder: to stage what users send, and to read.
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What is here and there.
    pub const fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Each class.
    pub fn classes(&self) -> Vec<ClassStatus> {
        self.exchange.classes()
    }

    /// What comes here now.
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.exchange.under_way()
    }

    /// How far the disk was read again.
    pub const fn scrub(&self) -> &ScrubStatus {
        self.scrub.status()
    }

    /// Rows are these now; `None`: deleted.
    pub fn handle_rows(&mut self, now: Instant, rows: Vec<(RowId, Option<Named>)>) {
        for (id, row) in rows {
            if let Some(named) = &row {
                self.unnamed.touch(named.content);
            }
            self.exchange.handle_row(now, id, row);
            self.work(now);
        }
    }

    /// The link to the twin came up or went down.
    pub fn handle_link(&mut self, now: Instant, up: bool) {
        self.plans.clear();
        if up {
            self.exchange.handle_link_up(now);
        } else {
            self.exchange.handle_link_down();
        }
        self.work(now);
    }

    /// A message of the twin.
    pub fn handle_message(&mut self, now: Instant, bytes: &[u8]) {
        match Message::decode(bytes) {
            Some(message) => self.exchange.handle_message(now, message),
            None => self.fact(Fact::NotKnown),
        }
        self.work(now);
    }

    /// A user's file gets its name. A row that names it is to follow: until then it is kept as one that
    /// was just removed.
    ///
    /// # Errors
    ///
    /// It is not here then.
    pub fn handle_staged(&mut self, now: Instant, staged: &Staged) -> Result<(), FileError> {
        self.folder.adopt(staged)?;
        self.unnamed.touch(staged.content);
        // It may be on its way from the twin, too.
        self.discard(staged.content);
        self.exchange.handle_present(now, staged.content, Some(staged.bytes));
        self.work(now);
        Ok(())
    }

    /// Somebody who read a content found it damaged or missing.
    pub fn handle_doubt(&mut self, now: Instant, content: ContentId) {
        self.verify(now, content);
        self.work(now);
    }

    /// When to call [`Files::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let collect = self.next_collect.unwrap_or(Instant::ZERO);
        let others = [self.exchange.next_timeout(), self.scrub.next_timeout()];
        Some(others.into_iter().flatten().fold(collect, Instant::min))
    }

    /// Does what is due. `wall_millis` is the wall time, milliseconds since 1970.
    pub fn handle_timeout(&mut self, now: Instant, wall_millis: u64) {
        self.wall_millis = wall_millis;
        self.exchange.handle_timeout(now);
        if self.next_collect.is_none_or(|due| due <= now) {
            self.next_collect = Some(now + COLLECT_PAUSE);
            self.collect();
            self.scrub.begin_if_due(now, wall_millis);
        }
        self.scrub_step(now);
        self.work(now);
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn collect(&mut self) {
        let present = self.exchange.present().keys().copied();
        let unnamed: BTreeSet<_> = present.filter(|one| !self.exchange.is_named(*one)).collect();
        let long = self.unnamed.note(&unnamed, self.wall_millis, millis(KEPT_UNNAMED));
        if let Err(error) = self.unnamed.save(&self.folder.root) {
            self.fact(Fact::Disk(error.to_string()));
        }
        self.exchange.handle_unnamed(long);
        // What was on its way while nobody looked.
        for content in self.folder.partial().unwrap_or_default() {
            if !self.exchange.is_named(content) {
                self.discard(content);
            }
        }
    }

    fn scrub_step(&mut self, now: Instant) {
        let step = self.scrub.step(now, self.wall_millis, &self.folder, self.exchange.present());
        match step {
            Step::None => return,
            Step::More => {}
            Step::Doubt(content) => {
                if self.verify(now, content) {
                    self.scrub.note_damaged();
                }
            }
            Step::End => {
                let status = self.scrub.status().clone();
                // Who has no files need not hear of them.
                if status.files + status.damaged > 0 {
                    self.fact(Fact::Scrubbed(status));
                }
            }
        }
        if let Err(error) = self.scrub.save(now, &self.folder.root) {
            self.fact(Fact::Disk(error.to_string()));
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }

    /// Does on the disk what the exchange wants, until it wants nothing.
    fn work(&mut self, now: Instant) {
        let mut deleted = 0;
        while let Some(wanted) = self.exchange.poll_output() {
            match wanted {
                Wanted::Send(message) => self.outputs.push_back(Output::Send(message.encode())),
                Wanted::Fact(said) => self.fact(Fact::Exchange(said)),
                Wanted::Resume { content, bytes } => {
                    let plan = self.folder.resume(content, bytes);
                    self.planned(now, content, plan);
                }
                Wanted::Begin { content, chunks, similar } => {
                    let plan = self.folder.begin(content, &chunks, &similar).map(Some);
                    self.planned(now, content, plan);
                }
                Wanted::Keep { content, offset, bytes } => {
                    if let Some(plan) = self.plans.get(&content) {
                        let kept = self.folder.keep(content, plan, offset, &bytes).map_err(text);
                        self.exchange.handle_kept(now, content, offset, kept);
                    }
                }
                Wanted::Finish(content) => {
                    self.plans.remove(&content);
                    let finished = self.folder.finish(content).map_err(text);
                    self.exchange.handle_finished(now, content, finished);
                }
                Wanted::KeepWhole { content, bytes } => {
                    let finished = self.folder.keep_whole(content, &bytes).map_err(text);
                    self.exchange.handle_finished(now, content, finished);
                }
                Wanted::Tell(content) => {
                    let telling = self.folder.tell(content);
                    let telling = self.readable(now, content, telling);
                    self.exchange.handle_telling(content, telling);
                }
                Wanted::Read { content, offset, bytes } => {
                    let part = self.folder.read_part(content, offset, bytes as usize);
                    let part = self.readable(now, content, part);
                    self.exchange.handle_part(content, offset, part);
                }
                Wanted::Verify(content) => {
                    self.verify(now, content);
                }
                Wanted::Judge(mut contents) => {
                    let kept = millis(KEPT_UNNAMED);
                    contents.retain(|one| {
                        !self.exchange.is_present(*one)
                            || self.unnamed.is_long(*one, self.wall_millis, kept)
                    });
                    self.exchange.handle_judged(contents);
                }
                Wanted::Discard(content) => self.discard(content),
                Wanted::Delete(content) => deleted += u64::from(self.delete(now, content)),
            }
        }
        if deleted > 0 {
            self.fact(Fact::Collected(deleted));
        }
        self.look_for_damaged();
    }

    fn planned(&mut self, now: Instant, content: ContentId, plan: Result<Option<Plan>, FileError>) {
        let told = plan.map_err(text).map(|plan| {
            let plan = plan?;
            let told = Lacking { parts: plan.lacking.clone(), here_bytes: plan.here_bytes };
            self.plans.insert(content, plan);
            Some(told)
        });
        self.exchange.handle_plan(now, content, told);
    }

    /// What was read; where it cannot be, why is looked at.
    fn readable<T>(
        &mut self,
        now: Instant,
        content: ContentId,
        read: Result<T, FileError>,
    ) -> Option<T> {
        if read.is_err() {
            self.verify(now, content);
        }
        read.ok()
    }

    /// A content that is not what its name says is set aside; the exchange fetches it again. Whether it
    /// is so.
    fn verify(&mut self, now: Instant, content: ContentId) -> bool {
        // Whoever read it longer than another one who found it damaged says nothing new.
        if !self.exchange.is_present(content) {
            return false;
        }
        match self.folder.verify(content) {
            Ok(_) => return false,
            Err(FileError::Damaged | FileError::Missing) => {}
            Err(error @ (FileError::TooLong | FileError::NoRoom { .. } | FileError::Disk(_))) => {
                self.fact(Fact::Disk(error.to_string()));
                return false;
            }
        }
        if let Err(error) = self.folder.set_aside(content) {
            self.fact(Fact::Disk(error.to_string()));
        }
        self.fact(Fact::Damaged { content, name: self.exchange.name_of(content) });
        self.damaged.insert(content);
        self.exchange.handle_present(now, content, None);
        true
    }

    /// What was damaged here comes from the twin, or is told to be missing as soon as that is known.
    fn look_for_damaged(&mut self) {
        let exchange = &self.exchange;
        let comes = |content: &ContentId| {
            !exchange.is_present(*content)
                && exchange.is_named(*content)
                && (!exchange.has_twin() || exchange.is_content_there(*content))
        };
        let settled = self.damaged.extract_if(.., |content| !comes(content)).collect::<Vec<_>>();
        for content in settled {
            if self.exchange.is_named(content) && !self.exchange.is_present(content) {
                self.fact(Fact::Missing { name: self.exchange.name_of(content) });
            }
        }
    }

    fn discard(&mut self, content: ContentId) {
        self.plans.remove(&content);
        if let Err(error) = self.folder.discard(content) {
            self.fact(Fact::Disk(error.to_string()));
        }
    }

    /// Whether it was deleted.
    fn delete(&mut self, now: Instant, content: ContentId) -> bool {
        // Asked for a while ago; it may have been touched since.
        if !self.unnamed.is_long(content, self.wall_millis, millis(KEPT_UNNAMED)) {
            return false;
        }
        if let Err(error) = self.folder.delete(content) {
            self.fact(Fact::Disk(error.to_string()));
            return false;
        }
        self.unnamed.touch(content);
        self.exchange.handle_present(now, content, None);
        true
    }
}

fn text(error: FileError) -> String {
    error.to_string()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
