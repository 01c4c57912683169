//! Copying everything from the files to a database, and back.
//!
//! To the database it goes while the server runs: the files are read beside it, and what is written
//! meanwhile the server brings there itself as soon as it is told of the database. Back it goes while
//! the server is stopped, because its files are written. Both may be cut off anywhere and repeated.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use tandem_journal::{Cursor, Known, Record, Write};
use tandem_oplog::{Compared, PART_BYTES, Seen, Staged, Start};
use tandem_os::{clock, entropy};
use tandem_postgres::{Access, BATCH_RECORDS, Database, Spool as _, Tally};
use tandem_store::tables::Tables;
use tandem_store::{Settings, Store, StoreEvent, backup};
use tandem_types::Dice;

use super::compare;
use crate::config::{Config, access};
use crate::server::{Journal, database_setup};

/// So long one step in the database may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// So long a write to the journal may take.
const DISK_PATIENCE: Duration = Duration::from_secs(60);

/// So often what is written meanwhile is followed before both sides are compared.
const ROUNDS: usize = 10;

/// Everything of this machine's files goes to the database at `address`.
pub(super) async fn to_database(
    config: &Config,
    address: &str,
    password: Option<&Path>,
) -> anyhow::Result<()> {
    let access = access(address, password)?;
    let mut database = connect(config, &access).await?;
    let same = push(config, &mut database).await?;
    println!("configuration: {} changes, {} rows: equal on both sides", same.changes, same.rows);
    let mut journal = Journal::new(&config.state);
    let known = journal.known().map_err(|what| anyhow!(what))?;
    send(&mut journal, &known, &mut database).await?;
    let is_old = is_old(&mut journal)?;
    let (tally, more) = compare::records(&mut journal, &known, &database, &is_old).await?;
    said(&tally, more);
    println!(
        "\nSet this in the configuration of both machines, and restart one after the other:\n"
    );
    println!("    database = {address:?}");
    if let Some(password) = password {
        let password = std::path::absolute(password).unwrap_or_else(|_| password.to_owned());
        println!("    database_password_file = {:?}", password.display().to_string());
    }
    println!("\nWhat changes until then the servers bring there themselves.");
    Ok(())
}

/// What is older than records are kept here: the database keeps it, and it is not taken back.
fn is_old(journal: &mut Journal) -> anyhow::Result<impl Fn(&Record) -> bool + use<>> {
    let now = clock::wall_micros();
    let from = journal.retention().map_err(|what| anyhow!(what))?.shown_from(now);
    Ok(move |record: &Record| {
        let written = now.saturating_sub(u64::try_from(record.age.as_micros()).unwrap_or(u64::MAX));
        let end =
            tandem_node::end_of_record(&record.key, record.body.as_deref().unwrap_or_default());
        let end = end.unwrap_or_else(|| i64::try_from(written).unwrap_or(i64::MAX));
        from.is_some_and(|from| end < from)
    })
}

async fn connect(config: &Config, access: &Access) -> anyhow::Result<Database> {
    let database = Database::connect(access, database_setup(config)?).await;
    let database = database.with_context(|| format!("{access} cannot be used"))?;
    Ok(database.patient(PATIENCE))
}

fn said(tally: &Tally, more: u64) {
    let digest: String = tally.digest()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let records = tally.records();
    println!("call records:  {records} records: equal on both sides (digest {digest})");
    if more > 0 {
        println!(
            "               {more} more are in the database only: older, or of the other machine"
        );
    }
}

/// The tables of this machine as they are now, beside the server that writes them.
fn read_tables(config: &Config) -> anyhow::Result<Tables> {
    let seed = entropy::seed().context("the system gives no random numbers")?;
    let setup = tandem_config::Config::setup(config.seat, &mut Dice::from_seed(seed));
    let path = config.state.join(tandem_config::FILE_NAME);
    backup::tables(&path, &setup).map_err(|error| anyhow!("{error}"))
}

/// Brings every change there that is lacking, and compares.
async fn push(config: &Config, database: &mut Database) -> anyhow::Result<compare::Same> {
    for _ in 0..ROUNDS {
        let tables = read_tables(config)?;
        loop {
            let has: Seen = database.heads().await?.iter().map(|(id, _)| *id).collect();
            let position = match tables.start(&has)?.0 {
                Start::Nothing => break,
                Start::After(position) => position,
                Start::Pruned => match whole(&tables, database).await {
                    Ok(()) => break,
                    // The server has written while the copy was opened: once more.
                    Err(_) if has_changed(config, &tables)? => break,
                    Err(error) => return Err(error),
                },
            };
            let page = tables.log(position, &has, PART_BYTES)?;
            let ops: Vec<Vec<u8>> = page.ops.into_iter().map(|op| op.bytes).collect();
            ensure!(!ops.is_empty(), "the log of changes here has a gap: run `tandem verify`");
            database.take(&ops).await?;
        }
        if let Some(same) = compare::configuration(&tables, database).await? {
            return Ok(same);
        }
        let (here, there) = (tables.seen().clone(), database.heads().await?);
        let other = there.iter().find(|(id, _)| !here.has(*id));
        if let Some((id, _)) = other
            && !read_tables(config)?.seen().has(*id)
        {
            bail!(
                "the database has change {id}, which is not here: another server writes there; run this \
                 command on that machine, or let this server take it first"
            );
        }
    }
    bail!("changes are made faster than they are compared: try again in a quieter moment")
}

/// Copies everything at once, because not every change is in the log here any more.
async fn whole(tables: &Tables, database: &mut Database) -> anyhow::Result<()> {
    let mut copy = tables.copy(Staged::default())?;
    let header = copy.header().clone();
    Ok(database.fill(&header, || copy.read()).await?)
}

