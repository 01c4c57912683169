//! One program beside the server: its process, its lines, its probe.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tandem_keeper::{Budget, Exit};
use tandem_os::child::{self, Child, Output, Stop};
use tandem_os::poll::Want;
use tandem_types::{Duration, Instant};

use crate::config::{Probe, ServiceTable};
use crate::logging::Log;

/// Bytes of a line that are shown; the rest of it is left out.
const LINE_MAX: usize = 400;
/// Lines that may come at once, then one in each [`LINE_PAUSE`]; others are counted.
const LINES_BURST: u32 = 100;
/// See [`LINES_BURST`].
const LINE_PAUSE: Duration = Duration::from_millis(50);
/// Bytes read before others get their turn.
const READ_MAX: usize = 64 * 1024;
/// Who writes more lines than are shown is not read for so long: it waits, not we.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// What was found out.
pub(super) enum Outcome {
    /// It wrote the line that says so.
    Ready,
    /// What came of the probe with this number.
    Probed(u64, bool),
    /// Its process has ended.
    Ended(Exit),
}

/// See the module.
pub(super) struct Process {
    table: ServiceTable,
    log: Arc<Log>,
    child: Option<Child>,
    pipes: Vec<Pipe>,
    probe: Option<(u64, Probing)>,
    budget: Budget,
    /// Not counted into `dropped` yet.
    untold: u64,
    dropped: u64,
    paused_until: Instant,
}

/// Where a process writes.
struct Pipe {
    end: OwnedFd,
    line: Vec<u8>,
    /// The rest of this line is left out.
    too_long: bool,
}

/// A probe on its way.
enum Probing {
    Connects(OwnedFd),
    Runs(Child),
    /// Known already.
    Over(bool),
}

impl Process {
    /// Nothing is started yet.
    pub(super) fn new(now: Instant, table: ServiceTable, log: Arc<Log>) -> Self {
        let budget = Budget::new(now, LINES_BURST, LINE_PAUSE);
        let (child, pipes, probe) = (None, Vec::new(), None);
        Self { table, log, child, pipes, probe, budget, untold: 0, dropped: 0, paused_until: now }
    }

    pub(super) fn name(&self) -> &str {
        &self.table.name
    }

    /// Lines that were too many for the log.
    pub(super) fn lines_dropped(&self) -> u64 {
        self.dropped
    }

    /// Starts the process. Its id, or why it could not be started.
    pub(super) fn start(&mut self) -> Result<u32, String> {
        let mut command = build(&self.table.command);
        let mut child =
            Child::spawn(&mut command, Output::Capture).map_err(|error| error.to_string())?;
        let ends = [child.stdout().map(OwnedFd::from), child.stderr().map(OwnedFd::from)];
        self.pipes.clear();
        for end in ends.into_iter().flatten() {
            // One that blocked would hold up the other services.
            if fcntl_setfl(&end, OFlags::NONBLOCK).is_ok() {
                self.pipes.push(Pipe { end, line: Vec::new(), too_long: false });
            }
        }
        Ok(self.child.insert(child).id())
    }

    /// Asks it to end.
    pub(super) fn stop(&self) {
        if let Some(child) = &self.child {
            // One that cannot be signalled has ended.
            let _ = child.stop(Stop::Ask);
        }
    }

    /// Ends it, and what it has started.
    pub(super) fn kill(&self) {
        if let Some(child) = &self.child {
            kill_group(child);
            let _ = child.stop(Stop::Kill);
        }
    }

    /// Begins a probe; the one before is dropped.
    pub(super) fn probe(&mut self, number: u64) {
        let probing = match &self.table.probe {
            None => Probing::Over(false),
            Some(Probe::Tcp(address)) => connects(*address),
            Some(Probe::Socket(path)) => Probing::Over(unix_connects(path)),
            Some(Probe::Command(words)) => {
                let mut command = build(words);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                match Child::spawn(&mut command, Output::Inherit) {
                    Ok(child) => Probing::Runs(child),
                    Err(_) => Probing::Over(false),
                }
            }
        };
        if let Some((_, Probing::Runs(child))) = &self.probe {
            kill_group(child);
        }
        self.probe = Some((number, probing));
    }

