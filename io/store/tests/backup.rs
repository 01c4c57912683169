//! Copies of files that are written meanwhile, what is taken out of them before they are used again, and
//! what comes of that between two servers.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;
mod ground;

use common::{entry, folder, hot, log};
use std::path::Path;

use tandem_faultfs::{Error, Failure, Files, On};
use tandem_journal::{Class, Known};
use tandem_oplog::{Column, Origin, Schema, Table};
use tandem_store::backup::{self, CopyError, Kind, Prepared};
use tandem_store::tables::{By, Setup, Tables};
use tandem_store::{OpenError, Reader, Settings, WallClock};
use tandem_types::{Epoch, Seat};

const PAIR: Table =
    Table { id: 1, name: "pair", key: &["id"], columns: &[Column::new(1, "value")] };
static SCHEMA: Schema = Schema { version: 1, tables: &[PAIR] };
const SQL: &str = "CREATE TABLE pair (id INTEGER NOT NULL PRIMARY KEY, value INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0) STRICT;";

fn setup(node: u8) -> Setup {
    Setup { schema: &SCHEMA, migrations: &[SQL], node, origin: Origin(u64::from(node) + 1) }
}

fn by(wall_millis: u64) -> By {
    By { author: String::from("admin"), wall_millis, epoch: Epoch::NEVER }
}

fn write(tables: &mut Tables, wall: u64, id: u32, value: u64) {
    let sql = format!(
        "INSERT INTO pair (id, value) VALUES ({id}, {value})
         ON CONFLICT (id) DO UPDATE SET value = excluded.value"
    );
    tables.change(&by(wall), |connection| connection.execute_batch(&sql)).unwrap();
}

fn value(tables: &Tables, id: u32) -> u64 {
    let sql = "SELECT value FROM pair WHERE id = ?";
    let value: i64 = tables.reader().query_row(sql, [id], |row| row.get(0)).unwrap();
    value.unsigned_abs()
}

/// Both take what the other has.
fn exchange(one: &mut Tables, other: &mut Tables) {
    for _ in 0..2 {
        let page = other.log(0, one.seen(), usize::MAX).unwrap();
        one.take(page.ops.iter().map(|op| op.bytes.as_slice())).unwrap();
        let page = one.log(0, other.seen(), usize::MAX).unwrap();
        other.take(page.ops.iter().map(|op| op.bytes.as_slice())).unwrap();
    }
}

fn copy(kind: Kind, from: &Path, to: &Path) {
    backup::copy(kind, from, to, &mut |_, _| true).unwrap();
}

#[test]
fn a_copy_is_one_moment_of_a_file_that_is_written_all_the_time() {
    let folder = folder("copy");
    let (from, to) = (folder.join("t.db"), folder.join("copy.db"));
    let mut tables = Tables::open(&from, &setup(0)).unwrap();
    let fill = |connection: &rusqlite::Connection| {
        connection.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
             INSERT INTO pair (id, value) SELECT i, i * 1000003 FROM n",
        )
    };
    tables.change(&by(1), fill).unwrap();
    write(&mut tables, 2, 1, 0);
    let (mut parts, mut last) = (0, 0);
    backup::copy(Kind::Tables, &from, &to, &mut |done, all| {
        parts += 1;
        assert!(done <= all && done >= last);
        last = done;
        // A writer that never rests would make a copy of the usual kind begin anew each time.
        write(&mut tables, 2 + parts, 1, parts);
        parts < 1_000
    })
    .unwrap();
    assert!((2..1_000).contains(&parts), "{parts} parts");
    assert_eq!(value(&tables, 1), parts);
    let copied = backup::tables(&to, &setup(1)).unwrap();
    assert_eq!(value(&copied, 1), 0, "as it was when the copy began");
    assert_eq!(copied.faults().unwrap(), Vec::<String>::new());
    assert!(!folder.join("copy.db-wal").exists(), "it stands alone");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_copy_that_is_stopped_or_of_another_file_says_so() {
    let folder = folder("stopped");
    let (store, _, mut wait) = common::open(&folder, Settings::default());
    let body = "x".repeat(3_000_000);
    store.write(entry(1, Seat::Master, 1, vec![log("cdr/1", &body)]), true, 1).unwrap();
    wait.stored(1);
    let (from, to) = (folder.join("journal.db"), folder.join("copy.db"));
    let stopped = backup::copy(Kind::Journal, &from, &to, &mut |_, _| false);
    assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
    let foreign = backup::copy(Kind::Tables, &from, &to, &mut |_, _| true);
    assert!(matches!(foreign, Err(CopyError::From(OpenError::Foreign { .. }))), "{foreign:?}");
    let full = backup::copy(Kind::Journal, &from, Path::new("/dev/full/x"), &mut |_, _| true);
    assert!(matches!(full, Err(CopyError::Broke { .. })), "{full:?}");
    let none = backup::copy(Kind::Journal, &folder.join("none"), &to, &mut |_, _| true);
    assert!(matches!(none, Err(CopyError::From(OpenError::Unusable { .. }))), "{none:?}");
}

