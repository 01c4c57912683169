//! A configuration whose log was shortened: into an empty PostgreSQL and back, to the byte.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;
mod server;

use std::path::Path;

use common::{block_on, connect, say};
use rusqlite::Connection;
use server::Server;
use tandem_config::Config;
use tandem_oplog::{CopyPart, OpId, Seen, Staged};
use tandem_postgres::{Database, Trouble};
use tandem_store::tables::{By, Keep, Tables};
use tandem_types::{Dice, Epoch, Instant, Seat};

/// Ops of the first server; the last few stay in its log.
const OPS: u64 = 60;
const KEPT: u64 = 10;

fn tables(seat: Seat, number: u64) -> Tables {
    let setup = Config::setup(seat, &mut Dice::from_number(number));
    Tables::on(Connection::open_in_memory().unwrap(), Path::new("memory"), &setup).unwrap()
}

fn write(tables: &mut Tables, wall_millis: u64, sql: &str) {
    let by = By { author: "anna".to_owned(), wall_millis, epoch: Epoch::NEVER };
    let body = |connection: &Connection| connection.execute_batch(sql);
    assert!(tables.change(&by, body).unwrap().1.is_some(), "{sql}");
}

fn log(tables: &Tables, lacking: &Seen) -> Vec<Vec<u8>> {
    let page = tables.log(0, lacking, usize::MAX).unwrap();
    page.ops.into_iter().map(|op| op.bytes).collect()
}

/// Two servers that have the same; the first has let go of most of its log, and of all that the other wrote.
fn shortened() -> (Tables, Tables) {
    let (mut one, mut other) = (tables(Seat::Master, 1), tables(Seat::Standby, 2));
    write(&mut other, 900, "INSERT INTO settings (name, value) VALUES ('other', 'first')");
    one.take(log(&other, &Seen::new()).iter().map(Vec::as_slice)).unwrap();
    for number in 0..OPS {
        let sql = format!(
            "INSERT INTO users (id, display, enabled, md_five, sha_two)
             VALUES (x'{number:032x}', 'Number {number}', 1, x'00ff', x'');
             INSERT INTO numbers (number, user_id, place) VALUES ('{number}', x'{number:032x}', 0);"
        );
        write(&mut one, 1_000 + number, &sql);
    }
    other.take(log(&one, other.seen()).iter().map(Vec::as_slice)).unwrap();
    let all = one.seen().clone();
    let keep = Keep { millis: u64::MAX, ops: KEPT, both_millis: 0, alone_millis: 0 };
    assert_eq!(one.shorten(1_000_000, Some(&all), &keep).unwrap() as u64, OPS + 1 - KEPT);
    assert_eq!(one.floors().unwrap().len(), 2);
    (one, other)
}

async fn fill(database: &mut Database, tables: &Tables) -> Result<(), Trouble> {
    let mut copy = tables.copy(Staged::default()).unwrap();
    let header = copy.header().clone();
    database.fill(&header, || copy.read()).await
}

async fn parts(database: &mut Database, into: &mut Tables) {
    let mut copy = database.copy().await.unwrap();
    let from = Staged { id: copy.header().id(), ..Staged::default() };
    into.stage_begin(copy.header(), &from).unwrap();
    while let Some(part) = copy.read().await.unwrap() {
        into.stage(&part).unwrap();
    }
    into.join().unwrap();
}

