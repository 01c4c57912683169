//! Signals as a descriptor. A program of its own (no test harness): signals go to a process, and any
//! other thread of the harness would be ended by them.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tandem_os::child::{Child, Output};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_os::signals::{Signals, Wish};

fn main() {
    let signals = Signals::open().unwrap();
    each_signal_is_read_once(&signals);
    a_child_starts_with_no_signal_blocked();
    println!("signals: ok");
}

fn each_signal_is_read_once(signals: &Signals) {
    assert_eq!(signals.read().unwrap(), None);
    let wishes = [
        (Signal::TERM, Wish::Terminate),
        (Signal::INT, Wish::Interrupt),
        (Signal::HUP, Wish::Reload),
    ];
    for (signal, wish) in wishes {
        kill_process(getpid(), signal).unwrap();
        let until = clock::now() + Duration::from_secs(20);
        assert!(poll(&[(signals.as_fd(), Want::Read)], Some(until)).unwrap().has(0));
        assert_eq!(signals.read().unwrap(), Some(wish));
        assert_eq!(signals.read().unwrap(), None);
    }
}

fn a_child_starts_with_no_signal_blocked() {
    let mut grep = Command::new("grep");
    let mut child =
        Child::spawn(grep.args(["SigBlk", "/proc/self/status"]), Output::Capture).unwrap();
    let mut blocked = String::new();
    child.stdout().unwrap().read_to_string(&mut blocked).unwrap();
    assert_eq!(blocked, "SigBlk:\t0000000000000000\n");
}
