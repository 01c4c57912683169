//! A pair that keeps its things in a real PostgreSQL: brought there and back, and while it is away.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../../io/postgres/tests/server/mod.rs"]
mod server;

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::calls::{body, cdr, write_calls, write_cdrs};
use common::machines::{Machine, Pair};
use common::{DEADLINE, Folder, tandem};
use server::Server;
use tandem_call::{Cdr, Outcome};
use tandem_config::{Config, FILE_NAME, Order, Output, Work};
use tandem_dialplan::{Account, Credentials, DisplayName, Edit, Number, User, UserName};
use tandem_journal::{Cursor, Known, Record};
use tandem_oplog::TableId;
use tandem_store::tables::{By, Keep, Tables};
use tandem_store::{Reader, Retention, Settings, Store, WallClock, backup};
use tandem_types::{Dice, Duration as Span, Epoch, Instant as Time, Pii, Seat};

const USERS: u64 = 1_000;
const CALLS: u64 = 5_000;

/// In a state folder that no server has open.
fn fill(state: &Path, users: u64, calls: u64) {
    std::fs::create_dir_all(state).unwrap();
    let calls: Vec<Cdr> = (1..=calls).map(call).collect();
    write_cdrs(state, Settings::default(), 1, &calls);
    let mut config = Config::open(state, Seat::Master, Dice::from_number(3)).unwrap();
    let orders = (1..=users).map(|number| {
        let name = UserName::parse(&format!("user{number}")).unwrap();
        let user = User {
            name: name.clone(),
            display: DisplayName::parse(&format!("Nämber {number}")).unwrap(),
            numbers: vec![Number::parse(&format!("{}", 1_000 + number)).unwrap()],
            enabled: !number.is_multiple_of(7),
        };
        let credentials = Credentials { md5: [1; 16], sha256: [2; 32] };
        let edit = Edit::User { name, account: Some(Account { user, credentials }) };
        let by = By { author: "anna".into(), wall_millis: number, epoch: Epoch::NEVER };
        Order { id: number, work: Work::Edit(edit), by }
    });
    config.handle_orders(Time::ZERO, orders.collect());
    let mut done = 0;
    while let Some(output) = config.poll_output() {
        if let Output::Edited { result, .. } = output {
            result.unwrap();
            done += 1;
        }
    }
    assert_eq!(done, users);
}

/// Every third was busy.
fn call(number: u64) -> Cdr {
    let end = i64::try_from(tandem_os::clock::wall_micros()).unwrap();
    let is_busy = number.is_multiple_of(3);
    Cdr {
        origination_name: Pii::new("Anna \"A\" \\ 'x'".to_owned()),
        connect: (!is_busy).then_some(end - 30_000_000),
        outcome: Some(if is_busy { Outcome::Busy } else { Outcome::Answered }),
        ..cdr(&format!("call-{number:05}"), end)
    }
}

fn open_tables(state: &Path) -> Tables {
    let setup = Config::setup(Seat::Master, &mut Dice::from_number(9));
    Tables::open(&state.join(FILE_NAME), &setup).unwrap()
}

/// Keeps so many changes in the log.
fn shorten(state: &Path, ops: u64) {
    let mut tables = open_tables(state);
    let all = tables.seen().clone();
    let keep = Keep { millis: u64::MAX, ops, both_millis: 0, alone_millis: 0 };
    while tables.shorten(1_000_000, Some(&all), &keep).unwrap() > 0 {}
    assert_eq!(tables.logged().unwrap(), ops);
}

/// Everything that is kept in a state folder: digests of the tables, and every record.
fn kept(state: &Path) -> (Vec<(TableId, [u8; 32])>, Vec<Record>) {
    let setup = Config::setup(Seat::Master, &mut Dice::from_number(9));
    let tables = backup::tables(&state.join(FILE_NAME), &setup).unwrap();
    let reader = Reader::open(state, WallClock::system()).unwrap();
    let (mut records, mut after) = (Vec::new(), Some(Cursor(None)));
    while let Some(from) = after {
        let (page, next) = reader.lacking(&Known::new(), &from).unwrap();
        // The age counts from when it was written: the same on both, but for how long that takes.
        records.extend(
            page.into_iter().map(|one| Record { age: tandem_types::Duration::ZERO, ..one }),
        );
        after = next;
    }
    (tables.digests().unwrap().into_iter().collect(), records)
}

