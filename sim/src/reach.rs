//! Whom a machine reaches on the phones' network: the gateway, where there is one, and phones. And the rule
//! for the oracle: who reaches neither them nor his twin stops.

use std::net::SocketAddr;

use tandem_keeper::{Input as KeeperInput, PHONES_MAX, Reach, ServerMessage};
use tandem_types::{Duration, Instant};

use crate::network::{Port, Road, Way};
use crate::world::{Event, World};

/// A round without an answer lasts so long.
const ROUND: Duration = Duration::from_millis(100);

/// So often somebody is asked in a round: a lost packet is not a silence.
const QUESTIONS: usize = 3;

/// Pause between two messages of a server that name phones.
const PHONES_PAUSE: Duration = Duration::from_secs(1);

/// An active machine that was well when it lost everybody serves no longer than this: two empty rounds,
/// begun when the twin fell silent.
const ISOLATED_MAX: Duration = Duration::from_millis(1_000);

/// The state of the gateway, and which machine was cut off from everybody.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Surroundings {
    /// The gateway does not answer anybody.
    pub(crate) gateway_down: bool,
    /// The life of each machine's keeper that the gateway has answered: before that its silence proves
    /// nothing.
    answered: [Option<u64>; 2],
    /// Since when this machine, well until then, has reached nobody.
    isolated: Option<(usize, Instant)>,
}

impl World {
    /// Asks gateway and phones; the answer comes later.
    pub(crate) fn ask_reach(&mut self, at: usize, life: u64, phones: &[SocketAddr]) {
        let there = self.rules.gateway;
        let gateway = there.then(|| !self.surroundings.gateway_down && self.answers(at));
        if gateway == Some(true) {
            self.surroundings.answered[at] = Some(life);
        }
        let answered = phones.iter().filter(|_| self.answers(at)).count();
        let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        let (phones_asked, phones_answered) = (count(phones.len()), count(answered));
        let complete = gateway != Some(false) && phones_asked == phones_answered;
        let wait = if complete { self.network.weather.longest() * 2 } else { ROUND };
        let input = KeeperInput::Reach(Reach { gateway, phones_asked, phones_answered });
        self.plan(wait, Event::ToKeeper { at, life, input });
    }

    /// Whether somebody on the phones' network answers a machine.
    fn answers(&mut self, at: usize) -> bool {
        let ports = [Way::Out, Way::In].map(|way| Port { machine: at, road: Road::Lan, way });
        (0..QUESTIONS).any(|_| self.network.carry(&ports) != [None; 2])
    }

    /// A server names a few phones to its keeper from time to time.
    pub(crate) fn name_phones(&mut self, at: usize, local: Instant) {
        if !self.rules.gateway {
            return;
        }
        let Some(process) = &mut self.machines[at].server else { return };
        if process.next_phones <= local {
            process.next_phones = local + PHONES_PAUSE;
            let phones = process.node.phones(local, PHONES_MAX);
            self.tell_keeper(at, ServerMessage::Phones(phones));
        }
    }

    /// The gateway is gone (true) or back.
    pub fn stop_gateway(&mut self, gone: bool) {
        self.surroundings.gateway_down = gone;
    }

    /// Something befell a machine or the network: whoever was cut off may be so no longer, or be unable
    /// to notice.
    pub(crate) fn forget_isolation(&mut self) {
        self.surroundings.isolated = None;
    }

    /// A cut is about to be made. `well`: everything was whole before.
    pub(crate) fn note_isolation(&mut self, at: usize, well: bool) {
        let cut = |way| !self.network.is_open(Port { machine: at, road: Road::Lan, way });
        let phones = cut(Way::Out) && cut(Way::In);
        let twin = [Road::Heartbeat, Road::Link]
            .iter()
            .all(|road| !self.network.passes(0, *road) && !self.network.passes(1, *road));
        let keeper = self.machines[at].keeper.as_ref().map(|keeper| keeper.life);
        let known = keeper.is_some() && self.surroundings.answered[at] == keeper;
        if well && phones && twin && known && self.serves(at) {
            self.surroundings.isolated = Some((at, self.now));
        }
    }

    /// Whether somebody serves although he was cut off from everybody long ago.
    pub(crate) fn watch_isolation(&mut self) {
        let Some((at, since)) = self.surroundings.isolated else { return };
        if since + ISOLATED_MAX < self.now {
            self.surroundings.isolated = None;
            self.oracle.seen.isolated += 1;
            if self.serves(at) {
                let seat = self.machines[at].seat;
                let what = format!("the {seat} serves although it reaches nobody");
                self.oracle.broken(self.now, &what);
            }
        }
    }
}
