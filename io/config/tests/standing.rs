//! How the configuration says that it stands to the twin's.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Side as _, exchange, memory};
use rusqlite::Connection;
use tandem_config::{Config, Order, Output, Standing, Work};
use tandem_dialplan::{Edit, Emergency};
use tandem_oplog::Origin;
use tandem_store::tables::{By, Tables};
use tandem_types::{Dice, Epoch, Instant, Seat};

struct Side {
    config: Config,
    line: Vec<Vec<u8>>,
    standing: Option<Standing>,
    told: usize,
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
            match output {
                Output::Send(bytes) => self.line.push(bytes),
                Output::Standing(standing) => {
                    self.standing = standing;
                    self.told += 1;
                }
                Output::Damaged(what) | Output::Failed(what) => panic!("{what}"),
                Output::Edited { .. }
                | Output::Changed(_)
                | Output::Files(_)
                | Output::Unreadable(_)
                | Output::Fact(_)
                | Output::Told { .. } => {}
            }
        }
    }
}

impl Side {
    fn new(seat: Seat) -> Self {
        let config = Config::on(memory(seat), Dice::from_number(7)).unwrap();
        Self { config, line: Vec::new(), standing: None, told: 0 }
    }

    fn edit(&mut self, rings: &str) {
        let emergency = Emergency { to: Some(rings.to_owned()), ..Emergency::default() };
        let by = By { author: String::new(), wall_millis: 1_790_000_000_000, epoch: Epoch::NEVER };
        let order = Order { id: 1, work: Work::Edit(Edit::Emergency(emergency)), by };
        self.config.handle_orders(Instant::ZERO, vec![order]);
        self.drain();
    }

    fn link(&mut self, up: bool) {
        self.config.handle_link(Instant::ZERO, up);
        self.drain();
    }

    /// What each lacks: the twin, and this one.
    fn lacks(&self) -> Option<(u64, u64)> {
        self.standing.map(|standing| (standing.twin_lacks, standing.here_lacks))
    }
}

#[test]
fn both_say_how_many_changes_are_not_on_the_other_machine() {
    let [mut one, mut two] = Seat::ALL.map(Side::new);
    // Made while they were apart.
    one.edit("1");
    one.edit("2");
    two.edit("3");
    assert_eq!((one.lacks(), two.lacks()), (None, None), "not compared");
    [&mut one, &mut two].into_iter().for_each(|side| side.link(true));
    assert_eq!(one.lacks(), None, "not compared yet");
    exchange(&mut one, &mut two);
    assert_eq!((one.lacks(), two.lacks()), (Some((0, 0)), Some((0, 0))));
    one.edit("4");
    assert_eq!(one.lacks(), Some((1, 0)));
    exchange(&mut one, &mut two);
    assert_eq!((one.lacks(), two.lacks()), (Some((0, 0)), Some((0, 0))));
    two.edit("5");
    one.link(false);
    two.link(false);
    assert_eq!((one.lacks(), two.lacks()), (None, None));
    assert!(one.told >= 4, "{}", one.told);
}

#[test]
fn a_change_goes_over_once() {
    let [mut one, mut two] = Seat::ALL.map(Side::new);
    [&mut one, &mut two].into_iter().for_each(|side| side.link(true));
    exchange(&mut one, &mut two);
    one.edit("1");
    // The change, and that it is on disk.
    assert_eq!(exchange(&mut one, &mut two), 2);
}

/// A disk that was copied to the other machine, its seat mended by hand: both write under one name.
#[test]
fn two_copies_of_one_configuration_lose_nothing() {
    let [mut one, mut two] = Seat::ALL.map(|seat| {
        let setup = Config::setup(seat, &mut Dice::from_number(1));
        let memory = Connection::open_in_memory().unwrap();
        let tables = Tables::on(memory, Path::new("memory"), &setup).unwrap();
        let dice = if seat == Seat::Master { 7 } else { 8 };
        let config = Config::on(tables, Dice::from_number(dice)).unwrap();
        Side { config, line: Vec::new(), standing: None, told: 0 }
    });
    assert_eq!(one.config.tables().me(), two.config.tables().me(), "a copy");
    [&mut one, &mut two].into_iter().for_each(|side| side.link(true));
    exchange(&mut one, &mut two);
    one.edit("1");
    two.edit("2");
    exchange(&mut one, &mut two);
    let names: [Origin; 2] = [&one, &two].map(|side| side.config.tables().me());
    assert_ne!(names[0], names[1], "each writes under its own name");
    assert_eq!(one.config.tables().seen(), two.config.tables().seen());
    let written: u64 = one.config.tables().seen().iter().map(|id| id.number).sum();
    assert_eq!(written, 2, "{:?}", one.config.tables().seen());
    assert_eq!(one.config.tables().digests().unwrap(), two.config.tables().digests().unwrap());
}
