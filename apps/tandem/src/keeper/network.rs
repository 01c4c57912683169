//! What the keeper does on the network: heartbeats, the virtual addresses, the state of the wire.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::Context as _;
use tandem_keeper::{Conflict, Reach};
use tandem_os::address::{
    LinkState, LinkWatch, Neighbours, Prefixed, Refused, VirtualAddresses, hardware_for,
};
use tandem_types::{Duration, Instant};

use super::holder::{Due, Holder};
use super::left_over;
use super::probe::Asker;
use super::reach::Reacher;
use super::recorder::Ways;
use crate::config::{Config, VirtualMac};
use crate::logging::Log;

/// Bytes of a datagram that are read: one more than the longest of the exchange of events, and more
/// than the longest heartbeat, so that a longer one is seen to be too long.
const DATAGRAM_BYTES: usize = tandem_keeper::PARCEL_MAX + 1;
/// Datagrams read from one path before others get their turn.
const READS_MAX: usize = 64;

/// The kernel is asked so often at most who the twin is; a stranger's frames must not cost more.
const TWIN_ASKED_EVERY: Duration = Duration::from_secs(1);

/// One way to the twin's keeper.
struct Path {
    socket: UdpSocket,
    peer: SocketAddr,
}

/// An interface with the virtual addresses on it.
struct Wire {
    name: String,
    prefixes: Vec<Prefixed>,
    /// The hardware address that moves with them, if one does.
    hardware: Option<[u8; 6]>,
    watch: LinkWatch,
    /// What the addresses were opened for.
    opened: LinkState,
    near: Neighbours,
    /// Hardware addresses of the twin, as far as they are known, and when the kernel was asked last.
    twin: Vec<[u8; 6]>,
    twin_asked: Option<Instant>,
}

/// Everything the keeper has on the network.
pub(super) struct Network {
    paths: Vec<Path>,
    askers: Vec<Asker>,
    /// The twin's own addresses.
    peer: Vec<IpAddr>,
    reacher: Reacher,
    addresses: VirtualAddresses,
    holder: Holder,
    /// `None` on loopback.
    wire: Option<Wire>,
    /// Whether the addresses are to be ours.
    held: bool,
}

impl Network {
    /// Binds and opens everything; afterwards nothing here fails for want of a descriptor. Addresses
    /// that an earlier life left behind are removed.
    pub(super) fn open(config: &Config, log: &Log) -> anyhow::Result<Self> {
        let mut paths = Vec::new();
        for (own, peer) in config.heartbeat_paths() {
            let socket = UdpSocket::bind(own)
                .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
                .with_context(|| {
                    format!(
                        "cannot use {own} for heartbeats: expected the `address` of this machine \
                         and a free `heartbeat_port`"
                    )
                })?;
            paths.push(Path { socket, peer });
        }
        let mut askers = Vec::new();
        for to in config.virtual_sip() {
            let own = config.own_sip().into_iter().find(|own| own.is_ipv4() == to.is_ipv4());
            if let Some(own) = own {
                let what = || format!("cannot use {} to ask at the virtual address", own.ip());
                askers.push(Asker::open(own, to).with_context(what)?);
            }
        }
        // Not before the sockets are bound: that fails where another keeper runs, whose they are then.
        left_over::clear(config, &prefixes(config))?.iter().for_each(|words| log.say(words));
        let (addresses, wire) = match &config.interface {
            None => (VirtualAddresses::loopback(), None),
            Some(name) => {
                let wire = open_wire(config, name)?;
                (wire.open()?, Some(wire))
            }
        };
        let holder = Holder::start(addresses.renewal()?)?;
        let peer = config.peer.clone();
        let reacher = Reacher::open(config).context("cannot open a socket to ask phones")?;
        Ok(Self { paths, askers, peer, reacher, addresses, holder, wire, held: false })
    }

