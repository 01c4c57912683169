//! What a machine holds before it is started: users, changes, call records; written with its own code
//! while it is down.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tandem_config::{Config, MIGRATIONS, Order, Output, SCHEMA, Work};
use tandem_dialplan::{Account, Credentials, DisplayName, Edit, Number, User, UserName};
use tandem_journal::{Record, Write};
use tandem_oplog::Origin;
use tandem_sip::digest::Ha1;
use tandem_store::tables::{By, Setup, Tables};
use tandem_store::{Settings, Store, StoreEvent};
use tandem_types::{Dice, Duration as OurDuration, Epoch, Instant as OurInstant, Seat, Seq, Stamp};

use crate::stage;

/// Changes in one commit.
const TOGETHER: u64 = 1_000;

/// Records in one write.
const WRITE: u64 = 256;

/// Writes that wait for the disk.
const AHEAD: u64 = 64;

/// A write that is not done by then never is.
const LIMIT: Duration = Duration::from_secs(60);

/// Who writes, and when.
fn by() -> By {
    By { author: "lab".to_owned(), wall_millis: 1_790_000_000_000, epoch: Epoch::NEVER }
}

/// Users `<prefix>0` and on, their names being their passwords, into the configuration in `folder`.
///
/// # Errors
///
/// The file cannot be written; a name is none.
pub(super) fn users(
    folder: &Path,
    realm: &str,
    prefix: &str,
    first_number: usize,
    count: usize,
) -> Result<Vec<stage::User>> {
    std::fs::create_dir_all(folder)?;
    let dice = Dice::from_seed([7; 32]);
    let mut config = Config::open(folder, Seat::Master, dice).map_err(|e| anyhow!("{e}"))?;
    let mut made = Vec::new();
    let mut orders = Vec::new();
    for index in 0..count {
        let (name, number) = (format!("{prefix}{index}"), (first_number + index).to_string());
        let (md5, sha256) = Ha1::new(name.as_bytes(), realm.as_bytes(), name.as_bytes()).hashes();
        let parsed = UserName::parse(&name).map_err(|e| anyhow!("{e}"))?;
        let user = User {
            name: parsed.clone(),
            display: DisplayName::parse(&name).map_err(|e| anyhow!("{e}"))?,
            numbers: vec![Number::parse(&number).map_err(|e| anyhow!("{e}"))?],
            enabled: true,
        };
        let credentials = Credentials { md5, sha256 };
        let edit = Edit::User { name: parsed, account: Some(Account { user, credentials }) };
        orders.push(Order { id: u64::try_from(index)?, work: Work::Edit(edit), by: by() });
        made.push(stage::User { password: name.clone(), name, number });
    }
    config.handle_orders(OurInstant::ZERO, orders);
    let mut done = 0;
    while let Some(output) = config.poll_output() {
        match output {
            Output::Edited { result: Ok(()), .. } => done += 1,
            Output::Edited { result: Err(why), .. }
            | Output::Failed(why)
            | Output::Damaged(why) => bail!("{why}"),
            Output::Send(_)
            | Output::Changed(_)
            | Output::Told { .. }
            | Output::Standing(_)
            | Output::Unreadable(_)
            | Output::Files(_)
            | Output::Fact(_) => {}
        }
    }
    ensure!(done == count, "{done} of {count} users were written");
    Ok(made)
}

/// The tables of the configuration in `folder`.
///
/// # Errors
///
/// The file cannot be read.
pub(super) fn tables(folder: &Path, seat: Seat) -> Result<Tables> {
    let node = u8::from(seat == Seat::Standby);
    let setup = Setup { schema: &SCHEMA, migrations: MIGRATIONS, node, origin: Origin(1) };
    Ok(Tables::open(&folder.join(tandem_config::FILE_NAME), &setup)?)
}

