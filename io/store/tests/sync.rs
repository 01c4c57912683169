//! Two real databases and the exchange between them, case by case: backups put back, a log that is shortened,
//! copies of everything, rows that are not what they should be, a server of the version before.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod pair;

use pair::{ITEM, SCHEMA, SQL, Server, World, copy, insert, memory, rows, setup};
use tandem_oplog::{Chain, CheckEnd, Column, Fact, Message, Origin, Schema, Seen, Table};
use tandem_store::tables::{Keep, SHORTEN_OPS, Setup, Tables};
use tandem_types::Dice;

#[test]
fn what_is_written_while_linked_is_on_the_other_disk_at_once() {
    let mut world = World::new();
    world.settle();
    let id = world.servers[0].write(1_000, &insert(1, 7)).unwrap();
    world.settle();
    assert!(world.servers[0].exchange.sync().there().unwrap().has(id));
    assert_eq!(world.servers[0].facts, [Fact::Equal]);
    world.assert_equal("live");
}

#[test]
fn both_write_while_apart_and_a_long_log_goes_in_parts() {
    let mut world = World::new();
    for number in 0..3_000 {
        world.servers[0].write(1_000 + number, &insert(number % 50, number));
        world.servers[1].write(1_000 + number, &insert(number % 70, number));
    }
    world.settle();
    world.assert_equal("healed");
    assert!(!world.servers[0].tables.undecided().unwrap().is_empty());
}

#[test]
fn a_backup_that_is_put_back_gets_its_own_changes_again_before_it_writes() {
    let mut world = World::new();
    world.settle();
    world.servers[0].write(1_000, &insert(1, 1));
    world.settle();
    world.servers[0].backup = Some(copy(&world.servers[0].tables, 0));
    for number in 0..20 {
        world.servers[0].write(2_000 + number, &insert(number + 2, number));
    }
    world.settle();
    world.link(false);
    world.servers[0].tables = world.servers[0].backup.take().unwrap();
    world.servers[0].restart();
    world.link(true);
    // As soon as it has heard the other one, until it has everything.
    assert!(world.deliver(1));
    assert!(!world.servers[0].exchange.sync().may_write());
    world.settle();
    assert!(world.servers[0].facts.contains(&Fact::PutBack { here: 1, there: 21 }));
    assert_eq!(world.servers[0].tables.me(), Origin(1), "nothing was written meanwhile");
    world.assert_equal("put back");
}

#[test]
fn a_backup_that_has_written_since_goes_on_under_a_new_name_and_nothing_is_lost() {
    for there_is_more in [true, false] {
        let mut world = World::new();
        world.settle();
        world.servers[0].write(1_000, &insert(1, 1));
        world.settle();
        let old = copy(&world.servers[0].tables, 0);
        world.servers[0].write(2_000, &insert(2, 2));
        if there_is_more {
            for number in 0..9 {
                world.servers[0].write(2_001 + number, &insert(3, number));
            }
        }
        world.settle();
        world.link(false);
        world.servers[0].tables = old;
        world.servers[0].restart();
        for number in 0..5 {
            world.servers[0].write(9_000 + number, &insert(10 + number, number));
        }
        world.settle();
        assert_eq!(world.servers[0].tables.me(), Origin(1_000));
        world.assert_equal("renamed");
        let ids: Vec<i64> = rows(&world.servers[0].tables).iter().map(|row| row[0]).collect();
        let wanted: &[i64] = if there_is_more {
            &[1, 2, 3, 10, 11, 12, 13, 14]
        } else {
            &[1, 2, 10, 11, 12, 13, 14]
        };
        assert_eq!(ids, wanted);
        // And the new name is kept.
        world.servers[0].write(9_500, &insert(20, 1));
        world.settle();
        world.assert_equal("after that");
    }
}

#[test]
fn damaged_messages_are_no_messages() {
    let mut dice = Dice::from_number(3);
    let message = Message::Chains { origin: Origin(5), chains: vec![(1, Chain([3; 16]))] };
    assert_eq!(Message::decode(&message.encode()), Some(message.clone()));
    for _ in 0..20_000 {
        let mut bytes = message.encode();
        let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
        bytes[at] = u8::try_from(dice.below(256)).unwrap();
        let _ =
            Message::decode(&bytes[..usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap()]);
    }
    assert_eq!(Message::decode(&[]), None);
}

