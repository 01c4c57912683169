//! The six Ethernet frames a virtual address needs, written and read. No sockets here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub(super) type HardwareAddress = [u8; 6];

/// "This address is here", as a question nobody has to answer (RFC 5227 §3): what most stacks heed.
pub(super) fn gratuitous_arp_request(own: HardwareAddress, address: Ipv4Addr) -> Vec<u8> {
    arp(ARP_REQUEST, (own, address), ([0; 6], address))
}

/// "This address is here", as an answer nobody asked for (RFC 5944 §4.6): what the others heed.
pub(super) fn gratuitous_arp_reply(own: HardwareAddress, address: Ipv4Addr) -> Vec<u8> {
    arp(ARP_REPLY, (own, address), (own, address))
}

/// "Who has this address?", asked without one's own, so that no cache changes (RFC 5227 §2.1.1).
pub(super) fn arp_probe(own: HardwareAddress, address: Ipv4Addr) -> Vec<u8> {
    arp(ARP_REQUEST, (own, Ipv4Addr::UNSPECIFIED), ([0; 6], address))
}

/// Who says in an ARP frame, question or answer, that it has which address (RFC 826).
pub(super) fn arp_sender(frame: &[u8]) -> Option<(IpAddr, HardwareAddress)> {
    let packet = frame.strip_prefix_of(ETHERTYPE_ARP)?;
    if packet.get(..6)? != ARP_HEAD {
        return None;
    }
    let hardware = *packet.get(8..)?.first_chunk()?;
    let address: [u8; 4] = *packet.get(14..)?.first_chunk()?;
    Some((Ipv4Addr::from(address).into(), hardware))
}

/// "This address is here", to all nodes, overriding what they knew (RFC 4861 §7.2.6).
pub(super) fn neighbour_advertisement(own: HardwareAddress, address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![ICMP_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    body.extend_from_slice(&[OPTION_TARGET_HARDWARE, 1]);
    body.extend_from_slice(&own);
    ipv6(own, address, ALL_NODES, body)
}

/// "Who has this address?", asked without one's own, so that no cache changes (RFC 4862 §5.4.2).
/// The answer goes to all nodes.
pub(super) fn neighbour_solicitation(own: HardwareAddress, address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![ICMP_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    let [.., a, b, c] = address.octets();
    // RFC 4291 §2.7.1: the solicited-node group of the address.
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    ipv6(own, Ipv6Addr::UNSPECIFIED, group, body)
}

/// Who says in a neighbour advertisement that it has which address. Checked as RFC 4861 §7.1.2 asks,
/// the checksum excepted: the frame was on the same wire.
pub(super) fn advertised(frame: &[u8]) -> Option<(IpAddr, HardwareAddress)> {
    let packet = frame.strip_prefix_of(ETHERTYPE_IPV6)?;
    let (hop_limit, next) = (*packet.get(7)?, *packet.get(6)?);
    let body = packet.get(IPV6_HEAD_BYTES..)?;
    if next != ICMPV6 || hop_limit != NEIGHBOUR_HOPS || body.get(..2)? != [ICMP_ADVERTISEMENT, 0] {
        return None;
    }
    let address: [u8; 16] = *body.get(8..)?.first_chunk()?;
    // The frame's sender: the option with the same content may be missing.
    let hardware = *frame.get(6..)?.first_chunk()?;
    Some((Ipv6Addr::from(address).into(), hardware))
}

fn arp(
    operation: u8,
    (sender_hardware, sender): (HardwareAddress, Ipv4Addr),
    (target_hardware, target): (HardwareAddress, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], sender_hardware, ETHERTYPE_ARP);
    frame.extend_from_slice(&ARP_HEAD);
    frame.extend_from_slice(&[0, operation]);
    frame.extend_from_slice(&sender_hardware);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&target_hardware);
    frame.extend_from_slice(&target.octets());
    frame.resize(MIN_FRAME_BYTES, 0);
    frame
}

/// An ICMPv6 message in IPv6 in Ethernet, to a multicast group, with its checksum.
fn ipv6(own: HardwareAddress, from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let length = body.len() as u8; // at most 32 here
    // RFC 8200 §8.1: the pseudo-header, then the message.
    let mut summed = [from.octets(), to.octets()].concat();
    summed.extend_from_slice(&[0, 0, 0, length, 0, 0, 0, ICMPV6]);
    summed.extend_from_slice(&body);
    body[2..4].copy_from_slice(&internet_checksum(&summed).to_be_bytes());

    let [.., a, b, c, d] = to.octets();
    // RFC 2464 §7: the group's Ethernet address.
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], own, ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length, ICMPV6, NEIGHBOUR_HOPS]);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(&body);
    frame
}

