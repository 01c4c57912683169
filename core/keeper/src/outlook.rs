//! What would happen if something died now: the row of the table that would apply, and how long it
//! takes.
//!
//! Reckoned from what one machine knows of both. It promises nothing that the table does not say; what
//! it cannot know (whether phones still reach a machine) it says as a condition.

use serde::{Deserialize, Serialize};
use tandem_pair::{Event as Case, Server, State, find};
use tandem_types::{Duration, Role, Seat};

use crate::status::Status;

/// What might happen to the pair.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfortune {
    /// The server process of the active machine dies.
    ServerDies,
    /// The active machine dies, or all its networks.
    MachineDies,
    /// All connections between the two machines are cut, and nothing else.
    CutBetween,
}

/// What would follow.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outlook {
    /// If this happened now.
    pub misfortune: Misfortune,
    /// Who would serve then; `None`: nobody, until something comes back.
    pub serves: Option<Seat>,
    /// How long nobody would serve, without disk, kernel and server; `None`: until something comes back.
    pub after_ms: Option<u64>,
    /// The sentence of the table, or why nothing takes over.
    pub why: String,
    /// Something that was promised would be lost.
    pub loses: bool,
}

/// The machine that is not active, as far as is known here.
struct Successor {
    seat: Seat,
    fit: bool,
    whole: bool,
    /// Why it could not serve.
    hindrance: Option<&'static str>,
}

impl Status {
    /// What would happen if something died now. Nothing where nobody is active.
    pub fn outlooks(&self) -> Vec<Outlook> {
        let Some(next) = self.successor() else { return Vec::new() };
        vec![self.if_server_dies(&next), self.if_machine_dies(&next), self.if_cut(&next)]
    }

    /// The seat that is active, as far as is known here.
    pub fn active_seat(&self) -> Option<Seat> {
        let twins = self.twin.as_ref().is_some_and(|twin| twin.heard && twin.role == Role::Active);
        match self.role {
            Role::Active => Some(self.seat),
            Role::Passive => twins.then(|| self.seat.other()),
        }
    }

    fn successor(&self) -> Option<Successor> {
        let seat = self.active_seat()?.other();
        if seat == self.seat {
            let up = self.services.first().is_some_and(|server| server.up_ms.is_some());
            let hindrance = hindrance(self.locked, self.carrier, up);
            return Some(Successor { seat, fit: self.fit, whole: self.whole, hindrance });
        }
        Some(match &self.twin {
            Some(twin) if twin.heard => Successor {
                seat,
                fit: twin.fit,
                whole: twin.whole,
                hindrance: hindrance(twin.locked, twin.carrier, twin.server == Server::Up),
            },
            Some(_) | None => Successor {
                seat,
                fit: false,
                whole: false,
                hindrance: Some("its keeper is not heard here"),
            },
        })
    }

    fn nobody(misfortune: Misfortune, next: &Successor, then: &str) -> Outlook {
        let why = next.hindrance.unwrap_or("its disk or address refused of late");
        let why = format!("nothing would take over, because of the {}: {why}; {then}", next.seat);
        Outlook { misfortune, serves: None, after_ms: None, why, loses: false }
    }

    fn if_server_dies(&self, next: &Successor) -> Outlook {
        let misfortune = Misfortune::ServerDies;
        if !next.fit {
            let then = if self.is_active_locked() {
                "the server starts again, but the maintenance lock of its machine keeps it from leading"
            } else {
                "the server starts again on its own machine, with what is on that disk"
            };
            return Self::nobody(misfortune, next, then);
        }
        let (case, after) = if next.whole {
            // The keeper tells: no time-out is waited for.
            (Case::TwinDown, Duration::ZERO)
        } else {
            (Case::TwinOverdue, self.timings.revive)
        };
        Outlook {
            misfortune,
            serves: Some(next.seat),
            after_ms: Some(millis(after)),
            why: find(State::Passive, case, next.seat).why.into(),
            loses: !next.whole,
        }
    }

    fn if_machine_dies(&self, next: &Successor) -> Outlook {
        let misfortune = Misfortune::MachineDies;
        if !next.fit {
            let then = "phones are without service until a machine comes back";
            return Self::nobody(misfortune, next, then);
        }
        let asked = if self.probe { self.timings.probe } else { Duration::ZERO };
        Outlook {
            misfortune,
            serves: Some(next.seat),
            after_ms: Some(millis(self.timings.silence + asked)),
            why: self.voted(next.seat, find(State::Probing, Case::ProbeQuiet, next.seat).why),
            loses: !next.whole,
        }
    }

    fn is_active_locked(&self) -> bool {
        match self.role {
            Role::Active => self.locked,
            Role::Passive => self.twin.as_ref().is_some_and(|twin| twin.locked),
        }
    }

    /// The sentence, with its condition where two of three votes are needed and one voter is gone.
    fn voted(&self, seat: Seat, why: &str) -> String {
        match self.votes {
            Some(_) => format!("{why}; if the third voter gives its vote to the {seat}"),
            None => why.into(),
        }
    }

    fn if_cut(&self, next: &Successor) -> Outlook {
        let misfortune = Misfortune::CutBetween;
        let active = next.seat.other();
        let stays = |why: &str| Outlook {
            misfortune,
            serves: Some(active),
            after_ms: Some(0),
            why: self.voted(active, why),
            loses: false,
        };
        if !next.fit {
            return stays(find(State::Active, Case::Silent, active).why);
        }
        if self.probe {
            let why = find(State::Probing, Case::ProbeAnswered, next.seat).why;
            return stays(&format!(
                "as long as the {} reaches the virtual address: {why}",
                next.seat
            ));
        }
        let why = "both would serve until they hear each other again: there is no virtual address on a \
                   network at which the other one could ask";
        stays(why)
    }
}

fn hindrance(locked: bool, carrier: bool, up: bool) -> Option<&'static str> {
    match (locked, carrier, up) {
        (true, _, _) => Some("its maintenance lock is on"),
        (false, false, _) => Some("its network is gone"),
        (false, true, false) => Some("its server is not up"),
        (false, true, true) => None,
    }
}

fn millis(long: Duration) -> u64 {
    u64::try_from(long.as_millis()).unwrap_or(u64::MAX)
}
