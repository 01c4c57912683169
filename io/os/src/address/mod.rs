//! Virtual addresses: taking them, telling the network, asking whether somebody else has them.
//!
//! ```text
//!   open     interface index, netlink and packet sockets, every frame written: once, at the start
//!   claim    RTM_NEWADDR (synchronous)  ─▶  gratuitous ARP, request and reply form (RFC 5227, 5944)
//!                                           unsolicited neighbour advertisement     (RFC 4861 §7.2.6)
//!   announce the same frames again: a switch or phone that missed them once would talk to the twin
//!   probe    ARP probe (RFC 5227 §2.1.1), neighbour solicitation from "::" (RFC 4862 §5.4.2)
//!   answers  whoever else says that it has one of the addresses, asked or not
//!   renew    RTM_NEWADDR again: the kernel removes an address that nobody renews for LIFETIME
//!   release  RTM_DELADDR
//! ```
//!
//! The lifetime is what fences the address itself: a keeper that was killed, hangs or was stopped renews
//! nothing, and its machine soon has the address no more, whoever may be left there to remove it.
//!
//! Needs CAP_NET_ADMIN and CAP_NET_RAW and no more. Claiming what is held and releasing what is not
//! are no errors: what counts is how it is afterwards.

mod frames;
mod interface;
mod macvlan;
mod near;
mod netlink;
mod packet;
mod watch;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use rustix::io::Errno;
use tandem_types::Duration;

use interface::OnInterface;

pub use interface::{Renewal, list, remove_left_over};
pub use macvlan::hardware_for;
pub use near::{Neighbours, Question};
pub use watch::{LinkState, LinkWatch};

/// An address with the length of its network's prefix, as in `192.0.2.9/24`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefixed {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network part.
    pub length: u8,
}

impl fmt::Display for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefixed {
    type Err = String;

    /// Without a length the address stands alone (`/32`, `/128`).
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("`{text}` is no IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= most)
                .ok_or_else(|| format!("`{text}`: the prefix length must be 0 to {most}"))?,
        };
        Ok(Self { address, length })
    }
}

/// Something the system refused.
#[derive(Debug)]
pub struct Refused {
    /// What was tried.
    what: String,
    error: io::Error,
    /// The capability that allows it.
    capability: &'static str,
}

impl Refused {
    fn new(what: String, error: impl Into<io::Error>, capability: &'static str) -> Self {
        Self { what, error: error.into(), capability }
    }

