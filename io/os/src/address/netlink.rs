//! The few netlink messages that are needed (rtnetlink(7)), written and read by hand.
//!
//! ```text
//!   │ length 4 │ type 2 │ flags 2 │ seq 4 │ port 4 │ fixed part │ attribute: length 2, type 2, value │ …
//! ```
//!
//! All numbers are in the machine's byte order; attributes begin at multiples of four. The kernel
//! answers while the request is being sent, so nothing waits.

mod addresses;
mod links;
mod routes;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

use super::frames::HardwareAddress;

pub(super) use addresses::Listed;
pub(super) use links::Ipv4Setting;

/// What the kernel says about an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    /// Somebody switched it on.
    pub(super) up: bool,
    /// Its wire, or what stands for it, works.
    pub(super) carrier: bool,
    /// Its Ethernet address; missing where nobody resolves addresses (loopback, tunnels).
    pub(super) hardware: Option<HardwareAddress>,
}

/// A message from the kernel about an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum LinkNews {
    Is(Interface),
    Gone { index: u32 },
}

/// A netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket that hears `groups` (a bit mask) besides its answers.
    pub(super) fn open(groups: u32) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, NETLINK_ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The interface with this index.
    pub(super) fn interface(&mut self, index: u32) -> Result<Interface, Errno> {
        let mut request = self.request(libc::RTM_GETLINK, libc::NLM_F_ACK);
        request.link_head(index, 0, 0);
        let mut found = None;
        self.ask(request, |kind, body| {
            if let Some(LinkNews::Is(interface)) = link_news(kind, body) {
                found = Some(interface);
            }
        })?;
        found.ok_or(Errno::NODEV)
    }

    /// The next news about interfaces, from a socket that hears the link group.
    ///
    /// `NOBUFS` if some were lost.
    pub(super) fn news(&self) -> Result<Option<Vec<LinkNews>>, Errno> {
        let Some(bytes) = self.receive()? else { return Ok(None) };
        Ok(Some(messages(&bytes).filter_map(|(kind, _, body)| link_news(kind, body)).collect()))
    }

    /// Sends a request and reads what the kernel says to it, until it says that this was all.
    fn ask(&self, request: Request, each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        send(&self.socket, &request.finish(), SendFlags::empty())?;
        self.answer(each)
    }

    fn request(&mut self, kind: u16, flags: i32) -> Request {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Request(bytes)
    }

    fn answer(&self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        loop {
            // There is an answer before `send` returns, or none at all.
            let bytes = self.receive()?.ok_or(Errno::NOMSG)?;
            for (kind, sequence, body) in messages(&bytes) {
                if sequence != self.sequence {
                    continue; // of a request that was given up
                }
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match number(body, 0).map(u32::cast_signed) {
                            Some(0) => Ok(()),
                            Some(error) => Err(Errno::from_raw_os_error(-error)),
                            None => Err(Errno::BADMSG),
                        };
                    }
                    _ => each(kind, body),
                }
            }
        }
    }

    fn receive(&self) -> Result<Option<Vec<u8>>, Errno> {
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The index of the interface called `name`.
pub(super) fn index_of(name: &str) -> Result<u32, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::netdevice::name_to_index(any, name)
}

/// A request being written.
struct Request(Vec<u8>);

impl Request {
    fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        // Values here are at most 16 bytes long.
        let length = (ATTRIBUTE_HEAD_BYTES + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute whose value are the attributes that `write` adds.
    fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.attribute(kind | NLA_F_NESTED, &[]);
        write(self);
        let length = ((self.0.len() - start) as u16).to_ne_bytes();
        self.0[start..start + 2].copy_from_slice(&length);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0[..4].copy_from_slice(&length);
        self.0
    }
}

/// Type, sequence number and body of each message in `bytes`. What is cut off ends the list.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let kind = short(bytes, 4)?;
        let sequence = number(bytes, 8)?;
        let body = bytes.get(MESSAGE_HEAD_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// Type and value of each attribute in `bytes`. What is cut off ends the list.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(bytes, 0)?);
        let kind = short(bytes, 2)?;
        let value = bytes.get(ATTRIBUTE_HEAD_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of one attribute of several.
fn value(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| kind & !NLA_F_NESTED == wanted).map(|(_, value)| value)
}

fn link_news(kind: u16, body: &[u8]) -> Option<LinkNews> {
    let index = number(body, 4)?;
    match kind {
        libc::RTM_NEWLINK => {}
        libc::RTM_DELLINK => return Some(LinkNews::Gone { index }),
        _ => return None,
    }
    let flags = number(body, 8)?.cast_signed();
    let has = |flag: i32| flags & flag != 0;
    let (mut name, mut hardware, mut working) = (String::new(), None, true);
    for (kind, value) in attributes(body.get(INTERFACE_HEAD_BYTES..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                name = String::from_utf8_lossy(text).into_owned();
            }
            libc::IFLA_ADDRESS => hardware = value.try_into().ok(),
            // Some drivers do not say; RFC 2863 has seven states, of which these two carry packets.
            libc::IFLA_OPERSTATE => {
                working = matches!(value.first(), Some(&(OPERSTATE_UNKNOWN | OPERSTATE_UP)));
            }
            _ => {}
        }
    }
    if has(libc::IFF_LOOPBACK) || has(libc::IFF_NOARP) {
        hardware = None;
    }
    let carrier = has(libc::IFF_LOWER_UP) && working;
    Some(LinkNews::Is(Interface { index, name, up: has(libc::IFF_UP), carrier, hardware }))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_ne_bytes(*it))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|it| u16::from_ne_bytes(*it))
}

/// Protocol 0.
const NETLINK_ROUTE: Option<Protocol> = None;
const MESSAGE_HEAD_BYTES: usize = 16;
const ATTRIBUTE_HEAD_BYTES: usize = 4;
/// Marks an attribute that holds attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// struct ifinfomsg.
const INTERFACE_HEAD_BYTES: usize = 16;
/// The kernel fills answers up to what was asked for, at most this.
const ANSWER_BYTES: usize = 32 * 1024;
const OPERSTATE_UNKNOWN: u8 = 0;
const OPERSTATE_UP: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let mut request = Request(vec![0; MESSAGE_HEAD_BYTES]);
        request.attribute(1, b"abcde");
        request.attribute(2, b"");
        request.attribute(3, b"four");
        let bytes = request.finish();
        assert_eq!(bytes.len(), MESSAGE_HEAD_BYTES + 12 + 4 + 8);
        let bodies: Vec<_> = messages(&bytes).map(|(_, _, body)| body).collect();
        let read: Vec<_> = attributes(bodies[0]).collect();
        assert_eq!(read, [(1, &b"abcde"[..]), (2, b""), (3, b"four")]);
    }

    #[test]
    fn messages_that_lie_about_their_length_end_the_list() {
        for length in [0_u32, 3, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(16, 0);
            assert_eq!(messages(&bytes).count(), 0, "{length}");
            assert_eq!(attributes(&bytes).take(9).count(), usize::from(length == 15), "{length}");
        }
    }
}
