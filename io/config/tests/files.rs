//! Files as rows: versions, removed and brought back, added on both sides while they were apart.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Side as _, exchange, link, memory, number};
use tandem_config::{
    Ask, Config, FILE_VERSIONS_MAX, FileId, FileNamed, FileRow, FileStanding, NewFile, Order,
    Output, Told, Work,
};
use tandem_store::tables::By;
use tandem_types::{Dice, Epoch, Instant, Seat};

/// A configuration, and what it says of files.
struct Side {
    config: Config,
    named: BTreeMap<FileId, FileNamed>,
    told: Option<Told>,
    line: Vec<Vec<u8>>,
    wall: u64,
    number: u64,
}

impl common::Side for Side {
    fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    fn line(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.line
    }

    fn drain(&mut self) {
        while let Some(output) = self.config.poll_output() {
            // What is not about files is not looked at.
            if let Output::Send(bytes) = output {
                self.line.push(bytes);
            } else if let Output::Told { told, .. } = output {
                self.told = Some(told);
            } else if let Output::Files(rows) = output {
                for (id, row) in rows {
                    match row {
                        Some(row) => drop(self.named.insert(id, row)),
                        None => drop(self.named.remove(&id)),
                    }
                }
            }
        }
    }
}

impl Side {
    fn new(seat: Seat) -> Self {
        let number = number(seat);
        let config = Config::on(memory(seat), Dice::from_number(number)).unwrap();
        let named = BTreeMap::new();
        let line = Vec::new();
        let mut side = Self {
            config,
            named,
            told: None,
            line,
            wall: 1_790_000_000_000,
            number: number * 1_000,
        };
        side.drain();
        side
    }

    fn ask(&mut self, ask: Ask) -> Told {
        self.wall += 1_000;
        let by = By { author: "root".to_owned(), wall_millis: self.wall, epoch: Epoch::NEVER };
        let order = Order { id: self.wall, work: Work::Ask(ask), by };
        self.config.handle_orders(Instant::ZERO, vec![order]);
        self.drain();
        // Where there is a twin its word would be waited for.
        self.config.handle_timeout(Instant::from_micros(10_000_000));
        self.drain();
        self.told.take().unwrap()
    }

    fn add(&mut self, name: &str, content: u8) -> Told {
        self.number += 1;
        self.ask(Ask::FileAdd(NewFile {
            id: format!("{:032x}", self.number),
            class: "announcements".to_owned(),
            name: name.to_owned(),
            media_type: "audio/wav".to_owned(),
            content: format!("{content:02x}").repeat(32),
            bytes: 1_000,
        }))
    }

    fn remove(&mut self, name: &str) -> Told {
        let class = "announcements".to_owned();
        self.ask(Ask::FileRemove { class, name: name.to_owned() })
    }

    fn list(&mut self) -> Vec<FileRow> {
        let Told::FileList(rows) = self.ask(Ask::Files { class: None }) else { panic!() };
        rows
    }

    /// The first byte of each content, with its standing.
    fn versions(&mut self) -> Vec<(String, FileStanding)> {
        self.list().into_iter().map(|row| (row.content[..2].to_owned(), row.standing)).collect()
    }

    fn undo_newest(&mut self) -> Told {
        let Told::ChangeList(rows) = self.ask(Ask::Changes { limit: 1 }) else { panic!() };
        self.ask(Ask::Undo { id: rows[0].id.clone() })
    }
}

use FileStanding::{InForce, Older, Undecided};

fn shown(versions: &[(&str, FileStanding)]) -> Vec<(String, FileStanding)> {
    versions.iter().map(|(content, standing)| ((*content).to_owned(), *standing)).collect()
}

#[test]
fn a_further_version_replaces_the_one_in_force_and_both_are_kept() {
    let mut side = Side::new(Seat::Master);
    assert_eq!(side.add("welcome", 1), Told::Decided);
    assert_eq!(side.add("welcome", 2), Told::Decided);
    assert_eq!(side.add("music", 3), Told::Decided);
    assert_eq!(side.versions(), shown(&[("03", InForce), ("02", InForce), ("01", Older)]));
    assert_eq!(side.named.len(), 3, "all contents are wanted");
    // Undone: the one before is in force again.
    assert_eq!(side.undo_newest(), Told::Decided);
    assert_eq!(side.versions(), shown(&[("02", InForce), ("01", Older)]));
}

#[test]
fn a_removed_file_names_nothing_until_that_is_undone() {
    let mut side = Side::new(Seat::Master);
    side.add("welcome", 1);
    side.add("welcome", 2);
    let before = side.named.clone();
    assert_eq!(side.remove("welcome"), Told::Decided);
    assert!(side.named.is_empty() && side.list().is_empty());
    assert!(matches!(side.remove("welcome"), Told::NotDecided(_)));
    assert_eq!(side.undo_newest(), Told::Decided);
    assert_eq!(side.named, before);
    assert_eq!(side.versions(), shown(&[("02", InForce), ("01", Older)]));
}

