//! What the server was told last, to tell it only what is different.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _};
use tandem_dialplan::{Account, Blockable, Credentials, DisplayName, Edit, Number, User, UserName};
use tandem_oplog::Value;
use tandem_store::tables::Touched;

use crate::edits::{UserId, block, emergency, refused, retention};
use crate::schema::{BLOCKS, COUNTERS, LOGINS, NUMBERS, SETTINGS, USERS};

/// The accounts as the server knows them.
#[derive(Debug, Default)]
pub(crate) struct View {
    accounts: BTreeMap<UserName, Account>,
    logins: BTreeMap<String, UserId>,
    numbers: BTreeMap<String, UserId>,
}

impl View {
    /// Everything, for a server that knows nothing.
    pub(crate) fn all(&mut self, connection: &Connection) -> rusqlite::Result<Vec<Edit>> {
        *self = Self::default();
        let mut touched = Touched::new();
        let mut names = connection.prepare("SELECT name FROM logins")?;
        let names = names.query_map([], |row| row.get::<_, String>(0))?;
        for name in names {
            touched.insert((LOGINS.id, vec![Value::Text(name?)]));
        }
        let mut edits = self.refresh(connection, &touched)?;
        edits.push(Edit::Emergency(emergency(connection)?));
        edits.push(Edit::Retention(retention(connection)?));
        for what in Blockable::ALL {
            edits.push(Edit::Block { what, block: block(connection, what)? });
            edits.extend(refused(connection, what)?);
        }
        Ok(edits)
    }

    /// Everybody.
    pub(crate) const fn accounts(&self) -> &BTreeMap<UserName, Account> {
        &self.accounts
    }

    /// What is, of what an edit would have changed.
    pub(crate) fn truth(&self, connection: &Connection, edit: &Edit) -> rusqlite::Result<Edit> {
        Ok(match edit {
            Edit::User { name, .. } => {
                Edit::User { name: name.clone(), account: self.accounts.get(name).cloned() }
            }
            Edit::Emergency(_) => Edit::Emergency(emergency(connection)?),
            Edit::Retention(_) => Edit::Retention(retention(connection)?),
            Edit::Block { what, .. } => {
                Edit::Block { what: *what, block: block(connection, *what)? }
            }
            // It is counted on, and said again later.
            Edit::Refused(refused) => Edit::Refused(*refused),
        })
    }

    /// What is different since these rows were written.
    pub(crate) fn refresh(
        &mut self,
        connection: &Connection,
        touched: &Touched,
    ) -> rusqlite::Result<Vec<Edit>> {
        let mut edits = Vec::new();
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for (table, key) in touched {
            match key.first() {
                Some(Value::Blob(id)) if *table == USERS.id => {
                    ids.extend(UserId::try_from(id.as_slice()));
                }
                Some(Value::Text(name)) if *table == LOGINS.id => {
                    let sql = "SELECT user_id FROM logins WHERE name = ? AND deleted = 0";
                    ids.extend(moved(connection, sql, &mut self.logins, name)?);
                    names.insert(name.clone());
                }
                Some(Value::Text(number)) if *table == NUMBERS.id => {
                    let sql = "SELECT user_id FROM numbers WHERE number = ? AND deleted = 0";
                    ids.extend(moved(connection, sql, &mut self.numbers, number)?);
                }
                Some(_) | None => {}
            }
        }
        for id in ids {
            let mut find =
                connection.prepare_cached("SELECT name FROM logins WHERE user_id = ?")?;
            let found = find.query_map([id], |row| row.get(0))?;
            names.extend(found.collect::<rusqlite::Result<Vec<String>>>()?);
        }
        // A name that was never one is no user.
        for name in names.iter().filter_map(|name| UserName::parse(name).ok()) {
            let account = account(connection, &name)?;
            if self.accounts.get(&name) == account.as_ref() {
                continue;
            }
            match &account {
                Some(account) => drop(self.accounts.insert(name.clone(), account.clone())),
                None => drop(self.accounts.remove(&name)),
            }
            edits.push(Edit::User { name, account });
        }
        if touched.iter().any(|(table, _)| *table == SETTINGS.id) {
            edits.push(Edit::Emergency(emergency(connection)?));
            edits.push(Edit::Retention(retention(connection)?));
        }
        if touched.iter().any(|(table, _)| *table == BLOCKS.id) {
            for what in Blockable::ALL {
                edits.push(Edit::Block { what, block: block(connection, what)? });
            }
        }
        if touched.iter().any(|(table, _)| *table == BLOCKS.id || *table == COUNTERS.id) {
            for what in Blockable::ALL {
                edits.extend(refused(connection, what)?);
            }
        }
        Ok(edits)
    }
}

/// Who had it and who has it.
fn moved(
    connection: &Connection,
    sql: &str,
    known: &mut BTreeMap<String, UserId>,
    what: &str,
) -> rusqlite::Result<impl Iterator<Item = UserId> + use<>> {
    let new: Option<UserId> =
        connection.prepare_cached(sql)?.query_row([what], |row| row.get(0)).optional()?;
    let old = match new {
        Some(new) => known.insert(what.to_owned(), new),
        None => known.remove(what),
    };
    Ok(old.into_iter().chain(new))
}

/// The account behind a login; `None` where there is none, or where its rows are not complete.
fn account(connection: &Connection, name: &UserName) -> rusqlite::Result<Option<Account>> {
    let mut find = connection.prepare_cached(
        "SELECT users.id, display, enabled, md_five, sha_two
         FROM logins JOIN users ON users.id = logins.user_id
         WHERE logins.name = ? AND logins.deleted = 0 AND users.deleted = 0",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        let credentials = Credentials { md5: row.get(3)?, sha256: row.get(4)? };
        Ok((
            row.get::<_, UserId>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, bool>(2)?,
            credentials,
        ))
    };
    let found = find.query_row([name.as_str()], row).optional()?;
    let Some((id, display, enabled, credentials)) = found else { return Ok(None) };
    let mut find = connection.prepare_cached(
        "SELECT number FROM numbers WHERE user_id = ? AND deleted = 0 ORDER BY place, number",
    )?;
    let numbers = find.query_map([id], |row| row.get::<_, String>(0))?;
    let numbers = numbers.collect::<rusqlite::Result<Vec<String>>>()?;
    let numbers = numbers.iter().filter_map(|number| Number::parse(number).ok()).collect();
    let display = DisplayName::parse(&display).unwrap_or_default();
    let user = User { name: name.clone(), display, numbers, enabled };
    Ok(Some(Account { user, credentials }))
}