#[test]
fn a_prepared_journal_has_its_log_and_the_wanted_records_and_knows_nothing() {
    let folder = folder("prepared");
    let (from, to) = (folder.join("journal.db"), folder.join("there").join("journal.db"));
    std::fs::create_dir(folder.join("there")).unwrap();
    let (store, _, mut wait) = common::open(&folder, Settings::default());
    let ops = vec![hot("call/1", "c"), hot("aor/anna", "a"), hot("txn/1", "t"), log("cdr/1", "r")];
    store.write(entry(3, Seat::Standby, 7, ops), true, 1).unwrap();
    wait.stored(1);
    copy(Kind::Journal, &from, &to);
    drop(store);
    let prepared = backup::prepare_journal(&to, &[b"aor/"]).unwrap();
    let reign = Some(Epoch { number: 3, seat: Seat::Standby });
    assert_eq!(prepared, Prepared { reign, dropped: 2, kept: 1, logs: 1 });
    let reader = Reader::open(&folder.join("there"), WallClock::system()).unwrap();
    let hot: Vec<_> = reader.all(Class::Hot).unwrap().into_iter().map(|one| one.key).collect();
    assert_eq!(hot, [b"aor/anna"]);
    assert_eq!(reader.known().unwrap(), Known::new());
    assert_eq!(reader.log(b"cdr/", 9, None).unwrap().len(), 1);
    // A server begins with it.
    let (_, loaded, _) = common::open(&folder.join("there"), Settings::default());
    assert_eq!(loaded.records.len(), 1);
}

/// One is put back to an earlier day while the other one goes on; both write before they meet again.
#[test]
fn tables_that_were_put_back_lose_nothing_of_either_side() {
    let folder = folder("back");
    let (a, b, kept) = (folder.join("a.db"), folder.join("b.db"), folder.join("kept.db"));
    let (mut here, mut there) =
        (Tables::open(&a, &setup(0)).unwrap(), Tables::open(&b, &setup(1)).unwrap());
    write(&mut here, 1, 1, 10);
    exchange(&mut here, &mut there);
    copy(Kind::Tables, &a, &kept);
    write(&mut here, 2, 1, 11);
    write(&mut here, 3, 2, 20);
    exchange(&mut here, &mut there);
    drop(here);
    backup::prepare_tables(&kept, Origin(77)).unwrap();
    let mut back = Tables::open(&kept, &setup(0)).unwrap();
    assert_eq!((back.me(), value(&back, 1)), (Origin(77), 10));
    // Before it has heard of the other one, and the other one of it.
    write(&mut back, 4, 3, 30);
    write(&mut there, 5, 4, 40);
    exchange(&mut back, &mut there);
    for id in 1..=4 {
        assert_eq!(value(&back, id), value(&there, id), "row {id}");
    }
    assert_eq!([1, 2, 3, 4].map(|id| value(&back, id)), [11, 20, 30, 40]);
    assert_eq!(back.digests().unwrap(), there.digests().unwrap());
    assert_eq!(back.faults().unwrap(), Vec::<String>::new());
}

#[test]
fn two_servers_that_are_put_back_to_different_days_become_equal_and_the_newest_wins() {
    let folder = folder("days");
    let path = |name: &str| folder.join(name);
    let (mut here, mut there) = (
        Tables::open(&path("a.db"), &setup(0)).unwrap(),
        Tables::open(&path("b.db"), &setup(1)).unwrap(),
    );
    for day in 1..=3 {
        write(&mut here, day * 10, 1, day);
        write(&mut there, day * 10 + 1, 2, day);
        write(&mut there, day * 10 + 2, 10 + u32::try_from(day).unwrap(), day);
        exchange(&mut here, &mut there);
        copy(Kind::Tables, &path("a.db"), &path(&format!("a{day}.db")));
        copy(Kind::Tables, &path("b.db"), &path(&format!("b{day}.db")));
    }
    // Each machine has its own file of another day; then both have the one of the same machine.
    for (number, (one, other)) in (0..).zip([("a1", "b2"), ("a2", "a1"), ("b1", "b1")]) {
        let [one, other] = [(one, 0), (other, 1)].map(|(name, node)| {
            let to = path(&format!("{number}-{node}.db"));
            std::fs::copy(path(&format!("{name}.db")), &to).unwrap();
            backup::prepare_tables(&to, Origin(100 + u64::from(node))).unwrap();
            Tables::open(&to, &setup(node)).unwrap()
        });
        let (mut one, mut other) = (one, other);
        write(&mut one, 90, 50, 5);
        write(&mut other, 91, 51, 6);
        exchange(&mut one, &mut other);
        assert_eq!(one.digests().unwrap(), other.digests().unwrap(), "round {number}");
        let newest = if number == 2 { 1 } else { 2 };
        for tables in [&one, &other] {
            assert_eq!((value(tables, 1), value(tables, 2)), (newest, newest), "round {number}");
            assert_eq!((value(tables, 50), value(tables, 51)), (5, 6));
            assert_eq!(tables.faults().unwrap(), Vec::<String>::new());
        }
    }
}

