//! The journal of one server, as one value.

mod catch_up;
mod fresh;
mod pace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tandem_types::{Duration, Epoch, Instant, Role, Seat, Seq, Stamp};

use crate::entry::{Class, Entry, Known, Op, Record};
use crate::frame::{Cursor, Frame, TICK};
use crate::replica::Replica;
use fresh::Fresh;
use pace::Pace;
pub use pace::{MORE_WAIT, UNSTORED_MAX};

/// What the caller must do. Take these until there is none left.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send to the peer, in order.
    Send(Frame),
    /// Put into the store, in order; report [`Journal::handle_stored`] with the ticket when it is
    /// there (synced to disk where `sync` is set).
    Store {
        /// What to write.
        write: Write,
        /// Whether the report must wait for the disk.
        sync: bool,
        /// Rises with every write.
        ticket: u64,
    },
    /// Read log records that `lacking` does not cover, after `after`, in the order of stamp and
    /// key, once everything handed out before is stored; answer with
    /// [`Journal::handle_fetched`].
    Fetch {
        /// What the peer has.
        lacking: Known,
        /// Where to go on.
        after: Cursor,
        /// Names this read; an answer to an older one is ignored.
        read: u64,
    },
    /// More of the journal is committed than before: look at [`Journal::hot_committed`],
    /// [`Journal::final_committed`] and [`Journal::durable_committed`].
    Committed,
    /// The twin holds, or no longer holds, all that this active server knows.
    Protection {
        /// Whether it does.
        protected: bool,
        /// Why it changed.
        why: &'static str,
    },
    /// On the active: a hot record that only the peer had (it served while we were apart). Not
    /// taken over here: the layer above decides.
    Stray(Record),
    /// A table record changed under us (passive, or by a catch-up).
    Changed(Vec<u8>),
    /// On the active: a log record that only the twin had. It is taken over; this tells the layer
    /// above what is in it.
    Logged(Record),
    /// For the layer above.
    Aside(Vec<u8>),
    /// The peer has the same seat as we: one of the two was set up wrongly or copied.
    SameSeat,
}

/// What goes into the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// One entry; also learns its stamp.
    Entry(Entry),
    /// Records with stamps of their own; of two versions the later stamp stays.
    Records(Vec<Record>),
    /// Hot records that are gone.
    Forget(Vec<Vec<u8>>),
    /// What is known from now on.
    Learn(Known),
}

/// How the twin follows this active server.
#[derive(Clone, Debug, PartialEq)]
enum Twin {
    /// Not joined.
    Absent,
    /// Sends us what we lack.
    Tail { known: Known },
    /// Is sent what it lacks.
    CatchingUp { known: Known, phase: Phase },
    /// Has all, up to what it acknowledged.
    InSync,
    /// Has been in sync and is late with an acknowledgement; back in sync with the last one.
    Lagging,
}

/// What of a catch-up is sent next.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Log records that were not on the disk when it began.
    Fresh(VecDeque<Record>),
    /// Hot and table records after this key.
    Memory(Option<Vec<u8>>),
    /// Log records after this one.
    Log(Cursor),
    /// All is sent. What only the twin had is not settled here yet ([`Journal::settle_tail`]).
    Sent,
}

/// What this server does with the journal.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// Takes the active server's entries.
    Follow {
        /// The keys named since we joined; `None` when not joining.
        joining: Option<BTreeSet<Vec<u8>>>,
        /// Our tail, still to be sent.
        tail: Option<(Known, Phase)>,
        /// Whether we have been caught up in this reign.
        in_sync: bool,
        /// Entry taken and not yet acknowledged.
        unacked: Option<Stamp>,
    },
    /// Appends entries of its own.
    Lead {
        twin: Twin,
        /// What the twin knows whose tail was taken, until that is settled: then it is known here too.
        tail: Option<Known>,
        /// Last entry appended.
        appended: Seq,
        /// Last entry the twin has in memory.
        acked: Seq,
        /// Last entry on the local disk.
        synced: Seq,
        /// Last entry whose time to wait is over.
        overdue: Seq,
        /// When entries were appended that are not yet committed.
        waiting: VecDeque<(Seq, Instant)>,
    },
}

