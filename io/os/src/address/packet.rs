//! Packet sockets with filters in the kernel, so that the keeper wakes for claims to its own addresses
//! and not for everybody's ARP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::frames;
use crate::sys::{self, Step};

/// A socket for one kind of frame on one interface.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// For announcements; hears nothing, so that it has no queue to be read and no error of an
    /// interface that was down in between.
    pub(super) fn announcer(index: u32) -> io::Result<Self> {
        sys::packet_socket(index, 0, &filter(&[], 0, &[])).map(Self)
    }

    /// For ARP; hears whoever says that it has one of `addresses`.
    pub(super) fn arp(index: u32, addresses: &[Ipv4Addr]) -> io::Result<Self> {
        let values: Vec<u32> = addresses.iter().map(|address| u32::from(*address)).collect();
        let filter = filter(&[], frames::ETHERNET_HEAD_BYTES + 14, &values);
        sys::packet_socket(index, frames::ETHERTYPE_ARP, &filter).map(Self)
    }

    /// For neighbour advertisements; hears those for addresses that end as one of `addresses`.
    pub(super) fn ndp(index: u32, addresses: &[Ipv6Addr]) -> io::Result<Self> {
        let packet = frames::ETHERNET_HEAD_BYTES;
        let body = packet + frames::IPV6_HEAD_BYTES;
        let bytes = [
            (packet + 6, frames::ICMPV6),
            (packet + 7, frames::NEIGHBOUR_HOPS),
            (body, frames::ICMP_ADVERTISEMENT),
        ];
        let last = |address: &Ipv6Addr| {
            let [.., a, b, c, d] = address.octets();
            u32::from_be_bytes([a, b, c, d])
        };
        let values: Vec<u32> = addresses.iter().map(last).collect();
        let filter = filter(&bytes, body + 8 + 12, &values);
        sys::packet_socket(index, frames::ETHERTYPE_IPV6, &filter).map(Self)
    }

    /// Sends one frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // A full queue loses the frame, as the wire might; both are repeated.
        match send(&self.0, frame, SendFlags::empty()) {
            Ok(_) | Err(Errno::NOBUFS | Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads one frame, cut to the buffer; `None` if there is none.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => Ok(Some(length)),
            // An interface that went down says so once; the watch on the link says more.
            Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Accepts frames with all of `bytes` (offset, value) and any of `values` at `offset`.
fn filter(bytes: &[(usize, u8)], offset: usize, values: &[u32]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (place, value) in bytes {
        // Wrong: to the refusal, which is the last but one step.
        let to_refusal = (bytes.len() * 2 - steps.len() - 2) + 1 + values.len();
        steps.push(step(LOAD_BYTE, 0, 0, *place as u32));
        steps.push(step(JUMP_IF_EQUAL, 0, to_refusal, u32::from(*value)));
    }
    steps.push(step(LOAD_WORD, 0, 0, offset as u32));
    for (index, value) in values.iter().enumerate() {
        steps.push(step(JUMP_IF_EQUAL, values.len() - index, 0, *value));
    }
    steps.push(step(RETURN, 0, 0, 0));
    steps.push(step(RETURN, 0, 0, u32::MAX));
    steps
}

fn step(code: u32, if_true: usize, if_false: usize, operand: u32) -> Step {
    // Programs here are shorter than 256 steps and codes than 2^16.
    Step { code: code as u16, jt: if_true as u8, jf: if_false as u8, k: operand }
}

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's machine, as far as the filters use it (bpf(4)).
    fn accepts(program: &[Step], frame: &[u8]) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Step { code, jt, jf, k } = program[at];
            at += 1;
            let place = k as usize;
            match u32::from(code) {
                LOAD_BYTE => match frame.get(place) {
                    Some(byte) => loaded = u32::from(*byte),
                    None => return false,
                },
                LOAD_WORD => match frame.get(place..place + 4) {
                    Some(word) => loaded = word.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)),
                    None => return false,
                },
                JUMP_IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                _ => return k != 0,
            }
        }
    }

    #[test]
    fn a_filter_accepts_all_bytes_and_any_value() {
        let program = filter(&[(0, 7), (1, 8)], 2, &[1, 2, 3]);
        for value in 0..5_u8 {
            assert_eq!(accepts(&program, &[7, 8, 0, 0, 0, value]), (1..=3).contains(&value));
            assert!(!accepts(&program, &[6, 8, 0, 0, 0, value]));
            assert!(!accepts(&program, &[7, 9, 0, 0, 0, value]));
        }
        assert!(!accepts(&program, &[7, 8, 0, 0, 0]));
        let all: Vec<u32> = (0..super::super::MAX_ADDRESSES as u32).collect();
        let program = filter(&[], 0, &all);
        assert!(all.iter().all(|value| accepts(&program, &value.to_be_bytes())));
        assert!(!accepts(&program, &(all.len() as u32).to_be_bytes()));
    }
}
