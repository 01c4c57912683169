//! Kamailio, as the server behind keepalived: it answers OPTIONS with 200 on the virtual address and
//! on its machine's own one, and does nothing else.
//!
//! It is a process of many, and they do not end with their first. So they live in a namespace of
//! process ids, which ends with it, and so with the run, however that ends.
//!
//! Invariant: what is killed or stopped is its whole group of processes, and only that.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::time::Timespec;
use tandem::demo::child::Child;
use tandem::demo::place::SIP_PORT;
use tandem::demo::space::Space;

use super::keepalived::program;

/// How long it may take to be gone after SIGKILL.
const GONE: Duration = Duration::from_secs(10);

/// How long the watching thread waits before it looks whether to end.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A running Kamailio.
#[derive(Debug)]
pub(super) struct Kamailio {
    child: Child,
    watch: Watch,
    is_killed: bool,
}

impl Drop for Kamailio {
    /// It has nothing to save.
    fn drop(&mut self) {
        // Its process id may be somebody else's once it was reaped.
        if !self.is_killed && self.child.still_runs().is_ok() {
            // It is asked to end in any case.
            let _ = self.signal(Signal::KILL);
        }
    }
}

impl Kamailio {
    /// Starts it inside `space`; its files are in `folder`.
    ///
    /// # Errors
    ///
    /// It is not installed; a file cannot be written.
    pub(super) fn start(space: &Space, folder: &Path, addresses: [IpAddr; 2]) -> Result<Self> {
        let file = |name: &str| folder.join(name);
        std::fs::write(file("kamailio.cfg"), configuration(addresses))?;
        let kamailio = program("kamailio")?.display().to_string();
        let (config, run) =
            (file("kamailio.cfg").display().to_string(), folder.display().to_string());
        let mut arguments = vec!["--pid", "--fork", "--kill-child", &kamailio, "-DD", "-E"];
        arguments.extend(["-m", "16", "-M", "4", "-f", &config, "-Y", &run]);
        let (unshare, log) = (Path::new("unshare"), file("kamailio.log"));
        let child = Child::start("Kamailio", unshare, &arguments, Some(space), &log)?;
        // Its first process and the one that made its namespace end together.
        std::fs::write(file("kamailio.pid"), format!("{}\n", child.pid()))?;
        let watch = Watch::start(child.pid(), file("kamailio.down"))?;
        Ok(Self { child, watch, is_killed: false })
    }

    /// An error where it has ended.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        self.child.still_runs()
    }

    /// Lets it hang.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Kills it; it is reaped, so that nobody takes its process id for a living one.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub(super) fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait(GONE)?;
        self.watch.join();
        self.is_killed = true;
        Ok(())
    }

    /// All its processes at once: the group that was made for it.
    fn signal(&self, signal: Signal) -> Result<()> {
        let raw = i32::try_from(self.child.pid()).ok().and_then(Pid::from_raw);
        let group = raw.context("Kamailio has no process id")?;
        kill_process_group(group, signal).context("cannot signal Kamailio")
    }
}

/// Tells keepalived through a file that Kamailio has ended, at once.
///
/// On a real machine keepalived learns that from the kernel (`track_process`), which tells it only
/// outside network namespaces. This is as fast.
#[derive(Debug)]
struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(pid: u32, file: PathBuf) -> Result<Self> {
        std::fs::write(&file, "0\n")?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
        let process = pidfd_open(raw, PidfdFlags::empty())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watch(&process, &file, &stopping));
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Waits until the end was told.
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.join();
    }
}

fn watch(process: &OwnedFd, file: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        if let Ok(1..) = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&LOOK_EVERY)) {
            if let Err(error) = std::fs::write(file, "1\n") {
                eprintln!("cannot write {}: {error}", file.display());
            }
            return;
        }
    }
}

fn configuration(addresses: [IpAddr; 2]) -> String {
    let listen = addresses.map(|ip| format!("listen=udp:{ip}:{SIP_PORT}\n")).concat();
    format!(
        "debug=1\nlog_stderror=yes\nchildren=4\nauto_aliases=no\ndisable_tcp=yes\n{listen}\
         loadmodule \"sl.so\"\n\
         request_route {{\n\
         \tif (method == \"OPTIONS\") {{\n\t\tsl_send_reply(\"200\", \"OK\");\n\t\texit;\n\t}}\n\
         \tsl_send_reply(\"404\", \"Not Found\");\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_told() {
        let folder = std::env::temp_dir().join(format!("lab-watch-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("down");
        let log = folder.join("log");
        let mut child = Child::start("sleep", Path::new("sleep"), &["1000"], None, &log).unwrap();
        let mut watch = Watch::start(child.pid(), file.clone()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "0\n");
        tandem::demo::child::signal(child.pid(), Signal::KILL).unwrap();
        watch.join();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "1\n");
        child.wait(GONE).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn it_listens_on_both_addresses() {
        let addresses = ["192.0.2.10", "192.0.2.2"].map(|text| text.parse().unwrap());
        let text = configuration(addresses);
        assert!(text.contains("listen=udp:192.0.2.10:5060\nlisten=udp:192.0.2.2:5060\n"), "{text}");
    }
}