fn add_key(machine: &Machine, address: &str) {
    add_line(machine, &format!("database = {address:?}"));
}

fn add_line(machine: &Machine, line: &str) {
    let mut file = OpenOptions::new().append(true).open(&machine.config).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// A pair without users whose master has these calls, and has brought them to a database.
fn moved(calls: &[&str]) -> (Server, Pair, [String; 4]) {
    let server = Server::new();
    let pair = Pair::set_up();
    let state = pair.master.state();
    std::fs::create_dir_all(&state).unwrap();
    drop(Config::open(&state, Seat::Master, Dice::from_number(3)).unwrap());
    write_calls(&state, 1, calls);
    let to = ["store", "move", "--to", &Server::address(&[&server])].map(str::to_owned);
    pair.master.prints(&to.each_ref().map(String::as_str));
    (server, pair, to)
}

#[test]
fn everything_goes_to_the_database_and_back_to_the_byte_though_it_is_cut_off() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let pair = Pair::set_up();
    let state = pair.master.state();
    fill(&state, USERS, CALLS);
    let before = kept(&state);
    assert_eq!(before.1.len() as u64, 2 * CALLS);

    // Cut off after the first half: it is repeated.
    let mut moving = tandem();
    moving.arg("--config").arg(&pair.master.config).args(["store", "move", "--to", &address]);
    let mut moving = moving.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(moving.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, "configuration: 1000 changes, 3000 rows: equal on both sides");
    moving.kill().unwrap();
    moving.wait().unwrap();
    let said = pair.master.prints(&["store", "move", "--to", &address]);
    assert!(said.contains("10000 records: equal on both sides"), "{said}");
    assert!(said.contains(&format!("database = {address:?}")), "{said}");
    assert_eq!(
        pair.master.prints(&["store", "move", "--to", &address]),
        said,
        "once more is the same"
    );
    let counts =
        "SELECT (SELECT count(*) FROM tandem.cdr), (SELECT count(*) FROM tandem.call_event),
        (SELECT count(*) FROM tandem.users), (SELECT sum(talk_seconds) FROM tandem.cdr)";
    assert_eq!(server.query(counts), [format!("5000|5000|1000|{}", 30 * 3_334)]);

    // A machine without any file gets all of it.
    add_key(&pair.master, &address);
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    let back = pair.master.prints(&["store", "move", "--to", "embedded"]);
    assert!(back.contains("1000 changes, 3000 rows: equal on both sides"), "{back}");
    let digest = |said: &str| said.split_once("(digest ").unwrap().1[..16].to_owned();
    assert_eq!(digest(&back), digest(&said));
    assert!(kept(&state) == before, "what came back is not what went");
    assert_eq!(pair.master.prints(&["store", "move", "--to", "embedded"]), back);
}

/// Between a command and the database: bytes pass, either way, until there were so many; then nothing does.
struct Relay {
    folder: Folder,
    passed: Arc<AtomicU64>,
    full: Receiver<()>,
}

impl Relay {
    /// For one connection.
    fn new(server: &Server, most: u64) -> Self {
        let folder = Folder::new("relay");
        let listener = UnixListener::bind(folder.0.join(".s.PGSQL.5432")).unwrap();
        let (told, full) = channel();
        let passed = Arc::new(AtomicU64::new(0));
        let (counter, socket) = (Arc::clone(&passed), server.socket());
        std::thread::spawn(move || {
            let (near, _) = listener.accept().unwrap();
            let far = UnixStream::connect(socket).unwrap();
            for (from, to) in [(&near, &far), (&far, &near)] {
                let ends = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let (counter, told) = (Arc::clone(&counter), told.clone());
                std::thread::spawn(move || pump(ends, &counter, most, &told));
            }
        });
        Self { folder, passed, full }
    }

    fn address(&self) -> String {
        let folder = self.folder.0.to_str().unwrap().replace('/', "%2F");
        format!("postgresql://tandem@{folder}/postgres")
    }
}

