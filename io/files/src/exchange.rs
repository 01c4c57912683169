//! Who lacks which content, and how it comes here: both ways at once, in parts, as slowly as the slower disk.
//!
//! ```text
//!   link up ──> Have (rows whose content is here) ... and whatever is new, as it becomes so
//!   a row names what is not here, and the twin has it:
//!     Resume ──> something had come: what lacks of it ──────────┐
//!        └─> Want ──> Whole ──> KeepWhole ──> it is here        │
//!                └──> Recipe ──> Begin ──> what lacks of it ──> Fetch ... Part ──> Keep, WINDOW ahead
//!                                                                          └─ all ──> Finish ──> it is here
//! ```
//!
//! Whoever lacks something asks: nothing is sent that was not asked for, so the window is the asker's, and
//! what waits for his disk is never more. After a cut both begin anew, and what had come stays.
//!
//! Invariant: a content is present only when the disk has said so, after it compared all of it with its name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tandem_types::{Duration, Instant};

use crate::content::ContentId;
use crate::message::{Message, RowId};
use crate::partial::{Finished, Kept};
use crate::recipe::{CHUNK_BYTES_MAX, Chunk, Telling, is_sound};
use crate::status::{ClassStatus, UnderWay, sum_up};

/// Contents that come at the same time, at most.
pub const WANTS_MAX: usize = 4;

/// So many bytes are asked for ahead of what is on our disk.
pub const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// Rows in one message.
pub const ROWS_MAX: usize = 10_000;

/// What failed is tried again after this pause.
pub const RETRY: Duration = Duration::from_secs(10);

/// A twin that answers nothing for so long is asked for something else, and for this later. Reading a long
/// file takes a while.
pub const STALL: Duration = Duration::from_secs(120);

/// Contents in one question whether they may go.
pub const DROPS_MAX: usize = 1_000;

/// A row as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// What it is for.
    pub class: String,
    /// What it is called.
    pub name: String,
    /// What is in it.
    pub content: ContentId,
    /// Its length.
    pub bytes: u64,
}

/// What the caller must do. What asks the disk is answered before anything else is told to the exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send to the twin.
    Send(Message),
    /// Look what has come of a content; answer by [`Exchange::handle_plan`].
    Resume {
        /// Which.
        content: ContentId,
        /// Its length.
        bytes: u64,
    },
    /// Begin to take a content; answer by [`Exchange::handle_plan`].
    Begin {
        /// Which.
        content: ContentId,
        /// Its chunks.
        chunks: Vec<Chunk>,
        /// Contents here that may have some of them.
        similar: Vec<ContentId>,
    },
    /// Write a part, if it is the right one; answer by [`Exchange::handle_kept`].
    Keep {
        /// Of this content.
        content: ContentId,
        /// From here on.
        offset: u64,
        /// The part.
        bytes: Vec<u8>,
    },
    /// Verify a content and give it its name; answer by [`Exchange::handle_finished`].
    Finish(ContentId),
    /// The same with a short one; answer by [`Exchange::handle_finished`].
    KeepWhole {
        /// Which.
        content: ContentId,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Read a content for the twin, verified; answer by [`Exchange::handle_telling`].
    Tell(ContentId),
    /// Read a part for the twin; answer by [`Exchange::handle_part`].
    Read {
        /// Of this content.
        content: ContentId,
        /// From here on.
        offset: u64,
        /// So many.
        bytes: u32,
    },
    /// The twin doubts it: verify it, and tell where it is damaged ([`Exchange::handle_present`]).
    Verify(ContentId),
    /// The twin asks whether these may go, which nobody names here; answer by [`Exchange::handle_judged`].
    Judge(Vec<ContentId>),
    /// It is not wanted any more: remove what has come of it.
    Discard(ContentId),
    /// Nobody names it, says the twin too: delete it if it may go, and tell ([`Exchange::handle_present`]).
    Delete(ContentId),
    /// For the log.
    Fact(Fact),
}

/// What of a content lacks here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lacking {
    /// Where each part begins, and its length.
    pub parts: Vec<(u64, u32)>,
    /// Bytes that are here.
    pub here_bytes: u64,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// Both have everything that is named, for the first time on this link.
    Equal {
        /// Rows.
        files: usize,
    },
    /// Something cannot be kept here; it is tried again.
    Refused {
        /// What.
        name: String,
        /// Why.
        why: String,
    },
    /// That is over.
    Taken,
    /// The twin sent something else than it was asked for.
    Garbage {
        /// For this.
        name: String,
    },
}

