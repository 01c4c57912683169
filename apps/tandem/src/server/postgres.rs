//! The database of a pair that has grown: every edit goes there first, and the records of calls follow.
//!
//! ```text
//!   thread "config"  ── an edit's ops ─────────> thread "postgres" ──> PostgreSQL
//!        ^  └── what is here, what is lacking ──> │         ^
//!        └───── what is there, others' ops ───────┘         └── journal.db: the spool
//! ```
//!
//! The loop of the server knows nothing of it but what it says for the log. Calls and logins never wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use tandem_call::Cdr;
use tandem_config::{Authority, Config as Tables};
use tandem_journal::{Cursor, Known, Record};
use tandem_keeper::{DatabaseFigures, DatabaseState};
use tandem_node::{CDR_PREFIX, EVENTS_PREFIX, read_cdr, read_events};
use tandem_oplog::{Chain, OpId};
use tandem_os::clock;
use tandem_postgres::{
    CdrColumns, ColumnKind, Described, Here, Line, Report, Setup, Spool, Standing, State, Stored,
    Worker,
};
use tandem_store::{Elsewhere, Reader, Retention, WallClock};
use tandem_types::{Duration, Instant, Stamp};

use super::settings::SettingsLine;
use crate::config::Config;
use crate::logging::Time;

/// Records that are counted at most while they wait; a longer queue is "at least".
pub(crate) const COUNT_MAX: u64 = 100_000;

/// Damaged records that are named at once.
const DAMAGED_NAMED: usize = 10;

/// What is asked about the database.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreAsk {
    /// How it stands.
    StoreShow,
}

/// The answer to [`StoreAsk`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreTold {
    /// Everything is in this machine's files.
    Embedded,
    /// There is a database.
    Database(DatabaseTold),
}

/// How the database stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct DatabaseTold {
    /// Its address, without a password.
    pub(crate) address: String,
    /// The host that answered last.
    pub(crate) host: Option<String>,
    /// `live`, `connecting`, `away` or `refused`.
    pub(crate) state: String,
    /// Since when: microseconds since 1970.
    pub(crate) since_micros: i64,
    /// Why it is not live.
    pub(crate) why: Option<String>,
    /// Records that wait on this machine; `None` while that is not known.
    pub(crate) records_waiting: Option<u64>,
}

/// The thread that keeps the connection; it ends when this is dropped.
pub(super) struct DatabaseThread {
    worker: Worker,
    address: String,
}

