//! Virtual addresses on one interface: what is sent, heard and changed there.
//!
//! Three sockets of packets, so that none does two jobs: one sends announcements and hears nothing, one
//! asks and hears ARP, one asks and hears neighbour advertisements.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::frames::{self, HardwareAddress};
use super::macvlan::{self, Macvlan};
use super::netlink::{self, Interface, Ipv4Setting, Netlink};
use super::packet::PacketSocket;
use super::{Claimant, MAX_ADDRESSES, MAX_ANSWERS, Prefixed, Refused};

/// The addresses of one server on one interface.
#[derive(Debug)]
pub(super) struct OnInterface {
    interface: Interface,
    /// Where the addresses have a hardware address of their own.
    macvlan: Option<Macvlan>,
    addresses: Vec<Prefixed>,
    netlink: Netlink,
    /// All three are missing where there is nobody to tell (a tunnel, the loopback interface), the
    /// others also where there is no address of their kind.
    announcer: Option<PacketSocket>,
    arp: Option<PacketSocket>,
    ndp: Option<PacketSocket>,
    announcements: Vec<Vec<u8>>,
    probes: Vec<Probe>,
}

/// An Ethernet frame with the socket it goes out by.
#[derive(Debug)]
enum Probe {
    Arp(Vec<u8>),
    Ndp(Vec<u8>),
}

impl OnInterface {
    pub(super) fn open(
        name: &str,
        addresses: &[Prefixed],
        hardware: Option<HardwareAddress>,
    ) -> Result<Self, Refused> {
        assert!(addresses.len() <= MAX_ADDRESSES, "more virtual addresses than the limit");
        let (mut netlink, interface) = lookup(name)?;
        // Where the machine's own address came after a virtual one of the same network, it would be
        // removed together with that. Most distributions set this; who may not set it cannot claim.
        let _ = netlink.set_ipv4(interface.index, &[(Ipv4Setting::PromoteSecondaries, 1)]);
        // A wire that is back is often quicker than its switch: the first question by ARP is lost, the
        // next one follows after a second, and nothing is sent until then, heartbeats neither.
        let _ = netlink.set_ipv4(interface.index, &[(Ipv4Setting::ArpEvictNoCarrier, 0)]);
        let macvlan = match hardware {
            Some(hardware) => Some(Macvlan::open(&interface, hardware)?),
            None => None,
        };
        let mut it = Self {
            interface,
            macvlan,
            addresses: addresses.to_vec(),
            netlink,
            announcer: None,
            arp: None,
            ndp: None,
            announcements: Vec::new(),
            probes: Vec::new(),
        };
        if let Some(hardware) = it.interface.hardware {
            it.prepare(hardware)?;
        }
        Ok(it)
    }