fn ethernet(to: HardwareAddress, from: HardwareAddress, ethertype: u16) -> Vec<u8> {
    [to.as_slice(), &from, &ethertype.to_be_bytes()].concat()
}

/// RFC 1071; `bytes` are even in number.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

trait StripEthernet {
    /// What the frame carries, if it is of `ethertype`.
    fn strip_prefix_of(&self, ethertype: u16) -> Option<&[u8]>;
}

impl StripEthernet for [u8] {
    fn strip_prefix_of(&self, ethertype: u16) -> Option<&[u8]> {
        let (head, rest) = self.split_at_checked(ETHERNET_HEAD_BYTES)?;
        (head[12..] == ethertype.to_be_bytes()).then_some(rest)
    }
}

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// As much of a frame as is ever looked at.
pub(super) const MAX_FRAME_BYTES: usize = 128;
pub(super) const ETHERNET_HEAD_BYTES: usize = 14;
pub(super) const IPV6_HEAD_BYTES: usize = 40;
pub(super) const ICMPV6: u8 = 58;
pub(super) const ICMP_ADVERTISEMENT: u8 = 136;
/// What has come through no router still has it (RFC 4861 §7.1).
pub(super) const NEIGHBOUR_HOPS: u8 = 255;

const ICMP_SOLICITATION: u8 = 135;
const OVERRIDE: u8 = 0x20;
const OPTION_TARGET_HARDWARE: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// IPv4 over Ethernet (RFC 826).
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
/// Ethernet's least length, without its checksum.
const MIN_FRAME_BYTES: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: HardwareAddress = [2, 0, 0, 0, 0, 7];
    const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
    const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xa1b2, 0xc3d4);

    #[test]
    fn both_gratuitous_forms_say_who_has_the_address() {
        for frame in [gratuitous_arp_request(OWN, V4), gratuitous_arp_reply(OWN, V4)] {
            assert_eq!((frame.len(), &frame[..6]), (60, &[0xff; 6][..]));
            assert_eq!(arp_sender(&frame), Some((V4.into(), OWN)));
            assert_eq!(frame[38..42], V4.octets());
        }
        assert_eq!(gratuitous_arp_request(OWN, V4)[20..22], [0, 1]);
        assert_eq!(gratuitous_arp_reply(OWN, V4)[20..22], [0, 2]);
    }

    #[test]
    fn a_probe_claims_nothing() {
        let frame = arp_probe(OWN, V4);
        assert_eq!(arp_sender(&frame), Some((Ipv4Addr::UNSPECIFIED.into(), OWN)));
        assert_eq!(frame[38..42], V4.octets());
        assert_eq!(advertised(&neighbour_solicitation(OWN, V6)), None);
    }

    #[test]
    fn an_advertisement_is_read_back_and_its_checksum_holds() {
        let frame = neighbour_advertisement(OWN, V6);
        assert_eq!(advertised(&frame), Some((V6.into(), OWN)));
        for frame in [frame, neighbour_solicitation(OWN, V6)] {
            let packet = &frame[14..];
            let mut summed = packet[8..40].to_vec();
            summed.extend_from_slice(&[0, 0, 0, packet[5], 0, 0, 0, 58]);
            summed.extend_from_slice(&packet[40..]);
            assert_eq!(internet_checksum(&summed), 0);
            assert_eq!(packet.len(), 40 + usize::from(packet[5]));
        }
    }

    #[test]
    fn a_solicitation_goes_to_the_group_of_the_address() {
        let frame = neighbour_solicitation(OWN, V6);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xb2, 0xc3, 0xd4]);
    }

    #[test]
    fn what_is_cut_off_or_from_afar_says_nothing() {
        let arp = gratuitous_arp_reply(OWN, V4);
        assert!((0..32).all(|length| arp_sender(&arp[..length]).is_none()));
        let ndp = neighbour_advertisement(OWN, V6);
        assert!((0..78).all(|length| advertised(&ndp[..length]).is_none()));
        let mut routed = ndp;
        routed[21] = 254;
        assert_eq!(advertised(&routed), None);
        assert_eq!(arp_sender(&routed), None);
    }
}
