//! A telephone: logs in, calls, rings, answers, talks, holds, hangs up, over UDP.
//!
//! ```text
//!            ┌ login.rs        REGISTER, again before it runs out
//!   orders ─>│ talk.rs         calls: the dialogs of RFC 3261 §12 to §15
//! datagrams ─┤ transaction.rs  repeats and matches messages, RFC 3261 §17
//!            └ message.rs      builds them
//! ```
//!
//! A phone must be able to catch the server in a mistake, so it shares nothing with it but parsing
//! and printing; its transactions and dialogs are its own, and stricter than most phones': what the
//! protocol forbids the server becomes a [`News::Complaint`].

mod login;
mod message;
mod talk;
mod transaction;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use tandem_sip::digest::Challenge;
use tandem_sip::{Carrier, Limits, Message};
use tandem_types::{Dice, Duration, Instant};

use login::Login;
use talk::Talk;
use transaction::{Client, ClientKey, Server, ServerKey};

/// What a phone is given by its owner.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose phone it is: the login name.
    pub user: String,
    /// The owner's password.
    pub password: String,
    /// Which of the owner's phones: `ben`, `ben-2`.
    pub device: String,
    /// The domain of the users.
    pub realm: String,
    /// The phone's own address.
    pub address: SocketAddr,
    /// Where the server is.
    pub server: SocketAddr,
    /// Seconds that a login is asked for.
    pub expires: u32,
    /// Whether it sends a proof of identity before it is asked, with the last nonce.
    pub eager: bool,
}

/// What the owner does by habit.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Answers a ringing phone after so many milliseconds, from and to; `None`: when told.
    pub answer_millis: Option<(u64, u64)>,
    /// Refuses instead, of a hundred calls.
    pub busy_percent: u64,
    /// Hangs up after so many milliseconds of talk; `None`: when told.
    pub talk_millis: Option<(u64, u64)>,
    /// Gives up after so many milliseconds without an answer; `None`: when told.
    pub patience_millis: Option<(u64, u64)>,
    /// Puts the other side on hold once, of a hundred calls.
    pub hold_percent: u64,
}

impl Habits {
    /// Does nothing unless told.
    pub const PATIENT: Self = Self {
        answer_millis: None,
        busy_percent: 0,
        talk_millis: None,
        patience_millis: None,
        hold_percent: 0,
    };
}