/// Changes of users who are there, each a change of its own.
///
/// # Errors
///
/// There are no users; the file cannot be written.
pub(super) fn changes(tables: &mut Tables, count: u64) -> Result<Duration> {
    let ids = {
        let mut read = tables.reader().prepare("SELECT id FROM users WHERE deleted = 0")?;
        let ids = read.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        ids.collect::<rusqlite::Result<Vec<_>>>()?
    };
    ensure!(!ids.is_empty(), "there are no users to change");
    let begun = Instant::now();
    for first in (0..count).step_by(usize::try_from(TOGETHER)?) {
        let mut batch = tables.begin()?;
        for number in first..count.min(first + TOGETHER) {
            let id = &ids[usize::try_from(number)? % ids.len()];
            let (_, op) = batch.change(&by(), |connection| {
                let sql = "UPDATE users SET display = ? WHERE id = ?";
                let mut write = connection.prepare_cached(sql)?;
                write.execute((format!("name {number}"), id)).map(|_| ())
            })?;
            op.context("a change that changed nothing")?;
        }
        batch.commit()?;
    }
    Ok(begun.elapsed())
}

/// Copies of a closed call's records into the journal in `folder`; how many bytes that were.
///
/// # Errors
///
/// The journal cannot be written.
pub(super) fn records(folder: &Path, call: &[Record], count: u64) -> Result<u64> {
    let (sender, events) = channel();
    let report = move |event| drop(sender.send(event));
    let (store, loaded) =
        Store::open(folder, Settings::default(), report).map_err(|e| anyhow!("{e}"))?;
    let last = call.iter().map(|record| record.stamp).max().context("no record to copy")?;
    let mut known = loaded.known;
    let (mut bytes, mut ticket) = (0, 0);
    let mut stored = 0;
    let mut await_stored = |up_to: u64| -> Result<()> {
        while stored < up_to {
            let event = events.recv_timeout(LIMIT).context("the disk does not answer")?;
            let StoreEvent::Stored { ticket } = event else { bail!("{event:?}") };
            stored = ticket;
        }
        Ok(())
    };
    for first in (0..count).step_by(usize::try_from(WRITE)?) {
        let mut write = Vec::new();
        for number in first..count.min(first + WRITE) {
            let stamp = Stamp { epoch: last.epoch, seq: Seq(last.seq.0 + 1 + number) };
            write.extend(call.iter().map(|record| copy(record, stamp, number)));
            known.learn(stamp);
        }
        bytes += write.iter().map(size).sum::<u64>();
        ticket += 1;
        store.write(Write::Records(write), true, ticket)?;
        await_stored(ticket.saturating_sub(AHEAD))?;
    }
    ticket += 1;
    store.write(Write::Learn(known), true, ticket)?;
    await_stored(ticket)?;
    Ok(bytes)
}

fn size(record: &Record) -> u64 {
    let body = record.body.as_ref().map_or(0, Vec::len);
    u64::try_from(record.key.len() + body).unwrap_or(u64::MAX)
}

/// The record of another call: the last letters of the call's name are a number, in key and body.
fn copy(record: &Record, stamp: Stamp, number: u64) -> Record {
    let slash = record.key.iter().position(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let old = &record.key[slash..];
    let digits = format!("{number:08x}");
    let mut new = old.to_vec();
    let from = new.len().saturating_sub(digits.len());
    new.splice(from.., digits.bytes());
    let replaced = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at: Vec<usize> = bytes
            .windows(old.len().max(1))
            .enumerate()
            .filter_map(|(at, part)| (part == old).then_some(at))
            .collect();
        at.into_iter().for_each(|at| bytes[at..at + old.len()].copy_from_slice(&new));
        bytes
    };
    Record {
        class: record.class,
        key: replaced(&record.key),
        stamp,
        age: OurDuration::ZERO,
        body: record.body.as_deref().map(replaced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_journal::Class;

    #[test]
    fn a_copy_is_the_record_of_another_call() {
        let stamp = Stamp { epoch: Epoch::NEVER, seq: Seq(9) };
        let body = Some(b"1:0123456789ab;0123456789ab!".to_vec());
        let key = b"cdr/0123456789ab".to_vec();
        let record = Record { class: Class::Log, key, stamp, age: OurDuration::ZERO, body };
        let made = copy(&record, stamp, 0xbeef);
        assert_eq!(made.key, b"cdr/01230000beef");
        assert_eq!(made.body.as_deref(), Some(b"1:01230000beef;01230000beef!".as_slice()));
    }
}
