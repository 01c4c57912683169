//! A real telephone: a baresip process of our own, with its settings in a folder made for it.
//!
//! Traps of baresip 1.0.0 that are handled here: it takes the address for its audio from the
//! default route unless `net_interface` names one; its sine tone wants 48 kHz and two channels, and
//! an answer fails (without any event) when the tone cannot start; a login at start is over before
//! anybody can listen to its events, so the account is added by command.
//!
//! Invariant: the process and its folder belong to one run; the phone never logs in by itself again
//! within it (its logins last an hour).

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tandem_types::Transport;

use super::child::Child;
use super::control::{Control, Event};
use super::recording::Recording;
use super::space::Space;
use super::wait;

/// Where baresip listens for SIP and for us, on its own address.
const SIP_PORT: u16 = 5060;
const CONTROL_PORT: u16 = 4444;

/// A phone is up within this.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How to install what is missing.
const INSTALL: &str = "run ./setup, or: apt-get install baresip";

/// What a phone needs to be.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// User and name of the phone.
    pub user: &'a str,
    /// The user's password.
    pub password: &'a str,
    /// The address of the phone itself.
    pub address: IpAddr,
    /// Where it logs in.
    pub server: SocketAddr,
    /// Its namespace.
    pub space: Option<&'a Space>,
    /// A folder for its settings, its log and what it hears.
    pub folder: &'a Path,
}

/// A running phone.
#[derive(Debug)]
pub struct Phone {
    user: String,
    server: SocketAddr,
    password: String,
    child: Child,
    control: Control,
    recording: Recording,
}

impl Phone {
    /// Starts the phone; it does not log in yet.
    ///
    /// # Errors
    ///
    /// baresip is not installed or does not come up.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        let (program, modules) = installed()?;
        let folder = setup.folder;
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("config"), configuration(setup, &modules))?;
        // An account file must be there or baresip writes one with an example in it.
        std::fs::write(folder.join("accounts"), "")?;
        std::fs::write(folder.join("contacts"), "")?;
        let recording = Recording::of(folder)?;
        let log = folder.join("baresip.log");
        let mut arguments = vec![Path::new("-f"), folder];
        // Without this it offers its audio at an IPv4 address that it does not have.
        arguments.extend(setup.address.is_ipv6().then_some(Path::new("-6")));
        let mut child = Child::start(setup.user, &program, &arguments, setup.space, &log)?;
        let address = SocketAddr::new(setup.address, CONTROL_PORT);
        let control = wait::until("the phone's control port", START_LIMIT, || {
            child.still_runs()?;
            Ok(Control::connect(setup.space, address).ok())
        })?;
        Ok(Self {
            user: setup.user.to_owned(),
            server: setup.server,
            password: setup.password.to_owned(),
            child,
            control,
            recording,
        })
    }

    /// The phone's user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Logs in and returns how long that took.
    ///
    /// # Errors
    ///
    /// Refused, or no answer within `limit`.
    pub fn log_in(&mut self, limit: Duration) -> Result<Duration> {
        self.log_in_over(Transport::Udp, limit)
    }

    /// As [`Phone::log_in`], over this transport.
    ///
    /// # Errors
    ///
    /// Refused, or no answer within `limit`.
    pub fn log_in_over(&mut self, transport: Transport, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let account = format!(
            "<sip:{}@{};transport={transport}>;auth_pass={};regint=3600",
            self.user, self.server, self.password
        );
        self.control.command("uanew", &account)?;
        let event = self.expect("REGISTER_OK", limit)?;
        Ok(event.at.saturating_duration_since(begun))
    }

    /// Dials a number or user of the same server.
    ///
    /// # Errors
    ///
    /// The phone refuses.
    pub fn dial(&mut self, who: &str) -> Result<()> {
        let server = self.server;
        self.control.command("dial", &format!("sip:{who}@{server}")).map(drop)
    }

    /// Answers what rings.
    ///
    /// # Errors
    ///
    /// The phone refuses.
    pub fn answer(&mut self) -> Result<()> {
        self.control.command("accept", "").map(drop)
    }

    /// Hangs up.
    ///
    /// # Errors
    ///
    /// The phone refuses.
    pub fn hang_up(&mut self) -> Result<()> {
        self.control.command("hangup", "").map(drop)
    }

    /// Gives another command of baresip's, as `hold`; returns what it prints.
    ///
    /// # Errors
    ///
    /// The phone refuses.
    pub fn command(&mut self, command: &str, parameters: &str) -> Result<String> {
        self.control.command(command, parameters)
    }

    /// Waits for the next event of this kind.
    ///
    /// # Errors
    ///
    /// It does not come, or the phone has ended.
    pub fn expect(&mut self, kind: &str, limit: Duration) -> Result<Event> {
        let event = self.control.expect(kind, limit);
        event.with_context(|| format!("{}'s phone", self.user))
    }

    /// Nobody waits for the events until now.
    ///
    /// # Errors
    ///
    /// The connection to the phone is lost.
    pub fn pass_events(&mut self) -> Result<()> {
        self.control.pass()
    }

    /// How many events of this kind there were.
    ///
    /// # Errors
    ///
    /// The connection to the phone is lost.
    pub fn count(&mut self, kind: &str) -> Result<usize> {
        Ok(self.control.events()?.iter().filter(|event| event.kind == kind).count())
    }

    /// What the phone hears: the time of every piece of audio (20 ms) that it received and decoded.
    ///
    /// # Errors
    ///
    /// The recording cannot be watched.
    pub fn heard(&mut self) -> Result<&[Instant]> {
        self.recording.pieces()
    }

    /// The loudest sample that the phone heard in its last call (0 to 32767; a tone: 13,900).
    ///
    /// # Errors
    ///
    /// There is no recording.
    pub fn loudest(&self) -> Result<u16> {
        self.recording.loudest()
    }

    /// An error where the phone has ended.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        self.child.still_runs()
    }
}