/// What a phone did or noticed. `call` is the number that the caller gave the call; it travels with
/// the INVITE.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are named as the sentence that is printed")]
pub enum News {
    /// The login holds.
    LoggedIn { seconds: u32 },
    /// Not logged in; 408: no answer.
    LoginFailed { status: u16 },
    /// Began to call.
    Calls { call: u32, to: String },
    /// 100.
    HearsTrying { call: u32 },
    /// 180 or 183, first one for this tag.
    HearsRinging { call: u32, tag: Vec<u8> },
    /// 2xx; `device` answered.
    HearsAnswer { call: u32, device: String },
    /// The call was refused.
    HearsRefusal { call: u32, status: u16 },
    /// No final answer at all.
    HearsNothing { call: u32 },
    /// The owner gave up before an answer.
    GivesUp { call: u32 },
    /// Rings.
    Rings { call: u32 },
    /// The caller gave up or another phone answered.
    StopsRinging { call: u32 },
    /// The owner answered.
    PicksUp { call: u32 },
    /// The owner refused.
    Refuses { call: u32, status: u16 },
    /// ACK: the caller heard the answer.
    HearsAck { call: u32 },
    /// No ACK came for 32 seconds.
    HearsNoAck { call: u32 },
    /// The owner hung up.
    HangsUp { call: u32 },
    /// The answer to that; 408: none.
    HangUpAnswered { call: u32, status: u16 },
    /// The other side hung up.
    IsHungUp { call: u32 },
    /// Puts the other side on hold.
    Holds { call: u32 },
    /// The answer to that; 408: none.
    HoldAnswered { call: u32, status: u16 },
    /// Was put on hold.
    IsHeld { call: u32 },
    /// Was asked whether the call is still up.
    IsAsked { call: u32 },
    /// The server broke the protocol.
    Complaint(String),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedIn { seconds } => write!(f, "is logged in for {seconds} s"),
            Self::LoginFailed { status } => write!(f, "could not log in: {status}"),
            Self::Calls { call, to } => write!(f, "calls {to} (call {call})"),
            Self::HearsTrying { call } => write!(f, "hears 100 (call {call})"),
            Self::HearsRinging { call, .. } => write!(f, "hears it ring (call {call})"),
            Self::HearsAnswer { call, device } => write!(f, "talks to {device} (call {call})"),
            Self::HearsRefusal { call, status } => write!(f, "is refused: {status} (call {call})"),
            Self::HearsNothing { call } => write!(f, "got no answer at all (call {call})"),
            Self::GivesUp { call } => write!(f, "gives up (call {call})"),
            Self::Rings { call } => write!(f, "rings (call {call})"),
            Self::StopsRinging { call } => write!(f, "stops ringing (call {call})"),
            Self::PicksUp { call } => write!(f, "picks up (call {call})"),
            Self::Refuses { call, status } => write!(f, "refuses with {status} (call {call})"),
            Self::HearsAck { call } => write!(f, "is acknowledged (call {call})"),
            Self::HearsNoAck { call } => write!(f, "was never acknowledged (call {call})"),
            Self::HangsUp { call } => write!(f, "hangs up (call {call})"),
            Self::HangUpAnswered { call, status } => {
                write!(f, "has hung up: {status} (call {call})")
            }
            Self::IsHungUp { call } => write!(f, "is hung up (call {call})"),
            Self::Holds { call } => write!(f, "holds (call {call})"),
            Self::HoldAnswered { call, status } => write!(f, "held: {status} (call {call})"),
            Self::IsHeld { call } => write!(f, "is held (call {call})"),
            Self::IsAsked { call } => write!(f, "is asked if it is still there (call {call})"),
            Self::Complaint(what) => write!(f, "COMPLAINS: {what}"),
        }
    }
}

/// One telephone.
#[derive(Debug)]
pub struct Phone {
    config: Config,
    /// What its owner does by habit; may be changed at any time.
    pub habits: Habits,
    dice: Dice,
    login: Login,
    clients: BTreeMap<ClientKey, Client>,
    servers: BTreeMap<ServerKey, Server>,
    talks: BTreeMap<u32, Talk>,
    /// The last question who we are, and how often it was answered.
    challenge: Option<(Challenge, u32)>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    news: VecDeque<News>,
    /// What was repeated, by this phone or to it; where it is the answer to an INVITE, of which call.
    repeated: Vec<(Option<u32>, String)>,
}

impl Phone {
    /// Switched on; does nothing until told.
    pub fn new(config: Config, habits: Habits, mut dice: Dice) -> Self {
        let login = Login::new(&mut dice);
        Self {
            config,
            habits,
            dice,
            login,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            talks: BTreeMap::new(),
            challenge: None,
            transmits: VecDeque::new(),
            news: VecDeque::new(),
            repeated: Vec::new(),
        }
    }

    /// What it was given.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        match Message::parse(bytes, Carrier::Datagram, &Limits::default()) {
            Ok(Message::Request(request)) => self.take_request(now, from, request),
            Ok(Message::Response(response)) => self.take_response(now, response),
            Err(error) => self.complain(format!("not a SIP message: {error}")),
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.run_clients(now);
        self.run_servers(now);
        self.run_login(now);
        self.run_talks(now);
    }

    /// When to call [`Phone::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let clients = self.clients.values().map(Client::next_timeout);
        let servers = self.servers.values().map(Server::next_timeout);
        let talks = self.talks.values().filter_map(Talk::next_timeout);
        clients.chain(servers).chain(talks).chain(self.login.next_timeout()).min()
    }

    /// The next datagram to send, and where.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// What this phone repeated or heard again since the last time.
    pub(crate) fn take_repeated(&mut self) -> Vec<(Option<u32>, String)> {
        core::mem::take(&mut self.repeated)
    }

    fn tell(&mut self, news: News) {
        self.news.push_back(news);
    }

    fn complain(&mut self, what: String) {
        self.tell(News::Complaint(what));
    }

    fn pick(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(from + self.dice.below(to.saturating_sub(from) + 1))
    }
}