    fn prepare(&mut self, hardware: HardwareAddress) -> Result<(), Refused> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let home = self.home();
        let (announced, index) = (home.hardware.unwrap_or(hardware), home.index);
        for prefixed in &self.addresses {
            match prefixed.address {
                IpAddr::V4(address) => {
                    v4.push(address);
                    let request = frames::gratuitous_arp_request(announced, address);
                    let reply = frames::gratuitous_arp_reply(announced, address);
                    self.announcements.extend([request, reply]);
                    self.probes.push(Probe::Arp(frames::arp_probe(hardware, address)));
                }
                IpAddr::V6(address) => {
                    v6.push(address);
                    self.announcements.push(frames::neighbour_advertisement(announced, address));
                    let solicitation = frames::neighbour_solicitation(hardware, address);
                    self.probes.push(Probe::Ndp(solicitation));
                }
            }
        }
        let refused = |error| self.refused("listen", error);
        let announcer = PacketSocket::announcer(index).map_err(refused)?;
        let index = self.interface.index;
        let arp = PacketSocket::arp(index, &v4).map_err(refused)?;
        let ndp = PacketSocket::ndp(index, &v6).map_err(refused)?;
        self.announcer = Some(announcer);
        self.arp = (!v4.is_empty()).then_some(arp);
        self.ndp = (!v6.is_empty()).then_some(ndp);
        Ok(())
    }

    fn refused(&self, what: &str, error: io::Error) -> Refused {
        Refused::new(format!("{what} on {}", self.interface.name), error, "CAP_NET_RAW")
    }

    /// The interface that carries the addresses.
    fn home(&self) -> &Interface {
        self.macvlan.as_ref().map_or(&self.interface, Macvlan::interface)
    }

    pub(super) fn claim(&mut self) -> Result<(), Refused> {
        let up = self.macvlan.as_mut().map_or(Ok(()), Macvlan::up);
        let (home, metric) = (self.home().clone(), self.metric());
        up.and(put_all(&mut self.netlink, &home, &self.addresses, metric))
    }

    pub(super) fn release(&mut self) -> Result<(), Refused> {
        let home = self.home().clone();
        delete_all(&mut self.netlink, &home, &self.addresses)
    }

    fn metric(&self) -> Option<u32> {
        self.macvlan.is_some().then_some(LAST_METRIC)
    }

    pub(super) fn renewal(&self) -> Result<Renewal, Refused> {
        let interface = self.home().clone();
        let netlink = Netlink::open(0).map_err(|error| {
            Refused::new(format!("renew addresses on {}", interface.name), error, "CAP_NET_ADMIN")
        })?;
        let (addresses, metric) = (self.addresses.clone(), self.metric());
        Ok(Renewal { netlink, interface, addresses, metric })
    }

    pub(super) fn announce(&self) -> Result<(), Refused> {
        let Some(announcer) = &self.announcer else { return Ok(()) };
        let mut outcome = Ok(());
        for frame in &self.announcements {
            outcome = outcome.and(announcer.send(frame));
        }
        outcome.map_err(|error| self.refused("announce the virtual addresses", error))
    }

    pub(super) fn probe(&self) -> Result<(), Refused> {
        let mut outcome = Ok(());
        for probe in &self.probes {
            let (socket, frame) = match probe {
                Probe::Arp(frame) => (&self.arp, frame),
                Probe::Ndp(frame) => (&self.ndp, frame),
            };
            let Some(socket) = socket else { continue };
            outcome = outcome.and(socket.send(frame));
        }
        outcome.map_err(|error| self.refused("ask for the virtual addresses", error))
    }

    pub(super) fn answers(&self) -> Result<Vec<Claimant>, Refused> {
        let mut claimants = Vec::new();
        for (socket, parse) in [
            (&self.arp, frames::arp_sender as fn(&[u8]) -> Option<(IpAddr, HardwareAddress)>),
            (&self.ndp, frames::advertised),
        ] {
            let Some(socket) = socket else { continue };
            for _ in 0..MAX_ANSWERS / 2 {
                let mut frame = [0; frames::MAX_FRAME_BYTES];
                let length =
                    socket.receive(&mut frame).map_err(|error| self.refused("listen", error))?;
                let Some(length) = length else { break };
                let Some((address, hardware)) = parse(&frame[..length]) else { continue };
                let ours = self.addresses.iter().any(|prefixed| prefixed.address == address);
                let own = [self.interface.hardware, self.home().hardware];
                if ours && !own.contains(&Some(hardware)) {
                    claimants.push(Claimant { address, hardware });
                }
            }
        }
        Ok(claimants)
    }

    pub(super) fn held(&mut self) -> Result<Vec<Prefixed>, Refused> {
        let home = self.home().clone();
        let mut held = addresses_of(&mut self.netlink, &home)?;
        held.retain(|listed| self.addresses.contains(&listed.prefixed));
        Ok(held.iter().map(|listed| listed.prefixed).collect())
    }

    pub(super) fn sources(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.arp.as_ref().map(AsFd::as_fd), self.ndp.as_ref().map(AsFd::as_fd)]
    }
}

/// Keeps claimed addresses from lapsing. Apart from the rest, because the kernel makes everybody wait
/// who changes addresses while somebody changes interfaces: a loop with a deadline must not be one.
#[derive(Debug)]
pub struct Renewal {
    netlink: Netlink,
    interface: Interface,
    addresses: Vec<Prefixed>,
    metric: Option<u32>,
}