/// Appends, ships, acknowledges, commits; catches up and merges.
///
/// The caller appends changes while this server is active and holds back every message until
/// its entry is committed.
#[derive(Debug)]
pub struct Journal {
    seat: Seat,
    epoch: Epoch,
    part: Part,
    replica: Replica,
    known: Known,
    link: bool,
    /// The catch-up that runs: the passive counts them up, the active follows.
    join: u32,
    /// When the peer was last heard on the link, and what its last tick said.
    heard: Option<(Instant, Role, Epoch, bool)>,
    /// The twin was in sync, or we with it, and it has not been heard for a while.
    silent: bool,
    serving: bool,
    next_tick: Instant,
    disk_works: bool,
    ticket: u64,
    /// Own entries under way to the disk.
    storing: BTreeMap<u64, (Seq, bool)>,
    /// Log records under way to the disk.
    fresh: Fresh,
    /// Chunks of a catch-up under way to the disk.
    pace: Pace,
    read: u64,
    /// When the store was asked for the read that is not answered yet.
    asked: Option<Instant>,
    protected: bool,
    outputs: VecDeque<Output>,
}

/// A read that the store does not answer for so long is asked for again.
pub const FETCH_WAIT: Duration = Duration::from_secs(10);

/// Own entries under way to the disk that are told apart; beyond that several count as the last of
/// them, so that a disk that is dead for long costs no memory here.
pub const STORING_MAX: usize = 65_536;

/// An entry waits so long for the twin; then its messages leave and the pair is unprotected.
pub const ACK_WAIT: Duration = Duration::from_millis(20);

/// A twin that was not heard for so long has not got what it did not acknowledge.
const TWIN_SILENT: Duration = Duration::from_millis(100);

impl Journal {
    /// A passive server's journal, with what its store held.
    pub fn new(now: Instant, seat: Seat, records: Vec<Record>, known: Known) -> Self {
        let mut replica = Replica::default();
        for record in &records {
            replica.merge(now, record);
        }
        let epoch = known.latest().map_or(Epoch::NEVER, |stamp| stamp.epoch);
        Self {
            seat,
            epoch,
            part: follow(),
            replica,
            known,
            link: false,
            join: 0,
            heard: None,
            silent: false,
            serving: false,
            next_tick: now,
            disk_works: true,
            ticket: 0,
            storing: BTreeMap::new(),
            fresh: Fresh::default(),
            pace: Pace::default(),
            read: 0,
            asked: None,
            protected: false,
            outputs: VecDeque::new(),
        }
    }

    /// Begins to lead in `epoch`. Entries of older epochs are refused from here on.
    pub fn activate(&mut self, epoch: Epoch) {
        assert!(self.may_lead(epoch), "a reign begins once");
        self.epoch = epoch;
        self.part = Part::Lead {
            twin: Twin::Absent,
            tail: None,
            appended: Seq::ZERO,
            acked: Seq::ZERO,
            synced: Seq::ZERO,
            overdue: Seq::ZERO,
            waiting: VecDeque::new(),
        };
        self.storing.clear();
        self.forget_read();
        self.protected = false;
        self.known.learn(Stamp { epoch, seq: Seq::ZERO });
        // What the dead server promised because it was in our memory must now be on our disk.
        self.store(Write::Learn(self.known.clone()), true);
        self.hello();
    }

    /// Stops leading and follows.
    pub fn step_down(&mut self) {
        self.part = follow();
        self.storing.clear();
        self.forget_read();
        self.protected = false;
        self.hello();
    }

