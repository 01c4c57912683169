//! Network namespaces for tests, each held by a thread: what runs in one runs on that thread.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rustix::thread::{UnshareFlags, gettid};

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: i32,
}

impl Namespace {
    /// A new empty namespace; says loudly on the output why there can be none.
    pub(crate) fn new() -> Option<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (started, ready) = mpsc::channel();
        thread::spawn(move || {
            // Only this thread leaves the namespace of the others.
            let outcome = unshare();
            started.send(outcome.map(|()| gettid().as_raw_nonzero().get())).unwrap();
            inbox.into_iter().for_each(|job| job());
        });
        let outcome = ready.recv().unwrap().and_then(|thread| {
            let namespace = Self { jobs, thread };
            match namespace.try_ip("link set lo up") {
                true => Ok(namespace),
                false => Err("`ip` does not work".to_owned()),
            }
        });
        match outcome {
            Ok(namespace) => Some(namespace),
            Err(why) => {
                println!("SKIPPED: no network namespace here ({why}): no CAP_NET_ADMIN?");
                None
            }
        }
    }

    /// Two namespaces with a wire between them: `tandem0` in the first, `tandem1` in the second.
    pub(crate) fn wired() -> Option<(Self, Self)> {
        let (one, other) = (Self::new()?, Self::new()?);
        one.ip("link add tandem0 type veth peer name tandem1");
        one.ip(&format!("link set tandem1 netns {}", other.thread));
        one.ip("link set tandem0 address 02:00:00:00:00:01 up");
        other.ip("link set tandem1 address 02:00:00:00:00:02 up");
        Some((one, other))
    }

    /// As [`Namespace::wired`], with VLAN 7 (802.1Q) on the wire: `tandem0.7` and `tandem1.7`.
    #[allow(dead_code)] // not by every file of tests
    pub(crate) fn tagged() -> Option<(Self, Self)> {
        let (one, other) = Self::wired()?;
        let add = "link add link tandem0 name tandem0.7 type vlan id 7";
        if !one.try_ip(add) {
            println!("SKIPPED: no VLAN here: the kernel has no 802.1Q");
            return None;
        }
        other.ip("link add link tandem1 name tandem1.7 type vlan id 7");
        one.ip("link set tandem0.7 up");
        other.ip("link set tandem1.7 up");
        Some((one, other))
    }

    /// The thread that holds it: what ip(8) takes for a namespace.
    #[allow(dead_code)] // not by every file of tests
    pub(crate) const fn thread(&self) -> i32 {
        self.thread
    }

    /// Runs `job` in the namespace and gives what it returns. Sockets stay in it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv().expect("the job did not panic")
    }

    /// Runs ip(8).
    pub(crate) fn ip(&self, arguments: &str) {
        assert!(self.try_ip(arguments), "ip {arguments}");
    }

    /// What ip(8) prints.
    #[allow(dead_code)] // not by every file of tests
    pub(crate) fn said(&self, arguments: &str) -> String {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let output = self.run(move || Command::new("ip").args(arguments).output()).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_ip(&self, arguments: &str) -> bool {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        self.run(move || Command::new("ip").args(arguments).status().is_ok_and(|it| it.success()))
    }
}

#[allow(unsafe_code)]
fn unshare() -> Result<(), String> {
    // SAFETY: the network namespace has no part in memory safety.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|e| e.to_string())
}
