//! Brings two logs together, both ways at once: who lacks what, in which order, and how much at a time.
//!
//! ```text
//!   link up ──> Hello (what is here of each origin, with its chain)
//!   Hello   ──> Compare ──> the same past: Begin ──> Read ──> Ops ... Ops, WINDOW bytes ahead of Taken
//!                      └──> another past of one origin: Chains ──> its owner finds where the ways
//!                           part and goes on under a new name from there (Rename) ──> Hello
//!   Ops     ──> Take (to disk) ──> Taken
//! ```
//!
//! A database that was put back (a backup, a snapshot of its machine) lacks ops of its own that the other
//! one has. Until it has them again it writes nothing ([`Sync::may_write`]): their numbers are given. Where
//! it has written meanwhile, nobody can take both; so what it wrote since gets a new name and is merged
//! like anything else that was written apart.
//!
//! What one lacks and the other does not keep any more comes with a copy of everything; see [`Message::AskCopy`].
//!
//! A server of the version before greets without [`ABLE_VERSION`] and is told nothing that it does not know.
//!
//! Invariant: every message rests on what is on the disk of its sender.

use std::collections::VecDeque;

use crate::check::Check;
use crate::copy::{CopyHeader, CopyPart, Getting, Giving, Progress, Staged};
use crate::fact::Fact;
use crate::message::{ABLE_VERSION, Message};
use crate::op::{Chain, Op, OpId, Origin, Seen};

/// Ops are read and sent in parts of so many bytes, or of one op that is longer.
pub const PART_BYTES: usize = 256 * 1024;

/// So many bytes are sent ahead of what the other one has on disk.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Parts that wait together are written together, until they are so many bytes.
pub const TAKE_BYTES: usize = 1024 * 1024;

/// So many chains of one origin are told, the newest.
pub const CHAINS_MAX: usize = 20_000;

/// What the caller must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send to the other one.
    Send(Message),
    /// Compare with our log; answer by [`Sync::handle_compared`].
    Compare {
        /// Comes back with the answer: one to an exchange that is over means nothing.
        round: u64,
        /// What the other one has.
        heads: Vec<(OpId, Chain)>,
    },
    /// Find where in our log begins what `lacking` does not have; answer by [`Sync::handle_begin`].
    Begin {
        /// As above.
        round: u64,
        /// What the other one has.
        lacking: Seen,
    },
    /// Read on from there, [`PART_BYTES`]; answer by [`Sync::handle_page`].
    Read {
        /// As above.
        round: u64,
        /// The position after which to read.
        after: i64,
        /// What to leave out.
        lacking: Seen,
    },
    /// Write to disk; answer by [`Sync::handle_here`] when it is there.
    Take(Vec<Vec<u8>>),
    /// Read the chains of an origin up to this one, the newest [`CHAINS_MAX`]; send them as
    /// [`Message::Chains`].
    TellChains(OpId),
    /// Find the last of our own ops with one of these chains, and give all later ones of ours a new
    /// name; then call [`Sync::handle_renamed`].
    Rename(Vec<(u64, Chain)>),
    /// What is here of a copy? Answer by [`Sync::handle_staged`].
    FindStaged {
        /// As above.
        round: u64,
    },
    /// Open a copy of what is here now, and skip of it what the other one has already, if it is the same;
    /// answer by [`Sync::handle_copy_opened`].
    OpenCopy {
        /// As above.
        round: u64,
        /// What the other one has.
        staged: Staged,
    },
    /// Read its next part; answer by [`Sync::handle_copy_read`].
    ReadCopy {
        /// As above.
        round: u64,
    },
    /// A copy begins to come in. Throw away what is here of one, unless it is `from`.
    StageBegin {
        /// Of what.
        header: CopyHeader,
        /// What was here and is gone on with.
        from: Staged,
    },
    /// Write a part of it to disk; answer by [`Sync::handle_part_staged`].
    Stage(CopyPart),
    /// All parts are there: join them with what is here; answer by [`Sync::handle_joined`].
    Join,
    /// The other one asks what time it is: answer by [`Sync::tell_clock`].
    TellClock(u64),
    /// What it says it is: number of the question, milliseconds since 1970.
    Clock(u64, u64),
    /// Read the digests of all tables and send them: a check begins.
    BeginCheck,
    /// Answer this.
    Check(Check),
    /// For the log, and for whoever watches.
    Fact(Fact),
}

