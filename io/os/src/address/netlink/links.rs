//! Interfaces: their settings.

use rustix::io::Errno;

use super::{Netlink, Request};

/// A setting of IPv4 on one interface, as under `/proc/sys/net/ipv4/conf` (ip-sysctl.rst); set by
/// netlink because a service has that folder read-only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub(in crate::address) enum Ipv4Setting {
    /// An address whose network's first address is removed stays.
    PromoteSecondaries = 20,
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
