//! Who else is on the network of an interface: the twin, by its hardware address; a gateway, whether it
//! answers. Asked by ARP and neighbour solicitation: what a router answers to whatever its rules for
//! packets are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use super::interface::{OnInterface, lookup};
use super::netlink::{Interface, Netlink};
use super::{Prefixed, Refused};

/// What the kernel knows of an interface's neighbours and routes.
#[derive(Debug)]
pub struct Neighbours {
    netlink: Netlink,
    interface: Interface,
}

impl Neighbours {
    /// Of the interface called `name`. To be opened anew when it is another one.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn on_interface(name: &str) -> Result<Self, Refused> {
        let (netlink, interface) = lookup(name)?;
        Ok(Self { netlink, interface })
    }

    /// The hardware address of who has `address`, if this machine has spoken with him of late.
    pub fn hardware_of(&mut self, address: IpAddr) -> Option<[u8; 6]> {
        self.netlink.neighbour(self.interface.index, address).ok().flatten()
    }

    /// The gateways of the default routes through the interface: one of each kind at most.
    pub fn default_gateways(&mut self) -> Vec<IpAddr> {
        let mut gateway = |to| self.netlink.gateway(self.interface.index, to).ok().flatten();
        [gateway(NOWHERE_V4.into()), gateway(NOWHERE_V6.into())].into_iter().flatten().collect()
    }
}

/// The question whether one neighbour is there.
#[derive(Debug)]
pub struct Question {
    address: IpAddr,
    wire: OnInterface,
}

impl Question {
    /// About `address`, on the interface called `name`. To be opened anew when it is another one.
    ///
    /// # Errors
    /// If there is no such interface, or a capability is missing.
    pub fn open(name: &str, address: IpAddr) -> Result<Self, Refused> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let wire = OnInterface::open(name, &[Prefixed { address, length }], None)?;
        Ok(Self { address, wire })
    }

    /// Whom it is about.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Asks once. Nothing is sent on an interface that is down, which is as good as no answer.
    pub fn ask(&self) {
        let _ = self.wire.probe();
    }

    /// Whether he has let himself be heard since the last call.
    pub fn answered(&self) -> bool {
        self.wire.answers().is_ok_and(|answers| !answers.is_empty())
    }

    /// Readable when [`Question::answered`] may have something.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.wire.sources().into_iter().flatten()
    }
}

/// Addresses for documentation (RFC 5737, RFC 3849), which nobody has a route to but the default one.
const NOWHERE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NOWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1);
