use core::fmt;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What carries SIP messages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Transport {
    /// Datagrams; lost ones are repeated by SIP.
    Udp,
    /// A byte stream that repeats by itself.
    Tcp,
}

impl Transport {
    /// Whether the transport repeats lost packets itself (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp => true,
        }
    }

    /// As it stands in a Via header.
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// Where a message came from or goes to: transport, our address, their address.
///
/// For TCP this names a connection if one with these ends is open; where none is, sending opens a
/// connection to `remote`. It stays meaningful on the twin, which owns `local` (the virtual
/// address) after a takeover.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Flow {
    /// UDP or TCP.
    pub transport: Transport,
    /// Our side: the address phones know.
    pub local: SocketAddr,
    /// Their side.
    pub remote: SocketAddr,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.remote)
    }
}