/// Where in the log to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// After this position.
    After(i64),
    /// Nothing is lacking.
    Nothing,
    /// What is lacking is not kept any more.
    Pruned,
}

/// Our log beside the one of the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compared {
    /// The same, or one of us has more and as far as both go it is the same.
    Same,
    /// Two pasts.
    Differs,
    /// It is so old that nothing is known of it any more.
    Unknown,
}

/// The other one.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    origin: Origin,
    /// On its disk.
    pub(crate) has: Seen,
    /// And what is on the way to it.
    told: Seen,
    /// Our log is read up to here.
    position: Option<i64>,
    reading: bool,
    more: bool,
    /// Parts on the way: the last op of each, and its bytes.
    sent: VecDeque<(OpId, usize)>,
    /// It has told us ops of ours that we lack: up to this one.
    ours: u64,
    /// Both had the same once; from then on each change follows at once.
    equal: bool,
    /// See [`ABLE_VERSION`].
    pub(crate) able: u32,
    /// It lacks what is not kept here any more.
    pub(crate) pruned: bool,
    /// We lack what is not kept there any more.
    pub(crate) too_old: bool,
    pub(crate) giving: Option<Giving>,
    pub(crate) getting: Option<Getting>,
}

/// A [`Message::Hello`] that is being compared.
#[derive(Clone, Debug)]
struct Greeting {
    origin: Origin,
    heads: Vec<(OpId, Chain)>,
    able: u32,
    /// What came after it.
    ops: Vec<Vec<u8>>,
    too_old: bool,
}

/// The exchange with the other server, as one value.
#[derive(Debug)]
pub struct Sync {
    me: Origin,
    /// On our disk.
    pub(crate) here: Seen,
    chains: Vec<(OpId, Chain)>,
    link: bool,
    /// What the other one has was compared with what is here, on this link.
    compared: bool,
    pub(crate) round: u64,
    greeting: Option<Greeting>,
    pub(crate) peer: Option<Peer>,
    pub(crate) outputs: VecDeque<Output>,
    #[cfg(feature = "sabotage")]
    writes_always: bool,
}

impl Sync {
    /// With what our log holds.
    pub fn new(me: Origin, heads: Vec<(OpId, Chain)>) -> Self {
        let here = heads.iter().map(|(id, _)| *id).collect();
        Self {
            me,
            here,
            chains: heads,
            link: false,
            compared: false,
            round: 0,
            greeting: None,
            peer: None,
            outputs: VecDeque::new(),
            #[cfg(feature = "sabotage")]
            writes_always: false,
        }
    }

    /// Writes although numbers may be given; for the test that proves that this is noticed.
    #[cfg(feature = "sabotage")]
    pub fn write_always(&mut self) {
        self.writes_always = true;
    }

    /// Whether a change may be written: no op of ours is missing here, as far as anybody we could ask has
    /// said. A number is given once.
    pub fn may_write(&self) -> bool {
        #[cfg(feature = "sabotage")]
        if self.writes_always {
            return true;
        }
        let lacks = |peer: &Peer| peer.ours > self.here.up_to(self.me);
        (self.compared || !self.link) && !self.peer.as_ref().is_some_and(lacks)
    }

    /// Whether what the other one has was compared with what is here, on this link.
    pub const fn is_compared(&self) -> bool {
        self.compared
    }

    /// What the other one has on its disk, as far as it has said so; `None` without it.
    pub fn there(&self) -> Option<&Seen> {
        self.peer.as_ref().map(|peer| &peer.has)
    }