fn pump(
    (mut from, mut to): (UnixStream, UnixStream),
    passed: &AtomicU64,
    most: u64,
    told: &Sender<()>,
) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let before = passed.fetch_add(length as u64, Ordering::SeqCst);
        let left = usize::try_from(most.saturating_sub(before)).unwrap().min(length);
        if to.write_all(&bytes[..left]).is_err() {
            break;
        }
        if left < length {
            let _ = told.send(());
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Moves, and is killed when so many bytes have passed.
fn killed(machine: &Machine, relay: &Relay, arguments: &[&str]) {
    let mut command = tandem();
    command.arg("--config").arg(&machine.config).args(arguments);
    let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    relay.full.recv_timeout(DEADLINE).unwrap();
    command.kill().unwrap();
    command.wait().unwrap();
}

/// Each way is cut off at so many places.
const CUTS: u64 = 6;

fn cut_off_and_moved_again(is_shortened: bool) {
    let server = Server::new();
    let direct = Server::address(&[&server]);
    let pair = Pair::set_up();
    let state = pair.master.state();
    fill(&state, 60, 150);
    if is_shortened {
        shorten(&state, 10);
    }
    let before = kept(&state);
    let is_whole = || {
        let sql = "SELECT (SELECT count(*) FROM tandem.cdr), (SELECT count(*) FROM tandem.users),
            (SELECT count(*) FROM tandem.log_record), (SELECT count(*) FROM tandem.op_log)";
        let ops = if is_shortened { 10 } else { 60 };
        assert_eq!(server.query(sql), [format!("150|60|300|{ops}")]);
    };
    let fresh = || drop(server.query("DROP SCHEMA IF EXISTS tandem CASCADE"));
    let whole = Relay::new(&server, u64::MAX);
    pair.master.prints(&["store", "move", "--to", &whole.address()]);
    let total = whole.passed.load(Ordering::SeqCst);
    for cut in 0..CUTS {
        fresh();
        let relay = Relay::new(&server, total * (2 * cut + 1) / (2 * CUTS));
        killed(&pair.master, &relay, &["store", "move", "--to", &relay.address()]);
        let said = pair.master.prints(&["store", "move", "--to", &direct]);
        assert!(said.contains("300 records: equal on both sides"), "{said}");
        is_whole();
    }

    let text = std::fs::read_to_string(&pair.master.config).unwrap();
    let back = |address: &str| {
        std::fs::write(&pair.master.config, format!("{text}database = {address:?}\n")).unwrap();
        ["store", "move", "--to", "embedded"]
    };
    let empty = || {
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::create_dir(&state).unwrap();
    };
    empty();
    let whole = Relay::new(&server, u64::MAX);
    pair.master.prints(&back(&whole.address()));
    let total = whole.passed.load(Ordering::SeqCst);
    for cut in 0..CUTS {
        empty();
        let relay = Relay::new(&server, total * (2 * cut + 1) / (2 * CUTS));
        killed(&pair.master, &relay, &back(&relay.address()));
        let said = pair.master.prints(&back(&direct));
        assert!(said.contains("300 records: equal on both sides"), "{said}");
        let after = kept(&state);
        assert!(after.0 == before.0, "cut {cut}: the configuration is another one");
        let places = |records: &[Record]| -> Vec<_> {
            records.iter().map(|one| (one.stamp, one.key.clone(), one.body.clone())).collect()
        };
        assert!(places(&after.1) == places(&before.1), "cut {cut}: the records are others");
        assert_eq!(open_tables(&state).faults().unwrap(), Vec::<String>::new());
        is_whole();
    }
}

#[test]
fn killed_at_any_step_of_either_way_it_is_begun_again_and_whole() {
    cut_off_and_moved_again(false);
}

#[test]
fn killed_at_any_step_of_a_copy_of_everything_it_is_begun_again_and_whole() {
    cut_off_and_moved_again(true);
}

#[test]
fn a_password_is_in_its_file_and_in_no_output() {
    let server = Server::with_password("gEheim");
    let mut pair = Pair::set_up();
    let file = pair.folder.0.join("password");
    let write = |text: &str, mode| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    add_key(&pair.master, &Server::address(&[&server]));
    add_line(&pair.master, &format!("database_password_file = {file:?}"));
    let back = ["store", "move", "--to", "embedded"];
    write("gEheim\n", 0o640);
    let said = pair.master.refused(1, &back);
    assert!(said.contains("may be read by others (mode 640): run chmod 600"), "{said}");
    write("\n", 0o600);
    let said = pair.master.refused(1, &back);
    assert!(said.contains("has no password in its first line"), "{said}");
    write("another gEheim\n", 0o600);
    let said = pair.master.refused(1, &back);
    assert!(said.contains("password authentication failed for user \"tandem\""), "{said}");
    assert!(!said.contains("gEheim"), "{said}");
    write("gEheim\n", 0o600);
    pair.master.start();
    pair.master.wait_role("active");
    wait_state(&pair.master, "live");
    pair.master.add("anna", "10");
    let mut said = String::new();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["store", "show"],
        &["store", "show", "--json"],
        &["events", "--json"],
        &["config", "export"],
        &["config", "check"],
        &["change", "list", "--json"],
    ] {
        said += &pair.master.prints(command);
    }
    assert!(said.contains("anna") && said.contains("postgresql://tandem@"), "{said}");
    assert!(!said.contains("gEheim"), "{said}");
    pair.kill();
}