#[test]
fn the_oldest_version_goes_with_one_too_many() {
    let mut side = Side::new(Seat::Master);
    for content in 0..=FILE_VERSIONS_MAX {
        side.add("welcome", u8::try_from(content).unwrap());
    }
    let versions = side.versions();
    assert_eq!(versions.len(), FILE_VERSIONS_MAX);
    assert_eq!((versions[0].0.as_str(), versions[9].0.as_str()), ("0a", "01"));
    assert_eq!(side.named.len(), FILE_VERSIONS_MAX);
}

#[test]
fn the_same_key_again_changes_nothing_and_a_bad_name_is_refused() {
    let mut side = Side::new(Seat::Master);
    side.add("welcome", 1);
    side.number -= 1;
    assert_eq!(side.add("welcome", 1), Told::Decided);
    assert_eq!(side.list().len(), 1);
    assert!(matches!(side.add("a/b", 1), Told::NotDecided(_)));
    assert_eq!(side.list().len(), 1);
}

/// Both sides have added a version of the same file while they were apart.
fn apart() -> (Side, Side) {
    let (mut one, mut other) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    one.add("welcome", 1);
    link(&mut one, &mut other, true);
    link(&mut one, &mut other, false);
    one.add("welcome", 2);
    other.add("welcome", 3);
    // Later by its clock.
    other.wall += 1_000_000;
    other.add("welcome", 4);
    link(&mut one, &mut other, true);
    (one, other)
}

#[test]
fn versions_that_were_added_apart_are_all_kept_and_one_is_undecided() {
    let (mut one, mut other) = apart();
    let expected = shown(&[("04", InForce), ("02", Undecided), ("03", Older), ("01", Older)]);
    for side in [&mut one, &mut other] {
        let mut versions = side.versions();
        versions[1..].sort_by_key(|(content, _)| content != "02");
        assert_eq!(versions, expected);
        assert_eq!(side.named.len(), 4);
        let Told::ConflictList(rows) = side.ask(Ask::Conflicts) else { panic!() };
        assert_eq!((rows.len(), rows[0].name.as_str()), (1, "files/announcements/welcome"));
        assert!(rows[0].in_force.value.contains("0404") && rows[0].lost[0].value.contains("0202"));
    }
    assert_eq!(one.named, other.named);
}

#[test]
fn a_conflict_is_decided_for_one_or_the_other_and_on_both_sides() {
    for (restore, in_force) in [(false, "04"), (true, "02")] {
        let (mut one, mut other) = apart();
        let name = "files/announcements/welcome".to_owned();
        let wrong = Ask::Restore { name: name.clone(), which: 2 };
        assert!(matches!(one.ask(wrong), Told::NotDecided(_)));
        let decision = match restore {
            true => Ask::Restore { name, which: 1 },
            false => Ask::Keep { name },
        };
        assert_eq!(one.ask(decision.clone()), Told::Decided);
        exchange(&mut one, &mut other);
        for side in [&mut one, &mut other] {
            assert_eq!(side.ask(Ask::Conflicts), Told::ConflictList(Vec::new()));
            let versions = side.versions();
            assert_eq!((versions[0].0.as_str(), versions[0].1), (in_force, InForce));
            assert!(versions[1..].iter().all(|(_, standing)| *standing == Older));
            assert_eq!(versions.len(), 5);
        }
        assert!(matches!(other.ask(decision), Told::NotDecided(_)), "it is decided");
    }
}

#[test]
fn what_was_added_apart_outlives_a_removal_that_did_not_know_it() {
    let (mut one, mut other) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    one.add("welcome", 1);
    link(&mut one, &mut other, true);
    link(&mut one, &mut other, false);
    one.remove("welcome");
    other.add("welcome", 2);
    link(&mut one, &mut other, true);
    for side in [&mut one, &mut other] {
        assert_eq!(side.versions(), shown(&[("02", InForce)]));
        assert_eq!(side.named.len(), 1);
    }
}

#[test]
fn the_list_of_changes_calls_files_by_their_names() {
    let mut side = Side::new(Seat::Master);
    side.add("welcome", 1);
    side.remove("welcome");
    let Told::ChangeList(rows) = side.ask(Ask::Changes { limit: 2 }) else { panic!() };
    assert_eq!(rows[0].what, ["files announcements/welcome: removed"]);
    assert!(rows[1].what[0].starts_with("files announcements/welcome: "), "{:?}", rows[1].what);
}