#[test]
fn sums_are_equal_where_everything_is_and_name_the_part_that_differs() {
    let folder = folder("sums");
    let (here, there) = (folder.join("here"), folder.join("there"));
    for (place, body) in [(&here, "same"), (&there, "other")] {
        std::fs::create_dir(place).unwrap();
        let (store, _, mut wait) = common::open(place, Settings::default());
        store.write(entry(1, Seat::Master, 5, vec![log("cdr/1", "same")]), true, 1).unwrap();
        store.write(entry(1, Seat::Master, 70_000, vec![log("cdr/2", body)]), true, 2).unwrap();
        wait.stored(2);
        drop(store);
        write(&mut Tables::open(&place.join("config.db"), &setup(0)).unwrap(), 1, 1, 1);
    }
    let [one, other] =
        [&here, &there].map(|place| backup::sums(&place.join("config.db"), place, None).unwrap());
    assert_eq!((&one.heads, &one.tables), (&other.heads, &other.tables));
    assert_eq!((one.log_records(), one.logs.len()), (2, 2));
    let differs: Vec<_> = one.logs.iter().filter(|(part, sum)| other.logs[part] != **sum).collect();
    let (part, _) = differs[0];
    assert_eq!((differs.len(), part.part), (1, 8));
    let [one, other] = [&here, &there].map(|place| backup::log_part(place, *part, None).unwrap());
    assert_eq!(one.keys().collect::<Vec<_>>(), [b"cdr/2"]);
    assert_ne!(one, other);
}

#[test]
fn a_flipped_bit_is_found_by_the_check() {
    let folder = folder("check");
    let path = folder.join("journal.db");
    let (store, _, mut wait) = common::open(&folder, Settings::default());
    let ops = (0..2_000).map(|at| log(&format!("cdr/{at}"), "body")).collect();
    store.write(entry(1, Seat::Master, 1, ops), true, 1).unwrap();
    wait.stored(1);
    assert_eq!(backup::check(Kind::Journal, &path).unwrap(), Vec::<String>::new());
    let copied = folder.join("copy.db");
    copy(Kind::Journal, &path, &copied);
    let mut bytes = std::fs::read(&copied).unwrap();
    // The pointers of a page that is not the first.
    bytes[4096 * 3 + 3] ^= 0x40;
    std::fs::write(&copied, bytes).unwrap();
    let faults = backup::check(Kind::Journal, &copied);
    assert!(faults.is_err() || !faults.unwrap().is_empty());
}

#[test]
fn a_disk_that_does_not_read_gives_no_copy_and_never_a_wrong_one() {
    let (mut failed, mut made) = (0, 0);
    for after in 0.. {
        let ground = ground::disk("backup-reads", Files::default());
        let mut tables = ground::open(&ground.0).unwrap();
        for id in 0..60 {
            let text = "text ".repeat(400);
            let sql = format!("INSERT INTO item (id, one, two) VALUES ({id}, {id}, '{text}')");
            tables.change(&by(id), |connection| connection.execute_batch(&sql)).unwrap();
        }
        tables.reader().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let wanted = ground::rows(&tables);
        drop(tables);
        let folder = folder("backup-reads-to");
        let to = folder.join("copy.db");
        ground.0.fail(Failure { on: On::Read, after, times: 1, error: Error::Io });
        let from = ground.0.folder().join(ground::FILE);
        let copied = backup::copy(Kind::Tables, &from, &to, &mut |_, _| true);
        let never_came = ground.0.heal() > 0;
        match copied {
            Ok(()) => {
                // What was read again, or was only a look ahead.
                made += 1;
                assert_eq!(backup::check(Kind::Tables, &to).unwrap(), Vec::<String>::new());
                let copy = backup::tables(&to, &ground::setup(1)).unwrap();
                assert_eq!(ground::rows(&copy), wanted, "read {after} fails");
            }
            Err(error) => {
                assert!(!never_came, "{error}");
                assert!(!matches!(error, CopyError::Stopped));
                failed += 1;
            }
        }
        if never_came {
            break;
        }
    }
    assert!(failed > 20 && made > 0, "{failed} failed, {made} made");
}
