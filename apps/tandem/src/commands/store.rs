//! `tandem store`: where configuration and call records are kept, and moving them.

mod compare;
mod moving;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{print_json, unexpected};
use crate::cli::{Failure, Json};
use crate::config::Config;
use crate::control::ask;
use crate::logging::Time;
use crate::server::{DatabaseTold, RECORDS_COUNTED_MAX, StoreAsk, StoreTold};

/// What to do about where things are kept.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show where configuration and call records are kept, and what waits for the database
    Show(Json),
    /// Copy everything to a database or back, compare both sides, and say which key to set; may be repeated
    Move(MoveArgs),
}

/// Where to.
#[derive(Args, Debug)]
pub(crate) struct MoveArgs {
    /// postgresql://USER@HOST/NAME, while the server runs; or "embedded": back to the files of this
    /// machine, while its server is stopped
    #[arg(long, value_name = "WHERE")]
    to: String,
    /// The file (mode 600) of the database's password [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// `tandem store ...`.
pub(crate) fn store(config: &Config, command: StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Show(json) => show(config, json),
        StoreCommand::Move(args) => {
            let password = args.password_file.as_deref().or(config.database.password.as_deref());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("cannot start the event loop")?;
            if args.to == "embedded" {
                Ok(runtime.block_on(moving::to_files(config, password))?)
            } else {
                Ok(runtime.block_on(moving::to_database(config, &args.to, password))?)
            }
        }
    }
}

fn show(config: &Config, json: Json) -> Result<(), Failure> {
    let told = match config.database.address {
        None => StoreTold::Embedded,
        Some(_) => ask(&config.server_socket(), "server", &StoreAsk::StoreShow)?,
    };
    if json.json {
        return print_json(&told);
    }
    match (told, config.database.address.is_some()) {
        (StoreTold::Embedded, false) => {
            println!("kept in    files of the two machines ({})", config.state.display());
        }
        (StoreTold::Embedded, true) => return Err(unexpected()),
        (StoreTold::Database(told), _) => {
            println!("kept in    {}", told.address);
            println!("database   {}", words(&told));
            println!("records    {}", waiting(&told));
        }
    }
    Ok(())
}

/// How the database stands, as one line.
pub(super) fn words(told: &DatabaseTold) -> String {
    let since = Time::from_micros(told.since_micros).to_seconds();
    let host = told.host.as_deref().unwrap_or("a host");
    let why = told.why.as_deref().unwrap_or_default();
    match told.state.as_str() {
        "live" => format!("answers at {host}, since {since} UTC"),
        "connecting" => String::from("being compared with what is here; changes wait"),
        "away" => {
            format!("has NOT ANSWERED since {since} UTC: {why}; calls go on, changes are refused")
        }
        _ => format!("CANNOT BE USED since {since} UTC: {why}; calls go on, changes are refused"),
    }
}

fn waiting(told: &DatabaseTold) -> String {
    match told.records_waiting {
        None => String::from("how many wait is not known before the database has answered"),
        Some(0) => String::from("none waits for the database"),
        Some(RECORDS_COUNTED_MAX..) => {
            format!(
                "{RECORDS_COUNTED_MAX} or more wait for the database in the journal of this machine"
            )
        }
        Some(number) => format!("{number} wait for the database in the journal of this machine"),
    }
}

/// For `tandem status`: a line about the database, and whether all is well; `None` where there is none.
pub(super) fn line(config: &Config) -> Option<(String, bool)> {
    config.database.address.as_ref()?;
    let told = ask(&config.server_socket(), "server", &StoreAsk::StoreShow);
    let Ok(StoreTold::Database(told)) = told else {
        return Some((String::from("unknown: the server of this machine does not answer"), false));
    };
    let is_live = told.state == "live";
    let mut text = words(&told);
    if told.records_waiting.is_some_and(|number| number > 0) {
        text += &format!("; records: {}", waiting(&told));
    }
    Some((text, is_live))
}