    /// How many paths there are.
    pub(super) fn paths(&self) -> u8 {
        // A configuration has four at most.
        u8::try_from(self.paths.len()).unwrap_or(u8::MAX)
    }

    /// The paths once more, for another thread to send on.
    pub(super) fn ways(&self) -> anyhow::Result<Ways> {
        let way = |path: &Path| Ok((path.socket.try_clone()?, path.peer));
        self.paths.iter().map(way).collect::<std::io::Result<_>>().context("no descriptor is left")
    }

    /// The descriptors of the paths.
    pub(super) fn path_sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.paths.iter().map(|path| path.socket.as_fd())
    }

    /// The descriptors of everything else here: call [`Network::answered`] and [`Network::news`].
    pub(super) fn other_sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let wire = self.wire.iter().map(|wire| wire.watch.as_fd());
        let asked = self.askers.iter().map(Asker::as_fd).chain(self.reacher.sources());
        asked.chain(self.addresses.sources()).chain(wire)
    }

    /// Sends a heartbeat. One that does not leave is as good as lost on the way.
    pub(super) fn send(&self, path: u8, bytes: &[u8]) {
        if let Some(path) = self.paths.get(usize::from(path)) {
            let _ = path.socket.send_to(bytes, path.peer);
        }
    }

    /// Datagrams that came on a path.
    pub(super) fn receive(&self, path: u8) -> Vec<Vec<u8>> {
        let Some(path) = self.paths.get(usize::from(path)) else { return Vec::new() };
        let mut datagrams = Vec::new();
        let mut bytes = [0; DATAGRAM_BYTES];
        while datagrams.len() < READS_MAX
            && let Ok((length, _)) = path.socket.recv_from(&mut bytes)
        {
            datagrams.push(bytes[..length].to_vec());
        }
        datagrams
    }

    /// Asks at every virtual address whether a server serves there, and who else has it.
    pub(super) fn ask(&mut self) {
        self.askers.iter_mut().for_each(Asker::ask);
        // Where the wire is down nobody hears it, and that is told otherwise.
        let _ = self.addresses.probe();
    }

    /// Asks gateway and phones whether we reach them.
    pub(super) fn ask_reach(&mut self, now: Instant, phones: Vec<SocketAddr>) {
        let near = self.wire.as_mut().map(|wire| &mut wire.near);
        self.reacher.ask(now, phones, near);
    }

    /// Whom the questions reached, when that is certain.
    pub(super) fn reached(&mut self, now: Instant) -> Option<Reach> {
        self.reacher.result(now)
    }

    /// Who said of late that a virtual address is his, and is not the twin.
    pub(super) fn conflicts(&mut self, now: Instant) -> Vec<Conflict> {
        let Some(wire) = &mut self.wire else { return Vec::new() };
        let mut conflicts = Vec::new();
        for claimant in self.addresses.answers().unwrap_or_default() {
            if !wire.is_twin(now, claimant.hardware, &self.peer) {
                let (address, hardware) = (claimant.address, claimant.hardware);
                conflicts.push(Conflict { address, hardware });
            }
        }
        conflicts
    }

    /// Whether one does.
    pub(super) fn answered(&self) -> bool {
        // Every one is read, so that no answer is left for the next question.
        self.askers.iter().filter(|asker| asker.answered()).count() > 0
    }

    /// Takes the virtual addresses.
    pub(super) fn claim(&mut self) -> Result<(), String> {
        self.held = true;
        let addresses = &mut self.addresses;
        self.holder.change(true, || addresses.claim()).map_err(|refused| refused.to_string())
    }

    /// Gives the virtual addresses up.
    pub(super) fn release(&mut self) -> Result<(), String> {
        self.held = false;
        let addresses = &mut self.addresses;
        self.holder.change(false, || addresses.release()).map_err(|refused| refused.to_string())
    }

    /// Keeps the virtual addresses from lapsing, while they are ours. For every turn of the loop, when
    /// all that the keeper ordered is done.
    pub(super) fn keep(&mut self, now: Instant) -> Result<(), String> {
        if let Some(refusal) = self.holder.refusal() {
            return Err(refusal);
        }
        if !self.held || self.wire.is_none() {
            return Ok(());
        }
        match self.holder.keep(now) {
            Due::Nothing => Ok(()),
            Due::ClaimAgain => self.claim(),
        }
    }

    /// When [`Network::keep`] or [`Network::reached`] wants to be called at the latest.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let holder = (self.held && self.wire.is_some()).then(|| self.holder.next_timeout());
        holder.into_iter().chain(self.reacher.next_timeout()).min()
    }

    /// Tells the network again that they are here.
    pub(super) fn announce(&mut self) -> Result<(), String> {
        self.addresses.announce().map_err(|refused| refused.to_string())
    }

    /// How the wire was when the keeper started; `None` on loopback, which needs none.
    pub(super) fn wire_works(&self) -> Option<bool> {
        self.wire.as_ref().map(|wire| wire.watch.state().works())
    }

    /// Whether the wire works, if that has changed. An interface that was made anew gets its
    /// addresses again.
    pub(super) fn news(&mut self) -> Result<Option<bool>, String> {
        let Some(wire) = &mut self.wire else { return Ok(None) };
        let Some(state) = wire.watch.read().map_err(|refused| refused.to_string())? else {
            return Ok(None);
        };
        let is_other = (state.index, state.hardware) != (wire.opened.index, wire.opened.hardware);
        if state.index != 0 && is_other {
            let opened = wire.open();
            self.addresses = opened.map_err(|refused| refused.to_string())?;
            let renewal = self.addresses.renewal().map_err(|refused| refused.to_string())?;
            self.holder.replace(renewal);
            wire.opened = state;
            wire.near = Neighbours::on_interface(&wire.name).map_err(|error| error.to_string())?;
            self.reacher.forget_wire();
            if self.held {
                self.claim()?;
            }
        }
        Ok(Some(state.works()))
    }
}

