//! What differs between the two servers of a pair: one TOML file each.
//!
//! Every key stands once, in [`KEYS`]: name, what is expected, default, doc text. Reading,
//! `tandem config keys` and the errors use that table, so they cannot disagree. Everything that is
//! the same on both servers (users, settings) is not here: it is replicated.
//!
//! Invariant: a [`Config`] that exists is complete and consistent; whoever holds one need not check.

mod backup;
mod database;
mod read;
mod service;
mod third;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tandem_link::PairSecret;
pub use tandem_node::Digest;
pub use tandem_pair::Profile;
use tandem_pair::{Healing, Timings};
use tandem_types::Seat;

pub use backup::BackupTable;
pub use database::DatabaseKeys;
pub(crate) use database::access;
pub use third::ThirdVote;

pub use read::{Problem, Problems};
pub use service::{Probe, ServiceTable};

/// Where the file is when neither `--config` nor the environment says otherwise.
pub const DEFAULT_PATH: &str = "/etc/tandem/tandem.toml";
/// The environment variable that names the file.
pub const PATH_VARIABLE: &str = "TANDEM_CONFIG";
/// Own addresses, peer addresses, virtual addresses: so many of each at most.
pub const ADDRESSES_MAX: usize = 4;
/// Devices that one user may have logged in at once: at most.
pub const DEVICES_MAX: u64 = 32;
/// A phone is told to wait so long at most, in seconds.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 300;
/// Letters in a realm, at most.
pub const REALM_MAX: usize = 253;
/// The port of SIP.
pub const SIP_PORT: u16 = 5060;
/// The port of the keepers' heartbeats.
pub const HEARTBEAT_PORT: u16 = 5070;
/// The port of the link between the servers.
pub const LINK_PORT: u16 = 5071;

/// One server's configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// This machine's place in the pair.
    pub seat: Seat,
    /// The domain of every user, and the realm of digest authentication.
    pub realm: String,
    /// The folder of the database, the epoch file and the sockets.
    pub state: PathBuf,
    /// The file of the pair secret.
    pub secret: PathBuf,
    /// This machine's own addresses.
    pub address: Vec<IpAddr>,
    /// The port of SIP on every address.
    pub port: u16,
    /// The addresses that move with the role.
    pub virtual_addresses: Vec<Prefix>,
    /// The interface that carries the virtual addresses; `None`: loopback, binding is enough.
    pub interface: Option<String>,
    /// Whether the virtual addresses have a hardware address of their own.
    pub virtual_mac: Option<VirtualMac>,
    /// Who stands for the phones' network when this machine asks whether it is on it; `None`: the
    /// gateways of the default routes.
    pub gateway: Option<IpAddr>,
    /// The other machine's own addresses; the n-th is reached from the n-th of `address`.
    pub peer: Vec<IpAddr>,
    /// The UDP port of the keepers' heartbeats.
    pub heartbeat_port: u16,
    /// The UDP port of the link between the servers.
    pub link_port: u16,
    /// How fast the pair reacts.
    pub profile: Profile,
    /// Who stays active when contact is back after both were.
    pub healing: Healing,
    /// The third vote, if there is one.
    pub third: ThirdVote,
    /// The database of a pair that has grown.
    pub database: DatabaseKeys,
    /// Which digest algorithms phones are offered.
    pub digest: Digest,
    /// Devices that one user may have logged in at once.
    pub devices_per_user: usize,
    /// Where the keeper shows its metrics; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// The programs beside the server.
    pub services: Vec<ServiceTable>,
    /// When and where this machine makes backups by itself; `None`: it does not.
    pub backup: Option<BackupTable>,
    /// Who is answered 503 is told to wait so long, or up to twice as long, in seconds.
    pub retry_after_seconds: u32,
    /// The time zone in which commands show and take times; `None`: the machine's.
    pub time_zone: Option<String>,
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Prefix {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub length: u8,
}