/// What comes here.
#[derive(Clone, Debug)]
struct Getting {
    step: Step,
    /// When the twin was heard last about it.
    heard: Instant,
    bytes: u64,
    here_bytes: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Our disk is looked at.
    Looking,
    /// The twin is asked for it.
    Asked,
    /// Its parts come.
    Fetching { lacking: VecDeque<(u64, u32)>, asked: BTreeMap<u64, u32> },
    /// Our disk compares it with its name.
    Finishing,
}

/// The exchange of contents with the twin, as one value.
#[derive(Debug, Default)]
pub struct Exchange {
    rows: BTreeMap<RowId, Named>,
    by_content: BTreeSet<(ContentId, RowId)>,
    /// On our disk, with lengths.
    present: BTreeMap<ContentId, u64>,
    /// Rows whose content is not, the oldest first.
    lacking: BTreeSet<(RowId, ContentId)>,
    link: bool,
    /// What the twin said it has.
    there: BTreeSet<(ContentId, RowId)>,
    /// It has said all.
    told: bool,
    equal: bool,
    getting: BTreeMap<ContentId, Getting>,
    asked_bytes: u64,
    resting: BTreeMap<ContentId, Instant>,
    /// What could not be kept, until something can.
    refused: Option<String>,
    outputs: VecDeque<Output>,
}

impl Exchange {
    /// With what is on our disk.
    pub fn new(present: BTreeMap<ContentId, u64>) -> Self {
        Self { present, ..Self::default() }
    }

    /// Whether a content is on our disk.
    pub fn is_present(&self, content: ContentId) -> bool {
        self.present.contains_key(&content)
    }

    /// What is on our disk.
    pub const fn present(&self) -> &BTreeMap<ContentId, u64> {
        &self.present
    }

    /// Whether a row names a content.
    pub fn is_named(&self, content: ContentId) -> bool {
        self.rows_of(content).next().is_some()
    }

    /// Whether the twin has a row, and its content, on its disk.
    pub fn is_there(&self, row: RowId, content: ContentId) -> bool {
        self.there.contains(&(content, row))
    }

    /// Whether the twin has a content on its disk.
    pub fn is_content_there(&self, content: ContentId) -> bool {
        let rows = (content, [0; 16])..=(content, [0xff; 16]);
        self.there.range(rows).next().is_some()
    }

    /// Whether there is a twin that has said what it has.
    pub const fn has_twin(&self) -> bool {
        self.link && self.told
    }

    /// Each class: how much there is, and who lacks what.
    pub fn classes(&self) -> Vec<ClassStatus> {
        let here = |content| self.is_present(content);
        let there = self.has_twin().then_some(&self.there);
        sum_up(&self.rows, here, there)
    }

    /// What comes here now.
    pub fn under_way(&self) -> Vec<UnderWay> {
        let row = |(content, getting): (&ContentId, &Getting)| {
            let named = &self.rows[&self.rows_of(*content).next()?];
            let (class, name) = (named.class.clone(), named.name.clone());
            let (bytes, here_bytes) = (getting.bytes, getting.here_bytes);
            Some(UnderWay { class, name, bytes, here_bytes })
        };
        self.getting.iter().filter_map(row).collect()
    }

    /// A row is this now; `None`: it is deleted.
    pub fn handle_row(&mut self, now: Instant, id: RowId, row: Option<Named>) {
        let old = self.rows.get(&id).map(|named| named.content);
        let new = row.as_ref().map(|named| named.content);
        match row {
            Some(named) => drop(self.rows.insert(id, named)),
            None => drop(self.rows.remove(&id)),
        }
        if old == new {
            return;
        }
        if let Some(content) = old {
            self.by_content.remove(&(content, id));
            self.lacking.remove(&(id, content));
            if self.is_present(content) {
                self.send(Message::Gone(vec![(id, content)]));
            } else if !self.is_named(content) {
                self.stop(content);
                self.outputs.push_back(Output::Discard(content));
            }
        }
        if let Some(content) = new {
            self.by_content.insert((content, id));
            if self.is_present(content) {
                self.have(vec![(id, content)]);
            } else {
                self.lacking.insert((id, content));
            }
        }
        self.work(now);
    }

