//! Local sockets that carry whole messages in order (`SOCK_SEQPACKET`): keeper to server, commands.
//!
//! Only processes of the same user, or root, are let in: the kernel tells who connected.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, connect, listen, recv, send, socket_with, socketpair, sockopt,
};
use rustix::process::geteuid;

/// The longest message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

const NOT_INHERITED: &str = "standard input is not the line to a keeper";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Waits for connections at a path. The path is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, for this user and root only. What a dead process left there is replaced.
    ///
    /// # Errors
    /// `AddrInUse` if a living process listens there; else what the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = open()?;
        let address = SocketAddrUnix::new(path)?;
        if let Err(error) = bind(&socket, &address) {
            if error != Errno::ADDRINUSE || connect(open()?, &address) != Err(Errno::CONNREFUSED) {
                return Err(error.into());
            }
            fs::remove_file(path)?;
            bind(&socket, &address)?;
        }
        // Nobody can connect before `listen`, so there is no moment with wider rights.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// `PermissionDenied` if it was another user's: it is closed already.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(&self.socket, flags) {
            Ok(socket) => {
                let stream = Stream { socket };
                let user = stream.peer()?.user;
                if user == 0 || user == geteuid().as_raw() {
                    Ok(Some(stream))
                } else {
                    let who = format!("user {user} may not use {}", self.path.display());
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, who))
                }
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What cannot be removed is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// One end of a connection. Never blocks.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
}

/// What [`Stream::receive`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Received {
    /// A whole message.
    Message(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// The other end is closed; nothing more will come.
    Closed,
}

/// Who is at the other end, as the kernel knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Process id at the time of the connection.
    pub process: i32,
    /// Effective user id.
    pub user: u32,
    /// Effective group id.
    pub group: u32,
}

impl Stream {
    /// Connects to a listener. Does not wait: a full backlog is an error.
    ///
    /// # Errors
    /// What the system says: nobody there, not allowed, backlog full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = open()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket })
    }

    /// Two ends of a new connection, for a child process to inherit one.
    ///
    /// # Errors
    /// Only if the process may not open more descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// The end that the parent process gave us as standard input.
    ///
    /// # Errors
    /// `InvalidInput` if standard input is something else.
    pub fn inherited() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        match sockopt::socket_type(&socket) {
            Ok(SocketType::SEQPACKET) => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, NOT_INHERITED)),
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `WouldBlock` if the other end does not read; `InvalidInput` if the message is empty (which
    /// would read as the end) or longer than [`MAX_MESSAGE_BYTES`]; `BrokenPipe` if it is closed.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        if message.is_empty() || message.len() > MAX_MESSAGE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        send(&self.socket, message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Takes one message, if there is one.
    ///
    /// # Errors
    /// `InvalidData` if the message is too long: it is lost. Else what the system says.
    pub fn receive(&self) -> io::Result<Received> {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        match recv(&self.socket, &mut buffer, RecvFlags::TRUNC) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => Ok(Received::Closed),
            Ok((_, length)) => match buffer.get(..length) {
                Some(message) => Ok(Received::Message(message.to_vec())),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// None in practice.
    pub fn peer(&self) -> io::Result<Peer> {
        let peer = sockopt::socket_peercred(&self.socket)?;
        Ok(Peer {
            process: peer.pid.as_raw_nonzero().get(),
            user: peer.uid.as_raw(),
            group: peer.gid.as_raw(),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.socket
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}
