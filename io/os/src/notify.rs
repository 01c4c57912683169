//! What systemd wants to know (`sd_notify(3)`): ready, alive, stopping.
//!
//! Without systemd everything here does nothing.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The line to systemd.
#[derive(Debug, Default)]
pub struct Notify {
    systemd: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As systemd set up this process's environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`,
    /// `WATCHDOG_PID`).
    ///
    /// # Errors
    /// If the environment names a socket that cannot be one.
    pub fn from_environment() -> io::Result<Self> {
        let socket = env::var_os("NOTIFY_SOCKET");
        let text = |name| env::var(name).ok();
        let process = std::process::id();
        Self::new(socket, text("WATCHDOG_USEC"), text("WATCHDOG_PID"), process)
    }

    fn new(
        socket: Option<OsString>,
        watchdog_micros: Option<String>,
        watchdog_process: Option<String>,
        process: u32,
    ) -> io::Result<Self> {
        let systemd = match socket {
            None => None,
            Some(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Some((socket, address(&path)?))
            }
        };
        let for_us = watchdog_process.is_none_or(|wanted| wanted == process.to_string());
        let micros = watchdog_micros.and_then(|micros| micros.parse().ok()).filter(|_| for_us);
        Ok(Self { systemd, watchdog: micros.filter(|it| *it > 0).map(Duration::from_micros) })
    }

    /// The service does its work now.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The service's loop turns. To be called at least twice in each [`Notify::watchdog`].
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// What the service does, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// After this long without [`Notify::alive`] the service is killed; `None`: nobody watches.
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.systemd {
            // A systemd that does not listen is no reason to stop serving. Where it matters (the
            // watchdog) the next one follows soon.
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }
}

fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is not a path")),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systemd(name: &str) -> (UnixDatagram, OsString) {
        let name = format!("tandem-notify-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into())
    }

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn systemd_hears_each_word() {
        let (listener, socket) = systemd("words");
        let notify = Notify::new(Some(socket), None, None, 1).unwrap();
        notify.ready("active\nsince now");
        notify.alive();
        notify.status("passive");
        notify.stopping();
        assert_eq!(heard(&listener), "READY=1\nSTATUS=active since now");
        assert_eq!(heard(&listener), "WATCHDOG=1");
        assert_eq!(heard(&listener), "STATUS=passive");
        assert_eq!(heard(&listener), "STOPPING=1");
    }

    #[test]
    fn the_watchdog_is_ours_only_if_it_names_us() {
        let watchdog = |micros: &str, process: Option<&str>| {
            let process = process.map(str::to_owned);
            Notify::new(None, Some(micros.to_owned()), process, 7).unwrap().watchdog()
        };
        assert_eq!(watchdog("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", Some("7")), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", Some("8")), None);
        assert_eq!(watchdog("0", None), None);
        assert_eq!(watchdog("soon", None), None);
    }

    #[test]
    fn without_systemd_nothing_happens() {
        let notify = Notify::new(None, None, None, 1).unwrap();
        notify.ready("");
        assert_eq!(notify.watchdog(), None);
        assert!(Notify::new(Some("relative".into()), None, None, 1).is_err());
    }
}
