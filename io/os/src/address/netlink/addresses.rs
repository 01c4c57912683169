//! Addresses of an interface: put there for a while, renewed, removed, listed.
//!
//! ```text
//!   put ──▶ there ──put again──▶ there, for another LIFETIME
//!             └── nobody does: the kernel removes it
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use super::{Netlink, attributes, number};
use crate::address::{LIFETIME, Prefixed};

/// An address as the kernel lists it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::address) struct Listed {
    pub(in crate::address) prefixed: Prefixed,
    /// It stays until somebody removes it; so it is none that was put there by [`Netlink::put_address`].
    pub(in crate::address) permanent: bool,
}

impl Netlink {
    /// Puts an address on an interface for [`LIFETIME`], or makes it stay for so long from now on. A
    /// `metric` is that of the route that comes with it.
    pub(in crate::address) fn put_address(
        &mut self,
        index: u32,
        prefixed: &Prefixed,
        metric: Option<u32>,
    ) -> Result<(), Errno> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.change_address(libc::RTM_NEWADDR, flags, index, prefixed, metric)
    }

    /// Removes an address. `ADDRNOTAVAIL` if it is not there.
    pub(in crate::address) fn delete_address(
        &mut self,
        index: u32,
        prefixed: &Prefixed,
    ) -> Result<(), Errno> {
        self.change_address(libc::RTM_DELADDR, 0, index, prefixed, None)
    }

    fn change_address(
        &mut self,
        kind: u16,
        flags: i32,
        index: u32,
        prefixed: &Prefixed,
        metric: Option<u32>,
    ) -> Result<(), Errno> {
        let mut request = self.request(kind, flags | libc::NLM_F_ACK);
        let family = if prefixed.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // struct ifaddrmsg: family, prefix length, flags, scope (0: everywhere), interface.
        request.fixed(&[family as u8, prefixed.length, 0, 0]);
        request.fixed(&index.to_ne_bytes());
        match prefixed.address {
            IpAddr::V4(address) => {
                request.attribute(libc::IFA_LOCAL, &address.octets());
                request.attribute(libc::IFA_ADDRESS, &address.octets());
            }
            IpAddr::V6(address) => {
                request.attribute(libc::IFA_ADDRESS, &address.octets());
                // Without duplicate address detection, which would take a second: the pair has made
                // sure of it in its own way.
                request.attribute(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
            }
        }
        // struct ifa_cacheinfo: preferred for 0 s, so that the machine's own connections do not go
        // out from an address that may move; valid for LIFETIME; two numbers that are not read.
        let seconds = LIFETIME.as_secs() as u32;
        let lifetimes = [0, seconds, 0, 0].map(u32::to_ne_bytes);
        request.attribute(libc::IFA_CACHEINFO, lifetimes.as_flattened());
        if let Some(metric) = metric {
            request.attribute(IFA_RT_PRIORITY, &metric.to_ne_bytes());
        }
        self.ask(request, |_, _| {})
    }

    /// All addresses of the interface with this index.
    pub(in crate::address) fn addresses(&mut self, index: u32) -> Result<Vec<Listed>, Errno> {
        let mut request = self.request(libc::RTM_GETADDR, libc::NLM_F_DUMP);
        request.fixed(&[0; 8]);
        let mut addresses = Vec::new();
        self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWADDR
                && let Some((on, listed)) = read(body)
                && on == index
            {
                addresses.push(listed);
            }
        })?;
        Ok(addresses)
    }
}

fn read(body: &[u8]) -> Option<(u32, Listed)> {
    let (length, flags, index) = (*body.get(1)?, *body.get(2)?, number(body, 4)?);
    let (mut local, mut any) = (None, None);
    for (kind, value) in attributes(body.get(HEAD_BYTES..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            // On a point-to-point interface this is the other end's.
            libc::IFA_ADDRESS => any = ip(value),
            _ => {}
        }
    }
    let prefixed = Prefixed { address: local.or(any)?, length };
    let permanent = u32::from(flags) & libc::IFA_F_PERMANENT != 0;
    Some((index, Listed { prefixed, permanent }))
}

/// An address as the kernel writes it.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|octets| IpAddr::from(Ipv4Addr::from(*octets))),
        16 => value.first_chunk::<16>().map(|octets| IpAddr::from(Ipv6Addr::from(*octets))),
        _ => None,
    }
}

const IFA_RT_PRIORITY: u16 = 9;
/// struct ifaddrmsg.
const HEAD_BYTES: usize = 8;