#[test]
fn a_row_more_or_less_is_an_error_with_its_name() {
    let (server, pair, to) = moved(&["a", "b", "c"]);
    let to = to.each_ref().map(String::as_str);
    server.query("DELETE FROM tandem.log_record WHERE key = 'cdr/b'");
    let said = pair.master.refused(1, &to);
    assert!(said.contains("cdr/b is not in the database"), "{said}");
    assert!(said.contains("NOT equal"), "{said}");
    server.query("UPDATE tandem.known SET seq = 0");
    pair.master.prints(&to);
    server.query("UPDATE tandem.log_record SET body = body || 'x' WHERE key = 'cev/c'");
    let said = pair.master.refused(1, &to);
    assert!(said.contains("cev/c differs"), "{said}");
    server.query("TRUNCATE tandem.log_record, tandem.known");
    pair.master.prints(&to);
    // One more in the database does not come from here: back, it is an error until it is here as well.
    let strange = server.query(
        "UPDATE tandem.log_record SET key = 'cdr/q' WHERE key = 'cdr/a'
                                RETURNING key",
    );
    assert_eq!(strange.len(), 2, "{strange:?}");
    let said = pair.master.refused(1, &to);
    assert!(said.contains("cdr/a is not in the database"), "{said}");
    // Another pair's database, and none.
    let other = Pair::set_up();
    std::fs::create_dir_all(other.master.state()).unwrap();
    let said = other.master.refused(1, &to);
    assert!(said.contains("belongs to another pair"), "{said}");
    let said = pair.master.refused(1, &["store", "move", "--to", "embedded"]);
    assert!(said.contains("there is no `database`"), "{said}");
    let said = pair.master.refused(1, &["store", "move", "--to", "postgresql://t:geheim@h/d"]);
    assert!(said.contains("a password stands in it") && !said.contains("geheim"), "{said}");
}

#[test]
fn a_pair_whose_log_was_shortened_goes_to_the_database_is_edited_there_and_comes_back() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut pair = Pair::set_up();
    let state = pair.master.state();
    fill(&state, USERS, CALLS);
    shorten(&state, 100);

    // Without the command it says what to do.
    add_key(&pair.master, &address);
    add_key(&pair.standby, &address);
    pair.master.start();
    let told = wait_state(&pair.master, "refused");
    assert!(told["why"].as_str().unwrap().contains("tandem store move"), "{told:#}");
    let to = ["store", "move", "--to", &address];
    let said = pair.master.prints(&to);
    assert!(said.contains("1000 changes, 3000 rows: equal on both sides"), "{said}");
    wait_state(&pair.master, "live");
    assert_eq!(server.query("SELECT count(*) FROM tandem.op_log"), ["100"]);
    // The other machine has nothing: its twin gives it everything, then it may write there too.
    pair.standby.start();
    wait_state(&pair.standby, "live");
    pair.standby.add("anna", "10");
    assert_eq!(server.query("SELECT count(*) FROM tandem.users"), ["1001"]);
    pair.wait_together();
    pair.kill();

    let before = kept(&state);
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    pair.master.start();
    let told = wait_state(&pair.master, "refused");
    assert!(told["why"].as_str().unwrap().contains("--to embedded"), "{told:#}");
    pair.master.kill();
    let back = pair.master.prints(&["store", "move", "--to", "embedded"]);
    assert!(back.contains("1001 changes, 3003 rows: equal on both sides"), "{back}");
    let after = kept(&state);
    assert!(before.0 == after.0, "what came back is not what went");
    let places = |records: &[Record]| -> Vec<_> {
        records.iter().map(|one| (one.stamp, one.key.clone(), one.body.clone())).collect()
    };
    assert!(
        places(&before.1) == places(&after.1),
        "records that came back are not those that went"
    );
    assert_eq!(open_tables(&state).faults().unwrap(), Vec::<String>::new());
    assert_eq!(pair.master.prints(&["store", "move", "--to", "embedded"]), back);
}

