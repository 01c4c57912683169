//! An interface with a hardware address of its own, on top of a real one: so that the hardware address
//! moves together with the virtual addresses, and what phones have in their ARP tables stays true.
//!
//! ```text
//!   phones ──▶ switch ──▶ eth0 (its own address) ──▶ tandem-v2 (virtual hardware address): virtual addresses
//! ```
//!
//! Two interfaces in one network, so the kernel must be told who answers for what: each for its own
//! addresses only (`arp_ignore`), a question by ARP names an address of the interface it leaves by, or it
//! would teach its hearers the wrong hardware address (`arp_announce`), and packets to one may come from where the other would answer
//! (`rp_filter` loose). Routes through this one count less: what the machine sends goes out as before.
//!
//! It is down while the addresses are not held (the renewal sees to that): an interface that is up says this and that by
//! itself, and a switch would believe that the hardware address is here.

use rustix::io::Errno;

use super::frames::HardwareAddress;
use super::netlink::{Interface, Ipv4Setting, Netlink, index_of};
use super::{Prefixed, Refused};

/// The interface. It goes with this value; after a kill, with the next that is opened.
#[derive(Debug)]
pub(super) struct Macvlan {
    netlink: Netlink,
    interface: Interface,
    parent: Interface,
    /// Settings of the parent that were lower before.
    before: Vec<(Ipv4Setting, u32)>,
}

impl Macvlan {
    /// Makes it, down, on `parent`.
    pub(super) fn open(parent: &Interface, hardware: HardwareAddress) -> Result<Self, Refused> {
        let name = name_on(parent.index);
        let refused = |error: Errno| {
            let what = format!("make an interface with a hardware address on {}", parent.name);
            Refused::new(what, error, "CAP_NET_ADMIN")
        };
        let mut netlink = Netlink::open(0).map_err(refused)?;
        remove(&mut netlink, parent.index).map_err(refused)?;
        netlink.add_macvlan(parent.index, &name, hardware).map_err(refused)?;
        let index = index_of(&name).map_err(refused)?;
        let interface = netlink.interface(index).map_err(refused)?;
        let before = lower(&mut netlink, parent.index).map_err(refused)?;
        let it = Self { netlink, interface, parent: parent.clone(), before };
        it.settle().map_err(refused)
    }

    fn settle(mut self) -> Result<Self, Errno> {
        let index = self.interface.index;
        let settings = [
            (Ipv4Setting::RpFilter, LOOSE),
            (Ipv4Setting::ArpIgnore, OWN_ADDRESSES),
            (Ipv4Setting::PromoteSecondaries, 1),
        ];
        self.netlink.set_ipv4(index, &settings)?;
        // Refused where there is no IPv6, and then not needed.
        let _ = self.netlink.set_no_link_local(index);
        Ok(self)
    }

    /// Where the virtual addresses belong.
    pub(super) const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Switches it on, and keeps the parent from answering for its addresses.
    pub(super) fn up(&mut self) -> Result<(), Refused> {
        if !self.before.is_empty() {
            let raised: Vec<_> = PARENT.into_iter().filter(|it| self.is_lower(it.0)).collect();
            self.netlink.set_ipv4(self.parent.index, &raised).map_err(|e| self.refused(e))?;
        }
        self.netlink.set_up(self.interface.index, true).map_err(|e| self.refused(e))
    }

    fn is_lower(&self, setting: Ipv4Setting) -> bool {
        self.before.iter().any(|(before, _)| *before == setting)
    }

    fn refused(&self, error: Errno) -> Refused {
        Refused::new(format!("switch {}", self.interface.name), error, "CAP_NET_ADMIN")
    }
}

impl Drop for Macvlan {
    fn drop(&mut self) {
        // Where the parent is gone, so is this.
        let _ = self.netlink.delete_link(self.interface.index);
        if !self.before.is_empty() {
            let _ = self.netlink.set_ipv4(self.parent.index, &self.before);
        }
    }
}

/// The settings that must be raised on the interface with this index, as they are now.
fn lower(netlink: &mut Netlink, index: u32) -> Result<Vec<(Ipv4Setting, u32)>, Errno> {
    let mut lower = Vec::new();
    for (setting, needed) in PARENT {
        let is = netlink.ipv4_setting(index, setting)?;
        lower.extend(is.filter(|is| *is < needed).map(|is| (setting, is)));
    }
    Ok(lower)
}

/// Removes the interface that an earlier life left on the one with this index.
pub(super) fn remove(netlink: &mut Netlink, parent: u32) -> Result<(), Errno> {
    match index_of(&name_on(parent)) {
        Ok(index) => netlink.delete_link(index),
        Err(Errno::NODEV | Errno::NXIO) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Its name on the interface with this index; the name of the other might be too long.
fn name_on(parent: u32) -> String {
    format!("tandem-v{parent}")
}

/// A hardware address that both machines come to by themselves: from the virtual addresses. It is
/// locally administered (IEEE 802, §8.4), so that no manufacturer has given it to anybody.
pub fn hardware_for(addresses: &[Prefixed]) -> HardwareAddress {
    let mut texts: Vec<String> = addresses.iter().map(|it| it.address.to_string()).collect();
    texts.sort();
    // FNV-1a: any function will do that stays the same for ever.
    let hash = texts.join(" ").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

/// `rp_filter`: from where the sender can be reached at all.
const LOOSE: u32 = 2;
/// `arp_ignore`: answers for addresses of the interface that was asked.
const OWN_ADDRESSES: u32 = 1;

/// `arp_announce`: the best address of the interface that the question leaves by.
const BEST_ADDRESS: u32 = 2;
/// What the interface below needs while the addresses are held.
const PARENT: [(Ipv4Setting, u32); 2] =
    [(Ipv4Setting::ArpIgnore, OWN_ADDRESSES), (Ipv4Setting::ArpAnnounce, BEST_ADDRESS)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_machines_come_to_the_same_hardware_address_in_any_order() {
        let addresses = ["192.0.2.10/24", "2001:db8::a/64"].map(|text| text.parse().unwrap());
        let [one, two] = addresses;
        assert_eq!(hardware_for(&[one, two]), hardware_for(&[two, one]));
        assert_ne!(hardware_for(&[one]), hardware_for(&[two]));
        // For ever: a pair is upgraded one server at a time.
        assert_eq!(hardware_for(&[one]), [0x02, 0x50, 0xaf, 0xd2, 0x82, 0xdc]);
        assert_eq!(hardware_for(&[two])[0] & 0x03, 0x02, "of one device, locally administered");
    }
}
