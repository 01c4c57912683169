//! Who is near: the hardware address of a neighbour, the gateway behind an interface.

use std::net::IpAddr;

use rustix::io::Errno;

use super::addresses::ip;
use super::{Netlink, Request, value};
use crate::address::frames::HardwareAddress;

impl Netlink {
    /// The hardware address under which the kernel knows a neighbour, if it does.
    pub(in crate::address) fn neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
    ) -> Result<Option<HardwareAddress>, Errno> {
        let mut request = self.request(libc::RTM_GETNEIGH, libc::NLM_F_ACK);
        // struct ndmsg: family, padding, interface, state, flags, type.
        request.fixed(&[family(address), 0, 0, 0]);
        request.fixed(&index.to_ne_bytes());
        request.fixed(&[0; 4]);
        request.address(NDA_DST, address);
        let mut found = None;
        let outcome = self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWNEIGH {
                found = body
                    .get(NEIGHBOUR_HEAD_BYTES..)
                    .and_then(|body| value(body, NDA_LLADDR))
                    .and_then(|hardware| hardware.try_into().ok());
            }
        });
        match outcome {
            Ok(()) | Err(Errno::NOENT) => Ok(found),
            Err(error) => Err(error),
        }
    }

    /// The gateway by which `to` is reached through an interface, if it is through one.
    pub(in crate::address) fn gateway(
        &mut self,
        index: u32,
        to: IpAddr,
    ) -> Result<Option<IpAddr>, Errno> {
        let mut request = self.request(libc::RTM_GETROUTE, libc::NLM_F_ACK);
        let bits = if to.is_ipv4() { 32 } else { 128 };
        // struct rtmsg: family, length of the destination, six more, flags.
        request.fixed(&[family(to), bits, 0, 0, 0, 0, 0, 0]);
        request.fixed(&[0; 4]);
        request.address(libc::RTA_DST, to);
        request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        let mut found = None;
        let outcome = self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWROUTE {
                let body = body.get(ROUTE_HEAD_BYTES..);
                found = body.and_then(|body| value(body, libc::RTA_GATEWAY)).and_then(ip);
            }
        });
        match outcome {
            Ok(()) | Err(Errno::NETUNREACH | Errno::HOSTUNREACH) => Ok(found),
            Err(error) => Err(error),
        }
    }
}

impl Request {
    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// struct ndmsg.
const NEIGHBOUR_HEAD_BYTES: usize = 12;
/// struct rtmsg.
const ROUTE_HEAD_BYTES: usize = 12;