    /// What to wait for.
    pub(super) fn wants(&self, now: Instant) -> Vec<(BorrowedFd<'_>, Want)> {
        let mut wants = Vec::new();
        wants.extend(self.child.as_ref().map(|child| (child.as_fd(), Want::Read)));
        if self.paused_until <= now {
            wants.extend(self.pipes.iter().map(|pipe| (pipe.end.as_fd(), Want::Read)));
        }
        match &self.probe {
            Some((_, Probing::Connects(socket))) => wants.push((socket.as_fd(), Want::Write)),
            Some((_, Probing::Runs(child))) => wants.push((child.as_fd(), Want::Read)),
            Some((_, Probing::Over(_))) | None => {}
        }
        wants
    }

    /// Until when it is not read, or that a probe has its answer already.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        if matches!(self.probe, Some((_, Probing::Over(_)))) {
            return Some(now);
        }
        (self.paused_until > now).then_some(self.paused_until)
    }

    /// Everything that has come of it.
    pub(super) fn look(&mut self, now: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        // What it wrote before its end comes first.
        if self.paused_until <= now {
            self.read(now, &mut outcomes);
        }
        outcomes.extend(self.probed().map(|(number, works)| Outcome::Probed(number, works)));
        outcomes.extend(self.ended().map(Outcome::Ended));
        outcomes
    }

    fn ended(&mut self) -> Option<Exit> {
        let child = self.child.as_mut()?;
        let has = [(child.as_fd(), Want::Read)];
        if !tandem_os::poll::poll(&has, Some(Instant::ZERO)).is_ok_and(|ready| ready.has(0)) {
            return None;
        }
        // Its number is taken until it is reaped, so this is its group and nobody else's.
        kill_group(child);
        let exit = child.reap().ok()??;
        self.child = None;
        Some(match exit {
            child::Exit::Code(code) => Exit::Code(code),
            child::Exit::Signal(signal) => Exit::Signal(signal),
        })
    }

    fn probed(&mut self) -> Option<(u64, bool)> {
        let (number, probing) = self.probe.as_mut()?;
        let works = match probing {
            Probing::Over(works) => *works,
            Probing::Connects(socket) => {
                let has = [(socket.as_fd(), Want::Write)];
                let ready = tandem_os::poll::poll(&has, Some(Instant::ZERO)).ok()?;
                if !ready.has(0) {
                    return None;
                }
                matches!(sockopt::socket_error(&*socket), Ok(Ok(())))
            }
            Probing::Runs(child) => child.reap().ok()?? == child::Exit::Code(0),
        };
        let number = *number;
        self.probe = None;
        Some((number, works))
    }

    fn read(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        let mut bytes = [0; 4096];
        let mut pipes = core::mem::take(&mut self.pipes);
        pipes.retain_mut(|pipe| {
            let mut left = READ_MAX;
            while left > 0 {
                match rustix::io::read(&pipe.end, &mut bytes) {
                    Ok(0) => {
                        self.line(now, pipe, outcomes);
                        return false;
                    }
                    Ok(length) => {
                        left = left.saturating_sub(length);
                        self.take(now, pipe, &bytes[..length], outcomes);
                    }
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
            true
        });
        self.pipes = pipes;
        if self.untold > 0 {
            self.paused_until = now + READ_PAUSE;
        }
    }

    fn take(&mut self, now: Instant, pipe: &mut Pipe, bytes: &[u8], outcomes: &mut Vec<Outcome>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LINE_MAX - pipe.line.len();
            pipe.too_long |= piece.len() > room;
            pipe.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if ends {
                self.line(now, pipe, outcomes);
            }
        }
    }

    /// A line is whole.
    fn line(&mut self, now: Instant, pipe: &mut Pipe, outcomes: &mut Vec<Outcome>) {
        let text: String = String::from_utf8_lossy(&core::mem::take(&mut pipe.line))
            .trim_end()
            .chars()
            // A terminal must not obey it.
            .map(|letter| if letter.is_control() { '·' } else { letter })
            .collect();
        let more = if core::mem::take(&mut pipe.too_long) { "…" } else { "" };
        if text.is_empty() {
            return;
        }
        if self.table.ready_line.as_ref().is_some_and(|ready| text.contains(ready)) {
            outcomes.push(Outcome::Ready);
        }
        if !self.budget.take(now) {
            self.dropped += 1;
            self.untold += 1;
            return;
        }
        if self.untold > 0 {
            let count = core::mem::take(&mut self.untold);
            self.log.say(&format!("{}: {count} lines were too many and are left out", self.name()));
        }
        self.log.say(&format!("{}: {text}{more}", self.name()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            kill_group(child);
        }
    }
}

fn build(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).process_group(0);
    command
}

fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // An empty one is gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn connects(address: SocketAddr) -> Probing {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let Ok(socket) = socket_with(family, SocketType::STREAM, flags, None) else {
        return Probing::Over(false);
    };
    match connect(&socket, &address) {
        Ok(()) => Probing::Over(true),
        Err(rustix::io::Errno::INPROGRESS) => Probing::Connects(socket),
        Err(_) => Probing::Over(false),
    }
}

/// A unix socket takes a connection at once, or its queue is full: that is no sign of health.
fn unix_connects(path: &std::path::Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let address = SocketAddrUnix::new(path);
    matches!((socket, address), (Ok(socket), Ok(address)) if connect(&socket, &address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use tandem_os::clock;

    /// What a connection to this address comes to.
    fn asked(mut probing: Probing) -> bool {
        if let Probing::Connects(socket) = &mut probing {
            tandem_os::poll::poll(&[(socket.as_fd(), Want::Write)], None).unwrap();
            return matches!(sockopt::socket_error(&*socket), Ok(Ok(())));
        }
        matches!(probing, Probing::Over(true))
    }

    #[test]
    fn a_service_works_while_somebody_listens_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(asked(connects(address)));
        drop(listener);
        assert!(!asked(connects(address)));

        let path = std::env::temp_dir().join(format!("tandem-probe-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(unix_connects(&path));
        drop(listener);
        assert!(!unix_connects(&path), "the file is there, and nobody behind it");
        std::fs::remove_file(&path).unwrap();
        assert!(!unix_connects(&path));
    }

    #[test]
    fn a_long_line_is_cut_and_what_a_terminal_would_obey_is_masked() {
        let log = Arc::new(Log::start("test", tandem_types::Seat::Master).unwrap());
        let mut table = crate::config::ServiceTable::for_test("x", &["/bin/true"]);
        table.ready_line = Some("up".into());
        let now = clock::now();
        let mut process = Process::new(now, table, log);
        let end = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut pipe = Pipe { end, line: Vec::new(), too_long: false };
        let mut outcomes = Vec::new();
        process.take(now, &mut pipe, &[b'x'; LINE_MAX * 3], &mut outcomes);
        assert_eq!((pipe.line.len(), pipe.too_long), (LINE_MAX, true));
        process.take(now, &mut pipe, b"\n\x1b[2Jit is u", &mut outcomes);
        assert!(outcomes.is_empty() && !pipe.too_long);
        process.take(now, &mut pipe, b"p now\nrest", &mut outcomes);
        assert!(matches!(outcomes[..], [Outcome::Ready]));
        (0..LINES_BURST).for_each(|_| process.take(now, &mut pipe, b"\nmore", &mut outcomes));
        assert!(process.lines_dropped() > 0);
    }
}
