//! The policy: who does what when. Read it top to bottom; nothing else decides.
//!
//! A row says: in one of the states `from`, on one of the events `on`, a server with one of `seats`
//! goes to `to` (or stays), because of `why`. The table is total and every case has exactly one row
//! (checked while compiling), so the order of rows means nothing. `docs/internals/pair.md` is printed
//! from it.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_types::Seat;

/// What this server is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Just started, or just woke up from a sleep: does not know yet who serves, so it listens.
    Cold,
    /// Does not serve. Follows the twin where that serves.
    Passive,
    /// All is silent: asking whether anybody still answers at the virtual address.
    Probing,
    /// Nobody serves: the new reign is being written to disk. Nothing is told or claimed before.
    Claiming,
    /// Serves. Its reign is on disk.
    Active,
    /// Told to hand over: lets its server finish, then waits for the twin to serve.
    Yielding,
    /// Would serve but must not: its network, disk or address refuses.
    Stopped,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Cold,
        Self::Passive,
        Self::Probing,
        Self::Claiming,
        Self::Active,
        Self::Yielding,
        Self::Stopped,
    ];

    /// Whether a server in this state neither serves nor is about to.
    pub const fn is_idle(self) -> bool {
        match self {
            Self::Cold | Self::Passive | Self::Probing | Self::Stopped => true,
            Self::Claiming | Self::Active | Self::Yielding => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cold => "cold",
            Self::Passive => "passive",
            Self::Probing => "probing",
            Self::Claiming => "claiming",
            Self::Active => "active",
            Self::Yielding => "yielding",
            Self::Stopped => "stopped",
        })
    }
}

/// What can happen to us, or what can be the case. "Fit" means: its server is up, its network is
/// there, its disk takes the epoch, and no maintenance lock is set.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// This process was held up longer than its lease.
    Slept,
    /// The epoch of our next reign is on disk.
    EpochSaved,
    /// The epoch could not be put on disk.
    EpochNotSaved,
    /// The virtual address could not be taken.
    ClaimFailed,
    /// Somebody answers at the virtual address.
    ProbeAnswered,
    /// Nobody answered at the virtual address, or there is none to ask at.
    ProbeQuiet,
    /// As `ProbeQuiet`, and the third voter has not given us its vote.
    Unvoted,
    /// The administrator orders a switchover and the twin can take it.
    SwitchOrdered,
    /// The twin did not take over in time.
    YieldExpired,
    /// What stopped us is over.
    Recovered,

    /// Our server is not up.
    ServerDown,
    /// Our own network is gone, and the twin is silent or able to take over; or nobody at all is reached.
    Cut,
    /// Neither the twin nor the third voter votes for us.
    NoMajority,
    /// Nobody is known to serve, and we are not fit.
    NotFit,
    /// The twin is not heard, and it is too early to call that silence.
    Unjudged,

    /// A heartbeat says the twin serves.
    TwinServes,
    /// Both serve, and by the healing rule the twin is the one to stay.
    RivalStronger,
    /// Both serve, and by the healing rule we are the one to stay.
    RivalWeaker,
    /// Both serve, and the twin does not hear us yet.
    RivalDeaf,
    /// The twin is about to serve.
    TwinClaims,
    /// The twin hands over and its server has stopped serving.
    TwinYielded,
    /// The twin does not serve while we do, or are about to.
    TwinFollows,
    /// Both are cold.
    BothCold,
    /// Neither serves, both are fit, and we know more of what was going on, or reigned last.
    WeLead,
    /// Neither serves, both are fit, and the twin knows more, or reigned last.
    TwinLeads,
    /// The twin is there and not fit, and we know as much as it does.
    TwinDown,
    /// The twin is there and not fit, but knows more than we do and has time left to come back.
    TwinReviving,
    /// As `TwinReviving`, and its time is over.
    TwinOverdue,

    /// The twin's keeper is silent, yet the journal link is alive and does not say that its server
    /// has stopped serving.
    LinkServes,
    /// The twin's keeper is silent, and its server says on the journal link that it does not serve.
    LinkIdle,
    /// Both serve: the twin's keeper is silent or does not hear us, but the link says that its
    /// server serves, in a later reign.
    RivalLinked,
    /// Keeper and journal link are both silent.
    Silent,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 32] = [
        Self::Slept,
        Self::EpochSaved,
        Self::EpochNotSaved,
        Self::ClaimFailed,
        Self::ProbeAnswered,
        Self::ProbeQuiet,
        Self::Unvoted,
        Self::SwitchOrdered,
        Self::YieldExpired,
        Self::Recovered,
        Self::ServerDown,
        Self::Cut,
        Self::NoMajority,
        Self::NotFit,
        Self::Unjudged,
        Self::TwinServes,
        Self::RivalStronger,
        Self::RivalWeaker,
        Self::RivalDeaf,
        Self::TwinClaims,
        Self::TwinYielded,
        Self::TwinFollows,
        Self::BothCold,
        Self::WeLead,
        Self::TwinLeads,
        Self::TwinDown,
        Self::TwinReviving,
        Self::TwinOverdue,
        Self::LinkServes,
        Self::LinkIdle,
        Self::RivalLinked,
        Self::Silent,
    ];
}

