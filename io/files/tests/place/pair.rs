//! Two servers' files with a link between them that is cut, and rows that follow as rows do.

// Each test uses its part.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_files::{
    COLLECT_PAUSE, ContentId, Fact, Files, Folder, Message, Named, Output, RowId, SCRUB_PAUSE,
    SCRUB_STEP,
};
use tandem_types::{Duration, Instant};

use super::{Place, SMALL};

/// A row, and which version of it is the newer one.
type Row = (u64, Option<Named>);

/// One server.
pub(crate) struct Side {
    place: Place,
    pub(crate) files: Files,
    pub(crate) rows: BTreeMap<RowId, Row>,
    /// On its way to the other one.
    pub(crate) line: VecDeque<Vec<u8>>,
    row_line: VecDeque<(RowId, Row)>,
    pub(crate) facts: Vec<Fact>,
    room: Arc<AtomicU64>,
    sabotaged: bool,
}

impl Side {
    fn new(name: &str, sabotaged: bool) -> Self {
        let place = Place::new(name);
        let room = Arc::new(AtomicU64::new(u64::MAX));
        let files = open(&place, &room, sabotaged);
        let (line, row_line) = (VecDeque::new(), VecDeque::new());
        let (rows, facts) = (BTreeMap::new(), Vec::new());
        Self { place, files, rows, line, row_line, facts, room, sabotaged }
    }

    pub(crate) fn drain(&mut self, linked: bool) {
        while let Some(output) = self.files.poll_output() {
            match output {
                Output::Send(bytes) if linked => self.line.push_back(bytes),
                Output::Send(_) => panic!("nothing is sent without a link"),
                Output::Fact(fact) => self.facts.push(fact),
            }
        }
    }

    pub(crate) fn full(&self, full: bool) {
        self.room.store(if full { 0 } else { u64::MAX }, Ordering::SeqCst);
    }

    pub(crate) fn folder(&self) -> &Folder {
        self.files.folder()
    }

    /// A disk that changes a byte without a word.
    pub(crate) fn flip(&self, content: ContentId) {
        let mut bytes = self.bytes_of(content).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(self.folder().path(content), bytes).unwrap();
    }

    /// Whether it was told that a content is damaged here.
    pub(crate) fn was_damaged(&self, which: ContentId) -> bool {
        let damaged =
            |fact: &Fact| matches!(fact, Fact::Damaged { content, .. } if *content == which);
        self.facts.iter().any(damaged)
    }

    /// What lies under the name of a content.
    pub(crate) fn bytes_of(&self, content: ContentId) -> Option<Vec<u8>> {
        std::fs::read(self.folder().path(content)).ok()
    }

    fn put(&mut self, now: Instant, id: RowId, row: Row) {
        let newer = self.rows.get(&id).is_none_or(|(version, _)| *version < row.0);
        if newer {
            self.rows.insert(id, row.clone());
            self.files.handle_rows(now, vec![(id, row.1)]);
        }
    }
}

fn open(place: &Place, room: &Arc<AtomicU64>, sabotaged: bool) -> Files {
    let room = Arc::clone(room);
    let folder = Folder::open(&place.root()).unwrap();
    let folder = folder.with(SMALL, move |_| Ok(room.load(Ordering::SeqCst)));
    Files::open(if sabotaged { folder.sabotaged() } else { folder }).unwrap()
}

/// Both.
pub(crate) struct Pair {
    pub(crate) sides: [Side; 2],
    pub(crate) linked: bool,
    pub(crate) now: Instant,
    pub(crate) wall_millis: u64,
    versions: u64,
}

