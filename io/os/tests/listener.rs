//! A listener that died with its process leaves its file behind. In a program of its own: a child that
//! another test starts holds a copy of every descriptor until it executes its program, so here a listener
//! that was dropped would live on for a moment.
#![allow(clippy::unwrap_used)]

use tandem_os::seqpacket::{Listener, Stream};

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