#[test]
fn a_record_that_only_the_database_has_is_named_unless_it_is_old() {
    let (server, pair, to) = moved(&["a", "b"]);
    let to = to.each_ref().map(String::as_str);
    let state = pair.master.state();
    let month = Span::from_secs(30 * 86_400);
    let old = i64::try_from(tandem_os::clock::wall_micros()).unwrap()
        - 2 * i64::try_from(month.as_micros()).unwrap();
    // It held records before; still none may be there that is lacking here.
    server.query(
        "INSERT INTO tandem.log_record SELECT 'cdr/only', reign, seq, written, body
         FROM tandem.log_record WHERE key = 'cdr/a'",
    );
    let said = pair.master.refused(1, &to);
    assert!(said.contains("cdr/only is only in the database"), "{said}");
    // Back, it comes here: then both have it.
    add_key(&pair.master, to[3]);
    let back = pair.master.prints(&["store", "move", "--to", "embedded"]);
    assert!(back.contains("5 records: equal on both sides"), "{back}");
    assert!(pair.master.prints(&to).contains("5 records: equal on both sides"));

    // One that the machines have let go of, because it is too old, is no difference on either way.
    let body: String =
        body(&Cdr { end: Some(old), ..call(1) }).iter().map(|byte| format!("{byte:02x}")).collect();
    server.query(&format!(
        "INSERT INTO tandem.log_record SELECT 'cdr/old', reign, seq, {old}, decode('{body}', 'hex')
         FROM tandem.log_record WHERE key = 'cdr/a'"
    ));
    let said = pair.master.refused(1, &to);
    assert!(said.contains("cdr/old is only in the database"), "{said}");
    let (stored, _) = Store::open(&state, Settings::default(), |_| {}).unwrap();
    stored.retain(Retention(Some(month)));
    drop(stored);
    let reader = Reader::open(&state, WallClock::system()).unwrap();
    assert_eq!(reader.retention().unwrap(), Retention(Some(month)));
    drop(reader);
    for way in [&to[..], &["store", "move", "--to", "embedded"]] {
        let said = pair.master.prints(way);
        assert!(said.contains("5 records: equal on both sides"), "{said}");
        assert!(said.contains("1 more are in the database only: older"), "{said}");
    }
}

#[test]
fn a_damaged_record_is_named_and_nobody_says_that_it_is_in_the_database() {
    let (server, pair, to) = moved(&["a"]);
    let to = to.each_ref().map(String::as_str);
    let state = pair.master.state();
    write_calls(&state, 2, &["b", "c"]);
    let file = rusqlite::Connection::open(state.join("journal.db")).unwrap();
    let sql = "UPDATE log_record SET body = x'00' WHERE key = CAST('cdr/b' AS BLOB)";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    drop(file);
    let said = pair.master.refused(1, &to);
    assert!(said.contains("cdr/b: damaged on this disk, and not sent"), "{said}");
    // Of the second reign, which is 4 there; its first entry wrote it.
    let claimed = "SELECT count(*) FROM tandem.known WHERE reign = 4 AND seq >= 1";
    assert_eq!(server.query(claimed), ["0"]);
    // It is mended.
    write_calls(&state, 2, &["b", "c"]);
    assert!(pair.master.prints(&to).contains("6 records: equal on both sides"));
}

