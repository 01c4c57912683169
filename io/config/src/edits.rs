//! Edits as rows.

use rusqlite::{Connection, OptionalExtension as _, params};
use tandem_dialplan::{
    Account, BlockSetting, Blockable, Edit, Emergency, Number, Refused, UserName,
};
use tandem_types::Seat;

/// The key of a user.
pub(crate) type UserId = [u8; 16];

/// Writes an edit; `new_id` is for a user who is new.
pub(crate) fn write(
    connection: &Connection,
    edit: &Edit,
    new_id: impl FnOnce() -> UserId,
) -> rusqlite::Result<()> {
    match edit {
        Edit::User { name, account: Some(account) } => {
            let id = owner(connection, name)?.unwrap_or_else(new_id);
            put_user(connection, &id, account)
        }
        Edit::User { name, account: None } => remove_user(connection, name),
        Edit::Emergency(emergency) => {
            let numbers: Vec<&str> =
                emergency.numbers.iter().map(|number| number.as_str()).collect();
            put_setting(connection, EMERGENCY_NUMBERS, &numbers.join(" "))?;
            put_setting(connection, EMERGENCY_RINGS, emergency.to.as_deref().unwrap_or_default())
        }
        Edit::Block { what, block } => put_block(connection, *what, block.as_ref()),
        Edit::Retention(days) => {
            let days = days.map(|days| days.to_string()).unwrap_or_default();
            put_setting(connection, RETENTION_DAYS, &days)
        }
        Edit::Refused(refused) => put_refused(connection, refused),
    }
}

/// Names of settings.
pub(crate) const EMERGENCY_NUMBERS: &str = "emergency_numbers";
pub(crate) const EMERGENCY_RINGS: &str = "emergency_rings";
pub(crate) const RETENTION_DAYS: &str = "call_record_days";

/// The key of a block.
pub(crate) const fn name_of(what: Blockable) -> &'static str {
    match what {
        Blockable::Logins => "logins",
        Blockable::Calls => "calls",
    }
}

/// The user who logs in with this name.
pub(crate) fn owner(connection: &Connection, name: &UserName) -> rusqlite::Result<Option<UserId>> {
    let mut find = connection.prepare_cached(
        "SELECT users.id FROM logins JOIN users ON users.id = logins.user_id
         WHERE logins.name = ? AND logins.deleted = 0 AND users.deleted = 0",
    )?;
    find.query_row([name.as_str()], |row| row.get(0)).optional()
}

fn put_user(connection: &Connection, id: &UserId, account: &Account) -> rusqlite::Result<()> {
    let Account { user, credentials } = account;
    let mut put = connection.prepare_cached(
        "INSERT INTO users (id, display, enabled, md_five, sha_two) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET display = excluded.display, enabled = excluded.enabled,
         md_five = excluded.md_five, sha_two = excluded.sha_two, deleted = 0",
    )?;
    let (display, md5) = (user.display.as_str(), credentials.md5);
    put.execute(params![id, display, user.enabled, md5, credentials.sha256])?;
    let mut put = connection.prepare_cached(
        "INSERT INTO logins (name, user_id) VALUES (?, ?)
         ON CONFLICT (name) DO UPDATE SET user_id = excluded.user_id, deleted = 0",
    )?;
    put.execute(params![user.name.as_str(), id])?;
    let mut drop = connection.prepare_cached(
        "UPDATE numbers SET deleted = 1 WHERE user_id = ? AND place >= ? AND deleted = 0",
    )?;
    // Those that stay are written again; where nothing is different nothing is sent.
    drop.execute(params![id, 0])?;
    let mut put = connection.prepare_cached(
        "INSERT INTO numbers (number, user_id, place) VALUES (?, ?, ?)
         ON CONFLICT (number) DO UPDATE SET user_id = excluded.user_id, place = excluded.place,
         deleted = 0",
    )?;
    for (place, number) in (0_i64..).zip(&user.numbers) {
        put.execute(params![number.as_str(), id, place])?;
    }
    Ok(())
}