/// Old ops go at once, as soon as both have them.
const SHORT: Keep = Keep { millis: 1, ops: u64::MAX, both_millis: 1, alone_millis: 1_000_000 };

/// Deletes all ops that may go.
fn shorten(server: &mut Server, wall: u64) -> usize {
    let there = server.exchange.sync().there().cloned();
    let mut gone = 0;
    loop {
        match server.tables.shorten(wall, there.as_ref(), &SHORT).unwrap() {
            0 => return gone,
            ops => gone += ops,
        }
    }
}

/// Twenty rows and a conflict, on both; what was written is not in any log any more.
fn old_pair() -> World {
    let mut world = World::new();
    world.settle();
    for number in 0..20 {
        world.servers[0].write(1_000 + number, &insert(number, number));
    }
    world.settle();
    world.link(false);
    world.servers[0].write(2_000, "UPDATE item SET two = 7 WHERE id = 3");
    world.servers[1].write(2_001, "UPDATE item SET two = 8 WHERE id = 3");
    world.settle();
    for server in &mut world.servers {
        assert_eq!(shorten(server, 9_000), 22);
        assert_eq!(server.tables.logged().unwrap(), 0);
    }
    world
}

#[test]
fn the_log_is_shortened_in_bites_by_what_is_old_and_on_both_disks() {
    let mut world = World::new();
    for number in 0..700 {
        world.servers[0].write(1_000 + number, &insert(number, number));
    }
    let keep = Keep { millis: 5_000, ops: 100, both_millis: 1_000, alone_millis: 4_000 };
    let tables = &mut world.servers[0].tables;
    let seen = tables.seen().clone();
    assert_eq!(tables.shorten(1_100, Some(&seen), &keep).unwrap(), 0, "all are young");
    assert_eq!(
        tables.shorten(5_000, None, &keep).unwrap(),
        0,
        "alone, and not old enough for that"
    );
    assert_eq!(tables.shorten(5_003, None, &keep).unwrap(), 3, "alone, and very old");
    assert_eq!(tables.shorten(3_000, Some(&Seen::new()), &keep).unwrap(), 0, "not on both");
    assert_eq!(tables.shorten(3_000, Some(&seen), &keep).unwrap(), SHORTEN_OPS);
    assert_eq!(tables.shorten(3_000, Some(&seen), &keep).unwrap(), 97, "the newest hundred stay");
    assert_eq!(tables.shorten(3_000, Some(&seen), &keep).unwrap(), 0);
    assert_eq!(tables.shorten(6_690, Some(&seen), &keep).unwrap(), 90, "those are too old");
    assert_eq!((tables.logged().unwrap(), tables.faults().unwrap()), (10, vec![]));
    // It goes on as before, and stamps and numbers are not given again when it is opened anew.
    let (latest, again) = (tables.latest(), copy(tables, 0));
    assert_eq!((again.latest(), again.seen()), (latest, &seen));
    world.settle();
    world.assert_equal("the rest of the log goes over, with a copy of everything");
}

#[test]
fn a_change_after_all_changes_were_forgotten_goes_over_at_once() {
    let mut world = old_pair();
    let id = world.servers[0].write(9_500, &insert(50, 5)).unwrap();
    world.work();
    while world.deliver(0) || world.deliver(1) {}
    assert!(world.servers[1].tables.seen().has(id), "on the link that was there before");
    assert!(world.servers[0].exchange.sync().there().unwrap().has(id));
}

#[test]
fn who_lacks_what_is_not_kept_any_more_gets_a_copy_of_everything() {
    let mut world = old_pair();
    world.link(false);
    let wanted = rows(&world.servers[0].tables);
    world.servers[1] = Server::on(1, memory(&Setup { origin: Origin(77), ..setup(1) }));
    // It has written meanwhile: that is joined.
    world.servers[1].write(9_500, &insert(50, 5));
    world.settle();
    world.assert_equal("copied");
    assert_eq!(rows(&world.servers[1].tables)[..20], wanted[..]);
    assert_eq!(rows(&world.servers[1].tables).len(), 21);
    assert_eq!(world.servers[1].tables.undecided().unwrap().len(), 1, "the drawer comes along");
    let facts = &world.servers[1].facts;
    assert!(
        facts.iter().any(|fact| matches!(fact, Fact::CopyEnds { here: true, .. })),
        "{facts:?}"
    );
    assert!(!facts.iter().any(|fact| matches!(fact, Fact::TooOld { .. })));
    // Afterwards changes go as before.
    for at in 0..2 {
        world.servers[at].write(10_000, &insert(60 + at as u64, 1));
    }
    world.settle();
    world.assert_equal("after the copy");
}