/// One rule.
#[derive(Debug)]
pub struct Row {
    /// States the rule is for.
    pub from: &'static [State],
    /// Events the rule is for.
    pub on: &'static [Event],
    /// Seats the rule is for.
    pub seats: &'static [Seat],
    /// State after; `None`: the state stays.
    pub to: Option<State>,
    /// Shown in the log, in `tandem status` and in the diagram.
    pub why: &'static str,
}

const fn go(
    from: &'static [State],
    on: &'static [Event],
    seats: &'static [Seat],
    to: State,
    why: &'static str,
) -> Row {
    Row { from, on, seats, to: Some(to), why }
}

const fn stay(
    from: &'static [State],
    on: &'static [Event],
    seats: &'static [Seat],
    why: &'static str,
) -> Row {
    Row { from, on, seats, to: None, why }
}

const BOTH: &[Seat] = &[Seat::Master, Seat::Standby];
const MASTER: &[Seat] = &[Seat::Master];
const STANDBY: &[Seat] = &[Seat::Standby];

#[allow(clippy::enum_glob_use)] // the table is read by people
use Event::*;
use State::{Active, Claiming, Cold, Passive, Probing, Stopped, Yielding};

/// Every rule. For each state, event and seat there is exactly one row, so order does not matter.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // Ourselves.
    go(&[Passive, Probing, Claiming, Active, Yielding, Stopped], &[Slept], BOTH, Cold,
        "this machine slept or stalled longer than its lease: the twin may serve by now, so it listens before it speaks"),
    stay(&[Cold], &[Slept], BOTH,
        "slept while listening: listens afresh"),
    go(&[Claiming, Active, Yielding], &[ServerDown], BOTH, Passive,
        "our server is down: whoever holds the calls takes over, and our server restarts"),
    go(&[Claiming, Active, Yielding], &[Cut], BOTH, Stopped,
        "nobody can reach this server (no carrier, or neither twin nor gateway nor phones are reached): it must not believe that it serves"),
    go(&[Claiming, Active, Yielding], &[NoMajority], BOTH, Passive,
        "neither the twin nor the third voter votes for this server: without a majority it does not serve"),
    go(&[Probing], &[NotFit], BOTH, Passive,
        "this server can not lead at the moment"),
    stay(&[Cold, Passive, Stopped], &[NotFit], BOTH,
        "nobody is known to serve, but this server can not lead at the moment"),
    go(&[Stopped], &[Recovered], BOTH, Passive,
        "what stopped this server is over"),
    stay(&[Cold, Passive, Probing, Claiming, Active, Yielding, Stopped], &[Unjudged], BOTH,
        "the twin is not heard, but it is too early to call that silence"),

    // The claim.
    go(&[Claiming], &[EpochSaved], BOTH, Active,
        "the reign is on disk"),
    go(&[Claiming], &[EpochNotSaved], BOTH, Stopped,
        "the epoch could not be saved: without it on disk it could be used twice, so no reign begins"),
    stay(&[Active], &[EpochNotSaved], BOTH,
        "the later epoch could not be saved: the present reign goes on and it is tried again"),
    go(&[Active], &[ClaimFailed], BOTH, Stopped,
        "the virtual address could not be claimed: phones can not reach this server"),
    stay(&[Active], &[EpochSaved], BOTH,
        "contact was back with an epoch in between: a later reign, so that the twin follows"),
    stay(&[Cold, Passive, Probing, Yielding, Stopped], &[EpochSaved, EpochNotSaved], BOTH,
        "a claim that was given up waits for no disk"),
    stay(&[Cold, Passive, Probing, Claiming, Yielding, Stopped], &[ClaimFailed], BOTH,
        "the address is not wanted any more"),

    // The twin serves.
    go(&[Cold, Probing, Claiming, Stopped], &[TwinServes], BOTH, Passive,
        "the twin serves"),
    go(&[Yielding], &[TwinServes], BOTH, Passive,
        "handed over: the twin serves"),
    stay(&[Passive], &[TwinServes], BOTH,
        "the twin serves"),
    go(&[Probing], &[TwinClaims], BOTH, Passive,
        "the twin is about to serve"),
    stay(&[Cold, Passive, Stopped, Yielding], &[TwinClaims], BOTH,
        "the twin is about to serve"),
    stay(&[Claiming], &[TwinClaims], MASTER,
        "both are about to serve: the master goes on"),
    go(&[Claiming], &[TwinClaims], STANDBY, Passive,
        "both were about to serve: the master goes on"),
    stay(&[Active], &[TwinClaims], BOTH,
        "the twin is about to serve and will hear that we do"),

    // Both serve: contact is back after a cut.
    go(&[Active], &[RivalStronger], BOTH, Passive,
        "contact is back, both served: by the healing rule the twin stays active"),
    stay(&[Active], &[RivalWeaker], BOTH,
        "contact is back, both served: by the healing rule this server stays active"),
    stay(&[Active], &[RivalDeaf], BOTH,
        "the twin serves too and does not hear us: it must hear us before either can judge"),

    go(&[Active], &[RivalLinked], BOTH, Passive,
        "the journal link says that the twin serves in a later reign: the earlier reign ends"),

    // We serve, the twin does not.
    stay(&[Active], &[TwinFollows], BOTH,
        "serving; the twin is there"),
    stay(&[Claiming], &[TwinFollows], BOTH,
        "about to serve; the twin is there"),
    stay(&[Yielding], &[TwinFollows], BOTH,
        "waiting for the twin to take over"),
    stay(&[Active], &[Silent, LinkIdle], BOTH,
        "serving alone: the twin is gone"),
    stay(&[Active], &[LinkServes], BOTH,
        "serving; the keeper of the twin is silent, its server is linked"),
    stay(&[Claiming], &[Silent, LinkIdle], BOTH,
        "about to serve; the twin is gone"),

    // Neither serves.
    go(&[Cold], &[BothCold], MASTER, Claiming,
        "cold start: the master leads"),
    stay(&[Cold], &[BothCold], STANDBY,
        "cold start: the master will lead"),
    go(&[Cold, Passive, Probing], &[WeLead], BOTH, Claiming,
        "nobody serves, and this server knows most or reigned last"),
    go(&[Probing], &[TwinLeads], BOTH, Passive,
        "nobody serves: the twin knows most or reigned last and will lead"),
    stay(&[Cold, Passive], &[TwinLeads], BOTH,
        "nobody serves: the twin knows most or reigned last and will lead"),
    go(&[Cold, Passive, Probing], &[TwinDown], BOTH, Claiming,
        "the twin can not serve at the moment, and we know all it knew"),
    go(&[Probing], &[TwinReviving], BOTH, Passive,
        "the twin can not serve at the moment, but holds what we lack: it has time to come back"),
    stay(&[Cold, Passive], &[TwinReviving], BOTH,
        "the twin can not serve at the moment, but holds what we lack: it has time to come back"),
    go(&[Cold, Passive, Probing], &[TwinOverdue], BOTH, Claiming,
        "the twin knows more but did not come back in time: some state is better than no service"),

    // The twin's keeper is silent.
    go(&[Cold, Probing, Claiming], &[LinkServes], BOTH, Passive,
        "the keeper of the twin is silent, but its server is linked: one silent path promotes nobody"),
    stay(&[Passive, Stopped], &[LinkServes], BOTH,
        "the keeper of the twin is silent, but its server is linked: one silent path promotes nobody"),
    go(&[Cold, Passive, Probing], &[LinkIdle], BOTH, Claiming,
        "the keeper of the twin is gone, and its server says that it has stopped serving"),
    go(&[Cold, Passive], &[Silent], BOTH, Probing,
        "keeper and journal link of the twin are silent: is anybody at the virtual address?"),
    stay(&[Probing], &[Silent], BOTH,
        "keeper and journal link of the twin are silent: asking at the virtual address"),
    stay(&[Probing], &[ProbeAnswered], BOTH,
        "somebody serves at the virtual address: the twin is cut off from us only"),
    go(&[Probing], &[ProbeQuiet], BOTH, Claiming,
        "the twin is gone: keeper and journal link are silent, and nobody serves at the virtual address"),
    stay(&[Probing], &[Unvoted], BOTH,
        "nobody serves at the virtual address, but the third voter has not given its vote: waits for it"),
    stay(&[Cold, Passive, Claiming, Active, Yielding, Stopped], &[ProbeAnswered, ProbeQuiet, Unvoted], BOTH,
        "an answer to a question that is settled"),

    // Handing over.
    go(&[Active], &[SwitchOrdered], BOTH, Yielding,
        "switchover ordered"),
    stay(&[Cold, Passive, Probing, Claiming, Yielding, Stopped], &[SwitchOrdered], BOTH,
        "not active: nothing to hand over"),
    go(&[Passive, Probing], &[TwinYielded], BOTH, Claiming,
        "the twin handed over"),
    stay(&[Cold, Claiming, Active, Stopped], &[TwinYielded], BOTH,
        "the twin hands over"),
    go(&[Yielding], &[TwinYielded], MASTER, Claiming,
        "both handed over: the master leads"),
    go(&[Yielding], &[TwinYielded], STANDBY, Passive,
        "both handed over: the master leads"),
    go(&[Yielding], &[LinkIdle], BOTH, Claiming,
        "the twin went silent during the switchover: this server goes on in a new reign"),
    go(&[Yielding], &[Silent], BOTH, Probing,
        "the twin went silent during the switchover: does it serve at the virtual address?"),
    go(&[Yielding], &[LinkServes], BOTH, Passive,
        "handed over: the server of the twin is linked and serves"),
    go(&[Yielding], &[YieldExpired], BOTH, Claiming,
        "the twin did not take over in time: this server goes on in a new reign"),
    stay(&[Cold, Passive, Probing, Claiming, Active, Stopped], &[YieldExpired], BOTH,
        "not handing over"),

    // Cases that the question "what is the case?" (situation.rs) never raises in these states.
    stay(&[Cold, Passive, Probing, Stopped], &[ServerDown, Cut, NoMajority, TwinFollows], BOTH,
        "asked of a server that serves only"),
    stay(&[Claiming, Active, Yielding], &[NotFit], BOTH,
        "asked of a server that does not serve only"),
    stay(&[Cold, Passive, Probing, Claiming, Active, Yielding], &[Recovered], BOTH,
        "asked of a stopped server only"),
    stay(&[Active], &[TwinServes], BOTH,
        "a twin that serves while we do is a rival"),
    stay(&[Cold, Passive, Probing, Claiming, Yielding, Stopped],
        &[RivalStronger, RivalWeaker, RivalDeaf, RivalLinked], BOTH,
        "a server that does not serve has no rival"),
    stay(&[Passive, Probing, Claiming, Active, Yielding, Stopped], &[BothCold], BOTH,
        "not cold"),
    stay(&[Claiming, Active, Yielding, Stopped],
        &[WeLead, TwinLeads, TwinDown, TwinReviving, TwinOverdue], BOTH,
        "asked of a server that could begin to serve only"),
    stay(&[Stopped], &[LinkIdle, Silent], BOTH,
        "a stopped server is not fit, whoever else is silent"),
];