impl Config {
    /// Reads and checks `path`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in the file, each with its line; or that it cannot be read.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read the configuration {}: set this machine up with `tandem init`, \
                 or name the file with --config or {PATH_VARIABLE}",
                path.display()
            )
        })?;
        Ok(Self::parse(&path, &text)?)
    }

    /// Checks the text of a file; relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in it, each with its line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        read::parse(path, text)
    }

    /// The pair secret.
    ///
    /// # Errors
    ///
    /// The file cannot be read, may be read by others, or holds something else.
    pub fn pair_secret(&self) -> anyhow::Result<PairSecret> {
        read_secret(&self.secret)
    }

    /// Where SIP is served on this machine's own addresses.
    pub fn own_sip(&self) -> Vec<SocketAddr> {
        self.address.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect()
    }

    /// Where SIP is served on the virtual addresses.
    pub fn virtual_sip(&self) -> Vec<SocketAddr> {
        self.virtual_addresses.iter().map(|p| SocketAddr::new(p.ip, self.port)).collect()
    }

    /// The paths of the heartbeats: our end and the peer's.
    pub fn heartbeat_paths(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.paths(self.heartbeat_port)
    }

    /// The ends of the link between the servers: ours and the peer's.
    pub fn link_ends(&self) -> (SocketAddr, SocketAddr) {
        // A configuration has at least one address and one peer.
        self.paths(self.link_port)[0]
    }

    fn paths(&self, port: u16) -> Vec<(SocketAddr, SocketAddr)> {
        let end = |ip: &IpAddr| SocketAddr::new(*ip, port);
        self.address.iter().map(end).zip(self.peer.iter().map(end)).collect()
    }

    /// The time-outs of the profile.
    pub const fn timings(&self) -> Timings {
        Timings::of(self.profile)
    }

    /// The keeper's socket for commands.
    pub fn keeper_socket(&self) -> PathBuf {
        self.state.join("keeper.sock")
    }

    /// The server's socket for commands.
    pub fn server_socket(&self) -> PathBuf {
        self.state.join("server.sock")
    }

    /// The server's socket for contents of files.
    pub fn files_socket(&self) -> PathBuf {
        self.state.join("files.sock")
    }

    /// The folder of what happened on both machines.
    pub fn events_folder(&self) -> PathBuf {
        self.state.join("events")
    }

    /// The file of the highest epoch seen.
    pub fn epoch_file(&self) -> PathBuf {
        self.state.join("epoch")
    }
}

/// Reads a file as `init` writes it: 64 hexadecimal digits, for its owner's eyes only.
fn read_secret(path: &Path) -> anyhow::Result<PairSecret> {
    use std::os::unix::fs::PermissionsExt as _;
    let show = path.display();
    let what = || format!("cannot read the pair secret {show}: `tandem init` writes it");
    let mode = std::fs::metadata(path).with_context(what)?.permissions().mode();
    anyhow::ensure!(
        mode & 0o077 == 0,
        "the pair secret {show} may be read by others (mode {:03o}): run chmod 600 {show}",
        mode & 0o777
    );
    let text = std::fs::read_to_string(path).with_context(what)?;
    let secret = from_hex(text.trim()).with_context(|| {
        format!("{show} does not hold 64 hexadecimal digits: run `tandem init`")
    })?;
    Ok(PairSecret::from_bytes(secret))
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |b, d| b << 4 | d)).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

/// The hardware address of the virtual addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VirtualMac {
    /// Made from the virtual addresses.
    Auto,
    /// This one.
    Is([u8; 6]),
}

impl VirtualMac {
    fn parse(text: &str) -> Option<Self> {
        if text == "auto" {
            return Some(Self::Auto);
        }
        let byte = |digits: &str| {
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            (is_hex && digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
        };
        let bytes: Vec<u8> = text.split(':').map(byte).collect::<Option<_>>()?;
        let bytes: [u8; 6] = bytes.try_into().ok()?;
        // The lowest bit of the first byte marks addresses of groups.
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self::Is(bytes))
    }
}

impl Prefix {
    /// Reads `192.0.2.10/24`; without a length, the address alone is the network.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, length) = match text.split_once('/') {
            Some((ip, length)) => (ip, Some(length.parse().ok()?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        (1..=most).contains(&length).then_some(Self { ip, length })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.length)
    }
}