impl DatabaseThread {
    /// `None` where no database is configured. `elsewhere` hears which records are there; `say` takes what is for the log, from the thread.
    pub(super) fn start(
        config: &Config,
        settings: &SettingsLine,
        elsewhere: Elsewhere,
        say: impl Fn((&'static str, String)) + Send + 'static,
    ) -> anyhow::Result<Option<Self>> {
        let Some(access) = config.database.access()? else { return Ok(None) };
        let address = access.to_string();
        let spool = Box::new(Journal { elsewhere, ..Journal::new(&config.state) });
        let back = settings.clone();
        let report = move |line: &Line, report| match report {
            Report::Exchange { round, heads, ops } => {
                let exchange = Exchange { round, heads, ops, line: line.clone() };
                // Where too much waits there the exchange begins anew after a while.
                let _ = back.exchange(exchange);
            }
            Report::Live(host) => {
                say(("database_live", format!("the database answers, at {host}")))
            }
            Report::Gone(why) => say((
                "database_away",
                format!("the database cannot be used: {why}; calls go on, changes are refused"),
            )),
            Report::Spool(what) => {
                say(("database_spool", format!("the journal cannot be read: {what}")));
            }
        };
        let worker = Worker::start(access, setup(config)?, spool, report);
        let worker = worker.context("cannot start a thread")?;
        let asks = Box::new(Asks(worker.line()));
        settings.obey(asks).map_err(|_| anyhow!("the thread of the configuration has ended"))?;
        Ok(Some(Self { worker, address }))
    }

    /// For the keeper, that shows figures.
    pub(super) fn figures(&self) -> DatabaseFigures {
        let Standing { state, waiting, heard, .. } = self.worker.line().standing();
        let micros = |at: std::time::Instant| u64::try_from(at.elapsed().as_micros());
        let heard = heard.map(|at| Duration::from_micros(micros(at).unwrap_or(u64::MAX)));
        DatabaseFigures { state: state_of(state), waiting, heard }
    }

    /// How it stands.
    pub(super) fn told(&self) -> StoreTold {
        let Standing { state, since_micros, host, why, waiting, .. } =
            self.worker.line().standing();
        StoreTold::Database(DatabaseTold {
            address: self.address.clone(),
            host,
            state: state_of(state).name().to_owned(),
            since_micros,
            why,
            records_waiting: waiting,
        })
    }
}

fn state_of(state: State) -> DatabaseState {
    match state {
        State::Connecting => DatabaseState::Connecting,
        State::Live => DatabaseState::Live,
        State::Away => DatabaseState::Away,
        State::Refused => DatabaseState::Refused,
    }
}

/// What the thread of the configuration is to compare.
pub(super) struct Exchange {
    round: u64,
    heads: Vec<(OpId, Chain)>,
    ops: Vec<Vec<u8>>,
    line: Line,
}

impl Exchange {
    pub(super) fn carry_out(&self, now: Instant, tables: &mut Tables) {
        let round = self.round;
        match tables.handle_database(now, &self.heads, &self.ops) {
            Ok((seen, ops)) => self.line.here(Here { round, seen, ops }),
            Err(why) => self.line.refuse(round, why),
        }
    }
}

/// Asks the database before anything is written here.
#[derive(Debug)]
struct Asks(Line);

impl Authority for Asks {
    fn ready(&self) -> Result<(), String> {
        self.0.ready().map_err(sentence)
    }

    fn store(&mut self, ops: Vec<Vec<u8>>) -> Result<(), String> {
        self.0.store(ops).map_err(sentence)
    }

    fn doubt(&mut self) {
        self.0.doubt();
    }
}

/// For whoever wanted a change.
fn sentence(why: Stored) -> String {
    match why {
        Stored::NotReady(standing) => match standing.state {
            State::Live | State::Connecting => String::from(
                "nothing is changed: this server and the database compare what they have; try again in a \
                 moment",
            ),
            State::Away => format!(
                "nothing is changed: the database has not answered since {} UTC ({}); calls go on",
                Time::from_micros(standing.since_micros).to_seconds(),
                standing.why.unwrap_or_default()
            ),
            State::Refused => format!(
                "nothing is changed: the database cannot be used ({}); calls go on",
                standing.why.unwrap_or_default()
            ),
        },
        Stored::Refused(what) => format!("nothing is changed: the database refuses it: {what}"),
        Stored::Doubt(what) => format!(
            "it is not known whether this is done: the database has not answered in time ({what}); \
             `tandem change list` shows it when it answers again"
        ),
    }
}

/// What a database is told of this pair and its tables.
pub(crate) fn setup(config: &Config) -> anyhow::Result<Setup> {
    let mut kinds = BTreeMap::new();
    for one in tandem_config::column_kinds().context("the tables cannot be read")? {
        let kind = ColumnKind::of_sqlite(&one.kind).context("a column of no kind")?;
        kinds.insert((one.table.to_owned(), one.column), kind);
    }
    let name = config.pair_secret()?.public_name();
    let pair = format!("{}/{name}", config.realm);
    Ok(Setup { schema: &tandem_config::SCHEMA, kinds, pair, describe })
}

/// What is in a record of the journal.
fn describe(record: &Record) -> Described {
    let body = record.body.as_deref().unwrap_or_default();
    if record.key.starts_with(CDR_PREFIX) {
        return match read_cdr(body) {
            Some(cdr) => Described::Call(Box::new(columns(&cdr))),
            None => Described::Other,
        };
    }
    let call = record.key.strip_prefix(EVENTS_PREFIX);
    match (call, read_events(body)) {
        (Some(call), Some(events)) => Described::Events {
            call_id: String::from_utf8_lossy(call).into_owned(),
            steps: serde_json::json!(events).to_string(),
        },
        (Some(_) | None, _) => Described::Other,
    }
}

fn columns(cdr: &Cdr) -> CdrColumns {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    CdrColumns {
        call_id: cdr.call_id.clone(),
        caller: cdr.origination_number.reveal().clone(),
        caller_name: cdr.origination_name.reveal().clone(),
        called: cdr.called_number.reveal().clone(),
        called_name: cdr.called_name.reveal().clone(),
        answered_by: cdr.destination_number.reveal().clone(),
        answered_by_name: cdr.destination_name.reveal().clone(),
        start_us: cdr.start,
        delivered_us: cdr.delivered,
        connect_us: cdr.connect,
        end_us: cdr.end,
        outcome: word(serde_json::json!(cdr.outcome)),
        ending: word(serde_json::json!(cdr.ending)),
        sip_status: i64::from(cdr.sip_status),
        q850_cause: i64::from(cdr.q850_cause),
        talk_seconds: cdr.talk_seconds(),
    }
}

/// The journal of this machine, read beside its writer.
pub(crate) struct Journal {
    folder: PathBuf,
    reader: Option<Reader>,
    elsewhere: Elsewhere,
    /// What was met that is not as it was written: its name and stamp.
    damaged: BTreeMap<String, Option<Stamp>>,
}

impl Journal {
    /// In this folder; opened when something is read.
    pub(crate) fn new(folder: &Path) -> Self {
        let (folder, elsewhere) = (folder.to_owned(), Elsewhere::default());
        Self { folder, reader: None, elsewhere, damaged: BTreeMap::new() }
    }

    /// How long records are kept here.
    pub(crate) fn retention(&mut self) -> Result<Retention, String> {
        self.with(Reader::retention)
    }

    /// After an error it is opened anew.
    fn with<T>(
        &mut self,
        read: impl FnOnce(&Reader) -> Result<T, tandem_store::ReadError>,
    ) -> Result<T, String> {
        let open = || Reader::open(&self.folder, WallClock::system());
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => open().map_err(|error| error.to_string())?,
        };
        let done = read(&reader).map_err(|error| error.to_string())?;
        self.reader = Some(reader);
        Ok(done)
    }
}

impl Spool for Journal {
    fn known(&mut self) -> Result<Known, String> {
        self.with(Reader::known)
    }