#[test]
fn a_shortened_log_goes_to_an_empty_database_and_back_to_the_byte() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (mut one, mut other) = shortened();
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        fill(&mut database, &one).await.unwrap();
        assert_eq!(database.digests().await.unwrap(), one.digests().unwrap());
        let mut there = database.heads().await.unwrap();
        there.sort_by_key(|(id, _)| *id);
        assert_eq!(there, one.heads().collect::<Vec<_>>());
        assert_eq!(database.floors().await.unwrap(), one.floors().unwrap());
        assert_eq!(database.op_count().await.unwrap(), (KEPT, 2 * OPS + 1));
        let shown = say(&address, "SELECT count(*), min(display) FROM tandem.users").await;
        assert_eq!(shown[0], [Some(OPS.to_string()), Some("Number 0".to_owned())]);

        // Both servers go on with it as usual.
        write(&mut one, 5_000, "UPDATE users SET display = 'Änne' WHERE display = 'Number 3'");
        let has: Seen = database.heads().await.unwrap().iter().map(|(id, _)| *id).collect();
        database.take(&log(&one, &has)).await.unwrap();
        let lacking = database.lacking(other.seen(), usize::MAX).await.unwrap();
        other.take(lacking.iter().map(Vec::as_slice)).unwrap();
        write(&mut other, 5_001, "UPDATE settings SET value = 'second' WHERE name = 'other'");
        let mut config = Config::on(other, Dice::from_number(3)).unwrap();
        let heads = database.heads().await.unwrap();
        let (_, lacking) = config.handle_database(Instant::ZERO, &heads, &[]).unwrap();
        assert_eq!(lacking.len(), 1);
        database.take(&lacking).await.unwrap();
        let other = config.into_tables();
        assert_eq!(database.digests().await.unwrap(), other.digests().unwrap());

        // A machine without anything cannot have the changes one by one, but everything at once.
        let mut fresh = tables(Seat::Master, 4);
        assert!(!database.keeps_since(fresh.seen()).await.unwrap());
        let refused = database.lacking(fresh.seen(), usize::MAX).await;
        assert!(
            matches!(&refused, Err(Trouble::Refused(what)) if what.contains("store move --to embedded")),
            "{refused:?}"
        );
        parts(&mut database, &mut fresh).await;
        assert_eq!(fresh.digests().unwrap(), other.digests().unwrap());
        assert_eq!(fresh.floors().unwrap(), one.floors().unwrap());
        assert!(fresh.heads().eq(other.heads()), "{fresh:?}");
        assert_eq!(fresh.latest().millis(), other.latest().millis());
        assert_eq!(fresh.faults().unwrap(), Vec::<String>::new());
        assert!(database.keeps_since(fresh.seen()).await.unwrap());
        let has = fresh.seen().clone();
        write(&mut fresh, 1, "UPDATE settings SET value = 'third' WHERE name = 'other'");
        database.take(&log(&fresh, &has)).await.unwrap();
        assert_eq!(database.digests().await.unwrap(), fresh.digests().unwrap());
        assert!(fresh.undecided().unwrap().is_empty(), "it had seen the second");
    });
}

#[test]
fn what_is_joined_with_a_machine_that_was_put_back_gives_no_number_twice() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (mut one, _) = shortened();
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        fill(&mut database, &one).await.unwrap();
        // The same origin, with less; and a change that only this one has cannot be in it.
        let mut back = tables(Seat::Master, 1);
        assert_eq!(back.me(), one.me());
        parts(&mut database, &mut back).await;
        write(&mut back, 9_000, "UPDATE settings SET value = 'back' WHERE name = 'other'");
        assert_eq!(back.seen().up_to(one.me()), OPS + 1);
        write(&mut one, 9_000, "UPDATE settings SET value = 'kept' WHERE name = 'other'");
        let id = OpId { origin: one.me(), number: OPS };
        assert_eq!(back.chain_at(id).unwrap(), one.chain_at(id).unwrap());
        assert_eq!(back.faults().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn what_is_not_whole_or_not_empty_is_refused_and_nothing_is_there() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let (one, other) = shortened();
    block_on(async {
        let mut database = connect(&address).await.unwrap();
        let copy = || one.copy(Staged::default()).unwrap();
        let header = copy().header().clone();
        // Without its log.
        let mut cut = copy();
        let without = || {
            let part = cut.read()?;
            Ok::<_, rusqlite::Error>(part.map(|part| {
                let mut items = CopyPart::items(&part.body).unwrap();
                items.retain(|item| !matches!(item, tandem_oplog::CopyItem::Op { .. }));
                CopyPart::after(&Staged::default(), &items)
            }))
        };
        let said = database.fill(&header, without).await;
        assert!(
            matches!(&said, Err(Trouble::Refused(what)) if what.contains("does not end where")),
            "{said:?}"
        );
        let fails = || Err::<Option<CopyPart>, _>("the disk is on fire");
        let said = database.fill(&header, fails).await;
        assert_eq!(said, Err(Trouble::Refused("the disk is on fire".to_owned())));
        assert_eq!(database.op_count().await.unwrap(), (0, 0));
        assert!(database.heads().await.unwrap().is_empty());

        let mut config = Config::on(one, Dice::from_number(3)).unwrap();
        let said = config.handle_database(Instant::ZERO, &[], &[]).unwrap_err();
        assert!(said.contains("an empty database with `tandem store move`"), "{said}");

        database.take(&log(&other, &Seen::new())[..1]).await.unwrap();
        let said = fill(&mut database, config.tables()).await;
        assert!(
            matches!(&said, Err(Trouble::Refused(what)) if what.contains("use an empty database")),
            "{said:?}"
        );
        assert_eq!(database.op_count().await.unwrap(), (1, 1));
    });
}