    /// The capability the process lacks, if it is that.
    pub fn missing_capability(&self) -> Option<&'static str> {
        (self.error.kind() == io::ErrorKind::PermissionDenied).then_some(self.capability)
    }

    /// Whether there is no such interface.
    pub fn is_no_interface(&self) -> bool {
        [Errno::NODEV, Errno::NXIO]
            .contains(&Errno::from_io_error(&self.error).unwrap_or(Errno::IO))
    }

    /// What the system said.
    pub const fn error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.error)?;
        match self.missing_capability() {
            Some(capability) => write!(f, "; give the service {capability}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Somebody else says that it has one of the virtual addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claimant {
    /// The virtual address.
    pub address: IpAddr,
    /// The other's hardware address.
    pub hardware: [u8; 6],
}

/// The virtual addresses of this server, ready to be taken.
#[derive(Debug)]
pub struct VirtualAddresses(Kind);

#[derive(Debug)]
enum Kind {
    /// Binding an address of 127.0.0.0/8 is claiming it: for a demonstration on one machine.
    Loopback,
    Interface(Box<OnInterface>),
}

impl VirtualAddresses {
    /// Addresses that need no claiming; everything succeeds and nobody answers.
    pub const fn loopback() -> Self {
        Self(Kind::Loopback)
    }

    /// Prepares `addresses` on the interface called `name`. To be opened anew when
    /// [`LinkWatch`] reports another [`LinkState::index`] or hardware address.
    ///
    /// # Errors
    /// If there is no such interface, or a capability is missing.
    ///
    /// # Panics
    /// With more than [`MAX_ADDRESSES`].
    pub fn on_interface(name: &str, addresses: &[Prefixed]) -> Result<Self, Refused> {
        OnInterface::open(name, addresses, None).map(|it| Self(Kind::Interface(Box::new(it))))
    }

    /// As [`VirtualAddresses::on_interface`], with a hardware address that moves together with them.
    ///
    /// # Errors
    /// As there, or if the kernel has no macvlan.
    ///
    /// # Panics
    /// As there.
    pub fn on_own_hardware(
        name: &str,
        addresses: &[Prefixed],
        hardware: [u8; 6],
    ) -> Result<Self, Refused> {
        let opened = OnInterface::open(name, addresses, Some(hardware));
        opened.map(|it| Self(Kind::Interface(Box::new(it))))
    }

    /// Takes all addresses. They are announced by [`VirtualAddresses::announce`], once somebody hears
    /// at them: what phones send before that is lost.
    ///
    /// # Errors
    /// The first refusal; the addresses that could be taken are held all the same.
    pub fn claim(&mut self) -> Result<(), Refused> {
        match &mut self.0 {
            Kind::Loopback => Ok(()),
            Kind::Interface(it) => it.claim(),
        }
    }

    /// What keeps the addresses from lapsing, for a thread of its own; none on loopback.
    ///
    /// # Errors
    /// If the process may not open more descriptors.
    pub fn renewal(&self) -> Result<Option<Renewal>, Refused> {
        match &self.0 {
            Kind::Loopback => Ok(None),
            Kind::Interface(it) => it.renewal().map(Some),
        }
    }

    /// Gives all addresses up.
    ///
    /// # Errors
    /// The first refusal; the others are given up all the same.
    pub fn release(&mut self) -> Result<(), Refused> {
        match &mut self.0 {
            Kind::Loopback => Ok(()),
            Kind::Interface(it) => it.release(),
        }
    }

    /// Tells the network again that the addresses are here. Only for who holds them.
    ///
    /// # Errors
    /// If the interface cannot send (it is down).
    pub fn announce(&mut self) -> Result<(), Refused> {
        match &mut self.0 {
            Kind::Loopback => Ok(()),
            Kind::Interface(it) => it.announce(),
        }
    }

    /// Asks the network who has the addresses. Answers come in through [`VirtualAddresses::answers`].
    ///
    /// # Errors
    /// If the interface cannot send (it is down): nothing can be concluded from silence then.
    pub fn probe(&mut self) -> Result<(), Refused> {
        match &mut self.0 {
            Kind::Loopback => Ok(()),
            Kind::Interface(it) => it.probe(),
        }
    }

    /// Who else said since the last call that it has one of the addresses: answers to a probe, or a
    /// conflict while this server holds them. At most [`MAX_ANSWERS`]; the rest with the next call.
    ///
    /// # Errors
    /// If the interface went down or away.
    pub fn answers(&mut self) -> Result<Vec<Claimant>, Refused> {
        match &mut self.0 {
            Kind::Loopback => Ok(Vec::new()),
            Kind::Interface(it) => it.answers(),
        }
    }

    /// Which of the addresses this machine has now.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn held(&mut self) -> Result<Vec<Prefixed>, Refused> {
        match &mut self.0 {
            Kind::Loopback => Ok(Vec::new()),
            Kind::Interface(it) => it.held(),
        }
    }

    /// Readable when [`VirtualAddresses::answers`] has something to say.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        match &self.0 {
            Kind::Loopback => [None, None],
            Kind::Interface(it) => it.sources(),
        }
        .into_iter()
        .flatten()
    }
}

/// An address that is not renewed is removed by the kernel after this time; where others change
/// addresses on the machine just then, after twice this time. The kernel counts in whole seconds, so
/// there is no shorter one.
pub const LIFETIME: Duration = Duration::from_secs(1);

/// How often addresses are to be renewed: a few renewals may be late or lost.
pub const RENEW_EVERY: Duration = Duration::from_millis(200);

/// Virtual addresses of one server.
pub const MAX_ADDRESSES: usize = 16;

/// Answers read at a time, so that a flood cannot hold the keeper's loop.
pub const MAX_ANSWERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_and_prints_with_its_prefix() {
        for text in ["192.0.2.9/24", "2001:db8::9/64", "10.0.0.1/32", "::1/128", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Prefixed>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.1".parse::<Prefixed>().unwrap().length, 32);
        assert_eq!("::1".parse::<Prefixed>().unwrap().length, 128);
        for text in ["", "10.0.0.1/33", "::1/129", "10.0.0.1/", "10.0.0/8", "host/24", "::1/-1"] {
            assert!(text.parse::<Prefixed>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_capability_is_named() {
        let refused = Refused::new("add it".into(), Errno::PERM, "CAP_NET_ADMIN");
        assert!(refused.to_string().ends_with("; give the service CAP_NET_ADMIN"), "{refused}");
        let refused = Refused::new("add it".into(), Errno::NODEV, "CAP_NET_ADMIN");
        assert_eq!(refused.missing_capability(), None);
    }

    #[test]
    fn loopback_addresses_need_no_claiming() {
        let mut addresses = VirtualAddresses::loopback();
        addresses.claim().unwrap();
        addresses.announce().unwrap();
        addresses.probe().unwrap();
        assert_eq!(addresses.answers().unwrap(), []);
        assert_eq!(addresses.sources().count(), 0);
        addresses.release().unwrap();
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let refused = VirtualAddresses::on_interface("tandem-none", &[]).unwrap_err();
        assert!(refused.to_string().contains("tandem-none"), "{refused}");
        assert!(refused.is_no_interface(), "{refused}");
    }
}