    fn read(
        &mut self,
        known: &Known,
        after: &Cursor,
    ) -> Result<(Vec<Record>, Option<Cursor>), String> {
        let (page, met) = self.with(|reader| {
            let page = reader.lacking(known, after)?;
            Ok((page, reader.take_damaged()))
        })?;
        let mut news: Vec<String> = Vec::new();
        for one in met {
            let name = String::from_utf8_lossy(&one.key).into_owned();
            if self.damaged.insert(name.clone(), one.stamp).is_none() {
                news.push(name);
            }
        }
        if news.is_empty() {
            return Ok(page);
        }
        let more = news.len().saturating_sub(DAMAGED_NAMED);
        news.truncate(DAMAGED_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let news = news.join(", ");
        Err(format!("{news}{more}: damaged on this disk, and not sent; look with `tandem verify`"))
    }

    fn doubt(&self, known: &mut Known) {
        for stamp in self.damaged.values() {
            match stamp {
                Some(stamp) => known.doubt(*stamp),
                // Whichever it was.
                None => known.doubt_all(None),
            }
        }
    }

    fn count(&mut self, known: &Known) -> Result<u64, String> {
        self.with(|reader| reader.count_lacking(known, COUNT_MAX))
    }

    fn sent(&mut self, known: &Known) {
        self.elsewhere.learn(known);
    }

    fn wall_micros(&self) -> i64 {
        i64::try_from(clock::wall_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tandem_journal::{Class, Entry, Op, Write};
    use tandem_store::{Settings, Store};
    use tandem_types::{Epoch, Seat, Seq};

    use super::*;
    use crate::demo::place::Folder;

    #[test]
    fn what_is_damaged_is_named_once_left_out_and_not_vouched_for() {
        let folder = Folder::new(None).unwrap();
        let stamp = |seq| Stamp { epoch: Epoch { number: 1, seat: Seat::Master }, seq: Seq(seq) };
        let (store, _) = Store::open(folder.path(), Settings::default(), |_| {}).unwrap();
        for seq in 1..=3 {
            let key = format!("cdr/{seq}").into_bytes();
            let ops = vec![Op { class: Class::Log, key, body: Some(vec![1]) }];
            store.write(Write::Entry(Entry { stamp: stamp(seq), ops }), true, seq).unwrap();
        }
        // It writes what waits.
        drop(store);
        let file = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
        let ruin = "UPDATE log_record SET body = x'02' WHERE seq = 2";
        assert_eq!(file.execute(ruin, []).unwrap(), 1);
        let mut journal = Journal::new(folder.path());
        let mut read = || journal.read(&Known::new(), &Cursor(None));
        let why = read().unwrap_err();
        assert!(why.starts_with("cdr/2: damaged on this disk"), "{why}");
        let (records, next) = read().unwrap();
        let stamps: Vec<Stamp> = records.iter().map(|record| record.stamp).collect();
        assert_eq!((stamps, next), (vec![stamp(1), stamp(3)], None));
        let mut known = journal.known().unwrap();
        assert!(known.covers(stamp(3)));
        journal.doubt(&mut known);
        assert!(known.covers(stamp(1)) && !known.covers(stamp(2)));
    }
}