fn has_changed(config: &Config, before: &Tables) -> anyhow::Result<bool> {
    Ok(!before.heads().eq(read_tables(config)?.heads()))
}

/// Sends the records of the journal.
async fn send(journal: &mut Journal, known: &Known, database: &mut Database) -> anyhow::Result<()> {
    let there = database.known().await?;
    let mut after = Some(Cursor(None));
    while let Some(from) = after {
        let (records, next) = journal.read(&there, &from).map_err(|what| anyhow!(what))?;
        let whole = next.is_none().then_some(known);
        database.put(&records, whole, journal.wall_micros()).await?;
        after = next;
    }
    Ok(())
}

/// Everything of the database comes to this machine's files.
pub(super) async fn to_files(config: &Config, password: Option<&Path>) -> anyhow::Result<()> {
    let address = config.database.address.as_deref();
    let address =
        address.context("there is no `database` in the configuration: nothing to move back")?;
    let mut database = connect(config, &access(address, password)?).await?;
    let (stored, tickets) = channel();
    let report = move |event| {
        if let StoreEvent::Stored { ticket } = event {
            // Who waits for it is there until the store is closed.
            let _ = stored.send(ticket);
        }
    };
    let settings = Settings { end_of: tandem_node::end_of_record, ..Settings::default() };
    // It also sees to it that no server writes here meanwhile.
    let (store, _) = Store::open(&config.state, settings, report)
        .map_err(|error| anyhow!("{error}\nStop the server of this machine first"))?;
    let same = pull(config, &mut database).await?;
    println!("configuration: {} changes, {} rows: equal on both sides", same.changes, same.rows);
    // What this machine had not sent before it was stopped.
    let mut journal = Journal::new(&config.state);
    let here = journal.known().map_err(|what| anyhow!(what))?;
    send(&mut journal, &here, &mut database).await?;
    let mut known = fetch(&database, &store, &tickets).await?;
    drop(store);
    known.merge(&here);
    let is_old = is_old(&mut journal)?;
    let (tally, more) = compare::records(&mut journal, &known, &database, &is_old).await?;
    said(&tally, more);
    println!(
        "\nTake `database` out of the configuration of this machine and start it; then do the same on the"
    );
    println!("other one. What both have they exchange as before.");
    Ok(())
}

/// Takes every change that is lacking here, and compares.
async fn pull(config: &Config, database: &mut Database) -> anyhow::Result<compare::Same> {
    let seed = entropy::seed().context("the system gives no random numbers")?;
    let mut dice = Dice::from_seed(seed);
    let setup = tandem_config::Config::setup(config.seat, &mut dice);
    let tables = Tables::open(&config.state.join(tandem_config::FILE_NAME), &setup);
    let mut tables = tables.map_err(|error| anyhow!("{error}"))?;
    if !database.keeps_since(tables.seen()).await? {
        join(database, &mut tables).await?;
    }
    let mut tables = tandem_config::Config::on(tables, dice)?;
    for _ in 0..ROUNDS {
        loop {
            let ops = database.lacking(tables.tables().seen(), PART_BYTES).await?;
            let heads = database.heads().await?;
            let taken = tables.handle_database(clock::now(), &heads, &ops);
            let (_, lacking) = taken.map_err(|what| anyhow!(what))?;
            database.take(&lacking).await?;
            if ops.is_empty() && lacking.is_empty() {
                break;
            }
        }
        if let Some(same) = compare::configuration(tables.tables(), database).await? {
            return Ok(same);
        }
    }
    bail!("changes are made faster than they are compared: stop the other machine, or try again")
}

/// Takes everything at once, because not every change that is lacking here is kept there any more.
async fn join(database: &mut Database, tables: &mut Tables) -> anyhow::Result<()> {
    let mut copy = database.copy().await?;
    let heads = &copy.header().heads;
    let compared = tables.compare(heads)?;
    if let Some(((id, _), _)) =
        heads.iter().zip(compared).find(|(_, what)| *what == Compared::Differs)
    {
        bail!("the database remembers other changes of {} than this server", id.origin);
    }
    tables.stage_begin(copy.header(), &Staged { id: copy.header().id(), ..Staged::default() })?;
    while let Some(part) = copy.read().await? {
        tables.stage(&part)?;
    }
    tables.join()?;
    Ok(())
}

/// Brings the records into the journal: up to where each reign was brought.
async fn fetch(
    database: &Database,
    store: &Store,
    tickets: &Receiver<u64>,
) -> anyhow::Result<Known> {
    let (mut after, mut known, mut ticket) = (Cursor(None), Known::new(), 0);
    let now = i64::try_from(clock::wall_micros()).unwrap_or(i64::MAX);
    loop {
        let records: Vec<Record> = database.records(&after, BATCH_RECORDS, now).await?;
        let Some(last) = records.last() else { return Ok(known) };
        after = Cursor(Some((last.stamp, last.key.clone())));
        records.iter().for_each(|record| known.learn(record.stamp));
        ticket += 1;
        store.write(Write::Records(records), true, ticket).map_err(|error| anyhow!("{error}"))?;
        wait(tickets, ticket)?;
    }
}

fn wait(tickets: &Receiver<u64>, ticket: u64) -> anyhow::Result<()> {
    loop {
        match tickets.recv_timeout(DISK_PATIENCE) {
            Ok(stored) if stored >= ticket => return Ok(()),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                bail!("the disk of this machine takes no writes")
            }
        }
    }
}
