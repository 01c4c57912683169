//! A file that says that it is a backup: nothing is written outside its place, and nothing is restored from it.

use std::fs;
use std::path::Path;

use tar::{EntryType, Header};

use crate::common::machines::Pair;

/// An archive with one entry, as its header has it.
fn archive(to: &Path, change: impl FnOnce(&mut Header), body: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_path("config.db").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o4777);
    header.set_size(body.len() as u64);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512) + 1_024, 0);
    fs::write(to, bytes).unwrap();
}

/// A name that no honest program would write.
fn named(header: &mut Header, name: &str) {
    let place = &mut header.as_old_mut().name;
    place.fill(0);
    place[..name.len()].copy_from_slice(name.as_bytes());
}

#[test]
fn an_archive_that_wants_to_be_more_than_a_backup_is_refused_and_leaves_nothing() {
    let pair = Pair::set_up();
    let home = pair.folder.0.join("here");
    fs::create_dir(&home).unwrap();
    let file = home.join("all.tar");
    let outside = pair.folder.0.join("outside");
    let absolute = outside.to_str().unwrap().to_owned();
    assert!(absolute.len() < 100);
    let refuse = |what: &str, wanted: &str| {
        for command in [&["verify", "--backup"][..], &["restore"]] {
            let mut arguments = command.to_vec();
            arguments.push(file.to_str().unwrap());
            let said = pair.master.refused(1, &arguments);
            assert!(said.contains(wanted), "{what}: {said}");
            assert!(!outside.exists(), "{what}");
            let left: Vec<_> =
                fs::read_dir(&home).unwrap().map(|one| one.unwrap().path()).collect();
            assert_eq!(left, std::slice::from_ref(&file), "{what}");
            assert!(!pair.master.state().join("config.db").exists(), "{what}");
        }
    };
    for name in ["../../outside", &absolute, "files/../../../outside", ""] {
        archive(&file, |header| named(header, name), b"evil");
        refuse(name, "cannot take");
    }
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Char,
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ];
    for kind in kinds {
        let change = |header: &mut Header| {
            header.set_entry_type(kind);
            if kind == EntryType::Symlink || kind == EntryType::Link {
                header.set_link_name("/etc/passwd").unwrap();
            }
        };
        archive(&file, change, b"30 path=../../outside\n");
        refuse(&format!("{kind:?}"), "this is no part of a backup");
    }
    // It says that it is larger than any disk, and ends after five bytes.
    archive(&file, |header| header.set_size(u64::MAX / 4), b"short");
    refuse("a huge one", "cannot");
    fs::write(&file, b"no archive at all").unwrap();
    refuse("garbage", "cannot");
}
