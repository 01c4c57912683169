//! Listens to everything that passes a machine's interface and counts SIP requests by their first
//! word. Only so can "no phone logged in again" be said of all phones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use rustix::time::Timespec;
use tandem::demo::space::Space;

/// Everything (linux/if_ether.h), in the order of bytes of the network.
const ETH_P_ALL: u16 = 0x0003;

/// Number of UDP in IPv4 (RFC 768).
const UDP: u8 = 17;

/// Bytes of an UDP header.
const UDP_HEADER: usize = 8;

/// How long the thread waits for a packet before it looks whether to end.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Sniffer {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Begins to listen inside `space`.
    ///
    /// # Errors
    ///
    /// Not root.
    pub(crate) fn start(space: &Space) -> Result<Self> {
        let raw = std::num::NonZeroU32::new(u32::from(ETH_P_ALL.to_be()));
        let protocol = raw.map(Protocol::from_raw);
        let socket = space.inside(|| {
            let family = AddressFamily::PACKET;
            socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)
                .context("cannot listen to packets")
        })?;
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (counting, stopping) = (Arc::clone(&counts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || listen(&socket, &counting, &stopping));
        Ok(Self { counts, stop, thread: Some(thread) })
    }

    /// How many of these requests have passed, repeated ones included.
    #[must_use]
    pub(crate) fn count(&self, method: &str) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(method).copied().unwrap_or(0)
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &OwnedFd, counts: &Mutex<BTreeMap<String, u64>>, stop: &AtomicBool) {
    let mut bytes = [0_u8; 2048];
    while !stop.load(Ordering::SeqCst) {
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&LOOK_EVERY)) {
            Ok(1..) => {}
            Ok(0) | Err(_) => continue,
        }
        let Ok((count, _)) = recv(socket, &mut bytes, RecvFlags::DONTWAIT) else { continue };
        if let Some(method) = method(&bytes[..count]) {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(method.to_owned()).or_default() += 1;
        }
    }
}

/// The method of the SIP request in an IPv4 packet.
fn method(packet: &[u8]) -> Option<&str> {
    let first = *packet.first()?;
    if first >> 4 != 4 || *packet.get(9)? != UDP {
        return None;
    }
    let header = usize::from(first & 0x0f) * 4;
    let payload = packet.get(header + UDP_HEADER..)?;
    let line = payload.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_suffix(" SIP/2.0")?;
    line.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &str) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0; UDP_HEADER]);
        packet.extend(payload.bytes());
        packet
    }

    #[test]
    fn requests_are_known_by_their_first_line() {
        assert_eq!(method(&packet("REGISTER sip:a SIP/2.0\r\nVia: x\r\n")), Some("REGISTER"));
        assert_eq!(method(&packet("SIP/2.0 200 OK\r\n")), None);
        assert_eq!(method(&packet("hello")), None);
        assert_eq!(method(&packet("")), None);
        assert_eq!(method(&[]), None);
    }

    #[test]
    fn other_packets_are_passed_over() {
        let mut tcp = packet("REGISTER sip:a SIP/2.0\r\n");
        tcp[9] = 6;
        assert_eq!(method(&tcp), None);
        let mut six = packet("REGISTER sip:a SIP/2.0\r\n");
        six[0] = 0x65;
        assert_eq!(method(&six), None);
    }
}