impl Renewal {
    /// Makes every address stay for another [`LIFETIME`](super::LIFETIME). Only for who holds them: one
    /// that was taken away meanwhile is put back.
    ///
    /// # Errors
    /// The first refusal; the others are renewed all the same.
    pub fn renew(&mut self) -> Result<(), Refused> {
        put_all(&mut self.netlink, &self.interface, &self.addresses, self.metric)
    }
}

impl Renewal {
    /// Switches off what is of no use without the addresses: the interface of their own. Only for who
    /// has released them. Takes some 15 ms, in which nothing else can be done with addresses.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn rest(&mut self) -> Result<(), Refused> {
        if self.metric.is_none() {
            return Ok(());
        }
        self.netlink.set_up(self.interface.index, false).map_err(|error| {
            Refused::new(format!("switch {} off", self.interface.name), error, "CAP_NET_ADMIN")
        })
    }
}

/// The addresses on the interface called `name`, of this server or not.
///
/// # Errors
/// If there is no such interface.
pub fn list(name: &str) -> Result<Vec<Prefixed>, Refused> {
    let (mut netlink, interface) = lookup(name)?;
    let listed = addresses_of(&mut netlink, &interface)?;
    Ok(listed.iter().map(|listed| listed.prefixed).collect())
}

/// Removes those of `addresses` from the interface called `name` that an earlier life left there, and
/// gives them; also the interface on it that had a hardware address for them. Not those that are there for good: somebody else put them there.
///
/// # Errors
/// If there is no such interface, or one could not be removed.
pub fn remove_left_over(name: &str, addresses: &[Prefixed]) -> Result<Vec<Prefixed>, Refused> {
    let (mut netlink, interface) = lookup(name)?;
    macvlan::remove(&mut netlink, interface.index).map_err(|error| {
        let what = format!("remove what an earlier keeper left on {name}");
        Refused::new(what, error, "CAP_NET_ADMIN")
    })?;
    let listed = addresses_of(&mut netlink, &interface)?;
    let left = listed.iter().filter(|it| !it.permanent && addresses.contains(&it.prefixed));
    let left: Vec<Prefixed> = left.map(|it| it.prefixed).collect();
    delete_all(&mut netlink, &interface, &left)?;
    Ok(left)
}

fn put_all(
    netlink: &mut Netlink,
    interface: &Interface,
    addresses: &[Prefixed],
    metric: Option<u32>,
) -> Result<(), Refused> {
    let mut outcome = Ok(());
    for prefixed in addresses {
        outcome =
            outcome.and(netlink.put_address(interface.index, prefixed, metric).map_err(|error| {
                let what = format!("add {prefixed} to {}", interface.name);
                Refused::new(what, error, "CAP_NET_ADMIN")
            }));
    }
    outcome
}

fn delete_all(
    netlink: &mut Netlink,
    interface: &Interface,
    addresses: &[Prefixed],
) -> Result<(), Refused> {
    let mut outcome = Ok(());
    for prefixed in addresses {
        match netlink.delete_address(interface.index, prefixed) {
            Ok(()) | Err(Errno::ADDRNOTAVAIL) => {}
            Err(error) => {
                let what = format!("remove {prefixed} from {}", interface.name);
                outcome = outcome.and(Err(Refused::new(what, error, "CAP_NET_ADMIN")));
            }
        }
    }
    outcome
}

/// Routes that come with addresses on a second interface count less than those of the first.
const LAST_METRIC: u32 = 4_096;

pub(super) fn lookup(name: &str) -> Result<(Netlink, Interface), Refused> {
    let refused = |error: Errno| {
        Refused::new(format!("look up the interface {name}"), error, "CAP_NET_ADMIN")
    };
    let mut netlink = Netlink::open(0).map_err(refused)?;
    let index = netlink::index_of(name).map_err(refused)?;
    let interface = netlink.interface(index).map_err(refused)?;
    Ok((netlink, interface))
}

fn addresses_of(
    netlink: &mut Netlink,
    interface: &Interface,
) -> Result<Vec<netlink::Listed>, Refused> {
    netlink.addresses(interface.index).map_err(|error| {
        Refused::new(format!("list the addresses of {}", interface.name), error, "CAP_NET_ADMIN")
    })
}
