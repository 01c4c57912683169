//! Local sockets, and how their end is seen. In a program of its own: a child that another test starts holds a
//! copy of every descriptor until it executes its program, so beside it a socket that was dropped would live
//! on for a moment.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;
use std::time::Duration;

use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_os::seqpacket::{Listener, MAX_MESSAGE_BYTES, Received, Stream};

/// Waits until `fd` has something; far longer than it takes.
fn wait(fd: impl AsFd) {
    let until = clock::now() + Duration::from_secs(20);
    while !poll(&[(fd.as_fd(), Want::Read)], Some(until)).unwrap().has(0) {
        assert!(clock::now() < until, "nothing came");
    }
}

/// A listener that died with its process leaves its file behind.
#[test]
fn a_dead_listener_is_replaced_and_a_living_one_is_not() {
    let path = std::env::temp_dir().join(format!("tandem-listener-{}", std::process::id()));
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    // As a SIGKILL would: the file stays, nobody listens.
    drop(std::fs::hard_link(&path, path.with_extension("kept")));
    drop(listener);
    std::fs::rename(path.with_extension("kept"), &path).unwrap();
    assert!(Stream::connect(&path).is_err());
    let _listener = Listener::bind(&path).unwrap();
    Stream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn messages_keep_their_borders_both_ways() {
    let path = std::env::temp_dir().join(format!("tandem-borders-{}", std::process::id()));
    let listener = Listener::bind(&path).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let ours = Stream::connect(&path).unwrap();
    wait(&listener);
    let theirs = listener.accept().unwrap().unwrap();
    assert_eq!(theirs.peer().unwrap().process, std::process::id().cast_signed());
    ours.send(b"one").unwrap();
    ours.send(&[2; MAX_MESSAGE_BYTES]).unwrap();
    assert_eq!(theirs.receive().unwrap(), Received::Message(b"one".to_vec()));
    assert_eq!(theirs.receive().unwrap(), Received::Message(vec![2; MAX_MESSAGE_BYTES]));
    assert_eq!(theirs.receive().unwrap(), Received::Nothing);
    theirs.send(b"back").unwrap();
    drop(theirs);
    assert_eq!(ours.receive().unwrap(), Received::Message(b"back".to_vec()));
    assert_eq!(ours.receive().unwrap(), Received::Closed);
    assert_eq!(ours.send(b"late").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}
