//! Interfaces: their settings.

use rustix::io::Errno;

use super::{INTERFACE_HEAD_BYTES, Netlink, Request, number, value};
use crate::address::frames::HardwareAddress;

/// A setting of IPv4 on one interface, as under `/proc/sys/net/ipv4/conf` (ip-sysctl.rst); set by
/// netlink because a service has that folder read-only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub(in crate::address) enum Ipv4Setting {
    /// An address whose network's first address is removed stays.
    PromoteSecondaries = 20,
    /// From where packets may come in.
    RpFilter = 8,
    /// Which of the own addresses stands in a question by ARP.
    ArpAnnounce = 18,
    /// For which addresses ARP is answered.
    ArpIgnore = 19,
    /// Hardware addresses of neighbours are forgotten when the wire is out; since Linux 5.16.
    ArpEvictNoCarrier = 33,
}

impl Netlink {
    /// Changes settings of IPv4 on an interface.
    pub(in crate::address) fn set_ipv4(
        &mut self,
        index: u32,
        settings: &[(Ipv4Setting, u32)],
    ) -> Result<(), Errno> {
        let mut request = self.request(libc::RTM_SETLINK, libc::NLM_F_ACK);
        request.link_head(index, 0, 0);
        request.nested(libc::IFLA_AF_SPEC, |request| {
            request.nested(libc::AF_INET as u16, |request| {
                request.nested(IFLA_INET_CONF, |request| {
                    for (setting, value) in settings {
                        request.attribute(*setting as u16, &value.to_ne_bytes());
                    }
                });
            });
        });
        self.ask(request, |_, _| {})
    }
}

impl Netlink {
    /// One setting of IPv4 on an interface.
    pub(in crate::address) fn ipv4_setting(
        &mut self,
        index: u32,
        setting: Ipv4Setting,
    ) -> Result<Option<u32>, Errno> {
        let mut request = self.request(libc::RTM_GETLINK, libc::NLM_F_ACK);
        request.link_head(index, 0, 0);
        let mut found = None;
        self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                // An array of numbers: the settings from 1 on.
                found = body
                    .get(INTERFACE_HEAD_BYTES..)
                    .and_then(|body| value(body, libc::IFLA_AF_SPEC))
                    .and_then(|of_all| value(of_all, libc::AF_INET as u16))
                    .and_then(|of_ipv4| value(of_ipv4, IFLA_INET_CONF))
                    .and_then(|numbers| number(numbers, (setting as usize - 1) * 4));
            }
        })?;
        Ok(found)
    }

    /// Makes an interface with a hardware address of its own, on `parent`, down.
    pub(in crate::address) fn add_macvlan(
        &mut self,
        parent: u32,
        name: &str,
        hardware: HardwareAddress,
    ) -> Result<(), Errno> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
        let mut request = self.request(libc::RTM_NEWLINK, flags);
        request.link_head(0, 0, 0);
        request.attribute(libc::IFLA_LINK, &parent.to_ne_bytes());
        request.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        request.attribute(libc::IFLA_ADDRESS, &hardware);
        request.nested(libc::IFLA_LINKINFO, |request| {
            request.attribute(libc::IFLA_INFO_KIND, b"macvlan");
            request.nested(libc::IFLA_INFO_DATA, |request| {
                request.attribute(IFLA_MACVLAN_MODE, &MACVLAN_PRIVATE.to_ne_bytes());
            });
        });
        self.ask(request, |_, _| {})
    }

    /// Removes an interface.
    pub(in crate::address) fn delete_link(&mut self, index: u32) -> Result<(), Errno> {
        let mut request = self.request(libc::RTM_DELLINK, libc::NLM_F_ACK);
        request.link_head(index, 0, 0);
        self.ask(request, |_, _| {})
    }

    /// Switches an interface on or off.
    pub(in crate::address) fn set_up(&mut self, index: u32, up: bool) -> Result<(), Errno> {
        let flag = libc::IFF_UP as u32;
        let mut request = self.request(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        request.link_head(index, if up { flag } else { 0 }, flag);
        self.ask(request, |_, _| {})
    }

    /// Keeps the kernel from giving an interface an IPv6 address of its own when it is switched on.
    pub(in crate::address) fn set_no_link_local(&mut self, index: u32) -> Result<(), Errno> {
        let mut request = self.request(libc::RTM_SETLINK, libc::NLM_F_ACK);
        request.link_head(index, 0, 0);
        request.nested(libc::IFLA_AF_SPEC, |request| {
            request.nested(libc::AF_INET6 as u16, |request| {
                request.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        });
        self.ask(request, |_, _| {})
    }
}

impl Request {
    /// struct ifinfomsg: family, padding, type, index, flags, which flags change.
    pub(super) fn link_head(&mut self, index: u32, flags: u32, change: u32) {
        self.fixed(&[0; 4]);
        self.fixed(&index.to_ne_bytes());
        self.fixed(&flags.to_ne_bytes());
        self.fixed(&change.to_ne_bytes());
    }
}

const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
/// Interfaces on the same parent do not hear each other.
const MACVLAN_PRIVATE: u32 = 1;