    /// Appends changes while active. Messages that rest on them wait until the returned position
    /// is committed.
    ///
    /// # Panics
    ///
    /// On a passive server: it has nothing to say.
    pub fn append(&mut self, now: Instant, ops: Vec<Op>) -> Seq {
        let Part::Lead { twin, appended, waiting, .. } = &mut self.part else {
            panic!("only the active server appends");
        };
        *appended = appended.next();
        let seq = *appended;
        waiting.push_back((seq, now));
        let ship = !matches!(twin, Twin::Absent | Twin::Tail { .. });
        let alone = !matches!(twin, Twin::InSync);
        let entry = Entry { stamp: Stamp { epoch: self.epoch, seq }, ops };
        self.replica.apply(now, &entry);
        self.known.learn(entry.stamp);
        if ship {
            self.outputs.push_back(Output::Send(Frame::Entry(entry.clone())));
        }
        let sync = alone || entry.is_durable();
        self.fresh.note(now, self.ticket + 1, &entry);
        let ticket = self.store(Write::Entry(entry), sync);
        if self.storing.len() >= STORING_MAX {
            self.storing.pop_last();
        }
        self.storing.insert(ticket, (seq, sync));
        seq
    }

    /// Up to here hot changes are safe, or have waited for [`ACK_WAIT`]: messages that rest on them may
    /// leave.
    pub fn hot_committed(&self) -> Seq {
        match &self.part {
            Part::Lead { overdue, .. } => self.final_committed().max(*overdue),
            Part::Follow { .. } => Seq::ZERO,
        }
    }

    /// Up to here hot changes are safe, however long that takes: in the memory of the twin, or, where it
    /// does not follow, on the local disk. A broken disk is not waited for.
    pub fn final_committed(&self) -> Seq {
        let Part::Lead { twin, acked, synced, appended, .. } = &self.part else {
            return Seq::ZERO;
        };
        match twin {
            Twin::InSync => *acked,
            Twin::Absent | Twin::Tail { .. } | Twin::CatchingUp { .. } | Twin::Lagging => {
                if self.disk_works { *synced.max(acked) } else { *appended }
            }
        }
    }

    /// Up to here all changes are safe, durable ones too: on the local disk, and in the twin's
    /// memory where it is in sync. A broken disk is not waited for; it is shown and the twin's
    /// memory must do.
    pub fn durable_committed(&self) -> Seq {
        let Part::Lead { twin, acked, synced, appended, .. } = &self.part else {
            return Seq::ZERO;
        };
        let disk = if self.disk_works { *synced } else { *appended };
        match twin {
            Twin::InSync => disk.min(*acked),
            Twin::Absent | Twin::Tail { .. } | Twin::CatchingUp { .. } | Twin::Lagging => disk,
        }
    }

    /// The last position appended in this reign; on a passive server, taken.
    pub fn last(&self) -> Stamp {
        self.known.latest().unwrap_or(Stamp { epoch: self.epoch, seq: Seq::ZERO })
    }

    /// Whether the twin is in sync with us (active), or we with it (passive).
    pub fn in_sync(&self) -> bool {
        match &self.part {
            Part::Lead { twin, .. } => *twin == Twin::InSync,
            Part::Follow { in_sync, .. } => *in_sync,
        }
    }

    /// Whether the twin takes every entry of ours, be it late: it is in sync, or has been.
    pub fn is_followed(&self) -> bool {
        matches!(self.part, Part::Lead { twin: Twin::InSync | Twin::Lagging, .. })
    }

    /// When the peer's server was last heard, its role, its epoch and whether it serves.
    pub fn heard(&self) -> Option<(Instant, Role, Epoch, bool)> {
        self.heard
    }

    /// Whether a reign in `epoch` may begin here: it is later than any this server has seen.
    pub fn may_lead(&self, epoch: Epoch) -> bool {
        epoch > self.epoch || self.known.latest().is_none()
    }

    /// The reign that is led or followed here; the highest this server has seen.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the store can write.
    pub const fn disk_works(&self) -> bool {
        self.disk_works
    }

    /// Whether the link is up.
    pub fn is_linked(&self) -> bool {
        self.link
    }