/// One key of the file.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value must be.
    pub expected: &'static str,
    /// Its value, in TOML, where the file does not give one; `None`: it may be missing (`optional`)
    /// or must be there.
    pub default: Option<&'static str>,
    /// Whether it may be missing without a default.
    pub optional: bool,
    /// What it is for.
    pub doc: &'static str,
    set: fn(&mut Config, &read::Value<'_>) -> bool,
}

/// Every key, in the order in which `init` writes them.
pub const KEYS: &[Key] = &[
    Key {
        name: "seat",
        expected: "\"master\" or \"standby\"",
        default: None,
        optional: false,
        doc: "This machine's place in the pair; never changes. The master leads when both start cold.",
        set: |config, value| {
            let seat = match value.text() {
                Some("master") => Seat::Master,
                Some("standby") => Seat::Standby,
                Some(_) | None => return false,
            };
            put(&mut config.seat, Some(seat))
        },
    },
    Key {
        name: "realm",
        expected: "a domain name: letters, digits, dots and dashes, at most 253",
        default: None,
        optional: false,
        doc: "The domain of every user and the realm of their passwords. The same on both machines; \
              a change makes every password void.",
        set: |config, value| {
            let realm = value.text().filter(|text| is_realm(text));
            put(&mut config.realm, realm.map(str::to_owned))
        },
    },
    Key {
        name: "address",
        expected: "1 to 4 addresses of this machine, as in [\"192.0.2.2\", \"2001:db8::2\"]",
        default: None,
        optional: false,
        doc: "This machine's own addresses. SIP is spoken there too, and refused with 503 while \
              passive.",
        set: |config, value| put(&mut config.address, value.list(own_address)),
    },
    Key {
        name: "peer",
        expected: "1 to 4 addresses of the other machine, as in [\"192.0.2.3\"]",
        default: None,
        optional: false,
        doc: "The other machine's own addresses. Path n of the heartbeats runs from the n-th of \
              `address` to the n-th of `peer`; the link between the servers takes the first.",
        set: |config, value| put(&mut config.peer, value.list(own_address)),
    },
    Key {
        name: "virtual",
        expected: "1 to 4 addresses with their prefix, as in [\"192.0.2.10/24\"]",
        default: None,
        optional: false,
        doc: "The addresses phones know. They are on the active machine. The same on both machines.",
        set: |config, value| {
            let usable = |p: &Prefix| is_usable(p.ip);
            put(&mut config.virtual_addresses, value.list(|t| Prefix::parse(t).filter(usable)))
        },
    },
    Key {
        name: "interface",
        expected: "the name of a network interface: 1 to 15 letters without spaces and slashes",
        default: None,
        optional: true,
        doc: "The interface that carries the virtual addresses. Left out on loopback addresses only: \
              there, binding is enough.",
        set: |config, value| {
            let name = value.text().filter(|name| is_interface(name));
            put(&mut config.interface, name.map(|name| Some(name.to_owned())))
        },
    },
    Key {
        name: "virtual_mac",
        expected: "\"auto\" or a hardware address of one device, as in \"02:00:00:00:00:0a\"",
        default: None,
        optional: true,
        doc: "A hardware address that moves together with the virtual addresses, so that what phones \
              have in their ARP tables stays true. `auto` makes it from the virtual addresses. The same \
              on both machines. Left out: that of `interface`.",
        set: |config, value| {
            let mac = value.text().and_then(VirtualMac::parse);
            put(&mut config.virtual_mac, mac.map(Some))
        },
    },
    Key {
        name: "gateway",
        expected: "an address that is always there, as in \"192.0.2.1\"",
        default: None,
        optional: true,
        doc: "A neighbour on `interface` that answers to ARP (IPv6: to neighbour solicitation) for as long \
              as this machine is on the phones' network. Left out: the gateways of the default routes.",
        set: |config, value| {
            let ip = value.text().and_then(|text| text.parse::<IpAddr>().ok());
            let gateway = ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
            put(&mut config.gateway, gateway.map(Some))
        },
    },
    Key {
        name: "port",
        expected: PORT,
        default: Some("5060"),
        optional: false,
        doc: "SIP on UDP and TCP, on the own and the virtual addresses.",
        set: |config, value| put(&mut config.port, port(value)),
    },
    Key {
        name: "heartbeat_port",
        expected: PORT,
        default: Some("5070"),
        optional: false,
        doc: "UDP; heartbeats between the keepers. The same on both machines.",
        set: |config, value| put(&mut config.heartbeat_port, port(value)),
    },
    Key {
        name: "link_port",
        expected: PORT,
        default: Some("5071"),
        optional: false,
        doc: "UDP (QUIC); the link between the servers. The same on both machines.",
        set: |config, value| put(&mut config.link_port, port(value)),
    },
    Key {
        name: "state",
        expected: "a path",
        default: Some("\"/var/lib/tandem\""),
        optional: false,
        doc: "The folder of the database, the epoch file and the sockets for commands.",
        set: |config, value| put(&mut config.state, value.text().and_then(path)),
    },
    Key {
        name: "secret",
        expected: "a path",
        default: Some("\"pair.secret\""),
        optional: false,
        doc: "The file of the pair secret (mode 600), written by `tandem init`. Relative paths are \
              relative to this file's folder.",
        set: |config, value| put(&mut config.secret, value.text().and_then(path)),
    },
    Key {
        name: "profile",
        expected: "\"default\" or \"fast\"",
        default: Some("\"default\""),
        optional: false,
        doc: "How fast the pair reacts. `fast` halves the time-outs: for machines with a core to \
              spare and a quiet network. The same on both machines.",
        set: |config, value| {
            let profile = match value.text() {
                Some("default") => Profile::Default,
                Some("fast") => Profile::Fast,
                Some(_) | None => return false,
            };
            put(&mut config.profile, Some(profile))
        },
    },
    Key {
        name: "healing",
        expected: "\"live-calls\" or \"master\"",
        default: Some("\"live-calls\""),
        optional: false,
        doc: "Who stays active when contact is back after both were (two sites, nothing shared): who \
              carries more calls, or always the master. The same on both machines.",
        set: |config, value| {
            let healing = match value.text() {
                Some("live-calls") => Healing::LiveCalls,
                Some("master") => Healing::Master,
                Some(_) | None => return false,
            };
            put(&mut config.healing, Some(healing))
        },
    },
    third::WITNESS,
    third::ETCD,
    third::ETCD_USER,
    third::ETCD_PASSWORD,
    third::ETCD_AUTHORITY,
    third::ETCD_CERTIFICATE,
    third::ETCD_KEY,
    database::DATABASE,
    database::PASSWORD,
    Key {
        name: "digest",
        expected: "\"md5\", \"sha256\" or \"both\"",
        default: Some("\"md5\""),
        optional: false,
        doc: "Which digest algorithms phones are offered. Every phone knows md5; many fail when \
              they are offered sha256 too. The same on both machines.",
        set: |config, value| {
            let digest = match value.text() {
                Some("md5") => Digest::Md5,
                Some("sha256") => Digest::Sha256,
                Some("both") => Digest::Both,
                Some(_) | None => return false,
            };
            put(&mut config.digest, Some(digest))
        },
    },
    Key {
        name: "devices_per_user",
        expected: "a whole number from 1 to 32",
        default: Some("4"),
        optional: false,
        doc: "Devices that one user may have logged in at once.",
        set: |config, value| {
            let number = value.number(1..=DEVICES_MAX);
            put(&mut config.devices_per_user, number.and_then(|n| usize::try_from(n).ok()))
        },
    },
    Key {
        name: "metrics",
        expected: "an address and a port, as in \"127.0.0.1:9160\"",
        default: None,
        optional: true,
        doc: "Where the keeper answers HTTP: /metrics (for Prometheus), /healthz, /readyz (200 on the \
              active machine only). Left out: nowhere. It is not encrypted and asks for no password: \
              keep it to loopback or to a network of your own.",
        set: |config, value| {
            let address = value.text().and_then(|text| text.parse::<SocketAddr>().ok());
            let address = address.filter(|address| address.port() != 0);
            put(&mut config.metrics, address.map(Some))
        },
    },
    Key {
        name: "retry_after_seconds",
        expected: "a whole number from 1 to 300",
        default: Some("1"),
        optional: false,
        doc: "Who is answered 503 (by the passive machine, or because of a block) is told to wait \
              so long, or up to twice as long, so that not all come back at once. Some phones are \
              quite silent for that time, for emergency calls too: keep it short.",
        set: |config, value| {
            let number = value.number(1..=RETRY_AFTER_SECONDS_MAX);
            put(&mut config.retry_after_seconds, number.and_then(|n| u32::try_from(n).ok()))
        },
    },
    Key {
        name: "time_zone",
        expected: "the name of a time zone, as in \"Europe/Berlin\" or \"UTC\"",
        default: None,
        optional: true,
        doc: "In which `tandem cdr` shows and takes times. Left out: that of this machine. The same on both \
              machines, if exports are to be equal to the letter.",
        set: |config, value| {
            let name = value.text().filter(|name| crate::commands::is_zone(name));
            put(&mut config.time_zone, name.map(|name| Some(name.to_owned())))
        },
    },
];

