//! Every way a packet can take: which are cut, and what the weather does to those that are not.
//!
//! ```text
//!   machine 0                         machine 1
//!     Out ─ Heartbeat, Link ──────────── In
//!     Out ─ Lan ─┐                 ┌──── In
//!                ├── phones, switch ┤
//!                └── gateway ───────┘
//!     Out ─ Witness ── witness ───────── In
//! ```
//!
//! Each machine has one port for each road and direction. A packet passes when every port on its
//! way is open at the moment it is sent, so a cut may be one-way and may concern the two servers
//! only.

use tandem_types::{Dice, Duration};

/// What connects the machines to each other and to the phones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Road {
    /// From keeper to keeper.
    Heartbeat,
    /// From server to server.
    Link,
    /// To the phones, and for the question at the virtual address.
    Lan,
    /// To the witness, where there is one.
    Witness,
}

impl Road {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Heartbeat, Self::Link, Self::Lan, Self::Witness];

    const fn index(self) -> usize {
        match self {
            Self::Heartbeat => 0,
            Self::Link => 1,
            Self::Lan => 2,
            Self::Witness => 3,
        }
    }
}

/// A direction, as the machine sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Leaves the machine.
    Out,
    /// Comes to the machine.
    In,
}

/// Where a road enters or leaves a machine.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Which machine: 0 the master's, 1 the standby's.
    pub machine: usize,
    /// Which road.
    pub road: Road,
    /// Which direction.
    pub way: Way,
}

/// What the network does to packets by chance.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Packets lost, of a hundred.
    pub loss_percent: u64,
    /// Packets that come twice, of a hundred.
    pub twice_percent: u64,
    /// The shortest way, in microseconds.
    pub delay_micros: u64,
    /// What may come on top of that; later packets overtake earlier ones.
    pub jitter_micros: u64,
}

impl Weather {
    /// A quiet LAN: nothing is lost and nothing overtakes.
    pub const CALM: Self =
        Self { loss_percent: 0, twice_percent: 0, delay_micros: 100, jitter_micros: 0 };

    /// The longest way of a packet that is not lost.
    pub(crate) const fn longest(&self) -> Duration {
        Duration::from_micros(self.delay_micros + self.jitter_micros)
    }
}

/// The state of all roads.
#[derive(Debug)]
pub struct Network {
    /// By machine, road and direction.
    cut: [[[bool; 2]; 4]; 2],
    /// For packets. The reliable link makes delay out of loss.
    pub weather: Weather,
    dice: Dice,
    /// Packets handed in, lost by a cut, lost by chance, doubled.
    pub counts: Counts,
}

/// What happened to packets so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Handed in.
    pub sent: u64,
    /// Lost at a closed port.
    pub cut: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Came twice.
    pub doubled: u64,
}

impl Network {
    /// All ports open.
    pub fn new(weather: Weather, dice: Dice) -> Self {
        Self { cut: Default::default(), weather, dice, counts: Counts::default() }
    }

    /// Closes (true) or opens a port.
    pub fn set_cut(&mut self, port: Port, cut: bool) {
        self.cut[port.machine][port.road.index()][usize::from(port.way == Way::In)] = cut;
    }

    /// Closes or opens both directions.
    pub fn set_cut_both(&mut self, machine: usize, road: Road, cut: bool) {
        for way in [Way::Out, Way::In] {
            self.set_cut(Port { machine, road, way }, cut);
        }
    }

    /// Opens every port.
    pub fn open_all(&mut self) {
        self.cut = Default::default();
    }

    /// Whether a port is open.
    pub fn is_open(&self, port: Port) -> bool {
        !self.cut[port.machine][port.road.index()][usize::from(port.way == Way::In)]
    }

    /// Whether packets pass from machine to machine on this road.
    pub fn passes(&self, from: usize, road: Road) -> bool {
        self.is_open(Port { machine: from, road, way: Way::Out })
            && self.is_open(Port { machine: 1 - from, road, way: Way::In })
    }

    /// When a packet sent now arrives: not at all, once, or twice.
    pub fn carry(&mut self, ports: &[Port]) -> [Option<Duration>; 2] {
        self.counts.sent += 1;
        if !ports.iter().all(|port| self.is_open(*port)) {
            self.counts.cut += 1;
            return [None; 2];
        }
        if self.weather.loss_percent > 0 && self.dice.chance(self.weather.loss_percent) {
            self.counts.lost += 1;
            return [None; 2];
        }
        let once = Some(self.delay());
        if self.weather.twice_percent > 0 && self.dice.chance(self.weather.twice_percent) {
            self.counts.doubled += 1;
            // Only the roads of the keepers go a long way round: an INVITE that comes again half a
            // second after its ACK is remembered by no twin.
            let long = ports.first().is_some_and(|port| match port.road {
                Road::Heartbeat | Road::Witness => true,
                Road::Link | Road::Lan => false,
            });
            let latest = if long { LATE } else { SOON };
            let later = self.dice.below(u64::try_from(latest.as_micros()).unwrap_or(0));
            return [once, Some(self.delay() + Duration::from_micros(later))];
        }
        [once, None]
    }

    /// The delay of one packet.
    pub fn delay(&mut self) -> Duration {
        let Weather { delay_micros, jitter_micros, .. } = self.weather;
        Duration::from_micros(delay_micros + self.dice.below(jitter_micros + 1))
    }

    /// The delay of a frame on the reliable link: a lost packet is sent again.
    pub fn reliable_delay(&mut self) -> Duration {
        let mut delay = self.delay();
        while self.weather.loss_percent > 0 && self.dice.chance(self.weather.loss_percent) {
            delay += RETRANSMISSION;
        }
        delay
    }
}

/// How late the copy of a heartbeat may come.
const LATE: Duration = Duration::from_millis(500);

/// How late the copy of any other packet may come.
const SOON: Duration = Duration::from_millis(20);

/// What a packet lost on the reliable link costs.
const RETRANSMISSION: Duration = Duration::from_millis(15);

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Port = Port { machine: 0, road: Road::Heartbeat, way: Way::Out };
    const IN: Port = Port { machine: 1, road: Road::Heartbeat, way: Way::In };

    #[test]
    fn a_cut_may_be_one_way() {
        let mut net = Network::new(Weather::CALM, Dice::from_number(1));
        net.set_cut(OUT, true);
        assert_eq!(net.carry(&[OUT, IN]), [None; 2]);
        assert!(!net.passes(0, Road::Heartbeat) && net.passes(1, Road::Heartbeat));
        assert!(net.passes(0, Road::Link));
        net.open_all();
        assert!(net.carry(&[OUT, IN])[0].is_some());
        assert_eq!((net.counts.sent, net.counts.cut), (2, 1));
    }

    #[test]
    fn the_weather_loses_doubles_and_reorders() {
        let weather =
            Weather { loss_percent: 20, twice_percent: 20, delay_micros: 100, jitter_micros: 900 };
        let mut net = Network::new(weather, Dice::from_number(2));
        let carried: Vec<_> = (0..1_000).map(|_| net.carry(&[OUT, IN])).collect();
        assert!((100..300).contains(&net.counts.lost), "{:?}", net.counts);
        assert!((80..250).contains(&net.counts.doubled), "{:?}", net.counts);
        let delays: Vec<_> = carried.iter().filter_map(|both| both[0]).collect();
        assert!(delays.iter().all(|d| (100..=1_000).contains(&d.as_micros())));
        assert!(delays.windows(2).any(|two| two[0] > two[1]));
    }
}
