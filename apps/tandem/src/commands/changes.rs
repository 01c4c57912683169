//! `tandem change` and `tandem conflict`: what was changed and by whom, and what is undecided since the
//! two servers were apart. Both work on either machine.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use tandem_config::{Ask, ChangeRow, ConflictRow, Told, ValueRow};

use super::table::Table;
use super::{print_json, unexpected};
use crate::cli::{Failure, Json};
use crate::config::Config;
use crate::control::ask;
use crate::logging::Time;

/// What was changed.
#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// The newest changes of users, numbers and settings, with their author
    List(ListArgs),
    /// Give everything that a change wrote its former value, where nobody has written it since
    Undo {
        /// The change, as `change list` names it
        change: String,
    },
}

/// How many, and how.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// How many at most, the newest of them
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    json: Json,
}

/// What is undecided.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictCommand {
    /// Values that lost against one that did not know of them, about which nobody has decided
    List(Json),
    /// The value in force stays
    Keep {
        /// As `conflict list` names it
        conflict: String,
    },
    /// A value that lost is in force from now on
    Restore {
        /// As `conflict list` names it
        conflict: String,
        /// Which of those that lost, counted from the newest
        #[arg(default_value_t = 1)]
        which: usize,
    },
}

/// `tandem change`.
pub(crate) fn changes(config: &Config, command: ChangeCommand) -> Result<(), Failure> {
    let ListArgs { limit, json } = match command {
        ChangeCommand::List(args) => args,
        ChangeCommand::Undo { change } => {
            decided(config, &Ask::Undo { id: change.clone() })?;
            println!("{change} is undone");
            return Ok(());
        }
    };
    let Told::ChangeList(rows) = told(config, &Ask::Changes { limit })? else {
        return Err(unexpected());
    };
    if json.json {
        return print_json(&rows);
    }
    let mut table = Table::new(&["WHEN (UTC)", "BY", "CHANGE", "WHAT"]);
    for ChangeRow { id, millis, author, what } in rows {
        let mut what = what.into_iter();
        let first = what.next().unwrap_or_default();
        table.row([time(millis), author, id, first]);
        for more in what {
            table.row([String::new(), String::new(), String::new(), more]);
        }
    }
    print!("{table}");
    Ok(())
}

/// `tandem conflict`.
pub(crate) fn conflicts(config: &Config, command: ConflictCommand) -> Result<(), Failure> {
    let json = match command {
        ConflictCommand::List(json) => json,
        ConflictCommand::Keep { conflict } => {
            decided(config, &Ask::Keep { name: conflict.clone() })?;
            println!("{conflict} stays as it is");
            return Ok(());
        }
        ConflictCommand::Restore { conflict, which } => {
            decided(config, &Ask::Restore { name: conflict.clone(), which })?;
            println!("{conflict} is restored");
            return Ok(());
        }
    };
    let Told::ConflictList(rows) = told(config, &Ask::Conflicts)? else { return Err(unexpected()) };
    if json.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        println!("nothing is undecided");
        return Ok(());
    }
    let mut table = Table::new(&["CONFLICT", "", "VALUE", "WHEN (UTC)", "BY"]);
    for ConflictRow { name, in_force, lost } in rows {
        let row = |name: &str, what: String, value: ValueRow| {
            [name.to_owned(), what, value.value, time(value.millis), value.author]
        };
        table.row(row(&name, "in force".to_owned(), in_force));
        for (number, value) in (1..).zip(lost) {
            table.row(row("", format!("lost {number}"), value));
        }
    }
    print!("{table}");
    println!("`tandem conflict keep NAME` or `tandem conflict restore NAME [NUMBER]` decides");
    Ok(())
}

/// `tandem config export`.
pub(crate) fn export(config: &Config, passwords: bool) -> Result<(), Failure> {
    let Told::Document(text) = told(config, &Ask::Export { passwords })? else {
        return Err(unexpected());
    };
    print!("{text}");
    Ok(())
}

/// `tandem config import`.
pub(crate) fn import(config: &Config, path: &Path, apply: bool) -> Result<(), Failure> {
    let what = || format!("cannot read {}", path.display());
    let document = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).with_context(what)?,
        false => std::fs::read_to_string(path).with_context(what)?,
    };
    import_document(config, &document, apply)
}

/// Shows what a document would change, and with `apply` makes it so.
pub(crate) fn import_document(config: &Config, document: &str, apply: bool) -> Result<(), Failure> {
    let question = |apply| Ask::Import { document: document.to_owned(), apply };
    let Told::Difference(lines) = told(config, &question(false))? else {
        return Err(unexpected());
    };
    lines.iter().for_each(|line| println!("{line}"));
    match (lines.is_empty(), apply) {
        (true, _) => println!("nothing is different"),
        (false, false) => println!("nothing is changed yet: --apply makes it so"),
        (false, true) => {
            decided(config, &question(true))?;
            println!("done, as one change: `tandem change list` shows it");
        }
    }
    Ok(())
}

pub(super) fn time(millis: u64) -> String {
    let micros = i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000);
    Time::from_micros(micros).to_seconds()
}

pub(super) fn told(config: &Config, question: &Ask) -> Result<Told, Failure> {
    match ask(&config.server_socket(), "server", question)? {
        Told::NotDecided(why) => Err(Failure::Other(anyhow!("{why}"))),
        told @ (Told::ChangeList(_)
        | Told::ConflictList(_)
        | Told::FileList(_)
        | Told::Document(_)
        | Told::Difference(_)
        | Told::Verified(_)
        | Told::Decided) => Ok(told),
    }
}

pub(super) fn decided(config: &Config, question: &Ask) -> Result<(), Failure> {
    match told(config, question)? {
        Told::Decided => Ok(()),
        Told::ChangeList(_)
        | Told::ConflictList(_)
        | Told::FileList(_)
        | Told::Document(_)
        | Told::Difference(_)
        | Told::Verified(_)
        | Told::NotDecided(_) => Err(unexpected()),
    }
}
