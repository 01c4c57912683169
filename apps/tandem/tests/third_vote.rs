//! A real pair with a real witness: nobody serves without two of three votes, and the witness is
//! enough when the other machine is dead.
//!
//! Every run has a block of 127/8 of its own, drawn at random. Nothing sleeps: the test waits for lines
//! of the logs, with a deadline.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::path::PathBuf;

use common::{Folder, Service, block, done, init_master, init_standby, tandem};

/// The files of both machines and of the witness, set up as the guide says.
fn set_up() -> (Folder, [PathBuf; 2], PathBuf) {
    let (folder, block) = (Folder::new("third"), block());
    let folders = ["master", "standby"].map(|seat| folder.0.join(seat));
    init_standby(&folders[1], &init_master(&folders[0], &block));
    let files = folders.map(|folder| folder.join("tandem.toml"));
    for file in &files {
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        writeln!(file, "witness = \"{block}.9:5072\"").unwrap();
    }
    let printed = done(tandem().args(["witness", "key", "--config"]).arg(&files[0]));
    let key = printed.split_whitespace().last().unwrap();
    let witness = folder.0.join("witness.toml");
    done(tandem().args(["witness", "add", "pair", key, "--config"]).arg(&witness));
    let text = std::fs::read_to_string(&witness).unwrap();
    let socket = folder.0.join("witness.sock");
    let listen = format!("socket = {socket:?}\nlisten = [\"{block}.9:5072\"]");
    std::fs::write(&witness, text.replace("listen = [\"[::]:5072\"]", &listen)).unwrap();
    (folder, files, witness)
}

#[test]
fn two_votes_are_enough_and_one_is_not() {
    let (_folder, files, witness) = set_up();
    let mut voter = Service::of(&witness, "witness");
    voter.wait_text("listens at");
    let [mut master, mut standby] = [&files[0], &files[1]].map(|file| Service::of(file, "keeper"));
    master.wait_role("active");
    standby.wait_role("passive");
    master.wait_protected();

    // The master's machine is dead: the witness votes for the standby.
    drop(master);
    standby.wait_role("active");
    voter.wait_text("pair: the vote goes to the standby");

    // Alone, one vote is left: the standby stops serving.
    drop(voter);
    standby.wait_text("the third vote is out of reach: no witness listens at");
    standby.wait("no majority", |line| {
        let role = &line["fact"]["Role"];
        role["to"] == "passive" && role["why"].as_str().is_some_and(|why| why.contains("majority"))
    });

    // The witness is back, and so is the service, once it may vote.
    let mut voter = Service::of(&witness, "witness");
    standby.wait_text("the third vote is in reach again");
    voter.wait_text("pair: the vote goes to the standby");
    standby.wait_role("active");
}