#[test]
fn a_backup_older_than_the_log_gets_its_own_changes_again_and_gives_no_number_twice() {
    for writes_first in [false, true] {
        let mut world = World::new();
        world.settle();
        world.servers[0].write(1_000, &insert(1, 1));
        world.settle();
        let old = copy(&world.servers[0].tables, 0);
        for number in 0..30 {
            world.servers[0].write(2_000 + number, &insert(number + 100, number));
        }
        world.settle();
        assert_eq!(shorten(&mut world.servers[1], 9_000), 31);
        world.link(false);
        world.servers[0].tables = old;
        world.servers[0].restart();
        if writes_first {
            world.servers[0].write(9_000, &insert(90, 9));
        }
        world.link(true);
        assert!(world.deliver(1));
        assert!(!world.servers[0].exchange.sync().may_write() || writes_first);
        world.settle();
        world.assert_equal("put back");
        let me = world.servers[0].tables.me();
        assert_eq!(me, if writes_first { Origin(1_000) } else { Origin(1) });
        let next = world.servers[0].write(9_500, &insert(91, 1)).unwrap();
        assert_eq!(next.number, if writes_first { 2 } else { 32 });
        world.settle();
        world.assert_equal("and goes on");
        assert_eq!(rows(&world.servers[1].tables).len(), 32 + usize::from(writes_first));
    }
}

#[test]
fn a_copy_that_is_cut_off_goes_on_where_it_was_or_begins_anew() {
    for changed in [false, true] {
        let mut world = World::new();
        world.settle();
        let many: Vec<String> = (0..9_000).map(|id| insert(id, id)).collect();
        world.servers[0].write(30_000, &many.join(";"));
        let keep = Keep { alone_millis: 1, ..SHORT };
        while world.servers[0].tables.shorten(90_000, None, &keep).unwrap() > 0 {}
        world.link(true);
        let staged = |world: &World| world.servers[1].tables.staged().unwrap().parts;
        while staged(&world) < 2 {
            assert!(world.deliver(0) | world.deliver(1), "the copy has more parts");
        }
        let before = staged(&world);
        assert!(world.servers[1].exchange.sync().progress().unwrap().done > 0);
        assert!(rows(&world.servers[1].tables).is_empty(), "nothing of it shows yet");
        world.link(false);
        world.servers[1].restart();
        if changed {
            world.servers[0].write(95_000, &insert(1, 999));
        }
        world.settle();
        world.assert_equal("after the cut");
        let facts = &world.servers[1].facts;
        let begins = |fact: &&Fact| matches!(fact, Fact::Copying { here: true, done: 0, .. });
        assert!(before >= 2);
        assert_eq!(facts.iter().filter(begins).count(), 1 + usize::from(changed));
        assert_eq!(world.servers[1].tables.staged().unwrap().parts, 0, "nothing is left of it");
    }
}

#[test]
fn both_lack_what_the_other_one_does_not_keep_any_more() {
    let mut world = World::new();
    for at in 0..2 {
        for number in 0..9 {
            world.servers[at].write(1_000 + number, &insert(number, number + at as u64));
        }
        let keep = Keep { alone_millis: 1, ..SHORT };
        assert_eq!(world.servers[at].tables.shorten(9_000, None, &keep).unwrap(), 9);
    }
    world.settle();
    world.assert_equal("joined both ways");
    assert_eq!(world.servers[0].tables.undecided().unwrap().len(), 9);
}