    /// A content is on our disk, with its length, or not any more.
    pub fn handle_present(&mut self, now: Instant, content: ContentId, bytes: Option<u64>) {
        let was = match bytes {
            Some(bytes) => self.present.insert(content, bytes).is_some(),
            None => self.present.remove(&content).is_some(),
        };
        if was == bytes.is_some() {
            return;
        }
        let rows: Vec<_> = self.rows_of(content).map(|id| (id, content)).collect();
        if bytes.is_some() {
            for row in &rows {
                self.lacking.remove(row);
            }
            self.stop(content);
            if !rows.is_empty() {
                self.have(rows);
            }
        } else if !rows.is_empty() {
            self.lacking.extend(rows.iter().copied());
            self.send(Message::Gone(rows));
        }
        self.work(now);
    }

    /// The link came up.
    pub fn handle_link_up(&mut self, now: Instant) {
        self.forget();
        self.link = true;
        let settled = self.by_content.iter().filter(|(content, _)| self.is_present(*content));
        let rows: Vec<_> = settled.map(|(content, id)| (*id, *content)).collect();
        let parts = rows.chunks(ROWS_MAX).count().max(1);
        for number in 0..parts {
            let from = number * ROWS_MAX;
            let rows = rows[from..rows.len().min(from + ROWS_MAX)].to_vec();
            let (first, last) = (number == 0, number + 1 == parts);
            self.send(Message::Have { first, last, rows });
        }
        self.work(now);
    }

    /// The link went down.
    pub fn handle_link_down(&mut self) {
        self.forget();
        self.link = false;
    }