    /// Every hot and table record that is not a tombstone: key, class, age, content.
    pub fn records(&self, now: Instant) -> impl Iterator<Item = (&[u8], Class, Duration, &[u8])> {
        self.replica.iter().filter_map(move |(key, kept)| {
            let body = kept.body.as_deref()?;
            Some((key.as_slice(), kept.class, kept.age(now), body))
        })
    }

    /// How many records there are of a kind, tombstones not counted. The kind is the key up to the
    /// first slash, with it. Kept all the time: asking costs nothing.
    pub fn count(&self, kind: &[u8]) -> usize {
        self.replica.count(kind)
    }

    /// The content of one record.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.replica.get(key)?.body.as_deref()
    }

    /// The age and the content of one record.
    pub fn find(&self, now: Instant, key: &[u8]) -> Option<(Duration, &[u8])> {
        let kept = self.replica.get(key)?;
        Some((kept.age(now), kept.body.as_deref()?))
    }

    /// Whether this server serves phones; told to the peer with every tick, and at once when it
    /// changes.
    pub fn set_serving(&mut self, now: Instant, serving: bool) {
        if self.serving != serving {
            self.serving = serving;
            self.tick(now);
        }
    }

    /// Sends something to the layer above on the other server. False where there is no link.
    pub fn send_aside(&mut self, bytes: Vec<u8>) -> bool {
        if self.link {
            self.outputs.push_back(Output::Send(Frame::Aside(bytes)));
        }
        self.link
    }

    /// The link came up.
    pub fn handle_link_up(&mut self, now: Instant) {
        self.link = true;
        self.forget_twin("the twin's server came back");
        if self.role() == Role::Passive {
            self.hello();
        }
        self.tick(now);
    }

    /// The link went down.
    pub fn handle_link_down(&mut self) {
        self.sync_what_we_held();
        self.link = false;
        self.heard = None;
        self.pace.forget();
        self.forget_twin("the link to the twin is down");
    }

    /// The store cannot write, or can again.
    pub fn handle_disk(&mut self, works: bool) {
        self.disk_works = works;
        self.ask_if_stored();
        self.outputs.push_back(Output::Committed);
    }

    /// Everything up to this ticket is in the store.
    pub fn handle_stored(&mut self, ticket: u64) {
        self.fresh.stored(ticket);
        self.pace.stored(ticket);
        self.ask_if_stored();
        let later = self.storing.split_off(&(ticket + 1));
        let stored = core::mem::replace(&mut self.storing, later);
        // A write that is synced takes all before it along; one that is not may still be lost.
        let last = stored.into_values().rev().find(|(_, synced)| *synced);
        if let (Part::Lead { synced, .. }, Some((seq, _))) = (&mut self.part, last) {
            *synced = (*synced).max(seq);
            self.settle();
        }
    }

    /// The store found records damaged that these entries wrote (`None`: any may have), and does not have them
    /// any more: the next catch-up brings what the twin has. Of the reign that is led here that begins with the
    /// next start: until then its positions go on.
    pub fn handle_damaged(&mut self, damaged: &[Option<Stamp>]) {
        let led = match self.part {
            Part::Lead { .. } => Some(self.epoch),
            Part::Follow { .. } => None,
        };
        for stamp in damaged {
            match stamp {
                Some(stamp) if Some(stamp.epoch) == led => {}
                Some(stamp) => self.known.doubt(*stamp),
                None => self.known.doubt_all(led),
            }
        }
    }

    /// Takes one frame of the peer.
    pub fn handle_frame(&mut self, now: Instant, frame: Frame) {
        match frame {
            Frame::Hello { seat, .. } if seat == self.seat => {
                self.outputs.push_back(Output::SameSeat);
            }
            Frame::Hello { role, epoch, known, .. } => self.take_hello(role, epoch, known),
            Frame::Join { epoch, join, known } => self.take_join(epoch, join, known),
            Frame::Records { join, records } if join == self.join => {
                self.take_records(now, records);
            }
            Frame::More { join } if join == self.join => self.send_chunk(now),
            Frame::TailDone { join } if join == self.join => self.take_tail_done(now),
            Frame::CaughtUp { join, known } if join == self.join => self.take_caught_up(&known),
            Frame::Entry(entry) => self.take_entry(now, entry),
            Frame::Ack(stamp) if stamp.epoch == self.epoch => self.take_ack(stamp.seq),
            Frame::Tick { role, epoch, serving } => {
                self.heard = Some((now, role, epoch, serving));
                self.twin_is_back();
            }
            Frame::Aside(bytes) => self.outputs.push_back(Output::Aside(bytes)),
            // Of another catch-up or reign: the peer will hear of ours, or we of its.
            Frame::Records { .. }
            | Frame::More { .. }
            | Frame::TailDone { .. }
            | Frame::CaughtUp { .. }
            | Frame::Ack(_) => {}
        }
    }

    /// When to call [`Journal::handle_timeout`].
    pub fn next_timeout(&self) -> Instant {
        let waits = match &self.part {
            Part::Lead { waiting, .. } => waiting.front().map(|(_, since)| *since + ACK_WAIT),
            Part::Follow { .. } => None,
        };
        let asked = self.asked.map(|asked| asked + FETCH_WAIT);
        [waits, asked, self.pace.next_timeout()]
            .into_iter()
            .flatten()
            .fold(self.next_tick, Instant::min)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick <= now {
            self.tick(now);
        }
        self.ask_again(now);
        self.ask_if_late(now);
        if let Part::Lead { twin, waiting, overdue, appended, acked, .. } = &mut self.part {
            let mut late = false;
            while let Some((seq, since)) = waiting.front()
                && *since + ACK_WAIT <= now
            {
                late |= *seq > *acked;
                *overdue = *seq;
                waiting.pop_front();
            }
            if late && *twin == Twin::InSync && *acked != *appended {
                self.sync_what_the_twin_held();
                if let Part::Lead { twin, .. } = &mut self.part {
                    *twin = Twin::Lagging;
                }
                self.protect("the twin acknowledges too late");
            }
            if late {
                self.outputs.push_back(Output::Committed);
            }
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        // One acknowledgement for all entries of a burst.
        if let Part::Follow { unacked, .. } = &mut self.part
            && let Some(stamp) = unacked.take()
        {
            return Some(Output::Send(Frame::Ack(stamp)));
        }
        None
    }

    fn role(&self) -> Role {
        match self.part {
            Part::Lead { .. } => Role::Active,
            Part::Follow { .. } => Role::Passive,
        }
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        self.notice_silence(now);
        if self.link {
            let (role, epoch, serving) = (self.role(), self.epoch, self.serving);
            self.outputs.push_back(Output::Send(Frame::Tick { role, epoch, serving }));
        }
    }

    /// A twin that says nothing acknowledges nothing either: nobody waits for the next entry to
    /// find out.
    fn notice_silence(&mut self, now: Instant) {
        let silent = self.heard.is_none_or(|(at, ..)| at + TWIN_SILENT <= now);
        if silent && self.link && !self.silent {
            self.sync_what_we_held();
        }
        if silent && matches!(self.part, Part::Lead { twin: Twin::InSync, .. }) {
            self.sync_what_the_twin_held();
            self.silent = true;
            if let Part::Lead { twin, .. } = &mut self.part {
                *twin = Twin::Lagging;
            }
            self.settle();
            self.protect("the twin is silent");
        }
    }

    /// It was silent and is heard again, on the same link: it has all it acknowledged.
    fn twin_is_back(&mut self) {
        if !core::mem::take(&mut self.silent) {
            return;
        }
        if let Part::Lead { twin, acked, appended, .. } = &mut self.part
            && *twin == Twin::Lagging
            && acked == appended
        {
            *twin = Twin::InSync;
            self.protect("the twin is heard again and has everything");
        }
    }

    fn hello(&mut self) {
        if self.link {
            self.outputs.push_back(Output::Send(Frame::Hello {
                seat: self.seat,
                role: self.role(),
                epoch: self.epoch,
                known: self.known.clone(),
            }));
        }
    }

    fn store(&mut self, write: Write, sync: bool) -> u64 {
        self.ticket += 1;
        let ticket = self.ticket;
        self.outputs.push_back(Output::Store { write, sync, ticket });
        ticket
    }

    /// The twin is not to be relied on any more: what was promised because it was in its memory must
    /// now be on our disk.
    fn sync_what_the_twin_held(&mut self) {
        if let Part::Lead { twin: Twin::InSync, appended, .. } = &self.part {
            let appended = *appended;
            let ticket = self.store(Write::Learn(self.known.clone()), true);
            self.storing.insert(ticket, (appended, true));
        }
    }

    /// As above, on the passive server: the active one may be gone, and with it the other copy of what it
    /// promised because it was in our memory. In the middle of a catch-up, too: it may have to go on with that.
    fn sync_what_we_held(&mut self) {
        let Part::Follow { in_sync, joining, .. } = &self.part else { return };
        if *in_sync || joining.is_some() {
            self.silent = true;
            self.store(Write::Learn(self.known.clone()), true);
        }
    }

    fn forget_twin(&mut self, why: &'static str) {
        self.forget_read();
        self.sync_what_the_twin_held();
        self.silent = false;
        match &mut self.part {
            Part::Lead { twin, .. } => {
                *twin = Twin::Absent;
                self.settle();
                self.protect(why);
            }
            // Whether we are in sync stays as it was: what the active server committed while it
            // called itself protected is here, also when it died together with the link.
            Part::Follow { joining, tail, unacked, .. } => {
                (*joining, *tail, *unacked) = (None, None, None);
            }
        }
    }

    /// Says so when protection changed.
    fn protect(&mut self, why: &'static str) {
        let protected = self.role() == Role::Active && self.in_sync();
        if protected != self.protected {
            self.protected = protected;
            self.outputs.push_back(Output::Protection { protected, why });
        }
    }

    /// Entries that are committed wait no longer.
    fn settle(&mut self) {
        let done = self.hot_committed();
        if let Part::Lead { waiting, .. } = &mut self.part {
            while waiting.front().is_some_and(|(seq, _)| *seq <= done) {
                waiting.pop_front();
            }
        }
        self.outputs.push_back(Output::Committed);
    }

    fn take_entry(&mut self, now: Instant, entry: Entry) {
        if entry.stamp.epoch != self.epoch {
            return;
        }
        let Part::Follow { joining, in_sync, unacked, .. } = &mut self.part else { return };
        if let Some(named) = joining {
            named.extend(entry.ops.iter().map(|op| op.key.clone()));
        } else if !*in_sync {
            return;
        } else if !self.known.is_next(entry.stamp) {
            // A frame was lost on the way, which the link should not do: join again.
            self.part = follow();
            self.hello();
            return;
        }
        for op in entry.ops.iter().filter(|op| op.class == Class::Table) {
            self.outputs.push_back(Output::Changed(op.key.clone()));
        }
        self.replica.apply(now, &entry);
        if *in_sync {
            *unacked = Some(entry.stamp);
            self.known.learn(entry.stamp);
            let sync = entry.is_durable();
            self.fresh.note(now, self.ticket + 1, &entry);
            self.store(Write::Entry(entry), sync);
        } else {
            self.store_without_learning(now, entry);
        }
    }

    fn take_ack(&mut self, seq: Seq) {
        if let Part::Lead { twin, acked, appended, .. } = &mut self.part {
            *acked = seq.max(*acked).min(*appended);
            if *twin == Twin::Lagging && *acked == *appended {
                *twin = Twin::InSync;
            }
            self.settle();
            self.protect("the twin has everything");
        }
    }
}

const fn follow() -> Part {
    Part::Follow { joining: None, tail: None, in_sync: false, unacked: None }
}
