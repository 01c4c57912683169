//! Where a run takes place: on loopback addresses (anybody may), or on machines made of network
//! namespaces (root), where the virtual address is a real one that moves with gratuitous ARP.
//!
//! Both have the same numbers: .1 master, .2 standby, .10 virtual, .21 and on phones, .31 client.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

use super::space::{INTERFACE, Network, PREFIX_BITS, Space, address_of};

/// Last number of the master's own address.
pub const MASTER: u8 = 1;
/// Last number of the standby's own address.
pub const STANDBY: u8 = 2;
/// Last number of the address that phones know.
pub const VIRTUAL: u8 = 10;
/// Last number of the first phone's address.
pub const FIRST_PHONE: u8 = 21;
/// Last number of the address of a client that measures.
pub const CLIENT: u8 = 31;

/// The name of the machine that measures.
pub const CLIENT_NAME: &str = "client";

/// The port of SIP.
pub const SIP_PORT: u16 = 5060;

/// Loopback networks 127.64.0.0/24 to 127.127.255.0/24 are tried, this many of them.
const TRIES: u32 = 64;

/// Temporary folders made so far.
static TURN: AtomicU32 = AtomicU32::new(0);

/// A place.
#[derive(Debug)]
pub enum Place {
    /// Addresses 127.x.y.0/24 of this machine.
    Loopback([u8; 2]),
    /// Machines of their own.
    Machines(Network),
}

impl Place {
    /// A free part of the loopback network.
    ///
    /// # Errors
    ///
    /// Somebody listens on all that were tried.
    pub fn loopback() -> Result<Self> {
        // Where the search starts is of no matter; two runs at once should not meet.
        let start = std::process::id().wrapping_mul(2_654_435_761);
        for turn in 0..TRIES {
            let [x, y, ..] = start.wrapping_add(turn << 16).to_be_bytes();
            let place = Self::Loopback([64 + x % 64, y]);
            let numbers = [MASTER, STANDBY, VIRTUAL, FIRST_PHONE, FIRST_PHONE + 1];
            if numbers.iter().all(|n| UdpSocket::bind((place.address(*n), SIP_PORT)).is_ok()) {
                return Ok(place);
            }
        }
        bail!("no free part of 127.64.0.0/10 found: port {SIP_PORT} is in use everywhere")
    }

    /// Two machines for the pair, one that measures, and these phones.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel refuses.
    pub fn machines(phones: &[&str]) -> Result<Self> {
        let mut hosts = vec![("master", MASTER), ("standby", STANDBY), (CLIENT_NAME, CLIENT)];
        hosts.extend(phones.iter().copied().zip(FIRST_PHONE..));
        Ok(Self::Machines(Network::new(&hosts)?))
    }

    /// The address with this last number.
    #[must_use]
    pub fn address(&self, number: u8) -> IpAddr {
        match self {
            Self::Loopback([x, y]) => Ipv4Addr::new(127, *x, *y, number).into(),
            Self::Machines(_) => address_of(number).into(),
        }
    }

    /// The namespace of a machine, where it has one.
    #[must_use]
    pub fn space(&self, name: &str) -> Option<Space> {
        self.network().map(|network| network.space(name))
    }

    /// The network between the machines, where there is one.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        match self {
            Self::Loopback(_) => None,
            Self::Machines(network) => Some(network),
        }
    }

    /// The interface for the virtual address and the bits of its network.
    #[must_use]
    pub fn interface(&self) -> (Option<String>, u8) {
        match self {
            Self::Loopback(_) => (None, 32),
            Self::Machines(_) => (Some(INTERFACE.to_owned()), PREFIX_BITS),
        }
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Loopback(_) => "on loopback addresses of this machine",
            Self::Machines(_) => {
                "on machines made of network namespaces, with a real virtual address"
            }
        }
    }
}

/// A folder for one run.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// `keep`, which then stays, or a temporary folder, which goes with this value.
    ///
    /// # Errors
    ///
    /// It cannot be made; what should be kept is there already.
    pub fn new(keep: Option<&Path>) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = match keep {
            Some(path) => std::path::absolute(path)?,
            None => {
                // One that was kept must not be in the way of the next.
                let turn = TURN.fetch_add(1, Ordering::Relaxed);
                let name = format!("tandem-demo-{}-{turn}", std::process::id());
                std::env::temp_dir().join(name)
            }
        };
        // It will hold the pair's secret.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path, keep: keep.is_some() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it stays: there is something in it to look at.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_place_is_in_its_own_part_of_the_network() {
        let place = Place::loopback().unwrap();
        let IpAddr::V4(master) = place.address(MASTER) else { panic!("not IPv4") };
        let [a, b, _, d] = master.octets();
        assert_eq!((a, (64..128).contains(&b), d), (127, true, MASTER));
    }

    #[test]
    fn a_temporary_folder_is_for_its_owner_only_and_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new(None).unwrap();
        let path = folder.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