impl Pair {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, false)
    }

    pub(crate) fn with(name: &str, sabotaged: bool) -> Self {
        let side = |which: &str| Side::new(&format!("{name}-{which}"), sabotaged);
        let wall_millis = 1_790_000_000_000;
        let sides = [side("one"), side("other")];
        Self { sides, linked: false, now: Instant::from_micros(1), wall_millis, versions: 0 }
    }

    pub(crate) fn link(&mut self, up: bool) {
        if self.linked == up {
            return;
        }
        self.linked = up;
        let now = self.now;
        for side in &mut self.sides {
            side.line.clear();
            side.row_line.clear();
            side.files.handle_link(now, up);
            if up {
                side.row_line.extend(side.rows.iter().map(|(id, row)| (*id, row.clone())));
            }
            side.drain(up);
        }
    }

    /// A user's file and its row.
    pub(crate) fn add(
        &mut self,
        at: usize,
        class: &str,
        name: &str,
        bytes: &[u8],
    ) -> Option<RowId> {
        let side = &mut self.sides[at];
        let staged = side.folder().stage(1, &mut &bytes[..]).ok()?;
        side.files.handle_staged(self.now, &staged).unwrap();
        let (class, name) = (class.to_owned(), name.to_owned());
        let named = Named { class, name, content: staged.content, bytes: staged.bytes };
        let mut id = [at as u8; 16];
        id[..8].copy_from_slice(&(self.versions + 1).to_be_bytes());
        self.write(at, id, Some(named));
        Some(id)
    }

    pub(crate) fn write(&mut self, at: usize, id: RowId, row: Option<Named>) {
        self.versions += 1;
        let side = &mut self.sides[at];
        side.put(self.now, id, (self.versions, row.clone()));
        if self.linked {
            side.row_line.push_back((id, (self.versions, row)));
        }
        side.drain(self.linked);
    }

    /// One row or one message gets to the other side; whether there was any.
    pub(crate) fn deliver(
        &mut self,
        from: usize,
        change: impl Fn(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> bool {
        let now = self.now;
        if let Some((id, row)) = self.sides[from].row_line.pop_front() {
            self.sides[1 - from].put(now, id, row);
        } else if let Some(bytes) = self.sides[from].line.pop_front() {
            for bytes in change(bytes) {
                self.sides[1 - from].files.handle_message(now, &bytes);
            }
        } else {
            return false;
        }
        self.sides[1 - from].drain(self.linked);
        true
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.wall_millis += u64::try_from(span.as_millis()).unwrap();
        for side in &mut self.sides {
            side.files.handle_timeout(self.now, self.wall_millis);
            side.drain(self.linked);
        }
    }

    /// A week passes, and both read everything again.
    pub(crate) fn scrub(&mut self) {
        self.pass(SCRUB_PAUSE + COLLECT_PAUSE);
        self.settle();
        while self.sides.iter().any(|side| side.files.scrub().ended_millis.is_none()) {
            self.pass(SCRUB_STEP);
            self.settle();
        }
    }

    /// Everything that is on its way arrives, and what follows from it.
    pub(crate) fn settle(&mut self) {
        while self.deliver(0, |bytes| vec![bytes]) || self.deliver(1, |bytes| vec![bytes]) {}
    }

    /// One of them is killed and starts again; the link is gone with it.
    pub(crate) fn crash(&mut self, at: usize) {
        self.link(false);
        let now = self.now;
        let side = &mut self.sides[at];
        side.files = open(&side.place, &side.room, side.sabotaged);
        let rows = side.rows.iter().map(|(id, row)| (*id, row.1.clone())).collect();
        side.files.handle_rows(now, rows);
        side.files.handle_timeout(now, self.wall_millis);
        side.drain(false);
    }

    /// Both have every content that is named, byte for byte; otherwise what is wrong.
    pub(crate) fn judge(&self, contents: &BTreeMap<ContentId, Vec<u8>>) -> Result<usize, String> {
        let mut seen = 0;
        for (at, side) in self.sides.iter().enumerate() {
            for named in side.rows.values().filter_map(|(_, row)| row.as_ref()) {
                seen += 1;
                let right = &contents[&named.content];
                match side.bytes_of(named.content) {
                    Some(bytes) if &bytes == right => {}
                    Some(_) => return Err(format!("side {at}: {} is wrong", named.name)),
                    None => return Err(format!("side {at}: {} is missing", named.name)),
                }
            }
            let equal = side.files.classes().iter().all(tandem_files::ClassStatus::is_equal);
            if !equal {
                return Err(format!("side {at}: {:?}", side.files.classes()));
            }
        }
        if self.sides[0].rows == self.sides[1].rows { Ok(seen) } else { Err("rows".to_owned()) }
    }
}

/// The same message with some bytes of a content changed.
pub(crate) fn garbled(bytes: &[u8]) -> Vec<u8> {
    let flip = |bytes: &mut Vec<u8>| {
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 1;
        }
    };
    let mut message = Message::decode(bytes).unwrap();
    match &mut message {
        Message::Whole { bytes, .. } | Message::Part { bytes, .. } => flip(bytes),
        Message::Recipe { chunks, .. } => chunks.reverse(),
        Message::Have { .. }
        | Message::Gone(_)
        | Message::Want(_)
        | Message::Fetch { .. }
        | Message::Lack(_)
        | Message::Doubt(_)
        | Message::MayDrop(_)
        | Message::Drop(_) => {}
    }
    message.encode()
}
