//! What closing a call record costs under hot writes, in one file and in two.
//!
//! `cargo run --release -p tandem-store --example two_files [SECONDS]` writes 500 hot records a second and closes 20 calls
//! a second, and prints how long each closing took from the order until it was synced: through the store as it is; and
//! by bare SQLite with the hot records in a second attached file with `synchronous=NORMAL`, in one transaction and
//! in two.

#![allow(clippy::unwrap_used, reason = "an example ends where something is not as expected")]

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tandem_journal::{Class, Entry, Op, Write};
use tandem_store::{Settings, Store, StoreEvent};
use tandem_types::{Epoch, Seat, Seq, Stamp};

/// Hot writes a second, and closed calls.
const HOT: u64 = 500;
const CLOSED: u64 = 20;
/// Bytes of a call under way, and of a call record with its events.
const HOT_BYTES: usize = 3_000;
const RECORD_BYTES: usize = 700;

fn main() {
    let seconds = std::env::args().nth(1).map_or(10, |text| text.parse().unwrap());
    let folder = std::env::temp_dir().join(format!("tandem-two-files-{}", std::process::id()));
    for (name, run) in [
        ("the store: one file", by_store as fn(&Path, u64) -> Vec<Duration>),
        ("bare SQLite: one file", |folder, seconds| bare(folder, seconds, Layout::One)),
        ("bare SQLite: two files, one transaction", |folder, seconds| {
            bare(folder, seconds, Layout::Attached)
        }),
        ("bare SQLite: two files, two transactions", |folder, seconds| {
            bare(folder, seconds, Layout::Apart)
        }),
    ] {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut times = run(&folder, seconds);
        times.sort();
        let at = |part: f64| {
            let place = (times.len() as f64 * part) as usize;
            times[place.min(times.len() - 1)].as_secs_f64() * 1_000.0
        };
        println!(
            "{name}: {} closed, p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
            times.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// Whether the n-th of a second's writes closes a call.
fn closes(n: u64) -> bool {
    n.is_multiple_of((HOT + CLOSED) / CLOSED)
}

/// Waits for the turn of the n-th write.
fn wait_for(begin: Instant, n: u64) {
    let due = begin
        + Duration::from_secs(1) * u32::try_from(n).unwrap() / u32::try_from(HOT + CLOSED).unwrap();
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn by_store(folder: &Path, seconds: u64) -> Vec<Duration> {
    let (done, events) = channel();
    let (store, _) = Store::open(folder, Settings::default(), move |event| {
        if let StoreEvent::Stored { ticket } = event {
            let _ = done.send((ticket, Instant::now()));
        }
    })
    .unwrap();
    let begin = Instant::now();
    let mut asked = Vec::new();
    for n in 1..=seconds * (HOT + CLOSED) {
        wait_for(begin, n);
        let stamp = Stamp { epoch: Epoch { number: 1, seat: Seat::Master }, seq: Seq(n) };
        let op = |class, key: String, bytes| Op {
            class,
            key: key.into_bytes(),
            body: Some(vec![7; bytes]),
        };
        let mut ops = vec![op(Class::Hot, format!("call/{}", n % 200), HOT_BYTES)];
        if closes(n) {
            ops.push(op(Class::Log, format!("cdr/{n}"), RECORD_BYTES));
            asked.push((n, Instant::now()));
        }
        store.write(Write::Entry(Entry { stamp, ops }), closes(n), n).unwrap();
    }
    drop(store);
    let stored: Vec<(u64, Instant)> = events.iter().collect();
    let end = |n: u64| stored.iter().find(|(ticket, _)| *ticket >= n).unwrap().1;
    asked.into_iter().map(|(n, since)| end(n) - since).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    One,
    /// The second file attached: one transaction over both.
    Attached,
    /// A connection of its own.
    Apart,
}

const TABLE: &str = "(key TEXT PRIMARY KEY, body BLOB)";

fn open(path: PathBuf, sync: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", sync).unwrap();
    connection
}

fn bare(folder: &Path, seconds: u64, layout: Layout) -> Vec<Duration> {
    let records = open(folder.join("journal.db"), "FULL");
    records.execute_batch(&format!("CREATE TABLE log {TABLE}")).unwrap();
    let soft = open(folder.join("soft.db"), "NORMAL");
    soft.execute_batch(&format!("CREATE TABLE hot {TABLE}")).unwrap();
    let hot = match layout {
        Layout::One => {
            records.execute_batch(&format!("CREATE TABLE hot {TABLE}")).unwrap();
            "main.hot"
        }
        Layout::Attached => {
            let path = folder.join("soft.db");
            records.execute("ATTACH ? AS soft", [path.to_str().unwrap()]).unwrap();
            records.execute_batch("PRAGMA soft.synchronous = NORMAL").unwrap();
            "soft.hot"
        }
        Layout::Apart => "hot",
    };
    let put = |connection: &Connection, table: &str, key: String, bytes: usize| {
        let sql = format!("REPLACE INTO {table} VALUES (?, ?)");
        connection.prepare_cached(&sql).unwrap().execute(params![key, vec![7_u8; bytes]]).unwrap();
    };
    let begin = Instant::now();
    let mut times = Vec::new();
    for n in 1..=seconds * (HOT + CLOSED) {
        wait_for(begin, n);
        let since = Instant::now();
        let call = format!("call/{}", n % 200);
        if !closes(n) {
            // Nobody waits for these: no sync.
            let at = if layout == Layout::Apart { &soft } else { &records };
            at.execute_batch("PRAGMA synchronous = NORMAL; BEGIN").unwrap();
            put(at, hot, call, HOT_BYTES);
            at.execute_batch("COMMIT; PRAGMA synchronous = FULL").unwrap();
            continue;
        }
        if layout == Layout::Apart {
            soft.execute_batch("BEGIN").unwrap();
            put(&soft, hot, call, HOT_BYTES);
            soft.execute_batch("COMMIT").unwrap();
            records.execute_batch("BEGIN").unwrap();
        } else {
            records.execute_batch("BEGIN").unwrap();
            put(&records, hot, call, HOT_BYTES);
        }
        put(&records, "log", format!("cdr/{n}"), RECORD_BYTES);
        records.execute_batch("COMMIT").unwrap();
        times.push(since.elapsed());
    }
    times
}
