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
//! Invariant: every message rests on what is on the disk of its sender.

use core::fmt;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::op::{Chain, OpId, Origin, Seen};

/// Version of [`Message`]'s encoding: its first byte.
pub const SYNC_VERSION: u8 = 1;

/// Ops are read and sent in parts of so many bytes, or of one op that is longer.
pub const PART_BYTES: usize = 256 * 1024;

/// So many bytes are sent ahead of what the other one has on disk.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// So many chains of one origin are told, the newest.
pub const CHAINS_MAX: usize = 20_000;

/// What the two say to each other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// What is here. Begins the exchange anew.
    Hello {
        /// The speaker in its own log.
        origin: Origin,
        /// The last op of each origin, and what stands for all up to it.
        heads: Vec<(OpId, Chain)>,
        /// The speaker begins anew in the middle of a link: the other one shall too.
        anew: bool,
    },
    /// Ops that the other one lacks, encoded, in an order in which they can be taken.
    Ops(Vec<Vec<u8>>),
    /// All this is on disk here.
    Taken(Seen),
    /// What stands for the ops of one origin up to each of the last, newest first: they are not those
    /// that the other one has.
    Chains {
        /// The origin.
        origin: Origin,
        /// Number and chain.
        chains: Vec<(u64, Chain)>,
    },
    /// [`Message::Chains`] of our own origin, please.
    AskChains(Origin),
    /// What the other one lacks is not in the log here any more.
    TooOld,
}

impl Message {
    /// A version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        postcard::to_extend(self, vec![SYNC_VERSION]).unwrap_or_default()
    }

    /// Reads a message; `None` for another version or bytes that are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&SYNC_VERSION, rest)) => postcard::from_bytes(rest).ok(),
            Some(_) | None => None,
        }
    }
}

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
    /// Read the chains of an origin, the newest [`CHAINS_MAX`]; send them as [`Message::Chains`].
    TellChains(Origin),
    /// Find the last of our own ops with one of these chains, and give all later ones of ours a new
    /// name; then call [`Sync::handle_renamed`].
    Rename(Vec<(u64, Chain)>),
    /// For the log, and for whoever watches.
    Fact(Fact),
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// The other one has ops of ours that we lack: a backup or a snapshot was put back here.
    PutBack {
        /// The last one here.
        here: u64,
        /// The last one there.
        there: u64,
    },
    /// An origin has two pasts, and its owner is neither of us.
    TwoPasts(Origin),
    /// What one of us lacks is not in the log of the other: it needs a copy of everything.
    TooOld {
        /// We are the one.
        here: bool,
    },
    /// Both have the same, for the first time on this link.
    Equal,
}

impl Fact {
    /// Its name in lists of events.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PutBack { .. } => "config_put_back",
            Self::TwoPasts(_) => "config_two_pasts",
            Self::TooOld { .. } => "config_too_old",
            Self::Equal => "config_equal",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBack { here, there } => write!(
                f,
                "an older copy of the configuration was put back here: it has {here} of {there} changes \
                 that were made here; the other server sends the rest"
            ),
            Self::TwoPasts(origin) => {
                write!(
                    f,
                    "the two servers remember different changes of {origin}: nothing is exchanged"
                )
            }
            Self::TooOld { here: true } => f.write_str(
                "what this server lacks of the configuration is not kept by the other one any more",
            ),
            Self::TooOld { here: false } => f.write_str(
                "what the other server lacks of the configuration is not kept here any more",
            ),
            Self::Equal => f.write_str("both servers have the same configuration"),
        }
    }
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
}

/// The other one.
#[derive(Clone, Debug)]
struct Peer {
    /// On its disk.
    has: Seen,
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
}

/// A [`Message::Hello`] that is being compared.
#[derive(Clone, Debug)]
struct Greeting {
    origin: Origin,
    heads: Vec<(OpId, Chain)>,
    /// What came after it.
    ops: Vec<Vec<u8>>,
}

/// The exchange with the other server, as one value.
#[derive(Debug)]
pub struct Sync {
    me: Origin,
    /// On our disk.
    here: Seen,
    chains: Vec<(OpId, Chain)>,
    link: bool,
    /// What the other one has was compared with what is here, on this link.
    compared: bool,
    round: u64,
    greeting: Option<Greeting>,
    peer: Option<Peer>,
    outputs: VecDeque<Output>,
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
        }
    }

    /// Whether a change may be written: no op of ours is missing here, as far as anybody we could ask has
    /// said. A number is given once.
    pub fn may_write(&self) -> bool {
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

    /// How many ops the other one lacks, as far as it has said; `None` without it.
    pub fn behind(&self) -> Option<u64> {
        let peer = self.peer.as_ref()?;
        Some(self.here.iter().map(|id| id.number.saturating_sub(peer.has.up_to(id.origin))).sum())
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
            Message::Hello { origin, heads, anew } => {
                self.forget();
                if anew {
                    self.hello(false);
                }
                let round = self.round;
                self.outputs.push_back(Output::Compare { round, heads: heads.clone() });
                self.greeting = Some(Greeting { origin, heads, ops: Vec::new() });
            }
            Message::Ops(ops) => match &mut self.greeting {
                Some(greeting) => greeting.ops.extend(ops),
                None if self.peer.is_some() => self.outputs.push_back(Output::Take(ops)),
                // Of an exchange that has no future: our histories differ.
                None => {}
            },
            Message::Taken(seen) => self.taken(&seen),
            Message::Chains { origin, chains } if origin == self.me => {
                self.outputs.push_back(Output::Rename(chains));
            }
            Message::Chains { .. } => {}
            Message::AskChains(origin) => self.outputs.push_back(Output::TellChains(origin)),
            Message::TooOld => self.fact(Fact::TooOld { here: true }),
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
        let Some(Greeting { origin, heads, ops }) = self.greeting.take() else { return };
        self.compared = true;
        let differs = heads.iter().zip(compared).find(|(_, what)| **what == Compared::Differs);
        if let Some(((id, _), _)) = differs {
            if id.origin == self.me {
                self.send(Message::AskChains(id.origin));
            } else if id.origin == origin {
                self.outputs.push_back(Output::TellChains(id.origin));
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
        if !ops.is_empty() {
            self.outputs.push_back(Output::Take(ops));
        }
        self.outputs.push_back(Output::Begin { round, lacking: has.clone() });
        self.peer = Some(Peer {
            told: has.clone(),
            has,
            position: None,
            reading: false,
            more: true,
            sent: VecDeque::new(),
            ours,
            equal: false,
        });
        self.judge_equal();
    }

    /// Answers [`Output::Begin`]; `end` is the position of the last op of our log.
    pub fn handle_begin(&mut self, round: u64, start: Start, end: i64) {
        let Some(peer) = self.peer.as_mut().filter(|_| round == self.round) else { return };
        match start {
            Start::After(position) => peer.position = Some(position),
            Start::Nothing => peer.position = Some(end),
            Start::Pruned => {
                self.send(Message::TooOld);
                self.fact(Fact::TooOld { here: false });
                return;
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
        self.send(Message::Hello { origin: self.me, heads: self.chains.clone(), anew });
    }

    fn send(&mut self, message: Message) {
        if self.link {
            self.outputs.push_back(Output::Send(message));
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }

    /// The exchange is over; answers to what it asked mean nothing.
    fn forget(&mut self) {
        self.round += 1;
        (self.peer, self.greeting) = (None, None);
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