    /// Takes a message of the twin.
    pub fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Have { first, last, rows } => {
                if first {
                    self.there.clear();
                }
                self.told |= last;
                for (id, content) in rows {
                    self.there.insert((content, id));
                    // It lacked it a moment ago.
                    self.resting.remove(&content);
                }
            }
            Message::Gone(rows) => {
                for (id, content) in rows {
                    self.there.remove(&(content, id));
                }
            }
            Message::Want(content) if self.is_present(content) => {
                self.outputs.push_back(Output::Tell(content));
            }
            Message::Fetch { content, offset, bytes }
                if self.is_present(content) && bytes <= CHUNK_BYTES_MAX =>
            {
                self.outputs.push_back(Output::Read { content, offset, bytes });
            }
            Message::Want(content) | Message::Fetch { content, .. } => {
                self.send(Message::Lack(content));
            }
            Message::Whole { content, bytes } => self.whole(now, content, bytes),
            Message::Recipe { content, chunks } => self.recipe(now, content, chunks),
            Message::Part { content, offset, bytes } => self.part(now, content, offset, bytes),
            Message::Lack(content) => self.rest(now, content),
            Message::Doubt(content) if self.is_present(content) => {
                self.outputs.push_back(Output::Verify(content));
            }
            Message::Doubt(_) => {}
            Message::MayDrop(mut contents) => {
                contents.retain(|content| !self.is_named(*content));
                self.outputs.push_back(Output::Judge(contents));
            }
            Message::Drop(contents) => {
                for content in contents {
                    if self.is_present(content) && !self.is_named(content) {
                        self.outputs.push_back(Output::Delete(content));
                    }
                }
            }
        }
        self.work(now);
    }

    /// Nobody has named these for long: the twin is asked whether they may go.
    pub fn handle_unnamed(&mut self, mut contents: Vec<ContentId>) {
        contents.retain(|content| !self.is_named(*content));
        contents.truncate(DROPS_MAX);
        if !contents.is_empty() {
            self.send(Message::MayDrop(contents));
        }
    }

    /// Answers [`Output::Resume`] and [`Output::Begin`]: what lacks and how much is here, or nothing is
    /// known of it, or why it cannot be taken.
    pub fn handle_plan(
        &mut self,
        now: Instant,
        content: ContentId,
        plan: Result<Option<Lacking>, String>,
    ) {
        let Some(getting) = self.getting.get_mut(&content) else { return };
        getting.heard = now;
        match plan {
            Ok(Some(Lacking { parts, here_bytes })) => {
                let lacking = VecDeque::from(parts);
                getting.here_bytes = here_bytes;
                getting.step = Step::Fetching { lacking, asked: BTreeMap::new() };
                self.finish_if_all(content);
            }
            Ok(None) => {
                getting.step = Step::Asked;
                self.send(Message::Want(content));
            }
            Err(why) => self.refuse(now, content, why),
        }
        self.work(now);
    }

    /// Answers [`Output::Keep`].
    pub fn handle_kept(
        &mut self,
        now: Instant,
        content: ContentId,
        offset: u64,
        kept: Result<Kept, String>,
    ) {
        match kept {
            Ok(Kept::Good) => {
                if let Some(getting) = self.getting.get_mut(&content)
                    && let Step::Fetching { asked, .. } = &mut getting.step
                    && let Some(bytes) = asked.remove(&offset)
                {
                    getting.here_bytes += u64::from(bytes);
                    self.asked_bytes -= u64::from(bytes);
                    self.taken();
                    self.finish_if_all(content);
                }
            }
            Ok(Kept::Garbage) => self.doubt(now, content),
            Err(why) => self.refuse(now, content, why),
        }
        self.work(now);
    }

    /// Answers [`Output::Finish`] and [`Output::KeepWhole`].
    pub fn handle_finished(
        &mut self,
        now: Instant,
        content: ContentId,
        finished: Result<Finished, String>,
    ) {
        let Some(getting) = self.getting.get(&content) else { return };
        match finished {
            Ok(Finished::Whole) => {
                let bytes = getting.bytes;
                self.taken();
                self.handle_present(now, content, Some(bytes));
            }
            Ok(Finished::Garbage) => self.doubt(now, content),
            Err(why) => self.refuse(now, content, why),
        }
        self.work(now);
    }

    /// Answers [`Output::Tell`]; `None` where it cannot be read.
    pub fn handle_telling(&mut self, content: ContentId, telling: Option<Telling>) {
        self.send(match telling {
            Some(Telling::Whole(bytes)) => Message::Whole { content, bytes },
            Some(Telling::Recipe(chunks)) => Message::Recipe { content, chunks },
            None => Message::Lack(content),
        });
    }

    /// Answers [`Output::Read`]; `None` where it cannot be read.
    pub fn handle_part(&mut self, content: ContentId, offset: u64, bytes: Option<Vec<u8>>) {
        self.send(match bytes {
            Some(bytes) => Message::Part { content, offset, bytes },
            None => Message::Lack(content),
        });
    }

    /// Answers [`Output::Judge`]: those that may go.
    pub fn handle_judged(&mut self, contents: Vec<ContentId>) {
        self.send(Message::Drop(contents));
    }

    /// When to call [`Exchange::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let stalls = self.getting.values().map(|getting| getting.heard + STALL);
        self.resting.values().copied().chain(stalls).min().filter(|_| self.link)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.resting.retain(|_, until| *until > now);
        let stalled = self.getting.iter().filter(|(_, getting)| getting.heard + STALL <= now);
        for content in stalled.map(|(content, _)| *content).collect::<Vec<_>>() {
            self.rest(now, content);
        }
        self.work(now);
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn rows_of(&self, content: ContentId) -> impl Iterator<Item = RowId> {
        let range = (content, [0; 16])..=(content, [0xff; 16]);
        self.by_content.range(range).map(|(_, id)| *id)
    }

    fn send(&mut self, message: Message) {
        if self.link {
            self.outputs.push_back(Output::Send(message));
        }
    }

    fn have(&mut self, rows: Vec<(RowId, ContentId)>) {
        self.send(Message::Have { first: false, last: false, rows });
    }

    fn forget(&mut self) {
        self.getting.clear();
        self.resting.clear();
        self.there.clear();
        (self.asked_bytes, self.told, self.equal) = (0, false, false);
    }

    /// The content does not come any more, or it has come.
    fn stop(&mut self, content: ContentId) {
        self.resting.remove(&content);
        let Some(getting) = self.getting.remove(&content) else { return };
        if let Step::Fetching { asked, .. } = getting.step {
            self.asked_bytes -= asked.values().copied().map(u64::from).sum::<u64>();
        }
    }

    /// It is tried again later. What has come stays.
    fn rest(&mut self, now: Instant, content: ContentId) {
        if self.getting.contains_key(&content) {
            self.stop(content);
            self.resting.insert(content, now + RETRY);
        }
    }

    fn refuse(&mut self, now: Instant, content: ContentId, why: String) {
        self.rest(now, content);
        if self.refused.as_ref() != Some(&why) {
            let name = self.name_of(content);
            self.outputs.push_back(Output::Fact(Fact::Refused { name, why: why.clone() }));
            self.refused = Some(why);
        }
    }

    fn taken(&mut self) {
        if self.refused.take().is_some() {
            self.outputs.push_back(Output::Fact(Fact::Taken));
        }
    }

    fn doubt(&mut self, now: Instant, content: ContentId) {
        let name = self.name_of(content);
        self.rest(now, content);
        self.outputs.push_back(Output::Fact(Fact::Garbage { name }));
        self.send(Message::Doubt(content));
    }

    /// What a row calls a content; where none does, the content itself.
    pub(crate) fn name_of(&self, content: ContentId) -> String {
        let row = self.rows_of(content).next().and_then(|id| self.rows.get(&id));
        row.map_or_else(|| content.to_string(), |named| format!("{}/{}", named.class, named.name))
    }

    fn whole(&mut self, now: Instant, content: ContentId, bytes: Vec<u8>) {
        let Some(getting) = self.getting.get_mut(&content) else { return };
        if matches!(getting.step, Step::Asked) {
            getting.step = Step::Finishing;
            getting.heard = now;
            getting.bytes = bytes.len() as u64;
            self.outputs.push_back(Output::KeepWhole { content, bytes });
        }
    }

    fn recipe(&mut self, now: Instant, content: ContentId, chunks: Vec<Chunk>) {
        let Some(getting) = self.getting.get_mut(&content) else { return };
        if !matches!(getting.step, Step::Asked) {
            return;
        }
        // How long it is its chunks say. A row may say something else; the name is compared in the end.
        getting.bytes = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        if !is_sound(&chunks, getting.bytes) {
            return self.doubt(now, content);
        }
        getting.step = Step::Looking;
        getting.heard = now;
        let similar = self.similar(content);
        self.outputs.push_back(Output::Begin { content, chunks, similar });
    }

    /// The newest other content of the same name that is here.
    fn similar(&self, content: ContentId) -> Vec<ContentId> {
        let Some(named) = self.rows_of(content).next().and_then(|id| self.rows.get(&id)) else {
            return Vec::new();
        };
        let same = |other: &&Named| {
            other.class == named.class
                && other.name == named.name
                && other.content != content
                && self.is_present(other.content)
        };
        self.rows.values().rev().find(same).map(|other| other.content).into_iter().collect()
    }

    fn part(&mut self, now: Instant, content: ContentId, offset: u64, bytes: Vec<u8>) {
        let Some(getting) = self.getting.get_mut(&content) else { return };
        let Step::Fetching { asked, .. } = &getting.step else { return };
        if asked.contains_key(&offset) {
            getting.heard = now;
            self.outputs.push_back(Output::Keep { content, offset, bytes });
        }
    }

    fn finish_if_all(&mut self, content: ContentId) {
        let Some(getting) = self.getting.get_mut(&content) else { return };
        let all = match &getting.step {
            Step::Fetching { lacking, asked } => lacking.is_empty() && asked.is_empty(),
            Step::Looking | Step::Asked | Step::Finishing => false,
        };
        if all {
            getting.step = Step::Finishing;
            self.outputs.push_back(Output::Finish(content));
        }
    }

    /// Begins what may begin, asks for what there is room for, and says when both are equal.
    fn work(&mut self, now: Instant) {
        if !self.link {
            return;
        }
        while self.getting.len() < WANTS_MAX {
            let may = |(_, content): &&(RowId, ContentId)| {
                !self.getting.contains_key(content)
                    && !self.resting.contains_key(content)
                    && self.is_content_there(*content)
            };
            let Some((id, content)) = self.lacking.iter().find(may).copied() else { break };
            let bytes = self.rows.get(&id).map_or(0, |named| named.bytes);
            let getting = Getting { step: Step::Looking, heard: now, bytes, here_bytes: 0 };
            self.getting.insert(content, getting);
            self.outputs.push_back(Output::Resume { content, bytes });
        }
        self.ask();
        if !self.equal && self.told && self.lacking.is_empty() && self.there == self.by_content {
            self.equal = true;
            self.outputs.push_back(Output::Fact(Fact::Equal { files: self.rows.len() }));
        }
    }

    /// Asks for parts as far as the window allows.
    fn ask(&mut self) {
        for (content, getting) in &mut self.getting {
            let Step::Fetching { lacking, asked } = &mut getting.step else { continue };
            while self.asked_bytes < WINDOW_BYTES {
                let Some((offset, bytes)) = lacking.pop_front() else { break };
                asked.insert(offset, bytes);
                self.asked_bytes += u64::from(bytes);
                let fetch = Message::Fetch { content: *content, offset, bytes };
                self.outputs.push_back(Output::Send(fetch));
            }
        }
    }
}