impl Wire {
    fn open(&self) -> Result<VirtualAddresses, Refused> {
        match self.hardware {
            None => VirtualAddresses::on_interface(&self.name, &self.prefixes),
            Some(mac) => VirtualAddresses::on_own_hardware(&self.name, &self.prefixes, mac),
        }
    }

    /// Whether this is the hardware address of the twin, who may claim the virtual addresses too. What
    /// was true once is remembered: the kernel forgets who is silent.
    fn is_twin(&mut self, now: Instant, hardware: [u8; 6], peer: &[IpAddr]) -> bool {
        let is_late = self.twin_asked.is_none_or(|at| at + TWIN_ASKED_EVERY <= now);
        if !self.twin.contains(&hardware) && is_late {
            self.twin_asked = Some(now);
            let known: Vec<_> = peer.iter().filter_map(|ip| self.near.hardware_of(*ip)).collect();
            if !known.is_empty() {
                self.twin = known;
            }
        }
        self.twin.contains(&hardware)
    }
}

fn open_wire(config: &Config, name: &str) -> anyhow::Result<Wire> {
    let watch = LinkWatch::open(name)?;
    let opened = watch.state();
    let near = Neighbours::on_interface(name)?;
    let (name, prefixes) = (name.to_owned(), prefixes(config));
    let hardware = config.virtual_mac.map(|mac| match mac {
        VirtualMac::Auto => hardware_for(&prefixes),
        VirtualMac::Is(hardware) => hardware,
    });
    Ok(Wire { name, prefixes, hardware, watch, opened, near, twin: Vec::new(), twin_asked: None })
}

fn prefixes(config: &Config) -> Vec<Prefixed> {
    let prefixes = config.virtual_addresses.iter();
    prefixes.map(|prefix| Prefixed { address: prefix.ip, length: prefix.length }).collect()
}