#[test]
fn a_machine_alone_that_lost_its_configuration_gets_it_from_the_database() {
    let server = Server::new();
    let address = Server::address(&[&server]);
    let mut pair = Pair::set_up();
    add_key(&pair.master, &address);
    pair.master.start();
    pair.master.wait_role("active");
    wait_state(&pair.master, "live");
    pair.master.add("anna", "10");
    pair.master.kill();
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(pair.master.state().join(format!("{FILE_NAME}{end}")));
    }
    std::fs::write(pair.master.state().join(FILE_NAME), vec![0x5a; 20_000]).unwrap();
    pair.master.start();
    pair.master.wait_text("nothing is served here before");
    pair.master.wait_text("the database has brought back the configuration");
    pair.master.wait_role("active");
    pair.master.wait_users(&["anna"]);
    assert!(!pair.master.state().join("config.lost").exists());
    wait_state(&pair.master, "live");
    pair.master.add("ben", "20");
    let users = "SELECT string_agg(name, ' ' ORDER BY name) FROM tandem.logins WHERE deleted = 0";
    assert_eq!(server.query(users), ["anna ben"]);
}

/// Asks until the database stands like this.
#[track_caller]
fn wait_state(machine: &Machine, wanted: &str) -> serde_json::Value {
    let until = Instant::now() + DEADLINE;
    loop {
        let output = machine.command(&["store", "show", "--json"]);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if told["database"]["state"] == wanted {
            return told["database"].clone();
        }
        assert!(Instant::now() < until, "{told:#} instead of {wanted}");
    }
}

/// Asks until there are lines of the database's metrics that begin so.
fn wait_metrics(address: &str, wanted: &[&str]) {
    let until = Instant::now() + DEADLINE;
    loop {
        let mut page = String::new();
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            stream.read_to_string(&mut page).unwrap();
        }
        let has = |one: &&str| page.contains(&format!("\ntandem_database_{one}"));
        if wanted.iter().all(has) {
            return;
        }
        assert!(Instant::now() < until, "{wanted:?} is not in {page}");
    }
}

#[test]
fn a_pair_is_administrated_through_the_database_and_goes_on_without_it() {
    let mut server = Server::new();
    let address = Server::address(&[&server]);
    let mut pair = Pair::set_up();
    for machine in [&pair.master, &pair.standby] {
        add_key(machine, &address);
    }
    let config = std::fs::read_to_string(&pair.master.config).unwrap();
    let own = config.lines().find_map(|line| line.strip_prefix("address = [\"")).unwrap();
    let metrics = format!("{}:9160", own.split('"').next().unwrap());
    add_line(&pair.master, &format!("metrics = {metrics:?}"));
    std::fs::create_dir_all(pair.master.state()).unwrap();
    write_calls(&pair.master.state(), 1, &["early"]);
    pair.start();
    wait_state(&pair.master, "live");
    wait_state(&pair.standby, "live");
    pair.master.add("anna", "10");
    pair.standby.add("ben", "20");
    let users = "SELECT string_agg(name, ' ' ORDER BY name) FROM tandem.logins WHERE deleted = 0";
    assert_eq!(server.query(users), ["anna ben"]);
    pair.standby.wait_users(&["anna", "ben"]);
    let until = Instant::now() + DEADLINE;
    while server.query("SELECT call_id FROM tandem.cdr") != ["early"] {
        assert!(Instant::now() < until, "the record does not come");
    }
    let show = pair.master.prints(&["store", "show"]);
    assert!(show.contains("answers at") && show.contains("none waits"), "{show}");

    wait_metrics(&metrics, &["state{state=\"live\"} 1", "records_waiting 0", "heard_seconds 0"]);

    server.kill();
    let away = wait_state(&pair.master, "away");
    assert!(away["why"].is_string(), "{away:#}");
    let began = Instant::now();
    let said = pair.master.refused(1, &["user", "add", "carl", "--number", "30"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(said.contains("the database has not answered since"), "{said}");
    assert!(said.contains("nothing is changed") && said.contains("calls go on"), "{said}");
    pair.master.wait_users(&["anna", "ben"]);
    let status = pair.master.prints(&["status"]);
    assert!(status.contains("database") && status.contains("NOT ANSWERED since"), "{status}");

    let away = ["state{state=\"away\"} 1", "state{state=\"live\"} 0", "records_waiting 0"];
    wait_metrics(&metrics, &away);

    server.start();
    wait_state(&pair.master, "live");
    pair.master.add("carl", "30");
    assert_eq!(server.query(users), ["anna ben carl"]);
    let why = pair.master.refused(1, &["store", "move", "--to", "embedded"]);
    assert!(why.contains("Stop the server of this machine first"), "{why}");
    pair.kill();
}