/// The program and the folder of its modules.
///
/// # Errors
///
/// baresip is not installed; the message says how to do that.
pub fn installed() -> Result<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program =
        std::env::split_paths(&path).map(|folder| folder.join("baresip")).find(|p| p.is_file());
    let Some(program) = program else {
        bail!("the story needs the telephone baresip, which is not installed: {INSTALL}");
    };
    let folders = ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"];
    let modules = folders.map(PathBuf::from).into_iter().find(|f| f.join("ctrl_tcp.so").is_file());
    let Some(modules) = modules else {
        bail!("baresip has no module ctrl_tcp in {}: {INSTALL}", folders.join(" or "));
    };
    Ok((program, modules))
}

/// The settings of a phone that plays a tone and records what it hears.
fn configuration(setup: &Setup<'_>, modules: &Path) -> String {
    let Setup { user, address, folder, .. } = setup;
    let (modules, folder) = (modules.display(), folder.display());
    let [sip, control] = [SIP_PORT, CONTROL_PORT].map(|port| SocketAddr::new(*address, port));
    format!(
        "poll_method epoll\n\
         net_interface {address}\n\
         sip_listen {sip}\n\
         call_local_timeout 120\n\
         call_max_calls 4\n\
         audio_source ausine,400\n\
         ausrc_srate 48000\n\
         ausrc_channels 2\n\
         audio_player aubridge,{user}\n\
         auplay_srate 8000\n\
         auplay_channels 1\n\
         audio_alert aubridge,{user}-alert\n\
         audio_path {folder}\n\
         jitter_buffer_delay 5-10\n\
         module_path {modules}\n\
         module g711.so\n\
         module ausine.so\n\
         module aubridge.so\n\
         module sndfile.so\n\
         module_tmp uuid.so\n\
         module_app account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         ctrl_tcp_listen {control}\n\
         snd_path {folder}\n"
    )
}