const PORT: &str = "a whole number from 1 to 65535";

/// The reference page of the file, as TOML: every key with doc text and default.
pub fn reference() -> String {
    let mut page = String::new();
    for key in KEYS {
        explain(&mut page, key.name, key.default, key.optional, key.expected, key.doc);
    }
    page += "A backup every day, by a table [backup]:\n\n";
    for key in backup::BACKUP_KEYS {
        explain(&mut page, key.name, key.default, false, key.expected, key.doc);
    }
    page += "Programs beside the server, each with a table [[service]] at the end of the file:\n\n";
    for key in service::SERVICE_KEYS {
        explain(&mut page, key.name, key.default, key.optional, key.expected, key.doc);
    }
    page
}

fn explain(
    page: &mut String,
    name: &str,
    default: Option<&str>,
    optional: bool,
    expected: &str,
    doc: &str,
) {
    let value = match (default, optional) {
        (Some(default), _) => format!("default: {default}"),
        (None, true) => String::from("may be left out"),
        (None, false) => String::from("must be given"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{name}");
    for line in wrap(doc, 76) {
        let _ = writeln!(page, "    {line}");
    }
    let _ = writeln!(page, "    Expected: {expected}; {value}.\n");
}

/// Breaks `text` into lines of `width` letters where its words allow it.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            let gap = if lines[last].is_empty() { "" } else { " " };
            lines[last] += &format!("{gap}{word}");
        }
    }
    lines
}

