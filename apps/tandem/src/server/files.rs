//! The files have a thread of their own, because their disk is waited for there, and a socket of their own
//! for commands, because what goes over it can be long.
//!
//! ```text
//!   loop ── rows, link, messages ──> thread (Files) ── Send, Fact ──> loop ── Outgoing ──> link (bulk)
//!   command ── files.sock ──> a thread for each ── staged, asked ──┘
//! ```
//!
//! The loop of the server never waits for either.

mod socket;
pub(crate) mod talk;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use anyhow::Context as _;
use tandem_config::{FileId, FileNamed};
use tandem_files::{
    ClassStatus, ContentId, FileError, Files, Folder, Named, Output, RowId, ScrubStatus, Staged,
    UnderWay,
};
use tandem_link::{Class, Link, Unsent};
use tandem_os::clock;
use tandem_types::Instant;

use super::settings::Behind;

/// Bytes of the twin's messages that wait for the disk, at most: what was asked for, and what it has as a
/// million rows. Beyond, the link is closed and both begin anew.
const WAITING_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a message that waits costs beside its bytes, about.
const MESSAGE_COST_BYTES: usize = 128;

/// Room in the link's queue that is left for the heads of frames, in bytes.
const SLACK_BYTES: usize = 4_096;

/// What the thread is to do.
enum Wish {
    Rows(Vec<(RowId, Option<Named>)>),
    Link(bool),
    Message(Vec<u8>),
    /// Ask something for a command.
    Ask(Question),
}

/// What a command wants of the thread, with the way back.
enum Question {
    Adopt(Staged, Sender<Result<(), FileError>>),
    Doubt(ContentId),
    Classes(Sender<Classes>),
    Where(Vec<(RowId, ContentId)>, Sender<Vec<Place>>),
    Wait(Waiter),
}

/// Each class, what comes here, whether there is a twin that has said what it has, and how far the disk
/// was read again.
#[derive(Debug)]
struct Classes {
    classes: Vec<ClassStatus>,
    under_way: Vec<UnderWay>,
    twin: bool,
    scrub: ScrubStatus,
}

/// Where a content is.
#[derive(Clone, Copy, Debug)]
struct Place {
    here: bool,
    /// `None` without a twin that has said what it has.
    there: Option<bool>,
}

/// Who waits until the twin has a row and its content on its disk.
struct Waiter {
    row: RowId,
    content: ContentId,
    until: Instant,
    /// There was a twin when it began: one that is gone for a moment is waited for.
    had_twin: bool,
    back: Sender<bool>,
}

/// The thread. It ends with the process: whatever it was at, the next one goes on with it.
pub(super) struct FilesThread {
    wishes: Sender<Wish>,
    /// Bytes of messages that wait.
    waiting: Arc<AtomicUsize>,
}

/// A way to the thread for those who answer commands.
#[derive(Clone)]
struct Asker {
    wishes: Sender<Wish>,
    folder: Folder,
}

impl FilesThread {
    /// `report` is called from the thread.
    fn start(files: Files, report: impl Fn(Output) + Send + 'static) -> std::io::Result<Self> {
        let (wishes, inbox) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name("files".to_owned());
        thread.spawn(move || work(files, &inbox, &counted, &report))?;
        Ok(Self { wishes, waiting })
    }

    fn asker(&self, folder: Folder) -> Asker {
        Asker { wishes: self.wishes.clone(), folder }
    }

    /// Rows are these now.
    pub(super) fn rows(&self, rows: Vec<(FileId, Option<FileNamed>)>) -> Result<(), Behind> {
        self.wish(Wish::Rows(named(rows)))
    }

    /// The link came up or went down.
    pub(super) fn link(&self, up: bool) -> Result<(), Behind> {
        self.wish(Wish::Link(up))
    }

    /// The twin's files say this.
    pub(super) fn message(&self, message: Vec<u8>) -> Result<(), Behind> {
        let cost = cost(&message);
        if self.waiting.fetch_add(cost, Ordering::Relaxed) + cost > WAITING_BYTES_MAX {
            self.waiting.fetch_sub(cost, Ordering::Relaxed);
            return Err(Behind::Full);
        }
        self.wish(Wish::Message(message))
    }

    fn wish(&self, wish: Wish) -> Result<(), Behind> {
        self.wishes.send(wish).map_err(|_| Behind::Gone)
    }
}

/// What a message counts for while it waits.
const fn cost(message: &[u8]) -> usize {
    message.len() + MESSAGE_COST_BYTES
}

/// What the thread reports.
pub(super) type Reports = tokio::sync::mpsc::UnboundedReceiver<Output>;

/// Starts the thread, and opens the socket.
pub(super) fn start(files: Files, path: &Path) -> anyhow::Result<(FilesThread, Reports)> {
    let (filed, reports) = tokio::sync::mpsc::unbounded_channel();
    let folder = files.folder().clone();
    let thread = FilesThread::start(files, move |output| {
        // The loop is gone only when the process ends.
        let _ = filed.send(output);
    });
    let thread = thread.context("cannot start a thread")?;
    socket::listen(path, &thread, folder)?;
    Ok((thread, reports))
}

