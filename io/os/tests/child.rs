//! Child processes, signals and local sockets, as the keeper uses them together.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use tandem_os::child::{Child, Exit, Output, Stop};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_os::seqpacket::{MAX_MESSAGE_BYTES, Stream};

/// Waits until `fd` has something; far longer than it takes.
fn wait(fd: impl AsFd) {
    let until = clock::now() + Duration::from_secs(20);
    while !poll(&[(fd.as_fd(), Want::Read)], Some(until)).unwrap().has(0) {
        assert!(clock::now() < until, "nothing came");
    }
}

fn sh(script: &str, output: Output) -> Child {
    Child::spawn(Command::new("sh").args(["-c", script]), output).unwrap()
}

fn ended(child: &mut Child) -> Exit {
    wait(&*child);
    child.reap().unwrap().unwrap()
}

fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_child_says_how_it_ended() {
    assert_eq!(ended(&mut sh("exit 7", Output::Inherit)), Exit::Code(7));
    let mut child = sh("kill -SEGV $$", Output::Inherit);
    assert_eq!(ended(&mut child), Exit::Signal(11));
    assert_eq!(child.reap().unwrap(), Some(Exit::Signal(11)), "and again");
    child.stop(Stop::Kill).unwrap();
}

#[test]
fn a_running_child_can_be_asked_and_killed() {
    let mut child = sh("echo up; exec sleep 1000", Output::Capture);
    wait(child.stdout().unwrap());
    assert_eq!(child.reap().unwrap(), None);
    child.stop(Stop::Ask).unwrap();
    assert_eq!(ended(&mut child), Exit::Signal(15));

    let mut child = sh("trap '' TERM; echo up; exec sleep 1000", Output::Capture);
    wait(child.stdout().unwrap());
    child.stop(Stop::Ask).unwrap();
    child.stop(Stop::Kill).unwrap();
    assert_eq!(ended(&mut child), Exit::Signal(9));
}

#[test]
fn output_is_captured() {
    let mut child = sh("echo one; echo two >&2", Output::Capture);
    assert_eq!(text(child.stdout().unwrap()), "one\n");
    assert_eq!(text(child.stderr().unwrap()), "two\n");
    assert_eq!(ended(&mut child), Exit::Code(0));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Child::spawn(&mut Command::new("/nowhere/tandem"), Output::Inherit).unwrap_err();
    assert!(error.to_string().contains("/nowhere/tandem"), "{error}");
}

#[test]
fn a_child_dies_with_the_thread_that_started_it() {
    let thread = std::thread::spawn(|| sh("exec sleep 1000", Output::Inherit));
    assert_eq!(ended(&mut thread.join().unwrap()), Exit::Signal(9));
}

#[test]
fn a_dropped_child_is_killed() {
    let mut child = sh("echo up; exec sleep 1000", Output::Capture);
    let stdout = child.stdout().unwrap();
    drop(child);
    assert!(matches!(text(stdout).as_str(), "up\n" | ""));
}

#[test]
fn messages_beyond_the_limits_are_refused() {
    let (one, other) = Stream::pair().unwrap();
    let kind = |message: &[u8]| one.send(message).unwrap_err().kind();
    assert_eq!(kind(&[]), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(&[0; MAX_MESSAGE_BYTES + 1]), std::io::ErrorKind::InvalidInput);
    rustix::net::send(&one, &[0; MAX_MESSAGE_BYTES + 1], rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(other.receive().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn an_end_that_is_not_read_says_so_and_does_not_block() {
    let (one, _other) = Stream::pair().unwrap();
    let refused = (0..10_000).find_map(|_| one.send(&[0; 1000]).err()).unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
}

/// The way a keeper gives its server the line to itself: as standard input.
#[test]
fn a_child_inherits_one_end() {
    let (ours, theirs) = Stream::pair().unwrap();
    ours.send(b"hello").unwrap();
    let mut command = Command::new("head");
    command.args(["-c", "5"]);
    command.stdin(std::os::fd::OwnedFd::from(theirs));
    let mut child = Child::spawn(&mut command, Output::Capture).unwrap();
    let stdout = child.stdout().unwrap();
    drop(command); // it holds the other end as well
    assert_eq!(text(stdout), "hello");
    assert_eq!(ended(&mut child), Exit::Code(0));
}