fn remove_user(connection: &Connection, name: &UserName) -> rusqlite::Result<()> {
    let Some(id) = owner(connection, name)? else { return Ok(()) };
    for sql in [
        "UPDATE users SET deleted = 1 WHERE id = ?",
        "UPDATE logins SET deleted = 1 WHERE user_id = ?",
        "UPDATE numbers SET deleted = 1 WHERE user_id = ?",
    ] {
        connection.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

fn put_setting(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO settings (name, value) VALUES (?, ?)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, deleted = 0",
    )?;
    put.execute([name, value]).map(|_| ())
}

fn put_block(
    connection: &Connection,
    what: Blockable,
    block: Option<&BlockSetting>,
) -> rusqlite::Result<()> {
    let name = name_of(what);
    let Some(BlockSetting { since, reason, until }) = block else {
        let end = "UPDATE blocks SET deleted = 1 WHERE what = ? AND deleted = 0";
        connection.prepare_cached(end)?.execute([name])?;
        return end_counts(connection, name, None);
    };
    let mut put = connection.prepare_cached(
        "INSERT INTO blocks (what, since, reason, until) VALUES (?, ?, ?, ?)
         ON CONFLICT (what) DO UPDATE SET since = excluded.since, reason = excluded.reason,
         until = excluded.until, deleted = 0",
    )?;
    put.execute(params![name, since, reason, until])?;
    end_counts(connection, name, Some(*since))
}

/// Counts of blocks that are over.
fn end_counts(connection: &Connection, name: &str, since: Option<i64>) -> rusqlite::Result<()> {
    let mut end = connection.prepare_cached(
        "UPDATE counters SET deleted = 1 WHERE name GLOB ? AND name IS NOT ? AND deleted = 0",
    )?;
    let held = since.map(|since| counter(name, since));
    end.execute(params![format!("refused/{name}/*"), held]).map(|_| ())
}

fn counter(name: &str, since: i64) -> String {
    format!("refused/{name}/{since}")
}

/// A count that comes after the end of its block brings nothing back.
fn put_refused(connection: &Connection, refused: &Refused) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO counters (name, node, count) VALUES (?, ?, ?)
         ON CONFLICT (name, node) DO UPDATE SET count = max(count, excluded.count)",
    )?;
    let Refused { what, since, seat, count } = refused;
    let name = counter(name_of(*what), *since);
    let count = i64::try_from(*count).unwrap_or(i64::MAX);
    put.execute(params![name, node_of(*seat), count]).map(|_| ())
}

/// The number of a server, in stamps and in counters.
pub(crate) const fn node_of(seat: Seat) -> u8 {
    match seat {
        Seat::Master => 0,
        Seat::Standby => 1,
    }
}

/// How many were refused since the block that is on began, by each server.
pub(crate) fn refused(connection: &Connection, what: Blockable) -> rusqlite::Result<Vec<Edit>> {
    let Some(BlockSetting { since, .. }) = block(connection, what)? else { return Ok(Vec::new()) };
    let mut read = connection
        .prepare_cached("SELECT node, count FROM counters WHERE name = ? AND deleted = 0")?;
    let mut rows = read.query([counter(name_of(what), since)])?;
    let mut edits = Vec::new();
    while let Some(row) = rows.next()? {
        let (node, count): (u8, i64) = (row.get(0)?, row.get(1)?);
        let count = u64::try_from(count).unwrap_or(0);
        // A row of no server of ours counts nothing.
        if let Some(seat) = Seat::ALL.into_iter().find(|seat| node_of(*seat) == node) {
            edits.push(Edit::Refused(Refused { what, since, seat, count }));
        }
    }
    Ok(edits)
}

/// A setting; empty where it was never made.
fn setting(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    let mut read =
        connection.prepare_cached("SELECT value FROM settings WHERE name = ? AND deleted = 0")?;
    let value: Option<Option<String>> = read.query_row([name], |row| row.get(0)).optional()?;
    Ok(value.flatten().unwrap_or_default())
}

/// How many days closed calls stay on record, as the row says.
pub(crate) fn retention(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    Ok(setting(connection, RETENTION_DAYS)?.parse().ok().filter(|days| *days > 0))
}

/// The emergency numbers as the rows say.
pub(crate) fn emergency(connection: &Connection) -> rusqlite::Result<Emergency> {
    let numbers = setting(connection, EMERGENCY_NUMBERS)?;
    let to = setting(connection, EMERGENCY_RINGS)?;
    let numbers = numbers.split_whitespace().filter_map(|number| Number::parse(number).ok());
    let (numbers, to) = (numbers.collect::<Vec<_>>(), Some(to).filter(|to| !to.is_empty()));
    // Never set: those that every house has.
    let usual = || Emergency::default().numbers;
    Ok(Emergency { numbers: if numbers.is_empty() { usual() } else { numbers }, to })
}

/// A block as its row says.
pub(crate) fn block(
    connection: &Connection,
    what: Blockable,
) -> rusqlite::Result<Option<BlockSetting>> {
    let mut read = connection
        .prepare_cached("SELECT since, reason, until FROM blocks WHERE what = ? AND deleted = 0")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(BlockSetting { since: row.get(0)?, reason: row.get(1)?, until: row.get(2)? })
    };
    read.query_row([name_of(what)], row).optional()
}