    /// As [`Sync::there`], once both had the same on this link. Before, the other one may find out that some
    /// of what it named are other ops than ours, and give them a new name.
    pub fn agreed(&self) -> Option<&Seen> {
        self.peer.as_ref().filter(|peer| peer.equal).map(|peer| &peer.has)
    }

    /// How many ops the other one lacks, as far as it has said; `None` without it.
    pub fn behind(&self) -> Option<u64> {
        let peer = self.peer.as_ref()?;
        Some(self.here.iter().map(|id| id.number.saturating_sub(peer.has.up_to(id.origin))).sum())
    }

    /// How far a copy of everything is, where one is under way. One that goes out is told first.
    pub fn progress(&self) -> Option<Progress> {
        let peer = self.peer.as_ref()?;
        let giving = peer.giving.as_ref().filter(|giving| giving.opened);
        let giving = giving.map(|giving| (false, giving.done, giving.total));
        let getting = peer.getting.as_ref().map(|getting| (true, getting.done, getting.total));
        let (here, done, total) = giving.or(getting)?;
        Some(Progress { here, done, total })
    }

    /// Whether a copy goes out: what was opened for it is needed.
    pub fn is_giving(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.giving.is_some())
    }

    /// Whether the other one understands copies, checks and clocks.
    pub fn is_able(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.able >= ABLE_VERSION)
    }

    /// Whether both have the same ops, as far as the other one has said.
    pub fn is_equal(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.has == self.here)
    }

    /// The two compare their rows now, if both have the same ops; false where they have not.
    pub fn begin_check(&mut self) -> bool {
        let begins = self.is_able() && self.is_equal();
        if begins {
            self.outputs.push_back(Output::BeginCheck);
        }
        begins
    }

    /// Of two who begin at the same time this one stands back.
    pub fn stands_back(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.origin < self.me)
    }

    /// A part of a check goes to the other one.
    pub fn tell_check(&mut self, check: Check) {
        if self.is_able() {
            self.send(Message::Check(check));
        }
    }

    /// Asks the other one for the time.
    pub fn ask_clock(&mut self, number: u64) {
        if self.is_able() {
            self.send(Message::AskClock(number));
        }
    }

    /// Answers [`Output::TellClock`]; milliseconds since 1970.
    pub fn tell_clock(&mut self, number: u64, wall_millis: u64) {
        if self.is_able() {
            self.send(Message::Clock(number, wall_millis));
        }
    }

    /// The link is there.
    pub fn handle_link_up(&mut self) {
        self.link = true;
        self.compared = false;
        self.forget();
        self.hello(false);
    }

    /// Something went wrong on the way or on the disk: the exchange begins anew, on the same link.
    pub fn restart(&mut self) {
        self.link = true;
        self.compared = false;
        self.forget();
        self.hello(true);
    }

    /// The link is gone.
    pub fn handle_link_down(&mut self) {
        self.link = false;
        self.forget();
    }

    /// Ops are on disk here, ours or taken; with what stands for each origin now.
    pub fn handle_here(&mut self, heads: Vec<(OpId, Chain)>) {
        self.here = heads.iter().map(|(id, _)| *id).collect();
        self.chains = heads;
        if let Some(peer) = &mut self.peer {
            peer.more = true;
            // It may have been lacking more than we had then.
            if peer.position.is_some() {
                self.read();
            }
            self.judge_equal();
        }
    }

    /// [`Output::Rename`] is done: we are `me` from now on.
    pub fn handle_renamed(&mut self, me: Origin, heads: Vec<(OpId, Chain)>) {
        self.me = me;
        self.here = heads.iter().map(|(id, _)| *id).collect();
        self.chains = heads;
        self.forget();
        self.hello(true);
    }

    /// Takes a message of the other one.
    pub fn handle_message(&mut self, message: Message) {
        match message {
            Message::Hello { origin, heads, anew, able } => {
                self.forget();
                if anew {
                    self.hello(false);
                }
                let round = self.round;
                self.outputs.push_back(Output::Compare { round, heads: heads.clone() });
                let (ops, too_old) = (Vec::new(), false);
                self.greeting = Some(Greeting { origin, heads, able, ops, too_old });
            }
            Message::Ops(ops) => match &mut self.greeting {
                Some(greeting) => greeting.ops.extend(ops),
                None if self.peer.is_some() => {
                    self.learn(&ops);
                    self.take(ops);
                }
                // Of an exchange that has no future: our histories differ.
                None => {}
            },
            Message::Taken(seen) => self.taken(&seen),
            Message::Chains { origin, chains } if origin == self.me => {
                self.outputs.push_back(Output::Rename(chains));
            }
            Message::Chains { .. } => {}
            Message::AskChains(origin) => {
                let all = OpId { origin, number: u64::MAX };
                self.outputs.push_back(Output::TellChains(all));
            }
            Message::TooOld => match (&mut self.greeting, &mut self.peer) {
                (Some(greeting), _) => greeting.too_old = true,
                (None, Some(peer)) => {
                    peer.too_old = true;
                    self.judge_too_old();
                }
                (None, None) => {}
            },
            Message::AskCopy(staged) => self.give(staged),
            Message::CopyBegin { header, from } => self.copy_begins(header, from),
            Message::CopyPart(part) => {
                if self.getting().is_some() {
                    self.outputs.push_back(Output::Stage(part));
                }
            }
            Message::CopyGot(number) => self.copy_got(number),
            Message::CopyEnd => {
                if self.getting().is_some() {
                    self.outputs.push_back(Output::Join);
                }
            }
            Message::AskClock(number) => self.outputs.push_back(Output::TellClock(number)),
            Message::Clock(number, wall) => self.outputs.push_back(Output::Clock(number, wall)),
            Message::Check(check) => {
                if self.peer.is_some() {
                    self.outputs.push_back(Output::Check(check));
                }
            }
        }
    }

    /// What is on disk here is told to the other one: call it when [`Output::Take`] is done, after
    /// [`Sync::handle_here`].
    pub fn handle_taken(&mut self) {
        if self.peer.is_some() {
            self.send(Message::Taken(self.here.clone()));
        }
    }

    /// Answers [`Output::Compare`]: one word for each, in that order.
    pub fn handle_compared(&mut self, round: u64, compared: &[Compared]) {
        if round != self.round {
            return;
        }
        let Some(Greeting { origin, heads, able, ops, too_old }) = self.greeting.take() else {
            return;
        };
        if origin == self.me {
            // Two who write under one name would each take the other's work for their own. Until both have
            // another one nothing is exchanged, and nothing is written.
            self.fact(Fact::Copied);
            self.send(Message::AskChains(origin));
            return;
        }
        self.compared = true;
        // One that knows less of its own work than we do, and so old that nobody can tell whether it has
        // written since, is taken for one that has.
        let differs = heads.iter().zip(compared).find(|((id, _), what)| match what {
            Compared::Same => false,
            Compared::Differs => true,
            Compared::Unknown => id.origin == origin,
        });
        if let Some(((id, _), _)) = differs {
            if id.origin == self.me {
                self.send(Message::AskChains(id.origin));
            } else if id.origin == origin {
                self.outputs.push_back(Output::TellChains(*id));
            } else {
                self.fact(Fact::TwoPasts(id.origin));
            }
            return;
        }
        let has: Seen = heads.iter().map(|(id, _)| *id).collect();
        let (ours, here) = (has.up_to(self.me), self.here.up_to(self.me));
        if ours > here {
            self.fact(Fact::PutBack { here, there: ours });
        }
        let early = ops.clone();
        if !ops.is_empty() {
            self.outputs.push_back(Output::Take(ops));
        }
        self.outputs.push_back(Output::Begin { round, lacking: has.clone() });
        self.peer = Some(Peer {
            origin,
            told: has.clone(),
            has,
            position: None,
            reading: false,
            more: true,
            sent: VecDeque::new(),
            ours,
            equal: false,
            able,
            pruned: false,
            too_old,
            giving: None,
            getting: None,
        });
        self.learn(&early);
        self.judge_equal();
        self.judge_too_old();
    }

    /// Answers [`Output::Begin`]; `end` is the position of the last op of our log.
    pub fn handle_begin(&mut self, round: u64, start: Start, end: i64) {
        let Some(peer) = self.peer.as_mut().filter(|_| round == self.round) else { return };
        match start {
            Start::After(position) => peer.position = Some(position),
            Start::Nothing => peer.position = Some(end),
            Start::Pruned => {
                peer.pruned = true;
                // It asks for a copy, if it knows how to.
                let asks = peer.able >= ABLE_VERSION;
                self.send(Message::TooOld);
                if !asks {
                    self.fact(Fact::TooOld { here: false });
                }
                return self.judge_too_old();
            }
        }
        self.read();
    }

    /// Answers [`Output::Read`]: the ops, where to go on, whether there may be more.
    pub fn handle_page(&mut self, round: u64, ops: Vec<(OpId, Vec<u8>)>, next: i64, more: bool) {
        let Some(peer) = self.peer.as_mut().filter(|_| round == self.round) else { return };
        peer.reading = false;
        peer.position = Some(next);
        peer.more |= more;
        let Some((last, _)) = ops.last() else { return self.read() };
        let bytes = ops.iter().map(|(_, bytes)| bytes.len()).sum();
        peer.sent.push_back((*last, bytes));
        ops.iter().for_each(|(id, _)| peer.told.learn(*id));
        self.send(Message::Ops(ops.into_iter().map(|(_, bytes)| bytes).collect()));
        self.read();
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn hello(&mut self, anew: bool) {
        let (origin, heads, able) = (self.me, self.chains.clone(), ABLE_VERSION);
        self.send(Message::Hello { origin, heads, anew, able });
    }

    pub(crate) fn send(&mut self, message: Message) {
        if self.link {
            self.outputs.push_back(Output::Send(message));
        }
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }

    /// The exchange is over; answers to what it asked mean nothing.
    fn forget(&mut self) {
        self.round += 1;
        (self.peer, self.greeting) = (None, None);
    }

    /// What the other one sends is on its disk: it need not be sent back.
    fn learn(&mut self, ops: &[Vec<u8>]) {
        let Some(peer) = &mut self.peer else { return };
        for id in ops.iter().filter_map(|op| Op::id_of(op)) {
            peer.has.learn(id);
            peer.told.learn(id);
        }
    }

    /// What waits to be written already goes to disk together with it.
    fn take(&mut self, ops: Vec<Vec<u8>>) {
        let length = |ops: &[Vec<u8>]| ops.iter().map(Vec::len).sum::<usize>();
        match self.outputs.back_mut() {
            Some(Output::Take(waiting)) if length(waiting) < TAKE_BYTES => waiting.extend(ops),
            Some(_) | None => self.outputs.push_back(Output::Take(ops)),
        }
    }

    fn taken(&mut self, seen: &Seen) {
        let Some(peer) = &mut self.peer else { return };
        for id in seen.iter() {
            peer.has.learn(id);
            // What it took from elsewhere need not be sent.
            peer.told.learn(id);
        }
        while peer.sent.front().is_some_and(|(id, _)| peer.has.has(*id)) {
            peer.sent.pop_front();
        }
        self.read();
        self.judge_equal();
        self.judge_too_old();
    }

    /// Reads on where there is something, nothing is being read, and the window has room.
    fn read(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        let on_the_way: usize = peer.sent.iter().map(|(_, bytes)| bytes).sum();
        let Some(after) = peer.position else { return };
        if peer.reading || !peer.more || on_the_way >= WINDOW_BYTES {
            return;
        }
        (peer.reading, peer.more) = (true, false);
        let (round, lacking) = (self.round, peer.told.clone());
        self.outputs.push_back(Output::Read { round, after, lacking });
    }

    fn judge_equal(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        if !peer.equal && peer.has == self.here {
            peer.equal = true;
            self.fact(Fact::Equal);
        }
    }
}