#[test]
fn a_server_of_the_version_before_is_told_nothing_that_it_does_not_know() {
    let mut world = old_pair();
    world.link(false);
    world.servers[1] = Server::on(1, memory(&Setup { origin: Origin(77), ..setup(1) }));
    world.link(true);
    // Its greeting says nothing of what it understands.
    let plain = |bytes: &Vec<u8>| {
        let mut message = Message::decode(bytes).unwrap();
        if let Message::Hello { able, .. } = &mut message {
            *able = 0;
        }
        message.encode()
    };
    world.lines[1] = world.lines[1].iter().map(plain).collect();
    assert!(world.deliver(1));
    assert!(!world.servers[0].exchange.sync_mut().begin_check());
    world.servers[0].exchange.sync_mut().ask_clock(1);
    world.work();
    let told: Vec<Message> =
        world.lines[0].iter().map(|bytes| Message::decode(bytes).unwrap()).collect();
    assert!(matches!(told[..], [Message::Hello { .. }, Message::TooOld]), "{told:?}");
    assert!(world.servers[0].facts.contains(&Fact::TooOld { here: false }));
    // And the other way round: one that does not know copies lacks nothing of what it is asked for.
    world.link(false);
    world.link(true);
    world.lines[0] = world.lines[0].iter().map(plain).collect();
    while world.deliver(0) || world.deliver(1) {}
    assert!(world.servers[1].facts.contains(&Fact::TooOld { here: true }));
    assert!(rows(&world.servers[1].tables).is_empty());
}

/// Damages a row on one server behind its back: what, and in which table of the file.
const DAMAGE: [&str; 6] = [
    "UPDATE row_version SET body = x'00ff' WHERE tab = 1 AND key = (SELECT key FROM row_version LIMIT 1)",
    "UPDATE row_version SET body = (SELECT body FROM row_version ORDER BY key DESC LIMIT 1)
     WHERE key = (SELECT key FROM row_version LIMIT 1)",
    "DELETE FROM row_version WHERE key IN (SELECT key FROM row_version LIMIT 3)",
    "UPDATE item SET one = 4711 WHERE id < 5",
    "DELETE FROM item WHERE id IN (1, 2)",
    "INSERT INTO item (id, one, two) VALUES (4000, 1, 1)",
];

#[test]
fn rows_that_are_not_what_was_written_are_found_put_right_and_told() {
    for shortened in [false, true] {
        for (number, damage) in DAMAGE.iter().enumerate() {
            for (damaged, asks) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let mut world = World::new();
                world.settle();
                for number in 0..20 {
                    world.servers[0].write(1_000 + number, &insert(number, number));
                }
                world.settle();
                if shortened {
                    assert_eq!(
                        world.servers.each_mut().map(|server| shorten(server, 1_011)),
                        [10; 2]
                    );
                }
                let good = rows(&world.servers[0].tables);
                let digests = world.servers[0].tables.digests().unwrap();
                assert_eq!(world.check(asks), Ok(1), "nothing is wrong");
                world.servers[damaged].tables.write_behind(damage).unwrap();
                let what =
                    format!("damage {number} of {damaged}, {asks} asks, shortened: {shortened}");
                assert!(!world.servers[damaged].tables.faults().unwrap().is_empty(), "{what}");
                let checks = world.check(asks).unwrap_or_else(|why| panic!("{what}: {why}"));
                world.assert_equal(&what);
                let told =
                    |fact: &Fact| matches!(fact, Fact::Mended { table, .. } if table == "item");
                assert!(world.servers[damaged].facts.iter().any(told), "{what}");
                assert!(checks <= 2, "{what}");
                assert_eq!(rows(&world.servers[1].tables), good, "{what}");
                assert_eq!(world.servers[1].tables.digests().unwrap(), digests, "{what}");
            }
        }
    }
}

