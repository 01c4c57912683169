//! The operator's commands: ask a service, print its answer.

mod backup;
mod block;
mod cdr;
mod changes;
mod events;
mod file;
mod restore;
mod size;
mod status;
mod store;
mod table;
mod verify;
mod why;

use std::io::BufRead as _;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use tandem_call::Cdr;
use tandem_node::{CallRow, NewPassword, Reply, Request, UserRow};

use crate::cli::{Failure, Json, UserCommand};
use crate::config::Config;
use crate::control::ask;
use crate::logging::Time;
pub(crate) use backup::Order as BackupOrder;
pub(crate) use backup::{BackupArgs, Good as GoodBackup, Last as LastBackup};
pub(crate) use backup::{backup, make as make_backup};
pub(crate) use block::{block, emergency};
pub(crate) use cdr::{CdrCommand, cdr, is_zone};
pub(crate) use changes::{ChangeCommand, ConflictCommand, changes, conflicts, export, import};
pub(crate) use events::{EventsArgs, events};
pub(crate) use file::{FileCommand, file};
pub(crate) use restore::{RestoreArgs, check_finished, restore};
pub(crate) use size::size;
pub(crate) use status::{lock, status, switch};
pub(crate) use store::{StoreCommand, store};
pub(crate) use table::Table;
pub(crate) use verify::{VerifyArgs, verify};
pub(crate) use why::why;

/// `tandem user ...`.
pub(crate) fn user(config: &Config, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::List(json) => users(config, json),
        UserCommand::Add { name, numbers, display, password_stdin } => {
            let password = password_stdin.then(read_password).transpose()?;
            let shown = name.clone();
            done(config, &Request::UserAdd { name, display, numbers, password }, &shown, "added")
        }
        UserCommand::Remove { name } => {
            let shown = name.clone();
            done(config, &Request::UserRemove { name }, &shown, "removed")
        }
        UserCommand::Set {
            name,
            numbers,
            display,
            enable,
            disable,
            new_password,
            password_stdin,
        } => {
            let password = if password_stdin {
                NewPassword::Take(read_password()?)
            } else if new_password {
                NewPassword::Make
            } else {
                NewPassword::Keep
            };
            let enabled = if enable { Some(true) } else { disable.then_some(false) };
            let numbers = (!numbers.is_empty()).then_some(numbers);
            let shown = name.clone();
            let request = Request::UserSet { name, display, numbers, enabled, password };
            done(config, &request, &shown, "changed")
        }
    }
}

fn read_password() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!password.is_empty(), "the password is empty: expected it on the first line");
    Ok(password.to_owned())
}

fn ask_server(config: &Config, request: &Request) -> Result<Reply, Failure> {
    match ask(&config.server_socket(), "server", request)? {
        Reply::Refused { why } => Err(Failure::Other(anyhow!("{why}"))),
        reply @ (Reply::Done { .. }
        | Reply::Users { .. }
        | Reply::Calls { .. }
        | Reply::Blocks { .. }
        | Reply::Emergency { .. }
        | Reply::Retention { .. }) => Ok(reply),
    }
}

fn unexpected() -> Failure {
    Failure::Other(anyhow!("the server answered something else: is it the same version?"))
}

fn done(config: &Config, request: &Request, name: &str, what: &str) -> Result<(), Failure> {
    let Reply::Done { password } = ask_server(config, request)? else { return Err(unexpected()) };
    println!("{name} {what}");
    if let Some(password) = password {
        println!("password: {password}\n(shown only now; it is not stored)");
    }
    Ok(())
}

fn users(config: &Config, json: Json) -> Result<(), Failure> {
    let Reply::Users { users } = ask_server(config, &Request::UserList)? else {
        return Err(unexpected());
    };
    if json.json {
        return print_json(&users);
    }
    let mut table = Table::new(&["NAME", "NUMBERS", "DISPLAY", "LOGIN", "DEVICES"]);
    for UserRow { name, display, numbers, enabled, devices } in users {
        let login = if enabled { "allowed" } else { "disabled" };
        let devices: Vec<_> = devices
            .into_iter()
            .map(|device| format!("{} ({} s)", device.source, device.expires_seconds))
            .collect();
        table.row([name, numbers.join(" "), display, login.to_owned(), devices.join(", ")]);
    }
    print!("{table}");
    Ok(())
}

/// `tandem call list`.
pub(crate) fn calls(config: &Config, json: Json) -> Result<(), Failure> {
    let Reply::Calls { calls } = ask_server(config, &Request::CallList)? else {
        return Err(unexpected());
    };
    if json.json {
        return print_json(&calls);
    }
    let mut table = Table::new(&["SINCE (UTC)", "STATE", "FROM", "TO", "CALL"]);
    for CallRow { state, cdr } in calls {
        let since = Time::from_micros(cdr.start).to_seconds();
        let [from, to] = people(&cdr);
        table.row([since, state, from, to, cdr.call_id]);
    }
    print!("{table}");
    Ok(())
}

/// Who called whom, in full: the administrator's own records.
fn people(cdr: &Cdr) -> [String; 2] {
    [&cdr.origination_number, &cdr.destination_number].map(|number| number.reveal().clone())
}

/// The word a value is serialised to; a dash for none.
fn word(value: &impl Serialize) -> String {
    serde_json::json!(value).as_str().unwrap_or("-").to_owned()
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    println!("{text}");
    Ok(())
}