/// The one row for this state, event and seat.
pub const fn find(from: State, on: Event, seat: Seat) -> &'static Row {
    let mut index = 0;
    while index < ROWS.len() {
        if covers(&ROWS[index], from, on, seat) {
            return &ROWS[index];
        }
        index += 1;
    }
    // Unreachable: the constant below does not compile if the table has a hole.
    &ROWS[0]
}

/// Whether the row is for this case.
const fn covers(row: &Row, from: State, on: Event, seat: Seat) -> bool {
    let (mut state, mut event, mut place) = (false, false, false);
    let mut index = 0;
    while index < row.from.len() {
        state |= row.from[index] as u8 == from as u8;
        index += 1;
    }
    index = 0;
    while index < row.on.len() {
        event |= row.on[index] as u8 == on as u8;
        index += 1;
    }
    index = 0;
    while index < row.seats.len() {
        place |= row.seats[index] as u8 == seat as u8;
        index += 1;
    }
    state && event && place
}

/// The proof that the table is total and that the order of its rows means nothing. In tests
/// `every_case_has_exactly_one_row` proves the same, and names the case.
#[cfg(not(test))]
const _: () = {
    let mut case = 0;
    while case < State::ALL.len() * Event::ALL.len() * Seat::ALL.len() {
        let seat = Seat::ALL[case % Seat::ALL.len()];
        let on = Event::ALL[case / Seat::ALL.len() % Event::ALL.len()];
        let from = State::ALL[case / Seat::ALL.len() / Event::ALL.len()];
        assert!(count(from, on, seat) == 1, "a case has no row, or two: cargo test names it");
        case += 1;
    }
};

/// How many rows there are for a case.
const fn count(from: State, on: Event, seat: Seat) -> usize {
    let (mut found, mut index) = (0, 0);
    while index < ROWS.len() {
        if covers(&ROWS[index], from, on, seat) {
            found += 1;
        }
        index += 1;
    }
    found
}

#[test]
fn every_case_has_exactly_one_row() {
    let mut cases = 0;
    for from in State::ALL {
        for on in Event::ALL {
            for seat in Seat::ALL {
                assert_eq!(count(from, on, seat), 1, "{from:?} + {on:?} as {seat}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 7 * 32 * 2);
}