/// What is kept of row 3 is no row any more.
fn make_unreadable(server: &mut Server) {
    let key = {
        let at = "SELECT key FROM row_version ORDER BY key LIMIT 1 OFFSET 3";
        server.tables.reader().query_row(at, [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = format!("UPDATE row_version SET body = x'00ff' WHERE key = x'{hex}'");
    server.tables.write_behind(&sql).unwrap();
}

#[test]
fn a_row_that_cannot_be_read_stops_neither_edits_nor_the_exchange_and_is_put_right() {
    for shortened in [false, true] {
        for (damaged, writes) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let what = format!("{damaged} is damaged, {writes} writes, shortened: {shortened}");
            let mut world = old_pair();
            if !shortened {
                world = World::new();
                world.settle();
                for number in 0..20 {
                    world.servers[0].write(1_000 + number, &insert(number, number));
                }
                world.settle();
            }
            make_unreadable(&mut world.servers[damaged]);
            assert!(!world.servers[damaged].tables.met_unreadable());
            world.servers[writes].write(5_000, "UPDATE item SET one = 77 WHERE id = 3");
            world.servers[writes].write(5_001, &insert(30, 1));
            world.settle();
            let tables = &mut world.servers[damaged].tables;
            assert!(tables.met_unreadable(), "{what}");
            let left = tables.mend_unreadable().unwrap().2;
            assert_eq!(left, u64::from(shortened), "{what}: a whole log is enough");
            assert!(!tables.met_unreadable());
            let checks = world.check(1 - damaged).unwrap();
            assert_eq!(checks, 1 + usize::from(shortened), "{what}");
            world.assert_equal(&what);
            assert_eq!(rows(&world.servers[damaged].tables)[3][..2], [3, 77], "{what}");
            // What is undecided about its other column is not lost with it.
            let undecided = world.servers[damaged].tables.undecided().unwrap().len();
            assert_eq!(undecided, usize::from(shortened), "{what}");
        }
    }
}

#[test]
fn a_copy_from_a_server_that_cannot_read_a_row_leaves_that_one_out() {
    let mut world = old_pair();
    make_unreadable(&mut world.servers[0]);
    // It has all rows of its own, and lacks what is in no log any more.
    let mut other = memory(&Setup { origin: Origin(77), ..setup(1) });
    let by = tandem_store::tables::By {
        author: String::new(),
        wall_millis: 9_500,
        epoch: tandem_types::Epoch::NEVER,
    };
    other.change(&by, |connection| connection.execute_batch(&insert(50, 5))).unwrap();
    world.link(false);
    world.servers[1] = Server::on(1, other);
    world.settle();
    let heads = |server: &Server| server.tables.heads().collect::<Vec<_>>();
    assert_eq!(heads(&world.servers[0]), heads(&world.servers[1]));
    assert_eq!(rows(&world.servers[1].tables).len(), 20, "all but one, and its own");
}

#[test]
fn a_copy_that_comes_to_a_server_that_cannot_read_a_row_takes_nothing_of_its_own_away() {
    let mut world = old_pair();
    world.link(false);
    for number in 0..3 {
        world.servers[0].write(9_500 + number, &insert(3, number));
    }
    world.servers[1].write(9_600, "UPDATE item SET two = 99 WHERE id = 3");
    let keep = Keep { alone_millis: 1, ..SHORT };
    assert_eq!(world.servers[0].tables.shorten(99_000, None, &keep).unwrap(), 3);
    make_unreadable(&mut world.servers[1]);
    world.settle();
    world.assert_equal("joined");
    assert_eq!(rows(&world.servers[1].tables)[3], [3, 2, 99, 0]);
}

/// What is set aside: rows.
fn aside(server: &Server) -> i64 {
    let sql = "SELECT count(*) FROM damaged_row WHERE body = x'00ff'";
    server.tables.reader().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_lost_against_a_write_that_is_gone_from_the_log_does_not_come_back_with_a_row_written_anew()
{
    for asks in 0..2 {
        let mut world = old_pair();
        world.link(false);
        // The clock of one is ahead: its write wins, and is the first to go from its log.
        world.servers[1].write(50_000, "UPDATE item SET one = 77 WHERE id = 3");
        world.servers[0].write(9_500, "UPDATE item SET one = 66 WHERE id = 3");
        world.settle();
        let newest = Keep { millis: u64::MAX, ops: 1, both_millis: 1, alone_millis: 1 };
        assert!(world.servers[1].tables.shorten(99_000, None, &newest).unwrap() > 0);
        assert_eq!(rows(&world.servers[1].tables)[3][1], 77);
        world.servers.iter_mut().for_each(make_unreadable);
        world.check(asks).unwrap();
        world.assert_equal("written anew");
        assert_eq!(rows(&world.servers[0].tables)[3][1], 77, "{asks} asks");
    }
}

#[test]
fn a_row_that_neither_server_can_read_is_written_anew_from_whose_table_can_be_read() {
    for (asks, lacking) in [(0, &[][..]), (0, &[0]), (0, &[1]), (1, &[0]), (0, &[0, 1])] {
        let what = format!("{asks} asks, no table: {lacking:?}");
        let mut world = old_pair();
        world.servers.iter_mut().for_each(make_unreadable);
        // It is in the table of its writer alone.
        world.servers[0].write(5_000, "UPDATE item SET one = 77 WHERE id = 3");
        world.settle();
        for at in lacking {
            let sql = "DELETE FROM item WHERE id = 3";
            world.servers[*at].tables.write_behind(sql).unwrap();
        }
        let before = rows(&world.servers[0].tables).len();
        world.check(asks).unwrap();
        world.assert_equal(&what);
        let found = rows(&world.servers[1].tables);
        let told = |server: &Server| {
            let facts = server.facts.iter();
            facts.filter(|fact| matches!(fact, Fact::SetAside { rows: 1, .. })).count()
        };
        let told = world.servers.each_ref().map(told);
        if lacking.len() == 2 {
            // Nothing is deleted without a word.
            assert_eq!((found.len(), before), (19, 19), "{what}");
            assert_eq!((told, world.servers.each_ref().map(aside)), ([1; 2], [1; 2]), "{what}");
        } else {
            assert_eq!((found.len(), found[3]), (20, [3, 77, 8, 0]), "{what}");
            assert_eq!((told, world.servers.each_ref().map(aside)), ([0; 2], [0; 2]), "{what}");
        }
        // It is a row like any other.
        world.servers[1].write(6_000, &insert(3, 78));
        world.settle();
        assert_eq!(world.check(asks), Ok(1), "{what}");
        world.assert_equal(&what);
    }
}

#[test]
fn a_machine_in_the_place_of_another_gets_what_the_one_that_is_left_reads_in_its_table_alone() {
    for asks in 0..2 {
        let mut world = old_pair();
        make_unreadable(&mut world.servers[0]);
        world.link(false);
        world.servers[1] = Server::on(1, memory(&Setup { origin: Origin(77), ..setup(1) }));
        world.settle();
        assert_eq!(rows(&world.servers[1].tables).len(), 19);
        world.check(asks).unwrap();
        world.assert_equal("written anew");
        assert_eq!(rows(&world.servers[1].tables)[3], [3, 3, 8, 0]);
    }
}

#[test]
fn a_comparison_while_changes_are_on_their_way_says_nothing() {
    let mut world = World::new();
    world.settle();
    world.servers[0].write(1_000, &insert(1, 1));
    world.settle();
    assert!(world.servers[0].exchange.sync_mut().begin_check());
    world.work();
    world.servers[1].write(1_001, &insert(2, 2));
    world.settle();
    assert_eq!(world.servers[0].ends, [CheckEnd::Apart]);
    assert!(!World::new().servers[0].exchange.sync_mut().begin_check(), "without a link");
    assert_eq!(world.check(0), Ok(1));
}

/// The next version: a column and a table more.
const WIDE: Table = Table {
    columns: &[Column::new(1, "one"), Column::new(2, "two"), Column::new(3, "three")],
    ..ITEM
};
const OTHER: Table =
    Table { id: 2, name: "other", key: &["name"], columns: &[Column::new(1, "value")] };
static SECOND: Schema = Schema { version: 2, tables: &[WIDE, OTHER] };
const SECOND_SQL: &str = "ALTER TABLE item ADD COLUMN three INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE other (
        name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0) STRICT";

#[test]
fn a_copy_from_a_newer_server_keeps_unread_what_an_older_one_does_not_know() {
    let folder = std::env::temp_dir().join(format!("tandem-copy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, first) = (folder.join("config.db"), setup(1));
    let second = |node| Setup { schema: &SECOND, migrations: &[SQL, SECOND_SQL], ..setup(node) };
    assert_eq!(SCHEMA.version, 1);
    let old = Tables::open(&file, &first).unwrap();
    let mut world = World::of([Server::on(0, memory(&second(0))), Server::on(1, old)]);
    world.servers[0].write(1_000, "INSERT INTO item (id, one, two, three) VALUES (1, 1, 1, 3)");
    world.servers[0].write(1_001, "INSERT INTO other (name, value) VALUES ('x', 9)");
    let keep = Keep { alone_millis: 1, ..SHORT };
    assert_eq!(world.servers[0].tables.shorten(9_000, None, &keep).unwrap(), 2);
    world.settle();
    assert_eq!(rows(&world.servers[1].tables), [[1, 1, 1, 0]]);
    assert_eq!(world.check(1), Ok(1), "rows are compared with what nobody reads");
    // From a file too: a copy goes the other way, from a connection of its own.
    world.servers[1].write(9_500, "UPDATE item SET one = 2");
    world.settle();
    assert!(shorten(&mut world.servers[1], 99_000) > 0);
    world.link(false);
    world.servers[0] = Server::on(0, memory(&Setup { origin: Origin(78), ..second(0) }));
    world.settle();
    let value = |tables: &Tables| -> (i64, i64) {
        let sql = "SELECT three, (SELECT value FROM other) FROM item WHERE one = 2";
        tables.reader().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(value(&world.servers[0].tables), (3, 9));
    drop(world);
    let upgraded = Tables::open(&file, &Setup { origin: Origin(2), ..second(1) }).unwrap();
    assert_eq!(value(&upgraded), (3, 9));
    assert_eq!(upgraded.faults().unwrap(), Vec::<String>::new());
    drop(upgraded);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn servers_of_two_versions_compare_what_only_one_of_them_reads_and_put_it_right() {
    for shortened in [false, true] {
        for damaged in 0..2 {
            let second = Setup { schema: &SECOND, migrations: &[SQL, SECOND_SQL], ..setup(0) };
            let mut world = World::of([Server::on(0, memory(&second)), Server::new(1)]);
            world.settle();
            let insert = "INSERT INTO item (id, one, two, three) VALUES (1, 1, 1, 3)";
            world.servers[0].write(1_000, insert);
            world.servers[0].write(1_001, "INSERT INTO other (name, value) VALUES ('x', 9)");
            world.servers[1].write(1_002, "INSERT INTO item (id, one, two) VALUES (2, 2, 2)");
            world.settle();
            if shortened {
                assert_eq!(world.servers.each_mut().map(|server| shorten(server, 9_000)), [3; 2]);
            }
            assert_eq!((world.check(0), world.check(1)), (Ok(1), Ok(1)));
            let ruin = "UPDATE row_version SET body = x'00ff'";
            world.servers[damaged].tables.write_behind(ruin).unwrap();
            assert_eq!(world.check(1 - damaged), Ok(2), "{damaged}, shortened: {shortened}");
            world.assert_equal("mended");
            let sql = "SELECT three, value FROM item, other WHERE id = 1";
            let values = world.servers[0]
                .tables
                .reader()
                .query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
            assert_eq!(values, Ok((3, 9)));
        }
    }
}

#[test]
fn what_was_written_after_a_backup_and_is_in_no_log_any_more_gets_a_new_name_too() {
    let mut world = World::new();
    world.settle();
    world.servers[0].write(1_000, &insert(1, 1));
    world.settle();
    let old = copy(&world.servers[0].tables, 0);
    world.servers[0].write(2_000, &insert(1, 2));
    world.settle();
    world.link(false);
    world.servers[0].tables = old;
    world.servers[0].restart();
    // Alone for very long: what it writes under a number that is given is forgotten by its log.
    for number in 0..3 {
        world.servers[0].write(9_000 + number, &insert(1 + number, 7));
    }
    let keep = Keep { alone_millis: 1, ..SHORT };
    assert_eq!(world.servers[0].tables.shorten(9_004, None, &keep).unwrap(), 4);
    world.servers[0].write(9_009, &insert(9, 9));
    world.settle();
    world.assert_equal("renamed");
    assert_eq!(
        rows(&world.servers[1].tables).iter().map(|row| row[1]).collect::<Vec<_>>(),
        [7, 7, 7, 9]
    );
    let undecided = world.servers[1].tables.undecided().unwrap();
    assert_eq!(undecided.len(), 1, "two wrote row 1 and did not know of each other");
}