/// Rows as they matter for contents.
pub(super) fn named(rows: Vec<(FileId, Option<FileNamed>)>) -> Vec<(RowId, Option<Named>)> {
    let row = |FileNamed { class, name, content, bytes }: FileNamed| Named {
        class,
        name,
        content: ContentId(content),
        bytes,
    };
    rows.into_iter().map(|(id, named)| (id, named.map(row))).collect()
}

fn work(mut files: Files, inbox: &Receiver<Wish>, waiting: &AtomicUsize, report: &dyn Fn(Output)) {
    let mut waiters: Vec<Waiter> = Vec::new();
    loop {
        while let Some(output) = files.poll_output() {
            report(output);
        }
        let now = clock::now();
        answer_waiters(&files, now, &mut waiters);
        let waits = waiters.iter().map(|waiter| waiter.until);
        let due = files.next_timeout().into_iter().chain(waits).min();
        let wish = match due {
            Some(due) => inbox.recv_timeout(due.remaining_from(now)),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = clock::now();
        match wish {
            Ok(Wish::Rows(rows)) => files.handle_rows(now, rows),
            Ok(Wish::Link(up)) => files.handle_link(now, up),
            Ok(Wish::Message(bytes)) => {
                waiting.fetch_sub(cost(&bytes), Ordering::Relaxed);
                files.handle_message(now, &bytes);
            }
            Ok(Wish::Ask(question)) => answer(&mut files, now, question, &mut waiters),
            Err(RecvTimeoutError::Timeout) => {
                files.handle_timeout(now, clock::wall_micros() / 1_000);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Who asked may have gone.
fn tell<A>(back: &Sender<A>, answer: A) {
    let _ = back.send(answer);
}

fn answer(files: &mut Files, now: Instant, question: Question, waiters: &mut Vec<Waiter>) {
    match question {
        Question::Adopt(staged, back) => {
            let kept = files.handle_staged(now, &staged);
            if kept.is_err() {
                files.folder().unstage(&staged);
            }
            tell(&back, kept);
        }
        Question::Doubt(content) => files.handle_doubt(now, content),
        Question::Classes(back) => {
            let (classes, under_way) = (files.classes(), files.under_way());
            let (twin, scrub) = (files.exchange().has_twin(), files.scrub().clone());
            tell(&back, Classes { classes, under_way, twin, scrub });
        }
        Question::Where(rows, back) => {
            let exchange = files.exchange();
            let twin = exchange.has_twin();
            let place = |(row, content): (RowId, ContentId)| Place {
                here: exchange.is_present(content),
                there: twin.then(|| exchange.is_there(row, content)),
            };
            tell(&back, rows.into_iter().map(place).collect());
        }
        // Each is a command that stays connected, so there are never many.
        Question::Wait(waiter) => {
            let had_twin = files.exchange().has_twin();
            waiters.push(Waiter { had_twin, ..waiter });
        }
    }
}

/// Where there was no twin nobody waits.
fn answer_waiters(files: &Files, now: Instant, waiters: &mut Vec<Waiter>) {
    let exchange = files.exchange();
    waiters.retain(|waiter| {
        let there = exchange.is_there(waiter.row, waiter.content);
        let twin = waiter.had_twin || exchange.has_twin();
        let waits = !there && twin && now < waiter.until;
        if !waits {
            tell(&waiter.back, there);
        }
        waits
    });
}

/// Messages for the twin that wait for room on the link.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<Vec<u8>>,
}

impl Outgoing {
    /// Sends a message as soon as there is room. The twin asks for what it gets, so what waits here is
    /// bounded by what it asks for at a time.
    pub(super) fn send(&mut self, link: &Link, message: Vec<u8>) {
        self.waiting.push_back(message);
        self.work(link);
    }

    /// Sends what there is room for.
    pub(super) fn work(&mut self, link: &Link) {
        let room = Class::Bulk.queued_bytes_max() - SLACK_BYTES;
        while let Some(next) = self.waiting.front() {
            if link.waiting(Class::Bulk) + next.len() > room {
                return;
            }
            let Some(message) = self.waiting.pop_front() else { return };
            match link.send(Class::Bulk, message) {
                Ok(()) => {}
                // The next connection begins anew.
                Err(Unsent::Down) => self.waiting.clear(),
                // Neither can be: there was room, and the longest is far below.
                Err(Unsent::Full | Unsent::TooLong) => link.reset("a message about files"),
            }
        }
    }

    /// The link is another one: nothing of before is to be said.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_disk_is_limited_in_bytes() {
        // A thread that takes nothing: its disk stands still.
        let (wishes, inbox) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = FilesThread { wishes, waiting: Arc::clone(&waiting) };
        let message = || vec![0; 16 * 1024 * 1024 - MESSAGE_COST_BYTES];
        for number in 0..WAITING_BYTES_MAX / (16 * 1024 * 1024) {
            assert_eq!(thread.message(message()), Ok(()), "{number}");
        }
        assert_eq!(thread.message(vec![]), Err(Behind::Full));
        // One is done: there is room for another, and no more.
        let Ok(Wish::Message(done)) = inbox.recv() else { panic!() };
        waiting.fetch_sub(cost(&done), Ordering::Relaxed);
        assert_eq!(thread.message(message()), Ok(()));
        assert_eq!(thread.message(vec![]), Err(Behind::Full));
    }
}