fn put<T>(place: &mut T, value: Option<T>) -> bool {
    let found = value.is_some();
    if let Some(value) = value {
        *place = value;
    }
    found
}

fn own_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|ip| is_usable(*ip))
}

/// Whether one machine can have the address.
fn is_usable(ip: IpAddr) -> bool {
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast || link_local)
}

/// Whether the text can stand as a realm: a domain name or an address.
pub(crate) fn is_realm(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    (1..=REALM_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

fn port(value: &read::Value<'_>) -> Option<u16> {
    value.number(1..=u64::from(u16::MAX)).and_then(|n| u16::try_from(n).ok())
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Before the first key is read. Every field of it is overwritten, or the file is refused.
fn blank() -> Config {
    Config {
        seat: Seat::Master,
        realm: String::new(),
        state: PathBuf::new(),
        secret: PathBuf::new(),
        address: vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        port: SIP_PORT,
        virtual_addresses: Vec::new(),
        interface: None,
        virtual_mac: None,
        gateway: None,
        peer: vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        heartbeat_port: HEARTBEAT_PORT,
        link_port: LINK_PORT,
        profile: Profile::Default,
        healing: Healing::default(),
        third: ThirdVote::default(),
        database: DatabaseKeys::default(),
        digest: Digest::Md5,
        devices_per_user: 1,
        metrics: None,
        services: Vec::new(),
        backup: None,
        retry_after_seconds: 1,
        time_zone: None,
    }
}
